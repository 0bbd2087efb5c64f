"""Schedules: pure functions of progress, the fraction in [0, 1] of the run's generator steps that is completed."""

import math
from dataclasses import dataclass
from typing import Protocol


class Schedule(Protocol):
    """A number as a function of progress."""

    def __call__(self, progress: float) -> float:
        """Return the value at a progress in [0, 1]."""


@dataclass(frozen=True)
class Ramp:
    """Base class of schedules that change from ``start`` to ``end`` and stay constant afterwards.

    Args:
        start: Value at the first step.
        end: Value from ``until`` on.
        until: Progress in (0, 1] at which ``end`` is reached.
    """

    start: float
    end: float
    until: float = 1.0


class Linear(Ramp):
    """Linear interpolation."""

    def __call__(self, progress: float) -> float:
        """Return the value at a progress in [0, 1]."""
        return self.start + (self.end - self.start) * min(progress / self.until, 1.0)


class Cosine(Ramp):
    """Cosine annealing without restarts (Loshchilov & Hutter, 2017, equation 5).

    https://arxiv.org/abs/1608.03983
    """

    def __call__(self, progress: float) -> float:
        """Return the value at a progress in [0, 1]."""
        return self.end + (self.start - self.end) * (1 + math.cos(math.pi * min(progress / self.until, 1.0))) / 2


# Choices of callbacks.learning_rate.schedule; the values multiply the configured learning rates. Gulrajani et al.,
# 2017, appendix F, use the linear decay for CIFAR-10.
SCHEDULES: dict[str, Schedule] = {"constant": Linear(1.0, 1.0), "linear_decay": Linear(1.0, 0.0)}
