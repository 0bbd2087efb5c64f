"""Gradients in x that are differentiated again, in the weights, with no arithmetic that comes to nothing.

torch does more than a gradient penalty needs, and we do not:

- Its second derivative of a convolution with respect to its weights is a convolution whose kernel is as large as the
  feature map, for which cuDNN is not made. Here it is the weight gradient that any backward pass computes (Karras et
  al., 2020, do so in their code, https://github.com/NVlabs/stylegan3).
- It sends the second derivative of a rectifier, zero everywhere, back through all layers before it.

The gradient in x leaves out a convolution's gradient in its kernel only where the kernel does not depend on x: where it
is a parameter, or computed from parameters or labels (spectral normalisation, weight standardisation, a hypernetwork).
The kernel of a dynamic convolution, which is computed from x, keeps its gradient, as in plain autograd. Convolutions
other than ``conv2d`` (in 1 or 3 dimensions, transposed), those of an unbatched map and those inside ``torch.vmap``
are torch's own.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Function
from torch.autograd.graph import Node, get_gradient_edge
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
    def forward(ctx: Any, x: Tensor, weight: Tensor, geometry: Geometry, mode: "TwiceDifferentiable | None") -> Tensor:
        """The convolution itself."""
        ctx.save_for_backward(x, weight)
        ctx.geometry, ctx.mode = geometry, mode
        return along(x, weight, geometry)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """dL/dx and dL/dw."""
        x, weight = ctx.saved_tensors
        of_x = InX.apply(gradient, weight, x.detach(), ctx.geometry) if ctx.needs_input_grad[0] else None
        of_weight = None
        if ctx.needs_input_grad[1] and (ctx.mode is None or ctx.mode.asks_for(weight)):
            of_weight = InWeight.apply(gradient, x, weight.detach(), ctx.geometry)
        return of_x, of_weight, None, None


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
        of_gradient = Convolve.apply(second, weight, ctx.geometry, None) if ctx.needs_input_grad[0] else None
        of_weight = InWeight.apply(gradient, second, weight.detach(), ctx.geometry) if ctx.needs_input_grad[1] else None
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
        of_gradient = Convolve.apply(x, second, ctx.geometry, None) if ctx.needs_input_grad[0] else None
        of_x = InX.apply(gradient, second, x.detach(), ctx.geometry) if ctx.needs_input_grad[1] else None
        return of_gradient, of_x, None, None


def pair(value: int | tuple[int, ...]) -> list[int]:
    """Of an argument that may be one for both sides."""
    return [value, value] if isinstance(value, int) else [*value]


class TwiceDifferentiable(TorchFunctionMode):
    """Within it, convolutions and rectifiers are those of this file."""

    def __init__(self) -> None:
        super().__init__()
        self.x: Tensor | None = None  # while the gradient in x is computed
        self.reaches: dict[Node, bool] | None = None  # meanwhile: whether a node of the graph depends on x
        self.ours = {torch.conv2d: self.conv2d, F.relu: relu, F.leaky_relu: leaky_relu}

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Take ours in the place of torch's."""
        return self.ours.get(function, function)(*args, **(kwargs or {}))

    def gradient(self, y: Tensor, x: Tensor) -> Tensor:
        """dy/dx of a scalar that was computed within, differentiable in the weights."""
        self.x, self.reaches = x, {get_gradient_edge(x).node: True}
        try:
            return torch.autograd.grad(y, x, create_graph=True)[0]
        finally:
            self.x = self.reaches = None

    def asks_for(self, weight: Tensor) -> bool:
        """Whether the gradient in a weight is needed: always, but in :meth:`gradient` only where it leads on to x."""
        if self.reaches is None:
            return True
        root = weight.grad_fn
        if root is None:  # a parameter, the usual case
            return weight is self.x
        stack = [root]  # depth first, without recursion: a graph may be deeper than Python's stack
        while stack:
            if stack[-1] in self.reaches:
                stack.pop()
                continue
            before = [node for node, _ in stack[-1].next_functions if node is not None]
            if any(self.reaches.get(node) for node in before):
                self.reaches[stack.pop()] = True
            elif unknown := [node for node in before if node not in self.reaches]:
                stack += unknown
            else:
                self.reaches[stack.pop()] = False
        return self.reaches[root]

    def conv2d(
        self,
        input: Tensor,  # noqa: A002
        weight: Tensor,
        bias: Tensor | None = None,
        stride: int | tuple[int, ...] = 1,
        padding: int | tuple[int, ...] | str = 0,
        dilation: int | tuple[int, ...] = 1,
        groups: int = 1,
    ) -> Tensor:
        """``torch.conv2d``, whose names the arguments have."""
        if isinstance(padding, str) or input.ndim != 4 or torch._C._are_functorch_transforms_active():
            return torch.conv2d(input, weight, bias, stride, padding, dilation, groups)
        y = Convolve.apply(input, weight, (pair(stride), pair(padding), pair(dilation), groups), self)
        return y if bias is None else y + bias.view(-1, 1, 1)


def relu(x: Tensor, inplace: bool = False) -> Tensor:
    """``F.relu``, as a linear function of x that also knows its sign."""
    return F.relu(x, inplace) if inplace else torch.ops.aten.threshold_backward(x, x.detach(), 0)


def leaky_relu(x: Tensor, negative_slope: float = 0.01, inplace: bool = False) -> Tensor:
    """``F.leaky_relu``, likewise."""
    if inplace:
        return F.leaky_relu(x, negative_slope, inplace)
    return torch.ops.aten.leaky_relu_backward(x, x.detach(), negative_slope, False)
