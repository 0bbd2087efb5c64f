"""The page of gan-play: a game that is trained step by step, and the samples of a run."""
