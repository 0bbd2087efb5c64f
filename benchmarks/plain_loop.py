"""Baselines of the benchmarks: a plain PyTorch loop for each variant, and the arithmetic of the networks alone.

The plain loop is the usual one: two forward passes of D, which is not frozen during G's step, optimizers without
``fused`` or ``foreach``, a shuffled DataLoader without workers over a TensorDataset of scaled samples. Each variant
keeps its schedule, loss and constraint.

The floor is the forward and backward passes of the networks on the same tensors again and again, without unused
gradients, data, optimizers or logging; on a GPU as one CUDA graph.
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


Networks = tuple[nn.Module, nn.Module]  # G and D


def networks_of(model: GAN) -> Networks:
    """Return the generator and the discriminator of a model."""
    return model.generator, model.discriminator


def plain_loop(model: GAN, networks: Networks, samples: Tensor, labels: Tensor, batch_size: int) -> Iterator[nn.Module]:
    """Train like a loop without gan-lightning; yield the generator after each generator step."""
    generator, discriminator = (net.to(memory_format=torch.contiguous_format) for net in networks)
    g_opt, d_opt = (
        build.func(net.parameters(), **{k: v for k, v in build.keywords.items() if k not in ("fused", "foreach")})
        for build, net in zip(model.optimizer_fns.values(), (generator, discriminator), strict=True)
    )
    loader = DataLoader(TensorDataset(samples, labels), batch_size, shuffle=True, drop_last=True)
    device, multiplier = next(generator.parameters()).device, model.generator_batch_multiplier
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
                y = y.repeat(multiplier)
                fake = generator(torch.randn(batch_size * multiplier, model.latent_dim, device=device), y)
            g_opt.zero_grad()
            g_loss(model, discriminator, fake, y).backward()
            g_opt.step()
            yield generator


def floor(model: GAN, networks: Networks, samples: Tensor, labels: Tensor, batch_size: int) -> Iterator[nn.Module]:
    """Run the forward and backward passes of a step only, in the memory format of the networks."""
    generator, discriminator = networks
    device, multiplier = next(generator.parameters()).device, model.generator_batch_multiplier
    real, y = samples[:batch_size].to(device), labels[:batch_size].to(device)
    z = torch.randn(batch_size * multiplier, model.latent_dim, device=device)
    classes = y.repeat(multiplier)

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
    """Return the gradient penalty in its usual implementation."""
    epsilon = epsilon.view(-1, *[1] * (real.ndim - 1))
    x_hat = (epsilon * real + (1 - epsilon) * fake).requires_grad_()
    (gradient,) = torch.autograd.grad(discriminator(x_hat, y).sum(), x_hat, create_graph=True)
    return ((gradient.flatten(1).norm(dim=1) - 1) ** 2).mean()


def d_loss(
    model: GAN, discriminator: nn.Module, real: Tensor, fake: Tensor, y: Tensor, penalty: Penalty = gradient_penalty
) -> Tensor:
    """Return the loss of the model's discriminator, computed with another discriminator."""
    if isinstance(model, ACGAN):
        real_logits, real_classes = logits_of(discriminator, real, y)
        fake_logits, fake_classes = logits_of(discriminator, fake, y)
        loss = model.loss.discriminator(real_logits, fake_logits)
        loss = loss + model.class_weight_real * F.cross_entropy(real_classes, y)
        return loss + model.class_weight_fake * F.cross_entropy(fake_classes, y)
    loss = model.loss.discriminator(discriminator(real, y), discriminator(fake, y))
    if isinstance(model, WGANGP):
        epsilon = torch.rand(len(y), device=y.device)
        loss = loss + model.gp_weight * penalty(discriminator, real, fake, y, epsilon)
    return loss


def g_loss(model: GAN, discriminator: nn.Module, fake: Tensor, y: Tensor) -> Tensor:
    """Return the loss of the model's generator, computed with another discriminator."""
    if isinstance(model, ACGAN):
        logits, classes = logits_of(discriminator, fake, y)
        return model.loss.generator(logits) + model.class_weight_generator * F.cross_entropy(classes, y)
    return model.loss.generator(discriminator(fake, y))


def logits_of(discriminator: nn.Module, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Return the real/fake logits and the class logits for ACGAN."""
    features = discriminator.features(x, y)
    return discriminator.logits(features, y), discriminator.class_head(features)
