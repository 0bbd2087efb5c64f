"""Validation of configurations: constraints from the constructors' signatures, and checks of combinations."""
