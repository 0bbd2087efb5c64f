"""Compare two runs bit for bit: their checkpoints, metrics.csv and sample grids."""

import csv
from pathlib import Path
from typing import Any

import pytest
import torch

from gan_lightning.run.checkpoint import read

EXTRAS = {
    "cgan": ("trainer.precision=64-true",),
    "acgan": ("model.ema_decay=0.9", "callbacks.learning_rate.schedule=linear_decay"),
    "dcgan": ("model.ema_decay=0.9", "data.flip=true"),
    "vanilla": ("model.d_steps=2", "network.discriminator.dropout=0.3"),
    "vae": ("model.ema_decay=0.9", "data.flip=true"),
    "wgan_gp": ("callbacks.learning_rate.schedule=linear_decay",),
}


def words(variant: str) -> tuple[str, ...]:
    often = "callbacks.metric_logger.every_n_steps=1", "callbacks.checkpoint.every_n_steps=4"
    return f"model={variant}", "trainer.max_steps=8", "network.width=4", *often, *EXTRAS.get(variant, ())


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "metrics.csv").open(newline="") as file:
        return [{k: v for k, v in row.items() if k != "images_per_second"} for row in csv.DictReader(file)]


def assert_equal(a: Any, b: Any, where: str = "") -> None:
    """Assert that nested containers of tensors and numbers are equal bit for bit."""
    assert type(a) is type(b), where
    if isinstance(a, dict):
        assert a.keys() == b.keys(), where
        for key in a:
            assert_equal(a[key], b[key], f"{where}.{key}")
    elif isinstance(a, list | tuple):
        assert len(a) == len(b), where
        for i, (x, y) in enumerate(zip(a, b, strict=True)):
            assert_equal(x, y, f"{where}[{i}]")
    elif isinstance(a, torch.Tensor):
        assert a.dtype == b.dtype, where
        assert torch.equal(a, b), where
    else:
        assert a == b, where


def assert_same_run(uninterrupted: Path, resumed: Path) -> None:
    a, b = (read(folder / "checkpoints" / "last.ckpt") for folder in (uninterrupted, resumed))
    assert a["global_step"] == b["global_step"]
    for part in ("state_dict", "optimizer_states"):
        assert a[part]
        assert_equal(a[part], b[part], part)
    assert rows(uninterrupted) == rows(resumed)
    images = sorted((uninterrupted / "samples").iterdir())
    assert len(images) > 3
    for image in images:
        assert image.read_bytes() == (resumed / "samples" / image.name).read_bytes(), image.name


def assert_metrics_close(a: Path, b: Path, rel: float) -> None:
    """Check that the metrics of two runs of four steps are equal up to rounding."""
    assert [row["step"] for row in rows(a)] == [row["step"] for row in rows(b)] == ["1", "2", "3", "4"]
    for one, other in zip(rows(a), rows(b), strict=True):
        for name in one:
            assert float(one[name]) == pytest.approx(float(other[name]), rel=rel, abs=rel), (name, one["step"])
