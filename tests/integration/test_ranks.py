"""DDP: several processes train as one does, on the same data and noise, to the same weights and metrics."""

import csv
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from pytorch_lightning.strategies import DDPStrategy
from tiny import MODELS
from torch import Tensor, nn

from gan_lightning.model.ema import EMA
from gan_lightning.network.mlp import MLPGenerator
from gan_lightning.run.checkpoint import read
from gan_lightning.trainer.ddp import GANDDPStrategy

WORKER = Path(__file__).parents[1] / "support" / "ranks.py"
WORDS = (
    "data.image_size=16 data.limit=26 data.batch_size=8 data.flip=true network.width=4 model.ema_decay=0.9 "
    "trainer=ddp trainer.accelerator=cpu trainer.precision=64-true eval.every_n_steps=null "
    "callbacks.metric_logger.every_n_steps=5"
)
STEPS = 20
DECAY = f"callbacks.learning_rate.schedule=linear_decay trainer.max_steps={STEPS}"


def start(world: int, folder: Path, *runs: str) -> None:
    """Train with torchrun; each run is a name and its overrides."""
    words = [f"{run} {WORDS} trainer.devices={world}" for run in runs]
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(world)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*command, str(WORKER), str(folder), *words], env=environment, capture_output=True, text=True, timeout=500
    )
    assert done.returncode == 0, done.stderr[-3000:]


def metrics_of(run: Path) -> list[dict[str, float]]:
    with (run / "metrics.csv").open(newline="") as file:
        return [{k: float(v) for k, v in row.items() if k != "images_per_second"} for row in csv.DictReader(file)]


@pytest.fixture(scope="module")
def single_process(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("alone")
    start(1, folder, *(f"{variant} model={variant} {DECAY}" for variant in MODELS))
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("world", [2, 4])
def test_ddp_matches_single_process(single_process, tmp_path, world):
    """BatchNorm uses the statistics of the global batch, see support/ranks.py."""
    start(world, tmp_path, *(f"{variant} model={variant} {DECAY}" for variant in MODELS))
    for variant in MODELS:
        one, several = single_process / variant, tmp_path / variant
        a, b = (read(run / "checkpoints" / "last.ckpt") for run in (one, several))
        assert a["global_step"] == b["global_step"] == STEPS
        for name, value in a["state_dict"].items():
            torch.testing.assert_close(b["state_dict"][name], value, rtol=0, atol=1e-12, msg=f"{variant} {name}")
        for before, after in zip(metrics_of(one), metrics_of(several), strict=True):
            assert after == pytest.approx(before, rel=1e-6, abs=1e-9), variant
        for image in sorted((one / "samples").iterdir()):
            assert image.read_bytes() == (several / "samples" / image.name).read_bytes(), image


@pytest.mark.slow
def test_adapted_augmentation_is_identical_on_any_number_of_ranks(tmp_path):
    """The probability is; weights differ by rounding, since gradients are averaged over ranks."""
    variants = "vanilla", "wgan_gp"
    augment = "augment=ada augment.initial_probability=0.5 augment.ramp_images=500 augment.interval=2"
    augment += f" trainer.max_steps={STEPS}"
    for world in (1, 2, 4):
        start(world, tmp_path / str(world), *(f"{variant} model={variant} {augment}" for variant in variants))
    for variant in variants:
        one, two, four = (tmp_path / str(world) / variant for world in (1, 2, 4))
        assert len({row["d/augment_probability"] for row in metrics_of(one)}) > 1
        a, *others = (read(run / "checkpoints" / "last.ckpt")["state_dict"] for run in (one, two, four))
        for b in others:
            assert torch.equal(a["augment.state"], b["augment.state"])
            for name, value in a.items():
                torch.testing.assert_close(b[name], value, rtol=0, atol=1e-12, msg=f"{variant} {name}")


@pytest.mark.slow
def test_micro_batches_of_each_device_match_single_process(tmp_path):
    """Each of the two devices has 4 samples, in micro batches of 3 and 1; their gradients are all-reduced once."""
    own = f"network.generator.norm=none network.discriminator.norm=none {DECAY}"
    start(1, tmp_path / "one", *(f"{variant} model={variant} {own}" for variant in ("cgan", "wgan_gp")))
    split = f"{own} trainer.micro_batch=3"
    start(2, tmp_path / "two", *(f"{variant} model={variant} {split}" for variant in ("cgan", "wgan_gp")))
    for variant in ("cgan", "wgan_gp"):
        a, b = (read(tmp_path / world / variant / "checkpoints" / "last.ckpt") for world in ("one", "two"))
        for name, value in a["state_dict"].items():
            torch.testing.assert_close(b["state_dict"][name], value, rtol=0, atol=1e-12, msg=f"{variant} {name}")
        for before, after in zip(
            metrics_of(tmp_path / "one" / variant), metrics_of(tmp_path / "two" / variant), strict=True
        ):
            assert after == pytest.approx(before, rel=1e-6, abs=1e-9), variant


@pytest.mark.slow
def test_ddp_resumes_bit_for_bit(tmp_path):
    complete, parts = ([f"{name}_{variant} model={variant}" for variant in MODELS] for name in ("whole", "parts"))
    start(
        2,
        tmp_path,
        *(f"{run} trainer.max_steps={STEPS}" for run in complete),
        *(f"{run} trainer.max_steps=7" for run in parts),
        *(f"{run} trainer.max_steps={STEPS}" for run in parts),
    )
    for variant in MODELS:
        a, b = (read(tmp_path / f"{name}_{variant}" / "checkpoints" / "last.ckpt") for name in ("whole", "parts"))
        for part in ("state_dict", "optimizer_states"):
            torch.testing.assert_close(b[part], a[part], rtol=0, atol=0, msg=variant)


def test_ema_batchnorm_recalibration_needs_no_other_rank():
    """Only rank 0 writes sample grids, so SyncBatchNorm must not communicate while it samples."""
    network = MLPGenerator(latent_dim=3, shape=(1, 8, 8), width=4, depth=2, norm="batch")
    ema = EMA(nn.SyncBatchNorm.convert_sync_batchnorm(network), 0.5)
    plain = EMA(network, 0.5)
    assert any(isinstance(layer, nn.SyncBatchNorm) for layer in ema.modules())
    z, y = torch.randn(5, 3), torch.zeros(5, dtype=torch.long)
    torch.testing.assert_close(
        ema.recalibrate_batchnorm(3, 0)(z, y), plain.recalibrate_batchnorm(3, 0)(z, y), rtol=0, atol=0
    )


def test_update_reduces_own_gradients_and_last_one_running_statistics(monkeypatch):
    """The all-reduce is a stub: another rank that holds three times each value."""
    generator = nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3)).to(memory_format=torch.channels_last)
    networks = generator, nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3))
    strategy, sizes = GANDDPStrategy(), []
    strategy.model = nn.ModuleList(networks)
    strategy.optimizers = [torch.optim.SGD(network.parameters(), 0.0) for network in networks]
    for value in [*strategy.model.parameters(), *strategy.model.buffers()]:
        value.requires_grad_(False).copy_(torch.randn(value.shape))
        value.grad = torch.randn_like(value) if value.is_floating_point() else None
    monkeypatch.setattr(GANDDPStrategy, "world_size", 2)
    monkeypatch.setattr(DDPStrategy, "optimizer_step", lambda *_: None)
    monkeypatch.setattr("gan_lightning.trainer.ddp.all_reduce", lambda x: (sizes.append(len(x)), x.mul_(4)))

    def values() -> tuple[Tensor, ...]:
        gradients = (torch.cat([w.grad.flatten() for w in network.parameters()]) for network in networks)
        statistics = torch.cat([b.flatten() for b in strategy.model.buffers() if b.is_floating_point()])
        return *gradients, statistics

    before = values()
    strategy.optimizer_step(strategy.optimizers[1], lambda: None)
    torch.testing.assert_close(values(), (before[0], 2 * before[1], before[2]), rtol=0, atol=0)
    strategy.optimizer_step(strategy.optimizers[0], lambda: None)
    torch.testing.assert_close(values(), tuple(2 * part for part in before), rtol=0, atol=0)
    assert sizes == [len(before[1]), len(before[0]) + len(before[2])]
