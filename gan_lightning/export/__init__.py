"""A generator by itself, for use without this package's training code."""
