"""Property tests with Hypothesis: every command runs any command line, or prints an error without a traceback."""

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
from fault_injection import Process
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
    derandomize=True,  # the same examples every time, so that a failure comes from a change of the code
    database=None,
    phases=(Phase.explicit, Phase.generate),  # without shrinking, which takes minutes
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.filter_too_much],
)

OPTIONS = {
    str(group.relative_to(CONF)): sorted(path.stem for path in group.glob("*.yaml") if path.stem != "base")
    for group in CONF.iterdir()
    if group.is_dir()
}


def keys_of(path: Path) -> Iterator[str]:
    """Yield the keys that a file of conf sets, as on the command line."""
    section, node = path.parent.name, OmegaConf.load(path)
    for key, value in walk(node):
        if key.partition(".")[0] in ("defaults", "hydra") or OmegaConf.is_config(value):
            continue
        complete = section in ("conf", "experiment", "debug", "protocol") or key.partition(".")[0] == section
        yield key if complete else f"{section}.{key}"


KEYS = sorted({key for path in CONF.rglob("*.yaml") for key in keys_of(path)} - {"out", "which", "sort_by", "allow"})

LONG = "9" * 5000  # more digits than Python converts to an integer
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


def check_output(text: str, line: list[str]) -> None:
    """Check that output has no internals, unless they were in the input: Hypothesis also draws constants from here."""
    for inside in ("Traceback", "omegaconf.", "full_key", "object_type", "InstantiationException"):
        assert inside not in text or any(inside in word for word in line), text
    assert text.strip()


@SETTINGS
@given(st.lists(words, min_size=1, max_size=4))
def test_gan_train_accepts_or_explains_every_command_line(line):
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            check_command_line(line)
    except UserError as error:
        check_output(str(error), line)
    except SystemExit:  # from --help
        assert "--help" in line


# Values that are valid on their own, so that most lines reach training; the largest exceed the memory.
HUGE = "2147483647"
VALID_VALUES = {
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
    "eval.reference": ["test"],
    "eval.best_by": ["fd", "nothing"],
    "trainer.precision": ["64-true", "bf16-mixed", "bf16-true", "16-true", "16-mixed"],
    "trainer.deterministic": ["true", "warn"],
    "trainer.devices": ["1", "[0]", "auto"],
    "trainer.micro_batch": ["1", "2", "3", HUGE],
    "callbacks.sample_grid.every_n_steps": ["1"],
    "callbacks.checkpoint.keep": ["1", "null"],
    "callbacks.learning_rate.schedule": ["linear_decay"],
    "objective": ["g/loss", "nothing"],
    "ckpt_path": ["last"],
}
FOR_IMAGES = {
    "data.image_size": ["1", "4", "8", "[8,12]", "20", "65535"],
    "data.channels": ["1", "3"],
    "data.limit": ["1", "2", "7"],
    "data.flip": ["true"],
    "callbacks.sample_grid.rows": ["1", "3"],
    "network": ["mlp", "dcgan", "resnet"],
    "metric": ["all", "fid"],
}
FOR_POINTS = {
    "data.num": ["1", "3", HUGE],
    "data.std": ["0", "1e30"],
    "network.depth": ["1", "2"],
    "callbacks.sample_grid.points": ["1"],
    "metric": ["all", "modes"],
}


def lines(data: list[str], models: list[str], more: dict[str, list[str]]) -> st.SearchStrategy[list[str]]:
    """Return a strategy of command lines: data, model, loss and some settings."""
    pairs = [f"{key}={value}" for key, found in {**VALID_VALUES, **more}.items() for value in found]
    choice = st.tuples(st.sampled_from(data).map("data={}".format), st.sampled_from(models).map("model={}".format))
    loss = st.sampled_from(OPTIONS["loss"]).map("loss={}".format)
    free = st.lists(st.sampled_from(pairs), min_size=1, max_size=4, unique_by=lambda word: word.partition("=")[0])
    return st.tuples(choice, st.lists(loss, max_size=1), free).map(
        lambda parts: [word for part in parts for word in part]
    )


training_lines = st.one_of(
    lines(["digits", "image_folder"], OPTIONS["model"], FOR_IMAGES),
    lines(["gaussian_ring", "gaussian_grid"], [name for name in OPTIONS["model"] if name != "dcgan"], FOR_POINTS),
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("properties")


def child_setup(folder: Path) -> Callable[[], None]:
    """Return a function for a child process: change the directory, and limit the memory to 8 GB."""

    def set_up() -> None:
        os.chdir(folder)
        resource.setrlimit(resource.RLIMIT_AS, (8_000_000_000, resource.RLIM_INFINITY))

    return set_up


@settings(SETTINGS, max_examples=10)
@given(training_lines)
def test_accepted_settings_train_or_fail_with_explanation(folder, line):
    keys, uses_points = {word.partition("=")[0] for word in line}, "gaussian" in line[0]
    for key in TINY.keys() - keys - ({"data.image_size", "data.limit"} if uses_points else {"data.num"}):
        if not (key == "network.width" and "network" in keys) and not key.startswith("feature."):
            line = [*line, f"{key}={'null' if TINY[key] is None else TINY[key]}"]
    if "data=image_folder" in line:
        line = [*line, f"data.root={write_images(folder)}"]
    if "eval.num_generated" not in keys and not uses_points:
        line = [*line, "eval.num_generated=30", "feature.width=2", "feature.dim=4", "feature.epochs=1"]
    run = folder / "run"
    process = Process(run, *line, f"hydra.run.dir={run}", before=child_setup(folder))
    status = process.until(lambda: False, seconds=120)
    output = process.output()
    check_output(output, line)
    assert status in (0, 1, 2), (status, output)
    shutil.rmtree(run, ignore_errors=True)


def write_images(folder: Path) -> Path:
    """Write images of two classes, unless they exist; return their folder."""
    for i in range(6):
        path = folder / "images" / ("ab"[i % 2]) / f"{i}.png"
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (20, 17), (40 * i, 9, 200)).save(path)
    return folder / "images"


@pytest.fixture(scope="module")
def checkpoint(folder) -> Path:
    run = folder / "trained"
    words = "model=cgan", "data=gaussian_ring", "data.num=60", "network.width=4", "trainer=cpu", "trainer.max_steps=1"
    process = Process(run, *words, "eval.every_n_steps=null", f"hydra.run.dir={run}", before=child_setup(folder))
    assert not process.wait(), process.output()
    return run / "checkpoints" / "last.ckpt"


def run_cli(main: Callable[[], None], name: str, line: list[str]) -> None:
    """Run a command in this process; it must exit with status 0, 1 or 2 and print something."""
    output = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
        patch.setattr(sys, "argv", [name, *line])
        status: Any = 0
        try:
            main()
        except SystemExit as end:
            status = end.code
        assert status in (0, 1, 2)
    check_output(output.getvalue(), line)


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


def expand(word: str, checkpoint: Path) -> str:
    """Replace the placeholder of a path."""
    places = {"CHECKPOINT": checkpoint, "RUN": checkpoint.parent.parent, "FOLDER": checkpoint.parent.parent.parent}
    return str(places.get(word, word))


@settings(SETTINGS, max_examples=100)
@given(path=paths, args=st.lists(flags, max_size=3))
def test_gan_sample_accepts_or_explains_every_command_line(checkpoint, tmp_path_factory, path, args):
    with contextlib.chdir(tmp_path_factory.mktemp("place")):
        line = [expand(path, checkpoint), *(word for words in args for word in words)]
        run_cli(sample.main, "gan-sample", line)


SETTINGS_OF_SCORES = [key for key in KEYS if key.partition(".")[0] in ("eval", "feature", "metric", "data", "protocol")]
SIZES = ["eval.num_generated", "eval.num_real"]
evaluate_words = st.one_of(
    st.tuples(st.sampled_from(SETTINGS_OF_SCORES), values).map("=".join),
    st.tuples(st.sampled_from(SIZES), st.sampled_from(["2", "50", "9" * 12, "x"])).map("=".join),
    st.tuples(st.sampled_from(["metric", "feature", "protocol", "data"]), garbage).map("=".join),
    st.sampled_from([f"metric={name}" for name in (*OPTIONS["metric"], "[fid,modes]", "[]")]),
    st.sampled_from(
        ["feature=coordinates", "feature=classifier", "data=gaussian_grid", "data=digits", "protocol=points"]
    ),
    st.sampled_from(["which=best", "which=both", "which=x", "sort_by=fd", "sort_by=x", "allow=[weights]", "allow=x"]),
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
@given(found=st.lists(paths, min_size=1, max_size=2), args=st.lists(evaluate_words, max_size=3))
def test_gan_evaluate_accepts_or_explains_every_command_line(checkpoint, tmp_path_factory, found, args):
    with contextlib.chdir(tmp_path_factory.mktemp("place")):
        line = [*(expand(path, checkpoint) for path in found), "eval.num_generated=30", "eval.num_real=30", *args]
        run_cli(evaluate.main, "gan-evaluate", line)


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
explore_words = st.one_of(
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
@given(path=paths, args=st.lists(explore_words, max_size=3))
def test_gan_explore_accepts_or_explains_every_command_line(checkpoint, tmp_path_factory, path, args):
    with contextlib.chdir(tmp_path_factory.mktemp("place")):
        run_cli(explore.main, "gan-explore", [expand(path, checkpoint), *args])


export_words = st.one_of(
    st.tuples(st.just("--license"), st.sampled_from(["mit", "cc-by-4.0", "", "my own", "a\nb", LONG])),
    st.tuples(st.just("--out"), st.sampled_from(["a", "deep/a", "/proc/a", "", ".", "-"])),
    st.tuples(st.just("--push"), st.sampled_from(["me", "", "a/b/c", "../..", "-/-"])),
    st.tuples(st.sampled_from(["--trust-checkpoint", "--help", "--nothing", "--no-onnx"])),
    st.tuples(garbage),
)


@SETTINGS
@given(path=paths, args=st.lists(export_words, max_size=3))
def test_gan_export_accepts_or_explains_every_command_line(checkpoint, tmp_path_factory, path, args):
    with contextlib.chdir(tmp_path_factory.mktemp("place")):
        line = [expand(path, checkpoint), "--no-onnx", *(word for words in args for word in words)]
        run_cli(export.main, "gan-export", line)


report_words = st.one_of(
    st.tuples(st.just("--out"), st.sampled_from(["a.html", "deep/a.htm", "/proc/a.html", "", ".", "a.pdf"])),
    st.tuples(st.just("--sort-by"), st.sampled_from(["fd", "kd", "", "x"])),
    st.tuples(st.sampled_from(["--help", "--nothing"])),
    st.tuples(garbage),
)


@SETTINGS
@given(path=paths, args=st.lists(report_words, max_size=3))
def test_gan_report_accepts_or_explains_every_command_line(checkpoint, tmp_path_factory, path, args):
    with contextlib.chdir(tmp_path_factory.mktemp("place")):
        run_cli(report.main, "gan-report", [expand(path, checkpoint), *(word for words in args for word in words)])


@SETTINGS
@given(args=st.lists(st.one_of(garbage, assignments), max_size=3))
def test_live_training_accepts_or_explains_every_setting(args):
    with contextlib.suppress(UserError):
        assert "discriminator" in compose_config(["model=vanilla", "data=gaussian_ring", *args]).model
