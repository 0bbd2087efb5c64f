"""Data sets, held in memory and dealt out in an order that the seed and the step decide."""
