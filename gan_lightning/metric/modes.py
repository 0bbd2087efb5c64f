"""Mode coverage of a Gaussian mixture in the plane, by the protocol of PacGAN (Lin et al., 2018, section 4.1, https://arxiv.org/abs/1712.04086)."""

import torch
from torch import Tensor

from gan_lightning.config.constraints import PositiveFloat
from gan_lightning.metric import FeatureSet, Metric


class Modes(Metric):
    """Number of covered modes, share of high-quality samples, and KL divergence of the modes' shares from uniform.

    A sample is of high quality within ``num_stds`` standard deviations of its nearest mode; one such sample covers a
    mode. Real points are of high quality with probability 1 - exp(-4.5) = 98.89 %, so that a higher share means too
    narrow modes. The reverse KL is that of the shares of all samples' nearest modes from equal shares, in nats.

    Args:
        num_stds: Maximum distance of a high-quality sample to its mode, in standard deviations.
    """

    needs_points = "metric=class_histogram finds lost classes of images"

    lower = ("reverse_kl",)
    higher = ("modes", "quality")
    needs = frozenset({"centres"})

    def __init__(self, num_stds: PositiveFloat = 3.0) -> None:
        self.num_stds = float(num_stds)

    def settings(self) -> dict[str, object]:
        """Return the radius and the precision.

        The radius keeps the name that it has in published cards, since their hashes depend on it.
        """
        return {"deviations": self.num_stds, "dtype": "float64"}

    def __call__(
        self, real: FeatureSet, prepared: dict[str, Tensor], fake: FeatureSet
    ) -> dict[str, float | list[float]]:
        """Return the three scores, and for each mode the share of the samples that cover it."""
        count = len(real.centres)
        # By differences, since the matrix product that torch uses for more than 25 points rounds in proportion to the
        # norms.
        differences = "donot_use_mm_for_euclid_dist"
        distance = torch.cdist(fake.samples.double(), real.centres.double(), compute_mode=differences)
        nearest, mode = distance.min(1)
        good = nearest <= self.num_stds * real.std
        each = mode[good].bincount(minlength=count)
        share = mode.bincount(minlength=count).double() / len(fake)
        return {
            "reverse_kl": float(torch.special.xlogy(share, share * count).sum()),
            "modes": int((each > 0).sum()),
            "quality": float(good.double().mean()),
            "mode_share_each": (each.double() / len(fake)).tolist(),
        }
