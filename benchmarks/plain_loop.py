"""What one would write without us: a plain PyTorch loop for each variant, with networks like ours.

It is of the usual kind: two forwards of D, which is not frozen while G steps, optimizers without ``fused`` or
``foreach``, a shuffled DataLoader without workers over a TensorDataset of scaled samples. Each variant keeps its
schedule, loss and constraint.

Beside it the floor, the arithmetic of the networks alone: their passes forward and backward on the same tensors again
and again, no gradient that nobody needs, no data, no optimizer, nothing written down; on a GPU as one CUDA graph.
"""

from collections.abc import Callable, Iterator
from itertools import count

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from gan_lightning.model.acgan import ACGAN
from gan_lightning.model.cuda_graphs import CUDAGraphs, Eager
from gan_lightning.model.gan import GAN
from gan_lightning.model.wgan import WGAN
from gan_lightning.model.wgan_gp import WGANGP
from gan_lightning.penalty.gradient_penalty import gradient_penalty

Penalty = Callable[[nn.Module, Tensor, Tensor, Tensor, Tensor], Tensor]


Players = tuple[nn.Module, nn.Module]  # G and D


def players_of(model: GAN) -> Players:
    """A model's own networks."""
    return model.generator, model.discriminator


def plain_loop(model: GAN, players: Players, samples: Tensor, labels: Tensor, batch_size: int) -> Iterator[nn.Module]:
    """The loop that one would write without us; it yields its generator after each step of it."""
    generator, discriminator = (net.to(memory_format=torch.contiguous_format) for net in players)
    g_opt, d_opt = (
        build.func(net.parameters(), **{k: v for k, v in build.keywords.items() if k not in ("fused", "foreach")})
        for build, net in zip(model.optimizer_fns.values(), (generator, discriminator), strict=True)
    )
    loader = DataLoader(TensorDataset(samples, labels), batch_size, shuffle=True, drop_last=True)
    device, many = next(generator.parameters()).device, model.generator_batch_multiplier
    updates = 0
    while True:
        for real, y in loader:
            real, y = real.to(device), y.to(device)
            fake = generator(torch.randn(batch_size, model.latent_dim, device=device), y)
            d_opt.zero_grad()
            d_loss(model, discriminator, real, fake.detach(), y, plain_penalty).backward()
            d_opt.step()
            if isinstance(model, WGAN):
                with torch.no_grad():
                    for parameter in discriminator.parameters():
                        parameter.clamp_(-model.clip_value, model.clip_value)
            updates += 1
            if updates % model.d_steps:
                continue
            if not model.reuse_fake:
                y = y.repeat(many)
                fake = generator(torch.randn(batch_size * many, model.latent_dim, device=device), y)
            g_opt.zero_grad()
            g_loss(model, discriminator, fake, y).backward()
            g_opt.step()
            yield generator


def floor(model: GAN, players: Players, samples: Tensor, labels: Tensor, batch_size: int) -> Iterator[nn.Module]:
    """The passes of a step and nothing else, in the format that the networks are in."""
    generator, discriminator = players
    device, many = next(generator.parameters()).device, model.generator_batch_multiplier
    real, y = samples[:batch_size].to(device), labels[:batch_size].to(device)
    z = torch.randn(batch_size * many, model.latent_dim, device=device)
    classes = y.repeat(many)

    def step() -> None:
        for number in range(model.d_steps):
            with torch.set_grad_enabled(model.reuse_fake and number == model.d_steps - 1):
                fake = generator(z[:batch_size], y)
            d_loss(model, discriminator.requires_grad_(True), real, fake.detach(), y).backward()
            discriminator.zero_grad()
        if not model.reuse_fake:
            fake = generator(z, classes)
        g_loss(model, discriminator.requires_grad_(False), fake, classes).backward()
        generator.zero_grad()

    execute = CUDAGraphs(device, torch.Generator(device)) if device.type == "cuda" else Eager()
    for number in count():
        execute(number, step)
        yield generator


def plain_penalty(discriminator: nn.Module, real: Tensor, fake: Tensor, y: Tensor, epsilon: Tensor) -> Tensor:
    """The gradient penalty as everybody writes it."""
    epsilon = epsilon.view(-1, *[1] * (real.ndim - 1))
    x_hat = (epsilon * real + (1 - epsilon) * fake).requires_grad_()
    (gradient,) = torch.autograd.grad(discriminator(x_hat, y).sum(), x_hat, create_graph=True)
    return ((gradient.flatten(1).norm(dim=1) - 1) ** 2).mean()


def d_loss(
    model: GAN, discriminator: nn.Module, real: Tensor, fake: Tensor, y: Tensor, penalty: Penalty = gradient_penalty
) -> Tensor:
    """The loss of the model's discriminator, for another discriminator."""
    if isinstance(model, ACGAN):
        real_logits, real_classes = judge(discriminator, real, y)
        fake_logits, fake_classes = judge(discriminator, fake, y)
        loss = model.loss.discriminator(real_logits, fake_logits)
        loss = loss + model.class_weight_real * F.cross_entropy(real_classes, y)
        return loss + model.class_weight_fake * F.cross_entropy(fake_classes, y)
    loss = model.loss.discriminator(discriminator(real, y), discriminator(fake, y))
    if isinstance(model, WGANGP):
        epsilon = torch.rand(len(y), device=y.device)
        loss = loss + model.gp_weight * penalty(discriminator, real, fake, y, epsilon)
    return loss


def g_loss(model: GAN, discriminator: nn.Module, fake: Tensor, y: Tensor) -> Tensor:
    """The loss of the model's generator, before another discriminator."""
    if isinstance(model, ACGAN):
        logits, classes = judge(discriminator, fake, y)
        return model.loss.generator(logits) + model.class_weight_generator * F.cross_entropy(classes, y)
    return model.loss.generator(discriminator(fake, y))


def judge(discriminator: nn.Module, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Logits of the source and of the classes, as ACGAN needs them."""
    features = discriminator.features(x, y)
    return discriminator.logits(features, y), discriminator.class_head(features)
