"""Sample images during training: the same noise at increasing steps, and real samples for comparison."""

import logging
from pathlib import Path
from typing import Annotated, Any, ClassVar

import torch
from annotated_types import Ge, Interval
from pytorch_lightning import Callback
from pytorch_lightning.loggers import TensorBoardLogger
from torch import Tensor

from gan_lightning.config.constraints import Validated
from gan_lightning.data.points import Points
from gan_lightning.errors import short_message
from gan_lightning.io.class_names import caption, sanitize_class_names
from gan_lightning.io.files import samples_by_step
from gan_lightning.io.image import PADDING, captioned, grid, read_png, strip, write_png
from gan_lightning.model.base import GenerativeModel
from gan_lightning.model.modes import eval_mode
from gan_lightning.trainer import Trainer

log = logging.getLogger(__name__)

EXTENT = 1.5  # half width of a scatter plot, relative to the largest coordinate of a real point


class SampleGrid(Validated, Callback):
    """Write ``samples/step_00001000.png`` from fixed noise at steps 1, 2, 5, 10, 20, 50, ... and the last step.

    Conditional models show one row per class, with its name beside it. Points in the plane are shown as a scatter plot
    of real and generated samples over the discriminator's output. ``real.png`` shows real samples in the same order,
    and ``timeline.png`` the same noise at all of these steps from 100 on. ``augmented.png`` shows a real sample in each
    row and what the augmentation makes of it, if there is one.

    Args:
        columns: Images in a row.
        rows: Rows of an unconditional model, and the maximum number of classes if there are more than ten.
        points: Points in a scatter plot.
        seed: Seed of the noise.
    """

    effective_with: ClassVar = {"columns": "images", "rows": "images", "points": "points"}

    def __init__(
        self,
        columns: Annotated[int, Interval(ge=1, le=100)] = 8,
        rows: Annotated[int, Interval(ge=1, le=100)] = 8,
        points: Annotated[int, Interval(ge=1, le=1_000_000)] = 1000,
        seed: Annotated[int, Ge(0)] = 0,
    ) -> None:
        self.columns, self.rows, self.points, self.seed = columns, rows, points, seed

    def setup(self, trainer: Trainer, module: GenerativeModel, stage: str) -> None:
        """Set the path of the directory."""
        self.folder = Path(trainer.default_root_dir, "samples")

    def on_train_start(self, trainer: Trainer, module: GenerativeModel) -> None:
        """Choose the labels of the samples, and draw the real samples."""
        data = trainer.datamodule
        classes = min(module.num_classes, max(self.rows, 10))
        self.is_image = len(data.shape) == 3
        self.labels = torch.arange(classes).repeat_interleave(self.columns) if classes and self.is_image else None
        num_images = self.columns * (classes or self.rows)
        self.num = num_images if self.is_image else self.points
        names = module.class_names or sanitize_class_names(data.class_names)
        self.captions = [caption(names, label) for label in range(classes)]
        self.drawn_at = trainer.global_step if self.path(trainer.global_step).exists() else None
        if trainer.is_global_zero:
            self.real = data.real(self.num, self.labels).cpu()
            if self.is_image:
                images = {"real": self.grid_of(self.real)}
                if getattr(module, "augment", None) is not None:
                    images["augmented"] = self.augmented(module)
                for name, image in images.items():
                    if trainer.global_step:  # the loggers received it at step 0
                        write_png(self.folder / f"{name}.png", image)
                    else:
                        self.log_image(trainer, name, image, 0)

    def on_train_batch_end(self, trainer: Trainer, module: GenerativeModel, *_: Any) -> None:
        """Draw at steps 1, 2, 5, 10, 20, 50, ... and the last step."""
        step = trainer.global_step
        if trainer.is_global_zero and (is_round(step) or step == trainer.max_steps):
            self.draw(trainer, module)

    def on_train_end(self, trainer: Trainer, module: GenerativeModel) -> None:
        """Draw the last step of a run that stops early."""
        if trainer.is_global_zero and self.drawn_at != trainer.global_step:
            self.draw(trainer, module)

    def on_save_checkpoint(self, trainer: Trainer, module: GenerativeModel, checkpoint: dict[str, Any]) -> None:
        """Remove images of later steps, which belong to an abandoned continuation."""
        for step, path in samples_by_step(self.folder) if trainer.is_global_zero else ():
            if step > trainer.global_step:
                path.unlink(missing_ok=True)

    def path(self, step: int) -> Path:
        """Return the path of a step's image."""
        return self.folder / f"step_{step:08d}.png"

    def grid_of(self, images: Tensor) -> Tensor:
        """Return a grid of images, with class names beside the rows of a conditional model."""
        return captioned(images, self.columns, self.captions) if self.captions else grid(images, self.columns)

    @torch.no_grad()
    def augmented(self, module: GenerativeModel) -> Tensor:
        """Return a grid with a real image in each row, followed by augmented versions of it."""
        augment: Any = module.augment
        generator = torch.Generator().manual_seed(self.seed)
        images = self.real[:: self.columns][: self.rows].repeat_interleave(self.columns, dim=0)
        original = (torch.arange(len(images)) % self.columns == 0)[:, None, None, None]
        changed = getattr(augment, "preview", augment)(
            images, lambda sample, *shape: sample(*shape, generator=generator)
        )
        return grid(torch.where(original, images, changed), self.columns)

    def draw(self, trainer: Trainer, module: GenerativeModel) -> None:
        """Write the image of the current step, and update the timeline."""
        step = trainer.global_step
        fake = module.sample(self.num, self.labels, self.seed).cpu()
        if self.is_image:
            image = self.grid_of(fake)
        else:
            from gan_lightning.io.plot import scatter  # importing matplotlib takes a second, and images do not need it

            extent = extent_of(trainer.datamodule)
            logits = surface(module, extent) if "discriminator" in module.networks() else None
            image = scatter(self.real, fake, extent, logits, step)
        self.log_image(trainer, f"step_{step:08d}", image, step)
        self.drawn_at = step
        drawn = samples_by_step(self.folder)
        drawn = [(at, path) for at, path in drawn if at == step or (at < step and is_round(at))]
        drawn = [(at, path) for at, path in drawn if at >= 100] or drawn
        excerpts = {}
        for at, path in drawn:
            try:
                excerpts[f"{at:,}"] = self.excerpt(read_png(path))
            except (OSError, ValueError, SyntaxError) as error:  # Pillow's errors for a damaged file
                log.warning(f"{path}: cannot be read and is left out of timeline.png ({short_message(error)})")
        write_png(self.folder / "timeline.png", strip([*excerpts.values()], [*excerpts]))

    def excerpt(self, image: Tensor) -> Tensor:
        """Return the part of a step's image that the timeline shows: one row, or one sample of each class."""
        if not self.is_image:
            return image[:, ::2, ::2]
        height, width = (side + PADDING for side in self.real.shape[-2:])
        if self.labels is None:
            return image[:, : height + PADDING]
        image = image[:, :, image.shape[2] - self.columns * width - PADDING :]  # without the names
        rows = range(len(self.labels) // self.columns)
        return torch.cat([image[:, row * height : (row + 1) * height, : width + PADDING] for row in rows], dim=2)

    def log_image(self, trainer: Trainer, name: str, image: Tensor, step: int) -> None:
        """Write an image to its file and to every logger that accepts images."""
        write_png(self.folder / f"{name}.png", image)
        tag = "samples" if name.startswith("step_") else name
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger):
                logger.experiment.add_image(tag, image, step)
            elif hasattr(logger, "log_image"):
                logger.log_image(tag, [image.permute(1, 2, 0).numpy()], step=step)


def is_round(step: int) -> bool:
    """Return whether a step is 1, 2 or 5 times a power of ten."""
    return str(step).rstrip("0") in {"1", "2", "5"}


def extent_of(data: Points) -> float:
    """Return the half width of the square [-extent, extent]^2 in which points in the plane are shown."""
    return EXTENT * float(data.real(10_000).abs().max())


@torch.no_grad()
def surface(module: GenerativeModel, extent: float, side: int = 100) -> Tensor:
    """Return the discriminator's logits (side, side) on [-extent, extent]^2, averaged over its classes."""
    line = torch.linspace(-extent, extent, side)
    points = torch.cartesian_prod(line, line).flip(1).to(module.device, next(module.parameters()).dtype)
    network: Any = module.discriminator
    classes = range(max(getattr(network, "num_classes", 0), 1))
    labels = [torch.full((len(points),), label, device=module.device) for label in classes]
    with eval_mode(network) as discriminator:
        logits = torch.stack([discriminator(points, y) for y in labels]).mean(0)
    return logits.view(side, side).float().cpu()
