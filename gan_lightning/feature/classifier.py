"""A small classifier trained on the data's own labels, for data that ImageNet features do not suit; no download."""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gan_lightning.config.constraints import PositiveInt, Validated
from gan_lightning.errors import UnavailableError, UserError
from gan_lightning.feature import FeatureNetwork, Samples
from gan_lightning.io.cache import TensorCache, fingerprint
from gan_lightning.io.image import from_uint8
from gan_lightning.io.progress import progress_bar

VERSION = 2  # of the network and its training; a change invalidates the cache
TRAIN_BATCH, EVAL_BATCH = 64, 500
MIN_STEPS = 200


class Classifier(Validated, FeatureNetwork):
    """Features of the last hidden layer of a convolutional classifier, and its logits.

    The classifier is trained once per data set, from a fixed seed, on all samples except every tenth. The accuracy on
    these held-out samples is on the protocol card. The weights are cached and shared by all runs on the same data.
    Training is bit-identical with the same number of threads on the same kind of device, and may differ otherwise; the
    card has a hash of the weights. To compare across machines, copy the cached file.

    Args:
        epochs: Epochs of training; small data sets are trained for more, at least 200 steps.
        width: Channels of the first layer.
        dim: Number of features.
        per_channel: Classify each channel separately, as Stacked MNIST needs: the class is the number that the digits
            of the channels form, and the features of all channels are concatenated.
    """

    needs_images = True
    needs_four_pixels = "eval.every_n_steps=null"

    classes = predicts_data_classes = True

    def __init__(
        self, epochs: PositiveInt = 3, width: PositiveInt = 32, dim: PositiveInt = 64, per_channel: bool = False
    ) -> None:
        self.epochs, self.width, self.dim, self.per_channel = epochs, width, dim, per_channel
        self.network: nn.Sequential | None = None

    def setup(self, data: Samples, store: TensorCache, device: torch.device) -> None:
        """Load the classifier of these data from the cache, or train it.

        Raises:
            UnavailableError: The data have no labels.
            UserError: ``per_channel`` is set for data other than Stacked MNIST.
        """
        if self.network is not None:
            return
        if len(data.class_names) < 2:
            raise UnavailableError(
                "feature=classifier: the data have no classes to train a classifier on; use feature=inception"
            )
        data.verify()
        images, labels, classes = data.samples, data.labels, len(data.class_names)
        if self.per_channel and (images.shape[1], classes) != (3, 1000):
            raise UserError("feature.per_channel=true: needs data=stacked_mnist, with 1,000 classes in three channels")
        if self.per_channel:
            digits = torch.stack([labels // 100, labels // 10 % 10, labels % 10], dim=1)
            images, labels, classes = images.flatten(0, 1)[:, None], digits.flatten(), 10
        identity = {"version": VERSION, "epochs": self.epochs, "width": self.width, "dim": self.dim, "classes": classes}
        key = fingerprint(images, labels, identity)
        state = store.get(f"classifier-{key[:16]}", lambda: self.train(images.to(device), labels.to(device), classes))
        self.accuracy = float(state.pop("accuracy"))
        self.sha256 = fingerprint(*(state[name] for name in sorted(state)))
        self.network = network(images.shape[1], self.width, self.dim, classes)
        self.network.load_state_dict(state)
        self.network, self.device = self.network.to(device).eval().requires_grad_(False), device

    def train(self, images: Tensor, labels: Tensor, classes: int) -> dict[str, Tensor]:
        """Train the classifier; return its weights, and its accuracy on the held-out samples."""
        held_out = held_out_mask(labels)
        rows = (~held_out).nonzero().flatten()
        steps = max(self.epochs * len(rows) // TRAIN_BATCH, MIN_STEPS)
        generator = torch.Generator().manual_seed(0)
        with torch.enable_grad():
            net = network(images.shape[1], self.width, self.dim, classes).to(images.device)
            optimizer = torch.optim.AdamW(net.parameters(), weight_decay=5e-4)
            schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=steps)
            for _ in progress_bar(range(steps), "training the classifier of feature=classifier, once"):
                batch = rows[torch.randint(len(rows), (TRAIN_BATCH,), generator=generator).to(rows.device)]
                loss = F.cross_entropy(net(to_network_input(images[batch])), labels[batch])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
        net.eval()
        with torch.no_grad():
            # Rescale features to unit RMS so that distances are comparable between networks.
            *body, _, head = net
            rms = nn.Sequential(*body)(to_network_input(images[rows[:EVAL_BATCH]])).relu().square().mean().sqrt()
            body[-1].weight /= rms
            body[-1].bias /= rms
            head.weight *= rms
            predicted = [net(to_network_input(part)).argmax(1) for part in images[held_out].split(EVAL_BATCH)]
        correct = torch.cat(predicted) == labels[held_out]
        return net.state_dict() | {"accuracy": correct.float().mean()}

    def card(self) -> dict[str, Any]:
        """Return what identifies the classifier, and its accuracy on held-out samples."""
        kind = "classifier per channel" if self.per_channel else "classifier"
        return {
            "feature": f"{kind} of the data's own labels/{self.dim}",
            "feature_sha256": self.sha256,
            "feature_accuracy": None if math.isnan(self.accuracy) else round(self.accuracy, 4),
            "resize": "none",
        }

    @torch.no_grad()
    def __call__(self, samples: Tensor) -> tuple[Tensor, Tensor]:
        """Return features (N, dim) and logits (N, classes) of uint8 images (N, C, H, W)."""
        images = (samples.flatten(0, 1)[:, None] if self.per_channel else samples).to(self.device)
        *body, head = self.network
        features = torch.cat([nn.Sequential(*body)(to_network_input(part)) for part in images.split(EVAL_BATCH)])
        logits = self.join_channels(head(features))
        return (features.unflatten(0, (-1, 3)).flatten(1) if self.per_channel else features), logits

    def logits_of(self, images: Tensor) -> Tensor:
        """Return differentiable logits (N, classes) of images (N, C, H, W) in [-1, 1]."""
        images = images.to(self.device)
        return self.join_channels(self.network(images.flatten(0, 1)[:, None] if self.per_channel else images))

    def join_channels(self, logits: Tensor) -> Tensor:
        """Combine the logits (3 N, 10) of single channels to logits (N, 1000), if ``per_channel``."""
        if not self.per_channel:
            return logits
        first, second, third = logits.log_softmax(1).unflatten(0, (-1, 3)).unbind(1)
        return (first[:, :, None, None] + second[:, None, :, None] + third[:, None, None, :]).flatten(1)


def network(channels: int, width: int, dim: int, classes: int) -> nn.Sequential:
    """Build four convolutions, global average pooling, a hidden layer and class logits, for images from 8 x 8 on.

    The initialization is always the same, and the state of the global generator is restored.
    """

    def convolution(inputs: int, outputs: int) -> list[nn.Module]:
        return [nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]

    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        net = nn.Sequential(
            *convolution(channels, width),
            nn.MaxPool2d(2),
            *convolution(width, 2 * width),
            nn.MaxPool2d(2),
            *convolution(2 * width, 4 * width),
            *convolution(4 * width, 4 * width),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(4 * width, dim),
            nn.ReLU(),
            nn.Linear(dim, classes),
        )
    return net.to(memory_format=torch.channels_last)


def held_out_mask(labels: Tensor) -> Tensor:
    """Return which samples (N,) are held out: every tenth, or every tenth of each class if shares would differ much.

    If ten classes alternate, every tenth sample is of the same class, which would not be in the training set.
    """
    held_out = torch.arange(len(labels), device=labels.device) % 10 == 9
    share = labels[held_out].bincount(minlength=int(labels.max()) + 1) / labels.bincount().clamp(min=1)
    if share.min() >= 0.02 and share.max() <= 0.5:
        return held_out
    rank = torch.empty_like(labels)
    for label in labels.unique():
        of_class = labels == label
        rank[of_class] = torch.arange(int(of_class.sum()), device=labels.device)
    return rank % 10 == 9


def to_network_input(images: Tensor) -> Tensor:
    """Scale uint8 images to [-1, 1], in channels-last memory format."""
    return from_uint8(images).contiguous(memory_format=torch.channels_last)
