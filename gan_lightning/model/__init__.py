"""The six variants."""
