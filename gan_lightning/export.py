"""gan-export: a checkpoint's generator by itself, for whoever wants it inside something else."""

import argparse
import json
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from gan_lightning.errors import UserError
from gan_lightning.exit import told_plainly
from gan_lightning.paths import DESCRIPTION, HUB_ID, WEIGHTS, absolute
from gan_lightning.summary import shorter

if TYPE_CHECKING:
    from gan_lightning.sampler import Sampler

CARD, ONNX, SAMPLES = "README.md", "generator.onnx", "samples.png"
PART = ".part."  # of a folder in the folder, with what is not complete yet


def parser() -> argparse.ArgumentParser:
    """What gan-export takes."""
    take = argparse.ArgumentParser(
        "gan-export", description="Write a checkpoint's generator as safetensors and ONNX, with a model card."
    )
    take.add_argument("checkpoint", type=absolute, help="a checkpoint, or a run directory")
    take.add_argument("--out", type=absolute, default=Path("export"), help="the folder (default: export)")
    take.add_argument("--license", default="other", help="of the weights, as the Hub names it: cc-by-4.0, say")
    take.add_argument("--no-onnx", dest="onnx", action="store_false", help="safetensors alone")
    take.add_argument("--push", metavar="OWNER/NAME", help="upload the folder to the Hugging Face Hub")
    take.add_argument("--trust", action="store_true", help="build classes that are not ours, which runs their code")
    return take


def main() -> None:
    """The command."""
    with told_plainly("--out"):
        print(export(parser().parse_args()))


def export(args: argparse.Namespace) -> str:
    """Write the folder; return what it holds.

    Raises:
        UserError: With every fault of the arguments, or of the checkpoint; or ONNX does otherwise than torch.
    """
    refuse(args)

    from omegaconf import OmegaConf

    from gan_lightning.checkpoint import chosen_checkpoint, config_of, load_model, read, refuse_non_finite
    from gan_lightning.exported import FORMAT, Exported
    from gan_lightning.files import replace, whole
    from gan_lightning.model_card import card, told_by
    from gan_lightning.store import Store

    (path, content), out = chosen_checkpoint(args.checkpoint), shorter(args.out)
    checkpoint = content or read(path)
    model = load_model(path, args.trust, checkpoint)
    generator = Exported(model.sampler().float(), model.latent_dim, model.num_classes, model.class_names).eval()
    state = {name: value.contiguous() for name, value in generator.generator.state_dict().items()}
    refuse_non_finite(state, path)  # single precision has a smaller range than double
    described = {
        "format": FORMAT,
        "generator": OmegaConf.to_container(config_of(checkpoint).model.generator, resolve=True),
        "latent_dim": model.latent_dim,
        "num_classes": model.num_classes,
        "class_names": [*model.class_names],
        "shape": [*generator.sample(1).shape[1:]],
        **told_by(checkpoint, path),
    }
    files = {DESCRIPTION: json.dumps(described, indent=2).encode()}
    told = [f"{out / WEIGHTS}  {sum(value.numel() for value in state.values()):,} numbers"]
    if args.onnx:
        from gan_lightning.onnx import TRIED, as_onnx

        files[ONNX], apart = as_onnx(generator)
        told.append(f"{out / ONNX}  over {TRIED:,} latents at most {apart:.1e} apart from torch")
    files[CARD] = card(described, args.license, args.onnx).encode()
    told.append(f"{out / CARD}  the model card")
    args.out.mkdir(parents=True, exist_ok=True)
    for left in args.out.glob(f"{PART}*"):  # by a kill
        shutil.rmtree(left)
    with tempfile.TemporaryDirectory(dir=args.out, prefix=PART) as part:
        ready = Path(part)
        Store(ready).write(ready / WEIGHTS, state)
        picture(generator, ready / SAMPLES, path)
        for name, content in files.items():
            with whole(ready / name) as file:
                file.write(content)
        for name in (DESCRIPTION, ONNX):  # without its description a folder is not loaded: old and new are never mixed
            (args.out / name).unlink(missing_ok=True)
        for name in (WEIGHTS, SAMPLES, *sorted(files, key=DESCRIPTION.__eq__)):
            replace(ready / name, args.out / name)
    if args.push:
        told.append(push(args.out, args.push))
    return "\n".join(told)


def refuse(args: argparse.Namespace) -> None:
    """Raise UserError with all that is wrong, before anything is loaded or written."""
    from importlib.util import find_spec

    faults = []
    if not args.checkpoint.exists():
        faults.append(f"{shorter(args.checkpoint)}: there is no such checkpoint")
    elif (args.checkpoint / DESCRIPTION).exists():
        faults.append(f"{shorter(args.checkpoint)}: is an export already; name the run or its checkpoint")
    if args.out.exists() and not (args.out.is_dir() and is_free(args.out)):
        faults.append(f"--out {shorter(args.out)}: is there, and no folder that gan-export wrote; choose another")
    if args.onnx and any(find_spec(name) is None for name in ("onnx", "onnxscript", "onnxruntime")):
        faults.append("ONNX needs pip install 'gan-lightning[export]'; --no-onnx does without")
    if args.push and find_spec("huggingface_hub") is None:
        faults.append(f"--push {args.push}: needs pip install 'gan-lightning[hub]'")
    if args.push and not HUB_ID.fullmatch(args.push):
        faults.append(f"--push {args.push}: must be OWNER/NAME")
    if not args.license.replace("-", "").replace(".", "").isalnum():
        faults.append(f"--license {args.license}: must be the name of a licence, as cc-by-4.0")
    if faults:
        raise UserError(*faults)


def is_free(folder: Path) -> bool:
    """Whether a folder is empty, or gan-export has written it, or was killed while it did."""
    there = {path.name for path in folder.iterdir() if not path.name.startswith(PART)}
    return not there or (WEIGHTS in there and (DESCRIPTION in there or there <= {WEIGHTS, SAMPLES, ONNX, CARD}))


def picture(model: "Sampler", path: Path, checkpoint: Path) -> None:
    """Draw samples of seed 0 into a file, a row for each class, with its name, where there are classes."""
    import torch

    from gan_lightning.checkpoint import refuse_non_finite
    from gan_lightning.class_names import caption
    from gan_lightning.image import captioned, grid, write_png
    from gan_lightning.plot import points

    classes = range(min(model.num_classes, 10))
    labels = torch.tensor(classes).repeat_interleave(8) if classes else None
    samples = model.sample(64 if labels is None else len(labels), labels, seed=0)
    if samples.ndim == 2:
        samples = model.sample(2000)
    refuse_non_finite({"samples": samples}, checkpoint)
    if samples.ndim == 2:
        drawn = points(samples)
    elif classes:
        drawn = captioned(samples, 8, [caption(model.class_names, label) for label in classes])
    else:
        drawn = grid(samples, 8)
    write_png(path, drawn)


def push(folder: Path, name: str) -> str:
    """Upload a folder to the Hugging Face Hub.

    Raises:
        UserError: The Hub does not take it.
    """
    from huggingface_hub import HfApi

    from gan_lightning.errors import first_line

    try:
        api = HfApi()
        api.create_repo(name, exist_ok=True)
        return str(api.upload_folder(repo_id=name, folder_path=folder, commit_message="From gan-export"))
    except Exception as error:  # of the network, of the service, of rights: a dozen kinds
        raise UserError(
            f"--push {name}: the Hub has not taken it ({first_line(error)}); {shorter(folder)} is there"
        ) from error


if __name__ == "__main__":
    main()
