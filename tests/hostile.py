"""Files that a stranger might send, made anew for every test: each tries to run code, to write elsewhere, or to eat.

``FIXTURES`` maps a name to a function that puts one into a folder and returns its path. Whoever runs one of these
payloads finds the file that ``CANARY`` names.
"""

import copy
import gzip
import io
import json
import os
import pickle
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
PICTURES: dict[str, Maker] = {}
DATA: dict[str, Maker] = {}
WEIGHTS: dict[str, Maker] = {}
SCORES: dict[str, Maker] = {}
CACHED: dict[str, Maker] = {}


def fixture(kind: dict[str, Maker]) -> Callable[[Maker], Maker]:
    def keep(maker: Maker) -> Maker:
        kind[maker.__name__] = maker
        return maker

    return keep


class Payload:
    """Runs a command when it is unpickled."""

    def __init__(self, folder: Path) -> None:
        self.command = f"touch {folder / CANARY}"

    def __reduce__(self) -> tuple:
        return os.system, (self.command,)


# --- checkpoints: `good` is what one of ours holds -------------------------------------------------------------------


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
def code_in_the_old_format(folder, good):
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


def names(target: str, *args: Any, **more: Any) -> Maker:
    """A checkpoint whose generator is what a call returns."""

    def change(folder: Path, config: dict[str, Any]) -> None:
        config["model"]["generator"] = {"_target_": target, "_args_": [str(arg) for arg in args], **more}
        for part in config["model"]["generator"]["_args_"]:
            config["model"]["generator"]["_args_"] = [part.format(canary=folder / CANARY)]

    return lambda folder, good: with_config(partial(change, folder), folder, good)


CALLS = {
    "target_os_system": names("os.system", "touch {canary}"),
    "target_subprocess": names("subprocess.getoutput", "touch {canary}"),
    "target_eval": names("builtins.eval", "__import__('os').mknod('{canary}')"),
    "target_exec_of_timeit": names("timeit.timeit", "__import__('os').mknod('{canary}')", number=1),
    "target_urlopen": names("urllib.request.urlopen", "file:///etc/passwd"),
    "target_torch_load": names("torch.load", "evil.pt", weights_only=False),
    "target_torch_hub": names("torch.hub.load", "stranger/repository", model="x"),
    "target_numpy_load": names("numpy.load", "evil.npy", allow_pickle=True),
    "target_open": names("pathlib.Path.touch", "{canary}"),
    "target_rmtree": names("shutil.rmtree", "{canary}"),
    "target_hydra_itself": names("hydra.utils.instantiate", "x"),
    "target_of_ours_that_is_no_class": names("gan_lightning.train.train", "x"),
    "target_through_a_module_of_ours": names("gan_lightning.model.base.torch.load", "evil.pt"),
    "target_imported_by_a_module_of_ours": names("gan_lightning.data.base.Path", "{canary}"),
    "target_among_optimizers": names("torch.optim.lr_scheduler.warnings.sys.exit", "x"),
    "target_with_odd_letters": names("torch.\uff4foptim.Adam", "x"),
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
    kept = {"_instantiator": "os.system", "_class_path": f"touch {folder / CANARY}"}
    return saved(folder, good | {"hyper_parameters": kept, "hparams_name": "kwargs"})


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
def bomb_of_zeros(folder, good):
    path = saved(folder, good)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("last/data.pkl", "w") as file:
        for _ in range(300):
            file.write(bytes(1 << 20))
    return path


@fixture(CHECKPOINTS)
def network_larger_than_its_weights(folder, good):
    def change(config):
        config["model"]["latent_dim"] = 2**31 - 1
        config["network"]["width"] = 2**20

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
def names_that_speak_to_the_terminal(folder, good):
    return names(f"os.{ESCAPE}system", "x")(folder, good)


# --- what only a run that goes on would do ---------------------------------------------------------------------------

GOING_ON: dict[str, Maker] = {}


@fixture(GOING_ON)
def logger_that_writes_elsewhere(folder, good):
    return with_config(
        lambda config: config["logger"]["tensorboard"].update(save_dir=str(folder / "elsewhere")), folder, good
    )


@fixture(GOING_ON)
def logger_that_writes_elsewhere_by_default(folder, good):
    place = f"${{oc.env:NOWHERE_AT_ALL,{folder / 'elsewhere'}}}"
    return with_config(lambda config: config["logger"]["tensorboard"].update(save_dir=place), folder, good)


@fixture(GOING_ON)
def logger_that_writes_where_another_key_says(folder, good):
    def change(config):
        config["logger"]["tensorboard"]["save_dir"] = "${evil.a}"
        config["evil"] = {"a": "${evil.b}/x", "b": str(folder / "elsewhere")}

    return with_config(change, folder, good)


@fixture(GOING_ON)
def guest_that_writes_elsewhere(folder, good):
    call = {"_target_": "pytorch_lightning.callbacks.ModelCheckpoint", "dirpath": str(folder / "elsewhere")}
    return with_config(lambda config: config["callbacks"].update(more=call), folder, good)


@fixture(GOING_ON)
def trainer_that_writes_elsewhere(folder, good):
    return with_config(lambda config: config["trainer"].update(default_root_dir="../../elsewhere"), folder, good)


@fixture(GOING_ON)
def configuration_without_data(folder, good):
    return with_config(lambda config: config.pop("data"), folder, good)


@fixture(GOING_ON)
def data_that_would_be_downloaded_elsewhere(folder, good):
    data = {"_target_": "gan_lightning.data.mnist.MNIST", "root": str(folder / "elsewhere"), "batch_size": 4}
    return with_config(lambda config: config.update(data=data), folder, good)


@fixture(GOING_ON)
def data_that_would_be_downloaded_elsewhere_by_default(folder, good):
    root = f"${{oc.env:NOWHERE_AT_ALL,{folder / 'elsewhere'}}}"
    data = {"_target_": "gan_lightning.data.mnist.MNIST", "root": root, "batch_size": 4}
    return with_config(lambda config: config.update(data=data), folder, good)


def with_pictures(folder: Path, good: dict[str, Any]) -> Path:
    """A checkpoint whose data are pictures, to be decoded into a cache elsewhere."""
    data = {"_target_": "gan_lightning.data.image_folder.ImageFolder", "root": str(pictured(folder))}
    data |= {"cache": str(folder / "elsewhere"), "batch_size": 2, "seed": 0}
    return with_config(lambda config: config.update(data=data), folder, good)


# --- pictures: the path is that of a folder --------------------------------------------------------------------------


def pictured(folder: Path, name: str = "evil.png", content: bytes | None = None) -> Path:
    """A folder with a good picture and a bad one."""
    root = folder / "pictures"
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


@fixture(PICTURES)
def bomb_of_pixels(folder, _):
    return pictured(folder, content=png(30_000, 30_000, data=zlib.compress(bytes(30_001 * 300))))


@fixture(PICTURES)
def huge_header(folder, _):
    return pictured(folder, content=png(2**31 - 1, 2**31 - 1, data=zlib.compress(b"x")))


@fixture(PICTURES)
def bomb_of_text(folder, _):
    text = chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(200_000_000)))
    return pictured(folder, content=png(20, 20, text, data=zlib.compress(bytes(61 * 20))))


@fixture(PICTURES)
def bomb_of_a_bitmap(folder, _):
    header = struct.pack("<IiiHHIIiiII", 40, 60_000, 60_000, 1, 24, 0, 0, 0, 0, 0, 0)
    return pictured(folder, "evil.bmp", b"BM" + struct.pack("<IHHI", 54, 0, 0, 54) + header)


@fixture(PICTURES)
def tiff_that_runs_in_circles(folder, _):
    directory = struct.pack("<H", 1) + struct.pack("<HHII", 256, 4, 1, 20) + struct.pack("<I", 8)
    return pictured(folder, "evil.tif", b"II*\0" + struct.pack("<I", 8) + directory)


@fixture(PICTURES)
def postscript(folder, _):
    code = f"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(%pipe%touch {folder / CANARY}) (w) file\nshowpage\n"
    return pictured(folder, content=code.encode())


@fixture(PICTURES)
def vectors_with_entities(folder, _):
    text = '<!DOCTYPE svg [<!ENTITY x SYSTEM "file:///etc/passwd">]><svg xmlns="http://www.w3.org/2000/svg">&x;</svg>'
    return pictured(folder, content=text.encode())


@fixture(PICTURES)
def pickle_of_that_name(folder, _):
    return pictured(folder, content=pickle.dumps(Payload(folder)))


@fixture(PICTURES)
def link_out_of_the_folder(folder, _):
    root = pictured(folder)
    (root / "evil.png").symlink_to("/etc/passwd")
    return root


@fixture(PICTURES)
def picture_names_with_escapes(folder, _):
    return pictured(folder, f"{ESCAPE}.png", b"no picture")


@fixture(PICTURES)
def picture_names_with_html(folder, _):
    return pictured(folder, f"{HTML.replace('/', '')}.png", b"no picture")


@fixture(PICTURES)
def picture_names_of_many_lines(folder, _):
    return pictured(folder, "a.png\nERROR: send your password to\n.png", b"no picture")


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


# --- weights of a feature network, scores of another evaluation, a shared cache --------------------------------------


@fixture(WEIGHTS)
def weights_that_run_code(folder, _):
    torch.save({"Conv2d_1a_3x3.conv.weight": Payload(folder)}, folder / "weights.pth")
    return folder / "weights.pth"


@fixture(WEIGHTS)
def weights_in_the_old_format(folder, _):
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
def scores_of_no_step(folder, _):
    path = scored(folder)
    path.write_text(path.read_text().replace('"step": 1', '"step": "x"'))
    return path


@fixture(SCORES)
def scores_of_no_origin(folder, _):
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
