"""Histogram of the generated classes, in which lost classes show."""

from torch import Tensor

from gan_lightning.metric import FeatureSet, Metric

FEW = 10  # mean number of samples per class below which one may be missing by chance


class ClassHistogram(Metric):
    r"""Share of each class among a classifier's predictions, and its KL divergence from that of the real samples.

    On Stacked MNIST these are its number of modes and KL (Metz et al., 2017, section 3.3.1, https://arxiv.org/abs/1611.02163;
    Lin et al., 2018, section 4.2): :math:`KL(p_{generated} \| p_{real})` over the classes, in nats.
    """

    lower = ("class_kl",)
    higher = ("classes_found",)
    needs = frozenset({"classes"})

    def warnings(self, real: FeatureSet, fake: FeatureSet) -> list[str]:
        """Return a warning if a class may be missing by chance."""
        few, classes = min(len(real), len(fake)), fake.logits.shape[1]
        warning = f"{few:,} samples of {classes:,} classes; one may be missing by chance"
        return [warning] if few < FEW * classes else []

    def __call__(
        self, real: FeatureSet, prepared: dict[str, Tensor], fake: FeatureSet
    ) -> dict[str, float | list[float]]:
        """Return the number of classes with at least one sample, the divergence, and the histogram."""
        p_fake, p_real = class_shares(fake), class_shares(real)
        found = p_fake > 0
        # A generated class without real samples counts as one real sample, since the divergence would be infinite.
        kl = (p_fake[found] * (p_fake[found] / p_real[found].clamp(min=1 / len(real))).log()).sum()
        return {"class_kl": float(kl), "classes_found": int(found.sum()), "class_share_each": p_fake.tolist()}


def class_shares(samples: FeatureSet) -> Tensor:
    """Return the share (classes,) of each class among the predictions."""
    return samples.logits.argmax(1).bincount(minlength=samples.logits.shape[1]).double() / len(samples)
