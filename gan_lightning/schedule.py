"""Factors of a learning rate: pure functions of progress, the share in [0, 1] of the budget that is done."""


def constant(progress: float) -> float:
    """No decay."""
    return 1.0


def linear_decay(progress: float) -> float:
    """From one to zero over the run (Gulrajani et al., 2017, appendix F, for CIFAR-10)."""
    return 1.0 - progress


SCHEDULES = {"constant": constant, "linear_decay": linear_decay}
