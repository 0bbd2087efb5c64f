"""gan-export: write a checkpoint's generator as safetensors and ONNX, with a model card; upload it to the Hub."""

import argparse
import json
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from gan_lightning.cli.exit import exit_on_error
from gan_lightning.cli.sample import draw
from gan_lightning.errors import UserError
from gan_lightning.io.paths import DESCRIPTION, HUB_ID, WEIGHTS, absolute, relative_path

if TYPE_CHECKING:
    from gan_lightning.model.sampling import SamplingMixin

CARD, ONNX, SAMPLES = "README.md", "generator.onnx", "samples.png"
PART = ".part."  # prefix of the temporary directory inside the target


def build_parser() -> argparse.ArgumentParser:
    """Return the argument parser."""
    arguments = argparse.ArgumentParser(
        "gan-export", description="Write a checkpoint's generator as safetensors and ONNX, with a model card."
    )
    arguments.add_argument("checkpoint", type=absolute, help="a checkpoint, or a run directory")
    arguments.add_argument("--out", type=absolute, default="export", help="the folder to write (default: export)")
    arguments.add_argument("--license", default="other", help="license of the weights, named as on the Hub: cc-by-4.0")
    arguments.add_argument("--no-onnx", dest="onnx", action="store_false", help="write safetensors only")
    arguments.add_argument("--push", metavar="OWNER/NAME", help="upload the folder to the Hugging Face Hub")
    arguments.add_argument(
        "--trust-checkpoint", action="store_true", help="allow user-supplied classes, which runs their code"
    )
    return arguments


def main() -> None:
    """Entry point of the command."""
    with exit_on_error("--out"):
        print(export(build_parser().parse_args()))


def export(args: argparse.Namespace) -> str:
    """Write the directory; return a summary of its files.

    Raises:
        UserError: With all invalid arguments; or the checkpoint is invalid, or ONNX's samples differ from torch's.
    """
    check_arguments(args)

    from omegaconf import OmegaConf

    from gan_lightning.export.generator import FORMAT, ExportedGenerator
    from gan_lightning.export.model_card import card, provenance
    from gan_lightning.io.cache import TensorCache
    from gan_lightning.io.files import atomic_write, replace
    from gan_lightning.run.checkpoint import check_tensors_finite, chosen_checkpoint, config_of, load_model, read

    (path, content), out = chosen_checkpoint(args.checkpoint), relative_path(args.out)
    checkpoint = content or read(path)
    model = load_model(path, args.trust_checkpoint, checkpoint)
    generator = ExportedGenerator(
        model.sampler().float(), model.latent_dim, model.num_classes, model.class_names
    ).eval()
    state = {name: value.contiguous() for name, value in generator.generator.state_dict().items()}
    check_tensors_finite(state, path)  # float32 has a smaller range than float64
    description = {
        "format": FORMAT,
        "generator": OmegaConf.to_container(config_of(checkpoint).model.generator, resolve=True),
        "latent_dim": model.latent_dim,
        "num_classes": model.num_classes,
        "class_names": [*model.class_names],
        "shape": [*generator.sample(1).shape[1:]],
        **provenance(checkpoint, path),
    }
    files = {DESCRIPTION: json.dumps(description, indent=2).encode()}
    lines = [f"{out / WEIGHTS}  {sum(value.numel() for value in state.values()):,} parameters and buffers"]
    if args.onnx:
        from gan_lightning.export.onnx import NUM_COMPARED, to_onnx

        files[ONNX], difference = to_onnx(generator)
        lines.append(f"{out / ONNX}  differs from torch by at most {difference:.1e} over {NUM_COMPARED:,} latents")
    files[CARD] = card(description, args.license, args.onnx).encode()
    lines.append(f"{out / CARD}  the model card")
    args.out.mkdir(parents=True, exist_ok=True)
    for leftover in args.out.glob(f"{PART}*"):  # of a killed process
        shutil.rmtree(leftover)
    with tempfile.TemporaryDirectory(dir=args.out, prefix=PART) as part:
        folder = Path(part)
        TensorCache(folder).write(folder / WEIGHTS, state)
        draw_samples(generator, folder / SAMPLES, path)
        for name, content in files.items():
            with atomic_write(folder / name) as file:
                file.write(content)
        # A directory without a description is not loaded, so old and new files are never mixed.
        for name in (DESCRIPTION, ONNX):
            (args.out / name).unlink(missing_ok=True)
        for name in (WEIGHTS, SAMPLES, *sorted(files, key=DESCRIPTION.__eq__)):
            replace(folder / name, args.out / name)
    if args.push:
        lines.append(push(args.out, args.push))
    return "\n".join(lines)


def check_arguments(args: argparse.Namespace) -> None:
    """Raise UserError with all invalid arguments, before anything is loaded or written."""
    from importlib.util import find_spec

    errors = []
    if not args.checkpoint.exists():
        errors.append(f"{relative_path(args.checkpoint)}: there is no such checkpoint")
    elif (args.checkpoint / DESCRIPTION).exists():
        errors.append(f"{relative_path(args.checkpoint)}: is already an export; pass the run or its checkpoint")
    if args.out.exists() and not (args.out.is_dir() and is_free(args.out)):
        errors.append(
            f"--out {relative_path(args.out)}: exists and was not written by gan-export; choose another folder"
        )
    if args.onnx and any(find_spec(name) is None for name in ("onnx", "onnxscript", "onnxruntime")):
        errors.append("ONNX needs pip install 'gan-lightning[export]'; add --no-onnx to write safetensors only")
    if args.push and find_spec("huggingface_hub") is None:
        errors.append(f"--push {args.push}: needs pip install 'gan-lightning[hub]'")
    if args.push and not HUB_ID.fullmatch(args.push):
        errors.append(f"--push {args.push}: must be OWNER/NAME")
    if not args.license.replace("-", "").replace(".", "").isalnum():
        errors.append(f"--license {args.license}: must be the name of a license, such as cc-by-4.0")
    if errors:
        raise UserError(*errors)


def is_free(folder: Path) -> bool:
    """Return whether a directory is empty or was written by gan-export, maybe by a killed process."""
    names = {path.name for path in folder.iterdir() if not path.name.startswith(PART)}
    return not names or (WEIGHTS in names and (DESCRIPTION in names or names <= {WEIGHTS, SAMPLES, ONNX, CARD}))


def draw_samples(model: "SamplingMixin", path: Path, checkpoint: Path) -> None:
    """Write an image of samples with seed 0; a conditional model gets a row with a caption for each class."""
    import torch

    from gan_lightning.io.image import write_png
    from gan_lightning.run.checkpoint import check_tensors_finite

    classes = range(min(model.num_classes, 10))
    labels = torch.tensor(classes).repeat_interleave(8) if classes else None
    samples = model.sample(64 if labels is None else len(labels), labels, seed=0)
    if samples.ndim == 2:
        samples = model.sample(2000)
    check_tensors_finite({"samples": samples}, checkpoint)
    write_png(path, draw(samples, labels, model.class_names, 8))


def push(folder: Path, name: str) -> str:
    """Upload a directory to the Hugging Face Hub; return the address.

    Raises:
        UserError: The upload failed.
    """
    from huggingface_hub import HfApi

    from gan_lightning.errors import short_message

    try:
        api = HfApi()
        api.create_repo(name, exist_ok=True)
        return str(api.upload_folder(repo_id=name, folder_path=folder, commit_message="From gan-export"))
    except Exception as error:  # many types: network, service, permissions
        raise UserError(
            f"--push {name}: the upload failed ({short_message(error)}); the files are in {relative_path(folder)}"
        ) from error


if __name__ == "__main__":
    main()
