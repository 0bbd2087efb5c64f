"""Frechet Inception Distance (Heusel et al., 2017, equation 6, https://arxiv.org/abs/1706.08500)."""

from typing import ClassVar

import torch
from torch import Tensor

from gan_lightning.metric import FeatureSet, Metric


class FID(Metric):
    r"""Frechet distance between Gaussians fitted to the features, with unbiased covariances (ddof 1).

    .. math:: |\mu_1 - \mu_2|^2 + tr(\Sigma_1 + \Sigma_2 - 2 (\Sigma_1 \Sigma_2)^{1/2})

    With centred features :math:`A = Q_1 R_1, B = Q_2 R_2`, each divided by :math:`\sqrt{n - 1}`, the trace of the root
    is the sum of the singular values of :math:`R_1 R_2^T`. This is exact for singular covariances too, and needs no
    complex numbers and no epsilon. Through other networks than Inception the score is named ``fd``.
    """

    lower = ("fid",)
    names_without_inception: ClassVar = {"FID": "FD", "fid": "fd"}

    def settings(self) -> dict[str, object]:
        """Return the normalization of the covariance and the precision."""
        return {"ddof": 1, "dtype": "float64"}

    def prepare(self, real: FeatureSet) -> dict[str, Tensor]:
        """Compute the mean (D,) and R (min(N, D), D) of the real features."""
        return statistics(real.features)

    def __call__(self, real: FeatureSet, prepared: dict[str, Tensor], fake: FeatureSet) -> dict[str, float]:
        """Return the distance; 0 for equal sets."""
        return {"fid": distance(prepared, statistics(fake.features))}

    def warnings(self, real: FeatureSet, fake: FeatureSet) -> list[str]:
        """Return a warning if so few samples make the distance too large."""
        few, dim = min(len(real), len(fake)), fake.features.shape[1]
        if few > dim:
            return []
        return [f"{few:,} samples cannot span {dim:,} features; the value is far too large, compare metric=kid instead"]


def statistics(features: Tensor) -> dict[str, Tensor]:
    """Compute the mean (D,) and the triangular factor R (min(N, D), D) with R^T R the covariance, in float64.

    Raises:
        ValueError: There are fewer than two samples.
    """
    if len(features) < 2:
        raise ValueError("Frechet distance: at least two samples are needed on each side")
    features = features.double()
    mean = features.mean(0)
    return {"mean": mean, "root": torch.linalg.qr((features - mean) / (len(features) - 1) ** 0.5, mode="r").R}


def distance(one: dict[str, Tensor], other: dict[str, Tensor]) -> float:
    """Return the Frechet distance between two sets of statistics, clamped to zero from below."""
    trace = torch.linalg.svdvals(one["root"] @ other["root"].T).sum()
    total = (one["mean"] - other["mean"]).square().sum() + one["root"].square().sum() + other["root"].square().sum()
    return max(float(total - 2 * trace), 0.0)
