"""Hostile files for tests: each tries to run code, to write elsewhere, or to exhaust memory, disk or time.

Each dictionary maps a name to a function that writes one file into a folder and returns its path. A payload that runs
creates the file that ``CANARY`` names.
"""

import contextlib
import copy
import gzip
import io
import json
import os
import pickle
import shutil
import struct
import tarfile
import warnings
import zipfile
import zlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

CANARY = "somebody-was-here"
ESCAPE = "\x1b]0;owned\x07\x1b[2J\x1b[31m"
HTML = "<img src=x onerror=alert(1)>"

Maker = Callable[[Path, dict[str, Any]], Path]
CHECKPOINTS: dict[str, Maker] = {}
IMAGES: dict[str, Maker] = {}
DATA: dict[str, Maker] = {}
WEIGHTS: dict[str, Maker] = {}
SCORES: dict[str, Maker] = {}
CACHED: dict[str, Maker] = {}
DIRECTORIES: dict[str, Maker] = {}
EVALUATIONS: dict[str, Maker] = {}


def fixture(group: dict[str, Maker]) -> Callable[[Maker], Maker]:
    def register(maker: Maker) -> Maker:
        group[maker.__name__] = maker
        return maker

    return register


class Payload:
    """Runs a command when it is unpickled."""

    def __init__(self, folder: Path) -> None:
        self.command = f"touch {folder / CANARY}"

    def __reduce__(self) -> tuple:
        return os.system, (self.command,)


# --- checkpoints: `good` is the content of a valid one ---------------------------------------------------------------


def saved(folder: Path, content: Any, **how: Any) -> Path:
    path = folder / "run" / "checkpoints" / "last.ckpt"
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(content, path, **how)
    return path


@fixture(CHECKPOINTS)
def pickle_that_runs_code(folder, good):
    path = saved(folder, good)
    path.write_bytes(pickle.dumps(Payload(folder)))
    return path


@fixture(CHECKPOINTS)
def code_beside_the_weights(folder, good):
    return saved(folder, good | {"callbacks": Payload(folder)})


@fixture(CHECKPOINTS)
def code_among_the_weights(folder, good):
    return saved(folder, good | {"state_dict": good["state_dict"] | {"more": Payload(folder)}})


@fixture(CHECKPOINTS)
def code_in_legacy_torch_format(folder, good):
    return saved(folder, good | {"more": Payload(folder)}, _use_new_zipfile_serialization=False)


@fixture(CHECKPOINTS)
def torchscript(folder, good):
    path = saved(folder, good)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.trace(torch.nn.Linear(1, 1), torch.zeros(1, 1), check_trace=False).save(str(path))
    return path


def with_config(change: Callable[[dict[str, Any]], Any], folder: Path, good: dict[str, Any]) -> Path:
    bad = copy.deepcopy(good)
    change(bad["hyper_parameters"]["config"])
    return saved(folder, bad)


def with_target(target: str, *args: Any, **more: Any) -> Maker:
    """Return a checkpoint whose generator is the result of a call."""

    def change(folder: Path, config: dict[str, Any]) -> None:
        config["model"]["generator"] = {"_target_": target, "_args_": [str(arg) for arg in args], **more}
        for part in config["model"]["generator"]["_args_"]:
            config["model"]["generator"]["_args_"] = [part.format(canary=folder / CANARY)]

    return lambda folder, good: with_config(partial(change, folder), folder, good)


CALLS = {
    "target_os_system": with_target("os.system", "touch {canary}"),
    "target_subprocess": with_target("subprocess.getoutput", "touch {canary}"),
    "target_eval": with_target("builtins.eval", "__import__('os').mknod('{canary}')"),
    "target_exec_of_timeit": with_target("timeit.timeit", "__import__('os').mknod('{canary}')", number=1),
    "target_urlopen": with_target("urllib.request.urlopen", "file:///etc/passwd"),
    "target_torch_load": with_target("torch.load", "evil.pt", weights_only=False),
    "target_torch_hub": with_target("torch.hub.load", "unknown/repository", model="x"),
    "target_numpy_load": with_target("numpy.load", "evil.npy", allow_pickle=True),
    "target_open": with_target("pathlib.Path.touch", "{canary}"),
    "target_rmtree": with_target("shutil.rmtree", "{canary}"),
    "target_hydra_itself": with_target("hydra.utils.instantiate", "x"),
    "target_function_of_package": with_target("gan_lightning.run.fit.train", "x"),
    "target_through_module_of_package": with_target("gan_lightning.model.gan.torch.load", "evil.pt"),
    "target_imported_by_module_of_package": with_target("gan_lightning.data.datamodule.Path", "{canary}"),
    "target_among_optimizers": with_target("torch.optim.lr_scheduler.warnings.sys.exit", "x"),
    "target_with_lookalike_letters": with_target("torch.\uff4foptim.Adam", "x"),
}
CHECKPOINTS |= CALLS


@fixture(CHECKPOINTS)
def model_that_is_a_call(folder, good):
    return with_config(
        lambda config: config.update(model={"_target_": "os.system", "command": f"touch {folder / CANARY}"}),
        folder,
        good,
    )


@fixture(CHECKPOINTS)
def instantiator_of_hyperparameters(folder, good):
    """CVE-2026-58659: Lightning let hyperparameters name what builds them."""
    hyper_parameters = {"_instantiator": "os.system", "_class_path": f"touch {folder / CANARY}"}
    return saved(folder, good | {"hyper_parameters": hyper_parameters, "hparams_name": "kwargs"})


@fixture(CHECKPOINTS)
def call_deep_in_a_list(folder, good):
    call = {"_target_": "os.system", "_args_": [f"touch {folder / CANARY}"]}
    return with_config(lambda config: config["model"].update(extra=[[{"deep": call}]]), folder, good)


@fixture(CHECKPOINTS)
def resolver_that_is_not_a_reference(folder, good):
    return with_config(
        lambda config: config["model"].update(latent_dim="${oc.decode:'${oc.env:HOME}'}"),
        folder,
        good,
    )


@fixture(CHECKPOINTS)
def zip_bomb(folder, good):
    path = saved(folder, good)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("last/data.pkl", "w") as file:
        for _ in range(300):
            file.write(bytes(1 << 20))
    return path


@fixture(CHECKPOINTS)
def network_larger_than_its_weights(folder, good):
    def change(config):
        config["network"]["width"] = 2**20
        for section in (config["network"], config["model"]):
            section["generator"]["width"] = section["discriminator"]["width"] = 2**20
            section["generator"]["latent_dim"] = 2**31 - 1
        config["model"]["latent_dim"] = 2**31 - 1

    return with_config(change, folder, good)


@fixture(CHECKPOINTS)
def tensor_larger_than_its_file(folder, good):
    weights = dict(good["state_dict"])
    name = next(iter(weights))
    weights[name] = torch.empty(1).expand(2**40)
    return saved(folder, good | {"state_dict": weights})


@fixture(CHECKPOINTS)
def link_to_a_secret(folder, good):
    (folder / "secret").write_text("root:x:0:0")
    path = saved(folder, good)
    path.unlink()
    path.symlink_to(folder / "secret")
    return path


@fixture(CHECKPOINTS)
def target_with_escape_sequences(folder, good):
    return with_target(f"os.{ESCAPE}system", "x")(folder, good)


# --- malformed checkpoints and their error messages ------------------------------------------------------------------

MALFORMED: dict[str, tuple[Maker, str]] = {}


def malformed(change: Callable[[dict[str, Any]], Any], message: str) -> tuple[Maker, str]:
    """Return a checkpoint with one change, and a part of its error message."""

    def maker(folder: Path, good: dict[str, Any]) -> Path:
        bad = copy.deepcopy(good)
        change(bad)
        return saved(folder, bad)

    return maker, message


def bad_config(change: Callable[[dict[str, Any]], Any], message: str) -> tuple[Maker, str]:
    return malformed(lambda checkpoint: change(checkpoint["hyper_parameters"]["config"]), message)


def very_deep(levels: int) -> dict[str, Any]:
    return {"a": very_deep(levels - 1)} if levels else {}


def hparams(**changed: Any) -> Callable[[dict[str, Any]], Any]:
    return lambda checkpoint: checkpoint["hyper_parameters"].update(changed)


def with_loop_progress(value: Any) -> Callable[[dict[str, Any]], Any]:
    key = "epoch_loop.manual_optimization.optim_step_progress"
    return lambda checkpoint: checkpoint["loops"]["fit_loop"][key]["total"].update(completed=value)


NOT_A_STEP = "not a whole number from 0 to 2147483647"
CURVE = [{"step": 1, "scores": {"fid": "x"}}]
MALFORMED |= {
    "weight_is_text": malformed(
        lambda c: c["state_dict"].update({next(iter(c["state_dict"])): "x"}), "is 'x', not of type Tensor"
    ),
    "weight_with_integer_key": malformed(
        lambda c: c["state_dict"].update({5: torch.zeros(1)}), "state_dict has the key 5"
    ),
    "state_dict_is_list": malformed(lambda c: c.update(state_dict=[1]), "state_dict is of type list, not of type dict"),
    "step_is_text": malformed(lambda c: c.update(global_step="x"), f"global_step is 'x', {NOT_A_STEP}"),
    "step_is_true": malformed(lambda c: c.update(global_step=True), f"global_step is True, {NOT_A_STEP}"),
    "step_is_negative": malformed(lambda c: c.update(global_step=-1), f"global_step is -1, {NOT_A_STEP}"),
    "step_is_huge": malformed(
        lambda c: c.update(global_step=10**30), f"global_step is a number of 100 bits, {NOT_A_STEP}"
    ),
    "step_of_very_many_digits": malformed(
        lambda c: c.update(global_step=10**500), "global_step is a number of 1661 bits"
    ),
    "step_of_other_loops": malformed(
        lambda c: c.update(global_step=7), "its loops count 1 steps, its global_step is 7"
    ),
    "loops_of_another_step": malformed(with_loop_progress(7), "its loops count 7 steps, its global_step is 1"),
    "loops_are_text": malformed(lambda c: c.update(loops={"fit_loop": "x"}), "loops.fit_loop is 'x', not of type dict"),
    "loops_count_text": malformed(with_loop_progress("x"), f"total.completed is 'x', {NOT_A_STEP}"),
    "no_loops": malformed(lambda c: c.pop("loops"), "loops is missing"),
    "epoch_is_text": malformed(lambda c: c.update(epoch="x"), f"epoch is 'x', {NOT_A_STEP}"),
    "choices_are_text": malformed(hparams(choices="x"), "hyper_parameters.choices is 'x', not of type dict"),
    "choice_is_number": malformed(
        hparams(choices={"model": 5}), "choices.model is 5, not a string, a list of strings or"
    ),
    "overrides_are_numbers": malformed(hparams(overrides=[5]), "hyper_parameters.overrides[0] is 5, not of type str"),
    "no_lightning_version": malformed(
        lambda c: c.pop("pytorch-lightning_version"), "pytorch-lightning_version is missing"
    ),
    "lightning_version_is_invalid": malformed(
        lambda c: c.update({"pytorch-lightning_version": "new"}), "is 'new', not a version of Lightning from 2.0 on"
    ),
    "lightning_version_is_old": malformed(
        lambda c: c.update({"pytorch-lightning_version": "1.5.0"}), "is '1.5.0', not a version of Lightning from 2.0 on"
    ),
    "callbacks_are_list": malformed(lambda c: c.update(callbacks=[]), "callbacks is of type list, not of type dict"),
    "callback_state_is_text": malformed(lambda c: c["callbacks"].update(Mine="x"), "callbacks.Mine is 'x', not of"),
    "callback_state_of_other_form": malformed(
        lambda c: c["callbacks"].update(Evaluate={"curve": "x"}), "callbacks.Evaluate.curve is 'x', not of type list"
    ),
    "scores_of_other_form": malformed(
        lambda c: c["callbacks"].update(Evaluate={"curve": CURVE, "cards": {}}), "scores.fid is 'x', not [number, card]"
    ),
    "optimizers_are_text": malformed(
        lambda c: c.update(optimizer_states=["x"]), "optimizer_states[0] is 'x', not of type dict"
    ),
    "optimizers_are_a_dict": malformed(
        lambda c: c.update(optimizer_states={}), "optimizer_states is of type dict, not of type list"
    ),
    "no_optimizer_states": malformed(lambda c: c.pop("optimizer_states"), "optimizer_states is missing"),
    "scaler_is_text": malformed(lambda c: c.update(MixedPrecision="x"), "MixedPrecision is 'x', not of type dict"),
    "deep_config": bad_config(lambda c: c.update(deep=very_deep(150)), "is nested more than 32 levels deep"),
    "infinite_config": bad_config(
        lambda c: c["model"].update(clip_value=float("inf")), "config.model.clip_value is inf"
    ),
    "config_with_tensors": bad_config(lambda c: c.update(x=torch.zeros(1)), "config.x is of type Tensor"),
    "config_with_huge_numbers": bad_config(lambda c: c.update(x=10**500), "config.x is a number of 1661 bits"),
    "config_with_odd_keys": bad_config(lambda c: c.update({(1, 2): 3}), "config has the key of type tuple"),
    "environment_secret": bad_config(
        lambda c: c.update(note="${oc.env:SECRET_TOKEN}"), "config.note is '${oc.env:SECRET"
    ),
    "no_seed": bad_config(lambda c: c.pop("seed"), "config.seed is missing"),
    "no_trainer": bad_config(lambda c: c.pop("trainer"), "config.trainer is missing"),
    "no_data": bad_config(lambda c: c.pop("data"), "config.data is missing"),
    "data_without_target": bad_config(lambda c: c["data"].pop("_target_"), "config.data._target_ is missing"),
    "logger_is_list": bad_config(lambda c: c.update(logger=["x"]), "config.logger is of type list, not a dictionary"),
    "newer_format": malformed(
        hparams(format_version=99),
        "its checkpoint format is 99, and this gan-lightning reads format 4; use the version",
    ),
    "older_format": malformed(
        lambda c: c["hyper_parameters"].pop("format_version"),
        "its checkpoint format is 1, and this gan-lightning reads format 4; use the version that wrote it ('0.",
    ),
}


# --- instantiation keys of Hydra that are not trusted ----------------------------------------------------------------

UNTRUSTED: dict[str, tuple[Maker, str]] = {
    "partial_model": bad_config(lambda c: c["model"].update(_partial_=True), "model._partial_"),
    "not_recursive_model": bad_config(lambda c: c["model"].update(_recursive_=False), "model._recursive_"),
    "converted_model": bad_config(lambda c: c["model"].update(_convert_="object"), "model._convert_"),
    "model_by_position": bad_config(lambda c: c["model"].update(_args_=[1]), "model._args_"),
}


# --- checkpoints that do harm on resume only -------------------------------------------------------------------------

ON_RESUME: dict[str, Maker] = {}


@fixture(ON_RESUME)
def logger_that_writes_elsewhere(folder, good):
    return with_config(
        lambda config: config["logger"]["tensorboard"].update(save_dir=str(folder / "elsewhere")), folder, good
    )


@fixture(ON_RESUME)
def logger_that_writes_elsewhere_by_default(folder, good):
    place = f"${{oc.env:NOWHERE_AT_ALL,{folder / 'elsewhere'}}}"
    return with_config(lambda config: config["logger"]["tensorboard"].update(save_dir=place), folder, good)


@fixture(ON_RESUME)
def logger_that_writes_elsewhere_by_reference(folder, good):
    def change(config):
        config["logger"]["tensorboard"]["save_dir"] = "${evil.a}"
        config["evil"] = {"a": "${evil.b}/x", "b": str(folder / "elsewhere")}

    return with_config(change, folder, good)


@fixture(ON_RESUME)
def logger_by_position(folder, good):
    call = {"_target_": "pytorch_lightning.loggers.TensorBoardLogger", "_args_": [".git"], "name": "hooks"}
    return with_config(lambda config: config["logger"].update(x=call), folder, good)


@fixture(ON_RESUME)
def callback_that_writes_elsewhere(folder, good):
    call = {"_target_": "pytorch_lightning.callbacks.ModelCheckpoint", "dirpath": str(folder / "elsewhere")}
    return with_config(lambda config: config["callbacks"].update(more=call), folder, good)


@fixture(ON_RESUME)
def trainer_that_writes_elsewhere(folder, good):
    return with_config(lambda config: config["trainer"].update(default_root_dir="../../elsewhere"), folder, good)


@fixture(ON_RESUME)
def data_downloaded_elsewhere(folder, good):
    data = {"_target_": "gan_lightning.data.mnist.MNIST", "root": str(folder / "elsewhere"), "batch_size": 4}
    return with_config(lambda config: config.update(data=data), folder, good)


@fixture(ON_RESUME)
def data_downloaded_elsewhere_by_default(folder, good):
    root = f"${{oc.env:NOWHERE_AT_ALL,{folder / 'elsewhere'}}}"
    data = {"_target_": "gan_lightning.data.mnist.MNIST", "root": root, "batch_size": 4}
    return with_config(lambda config: config.update(data=data), folder, good)


def with_image_folder(folder: Path, good: dict[str, Any]) -> Path:
    """Return a checkpoint with an image folder that would be decoded into a cache elsewhere."""
    data = {"_target_": "gan_lightning.data.image_folder.ImageFolder", "root": str(image_folder(folder))}
    data |= {"cache": str(folder / "elsewhere"), "batch_size": 2, "seed": 0}
    return with_config(lambda config: config.update(data=data), folder, good)


# --- optimizer states, and command-line flags that name a file -------------------------------------------------------

MOMENTS: dict[str, Maker] = {}
FLAGS: dict[str, Maker] = {}


def with_moments(change: Callable[[Any], Any], folder: Path, good: dict[str, Any]) -> Path:
    """Return a checkpoint with changed moments; torch's fused kernels write as many values as there are weights."""
    bad = copy.deepcopy(good)
    for optimizer in bad["optimizer_states"]:
        for state in optimizer["state"].values():
            for name, value in state.items():
                if isinstance(value, torch.Tensor) and value.dim():
                    state[name] = change(value)
    return saved(folder, bad)


MOMENTS["no_optimizers"] = malformed(lambda checkpoint: checkpoint.update(optimizer_states=[]), "")[0]
MOMENTS |= {
    f"moments_{name}": partial(with_moments, change)
    for name, change in {
        "too_small": lambda value: torch.zeros(3),
        "too_large": lambda value: torch.zeros(*value.shape[:-1], 10 * value.shape[-1]),
        "of_another_shape": lambda value: torch.zeros(value.numel() + 1),
        "empty": lambda value: torch.zeros(0),
        "overlapping": lambda value: torch.zeros(1).expand(value.numel() + 1),
        "of_integers": lambda value: value.long(),
        "of_booleans": lambda value: value.bool(),
        "text": lambda value: "x",
        "none": lambda value: None,
        "sparse": lambda value: value.to_sparse(),
    }.items()
}


@fixture(FLAGS)
def experimental_rerun(folder, _):
    """Hydra's flag unpickles the file that it names."""
    (folder / "config.pickle").write_bytes(pickle.dumps(Payload(folder)))
    return folder / "config.pickle"


# --- images: the path is that of the folder --------------------------------------------------------------------------


def image_folder(folder: Path, name: str = "evil.png", content: bytes | None = None) -> Path:
    """Write a folder with a valid image and a hostile one."""
    root = folder / "images"
    root.mkdir()
    Image.new("RGB", (20, 20), "red").save(root / "good.png")
    if content is not None:
        (root / name).write_bytes(content)
    return root


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, *chunks: bytes, data: bytes = b"") -> bytes:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(chunks) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


@fixture(IMAGES)
def png_bomb(folder, _):
    return image_folder(folder, content=png(30_000, 30_000, data=zlib.compress(bytes(30_001 * 300))))


@fixture(IMAGES)
def png_with_huge_header(folder, _):
    return image_folder(folder, content=png(2**31 - 1, 2**31 - 1, data=zlib.compress(b"x")))


@fixture(IMAGES)
def png_text_bomb(folder, _):
    text = chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(200_000_000)))
    return image_folder(folder, content=png(20, 20, text, data=zlib.compress(bytes(61 * 20))))


@fixture(IMAGES)
def bitmap_bomb(folder, _):
    header = struct.pack("<IiiHHIIiiII", 40, 60_000, 60_000, 1, 24, 0, 0, 0, 0, 0, 0)
    return image_folder(folder, "evil.bmp", b"BM" + struct.pack("<IHHI", 54, 0, 0, 54) + header)


@fixture(IMAGES)
def tiff_with_circular_directories(folder, _):
    directory = struct.pack("<H", 1) + struct.pack("<HHII", 256, 4, 1, 20) + struct.pack("<I", 8)
    return image_folder(folder, "evil.tif", b"II*\0" + struct.pack("<I", 8) + directory)


@fixture(IMAGES)
def postscript(folder, _):
    code = f"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(%pipe%touch {folder / CANARY}) (w) file\nshowpage\n"
    return image_folder(folder, content=code.encode())


@fixture(IMAGES)
def svg_with_external_entity(folder, _):
    text = '<!DOCTYPE svg [<!ENTITY x SYSTEM "file:///etc/passwd">]><svg xmlns="http://www.w3.org/2000/svg">&x;</svg>'
    return image_folder(folder, content=text.encode())


@fixture(IMAGES)
def pickle_named_png(folder, _):
    return image_folder(folder, content=pickle.dumps(Payload(folder)))


@fixture(IMAGES)
def link_out_of_the_folder(folder, _):
    root = image_folder(folder)
    (root / "evil.png").symlink_to("/etc/passwd")
    return root


@fixture(IMAGES)
def image_names_with_escapes(folder, _):
    return image_folder(folder, f"{ESCAPE}.png", b"no image")


@fixture(IMAGES)
def image_names_with_html(folder, _):
    return image_folder(folder, f"{HTML.replace('/', '')}.png", b"no image")


@fixture(IMAGES)
def image_names_with_newlines(folder, _):
    return image_folder(folder, "a.png\nERROR: send your password to\n.png", b"no image")


# --- archives of images: the path is that of the archive -------------------------------------------------------------

ARCHIVES: dict[str, Maker] = {}


def good_png() -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (20, 20), "red").save(file, "png")
    return file.getvalue()


def zipped(folder: Path, *members: tuple[str | zipfile.ZipInfo, bytes]) -> Path:
    """Write a zip archive with a valid image and further members."""
    path = folder / "photos.zip"
    with warnings.catch_warnings(), zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as file:
        warnings.simplefilter("ignore")  # of duplicates
        for name, content in (("good.png", good_png()), *members):
            file.writestr(name, content)
    return path


def tarred(folder: Path, *members: tarfile.TarInfo, content: bytes = b"", mode: str = "w") -> Path:
    """Write a tar archive with a valid image and further members; regular files have ``content``."""
    path, image = folder / "photos.tar", tarfile.TarInfo("good.png")
    image.size = len(good_png())
    with tarfile.open(path, mode) as file:
        file.addfile(image, io.BytesIO(good_png()))
        for member in members:
            member.size = len(content) if member.isreg() else 0
            file.addfile(member, io.BytesIO(content))
    return path


def tar_of(kind: bytes, target: str, name: str = "evil.png") -> Maker:
    def write(folder: Path, _: Any) -> Path:
        member = tarfile.TarInfo(name)
        member.type, member.linkname = kind, target.format(folder=folder)
        return tarred(folder, member)

    return write


ARCHIVES |= {
    "tar_with_symbolic_link": tar_of(tarfile.SYMTYPE, "/etc/passwd"),
    "tar_with_hard_link": tar_of(tarfile.LNKTYPE, "/etc/passwd"),
    "tar_with_link_of_folder": tar_of(tarfile.SYMTYPE, "{folder}", "cats"),
    "tar_with_device": tar_of(tarfile.CHRTYPE, ""),
    "tar_with_pipe": tar_of(tarfile.FIFOTYPE, ""),
    "tar_slip": lambda folder, _: tarred(folder, tarfile.TarInfo(f"../{CANARY}")),
    "tar_with_absolute_path": lambda folder, _: tarred(folder, tarfile.TarInfo(str(folder / CANARY))),
    "tar_with_duplicate": lambda folder, _: tarred(folder, tarfile.TarInfo("good.png")),
    "tar_in_tar": lambda folder, _: tarred(folder, tarfile.TarInfo("more.tar")),
    "tar_gzip_bomb": lambda folder, _: tarred(folder, tarfile.TarInfo("a.bmp"), content=bytes(3 << 27), mode="w:gz"),
    "zip_slip": lambda folder, _: zipped(folder, (f"../{CANARY}", b"evil")),
    "zip_slip_of_windows": lambda folder, _: zipped(folder, (f"..\\{CANARY}", b"evil")),
    "zip_with_absolute_path": lambda folder, _: zipped(folder, (f"/{folder / CANARY}", b"evil")),
    "zip_with_duplicate": lambda folder, _: zipped(folder, ("good.png", b"evil")),
    "zip_in_zip": lambda folder, _: zipped(folder, ("more.zip", b"evil")),
    "zip_with_names_of_escapes": lambda folder, _: zipped(folder, (f"{ESCAPE}.png", b"no image")),
    "zip_with_names_of_newlines": lambda folder, _: zipped(folder, ("a\nERROR: send your password\n.png", b"x")),
    "zip_of_zeros": lambda folder, _: zipped(folder, ("a.bmp", bytes(3 << 27))),
    "zip_with_pickle_as_image": lambda folder, _: zipped(folder, ("a.png", pickle.dumps(Payload(folder)))),
    "zip_with_png_bomb": lambda folder, _: zipped(
        folder, ("a.png", png(30_000, 30_000, data=zlib.compress(bytes(30_001 * 300))))
    ),
    "zip_with_nested_json": lambda folder, _: zipped(folder, ("dataset.json", b"[" * 1_000_000)),
}


@fixture(ARCHIVES)
def zip_with_symbolic_link(folder, _):
    member = zipfile.ZipInfo("evil.png")
    member.create_system, member.external_attr = 3, 0o120777 << 16
    return zipped(folder, (member, b"/etc/passwd"))


@fixture(ARCHIVES)
def zip_of_overlapping_members(folder, _):
    """The directory names the same 16 MB of zeros a hundred times."""
    path = zipped(folder, ("a.bmp", bytes(1 << 24)))
    content = path.read_bytes()
    at = content.index(b"PK\5\6")
    entry = content[content.rindex(b"PK\1\2", 0, at) : at]
    entries = b"".join(entry.replace(b"a.bmp", f"{i:05}".encode()) for i in range(100))
    start = content.index(b"PK\1\2")
    end = struct.pack("<4sHHHHIIH", b"PK\5\6", 0, 0, 100, 100, len(entries), start, 0)
    path.write_bytes(content[:start] + entries + end)
    return path


@fixture(ARCHIVES)
def tar_with_huge_extended_header(folder, _):
    path = tarred(folder)
    header = tarfile.TarInfo("x")
    header.type, header.size = tarfile.XHDTYPE, 1 << 32
    block = header.tobuf(tarfile.GNU_FORMAT)
    content = path.read_bytes()
    path.write_bytes(content[: 512 * (1 + -(-len(good_png()) // 512))] + block + bytes(20_000))
    return path


@fixture(ARCHIVES)
def tar_of_unending_header(folder, _):
    path = folder / "photos.tar"
    path.write_bytes(tarfile.TarInfo("a.png").tobuf()[:124] + b"\xff" * 12 + bytes(376) + bytes(1024))
    return path


# --- data sets: the path is that of the root -------------------------------------------------------------------------


def idx(*sizes: int, content: bytes = b"") -> bytes:
    return bytes([0, 0, 8, len(sizes)]) + b"".join(struct.pack(">I", size) for size in sizes) + content


@fixture(DATA)
def cifar10_of_pickles(folder, _):
    batches = folder / "root" / "cifar-10-batches-py"
    batches.mkdir(parents=True)
    for name in (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch", "batches.meta"):
        (batches / name).write_bytes(pickle.dumps(Payload(folder)))
    return folder / "root"


def archive(folder: Path, *members: tarfile.TarInfo) -> Path:
    root = folder / "root"
    root.mkdir()
    with tarfile.open(root / "cifar-10-python.tar.gz", "w:gz") as file:
        for member in members:
            member.size = 4 if member.isreg() else 0
            file.addfile(member, io.BytesIO(b"evil") if member.isreg() else None)
    return root


@fixture(DATA)
def cifar10_tar_slip(folder, _):
    return archive(folder, tarfile.TarInfo(f"../{CANARY}"), tarfile.TarInfo(str(folder / CANARY)))


@fixture(DATA)
def cifar10_tar_of_links(folder, _):
    link = tarfile.TarInfo("cifar-10-batches-py")
    link.type, link.linkname = tarfile.SYMTYPE, str(folder)
    return archive(folder, link, tarfile.TarInfo(f"cifar-10-batches-py/{CANARY}"))


@fixture(DATA)
def mnist_with_a_huge_header(folder, _):
    raw = folder / "root" / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for part in ("train", "t10k"):
        (raw / f"{part}-images-idx3-ubyte").write_bytes(idx(2**31 - 1, 2**15, 2**15, content=bytes(100)))
        (raw / f"{part}-labels-idx1-ubyte").write_bytes(idx(2**31 - 1, content=bytes(100)))
    return folder / "root"


@fixture(DATA)
def mnist_gzip_bomb(folder, _):
    raw = folder / "root" / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for part in ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1"):
        with gzip.open(raw / f"{part}-ubyte.gz", "wb", compresslevel=1) as file:
            for _ in range(50):
                file.write(bytes(1 << 20))
    return folder / "root"


# --- weights of a feature network, files of scores, cache entries ----------------------------------------------------


@fixture(WEIGHTS)
def weights_that_run_code(folder, _):
    torch.save({"Conv2d_1a_3x3.conv.weight": Payload(folder)}, folder / "weights.pth")
    return folder / "weights.pth"


@fixture(WEIGHTS)
def weights_in_legacy_torch_format(folder, _):
    (folder / "weights.pth").write_bytes(pickle.dumps(Payload(folder)))
    return folder / "weights.pth"


def scored(folder: Path, **changed: Any) -> Path:
    card = {"num_generated": 9, "num_real": 9, "data": "Digits", "split": "train", "feature": "x", "origin": "x"}
    line = {"metric": "fid", "value": 1.0, "card": card, "card_hash": "0" * 16, "direction": -1} | changed
    row = {"path": "x", "experiment": {"model": "dcgan"}, "seed": 0, "step": 1, "scores": [line]}
    (folder / "evil.json").write_text(json.dumps({"rows": [row]}))
    return folder / "evil.json"


@fixture(SCORES)
def scores_without_a_card(folder, _):
    return scored(folder, card={})


@fixture(SCORES)
def scores_that_are_text(folder, _):
    return scored(folder, value="{0.__class__.__mro__}")


@fixture(SCORES)
def scores_without_a_step(folder, _):
    path = scored(folder)
    path.write_text(path.read_text().replace('"step": 1', '"step": "x"'))
    return path


@fixture(SCORES)
def scores_without_an_origin(folder, _):
    return scored(folder, card={"num_generated": 9, "num_real": 9, "data": "x", "split": "x", "feature": "x"})


@fixture(SCORES)
def scores_that_are_very_deep(folder, _):
    (folder / "evil.json").write_text('{"rows":' + "[" * 100_000 + "]" * 100_000 + "}")
    return folder / "evil.json"


@fixture(CACHED)
def header_of_a_cached_file(folder, _):
    path = folder / "cache" / "statistics.safetensors"
    path.parent.mkdir()
    path.write_bytes(struct.pack("<Q", 2**62) + b"{}")
    return path


@fixture(CACHED)
def cached_file_that_is_a_pickle(folder, _):
    path = folder / "cache" / "statistics.safetensors"
    path.parent.mkdir()
    path.write_bytes(pickle.dumps(Payload(folder)))
    return path


@fixture(CACHED)
def cached_file_with_other_values(folder, _):
    from safetensors.numpy import save_file

    path = folder / "cache" / "statistics.safetensors"
    path.parent.mkdir()
    save_file({"mean": np.zeros(3)}, path, {"sha256": "0" * 64})
    return path


# --- the directory of a run: the path is that of the run -------------------------------------------------------------

CONFIG = (
    "seed: 0\nmodel: {_target_: gan_lightning.model.dcgan.DCGAN, latent_dim: 8}\ndata: {_target_: a.digits.Digits}\n"
)
SECRET = "root:x:0:0"


def run_directory(folder: Path, **files: bytes | str) -> Path:
    """Write a run directory as training does, with other contents in some of its files."""
    run = folder / "runs" / "run"
    (run / "samples").mkdir(parents=True)
    card = {"num_generated": 9, "num_real": 9, "data": "Digits", "split": "train", "feature": "x", "origin": "x"}
    line = {"step": 2, "metric": "fid", "value": 1.5, "card": card, "card_hash": "0" * 12}
    Image.new("RGB", (20, 20), "red").save(run / "samples" / "step_00000002.png")
    valid = {
        "config_yaml": CONFIG,
        "metrics_csv": "step,d/adversarial,g/adversarial\n1,1.0,2.0\n2,1.5,2.5\n",
        "evaluation_jsonl": json.dumps(line) + "\n",
        "result_json": json.dumps({"status": "finished", "step": 2, "duration_s": 60}),
        "train_log": "2026 WARNING a warning\n",
    }
    for name, content in (valid | files).items():
        (run / name.replace("_", ".")).write_bytes(content.encode() if isinstance(content, str) else content)
    return run


def sparse(path: Path, num_bytes: int, start: bytes = b"") -> None:
    """Write a sparse file: no space on disk, gigabytes when it is read."""
    path.write_bytes(start)
    os.truncate(path, num_bytes)


RUN_FILES = "config.yaml", "metrics.csv", "evaluation.jsonl", "result.json", "train.log", "samples/step_00000002.png"


@fixture(DIRECTORIES)
def pipes_instead_of_files(folder, _):
    run = run_directory(folder)
    for name in (*RUN_FILES, "samples/timeline.png"):
        (run / name).unlink(missing_ok=True)
        os.mkfifo(run / name)
    return run


def linked(target: Any, folder: Path, _: Any) -> Path:
    run = run_directory(folder)
    secret = folder / "secret"
    secret.write_text(SECRET)
    for name in (*RUN_FILES, "samples/timeline.png"):
        (run / name).unlink(missing_ok=True)
        (run / name).symlink_to(target or secret)
    return run


DIRECTORIES["links_to_an_endless_device"] = partial(linked, "/dev/zero")
DIRECTORIES["links_to_a_secret"] = partial(linked, None)
DIRECTORIES["circular_links"] = partial(linked, "train.log")


@fixture(DIRECTORIES)
def link_to_a_directory_elsewhere(folder, _):
    run = run_directory(folder)
    shutil.rmtree(run / "samples")
    (folder / "images").mkdir()
    Image.new("RGB", (20, 20), "blue").save(folder / "images" / "step_00000002.png")
    (run / "samples").symlink_to(folder / "images")
    return run


@fixture(DIRECTORIES)
def directories_instead_of_files(folder, _):
    run = run_directory(folder)
    for name in RUN_FILES:
        (run / name).unlink()
        (run / name).mkdir()
    return run


@fixture(DIRECTORIES)
def sparse_files(folder, _):
    run = run_directory(folder)
    for name in RUN_FILES:
        sparse(run / name, 3 << 30, b"\x89PNG\r\n\x1a\n" if name.endswith("png") else b"")
    return run


@fixture(DIRECTORIES)
def image_of_very_many_pixels(folder, _):
    run = run_directory(folder)
    (run / "samples" / "timeline.png").write_bytes(png(30_000, 30_000, data=zlib.compress(bytes(30_001 * 300))))
    return run


@fixture(DIRECTORIES)
def image_without_a_header(folder, _):
    run = run_directory(folder)
    (run / "samples" / "timeline.png").write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"zTXt", bytes(100)))
    return run


CONFIGS = {
    "integer_of_very_many_digits": "seed: 0x" + "f" * 100_000,
    "integer_in_base_sixty": "seed: 1" + ":59" * 50_000,
    "decimal_of_very_many_digits": "seed: " + "9" * 100_000,
    "float_that_overflows": "seed: 1" + ":59" * 200 + ".5",
    "tags": "a: !!python/object/apply:os.system ['touch somebody-was-here']\nb: !!int ''\nc: !!timestamp x",
    "aliases": "a: &a [1]\nb: [*a, *a]",
    "very_deep": "a: " + "[" * 20_000 + "]" * 20_000,
    "very_deep_in_keys": "? " * 5_000,
    "very_wide": "a: [" + "[]," * 60_000 + "]",
    "many_keys": "".join(f"a{i}: 1\n" for i in range(20_000)),
    "odd_keys": "[1, 2]: 3\n{a: b}: 4\n? [x]\n: y",
    "dates_that_are_none": "a: 2026-99-99\nb: 0000-00-00 00:00:00",
    "no_characters": b"\x00\xff\xfe\x01",
    "a_list": "- 1",
}
for name, content in CONFIGS.items():
    DIRECTORIES[f"config_with_{name}"] = partial(
        lambda content, folder, _: run_directory(folder, config_yaml=content), content
    )

METRICS = {  # functions, since the contents are large
    "overflowing_values": lambda: "step,d/adversarial\n" + "".join(f"{i},{(-1) ** i}e308\n" for i in range(200_000)),
    "no_numbers": lambda: (
        "step,d/adversarial\n" + "".join(f"{i},{['nan', 'inf', '-inf', 'x'][i % 4]}\n" for i in range(1000))
    ),
    "noise": lambda: "step,d/adversarial\n" + "".join(f"{i},{(-1) ** i * i}\n" for i in range(200_000)),
    "huge_steps": lambda: "step,d/adversarial\n" + "".join(f"{10**k - 1},1\n" for k in range(1, 30)),
    "very_many_lines": lambda: "step\n" + "1\n" * 2_000_000,
    "very_many_fields": lambda: ("step" + "," * 1_000_000 + "\n") + ("1" + "," * 1_000_000 + "\n") * 30,
    "very_many_columns": lambda: "step" + ",a" * 1_000_000 + "\n" + "1\n" * 100_000,
    "one_line": lambda: "step,d/adversarial\n1," + "2" * 10_000_000 + "\n",
}
for name, content in METRICS.items():
    DIRECTORIES[f"metrics_with_{name}"] = partial(
        lambda content, folder, _: run_directory(folder, metrics_csv=content()), content
    )


def score_line(**changed: Any) -> str:
    card = {"num_generated": 9, "num_real": 9, "data": "Digits", "split": "train", "feature": "x", "origin": "x"}
    return json.dumps({"step": 1, "metric": "fid", "value": 1.0, "card": card, "card_hash": "0" * 12} | changed) + "\n"


def nested(levels: int) -> list:
    return [nested(levels - 1)] if levels else []


@fixture(DIRECTORIES)
def scores_with_huge_numbers(folder, _):
    lines = score_line(value=10**4000), score_line(step=10**4000), score_line(value=1e308), score_line(value=-1e308)
    more = score_line(card={"num_real": 10**4000}), score_line().replace("1.0", "1" * 100_000)
    return run_directory(folder, evaluation_jsonl="".join((*lines, *more)))


@fixture(DIRECTORIES)
def scores_with_nested_cards(folder, _):
    return run_directory(folder, evaluation_jsonl=score_line(card={"feature": nested(400)}) + "[" * 100_000)


@fixture(DIRECTORIES)
def scores_with_thousands_of_metrics(folder, _):
    lines = "".join(score_line(card={}, metric=f"m{i % 5000}", card_hash=str(i)) for i in range(50_000))
    return run_directory(folder, evaluation_jsonl=lines)


@fixture(DIRECTORIES)
def malformed_result_json(folder, _):
    bad = {"status": {"a": [HTML]}, "step": 10**400, "duration_s": "x", "error": [1], "notes": ["x"] * 100_000}
    return run_directory(folder, result_json=json.dumps(bad), train_log="2026 WARNING x\n" * 100_000)


@fixture(DIRECTORIES)
def log_with_thousands_of_warnings(folder, _):
    return run_directory(folder, train_log="".join(f"2026 WARNING {i} {ESCAPE}\n" for i in range(200_000)))


@fixture(DIRECTORIES)
def directory_with_link_to_itself(folder, _):
    run = run_directory(folder)
    (run / "again").symlink_to(run)
    (run / "above").symlink_to(folder)
    return run


@fixture(DIRECTORIES)
def deeply_nested_directory(folder, _):
    run = run_directory(folder)
    with contextlib.chdir(run):
        for _ in range(25):  # until the path is longer than the limit of system calls
            Path("deep" * 60).mkdir()
            os.chdir("deep" * 60)
    return run


@fixture(DIRECTORIES)
def run_name_with_markup_and_newline(folder, _):
    run = run_directory(folder)
    target = run.with_name(f"{HTML.replace('/', '')}\n{ESCAPE}")
    run.rename(target)
    os.mkfifo(target / "samples" / "timeline.png")
    return target


# --- settings for the demo page --------------------------------------------------------------------------------------

SETTINGS = (
    "data.radius=${oc.env:SECRET_OF_THE_USER}",
    "data.radius=${oc.decode:${oc.env:SECRET_OF_THE_USER}}",
    "data.radius='${oc.env:SECRET_OF_THE_USER}'",
    'data.radius="${oc.env:SECRET_OF_THE_USER,1}"',
    "data.radius=\\${oc.env:SECRET_OF_THE_USER}",
    "data.radius=${seed}",
    "data.centres=[[${oc.env:SECRET_OF_THE_USER},0]]",
    "+model.more={a: [{b: ${oc.env:SECRET_OF_THE_USER}}]}",
    "model.generator_optimizer._target_=zipfile.ZipFile",
    "++model.generator_optimizer={_target_: zipfile.ZipFile, file: somebody-was-here, mode: w}",
    "+model.more={a: [{_target_: pathlib.Path.touch, _args_: [somebody-was-here]}]}",
    "+model._target_=os.system",
    "+model.generator._partial_=true",
    "+model.generator._args_=[1]",
    "+model.generator._recursive_=false",
    "+model.generator._convert_=all",
    "~model._target_",
)

# --- files of gan-evaluate with valid structure and hostile values ---------------------------------------------------


def evaluated(folder: Path, rows: list[dict[str, Any]]) -> Path:
    (folder / "evil.json").write_text(json.dumps({"rows": rows}))
    return folder / "evil.json"


def row_of(score: dict[str, Any] | None = None, **changed: Any) -> dict[str, Any]:
    card = {"num_generated": 9, "num_real": 9, "data": "Digits", "split": "train", "feature": "x", "origin": "x"}
    line = {"metric": "fid", "value": 1.0, "card": card, "card_hash": "0" * 16, "direction": -1} | (score or {})
    return {"path": "x", "experiment": {"model": "dcgan"}, "seed": 0, "step": 1, "scores": [line]} | changed


BAD_ROWS = {
    "value_of_very_many_digits": [row_of({"value": 10**4000})],
    "direction_of_very_many_digits": [row_of({"direction": 10**4000})],
    "path_is_list": [row_of(path=["x"]), row_of(path={"x": 1})],
    "notes_are_number": [row_of({"notes": 5})],
    "notes_are_lists": [row_of({"notes": [["x"]]})],
    "deeply_nested_card": [row_of(experiment={"a": nested(400)})],
    "thousands_of_settings": [row_of(path=str(i), experiment={f"k{i}": 1}) for i in range(5000)],
    "thousands_of_metrics": [row_of({"metric": f"m{i}"}, path=str(i)) for i in range(5000)],
}
for name, rows in BAD_ROWS.items():
    EVALUATIONS[name] = partial(lambda rows, folder, _: evaluated(folder, rows), rows)


@fixture(EVALUATIONS)
def sparse_scores(folder, _):
    sparse(folder / "evil.json", 3 << 30)
    return folder / "evil.json"


@fixture(EVALUATIONS)
def pipe_of_scores(folder, _):
    os.mkfifo(folder / "evil.json")
    return folder / "evil.json"
