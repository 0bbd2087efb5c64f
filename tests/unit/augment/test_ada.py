"""ADA: the probability follows the signs of the discriminator's logits on real images."""

from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from gan_lightning.augment.ada import ADA
from gan_lightning.loss.least_squares import LeastSquares
from gan_lightning.loss.non_saturating import NonSaturating
from gan_lightning.loss.wasserstein import Wasserstein
from gan_lightning.model.base import Logits, StepOutput
from gan_lightning.model.gan import GAN


def adapted(signs: list[int], images: int = 8, **settings: float) -> list[float]:
    """Return the probability after each minibatch, whose signs sum to the given numbers."""
    ada, found = ADA(**settings), []
    for total in signs:
        ada.adapt(torch.tensor(float(total)), images)
        found.append(float(ada.current_probability()))
    return found


def test_probability_changes_every_interval_by_images_over_ramp():
    # r_t of the three intervals: 1.0, 0.5 and 0.6125, against 0.6.
    signs = [8, 8, 8, 8, 4, 4, 4, 4, 5, 5, 5, 5]
    found = adapted(signs, ramp_images=320, initial_probability=0.5)
    assert found == pytest.approx([0.5] * 3 + [0.6] * 4 + [0.5] * 4 + [0.6])


def test_probability_stays_between_0_and_1():
    assert adapted([-8] * 4, interval=2)[-1] == 0
    assert adapted([8] * 12, interval=1, ramp_images=50)[-1] == 1


def test_probability_is_unchanged_at_the_target():
    assert adapted([4, 4], interval=1, target=0.5, initial_probability=0.25) == [0.25, 0.25]


def test_probability_is_used_for_images():
    x = torch.rand(400, 1, 8, 8)
    ada = ADA(["cutout"], initial_probability=0.5)
    generator = torch.Generator().manual_seed(0)
    changed = (ada(x, lambda sample, *shape: sample(*shape, generator=generator)) != x).flatten(1).any(1)
    assert changed.float().mean() == pytest.approx(0.5, abs=0.1)
    assert not torch.equal(ada.preview(x, lambda sample, *shape: torch.full(shape, 0.999)), x)


def test_state_is_in_the_state_dict_and_exact_in_every_precision():
    ada = ADA(initial_probability=0.123457, ramp_images=1_000_000)
    ada.adapt(torch.tensor(3.0), 8)
    assert ada.state_dict()["state"].tolist() == [123457, 3, 8, 1]
    ada.to(torch.bfloat16)
    assert ada.state.tolist() == [123457, 3, 8, 1]
    other = ADA()
    other.load_state_dict(ada.state_dict())
    assert other.state.tolist() == [123457, 3, 8, 1]


@pytest.mark.parametrize(
    ("loss", "expected"),
    [
        (NonSaturating(), 2),
        (LeastSquares(), -1),
        (Wasserstein(), -2),
    ],  # boundaries 0, 0.5 and the mean logit of fakes, 2
)
@pytest.mark.parametrize("world", [1, 2])
def test_signs_are_relative_to_the_decision_boundary(loss, expected, world):
    seen: list[tuple[Tensor, int]] = []
    real, fake = torch.tensor([-1.0, 0.25, 0.5, 3.0]), torch.tensor([1.0, 3.0, 2.0, 2.0])

    def reduce(value: Tensor, reduce_op: str) -> Tensor:
        return value * world if reduce_op == "sum" else value

    model = SimpleNamespace(
        augment=SimpleNamespace(adapt=lambda *args: seen.append(args)),
        loss=loss,
        trainer=SimpleNamespace(world_size=world, strategy=SimpleNamespace(reduce=reduce)),
    )
    GAN.adapt_augment(model, StepOutput({}, fake, Logits(real, fake)))
    ((signs, images),) = seen
    assert signs == expected * world
    assert images == 4 * world
