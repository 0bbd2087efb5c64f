"""DiffAugment: each operation equals its formula, has two derivatives, and is applied with its probability."""

import math

import pytest
import torch
from torch import Tensor

from gan_lightning.augment import diffaugment
from gan_lightning.augment.diffaugment import NUM_UNIFORMS, DiffAugment

torch.manual_seed(0)
X = torch.rand(5, 3, 9, 16, dtype=torch.float64) * 2 - 1  # sides of which neither a half nor an eighth is whole
U = torch.tensor([0.0, 0.1, 0.5, 0.83, 1 - 1e-7], dtype=torch.float64)
BRIGHTER, SATURATED, CONTRASTED, MOVED, CUT, B, S, C, DOWN, RIGHT, ROW, COLUMN = range(NUM_UNIFORMS)


def uniforms(**columns: Tensor | float) -> Tensor:
    """Return random numbers with which no operation is applied, except for the given columns."""
    rows = torch.full((len(X), NUM_UNIFORMS), 0.99, dtype=torch.float64)
    for name, value in columns.items():
        rows[:, globals()[name]] = value
    return rows


def augmented(policy: str, x: Tensor = X, probability: float = 0.5, **columns: Tensor | float) -> Tensor:
    """Return images to which the operations with a column below the probability are applied."""
    rows = uniforms(**columns)

    def draw(sample: object, *shape: int) -> Tensor:
        assert sample is torch.rand
        assert shape == rows.shape
        return rows

    return DiffAugment([policy], probability)(x, draw)


def test_brightness_adds_one_number_per_image():
    expected = torch.stack([X[n] + float(U[n]) - 0.5 for n in range(5)])
    torch.testing.assert_close(augmented("color", BRIGHTER=0, B=U), expected, rtol=0, atol=1e-12)


def test_saturation_scales_around_mean_of_channels():
    expected = X.clone()
    for n in range(5):
        for i in range(9):
            for j in range(16):
                mean = sum(X[n, :, i, j].tolist()) / 3
                expected[n, :, i, j] = (X[n, :, i, j] - mean) * 2 * U[n] + mean
    torch.testing.assert_close(augmented("color", SATURATED=0, S=U), expected, rtol=0, atol=1e-12)


def test_saturation_leaves_gray_images_alone():
    gray = X[:, :1]
    torch.testing.assert_close(augmented("color", gray, SATURATED=0, S=U), gray, rtol=0, atol=1e-15)


def test_contrast_scales_around_mean_of_image():
    means = [sum(X[n].flatten().tolist()) / X[n].numel() for n in range(5)]
    expected = torch.stack([(X[n] - means[n]) * (U[n] + 0.5) + means[n] for n in range(5)])
    torch.testing.assert_close(augmented("color", CONTRASTED=0, C=U), expected, rtol=0, atol=1e-12)


def test_translation_shifts_by_up_to_an_eighth_with_zero_padding():
    down, right = [-1, -1, 0, 1, 1], [-2, -2, 0, 2, 2]  # of U in three and in five equal intervals
    expected = torch.zeros_like(X)
    for n in range(5):
        for i in range(9):
            for j in range(16):
                if 0 <= i - down[n] < 9 and 0 <= j - right[n] < 16:
                    expected[n, :, i, j] = X[n, :, i - down[n], j - right[n]]
    assert torch.equal(augmented("translation", MOVED=0, DOWN=U, RIGHT=U), expected)


def test_cutout_sets_half_of_each_side_to_zero():
    # Sides of 4 and 8 in 9 and 16; centres in 0 .. 9 and 0 .. 16, so that at least half of each side is inside.
    rows, columns = [0, 1, 5, 8, 9], [0, 1, 8, 14, 16]
    expected = X.clone()
    for n in range(5):
        expected[n, :, max(rows[n] - 2, 0) : rows[n] + 2, max(columns[n] - 4, 0) : columns[n] + 4] = 0
    assert torch.equal(augmented("cutout", CUT=0, ROW=U, COLUMN=U), expected)


@pytest.mark.parametrize("policy", ["color", "translation", "cutout"])
def test_operations_that_are_not_drawn_leave_images_alone(policy):
    assert torch.allclose(augmented(policy), X, rtol=0, atol=1e-15)
    assert not torch.allclose(augmented(policy, probability=1.0, DOWN=0.1, ROW=0.5, COLUMN=0.5), X)


@pytest.mark.parametrize("policy", ["color", "translation", "cutout"])
def test_operations_have_two_derivatives(policy):
    x = X[:2, :, :4, :8].clone().requires_grad_()
    rows = torch.rand(2, NUM_UNIFORMS, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    augment = DiffAugment([policy])

    def squared(x: Tensor) -> Tensor:  # the operations are linear or affine, so that their own second derivative is 0
        return augment(x, lambda *_: rows).square()

    assert torch.autograd.gradcheck(squared, x)
    assert torch.autograd.gradgradcheck(squared, x)


def test_each_operation_is_applied_with_the_probability():
    x = torch.ones(20_000, 3, 8, 8)
    generator = torch.Generator().manual_seed(0)
    augment = DiffAugment(["cutout"], 0.3)
    changed = (augment(x, lambda sample, *shape: sample(*shape, generator=generator)) != x).flatten(1).any(1)
    assert changed.float().mean() == pytest.approx(0.3, abs=4 * math.sqrt(0.3 * 0.7 / len(x)))


def test_translations_and_centres_are_uniform():
    numbers = diffaugment.integers(torch.rand(50_000, generator=torch.Generator().manual_seed(0)), 5)
    assert numbers.bincount().tolist() == pytest.approx([10_000] * 5, abs=4 * math.sqrt(50_000 * 0.2 * 0.8))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_operations_keep_shape_and_precision_of_images(dtype):
    y = DiffAugment()(X.to(dtype), lambda sample, *shape: sample(*shape))
    assert y.shape == X.shape
    assert y.dtype == torch.promote_types(dtype, torch.float32)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"policy": []}, "policy=\\[\\]: must be a list of at least 1"),
        ({"policy": ["flip"]}, "policy=\\['flip'\\]: must be .* one of color, translation, cutout"),
        ({"probability": 1.5}, "probability=1.5: must be a number of at least 0 and at most 1"),
    ],
)
def test_invalid_settings_are_errors(arguments, message):
    with pytest.raises(ValueError, match=message):
        DiffAugment(**arguments)
