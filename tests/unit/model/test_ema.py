"""The average of a generator's weights by itself; tests/unit/model/test_model.py has it in a run."""

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from training import fit

from gan_lightning.evaluation.evaluator import Evaluator
from gan_lightning.feature.custom import CustomModule
from gan_lightning.model.ema import EMA


class Tiny(nn.Module):
    """A generator with a BatchNorm, as ours are called."""

    def __init__(self) -> None:
        super().__init__()
        self.linear, self.norm = nn.Linear(3, 4), nn.BatchNorm1d(4)
        self.label = nn.Embedding(2, 4)

    def forward(self, z, y):
        return self.norm(self.linear(z)) + self.label(y)


def moved(network: nn.Module) -> list[torch.Tensor]:
    """Put fresh weights into a network and return them."""
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(torch.randn_like(parameter))
    return [parameter.detach().clone() for parameter in network.parameters()]


def test_it_starts_as_the_network():
    network = Tiny()
    average = EMA(network, 0.9)
    z, y = torch.randn(5, 3), torch.zeros(5, dtype=torch.long)
    assert torch.equal(average.eval()(z, y), network.eval()(z, y))


@pytest.mark.parametrize("decay", [0.5, 0.9, 0.999])
def test_closed_form(decay):
    network = Tiny()
    average = EMA(network, decay)
    by_hand = [parameter.detach().clone() for parameter in network.parameters()]
    for _ in range(4):
        now = moved(network)
        average.update(network)
        by_hand = [decay * old + (1 - decay) * new for old, new in zip(by_hand, now, strict=True)]
    for ours, expected in zip(average.network.parameters(), by_hand, strict=True):
        torch.testing.assert_close(ours, expected)


def test_it_is_a_copy_that_no_one_trains():
    network = Tiny()
    average = EMA(network, 0.9)
    assert [*average.parameters()]
    assert not any(parameter.requires_grad for parameter in average.parameters())
    assert all(parameter.requires_grad for parameter in network.parameters())
    before = [parameter.clone() for parameter in average.parameters()]
    moved(network)
    assert all(torch.equal(a, b) for a, b in zip(before, average.parameters(), strict=True))


def test_it_comes_back_from_its_state():
    network = Tiny()
    average, other = EMA(network, 0.9), EMA(Tiny(), 0.9)
    moved(network)
    average.update(network)
    other.load_state_dict(average.state_dict())
    assert all(torch.equal(a, b) for a, b in zip(average.parameters(), other.parameters(), strict=True))


def test_calibration_measures_the_statistics_of_the_averaged_weights():
    network = Tiny()
    moved(network)
    average = EMA(network, 0.9)
    average.network.norm.running_mean.fill_(100.0)  # of other weights
    calibrated = average.recalibrate_batchnorm(latent_dim=3, num_classes=2)
    z = torch.randn(20_000, 3)
    hidden = average.network.linear(z)
    assert not calibrated.training
    torch.testing.assert_close(calibrated.norm.running_mean, hidden.mean(0), atol=0.15, rtol=0.1)
    torch.testing.assert_close(calibrated.norm.running_var, hidden.var(0), atol=0.2, rtol=0.1)
    assert (average.network.norm.running_mean == 100.0).all(), "the average itself is left as it is"


@pytest.mark.parametrize("num_classes", [0, 2])
def test_calibration_is_the_plain_mean_over_all_batches_whatever_was_measured_before(num_classes):
    network = Tiny()
    for _ in range(3):
        network(torch.randn(8, 3) + 50, torch.zeros(8, dtype=torch.long))
    average, batches, labels = EMA(network, 0.9), [], []
    average.network.norm.register_forward_pre_hook(lambda layer, args: batches.append(args[0]))
    average.network.register_forward_pre_hook(lambda layer, args: labels.append(args[1]))
    norm = average.recalibrate_batchnorm(3, num_classes).norm
    assert len(batches) > 10
    torch.testing.assert_close(norm.running_mean, torch.stack([h.mean(0) for h in batches]).mean(0))
    torch.testing.assert_close(norm.running_var, torch.stack([h.var(0) for h in batches]).mean(0))
    assert set(torch.cat(labels).tolist()) == set(range(max(num_classes, 1))), "every class, and no other"


def test_updates_leave_statistics_alone():
    network = Tiny()
    average = EMA(network, 0.9)
    network(torch.randn(8, 3) + 50, torch.zeros(8, dtype=torch.long))
    average.update(network)
    assert (network.norm.running_mean != 0).all()
    assert (average.network.norm.running_mean == 0).all()
    assert (average.network.norm.running_var == 1).all()


def test_it_moves_to_another_type():
    network = Tiny().double()
    average = EMA(Tiny(), 0.75).double()
    by_hand = [0.75 * a + 0.25 * b for a, b in zip(average.parameters(), network.parameters(), strict=True)]
    average.update(network)
    for ours, expected in zip(average.parameters(), by_hand, strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-14, atol=1e-14)
    assert average.recalibrate_batchnorm(3, 2).norm.running_mean.dtype == torch.float64


def test_calibration_draws_nothing_from_anyone():
    average = EMA(Tiny(), 0.9)
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    first = average.recalibrate_batchnorm(3, 2)
    assert torch.equal(torch.rand(3), expected)
    again = average.recalibrate_batchnorm(3, 2)
    assert torch.equal(first.norm.running_mean, again.norm.running_mean)


def test_without_batch_norm_there_is_nothing_to_measure():
    class Plain(nn.Linear):
        calls = 0

        def forward(self, z, y):
            Plain.calls += 1
            return super().forward(z)

    calibrated = EMA(Plain(3, 4), 0.9).recalibrate_batchnorm(3, 0)
    assert Plain.calls == 0
    assert isinstance(calibrated, Plain)


def labels_of(average: EMA, num_classes: int, latent_dim: int = 3) -> torch.Tensor:
    """The labels that recalibration draws."""
    seen: list[torch.Tensor] = []
    handle = average.network.register_forward_pre_hook(lambda layer, args: seen.append(args[1]))
    average.recalibrate_batchnorm(latent_dim, num_classes)
    handle.remove()
    return torch.cat(seen)


class Labelled(Tiny):
    """A generator whose BatchNorm sees the class."""

    num_classes = 2

    def forward(self, z, y):
        return self.norm(self.linear(z) + 10 * self.label(y))


@pytest.mark.parametrize("counts", [[30, 970], [1, 0], [7, 13], [2**40, 1]])
def test_calibration_draws_labels_as_the_data_have_them(counts):
    average = EMA(Labelled(), 0.9)
    average.class_counts.copy_(torch.tensor(counts))
    drawn, share = labels_of(average, 2), counts[1] / sum(counts)
    assert len(drawn) == 50 * 64
    assert float(drawn.double().mean()) == pytest.approx(share, abs=4 * (share * (1 - share) / len(drawn)) ** 0.5)
    norm = average.recalibrate_batchnorm(3, 2).norm
    hidden = average.network.linear(torch.randn(20_000, 3))
    hidden = hidden + 10 * average.network.label((torch.rand(20_000) < share).long())
    torch.testing.assert_close(norm.running_mean, hidden.mean(0), atol=0.5, rtol=0.1)


@pytest.mark.parametrize("each", [0, 1, 500])
def test_labels_of_balanced_or_unknown_data_are_drawn_as_before_they_were_counted(each):
    """The same draws of a generator, so that nothing changes for balanced data."""
    average = EMA(Labelled(), 0.9)
    average.count_labels(torch.arange(2).repeat_interleave(each))
    generator, expected = torch.Generator().manual_seed(0), []
    for _ in range(50):
        torch.randn(64, 3, generator=generator)
        expected.append(torch.randint(2, (64,), generator=generator))
    assert torch.equal(labels_of(average, 2), torch.cat(expected))


def test_counts_are_part_of_the_state():
    average, other = EMA(Labelled(), 0.9), EMA(Labelled(), 0.9)
    average.count_labels(torch.tensor([0, 1, 1, 1]))
    other.load_state_dict(average.state_dict())
    assert other.class_counts.tolist() == [1, 3]
    assert torch.equal(
        average.recalibrate_batchnorm(3, 2).norm.running_mean, other.recalibrate_batchnorm(3, 2).norm.running_mean
    )


def skewed(build, *words: str) -> tuple:
    model, data = build("model=cgan", "network=dcgan", "model.ema_decay=0.5", *words)
    data.labels = (torch.arange(len(data.labels)) % 13 == 0).long() * 7  # class 7 twice in 26, the others class 0
    return model, data


def test_a_run_counts_the_labels_of_its_data(build, tmp_path):
    model, data = skewed(build)
    before = model.sample(4, [0, 0, 7, 7])
    assert model.generator_ema.class_counts.tolist() == [0] * 10
    trainer = fit(model, data, 3)
    expected = [24, 0, 0, 0, 0, 0, 0, 2, 0, 0]
    assert model.generator_ema.class_counts.tolist() == expected
    assert not torch.equal(model.sample(4, [0, 0, 7, 7]), before)
    drawn = labels_of(model.generator_ema, 10, model.latent_dim)
    assert set(drawn.tolist()) == {0, 7}
    assert float((drawn == 7).double().mean()) == pytest.approx(1 / 13, abs=0.02)
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    again, _ = skewed(build, "seed=5")
    again.load_state_dict(torch.load(tmp_path / "last.ckpt", weights_only=True)["state_dict"])
    assert again.generator_ema.class_counts.tolist() == expected
    assert torch.equal(again.sample(4, [0, 0, 7, 7]), model.sample(4, [0, 0, 7, 7]))


def test_what_was_recalibrated_before_the_labels_were_counted_is_not_used_again(build):
    model, data = skewed(build)
    before = model.sample(4, [0, 0, 7, 7])
    model.generator_ema.count_labels(data.labels)
    assert not torch.equal(model.sample(4, [0, 0, 7, 7]), before)


def test_a_generator_without_classes_needs_no_labels(build):
    model, data = build("model=dcgan", "model.ema_decay=0.5")
    fit(model, data, 1)
    assert model.generator_ema.class_counts.tolist() == [len(data.labels)]
    assert set(labels_of(model.generator_ema, 0, model.latent_dim).tolist()) == {0}


@pytest.mark.parametrize("known", [False, True])
def test_labels_of_a_plain_loader_are_not_known_until_they_are_given(build, caplog, known):
    model, data = skewed(build)
    if known:
        model.generator_ema.count_labels(data.labels)
    fit(model, DataLoader(TensorDataset(data.scale(data.samples), data.labels), 13), 1)
    warned = [line for line in caplog.messages if "generator_ema.count_labels(labels)" in line]
    assert len(warned) == (not known)
    assert bool(model.generator_ema.class_counts.any()) == known


def test_labels_are_not_asked_for_where_there_is_no_batch_norm(build, caplog):
    model, data = skewed(build, "network.generator.norm=none")
    fit(model, DataLoader(TensorDataset(data.scale(data.samples), data.labels), 13), 1)
    assert "count_labels" not in caplog.text


def test_the_card_says_which_labels_batch_norm_was_recalibrated_with(build, cache):
    model, data = skewed(build)
    evaluation = Evaluator(CustomModule(nn.Flatten()), {}, cache=str(cache))
    assert evaluation.generation_card(model)["batchnorm"] == "recalibrated, 50 x 64, uniform labels"
    fit(model, data, 1)
    assert evaluation.generation_card(model)["batchnorm"] == "recalibrated, 50 x 64, labels as in training"
    raw, _ = build("model=cgan")
    assert evaluation.generation_card(raw)["batchnorm"] == "running statistics"
    without, _ = build("model=dcgan", "model.ema_decay=0.5")
    assert evaluation.generation_card(without)["batchnorm"] == "recalibrated, 50 x 64, labels as in training"
