"""A training step without a trainer, and its replaceable parts: augmentation, penalties, loss and schedules."""

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


def test_gradients_of_step_need_no_trainer():
    model = VanillaGAN(**networks())
    d, fake = model.discriminator_gradients(REAL, Y)
    assert fake is None
    assert d.fake.shape == REAL.shape
    expected = F.softplus(-model.discriminator(REAL, Y)).mean() + F.softplus(model.discriminator(d.fake, Y)).mean()
    torch.testing.assert_close(d.terms["adversarial"], expected.detach())
    expected_gradients = torch.autograd.grad(expected, [*model.discriminator.parameters()])
    torch.testing.assert_close(gradients(model.discriminator), [*expected_gradients])
    assert all(weight.grad is None for weight in model.generator.parameters())

    g = model.generator_gradients(REAL, Y)
    assert not torch.equal(g.fake, d.fake)
    torch.testing.assert_close(g.terms["adversarial"], F.softplus(-model.discriminator(g.fake, Y)).mean().detach())
    assert all(weight.grad is not None for weight in model.generator.parameters())
    torch.testing.assert_close(gradients(model.discriminator), [*expected_gradients])  # D is frozen in G's update
    tensors = [*d.logits, *g.logits[1:], d.fake, g.fake, *d.terms.values(), *g.terms.values()]
    assert not any(tensor.requires_grad for tensor in tensors)


def test_reused_fake_keeps_autograd_graph_for_generator():
    model = VanillaGAN(**networks(), reuse_fake=True)
    d, fake = model.discriminator_gradients(REAL, Y)
    assert torch.equal(d.fake, fake)
    g = model.generator_gradients(REAL, Y, fake)
    assert torch.equal(g.fake, d.fake)
    assert all(weight.grad is not None for weight in model.generator.parameters())


def test_custom_discriminator_loss_keeps_accuracies():
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
    """An augmentation that adds a random number to each sample and records its inputs."""

    def __init__(self) -> None:
        self.seen: list[Tensor] = []

    def __call__(self, x: Tensor, draw: Any) -> Tensor:
        self.seen.append(x.detach())
        return x + draw(torch.rand, len(x), 1, 1, 1)


@pytest.mark.parametrize("kind", [VanillaGAN, ACGAN])
def test_augmentation_applies_to_real_and_fake_in_both_updates(kind):
    model = kind(**networks(num_classes=6), augment=Shift())
    d, _ = model.discriminator_gradients(REAL, Y)
    assert [torch.equal(x, REAL) for x in model.augment.seen] == [True, False]
    assert torch.equal(model.augment.seen[1], d.fake)
    assert not torch.allclose(d.logits.real, model.discriminator(REAL, Y))
    g = model.generator_gradients(REAL, Y)
    assert torch.equal(model.augment.seen[2], g.fake)
    assert not torch.allclose(g.logits.fake, model.discriminator(g.fake, Y))


def test_penalty_differentiates_with_respect_to_unaugmented_samples():
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


def test_augmentations_of_ranks_equal_those_of_one_process():
    """Each minibatch of a larger generator batch has its own draws."""
    model = VanillaGAN(**networks(), augment=Shift(), generator_batch_multiplier=2)

    def shifts(world: int, rank: int) -> Tensor:
        model._trainer = SimpleNamespace(world_size=world, global_rank=rank)
        model.rng.manual_seed(3)
        num = 4 // world
        shifted = model.augmented(torch.zeros(2 * num, 1, 1, 1), num).flatten()
        model._trainer = None
        return shifted.view(2, num)

    assert torch.equal(shifts(1, 0), torch.cat([shifts(2, 0), shifts(2, 1)], dim=1))


def test_penalties_are_added_as_loss_terms():
    def gradient_at_real(critic: Any, real: Tensor, fake: Tensor, y: Tensor, draw: Any) -> Tensor:
        assert draw(torch.rand, 3).shape == (3,)
        return 5 * input_gradient_norm(critic, real, y).square().mean()

    model, plain = VanillaGAN(**networks(), penalties={"r1": gradient_at_real}), VanillaGAN(**networks())
    (with_penalty, _), (without, _) = (
        model_of_pair.discriminator_gradients(REAL, Y) for model_of_pair in (model, plain)
    )
    assert [*with_penalty.terms] == ["adversarial", "r1"]
    assert torch.equal(with_penalty.terms["adversarial"], without.terms["adversarial"])
    expected = 5 * input_gradient_norm(model.critic, REAL, Y).square().mean()
    torch.testing.assert_close(with_penalty.terms["r1"], expected.detach())
    assert not torch.allclose(gradients(model.discriminator)[0], gradients(plain.discriminator)[0])


class Relativistic:
    """Jolicoeur-Martineau (2018), with pairs within the minibatch."""

    boundary, needs_real_logits = 0.0, True
    seen: ClassVar[list[tuple[Tensor, Tensor]]] = []

    def discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        return F.softplus(fake - real).mean()

    def generator(self, fake: Tensor, real: Tensor) -> Tensor:
        self.seen.append((fake.detach(), real.detach()))
        return F.softplus(real - fake).mean()


@pytest.mark.parametrize(("kind", "multiplier"), [(VanillaGAN, 1), (VanillaGAN, 2), (ACGAN, 1)])
def test_loss_may_pair_fake_with_real_logits(kind, multiplier):
    model = kind(**networks(num_classes=6) | {"loss": Relativistic()}, generator_batch_multiplier=multiplier)
    output = model.generator_gradients(REAL, Y)
    fake, real = Relativistic.seen[-1]
    torch.testing.assert_close(real, model.discriminator(REAL, Y).detach().repeat(multiplier))
    assert torch.equal(output.logits.fake, fake)
    assert torch.equal(output.logits.real, real)
    torch.testing.assert_close(output.terms["adversarial"], F.softplus(real - fake).mean())


def test_training_with_custom_parts_passes_outputs_to_callbacks(build):
    model, data = build("model=wgan_gp", "model.d_steps=2")
    model.augment, outputs = Shift(), Outputs()
    model.penalties["norm"] = lambda critic, real, fake, y, draw: critic(real, y).square().mean()
    fit(model, data, 2, outputs)
    assert all(isinstance(output, StepOutput) for output in outputs.last.values())
    assert [*outputs.last] == ["d", "g"]
    assert [*outputs.last["d"].terms] == ["adversarial", "gradient_penalty", "norm"]
    assert [step for step, _ in model.history] == [1, 2]
    assert model.history[-1][1]["g"]["adversarial"] == outputs.last["g"].terms["adversarial"]


def test_schedules_set_numbers_of_optimizers_and_model(build):
    """Each number is a pure function of progress, so that a resumed run needs no state of schedules."""
    model, data = build("model=wgan_gp", "model.d_steps=1", "model.ema_decay=0.5")
    names = "generator_optimizer.lr", "discriminator_optimizer.beta2", "gp_weight", "generator_ema.decay"
    model.schedules = {name: Linear(0.1, 0.5) for name in names}
    values: list[list[float]] = []

    class Numbers(Callback):
        def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
            g, d = (optimizer.param_groups[0] for optimizer in trainer.optimizers)
            values.append([g["lr"], d["betas"][1], model.gp_weight, model.generator_ema.decay])

    fit(model, data, 4, Numbers())
    assert values == [pytest.approx([value] * 4) for value in (0.1, 0.2, 0.3, 0.4)]


def test_schedule_of_augmentation_is_applied(build):
    model, data = build(
        "model=vanilla", "augment=diffaugment", "augment.initial_probability=0.2", "augment.probability=0.6"
    )
    values: list[float] = []

    class Probability(Callback):
        def on_train_batch_end(self, *_: Any) -> None:
            values.append(model.augment.current_probability())

    fit(model, data, 4, Probability())
    assert values == pytest.approx([0.4 - 0.2 * math.cos(math.pi * step / 4) for step in range(4)])


def test_scheduled_tensor_is_changed_in_place_for_cuda_graphs():
    model = WGANGP(**networks())
    model.gp_weight = weight = torch.tensor(1.0)
    model.set_number("gp_weight", 0.25)
    assert model.gp_weight is weight
    assert weight == 0.25


@pytest.mark.parametrize("name", ["gp_wieght", "generator_optimizer.beta3", "nothing.lr", "reuse_fake", "generator"])
def test_schedule_of_unknown_number_is_error(build, name):
    model, data = build("model=wgan_gp")
    model.schedules = {name: Linear(0.1, 0.5)}
    with pytest.raises(UserError, match=f"schedules: {name}: there is no such number"):
        fit(model, data, 1)


def test_linear_and_cosine_schedules_have_expected_values():
    assert [Linear(1.0, 3.0, until=0.5)(progress) for progress in (0, 0.25, 0.5, 1)] == [1, 2, 3, 3]
    cosine = Cosine(1.0, 3.0, until=0.5)
    expected = [1, 3 - 2 * (1 + math.cos(math.pi / 4)) / 2, 2, 3, 3]
    assert [cosine(progress) for progress in (0, 0.125, 0.25, 0.5, 1)] == pytest.approx(expected)
