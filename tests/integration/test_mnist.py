"""What the variants learn on real MNIST, judged by a classifier that is right on 98 % of real digits."""

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
    """A small convolutional network after two epochs."""
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
    assert recognised(network, from_uint8(images), labels) >= 0.98
    return network.eval()


@torch.no_grad()
def guesses(classifier: nn.Module, images: Tensor) -> Tensor:
    return torch.cat([classifier(batch).argmax(1) for batch in images.split(500)])


def recognised(classifier: nn.Module, images: Tensor, labels: Tensor) -> float:
    return float((guesses(classifier, images) == labels).float().mean())


@pytest.mark.parametrize(
    ("words", "share"),
    [
        (["model=acgan", STEPS], 0.95),
        (["model=cgan", STEPS], 0.90),
        (["model=cgan", "network=mlp", "trainer.max_steps=20000"], 0.90),
    ],
    ids=["acgan", "cgan", "cgan_mlp"],
)
def test_the_digit_that_was_asked_for_comes(real_run: Callable[..., Path], classifier, words, share):
    model = gan_lightning.load(real_run(*words))
    labels = torch.arange(10).repeat_interleave(200)
    images = model.sample(len(labels), labels, seed=1)
    assert recognised(classifier, images, labels) >= share
    for digit in range(10):
        within = images[labels == digit].flatten(1).std(0).mean()
        assert within > 0.05, f"all samples of {digit} look the same"


@pytest.mark.parametrize("name", ["vanilla", "dcgan", "wgan", "wgan_gp"])
def test_all_digits_come(real_run: Callable[..., Path], classifier, name):
    model = gan_lightning.load(real_run(f"model={name}", STEPS))
    counts = guesses(classifier, model.sample(2000, seed=1)).bincount(minlength=10)
    assert (counts >= 20).sum() >= 9, f"digits are lost: {counts.tolist()}"
    assert counts.min() > 0, f"a digit is left out: {counts.tolist()}"


@pytest.fixture
def real_run(tmp_path) -> Callable[..., Path]:
    """Train for real and return the last checkpoint."""
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
