"""Whatever is typed, a command does it or says in words why not: lines that hypothesis makes up, of every command."""

import contextlib
import io
import os
import resource
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from faults import Process
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf
from PIL import Image
from tiny import TINY

from gan_lightning.cli import evaluate, explore, export, report, sample
from gan_lightning.config.nodes import walk
from gan_lightning.demo.live_training import compose_config
from gan_lightning.errors import UserError
from gan_lightning.io.paths import CONF
from gan_lightning.run.command_line import check_command_line

SETTINGS = settings(
    max_examples=25,
    deadline=None,
    derandomize=True,  # the same examples every time: a red run is a change of ours, and not of the dice
    database=None,
    phases=(Phase.explicit, Phase.generate),  # to make them shorter takes minutes
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.filter_too_much],
)

OPTIONS = {
    str(group.relative_to(CONF)): sorted(path.stem for path in group.glob("*.yaml") if path.stem != "base")
    for group in CONF.iterdir()
    if group.is_dir()
}


def keys_of(path: Path) -> Iterator[str]:
    """The keys that a file of conf sets, as they are typed."""
    section, node = path.parent.name, OmegaConf.load(path)
    for key, value in walk(node):
        if key.partition(".")[0] in ("defaults", "hydra") or OmegaConf.is_config(value):
            continue
        complete = section in ("conf", "experiment", "debug", "protocol") or key.partition(".")[0] == section
        yield key if complete else f"{section}.{key}"


KEYS = sorted({key for path in CONF.rglob("*.yaml") for key in keys_of(path)} - {"out", "which", "sort_by", "allow"})

LONG = "9" * 5000  # more digits than Python makes a number of
NUMBERS = [LONG, "0", "1", "2", "3", "-1", "1.5", "1e-3", "0.5", "1e300", "nan", "inf", "-inf", "4000000000", "9" * 40]
WORDS = ["null", "true", "false", "''", "x", "[]", "[1,2]", "[0.5,0.9]", "[a,b]", "{a:1}", "???", "ünicode", "'a b'"]
REFERENCES = ["${seed}", "${nowhere}", "${oc.env:HOME}", "${oc.env:NOWHERE_AT_ALL}", "${data_info.shape}", "${", "\\$"]
values = st.sampled_from(NUMBERS + WORDS + REFERENCES) | st.integers().map(str) | st.floats().map(str)
garbage = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)
misspelt = st.sampled_from(KEYS).flatmap(
    lambda key: st.integers(0, len(key) - 1).map(lambda place: key[:place] + key[place + 1 :])
)
assignments = st.one_of(
    st.tuples(st.sampled_from(KEYS), values).map("=".join),
    st.tuples(st.sampled_from(KEYS), garbage).map("=".join),
    st.tuples(misspelt, values).map("=".join),
)
choices = st.sampled_from(sorted(OPTIONS)).flatmap(
    lambda group: st.tuples(
        st.just("optimizer@model.generator_optimizer" if group == "optimizer" else group),
        st.sampled_from([*OPTIONS[group], "null", "nothing"]),
    ).map("=".join)
)
sweeps = st.tuples(st.sampled_from(KEYS), st.lists(values, min_size=2, max_size=3).map(",".join)).map("=".join)
odd = st.sampled_from(
    ["~logger", "~model", "~seed", "+new=1", "++seed=1", "=", "a", "-m", "--multirun", "--nothing", ""]
)
words = st.one_of(choices, assignments, assignments, sweeps, odd, garbage)


def told(text: str, line: list[str]) -> None:
    """What a user reads is words of ours, or was typed: Hypothesis reads these very words here, and types them."""
    for inside in ("Traceback", "omegaconf.", "full_key", "object_type", "InstantiationException"):
        assert inside not in text or any(inside in word for word in line), text
    assert text.strip()


@SETTINGS
@given(st.lists(words, min_size=1, max_size=4))
def test_every_line_of_gan_train_is_taken_or_answered(line):
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            check_command_line(line)
    except UserError as fault:
        told(str(fault), line)
    except SystemExit:  # of --help
        assert "--help" in line


# Values that are right by themselves, so that most lines come through to training; the largest are more than there is.
HUGE = "2147483647"
RIGHT = {
    "seed": ["0", "4294967295"],
    "model.d_steps": ["3"],
    "model.latent_dim": ["1", "5", HUGE],
    "model.ema_decay": ["0.5"],
    "model.generator_batch_multiplier": ["2"],
    "model.reuse_fake": ["true"],
    "model.generator_clip_norm": ["0.1"],
    "model.generator_optimizer.lr": ["1e-30", "1e-3", "1e30"],
    "model.generator_optimizer.fused": ["true", "null"],
    "network.width": ["1", "3", HUGE],
    "network.generator.norm": ["none", "batch", "layer"],
    "network.generator.init_std": ["null", "0.1"],
    "network.discriminator.norm": ["none", "layer"],
    "network.discriminator.spectral_norm": ["true"],
    "network.discriminator.dropout": ["0.9"],
    "data.batch_size": ["1", "2", "3", "5", HUGE],
    "eval.every_n_steps": ["1"],
    "eval.num_generated": ["2", "3", "20", HUGE],
    "eval.num_real": ["2", "20"],
    "eval.label_distribution": ["uniform"],
    "eval.split": ["test"],
    "eval.best_by": ["fid", "nothing"],
    "trainer.precision": ["64-true", "bf16-mixed", "bf16-true", "16-true", "16-mixed"],
    "trainer.deterministic": ["true", "warn"],
    "trainer.devices": ["1", "[0]", "auto"],
    "callbacks.sample_grid.every_n_steps": ["1"],
    "callbacks.checkpoint.keep": ["1", "null"],
    "callbacks.learning_rate.schedule": ["linear_decay"],
    "objective": ["g/loss", "nothing"],
    "ckpt_path": ["last"],
}
OF_PICTURES = {
    "data.image_size": ["1", "4", "8", "[8,12]", "20", "65535"],
    "data.channels": ["1", "3"],
    "data.limit": ["1", "2", "7"],
    "data.flip": ["true"],
    "callbacks.sample_grid.rows": ["1", "3"],
    "network": ["mlp", "dcgan", "resnet"],
    "metric": ["all", "fid"],
}
OF_POINTS = {
    "data.num": ["1", "3", HUGE],
    "data.std": ["0", "1e30"],
    "network.depth": ["1", "2"],
    "callbacks.sample_grid.points": ["1"],
    "metric": ["all", "modes"],
}


def lines(data: list[str], models: list[str], more: dict[str, list[str]]) -> st.SearchStrategy[list[str]]:
    """A game, and some settings of it."""
    pairs = [f"{key}={value}" for key, found in {**RIGHT, **more}.items() for value in found]
    game = st.tuples(st.sampled_from(data).map("data={}".format), st.sampled_from(models).map("model={}".format))
    loss = st.sampled_from(OPTIONS["loss"]).map("loss={}".format)
    free = st.lists(st.sampled_from(pairs), min_size=1, max_size=4, unique_by=lambda word: word.partition("=")[0])
    return st.tuples(game, st.lists(loss, max_size=1), free).map(
        lambda parts: [word for part in parts for word in part]
    )


games = st.one_of(
    lines(["digits", "image_folder"], OPTIONS["model"], OF_PICTURES),
    lines(["gaussian_ring", "gaussian_grid"], [name for name in OPTIONS["model"] if name != "dcgan"], OF_POINTS),
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("properties")


def in_its_place(folder: Path) -> Callable[[], None]:
    """For a child: its own current folder, and no more memory than a laptop has left."""

    def settle() -> None:
        os.chdir(folder)
        resource.setrlimit(resource.RLIMIT_AS, (8_000_000_000, resource.RLIM_INFINITY))

    return settle


@settings(SETTINGS, max_examples=10)
@given(games)
def test_what_is_taken_trains_or_is_answered(folder, line):
    typed, of_points = {word.partition("=")[0] for word in line}, "gaussian" in line[0]
    for key in TINY.keys() - typed - ({"data.image_size", "data.limit"} if of_points else {"data.num"}):
        if not (key == "network.width" and "network" in typed) and not key.startswith("feature."):
            line = [*line, f"{key}={'null' if TINY[key] is None else TINY[key]}"]
    if "data=image_folder" in line:
        line = [*line, f"data.root={pictures(folder)}"]
    if "eval.num_generated" not in typed and not of_points:
        line = [*line, "eval.num_generated=30", "feature.width=2", "feature.dim=4", "feature.epochs=1"]
    run = folder / "run"
    process = Process(run, *line, f"hydra.run.dir={run}", before=in_its_place(folder))
    status = process.until(lambda: False, seconds=120)
    output = process.output()
    told(output, line)
    assert status in (0, 1, 2), (status, output)
    shutil.rmtree(run, ignore_errors=True)


def pictures(folder: Path) -> Path:
    """Two classes of pictures."""
    for i in range(6):
        path = folder / "pictures" / ("ab"[i % 2]) / f"{i}.png"
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (20, 17), (40 * i, 9, 200)).save(path)
    return folder / "pictures"


@pytest.fixture(scope="module")
def checkpoint(folder) -> Path:
    run = folder / "trained"
    words = "model=cgan", "data=gaussian_ring", "data.num=60", "network.width=4", "trainer=cpu", "trainer.max_steps=1"
    process = Process(run, *words, "eval.every_n_steps=null", f"hydra.run.dir={run}", before=in_its_place(folder))
    assert not process.wait(), process.output()
    return run / "checkpoints" / "last.ckpt"


def answered(main: Callable[[], None], name: str, line: list[str]) -> None:
    """A command does what a line says, or leaves with words and a status."""
    said = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        patch.setattr(sys, "argv", [name, *line])
        status: Any = 0
        try:
            main()
        except SystemExit as end:
            status = end.code
        assert status in (0, 1, 2)
    told(said.getvalue(), line)


paths = st.sampled_from(
    ["CHECKPOINT", "CHECKPOINT", "CHECKPOINT", "RUN", "FOLDER", "nowhere", "/dev/null", "", ".", "-"]
)
flags = st.one_of(
    st.tuples(st.just("--num"), st.sampled_from(["1", "3", "0", "-1", "x", "1.5", "9" * 12, LONG, ""])),
    st.tuples(st.just("--seed"), st.sampled_from(["0", "-1", "7", "9" * 30, "x"])),
    st.tuples(st.just("--classes"), st.sampled_from(["0", "7", "8", "0,3", "", ",", "-1", LONG, "\u0663", "cats"])),
    st.tuples(st.just("--columns"), st.sampled_from(["1", "0", "9" * 12, "x"])),
    st.tuples(
        st.just("--out"), st.sampled_from(["a.png", "a.npz", "deep/a.png", "a.gif", "folder", "/proc/a.png", "", "."])
    ),
    st.tuples(st.sampled_from(["--trust-checkpoint", "--help", "--nothing", "--nu"])),
    st.tuples(garbage),
)


def placed(word: str, checkpoint: Path) -> str:
    """A path's placeholder as what it stands for."""
    places = {"CHECKPOINT": checkpoint, "RUN": checkpoint.parent.parent, "FOLDER": checkpoint.parent.parent.parent}
    return str(places.get(word, word))


@settings(SETTINGS, max_examples=100)
@given(path=paths, typed=st.lists(flags, max_size=3))
def test_every_line_of_gan_sample_is_done_or_answered(checkpoint, tmp_path_factory, path, typed):
    with contextlib.chdir(tmp_path_factory.mktemp("place")):
        line = [placed(path, checkpoint), *(word for words in typed for word in words)]
        answered(sample.main, "gan-sample", line)


SETTINGS_OF_SCORES = [key for key in KEYS if key.partition(".")[0] in ("eval", "feature", "metric", "data", "protocol")]
SIZES = ["eval.num_generated", "eval.num_real"]
scored = st.one_of(
    st.tuples(st.sampled_from(SETTINGS_OF_SCORES), values).map("=".join),
    st.tuples(st.sampled_from(SIZES), st.sampled_from(["2", "50", "9" * 12, "x"])).map("=".join),
    st.tuples(st.sampled_from(["metric", "feature", "protocol", "data"]), garbage).map("=".join),
    st.sampled_from([f"metric={name}" for name in (*OPTIONS["metric"], "[fid,modes]", "[]")]),
    st.sampled_from(
        ["feature=coordinates", "feature=classifier", "data=gaussian_grid", "data=digits", "protocol=points"]
    ),
    st.sampled_from(["which=best", "which=both", "which=x", "sort_by=fid", "sort_by=x", "allow=[weights]", "allow=x"]),
    st.sampled_from(
        [
            "out=a",
            "out=deep/a",
            "out=/proc/a",
            "out=",
            "trust_checkpoint=true",
            "trust_checkpoint=x",
            "seed=3",
            "model=wgan",
        ]
    ),
    garbage,
    assignments,
)


@SETTINGS
@given(found=st.lists(paths, min_size=1, max_size=2), typed=st.lists(scored, max_size=3))
def test_every_line_of_gan_evaluate_is_done_or_answered(checkpoint, tmp_path_factory, found, typed):
    with contextlib.chdir(tmp_path_factory.mktemp("place")):
        line = [*(placed(path, checkpoint) for path in found), "eval.num_generated=30", "eval.num_real=30", *typed]
        answered(evaluate.main, "gan-evaluate", line)


KEYS_OF_EXPLORE = [
    "latent",
    "fps",
    "out",
    "trust_checkpoint",
    "latent.steps",
    "latent.seeds",
    "latent.classes",
    "latent.seed",
]
KEYS_OF_EXPLORE += ["latent.targets", "latent.k", "latent.method", "latent.feature.epochs", "data.root", "cache"]
explored = st.one_of(
    st.sampled_from([f"latent={name}" for name in OPTIONS["latent"]]),
    st.tuples(st.sampled_from(KEYS_OF_EXPLORE), values).map("=".join),
    st.sampled_from(
        [
            "latent.steps=2",
            "latent.num=3",
            "latent.samples=20",
            "latent.k=2",
            "latent.image=nowhere",
            "latent.end=7",
            "latent.factors=[9e9]",
        ]
    ),
    st.sampled_from(
        ["out=a", "out=deep/a", "out=/proc/a", "out=", "out=.", "trust_checkpoint=true", "+latent.x=1", "~latent"]
    ),
    garbage,
    assignments,
)


@SETTINGS
@given(path=paths, typed=st.lists(explored, max_size=3))
def test_every_line_of_gan_explore_is_done_or_answered(checkpoint, tmp_path_factory, path, typed):
    with contextlib.chdir(tmp_path_factory.mktemp("place")):
        answered(explore.main, "gan-explore", [placed(path, checkpoint), *typed])


exported = st.one_of(
    st.tuples(st.just("--license"), st.sampled_from(["mit", "cc-by-4.0", "", "my own", "a\nb", LONG])),
    st.tuples(st.just("--out"), st.sampled_from(["a", "deep/a", "/proc/a", "", ".", "-"])),
    st.tuples(st.just("--push"), st.sampled_from(["me", "", "a/b/c", "../..", "-/-"])),
    st.tuples(st.sampled_from(["--trust-checkpoint", "--help", "--nothing", "--no-onnx"])),
    st.tuples(garbage),
)


@SETTINGS
@given(path=paths, typed=st.lists(exported, max_size=3))
def test_every_line_of_gan_export_is_done_or_answered(checkpoint, tmp_path_factory, path, typed):
    with contextlib.chdir(tmp_path_factory.mktemp("place")):
        line = [placed(path, checkpoint), "--no-onnx", *(word for words in typed for word in words)]
        answered(export.main, "gan-export", line)


reported = st.one_of(
    st.tuples(st.just("--out"), st.sampled_from(["a.html", "deep/a.htm", "/proc/a.html", "", ".", "a.pdf"])),
    st.tuples(st.just("--sort-by"), st.sampled_from(["fid", "kid", "", "x"])),
    st.tuples(st.sampled_from(["--help", "--nothing"])),
    st.tuples(garbage),
)


@SETTINGS
@given(path=paths, typed=st.lists(reported, max_size=3))
def test_every_line_of_gan_report_is_done_or_answered(checkpoint, tmp_path_factory, path, typed):
    with contextlib.chdir(tmp_path_factory.mktemp("place")):
        answered(report.main, "gan-report", [placed(path, checkpoint), *(word for words in typed for word in words)])


@SETTINGS
@given(typed=st.lists(st.one_of(garbage, assignments), max_size=3))
def test_every_setting_of_a_live_game_is_taken_or_answered(typed):
    with contextlib.suppress(UserError):
        assert "discriminator" in compose_config(["model=vanilla", "data=gaussian_ring", *typed]).model
