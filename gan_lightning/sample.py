"""gan-sample: draw pictures or points from a checkpoint, or from a generator by itself."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from gan_lightning.errors import UserError
from gan_lightning.exit import told_plainly
from gan_lightning.paths import absolute
from gan_lightning.summary import shorter


def parser() -> argparse.ArgumentParser:
    """What gan-sample takes."""
    take = argparse.ArgumentParser("gan-sample", description="Draw samples from a checkpoint, in evaluation mode.")
    take.add_argument("checkpoint", type=absolute, help="a checkpoint, a run directory, or a folder of gan-export")
    take.add_argument("--num", type=int, default=64, help="how many (default: 64)")
    take.add_argument("--seed", type=int, default=0, help="the same seed draws the same samples (default: 0)")
    take.add_argument("--classes", help="cats,dogs or 3,7: only these, in turn, from a conditional model; default: all")
    take.add_argument(
        "--out",
        type=absolute,
        default=Path("samples.png"),
        help="a .png for a grid, an .npz for arrays, or else a folder of pictures (default: samples.png)",
    )
    take.add_argument("--columns", type=int, help="pictures in a row of the grid at most (default: 8)")
    take.add_argument("--trust", action="store_true", help="build classes that are not ours, which runs their code")
    return take


def main() -> None:
    """The command."""
    with told_plainly("--out"):
        print(sample(parser().parse_args()))


def sample(args: argparse.Namespace) -> str:
    """Draw and write; return a sentence on what was written.

    Raises:
        UserError: With every fault of the arguments, or of the checkpoint.
    """
    out = shorter(args.out)
    faults = [
        f"--{name} {value}: must be at least 1"
        for name in ("num", "columns")
        if (value := getattr(args, name)) is not None and value < 1
    ]
    if args.out.suffix and args.out.suffix.lower() not in (".png", ".npz"):
        faults.append(f"--out {out}: a .png, an .npz, or a folder without a suffix")
    if args.columns and args.out.suffix.lower() != ".png":
        faults.append(f"--columns {args.columns}: has no effect but on a grid, --out FILE.png")
    if not args.out.suffix and args.out.exists() and not (args.out.is_dir() and not any(args.out.iterdir())):
        faults.append(f"--out {out}: is there, and no empty folder; choose another")
    if not args.checkpoint.exists():
        faults.append(f"{shorter(args.checkpoint)}: there is no such checkpoint")
    if faults:
        raise UserError(*faults)

    import torch

    from gan_lightning.checkpoint import chosen_checkpoint, refuse_non_finite
    from gan_lightning.class_names import numbers, split
    from gan_lightning.exported import load_chosen
    from gan_lightning.memory import refuse_too_large

    checkpoint, content = chosen_checkpoint(args.checkpoint)
    model = load_chosen(checkpoint, args.trust, content)
    size = 4 * args.num * (model.latent_dim + model.sample(1).numel())
    refuse_too_large(f"--num {args.num}: so many samples", size, "several calls with seeds of their own")
    labels = None
    if model.num_classes:
        chosen = [*range(model.num_classes)]
        if args.classes is not None:
            try:
                chosen = numbers(split(args.classes, model.class_names), model.class_names, model.num_classes)
            except ValueError as error:
                raise UserError(f"--classes {args.classes}: {error}") from error
        labels = torch.tensor(chosen).repeat(-(-args.num // len(chosen)))[: args.num]
    elif args.classes:
        raise UserError(f"--classes {args.classes}: {checkpoint} is not of a conditional model")
    fake = model.sample(args.num, labels, args.seed)
    refuse_non_finite({"samples": fake}, checkpoint)
    return write(fake, labels, model.class_names, args)


def write(
    fake: "torch.Tensor",  # noqa: F821
    labels: "torch.Tensor | None",  # noqa: F821
    names: Sequence[str],
    args: argparse.Namespace,
) -> str:
    """Write samples in the form that the target's name asks for."""
    import numpy as np
    import torch

    from gan_lightning.class_names import file_name
    from gan_lightning.files import whole, whole_directory
    from gan_lightning.image import captioned, class_rows, grid, to_uint8, write_png
    from gan_lightning.plot import points

    is_picture, suffix, columns = fake.ndim == 4, args.out.suffix.lower(), args.columns or 8
    if suffix == ".npz":
        if is_picture:
            arrays = {"images": to_uint8(fake).permute(0, 2, 3, 1).numpy()}
        else:  # numpy has no bfloat16
            arrays = {"points": fake.to(torch.promote_types(fake.dtype, torch.float32)).numpy()}
        arrays |= {} if labels is None else {"labels": labels.numpy()}
        arrays |= {"class_names": np.array(names)} if labels is not None and names else {}
        with whole(args.out) as file:
            np.savez(file, **arrays)
    elif suffix == ".png":
        if not is_picture:
            picture = points(fake)
        else:
            by_class = None if labels is None else class_rows(fake, labels.tolist(), names, columns)
            picture = captioned(*by_class) if by_class else grid(fake, columns)
        write_png(args.out, picture)
    elif not is_picture:
        raise UserError(f"--out {shorter(args.out)}: points are no pictures; a .png draws them, an .npz holds them")
    else:
        with whole_directory(args.out) as folder:
            for i, image in enumerate(fake):
                name = f"{i:06d}.png" if labels is None else f"{i:06d}_{file_name(names, int(labels[i]))}.png"
                picture = to_uint8(image)
                write_png(folder / name, picture.expand(3, -1, -1) if len(picture) == 1 else picture, sync=False)
    return f"{len(fake)} samples in {shorter(args.out)}"


if __name__ == "__main__":
    main()
