"""What strangers send is data: nothing in it is run, nothing is written elsewhere, and one line says what is wrong."""

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

import hostile
import pytest
import torch
from faults import Process

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
seen: list[tuple[str, str]] | None = None


def note(event: str, args: tuple) -> None:
    """Python tells its audit hooks what a process does to the world."""
    if seen is None:
        return
    if event in RUNS | REACHES | WRITES:
        seen.append((event, str(args[0]) if args else ""))
    elif (
        event == "open" and isinstance(args[0], str | bytes) and (args[2] or 0) & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
    ):
        seen.append(("write", os.fsdecode(args[0])))


sys.addaudithook(note)


@contextmanager
def watched(*allowed: Path):
    """Nothing is run, and nothing written but below some folders."""
    global seen
    seen = []
    try:
        yield
    finally:
        done, seen = seen, None
        elsewhere = [target for event, target in done if event not in RUNS | REACHES and not is_below(target, allowed)]
        count["tries"] += 1
        count["executed"] += sum(event in RUNS for event, _ in done)
        count["written outside"] += len(elsewhere)
    for event, target in done:
        assert event not in RUNS, (event, target)
    assert not elsewhere


def is_below(target: str, allowed: tuple[Path, ...]) -> bool:
    below = any(Path(target).absolute().is_relative_to(folder) for folder in allowed)
    return below or target.startswith("/dev/")


@contextmanager
def bounded(num_bytes: int = 3 << 29, seconds: int = 60):
    """No more memory than that, and no wait without end."""

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


def refused(do: Callable[[], Any], folder: Path, *allowed: Path) -> str:
    """What is said, in one line that does nothing to a terminal."""
    since = time.monotonic()
    with watched(*allowed), pytest.raises((UserError, SystemExit)) as caught:
        do()
    assert time.monotonic() - since < 30
    assert not any(folder.rglob(hostile.CANARY)), "it was run"
    assert not (folder / "elsewhere").exists()
    return str(caught.value)


def one_line(text: str) -> None:
    assert text.isprintable(), repr(text)
    assert len(text) > 20
    assert "Traceback" not in text


@pytest.fixture(scope="module")
def good(tmp_path_factory) -> dict[str, Any]:
    """What an honest checkpoint holds."""
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
    """Where the user is, beside the folder of what was sent."""
    (tmp_path / "place").mkdir()
    (tmp_path / "sent").mkdir()
    monkeypatch.chdir(tmp_path / "place")
    return tmp_path / "place"


def gan_sample(path: Path) -> None:
    sample.sample(sample.build_parser().parse_args([str(path), "--num", "2"]))


def gan_train(path: Path) -> None:
    check_command_line([f"ckpt_path={path}", "trainer.max_steps=2"])


DOORS = {
    "gan_lightning.load": gan_lightning.load,
    "gan-sample": gan_sample,
    "gan-evaluate": lambda path: evaluate.evaluate([path], []),
    "gan-train": gan_train,
    "gan-export": lambda path: export.export(export.build_parser().parse_args([str(path), "--no-onnx"])),
    "gan-explore": lambda path: explore.explore(path, ["latent.steps=1"]),
}


@pytest.mark.parametrize("door", ["gan_lightning.load", "gan-train"])
@pytest.mark.parametrize("name", [*hostile.MALFORMED, *hostile.UNTRUSTED])
def test_checkpoints_of_another_form(good, place, name, door):
    maker, message = (hostile.MALFORMED | hostile.UNTRUSTED)[name]
    path = maker(place.parent / "sent", good)
    told = refused(lambda: DOORS[door](path), place.parent, place)
    one_line(told)
    assert told.startswith(f"{path}: ")
    assert message in told


def test_the_form_names_the_states_that_callbacks_of_ours_have(good):
    assert good["callbacks"].keys() == {name.removesuffix("?") for name in CALLBACKS}
    for name in ("fit_loop", "validate_loop"):
        assert good["loops"][name]
    assert good["loops"]["fit_loop"].keys() <= {name.removesuffix("?") for name in FIT_LOOP}


TOO_LARGE = [name for name in hostile.CHECKPOINTS if "_larger_than_" in name]


@pytest.mark.parametrize(
    ("name", "door"),
    [
        (name, door)
        for name in hostile.CHECKPOINTS
        for door in DOORS
        if not (name in TOO_LARGE and door == "gan-train")  # which looks at that when it builds the networks
    ],
)
def test_checkpoints(good, place, capsys, name, door):
    path = hostile.CHECKPOINTS[name](place.parent / "sent", good)
    told = refused(lambda: DOORS[door](path), place.parent, place)
    one_line(told)
    assert str(path) in told
    assert "root:x" not in told
    assert "\x1b" not in "".join(capsys.readouterr())
    assert not [*place.iterdir()]


@pytest.mark.parametrize("name", TOO_LARGE)
def test_checkpoints_too_large_to_go_on_from(good, place, name):
    path = hostile.CHECKPOINTS[name](place.parent / "sent", good)
    process = Process(place / "run", f"ckpt_path={path}", "trainer.max_steps=2", f"hydra.run.dir={place / 'run'}")
    assert process.wait() == 1, process.output()
    assert "Traceback" not in process.output()
    one_line(process.output().splitlines()[-1])


@pytest.mark.parametrize("name", hostile.GOING_ON)
def test_checkpoints_to_go_on_from(good, place, name):
    path = hostile.GOING_ON[name](place.parent / "sent", good)
    one_line(refused(lambda: gan_train(path), place.parent, place))
    if name.startswith("data"):
        one_line(refused(lambda: evaluate.evaluate([path], []), place.parent, place))


@pytest.mark.parametrize("name", hostile.MOMENTS)
def test_moments_of_another_form(good, place, name):
    """The run ends in a sentence before the first update, and neither the interpreter nor its memory suffers."""
    path = hostile.MOMENTS[name](place.parent / "sent", good)
    process = Process(place / "run", f"ckpt_path={path}", "trainer.max_steps=3", f"hydra.run.dir={place / 'run'}")
    status, output = process.wait(), process.output()
    count["tries"] += 1
    assert status in (1, 2), output
    assert "Traceback" not in output
    assert str(path) in output
    one_line(output.splitlines()[-1])


@pytest.mark.parametrize("name", hostile.FLAGS)
def test_flags_that_would_run_a_file(place, name):
    path = hostile.FLAGS[name](place.parent / "sent", {})
    flag = f"--{name.replace('_', '-')}"
    for words in ((flag, str(path)), (f"{flag}={path}",), (flag[:-2], str(path))):
        process = Process(place / "run", *words)
        status, output = process.wait(), process.output()
        count["tries"] += 1
        assert not any(place.parent.rglob(hostile.CANARY)), "it was run"
        assert status == 2, output
        assert "Traceback" not in output
        one_line(output.splitlines()[-1])


@pytest.mark.parametrize("word", hostile.SETTINGS)
def test_settings_of_the_page(place, word):
    one_line(refused(lambda: compose_config(["model=vanilla", "data=gaussian_ring", word]), place.parent))
    assert not [*place.iterdir()]


def test_what_looks_at_the_data_decodes_them_where_its_user_says(good, place):
    path = hostile.with_pictures(place.parent / "sent", good)
    told = refused(lambda: explore.explore(path, ["latent=nearest", f"cache={place / 'cache'}"]), place.parent, place)
    one_line(told)
    assert any((place / "cache").glob("images-*.uint8"))


@pytest.mark.parametrize("name", hostile.PICTURES)
def test_pictures(place, name):
    root = hostile.PICTURES[name](place.parent / "sent", {})
    told = refused(ImageFolder(root, 16).setup, place.parent)
    one_line(told)
    assert told.startswith("1 of 2 images cannot be read: ")


@pytest.mark.parametrize("name", hostile.DATA)
def test_data_sets(place, monkeypatch, name):
    root = hostile.DATA[name](place.parent / "sent", {})
    data = (CIFAR10 if name.startswith("cifar10") else MNIST)(str(root))
    told = refused(data.setup, place.parent, root)
    one_line(told)
    assert "its files are missing or damaged" in told


@pytest.mark.parametrize("name", hostile.WEIGHTS)
def test_weights_of_a_feature_network(place, name):
    path = hostile.WEIGHTS[name](place.parent / "sent", {})
    network = Inception(path)
    one_line(refused(lambda: network.setup(None, TensorCache(place), torch.device("cpu")), place.parent, place))


@pytest.mark.parametrize("name", hostile.SCORES)
def test_scores_of_another_evaluation(place, name):
    path = hostile.SCORES[name](place.parent / "sent", {})
    one_line(refused(lambda: evaluate.evaluate([path], []), place.parent, place))


@pytest.mark.parametrize("name", hostile.EVALUATIONS)
def test_evaluations_of_others(place, name):
    path = hostile.EVALUATIONS[name](place.parent / "sent", {})
    with bounded():
        told = refused(lambda: evaluate.evaluate([path], []), place.parent, place)
    one_line(told)
    assert str(path) in told or "the scores cannot be compared" in told


def gan_report(run: Path, place: Path) -> str:
    """What the terminal and the page say."""
    said = report.report(report.build_parser().parse_args([str(run), "--out", str(place / "report.html")]))
    page = html.unescape((place / "report.html").read_text())
    first, *rest = said.splitlines()
    assert first.startswith("1 run in ")
    assert len(rest) == page.count("<h2>Left out</h2>") <= 1
    for line in rest:
        one_line(line)
        assert line.startswith("left out: ")
    assert "at step" in page
    return said + page


READERS = {
    "gan-report": gan_report,
    "gan-report-of-several": lambda run, place: gan_report(run.parent, place),
    "gan-play": lambda run, _: ImagesTab.side_by_side(SimpleNamespace(runs=run.parent), "."),
    "gan-evaluate": lambda run, _: ended_early(run),
}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("name", hostile.DIRECTORIES)
def test_directories_of_runs(place, name, reader):
    run = hostile.DIRECTORIES[name](place.parent / "sent", {})
    with bounded(), watched(place):
        told = READERS[reader](run, place)
    assert "\x1b" not in told
    assert hostile.SECRET not in told
    assert not any(hostile.CANARY in files for *_, files in os.walk(place.parent))


LEFT_OUT = {  # files with what is said of them
    "pipes_in_the_place_of_files": [f"{file}: not a regular file" for file in hostile.OF_A_RUN],
    "directories_in_the_place_of_files": [f"{file}: not a regular file" for file in hostile.OF_A_RUN],
    "links_to_an_endless_device": [f"{file}: a link to a file outside" for file in hostile.OF_A_RUN],
    "links_to_a_secret": [f"{file}: a link to a file outside" for file in hostile.OF_A_RUN],
    "links_in_a_circle": ["config.yaml: Too many levels of symbolic links"],
    "link_to_a_directory_elsewhere": ["samples/step_00000002.png: a link to a file outside"],
    "sparse_files": [f"{file}: larger than" for file in hostile.OF_A_RUN],
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
    "scores_of_one_step_without_end": [],
    "a_log_of_warnings": ["train.log: 199,900 of 200,000 warnings"],
    "a_very_deep_directory": ["more than 12 levels below"],
}


@pytest.mark.parametrize("name", LEFT_OUT)
def test_what_is_left_out_of_a_report_is_said(place, name):
    run = hostile.DIRECTORIES[name](place.parent / "sent", {})
    with bounded():
        told = gan_report(run, place)
    for reason in LEFT_OUT[name]:
        assert reason in html.unescape(told.partition("</ul>")[0])


def test_names_in_scores_do_not_speak_to_the_terminal(place, capsys):
    path = hostile.scored(place.parent / "sent", metric=f"fid{hostile.ESCAPE}", notes=[hostile.ESCAPE])
    with watched(place):
        evaluate.evaluate([path], [])
    shown = "".join(capsys.readouterr())
    assert "\x1b" not in shown
    assert r"fid\x1b]0;owned" in shown


@pytest.mark.parametrize("name", hostile.CACHED)
def test_a_cache_that_somebody_has_written_to(place, name):
    path = hostile.CACHED[name](place, {})
    with watched(place):
        found = TensorCache(path.parent).get("statistics", lambda: {"mean": torch.ones(3)})
    assert found["mean"].tolist() == [1, 1, 1]
    assert not any(place.rglob(hostile.CANARY))


def test_there_are_many():
    kinds = hostile.CHECKPOINTS, hostile.GOING_ON, hostile.MOMENTS, hostile.FLAGS, hostile.PICTURES, hostile.DATA
    kinds += hostile.MALFORMED, hostile.UNTRUSTED
    kinds += hostile.WEIGHTS, hostile.SCORES, hostile.CACHED, hostile.DIRECTORIES, hostile.EVALUATIONS, hostile.SETTINGS
    assert sum(map(len, kinds)) >= 170
    print(f"{sum(map(len, kinds))} hostile inputs:", ", ".join(f"{number} {what}" for what, number in count.items()))
    assert (count["executed"], count["written outside"]) == (0, 0)
