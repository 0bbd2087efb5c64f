"""ADA: Training Generative Adversarial Networks with Limited Data (Karras et al., 2020).

https://arxiv.org/abs/2006.06676, section 3 and appendix B: the probability of the augmentation follows from how far the
discriminator overfits. The operations are those of DiffAugment, see :mod:`gan_lightning.augment.diffaugment`.
"""

from typing import Annotated

import torch
from annotated_types import Interval
from torch import Tensor

from gan_lightning.augment.diffaugment import DiffAugment, Policy
from gan_lightning.config.constraints import PositiveInt, Probability


class ADA(DiffAugment):
    r"""DiffAugment whose probability p is adapted to keep the overfitting heuristic at its target.

    The heuristic is the mean sign of D's output on real images, :math:`r_t = E[\mathrm{sign}(D(x))]` (equation 1): 0
    without overfitting, 1 with complete overfitting. Every ``interval`` minibatches p changes by the number of images
    since the last change over ``ramp_images``: upwards if r_t is above the target, otherwise downwards.

    Args:
        policy: The operations.
        target: Target of r_t; 0.6 in the paper.
        interval: Discriminator updates between two changes of p.
        ramp_images: Real images in which p can rise from 0 to 1.
        initial_probability: p at the start.
    """

    needs_images = True

    def __init__(
        self,
        policy: Policy = ("color", "translation", "cutout"),
        target: Annotated[float, Interval(gt=-1, lt=1)] = 0.6,
        interval: PositiveInt = 4,
        ramp_images: PositiveInt = 500_000,
        initial_probability: Probability = 0.0,
    ) -> None:
        super().__init__(policy)
        self.target, self.interval, self.ramp_images = target, interval, ramp_images
        # Integers, so that the state is exact in every precision and on any number of ranks: p times ramp_images, and
        # since the last change the sum of the signs, the images and the minibatches.
        self.state: Tensor
        self.register_buffer("state", torch.tensor([round(initial_probability * ramp_images), 0, 0, 0]))

    def current_probability(self) -> Tensor:
        """Return the adapted probability."""
        return self.state[0] / self.ramp_images

    @torch.no_grad()
    def adapt(self, signs: Tensor, images: int) -> None:
        """Count a minibatch, and change the probability if the interval is complete; does not synchronise with a GPU.

        Args:
            signs: Sum of the signs of D's output on the real images of the minibatch over all ranks, relative to the
                boundary between real and generated samples.
            images: Number of real images in the minibatch over all ranks.
        """
        level, total, count, minibatches = (self.state + self.state.new_tensor([0, 0, images, 1])).unbind()
        total = total + signs.long()
        due = minibatches >= self.interval
        change = torch.sign(total - self.target * count).long() * count
        level = torch.where(due, (level + change).clamp(0, self.ramp_images), level)
        self.state.copy_(torch.stack([level, *(torch.where(due, 0, part) for part in (total, count, minibatches))]))
