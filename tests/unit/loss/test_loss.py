"""The losses of generator and discriminator: values by formula, gradients, label smoothing and large logits."""

from math import exp, log

import pytest
import torch
import torch.nn.functional as F
from hydra.utils import instantiate
from omegaconf import OmegaConf
from torch import Tensor

from gan_lightning.io.paths import CONF
from gan_lightning.loss.hinge import Hinge
from gan_lightning.loss.least_squares import LeastSquares
from gan_lightning.loss.minimax import Minimax
from gan_lightning.loss.non_saturating import NonSaturating
from gan_lightning.loss.wasserstein import Wasserstein

REAL, FAKE = [0.0, 2.0, -1.5], [0.5, -3.0, 0.0, 1.25]  # unequal batch sizes, so that sums and means differ

LOSSES = sorted(path.stem for path in (CONF / "loss").glob("*.yaml"))


def mean(values: list[float]) -> float:
    return sum(values) / len(values)


def p(logit: float) -> float:
    """D's probability that a sample is real."""
    return 1 / (1 + exp(-logit))


def from_conf(name: str):
    return instantiate(OmegaConf.load(CONF / "loss" / f"{name}.yaml"))


BINARY = mean([-log(p(x)) for x in REAL]) + mean([-log(1 - p(x)) for x in FAKE])

EXPECTED = {
    "non_saturating": (BINARY, mean([-log(p(x)) for x in FAKE])),
    "minimax": (BINARY, mean([log(1 - p(x)) for x in FAKE])),
    "least_squares": (
        mean([(x - 1) ** 2 for x in REAL]) / 2 + mean([x**2 for x in FAKE]) / 2,
        mean([(x - 1) ** 2 for x in FAKE]) / 2,
    ),
    "hinge": (mean([max(0, 1 - x) for x in REAL]) + mean([max(0, 1 + x) for x in FAKE]), -mean(FAKE)),
    "wasserstein": (mean(FAKE) - mean(REAL), -mean(FAKE)),
}


def test_every_loss_has_expected_values():
    assert set(EXPECTED) == set(LOSSES)


@pytest.mark.parametrize("name", EXPECTED)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_loss_equals_formula(name, dtype):
    loss, real, fake = from_conf(name), torch.tensor(REAL, dtype=dtype), torch.tensor(FAKE, dtype=dtype)
    for value, expected in zip((loss.discriminator(real, fake), loss.generator(fake)), EXPECTED[name], strict=True):
        assert value.shape == ()
        assert value.dtype == dtype
        assert value.item() == pytest.approx(expected, rel=1e-6 if dtype == torch.float32 else 1e-12)


def logit_gradients(loss, *logits: list[float]) -> list[Tensor]:
    """Return the gradients of a loss in each batch of logits."""
    inputs = [torch.tensor(values, dtype=torch.float64, requires_grad=True) for values in logits]
    loss(*inputs).backward()
    return [tensor.grad for tensor in inputs]


@pytest.mark.parametrize("name", LOSSES)
def test_gradients_have_correct_sign(name):
    loss = from_conf(name)
    real, fake = logit_gradients(loss.discriminator, [0.1, -0.4], [0.3, 0.2, 0.1])
    (fake_gradient,) = logit_gradients(loss.generator, [0.3, -0.2])
    assert (real < 0).all()
    assert (fake > 0).all()
    assert (fake_gradient < 0).all()


def test_minimax_saturates_and_non_saturating_does_not():
    confident_logits = [-20.0] * 4
    (minimax,), (non_saturating,) = (
        logit_gradients(loss().generator, confident_logits) for loss in (Minimax, NonSaturating)
    )
    torch.testing.assert_close(minimax, torch.full((4,), -p(-20) / 4, dtype=torch.float64))
    torch.testing.assert_close(non_saturating, torch.full((4,), -p(20) / 4, dtype=torch.float64))
    assert minimax.abs().max() < 1e-8 < 0.24 < non_saturating.abs().min()


@pytest.mark.parametrize("loss", [NonSaturating, Minimax])
@pytest.mark.parametrize("smoothing", [0.1, 0.3])
def test_label_smoothing_affects_only_real_target(loss, smoothing):
    real, fake = torch.tensor(REAL), torch.tensor(FAKE)
    expected = F.binary_cross_entropy_with_logits(real, torch.full_like(real, 1 - smoothing))
    expected += F.binary_cross_entropy_with_logits(fake, torch.zeros_like(fake))
    torch.testing.assert_close(loss(smoothing).discriminator(real, fake), expected)
    assert not torch.isclose(loss(0.0).discriminator(real, fake), expected)
    assert torch.equal(loss(smoothing).generator(fake), loss(0.0).generator(fake))


def test_label_smoothing_moves_optimum_to_target():
    """With target 0.9 the loss is minimal at D = 0.9; without smoothing it has no minimum."""
    (at_optimum, _) = logit_gradients(NonSaturating(0.1).discriminator, [log(0.9 / 0.1)], [0.0])
    (without_smoothing, _) = logit_gradients(NonSaturating().discriminator, [log(0.9 / 0.1)], [0.0])
    assert abs(at_optimum.item()) < 1e-12
    assert without_smoothing.item() == pytest.approx(-0.1)


EXTREME = {  # loss of D on (real, fake) = (-1000, 1000), loss of G on -1000 and on 1000
    NonSaturating: (2000.0, 1000.0, 0.0),
    Minimax: (2000.0, 0.0, -1000.0),
    LeastSquares: ((1001.0**2 + 1000.0**2) / 2, 1001.0**2 / 2, 999.0**2 / 2),
    Hinge: (2002.0, 1000.0, -1000.0),
    Wasserstein: (2000.0, 1000.0, -1000.0),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("loss", EXTREME)
def test_large_logits_do_not_overflow(loss, dtype):
    losses = loss()
    low, high = (torch.tensor([x], dtype=dtype, requires_grad=True) for x in (-1000.0, 1000.0))
    values = losses.discriminator(low, high), losses.generator(low), losses.generator(high)
    for value, expected in zip(values, EXTREME[loss], strict=True):
        assert value.item() == pytest.approx(expected, rel=2e-2 if dtype == torch.bfloat16 else 1e-6)
    sum(values).backward()
    assert low.grad.isfinite().all()
    assert high.grad.isfinite().all()


def test_loss_at_zero_logits_is_two_log_two():
    zeros = torch.zeros(5)
    assert NonSaturating().discriminator(zeros, zeros).item() == pytest.approx(2 * log(2))
    assert NonSaturating().generator(zeros).item() == pytest.approx(log(2))


def test_hinge_has_no_gradient_beyond_margin():
    real, fake = logit_gradients(Hinge().discriminator, [1.5, 0.5], [-1.5, -0.5])
    assert real.tolist() == [0.0, -0.5]
    assert fake.tolist() == [0.0, 0.5]
    (fake_gradient,) = logit_gradients(Hinge().generator, [-100.0, 100.0])
    assert fake_gradient.tolist() == [-0.5, -0.5]


def test_least_squares_has_no_gradient_at_targets():
    real, fake = logit_gradients(LeastSquares().discriminator, [1.0], [0.0])
    (fake_gradient,) = logit_gradients(LeastSquares().generator, [1.0])
    assert (real.item(), fake.item(), fake_gradient.item()) == (0.0, 0.0, 0.0)


def test_wasserstein_is_invariant_to_offset():
    real, fake = torch.tensor(REAL), torch.tensor(FAKE)
    loss = Wasserstein()
    torch.testing.assert_close(loss.discriminator(real + 7, fake + 7), loss.discriminator(real, fake))
