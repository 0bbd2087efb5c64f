"""Data sets in memory, whose order of samples is a function of the seed and the step."""
