"""Penalties on a discriminator's gradients."""
