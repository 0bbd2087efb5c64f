"""The six variants, and the baseline beside them."""
