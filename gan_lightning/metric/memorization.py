"""A test of whether a generator copies its training images."""

import torch
from scipy.stats import betabinom
from torch import Tensor

from gan_lightning.io.image import from_uint8, grid
from gan_lightning.metric import FeatureSet, Metric
from gan_lightning.metric.knn import nearest, pairwise_sq_distances

CHANCE = 1e-3  # significance level of the test: probability of a false positive


class Memorization(Metric):
    """Compare the distances of generated samples to the training set with those of held-out real samples.

    The distance is relative, as in the authenticity of Alaa et al. (2022, https://arxiv.org/abs/2102.08921): the
    distance to the nearest training sample over that sample's own distance to its nearest neighbour, so that samples
    in dense regions do not count as copies. A generated sample is a suspect if it is as close as the closest 1/1000 of
    the held-out samples, not counting held-out duplicates of training samples. If n generated and m held-out samples
    have the same distribution, the number of suspects is beta-binomial. ``copies_chance`` is the probability of at
    least as many suspects without copying.
    """

    lower = ("copies",)
    needs = frozenset({"held_out"})

    def settings(self) -> dict[str, object]:
        """Return the definition of a suspect."""
        rule = "relative distance up to that of the nearest 1/1000 of the held-out samples that are no duplicates"
        return {"suspect": rule, "dtype": "float64"}

    def prepare(self, real: FeatureSet) -> dict[str, Tensor]:
        """Compute the relative distances (M,) of the held-out samples."""
        return {"held_out": relative_distances(real.held_out.features, real.features)}

    def __call__(
        self, real: FeatureSet, prepared: dict[str, Tensor], fake: FeatureSet
    ) -> dict[str, float | list[float]]:
        """Return the share of suspects, its expectation, the p-value, and whether that is significant (1 or 0)."""
        generated, held_out = relative_distances(fake.features, real.features), prepared["held_out"]
        new = held_out[held_out > 0]
        limit = new.kthvalue(min(max(len(held_out) // 1000, 1), len(new))).values if len(new) else 0.0
        rank, suspects = int((held_out <= limit).sum()), int((generated <= limit).sum())
        chance = float(betabinom(len(generated), rank, len(held_out) - rank + 1).sf(suspects - 1))
        return {
            "copies": suspects / len(generated),
            "copies_expected": rank / (len(held_out) + 1),
            "copies_chance": chance,
            "copies_found": float(chance < CHANCE),
        }

    def figure(self, real: FeatureSet, fake: FeatureSet, rows: int = 10, columns: int = 6) -> Tensor:
        """Show the samples closest to the training set, each beside its nearest training images, as uint8 (3, H, W)."""
        closest = relative_distances(fake.features, real.features).argsort()[:rows]
        _, index = nearest(fake.features[closest], real.features, columns, "neighbours")
        cells = [
            torch.cat([fake.samples[i : i + 1], real.samples[near]]) for i, near in zip(closest, index, strict=True)
        ]
        return grid(from_uint8(torch.cat(cells)), columns + 1)

    def warnings(self, real: FeatureSet, fake: FeatureSet) -> list[str]:
        """Return a warning if there are too few held-out samples to distinguish a few copies from chance."""
        few = len(real.held_out)
        return [f"{few:,} held-out samples detect only more than {5 / few:.1%} of copies"] if few < 1000 else []


def relative_distances(features: Tensor, training: Tensor) -> Tensor:
    """Compute the distance (N,) to the nearest training sample, over the distance of that to its own nearest one."""
    squared, index = nearest(features, training, 1, "nearest training samples")
    unique, inverse = index[:, 0].unique(return_inverse=True)
    own = []
    for block in pairwise_sq_distances(training[unique], training, "their neighbours"):
        block.exclude_equal()  # equal training samples count as one, so that no distance is 0
        own.append(block.nearest(1)[0])
    return (squared[:, 0] / torch.cat(own)[inverse, 0]).sqrt()
