"""Callbacks: logging, sampling, evaluation, checkpointing, monitoring and scheduling.

Only the learning-rate schedule and early stopping change the result of training.
"""
