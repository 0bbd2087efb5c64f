"""torch.compile changes training by rounding only."""

import pytest
import torch
from same_run import assert_metrics_close
from torch._dynamo.utils import counters

from gan_lightning.run.checkpoint import read


def check_compiled_run_trains_alike(run, folder, *overrides: str) -> None:
    # Without this, TorchDynamo reaches its limit of recompilations, and later cases compile nothing.
    torch.compiler.reset()
    counters.clear()
    overrides = *overrides, "trainer.max_steps=4", "callbacks.metric_logger.every_n_steps=1"
    run(folder / "false", *overrides, "trainer.compile=false")
    assert not counters["stats"]["unique_graphs"]
    run(folder / "true", *overrides, "trainer.compile=true")
    assert counters["stats"]["unique_graphs"] > 1, "the networks were not compiled"
    assert_metrics_close(folder / "true", folder / "false", 1e-3)
    a, b = (read(folder / compiled / "checkpoints" / "last.ckpt") for compiled in ("true", "false"))
    assert a["state_dict"].keys() == b["state_dict"].keys(), "compilation changes names in the state dict"


@pytest.mark.slow
@pytest.mark.parametrize("channels_last", ["null", "true"])
def test_compiled_networks_train_alike(run, tmp_path, learner, channels_last):
    check_compiled_run_trains_alike(run, tmp_path, f"model={learner}", f"trainer.channels_last={channels_last}")


@pytest.mark.slow
@pytest.mark.parametrize("augment", ["augment=diffaugment", "augment=ada augment.initial_probability=0.5"])
def test_compiled_networks_with_augmentation_train_alike(run, tmp_path, variant, augment):
    check_compiled_run_trains_alike(run, tmp_path, f"model={variant}", *augment.split())
