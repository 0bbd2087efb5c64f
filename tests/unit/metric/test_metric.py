"""Metrics: closed forms, torch-fidelity and brute force as references, and the effect of worse samples."""

import math
from fractions import Fraction

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric
from torch_fidelity.metric_isc import isc_features_to_metric
from torch_fidelity.metric_kid import kid_features_to_metric
from torch_fidelity.metric_prc import prc_features_to_metric

from gan_lightning.metric import FeatureSet, fid, kid, knn
from gan_lightning.metric.class_accuracy import ClassAccuracy
from gan_lightning.metric.class_histogram import ClassHistogram
from gan_lightning.metric.density_coverage import DensityCoverage
from gan_lightning.metric.fid import FID, distance, statistics
from gan_lightning.metric.inception_score import InceptionScore
from gan_lightning.metric.kid import KID
from gan_lightning.metric.memorization import Memorization, relative_distances
from gan_lightning.metric.modes import Modes
from gan_lightning.metric.precision_recall import PrecisionRecall


def normal(num: int, dim: int, seed: int, mean: float = 0.0, std: float = 1.0) -> torch.Tensor:
    return mean + std * torch.randn(num, dim, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def feature_set(features: torch.Tensor, **kwargs) -> FeatureSet:
    labels = kwargs.pop("labels", torch.zeros(len(features), dtype=torch.long))
    return FeatureSet(kwargs.pop("samples", features), features, labels, **kwargs)


def measure(metric, real: torch.Tensor | FeatureSet, fake: torch.Tensor | FeatureSet) -> dict:
    real, fake = (part if isinstance(part, FeatureSet) else feature_set(part) for part in (real, fake))
    return metric(real, metric.prepare(real), fake)


def samples_with_moments(dim: int, num: int, mean: torch.Tensor, root: torch.Tensor, seed: int) -> torch.Tensor:
    """Return samples whose mean is exactly ``mean`` and whose covariance is exactly ``root^T root``."""
    raw = normal(num, dim, seed)
    q, _ = torch.linalg.qr(raw - raw.mean(0))
    q -= q.mean(0)
    q, _ = torch.linalg.qr(q)
    return mean + q * math.sqrt(num - 1) @ root


# --- FID ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("s1", "s2", "shift"), [(1.0, 1.0, 0.0), (1.0, 2.0, 0.0), (0.5, 3.0, 1.0), (1.0, 1.0, 2.0)])
def test_fid_of_isotropic_gaussians_equals_closed_form(s1, s2, shift):
    dim = 16
    one = samples_with_moments(
        dim, 400, torch.zeros(dim, dtype=torch.float64), s1 * torch.eye(dim, dtype=torch.float64), 0
    )
    two = samples_with_moments(
        dim, 300, torch.full((dim,), shift).double(), s2 * torch.eye(dim, dtype=torch.float64), 1
    )
    assert measure(FID(), one, two)["fid"] == pytest.approx(dim * shift**2 + dim * (s1 - s2) ** 2, abs=1e-9)


def test_fid_of_commuting_covariances_equals_closed_form():
    spectrum = torch.linspace(0.1, 5, 24, dtype=torch.float64), torch.linspace(4, 0.3, 24, dtype=torch.float64)
    rotation, _ = torch.linalg.qr(normal(24, 24, 5))
    one, two = (
        samples_with_moments(24, 200, torch.zeros(24).double(), s.diag() @ rotation, i) for i, s in enumerate(spectrum)
    )
    expected = float((spectrum[0] - spectrum[1]).square().sum())
    assert measure(FID(), one, two)["fid"] == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("rank", [4, 16, 64])
def test_fid_is_exact_on_singular_covariances(rank):
    """The FID of features in a subspace equals that within the subspace; eigenvalues would be less exact."""
    rotation, _ = torch.linalg.qr(normal(64, 64, 9))
    within = normal(300, rank, 1), normal(300, rank, 2, 0.3, 1.4)
    rotated = [F.pad(part, (0, 64 - rank)) @ rotation for part in within]
    assert measure(FID(), *rotated)["fid"] == pytest.approx(exact_fid(*within), abs=1e-9)


def exact_fid(one: torch.Tensor, two: torch.Tensor) -> float:
    """Compute FID from the eigenvalues of a symmetric form, exact enough where both covariances have full rank."""
    mean = (one.mean(0) - two.mean(0)).square().sum()
    c1, c2 = one.T.cov(), two.T.cov()
    values, vectors = torch.linalg.eigh(c1)
    root = vectors * values.clamp(min=0).sqrt() @ vectors.T
    trace = torch.linalg.eigvalsh(root @ c2 @ root).clamp(min=0).sqrt().sum()
    return float(mean + c1.trace() + c2.trace() - 2 * trace)


@pytest.mark.parametrize(("num", "dim"), [(500, 32), (50, 128), (128, 128)])
def test_fid_of_set_with_itself_is_zero(num, dim, monkeypatch):
    monkeypatch.setattr(fid, "max", lambda value, _: value, raising=False)  # so that negative values are not clamped
    features = normal(num, dim, 3)
    assert measure(FID(), features, features)["fid"] == pytest.approx(0, abs=1e-9)


def test_fid_is_symmetric_and_independent_of_order():
    one, two = normal(300, 20, 1), normal(400, 20, 2, 0.5)
    forward, backward = measure(FID(), one, two)["fid"], measure(FID(), two.flip(0), one)["fid"]
    assert forward == pytest.approx(backward, rel=1e-12)


def test_fid_agrees_with_torch_fidelity():
    one, two = normal(800, 64, 1).float(), normal(600, 64, 2, 0.2, 1.3).float()
    reference = fid_statistics_to_metric(
        *(fid_features_to_statistics(part.double()) for part in (one, two)), verbose=False
    )
    assert measure(FID(), one, two)["fid"] == pytest.approx(reference["frechet_inception_distance"], rel=1e-6)


def test_fid_of_too_few_samples_is_finite_with_warning():
    few, many = feature_set(normal(20, 64, 1)), feature_set(normal(500, 64, 2))
    assert math.isfinite(measure(FID(), many, few)["fid"])
    assert "20 samples cannot span 64 features" in FID().warnings(many, few)[0]
    assert FID().warnings(many, many) == []
    with pytest.raises(ValueError, match="at least two samples"):
        statistics(normal(1, 4, 0))


def test_statistics_of_float32_features_use_float64():
    """With a large mean and a small spread, sums in float32 would lose the covariance to rounding."""
    features = (1000 + normal(400, 8, 1)).float()
    assert distance(statistics(features), statistics(features.double() - 1000)) == pytest.approx(8e6, rel=1e-9)


# --- KID, Inception Score -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("block", [1 << 25, 1000], ids=["one kernel for all subsets", "one kernel per subset"])
def test_kid_agrees_with_torch_fidelity(block, monkeypatch):
    monkeypatch.setattr(kid, "BLOCK", block)
    one, two = normal(700, 32, 1).float(), normal(600, 32, 2, 0.1, 1.1).float()
    reference = kid_features_to_metric(
        two.double(), one.double(), kid_subsets=20, kid_subset_size=300, rng_seed=2020, verbose=False
    )
    ours = measure(KID(20, 300), one, two)
    assert ours["kid"] == pytest.approx(reference["kernel_inception_distance_mean"], rel=1e-6)
    assert ours["kid_std"] == pytest.approx(reference["kernel_inception_distance_std"], rel=1e-6)


def exact_kid(real: torch.Tensor, fake: torch.Tensor) -> float:
    """Compute the squared MMD of whole sets in rational numbers, without rounding."""
    from_fake, from_real = ([[Fraction(value) for value in row] for row in part.tolist()] for part in (fake, real))

    def mean(one: list, other: list, own: bool) -> Fraction:
        pairs = [(x, y) for i, x in enumerate(one) for j, y in enumerate(other) if not (own and i == j)]
        products = (sum(a * b for a, b in zip(x, y, strict=True)) for x, y in pairs)
        return sum((product / len(one[0]) + 1) ** 3 for product in products) / len(pairs)

    return float(
        mean(from_fake, from_fake, True) + mean(from_real, from_real, True) - 2 * mean(from_fake, from_real, False)
    )


@pytest.mark.parametrize("block", [1 << 25, 100], ids=["one kernel for all subsets", "one kernel per subset"])
@pytest.mark.parametrize("name", ["plain", "offset", "constants", "duplicates, offset", "outlier 1e5"])
def test_kid_equals_exact_arithmetic(name, block, monkeypatch):
    """In float64 the kernel at an offset of 1e6 is 1e36, and its rounding error exceeds the result."""
    monkeypatch.setattr(kid, "BLOCK", block)
    real, fake = (part[:25].float() for part in hard_samples(name, 4, torch.float64))
    assert measure(KID(1, 25), real, fake)["kid"] == pytest.approx(exact_kid(real, fake), rel=1e-9)


@pytest.mark.parametrize("name", ["plain", "offset", "constants", "duplicates, offset", "outlier 1e5", "all"])
def test_fid_is_invariant_to_common_offset(name):
    real, fake = hard_samples(name, 16, torch.float64)
    centre = real.median(0).values
    found, expected = measure(FID(), real, fake)["fid"], measure(FID(), real - centre, fake - centre)["fid"]
    assert found == pytest.approx(expected, rel=1e-7)
    if "outlier" not in name and "constants" not in name:
        assert found == pytest.approx(exact_fid(real - centre, fake - centre), rel=1e-7)


def test_kid_of_equal_distributions_is_zero_in_expectation():
    kids = [measure(KID(50, 200), normal(1000, 8, 2 * i), normal(1000, 8, 2 * i + 1))["kid"] for i in range(8)]
    spread = np.std(kids, ddof=1) / math.sqrt(len(kids))
    assert abs(np.mean(kids)) < 3 * spread
    assert measure(KID(50, 200), normal(1000, 8, 1), normal(1000, 8, 2, 0.5))["kid"] > 20 * spread


def test_kid_of_few_samples_warns_about_subset_size():
    few, many = feature_set(normal(100, 8, 1)), feature_set(normal(2000, 8, 2))
    assert math.isfinite(measure(KID(), many, few)["kid"])
    assert "subsets of 100" in KID().warnings(many, few)[0]


@pytest.mark.parametrize("classes", [2, 10, 100])
def test_inception_score_of_balanced_certain_predictions_is_num_classes(classes):
    logits = 1000.0 * F.one_hot(torch.arange(classes).repeat_interleave(100 // min(classes, 10)), classes)
    found = measure(InceptionScore(splits=1), logits, feature_set(logits, logits=logits))
    assert found["inception_score"] == pytest.approx(classes, rel=1e-12)


def test_inception_score_of_one_class_or_uniform_logits_is_one():
    for logits in (torch.zeros(500, 10), 50.0 * F.one_hot(torch.zeros(500, dtype=torch.long), 10)):
        score = measure(InceptionScore(), logits, feature_set(logits, logits=logits))["inception_score"]
        assert score == pytest.approx(1, abs=1e-9)


def test_inception_score_agrees_with_torch_fidelity():
    logits = normal(1000, 10, 4).float()
    reference = isc_features_to_metric(logits, 10, True, 2020)
    ours = measure(InceptionScore(), logits, feature_set(logits, logits=logits))
    assert ours["inception_score"] == pytest.approx(reference["inception_score_mean"], rel=1e-6)
    assert ours["inception_score_std"] == pytest.approx(reference["inception_score_std"], rel=1e-6)


def test_inception_score_of_few_samples_is_warned_about():
    few = feature_set(torch.zeros(100, 10), logits=torch.zeros(100, 10))
    assert "10 samples per split" in InceptionScore().warnings(few, few)[0]


# --- precision, recall, density, coverage ---------------------------------------------------------------------------


@pytest.mark.parametrize("k", [3, 5])
def test_precision_and_recall_agree_with_torch_fidelity(k):
    real, fake = normal(900, 16, 1), normal(700, 16, 2, 0.3, 0.8)
    reference = prc_features_to_metric(
        fake, real, prc_neighborhood=k, prc_batch_size=10_000, save_cpu_ram=False, verbose=False
    )
    ours = measure(PrecisionRecall(k), real, fake)
    assert ours["precision"] == pytest.approx(reference["precision"], rel=1e-6)
    assert ours["recall"] == pytest.approx(reference["recall"], rel=1e-6)
    assert 0.1 < ours["precision"] < 1
    assert 0.1 < ours["recall"] < 1
    assert ours["precision"] != ours["recall"], "a swap of precision and recall would not be detected"


def test_block_size_does_not_change_scores(monkeypatch):
    real, fake = normal(300, 8, 1), normal(257, 8, 2, 0.3)
    complete = [measure(metric, real, fake) for metric in (PrecisionRecall(), DensityCoverage())]
    monkeypatch.setattr(knn, "BLOCK", 900)  # three rows at a time
    sizes = [len(block.lower) for block in knn.pairwise_sq_distances(real, real, "")]
    assert (max(sizes), sum(sizes)) == (3, 300)
    assert [measure(metric, real, fake) for metric in (PrecisionRecall(), DensityCoverage())] == complete


def test_ties_are_not_broken_by_rounding():
    """In a set compared with its copy, each ball contains k - 1 others and its centre."""
    features = normal(1000, 64, 1)
    result = measure(DensityCoverage(), features, features)
    assert result == {"density": 1.0, "coverage": 1.0}
    assert measure(PrecisionRecall(), features, features) == {"precision": 1.0, "recall": 1.0}


@pytest.mark.parametrize("k", [3, 5])
def test_density_and_coverage_of_equal_distributions(k):
    num = 1000
    results = [measure(DensityCoverage(k), normal(num, 4, 2 * i), normal(num, 4, 2 * i + 1)) for i in range(20)]
    expected = 1 - math.prod((num - i) / (2 * num - i) for i in range(1, k + 1))
    assert expected == pytest.approx({3: 0.8754, 5: 0.9690}[k], abs=1e-4)
    assert np.mean([part["coverage"] for part in results]) == pytest.approx(expected, abs=0.012)
    assert np.mean([part["density"] for part in results]) == pytest.approx(1, abs=0.03)


@pytest.mark.slow
def test_precision_recall_density_coverage_of_prdc_example():
    """N(0, I), 10,000 x 1000, k = 5, from the README of prdc; its numbers are from another draw."""
    real, fake = normal(10_000, 1000, 1), normal(10_000, 1000, 2)
    result = measure(PrecisionRecall(5), real, fake) | measure(DensityCoverage(5), real, fake)
    assert result["precision"] == pytest.approx(0.4772, abs=0.05)
    assert result["recall"] == pytest.approx(0.4705, abs=0.05)
    assert result["density"] == pytest.approx(1.0555, abs=0.15)
    assert result["coverage"] == pytest.approx(0.9735, abs=0.01)


def test_density_and_coverage_equal_formulas_of_prdc():
    """The formulas of compute_prdc, with all distances in one matrix."""
    real, fake, k = normal(400, 16, 1), normal(300, 16, 2, 0.2), 5
    radii = torch.cdist(real, real).kthvalue(k + 1, dim=1).values
    covered = torch.cdist(real, fake) < radii[:, None]
    density = (1 / k) * covered.sum(0).double().mean()
    coverage = (torch.cdist(real, fake).min(1).values < radii).double().mean()
    assert measure(DensityCoverage(k), real, fake) == pytest.approx(
        {"density": float(density), "coverage": float(coverage)}
    )


def test_repeated_training_sample_has_recall_near_zero():
    real = normal(1000, 16, 1)
    result = measure(PrecisionRecall(), real, real[:1].repeat(1000, 1))
    assert result == {"precision": 1.0, "recall": 0.001}
    result = measure(DensityCoverage(), real, real[:1].repeat(1000, 1))
    assert result["coverage"] < 0.02


def test_distance_of_equal_samples_is_exactly_zero():
    rows = 100 + normal(50, 300, 1).float().double()
    squared, index = knn.nearest(rows, rows, 50, "test")
    assert torch.equal(squared[:, 0], torch.zeros(50, dtype=torch.float64))
    assert torch.equal(index[:, 0], torch.arange(50))
    assert torch.equal(squared, distances(rows, rows).sort(1).values)


def test_few_samples_are_warned_about():
    for metric in (PrecisionRecall(), DensityCoverage()):
        few, many = feature_set(normal(999, 2, 1)), feature_set(normal(1000, 2, 2))
        assert metric.warnings(many, many) == []
        assert metric.warnings(many, few) == metric.warnings(few, many) != []
        assert "999 samples" in metric.warnings(few, many)[0]
    few, many = (feature_set(certain_logits([0] * number), logits=certain_logits([0] * number)) for number in (39, 40))
    assert ClassHistogram().warnings(many, many) == []
    assert "39 samples of 4 classes" in ClassHistogram().warnings(many, few)[0]


def test_fewer_samples_than_neighbours_are_error():
    with pytest.raises(ValueError, match="more than 3 samples"):
        measure(PrecisionRecall(3), normal(3, 4, 1), normal(50, 4, 2))


def distances(rows: torch.Tensor, columns: torch.Tensor) -> torch.Tensor:
    """Compute all squared distances by brute force in float64."""
    return (rows.double()[:, None] - columns.double()[None]).square().sum(-1)


def by_brute_force(real: torch.Tensor, fake: torch.Tensor, k: int) -> dict[str, float]:
    own, fake_radii, across = distances(real, real), distances(fake, fake), distances(fake, real)
    radii, fake_radii = (part.sort(1).values[:, k] for part in (own, fake_radii))
    return {
        "precision": float((across <= radii).any(1).double().mean()),
        "recall": float((across <= fake_radii[:, None]).any(0).double().mean()),
        "density": float((across < radii).sum()) / (k * len(fake)),
        "coverage": float((across < radii).any(0).double().mean()),
    }


def relative_by_brute_force(features: torch.Tensor, training: torch.Tensor) -> torch.Tensor:
    """Divide the distance to the nearest training sample by that sample's distance to its nearest other sample."""
    squared, index = distances(features, training).min(1)
    own = distances(training, training)
    return (squared / own.masked_fill(own == 0, math.inf).min(1).values[index]).sqrt()


def with_outliers(real, fake, size):
    """Move one generated point far away, and at the largest sizes a real one too."""
    fake[0] = size
    if size >= 1e4:
        real[1, 0] = -size
    return real, fake


def with_offset(real, fake, size):
    return real + size, fake + size


def with_duplicates(real, fake, size):
    real[100:110], real[110:120], fake[50:80], fake[80:90] = real[:10], real[:10], real[0], real[20:30]
    return real, fake


def with_constants(real, fake, size):
    """Make half of the features constant and large."""
    real[:, ::2] = fake[:, ::2] = size
    return real, fake


HARD_CASES = {
    "plain": [],
    "outlier 1e2": [(with_outliers, 1e2)],
    "outlier 1e3": [(with_outliers, 1e3)],
    "outlier 1e4": [(with_outliers, 1e4)],
    "outlier 1e5": [(with_outliers, 1e5)],
    "outlier 1e12": [(with_outliers, 1e12)],
    "offset": [(with_offset, 1e6)],
    "negative offset": [(with_offset, -3e6)],
    "duplicates": [(with_duplicates, 0)],
    "constants": [(with_constants, 1e6)],
    "offset, outlier": [(with_offset, 1e6), (with_outliers, 1e5)],
    "duplicates, offset": [(with_duplicates, 0), (with_offset, 1e6)],
    "constants, duplicates, outlier": [(with_constants, 7.0), (with_duplicates, 0), (with_outliers, 1e4)],
    "all": [(with_duplicates, 0), (with_constants, 3.0), (with_offset, 1e6), (with_outliers, 1e5)],
}


def hard_samples(name: str, dim: int, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    real, fake = normal(230, dim, 1), normal(190, dim, 2, 0.3, 0.7)
    for change, size in HARD_CASES[name]:
        real, fake = change(real, fake, size)
    return real.to(dtype), fake.to(dtype)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize(("dim", "k"), [(2, 1), (2, 5), (48, 3)])
@pytest.mark.parametrize("name", HARD_CASES)
def test_neighbour_metrics_equal_brute_force(name, dim, k, dtype, monkeypatch):
    """A rounding error, or a tolerance for it, may depend only on the compared pair."""
    monkeypatch.setattr(knn, "BLOCK", 230 * 64)  # four blocks, the last one smaller
    real, fake = hard_samples(name, dim, dtype)
    result = measure(PrecisionRecall(k), real, fake) | measure(DensityCoverage(k), real, fake)
    assert result == by_brute_force(real, fake, k)
    assert torch.equal(knn.knn_radii(real, k), distances(real, real).sort(1).values[:, k])
    assert torch.equal(relative_distances(fake, real), relative_by_brute_force(fake, real))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize("name", HARD_CASES)
def test_memorization_equals_brute_force(name, dtype):
    training, fake = hard_samples(name, 16, dtype)
    held_out = (normal(120, 16, 3) + (HARD_CASES[name][-1][1] if "offset" in name else 0)).to(dtype)
    real = feature_set(training)
    real.held_out = feature_set(held_out)
    fake_distances, held_out_distances = (
        relative_by_brute_force(fake, training),
        relative_by_brute_force(held_out, training),
    )
    limit = held_out_distances[held_out_distances > 0].min()
    result = measure(Memorization(), real, fake)
    assert result["copies"] == float((fake_distances <= limit).double().mean())
    assert result["copies_expected"] == float((held_out_distances <= limit).sum()) / (len(held_out) + 1)


def test_only_pairs_near_limit_are_listed(monkeypatch):
    """Indices of all pairs below the limit took 1.4 GB per block."""
    features = torch.randn(50, 8, generator=torch.Generator().manual_seed(0))
    (block,) = knn.pairwise_sq_distances(features, features, "test")
    exact = (features[:, None].double() - features).square().sum(2)
    limit = exact[7].clone()
    num_listed, nonzero = [], torch.Tensor.nonzero

    def counting_nonzero(mask, **options):
        num_listed.append(int(mask.sum()))
        return nonzero(mask, **options)

    monkeypatch.setattr(torch.Tensor, "nonzero", counting_nonzero)
    for edge in (True, False):
        assert torch.equal(block.within(limit, edge), exact <= limit if edge else exact < limit)
    assert max(num_listed) < 100, "expected 50 pairs at the limit and 50 pairs of a sample with itself"


def test_nearest_does_not_modify_features():
    features = torch.randn(20, 3, generator=torch.Generator().manual_seed(0)).double() + 5
    before = features.clone()
    knn.nearest(features, features, 2, "test")
    assert torch.equal(features, before)


def test_outlier_does_not_change_scores_of_other_samples():
    """For 2-D points one sample of a diverging generator may be 10,000 units away."""
    real = ring()[torch.arange(800) % 8] + normal(800, 2, 1, std=0.01)
    fake = 1.05 * ring()[torch.arange(800) % 8] + normal(800, 2, 2, std=0.002)
    for coordinate in (1.05, 1e2, 1e4, 1e8, 1e12, 1e100, math.nan):
        fake[0] = torch.tensor([coordinate, 0.0], dtype=torch.float64)
        result = measure(PrecisionRecall(), real, fake) | measure(DensityCoverage(3), real, fake)
        assert result == by_brute_force(real, fake, 3)
        assert result["precision"] < 0.05, "samples five standard deviations from the modes count as precise"
        assert float((relative_distances(fake, real) < 0.1).double().mean()) < 0.01, (
            "a sample that is no copy is close to a training sample"
        )


@pytest.mark.parametrize(("samples", "points"), [(300, 1), (100, 3), (2, 60)])
def test_neighbour_metrics_of_repeated_points_equal_brute_force(samples, points):
    """With a collapsed generator, or few distinct real samples, nearly all distances are ties."""
    real, fake = normal(points, 12, 1).repeat(samples, 1), normal(2 * points, 12, 1)[:points].repeat(5, 1)
    result = measure(PrecisionRecall(1), real, fake) | measure(DensityCoverage(1), real, fake)
    assert result == by_brute_force(real, fake, 1)
    assert torch.equal(relative_distances(fake, real), relative_by_brute_force(fake, real).nan_to_num(0.0))


@pytest.mark.parametrize("dim", [1, 2, 7, 64, 2048])
def test_distance_does_not_depend_on_block_size(dim, monkeypatch):
    """Otherwise ties, such as those of a generator that copies its training set, would depend on it."""
    rows = normal(40, dim, 1)
    expected = distances(rows, rows).sort(1).values
    for size in (1, dim, 3 * dim, 1 << 21):
        monkeypatch.setattr(knn, "PAIRS", size)
        assert torch.equal(knn.nearest(rows, rows, 40, "test")[0], expected)


# --- classes --------------------------------------------------------------------------------------------------------


def certain_logits(classes: list[int], num_classes: int = 4) -> torch.Tensor:
    return 10.0 * F.one_hot(torch.tensor(classes), num_classes)


def test_class_accuracy_is_also_given_per_class():
    logits = certain_logits([0, 0, 1, 3, 3, 3])
    fake = feature_set(logits, logits=logits, labels=torch.tensor([0, 1, 1, 3, 3, 2]))
    result = measure(ClassAccuracy(), fake, fake)
    assert result["class_accuracy"] == pytest.approx(4 / 6)
    assert result["class_accuracy_each"] == pytest.approx([1, 0.5, 0, 1])


def test_class_histogram_counts_missing_classes():
    real, fake = certain_logits([0, 1, 2, 3] * 25), certain_logits([0, 1] * 50)
    result = measure(ClassHistogram(), feature_set(real, logits=real), feature_set(fake, logits=fake))
    assert result["classes_found"] == 2
    assert result["class_kl"] == pytest.approx(math.log(2))
    assert result["class_share_each"] == [0.5, 0.5, 0, 0]
    assert measure(ClassHistogram(), feature_set(real, logits=real), feature_set(real, logits=real))["class_kl"] == 0


# --- 2-D points -----------------------------------------------------------------------------------------------------


def ring(modes: int = 8) -> torch.Tensor:
    angles = 2 * math.pi * torch.arange(modes, dtype=torch.float64) / modes
    return torch.stack([angles.cos(), angles.sin()], 1)


def mixture(points: torch.Tensor) -> FeatureSet:
    return feature_set(points, centres=ring(), std=0.01)


def test_modes_of_true_distribution_are_all_covered():
    mode = torch.randint(8, (100_000,), generator=torch.Generator().manual_seed(0))
    result = measure(Modes(), mixture(ring()), mixture(ring()[mode] + normal(100_000, 2, 1, std=0.01)))
    assert result["modes"] == 8
    assert result["quality"] == pytest.approx(1 - math.exp(-4.5), abs=0.002)
    assert result["reverse_kl"] == pytest.approx(0, abs=1e-3)
    assert result["mode_share_each"] == pytest.approx([result["quality"] / 8] * 8, abs=0.005)


@pytest.mark.parametrize("num_modes", [1, 2, 4])
def test_missing_modes_are_counted_and_raise_reverse_kl(num_modes):
    result = measure(Modes(), mixture(ring()), mixture(ring()[:num_modes].repeat(100, 1)))
    assert (result["modes"], result["quality"]) == (num_modes, 1.0)
    assert result["reverse_kl"] == pytest.approx(math.log(8 / num_modes))


@pytest.mark.parametrize("offset", [0.0, 1e4, -1e6])
def test_modes_are_invariant_to_offset(offset):
    """With more than 25 points the rounding of torch.cdist grows with the coordinates, here to 100 std."""
    points = ring()[torch.arange(400) % 8] + normal(400, 2, 1, std=0.01)
    points[0] = 1e5
    shifted = FeatureSet(points + offset, points, torch.zeros(400).long(), centres=ring() + offset, std=0.01)
    distance = (points[:, None] - ring()).square().sum(-1).sqrt().min(1).values
    result = measure(Modes(), shifted, shifted)
    assert result["quality"] == float((distance <= 0.03).double().mean())
    assert result["modes"] == 8


def test_points_far_from_modes_have_no_quality_and_cover_no_mode():
    result = measure(Modes(), mixture(ring()), mixture(1.05 * ring().repeat(100, 1)))
    assert (result["modes"], result["quality"]) == (0, 0.0)
    assert measure(Modes(num_stds=6), mixture(ring()), mixture(1.05 * ring()))["modes"] == 8


def test_protocol_card_of_modes_keeps_published_keys():
    """Published scores are compared by the hash of the card, which depends on the names."""
    assert Modes(num_stds=2).settings() == {"deviations": 2.0, "dtype": "float64"}


# --- degraded samples -----------------------------------------------------------------------------------------------


def make_images(seed: int, num: int = 600) -> torch.Tensor:
    """Return blobs of four kinds (num, 1, 16, 16) in [0, 1]: left, right, wide, tall."""
    generator = torch.Generator().manual_seed(seed)
    kind = torch.arange(num) % 4
    centre = torch.tensor([[5.0, 8.0], [11.0, 8.0], [8.0, 8.0], [8.0, 8.0]])[kind] + torch.randn(
        num, 2, generator=generator
    )
    size = torch.tensor([[2.0, 2.0], [2.0, 2.0], [4.0, 1.5], [1.5, 4.0]])[kind]
    x, y = torch.meshgrid(torch.arange(16.0), torch.arange(16.0), indexing="xy")
    grid = ((x - centre[:, :1, None]) / size[:, :1, None]) ** 2 + ((y - centre[:, 1:, None]) / size[:, 1:, None]) ** 2
    return (-grid / 2).exp()[:, None]


def extract_features(images: torch.Tensor) -> torch.Tensor:
    """Return random convolutional features; the weights are the same in every call."""
    weights = torch.randn(32, 1, 5, 5, generator=torch.Generator().manual_seed(7)) / 5
    maps = F.conv2d(images, weights, stride=2).relu()
    return torch.cat([maps.mean((2, 3)), maps.std((2, 3))], 1).double()


def blur(images: torch.Tensor, amount: int) -> torch.Tensor:
    for _ in range(amount):
        images = F.avg_pool2d(images, 3, 1, 1)
    return images


def noisy(images: torch.Tensor, amount: float) -> torch.Tensor:
    return images + amount * torch.randn(images.shape, generator=torch.Generator().manual_seed(3))


DEGRADATIONS = {
    "blur": [lambda x: blur(x, 1), lambda x: blur(x, 3)],
    "noise": [lambda x: noisy(x, 0.05), lambda x: noisy(x, 0.2)],
    "dropped classes": [lambda x: x[torch.arange(len(x)) % 4 < 3], lambda x: x[torch.arange(len(x)) % 4 < 1]],
    "duplicates": [lambda x: x[:40].repeat(15, 1, 1, 1), lambda x: x[:4].repeat(150, 1, 1, 1)],
}


@pytest.mark.parametrize("degradation", DEGRADATIONS)
@pytest.mark.parametrize("name", ["fid", "kid", "recall", "coverage"])
def test_degraded_samples_have_worse_scores(name, degradation):
    metric = {"fid": FID(), "kid": KID(20, 150), "recall": PrecisionRecall(), "coverage": DensityCoverage()}[name]
    real, fake = make_images(0), make_images(1)
    scores = [
        measure(metric, extract_features(real), extract_features(change(fake)))[name]
        for change in (lambda x: x, *DEGRADATIONS[degradation])
    ]
    sign = 1 if name in metric.lower else -1
    good, bad, worse = (sign * score for score in scores)
    assert good < bad <= worse


@pytest.mark.parametrize("degradation", ["blur", "noise"])
@pytest.mark.parametrize("name", ["precision", "density"])
def test_precision_drops_for_degraded_but_not_for_missing_samples(name, degradation):
    metric = PrecisionRecall() if name == "precision" else DensityCoverage()
    real, fake = make_images(0), make_images(1)
    good, bad, worse = (
        measure(metric, extract_features(real), extract_features(change(fake)))[name]
        for change in (lambda x: x, *DEGRADATIONS[degradation])
    )
    assert good > bad >= worse
    dropped = measure(metric, extract_features(real), extract_features(DEGRADATIONS["dropped classes"][1](fake)))[name]
    assert dropped > 0.8 * good


# --- copies ---------------------------------------------------------------------------------------------------------


def measure_copies(share: float, num: int = 1000, num_training: int = 2000) -> dict:
    training, held_out, new = normal(num_training, 12, 1), normal(1000, 12, 2), normal(num, 12, 3)
    copies = training[torch.randperm(num_training, generator=torch.Generator().manual_seed(0))[: round(share * num)]]
    real = feature_set(training)
    real.held_out = feature_set(held_out)
    return measure(Memorization(), real, torch.cat([copies, new[len(copies) :]]))


@pytest.mark.parametrize("share", [0.01, 0.1, 1.0])
def test_copies_of_training_samples_are_found(share):
    result = measure_copies(share)
    assert share <= result["copies"] <= share + 0.006
    assert result["copies_found"] == 1


def test_new_and_held_out_samples_are_not_copies():
    result = measure_copies(0.0)
    assert result["copies"] < 0.005
    assert result["copies_found"] == 0
    assert result["copies_expected"] == pytest.approx(0.001, rel=0.01), "expected 1 of 1000 held-out samples"
    real = feature_set(normal(2000, 12, 1))
    real.held_out, others = normal(2000, 12, 2).tensor_split(2)
    real.held_out = feature_set(real.held_out)
    assert measure(Memorization(), real, others)["copies_found"] == 0


@pytest.mark.parametrize("noise", [0.0, 1e-4])
def test_held_out_duplicate_of_training_sample_hides_no_copies(noise):
    """Image folders contain duplicates; the smallest held-out distance is then zero."""
    training, held_out = normal(2000, 12, 1), normal(1000, 12, 2)
    held_out[17] = training[4]
    real = feature_set(training)
    real.held_out = feature_set(held_out)
    copies = training[:500] + noise * normal(500, 12, 3)
    assert measure(Memorization(), real, copies)["copies_found"] == 1
    assert measure(Memorization(), real, normal(1000, 12, 4))["copies_found"] == 0
    real.held_out = feature_set(training[:1000])
    assert measure(Memorization(), real, training[1000:1500])["copies_found"] == 0, (
        "all held-out samples are duplicates"
    )


def test_repeated_training_samples_are_copies():
    training = normal(2000, 12, 1)
    real = feature_set(training)
    real.held_out = feature_set(normal(1000, 12, 2))
    result = measure(Memorization(), real, training[:5].repeat(200, 1))
    assert (result["copies"], result["copies_found"]) == (1.0, 1)


def test_few_held_out_samples_are_warned_about():
    real = feature_set(normal(100, 4, 1))
    real.held_out = feature_set(normal(50, 4, 2))
    assert "50 held-out samples" in Memorization().warnings(real, real)[0]


def test_memorization_figure_shows_copy_beside_original():
    images = (255 * make_images(0, 100)).byte()
    real = feature_set(extract_features(make_images(0, 100)), samples=images)
    fake_images = torch.cat([images[17:18], (255 * make_images(5, 20)).byte()])
    fake = feature_set(torch.cat([real.features[17:18], extract_features(make_images(5, 20))]), samples=fake_images)
    figure = Memorization().figure(real, fake, rows=3, columns=2)
    side = 16 + 2
    first, second = figure[:, 2:side, 2:side], figure[:, 2:side, side + 2 : 2 * side]
    assert torch.equal(first, second)
    assert torch.equal(first[0], images[17, 0])
    assert figure.shape[1:] == (3 * side + 2, 3 * side + 2)
