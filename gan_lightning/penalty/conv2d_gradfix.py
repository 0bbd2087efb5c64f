"""Double backward for gradient penalties: 2-d convolutions and ReLUs that avoid unnecessary work of torch's autograd.

A gradient penalty is computed from the input gradient and differentiated with respect to the weights. torch does more
work for this than necessary:

- It computes the double backward of a convolution with respect to its weights as a convolution whose kernel is as large
  as the feature map, for which cuDNN is not optimised. Here it is an ordinary weight gradient, as in the code of Karras
  et al., 2020 (``conv2d_gradfix`` in https://github.com/NVlabs/stylegan3).
- It propagates the second derivative of ReLU, which is zero, back through all layers before it.
- It computes weight gradients in the first backward pass, too. Here the input gradient skips the weight gradient of a
  convolution whose weight does not depend on x: a parameter, or a function of parameters or labels (spectral
  normalisation, weight standardisation, a hypernetwork). The weight of a dynamic convolution, which is computed from x,
  keeps its gradient, as in plain autograd.

torch's own implementation is used for other convolutions than ``conv2d`` (1-d, 3-d, transposed), for unbatched inputs
and inside ``torch.vmap``.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Function
from torch.autograd.graph import Node, get_gradient_edge
from torch.overrides import TorchFunctionMode

Geometry = tuple[list[int], list[int], list[int], int]  # stride, padding, dilation, groups


def convolution(x: Tensor, weight: Tensor, geometry: Geometry) -> Tensor:
    """Compute the convolution of x with a weight."""
    stride, padding, dilation, groups = geometry
    return torch.ops.aten.convolution(x, weight, None, stride, padding, dilation, False, [0, 0], groups)


def convolution_backward(gradient: Tensor, x: Tensor, weight: Tensor, geometry: Geometry, of_weight: bool) -> Tensor:
    """Compute the gradient of a convolution with respect to its weight or to x."""
    stride, padding, dilation, groups = geometry
    return torch.ops.aten.convolution_backward(
        gradient, x, weight, None, stride, padding, dilation, False, [0, 0], groups, [not of_weight, of_weight, False]
    )[int(of_weight)]


class Conv2d(Function):
    """Convolution y of x with a weight w."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, geometry: Geometry, mode: "DoubleBackwardMode | None") -> Tensor:
        """Compute y."""
        ctx.save_for_backward(x, weight)
        ctx.geometry, ctx.mode = geometry, mode
        return convolution(x, weight, geometry)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """Compute dL/dx and dL/dw from dL/dy."""
        x, weight = ctx.saved_tensors
        of_x = Conv2dInputGrad.apply(gradient, weight, x.detach(), ctx.geometry) if ctx.needs_input_grad[0] else None
        of_weight = None
        if ctx.needs_input_grad[1] and (ctx.mode is None or ctx.mode.needs_weight_gradient(weight)):
            of_weight = Conv2dWeightGrad.apply(gradient, x, weight.detach(), ctx.geometry)
        return of_x, of_weight, None, None


class Conv2dInputGrad(Function):
    """dL/dx as a function of dL/dy and w, which is linear in both; it needs only the shape of x."""

    @staticmethod
    def forward(ctx: Any, gradient: Tensor, weight: Tensor, x: Tensor, geometry: Geometry) -> Tensor:
        """Compute dL/dx."""
        ctx.save_for_backward(gradient, weight)
        ctx.geometry = geometry
        return convolution_backward(gradient, x, weight, geometry, of_weight=False)

    @staticmethod
    def backward(ctx: Any, second: Tensor) -> tuple[Tensor | None, ...]:
        """Compute the gradients of dL/dy and w from the gradient of dL/dx."""
        gradient, weight = ctx.saved_tensors
        of_gradient, of_weight = None, None
        if ctx.needs_input_grad[0]:
            of_gradient = Conv2d.apply(second, weight, ctx.geometry, None)
        if ctx.needs_input_grad[1]:
            of_weight = Conv2dWeightGrad.apply(gradient, second, weight.detach(), ctx.geometry)
        return of_gradient, of_weight, None, None


class Conv2dWeightGrad(Function):
    """dL/dw as a function of dL/dy and x, which is linear in both; it needs only the shape of w."""

    @staticmethod
    def forward(ctx: Any, gradient: Tensor, x: Tensor, weight: Tensor, geometry: Geometry) -> Tensor:
        """Compute dL/dw."""
        ctx.save_for_backward(gradient, x)
        ctx.geometry = geometry
        return convolution_backward(gradient, x, weight, geometry, of_weight=True)

    @staticmethod
    def backward(ctx: Any, second: Tensor) -> tuple[Tensor | None, ...]:
        """Compute the gradients of dL/dy and x from the gradient of dL/dw."""
        gradient, x = ctx.saved_tensors
        of_gradient = Conv2d.apply(x, second, ctx.geometry, None) if ctx.needs_input_grad[0] else None
        of_x = Conv2dInputGrad.apply(gradient, second, x.detach(), ctx.geometry) if ctx.needs_input_grad[1] else None
        return of_gradient, of_x, None, None


def pair(value: int | tuple[int, ...]) -> list[int]:
    """Return an argument for height and width that may be one number for both."""
    return [value, value] if isinstance(value, int) else [*value]


class DoubleBackwardMode(TorchFunctionMode):
    """Context manager in which ``conv2d``, ``relu`` and ``leaky_relu`` are the implementations of this file."""

    def __init__(self) -> None:
        super().__init__()
        self.x: Tensor | None = None  # set while the input gradient is computed
        self.depends_on_x: dict[Node, bool] | None = None  # of nodes of the graph; set at the same time
        self.replacements = {torch.conv2d: self.conv2d, F.relu: relu, F.leaky_relu: leaky_relu}

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Call the replacement of a function if there is one."""
        return self.replacements.get(function, function)(*args, **(kwargs or {}))

    def gradient(self, y: Tensor, x: Tensor) -> Tensor:
        """Compute dy/dx, differentiable in the weights, of a scalar y that was computed in this context."""
        self.x, self.depends_on_x = x, {get_gradient_edge(x).node: True}
        try:
            return torch.autograd.grad(y, x, create_graph=True)[0]
        finally:
            self.x = self.depends_on_x = None

    def needs_weight_gradient(self, weight: Tensor) -> bool:
        """Return whether a weight's gradient is needed: always, but in :meth:`gradient` only if it depends on x."""
        if self.depends_on_x is None:
            return True
        root = weight.grad_fn
        if root is None:  # a parameter, the usual case
            return weight is self.x
        stack = [root]  # depth first, without recursion: a graph may be deeper than Python's stack
        while stack:
            if stack[-1] in self.depends_on_x:
                stack.pop()
                continue
            inputs = [node for node, _ in stack[-1].next_functions if node is not None]
            if any(self.depends_on_x.get(node) for node in inputs):
                self.depends_on_x[stack.pop()] = True
            elif unknown := [node for node in inputs if node not in self.depends_on_x]:
                stack += unknown
            else:
                self.depends_on_x[stack.pop()] = False
        return self.depends_on_x[root]

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
        """Replace ``torch.conv2d``; the arguments have the same names."""
        if isinstance(padding, str) or input.ndim != 4 or torch._C._are_functorch_transforms_active():
            return torch.conv2d(input, weight, bias, stride, padding, dilation, groups)
        y = Conv2d.apply(input, weight, (pair(stride), pair(padding), pair(dilation), groups), self)
        return y if bias is None else y + bias.view(-1, 1, 1)


def relu(x: Tensor, inplace: bool = False) -> Tensor:
    """Replace ``F.relu`` by multiplication with a detached mask, whose second derivative is not computed."""
    return F.relu(x, inplace) if inplace else torch.ops.aten.threshold_backward(x, x.detach(), 0)


def leaky_relu(x: Tensor, negative_slope: float = 0.01, inplace: bool = False) -> Tensor:
    """Replace ``F.leaky_relu`` in the same way."""
    if inplace:
        return F.leaky_relu(x, negative_slope, inplace)
    return torch.ops.aten.leaky_relu_backward(x, x.detach(), negative_slope, False)
