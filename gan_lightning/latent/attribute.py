"""Latent directions towards a class of the data."""

from typing import Any, Literal

import torch
from sklearn.svm import LinearSVC
from torch import Tensor, nn

from gan_lightning.config.constraints import Seed
from gan_lightning.data.datamodule import InMemoryDataModule
from gan_lightning.feature.classifier import Classifier
from gan_lightning.io.cache import TensorCache
from gan_lightning.io.class_names import sanitize_class_names
from gan_lightning.io.image import to_uint8
from gan_lightning.latent import (
    Classes,
    Distance,
    Exploration,
    NeedsData,
    NumSamples,
    Steps,
    alternating_labels,
    check_images,
    class_numbers,
    selected_classes,
)
from gan_lightning.latent.directions import MEASURED, RANDOM, random_directions
from gan_lightning.model.modes import eval_mode
from gan_lightning.model.sampling import SAMPLING_BATCH, SamplingMixin

DEFAULT_TARGETS = 4  # number of targets by default
QUANTILES = 4  # the first and the last quarter of the samples, by logit, are the two sides of the boundary


class ClassDirection(NeedsData):
    """Move one latent along unit directions that increase the logits of classes of the data.

    Logits are centred by their mean over the classes, so that a change of all logits has no effect.

    Args:
        feature: The classifier.
        method: "boundary", the normal of a linear support vector machine between the latents of the samples with the
            largest and smallest logits of the class (Shen et al., 2020, section 3.2, https://arxiv.org/abs/1907.10786);
            "classifier", the mean gradient of the class's logit with respect to the latent; "random".
        targets: Classes of the data by name or number, one row each; None for the first four.
        strength: Length of the path to either side.
        steps: Samples in a row.
        samples: Number of samples from which a direction is computed.
        seed: Seed of all latents.
        classes: Classes of a conditional model: the first is shown, all are sampled; None for the first ten.
    """

    def __init__(
        self,
        feature: Classifier,
        method: Literal["boundary", "classifier", "random"] = "boundary",
        targets: Classes | None = None,
        strength: Distance = 6.0,
        steps: Steps = 9,
        samples: NumSamples = 2000,
        seed: Seed = 0,
        classes: Classes | None = None,
    ) -> None:
        self.feature, self.method, self.targets, self.strength, self.steps = feature, method, targets, strength, steps
        self.samples, self.seed, self.classes = samples, seed, classes

    def load_data(self, data: InMemoryDataModule, store: TensorCache) -> None:
        """Load the classifier from the cache, or train it.

        Raises:
            UserError: The data are points, or have no classes.
        """
        check_images("attribute", data.shape)
        self.feature.setup(data, store, torch.device("cpu"))
        self.names = sanitize_class_names(data.class_names)

    def __call__(self, model: SamplingMixin) -> Exploration:
        """Return a row per target; ``score`` is the change of its logit relative to that of the other classes.

        ``at_random`` is the same for random directions. ``seen`` is the share of samples that the classifier assigns to
        the target at ``-strength``, 0 and ``+strength`` along the direction.
        """
        targets = [*range(min(len(self.names), DEFAULT_TARGETS))] if self.targets is None else self.targets
        targets = class_numbers("targets", targets, self.names, len(self.names))
        classes = selected_classes(model, self.classes)
        z, y = model.draw_latents(self.samples, alternating_labels(classes, self.samples), self.seed)
        random = random_directions(model, self.seed)
        logits = self.logits(model, z, y)
        few = z[:MEASURED], y[:MEASURED]
        rows: list[Tensor] = []
        results: dict[str, list[Any]] = {"targets": [self.names[target] for target in targets], "directions": []}
        changes = [self.change(model, *few, one) for one in random]
        for number, target in enumerate(targets):
            if self.method == "boundary":
                direction = boundary(z, logits[:, target])
            elif self.method == "classifier":
                direction = self.gradient(model, z, y, target)
            else:
                direction = random[number % RANDOM]
            change = self.change(model, *few, direction)
            shifted = [few[0] + length * direction for length in (-self.strength, 0, self.strength)]
            predictions = [self.logits(model, latents, few[1]).argmax(1) for latents in shifted]
            measured = {
                "score": score(change, target),
                "at_random": sum(abs(score(other, target)) for other in changes) / RANDOM,
                "change": float(change[:, target].mean()),
                "change_at_random": float(torch.stack([c[:, target].mean().abs() for c in changes]).mean()),
                "seen": [float((predicted == target).double().mean()) for predicted in predictions],
            }
            for name, value in measured.items():
                results.setdefault(name, []).append(value)
            results["directions"].append(direction.tolist())
            path = torch.linspace(-self.strength, self.strength, self.steps)[:, None] * direction
            rows.append(model.generate(z[0] + path, torch.full((self.steps,), classes[0])))
        names = [f"{name}: x {ratio:.1f}" for name, ratio in zip(results["targets"], results["score"], strict=True)]
        return Exploration(rows, names, results=results)

    def logits(self, model: SamplingMixin, z: Tensor, y: Tensor) -> Tensor:
        """Return logits (N, classes) of samples, centred over the classes."""
        return centred(self.feature(to_uint8(model.generate(z, y)))[1])

    def change(self, model: SamplingMixin, z: Tensor, y: Tensor, direction: Tensor) -> Tensor:
        """Return the change of the centred logits (N, classes) along a unit direction."""
        return self.logits(model, z + direction / 2, y) - self.logits(model, z - direction / 2, y)

    def gradient(self, model: SamplingMixin, z: Tensor, y: Tensor, target: int) -> Tensor:
        """Return the normalized mean gradient of a class's centred logit with respect to the latent."""
        total = torch.zeros(model.latent_dim)
        with eval_mode(model.sampler()) as generator, torch.enable_grad():
            weight = next(generator.parameters())
            for latents, labels in zip(z.split(SAMPLING_BATCH), y.split(SAMPLING_BATCH), strict=True):
                latents = latents.to(weight).requires_grad_()
                logits = self.feature.logits_of(generator(latents, labels.to(weight.device)).float())
                (gradient,) = torch.autograd.grad(centred(logits)[:, target].sum(), latents)
                total += gradient.sum(0).float().cpu()
        return nn.functional.normalize(total, dim=0)


def centred(logits: Tensor) -> Tensor:
    """Subtract the mean over the classes from logits (N, classes)."""
    return logits - logits.mean(1, keepdim=True)


def score(change: Tensor, target: int) -> float:
    """Return the mean change of a class's logit over the root mean square change of the others."""
    others = torch.cat([change[:, :target], change[:, target + 1 :]], dim=1)
    return float(change[:, target].mean() / others.square().mean().sqrt().clamp(min=1e-12))


def boundary(z: Tensor, logits: Tensor) -> Tensor:
    """Return the normal (latent_dim,) of the hyperplane between the latents of the largest and smallest logits (N,)."""
    order = logits.argsort()
    num = len(order) // QUANTILES
    chosen = torch.cat([order[:num], order[-num:]])
    sides = torch.arange(2 * num) >= num
    plane = LinearSVC(dual="auto", random_state=0, max_iter=10_000).fit(z[chosen].double().numpy(), sides.numpy())
    return nn.functional.normalize(torch.from_numpy(plane.coef_[0]).float(), dim=0)
