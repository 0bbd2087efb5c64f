"""Samples of variants trained on MNIST, classified by a network with an accuracy of 98 % on real digits."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision import datasets

import gan_lightning
from gan_lightning.data.datamodule import StepBatchLoader
from gan_lightning.io.image import from_uint8

ROOT = os.environ.get("GAN_DATA_DIR", "data")
STEPS = "trainer.max_steps=3000"

pytestmark = pytest.mark.slow


def digits(train: bool) -> tuple[Tensor, Tensor]:
    """Real digits in [-1, 1] and their classes."""
    if not Path(ROOT, "MNIST").is_dir():
        pytest.skip(f"no MNIST in {ROOT}; python train.py data=mnist downloads it, or set GAN_DATA_DIR")
    found = datasets.MNIST(ROOT, train=train)
    return found.data[:, None], found.targets


@pytest.fixture(scope="module")
def classifier() -> nn.Module:
    """A small convolutional network trained for two epochs."""
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(1, 16, 5, 2, 2), nn.ReLU(), nn.Conv2d(16, 32, 5, 2, 2), nn.ReLU(), nn.Flatten(),
        nn.Linear(32 * 49, 128), nn.ReLU(), nn.Linear(128, 10),
    )  # fmt: skip
    optimizer = torch.optim.Adam(network.parameters(), 1e-3)
    for images, labels in StepBatchLoader(*digits(train=True), minibatch=128, stop=2 * 60_000 // 128):
        optimizer.zero_grad()
        F.cross_entropy(network(from_uint8(images)), labels).backward()
        optimizer.step()
    images, labels = digits(train=False)
    assert accuracy(network, from_uint8(images), labels) >= 0.98
    return network.eval()


@torch.no_grad()
def predictions(classifier: nn.Module, images: Tensor) -> Tensor:
    return torch.cat([classifier(batch).argmax(1) for batch in images.split(500)])


def accuracy(classifier: nn.Module, images: Tensor, labels: Tensor) -> float:
    return float((predictions(classifier, images) == labels).float().mean())


@pytest.mark.parametrize(
    ("words", "min_accuracy"),
    [
        (["model=acgan", STEPS], 0.95),
        (["model=cgan", STEPS], 0.90),
        (["model=cgan", "network=mlp", "trainer.max_steps=20000"], 0.90),
    ],
    ids=["acgan", "cgan", "cgan_mlp"],
)
def test_conditional_samples_show_requested_digit(real_run: Callable[..., Path], classifier, words, min_accuracy):
    model = gan_lightning.load(real_run(*words))
    labels = torch.arange(10).repeat_interleave(200)
    images = model.sample(len(labels), labels, seed=1)
    assert accuracy(classifier, images, labels) >= min_accuracy
    for digit in range(10):
        within = images[labels == digit].flatten(1).std(0).mean()
        assert within > 0.05, f"all samples of {digit} look the same"


@pytest.mark.parametrize("name", ["vanilla", "dcgan", "wgan", "wgan_gp"])
def test_unconditional_samples_contain_all_digits(real_run: Callable[..., Path], classifier, name):
    model = gan_lightning.load(real_run(f"model={name}", STEPS))
    counts = predictions(classifier, model.sample(2000, seed=1)).bincount(minlength=10)
    assert (counts >= 20).sum() >= 9, f"fewer than 9 digits have 20 samples: {counts.tolist()}"
    assert counts.min() > 0, f"a digit has no sample: {counts.tolist()}"


@pytest.fixture
def real_run(tmp_path) -> Callable[..., Path]:
    """Train at the default size on all of MNIST and return the last checkpoint."""
    from hydra import compose, initialize_config_dir

    from gan_lightning.io.paths import CONF
    from gan_lightning.run.fit import train

    def real_run(*overrides: str) -> Path:
        torch.set_num_threads(os.cpu_count() or 1)
        with initialize_config_dir(str(CONF), version_base="1.3"):
            config = compose("train", ["data=mnist", f"data.root={ROOT}", "~callbacks.progress", *overrides])
        train(config, tmp_path)
        torch.set_num_threads(1)
        return tmp_path / "checkpoints" / "last.ckpt"

    return real_run
