"""Our convolution is torch's, with its first and second derivatives, and takes its place within a mode only."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gan_lightning.convolution import TwiceDifferentiable, conv2d
from gan_lightning.penalty import slope

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


@pytest.mark.parametrize("network", ["dcgan", "resnet"])
def test_the_penalty_has_the_same_gradient_with_it(build, network):
    model, data = build("model=wgan_gp", f"network={network}")
    critic, x = model.discriminator.double(), data.real(3).double()
    y = torch.zeros(3, dtype=torch.long)

    def gradients() -> list[Tensor]:
        penalty = (slope(critic, x, y) - 1).square().mean()
        return [g for g in torch.autograd.grad(penalty, [*critic.parameters()], allow_unused=True) if g is not None]

    usual = gradients()
    with TwiceDifferentiable():
        ours = gradients()
    assert any(g.norm() > 0 for g in usual)
    for a, b in zip(usual, ours, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-12)
