"""A small network trained on the data's own labels: honest features where Inception's mean little, no download."""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gan_lightning.bar import bar
from gan_lightning.config.constraints import PositiveInt, Validated
from gan_lightning.errors import UnavailableError, UserError
from gan_lightning.feature import Samples
from gan_lightning.image import from_uint8
from gan_lightning.store import Store, fingerprint

VERSION = 2  # of the network and its training; another number makes another cache
BATCH, READ_BATCH = 64, 500
LEAST_STEPS = 200


class Classifier(Validated):
    """Features of the last hidden layer of a convolutional classifier, and its logits.

    It is trained once for a data set, from a fixed seed, on all samples but every tenth; of those its accuracy is
    told, and stands on the card. The weights are cached, and shared by all runs on the same data. Trained anew they are
    the same bit for bit with as many threads on the same kind of device, and may differ elsewhere; the card tells them
    apart: to compare across machines, copy the file.

    Args:
        epochs: Passes over the data, of which there are more where the data are few.
        width: Channels of the first layer.
        dim: Number of features.
        per_channel: Classify each channel by itself, as Stacked MNIST needs: a class is the number that the channels'
            digits make, and the features are those of all channels.
    """

    needs_images = True
    needs_four_pixels = "eval.every_n_steps=null"

    classes, no_classes = True, ""
    data_classes, instant = True, False
    batch, logits_sha256 = 250, ""

    def __init__(
        self, epochs: PositiveInt = 3, width: PositiveInt = 32, dim: PositiveInt = 64, per_channel: bool = False
    ) -> None:
        self.epochs, self.width, self.dim, self.per_channel = epochs, width, dim, per_channel
        self.network: nn.Module | None = None

    def get_ready(self, data: Samples, store: Store, device: torch.device) -> None:
        """Load the network of these data, or train it.

        Raises:
            UnavailableError: The data have no labels.
            UserError: ``per_channel`` of data whose classes are not the numbers that three channels' digits make.
        """
        if self.network is not None:
            return
        if len(data.class_names) < 2:
            raise UnavailableError(
                "feature=classifier: learns the data's own classes, and these data have none; feature=inception"
            )
        data.verify()
        pictures, labels, classes = data.samples, data.labels, len(data.class_names)
        if self.per_channel and (pictures.shape[1], classes) != (3, 1000):
            raise UserError("feature.per_channel=true: is for data=stacked_mnist, a thousand classes in three channels")
        if self.per_channel:
            pictures, labels, classes = self.channels_apart(pictures, labels)
        learned = {"version": VERSION, "epochs": self.epochs, "width": self.width, "dim": self.dim, "classes": classes}
        key = fingerprint(pictures, labels, learned)
        state = store.get(f"classifier-{key[:16]}", lambda: self.learn(pictures.to(device), labels.to(device), classes))
        self.accuracy = float(state.pop("accuracy"))
        self.sha256 = fingerprint(*(state[name] for name in sorted(state)))
        self.network = network(pictures.shape[1], self.width, self.dim, classes)
        self.network.load_state_dict(state)
        self.network, self.device = self.network.to(device).eval().requires_grad_(False), device

    def learn(self, pictures: Tensor, labels: Tensor, classes: int) -> dict[str, Tensor]:
        """Train, and measure the accuracy on every tenth sample."""
        held_out = every_tenth(labels)
        rows = (~held_out).nonzero().flatten()
        steps = max(self.epochs * len(rows) // BATCH, LEAST_STEPS)
        generator = torch.Generator().manual_seed(0)
        with torch.enable_grad():
            net = network(pictures.shape[1], self.width, self.dim, classes).to(pictures.device)
            optimizer = torch.optim.AdamW(net.parameters(), weight_decay=5e-4)
            schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=steps)
            for _ in bar(range(steps), "training the classifier of the metrics, once"):
                chosen = rows[torch.randint(len(rows), (BATCH,), generator=generator).to(rows.device)]
                loss = F.cross_entropy(net(scaled(pictures[chosen])), labels[chosen])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
        net.eval()
        with torch.no_grad():
            # A unit of its own for each network would make every distance mean something else: features get a root
            # mean square of one.
            *body, _, head = net
            unit = nn.Sequential(*body)(scaled(pictures[rows[:READ_BATCH]])).relu().square().mean().sqrt()
            body[-1].weight /= unit
            body[-1].bias /= unit
            head.weight *= unit
            found = [net(scaled(part)).argmax(1) for part in pictures[held_out].split(READ_BATCH)]
        right = (torch.cat(found) == labels[held_out]).float().mean() if held_out.any() else torch.tensor(torch.nan)
        return net.state_dict() | {"accuracy": right}

    def channels_apart(self, pictures: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, int]:
        """Each channel as a picture of one digit."""
        digits = torch.stack([labels // 100, labels // 10 % 10, labels % 10], dim=1)
        return pictures.flatten(0, 1)[:, None], digits.flatten(), 10

    def card(self) -> dict[str, Any]:
        """The network, its weights, and how good it is on samples it was not trained on."""
        kind = "classifier per channel" if self.per_channel else "classifier"
        return {
            "feature": f"{kind} of the data's own labels/{self.dim}",
            "feature_sha256": self.sha256,
            "feature_accuracy": None if math.isnan(self.accuracy) else round(self.accuracy, 4),
            "resize": "none",
        }

    @torch.no_grad()
    def __call__(self, samples: Tensor) -> tuple[Tensor, Tensor]:
        """Uint8 (N, C, H, W) to (N, dim) and (N, classes)."""
        pictures = (samples.flatten(0, 1)[:, None] if self.per_channel else samples).to(self.device)
        *body, head = self.network
        features = torch.cat([nn.Sequential(*body)(scaled(part)) for part in pictures.split(READ_BATCH)])
        logits = self.joined(head(features))
        return (features.unflatten(0, (-1, 3)).flatten(1) if self.per_channel else features), logits

    def logits_of(self, pictures: Tensor) -> Tensor:
        """Logits (N, classes) of pictures (N, C, H, W) in [-1, 1], which can be differentiated."""
        pictures = pictures.to(self.device)
        return self.joined(self.network(pictures.flatten(0, 1)[:, None] if self.per_channel else pictures))

    def joined(self, logits: Tensor) -> Tensor:
        """Logits of all channels together, of those of each."""
        if not self.per_channel:
            return logits
        first, second, third = logits.log_softmax(1).unflatten(0, (-1, 3)).unbind(1)
        return (first[:, :, None, None] + second[:, None, :, None] + third[:, None, None, :]).flatten(1)


def network(channels: int, width: int, dim: int, classes: int) -> nn.Sequential:
    """Four convolutions, the mean over the picture, a hidden layer and the classes; for any size from 8 x 8 on.

    The start is the same every time, and the global generator is put back.
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


def every_tenth(labels: Tensor) -> Tensor:
    """Which samples (N,) are held out: every tenth, or every tenth of each class where that is far from the same.

    Of ten classes that lie in turn every tenth sample is of one class, which would never be learned.
    """
    held_out = torch.arange(len(labels), device=labels.device) % 10 == 9
    share = labels[held_out].bincount(minlength=int(labels.max()) + 1) / labels.bincount().clamp(min=1)
    if share.min() >= 0.02 and share.max() <= 0.5:
        return held_out
    place = torch.empty_like(labels)
    for label in labels.unique():
        of_class = labels == label
        place[of_class] = torch.arange(int(of_class.sum()), device=labels.device)
    return place % 10 == 9


def scaled(pictures: Tensor) -> Tensor:
    """Uint8 to [-1, 1]."""
    return from_uint8(pictures).contiguous(memory_format=torch.channels_last)
