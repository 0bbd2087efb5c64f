"""The web page of gan-play: interactive training on points, and the samples of a run."""
