"""gan-sample: draw pictures or points from a checkpoint, or from a generator by itself."""

import argparse
from pathlib import Path

from gan_lightning.errors import UserError, told_plainly


def parser() -> argparse.ArgumentParser:
    """What gan-sample takes."""
    take = argparse.ArgumentParser("gan-sample", description="Draw samples from a checkpoint, in evaluation mode.")
    take.add_argument("checkpoint", type=Path, help="runs/.../checkpoints/last.ckpt, or a folder of gan-export")
    take.add_argument("--num", type=int, default=64, help="how many (default: 64)")
    take.add_argument("--seed", type=int, default=0, help="the same seed draws the same samples (default: 0)")
    take.add_argument("--classes", help="3,7: only these, in turn, from a conditional model; all by default")
    take.add_argument(
        "--out",
        type=Path,
        default=Path("samples.png"),
        help="a .png for a grid, an .npz for arrays, or else a folder of pictures (default: samples.png)",
    )
    take.add_argument("--columns", type=int, help="pictures in a row of the grid (default: 8)")
    take.add_argument("--trust", action="store_true", help="build classes that are not ours, which runs their code")
    return take


def main() -> None:
    """The command."""
    args = parser().parse_args()
    with told_plainly("--out"):
        print(sample(args))


def sample(args: argparse.Namespace) -> str:
    """Draw and write; return a sentence on what was written.

    Raises:
        UserError: With every fault of the arguments, or of the checkpoint.
    """
    faults = [
        f"--{name} {value}: must be at least 1"
        for name in ("num", "columns")
        if (value := getattr(args, name)) is not None and value < 1
    ]
    if args.out.suffix and args.out.suffix.lower() not in (".png", ".npz"):
        faults.append(f"--out {args.out}: a .png, an .npz, or a folder without a suffix")
    if args.columns and args.out.suffix.lower() != ".png":
        faults.append(f"--columns {args.columns}: has no effect but on a grid, --out FILE.png")
    if not args.out.suffix and args.out.exists() and not (args.out.is_dir() and not any(args.out.iterdir())):
        faults.append(f"--out {args.out}: is there, and no empty folder; choose another")
    if not args.checkpoint.exists():
        faults.append(f"{args.checkpoint}: there is no such checkpoint")
    if faults:
        raise UserError(*faults)

    import torch

    import gan_lightning
    from gan_lightning.memory import refuse_too_large

    model = gan_lightning.load(args.checkpoint, trust=args.trust)
    size = 4 * args.num * (model.latent_dim + model.sample(1).numel())
    refuse_too_large(f"--num {args.num}: so many samples", size, "several calls with seeds of their own")
    labels = None
    if model.num_classes:
        chosen = classes(args.classes, model.num_classes)
        labels = torch.tensor(chosen).repeat(-(-args.num // len(chosen)))[: args.num]
    elif args.classes:
        raise UserError(f"--classes {args.classes}: {args.checkpoint} is not of a conditional model")
    fake = model.sample(args.num, labels, args.seed)
    return write(fake, labels, args)


def classes(text: str | None, num_classes: int) -> list[int]:
    """Classes from "3,7", or all of them."""
    if text is None:
        return [*range(num_classes)]
    words = [word.strip() for word in text.split(",")]
    if wrong := [word for word in words if not (word.isdecimal() and len(word) < 9 and int(word) < num_classes)]:
        raise UserError(f"--classes {text}: {', '.join(wrong)} is not a whole number from 0 to {num_classes - 1}")
    return [int(word) for word in words]


def write(fake: "torch.Tensor", labels: "torch.Tensor | None", args: argparse.Namespace) -> str:  # noqa: F821
    """Write samples in the form that the target's name asks for."""
    import numpy as np
    import torch

    from gan_lightning.files import whole
    from gan_lightning.image import grid, to_uint8, write_png
    from gan_lightning.plot import points

    is_picture, suffix = fake.ndim == 4, args.out.suffix.lower()
    if suffix == ".npz":
        if is_picture:
            arrays = {"images": to_uint8(fake).permute(0, 2, 3, 1).numpy()}
        else:  # numpy has no bfloat16
            arrays = {"points": fake.to(torch.promote_types(fake.dtype, torch.float32)).numpy()}
        with whole(args.out) as file:
            np.savez(file, **arrays, **({} if labels is None else {"labels": labels.numpy()}))
    elif suffix == ".png":
        write_png(args.out, grid(fake, args.columns or 8) if is_picture else points(fake))
    elif not is_picture:
        raise UserError(f"--out {args.out}: points are no pictures; a .png draws them, an .npz holds them")
    else:
        for i, image in enumerate(fake):
            name = f"{i:06d}.png" if labels is None else f"{i:06d}_class{int(labels[i])}.png"
            picture = to_uint8(image)
            write_png(args.out / name, picture.expand(3, -1, -1) if len(picture) == 1 else picture)
    return f"{len(fake)} samples in {args.out}"


if __name__ == "__main__":
    main()
