"""The configuration: constraints of settings, read from the constructors' signatures, and their validation."""
