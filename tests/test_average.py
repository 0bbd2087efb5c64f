"""The average of a generator's weights by itself; tests/test_model.py has it in a run."""

import pytest
import torch
from torch import nn

from gan_lightning.average import Average


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
    average = Average(network, 0.9)
    z, y = torch.randn(5, 3), torch.zeros(5, dtype=torch.long)
    assert torch.equal(average.eval()(z, y), network.eval()(z, y))


@pytest.mark.parametrize("decay", [0.5, 0.9, 0.999])
def test_closed_form(decay):
    network = Tiny()
    average = Average(network, decay)
    by_hand = [parameter.detach().clone() for parameter in network.parameters()]
    for _ in range(4):
        now = moved(network)
        average.update(network)
        by_hand = [decay * old + (1 - decay) * new for old, new in zip(by_hand, now, strict=True)]
    for ours, expected in zip(average.network.parameters(), by_hand, strict=True):
        torch.testing.assert_close(ours, expected)


def test_it_is_a_copy_that_no_one_trains():
    network = Tiny()
    average = Average(network, 0.9)
    assert [*average.parameters()]
    assert not any(parameter.requires_grad for parameter in average.parameters())
    assert all(parameter.requires_grad for parameter in network.parameters())
    before = [parameter.clone() for parameter in average.parameters()]
    moved(network)
    assert all(torch.equal(a, b) for a, b in zip(before, average.parameters(), strict=True))


def test_it_comes_back_from_its_state():
    network = Tiny()
    average, other = Average(network, 0.9), Average(Tiny(), 0.9)
    moved(network)
    average.update(network)
    other.load_state_dict(average.state_dict())
    assert all(torch.equal(a, b) for a, b in zip(average.parameters(), other.parameters(), strict=True))


def test_calibration_measures_the_statistics_of_the_averaged_weights():
    network = Tiny()
    moved(network)
    average = Average(network, 0.9)
    average.network.norm.running_mean.fill_(100.0)  # of other weights
    calibrated = average.calibrated(latent_dim=3, num_classes=2)
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
    average, batches, labels = Average(network, 0.9), [], []
    average.network.norm.register_forward_pre_hook(lambda layer, args: batches.append(args[0]))
    average.network.register_forward_pre_hook(lambda layer, args: labels.append(args[1]))
    norm = average.calibrated(3, num_classes).norm
    assert len(batches) > 10
    torch.testing.assert_close(norm.running_mean, torch.stack([h.mean(0) for h in batches]).mean(0))
    torch.testing.assert_close(norm.running_var, torch.stack([h.var(0) for h in batches]).mean(0))
    assert set(torch.cat(labels).tolist()) == set(range(max(num_classes, 1))), "every class, and no other"


def test_updates_leave_statistics_alone():
    network = Tiny()
    average = Average(network, 0.9)
    network(torch.randn(8, 3) + 50, torch.zeros(8, dtype=torch.long))
    average.update(network)
    assert (network.norm.running_mean != 0).all()
    assert (average.network.norm.running_mean == 0).all()
    assert (average.network.norm.running_var == 1).all()


def test_it_moves_to_another_type():
    network = Tiny().double()
    average = Average(Tiny(), 0.75).double()
    by_hand = [0.75 * a + 0.25 * b for a, b in zip(average.parameters(), network.parameters(), strict=True)]
    average.update(network)
    for ours, expected in zip(average.parameters(), by_hand, strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-14, atol=1e-14)
    assert average.calibrated(3, 2).norm.running_mean.dtype == torch.float64


def test_calibration_draws_nothing_from_anyone():
    average = Average(Tiny(), 0.9)
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    first = average.calibrated(3, 2)
    assert torch.equal(torch.rand(3), expected)
    again = average.calibrated(3, 2)
    assert torch.equal(first.norm.running_mean, again.norm.running_mean)


def test_without_batch_norm_there_is_nothing_to_measure():
    class Plain(nn.Linear):
        calls = 0

        def forward(self, z, y):
            Plain.calls += 1
            return super().forward(z)

    calibrated = Average(Plain(3, 4), 0.9).calibrated(3, 0)
    assert Plain.calls == 0
    assert isinstance(calibrated, Plain)
