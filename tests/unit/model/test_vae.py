"""VAE baseline: its bound, gradient and noise, training, sampling, and settings that it does not have."""

import copy
import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.distributions import Normal, kl_divergence
from training import Outputs, fit

import gan_lightning
from gan_lightning.callbacks.monitor import ADVICE, TrainingMonitor
from gan_lightning.cli import evaluate_checkpoint, explore, sample
from gan_lightning.errors import UserError
from gan_lightning.evaluation import compare
from gan_lightning.io.image import read_png, to_uint8, write_png
from gan_lightning.model.base import StepOutput
from gan_lightning.run import checkpoint as checkpoints
from gan_lightning.run.command_line import check_command_line

QUIET = "~callbacks.progress", "~callbacks.sample_grid", "~logger"


def inputs(model: Any, shape: tuple[int, ...]) -> tuple[Tensor, ...]:
    torch.manual_seed(0)
    x, x_hat = torch.randn(2, 5, *shape)
    return x, x_hat, *torch.randn(2, 5, model.latent_dim)


@pytest.mark.parametrize(
    "overrides", [(), ("model.beta=4", "model.output_std=0.1"), ("data=gaussian_ring",)], ids=" ".join
)
def test_bound_equals_torch_distributions(build, overrides):
    model, data = build("model=vae", *overrides)
    x, x_hat, mean, log_variance = inputs(model, data.shape)
    terms = model.bound(x, x_hat, mean, log_variance)
    likelihood = Normal(x_hat, model.output_std).log_prob(x).flatten(1).sum(1)
    divergence = kl_divergence(Normal(mean, (log_variance / 2).exp()), Normal(0.0, 1.0)).sum(1)
    torch.testing.assert_close(terms["reconstruction"], -likelihood.mean())
    torch.testing.assert_close(terms["kl"], (4 if overrides and "beta" in overrides[0] else 1) * divergence.mean())
    assert terms.keys() == {"reconstruction", "kl"}


@pytest.mark.parametrize("network", ["mlp", "dcgan", "resnet"])
def test_training_step_uses_reparameterized_gradient(build, network):
    model, data = build("model=vae", f"network={network}")
    model.encoder.head.bias.data += 0.5  # away from sigma = 1, where sigma and its square are equal
    before, (noise, x) = copy.deepcopy(model).train(), ([], [])
    latents, bound = model.latents, model.bound
    model.latents = lambda num: (noise.append(latents(num)), noise[0])[1]
    model.bound = lambda *args: (x.append(args[0]), bound(*args))[1]
    outputs = Outputs()
    fit(model, data, 1, outputs)
    y = torch.zeros(len(x[0]), dtype=torch.long)
    mean, log_variance = before.encode(x[0], y)
    q = Normal(mean, log_variance.exp().sqrt())
    x_hat = before.generator(q.mean + q.stddev * noise[0], y)
    likelihood = Normal(x_hat, model.output_std).log_prob(x[0]).flatten(1).sum(1)
    (kl_divergence(q, Normal(0.0, 1.0)).sum(1) - likelihood).mean().backward()
    torch.testing.assert_close(outputs.last["g"].fake, x_hat.detach())
    for name, network in model.networks().items():
        for key, weight in network.named_parameters():
            old = before.get_parameter(f"{name}.{key}")
            torch.testing.assert_close(weight.grad, old.grad, rtol=1e-3, atol=1e-3, msg=f"{name} {key}")
            assert weight.grad.abs().sum() > 0, (name, key)
            assert not torch.equal(weight, old), (name, key)


def test_noise_depends_on_seed_and_step(build):
    def noises(seed: int) -> Tensor:
        model, data = build("model=vae", f"seed={seed}")
        noise, latents = [], model.latents
        model.latents = lambda num: (noise.append(latents(num)), noise[-1])[1]
        fit(model, data, 2)
        return torch.stack(noise)

    first, again, other = noises(0), noises(0), noises(1)
    assert torch.equal(first, again)
    assert not torch.equal(first[0], first[1])
    assert not torch.equal(first, other)


def test_terms_are_summed_in_single_precision(build):
    model, data = build("model=vae")
    outputs = Outputs()
    fit(model, data, 1, outputs, precision="bf16-mixed")
    assert {term.dtype for term in outputs.last["g"].terms.values()} == {torch.float32}


def test_trained_vae_reconstructs_better_than_mean_image(run, tmp_path):
    overrides = "network.width=16", "data.limit=null", "data.batch_size=64", "trainer.max_steps=250", *QUIET
    trainer = run(tmp_path, "model=vae", "~callbacks.metric_logger", *overrides)
    model, x = trainer.lightning_module.eval(), trainer.datamodule.real(500)
    y = torch.zeros(len(x), dtype=torch.long)
    with torch.no_grad():
        error = (model.generate(model.encode(x, y)[0], y) - x).square().mean()
    assert error < 0.25 * (x - x.mean(0)).square().mean()


def test_metrics_csv_has_expected_columns(run, tmp_path):
    run(tmp_path, "model=vae", *QUIET)
    with (tmp_path / "metrics.csv").open(newline="") as file:
        (line,) = csv.DictReader(file)
    terms = {f"g/{name}" for name in ("reconstruction", "kl", "gradient_norm", "lr")}
    assert line.keys() == {"step", "images_seen", "images_per_second", *terms}
    assert int(line["images_seen"]) == 2 * 4, "expected one minibatch per step"


def test_labels_are_ignored(build):
    model, data = build("model=vae", "data=digits")
    x = data.real(3)
    assert data.num_classes == 10
    assert model.num_classes == 0
    assert torch.equal(model.encode(x, torch.tensor([0, 1, 2]))[0], model.encode(x, torch.tensor([5, 5, 5]))[0])
    with pytest.raises(ValueError, match="labels: the model has no classes"):
        model.sample(3, labels=[0, 1, 2])


@pytest.fixture(scope="module")
def folders() -> dict[str, Path]:
    return {}


@pytest.fixture
def trained_run(run, tmp_path_factory, folders) -> Path:
    """The directory of a tiny run, trained once for all tests."""
    if "run" not in folders:
        folders["run"] = tmp_path_factory.mktemp("vae")
        run(folders["run"], "model=vae", *QUIET)
    return folders["run"]


def test_loaded_checkpoint_encodes_and_decodes(trained_run):
    model = gan_lightning.load(trained_run / "checkpoints" / "last.ckpt")
    mean, log_variance = model.encode(torch.zeros(2, 1, 16, 16), torch.zeros(2, dtype=torch.long))
    assert mean.shape == log_variance.shape == (2, 32)
    assert model.generate(mean.detach(), torch.zeros(2, dtype=torch.long)).shape == (2, 1, 16, 16)


def test_checkpoint_is_explored_and_sampled(trained_run, tmp_path):
    path = trained_run / "checkpoints" / "last.ckpt"
    write_png(tmp_path / "of.png", to_uint8(gan_lightning.load(path).sample(1)[0]).expand(3, -1, -1))
    invert_options = f"latent.image={tmp_path}/of.png", "latent.steps=2", "latent.num_restarts=1"
    for option, options in {"invert": invert_options, "truncate": ()}.items():
        output = explore.explore(path, [f"latent={option}", f"out={tmp_path}/{option}", *options])
        assert output.splitlines() == [f"{tmp_path}/{option}.png", f"{tmp_path}/{option}.json"]
    sample.sample(sample.build_parser().parse_args([str(path), "--num", "3", "--out", f"{tmp_path}/s.npz"]))
    assert np.load(tmp_path / "s.npz")["images"].shape == (3, 16, 16, 1)


def test_init_from_loads_networks_of_vae(run, trained_run, tmp_path):
    path = trained_run / "checkpoints" / "last.ckpt"
    model = run(tmp_path, "model=vae", "trainer.max_steps=1", "model.optimizer.lr=1e-30", f"init_from={path}", *QUIET)
    before = checkpoints.read(path)["state_dict"]
    weights = dict(model.lightning_module.named_parameters())
    assert {name.partition(".")[0] for name in weights} == {"generator", "encoder"}
    assert all(torch.equal(weight, before[name]) for name, weight in weights.items())
    with pytest.raises(UserError, match=r"its discriminator does not fit this one"):
        run(tmp_path, "model=dcgan", "model.latent_dim=32", f"init_from={path}", *QUIET)


def test_vae_is_compared_with_gan_in_one_table(run, trained_run, tmp_path):
    run(tmp_path, "model=dcgan", *QUIET)
    rows = []
    for folder in (trained_run, tmp_path):
        path = folder / "checkpoints" / "last.ckpt"
        rows.append(compare.Row(str(path), evaluate_checkpoint.experiment_of(checkpoints.read(path), path), 0, 2))
    assert [label.split()[0] for label in compare.experiment_names(rows)] == ["vae", "dcgan"]
    assert "None" not in str(compare.experiment_names(rows))


def test_points_are_plotted_without_discriminator_surface(run, tmp_path):
    run(tmp_path, "model=vae", "data=gaussian_ring")
    image = read_png(tmp_path / "samples" / "step_00000002.png")
    assert image.shape == (3, 480, 480)
    assert image[:, 10, 10].tolist() == image[:, 430, 240].tolist() == [255] * 3, "the background is not white"
    assert len(image.flatten(1).unique(dim=1).T) > 20, "the plot is nearly empty"


def test_posterior_collapse_is_warned_about(build):
    model, data = build("model=vae")
    fit(model, data, 1)
    monitor, outputs = TrainingMonitor(), {"g": StepOutput({}, torch.zeros(4, *data.shape))}
    model.trainer.fit_loop.epoch_loop.manual_optimization.optim_step_progress.total.completed = 1000
    warnings = [monitor.check_losses(model.trainer, model, outputs, data.real(4)) for _ in range(5)]
    assert warnings[:4] == [[]] * 4
    assert ADVICE["posterior"] in warnings[4][0]


def test_divergence_error_names_learning_rate(run, tmp_path):
    with pytest.raises(UserError, match=r"lower learning rate \(model\.optimizer\.lr\)"):
        run(
            tmp_path,
            "model=vae",
            "model.optimizer.lr=1e30",
            "trainer.max_steps=5",
            "callbacks.metric_logger.every_n_steps=1",
        )


INVALID_OVERRIDES = {
    "loss=hinge": r"loss: has no effect, .*; leave it out",
    "loss.label_smoothing=0.1": r"loss\.label_smoothing: has no effect, .*; leave it out",
    "augment=diffaugment": r"augment: has no effect, .*; leave it out",
    "model.d_steps=2": r"model\.d_steps: .* it is a setting of model=acgan, cgan, .*wgan_gp",
    "model.reuse_fake=true": r"model\.reuse_fake: .* it is a setting of model=acgan, cgan, .*wgan_gp",
    "network.discriminator.spectral_norm=true": r"spectral_norm=true: model=vae needs .*; .*spectral_norm=false",
    "model.generator_optimizer.lr=1": r"model\.generator_optimizer\.lr: .* \(did you mean model\.optimizer\.lr\?\)",
    "model.optimizer.momentum=0.5": r"momentum: .* it is a setting of optimizer@model\.optimizer=sgd",
    "model.optimizer.lr=0": r"model\.optimizer\.lr=0: must be a number above 0",
    "model.optimizer.betas=[0.5]": r"betas=\[0\.5\]: must be a list of 2",
    "model.output_std=0": r"model\.output_std=0: must be a number above 0",
    "model.beta=-1": r"model\.beta=-1: must be a number of at least 0",
}


@pytest.mark.parametrize("override", INVALID_OVERRIDES)
def test_settings_of_gans_are_errors(override):
    with pytest.raises(UserError, match=INVALID_OVERRIDES[override]) as error:
        check_command_line(["model=vae", override])
    assert len(error.value.errors) == 1


def test_settings_of_vae_are_errors_for_gan():
    with pytest.raises(UserError, match=r"model\.beta: .* it is a setting of model=vae"):
        check_command_line(["model=dcgan", "model.beta=2"])
