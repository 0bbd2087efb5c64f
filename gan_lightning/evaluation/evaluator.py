"""The evaluator: samples from fixed noise, their features, and all metrics with a protocol card."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from annotated_types import Ge, Interval
from torch import Tensor

from gan_lightning import seed as seeds
from gan_lightning.config.combinations import reference_error
from gan_lightning.config.constraints import REFERENCES, Reference, Validated
from gan_lightning.data.datamodule import ImageData
from gan_lightning.data.image_folder import ImageFolder
from gan_lightning.errors import UnavailableError, UserError
from gan_lightning.evaluation.score import Score
from gan_lightning.feature import FeatureNetwork
from gan_lightning.io.cache import TensorCache, fingerprint
from gan_lightning.io.image import to_uint8
from gan_lightning.io.memory import check_fits_in_memory
from gan_lightning.io.paths import relative_path
from gan_lightning.io.progress import progress_bar
from gan_lightning.io.versions import installed
from gan_lightning.metric import FeatureSet, Metric
from gan_lightning.model.base import GenerativeModel
from gan_lightning.model.ema import CALIBRATION_BATCH_SIZE, CALIBRATION_BATCHES

NOISE_CHUNK = 250  # samples that are generated at a time; the noise of a chunk depends on its index alone
CACHE_CHUNK = 5000  # real samples whose features are cached in one file
FEATURES_VERSION = 1  # of cached features; incremented when their computation changes
PREPARED_VERSION = 2  # of what metrics prepare; 2: radii and nearest distances equal those of brute force
VERSIONS = "gan-lightning", "torch", "torchvision", "torch-fidelity", "torchmetrics", "numpy", "scipy"

NumSamples = Annotated[int, Interval(ge=2, le=2_147_483_647)]
MAX_LISTED_CLASSES = 20  # in a histogram

OTHER_CLASSES = "the feature network's classes are not those of the data (feature=classifier)"


class Evaluator(Validated):
    """Evaluate generators on one data set by one protocol.

    Args:
        feature: The feature network.
        metrics: Metrics by name.
        num_generated: Number of generated samples, or maximum number of images of a folder.
        num_real: Maximum number of real samples; None for all.
        reference: The real samples: ``train``; ``test`` for samples that are not used in training; ``all`` for the
            whole data set although ``data.limit`` or ``data.held_out`` leaves a part out; or a directory or archive of
            images.
        label_distribution: Distribution of the labels for a conditional model: ``real``, that of the real samples, or
            ``uniform``.
        seed: Seed of the noise, and of the choice of real samples.
        cache: Directory for features and other results that are computed once.
    """

    def __init__(
        self,
        feature: FeatureNetwork,
        metrics: Mapping[str, Metric],
        num_generated: NumSamples = 2000,
        num_real: NumSamples | None = None,
        reference: Reference = "train",
        label_distribution: Literal["real", "uniform"] = "real",
        seed: Annotated[int, Ge(0)] = 0,
        cache: str = "~/.cache/gan-lightning",
    ) -> None:
        self.feature, self.metrics = feature, dict(metrics)
        self.num_generated, self.num_real, self.reference = num_generated, num_real, reference
        self.label_distribution, self.seed = label_distribution, seed
        self.store = TensorCache(cache)
        self.available: dict[str, Metric] = {}  # metrics whose requirements are met

    def setup(self, data: Any, conditional: bool, device: torch.device | str = "cpu") -> dict[str, str]:
        """Set up the feature network and the metrics, with the features of the real samples from the cache if possible.

        Args:
            data: A data module after ``setup``.
            conditional: Whether the generators are conditional.
            device: Device of the feature network.

        Returns:
            The unavailable metrics with the reasons.

        Raises:
            UnavailableError: The feature network, or every metric, is unavailable.
            UserError: The reference has no samples, or not those of the data's classes for a conditional model.
        """
        self.data = data
        if self.reference == "train":
            (rows,) = self.subset(self.num_real, torch.arange(len(data.samples)))
            if len(rows) < len(data.samples):
                source = data.stored(rows), data.labels[rows]
            else:
                data.verify()
                source = data.samples, data.labels
        else:
            source = self.subset(self.num_real, *self.reference_samples(data, conditional))
        self.feature.setup(data, self.store, torch.device(device))
        self.load_real(data, *source)
        reasons = {name: self.unavailable_reason(metric, conditional) for name, metric in self.metrics.items()}
        held_out = [name for name, metric in self.metrics.items() if "held_out" in metric.needs and not reasons[name]]
        if held_out:
            try:
                self.load_held_out(data)
            except UserError as error:
                reasons |= dict.fromkeys(held_out, str(error))
        left_out = {name: reason for name, reason in reasons.items() if reason}
        self.available = {name: metric for name, metric in self.metrics.items() if name not in left_out}
        if not self.available:
            listed = "; ".join(f"{name}: {reason}" for name, reason in left_out.items())
            raise UnavailableError(f"metric: no metric is available ({listed})")
        self.prepared = {name: self.prepare(metric) for name, metric in self.available.items()}
        return left_out

    def reference_samples(self, data: Any, conditional: bool) -> tuple[Tensor, Tensor]:
        """Return the real samples of a reference other than the training set, and their labels.

        Raises:
            UserError: There are none, or labels are needed and the reference has other classes than the data.
        """
        if self.reference == "test":
            return data.held_out()
        if self.reference == "all":
            return data.whole()
        if error := reference_error(self.reference):
            raise UserError(error)
        prefix = f"eval.reference={relative_path(Path(self.reference))}"
        if not isinstance(data, ImageData):
            raise UserError(f"{prefix}: needs data of images; use train, test or all")
        fit: Any = getattr(data, "fit", "crop")
        other = ImageFolder(self.reference, data.image_size, data.channels, fit, cache=self.store.folder, held_out=0)
        other.setup()
        other.verify()
        if other.class_names != data.class_names:
            if conditional and self.label_distribution == "real":
                raise UserError(f"{prefix}: has other classes than the data; eval.label_distribution=uniform")
            return other.samples, torch.zeros_like(other.labels)
        return other.samples, other.labels

    def load_real(self, data: Any, samples: Tensor, labels: Tensor) -> None:
        """Extract the features of the real samples, and fill in their part of the protocol card."""
        self.real = self.extract_features(samples, labels)
        identity = self.real_sha256 = fingerprint(self.real.samples, self.real.labels)
        if hasattr(data, "centres"):  # identified by their distribution, since the points depend on the seed
            self.real.centres, self.real.std = data.centres(), data.std
            identity = fingerprint(self.real.centres, self.real.std)
        self.data_card: dict[str, Any] = {"data": type(data).__name__, "data_sha256": identity[:16]}
        split = self.reference if self.reference in REFERENCES else Path(self.reference).name
        self.data_card |= {"split": split, "num_real": len(self.real)}

    def load_held_out(self, data: Any) -> None:
        """Extract the features of the whole training set and of held-out samples, and fill in their card.

        Raises:
            UserError: The data have no held-out samples.
        """
        held_out = data.held_out()
        data.verify()
        self.training = self.extract_features(data.samples, data.labels)
        self.training.held_out = self.extract_features(*held_out)
        self.held_out_sha256 = fingerprint(self.training.samples, self.training.held_out.samples)
        self.held_out_card = self.data_card | {"data_sha256": self.held_out_sha256[:16], "split": "train, and held out"}
        self.held_out_card |= {"num_real": len(self.training), "num_held_out": len(self.training.held_out)}

    def unavailable_reason(self, metric: Metric, conditional: bool) -> str:
        """Return why a metric is unavailable; empty if it is available."""
        no_logits = "" if self.feature.classes else self.feature.no_logits_reason
        reasons = {
            "logits": no_logits,
            "classes": "" if self.feature.predicts_data_classes else no_logits or OTHER_CLASSES,
            "condition": "" if conditional else "the model is not conditional",
            "centres": "" if self.real.centres is not None else "the data are no Gaussian mixture in the plane",
        }
        few = min(self.num_generated, len(self.real))
        if few < metric.min_samples:
            return f"{metric.min_samples} samples are needed on each side, and there are {few}"
        return next((reason for need, reason in reasons.items() if reason and need in metric.needs), "")

    def subset(self, num: int | None, *tensors: Tensor) -> tuple[Tensor, ...]:
        """Return a random subset of at most ``num`` rows, the same rows of all tensors, in their order."""
        if num is None or num >= len(tensors[0]):
            return tensors
        generator = torch.Generator().manual_seed(seeds.mix(self.seed, seeds.EVALUATION))
        rows = torch.randperm(len(tensors[0]), generator=generator)[:num].sort().values
        return tuple(tensor[rows] for tensor in tensors)

    def extract_features(self, samples: Tensor, labels: Tensor) -> FeatureSet:
        """Return samples with their features and logits, which are cached."""

        def compute(part: Tensor) -> dict[str, Tensor]:
            features, logits = self.run_network(part.split(NOISE_CHUNK), "features", len(part))
            return {"features": features} | ({} if logits is None else {"logits": logits})

        # Cached in chunks, so that an interrupted extraction, which may take hours, continues where it ended.
        card = self.feature.card() | self.logits_card()
        chunks = [
            compute(part)
            if self.feature.cheap
            else self.store.get(f"features-{fingerprint(part, card, FEATURES_VERSION)[:16]}", partial(compute, part))
            for part in samples.split(CACHE_CHUNK)
        ]
        logits = torch.cat([chunk["logits"] for chunk in chunks]) if "logits" in chunks[0] else None
        return FeatureSet(samples, torch.cat([chunk["features"] for chunk in chunks]), labels, logits)

    def logits_card(self) -> dict[str, str]:
        """Return what logits depend on besides features; empty if the network's own card covers it."""
        return {"logits_sha256": self.feature.logits_sha256} if self.feature.logits_sha256 else {}

    def run_network(self, parts: Iterable[Tensor], what: str, num: int) -> tuple[Tensor, Tensor | None]:
        """Return features and logits of samples as stored, on the CPU; a progress bar is shown if it takes long."""
        features: list[Tensor] = []
        logits: list[Any] = []
        with progress_bar(what=what, total=num, unit="") as progress:
            for batch in (batch for part in parts for batch in part.split(self.feature.batch)):
                with full_precision():
                    batch_features, batch_logits = self.feature(batch)
                if len(batch_features) != len(batch):
                    raise UserError(f"feature: returns {len(batch_features)} features for {len(batch)} samples")
                features.append(batch_features.cpu())
                logits.append(None if batch_logits is None else batch_logits.cpu())
                progress.update(len(batch))
        return torch.cat(features), None if logits[0] is None else torch.cat(logits)

    def prepare(self, metric: Metric) -> dict[str, Tensor]:
        """Return what a metric computes of the real samples alone, from the cache if possible."""
        if type(metric).prepare is Metric.prepare:
            return {}
        against_held_out = "held_out" in metric.needs
        real, identity = (self.training, self.held_out_sha256) if against_held_out else (self.real, self.real_sha256)
        key = fingerprint(identity, self.feature.card(), metric.settings(), PREPARED_VERSION)
        return self.store.get(f"{type(metric).__name__.lower()}-{key[:16]}", lambda: metric.prepare(real))

    def draw(
        self, model: GenerativeModel, rank: int = 0, ranks: int = 1, gather: Any = None, seed: int | None = None
    ) -> FeatureSet:
        """Generate samples of a model from fixed noise, and extract their features.

        The ranks of a distributed run share the work, and each returns all samples.

        Args:
            model: The model.
            rank: Rank of this process.
            ranks: Number of processes.
            gather: Stacks the tensors of all ranks along a new first dimension.
            seed: Seed of the noise; None for that of the protocol.

        Raises:
            UserError: The samples are not finite.
        """
        size = self.num_generated * (self.real.samples[0].nbytes + self.real.features[0].nbytes)
        check_fits_in_memory(f"eval.num_generated={self.num_generated}: the samples and their features", size, "fewer")
        labels = self.sample_labels(model.num_classes)
        seed = self.seed if seed is None else seed
        chunks = -(-self.num_generated // NOISE_CHUNK)
        mine = -(-chunks // ranks)

        def draw() -> Iterator[Tensor]:
            for chunk in range(rank * mine, (rank + 1) * mine):
                rows = (chunk * NOISE_CHUNK + torch.arange(NOISE_CHUNK)) % self.num_generated
                generated = model.sample(NOISE_CHUNK, labels[rows], seeds.mix(seed, seeds.EVALUATION, chunk))
                if not generated.isfinite().all():
                    raise UserError("the generator's samples are not finite: its training has diverged")
                samples.append((to_uint8(generated) if generated.ndim == 4 else generated.float()).cpu())
                yield samples[-1]

        samples: list[Tensor] = []
        features, logits = self.run_network(draw(), "evaluation", mine * NOISE_CHUNK)
        tensors: list[Any] = [torch.cat(samples), features, logits]
        if ranks > 1:
            tensors = [None if x is None else gather(x.to(model.device)).flatten(0, 1).cpu() for x in tensors]
        tensors = [None if x is None else x[: self.num_generated] for x in tensors]
        return FeatureSet(tensors[0], tensors[1], labels, tensors[2])

    def sample_labels(self, num_classes: int) -> Tensor:
        """Return the labels (num,) of the samples to generate."""
        rows = torch.arange(self.num_generated)
        if self.label_distribution == "uniform" or not num_classes:
            return rows % max(num_classes, 1)
        # Sorted, since a stride over alternating classes would select the same classes again and again.
        return self.real.labels.sort().values[rows * len(self.real) // self.num_generated]

    def generation_card(self, model: GenerativeModel) -> dict[str, Any]:
        """Return the part of the protocol card that describes how a model's samples are generated.

        The BatchNorm and label settings are on the cards of all generators, even of those without either.
        """
        average = model.generator_ema
        ema = average is not None
        known = average is not None and (model.num_classes < 2 or bool(average.class_counts.any()))
        label_distribution = "labels as in training" if known else "uniform labels"
        recalibrated = f"recalibrated, {CALIBRATION_BATCHES} x {CALIBRATION_BATCH_SIZE}, {label_distribution}"
        return {
            "num_generated": self.num_generated,
            "weights": "average" if ema else "raw",
            "batchnorm": recalibrated if ema else "running statistics",
            # As in published cards, whose hashes depend on key and value.
            "labels": "data" if self.label_distribution == "real" else self.label_distribution,
            "truncation": "none",
            "generator_dtype": str(next(model.generator.parameters()).dtype).removeprefix("torch."),
            "sampling_seed": self.seed,
            "training_seed": model.seed,
        }

    def score(self, fake: FeatureSet, generation: dict[str, Any]) -> list[Score]:
        """Return all scores of samples.

        Args:
            fake: Samples with their features.
            generation: How they were generated, for the protocol card.

        Raises:
            UserError: The samples are too few for a metric.
        """
        scores = []
        if unmet := [name for name, metric in self.available.items() if metric.min_samples > len(fake)]:
            raise UserError(f"{len(fake)} samples are too few for {', '.join(unmet)}; set metric=[...] to others")
        common = {**self.feature.card(), "feature_dtype": "float32", **generation}
        if fake.samples.ndim == 4 and "weights" in generation:
            common["quantising"] = "rounded to 256 levels, clipped"
        common["versions"] = {package: installed(package) for package in VERSIONS}
        for name, metric in progress_bar(self.available.items(), "metrics"):
            against_held_out = "held_out" in metric.needs
            real, data_card = (self.training, self.held_out_card) if against_held_out else (self.real, self.data_card)
            kind = self.named(metric, type(metric).__name__)
            card = {"metric": kind, "settings": metric.settings(), **data_card, **common}
            if metric.needs & {"logits", "classes"}:
                card |= self.logits_card()
            prefix = ", ".join(self.named(metric, score) for score in (*metric.higher, *metric.lower))
            notes = [f"{prefix}: {warning}" for warning in metric.warnings(real, fake)]
            values = metric(real, self.prepared[name], fake)
            details = {key: value for key, value in values.items() if isinstance(value, list)}
            for key, value in values.items():
                if key not in details:
                    scores.append(Score(self.named(metric, key), float(value), card, details, notes))
        return scores

    def value(self, fake: FeatureSet, score: str) -> float:
        """Return a single score of samples."""
        name, metric = next((n, one) for n, one in self.available.items() if score in self.directions_of([one]))
        real = self.training if "held_out" in metric.needs else self.real
        values: Mapping[str, Any] = metric(real, self.prepared[name], fake)
        return next(float(value) for key, value in values.items() if self.named(metric, key) == score)

    def neighbours(self, fake: FeatureSet) -> Tensor | None:
        """Return a figure of samples beside their nearest training images; None if no metric looks for copies."""
        metrics = self.available.values() if fake.samples.ndim == 4 else []
        figures = (metric.figure(self.training, fake) for metric in metrics if "held_out" in metric.needs)
        return next(figures, None)

    def histogram(self, scores: Iterable[Score]) -> list[str]:
        """Return a text histogram of the classes of the generated samples, a line per class; empty without classes."""
        details = {key: values for score in scores for key, values in score.details.items()}
        if "class_share_each" not in details:
            return []
        shares, names = details["class_share_each"], self.data.class_names
        real = (self.real.labels.bincount(minlength=len(shares)).double() / len(self.real)).tolist()
        if len(shares) > MAX_LISTED_CLASSES:
            found = sum(share > 0 for share in shares)
            return [f"{found:,} of {sum(share > 0 for share in real):,} classes found"]
        width, largest, accuracy = max(map(len, names)), max(shares), details.get("class_accuracy_each")
        return [
            f"{name:<{width}}  {'#' * round(30 * share / largest):<30}  {share:6.1%} of the samples, "
            f"{part:.1%} of the real" + ("" if accuracy is None else f"; accuracy {accuracy[i]:.1%}")
            for i, (name, share, part) in enumerate(zip(names, shares, real, strict=True))
        ]

    @property
    def directions(self) -> dict[str, int]:
        """Return the direction of each available score: -1 if lower is better, 1 if higher is better."""
        return self.directions_of(self.available.values())

    def directions_of(self, metrics: Iterable[Metric]) -> dict[str, int]:
        """Return the direction of each score of metrics, by the name that it has through this feature network."""
        return {
            self.named(metric, name): sign
            for metric in metrics
            for names, sign in ((metric.lower, -1), (metric.higher, 1))
            for name in names
        }

    def named(self, metric: Metric, name: str) -> str:
        """Return the name that a score of a metric, or the metric itself, has through this feature network."""
        return name if self.feature.inception else metric.names_without_inception.get(name, name)

    def name_hint(self, score: str) -> str:
        """Return what a score's name requires, as it ends an error message, if it is that of another network."""
        names = [metric.names_without_inception for metric in self.metrics.values()]
        if not self.feature.inception and any(score in by_name for by_name in names):
            return f"; {score} is measured with feature=inception feature.resize=tf1"
        if self.feature.inception and any(score in by_name.values() for by_name in names):
            return f"; {score} is measured with other networks than Inception"
        return ""


@contextmanager
def full_precision() -> Iterator[None]:
    """Disable TF32, the default of convolutions on GPUs, so that features are the same on every device."""
    with ExitStack() as restore:
        for backend in (torch.backends.cudnn.conv, torch.backends.cuda.matmul):  # type: ignore[attr-defined]
            restore.callback(setattr, backend, "fp32_precision", backend.fp32_precision)
            backend.fp32_precision = "ieee"
        yield
