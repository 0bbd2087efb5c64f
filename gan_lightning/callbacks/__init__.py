"""Guests of a run: they watch, draw and save, and never change what training does."""
