"""EMA of a generator's weights; tests/unit/model/test_model.py tests it within training."""

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from training import fit

from gan_lightning.evaluation.evaluator import Evaluator
from gan_lightning.feature.custom import CustomModule
from gan_lightning.model.ema import EMA


class Tiny(nn.Module):
    """A generator with BatchNorm and the signature ``(z, y)``."""

    def __init__(self) -> None:
        super().__init__()
        self.linear, self.norm = nn.Linear(3, 4), nn.BatchNorm1d(4)
        self.label = nn.Embedding(2, 4)

    def forward(self, z, y):
        return self.norm(self.linear(z)) + self.label(y)


def set_random_weights(network: nn.Module) -> list[torch.Tensor]:
    """Set random weights and return them."""
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(torch.randn_like(parameter))
    return [parameter.detach().clone() for parameter in network.parameters()]


def test_ema_starts_as_copy_of_network():
    network = Tiny()
    ema = EMA(network, 0.9)
    z, y = torch.randn(5, 3), torch.zeros(5, dtype=torch.long)
    assert torch.equal(ema.eval()(z, y), network.eval()(z, y))


@pytest.mark.parametrize("decay", [0.5, 0.9, 0.999])
def test_ema_equals_closed_form(decay):
    network = Tiny()
    ema = EMA(network, decay)
    expected_weights = [parameter.detach().clone() for parameter in network.parameters()]
    for _ in range(4):
        weights = set_random_weights(network)
        ema.update(network)
        expected_weights = [decay * old + (1 - decay) * new for old, new in zip(expected_weights, weights, strict=True)]
    for weight, expected in zip(ema.network.parameters(), expected_weights, strict=True):
        torch.testing.assert_close(weight, expected)


def test_ema_weights_receive_no_gradient():
    network = Tiny()
    ema = EMA(network, 0.9)
    assert [*ema.parameters()]
    assert not any(parameter.requires_grad for parameter in ema.parameters())
    assert all(parameter.requires_grad for parameter in network.parameters())
    before = [parameter.clone() for parameter in ema.parameters()]
    set_random_weights(network)
    assert all(torch.equal(a, b) for a, b in zip(before, ema.parameters(), strict=True))


def test_ema_is_restored_from_state_dict():
    network = Tiny()
    ema, other = EMA(network, 0.9), EMA(Tiny(), 0.9)
    set_random_weights(network)
    ema.update(network)
    other.load_state_dict(ema.state_dict())
    assert all(torch.equal(a, b) for a, b in zip(ema.parameters(), other.parameters(), strict=True))


def test_recalibration_estimates_statistics_of_ema_weights():
    network = Tiny()
    set_random_weights(network)
    ema = EMA(network, 0.9)
    ema.network.norm.running_mean.fill_(100.0)  # the statistics of other weights
    calibrated = ema.recalibrate_batchnorm(latent_dim=3, num_classes=2)
    z = torch.randn(20_000, 3)
    hidden = ema.network.linear(z)
    assert not calibrated.training
    torch.testing.assert_close(calibrated.norm.running_mean, hidden.mean(0), atol=0.15, rtol=0.1)
    torch.testing.assert_close(calibrated.norm.running_var, hidden.var(0), atol=0.2, rtol=0.1)
    assert (ema.network.norm.running_mean == 100.0).all(), "recalibration changed the EMA's own statistics"


@pytest.mark.parametrize("num_classes", [0, 2])
def test_recalibration_averages_all_batches_and_ignores_old_statistics(num_classes):
    network = Tiny()
    for _ in range(3):
        network(torch.randn(8, 3) + 50, torch.zeros(8, dtype=torch.long))
    ema, batches, labels = EMA(network, 0.9), [], []
    ema.network.norm.register_forward_pre_hook(lambda layer, args: batches.append(args[0]))
    ema.network.register_forward_pre_hook(lambda layer, args: labels.append(args[1]))
    norm = ema.recalibrate_batchnorm(3, num_classes).norm
    assert len(batches) > 10
    torch.testing.assert_close(norm.running_mean, torch.stack([h.mean(0) for h in batches]).mean(0))
    torch.testing.assert_close(norm.running_var, torch.stack([h.var(0) for h in batches]).mean(0))
    assert set(torch.cat(labels).tolist()) == set(range(max(num_classes, 1))), "expected every class and no other"


def test_ema_update_does_not_change_statistics():
    network = Tiny()
    ema = EMA(network, 0.9)
    network(torch.randn(8, 3) + 50, torch.zeros(8, dtype=torch.long))
    ema.update(network)
    assert (network.norm.running_mean != 0).all()
    assert (ema.network.norm.running_mean == 0).all()
    assert (ema.network.norm.running_var == 1).all()


def test_ema_can_be_converted_to_float64():
    network = Tiny().double()
    ema = EMA(Tiny(), 0.75).double()
    expected_weights = [0.75 * a + 0.25 * b for a, b in zip(ema.parameters(), network.parameters(), strict=True)]
    ema.update(network)
    for weight, expected in zip(ema.parameters(), expected_weights, strict=True):
        torch.testing.assert_close(weight, expected, rtol=1e-14, atol=1e-14)
    assert ema.recalibrate_batchnorm(3, 2).norm.running_mean.dtype == torch.float64


def test_recalibration_does_not_use_default_generator():
    ema = EMA(Tiny(), 0.9)
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    first = ema.recalibrate_batchnorm(3, 2)
    assert torch.equal(torch.rand(3), expected)
    again = ema.recalibrate_batchnorm(3, 2)
    assert torch.equal(first.norm.running_mean, again.norm.running_mean)


def test_recalibration_without_batch_norm_makes_no_forward_pass():
    class Plain(nn.Linear):
        calls = 0

        def forward(self, z, y):
            Plain.calls += 1
            return super().forward(z)

    calibrated = EMA(Plain(3, 4), 0.9).recalibrate_batchnorm(3, 0)
    assert Plain.calls == 0
    assert isinstance(calibrated, Plain)


def labels_of(ema: EMA, num_classes: int, latent_dim: int = 3) -> torch.Tensor:
    """Return the labels that recalibration draws."""
    seen: list[torch.Tensor] = []
    handle = ema.network.register_forward_pre_hook(lambda layer, args: seen.append(args[1]))
    ema.recalibrate_batchnorm(latent_dim, num_classes)
    handle.remove()
    return torch.cat(seen)


class Labelled(Tiny):
    """A generator whose BatchNorm input depends on the class."""

    num_classes = 2

    def forward(self, z, y):
        return self.norm(self.linear(z) + 10 * self.label(y))


@pytest.mark.parametrize("counts", [[30, 970], [1, 0], [7, 13], [2**40, 1]])
def test_recalibration_draws_labels_by_class_frequencies(counts):
    ema = EMA(Labelled(), 0.9)
    ema.class_counts.copy_(torch.tensor(counts))
    labels, share = labels_of(ema, 2), counts[1] / sum(counts)
    assert len(labels) == 50 * 64
    assert float(labels.double().mean()) == pytest.approx(share, abs=4 * (share * (1 - share) / len(labels)) ** 0.5)
    norm = ema.recalibrate_batchnorm(3, 2).norm
    hidden = ema.network.linear(torch.randn(20_000, 3))
    hidden = hidden + 10 * ema.network.label((torch.rand(20_000) < share).long())
    torch.testing.assert_close(norm.running_mean, hidden.mean(0), atol=0.5, rtol=0.1)


@pytest.mark.parametrize("num_per_class", [0, 1, 500])
def test_recalibration_of_balanced_or_unknown_data_uses_uniform_labels(num_per_class):
    """The draws are those without counts, so that results for balanced data do not change."""
    ema = EMA(Labelled(), 0.9)
    ema.count_labels(torch.arange(2).repeat_interleave(num_per_class))
    generator, expected = torch.Generator().manual_seed(0), []
    for _ in range(50):
        torch.randn(64, 3, generator=generator)
        expected.append(torch.randint(2, (64,), generator=generator))
    assert torch.equal(labels_of(ema, 2), torch.cat(expected))


def test_counts_are_part_of_the_state():
    ema, other = EMA(Labelled(), 0.9), EMA(Labelled(), 0.9)
    ema.count_labels(torch.tensor([0, 1, 1, 1]))
    other.load_state_dict(ema.state_dict())
    assert other.class_counts.tolist() == [1, 3]
    assert torch.equal(
        ema.recalibrate_batchnorm(3, 2).norm.running_mean, other.recalibrate_batchnorm(3, 2).norm.running_mean
    )


def skewed(build, *overrides: str) -> tuple:
    model, data = build("model=cgan", "network=dcgan", "model.ema_decay=0.5", *overrides)
    data.labels = (torch.arange(len(data.labels)) % 13 == 0).long() * 7  # class 7 twice in 26, the others class 0
    return model, data


def test_training_counts_labels_of_data(build, tmp_path):
    model, data = skewed(build)
    before = model.sample(4, [0, 0, 7, 7])
    assert model.generator_ema.class_counts.tolist() == [0] * 10
    trainer = fit(model, data, 3)
    expected = [24, 0, 0, 0, 0, 0, 0, 2, 0, 0]
    assert model.generator_ema.class_counts.tolist() == expected
    assert not torch.equal(model.sample(4, [0, 0, 7, 7]), before)
    labels = labels_of(model.generator_ema, 10, model.latent_dim)
    assert set(labels.tolist()) == {0, 7}
    assert float((labels == 7).double().mean()) == pytest.approx(1 / 13, abs=0.02)
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    again, _ = skewed(build, "seed=5")
    again.load_state_dict(torch.load(tmp_path / "last.ckpt", weights_only=True)["state_dict"])
    assert again.generator_ema.class_counts.tolist() == expected
    assert torch.equal(again.sample(4, [0, 0, 7, 7]), model.sample(4, [0, 0, 7, 7]))


def test_counting_labels_invalidates_recalibration(build):
    model, data = skewed(build)
    before = model.sample(4, [0, 0, 7, 7])
    model.generator_ema.count_labels(data.labels)
    assert not torch.equal(model.sample(4, [0, 0, 7, 7]), before)


def test_recalibration_of_unconditional_generator_uses_label_zero(build):
    model, data = build("model=dcgan", "model.ema_decay=0.5")
    fit(model, data, 1)
    assert model.generator_ema.class_counts.tolist() == [len(data.labels)]
    assert set(labels_of(model.generator_ema, 0, model.latent_dim).tolist()) == {0}


@pytest.mark.parametrize("known", [False, True])
def test_unknown_labels_of_plain_loader_are_warned_about(build, caplog, known):
    model, data = skewed(build)
    if known:
        model.generator_ema.count_labels(data.labels)
    fit(model, DataLoader(TensorDataset(data.scale(data.samples), data.labels), 13), 1)
    warnings = [line for line in caplog.messages if "generator_ema.count_labels(labels)" in line]
    assert len(warnings) == (not known)
    assert bool(model.generator_ema.class_counts.any()) == known


def test_unknown_labels_are_not_warned_about_without_batch_norm(build, caplog):
    model, data = skewed(build, "network.generator.norm=none")
    fit(model, DataLoader(TensorDataset(data.scale(data.samples), data.labels), 13), 1)
    assert "count_labels" not in caplog.text


def test_protocol_card_has_labels_of_batchnorm_recalibration(build, cache):
    model, data = skewed(build)
    evaluation = Evaluator(CustomModule(nn.Flatten()), {}, cache=str(cache))
    assert evaluation.generation_card(model)["batchnorm"] == "recalibrated, 50 x 64, uniform labels"
    fit(model, data, 1)
    assert evaluation.generation_card(model)["batchnorm"] == "recalibrated, 50 x 64, labels as in training"
    raw, _ = build("model=cgan")
    assert evaluation.generation_card(raw)["batchnorm"] == "running statistics"
    unconditional, _ = build("model=dcgan", "model.ema_decay=0.5")
    assert evaluation.generation_card(unconditional)["batchnorm"] == "recalibrated, 50 x 64, labels as in training"
