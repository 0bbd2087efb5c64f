"""Scores of samples, with the protocol by which they were measured, and tables that compare them."""
