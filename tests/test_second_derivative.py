"""Our convolution and rectifiers are torch's with two derivatives, and take their place within a mode only."""

from collections import Counter

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from gan_lightning.penalty import slope
from gan_lightning.second_derivative import TwiceDifferentiable

conv2d = TwiceDifferentiable().conv2d

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
    with TwiceDifferentiable():
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
    with TwiceDifferentiable():
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
    ours = torch.autograd.grad((slope(critic, real, y) - 1).square().mean(), weights, allow_unused=True)
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
        slope(model.discriminator, data.real(3), torch.zeros(3, dtype=torch.long)).sum().backward()
    assert passes.counts == {"forward": 2 * layers, "in x": layers, "in weight": layers}
