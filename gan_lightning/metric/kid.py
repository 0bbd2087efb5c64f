"""Kernel Inception Distance (Binkowski et al., 2018, section 4, https://arxiv.org/abs/1801.01401)."""

from torch import Tensor
from torch_fidelity.metric_kid import KEY_METRIC_KID_MEAN, KEY_METRIC_KID_STD, kid_features_to_metric

from gan_lightning.metric import Metric, Seen


class KID(Metric):
    r"""Unbiased squared MMD with the kernel :math:`(x \cdot y / D + 1)^3`, the mean over subsets; torch-fidelity's.

    Unlike FID its expectation does not depend on the number of samples, so it may be compared where they are few; it
    can be a little below zero.

    Args:
        subsets: How many subsets.
        subset_size: Samples of each side in one; all of the smaller side where that has fewer.
        seed: Decides the subsets.
    """

    lower = ("kid",)

    def __init__(self, subsets: int = 100, subset_size: int = 1000, seed: int = 2020) -> None:
        self.subsets, self.subset_size, self.seed = subsets, subset_size, seed

    def settings(self) -> dict[str, object]:
        """Subsets and kernel."""
        return super().settings() | {"kernel": "polynomial of degree 3, gamma 1/D, coef0 1", "std_ddof": 0}

    def __call__(self, real: Seen, prepared: dict[str, Tensor], fake: Seen) -> dict[str, float]:
        """The mean over the subsets, and their standard deviation."""
        size = min(self.subset_size, len(real), len(fake))
        asked = {"kid_subsets": self.subsets, "kid_subset_size": size, "rng_seed": self.seed, "verbose": False}
        found = kid_features_to_metric(fake.features.double(), real.features.double(), **asked)
        return {"kid": found[KEY_METRIC_KID_MEAN], "kid_std": found[KEY_METRIC_KID_STD]}

    def notes(self, real: Seen, fake: Seen) -> list[str]:
        """Whether the subsets are smaller than the card says."""
        few = min(len(real), len(fake))
        return [f"kid: subsets of {few:,}, since there are no more samples"] if few < self.subset_size else []
