"""The latent of a picture."""

from pathlib import Path
from typing import Annotated

import torch
from annotated_types import Interval

from gan_lightning.bar import bar
from gan_lightning.config.constraints import Seed
from gan_lightning.data.decode import decode, warn_of_depth
from gan_lightning.errors import UserError, printable
from gan_lightning.image import from_uint8
from gan_lightning.latent import Classes, Distance, Explorer, Found, Rows, refuse_points, shown_classes
from gan_lightning.modes import evaluating
from gan_lightning.paths import absolute
from gan_lightning.sampler import Sampler

SHOWN = 9  # steps of the way


class Invert(Explorer):
    """Looks for the latent whose sample is nearest to a picture (Lipton & Tripathi, 2017, https://arxiv.org/abs/1702.04782).

    Gradient descent on the mean squared error of the pixels, from several latents at once; the best one at the end is
    shown. A conditional model is asked for every class that was chosen.

    Args:
        picture: The file; it is cropped and resized to what the model makes.
        steps: Of Adam.
        lr: Its rate.
        starts: Latents to start from, for each class.
        prior: Weight of the squared length of a latent's number, which holds it where latents are.
        seed: Of the starts.
        classes: Of a conditional model; None for the first ten.
    """

    moves = False

    def __init__(
        self,
        picture: str | Path,
        steps: Annotated[int, Interval(ge=1, le=100_000)] = 300,
        lr: Distance = 0.05,
        starts: Rows = 4,
        prior: Annotated[float, Interval(ge=0, le=1e6)] = 1e-3,
        seed: Seed = 0,
        classes: Classes | None = None,
    ) -> None:
        self.picture, self.steps, self.lr, self.starts = absolute(picture), steps, lr, starts
        self.prior, self.seed, self.classes = prior, seed, classes

    def __call__(self, model: Sampler) -> Found:
        """The picture, samples on the way from the start of the best latent, and its error at every step."""
        shape = tuple(model.sample(1).shape[1:])
        refuse_points("invert", shape)
        decoded = decode([self.picture], shape[1:], shape[0])
        if decoded.broken:
            raise UserError(f"latent.picture={self.picture}: {decoded.broken[0]}")
        source = f"latent.picture={printable(str(self.picture))}"
        warn_of_depth(source, decoded.deep, decoded.dark, decoded.white, decoded.stretched, decoded.high_byte)
        classes = shown_classes(model, self.classes)
        y = torch.tensor(classes).repeat_interleave(self.starts)
        z, _ = model.draw_latents(len(y), seed=self.seed)
        weight = next(model.generator.parameters())
        z, y = z.to(weight).requires_grad_(), y.to(weight.device)
        target = from_uint8(decoded.images[0]).to(weight)
        adam, errors, way = torch.optim.Adam([z], self.lr), [], []
        with evaluating(model.sampler()) as generator, torch.enable_grad():
            for _ in bar(range(self.steps), "inverting"):
                error = (generator(z, y) - target).square().flatten(1).mean(1)
                errors.append(error.detach())
                way.append(z.detach().clone())
                adam.zero_grad()
                (error + self.prior * z.square().mean(1)).sum().backward(inputs=[z])
                adam.step()
            errors.append((generator(z, y) - target).square().flatten(1).mean(1).detach())
            way.append(z.detach().clone())
        best = int(errors[-1].argmin())
        at = torch.linspace(0, self.steps, min(SHOWN, self.steps + 1)).round().long().tolist()
        samples = model.generate(torch.stack([way[i][best] for i in at]), y[best].expand(len(at)))
        figures = {
            "error": [float(error[best]) for error in errors],
            "class": int(y[best]) if model.num_classes else None,
            "class_name": model.class_names[int(y[best])] if model.num_classes and model.class_names else None,
            "latent": way[-1][best].tolist(),
        }
        rows = [target.cpu().expand_as(samples), samples.cpu()]
        return Found(rows, ["picture", "found"], figures=figures)
