"""How good samples are: drawn from fixed noise, seen once by a feature network, judged by every metric."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Annotated, Any, Literal

import torch
from annotated_types import Ge, Interval
from torch import Tensor

from gan_lightning import seed as seeds
from gan_lightning.average import CALIBRATION_BATCH_SIZE, CALIBRATION_BATCHES
from gan_lightning.bar import bar
from gan_lightning.card import Score, installed
from gan_lightning.config.constraints import Validated
from gan_lightning.errors import UnavailableError, UserError
from gan_lightning.feature import FeatureNetwork
from gan_lightning.image import to_uint8
from gan_lightning.learner import Learner
from gan_lightning.memory import refuse_too_large
from gan_lightning.metric import Metric, Seen
from gan_lightning.store import Store, fingerprint

CHUNK = 250  # samples that are drawn and seen at a time; a chunk's noise depends on its number alone
PART = 5000  # real samples whose features are kept in one file
VERSION = 1  # of cached features; another number where they come to be computed otherwise
STATISTICS = 2  # likewise of what metrics prepare; 2: radii and nearest distances are those of brute force
VERSIONS = "gan-lightning", "torch", "torchvision", "torch-fidelity", "torchmetrics", "numpy", "scipy"

NumSamples = Annotated[int, Interval(ge=2, le=2_147_483_647)]
MANY_CLASSES = 20  # more are not listed

OTHERS = "the feature network's classes are not those of the data (feature=classifier)"


class Evaluation(Validated):
    """Judges generators on one data set by one protocol.

    Args:
        feature: The feature network.
        metrics: Metrics by name.
        num: How many samples are generated; of a folder of pictures so many are seen.
        num_real: At most so many real ones; None for all.
        split: ``train``, or ``test`` for those that training never sees.
        labels: Distribution of the classes that a conditional model is asked for: ``data``, as the real samples have
            them, or ``uniform``.
        seed: Decides the noise, and which real samples are chosen.
        cache: Folder for what is computed once.
    """

    def __init__(
        self,
        feature: FeatureNetwork,
        metrics: Mapping[str, Metric],
        num: NumSamples = 2000,
        num_real: NumSamples | None = None,
        split: Literal["train", "test"] = "train",
        labels: Literal["data", "uniform"] = "data",
        seed: Annotated[int, Ge(0)] = 0,
        cache: str = "~/.cache/gan-lightning",
    ) -> None:
        self.feature, self.metrics = feature, dict(metrics)
        self.num, self.num_real, self.split, self.labels, self.seed = num, num_real, split, labels, seed
        self.store = Store(cache)
        self.ready: dict[str, Metric] = {}  # the metrics that can be had

    def get_ready(self, data: Any, conditional: bool, device: torch.device | str = "cpu") -> dict[str, str]:
        """See the real samples, or find in the cache what was seen of them.

        Args:
            data: A data module of ours that is set up.
            conditional: Whether the generators are asked for classes.
            device: Where the feature network looks.

        Returns:
            The metrics that cannot be had, and why.

        Raises:
            UnavailableError: The feature network is not to be had, or no metric is.
            UserError: The split has no samples.
        """
        self.data = data
        if self.split == "train":
            (rows,) = self.chosen(self.num_real, torch.arange(len(data.samples)))
            if len(rows) < len(data.samples):
                source = data.stored(rows), data.labels[rows]
            else:
                data.verify()
                source = data.samples, data.labels
        else:
            source = self.chosen(self.num_real, *data.held_out())
        self.feature.get_ready(data, self.store, torch.device(device))
        self.see_real(data, *source)
        left_out = {name: why for name, metric in self.metrics.items() if (why := self.lack(metric, conditional))}
        self.ready = {name: metric for name, metric in self.metrics.items() if name not in left_out}
        if any("held_out" in metric.needs for metric in self.ready.values()):
            try:
                self.see_held_out(data)
            except UserError as error:
                left_out |= {name: str(error) for name, metric in self.ready.items() if "held_out" in metric.needs}
                self.ready = {name: metric for name, metric in self.ready.items() if name not in left_out}
        if not self.ready:
            reasons = "; ".join(f"{name}: {reason}" for name, reason in left_out.items())
            raise UnavailableError(f"metric: none of them can be had ({reasons})")
        self.prepared = {name: self.prepare(metric) for name, metric in self.ready.items()}
        return left_out

    def see_real(self, data: Any, samples: Tensor, labels: Tensor) -> None:
        """The real samples of the protocol, and what their card says."""
        self.real = self.see(samples, labels)
        identity = self.real_sha256 = fingerprint(self.real.samples, self.real.labels)
        if hasattr(data, "centres"):  # compared with their distribution, and not with a seed's draw of points
            self.real.centres, self.real.deviation = data.centres(), data.deviation
            identity = fingerprint(self.real.centres, self.real.deviation)
        self.data_card = {"data": type(data).__name__, "data_sha256": identity[:16], "split": self.split}
        self.data_card |= {"num_real": len(self.real)}

    def see_held_out(self, data: Any) -> None:
        """The whole training set, those that it does not hold, and what their card says.

        Raises:
            UserError: None are held out.
        """
        held_out = data.held_out()
        data.verify()
        self.training = self.see(data.samples, data.labels)
        self.training.held_out = self.see(*held_out)
        self.held_out_sha256 = fingerprint(self.training.samples, self.training.held_out.samples)
        self.held_out_card = self.data_card | {"data_sha256": self.held_out_sha256[:16], "split": "train, and held out"}
        self.held_out_card |= {"num_real": len(self.training), "num_held_out": len(self.training.held_out)}

    def lack(self, metric: Metric, conditional: bool) -> str:
        """Why a metric cannot be had; empty where it can."""
        lacking = {
            "logits": "" if self.feature.classes else self.feature.no_classes,
            "classes": "" if self.feature.data_classes else OTHERS if self.feature.classes else self.feature.no_classes,
            "condition": "" if conditional else "no classes were asked for",
            "centres": "" if self.real.centres is not None else "the data are no mixture in the plane",
        }
        few = min(self.num, len(self.real))
        if few < metric.least:
            return f"{metric.least} samples are needed on each side, and there are {few}"
        return next((why for need, why in lacking.items() if why and need in metric.needs), "")

    def chosen(self, num: int | None, *parts: Tensor) -> tuple[Tensor, ...]:
        """So many rows of tensors, from anywhere in them, or all where there are no more."""
        if num is None or num >= len(parts[0]):
            return parts
        generator = torch.Generator().manual_seed(seeds.mix(self.seed, seeds.EVALUATION))
        rows = torch.randperm(len(parts[0]), generator=generator)[:num].sort().values
        return tuple(part[rows] for part in parts)

    def see(self, samples: Tensor, labels: Tensor) -> Seen:
        """Real samples with what the feature network sees in them, computed once."""

        def compute(part: Tensor) -> dict[str, Tensor]:
            features, logits = self.features(part.split(CHUNK), "features", len(part))
            return {"features": features} | ({} if logits is None else {"logits": logits})

        # In parts, so that hours of a large network's work survive whatever ends them.
        card = self.feature.card() | self.card_of_logits()
        found = [
            compute(part)
            if self.feature.instant
            else self.store.get(f"features-{fingerprint(part, card, VERSION)[:16]}", partial(compute, part))
            for part in samples.split(PART)
        ]
        logits = torch.cat([part["logits"] for part in found]) if "logits" in found[0] else None
        return Seen(samples, torch.cat([part["features"] for part in found]), labels, logits)

    def card_of_logits(self) -> dict[str, str]:
        """What logits depend on besides features; nothing where the network's own card says it all."""
        return {"logits_sha256": self.feature.logits_sha256} if self.feature.logits_sha256 else {}

    def features(self, parts: Iterable[Tensor], what: str, num: int) -> tuple[Tensor, Tensor | None]:
        """Features and logits of stored samples, on the CPU; the progress is shown if it takes long."""
        features, logits = [], []
        with bar(what=what, total=num, unit="") as progress:
            for batch in (batch for part in parts for batch in part.split(self.feature.batch)):
                with full_precision():
                    seen, named = self.feature(batch)
                if len(seen) != len(batch):
                    raise UserError(f"feature: gives {len(seen)} features of {len(batch)} samples")
                features.append(seen.cpu())
                logits.append(None if named is None else named.cpu())
                progress.update(len(batch))
        return torch.cat(features), None if logits[0] is None else torch.cat(logits)

    def prepare(self, metric: Metric) -> dict[str, Tensor]:
        """What a metric computes of the real samples alone, from the cache."""
        if type(metric).prepare is Metric.prepare:
            return {}
        whole = "held_out" in metric.needs
        real, identity = (self.training, self.held_out_sha256) if whole else (self.real, self.real_sha256)
        key = fingerprint(identity, self.feature.card(), metric.settings(), STATISTICS)
        return self.store.get(f"{type(metric).__name__.lower()}-{key[:16]}", lambda: metric.prepare(real))

    def draw(
        self, model: Learner, rank: int = 0, ranks: int = 1, gather: Callable[[Tensor], Tensor] | None = None
    ) -> Seen:
        """Samples of a model, from noise that is the same every time, as the feature network sees them.

        The ranks of a distributed run share the work, and all have the samples in the end.

        Args:
            model: The model.
            rank: This process.
            ranks: How many there are.
            gather: Joins the tensors of all ranks along a new first dimension.

        Raises:
            UserError: The samples are not finite.
        """
        size = self.num * (self.real.samples[0].nbytes + self.real.features[0].nbytes)
        refuse_too_large(f"eval.num={self.num}: so many samples and their features", size, "fewer")
        labels = self.asked(model.num_classes)
        chunks = -(-self.num // CHUNK)
        mine = -(-chunks // ranks)

        def draw() -> Iterator[Tensor]:
            for chunk in range(rank * mine, (rank + 1) * mine):
                rows = (chunk * CHUNK + torch.arange(CHUNK)) % self.num
                made = model.sample(CHUNK, labels[rows], seeds.mix(self.seed, seeds.EVALUATION, chunk))
                if not made.isfinite().all():
                    raise UserError("the generator's samples are not finite: its training has diverged")
                samples.append((to_uint8(made) if made.ndim == 4 else made.float()).cpu())
                yield samples[-1]

        samples: list[Tensor] = []
        features, logits = self.features(draw(), "evaluation", mine * CHUNK)
        found = [torch.cat(samples), features, logits]
        if ranks > 1:
            found = [None if part is None else gather(part.to(model.device)).flatten(0, 1).cpu() for part in found]
        samples, features, logits = (None if part is None else part[: self.num] for part in found)
        return Seen(samples, features, labels, logits)

    def asked(self, num_classes: int) -> Tensor:
        """The classes (num,) to ask for."""
        rows = torch.arange(self.num)
        if self.labels == "uniform" or not num_classes:
            return rows % max(num_classes, 1)
        # In order, since a stride over classes that lie in turn would hit the same ones again and again.
        return self.real.labels.sort().values[rows * len(self.real) // self.num]

    def made_by(self, model: Learner) -> dict[str, Any]:
        """What a card says of how a model's samples were drawn.

        The rules for BatchNorm and for labels are those of all generators, one without either among them.
        """
        averaged = model.generator_ema is not None
        known = averaged and (model.num_classes < 2 or bool(model.generator_ema.class_counts.any()))
        label_distribution = "labels as in training" if known else "uniform labels"
        recalibrated = f"recalibrated, {CALIBRATION_BATCHES} x {CALIBRATION_BATCH_SIZE}, {label_distribution}"
        return {
            "num_generated": self.num,
            "weights": "average" if averaged else "raw",
            "batchnorm": recalibrated if averaged else "running statistics",
            "labels": self.labels,
            "truncation": "none",
            "generator_dtype": str(next(model.generator.parameters()).dtype).removeprefix("torch."),
            "sampling_seed": self.seed,
            "training_seed": model.seed,
        }

    def judge(self, fake: Seen, made: dict[str, Any]) -> list[Score]:
        """All scores of samples that were seen.

        Raises:
            UserError: They are too few for a metric.
        """
        scores = []
        if needy := [name for name, metric in self.ready.items() if metric.least > len(fake)]:
            raise UserError(f"{len(fake)} samples are too few for {', '.join(needy)}; leave them out with metric=...")
        common = {**self.feature.card(), "feature_dtype": "float32", **made}
        if fake.samples.ndim == 4 and "weights" in made:
            common["quantising"] = "rounded to 256 levels, clipped"
        common["versions"] = {package: installed(package) for package in VERSIONS}
        for name, metric in bar(self.ready.items(), "metrics"):
            against_held_out = "held_out" in metric.needs
            real, of_data = (self.training, self.held_out_card) if against_held_out else (self.real, self.data_card)
            card = {"metric": type(metric).__name__, "settings": metric.settings(), **of_data, **common}
            if metric.needs & {"logits", "classes"}:
                card |= self.card_of_logits()
            notes, found = metric.notes(real, fake), metric(real, self.prepared[name], fake)
            details = {key: value for key, value in found.items() if isinstance(value, list)}
            for key, value in found.items():
                if key not in details:
                    scores.append(Score(key, float(value), card, details, notes))
        return scores

    def neighbours(self, fake: Seen) -> Tensor | None:
        """A picture of samples beside their nearest training pictures; None where nobody asks for copies."""
        metrics = self.ready.values() if fake.samples.ndim == 4 else []
        drawn = (metric.picture(self.training, fake) for metric in metrics if "held_out" in metric.needs)
        return next(drawn, None)

    def histogram(self, scores: Iterable[Score]) -> list[str]:
        """The classes that a classifier finds in the samples, a line each, beside those of the real ones."""
        details = {key: values for score in scores for key, values in score.details.items()}
        if "class_share_each" not in details:
            return []
        shares, names = details["class_share_each"], self.data.class_names
        real = (self.real.labels.bincount(minlength=len(shares)).double() / len(self.real)).tolist()
        if len(shares) > MANY_CLASSES:
            found = sum(share > 0 for share in shares)
            return [f"{found:,} of {sum(share > 0 for share in real):,} classes found"]
        width, most, right = max(map(len, names)), max(shares), details.get("class_accuracy_each")
        return [
            f"{name:<{width}}  {'#' * round(30 * share / most):<30}  {share:6.1%} of the samples, "
            f"{part:.1%} of the real" + ("" if right is None else f"; {right[i]:.1%} of those asked for are recognised")
            for i, (name, share, part) in enumerate(zip(names, shares, real, strict=True))
        ]

    @property
    def directions(self) -> dict[str, int]:
        """-1 for each score that can be had of which a lower one is better, 1 where a higher one is, as measured."""
        return {
            name: sign
            for metric in self.ready.values()
            for names, sign in ((metric.lower, -1), (metric.higher, 1))
            for name in names
        }


@contextmanager
def full_precision() -> Iterator[None]:
    """Without TF32, which GPUs convolve in by default: features have to be the same on every device."""
    places = torch.backends.cudnn.conv, torch.backends.cuda.matmul
    kept = [place.fp32_precision for place in places]
    for place in places:
        place.fp32_precision = "ieee"
    try:
        yield
    finally:
        for place, precision in zip(places, kept, strict=True):
            place.fp32_precision = precision
