"""Pictures of a run: the same noise at growing steps, beside real samples."""

import logging
from pathlib import Path
from typing import Annotated, Any, ClassVar

import torch
from annotated_types import Ge, Interval
from pytorch_lightning import Callback, Trainer
from pytorch_lightning.loggers import TensorBoardLogger
from torch import Tensor

from gan_lightning.class_names import caption, storable
from gan_lightning.config.constraints import Validated
from gan_lightning.data.points import Points
from gan_lightning.errors import first_line
from gan_lightning.files import by_step
from gan_lightning.image import PADDING, captioned, grid, read_png, strip, write_png
from gan_lightning.learner import Learner
from gan_lightning.modes import evaluating

log = logging.getLogger(__name__)

REACH = 1.5  # of a scatter, times the largest coordinate of a real point


class SampleGrid(Validated, Callback):
    """Draws ``samples/step_00001000.png`` from fixed noise, at steps 1, 2, 5, 10, 20, 50, ... and the last.

    Conditional models show one row a class, with its name beside it. For points in the plane the picture is a scatter
    of real and generated samples, over the output of a discriminator. ``real.png`` shows real samples in the same
    order, and ``timeline.png`` the same noise at all of the steps from 100 on.

    Args:
        columns: Pictures in a row.
        rows: Rows; of more than ten classes at most so many are shown.
        points: Points in a scatter.
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

    def setup(self, trainer: Trainer, module: Learner, stage: str) -> None:
        """Find the folder."""
        self.folder = Path(trainer.default_root_dir, "samples")

    def on_train_start(self, trainer: Trainer, module: Learner) -> None:
        """Choose what is drawn every time, and draw the real samples."""
        data = trainer.datamodule
        classes = min(module.num_classes, max(self.rows, 10))
        self.is_picture = len(data.shape) == 3
        self.labels = torch.arange(classes).repeat_interleave(self.columns) if classes and self.is_picture else None
        self.num = (
            self.points if not self.is_picture else len(self.labels if classes else range(self.rows * self.columns))
        )
        names = module.class_names or storable(data.class_names)
        self.captions = [caption(names, label) for label in range(classes)]
        self.drawn_at = trainer.global_step if self.path(trainer.global_step).exists() else None
        if trainer.is_global_zero:
            self.real = data.real(self.num, self.labels).cpu()
            if self.is_picture:
                picture = self.picture(self.real)
                if trainer.global_step:  # the loggers have it from the run's start
                    write_png(self.folder / "real.png", picture)
                else:
                    self.show(trainer, "real", picture, 0)

    def on_train_batch_end(self, trainer: Trainer, module: Learner, *_: Any) -> None:
        """Draw if the step has come."""
        step = trainer.global_step
        if trainer.is_global_zero and (is_round(step) or step == trainer.max_steps):
            self.draw(trainer, module)

    def on_train_end(self, trainer: Trainer, module: Learner) -> None:
        """Draw the last step also of a run that stops early."""
        if trainer.is_global_zero and self.drawn_at != trainer.global_step:
            self.draw(trainer, module)

    def on_save_checkpoint(self, trainer: Trainer, module: Learner, checkpoint: dict[str, Any]) -> None:
        """Remove images of later steps, which belong to a continuation that was abandoned, as its checkpoints do."""
        for step, path in by_step(self.folder) if trainer.is_global_zero else ():
            if step > trainer.global_step:
                path.unlink(missing_ok=True)

    def path(self, step: int) -> Path:
        """File of a step's picture."""
        return self.folder / f"step_{step:08d}.png"

    def picture(self, images: Tensor) -> Tensor:
        """Images as one picture, with the names of the classes beside the rows of a conditional model."""
        return captioned(images, self.columns, self.captions) if self.captions else grid(images, self.columns)

    def draw(self, trainer: Trainer, module: Learner) -> None:
        """Sample, draw, and add to the timeline."""
        step = trainer.global_step
        fake = module.sample(self.num, self.labels, self.seed).cpu()
        if self.is_picture:
            picture = self.picture(fake)
        else:
            from gan_lightning.plot import scatter  # matplotlib takes a second to import, and pictures need none of it

            extent = extent_of(trainer.datamodule)
            logits = surface(module, extent) if "discriminator" in module.networks() else None
            picture = scatter(self.real, fake, extent, logits, step)
        self.show(trainer, f"step_{step:08d}", picture, step)
        self.drawn_at = step
        drawn = by_step(self.folder)
        drawn = [(at, path) for at, path in drawn if at == step or (at < step and is_round(at))]
        drawn = [(at, path) for at, path in drawn if at >= 100] or drawn
        excerpts = {}
        for at, path in drawn:
            try:
                excerpts[f"{at:,}"] = self.excerpt(read_png(path))
            except (OSError, ValueError, SyntaxError) as error:  # Pillow's errors for a damaged file
                log.warning(f"{path}: cannot be read and is left out of timeline.png ({first_line(error)})")
        write_png(self.folder / "timeline.png", strip([*excerpts.values()], [*excerpts]))

    def excerpt(self, picture: Tensor) -> Tensor:
        """The part of a step's picture that stands for it: one row, or one picture of each class."""
        if not self.is_picture:
            return picture[:, ::2, ::2]
        height, width = (side + PADDING for side in self.real.shape[-2:])
        if self.labels is None:
            return picture[:, : height + PADDING]
        picture = picture[:, :, picture.shape[2] - self.columns * width - PADDING :]  # without the names
        rows = range(len(self.labels) // self.columns)
        return torch.cat([picture[:, row * height : (row + 1) * height, : width + PADDING] for row in rows], dim=2)

    def show(self, trainer: Trainer, name: str, picture: Tensor, step: int) -> None:
        """Write a picture to its file and to every logger that takes pictures."""
        write_png(self.folder / f"{name}.png", picture)
        tag = "samples" if name.startswith("step_") else name
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger):
                logger.experiment.add_image(tag, picture, step)
            elif hasattr(logger, "log_image"):
                logger.log_image(tag, [picture.permute(1, 2, 0).numpy()], step=step)


def is_round(step: int) -> bool:
    """Whether a step is 1, 2 or 5 times a power of ten."""
    return str(step).rstrip("0") in {"1", "2", "5"}


def extent_of(data: Points) -> float:
    """The square [-extent, extent]^2 is shown of points in the plane."""
    return REACH * float(data.real(10_000).abs().max())


@torch.no_grad()
def surface(module: Learner, extent: float, side: int = 100) -> Tensor:
    """The discriminator's logits (side, side) over the square [-extent, extent]^2, the mean over its classes."""
    line = torch.linspace(-extent, extent, side)
    points = torch.cartesian_prod(line, line).flip(1).to(module.device, next(module.parameters()).dtype)
    classes = range(max(module.discriminator.num_classes, 1))
    labels = [torch.full((len(points),), label, device=module.device) for label in classes]
    with evaluating(module.discriminator) as discriminator:
        logits = torch.stack([discriminator(points, y) for y in labels]).mean(0)
    return logits.view(side, side).float().cpu()
