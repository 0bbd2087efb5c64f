"""The behaviour that all models in conf/model share: update order, minibatches, seeds, sampling, EMA, clipping."""

import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset
from training import Outputs, fit, fit_and_record, networks, same, weights

from gan_lightning.data.datamodule import StepBatchLoader
from gan_lightning.errors import UserError
from gan_lightning.model.cgan import CGAN
from gan_lightning.model.cuda_graphs import Eager
from gan_lightning.model.vanilla import VanillaGAN

OFF = tuple(
    f"~callbacks.{name}" for name in ("metric_logger", "sample_grid", "progress", "checkpoint", "graceful_stop")
)
NO_CALLBACKS = (*OFF, "~logger.tensorboard")


# Updates and batches


@pytest.mark.parametrize("d_steps", [1, 3])
def test_networks_are_updated_in_turn(build, variant, d_steps):
    model, data = build(f"model={variant}", f"model.d_steps={d_steps}")
    model, seen = fit_and_record((model, data), steps=2)
    order = [(snapshot.network, snapshot.when) for snapshot in seen.snapshots]
    order_of_step = [("d", "pre"), ("d", "post")] * d_steps + [("g", "pre"), ("g", "post")]
    assert order == order_of_step * 2
    assert model.trainer.global_step == 2
    g, g_grad = seen.start[0], [None] * len(seen.start[0])
    for step in range(2):
        of_step = seen.snapshots[step * len(order_of_step) : (step + 1) * len(order_of_step)]
        *d_updates, before, after = of_step
        for pre, post in zip(d_updates[::2], d_updates[1::2], strict=True):
            assert pre.d_trainable
            assert not same(pre.d, post.d), "D is unchanged by its step"
            for snapshot in (pre, post):
                assert same(snapshot.g, g), "G changed in D's step"
                assert same(snapshot.g_grad, g_grad), "D's step left a gradient in G"
        d = before.d
        assert same(before.d_grad, d_updates[-1].d_grad), "G's step left a gradient in D"
        assert same(after.d, d), "D changed in G's step"
        assert not same(before.g, after.g), "G is unchanged by its step"
        assert [snapshot.step for snapshot in of_step] == [step] * (len(of_step) - 1) + [of_step[-1].step]
        g, g_grad = after.g, after.g_grad
    assert same(weights(model.discriminator), d), "D changed after G's step"
    assert all(p.requires_grad for p in [*model.generator.parameters(), *model.discriminator.parameters()])
    for network, start in zip((model.generator, model.discriminator), seen.start, strict=True):
        matrices = [(a, b) for a, b in zip(start, weights(network), strict=True) if a.ndim > 1]
        assert matrices
        assert all(not torch.equal(a, b) for a, b in matrices)


@pytest.mark.parametrize("d_steps", [1, 2])
def test_every_discriminator_update_has_new_minibatch(build, variant, d_steps):
    model, data = build(f"model={variant}", f"model.d_steps={d_steps}", "data.limit=26")
    _, seen = fit_and_record((model, data), steps=3)
    assert [len(real) for real in seen.reals] == [4] * (3 * d_steps)
    assert torch.equal(torch.cat(seen.reals), torch.cat(seen.batches))
    loader = StepBatchLoader(data.samples, data.labels, minibatch=4, d_steps=d_steps, stop=3)
    expected = torch.cat([data.samples[loader.rows(step)] for step in range(3)])
    assert torch.equal(torch.cat(seen.reals), data.scale(expected))
    rows = torch.cat([loader.rows(step) for step in range(3)])
    assert len(set(rows.tolist())) == len(rows), "an image occurs twice in the first epoch"


IMAGES, LABELS = torch.zeros(40, 1, 4, 4), torch.arange(40) % 3
PAIR_EXPECTED = "must be a pair of samples"


@pytest.mark.parametrize(
    ("d_steps", "loader", "message"),
    [
        (5, DataLoader(TensorDataset(IMAGES, LABELS), 8), r"batch of 8 samples: must be a multiple of model.d_steps=5"),
        (5, DataLoader(TensorDataset(IMAGES, LABELS), 3), r"batch of 3 samples: must be a multiple of model.d_steps=5"),
        (2, DataLoader(TensorDataset(IMAGES[:5], LABELS[:5]), 4), r"batch of 1 samples: .* drop_last=True"),
        (1, DataLoader(TensorDataset(IMAGES), 8), PAIR_EXPECTED),
        (1, DataLoader(IMAGES, 8), PAIR_EXPECTED),
        (1, DataLoader(IMAGES, 2), PAIR_EXPECTED),  # a tensor of two samples is not samples and labels
        (1, DataLoader(TensorDataset(IMAGES, LABELS, LABELS), 8), PAIR_EXPECTED),
        (1, DataLoader(TensorDataset(IMAGES, torch.eye(40)[:, :3]), 8), r"labels of shape \(8, 3\) .* \(8,\)"),
        (1, DataLoader(TensorDataset(IMAGES, LABELS.float()), 8), r"labels of type torch.float32"),
        (2, DataLoader([(IMAGES[:8], LABELS[:6])], batch_size=None), r"labels of shape \(6,\) .* \(8,\)"),
        (1, DataLoader([(IMAGES[:0], LABELS[:0])], batch_size=None), r"batch of 0 samples"),
    ],
)
def test_batch_that_is_not_d_steps_minibatches_is_error(d_steps, loader, message):
    model = VanillaGAN(**networks(), d_steps=d_steps)
    with pytest.raises(UserError, match=message):
        fit(model, loader, 3)


NOISE = torch.linspace(-1, 1, 8 * 16).reshape(8, 1, 4, 4)
EIGHT_LABELS = torch.arange(8) % 3


@pytest.mark.parametrize(
    ("samples", "labels", "message"),
    [
        (
            torch.zeros(8, 1, 4, 4, dtype=torch.uint8),
            EIGHT_LABELS,
            r"uint8; .* floats in \[-1, 1\]: samples / 127\.5 - 1",
        ),
        (NOISE.double(), EIGHT_LABELS, r"float64; .* float32: samples\.to\(torch\.float32\)"),
        ((NOISE + 1) * 127.5, EIGHT_LABELS, r"in \[0, 255\], .* \[-1, 1\]: samples / 127\.5 - 1"),
        (NOISE * 2, EIGHT_LABELS, r"in \[-2, 2\], and should be in \[-1, 1\]$"),
        (NOISE * torch.nan, EIGHT_LABELS, "NaN or infinite"),
        (NOISE * torch.inf, EIGHT_LABELS, "NaN or infinite"),
        (NOISE.permute(0, 2, 3, 1), EIGHT_LABELS, r"\(4, 4, 1\), .* \(1, 4, 4\); channels are last: samples\.permute"),
        (NOISE[:, 0], EIGHT_LABELS, r"\(4, 4\), .* \(1, 4, 4\); add the axis of the channels: samples\[:, None\]"),
        (NOISE.expand(-1, 3, -1, -1), EIGHT_LABELS, r"\(3, 4, 4\), and the networks expect \(1, 4, 4\)$"),
        (NOISE, EIGHT_LABELS + 1, "labels run from 1 to 3, .* 0 to 2.* labels - 1"),
        (NOISE, EIGHT_LABELS - 1, "labels run from -1 to 1, .* 0 to 2"),
        (NOISE, EIGHT_LABELS.to(torch.uint8), r"labels are uint8; .* labels\.long\(\)"),
    ],
)
def test_values_of_first_batch_are_validated(samples, labels, message):
    """Without this validation these values train without an error, or end in a traceback of torch."""
    model = CGAN(**networks(3, 3))
    with pytest.raises(UserError, match=f"^batch: .*{message}"):
        fit(model, DataLoader([(samples, labels)], batch_size=None), 1)


def test_images_in_zero_to_one_are_warned_about_once(caplog):
    loader = DataLoader([((NOISE + 1) / 2, EIGHT_LABELS)] * 3, batch_size=None)
    fit(VanillaGAN(**networks()), loader, 3)
    message = "batch: images in [0, 1], and should be in [-1, 1]: 2 * samples - 1"
    assert [record.message for record in caplog.records if "batch" in record.message] == [message]
    caplog.clear()
    fit(VanillaGAN(**networks()), DataLoader([(NOISE, EIGHT_LABELS + 7)], batch_size=None), 1)
    assert "batch" not in caplog.text, "labels of an unconditional model are validated"


@pytest.mark.parametrize("batch", [(IMAGES[:8],), (IMAGES[:8], LABELS[:6]), IMAGES[:2]])
def test_vae_validates_batch(build, batch):
    model, _ = build("model=vae", "data.image_size=16")
    with pytest.raises(UserError, match=r"batch: must be a pair|labels of shape"):
        fit(model, DataLoader([batch], batch_size=None), 1)


def test_plain_data_loader_of_whole_minibatches_trains():
    model = VanillaGAN(**networks(), d_steps=5)
    _, seen = fit_and_record((model, DataLoader(TensorDataset(IMAGES, LABELS), 20)), steps=2)
    assert [len(real) for real in seen.reals] == [4] * 10


@pytest.mark.parametrize(("reuse", "forwards"), [("true", [4]), ("false", [4, 4])])
def test_reuse_fake_saves_one_generator_forward(build, variant, reuse, forwards):
    _, seen = fit_and_record(build(f"model={variant}", "model.d_steps=1", f"model.reuse_fake={reuse}"), steps=2)
    assert seen.generated == forwards * 2


@pytest.mark.parametrize("reuse", ["true", "false"])
def test_reuse_fake_uses_same_samples_in_both_updates(build, reuse):
    model, data = build("model=vanilla", f"model.reuse_fake={reuse}")
    fakes: dict[str, Tensor] = {}
    d_loss, g_loss = model.discriminator_loss, model.generator_loss
    model.discriminator_loss = lambda real, fake, y: (fakes.update(d=fake), d_loss(real, fake, y))[1]
    model.generator_loss = lambda fake, *args: (fakes.update(g=fake.detach().clone()), g_loss(fake, *args))[1]
    fit(model, data, 1)
    assert torch.equal(fakes["d"], fakes["g"]) == (reuse == "true")


def test_generator_batch_multiplier_affects_only_generator_update(build, variant):
    overrides = f"model={variant}", "model.d_steps=2", "model.reuse_fake=false", "model.generator_batch_multiplier=2"
    _, seen = fit_and_record(build(*overrides), steps=2)
    assert seen.generated == [4, 4, 8] * 2


def test_state_dict_has_expected_keys(build, learner):
    model, _ = build(f"model={learner}")
    networks = {"generator", "encoder" if learner == "vae" else "discriminator"}
    assert model.networks().keys() == {key.partition(".")[0] for key in model.state_dict()} == networks
    model, _ = build(f"model={learner}", "model.ema_decay=0.9")
    keys = set(model.state_dict())
    assert {key.partition(".")[0] for key in keys} == {*networks, "generator_ema"}
    assert {f"generator_ema.network.{key}" for key in model.generator.state_dict()} < keys


@pytest.mark.parametrize(("norm", "passes"), [("none", 1), ("layer", 1), ("batch", 2)])
def test_real_and_fake_share_one_discriminator_pass_without_batch_norm(build, norm, passes):
    model, data = build("model=cgan", f"network.discriminator.norm={norm}", "network.discriminator.init_std=0.3")
    sizes = []
    model.discriminator.register_forward_hook(lambda net, args, out: sizes.append(len(out)))
    real, fake = torch.randn(4, *data.shape), torch.randn(4, *data.shape)
    y = torch.arange(4)
    together = model.discriminate(real, fake, y)
    assert sizes == ([8] if passes == 1 else [4, 4])
    for logits, x in zip(together, (real, fake), strict=True):
        torch.testing.assert_close(logits, model.discriminator(x, y))


@pytest.mark.parametrize(("precision", "dtype"), [("64-true", torch.float64), ("bf16-mixed", torch.float32)])
def test_models_train_in_other_precisions(build, learner, precision, dtype):
    model, data = build(f"model={learner}", "model.ema_decay=0.9")
    before, outputs = [weights(network) for network in model.networks().values()], Outputs()
    fit(model, data, 2, outputs, precision=precision)
    for network, start in zip(model.networks().values(), before, strict=True):
        assert all(p.dtype == dtype and p.isfinite().all() for p in network.parameters())
        assert not same([p.to(torch.float64) for p in start], [p.to(torch.float64) for p in weights(network)])
    assert all(term.isfinite() for output in outputs.last.values() for term in output.terms.values())
    assert model.sample(3).isfinite().all()


def test_sample_is_seeded_and_has_no_side_effects(build, learner):
    model, data = build(f"model={learner}")
    fit(model, data, 1)
    model.train()
    state, before = torch.random.get_rng_state(), [p.clone() for p in model.state_dict().values()]
    samples = model.sample(5, seed=3)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert samples.shape == (5, *data.shape)
    assert samples.abs().max() <= 1
    assert not samples.requires_grad
    assert all(module.training for module in model.modules())
    assert same([*model.state_dict().values()], before)
    assert torch.equal(model.sample(5, seed=3), samples)
    assert not torch.equal(model.sample(5, seed=4), samples)
    assert len(model.sample(300)) == 300, "wrong number of samples from several batches"
    model.eval()
    model.sample(1)
    assert not model.generator.training


def test_sample_works_after_change_of_dtype(build):
    model, data = build("model=vanilla", "model.ema_decay=0.9")
    fit(model, data, 1)
    assert model.sample(2).dtype == torch.float32
    assert model.double().sample(2).dtype == torch.float64


@pytest.mark.parametrize("name", ["cgan", "acgan"])
def test_sample_depends_on_labels(build, name):
    model, _ = build(f"model={name}")
    model.eval()
    labels = [3, 3, 7]
    samples = model.sample(3, labels=labels, seed=1)
    assert torch.equal(samples, model.sample(3, labels=torch.tensor(labels), seed=1))
    others = model.sample(3, labels=[3, 3, 2], seed=1)
    assert torch.equal(samples[:2], others[:2])
    assert not torch.equal(samples[2], others[2])


@pytest.mark.parametrize(
    ("name", "labels", "expected"),
    [
        ("vanilla", [3, 3, 3], "labels: the model has no classes"),
        ("cgan", [0, 10, 1], "labels: must be between 0 and 9"),
        ("cgan", [0, -1, 1], "labels: must be between 0 and 9"),
        ("cgan", [0, 1], "labels: must be 3 integers, one class per sample"),
        ("cgan", 3, "labels: must be 3 integers, one class per sample"),
        ("acgan", [0.5, 1.0, 2.0], "labels: must be 3 integers, one class per sample"),
        ("cgan", [True, False, True], "labels: must be 3 integers, one class per sample"),
    ],
)
def test_invalid_labels_are_value_errors(build, name, labels, expected):
    model, _ = build(f"model={name}")
    with pytest.raises(ValueError, match=expected):
        model.sample(3, labels)


# Seeds and callbacks


def state_of(model: Any) -> list[Tensor]:
    return [value.clone() for value in model.state_dict().values()]


def test_weights_depend_on_seed_and_not_on_callbacks(run, tmp_path, learner):
    overrides = f"model={learner}", "trainer.max_steps=3"
    frequent_callbacks = "callbacks.metric_logger.every_n_steps=1", "callbacks.checkpoint.every_n_steps=1"
    without_callbacks = state_of(run(tmp_path / "silent", *overrides, *NO_CALLBACKS).lightning_module)
    with_callbacks = state_of(run(tmp_path / "watched", *overrides, *frequent_callbacks).lightning_module)
    assert (tmp_path / "watched" / "samples" / "step_00000002.png").exists()
    assert not (tmp_path / "silent" / "samples").exists()
    assert same(without_callbacks, with_callbacks)
    torch.rand(7)  # the state of the default generator must make no difference
    again = state_of(run(tmp_path / "again", *overrides, *NO_CALLBACKS).lightning_module)
    assert same(without_callbacks, again)
    other = state_of(run(tmp_path / "other", *overrides, *NO_CALLBACKS, "seed=1").lightning_module)
    assert not same(without_callbacks, other)


def test_callbacks_do_not_change_training_on_points(run, tmp_path):
    overrides = "model=wgan_gp", "data=gaussian_ring", "trainer.max_steps=2"
    without_callbacks = state_of(run(tmp_path / "silent", *overrides, *NO_CALLBACKS).lightning_module)
    with_callbacks = state_of(run(tmp_path / "watched", *overrides).lightning_module)
    assert (tmp_path / "watched" / "samples" / "step_00000002.png").exists()
    assert same(without_callbacks, with_callbacks)


def test_ranks_draw_same_noise_and_minibatches_as_one_process():
    model = VanillaGAN(**networks())
    model.rng = torch.Generator()

    def draws_of(world: int, rank: int) -> list[Tensor]:
        model._trainer = SimpleNamespace(world_size=world, global_rank=rank, strategy=SimpleNamespace())
        model.rng.manual_seed(5)
        return [model.latents(8 // world), model.draw(torch.rand, 8 // world), model.latents(16 // world)]

    try:
        for single, *halves in zip(draws_of(1, 0), draws_of(2, 0), draws_of(2, 1), strict=True):
            assert torch.equal(single, torch.cat(halves))
            assert not torch.equal(*halves)
    finally:
        model._trainer = None
    data = torch.arange(30), torch.arange(30) % 3
    loaders = {
        (w, r): StepBatchLoader(*data, 8, d_steps=2, stop=5, rank=r, world_size=w) for w, r in [(1, 0), (2, 0), (2, 1)]
    }
    for batches in zip(*loaders.values(), strict=True):
        for complete, *parts in zip(*batches, strict=True):
            first, second = (part.view(2, 4) for part in parts)
            assert torch.equal(complete.view(2, 8), torch.cat([first, second], dim=1))


def test_ranks_pair_latents_and_labels_as_one_process():
    """With generator_batch_multiplier > 1, each label must have the same latents as in one process."""

    def pairs(world: int, rank: int, y: Tensor) -> set[tuple[float, int]]:
        model = VanillaGAN(**networks(num_classes=10), generator_batch_multiplier=2)
        seen: list[tuple[Tensor, Tensor]] = []
        model.generator.register_forward_pre_hook(lambda net, args: seen.append(args))
        optimizer = SimpleNamespace(zero_grad=lambda: None, step=lambda: None)
        model.rng, model.discriminator_parameters = torch.Generator(), []
        strategy = SimpleNamespace(optimizer_step=lambda *_: None)
        trainer_settings = {"world_size": world, "global_rank": rank, "global_step": 0, "strategy": strategy}
        model._trainer = SimpleNamespace(**trainer_settings, optimizers=(optimizer, optimizer))
        model.optimizers = lambda: (optimizer, optimizer)
        model.backward_terms, model.execute = (lambda *_: {}), Eager()
        model.training_step((torch.zeros(len(y), 1, 4, 4), y), 0)
        model._trainer = None
        z, labels = seen[-1]
        return {(float(a), int(b)) for a, b in zip(z[:, 0], labels, strict=True)}

    y = torch.arange(8)
    assert pairs(1, 0, y) == pairs(2, 0, y[:4]) | pairs(2, 1, y[4:])


# EMA and gradient clipping


def test_ema_equals_closed_form_and_is_sampled(build, variant):
    decay, overrides = 0.5, (f"model={variant}", "model.d_steps=1")
    plain, _ = fit_and_record(build(*overrides), steps=3)
    model, seen = fit_and_record(build(*overrides, f"model.ema_decay={decay}"), steps=3)
    assert same(weights(plain.generator), weights(model.generator))
    assert same(weights(plain.discriminator), weights(model.discriminator))
    expected = seen.start[0]
    for snapshot in seen.snapshots:
        if (snapshot.network, snapshot.when) == ("g", "post"):
            expected = [decay * a + (1 - decay) * b for a, b in zip(expected, snapshot.g, strict=True)]
    for weight, expected_weight in zip(model.generator_ema.network.parameters(), expected, strict=True):
        torch.testing.assert_close(weight, expected_weight)
        assert not weight.requires_grad
    assert not torch.equal(model.sample(4), plain.sample(4))
    labels = torch.zeros(4, dtype=torch.long)
    recalibrated = model.generator_ema.recalibrate_batchnorm(model.latent_dim, model.num_classes)
    seen_z: list[Tensor] = []
    with torch.no_grad():
        model.sampler().register_forward_pre_hook(lambda net, args: seen_z.append(args[0]))
        samples = model.sample(4, labels)
        torch.testing.assert_close(samples, recalibrated(seen_z[0], labels))


def test_ema_does_not_exist_by_default(build):
    model, data = build("model=vanilla")
    fit(model, data, 1)
    assert model.generator_ema is None
    assert model.sampler() is model.generator


@pytest.mark.parametrize(("network", "other"), [("g", "d"), ("d", "g")])
def test_clip_norm_limits_gradient_of_one_network(build, variant, network, other):
    names = {"g": "generator", "d": "discriminator"}

    def norms(*overrides: str) -> dict[str, list[float]]:
        _, seen = fit_and_record(build(f"model={variant}", "model.d_steps=2", *overrides), steps=2)
        found: dict[str, list[float]] = {"g": [], "d": []}
        for snapshot in seen.snapshots:
            if snapshot.when == "post":
                grads = snapshot.g_grad if snapshot.network == "g" else snapshot.d_grad
                found[snapshot.network].append(math.sqrt(sum(float(g.square().sum()) for g in grads if g is not None)))
        return found

    bound = min(norms()[network]) * 1e-3
    clipped = norms(f"model.{names[network]}_clip_norm={bound}")
    assert clipped[network] == pytest.approx([bound] * len(clipped[network]), rel=1e-2)
    assert all(norm > 10 * bound for norm in clipped[other])
