"""gan-evaluate end to end: checkpoints, sweeps, image folders, files of scores, and invalid input."""

import csv
import importlib
import json
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest
import torch
from omegaconf import OmegaConf
from PIL import Image

from gan_lightning.callbacks.evaluate import Evaluate
from gan_lightning.cli import evaluate as program
from gan_lightning.cli import evaluate_checkpoint, evaluate_request
from gan_lightning.errors import UserError
from gan_lightning.feature.classifier import Classifier
from gan_lightning.run.checkpoint import read
from gan_lightning.run.run_dir import find_runs

QUICK = (
    "eval.every_n_steps=2",
    "eval.num_generated=40",
    "eval.num_real=20",
    "metric.kid.subsets=5",
    "trainer.max_steps=2",
)
SAMPLES = ["eval.num_generated=40", "eval.num_real=20"]


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def rows_of(folder, name="evaluation") -> list[dict]:
    return json.loads((folder / f"{name}.json").read_text())["rows"]


def scores_of(row) -> dict[str, float]:
    return {line["metric"]: line["value"] for line in row["scores"]}


@pytest.mark.parametrize("precision", ["64-true", "bf16-true"])
def test_checkpoint_is_evaluated_in_its_training_precision(run, here, precision):
    trainer = run(here / "one", "model=dcgan", f"trainer.precision={precision}", *QUICK)
    program.evaluate([here / "one"], [])
    trained = next(callback for callback in trainer.callbacks if isinstance(callback, Evaluate))
    assert {line["metric"]: (line["value"], line["card_hash"]) for line in rows_of(here)[0]["scores"]} == trained.last(
        2
    )


def test_scores_and_cards_equal_those_of_training(run, here, capsys):
    trainer = run(here / "one", "model=cgan", *QUICK)
    program.evaluate([here / "one" / "checkpoints" / "last.ckpt"], [])
    callback = next(c for c in trainer.callbacks if isinstance(c, Evaluate))
    (row,) = rows_of(here)
    assert {line["metric"]: (line["value"], line["card_hash"]) for line in row["scores"]} == callback.last(2)
    assert {line["card_hash"] for line in row["scores"]} == set(callback.cards)
    assert (row["seed"], row["step"]) == (0, 2)
    output = capsys.readouterr().out
    assert "experiment" in output
    assert "against the best" in output
    assert "% of the samples, " in output, "no histogram of the classes"
    assert "; accuracy " in output
    assert callback.curve[-1]["scores"]["fd"][1] in output, "no card hash in the table"
    assert "40 generated against 20 of Digits (train)" in output
    with (here / "evaluation.csv").open() as file:
        (line,) = csv.DictReader(file)
    assert float(line["fd"]) == pytest.approx(callback.last(2)["fd"][0])
    assert line["fd card"] == callback.curve[-1]["scores"]["fd"][1]


def test_runs_of_folder_are_grouped_over_seeds(trained, here, capsys):
    for model in ("vanilla", "dcgan"):
        for seed in (0, 1):
            trained(here / "sweep" / f"{model}{seed}", f"model={model}", f"seed={seed}", *QUICK)
    capsys.readouterr()
    program.evaluate([here / "sweep"], ["out=table", "sort_by=kd"])
    assert len(rows_of(here, "table")) == 4
    lines = capsys.readouterr().out.splitlines()
    table = [line for line in lines if line.startswith(("vanilla", "dcgan"))]
    assert len(table) == 2
    assert all(" +- " in line for line in table)
    assert all(line.split()[1] == "2" or line.split()[2] == "2" for line in table), "not two seeds each"
    assert table[0].endswith("best")


def test_existing_evaluation_files_are_not_overwritten(trained, here):
    """All input files are read before the first output file is written."""
    for seed in (0, 1):
        trained(here / str(seed), "model=vanilla", f"seed={seed}", *QUICK)
    program.evaluate([here / "0"], [])
    before = rows_of(here)
    program.evaluate([here / "1", here / "evaluation.json"], [])
    assert rows_of(here) == before
    assert sorted(row["seed"] for row in rows_of(here, "evaluation-2")) == [0, 1]
    with pytest.raises(UserError, match=r"out=evaluation: evaluation.json or evaluation.csv already exists"):
        program.evaluate([here / "0"], ["out=evaluation"])
    assert rows_of(here) == before


def test_concurrent_evaluations_reserve_different_file_names(here):
    with ExitStack() as held, ThreadPoolExecutor(8) as pool:
        names = [*pool.map(lambda _: held.enter_context(program.reserve_output(None)), range(40))]
        assert len(set(names)) == 40
        with (
            pytest.raises(UserError, match=r"out=evaluation: another gan-evaluate is writing evaluation\.json"),
            program.reserve_output("evaluation"),
        ):
            pass
    assert [*here.iterdir()] == [], "left-over files"


@pytest.mark.parametrize("content", ["", '{"unfinished": true, "rows": []}'])
def test_files_of_killed_evaluation_are_replaced(trained, here, content):
    trained(here / "one", "model=vanilla", *QUICK)
    (here / "scores.json").write_text(content)
    (here / ".scores.json.lock").touch()
    program.evaluate([here / "one"], ["out=scores"])
    assert len(rows_of(here, "scores")) == 1
    assert "unfinished" not in json.loads((here / "scores.json").read_text())
    assert sorted(path.name for path in here.iterdir()) == ["one", "scores.csv", "scores.json"]


@pytest.mark.parametrize("content", ["{}", "[]", "{", '{"rows": []}', '{"unfinished": false}', "\udcff"])
def test_files_not_of_killed_evaluation_are_kept(here, content):
    (here / "scores.json").write_bytes(content.encode(errors="surrogateescape"))
    with (
        pytest.raises(UserError, match=r"scores\.json or scores\.csv already exists"),
        program.reserve_output("scores"),
    ):
        pass
    assert (here / "scores.json").read_bytes() == content.encode(errors="surrogateescape")


def test_default_output_name_skips_files_of_killed_evaluation(here):
    (here / "evaluation.json").write_text('{"unfinished": true, "rows": [1]}')
    (here / "evaluation-2.json").touch()
    with program.reserve_output(None) as out:
        assert str(out) == "evaluation-2"


@pytest.mark.parametrize("when", ["before a score", "between two runs", "before the table"])
def test_killed_evaluation_can_be_repeated(trained, here, monkeypatch, when):
    class Killed(BaseException):
        pass

    for seed in (0, 1):
        trained(here / str(seed), "model=vanilla", f"seed={seed}", *QUICK)
    evaluate_one, calls = evaluate_checkpoint.evaluate_one, []

    def kill(*_: object) -> None:
        raise Killed

    def evaluate_one_or_kill(*words: object) -> object:
        calls.append(words)
        return kill() if len(calls) == {"before a score": 1, "between two runs": 2}.get(when) else evaluate_one(*words)

    with monkeypatch.context() as patch:
        patch.setattr(evaluate_checkpoint, "evaluate_one", evaluate_one_or_kill)
        if when == "before the table":
            patch.setattr("gan_lightning.evaluation.compare.write_csv", kill)
        with pytest.raises(Killed):
            program.evaluate([here / "0", here / "1"], ["out=scores"])
    assert not (here / "scores.csv").exists()
    program.evaluate([here / "0", here / "1"], ["out=scores"])
    assert len(rows_of(here, "scores")) == 2
    with pytest.raises(UserError, match="already exists"):
        program.evaluate([here / "0", here / "1"], ["out=scores"])


SCORED = {
    "path": "a",
    "experiment": {"model": "vanilla"},
    "seed": 0,
    "step": 2,
    "scores": [
        {
            "metric": "fd",
            "value": 1.0,
            "direction": -1,
            "card_hash": "0" * 12,
            "card": {
                "num_generated": 9,
                "num_real": 9,
                "data": "Digits",
                "split": "train",
                "feature": "x",
                "origin": "y",
            },
        }
    ],
}


def written(path, *rows: dict, **more: object) -> None:
    path.write_text(json.dumps({"rows": [SCORED | row for row in rows], **more}))


@pytest.mark.parametrize("function", ["evaluation.compare.write_csv", "cli.evaluate.write_rows", "cli.evaluate.report"])
@pytest.mark.parametrize("after", [False, True])
def test_comparison_killed_at_any_write_can_be_repeated(here, monkeypatch, function, after):
    """The process may be killed between writing the CSV file and the JSON file."""

    class Killed(BaseException):
        pass

    written(here / "one.json", {})
    module = importlib.import_module(f"gan_lightning.{function.rpartition('.')[0]}")
    name = function.rpartition(".")[2]
    original = getattr(module, name)

    def kill(*words: object, **more: object) -> None:
        if after:
            original(*words, **more)
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(module, name, kill)
        with pytest.raises(Killed):
            program.evaluate([here / "one.json"], ["out=scores"])
    program.evaluate([here / "one.json"], ["out=scores"])
    assert rows_of(here, "scores") == [SCORED]
    assert "unfinished" not in json.loads((here / "scores.json").read_text())
    assert sorted(path.name for path in here.iterdir()) == ["one.json", "scores.csv", "scores.json"]


def test_csv_without_json_is_not_replaced(here):
    written(here / "one.json", {})
    (here / "scores.csv").write_text("mine")
    with pytest.raises(UserError, match=r"out=scores: scores\.json or scores\.csv already exists"):
        program.evaluate([here / "one.json"], ["out=scores"])
    assert (here / "scores.csv").read_text() == "mine"


def test_csv_of_killed_evaluation_is_removed_before_error(here, capsys):
    written(here / "scores.json", {}, unfinished=True)
    (here / "scores.csv").write_text("of the killed one")
    other = SCORED["scores"][0] | {"card": SCORED["scores"][0]["card"] | {"num_real": 8}}
    written(here / "one.json", {}, {"path": "b", "scores": [other]})
    with pytest.raises(UserError, match="measured differently"):
        program.evaluate([here / "one.json"], ["out=scores"])
    assert not (here / "scores.csv").exists()


def test_input_scores_are_read_before_output_of_same_name_is_written(here):
    written(here / "one.json", {"path": "one"})
    written(here / "scores.json", {"path": "two", "seed": 1}, unfinished=True)
    program.evaluate([here / "one.json", here / "scores.json"], ["out=scores"])
    assert [row["path"] for row in rows_of(here, "scores")] == ["one", "two"]


def test_incomparable_scores_leave_input_file_unchanged(here):
    other = SCORED["scores"][0] | {"card": SCORED["scores"][0]["card"] | {"num_real": 8}}
    written(here / "scores.json", {}, {"path": "b", "scores": [other]}, unfinished=True)
    before = (here / "scores.json").read_bytes()
    with pytest.raises(UserError, match="measured differently"):
        program.evaluate([here / "scores.json"], ["out=scores"])
    assert (here / "scores.json").read_bytes() == before


def test_rows_of_killed_evaluation_can_be_reused_as_input(trained, here):
    for seed in (0, 1):
        trained(here / str(seed), "model=vanilla", f"seed={seed}", *QUICK)
    program.evaluate([here / "0"], ["out=scores"])
    rows = rows_of(here, "scores")
    (here / "scores.json").write_text(json.dumps({"unfinished": True, "rows": rows}))
    (here / "scores.csv").unlink()
    program.evaluate([here / "scores.json", here / "1"], ["out=scores"])
    assert rows_of(here, "scores")[0] == rows[0]
    assert [row["seed"] for row in rows_of(here, "scores")] == [0, 1]


def test_checkpoint_with_nan_weights_is_rejected(trained, here):
    trained(here / "one", "model=vanilla", *QUICK)
    path = here / "one" / "checkpoints" / "last.ckpt"
    content = read(path)
    name = next(key for key in content["state_dict"] if key.startswith("generator."))
    content["state_dict"][name] = torch.full_like(content["state_dict"][name], float("nan"))
    torch.save(content, path)
    with pytest.raises(UserError, match=rf"last\.ckpt: {name}: .* are NaN or infinite") as caught:
        program.evaluate([here / "one"], [])
    assert len(caught.value.errors) == 1
    assert [path.name for path in here.iterdir()] == ["one"]


def test_class_names_that_differ_from_data_are_rejected(trained, here):
    trained(here / "one", "model=cgan", *QUICK)
    path = here / "one" / "checkpoints" / "last.ckpt"
    content = read(path)
    content["hyper_parameters"]["class_names"] = [*"9876543210"]
    torch.save(content, path)
    with pytest.raises(UserError, match=r"last\.ckpt: class 0 is '9' in the model and '0' in the data"):
        program.evaluate([here / "one"], SAMPLES)


def test_run_given_twice_counts_as_one_seed(trained, here, capsys):
    trained(here / "one", "model=vanilla", *QUICK)
    program.evaluate([here / "one", here / "one" / "checkpoints" / "last.ckpt", here / "." / "one"], [])
    assert len(rows_of(here)) == 1
    program.evaluate([here / "one"], [])
    capsys.readouterr()
    program.evaluate([here / "evaluation.json", here / "evaluation-2.json"], [])
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("vanilla")]
    assert line.split()[1] == "1", "not one seed"
    assert "+-" not in line


def test_best_and_last_checkpoint_are_separate_experiments(trained, here):
    trained(here / "one", "model=vanilla", *QUICK)
    program.evaluate([here / "one"], ["which=both"])
    assert [row["experiment"]["checkpoint"] for row in rows_of(here)] == ["step 2", "best"]


def test_different_cards_are_rejected_with_fields_and_scores_are_saved(trained, here, capsys):
    trained(here / "raw", "model=dcgan", *QUICK)
    trained(here / "ema", "model=dcgan", "model.ema_decay=0.9", *QUICK)
    with pytest.raises(UserError) as caught:
        program.evaluate([here / "raw", here / "ema"], [])
    raw, ema = (here / name / "checkpoints" / "last.ckpt" for name in ("raw", "ema"))
    assert f"weights: raw ({raw}) / average ({ema})" in str(caught.value)
    assert "batchnorm" in str(caught.value)
    assert "allow=[FIELD,...]" in str(caught.value)
    assert len(rows_of(here)) == 2
    assert "measured scores are saved in evaluation.json" in capsys.readouterr().err
    with pytest.raises(UserError):
        program.evaluate([here / "evaluation.json"], [])
    assert not (here / "evaluation-2.json").exists(), "a file was written without a measurement"
    program.evaluate([here / "evaluation.json"], ["allow=[weights,batchnorm]", "out=again"])
    assert rows_of(here, "again") == rows_of(here)


def test_score_files_are_compared_without_measuring_again(trained, here, monkeypatch):
    trained(here / "one", "model=vanilla", *QUICK)
    program.evaluate([here / "one"], ["out=first"])
    program.evaluate([here / "one"], ["out=second", "eval.num_generated=30"])
    monkeypatch.setattr(evaluate_checkpoint, "evaluate_one", lambda *_: pytest.fail("measured again"))
    (here / "torn.json").write_text("{")
    with pytest.raises(UserError, match=r"num_generated: 40 \(.*\) / 30 \(") as caught:
        program.evaluate([here / "first.json", here / "second.json", here / "torn.json"], [])
    assert "torn.json: was not written by gan-evaluate" in str(caught.value), "the other error is missing"
    with pytest.raises(UserError, match="metric: has no effect on scores that are measured already"):
        program.evaluate([here / "first.json"], ["metric=kid"])


def test_image_folder_is_evaluated_against_data_set(trained, here, capsys):
    trained(here / "one", "model=dcgan", *QUICK)
    images = here / "images"
    images.mkdir()
    for i in range(30):
        value = torch.randint(256, (20, 20, 3), generator=torch.Generator().manual_seed(i)).byte()
        Image.fromarray(value.numpy()).save(images / f"{i}.png")
    words = ["data=digits", "data.image_size=16", "data.limit=26", "feature.width=4", "feature.dim=8", *SAMPLES]
    program.evaluate([images], words)
    (row,) = rows_of(here)
    card = row["scores"][0]["card"]
    assert (card["num_generated"], card["origin"]) == (30, "images of a folder")
    assert card["fitted"].startswith("cropped and resized to 16 x 16")
    assert scores_of(row)["fd"] > 0
    program.evaluate([images, here / "one"], [*words, "out=beside", "eval.num_generated=30", "metric.kid.subsets=5"])
    assert {row["step"] for row in rows_of(here, "beside")} == {None, 2}
    with pytest.raises(UserError, match="is not a run; a folder of images needs data"):
        program.evaluate([images], [])


def test_subset_of_sorted_images_is_drawn_from_all_images(here):
    """Twenty black images precede twenty white ones; MNIST's test set is sorted in a similar way."""
    images = here / "images"
    images.mkdir()
    for i in range(40):
        Image.new("L", (8, 8), 255 * (i // 20)).save(images / f"{i:02}.png")
    words = ["data=digits", "data.limit=200", "feature.width=4", "feature.dim=8", *SAMPLES, "eval.num_generated=20"]
    request, _ = evaluate_request.parse_request(words)
    *_, fake, card, _ = evaluate_checkpoint.prepare_image_folder(images, request, {})
    assert card["num_generated"] == 20
    assert 3 < int((fake.samples[:, 0, 0, 0] > 0).sum()) < 17
    of, fake, *_ = evaluate_checkpoint.prepare_image_folder(program.Path("held_out"), request, {})
    assert not torch.equal(fake.samples, of.data.held_out()[0][:20]), "only the first images are used"


def test_damaged_image_is_reported_and_card_counts_used_images(here, caplog):
    images = here / "images"
    images.mkdir()
    for i in range(30):
        Image.new("L", (16, 16), 8 * i).save(images / f"{i}.png")
    (images / "7.png").write_bytes(b"torn")
    with caplog.at_level("INFO"):
        program.evaluate([images], ["data=digits", "data.limit=26", "feature.width=4", "feature.dim=8", *SAMPLES])
    assert "1 of 30 images cannot be read" in caplog.text
    assert rows_of(here)[0]["scores"][0]["card"]["num_generated"] == 29


def test_held_out_images_give_reference_scores(here, monkeypatch):
    """Held-out real samples against the training set: the scores of a perfect generator."""
    words = [
        "data=digits",
        "data.image_size=16",
        "data.limit=900",
        "feature.width=4",
        "feature.dim=8",
        "eval.num_generated=500",
    ]
    program.evaluate([program.Path("held_out")], words)
    (row,) = rows_of(here)
    card = row["scores"][0]["card"]
    assert (card["num_generated"], card["num_real"], card["origin"]) == (500, 900, "held-out real samples")
    with monkeypatch.context() as patch:
        patch.setattr(Classifier, "setup", lambda *_: pytest.fail("a classifier is trained first"))
        with pytest.raises(UserError, match="no real samples are held out"):
            program.evaluate([program.Path("held_out")], ["data=digits"])
    with pytest.raises(UserError, match=r"eval\.reference=test would compare these samples"):
        program.evaluate([program.Path("held_out")], [*words, "eval.reference=test"])
    assert scores_of(row)["coverage"] > 0.7
    assert scores_of(row)["fd"] < 0.2


def test_memorization_metric_writes_image_of_nearest_neighbours(trained, here):
    trained(here / "one", "model=dcgan", "metric=all", *QUICK)
    program.evaluate([here / "one"], [])
    (path,) = here.glob("evaluation_neighbours_*.png")
    with Image.open(path) as image:
        assert image.size == (7 * 18 + 2, 10 * 18 + 2)


def test_runs_with_equal_names_write_separate_neighbour_images(trained, here):
    trained(here / "a/s/0", "model=dcgan", "metric=all", *QUICK)
    shutil.copytree(here / "a", here / "b")
    program.evaluate([here / "a/s/0", here / "b/s/0"], ["metric=memorization"])
    assert len([*here.glob("evaluation_neighbours_*.png")]) == 2


def test_points_are_evaluated_by_mode_metrics(trained, here, capsys):
    trained(here / "one", "model=wgan_gp", "data=gaussian_ring", *(word for word in QUICK if "kid" not in word))
    program.evaluate([here / "one"], [])
    assert scores_of(rows_of(here)[0]).keys() == {"modes", "quality", "reverse_kl"}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["protocol=10k"], "protocol=10k: no such option; there are 10k_test"),
        (["metric=fidd"], "did you mean fid?"),
        (["eval.num_generate=3"], "eval.num_generate: there is no such key (did you mean eval.num_generated?)"),
        (["eval.num_generated=1"], "eval.num_generated=1: must be a whole number of at least 2"),
        (["eval.reference=val"], "must be one of train, test"),
        (["sortby=fd"], "sortby: there is no such key (did you mean sort_by?)"),
        (["sort_by=fdd"], "sort_by=fdd: is not measured (did you mean fd?)"),
        (["sort_by=kid"], "kid is measured with feature=inception feature.resize=tf1"),
        (["which=first"], "must be one of last, best, both"),
        (["eval.best_by=kd"], "eval.best_by: has no effect outside training"),
        (["data.batch_size=7"], "data.batch_size: has no effect outside training"),
        (["trust_checkpoint=maybe"], "trust_checkpoint=maybe: must be true or false"),
        (["feature=inception", "feature.weights=nowhere.pth"], "feature.weights=nowhere.pth: there is no such file"),
        (["model=dcgan"], "model: is stored in the checkpoint"),
        (["eval.reference=test"], "no real samples are held out of training"),
        (["eval.num_generated=1,2"], "eval.num_generated=1,2: several values; give one"),
        (["allow=weights,split"], "several values; give one, or a list: allow=[weights,split]"),
        (["feature=inception,classifier"], "feature=inception,classifier: several values; choose one option"),
        (["feature=[inception,classifier]"], "feature=[inception,classifier]: several values; choose one option"),
        (["+eval.num_real=3"], "+eval.num_real=3: keys cannot be added or deleted here"),
        (["~metric"], "~metric: keys cannot be added or deleted here"),
        (["network.width=3"], "network.width: belongs to training; "),
        (["metric=fidd", "eval.num_generated=abc"], "eval.num_generated=abc: must be a whole number"),
        (["feature=custom", "feature.network._target_=mine.Network"], "add its folder to PYTHONPATH"),
        (["sort_by=5"], "sort_by=5: must be a name"),
        (["out=."], "out=.: must be a name"),
        (["out=[a,b]"], "must be a name"),
        (["eval=3"], "eval=3: is a section; choose an option"),
        (["metric.fid=null"], "metric.fid"),
        (["allow=[weigths,split]"], "allow=weigths: no card has such a field (did you mean weights?)"),
        (["protcol=10k_test"], "protcol: there is no such key (did you mean protocol?)"),
        (
            ["feature.resize=bilinear"],
            "feature.resize: there is no such key here; it is a setting of feature=inception",
        ),
        (["sort_by=class_accuracy"], "sort_by=class_accuracy: is not measured; one of fd, kd"),
        (["metric=[]"], "metric=[]: no option is chosen; there are all"),
        (["metric=[fid,null]"], "metric=[fid,null]: no option is chosen; there are all"),
        (["data=null"], "data=null: no option is chosen"),
        (["eval.cache=null"], "eval.cache=null: must be"),
        (["eval.cache=3"], "eval.cache=3: must be"),
        (["allow=[weigths]"], "allow=weigths: no card has such a field"),
        (
            ["data.image_size=8"],
            "16 x 16, the data are of 1 x 8 x 8; use data.image_size=[16,16] data.channels=1",
        ),
        (["feature.per_channel=true"], "needs data=stacked_mnist"),
    ],
)
def test_invalid_settings_are_reported(trained, here, words, message):
    trained(here / "one", "model=vanilla", "data.limit=null", *QUICK)
    with pytest.raises(UserError) as caught:
        program.evaluate([here / "one"], words)
    assert message in str(caught.value)


def test_protocol_sets_its_feature_network(trained, here):
    """The protocol's network replaces the one that is stored in the checkpoint."""
    trained(here / "one", "model=vanilla", *QUICK)
    request, errors = evaluate_request.parse_request(["protocol=50k_train"])
    stored = OmegaConf.load(here / "one" / "config.yaml")
    assert errors == []

    def feature(*overrides: str) -> str:
        return evaluate_request.resolve_config(stored, evaluate_request.parse_request(overrides)[0]).feature._target_

    assert "classifier" in feature("protocol=10k_train")
    config = evaluate_request.resolve_config(stored, request)
    assert "inception" in config.feature._target_
    assert config.eval.num_generated == 50_000
    assert "classifier" in feature("protocol=50k_train", "feature=classifier")


def test_failed_setup_of_feature_network_stops_all_evaluations(trained, here):
    for name in ("0", "1"):
        trained(here / name, "model=vanilla", *QUICK)
    with pytest.raises(UserError) as caught:
        program.evaluate([here / "0", here / "1"], ["feature=inception", "feature.weights=nowhere.pth"])
    first = here / "0" / "checkpoints" / "last.ckpt"
    assert str(caught.value).splitlines() == [
        f"feature.weights=nowhere.pth: there is no such file ({first} and 1 more)"
    ]
    with pytest.raises(UserError, match="sort_by=fidd: is not measured"):
        program.evaluate([here / "0", here / "1"], ["sort_by=fidd"])
    assert not [*here.glob("evaluation*")], "a file was written"


def test_comma_separated_values_are_one_error_with_fix():
    assert evaluate_request.parse_request(["metric=fid,kid"])[1] == [
        "metric=fid,kid: several values; give one, or a list: metric=[fid,kid]"
    ]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no signals between processes")
def test_signal_leaves_no_empty_output_file(here):
    """Sent while the first source is evaluated."""
    code = (
        "import os, signal\nfrom gan_lightning.cli import evaluate, evaluate_checkpoint\n"
        "evaluate_checkpoint.evaluate_one = lambda *_: os.kill(os.getpid(), signal.SIGTERM)\nevaluate.main()"
    )
    done = subprocess.run([sys.executable, "-c", code, "held_out", "data=digits"], timeout=120)
    assert done.returncode == 143
    assert not [*here.iterdir()]


def test_all_errors_are_reported_together(here):
    with pytest.raises(UserError) as caught:
        program.evaluate([here / "nowhere", here / "nothing.ckpt"], ["protocol=10k", "sortby=fd"])
    assert len(caught.value.errors) == 4
    (here / "empty").mkdir()
    with pytest.raises(UserError, match="empty: is an empty folder"):
        program.evaluate([here / "empty"], [])


def test_untrusted_target_in_checkpoint_is_rejected(trained, here):
    trained(here / "one", "model=vanilla", *QUICK)
    path = here / "one" / "checkpoints" / "last.ckpt"
    checkpoint = torch.load(path, weights_only=True)
    checkpoint["hyper_parameters"]["config"]["data"]["_target_"] = "os.system"
    torch.save(checkpoint, path)
    with pytest.raises(UserError, match=r"names 'os.system'"):
        program.evaluate([path], [])


def test_interpolation_in_untrusted_checkpoint_is_rejected(trained, here):
    """An interpolation could insert a target from a section that is not checked."""
    trained(here / "one", "model=vanilla", *QUICK)
    path = here / "one" / "checkpoints" / "last.ckpt"
    checkpoint = torch.load(path, weights_only=True)
    config = checkpoint["hyper_parameters"]["config"]
    config["eval"]["evil"] = {
        "_target_": "pathlib.Path.write_text",
        "_args_": [{"_target_": "pathlib.Path", "_args_": [str(here / "written")]}, "x"],
    }
    config["feature"]["width"] = "${eval.evil}"
    torch.save(checkpoint, path)
    with pytest.raises(UserError, match=r"config\.feature\.width is '\$\{eval\.evil\}', an interpolation"):
        program.evaluate([path], [])
    assert not (here / "written").exists()


def test_unbuildable_checkpoint_does_not_stop_other_evaluations(trained, here):
    for name in ("old", "new"):
        trained(here / name, "model=vanilla", *QUICK)
    path = here / "old" / "checkpoints" / "last.ckpt"
    checkpoint = torch.load(path, weights_only=True)
    checkpoint["hyper_parameters"]["config"]["model"]["gone"] = 3
    path.unlink()
    torch.save(checkpoint, path)
    with pytest.raises(UserError, match=r"last\.ckpt: the model that it describes cannot be built .*gone"):
        program.evaluate([here / "old", here / "new"], [])
    assert len(rows_of(here)) == 1


def test_interrupted_run_is_marked_in_output(trained, here, capsys):
    for name in ("whole", "stopped"):
        trained(here / name, "model=vanilla", *QUICK)
    (here / "whole" / "result.json").write_text('{"status": "finished"}')
    (here / "stopped" / "result.json").write_text('{"status": "failed", "error": "stopped at step 2\\u001b[2J"}')
    program.evaluate([here / "whole", here / "stopped"], [])
    notes = [line.rpartition("last.ckpt")[2] for line in capsys.readouterr().out.splitlines() if "evaluating" in line]
    assert notes == ["", ", of a run that stopped at step 2\\x1b[2J"]


def test_run_without_checkpoint_is_reported_not_read_as_image_folder(trained, here):
    trained(here / "sweep" / "good", "model=vanilla", *QUICK)
    for part in ("sweep/failed", "alone"):
        (here / part / "samples").mkdir(parents=True)
        (here / part / "config.yaml").write_text("")
    with pytest.raises(UserError, match=r"sweep/failed: this run has no last checkpoint"):
        program.evaluate([here / "sweep"], [])
    assert len(rows_of(here)) == 1
    with pytest.raises(UserError, match="alone: this run has no last checkpoint"):
        program.evaluate([here / "alone"], ["data=digits"])


def test_runs_with_different_schedules_are_separate_experiments(trained, here):
    for schedule in ("constant", "linear_decay"):
        trained(here / "runs" / schedule, "model=vanilla", f"callbacks.learning_rate.schedule={schedule}", *QUICK)
    program.evaluate([here / "runs"], [])
    assert len({str(row["experiment"]) for row in rows_of(here)}) == 2


def test_which_is_rejected_for_checkpoint_file(trained, here):
    trained(here / "one", "model=vanilla", *QUICK)
    with pytest.raises(UserError, match="which=best: has no effect"):
        program.evaluate([here / "one" / "checkpoints" / "last.ckpt"], ["which=best"])


def test_files_of_logger_inside_run_are_not_taken_for_run(trained, here):
    trained(here / "runs" / "one", "model=vanilla", *QUICK)
    kept = here / "runs" / "one" / "wandb" / "files"
    kept.mkdir(parents=True)
    (kept / "config.yaml").write_text("_wandb: {}")
    inside = here / "runs" / "one" / "more"
    trained(inside, "model=vanilla", *QUICK)
    assert find_runs(here / "runs") == [here / "runs" / "one", inside]
    assert [kind for _, kind in program.find_sources([here / "runs"], "last")[0]] == ["checkpoint"] * 2


def test_files_without_valid_scores_are_reported(here):
    for name, text in {"empty": '{"rows": []}', "odd": '{"rows": [{"path": "x"}]}', "text": "no"}.items():
        (here / f"{name}.json").write_text(text)
        with pytest.raises(UserError, match=f"{name}.json: was not written by gan-evaluate"):
            program.evaluate([here / f"{name}.json"], [])


def test_unwritable_output_fails_before_evaluation(here, monkeypatch):
    (here / "file").write_text("")
    monkeypatch.setattr(evaluate_checkpoint, "evaluate_one", lambda *_: pytest.fail("measured"))
    with pytest.raises(OSError, match="file"):
        program.evaluate([program.Path("held_out")], ["data=digits", "out=file/below"])


def test_command_returns_exit_status(here):
    def command(*words):
        line = [sys.executable, "-m", "gan_lightning.cli.evaluate", *words]
        return subprocess.run(line, capture_output=True, text=True, timeout=120, cwd=here)

    assert command("--help").returncode == 0
    done = command("nowhere")
    assert done.returncode == 2
    assert "nowhere: there is no such file or folder" in done.stderr
    assert "Traceback" not in done.stderr
    assert command().returncode == 2


def test_damaged_checkpoint_does_not_stop_other_evaluations(trained, here, capsys):
    for seed in (0, 1):
        trained(here / "sweep" / str(seed), "model=vanilla", f"seed={seed}", *QUICK)
    path = here / "sweep" / "0" / "checkpoints" / "last.ckpt"
    path.unlink()
    path.write_bytes(b"no checkpoint")
    capsys.readouterr()
    with pytest.raises(UserError, match=r"0/checkpoints/last.ckpt: cannot be read"):
        program.evaluate([here / "sweep"], ["allow=weights"])
    assert [row["seed"] for row in rows_of(here)] == [1]
    assert "vanilla" in capsys.readouterr().out
    assert (here / "evaluation.csv").exists()


def test_held_out_points_have_scores_of_their_distribution(here):
    program.evaluate([program.Path("held_out")], ["data=gaussian_grid"])
    scores = scores_of(rows_of(here)[0])
    assert scores["modes"] == 25
    assert scores["quality"] == pytest.approx(0.9889, abs=0.01)
