"""GAN inversion: the latent whose sample reconstructs an image."""

from pathlib import Path
from typing import Annotated

import torch
from annotated_types import Interval

from gan_lightning.config.constraints import Seed
from gan_lightning.data.decode import decode, warn_of_depth
from gan_lightning.errors import UserError, escape_control
from gan_lightning.io.image import from_uint8
from gan_lightning.io.paths import absolute
from gan_lightning.io.progress import progress_bar
from gan_lightning.latent import Classes, Distance, Exploration, LatentExplorer, Rows, check_images, selected_classes
from gan_lightning.model.modes import eval_mode
from gan_lightning.model.sampling import SamplingMixin

SHOWN = 9  # optimization steps that are shown


class Invert(LatentExplorer):
    """Find the latent whose sample is nearest to an image (Lipton & Tripathi, 2017, https://arxiv.org/abs/1702.04782).

    Minimizes the mean squared error of the pixels with Adam from several initial latents; the best result is shown. A
    conditional model is optimized for every chosen class.

    Args:
        image: The image file, which is cropped and resized to the model's image size.
        steps: Number of optimization steps.
        lr: Learning rate of Adam.
        num_restarts: Number of initial latents for each class.
        l2_weight: Weight of the mean squared latent, an L2 penalty that keeps it close to the prior.
        seed: Seed of the initial latents.
        classes: Classes of a conditional model; None for the first ten.
    """

    animated = False

    def __init__(
        self,
        image: str | Path,
        steps: Annotated[int, Interval(ge=1, le=100_000)] = 300,
        lr: Distance = 0.05,
        num_restarts: Rows = 4,
        l2_weight: Annotated[float, Interval(ge=0, le=1e6)] = 1e-3,
        seed: Seed = 0,
        classes: Classes | None = None,
    ) -> None:
        self.image, self.steps, self.lr, self.num_restarts = absolute(image), steps, lr, num_restarts
        self.l2_weight, self.seed, self.classes = l2_weight, seed, classes

    def __call__(self, model: SamplingMixin) -> Exploration:
        """Return the image, samples along the optimization of the best latent, and its error at every step."""
        shape = tuple(model.sample(1).shape[1:])
        check_images("invert", shape)
        channels, height, width = shape
        decoded = decode([self.image], (height, width), channels)
        if decoded.broken:
            raise UserError(f"latent.image={self.image}: {decoded.broken[0]}")
        warn_of_depth(f"latent.image={escape_control(str(self.image))}", decoded)
        classes = selected_classes(model, self.classes)
        y = torch.tensor(classes).repeat_interleave(self.num_restarts)
        z, _ = model.draw_latents(len(y), seed=self.seed)
        weight = next(model.generator.parameters())
        z, y = z.to(weight).requires_grad_(), y.to(weight.device)
        target = from_uint8(decoded.images[0]).to(weight)
        optimizer, errors, path = torch.optim.Adam([z], self.lr), [], []
        with eval_mode(model.sampler()) as generator, torch.enable_grad():
            for _ in progress_bar(range(self.steps), "inverting"):
                error = (generator(z, y) - target).square().flatten(1).mean(1)
                errors.append(error.detach())
                path.append(z.detach().clone())
                optimizer.zero_grad()
                (error + self.l2_weight * z.square().mean(1)).sum().backward(inputs=[z])
                optimizer.step()
            errors.append((generator(z, y) - target).square().flatten(1).mean(1).detach())
            path.append(z.detach().clone())
        best = int(errors[-1].argmin())
        steps = torch.linspace(0, self.steps, min(SHOWN, self.steps + 1)).round().long().tolist()
        samples = model.generate(torch.stack([path[i][best] for i in steps]), y[best].expand(len(steps)))
        results = {
            "error": [float(error[best]) for error in errors],
            "class": int(y[best]) if model.num_classes else None,
            "class_name": model.class_names[int(y[best])] if model.num_classes and model.class_names else None,
            "latent": path[-1][best].tolist(),
        }
        rows = [target.cpu().expand_as(samples), samples.cpu()]
        return Exploration(rows, ["image", "reconstruction"], results=results)
