"""What a run has left, read for a report."""
