"""Context managers that temporarily switch a network to evaluation mode or freeze parameters."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from torch import Tensor, nn


@contextmanager
def eval_mode(network: nn.Module) -> Iterator[nn.Module]:
    """Switch a network to evaluation mode; on exit, restore the mode of each of its layers."""
    modes = {module: module.training for module in network.modules()}
    try:
        yield network.eval()
    finally:
        for module, training in modes.items():
            module.training = training


@contextmanager
def frozen(parameters: Iterable[Tensor]) -> Iterator[None]:
    """Freeze parameters, so that no gradients are computed for them."""
    for parameter in parameters:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in parameters:
            parameter.requires_grad_(True)
