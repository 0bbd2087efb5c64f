"""The scripts of benchmarks/compact_features: degradations, training images, features, students, correlations."""

import json
import math
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks" / "compact_features"))

import compare
import degradations
import distillation
import image_sets
import student
import teacher


def images(num: int = 12, channels: int = 3, side: int = 32) -> np.ndarray:
    """Smooth random images."""
    rng = np.random.default_rng(0)
    small = rng.integers(60, 196, (num, channels, 6, 6), dtype=np.uint8)
    return np.stack([degradations.resize(image, (side, side)) for image in small])


PIXEL_KINDS = [kind for kind in degradations.SEVERITIES if kind not in degradations.SELECTIONS]


@pytest.mark.parametrize("kind", PIXEL_KINDS)
def test_degradation_error_grows_with_severity(kind):
    """Each severity changes pixels more, and the weakest changes them by less than 10 of 255 on average."""
    real, errors = images(), []
    for value in degradations.SEVERITIES[kind]:
        found = degradations.degrade(real, kind, value, np.random.default_rng(1))
        assert (found.shape, found.dtype) == (real.shape, np.uint8)
        errors.append(np.abs(found.astype(float) - real).mean())
    assert 0.5 < errors[0] < 10
    assert errors[0] < errors[1] < errors[2]


def test_checkerboard_and_colour_have_given_values():
    gray = np.full((1, 3, 2, 2), 100, np.uint8)
    assert degradations.checkerboard(gray, 10)[0, 0].tolist() == [[110, 90], [90, 110]]
    assert degradations.colour(gray, 0.2)[0, :, 0, 0].tolist() == [120, 100, 80]
    assert degradations.colour(np.full((1, 3, 1, 1), 250, np.uint8), 0.2)[0, :, 0, 0].tolist() == [255, 250, 200]


def test_noise_has_given_std_and_blur_keeps_mean():
    gray = np.full((4, 1, 32, 32), 128, np.uint8)
    noisy = degradations.noise(gray, 15, np.random.default_rng(0)).astype(float)
    assert noisy.std() == pytest.approx(15, rel=0.05)
    assert degradations.blur(images(), 1 / 16).mean() == pytest.approx(images().mean(), abs=1)


def test_cutout_changes_a_square_only():
    black = np.zeros((1, 3, 32, 32), np.uint8)
    changed = degradations.cutout(black, 0.25, np.random.default_rng(0))[0]
    assert set(np.unique(changed)) == {0, 128}
    rows = np.flatnonzero(changed[0].any(1))
    assert len(rows) <= 8
    assert (changed[0] > 0).sum() == len(rows) * len(np.flatnonzero(changed[0].any(0)))


def test_lost_classes_keeps_largest_classes():
    labels = np.array([0] * 2 + [1] * 5 + [2] * 4 + [4] * 3)
    assert degradations.kept_classes(labels, 0.75) == [1, 2, 4]
    assert degradations.kept_classes(labels, 0.5) == [1, 2]
    pool = np.zeros((14, 1, 8, 8), np.uint8)
    rows = degradations.select(pool, labels, "lost_classes", 0.25, 5, np.random.default_rng(0))
    assert sorted(rows) == [2, 3, 4, 5, 6]
    with pytest.raises(ValueError, match="lost_classes: 5 images are left, and 6 are needed"):
        degradations.select(pool, labels, "lost_classes", 0.25, 6, np.random.default_rng(0))


def test_repeated_has_given_number_of_distinct_images():
    pool = np.zeros((50, 1, 8, 8), np.uint8)
    rows = degradations.select(pool, np.zeros(50, int), "repeated", 0.25, 40, np.random.default_rng(0))
    assert len(rows) == 40
    assert len(set(rows)) == 10
    assert np.bincount(rows).max() == 4


def test_lost_modes_keeps_whole_clusters(monkeypatch):
    monkeypatch.setenv("LOKY_MAX_CPU_COUNT", "1")  # otherwise scikit-learn starts lscpu to count the cores
    pool = np.repeat(np.arange(20, dtype=np.uint8) * 12, 5)[:, None, None, None] * np.ones((1, 1, 8, 8), np.uint8)
    rows = degradations.select(pool, np.zeros(100, int), "lost_modes", 0.4, 40, np.random.default_rng(0))
    assert len(set(rows)) == 40
    assert set(np.bincount(rows // 5, minlength=20)) == {0, 5}
    assert degradations.kept_clusters(np.array([0, 0, 1, 2, 2]), 0.6) == [0, 1]
    assert degradations.kept_clusters(np.array([0, 0, 1, 2, 2]), 0.61) == [0, 1, 2]


@pytest.fixture(scope="module")
def training_images() -> distillation.DistillationImages:
    sources = {"cifar10": images(), "fashion_mnist": images(7, 1, 28), "mnist": images(5, 1, 28)}
    labels = {name: np.arange(len(found)) % 10 for name, found in sources.items()}
    return distillation.DistillationImages(sources, labels, [images(1, 3, 120)[0]], [images(3), images(3, 1)])


def test_training_image_is_function_of_index(training_images):
    """Reading others in between changes nothing, and all kinds of images have three channels and an expected side."""
    first = [training_images[index] for index in range(0, 400, 3)]
    again = [training_images[index] for index in reversed(range(0, 400, 3))][::-1]
    for (one, strengths, label), (other, *rest) in zip(first, again, strict=True):
        assert np.array_equal(one, other)
        assert np.array_equal(strengths, rest[0])
        assert label == rest[1]
        assert one.shape[0] == 3
        assert one.shape[1] in (28, 32, *distillation.SIDES)
    assert {one.shape[1] for one, *_ in first} == {28, 32, *distillation.SIDES}


def test_half_of_training_images_are_clean(training_images):
    """Half of the images of each data set are degraded; a clean image of CIFAR-10 equals the original."""
    found = [training_images[index] for index in range(400)]
    degraded = np.array([strengths.any() for _, strengths, _ in found])
    for kind in set(distillation.PLACES):
        rows = [row for row in range(400) if distillation.PLACES[row % 20] == kind]
        assert degraded[rows].mean() == 0.5
    assert np.array_equal(found[0][0], training_images.sources["cifar10"][0])
    assert [label for *_, label in found[:3]] == [0, 1, 2]
    assert found[10][2] == 10  # Fashion-MNIST's first class
    assert found[16][2] == -1
    strengths = np.stack([strengths for _, strengths, _ in found])
    assert set((strengths > 0).sum(1)) == {0, 1, 2}
    assert (strengths > 0).any(0).all()


def mean_and_first(batch: torch.Tensor) -> np.ndarray:
    return torch.stack([batch.float().mean((1, 2, 3)), batch[:, 0, 0, 0].float()], 1).numpy()


def test_features_of_known_and_finished_images_are_not_computed_again(tmp_path, monkeypatch):
    monkeypatch.setattr(teacher, "PART", 4)
    real, read = images(10), []

    def network(batch: torch.Tensor) -> np.ndarray:
        read.append(len(batch))
        if len(read) == 3:
            raise KeyboardInterrupt
        return mean_and_first(batch)

    known: dict[bytes, np.ndarray] = {}
    with pytest.raises(KeyboardInterrupt):
        teacher.set_features(real, network, known, tmp_path, "real")
    known.clear()
    found = teacher.set_features(real, network, known, tmp_path, "real")
    assert read == [4, 4, 2, 2]  # the last part twice, the first two from their files
    assert np.array_equal(found, mean_and_first(torch.from_numpy(real)))
    repeated = real[[3, 3, 9, 0]]
    assert np.array_equal(
        teacher.set_features(repeated, network, known, tmp_path / "repeated", "repeated"),
        mean_and_first(torch.from_numpy(repeated)),
    )
    assert read == [4, 4, 2, 2]


def test_parts_of_other_images_are_computed_again(tmp_path):
    teacher.set_features(images(3), mean_and_first, {}, tmp_path, "one")
    others = 255 - images(3)
    found = teacher.set_features(others, mean_and_first, {}, tmp_path, "other")
    assert np.array_equal(found, mean_and_first(torch.from_numpy(others)))


def test_features_of_images_of_several_sizes_keep_their_order():
    several = [*images(2, side=32), *images(2, side=48), *(255 - images(1, side=32))]
    found = teacher.features_by_size(several, mean_and_first)
    assert found[:, 0].tolist() == pytest.approx([image.mean() for image in several], rel=1e-4)


def test_image_set_is_read_with_its_hash(tmp_path):
    for name in ("real", "reference", "blur-1"):
        image_sets.write_set(image_sets.set_path(tmp_path, "mnist", name), images(2, 1), note=name)
    assert [*image_sets.sets_of(tmp_path)] == ["mnist/reference", "mnist/real", "mnist/blur-1"]
    described = json.loads((tmp_path / "sets" / "mnist" / "blur-1.json").read_text())
    assert described == {"images": 2, "sha256": image_sets.hash_of(images(2, 1)), "note": "blur-1"}
    with pytest.raises(ValueError, match="must be uint8"):
        image_sets.write_set(tmp_path / "wrong.npy", np.zeros((2, 2)))


@pytest.fixture(scope="module")
def small_student() -> student.Student:
    """A student of 16 x 16 images, whose BatchNorm layers have seen a few batches."""
    torch.manual_seed(0)
    network = student.Student(16, 6, (8, 12), (1, 2))
    for start in range(3):
        network.train()(student.to_input(torch.from_numpy(images(9)[start::3]), 16))
    return network.eval()


def test_fused_student_has_same_features(small_student):
    batch = torch.from_numpy(images(5))
    expected = small_student.features(batch)
    network = student.fused(small_student)
    assert {name.rpartition(".")[2] for name in network.state_dict()} == {"weight", "bias"}
    torch.testing.assert_close(network.features(batch), expected, rtol=1e-4, atol=1e-4)
    assert torch.equal(small_student.features(batch), expected)


def test_stored_student_has_same_features(small_student, tmp_path):
    path, network = tmp_path / "student.safetensors", student.fused(small_student)
    student.save_student(path, network)
    stored = student.load_student(path)
    assert stored.settings == small_student.settings
    assert next(stored.parameters()).dtype == torch.float32
    batch = torch.from_numpy(images(5, 1, 28))
    expected = network.features(batch)
    assert (stored.features(batch) - expected).abs().max() < 0.01 * expected.abs().max()


def test_default_student_is_at_most_two_megabytes(tmp_path):
    student.save_student(tmp_path / "x", student.fused(student.Student()))
    assert (tmp_path / "x").stat().st_size < 2e6


def test_pooled_are_means_and_stds(small_student):
    """The pooled values are those of each stage, before the normalisation."""
    network = student.fused(small_student)
    batch = student.to_input(torch.from_numpy(images(4)), 16)
    first = network.stages[0](batch)
    pooled = network.pooled(batch)
    torch.testing.assert_close(pooled[:, :8], first.mean((2, 3)))
    expected = (first.flatten(2).var(2, correction=0) + 1e-5).sqrt()
    torch.testing.assert_close(pooled[:, 8:16], expected, rtol=1e-3, atol=1e-4)


def test_input_is_resized_and_has_three_channels():
    batch = torch.from_numpy(images(2, 1, 28))
    found = student.to_input(batch, 48)
    assert found.shape == (2, 3, 48, 48)
    expected = F.interpolate(batch.float() / 127.5 - 1, (48, 48), mode="bilinear", antialias=True)
    torch.testing.assert_close(found, expected.expand(-1, 3, -1, -1), rtol=0, atol=1e-5)


def test_projection_has_components_of_largest_variance():
    """Without whitening distances are those of the components, up to one factor, with it variances are equal."""
    generator = torch.Generator().manual_seed(0)
    scales = torch.tensor([4.0, 2.0, 1.0, 0.01])
    rotation = torch.linalg.qr(torch.randn(4, 4, generator=generator)).Q
    features = (torch.randn(2000, 4, generator=generator) * scales) @ rotation + 3
    for whitening, expected in ((0.0, [4.0, 2.0, 1.0]), (0.5, [2.0, 2**0.5, 1.0]), (1.0, [1.0, 1.0, 1.0])):
        mean, matrix, factors = student.projection(features, 3, whitening)
        found = student.project(features, mean, matrix)
        stds = found.std(0)
        assert (stds / stds[2]).tolist() == pytest.approx(expected, rel=0.05)
        assert float(found.square().mean()) == pytest.approx(1, rel=0.01)
        assert (found * factors).std(0).tolist() == pytest.approx([4, 2, 1], rel=0.05)


def test_spearman_of_pooled_ranks_ignores_levels():
    """Two groups of opposite levels, each ordered alike: pooled 1, and negative over all."""
    groups = ["a", "a", "a", "b", "b", "b"]
    x, y = [1, 2, 3, 11, 12, 13], [21, 22, 23, 1, 2, 3]
    assert compare.pooled_spearman(groups, x, y) == pytest.approx(1)
    assert compare.spearman(x, y) < 0
    assert compare.pooled_spearman(groups, x, [21, 22, 23, 3, 2, 1]) == pytest.approx(0)
    assert compare.spearman([1, 2, 3, 4], [1, 2, 4, 3]) == pytest.approx(0.8)
    assert math.isnan(compare.spearman([1, 2], [1, 2]))
    assert math.isnan(compare.spearman([1, 1, 1], [1, 2, 3]))


def test_bootstrap_interval_covers_correlation():
    rng = np.random.default_rng(0)
    x = rng.normal(size=40)
    y = x + rng.normal(size=40)
    groups = ["a"] * 20 + ["b"] * 20
    low, high = compare.bootstrap(groups, lambda rows: compare.spearman(x[rows], y[rows]), 300)
    assert low < compare.spearman(x, y) < high
    assert 0.1 < high - low < 0.6
    assert compare.bootstrap(groups, lambda rows: compare.spearman(x[rows], x[rows]), 20) == [1, 1]


def test_comparison_reports_kinds_and_unseen_sets():
    steps = {"dcgan-300": 9.0, "dcgan-1000": 5.0, "wgan-100": 20.0, "real": 1.0}
    values = {f"{data}/{name}": value * scale for data, scale in (("cifar10", 1.0), ("anime", 3.0), ("mnist", 0.1))
              for name, value in steps.items()}  # fmt: skip
    values |= {f"cifar10/blur-{severity}": severity * 2.0 for severity in (1, 2, 3)}
    values |= {f"cifar10/noise-{severity}": severity * 3.0 for severity in (1, 2, 3)}
    other = values | {"cifar10/noise-3": 2.5, "cifar10/noise-1": 0.5}
    report = compare.compare(values, other)
    assert report["generated"]["all"]["sets"] == 9
    assert report["generated"]["all"]["spearman"] == 1
    assert {key: report["generated"][key]["sets"] for key in ("colour", "unseen", "gray")} == {
        "colour": 6, "unseen": 3, "gray": 3
    }  # fmt: skip
    assert report["degraded"]["not_monotone"] == ["cifar10/noise"]
    assert report["degraded"]["not_monotone_inception"] == []
    noise = report["degraded"]["kinds"]["cifar10/noise"]
    assert noise["student"] == {"distances": [0.5, 6, 2.5], "monotone": False, "real": 1, "above_real": False}
    assert noise["inception"]["above_real"]
    assert report["degraded"]["all"]["sets"] == 6
    assert compare.plot(report, "x").shape == (3, 500, 1100)
    assert "generated unseen    3 sets: 1.000" in compare.summary(report)
