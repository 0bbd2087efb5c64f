"""gan-sample: draw images or points from a checkpoint or an exported generator."""

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from gan_lightning.cli.exit import exit_on_error
from gan_lightning.errors import UserError
from gan_lightning.io.paths import absolute, relative_path

if TYPE_CHECKING:
    from torch import Tensor


MAX_TRUNCATION, MAX_SCALE = 10, 32


def build_parser() -> argparse.ArgumentParser:
    """Return the argument parser."""
    arguments = argparse.ArgumentParser("gan-sample", description="Draw samples from a checkpoint, in evaluation mode.")
    arguments.add_argument("checkpoint", type=absolute, help="a checkpoint, a run directory or an export")
    arguments.add_argument("--num", type=int, default=64, help="number of samples (default: 64)")
    arguments.add_argument("--seed", type=int, default=0, help="seed of the samples (default: 0)")
    arguments.add_argument("--classes", help="classes of a conditional model, in turn: cats,dogs or 3,7 (default: all)")
    arguments.add_argument(
        "--truncation",
        type=float,
        default=1.0,
        help="factor of the latents; below 1 samples are more typical and less diverse (default: 1)",
    )
    arguments.add_argument(
        "--out",
        type=absolute,
        default="samples.png",
        help="a .png for a grid, an .npz for arrays, or a folder for image files (default: samples.png)",
    )
    arguments.add_argument("--columns", type=int, help="maximum number of images in a row of the grid (default: 8)")
    arguments.add_argument(
        "--scale", type=int, help="pixels of the grid per pixel of an image (default: a side of about 900 pixels)"
    )
    arguments.add_argument(
        "--trust-checkpoint", action="store_true", help="allow user-supplied classes, which runs their code"
    )
    return arguments


def main() -> None:
    """Entry point of the command."""
    with exit_on_error("--out"):
        print(sample(build_parser().parse_args()))


def sample(args: argparse.Namespace) -> str:
    """Draw and write samples; return a summary.

    Raises:
        UserError: With all invalid arguments, or the checkpoint is invalid.
    """
    out = relative_path(args.out)
    errors = [
        f"--{name} {value}: must be at least 1"
        for name in ("num", "columns", "scale")
        if (value := getattr(args, name)) is not None and value < 1
    ]
    if not 0 <= args.truncation <= MAX_TRUNCATION:
        errors.append(f"--truncation {args.truncation:g}: must be a number of at least 0 and at most {MAX_TRUNCATION}")
    if args.out.suffix and args.out.suffix.lower() not in (".png", ".npz"):
        errors.append(f"--out {out}: must be a .png, an .npz, or a folder without suffix")
    if (args.scale or 0) > MAX_SCALE:
        errors.append(f"--scale {args.scale}: must be at most {MAX_SCALE}")
    errors += [
        f"--{name} {value}: only has an effect on a grid, --out FILE.png"
        for name in ("columns", "scale")
        if (value := getattr(args, name)) and args.out.suffix.lower() != ".png"
    ]
    if not args.out.suffix and args.out.exists() and not (args.out.is_dir() and not any(args.out.iterdir())):
        errors.append(f"--out {out}: exists and is not an empty folder; choose another folder")
    if not args.checkpoint.exists():
        errors.append(f"{relative_path(args.checkpoint)}: there is no such checkpoint")
    if errors:
        raise UserError(*errors)

    import torch

    from gan_lightning.export.generator import load_model_or_export
    from gan_lightning.io.class_names import resolve_class_numbers, split
    from gan_lightning.io.memory import check_fits_in_memory
    from gan_lightning.run.checkpoint import check_tensors_finite, chosen_checkpoint

    checkpoint, content = chosen_checkpoint(args.checkpoint)
    model = load_model_or_export(checkpoint, args.trust_checkpoint, content)
    size = 4 * args.num * (model.latent_dim + model.sample(1).numel())
    check_fits_in_memory(f"--num {args.num}: the samples", size, "make several calls with different seeds")
    labels = None
    if model.num_classes:
        chosen = [*range(model.num_classes)]
        if args.classes is not None:
            try:
                chosen = resolve_class_numbers(
                    split(args.classes, model.class_names), model.class_names, model.num_classes
                )
            except ValueError as error:
                raise UserError(f"--classes {args.classes}: {error}") from error
        labels = torch.tensor(chosen).repeat(-(-args.num // len(chosen)))[: args.num]
    elif args.classes:
        raise UserError(f"--classes {args.classes}: the model of {checkpoint} is not conditional")
    fake = model.sample(args.num, labels, args.seed, args.truncation)
    check_tensors_finite({"samples": fake}, checkpoint)
    return write(fake, labels, model.class_names, args)


def draw(
    fake: "Tensor", labels: "Tensor | None", names: Sequence[str], columns: int, scale: int | None = None
) -> "Tensor":
    """Return an image (uint8, 3, H, W) of samples: a plot of points, or a grid of images with rows of one class.

    Args:
        fake: Points (N, 2), or images (N, C, H, W) in [-1, 1].
        labels: Their classes (N,); None without classes.
        names: Names of all classes; empty if they are unknown.
        columns: Maximum number of images in a row.
        scale: Factor by which images are enlarged; None for a longer side of about 900 pixels.
    """
    from gan_lightning.io.image import class_rows, contact_sheet, grid
    from gan_lightning.io.plot import points

    if fake.ndim == 2:
        return points(fake)
    captions: list[str] = []
    if labels is not None:
        fake, columns, captions = class_rows(fake, labels.tolist(), names, columns)
    return contact_sheet(grid(fake, columns), captions, scale)


def write(fake: "Tensor", labels: "Tensor | None", names: Sequence[str], args: argparse.Namespace) -> str:
    """Write samples in the format of the target's suffix; return a summary."""
    import numpy as np
    import torch

    from gan_lightning.io.class_names import file_name
    from gan_lightning.io.files import atomic_directory, atomic_write
    from gan_lightning.io.image import to_uint8, write_png

    is_image, suffix = fake.ndim == 4, args.out.suffix.lower()
    if suffix == ".npz":
        if is_image:
            arrays: dict[str, Any] = {"images": to_uint8(fake).permute(0, 2, 3, 1).numpy()}
        else:  # NumPy has no bfloat16
            arrays = {"points": fake.to(torch.promote_types(fake.dtype, torch.float32)).numpy()}
        arrays |= {} if labels is None else {"labels": labels.numpy()}
        arrays |= {"class_names": np.array(names)} if labels is not None and names else {}
        with atomic_write(args.out) as file:
            np.savez(file, **arrays)
    elif suffix == ".png" and not is_image and (args.columns or args.scale):
        name = "columns" if args.columns else "scale"
        raise UserError(f"--{name} {getattr(args, name)}: has no effect, since the model generates points")
    elif suffix == ".png":
        write_png(args.out, draw(fake, labels, names, args.columns or 8, args.scale))
    elif not is_image:
        raise UserError(
            f"--out {relative_path(args.out)}: points are not images; use a .png (plot) or an .npz (arrays)"
        )
    else:
        with atomic_directory(args.out) as folder:
            for i, sample in enumerate(fake):
                name = f"{i:06d}.png" if labels is None else f"{i:06d}_{file_name(names, int(labels[i]))}.png"
                image = to_uint8(sample)
                write_png(folder / name, image.expand(3, -1, -1) if len(image) == 1 else image, sync=False)
    return f"{len(fake)} samples in {relative_path(args.out)}"


if __name__ == "__main__":
    main()
