"""DoubleBackwardMode: its convolution and rectifiers equal torch's in value and in first and second derivatives."""

from collections import Counter

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from gan_lightning.penalty.conv2d_gradfix import DoubleBackwardMode
from gan_lightning.penalty.gradient_penalty import input_gradient_norm

conv2d = DoubleBackwardMode().conv2d

GEOMETRIES = [
    {},
    {"padding": 1},
    {"stride": 2, "padding": 1},
    {"stride": (2, 1), "padding": (0, 2), "dilation": (1, 2)},
    {"padding": 1, "groups": 2},
]


def inputs(groups: int = 1) -> tuple[Tensor, Tensor, Tensor]:
    torch.manual_seed(0)
    x, weight, bias = torch.randn(2, 4, 7, 8), torch.randn(6, 4 // groups, 3, 3), torch.randn(6)
    return tuple(part.double().requires_grad_() for part in (x, weight, bias))


@pytest.mark.parametrize("geometry", GEOMETRIES, ids=str)
def test_conv2d_equals_torch_and_has_two_derivatives(geometry):
    parts = inputs(geometry.get("groups", 1))
    torch.testing.assert_close(conv2d(*parts, **geometry), F.conv2d(*parts, **geometry))
    assert torch.autograd.gradcheck(lambda *p: conv2d(*p, **geometry), parts)
    assert torch.autograd.gradgradcheck(lambda *p: conv2d(*p, **geometry), parts)


def test_conv2d_with_string_padding_equals_torch():
    x, weight, bias = inputs()
    torch.testing.assert_close(
        conv2d(x, weight, bias, padding="same"), F.conv2d(x, weight, bias, padding="same"), rtol=0, atol=0
    )


class RecordedConv2d(nn.Conv2d):
    """Records which backward function its convolution has."""

    def forward(self, x: Tensor) -> Tensor:
        y = super().forward(x)
        self.function = type(y.grad_fn).__name__
        return y


def test_mode_replaces_convolution_only_inside_context():
    layer, x = RecordedConv2d(4, 6, 3), torch.randn(1, 4, 8, 8)
    layer(x)
    assert layer.function == "ConvolutionBackward0"
    with DoubleBackwardMode():
        layer(x)
    assert layer.function != "ConvolutionBackward0"
    layer(x)
    assert layer.function == "ConvolutionBackward0"


@pytest.mark.parametrize(
    "rectify", [F.relu, F.leaky_relu, lambda x: F.leaky_relu(x, 0.3), lambda x: F.relu(x.clone(), inplace=True)]
)
def test_rectifiers_equal_torch_and_have_two_derivatives(rectify):
    x = torch.tensor([[-2.0, 0.0, 1.0], [0.5, -0.0, -3.0]], dtype=torch.float64, requires_grad=True)
    expected, output_gradient = rectify(x), torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]], dtype=torch.float64)
    (expected_gradient,) = torch.autograd.grad(expected, x, output_gradient)
    with DoubleBackwardMode():
        ours = rectify(x)
        torch.testing.assert_close(ours, expected, rtol=0, atol=0)
        torch.testing.assert_close(torch.autograd.grad(ours, x, output_gradient)[0], expected_gradient, rtol=0, atol=0)
        inputs_away_from_kink = torch.tensor([[-2.0, 0.7, 1.0]], dtype=torch.float64, requires_grad=True)
        assert torch.autograd.gradgradcheck(rectify, inputs_away_from_kink)


CRITICS = [("dcgan", "none"), ("dcgan", "layer"), ("resnet", "none"), ("resnet", "layer"), ("mlp", "none")]


@pytest.mark.parametrize(("network", "norm"), CRITICS)
def test_gradient_of_penalty_equals_double_backward_of_torch(build, network, norm):
    model, data = build("model=wgan_gp", f"network={network}", f"network.discriminator.norm={norm}")
    critic, real = model.discriminator.double(), data.real(3).double()
    y, weights = torch.zeros(3, dtype=torch.long), [*critic.parameters()]

    x = real.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(critic(x, y).sum(), x, create_graph=True)
    expected = torch.autograd.grad((gradient.flatten(1).norm(dim=1) - 1).square().mean(), weights, allow_unused=True)
    ours = torch.autograd.grad((input_gradient_norm(critic, real, y) - 1).square().mean(), weights, allow_unused=True)
    assert sum(g is not None and g.norm() > 0 for g in ours) >= 3
    for a, b in zip(expected, ours, strict=True):
        a, b = (torch.zeros(()) if g is None else g for g in (a, b))
        torch.testing.assert_close(*torch.broadcast_tensors(a.double(), b.double()), rtol=1e-9, atol=1e-12)


class ConvolutionCounter(TorchDispatchMode):
    """Counts the forward and backward computations of convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.counts = Counter()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.counts["forward"] += function is torch.ops.aten.convolution.default
        if function is torch.ops.aten.convolution_backward.default:
            in_x, in_weight, _ = args[-1]
            self.counts.update({"in x": in_x, "in weight": in_weight})
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("network", ["dcgan", "resnet"])
def test_penalty_makes_no_unnecessary_convolutions(build, network):
    """Expected per layer: forward, input gradient, and for the penalty's gradient forward again and weight gradient."""
    model, data = build("model=wgan_gp", f"network={network}", "network.discriminator.norm=none")
    layers = sum(isinstance(module, nn.Conv2d) for module in model.discriminator.modules())
    with ConvolutionCounter() as counter:
        input_gradient_norm(model.discriminator, data.real(3), torch.zeros(3, dtype=torch.long)).sum().backward()
    assert counter.counts == {"forward": 2 * layers, "in x": layers, "in weight": layers}


class DynamicKernelCritic(nn.Module):
    """A critic whose second convolution has a kernel computed by ``kernel`` from its input or from labels."""

    def __init__(self, convolve, kernel: nn.Module, width: int = 4, **geometry) -> None:
        super().__init__()
        self.first, self.kernel, self.convolve, self.geometry = (
            nn.Conv2d(2, width, 3, padding=1),
            kernel,
            convolve,
            geometry,
        )

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        h = F.leaky_relu(self.first(x), 0.2)
        return self.convolve(h, self.kernel(x, h, y), **self.geometry).tanh().flatten(1).sum(1)


class FunctionWithWeights(nn.Module):
    """A function with weights."""

    def __init__(self, function, *sizes: int) -> None:
        super().__init__()
        self.net, self.function = nn.Linear(*sizes), function

    def forward(self, *inputs: Tensor) -> Tensor:
        return self.function(self.net, *inputs)


def conv2d_per_sample(h: Tensor, weights: Tensor, **geometry) -> Tensor:
    """Convolve with a kernel (N, O, C, K, K) per sample, by groups, as dynamic convolutions do."""
    n, c, height, width = h.shape
    y = F.conv2d(h.reshape(1, n * c, height, width), weights.flatten(0, 1), groups=n, **geometry)
    return y.unflatten(1, (n, -1))[0]


def with_other_dimension(convolve):
    """Return a function that reshapes 2-D maps for a 1-D or 3-D convolution."""

    def reshape_and_convolve(h: Tensor, weight: Tensor, **geometry) -> Tensor:
        return convolve(h.flatten(2) if weight.ndim == 3 else h.unsqueeze(2), weight, **geometry)

    return reshape_and_convolve


def kernel_from_input(*shape: int):
    """A kernel for the batch, computed from the layer's input."""
    size = torch.Size(shape).numel()
    return FunctionWithWeights(lambda net, x, h, y: net(h.mean((0, 2, 3))).tanh().view(shape), 4, size)


def kernel_from_samples(*shape: int):
    """A kernel per sample, computed from the samples."""
    size = torch.Size(shape).numel()
    return FunctionWithWeights(lambda net, x, h, y: net(x.mean((2, 3))).softmax(1).view(-1, *shape), 2, size)


def kernel_from_labels(*shape: int):
    """A kernel for the batch, computed from its labels only."""
    size = torch.Size(shape).numel()
    return FunctionWithWeights(
        lambda net, x, h, y: net(F.one_hot(y, 3).to(x).mean(0, keepdim=True)).view(shape), 3, size
    )


def kernel_from_labels_and_input(*shape: int):
    """A kernel from labels and input; only one branch, which a graph search visits last, depends on the input."""
    size = torch.Size(shape).numel()

    def kernel(net, x, h, y):
        labels = net(F.one_hot(y, 3).to(x).mean(0))
        return (labels * (1 + labels).square() + labels * h.square().mean()).view(shape)

    return FunctionWithWeights(kernel, 3, size)


class StandardizedKernel(nn.Module):
    """A standardized kernel, as in weight standardization."""

    def __init__(self, *shape: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(shape))

    def forward(self, *_: Tensor) -> Tensor:
        return (self.weight - self.weight.mean((1, 2, 3), keepdim=True)) / self.weight.std((1, 2, 3), keepdim=True)


def kernel_is_x(net, x, h, y):
    return x


def kernel_is_crop_of_input(net, x, h, y):
    return h[:, :, :3, :3]


DYNAMIC_CRITICS = {
    "conv2d": lambda: DynamicKernelCritic(F.conv2d, kernel_from_input(3, 4, 3, 3), stride=2, padding=1),
    "conv2d, each sample": lambda: DynamicKernelCritic(conv2d_per_sample, kernel_from_samples(3, 4, 3, 3), padding=1),
    "conv2d, dilated": lambda: DynamicKernelCritic(F.conv2d, kernel_from_input(3, 4, 2, 3), dilation=(2, 1)),
    "conv2d, groups": lambda: DynamicKernelCritic(F.conv2d, kernel_from_input(6, 2, 3, 3), groups=2, padding=1),
    "conv2d, string as padding": lambda: DynamicKernelCritic(F.conv2d, kernel_from_input(3, 4, 3, 3), padding="same"),
    "conv2d, the input as its kernel": lambda: DynamicKernelCritic(
        F.conv2d, FunctionWithWeights(kernel_is_crop_of_input, 1, 1)
    ),
    "conv2d, x as its kernel": lambda: DynamicKernelCritic(F.conv2d, FunctionWithWeights(kernel_is_x, 1, 1), width=2),
    "conv1d": lambda: DynamicKernelCritic(with_other_dimension(F.conv1d), kernel_from_input(3, 4, 3), padding=1),
    "conv3d": lambda: DynamicKernelCritic(with_other_dimension(F.conv3d), kernel_from_input(3, 4, 1, 3, 3)),
    "conv_transpose2d": lambda: DynamicKernelCritic(
        F.conv_transpose2d, kernel_from_input(4, 3, 3, 3), stride=2, padding=1
    ),
    "conv_transpose2d, groups": lambda: DynamicKernelCritic(
        F.conv_transpose2d, kernel_from_input(4, 3, 3, 3), groups=2
    ),
    "from labels": lambda: DynamicKernelCritic(F.conv2d, kernel_from_labels(3, 4, 3, 3), padding=1),
    "from labels and input": lambda: DynamicKernelCritic(F.conv2d, kernel_from_labels_and_input(3, 4, 3, 3), padding=1),
    "from parameters": lambda: DynamicKernelCritic(F.conv2d, StandardizedKernel(3, 4, 3, 3), padding=1),
}


@pytest.mark.parametrize("name", DYNAMIC_CRITICS)
def test_penalty_with_computed_kernels_equals_torch(name):
    """A kernel computed from the input contributes to the gradient; for other kernels nothing is computed."""
    torch.manual_seed(0)
    critic, real, y = (
        DYNAMIC_CRITICS[name]().double(),
        torch.randn(3, 2, 6, 6, dtype=torch.float64),
        torch.tensor([0, 2, 1]),
    )
    weights = [*critic.parameters()]
    x = real.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(critic(x, y).sum(), x, create_graph=True)
    expected = gradient.flatten(1).norm(dim=1)
    ours = input_gradient_norm(critic, real, y)
    torch.testing.assert_close(ours, expected, rtol=1e-12, atol=1e-12)
    gradients = [
        torch.autograd.grad((part - 1).square().mean(), weights, allow_unused=True) for part in (expected, ours)
    ]
    assert sum(g is not None and g.norm() > 0 for g in gradients[0]) >= 2
    for a, b in zip(*gradients, strict=True):
        a, b = (torch.zeros((), dtype=torch.float64) if g is None else g for g in (a, b))
        torch.testing.assert_close(*torch.broadcast_tensors(a, b), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", ["from labels", "from parameters"])
def test_kernels_independent_of_input_cost_no_extra_convolution(name):
    def counts(critic: nn.Module) -> Counter:
        with ConvolutionCounter() as counter:
            input_gradient_norm(critic, torch.randn(3, 2, 6, 6), torch.tensor([0, 2, 1])).sum().backward()
        return counter.counts

    layer = nn.Conv2d(4, 3, 3, padding=1, bias=False)
    plain = DynamicKernelCritic(lambda h, weight, **_: layer(h), StandardizedKernel(3, 4, 3, 3))
    assert counts(DYNAMIC_CRITICS[name]()) == counts(plain)


def test_conv2d_with_keywords_unbatched_input_and_vmap_equals_torch():
    x, weight, bias = inputs()
    with DoubleBackwardMode():
        torch.testing.assert_close(torch.conv2d(input=x, weight=weight, bias=bias), F.conv2d(x, weight, bias))
        torch.testing.assert_close(F.conv2d(x[0], weight, bias), F.conv2d(x, weight, bias)[0])
        mapped = torch.vmap(F.conv2d)(x, weight[None].expand(2, -1, -1, -1, -1))
    torch.testing.assert_close(mapped, F.conv2d(x, weight))
