"""Micro batches: accumulated gradients, random numbers and results equal those of the whole minibatch."""

import re
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from training import UpdateRecorder, fit, networks

from gan_lightning.errors import UserError
from gan_lightning.io.memory import out_of_memory_message
from gan_lightning.model.micro_batch import MicroBatch, merged
from gan_lightning.model.vanilla import VanillaGAN
from gan_lightning.model.wgan_gp import WGANGP
from gan_lightning.network.mlp import MLPGenerator
from gan_lightning.penalty.gradient_penalty import input_gradient_norm

ROWS = 7  # in micro batches of 3 the last one has a single row
WITHOUT_BATCHNORM = "network.generator.norm=none", "network.discriminator.norm=none"
NEW_FAKES = {False: ("model.reuse_fake=false",), True: ()}  # by whether the model is the VAE


class Shift:
    """An augmentation that adds a random number to each sample."""

    def __call__(self, x: Tensor, draw: Any) -> Tensor:
        return x * (1 + draw(torch.rand, len(x), 1, 1, 1))


class R1:
    """A penalty that also draws random numbers."""

    def __call__(self, critic: Any, real: Tensor, fake: Tensor, y: Tensor, draw: Any) -> Tensor:
        return (draw(torch.rand, len(real)) * input_gradient_norm(critic, real, y).square()).mean()


class PairedLogits:
    """A relativistic loss (Jolicoeur-Martineau, 2018)."""

    boundary, needs_real_logits = 0.0, True

    def discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        return F.softplus(fake - real).mean()

    def generator(self, fake: Tensor, real: Tensor) -> Tensor:
        return F.softplus(real - fake).mean()


def updates(model: Any, micro_batch: int | None, shape: tuple[int, ...]) -> dict[str, Any]:
    """Compute the gradients of each update with equal random numbers; return gradients, results and final states."""
    model.double()
    random = torch.Generator().manual_seed(1)
    real = torch.randn(ROWS, *shape, generator=random, dtype=torch.float64)
    y = torch.randint(0, 5, (ROWS,), generator=random)
    initial = {name: value.clone() for name, value in model.state_dict().items()}
    model.rng.manual_seed(3)
    model.micro_batch, found = micro_batch, {}
    torch.set_default_dtype(torch.float64)  # of random numbers
    try:
        if hasattr(model, "encoder"):
            results = {"g": model.gradients(real, y)}
        else:
            results = {"d": model.discriminator_gradients(real, y)[0]}
            found["gradients of d"] = [weight.grad for weight in model.discriminator.parameters()]
            results["g"] = model.generator_gradients(real, y)
    finally:
        torch.set_default_dtype(torch.float32)
    found["gradients of g"] = [weight.grad for weight in model.optimized_parameters("g")]
    for name, output in results.items():
        found |= {f"{name} {term}": value for term, value in output.terms.items()}
        found |= {f"fake of {name}": output.fake, f"logits of {name}": output.logits}
    found |= {"rng": model.rng.get_state(), "state": [value.clone() for value in model.state_dict().values()]}
    model.load_state_dict(initial)
    return found


def flat(values: Any) -> Tensor:
    values = values if isinstance(values, list | tuple) else [values]
    return torch.cat([value.flatten().double() for value in values if value is not None] or [torch.zeros(0)])


def assert_equal_updates(model: Any, micro_batch: int, shape: tuple[int, ...]) -> None:
    """Check that results are equal to 1e-12 of the largest value, with gradients that are not zero."""
    passes: list[int] = []
    whole = updates(model, None, shape)
    hook = model.generator.register_forward_hook(lambda net, args, out: passes.append(len(out)))
    parts = updates(model, micro_batch, shape)
    hook.remove()
    assert max(passes) <= micro_batch
    assert whole.keys() == parts.keys()
    for name, expected in whole.items():
        found, expected = flat(parts[name]), flat(expected)
        assert found.shape == expected.shape, name
        largest = float(expected.abs().max()) if len(expected) else 0.0
        assert largest > 0 or not name.startswith("gradients")
        torch.testing.assert_close(
            found, expected, rtol=0, atol=1e-12 * largest, msg=lambda text, n=name: f"{n}: {text}"
        )


@pytest.mark.parametrize("micro_batch", [1, 3])
def test_gradients_equal_those_of_whole_minibatch(build, learner, micro_batch):
    model, data = build(f"model={learner}", *WITHOUT_BATCHNORM, *NEW_FAKES[learner == "vae"])
    assert_equal_updates(model, micro_batch, data.shape)


@pytest.mark.parametrize("name", ["vanilla", "acgan", "wgan_gp"])
def test_spectral_normalization_is_that_of_whole_minibatch(build, name):
    """Each pass of the discriminator iterates the singular vectors; an update of these has one to three passes."""
    model, data = build(f"model={name}", *WITHOUT_BATCHNORM, "network.discriminator.spectral_norm=true")
    assert_equal_updates(model, 3, data.shape)


@pytest.mark.parametrize("kind", [VanillaGAN, WGANGP])
@pytest.mark.parametrize("settings", [{"augment": Shift()}, {"penalties": {"r1": R1()}}, {"loss": PairedLogits()}])
@pytest.mark.parametrize("multiplier", [1, 2])
def test_random_numbers_and_pairs_are_those_of_whole_minibatch(kind, settings, multiplier):
    model = kind(**networks() | settings, generator_batch_multiplier=multiplier)
    assert_equal_updates(model, 4, (1, 4, 4))


def test_generator_batch_is_split_by_its_own_size():
    model = VanillaGAN(**networks(), generator_batch_multiplier=3)
    model.micro_batch, sizes = 8, []
    model.generator.register_forward_hook(lambda net, args, out: sizes.append(len(out)))
    real, y = torch.randn(5, 1, 4, 4), torch.zeros(5, dtype=torch.long)
    model.discriminator_gradients(real, y)
    assert sizes == [5]
    model.generator_gradients(real, y)
    assert sizes[1:] == [6, 6, 3]


@pytest.mark.parametrize("micro_batch", [ROWS, 100])
def test_micro_batch_of_whole_minibatch_changes_no_bit(micro_batch):
    model = WGANGP(**networks())
    whole, parts = (updates(model, size, (1, 4, 4)) for size in (None, micro_batch))
    assert all(torch.equal(flat(parts[name]), flat(value)) for name, value in whole.items())


def test_whole_run_equals_run_without_micro_batches(build, learner):
    """Also the samples that callbacks get, and the EMA."""
    own = f"model={learner}", *WITHOUT_BATCHNORM, "model.ema_decay=0.9", *NEW_FAKES[learner == "vae"]
    runs = []
    for micro_batch in (None, 3):
        model, data = build(*own)
        model.micro_batch = micro_batch
        fit(model, data, 3, precision="64-true")
        runs.append(model.state_dict())
    assert any(not torch.equal(value, runs[1][name]) for name, value in runs[0].items()), "not split"
    for name, value in runs[0].items():
        torch.testing.assert_close(runs[1][name], value, rtol=0, atol=1e-11, msg=name)


def test_update_is_one_optimizer_step(build):
    model, data = build("model=wgan_gp", "model.d_steps=2", *WITHOUT_BATCHNORM)
    model.micro_batch, recorder = 1, UpdateRecorder()
    fit(model, data, 2, recorder)
    assert [snapshot.network for snapshot in recorder.snapshots if snapshot.when == "pre"] == ["d", "d", "g"] * 2
    assert model.current_micro_batch is None


def test_results_are_merged_in_order_of_whole_minibatch():
    whole = torch.arange(10).view(2, 5)  # two samples for each of five rows
    parts = [
        {"a": (whole[:, rows].flatten(), None, torch.tensor(mean))}
        for rows, mean in ((slice(3), 1.0), (slice(3, 5), 2.0))
    ]
    rows, nothing, mean = merged(parts, [3, 2])["a"]
    assert torch.equal(rows, whole.flatten())
    assert nothing is None
    assert float(mean) == pytest.approx((3 * 1 + 2 * 2) / 5)


def test_draw_of_other_size_than_micro_batch_is_error():
    part = MicroBatch(0, 3, 7, [])
    with pytest.raises(UserError, match=r"trainer\.micro_batch: 6 rows of random numbers .* of 3; .*micro_batch=null$"):
        part.draw(torch.rand, 6)


def test_error_ends_micro_batch():
    model = VanillaGAN(**networks(), penalties={"broken": lambda *_: 1 / 0})
    model.micro_batch = 3
    with pytest.raises(ZeroDivisionError):
        model.discriminator_gradients(torch.randn(7, 1, 4, 4), torch.zeros(7, dtype=torch.long))
    assert model.current_micro_batch is None


class PairedLogitsOfMinibatch(PairedLogits):
    needs_whole_minibatch = True


@pytest.mark.parametrize(
    ("settings", "part"),
    [({"reuse_fake": True}, "reuse_fake=True"), ({"loss": PairedLogitsOfMinibatch()}, "PairedLogitsOfMinibatch")],
)
def test_parts_that_need_whole_minibatch_are_rejected(settings, part):
    real, y = torch.randn(7, 1, 4, 4), torch.zeros(7, dtype=torch.long)
    model = VanillaGAN(**networks() | settings)
    model.micro_batch = 7
    model.discriminator_gradients(real, y)
    model.micro_batch = 3
    with pytest.raises(UserError, match=rf"^trainer\.micro_batch=3: {part} needs the whole minibatch at once; "):
        model.discriminator_gradients(real, y)


class TooLarge:
    """A penalty that runs out of memory for more than some samples."""

    def __init__(self, most: int) -> None:
        self.most = most

    def __call__(self, critic: Any, real: Tensor, fake: Tensor, y: Tensor, draw: Any) -> Tensor:
        return torch.empty(2**50) if len(real) > self.most else 0 * critic(real, y).mean()


def test_out_of_memory_error_names_micro_batch_that_fits():
    """Following the advice again and again ends at a value that fits."""
    real, y = torch.randn(20, 1, 4, 4), torch.zeros(20, dtype=torch.long)
    model, advised = VanillaGAN(**networks(), penalties={"large": TooLarge(4)}), []
    for _ in range(3):
        with pytest.raises(RuntimeError) as caught:
            model.discriminator_gradients(real, y)
        (note,) = caught.value.__notes__
        assert note.endswith(" computes each minibatch in parts (its gradients are the same)")
        model.micro_batch = int(re.match(r"trainer\.micro_batch=(\d+) computes", note).group(1))
        advised.append(model.micro_batch)
        assert f"or a larger device; {note} (" in out_of_memory_message(caught.value)
    assert advised == [10, 5, 3]
    model.discriminator_gradients(real, y)


@pytest.mark.parametrize(
    ("settings", "norm", "micro_batch", "expected"),
    [
        ({}, "none", 5, "trainer.micro_batch=3 computes each minibatch in parts (its gradients are the same)"),
        ({}, "none", 1, None),
        ({"reuse_fake": True}, "none", None, "trainer.micro_batch=4 model.reuse_fake=false computes "),
        ({"loss": PairedLogitsOfMinibatch()}, "none", None, None),
        (
            {},
            "batch",
            None,
            "trainer.micro_batch=4 computes each minibatch in parts (BatchNorm then uses the statistics",
        ),
        ({}, "batch", 5, None),  # micro batches of 3 or 2 of the 7 rows leave a single one
        ({}, "batch", 2, None),
    ],
)
def test_advice_when_out_of_memory_is_valid(settings, norm, micro_batch, expected):
    settings = networks() | {"penalties": {"large": TooLarge(0)}} | settings
    settings["generator"] = MLPGenerator(latent_dim=3, shape=(1, 4, 4), width=8, depth=1, norm=norm)
    model = VanillaGAN(**settings)
    model.micro_batch = micro_batch
    model.history.append((1, {}))  # so that a part that needs the whole minibatch is not an error
    with pytest.raises(RuntimeError) as caught:
        model.discriminator_gradients(torch.randn(7, 1, 4, 4), torch.zeros(7, dtype=torch.long))
    notes = getattr(caught.value, "__notes__", [])
    assert len(notes) == (expected is not None)
    assert all(note.startswith(expected) for note in notes)


def test_other_errors_get_no_advice():
    model = VanillaGAN(**networks())
    with pytest.raises(RuntimeError) as caught:
        model.discriminator_gradients(torch.randn(7, 1, 3, 3), torch.zeros(7, dtype=torch.long))
    assert not hasattr(caught.value, "__notes__")
