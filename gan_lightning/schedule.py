"""Schedules: pure functions of progress, the share in [0, 1] of the run's generator steps that is done."""

import math
from dataclasses import dataclass
from typing import Protocol


class Schedule(Protocol):
    """The value of a number over a run."""

    def __call__(self, progress: float) -> float:
        """Return the value at a progress in [0, 1]."""


@dataclass(frozen=True)
class Ramp:
    """From ``start`` to ``end`` until a share of the run, constant afterwards.

    Args:
        start: Value at the first step.
        end: Value from ``until`` on.
        until: Share of the run, in (0, 1].
    """

    start: float
    end: float
    until: float = 1.0


class Linear(Ramp):
    """A ramp in a straight line."""

    def __call__(self, progress: float) -> float:
        """Return the value at a progress in [0, 1]."""
        return self.start + (self.end - self.start) * min(progress / self.until, 1.0)


class Cosine(Ramp):
    """A ramp along half a cosine: Loshchilov & Hutter, 2017, equation 5, without restarts.

    https://arxiv.org/abs/1608.03983
    """

    def __call__(self, progress: float) -> float:
        """Return the value at a progress in [0, 1]."""
        return self.end + (self.start - self.end) * (1 + math.cos(math.pi * min(progress / self.until, 1.0))) / 2


# Factors of the configured learning rates, by the names that callbacks.learning_rate.schedule takes. The linear decay
# is that of Gulrajani et al., 2017, appendix F, for CIFAR-10.
SCHEDULES: dict[str, Schedule] = {"constant": Linear(1.0, 1.0), "linear_decay": Linear(1.0, 0.0)}
