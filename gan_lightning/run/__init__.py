"""A training run: its command line, its directory, its checkpoints, and how it is built, fitted and resumed."""
