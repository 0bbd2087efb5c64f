"""Generators and discriminators that fit together."""
