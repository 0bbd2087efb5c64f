"""Sample images during training: the same noise at increasing steps, and real samples for comparison."""

import logging
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import torch
import torch.nn.functional as F
from annotated_types import Ge, Interval
from PIL import Image
from pytorch_lightning import Callback
from pytorch_lightning.loggers import TensorBoardLogger
from torch import Tensor

from gan_lightning.config.constraints import AtLeastOne, Scale, Validated
from gan_lightning.data.points import Points
from gan_lightning.errors import short_message
from gan_lightning.io.class_names import caption, sanitize_class_names
from gan_lightning.io.files import atomic_write, samples_by_step
from gan_lightning.io.image import (
    PADDING,
    animated_gif,
    contact_sheet,
    enlarge,
    fitting_scale,
    grid,
    read_png,
    resize,
    strip,
    titled,
    write_png,
)
from gan_lightning.model.base import GenerativeModel
from gan_lightning.model.modes import eval_mode
from gan_lightning.trainer import Trainer

if TYPE_CHECKING:
    from gan_lightning.io.plot import Surface

log = logging.getLogger(__name__)

TIMELINE_COLUMNS = 8  # plots in a row of a timeline of points
GIF_FRAMES = 60  # at most; of more samples, those at even distances are shown
GIF_PIXELS = 500  # of the longer side of a GIF, approximately
# Fewer than 256 levels and colours halve the size of the file, without a visible difference.
GIF_GRAYS = [round(round(level * 63 / 255) * 255 / 63) for level in range(256)]
GIF_COLOURS = 128  # of a frame of images
GIF_DURATION, GIF_FRAME_DURATION, GIF_LAST_DURATION = 8000, (80, 500), 2000  # milliseconds; a frame's range

EXTENT = 1.5  # half width of a scatter plot, relative to the largest coordinate of a real point


class SampleGrid(Validated, Callback):
    """Write ``samples/step_00001000.png`` from fixed noise at steps 1, 2, 5, 10, 20, 50, ... and the last step.

    ``every_n_steps`` adds further steps.

    Conditional models show one row per class, with its name beside it. Points in the plane are shown as a scatter plot
    of real and generated samples over the discriminator's output. ``real.png`` shows real samples in the same order,
    and ``timeline.png`` the same noise at steps 100, 200, 500, ... and the last. ``training.gif``, which is written at
    the end, animates the samples of all steps. ``augmented.png`` shows a real sample in each row and what the
    augmentation makes of it, if there is one.

    Args:
        every_n_steps: Steps between samples, in addition to steps 1, 2, 5, 10, ... and the last; None for no others.
        columns: Images in a row.
        rows: Rows of an unconditional model, and the maximum number of classes if there are more than ten.
        points: Points in a scatter plot.
        scale: Pixels of the files per pixel of an image; None for a longer side of about 900 pixels. The GIF has its
            own size.
        seed: Seed of the noise.
    """

    effective_with: ClassVar = {"columns": "images", "rows": "images", "points": "points", "scale": "images"}

    def __init__(
        self,
        every_n_steps: AtLeastOne | None = None,
        columns: Annotated[int, Interval(ge=1, le=100)] = 8,
        rows: Annotated[int, Interval(ge=1, le=100)] = 8,
        points: Annotated[int, Interval(ge=1, le=1_000_000)] = 1000,
        scale: Scale | None = None,
        seed: Annotated[int, Ge(0)] = 0,
    ) -> None:
        self.every_n_steps, self.columns, self.rows, self.points = every_n_steps, columns, rows, points
        self.scale, self.seed = scale, seed
        self.drawn_at: int | None = None
        self.left_out: set[Path] = set()  # files that have been reported as damaged

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
            self.has_surface = "discriminator" in module.networks()
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
        """Draw at the scheduled steps; at the last step, complete all images before the checkpoint is saved.

        Otherwise a run that is killed after its last checkpoint would never get them, since it has no steps left.
        """
        step = trainer.global_step
        if not trainer.is_global_zero:
            return
        is_last = step == trainer.max_steps
        if is_last or self.is_scheduled(step):
            self.draw(trainer, module)
        if is_last or is_round(step):  # further rows would be replaced by later ones
            self.write_timeline(step)
        if is_last:
            self.write_gif(step)

    def on_train_end(self, trainer: Trainer, module: GenerativeModel) -> None:
        """Draw the last step of a run that stops early, and end the timeline with it."""
        step = trainer.global_step
        if trainer.is_global_zero and step < trainer.max_steps:
            if self.drawn_at != step:
                self.draw(trainer, module)
            self.write_timeline(step)

    def on_fit_end(self, trainer: Trainer, module: GenerativeModel) -> None:
        """Write the GIF of a run that stops early, after the checkpoint: a signal may leave little time."""
        if trainer.is_global_zero and trainer.global_step < trainer.max_steps:
            self.write_gif(trainer.global_step)

    def on_save_checkpoint(self, trainer: Trainer, module: GenerativeModel, checkpoint: dict[str, Any]) -> None:
        """Remove images of later steps, which belong to an abandoned continuation, and their GIF."""
        for step, path in samples_by_step(self.folder) if trainer.is_global_zero else ():
            if step > trainer.global_step:
                path.unlink(missing_ok=True)
                (self.folder / "training.gif").unlink(missing_ok=True)

    def is_scheduled(self, step: int) -> bool:
        """Return whether samples of a step are drawn even if it is not the last one."""
        return is_round(step) or (self.every_n_steps is not None and step % self.every_n_steps == 0)

    def path(self, step: int) -> Path:
        """Return the path of a step's image."""
        return self.folder / f"step_{step:08d}.png"

    def grid_of(self, images: Tensor) -> Tensor:
        """Return an enlarged grid of images, with class names beside the rows of a conditional model."""
        return contact_sheet(grid(images, self.columns), self.captions, self.scale)

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
        return contact_sheet(grid(torch.where(original, images, changed), self.columns), scale=self.scale)

    def draw(self, trainer: Trainer, module: GenerativeModel) -> None:
        """Write the image of the current step."""
        step = trainer.global_step
        fake = module.sample(self.num, self.labels, self.seed).cpu()
        if self.is_image:
            image = self.grid_of(fake)
        else:
            from gan_lightning.io.plot import scatter  # importing matplotlib takes a second, and images do not need it

            extent = extent_of(trainer.datamodule)
            background = surface(module, extent, self.real, fake) if self.has_surface else None
            image = scatter(self.real, fake, extent, background, step)
        self.log_image(trainer, f"step_{step:08d}", image, step)
        self.drawn_at = step

    def write_timeline(self, step: int) -> None:
        """Write the timeline up to a step."""
        drawn = samples_by_step(self.folder)
        drawn = [(at, path) for at, path in drawn if at == step or (at < step and is_round(at))]
        drawn = [(at, path) for at, path in drawn if at >= 100] or drawn
        if images := dict(self.read(drawn)):
            write_png(self.folder / "timeline.png", self.timeline(images))

    def read(self, drawn: Iterable[tuple[int, Path]]) -> Iterator[tuple[int, Tensor]]:
        """Yield steps and their images: grids without captions at the size of the samples, or scatter plots.

        A damaged file, or one that was written with other ``columns`` or ``rows``, is left out with a warning.
        """
        for step, path in drawn:
            try:
                yield step, self.without_captions(read_png(path))
            except (OSError, ValueError, SyntaxError) as error:  # Pillow's errors for a damaged file
                if path not in self.left_out:
                    where = "is left out of timeline.png and training.gif"
                    log.warning(f"{path}: cannot be read and {where} ({short_message(error)})")
                self.left_out.add(path)

    def without_captions(self, image: Tensor) -> Tensor:
        """Return the grid (3, H, W) of a step's image at the size of the samples, or an unchanged scatter plot.

        Raises:
            ValueError: The image has another layout.
        """
        if self.is_image:
            height, width = (side + PADDING for side in self.real.shape[-2:])
            height, width = self.num // self.columns * height + PADDING, self.columns * width + PADDING
            scale = max(image.shape[1] // height, 1)
            fits = image.shape[2] > scale * width if self.captions else image.shape[2] == scale * width
            fits = fits and image.shape[1] == scale * height
            image = image[:, ::scale, -scale * width :: scale]
        else:
            from gan_lightning.io.plot import COLOUR_BAR_WIDTH, SCATTER_HEIGHT

            width = SCATTER_HEIGHT + COLOUR_BAR_WIDTH * self.has_surface
            fits = image.shape[1:] == (SCATTER_HEIGHT, width)
        if not fits:
            raise ValueError("its layout is another one")
        return image

    def timeline(self, images: dict[int, Tensor]) -> Tensor:
        """Return an image of one row of samples, or one sample of each class, per step; or of the plots of points."""
        if not self.is_image:
            return self.timeline_of_plots([*images.values()])
        height, width = (side + PADDING for side in self.real.shape[-2:])
        rows = range(self.num // self.columns if self.captions else 1)
        rows_of_steps = {}
        for step, image in images.items():
            samples = [image[:, row * height : (row + 1) * height + PADDING] for row in rows]
            samples = [sample[:, :-PADDING, : width + PADDING] for sample in samples] if self.captions else samples
            rows_of_steps[f"{step:,}"] = torch.cat(samples, dim=2)
        height, width = (
            sum(row.shape[1] for row in rows_of_steps.values()),
            max(row.shape[2] for row in rows_of_steps.values()),
        )
        scale = self.scale or fitting_scale(height, width)
        return strip([enlarge(row, scale) for row in rows_of_steps.values()], [*rows_of_steps])

    def timeline_of_plots(self, plots: list[Tensor]) -> Tensor:
        """Return scatter plots side by side at half their size, the last one with the colour bar."""
        from gan_lightning.io.plot import AXES

        left, _, right, bottom = AXES
        parts = [plot[:, 8 : bottom + 8, left - 8 : right + 8] for plot in plots[:-1]]
        parts.append(plots[-1][:, 8 : bottom + 8, left - 8 :])
        parts = [resize(part[None], (part.shape[1] // 2, part.shape[2] // 2))[0] for part in parts]
        rows = [torch.cat(parts[at : at + TIMELINE_COLUMNS], dim=2) for at in range(0, len(parts), TIMELINE_COLUMNS)]
        width = max(row.shape[2] for row in rows)
        return torch.cat([F.pad(row, (0, width - row.shape[2]), value=255) for row in rows], dim=1)

    def write_gif(self, last: int) -> None:
        """Write the samples of all scheduled steps up to the last one as ``training.gif``."""
        drawn = [
            (step, path)
            for step, path in samples_by_step(self.folder)
            if step == last or (step < last and self.is_scheduled(step))
        ]
        if len(drawn) > GIF_FRAMES:
            drawn = [drawn[round(i * (len(drawn) - 1) / (GIF_FRAMES - 1))] for i in range(GIF_FRAMES)]
        frames = [self.frame(step, image) for step, image in self.read(drawn)]
        if not frames:
            return
        shortest, longest = GIF_FRAME_DURATION
        duration = min(max(GIF_DURATION // len(frames) // 10 * 10, shortest), longest)
        with atomic_write(self.folder / "training.gif") as file:
            file.write(animated_gif(frames, [*[duration] * (len(frames) - 1), GIF_LAST_DURATION]))

    def frame(self, step: int, image: Tensor) -> Image.Image:
        """Return a frame of the GIF: a step's grid with the step above it, or its scatter plot."""
        if self.is_image:
            height, width = image.shape[1:]
            if (factor := round(max(height, width) / GIF_PIXELS)) > 1:
                image = resize(image[None], (height // factor, width // factor))[0]
            scale = fitting_scale(image.shape[1], image.shape[2], GIF_PIXELS)
            image = titled(contact_sheet(image, self.captions, scale), f"step {step:,}")
        frame = Image.fromarray(image.permute(1, 2, 0).numpy())
        if self.is_image and self.real.shape[1] == 1:
            return frame.convert("L").point(GIF_GRAYS)
        if self.is_image:
            return frame.quantize(GIF_COLOURS, dither=Image.Dither.NONE)
        # The default method drops rare colours, such as that of the generated points.
        return frame.quantize(256, Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)

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


def surface(module: GenerativeModel, extent: float, real: Tensor, fake: Tensor, side: int = 100) -> "Surface":
    """Return the discriminator's output on [-extent, extent]^2, averaged over its classes.

    The values are logits relative to the decision boundary of the loss. A critic has no boundary, and its output has
    neither a zero nor a unit: the values are its differences from the mean over the points, in standard deviations.

    Args:
        module: The model.
        extent: Half width of the square.
        real: Real points (N, 2).
        fake: As many generated points.
        side: Number of rows and columns of the surface.
    """
    from gan_lightning.io.plot import Surface

    line = torch.linspace(-extent, extent, side)
    output = mean_output(module, torch.cartesian_prod(line, line).flip(1)).view(side, side)
    boundary = getattr(getattr(module, "loss", None), "boundary", None)
    if boundary is not None:
        return Surface(output - boundary, f"D's logit (above {boundary:g} real, below generated)", boundary)
    known = mean_output(module, torch.cat([real.cpu(), fake.cpu()]))
    unit = known.std().clamp_min(torch.finfo(known.dtype).tiny)
    return Surface((output - known.mean()) / unit, "critic's output (standard deviations from its mean)")


@torch.no_grad()
def mean_output(module: GenerativeModel, points: Tensor) -> Tensor:
    """Return the discriminator's output (N,) for points (N, 2), averaged over its classes."""
    network: Any = module.discriminator
    points = points.to(module.device, next(module.parameters()).dtype)
    classes = range(max(getattr(network, "num_classes", 0), 1))
    labels = [torch.full((len(points),), label, device=module.device) for label in classes]
    with eval_mode(network) as discriminator:
        output = torch.stack([discriminator(points, y) for y in labels]).mean(0)
    return output.float().cpu()
