"""Whether a generator repeats its training pictures."""

import torch
from scipy.stats import betabinom
from torch import Tensor

from gan_lightning.image import from_uint8, grid
from gan_lightning.metric import Metric, Seen
from gan_lightning.metric.neighbours import blocks, nearest

CHANCE = 1e-3  # of calling a generator that copies nothing a copier


class Memorization(Metric):
    """Compares how near to the training set generated samples are with how near real samples are that it does not hold.

    Nearness is relative, as in the authenticity of Alaa et al. (2022, https://arxiv.org/abs/2102.08921): the distance
    to the nearest training sample over that sample's own distance to its nearest neighbour, so that a crowded place
    does not count as copying. A generated sample is a suspect if it is as near as the nearest thousandth of the
    held-out ones are, duplicates of training samples among these not counted. Of n generated and m held-out samples of
    one law the number of suspects is beta-binomial, from which ``copies_chance`` follows: how likely so many are
    without any copying.
    """

    lower = ("copies",)
    needs = frozenset({"held_out"})

    def settings(self) -> dict[str, object]:
        """The rule."""
        rule = "relative distance up to that of the nearest 1/1000 of the held-out samples that are no duplicates"
        return {"suspect": rule, "dtype": "float64"}

    def prepare(self, real: Seen) -> dict[str, Tensor]:
        """Relative distances (M,) of the held-out samples."""
        return {"held_out": relative_distances(real.held_out.features, real.features)}

    def __call__(self, real: Seen, prepared: dict[str, Tensor], fake: Seen) -> dict[str, float | list[float]]:
        """Share of suspects, what it would be without copies, the chance of so many, and 1 where that is too small."""
        ours, theirs = relative_distances(fake.features, real.features), prepared["held_out"]
        new = theirs[theirs > 0]
        limit = new.kthvalue(min(max(len(theirs) // 1000, 1), len(new))).values if len(new) else 0.0
        rank, suspects = int((theirs <= limit).sum()), int((ours <= limit).sum())
        chance = float(betabinom(len(ours), rank, len(theirs) - rank + 1).sf(suspects - 1))
        return {
            "copies": suspects / len(ours),
            "copies_expected": rank / (len(theirs) + 1),
            "copies_chance": chance,
            "copies_found": float(chance < CHANCE),
        }

    def picture(self, real: Seen, fake: Seen, rows: int = 10, columns: int = 6) -> Tensor:
        """The most suspicious samples, one a row, each before its nearest training pictures, as uint8 (3, H, W)."""
        nearness = relative_distances(fake.features, real.features)
        worst = nearness.argsort()[:rows]
        _, beside = nearest(fake.features[worst], real.features, columns, "neighbours")
        cells = [
            torch.cat([fake.samples[i : i + 1], real.samples[near]]) for i, near in zip(worst, beside, strict=True)
        ]
        return grid(from_uint8(torch.cat(cells)), columns + 1)

    def notes(self, real: Seen, fake: Seen) -> list[str]:
        """Few held-out samples cannot tell a few copies from chance."""
        few = len(real.held_out)
        return [f"copies: {few:,} held-out samples show only copies of over {5 / few:.1%}"] if few < 1000 else []


def relative_distances(features: Tensor, training: Tensor) -> Tensor:
    """Distance (N,) of each sample to its nearest training sample, over that one's to its own nearest."""
    squared, index = nearest(features, training, 1, "nearest training samples")
    asked, where = index[:, 0].unique(return_inverse=True)
    own = []
    for block in blocks(training[asked], training, "their neighbours"):
        block.exclude_equal()  # equal training samples are one: a copy is compared with the nearest other one
        own.append(block.nearest(1)[0])
    return (squared[:, 0] / torch.cat(own)[where, 0]).sqrt()
