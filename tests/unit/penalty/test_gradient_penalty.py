"""The gradient penalty: closed form of a linear critic, finite differences, and two common implementation errors."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from gan_lightning.config.validation import check
from gan_lightning.errors import UserError
from gan_lightning.model.wgan_gp import WGANGP
from gan_lightning.penalty.gradient_penalty import gradient_penalty, input_gradient_norm

Y = torch.zeros(5, dtype=torch.long)


class Critic(nn.Module):
    """A critic with the signature of the package; its labels do not change the gradient with respect to x."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.net = nn.Sequential(*layers)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return self.net(x).flatten(1).sum(1) + y


def mlp() -> Critic:
    return Critic(nn.Flatten(), nn.Linear(12, 16), nn.Tanh(), nn.Linear(16, 1))


def convolutional() -> Critic:
    return Critic(nn.Conv2d(3, 4, 2), nn.Tanh(), nn.Conv2d(4, 2, 1))


def with_batch_norm() -> Critic:
    return Critic(nn.Conv2d(3, 4, 2), nn.BatchNorm2d(4), nn.Tanh(), nn.Conv2d(4, 1, 1))


def batch(dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor]:
    """Return real, fake and epsilon for five samples of 3 x 2 x 2."""
    generator = torch.Generator().manual_seed(1)
    real, fake = (torch.randn(5, 3, 2, 2, generator=generator, dtype=dtype) for _ in range(2))
    return real, fake, torch.rand(5, generator=generator, dtype=dtype)


def finite_difference_norms(critic: nn.Module, x_hat: Tensor, step: float = 1e-5) -> Tensor:
    """Compute each sample's gradient norm by shifting its values one by one and observing only its own score."""
    norms = torch.zeros(len(x_hat), dtype=torch.float64)
    for i in range(len(x_hat)):
        for j in range(x_hat[0].numel()):
            values = []
            for sign in (1, -1):
                shifted = x_hat.clone()
                shifted[i].view(-1)[j] += sign * step
                values.append(critic(shifted, Y)[i].item())
            norms[i] += ((values[0] - values[1]) / (2 * step)) ** 2
    return norms.sqrt()


def interpolate(real: Tensor, fake: Tensor, epsilon: Tensor) -> Tensor:
    return torch.stack([e * x + (1 - e) * g for e, x, g in zip(epsilon, real, fake, strict=True)])


class FunctionCritic(nn.Module):
    """A critic defined by a function of samples and labels."""

    def __init__(self, function: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return self.function(x, y)


@pytest.mark.parametrize("shape", [(2,), (1, 3, 3), (3, 4, 2)], ids=str)
@pytest.mark.parametrize("size", [0.0, 0.5, 1.0, 3.0])
def test_penalty_of_linear_critic_depends_on_norm_of_weights(shape, size):
    direction = torch.randn(*shape, dtype=torch.float64)
    weights = size * direction / direction.norm()

    critic = FunctionCritic(lambda x, y: (x * weights).flatten(1).sum(1) + 7)

    real, fake = (torch.randn(5, *shape, dtype=torch.float64) for _ in range(2))
    penalty = gradient_penalty(critic, real, fake, Y, torch.rand(5, dtype=torch.float64))
    assert penalty.shape == ()
    assert penalty.item() == pytest.approx((size - 1) ** 2, abs=1e-12)


@pytest.mark.parametrize("build", [mlp, convolutional])
def test_gradient_norm_and_penalty_match_finite_differences(build):
    torch.manual_seed(0)
    critic, (real, fake, epsilon) = build().double(), batch()
    norms = finite_difference_norms(critic, interpolate(real, fake, epsilon))
    assert norms.std() > 0.01, "equal gradient norms would hide errors of the norm per sample"
    torch.testing.assert_close(
        input_gradient_norm(critic, interpolate(real, fake, epsilon), Y).detach(), norms, rtol=1e-6, atol=1e-8
    )
    penalty = gradient_penalty(critic, real, fake, Y, epsilon).item()
    assert penalty == pytest.approx(((norms - 1) ** 2).mean().item(), rel=1e-6)


@pytest.mark.parametrize("build", [mlp, convolutional])
def test_norm_over_batch_or_channel_gives_another_penalty(build):
    """If these were equal, the test above would not detect the error."""
    torch.manual_seed(0)
    critic, (real, fake, epsilon) = build().double(), batch()
    x_hat = interpolate(real, fake, epsilon).requires_grad_()
    (gradient,) = torch.autograd.grad(critic(x_hat, Y).sum(), x_hat)
    ours = gradient_penalty(critic, real, fake, Y, epsilon).item()
    for wrong_norm in (gradient.norm(), gradient.norm(dim=1), gradient.flatten(2).norm(dim=2)):
        assert ((wrong_norm - 1) ** 2).mean().item() != pytest.approx(ours, rel=1e-2)


def test_batch_norm_mixes_gradients_of_samples():
    """Through BatchNorm a sample changes the scores of the others, so no gradient belongs to one sample."""
    torch.manual_seed(0)
    critic, (real, fake, epsilon) = with_batch_norm().double(), batch()
    norms = finite_difference_norms(critic, interpolate(real, fake, epsilon))
    assert gradient_penalty(critic, real, fake, Y, epsilon).item() != pytest.approx(
        ((norms - 1) ** 2).mean().item(), rel=1e-2
    )


@pytest.mark.parametrize("network", ["dcgan", "mlp", "resnet"])
@pytest.mark.parametrize("norm", ["none", "layer", "batch"])
def test_batch_norm_in_critic_is_config_error(compose, network, norm):
    config = compose("model=wgan_gp", f"network={network}", f"network.discriminator.norm={norm}")
    if norm == "batch":
        with pytest.raises(UserError, match=r"norm=batch: model=wgan_gp needs .*norm=none or .*norm=layer"):
            check(config)
    else:
        check(config)


def test_wgan_gp_constructor_rejects_batch_norm(build):
    model, _ = build("model=dcgan")
    gan_arguments = {"generator": model.generator, "loss": model.loss, "latent_dim": 4}
    optimizers = dict.fromkeys(("generator_optimizer", "discriminator_optimizer"), torch.optim.Adam)
    with pytest.raises(ValueError, match=r"WGANGP needs .*BatchNorm.*norm=none or norm=layer"):
        WGANGP(discriminator=model.discriminator, **gan_arguments, **optimizers)


@pytest.mark.parametrize("network", ["dcgan", "mlp", "resnet"])
def test_gradient_norms_of_critics_are_independent_per_sample(build, network):
    model, data = build("model=wgan_gp", f"network={network}", "data.image_size=8")
    critic = model.discriminator.double().train()
    x = torch.randn(3, *data.shape, dtype=torch.float64)
    y = torch.zeros(3, dtype=torch.long)
    batch_norms = input_gradient_norm(critic, x, y)
    single_norms = torch.cat([input_gradient_norm(critic, x[i : i + 1], y[i : i + 1]) for i in range(3)])
    torch.testing.assert_close(batch_norms, single_norms)


def test_epsilon_interpolates_from_fake_to_real():
    critic = FunctionCritic(lambda x, y: x.square().sum(1) / 2)  # its gradient norm at x is |x|

    real, fake = torch.tensor([[3.0, 4.0]]), torch.tensor([[0.0, 2.0]])
    for epsilon, norm in ((1.0, 5.0), (0.0, 2.0), (0.5, (1.5**2 + 3.0**2) ** 0.5)):
        penalty = gradient_penalty(critic, real, fake, Y[:1], torch.tensor([epsilon]))
        assert penalty.item() == pytest.approx((norm - 1) ** 2)


def test_each_sample_has_own_epsilon():
    critic = FunctionCritic(lambda x, y: x.square().sum(1) / 2)

    real, fake = torch.full((2, 1), 4.0), torch.full((2, 1), 2.0)
    penalty = gradient_penalty(critic, real, fake, Y[:2], torch.tensor([0.0, 1.0]))
    assert penalty.item() == pytest.approx(((2 - 1) ** 2 + (4 - 1) ** 2) / 2)


def test_labels_are_passed_to_critic():
    critic = FunctionCritic(lambda x, y: x.sum(1) * y)

    x = torch.zeros(3, 4)
    torch.testing.assert_close(input_gradient_norm(critic, x, torch.tensor([0, 1, 3])), torch.tensor([0.0, 2.0, 6.0]))


@pytest.mark.parametrize("build", [mlp, convolutional])
def test_gradient_of_penalty_in_weights_matches_finite_differences(build):
    torch.manual_seed(0)
    critic, (real, fake, epsilon) = build().double(), batch()
    gradient_penalty(critic, real, fake, Y, epsilon).backward()
    weight, step = critic.net[1 if build is mlp else 0].weight, 1e-6
    for index in (0, 5, weight.numel() - 1):
        values = []
        for sign in (1, -1):
            with torch.no_grad():
                weight.view(-1)[index] += sign * step
            values.append(gradient_penalty(critic, real, fake, Y, epsilon).item())
            with torch.no_grad():
                weight.view(-1)[index] -= sign * step
        finite_difference = (values[0] - values[1]) / (2 * step)
        assert abs(finite_difference) > 1e-4
        assert weight.grad.view(-1)[index].item() == pytest.approx(finite_difference, rel=1e-4)


def test_penalty_gives_samples_no_gradient():
    critic, (real, fake, epsilon) = mlp().double(), batch()
    fake.requires_grad_()
    gradient_penalty(critic, real, fake, Y, epsilon).backward()
    assert fake.grad is None


def test_penalty_disables_autocast():
    torch.manual_seed(0)
    critic, (real, fake, epsilon) = convolutional(), batch(torch.float32)
    without = gradient_penalty(critic, real, fake, Y, epsilon)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert critic(real, Y).dtype == torch.bfloat16 or critic.net(real).dtype == torch.bfloat16
        within = gradient_penalty(critic, real, fake.bfloat16().float(), Y, epsilon)
        exact = gradient_penalty(critic, real, fake, Y, epsilon)
    assert within.dtype == torch.float32
    assert torch.equal(exact, without)


def test_penalty_of_half_precision_samples_is_float32():
    critic, (real, fake, epsilon) = mlp(), batch(torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        penalty = gradient_penalty(critic, real.bfloat16(), fake.bfloat16(), Y, epsilon.bfloat16())
    assert penalty.dtype == torch.float32


def test_penalty_of_float64_samples_is_float64():
    critic, (real, fake, epsilon) = mlp().double(), batch()
    assert gradient_penalty(critic, real, fake, Y, epsilon).dtype == torch.float64
