"""Tests on an NVIDIA GPU: exact resume, CUDA graphs, mixed precision, torch.compile, NCCL and memory."""

import contextlib
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from pytorch_lightning import Callback
from same_run import assert_equal, assert_same_run, rows, words
from tiny import MODELS
from torch import Tensor

from gan_lightning.errors import UserError
from gan_lightning.model.gan import GAN
from gan_lightning.penalty.gradient_penalty import gradient_penalty
from gan_lightning.run.checkpoint import newest, read

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")

GPU = "trainer=gpu", "trainer.accelerator=gpu"
EXACT = (*GPU, "trainer.benchmark=false", "trainer.deterministic=warn")  # the same kernels in every process
RARELY = "callbacks.metric_logger.every_n_steps=1000", "callbacks.monitor.every_n_steps=1000"


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    """Restore the global settings that a run changes."""
    from gan_lightning.run.fit import restore_global_state

    with restore_global_state():
        yield


@contextlib.contextmanager
def sigterm_at_step(at: int) -> Iterator[None]:
    """Send SIGTERM at the start of a step; a replayed CUDA graph calls no Python code in which to send it."""
    usual = GAN.training_step

    def step(self: GAN, *args: Any) -> None:
        if self.global_step == at - 1:
            signal.raise_signal(signal.SIGTERM)
        usual(self, *args)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(GAN, "training_step", step)
        yield


def state(folder: Path) -> dict[str, Any]:
    kept = read(folder / "checkpoints" / "last.ckpt")
    return {part: kept[part] for part in ("state_dict", "optimizer_states")}


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed", "16-mixed"])
def test_run_stopped_twice_and_resumed_equals_uninterrupted_run(run, tmp_path, learner, precision):
    """Steps that one process replays as a CUDA graph run eagerly in another one, during its warm-up."""
    own = (*words(learner), *EXACT, *([] if "64-true" in str(words(learner)) else [f"trainer.precision={precision}"]))
    run(tmp_path / "full", *own)
    ckpt_path = None
    for at in (3, 5):
        with sigterm_at_step(at):
            assert run(tmp_path / "parts", *own, ckpt_path=ckpt_path).global_step == at
        ckpt_path, *_ = newest(tmp_path / "parts")
    run(tmp_path / "parts", *own, ckpt_path=ckpt_path)
    assert_same_run(tmp_path / "full", tmp_path / "parts")


@pytest.mark.parametrize(
    "more",
    [
        (),
        ("trainer.precision=bf16-mixed",),
        ("trainer.precision=16-mixed",),
        ("model.reuse_fake=true", "model.d_steps=2"),
        ("network.discriminator.dropout=0.3", "network.discriminator.spectral_norm=true", "data.flip=true"),
        ("trainer.channels_last=true", "trainer.tf32=true"),
        ("trainer.micro_batch=3", "data.batch_size=8", "model.reuse_fake=false", "model.generator_batch_multiplier=2"),
    ],
    ids=lambda more: " ".join(more) or "plain",
)
def test_cuda_graphs_change_no_bit(run, tmp_path, learner, more):
    gan_only = "model.", "network.discriminator.spectral_norm"
    own = *words(learner), *EXACT, *(word for word in more if learner != "vae" or not word.startswith(gan_only))
    functions = {"gradients"} if learner == "vae" else {"discriminator_gradients", "generator_gradients"}
    for graphs in ("true", "false"):
        trainer = run(tmp_path / graphs, *own, f"trainer.cuda_graphs={graphs}")
        captured = getattr(trainer.lightning_module.execute, "captured", {})
        assert set(captured) == (functions if graphs == "true" else set())
    assert_equal(state(tmp_path / "true"), state(tmp_path / "false"))
    assert_same_run(tmp_path / "true", tmp_path / "false")


def test_equal_seeds_give_equal_runs_and_different_seeds_do_not(run, tmp_path, learner):
    own = *words(learner), *EXACT
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        run(tmp_path / name, *own, f"seed={seed}")
    assert_equal(state(tmp_path / "a"), state(tmp_path / "b"))
    with pytest.raises(AssertionError):
        assert_equal(state(tmp_path / "a"), state(tmp_path / "c"))


class NoWait(Callback):
    """Makes synchronisation of host and GPU an error, after the CUDA graphs are captured."""

    def on_train_batch_start(self, trainer: Any, *_: Any) -> None:
        torch.cuda.set_sync_debug_mode("error" if 4 < trainer.global_step < 7 else "default")

    def on_train_batch_end(self, *_: Any) -> None:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_training_step_does_not_synchronize_with_gpu(run, tmp_path, learner, precision):
    own = f"model={learner}", "trainer.max_steps=8", "model.ema_decay=0.9", "data.flip=true", *GPU, *RARELY
    callback = f"+callbacks.no_wait._target_={NoWait.__module__}.NoWait"
    try:
        assert run(tmp_path, *own, callback, f"trainer.precision={precision}").global_step == 8
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_failed_cuda_graph_capture_is_reported(run, tmp_path, monkeypatch):
    usual = GAN.generator_loss

    def peeking(self: GAN, fake: torch.Tensor, *more: torch.Tensor) -> Any:
        float(fake.mean())
        return usual(self, fake, *more)

    monkeypatch.setattr(GAN, "generator_loss", peeking)
    with pytest.raises(UserError, match=r"trainer\.cuda_graphs=false"):
        run(tmp_path, "model=vanilla", *GPU, "trainer.max_steps=8")
    torch.cuda.synchronize()
    run(tmp_path / "off", "model=vanilla", *GPU, "trainer.max_steps=8", "trainer.cuda_graphs=false")


def penalty_grad(model: GAN, real: Tensor, fake: Tensor, epsilon: Tensor, half: torch.dtype | None = None) -> Tensor:
    """Return the gradient of the penalty with respect to all of the critic's weights as one vector."""
    y = torch.zeros(len(real), dtype=torch.long, device=real.device)
    weights = [*model.discriminator.parameters()]
    with torch.autocast("cuda", half, enabled=half is not None):
        penalty = gradient_penalty(model.discriminator, real, fake, y, epsilon)
    gradients = torch.autograd.grad(penalty, weights, allow_unused=True)
    return torch.cat([(0 * w if g is None else g).flatten().double() for w, g in zip(weights, gradients, strict=True)])


@pytest.mark.parametrize("half", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("network", ["dcgan", "resnet"])
def test_gradient_of_the_penalty_in_all_precisions(build, network, half):
    """Autocast and compilation change no bit of the single-precision gradient; TF32's error is within its rounding."""
    model, data = build("model=wgan_gp", f"network={network}", "network.width=64", "data.image_size=32")
    model.cuda()
    real = data.real(16).cuda()
    noise = torch.Generator("cuda").manual_seed(0)
    fake = torch.rand(real.shape, generator=noise, device="cuda") * 2 - 1
    inputs = real, fake, torch.rand(16, generator=noise, device="cuda")
    torch.backends.cudnn.allow_tf32, torch.backends.cudnn.deterministic = False, True
    single = penalty_grad(model, *inputs)
    assert single.norm() > 0
    assert torch.equal(penalty_grad(model, *inputs, half), single)
    model.compile_networks()
    assert torch.equal(penalty_grad(model, *inputs), single)
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = True
    rounded = penalty_grad(model, *inputs)
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    double = penalty_grad(model.double(), *(part.double() for part in inputs))
    errors = {name: float((g - double).norm() / double.norm()) for name, g in (("fp32", single), ("tf32", rounded))}
    print(f"penalty, {network}: {errors}, cosine {float(torch.cosine_similarity(rounded, double, dim=0)):.6f}")
    assert errors["fp32"] < 1e-4
    assert errors["tf32"] < 0.05


# With channels_last, torch 2.11 compiles the residual networks only, which benchmarks/cifar10.py uses.
COMPILED = [
    *([f"model={name}"] for name in MODELS),
    ["model=wgan_gp", "network=resnet", "trainer.channels_last=true"],
]


@pytest.mark.parametrize("words", COMPILED, ids=" ".join)
@pytest.mark.parametrize(("precision", "near"), [("32-true", 1e-3), ("bf16-mixed", 5e-2)])
def test_compiled_networks_have_losses_of_eager_networks(run, tmp_path, words, precision, near):
    own = *words, "trainer.max_steps=5", "callbacks.metric_logger.every_n_steps=1", *EXACT
    for compiled in ("true", "false"):
        run(tmp_path / compiled, *own, f"trainer.precision={precision}", f"trainer.compile={compiled}")
    for a, b in zip(*(rows(tmp_path / compiled) for compiled in ("true", "false")), strict=True):
        for name in a:
            assert float(a[name]) == pytest.approx(float(b[name]), rel=near, abs=near), (name, a["step"])


def test_fp16_run_reaches_max_steps_with_finite_weights(run, tmp_path):
    """The initial scale of 2**16 may overflow; schedule, noise and EMA depend on the step, not on updates."""
    own = "model=wgan_gp", "trainer.precision=16-mixed", "trainer.max_steps=12", "model.ema_decay=0.9", *GPU
    trainer = run(tmp_path, *own)
    assert trainer.global_step == 12
    assert trainer.precision_plugin.scaler.get_scale() > 0
    assert all(torch.isfinite(value).all() for value in trainer.lightning_module.state_dict().values())


def test_single_process_under_nccl_matches_run_without_ddp(run, tmp_path, monkeypatch):
    for name, value in {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29511"}.items():
        monkeypatch.setenv(name, value)
    own = "model=cgan", "trainer.max_steps=5", *EXACT, "trainer.cuda_graphs=false"
    run(tmp_path / "one", *own)
    more = "trainer.strategy=ddp_gan", "+trainer.sync_batchnorm=true"
    trainer = run(tmp_path / "ddp", *own, *more)
    assert torch.distributed.get_backend() == "nccl"
    torch.distributed.destroy_process_group()
    assert trainer.global_step == 5
    a, b = (state(tmp_path / name)["state_dict"] for name in ("one", "ddp"))
    for name in a:
        assert torch.allclose(a[name].float(), b[name].float(), rtol=1e-3, atol=1e-5), name


def test_gpu_memory_does_not_grow(run, tmp_path, monkeypatch):
    allocated = []

    class Memory(Callback):
        def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
            allocated.append(torch.cuda.memory_allocated())

    monkeypatch.setattr(GAN, "configure_callbacks", lambda self: [Memory()])
    run(tmp_path, "model=wgan_gp", "trainer.max_steps=300", *GPU, *RARELY)
    terms = 512 * 4 * (len(allocated) - 100)  # the last thousand steps' losses stay on the GPU
    assert max(allocated[200:]) <= max(allocated[10:100]) + terms
