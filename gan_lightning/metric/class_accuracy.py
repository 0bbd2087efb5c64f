"""Accuracy of a classifier on conditionally generated samples."""

from torch import Tensor
from torchmetrics.functional.classification import multiclass_accuracy

from gan_lightning.metric import FeatureSet, Metric


class ClassAccuracy(Metric):
    """Share of generated samples that a classifier assigns to the class they were generated for; overall and per class.

    It does not measure the diversity within a class.
    """

    higher = ("class_accuracy",)
    needs = frozenset({"classes", "condition"})

    def __call__(
        self, real: FeatureSet, prepared: dict[str, Tensor], fake: FeatureSet
    ) -> dict[str, float | list[float]]:
        """Return the accuracy, and that of each class (0 for classes without samples)."""
        classes = fake.logits.shape[1]
        each = multiclass_accuracy(fake.logits, fake.labels, num_classes=classes, average=None)
        return {
            "class_accuracy": float((fake.logits.argmax(1) == fake.labels).double().mean()),
            "class_accuracy_each": each.tolist(),
        }
