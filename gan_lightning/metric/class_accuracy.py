"""How often a classifier recognises the class that a conditional generator was asked for."""

from torch import Tensor
from torchmetrics.functional.classification import multiclass_accuracy

from gan_lightning.metric import Metric, Seen


class ClassAccuracy(Metric):
    """Share of generated samples in which a classifier sees the class that was asked for; of all, and of each class.

    It says nothing of variety within a class.
    """

    higher = ("class_accuracy",)
    needs = frozenset({"classes", "condition"})

    def __call__(self, real: Seen, prepared: dict[str, Tensor], fake: Seen) -> dict[str, float | list[float]]:
        """The share, and that of each class; of a class that nothing was asked of, 0."""
        classes = fake.logits.shape[1]
        each = multiclass_accuracy(fake.logits, fake.labels, num_classes=classes, average=None)
        return {
            "class_accuracy": float((fake.logits.argmax(1) == fake.labels).double().mean()),
            "class_accuracy_each": each.tolist(),
        }
