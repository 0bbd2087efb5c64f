"""The five losses, for both players, against values worked out by hand."""

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

REAL, FAKE = [0.0, 2.0, -1.5], [0.5, -3.0, 0.0, 1.25]  # batches of unequal size, so that sums are told from means

LOSSES = sorted(path.stem for path in (CONF / "loss").glob("*.yaml"))


def mean(values: list[float]) -> float:
    return sum(values) / len(values)


def p(logit: float) -> float:
    """D's probability that a sample is real."""
    return 1 / (1 + exp(-logit))


def from_conf(name: str):
    return instantiate(OmegaConf.load(CONF / "loss" / f"{name}.yaml"))


BINARY = mean([-log(p(x)) for x in REAL]) + mean([-log(1 - p(x)) for x in FAKE])

BY_HAND = {
    "non_saturating": (BINARY, mean([-log(p(x)) for x in FAKE])),
    "minimax": (BINARY, mean([log(1 - p(x)) for x in FAKE])),
    "least_squares": (
        mean([(x - 1) ** 2 for x in REAL]) / 2 + mean([x**2 for x in FAKE]) / 2,
        mean([(x - 1) ** 2 for x in FAKE]) / 2,
    ),
    "hinge": (mean([max(0, 1 - x) for x in REAL]) + mean([max(0, 1 + x) for x in FAKE]), -mean(FAKE)),
    "wasserstein": (mean(FAKE) - mean(REAL), -mean(FAKE)),
}


def test_every_loss_is_worked_out_here():
    assert set(BY_HAND) == set(LOSSES)


@pytest.mark.parametrize("name", BY_HAND)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_values(name, dtype):
    loss, real, fake = from_conf(name), torch.tensor(REAL, dtype=dtype), torch.tensor(FAKE, dtype=dtype)
    for value, by_hand in zip((loss.discriminator(real, fake), loss.generator(fake)), BY_HAND[name], strict=True):
        assert value.shape == ()
        assert value.dtype == dtype
        assert value.item() == pytest.approx(by_hand, rel=1e-6 if dtype == torch.float32 else 1e-12)


def slopes(player, *logits: list[float]) -> list[Tensor]:
    """Gradients of a player's loss in each batch of logits."""
    inputs = [torch.tensor(values, dtype=torch.float64, requires_grad=True) for values in logits]
    player(*inputs).backward()
    return [tensor.grad for tensor in inputs]


@pytest.mark.parametrize("name", LOSSES)
def test_d_raises_real_logits_and_lowers_fakes_and_g_raises_its_own(name):
    loss = from_conf(name)
    real, fake = slopes(loss.discriminator, [0.1, -0.4], [0.3, 0.2, 0.1])
    (own,) = slopes(loss.generator, [0.3, -0.2])
    assert (real < 0).all()
    assert (fake > 0).all()
    assert (own < 0).all()


def test_minimax_saturates_where_d_is_sure_and_non_saturating_does_not():
    sure_of_fakes = [-20.0] * 4
    (minimax,), (non_saturating,) = (slopes(loss().generator, sure_of_fakes) for loss in (Minimax, NonSaturating))
    torch.testing.assert_close(minimax, torch.full((4,), -p(-20) / 4, dtype=torch.float64))
    torch.testing.assert_close(non_saturating, torch.full((4,), -p(20) / 4, dtype=torch.float64))
    assert minimax.abs().max() < 1e-8 < 0.24 < non_saturating.abs().min()


@pytest.mark.parametrize("loss", [NonSaturating, Minimax])
@pytest.mark.parametrize("smoothing", [0.1, 0.3])
def test_smoothing_moves_the_target_of_real_samples_only(loss, smoothing):
    real, fake = torch.tensor(REAL), torch.tensor(FAKE)
    by_torch = F.binary_cross_entropy_with_logits(real, torch.full_like(real, 1 - smoothing))
    by_torch += F.binary_cross_entropy_with_logits(fake, torch.zeros_like(fake))
    torch.testing.assert_close(loss(smoothing).discriminator(real, fake), by_torch)
    assert not torch.isclose(loss(0.0).discriminator(real, fake), by_torch)
    assert torch.equal(loss(smoothing).generator(fake), loss(0.0).generator(fake))


def test_smoothing_puts_the_optimum_at_the_target():
    """With target 0.9 D does best where it says 0.9; without smoothing it never has enough."""
    (at_optimum, _) = slopes(NonSaturating(0.1).discriminator, [log(0.9 / 0.1)], [0.0])
    (without, _) = slopes(NonSaturating().discriminator, [log(0.9 / 0.1)], [0.0])
    assert abs(at_optimum.item()) < 1e-12
    assert without.item() == pytest.approx(-0.1)


EXTREME = {  # of D on (real, fake) = (-1000, 1000), of G on -1000 and on 1000
    NonSaturating: (2000.0, 1000.0, 0.0),
    Minimax: (2000.0, 0.0, -1000.0),
    LeastSquares: ((1001.0**2 + 1000.0**2) / 2, 1001.0**2 / 2, 999.0**2 / 2),
    Hinge: (2002.0, 1000.0, -1000.0),
    Wasserstein: (2000.0, 1000.0, -1000.0),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("loss", EXTREME)
def test_large_logits_overflow_nothing(loss, dtype):
    players = loss()
    low, high = (torch.tensor([x], dtype=dtype, requires_grad=True) for x in (-1000.0, 1000.0))
    values = players.discriminator(low, high), players.generator(low), players.generator(high)
    for value, by_hand in zip(values, EXTREME[loss], strict=True):
        assert value.item() == pytest.approx(by_hand, rel=2e-2 if dtype == torch.bfloat16 else 1e-6)
    sum(values).backward()
    assert low.grad.isfinite().all()
    assert high.grad.isfinite().all()


def test_d_at_rest_is_worth_two_log_two():
    at_rest = torch.zeros(5)
    assert NonSaturating().discriminator(at_rest, at_rest).item() == pytest.approx(2 * log(2))
    assert NonSaturating().generator(at_rest).item() == pytest.approx(log(2))


def test_hinge_is_flat_beyond_its_margin():
    real, fake = slopes(Hinge().discriminator, [1.5, 0.5], [-1.5, -0.5])
    assert real.tolist() == [0.0, -0.5]
    assert fake.tolist() == [0.0, 0.5]
    (own,) = slopes(Hinge().generator, [-100.0, 100.0])
    assert own.tolist() == [-0.5, -0.5]


def test_least_squares_rests_at_its_targets():
    real, fake = slopes(LeastSquares().discriminator, [1.0], [0.0])
    (own,) = slopes(LeastSquares().generator, [1.0])
    assert (real.item(), fake.item(), own.item()) == (0.0, 0.0, 0.0)


def test_wasserstein_knows_differences_only():
    real, fake = torch.tensor(REAL), torch.tensor(FAKE)
    loss = Wasserstein()
    torch.testing.assert_close(loss.discriminator(real + 7, fake + 7), loss.discriminator(real, fake))
