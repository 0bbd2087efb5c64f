"""Which classes a generator makes: lost ones are seen at a glance."""

from torch import Tensor

from gan_lightning.metric import Metric, Seen

FEW = 10  # samples of each class, of which chance can leave one out


class ClassHistogram(Metric):
    r"""Share of each class among what a classifier sees in the samples, and its distance from that of the real ones.

    On Stacked MNIST these are its modes and KL (Metz et al., 2017, section 3.3.1, https://arxiv.org/abs/1611.02163;
    Lin et al., 2018, section 4.2): :math:`KL(p_{generated} \| p_{real})` over the classes, in nats.
    """

    lower = ("class_kl",)
    higher = ("classes_found",)
    needs = frozenset({"classes"})

    def notes(self, real: Seen, fake: Seen) -> list[str]:
        """Whether a class may be missing by chance."""
        few, classes = min(len(real), len(fake)), fake.logits.shape[1]
        told = f"classes_found, class_kl: {few:,} samples of {classes:,} classes; one may be missing by chance"
        return [told] if few < FEW * classes else []

    def __call__(self, real: Seen, prepared: dict[str, Tensor], fake: Seen) -> dict[str, float | list[float]]:
        """The number of classes with at least one sample, the divergence, and the histogram."""
        ours, theirs = shares(fake), shares(real)
        made = ours > 0
        # A class that is made though the real samples lack it counts as one real sample, or the divergence is infinite.
        kl = (ours[made] * (ours[made] / theirs[made].clamp(min=1 / len(real))).log()).sum()
        return {"class_kl": float(kl), "classes_found": int(made.sum()), "class_share_each": ours.tolist()}


def shares(seen: Seen) -> Tensor:
    """Share (classes,) of each class among the predictions."""
    return seen.logits.argmax(1).bincount(minlength=seen.logits.shape[1]).double() / len(seen)
