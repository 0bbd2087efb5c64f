"""Directions along which samples come to be of a class."""

from typing import Literal

import torch
from sklearn.svm import LinearSVC
from torch import Tensor, nn

from gan_lightning.class_names import storable
from gan_lightning.config.constraints import Seed
from gan_lightning.data.base import StepData
from gan_lightning.feature.classifier import Classifier
from gan_lightning.image import to_uint8
from gan_lightning.latent import (
    Classes,
    Distance,
    Found,
    NumSamples,
    OfData,
    Steps,
    class_numbers,
    in_turn,
    refuse_points,
    shown_classes,
)
from gan_lightning.latent.directions import MEASURED, RANDOM, random_directions
from gan_lightning.modes import evaluating
from gan_lightning.sampler import SAMPLING_BATCH, Sampler
from gan_lightning.store import Store

SHOWN = 4  # targets, where none was chosen
SIDE = 4  # of so many samples one is taken for most, and one for least, of a class


class Attribute(OfData):
    """One latent, moved along directions of length one towards classes of the data, as a classifier sees them.

    A class's logit less the mean of all counts, so that a direction which moves all alike moves none.

    Args:
        feature: The classifier.
        method: "boundary", the normal of a linear support vector machine between the latents of the samples that are
            most and least of the class (Shen et al., 2020, section 3.2, https://arxiv.org/abs/1907.10786);
            "classifier", the mean gradient of the class's logit with respect to the latent; "random".
        targets: Classes of the data by name or number, one row each; None for the first four.
        reach: How far to either side.
        steps: Samples in a row.
        samples: That a direction is found of.
        seed: Of all latents.
        classes: Of a conditional model, the first is shown and all are sampled; None for the first ten.
    """

    def __init__(
        self,
        feature: Classifier,
        method: Literal["boundary", "classifier", "random"] = "boundary",
        targets: Classes | None = None,
        reach: Distance = 6.0,
        steps: Steps = 9,
        samples: NumSamples = 2000,
        seed: Seed = 0,
        classes: Classes | None = None,
    ) -> None:
        self.feature, self.method, self.targets, self.reach, self.steps = feature, method, targets, reach, steps
        self.samples, self.seed, self.classes = samples, seed, classes

    def see(self, data: StepData, store: Store) -> None:
        """Train the classifier, or find it in the cache.

        Raises:
            UserError: The data are points, or have no classes.
        """
        refuse_points("attribute", data.shape)
        self.feature.get_ready(data, store, torch.device("cpu"))
        self.names = storable(data.class_names)

    def __call__(self, model: Sampler) -> Found:
        """A row a target; ``score`` has how many times as much a direction changes it as it changes the other classes.

        Beside it ``at_random`` has the same of random directions, and ``seen`` the share of samples that the classifier
        takes for the target after a move by ``reach`` against the direction, without one, and along it.
        """
        targets = [*range(min(len(self.names), SHOWN))] if self.targets is None else self.targets
        targets = class_numbers("targets", targets, self.names, len(self.names))
        classes = shown_classes(model, self.classes)
        z, _ = model.draw_latents(self.samples, seed=self.seed)
        y, random = in_turn(classes, self.samples), random_directions(model, self.seed)
        logits = self.logits(model, z, y)
        few = z[:MEASURED], y[:MEASURED]
        rows, figures = [], {"targets": [self.names[target] for target in targets], "directions": []}
        changes = [self.change(model, *few, one) for one in random]
        for number, target in enumerate(targets):
            if self.method == "boundary":
                direction = boundary(z, logits[:, target])
            elif self.method == "classifier":
                direction = self.gradient(model, z, y, target)
            else:
                direction = random[number % RANDOM]
            change = self.change(model, *few, direction)
            seen = [self.logits(model, few[0] + way * direction, few[1]) for way in (-self.reach, 0, self.reach)]
            found = {
                "score": score(change, target),
                "at_random": sum(abs(score(other, target)) for other in changes) / RANDOM,
                "change": float(change[:, target].mean()),
                "change_at_random": float(torch.stack([c[:, target].mean().abs() for c in changes]).mean()),
                "seen": [float((at.argmax(1) == target).double().mean()) for at in seen],
            }
            for name, figure in found.items():
                figures.setdefault(name, []).append(figure)
            figures["directions"].append(direction.tolist())
            way = torch.linspace(-self.reach, self.reach, self.steps)[:, None] * direction
            rows.append(model.generate(z[0] + way, torch.full((self.steps,), classes[0])))
        names = [f"{name}: x {of:.1f}" for name, of in zip(figures["targets"], figures["score"], strict=True)]
        return Found(rows, names, figures=figures)

    def logits(self, model: Sampler, z: Tensor, y: Tensor) -> Tensor:
        """Logits (N, classes) of samples, less their mean over the classes."""
        return centred(self.feature(to_uint8(model.generate(z, y)))[1])

    def change(self, model: Sampler, z: Tensor, y: Tensor, direction: Tensor) -> Tensor:
        """How the logits (N, classes) change when a latent moves by a direction of length one."""
        return self.logits(model, z + direction / 2, y) - self.logits(model, z - direction / 2, y)

    def gradient(self, model: Sampler, z: Tensor, y: Tensor, target: int) -> Tensor:
        """The mean gradient of a class's logit with respect to the latent, of length one."""
        total = torch.zeros(model.latent_dim)
        with evaluating(model.sampler()) as generator, torch.enable_grad():
            weight = next(generator.parameters())
            for latents, labels in zip(z.split(SAMPLING_BATCH), y.split(SAMPLING_BATCH), strict=True):
                latents = latents.to(weight).requires_grad_()
                logits = self.feature.logits_of(generator(latents, labels.to(weight.device)).float())
                (slope,) = torch.autograd.grad(centred(logits)[:, target].sum(), latents)
                total += slope.sum(0).float().cpu()
        return nn.functional.normalize(total, dim=0)


def centred(logits: Tensor) -> Tensor:
    """Logits (N, classes) less their mean."""
    return logits - logits.mean(1, keepdim=True)


def score(change: Tensor, target: int) -> float:
    """How many times as much a class's logit changes, on average, as the others' (root mean square)."""
    others = torch.cat([change[:, :target], change[:, target + 1 :]], dim=1)
    return float(change[:, target].mean() / others.square().mean().sqrt().clamp(min=1e-12))


def boundary(z: Tensor, logits: Tensor) -> Tensor:
    """The normal (latent_dim,) of the plane between the latents of the largest and of the smallest logits (N,)."""
    order = logits.argsort()
    num = len(order) // SIDE
    chosen = torch.cat([order[:num], order[-num:]])
    sides = torch.arange(2 * num) >= num
    plane = LinearSVC(dual="auto", random_state=0, max_iter=10_000).fit(z[chosen].double().numpy(), sides.numpy())
    return nn.functional.normalize(torch.from_numpy(plane.coef_[0]).float(), dim=0)
