"""Convolutions whose gradient is differentiated again at the speed of convolutions.

torch's own second derivative of a convolution with respect to its weights is a convolution whose kernel is as large as
the feature map, for which neither cuDNN nor oneDNN is made. Here it is the weight gradient that any backward pass
computes (Karras et al., 2020, do so in their code, https://github.com/NVlabs/stylegan3).
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.overrides import TorchFunctionMode

Geometry = tuple[list[int], list[int], list[int], int]  # stride, padding, dilation, groups


def along(x: Tensor, weight: Tensor, geometry: Geometry) -> Tensor:
    """The convolution of x with a weight."""
    stride, padding, dilation, groups = geometry
    return torch.ops.aten.convolution(x, weight, None, stride, padding, dilation, False, [0, 0], groups)


def backward(gradient: Tensor, x: Tensor, weight: Tensor, geometry: Geometry, of_weight: bool) -> Tensor:
    """The gradient of a convolution in its weight, or in x."""
    stride, padding, dilation, groups = geometry
    return torch.ops.aten.convolution_backward(
        gradient, x, weight, None, stride, padding, dilation, False, [0, 0], groups, [not of_weight, of_weight, False]
    )[int(of_weight)]


class Convolve(Function):
    """y = x * w."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, geometry: Geometry) -> Tensor:
        """The convolution itself."""
        ctx.save_for_backward(x, weight)
        ctx.geometry = geometry
        return along(x, weight, geometry)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """dL/dx and dL/dw."""
        x, weight = ctx.saved_tensors
        of_x = InX.apply(gradient, weight, x, ctx.geometry) if ctx.needs_input_grad[0] else None
        of_weight = InWeight.apply(gradient, x, weight, ctx.geometry) if ctx.needs_input_grad[1] else None
        return of_x, of_weight, None


class InX(Function):
    """dL/dx from dL/dy and w, linear in both; of x only the shape matters."""

    @staticmethod
    def forward(ctx: Any, gradient: Tensor, weight: Tensor, x: Tensor, geometry: Geometry) -> Tensor:
        """dL/dx."""
        ctx.save_for_backward(gradient, weight)
        ctx.geometry = geometry
        return backward(gradient, x, weight, geometry, of_weight=False)

    @staticmethod
    def backward(ctx: Any, second: Tensor) -> tuple[Tensor | None, ...]:
        """Of a gradient with respect to this one."""
        gradient, weight = ctx.saved_tensors
        of_gradient = Convolve.apply(second, weight, ctx.geometry) if ctx.needs_input_grad[0] else None
        of_weight = InWeight.apply(gradient, second, weight, ctx.geometry) if ctx.needs_input_grad[1] else None
        return of_gradient, of_weight, None, None


class InWeight(Function):
    """dL/dw from dL/dy and x, linear in both; of w only the shape matters."""

    @staticmethod
    def forward(ctx: Any, gradient: Tensor, x: Tensor, weight: Tensor, geometry: Geometry) -> Tensor:
        """dL/dw."""
        ctx.save_for_backward(gradient, x)
        ctx.geometry = geometry
        return backward(gradient, x, weight, geometry, of_weight=True)

    @staticmethod
    def backward(ctx: Any, second: Tensor) -> tuple[Tensor | None, ...]:
        """Of a gradient with respect to this one."""
        gradient, x = ctx.saved_tensors
        of_gradient = Convolve.apply(x, second, ctx.geometry) if ctx.needs_input_grad[0] else None
        of_x = InX.apply(gradient, second, x, ctx.geometry) if ctx.needs_input_grad[1] else None
        return of_gradient, of_x, None, None


def pair(value: int | tuple[int, ...]) -> list[int]:
    """Of an argument that may be one for both sides."""
    return [value, value] if isinstance(value, int) else [*value]


class TwiceDifferentiable(TorchFunctionMode):
    """Within it, ``conv2d`` is differentiated twice as fast as once."""

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Take our convolution in the place of torch's."""
        if function is not torch.conv2d:
            return function(*args, **(kwargs or {}))
        return conv2d(*args, **(kwargs or {}))


def conv2d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: int | tuple[int, ...] = 1,
    padding: int | tuple[int, ...] | str = 0,
    dilation: int | tuple[int, ...] = 1,
    groups: int = 1,
) -> Tensor:
    """``torch.conv2d``."""
    if isinstance(padding, str):
        return torch.conv2d(x, weight, bias, stride, padding, dilation, groups)
    y = Convolve.apply(x, weight, (pair(stride), pair(padding), pair(dilation), groups))
    return y if bias is None else y + bias.view(-1, 1, 1)
