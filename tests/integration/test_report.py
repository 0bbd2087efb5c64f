"""gan-report: one HTML file for a run or a sweep, including damaged and untrusted run directories."""

import itertools
import json
import os
import re
import shutil
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
from omegaconf import OmegaConf
from processes import ENDED

from gan_lightning.cli import report as program
from gan_lightning.errors import UserError
from gan_lightning.io import files
from gan_lightning.io.plot import curves
from gan_lightning.report import run_record
from gan_lightning.run.run_dir import files_named, find_runs

QUICK = (
    "eval.every_n_steps=1",
    "eval.num_generated=40",
    "eval.num_real=20",
    "metric.kid.subsets=5",
    "~callbacks.progress",
)


def change_config(folder: Path, **changes: object) -> None:
    """Change values in the configuration of a run."""
    config = OmegaConf.load(folder / "config.yaml")
    for key, value in changes.items():
        OmegaConf.update(config, key, value)
    OmegaConf.save(config, folder / "config.yaml")


def gan_report(*arguments: object) -> str:
    return program.report(program.build_parser().parse_args([*map(str, arguments)]))


class Page(HTMLParser):
    """Parsed HTML: the tags with their attributes, and the text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text += data


def page(path: Path) -> Page:
    return Page(path.read_text())


def test_report_of_every_model_has_scores_and_images(run, tmp_path, learner):
    run(tmp_path / "one", f"model={learner}", "callbacks.metric_logger.every_n_steps=1", *QUICK)
    assert gan_report(tmp_path / "one", "--out", tmp_path / "r.html").startswith("1 run in ")
    html = page(tmp_path / "r.html")
    images = [attributes["src"] for tag, attributes in html.tags if tag == "img"]
    assert len(images) == 3, "expected timeline, samples and curves"
    assert all(source.startswith("data:image/png;base64,") for source in images)
    lines = [json.loads(line) for line in (tmp_path / "one" / "evaluation.jsonl").read_text().splitlines()]
    for line in lines:
        assert line["card_hash"] in html.text
    fids = [line["value"] for line in lines if line["metric"] == "fd"]
    for value, step in zip((min(fids), max(fids)), (fids.index(min(fids)) + 1, fids.index(max(fids)) + 1), strict=True):
        assert f"{value:.4g} at {step}" in html.text
    assert "max_steps: 2" in html.text, "the configuration is missing"


def test_class_names_are_listed(tmp_path):
    (tmp_path / "config.yaml").touch()
    result = {"status": "finished", "class_names": ["cats", "<b>dogs</b>", "\x1b[2J", 7]}
    (tmp_path / "result.json").write_text(json.dumps(result))
    gan_report(tmp_path, "--out", tmp_path / "r.html")
    assert "0 cats, 1 <b>dogs</b>, 2 \\x1b[2J, 3 7" in page(tmp_path / "r.html").text
    for wrong in ("cats", {"a": 1}, None):
        (tmp_path / "result.json").write_text(json.dumps(result | {"class_names": wrong}))
        gan_report(tmp_path, "--out", tmp_path / "r.html")
        assert "classes" not in page(tmp_path / "r.html").text


def test_damaged_lines_of_metrics_are_skipped(tmp_path):
    damaged = ['"2,0.2', "3,0\0.3", "4,x", "5", "6,1,1", "7," + "1" * 10**6, "", "-8,1", "1" * 16 + ",1"]
    lines = ["step,d/adversarial", "1,0.5", *damaged, "9,", "10,nan", "11,0.25", "12,0.1"]
    (tmp_path / "metrics.csv").write_bytes("\r\n".join(lines).encode())
    reader = run_record.Reader(tmp_path)
    steps, columns = reader.columns(tmp_path / "metrics.csv")
    assert steps == [1, 9, 10, 11], "the last line may be incomplete, so it is ignored"
    assert [f"{value:g}" for value in columns["d/adversarial"]] == ["0.5", "nan", "nan", "0.25"]
    assert reader.omitted == ["metrics.csv: 9 damaged lines"]


def test_curves_are_plotted_once(trained, tmp_path, monkeypatch):
    trained(tmp_path / "one", "model=vanilla", *QUICK)
    drawn = []
    monkeypatch.setattr(run_record, "curves", lambda panels, columns: drawn.append(panels) or curves(panels, columns))
    gan_report(tmp_path / "one", "--out", tmp_path / "r.html")
    assert len(drawn) == 1


def test_report_has_no_scripts_or_external_resources(trained, tmp_path):
    trained(tmp_path / "one", "model=vanilla", *QUICK)
    gan_report(tmp_path / "one", "--out", tmp_path / "r.html")
    text = (tmp_path / "r.html").read_text()
    assert "default-src 'none'" in text
    assert not {"script", "link", "iframe", "object"} & {tag for tag, _ in page(tmp_path / "r.html").tags}
    assert not re.search(r"""(src|href)=["'](?!data:)""", text)


def test_sweep_is_ranked_over_seeds(trained, tmp_path):
    for model in ("vanilla", "dcgan"):
        for seed in (0, 1):
            folder = tmp_path / "sweep" / f"{model},{seed}"
            trained(folder, f"model={model}", *QUICK)
            change_config(folder, seed=seed, **{"data.root": f"{tmp_path}/{seed}"})
    assert gan_report(tmp_path / "sweep", "--out", tmp_path / "r.html", "--sort-by", "kd").startswith("4 runs in ")
    html = page(tmp_path / "r.html")
    ranked = html.text.partition("Ranked")[2].partition("Side by side")[0]
    assert ranked.count("vanilla") == ranked.count("dcgan") == 1
    assert ranked.count("best") == 2, "expected in the column name and in one row"
    assert "By kd" in ranked
    assert sum(tag == "figure" for tag, _ in html.tags) == 4


def test_killed_runs_are_ranked_by_their_configuration(trained, tmp_path):
    """Without a result.json, seeds of equal settings are grouped and other settings are separate."""
    for lr in (0.0001, 0.01):
        for seed in (0, 1):
            folder = tmp_path / "sweep" / f"{lr},{seed}"
            trained(folder, "model=vanilla", *QUICK)
            change_config(folder, seed=seed, **{"model.generator_optimizer.lr": lr})
    (tmp_path / "sweep/0.0001,0/result.json").write_text('{"status": "finished", "overrides": ["ckpt_path=last"]}')
    gan_report(tmp_path / "sweep", "--out", tmp_path / "r.html")
    ranked = page(tmp_path / "r.html").text.partition("Ranked")[2].partition("Side by side")[0]
    for lr in ("0.0001", "0.01"):
        assert ranked.count(f"vanilla model.generator_optimizer.lr={lr}") == 1
    assert "(one seed)" not in ranked


def test_name_that_is_not_utf8_is_escaped(trained, tmp_path):
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9"))
    trained(tmp_path / "made" / "one", "model=vanilla", *QUICK)
    (tmp_path / "made").rename(folder)
    line = json.loads((folder / "one" / "evaluation.jsonl").read_text().splitlines()[-1])
    with (folder / "one" / "evaluation.jsonl").open("a") as file:
        for value, metric in ((1e308, "fd"), (-1e308, "fd"), (float("inf"), "fd"), (1.0, "m\ud800")):
            file.write(json.dumps(line | {"value": value, "metric": metric, "step": 2**53 - 1}) + "\n")
    gan_report(folder, "--out", tmp_path / "r.html")
    assert "caf\\udce9" in (tmp_path / "r.html").read_text()


def test_recursive_configuration_is_ignored(trained, tmp_path):
    trained(tmp_path / "one", "model=vanilla", *QUICK)
    bomb = "a0: &a0 {x: 1}\n" + "".join(f"a{i}: &a{i} {{x: *a{i - 1}, y: *a{i - 1}}}\n" for i in range(1, 60))
    for content in (bomb, "model: &a {b: *a}"):
        (tmp_path / "one" / "config.yaml").write_text(content)
        gan_report(tmp_path / "one", "--out", tmp_path / "r.html")
        assert "unknown on unknown" in page(tmp_path / "r.html").text


def test_scores_of_different_protocols_are_not_ranked(trained, run, tmp_path):
    trained(tmp_path / "runs/a", "model=vanilla", *QUICK)
    run(tmp_path / "runs/b", "model=vanilla", *QUICK, "eval.num_generated=30")
    gan_report(tmp_path / "runs", "--out", tmp_path / "r.html")
    html = page(tmp_path / "r.html")
    assert "Ranked" not in html.text
    assert "num_generated: 40 (a) / 30 (b)" in html.text


def test_each_data_set_has_own_ranking(run, tmp_path):
    """The command of the README, for runs on several data sets."""
    for name, overrides in {
        "p0": ("model=vanilla", "data=gaussian_ring"),
        "p1": ("model=wgan", "data=gaussian_ring"),
        "a": ("model=vanilla", "metric.kid.subsets=5", "eval.num_generated=40"),
        "b": ("model=vanilla", "metric.kid.subsets=5", "eval.num_generated=30"),
    }.items():
        run(tmp_path / "runs" / name, *overrides, "eval.every_n_steps=2", "eval.num_real=20", "~callbacks.progress")
    gan_report(tmp_path / "runs", "--out", tmp_path / "r.html", "--sort-by", "modes")
    text = page(tmp_path / "r.html").text
    points = text.partition("Ranked: GaussianRing")[2].partition("Side by side")[0]
    assert points.count("vanilla") == points.count("wgan") == 1
    assert "By modes" in points
    assert text.count("Ranked") == 1
    assert "num_generated: 40 (a) / 30 (b)" in text.partition("Scores: ")[2]


def test_resumed_run_that_was_killed_is_not_finished(trained, run, tmp_path):
    trained(tmp_path / "one", "model=vanilla", *QUICK)
    (tmp_path / "one" / "result.json").write_text('{"status": "finished", "step": 2}')
    last = tmp_path / "one" / "checkpoints" / "last.ckpt"
    run(tmp_path / "one", "model=vanilla", "trainer.max_steps=6", *QUICK, ckpt_path=last)
    (tmp_path / "one" / "samples" / "step_00000006.png").unlink()
    gan_report(tmp_path / "one", "--out", tmp_path / "r.html")
    text = page(tmp_path / "r.html").text
    assert "running, or killed at step 6" in text
    assert "Samples at step 5" in text


def test_samples_of_current_step_are_shown(trained, tmp_path):
    """A run resumed from an earlier step may still have samples of later steps."""
    trained(tmp_path, "model=vanilla", "trainer.max_steps=5", "callbacks.metric_logger.every_n_steps=1")
    shutil.copy(tmp_path / "samples" / "step_00000002.png", tmp_path / "samples" / "step_00000030.png")
    gan_report(tmp_path, "--out", tmp_path / "r.html")
    assert "Samples at step 5" in page(tmp_path / "r.html").text
    (tmp_path / "metrics.csv").unlink()
    gan_report(tmp_path, "--out", tmp_path / "r.html")
    assert "Samples at step 30" in page(tmp_path / "r.html").text, "without metrics.csv the step is unknown"


def test_markup_in_run_directory_is_escaped(trained, tmp_path):
    markup = "<img src=x onerror=alert(1)>"
    folder = tmp_path / "runs" / markup.replace("/", "")
    trained(folder, "model=vanilla", *QUICK)
    line = json.loads((folder / "evaluation.jsonl").read_text().splitlines()[-1])
    line["card"] |= {"data": markup, "feature": markup}
    (folder / "evaluation.jsonl").write_text(json.dumps(line | {"card_hash": markup}))
    (folder / "result.json").write_text(
        json.dumps({"status": markup, "error": markup, "notes": [markup, 3], "step": markup})
    )
    (folder / "train.log").write_text(f"2026 WARNING {markup}\n")
    (folder / "config.yaml").write_text(f"model: {{_target_: 'a.{markup}'}}\n")
    gan_report(tmp_path / "runs", "--out", tmp_path / "r.html")
    html = page(tmp_path / "r.html")
    assert html.text.count(markup) > 6
    assert not any("onerror" in attributes or attributes.get("src") == "x" for _, attributes in html.tags)


HUGE = b'{"step": 1, "metric": "fid", "value": %s, "card": {}, "card_hash": "a"}' % (b"1" + b"0" * 400)


@pytest.mark.parametrize(
    "content",
    [
        *(b"", b"\xff\xfe\x00", b"{", b"[" * 100_000, b"null", b"step,a\n1", b"a: [b", HUGE),
        *(b"step,a\n" + b"1" * 5000 + b",2", b"step,a\n1," + b"2" * 200_000),
    ],
    ids=lambda content: repr(content[:12]),
)
def test_report_of_invalid_files_is_written(tmp_path, content):
    names = "config.yaml", "result.json", "metrics.csv", "evaluation.jsonl", "train.log"
    (tmp_path / "run" / "samples").mkdir(parents=True)
    for name in (*names, "samples/timeline.png", "samples/step_1.png"):
        (tmp_path / "run" / name).write_bytes(content)
    gan_report(tmp_path / "run", "--out", tmp_path / "r.html")
    assert "at step" in page(tmp_path / "r.html").text


def test_files_of_killed_report_are_removed(trained, tmp_path):
    trained(tmp_path / "one", "model=vanilla", *QUICK)
    stale, others = tmp_path / f".r.html.{ENDED}.part", tmp_path / f".r.html.{os.getppid()}.part"
    for path in (stale, others, tmp_path / ".r.html.x.part", tmp_path / f".s.html.{ENDED}.part"):
        path.write_text("<html>")
    gan_report(tmp_path / "one", "--out", tmp_path / "r.html")
    assert not stale.exists()
    assert others.exists(), "the file of a running process was removed"
    assert len([*tmp_path.glob(".*.part")]) == 3


def test_number_of_runs_in_report_is_limited(run, tmp_path, monkeypatch):
    for name in "abc":
        (tmp_path / "runs" / name).mkdir(parents=True)
        (tmp_path / "runs" / name / "config.yaml").write_text("seed: 0")
    monkeypatch.setattr(program, "MAX_RUNS", 2)
    output = gan_report(tmp_path / "runs", "--out", tmp_path / "r.html")
    limit = "1 of 3 runs: a report is limited to 2 runs and 268 MB; pass a folder with fewer runs"
    assert output.splitlines()[1] == f"left out: {limit}"
    assert limit in page(tmp_path / "r.html").text
    monkeypatch.setattr(program, "MAX_BYTES", 0)
    assert "2 of 3 runs" in gan_report(tmp_path / "runs", "--out", tmp_path / "r.html")


@pytest.mark.parametrize("length", [0, 1, 2, 4999, 5000, 5001, 9999, 10_001, 250_000])
def test_long_curves_are_thinned_and_keep_last_value(length):
    values = [*range(length)]
    thinned = run_record.thinned(values)
    assert len(thinned) <= run_record.MAX_POINTS
    assert thinned[-1:] == values[-1:]
    if length <= run_record.MAX_POINTS:
        assert thinned == values
    assert len({b - a for a, b in itertools.pairwise(thinned)}) <= 1


def test_search_for_runs_is_bounded_and_ignores_links(tmp_path, monkeypatch, caplog):
    for name in ("a", "b/c", "b/d"):
        (tmp_path / "runs" / name).mkdir(parents=True)
        (tmp_path / "runs" / name / "config.yaml").touch()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "config.yaml").touch()
    (tmp_path / "runs" / "link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "runs" / "b" / "loop").symlink_to(tmp_path / "runs")
    root = tmp_path / "runs"
    assert find_runs(root) == [root / "a", root / "b/c", root / "b/d"]
    assert not caplog.messages
    monkeypatch.setattr(files, "MAX_DEPTH", 1)
    assert find_runs(root) == [root / "a"]
    assert caplog.messages == [f"{root / 'b'}: more than 1 levels below {root}; deeper directories were not searched"]
    monkeypatch.setattr(files, "MAX_ENTRIES", 3)
    assert len(find_runs(root)) <= 1
    assert caplog.messages[-1] == f"{root}: more than 3 files; the rest was not searched"


def test_runs_are_in_natural_order(tmp_path):
    for number in (10, 9, 2):
        (tmp_path / f"seed={number}" / "checkpoints").mkdir(parents=True)
        (tmp_path / f"seed={number}" / "config.yaml").touch()
        (tmp_path / f"seed={number}" / "checkpoints" / "last.ckpt").touch()
    runs = [tmp_path / f"seed={number}" for number in (2, 9, 10)]
    assert find_runs(tmp_path) == runs
    assert files_named(tmp_path, "last.ckpt") == [run / "checkpoints" / "last.ckpt" for run in runs]


def test_invalid_arguments_are_reported(trained, tmp_path, monkeypatch):
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError) as caught:
        gan_report(tmp_path / "nowhere", "--out", "report.pdf")
    assert [error.partition(": ")[2] for error in caught.value.errors] == [
        "must end in .html",
        "there is no such folder",
    ]
    with pytest.raises(UserError, match=r"contains no run; a run directory has a config\.yaml"):
        gan_report(tmp_path / "empty")
    trained(tmp_path / "one", "model=vanilla", *QUICK)
    with pytest.raises(UserError, match=r"--sort-by fdd: was not measured \(did you mean fd\?\); there are fd, kd"):
        gan_report(tmp_path / "one", "--sort-by", "fdd")
    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(UserError, match=r"pip install 'gan-lightning\[report\]'"):
        gan_report(tmp_path / "one")
