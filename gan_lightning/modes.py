"""Modes of a whole network, held for a while."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn


@contextmanager
def evaluating(network: nn.Module) -> Iterator[nn.Module]:
    """Hold a network in evaluation mode, and put back the mode of each of its layers."""
    modes = {module: module.training for module in network.modules()}
    try:
        yield network.eval()
    finally:
        for module, training in modes.items():
            module.training = training


@contextmanager
def frozen(parameters: list[nn.Parameter]) -> Iterator[None]:
    """Hold parameters still, so that no gradient for them is computed."""
    for parameter in parameters:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in parameters:
            parameter.requires_grad_(True)
