"""Inception Score (Salimans et al., 2016, section 4, https://arxiv.org/abs/1606.03498)."""

from torch import Tensor
from torch_fidelity.metric_isc import KEY_METRIC_ISC_MEAN, KEY_METRIC_ISC_STD, isc_features_to_metric

from gan_lightning.config.constraints import PositiveInt, Seed
from gan_lightning.metric import Metric, Seen


class InceptionScore(Metric):
    r""":math:`\exp(E_x KL(p(y|x) \| p(y)))`, the mean over splits; torch-fidelity's.

    Between 1 and the number of classes. With a classifier of the data's own classes it is that classifier's score, and
    not comparable with one of Inception, as its card says.

    Args:
        splits: Parts that each give a score.
        seed: Decides which sample is in which part.
    """

    higher = ("inception_score",)
    needs = frozenset({"logits"})

    def __init__(self, splits: PositiveInt = 10, seed: Seed = 2020) -> None:
        self.splits, self.seed = splits, seed

    def settings(self) -> dict[str, object]:
        """Splits and the law of the deviation."""
        return super().settings() | {"std_ddof": 0, "dtype": "float64"}

    def __call__(self, real: Seen, prepared: dict[str, Tensor], fake: Seen) -> dict[str, float]:
        """The mean over the splits, and their standard deviation."""
        found = isc_features_to_metric(fake.logits, min(self.splits, len(fake)), shuffle=True, rng_seed=self.seed)
        return {"inception_score": found[KEY_METRIC_ISC_MEAN], "inception_score_std": found[KEY_METRIC_ISC_STD]}

    def notes(self, real: Seen, fake: Seen) -> list[str]:
        """Small parts make the score too low."""
        per_split, classes = len(fake) // self.splits, fake.logits.shape[1]
        if per_split >= 10 * classes:
            return []
        return [f"inception_score: {per_split:,} samples a split are few for {classes:,} classes; the value is too low"]
