"""Our convolution and rectifiers are torch's with two derivatives, and take their place within a mode only."""

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
def test_it_is_torchs_convolution_and_is_differentiated_twice(geometry):
    parts = inputs(geometry.get("groups", 1))
    torch.testing.assert_close(conv2d(*parts, **geometry), F.conv2d(*parts, **geometry))
    assert torch.autograd.gradcheck(lambda *p: conv2d(*p, **geometry), parts)
    assert torch.autograd.gradgradcheck(lambda *p: conv2d(*p, **geometry), parts)


def test_a_padding_that_is_a_word_is_left_to_torch():
    x, weight, bias = inputs()
    torch.testing.assert_close(
        conv2d(x, weight, bias, padding="same"), F.conv2d(x, weight, bias, padding="same"), rtol=0, atol=0
    )


class Counted(nn.Conv2d):
    """Tells whose convolution it was."""

    def forward(self, x: Tensor) -> Tensor:
        y = super().forward(x)
        self.function = type(y.grad_fn).__name__
        return y


def test_the_mode_takes_its_place_within_and_only_there():
    layer, x = Counted(4, 6, 3), torch.randn(1, 4, 8, 8)
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
def test_rectifiers_are_torchs_and_are_differentiated_twice(rectify):
    x = torch.tensor([[-2.0, 0.0, 1.0], [0.5, -0.0, -3.0]], dtype=torch.float64, requires_grad=True)
    usual, ahead = rectify(x), torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]], dtype=torch.float64)
    (of_usual,) = torch.autograd.grad(usual, x, ahead)
    with DoubleBackwardMode():
        ours = rectify(x)
        torch.testing.assert_close(ours, usual, rtol=0, atol=0)
        torch.testing.assert_close(torch.autograd.grad(ours, x, ahead)[0], of_usual, rtol=0, atol=0)
        away = torch.tensor([[-2.0, 0.7, 1.0]], dtype=torch.float64, requires_grad=True)  # from the kink
        assert torch.autograd.gradgradcheck(rectify, away)


CRITICS = [("dcgan", "none"), ("dcgan", "layer"), ("resnet", "none"), ("resnet", "layer"), ("mlp", "none")]


@pytest.mark.parametrize(("network", "norm"), CRITICS)
def test_the_penalty_has_the_gradient_that_torch_alone_computes(build, network, norm):
    model, data = build("model=wgan_gp", f"network={network}", f"network.discriminator.norm={norm}")
    critic, real = model.discriminator.double(), data.real(3).double()
    y, weights = torch.zeros(3, dtype=torch.long), [*critic.parameters()]

    x = real.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(critic(x, y).sum(), x, create_graph=True)
    usual = torch.autograd.grad((gradient.flatten(1).norm(dim=1) - 1).square().mean(), weights, allow_unused=True)
    ours = torch.autograd.grad((input_gradient_norm(critic, real, y) - 1).square().mean(), weights, allow_unused=True)
    assert sum(g is not None and g.norm() > 0 for g in ours) >= 3
    for a, b in zip(usual, ours, strict=True):
        a, b = (torch.zeros(()) if g is None else g for g in (a, b))
        torch.testing.assert_close(*torch.broadcast_tensors(a.double(), b.double()), rtol=1e-9, atol=1e-12)


class Passes(TorchDispatchMode):
    """Counts what convolutions compute."""

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
def test_the_penalty_computes_nothing_in_vain(build, network):
    """A layer is passed forward, back to x, and forward again by the penalty's gradient, which it gives its weights."""
    model, data = build("model=wgan_gp", f"network={network}", "network.discriminator.norm=none")
    layers = sum(isinstance(module, nn.Conv2d) for module in model.discriminator.modules())
    with Passes() as passes:
        input_gradient_norm(model.discriminator, data.real(3), torch.zeros(3, dtype=torch.long)).sum().backward()
    assert passes.counts == {"forward": 2 * layers, "in x": layers, "in weight": layers}


class Dynamic(nn.Module):
    """A critic whose second convolution has a kernel that is computed, by ``kernel``, from its input or from labels."""

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


class Written(nn.Module):
    """A function with weights."""

    def __init__(self, function, *sizes: int) -> None:
        super().__init__()
        self.net, self.function = nn.Linear(*sizes), function

    def forward(self, *inputs: Tensor) -> Tensor:
        return self.function(self.net, *inputs)


def for_each_sample(h: Tensor, weights: Tensor, **geometry) -> Tensor:
    """A kernel (N, O, C, K, K) for each sample, by groups, as dynamic convolutions are written."""
    n, c, height, width = h.shape
    y = F.conv2d(h.reshape(1, n * c, height, width), weights.flatten(0, 1), groups=n, **geometry)
    return y.unflatten(1, (n, -1))[0]


def flat(convolve):
    """A convolution in one dimension or three, of maps that have two."""

    def convolved(h: Tensor, weight: Tensor, **geometry) -> Tensor:
        return convolve(h.flatten(2) if weight.ndim == 3 else h.unsqueeze(2), weight, **geometry)

    return convolved


def of_x(*shape: int):
    """A kernel for the batch, from what the layer sees."""
    size = torch.Size(shape).numel()
    return Written(lambda net, x, h, y: net(h.mean((0, 2, 3))).tanh().view(shape), 4, size)


def of_samples(*shape: int):
    """A kernel for each sample, from the samples themselves."""
    size = torch.Size(shape).numel()
    return Written(lambda net, x, h, y: net(x.mean((2, 3))).softmax(1).view(-1, *shape), 2, size)


def of_labels(*shape: int):
    """A kernel for the batch, from its labels alone."""
    size = torch.Size(shape).numel()
    return Written(lambda net, x, h, y: net(F.one_hot(y, 3).to(x).mean(0, keepdim=True)).view(shape), 3, size)


def of_both(*shape: int):
    """A kernel from labels and the input, which is reached on one branch only, behind others that are walked first."""
    size = torch.Size(shape).numel()

    def kernel(net, x, h, y):
        labels = net(F.one_hot(y, 3).to(x).mean(0))
        return (labels * (1 + labels).square() + labels * h.square().mean()).view(shape)

    return Written(kernel, 3, size)


class OfParameters(nn.Module):
    """A kernel that is standardised, as weight standardisation does."""

    def __init__(self, *shape: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(shape))

    def forward(self, *_: Tensor) -> Tensor:
        return (self.weight - self.weight.mean((1, 2, 3), keepdim=True)) / self.weight.std((1, 2, 3), keepdim=True)


def from_x_alone(net, x, h, y):
    return x


def from_itself(net, x, h, y):
    return h[:, :, :3, :3]


DYNAMIC = {
    "conv2d": lambda: Dynamic(F.conv2d, of_x(3, 4, 3, 3), stride=2, padding=1),
    "conv2d, each sample": lambda: Dynamic(for_each_sample, of_samples(3, 4, 3, 3), padding=1),
    "conv2d, dilated": lambda: Dynamic(F.conv2d, of_x(3, 4, 2, 3), dilation=(2, 1)),
    "conv2d, groups": lambda: Dynamic(F.conv2d, of_x(6, 2, 3, 3), groups=2, padding=1),
    "conv2d, a padding that is a word": lambda: Dynamic(F.conv2d, of_x(3, 4, 3, 3), padding="same"),
    "conv2d, the input as its kernel": lambda: Dynamic(F.conv2d, Written(from_itself, 1, 1)),
    "conv2d, x as its kernel": lambda: Dynamic(F.conv2d, Written(from_x_alone, 1, 1), width=2),
    "conv1d": lambda: Dynamic(flat(F.conv1d), of_x(3, 4, 3), padding=1),
    "conv3d": lambda: Dynamic(flat(F.conv3d), of_x(3, 4, 1, 3, 3)),
    "conv_transpose2d": lambda: Dynamic(F.conv_transpose2d, of_x(4, 3, 3, 3), stride=2, padding=1),
    "conv_transpose2d, groups": lambda: Dynamic(F.conv_transpose2d, of_x(4, 3, 3, 3), groups=2),
    "of labels": lambda: Dynamic(F.conv2d, of_labels(3, 4, 3, 3), padding=1),
    "of labels and input": lambda: Dynamic(F.conv2d, of_both(3, 4, 3, 3), padding=1),
    "of parameters": lambda: Dynamic(F.conv2d, OfParameters(3, 4, 3, 3), padding=1),
}


@pytest.mark.parametrize("name", DYNAMIC)
def test_kernels_that_are_computed_have_the_penalty_of_torch_alone(name):
    """From the input, its kernels' share of the gradient is left in; from anything else, nothing is computed for it."""
    torch.manual_seed(0)
    critic, real, y = DYNAMIC[name]().double(), torch.randn(3, 2, 6, 6, dtype=torch.float64), torch.tensor([0, 2, 1])
    weights = [*critic.parameters()]
    x = real.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(critic(x, y).sum(), x, create_graph=True)
    usual = gradient.flatten(1).norm(dim=1)
    ours = input_gradient_norm(critic, real, y)
    torch.testing.assert_close(ours, usual, rtol=1e-12, atol=1e-12)
    both = [torch.autograd.grad((part - 1).square().mean(), weights, allow_unused=True) for part in (usual, ours)]
    assert sum(g is not None and g.norm() > 0 for g in both[0]) >= 2
    for a, b in zip(*both, strict=True):
        a, b = (torch.zeros((), dtype=torch.float64) if g is None else g for g in (a, b))
        torch.testing.assert_close(*torch.broadcast_tensors(a, b), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", ["of labels", "of parameters"])
def test_kernels_that_the_input_does_not_reach_cost_nothing_more(name):
    def counts(critic: nn.Module) -> Counter:
        with Passes() as passes:
            input_gradient_norm(critic, torch.randn(3, 2, 6, 6), torch.tensor([0, 2, 1])).sum().backward()
        return passes.counts

    layer = nn.Conv2d(4, 3, 3, padding=1, bias=False)
    plain = Dynamic(lambda h, weight, **_: layer(h), OfParameters(3, 4, 3, 3))
    assert counts(DYNAMIC[name]()) == counts(plain)


def test_an_input_by_name_and_a_single_map_are_torchs():
    x, weight, bias = inputs()
    with DoubleBackwardMode():
        torch.testing.assert_close(torch.conv2d(input=x, weight=weight, bias=bias), F.conv2d(x, weight, bias))
        torch.testing.assert_close(F.conv2d(x[0], weight, bias), F.conv2d(x, weight, bias)[0])
        mapped = torch.vmap(F.conv2d)(x, weight[None].expand(2, -1, -1, -1, -1))
    torch.testing.assert_close(mapped, F.conv2d(x, weight))
