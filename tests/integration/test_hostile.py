"""Untrusted files: no code in them runs, no file is written elsewhere, and a one-line error names the problem."""

import html
import os
import resource
import signal
import sys
import time
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.error import URLError

import hostile
import pytest
import torch
from fault_injection import Process

import gan_lightning
from gan_lightning.cli import evaluate, explore, export, report, sample
from gan_lightning.cli.evaluate_checkpoint import ended_early
from gan_lightning.data.cifar10 import CIFAR10
from gan_lightning.data.image_folder import ImageFolder
from gan_lightning.data.mnist import MNIST
from gan_lightning.demo.images_tab import ImagesTab
from gan_lightning.demo.live_training import compose_config
from gan_lightning.errors import UserError
from gan_lightning.feature.inception import Inception
from gan_lightning.io.cache import TensorCache
from gan_lightning.run.checkpoint import read
from gan_lightning.run.checkpoint_format import CALLBACKS, FIT_LOOP
from gan_lightning.run.command_line import check_command_line

RUNS = {"os.system", "os.exec", "os.posix_spawn", "subprocess.Popen", "os.fork"}
REACHES = {"urllib.Request", "socket.connect", "socket.getaddrinfo"}
WRITES = {"os.remove", "os.rename", "os.mkdir", "os.link", "os.symlink", "os.chmod", "shutil.rmtree"}
TO_WRITE = os.O_WRONLY | os.O_RDWR | os.O_CREAT
count = {"tries": 0, "executed": 0, "written outside": 0}
recorded: list[tuple[str, str]] | None = None


def record_event(event: str, args: tuple) -> None:
    """Audit hook of Python: record started processes, network access and writes."""
    if recorded is None:
        return
    if event in RUNS | REACHES | WRITES:
        recorded.append((event, str(args[0]) if args else ""))
    elif (
        event == "open" and isinstance(args[0], str | bytes) and (args[2] or 0) & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
    ):
        recorded.append(("write", os.fsdecode(args[0])))


sys.addaudithook(record_event)


@contextmanager
def no_side_effects(*allowed: Path):
    """Assert that no process is started, no network used, and no file written outside the allowed folders."""
    global recorded
    recorded = []
    try:
        yield
    finally:
        done, recorded = recorded, None
        elsewhere = [target for event, target in done if event not in RUNS | REACHES and not is_below(target, allowed)]
        count["tries"] += 1
        count["executed"] += sum(event in RUNS for event, _ in done)
        count["written outside"] += len(elsewhere)
    for event, target in done:
        assert event not in RUNS | REACHES, (event, target)
    assert not elsewhere


def is_below(target: str, allowed: tuple[Path, ...]) -> bool:
    below = any(Path(target).absolute().is_relative_to(folder) for folder in allowed)
    return below or target.startswith("/dev/")


@contextmanager
def bounded(num_bytes: int = 3 << 29, seconds: int = 60):
    """Limit the additional memory and the time."""

    def stop(*_: Any) -> None:
        raise TimeoutError(f"{seconds} s")

    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    limits, before = resource.getrlimit(resource.RLIMIT_AS), signal.signal(signal.SIGALRM, stop)
    resource.setrlimit(resource.RLIMIT_AS, (used + num_bytes, limits[1]))
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
        resource.setrlimit(resource.RLIMIT_AS, limits)


def error_of(call: Callable[[], Any], folder: Path, *allowed: Path) -> str:
    """Call a function that must raise an error; return the error message."""
    since = time.monotonic()
    with no_side_effects(*allowed), pytest.raises((UserError, SystemExit)) as caught:
        call()
    assert time.monotonic() - since < 30
    assert not any(folder.rglob(hostile.CANARY)), "the payload has run"
    assert not (folder / "elsewhere").exists()
    return str(caught.value)


def check_line(text: str) -> None:
    assert text.isprintable(), repr(text)
    assert len(text) > 20
    assert "Traceback" not in text


@pytest.fixture(scope="module")
def good(tmp_path_factory) -> dict[str, Any]:
    """Content of a valid checkpoint."""
    folder = tmp_path_factory.mktemp("good")
    words = (
        "model=vanilla",
        "data=gaussian_ring",
        "data.num=50",
        "network.width=4",
        "trainer=cpu",
        "trainer.max_steps=1",
    )
    process = Process(folder / "run", *words, "eval.every_n_steps=null", f"hydra.run.dir={folder / 'run'}")
    assert not process.wait(), process.output()
    return read(folder / "run" / "checkpoints" / "last.ckpt")


@pytest.fixture
def place(tmp_path, monkeypatch) -> Path:
    """Change to the user's working directory; the untrusted files are in a directory beside it."""
    (tmp_path / "place").mkdir()
    (tmp_path / "sent").mkdir()
    monkeypatch.chdir(tmp_path / "place")
    return tmp_path / "place"


def gan_sample(path: Path) -> None:
    sample.sample(sample.build_parser().parse_args([str(path), "--num", "2"]))


def gan_train(path: Path) -> None:
    check_command_line([f"ckpt_path={path}", "trainer.max_steps=2"])


COMMANDS = {
    "gan_lightning.load": gan_lightning.load,
    "gan-sample": gan_sample,
    "gan-evaluate": lambda path: evaluate.evaluate([path], []),
    "gan-train": gan_train,
    "gan-export": lambda path: export.export(export.build_parser().parse_args([str(path), "--no-onnx"])),
    "gan-explore": lambda path: explore.explore(path, ["latent.steps=1"]),
}


@pytest.mark.parametrize("command", ["gan_lightning.load", "gan-train"])
@pytest.mark.parametrize("name", [*hostile.MALFORMED, *hostile.UNTRUSTED])
def test_malformed_checkpoints_are_rejected_with_key(good, place, name, command):
    maker, message = (hostile.MALFORMED | hostile.UNTRUSTED)[name]
    path = maker(place.parent / "sent", good)
    error = error_of(lambda: COMMANDS[command](path), place.parent, place)
    check_line(error)
    assert error.startswith(f"{path}: ")
    assert message in error


def test_checkpoint_format_lists_callbacks_and_loops_of_real_checkpoint(good):
    assert good["callbacks"].keys() == {name.removesuffix("?") for name in CALLBACKS}
    for name in ("fit_loop", "validate_loop"):
        assert good["loops"][name]
    assert good["loops"]["fit_loop"].keys() <= {name.removesuffix("?") for name in FIT_LOOP}


TOO_LARGE = [name for name in hostile.CHECKPOINTS if "_larger_than_" in name]


@pytest.mark.parametrize(
    ("name", "command"),
    [
        (name, command)
        for name in hostile.CHECKPOINTS
        for command in COMMANDS
        if not (name in TOO_LARGE and command == "gan-train")  # which checks sizes when it builds the networks
    ],
)
def test_hostile_checkpoints_are_rejected_by_every_command(good, place, capsys, name, command):
    path = hostile.CHECKPOINTS[name](place.parent / "sent", good)
    error = error_of(lambda: COMMANDS[command](path), place.parent, place)
    check_line(error)
    assert str(path) in error
    assert "root:x" not in error
    assert "\x1b" not in "".join(capsys.readouterr())
    assert not [*place.iterdir()]


@pytest.mark.parametrize("name", TOO_LARGE)
def test_oversized_checkpoints_are_rejected_on_resume(good, place, name):
    path = hostile.CHECKPOINTS[name](place.parent / "sent", good)
    process = Process(place / "run", f"ckpt_path={path}", "trainer.max_steps=2", f"hydra.run.dir={place / 'run'}")
    assert process.wait() == 1, process.output()
    assert "Traceback" not in process.output()
    check_line(process.output().splitlines()[-1])


@pytest.mark.parametrize("name", hostile.ON_RESUME)
def test_checkpoints_that_write_elsewhere_are_rejected_on_resume(good, place, name):
    path = hostile.ON_RESUME[name](place.parent / "sent", good)
    check_line(error_of(lambda: gan_train(path), place.parent, place))
    if name.startswith("data"):
        check_line(error_of(lambda: evaluate.evaluate([path], []), place.parent, place))


@pytest.mark.parametrize("name", hostile.MOMENTS)
def test_malformed_optimizer_states_are_rejected(good, place, name):
    """The run ends with one line before the first update, without a crash or corrupted memory in fused optimizers."""
    path = hostile.MOMENTS[name](place.parent / "sent", good)
    process = Process(place / "run", f"ckpt_path={path}", "trainer.max_steps=3", f"hydra.run.dir={place / 'run'}")
    status, output = process.wait(), process.output()
    count["tries"] += 1
    assert status in (1, 2), output
    assert "Traceback" not in output
    assert str(path) in output
    check_line(output.splitlines()[-1])


@pytest.mark.parametrize("name", hostile.FLAGS)
def test_hydra_flags_that_unpickle_files_are_rejected(place, name):
    path = hostile.FLAGS[name](place.parent / "sent", {})
    flag = f"--{name.replace('_', '-')}"
    for words in ((flag, str(path)), (f"{flag}={path}",), (flag[:-2], str(path))):
        process = Process(place / "run", *words)
        status, output = process.wait(), process.output()
        count["tries"] += 1
        assert not any(place.parent.rglob(hostile.CANARY)), "the payload has run"
        assert status == 2, output
        assert "Traceback" not in output
        check_line(output.splitlines()[-1])


@pytest.mark.parametrize("word", hostile.SETTINGS)
def test_hostile_settings_of_demo_are_rejected(place, word):
    check_line(error_of(lambda: compose_config(["model=vanilla", "data=gaussian_ring", word]), place.parent))
    assert not [*place.iterdir()]


def test_image_cache_is_written_to_path_of_user_not_of_checkpoint(good, place):
    path = hostile.with_image_folder(place.parent / "sent", good)
    error = error_of(lambda: explore.explore(path, ["latent=nearest", f"cache={place / 'cache'}"]), place.parent, place)
    check_line(error)
    assert any((place / "cache").glob("images-*.uint8"))


@pytest.mark.parametrize("name", hostile.IMAGES)
def test_hostile_images_are_rejected(place, name):
    root = hostile.IMAGES[name](place.parent / "sent", {})
    error = error_of(ImageFolder(root, 16).setup, place.parent)
    check_line(error)
    assert error.startswith("1 of 2 images cannot be read: ")


@pytest.mark.parametrize("name", hostile.ARCHIVES)
def test_hostile_archives_are_rejected(place, name):
    path = hostile.ARCHIVES[name](place.parent / "sent", {})
    with bounded():
        error = error_of(ImageFolder(path, 16, cache=place / "cache").setup, place.parent, place)
    check_line(error)
    assert str(path) in error
    assert "root:x" not in error
    assert [
        file for file in place.rglob("*") if file.is_file() and file.suffix not in (".lock", ".json", ".uint8")
    ] == []


@pytest.mark.parametrize("name", hostile.DATA)
def test_hostile_data_sets_are_rejected(place, monkeypatch, name):
    def offline(*_: object, **__: object) -> None:
        raise URLError("no network")

    monkeypatch.setattr("urllib.request.urlopen", offline)
    root = hostile.DATA[name](place.parent / "sent", {})
    data = (CIFAR10 if name.startswith("cifar10") else MNIST)(str(root))
    error = error_of(data.setup, place.parent, root)
    check_line(error)
    assert "its files are missing or damaged" in error


@pytest.mark.parametrize("name", hostile.WEIGHTS)
def test_hostile_feature_network_weights_are_rejected(place, name):
    path = hostile.WEIGHTS[name](place.parent / "sent", {})
    network = Inception(path)
    check_line(error_of(lambda: network.setup(None, TensorCache(place), torch.device("cpu")), place.parent, place))


@pytest.mark.parametrize("name", hostile.SCORES)
def test_malformed_score_files_are_rejected(place, name):
    path = hostile.SCORES[name](place.parent / "sent", {})
    check_line(error_of(lambda: evaluate.evaluate([path], []), place.parent, place))


@pytest.mark.parametrize("name", hostile.EVALUATIONS)
def test_oversized_score_files_are_rejected_within_limits(place, name):
    path = hostile.EVALUATIONS[name](place.parent / "sent", {})
    with bounded():
        error = error_of(lambda: evaluate.evaluate([path], []), place.parent, place)
    check_line(error)
    assert str(path) in error or "the scores cannot be compared" in error


def gan_report(run: Path, place: Path) -> str:
    """Return the output of gan-report and the text of its page."""
    output = report.report(report.build_parser().parse_args([str(run), "--out", str(place / "report.html")]))
    page = html.unescape((place / "report.html").read_text())
    first, *rest = output.splitlines()
    assert first.startswith("1 run in ")
    assert len(rest) == page.count("<h2>Left out</h2>") <= 1
    for line in rest:
        check_line(line)
        assert line.startswith("left out: ")
    assert "at step" in page
    return output + page


READERS = {
    "gan-report": gan_report,
    "gan-report-of-several": lambda run, place: gan_report(run.parent, place),
    "gan-play": lambda run, _: ImagesTab.side_by_side(SimpleNamespace(runs=run.parent), "."),
    "gan-evaluate": lambda run, _: ended_early(run),
}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("name", hostile.DIRECTORIES)
def test_hostile_run_directories_are_read_within_limits(place, name, reader):
    run = hostile.DIRECTORIES[name](place.parent / "sent", {})
    with bounded(), no_side_effects(place):
        output = READERS[reader](run, place)
    assert "\x1b" not in output
    assert hostile.SECRET not in output
    assert not any(hostile.CANARY in files for *_, files in os.walk(place.parent))


LEFT_OUT = {  # expected lines of the report by input
    "pipes_instead_of_files": [f"{file}: not a regular file" for file in hostile.RUN_FILES],
    "directories_instead_of_files": [f"{file}: not a regular file" for file in hostile.RUN_FILES],
    "links_to_an_endless_device": [f"{file}: a link to a file outside" for file in hostile.RUN_FILES],
    "links_to_a_secret": [f"{file}: a link to a file outside" for file in hostile.RUN_FILES],
    "circular_links": ["config.yaml: Too many levels of symbolic links"],
    "link_to_a_directory_elsewhere": ["samples/step_00000002.png: a link to a file outside"],
    "sparse_files": [f"{file}: larger than" for file in hostile.RUN_FILES],
    "image_of_very_many_pixels": ["samples/timeline.png: 30,000 by 30,000 pixels"],
    "image_without_a_header": ["samples/timeline.png: not a PNG file"],
    **{
        f"config_with_{name}": ["config.yaml: not a valid configuration ("]
        for name in hostile.CONFIGS
        if name != "a_list"
    },
    "config_with_integer_of_very_many_digits": ["config.yaml: not a valid configuration (a number of 100,002 digits)"],
    "config_with_tags": ["config.yaml: not a valid configuration (has tags)"],
    "config_with_aliases": ["config.yaml: not a valid configuration (has aliases)"],
    "metrics_with_overflowing_values": ["metrics.csv: 200,000 values of more than 1e+30"],
    "metrics_with_very_many_lines": ["metrics.csv: lines after the first 250,000"],
    "metrics_with_one_line": ["metrics.csv: 1 damaged lines"],
    "scores_with_huge_numbers": ["evaluation.jsonl: 4 lines that are not scores"],
    "scores_with_thousands_of_metrics": [],
    "log_with_thousands_of_warnings": ["train.log: 199,900 of 200,000 warnings"],
    "deeply_nested_directory": ["more than 12 levels below"],
}


@pytest.mark.parametrize("name", LEFT_OUT)
def test_report_lists_files_that_it_leaves_out(place, name):
    run = hostile.DIRECTORIES[name](place.parent / "sent", {})
    with bounded():
        output = gan_report(run, place)
    for reason in LEFT_OUT[name]:
        assert reason in html.unescape(output.partition("</ul>")[0])


def test_escape_sequences_in_scores_are_not_printed(place, capsys):
    path = hostile.scored(place.parent / "sent", metric=f"fid{hostile.ESCAPE}", notes=[hostile.ESCAPE])
    with no_side_effects(place):
        evaluate.evaluate([path], [])
    shown = "".join(capsys.readouterr())
    assert "\x1b" not in shown
    assert r"fid\x1b]0;owned" in shown


@pytest.mark.parametrize("name", hostile.CACHED)
def test_tampered_cache_entries_are_recomputed(place, name):
    path = hostile.CACHED[name](place, {})
    with no_side_effects(place):
        found = TensorCache(path.parent).get("statistics", lambda: {"mean": torch.ones(3)})
    assert found["mean"].tolist() == [1, 1, 1]
    assert not any(place.rglob(hostile.CANARY))


def test_number_of_hostile_inputs_and_no_execution():
    kinds = hostile.CHECKPOINTS, hostile.ON_RESUME, hostile.MOMENTS, hostile.FLAGS, hostile.IMAGES, hostile.DATA
    kinds += hostile.MALFORMED, hostile.UNTRUSTED, hostile.ARCHIVES
    kinds += hostile.WEIGHTS, hostile.SCORES, hostile.CACHED, hostile.DIRECTORIES, hostile.EVALUATIONS, hostile.SETTINGS
    assert sum(map(len, kinds)) >= 170
    print(f"{sum(map(len, kinds))} hostile inputs:", ", ".join(f"{num} {outcome}" for outcome, num in count.items()))
    assert (count["executed"], count["written outside"]) == (0, 0)
