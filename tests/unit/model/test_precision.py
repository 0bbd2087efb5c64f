"""Mixed precision: penalties and losses in single precision, and updates that the gradient scaler skips."""

import math
from statistics import median
from typing import Any

import pytest
import torch
from pytorch_lightning import Callback
from pytorch_lightning.plugins import MixedPrecision
from torch import nn
from training import Outputs, fit

from gan_lightning.callbacks.metric_logger import MetricLogger
from gan_lightning.errors import UserError
from gan_lightning.model.base import Logits
from gan_lightning.network.layers import Head

HALVES = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}


def scaler_plugin(scale: float) -> MixedPrecision:
    """``trainer.precision=16-mixed`` as on a GPU; the scale halves on overflow and grows after two steps."""
    scaler = torch.amp.GradScaler("cpu", init_scale=scale, growth_interval=2)
    return MixedPrecision("16-mixed", "cpu", scaler)


class StepRecorder(Callback):
    """Records, after each generator step, everything that a skipped update could affect."""

    def __init__(self) -> None:
        self.batches: list[torch.Tensor] = []
        self.noise: list[torch.Tensor] = []
        self.weights: list[list[torch.Tensor]] = []
        self.rates: list[float] = []
        self.scales: list[float] = []

    def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, batch: Any, index: int) -> None:
        self.batches.append(batch[0].clone())
        self.noise.append(module.rng.get_state())
        self.weights.append([value.detach().clone() for value in module.parameters()])
        self.rates.append(module.optimizers()[0].param_groups[0]["lr"])
        self.scales.append(trainer.precision_plugin.scaler.get_scale())


OVERRIDES = "model=wgan_gp", "network=mlp", "model.ema_decay=0.9", "model.d_steps=2"


def run_with_scaler(build, scale: float, steps: int = 6, *overrides: str) -> tuple[Any, StepRecorder]:
    model, data = build(*OVERRIDES, *overrides)
    recorder = StepRecorder()
    fit(model, data, steps, recorder, plugins=[scaler_plugin(scale)])
    return model, recorder


def test_skipped_updates_affect_only_weights(build):
    without_overflow, with_overflow = (run_with_scaler(build, scale)[1] for scale in (2.0**7, 2.0**40))
    assert without_overflow.scales[0] >= 2.0**7, "the first scale overflows"
    assert with_overflow.scales[0] < 2.0**40
    # With a scale that is far too large, the first steps skip every update of both networks.
    model, _ = build(*OVERRIDES)
    initial = [*model.parameters()]
    assert all(torch.equal(a, b) for a, b in zip(initial, with_overflow.weights[0], strict=True)), (
        "weights or EMA changed"
    )
    assert not all(torch.equal(a, b) for a, b in zip(initial, without_overflow.weights[0], strict=True))
    for a, b in zip(without_overflow.batches, with_overflow.batches, strict=True):
        assert torch.equal(a, b), "a skipped update shifts the minibatches"
    for a, b in zip(without_overflow.noise, with_overflow.noise, strict=True):
        assert torch.equal(a, b)
    assert without_overflow.rates == with_overflow.rates
    assert len(without_overflow.weights) == len(with_overflow.weights) == 6


def test_weights_are_updated_after_scale_has_decreased(build):
    model, recorder = run_with_scaler(build, 2.0**40, 40)
    assert 1 < recorder.scales[-1] < 2.0**40
    assert model.global_step == 40
    assert not all(torch.equal(a, b) for a, b in zip(recorder.weights[0], recorder.weights[-1], strict=True))
    assert all(value.isfinite().all() for value in recorder.weights[-1])


def test_resumed_run_restores_state_of_scaler(build, tmp_path):
    _, complete = run_with_scaler(build, 2.0**40, 9)
    model, data = build(*OVERRIDES)
    first_part = fit(model, data, 5, plugins=[scaler_plugin(2.0**40)])
    first_part.save_checkpoint(tmp_path / "half.ckpt")
    model, data = build(*OVERRIDES)
    resumed = StepRecorder()
    fit(model, data, 9, resumed, plugins=[scaler_plugin(1.0)], ckpt_path=tmp_path / "half.ckpt")
    assert resumed.scales == complete.scales[5:]
    for a, b in zip(resumed.weights[-1], complete.weights[-1], strict=True):
        assert torch.equal(a, b)


def test_scaled_gradients_are_accumulated_over_micro_batches(build):
    """The gradients of an update are unscaled once, and an overflow in any micro batch skips the whole update."""
    own = "network.generator.norm=none", "network.discriminator.norm=none"

    def run(scale: float, micro_batch: int | None) -> tuple[torch.Tensor, StepRecorder]:
        model, data = build(*OVERRIDES, *own)
        model.micro_batch, first, recorder = micro_batch, FirstGradient(), StepRecorder()
        fit(model, data, 3, first, recorder, plugins=[scaler_plugin(scale)])
        return first.gradient, recorder

    (whole, recorded), (parts, recorded_of_parts) = run(2.0**7, None), run(2.0**7, 3)
    assert 0 < (parts - whole).norm() < 8 * torch.finfo(torch.float16).eps * whole.norm()
    assert recorded.scales == recorded_of_parts.scales
    (_, skipped), (_, skipped_of_parts) = run(2.0**40, None), run(2.0**40, 3)
    assert skipped.scales == skipped_of_parts.scales
    assert all(torch.equal(a, b) for a, b in zip(skipped.weights[0], skipped_of_parts.weights[0], strict=True))


class FirstGradient(Callback):
    """Keeps the critic's gradient at the first update."""

    def __init__(self) -> None:
        self.gradient: torch.Tensor | None = None

    def on_before_optimizer_step(self, trainer: Any, module: Any, optimizer: Any) -> None:
        if self.gradient is None:
            gradients = [p.grad.flatten() for p in module.discriminator.parameters() if p.grad is not None]
            self.gradient = torch.cat(gradients).clone()


def penalty_gradient(build, network: str, fixed: bool, seed: int = 0, **precision: Any) -> torch.Tensor:
    """Return the gradient of the penalty alone; ``fixed`` replaces generated samples by exact ones."""
    model, data = build("model=wgan_gp", f"network={network}", "model.d_steps=1", f"seed={seed}")
    model.loss.discriminator = lambda real, fake: 0 * (real.mean() + fake.mean())
    if fixed:
        original = model.generator.forward
        model.generator.forward = lambda z, y: original(z, y) * 0 + data.real(len(z)).flip(-1)
    first_gradient = FirstGradient()
    fit(model, data, 1, first_gradient, **precision)
    return first_gradient.gradient


@pytest.mark.parametrize("precision", HALVES)
@pytest.mark.parametrize("network", ["mlp", "dcgan", "resnet"])
def test_gradient_of_penalty_equals_single_precision(build, network, precision):
    """For equal samples it is exact; otherwise its error is about the rounding error of the generated samples.

    Rounding can flip the sign at a rectifier, where the gradient jumps. In deep residual networks one seed can dominate
    the error, hence their median; the other networks must meet the bound for every seed.
    """

    def half_precision() -> dict[str, Any]:
        return {"plugins": [scaler_plugin(1.0)]} if precision == "16-mixed" else {"precision": precision}

    expected = penalty_gradient(build, network, True)
    assert expected.norm() > 0
    assert torch.equal(penalty_gradient(build, network, True, **half_precision()), expected)
    errors = []
    for seed in range(5):
        expected, rounded = (
            penalty_gradient(build, network, False, seed, **precision_options)
            for precision_options in ({}, half_precision())
        )
        errors.append(float((rounded - expected).norm() / expected.norm()))
    assert (median if network == "resnet" else max)(errors) < 8 * torch.finfo(HALVES[precision]).eps


def test_non_finite_loss_stops_run_with_scaler(build, tmp_path, monkeypatch):
    model, data = build(*OVERRIDES)
    original = model.generator_loss

    def nan_loss(*args: torch.Tensor) -> tuple[dict[str, torch.Tensor], Logits]:
        terms, logits = original(*args)
        return {name: term * torch.nan if model.global_step >= 3 else term for name, term in terms.items()}, logits

    monkeypatch.setattr(model, "generator_loss", nan_loss)
    with pytest.raises(UserError, match=r"step 4: g/adversarial is nan"):
        fit(model, data, 20, MetricLogger(every_n_steps=5), plugins=[scaler_plugin(2.0**7)], default_root_dir=tmp_path)


def test_overflowing_gradient_does_not_stop_run(build, tmp_path):
    model, data = build(*OVERRIDES)
    fit(model, data, 10, MetricLogger(every_n_steps=1), plugins=[scaler_plugin(2.0**40)], default_root_dir=tmp_path)
    assert model.global_step == 10


def logged_metrics(build, tmp_path, network: str, offset: float, weight: float, **precision: Any) -> dict[str, float]:
    """Return the metrics of the first step of a critic with the given offset and weight of its logits."""
    model, data = build(
        "model=wgan", f"network={network}", "model.d_steps=1", "data.batch_size=26", "model.clip_value=1e3"
    )
    with torch.no_grad():
        model.discriminator.head.weight.mul_(weight)
        model.discriminator.head.bias.fill_(offset)
    metric_logger = MetricLogger(every_n_steps=1)
    fit(model, data, 1, metric_logger, default_root_dir=tmp_path, **precision)
    return metric_logger.last


@pytest.mark.parametrize("precision", HALVES)
@pytest.mark.parametrize("network", ["mlp", "dcgan", "resnet"])
def test_logged_wasserstein_distance_is_independent_of_offset(build, tmp_path, network, precision):
    """Half precision has steps of 0.5 near 100."""
    half_precision = {"plugins": [scaler_plugin(1.0)]} if precision == "16-mixed" else {"precision": precision}
    measured = logged_metrics(build, tmp_path / "a", network, 0.0, 1.0)["d/adversarial"]
    weight = -0.149 / measured
    single = logged_metrics(build, tmp_path / "b", network, 0.0, weight)
    assert single["d/adversarial"] == pytest.approx(-0.149, abs=1e-6)
    expected = logged_metrics(build, tmp_path / "c", network, 0.0, weight, **half_precision)
    assert expected["d/adversarial"] == pytest.approx(-0.149, abs=0.01), "rounding error of the features"
    for offset in (10.0, 100.0):
        metrics = logged_metrics(build, tmp_path / str(offset), network, offset, weight, **half_precision)
        assert metrics["d/adversarial"] == pytest.approx(expected["d/adversarial"], abs=1e-3)
        assert metrics["d/output_fake"] - metrics["d/output_real"] == pytest.approx(metrics["d/adversarial"], abs=1e-3)
        assert metrics["g/adversarial"] == pytest.approx(expected["g/adversarial"] - offset, abs=1e-3)


PRECISIONS = {
    "32-true": torch.float32,
    "bf16-mixed": torch.float32,
    "64-true": torch.float64,
    "bf16-true": torch.float32,
}


class HalfPrecisionCritic(nn.Module):
    """A user-supplied critic that computes in the precision of the run, so its logits are in half precision."""

    num_classes, feature_dim = 10, 4

    def __init__(self, shape: tuple[int, ...], outputs: int = 1) -> None:
        super().__init__()
        self.net = nn.Linear(math.prod(shape), 4)
        self.head = nn.Linear(4, outputs)

    def features(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return self.net(x.flatten(1))

    def logits(self, features: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return self.head(features).squeeze(1)

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return self.logits(self.features(x, y), y)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_losses_get_logits_in_at_least_single_precision(build, monkeypatch, variant, precision):
    if (variant, precision) == ("wgan_gp", "bf16-true"):
        pytest.skip("the command line rejects it: double backward needs weights of single precision")
    dtypes: list[torch.dtype] = []
    dtype = PRECISIONS[precision]
    model, data = build(f"model={variant}", "network=mlp")
    model.discriminator = HalfPrecisionCritic(data.shape)
    if variant == "acgan":
        model.discriminator.class_head = Head(4, 10)
    for side in ("discriminator", "generator"):
        usual = getattr(model.loss, side)
        spy = lambda *logits, usual=usual: (dtypes.extend(part.dtype for part in logits), usual(*logits))[1]  # noqa: E731
        monkeypatch.setattr(model.loss, side, spy)
    cross_entropy = torch.nn.functional.cross_entropy
    monkeypatch.setattr(
        torch.nn.functional, "cross_entropy", lambda x, y: (dtypes.append(x.dtype), cross_entropy(x, y))[1]
    )
    outputs = Outputs()
    fit(model, data, 1, outputs, precision=precision)
    assert len(dtypes) >= (6 if variant == "acgan" else 3)
    assert {*dtypes} == {dtype}
    assert {logits.dtype for logits in (*outputs.last["d"].logits, outputs.last["g"].logits.fake)} == {dtype}
    assert {term.dtype for output in outputs.last.values() for term in output.terms.values()} == {dtype}


@pytest.mark.parametrize("precision", PRECISIONS)
def test_vae_bound_is_in_at_least_single_precision(build, precision):
    model, data = build("model=vae", "network=mlp")
    model.encoder = HalfPrecisionCritic(data.shape, 2 * model.latent_dim)
    dtypes, bound, dtype = [], model.bound, PRECISIONS[precision]
    model.bound = lambda *parts: (dtypes.extend(part.dtype for part in parts[1:]), bound(*parts))[1]
    outputs = Outputs()
    fit(model, data, 1, outputs, precision=precision)
    assert dtypes == [dtype] * 3
    assert {term.dtype for term in outputs.last["g"].terms.values()} == {dtype}
