"""A training step by itself, without a trainer, and the parts that can be put into it."""

import math
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
import torch
import torch.nn.functional as F
from pytorch_lightning import Callback
from torch import Tensor
from training import Outputs, fit, networks

from gan_lightning.callbacks.metric_logger import accuracies
from gan_lightning.errors import UserError
from gan_lightning.model.acgan import ACGAN
from gan_lightning.model.base import Logits, StepOutput
from gan_lightning.model.vanilla import VanillaGAN
from gan_lightning.model.wgan_gp import WGANGP
from gan_lightning.penalty.gradient_penalty import gradient_penalty, input_gradient_norm
from gan_lightning.schedule import Cosine, Linear

REAL, Y = torch.randn(6, 1, 4, 4, generator=torch.Generator().manual_seed(1)), torch.arange(6)


def gradients(module: torch.nn.Module) -> list[Tensor]:
    return [weight.grad.clone() for weight in module.parameters()]


def test_the_gradients_of_a_step_need_no_trainer():
    model = VanillaGAN(**networks())
    d, fake = model.discriminator_gradients(REAL, Y)
    assert fake is None
    assert d.fake.shape == REAL.shape
    expected = F.softplus(-model.discriminator(REAL, Y)).mean() + F.softplus(model.discriminator(d.fake, Y)).mean()
    torch.testing.assert_close(d.terms["adversarial"], expected.detach())
    by_hand = torch.autograd.grad(expected, [*model.discriminator.parameters()])
    torch.testing.assert_close(gradients(model.discriminator), [*by_hand])
    assert all(weight.grad is None for weight in model.generator.parameters())

    g = model.generator_gradients(REAL, Y)
    assert not torch.equal(g.fake, d.fake)
    torch.testing.assert_close(g.terms["adversarial"], F.softplus(-model.discriminator(g.fake, Y)).mean().detach())
    assert all(weight.grad is not None for weight in model.generator.parameters())
    torch.testing.assert_close(gradients(model.discriminator), [*by_hand])  # frozen meanwhile
    tensors = [*d.logits, *g.logits[1:], d.fake, g.fake, *d.terms.values(), *g.terms.values()]
    assert not any(tensor.requires_grad for tensor in tensors)


def test_a_reused_fake_keeps_its_graph_for_the_generator():
    model = VanillaGAN(**networks(), reuse_fake=True)
    d, fake = model.discriminator_gradients(REAL, Y)
    assert torch.equal(d.fake, fake)
    g = model.generator_gradients(REAL, Y, fake)
    assert torch.equal(g.fake, d.fake)
    assert all(weight.grad is not None for weight in model.generator.parameters())


def test_a_variant_with_its_own_discriminator_loss_keeps_its_accuracies():
    class Squared(VanillaGAN):
        def discriminator_loss(self, real: Tensor, fake: Tensor, y: Tensor) -> tuple[dict[str, Tensor], Logits]:
            logits = self.discriminate(real, fake, y)
            return {"mine": logits.real.square().mean() + logits.fake.square().mean()}, logits

    model = Squared(**networks())
    output, _ = model.discriminator_gradients(REAL, Y)
    assert set(output.terms) == {"mine"}
    expected = {"real": (output.logits.real > 0).float().mean(), "fake": (output.logits.fake < 0).float().mean()}
    assert accuracies(model, {"d": output}) == expected


class Shift:
    """An augmentation that adds a number to each sample, and remembers what it was given."""

    def __init__(self) -> None:
        self.seen: list[Tensor] = []

    def __call__(self, x: Tensor, draw: Any) -> Tensor:
        self.seen.append(x.detach())
        return x + draw(torch.rand, len(x), 1, 1, 1)


@pytest.mark.parametrize("kind", [VanillaGAN, ACGAN])
def test_an_augmentation_changes_real_and_generated_samples_in_both_updates(kind):
    model = kind(**networks(num_classes=6), augment=Shift())
    d, _ = model.discriminator_gradients(REAL, Y)
    assert [torch.equal(x, REAL) for x in model.augment.seen] == [True, False]
    assert torch.equal(model.augment.seen[1], d.fake)
    assert not torch.allclose(d.logits.real, model.discriminator(REAL, Y))
    g = model.generator_gradients(REAL, Y)
    assert torch.equal(model.augment.seen[2], g.fake)
    assert not torch.allclose(g.logits.fake, model.discriminator(g.fake, Y))


def test_a_penalty_differentiates_with_respect_to_samples_before_augmentation():
    class Double:
        def __call__(self, x: Tensor, draw: Any) -> Tensor:
            return 2 * x

    model, plain = (WGANGP(**networks(), augment=augment) for augment in (Double(), None))
    norm = input_gradient_norm(model.critic, REAL, Y)
    torch.testing.assert_close(norm, 2 * input_gradient_norm(plain.critic, 2 * REAL, Y))
    epsilon = torch.full((6,), 0.5)
    model.draw = lambda *_: epsilon
    terms, _ = model.discriminator_loss(REAL, REAL.flip(0), Y)
    expected = gradient_penalty(lambda x, y: model.discriminator(2 * x, y), REAL, REAL.flip(0), Y, epsilon)
    torch.testing.assert_close(terms["gradient_penalty"], 10 * expected)


def test_augmentations_of_two_ranks_are_those_of_one_process():
    """Also of a larger generator batch, in which each minibatch has draws of its own."""
    model = VanillaGAN(**networks(), augment=Shift(), generator_batch_multiplier=2)

    def shifts(world: int, rank: int) -> Tensor:
        model._trainer = SimpleNamespace(world_size=world, global_rank=rank)
        model.rng.manual_seed(3)
        num = 4 // world
        shifted = model.augmented(torch.zeros(2 * num, 1, 1, 1), num).flatten()
        model._trainer = None
        return shifted.view(2, num)

    assert torch.equal(shifts(1, 0), torch.cat([shifts(2, 0), shifts(2, 1)], dim=1))


def test_penalties_are_further_terms():
    def at_real(critic: Any, real: Tensor, fake: Tensor, y: Tensor, draw: Any) -> Tensor:
        assert draw(torch.rand, 3).shape == (3,)
        return 5 * input_gradient_norm(critic, real, y).square().mean()

    model, plain = VanillaGAN(**networks(), penalties={"r1": at_real}), VanillaGAN(**networks())
    (with_penalty, _), (without, _) = (one.discriminator_gradients(REAL, Y) for one in (model, plain))
    assert [*with_penalty.terms] == ["adversarial", "r1"]
    assert torch.equal(with_penalty.terms["adversarial"], without.terms["adversarial"])
    expected = 5 * input_gradient_norm(model.critic, REAL, Y).square().mean()
    torch.testing.assert_close(with_penalty.terms["r1"], expected.detach())
    assert not torch.allclose(gradients(model.discriminator)[0], gradients(plain.discriminator)[0])


class Relativistic:
    """Jolicoeur-Martineau, 2018, with pairs within the minibatch."""

    boundary, needs_real_logits = 0.0, True
    seen: ClassVar[list[tuple[Tensor, Tensor]]] = []

    def discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        return F.softplus(fake - real).mean()

    def generator(self, fake: Tensor, real: Tensor) -> Tensor:
        self.seen.append((fake.detach(), real.detach()))
        return F.softplus(real - fake).mean()


@pytest.mark.parametrize(("kind", "times"), [(VanillaGAN, 1), (VanillaGAN, 2), (ACGAN, 1)])
def test_a_loss_may_pair_generated_with_real_samples(kind, times):
    model = kind(**networks(num_classes=6) | {"loss": Relativistic()}, generator_batch_multiplier=times)
    output = model.generator_gradients(REAL, Y)
    fake, real = Relativistic.seen[-1]
    torch.testing.assert_close(real, model.discriminator(REAL, Y).detach().repeat(times))
    assert torch.equal(output.logits.fake, fake)
    assert torch.equal(output.logits.real, real)
    torch.testing.assert_close(output.terms["adversarial"], F.softplus(real - fake).mean())


def test_a_run_with_parts_trains_and_passes_its_results_to_callbacks(build):
    model, data = build("model=wgan_gp", "model.d_steps=2")
    model.augment, outputs = Shift(), Outputs()
    model.penalties["norm"] = lambda critic, real, fake, y, draw: critic(real, y).square().mean()
    fit(model, data, 2, outputs)
    assert all(isinstance(output, StepOutput) for output in outputs.last.values())
    assert [*outputs.last] == ["d", "g"]
    assert [*outputs.last["d"].terms] == ["adversarial", "gradient_penalty", "norm"]
    assert [step for step, _ in model.history] == [1, 2]
    assert model.history[-1][1]["g"]["adversarial"] == outputs.last["g"].terms["adversarial"]


def test_schedules_set_numbers_of_optimizers_and_of_the_model(build):
    """At each step, as a pure function of progress, so that a resumed run needs no state of them."""
    model, data = build("model=wgan_gp", "model.d_steps=1", "model.ema_decay=0.5")
    names = "generator_optimizer.lr", "discriminator_optimizer.beta2", "gp_weight", "generator_ema.decay"
    model.schedules = {name: Linear(0.1, 0.5) for name in names}
    seen: list[list[float]] = []

    class Numbers(Callback):
        def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
            g, d = (optimizer.param_groups[0] for optimizer in trainer.optimizers)
            seen.append([g["lr"], d["betas"][1], model.gp_weight, model.generator_ema.decay])

    fit(model, data, 4, Numbers())
    assert seen == [pytest.approx([value] * 4) for value in (0.1, 0.2, 0.3, 0.4)]


def test_a_scheduled_number_that_a_graph_reads_is_changed_in_place():
    model = WGANGP(**networks())
    model.gp_weight = weight = torch.tensor(1.0)
    model.set_number("gp_weight", 0.25)
    assert model.gp_weight is weight
    assert weight == 0.25


@pytest.mark.parametrize("name", ["gp_wieght", "generator_optimizer.beta3", "nothing.lr", "reuse_fake", "generator"])
def test_a_schedule_of_an_unknown_number_is_an_error(build, name):
    model, data = build("model=wgan_gp")
    model.schedules = {name: Linear(0.1, 0.5)}
    with pytest.raises(UserError, match=f"schedules: {name}: there is no such number"):
        fit(model, data, 1)


def test_schedules():
    assert [Linear(1.0, 3.0, until=0.5)(progress) for progress in (0, 0.25, 0.5, 1)] == [1, 2, 3, 3]
    cosine = Cosine(1.0, 3.0, until=0.5)
    expected = [1, 3 - 2 * (1 + math.cos(math.pi / 4)) / 2, 2, 3, 3]
    assert [cosine(progress) for progress in (0, 0.125, 0.25, 0.5, 1)] == pytest.approx(expected)
