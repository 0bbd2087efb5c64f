"""Inception Score (Salimans et al., 2016, section 4, https://arxiv.org/abs/1606.03498)."""

from torch import Tensor
from torch_fidelity.metric_isc import KEY_METRIC_ISC_MEAN, KEY_METRIC_ISC_STD, isc_features_to_metric

from gan_lightning.config.constraints import PositiveInt, Seed
from gan_lightning.metric import FeatureSet, Metric


class InceptionScore(Metric):
    r""":math:`\exp(E_x KL(p(y|x) \| p(y)))`, averaged over splits; computed by torch-fidelity.

    Between 1 and the number of classes. Scores of a classifier of the data's own classes are not comparable with those
    of Inception; the protocol card names the network.

    Args:
        splits: Number of parts whose scores are averaged.
        seed: Seed of the random split.
    """

    higher = ("inception_score",)
    needs = frozenset({"logits"})

    def __init__(self, splits: PositiveInt = 10, seed: Seed = 2020) -> None:
        self.splits, self.seed = splits, seed

    def settings(self) -> dict[str, object]:
        """Return the splits and the normalization of the standard deviation."""
        return super().settings() | {"std_ddof": 0, "dtype": "float64"}

    def __call__(self, real: FeatureSet, prepared: dict[str, Tensor], fake: FeatureSet) -> dict[str, float]:
        """Return the mean and the standard deviation over the splits."""
        result = isc_features_to_metric(fake.logits, min(self.splits, len(fake)), shuffle=True, rng_seed=self.seed)
        return {"inception_score": result[KEY_METRIC_ISC_MEAN], "inception_score_std": result[KEY_METRIC_ISC_STD]}

    def warnings(self, real: FeatureSet, fake: FeatureSet) -> list[str]:
        """Return a warning if small splits make the score too low."""
        per_split, classes = len(fake) // self.splits, fake.logits.shape[1]
        if per_split >= 10 * classes:
            return []
        return [f"{per_split:,} samples per split are few for {classes:,} classes; the value is too low"]
