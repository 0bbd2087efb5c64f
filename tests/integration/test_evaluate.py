"""gan-evaluate, end to end: checkpoints, sweeps, folders of pictures, earlier scores; and what it refuses."""

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
from gan_lightning.cli import evaluate_checkpoint as judge
from gan_lightning.cli import evaluate_request as asked_for
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
TYPED = ["eval.num_generated=40", "eval.num_real=20"]


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def rows_of(folder, name="evaluation") -> list[dict]:
    return json.loads((folder / f"{name}.json").read_text())["rows"]


def scores_of(row) -> dict[str, float]:
    return {line["metric"]: line["value"] for line in row["scores"]}


@pytest.mark.parametrize("precision", ["64-true", "bf16-true"])
def test_weights_keep_the_precision_that_they_were_trained_in(run, here, precision):
    trainer = run(here / "one", "model=dcgan", f"trainer.precision={precision}", *QUICK)
    program.evaluate([here / "one"], [])
    trained = next(guest for guest in trainer.callbacks if isinstance(guest, Evaluate))
    assert {line["metric"]: (line["value"], line["card_hash"]) for line in rows_of(here)[0]["scores"]} == trained.last(
        2
    )


def test_a_checkpoint_is_judged_as_it_was_in_training(run, here, capsys):
    trainer = run(here / "one", "model=cgan", *QUICK)
    program.evaluate([here / "one" / "checkpoints" / "last.ckpt"], [])
    judge = next(guest for guest in trainer.callbacks if isinstance(guest, Evaluate))
    (row,) = rows_of(here)
    assert {line["metric"]: (line["value"], line["card_hash"]) for line in row["scores"]} == judge.last(2)
    assert {line["card_hash"] for line in row["scores"]} == set(judge.cards)
    assert (row["seed"], row["step"]) == (0, 2)
    shown = capsys.readouterr().out
    assert "experiment" in shown
    assert "against the best" in shown
    assert "% of the samples, " in shown, "the histogram of the classes"
    assert "; accuracy " in shown
    assert judge.curve[-1]["scores"]["fid"][1] in shown, "the card's hash stands in the table"
    assert "40 generated against 20 of Digits (train)" in shown
    with (here / "evaluation.csv").open() as file:
        (line,) = csv.DictReader(file)
    assert float(line["fid"]) == pytest.approx(judge.last(2)["fid"][0])
    assert line["fid card"] == judge.curve[-1]["scores"]["fid"][1]


def test_a_folder_of_runs_is_grouped_over_seeds(trained, here, capsys):
    for model in ("vanilla", "dcgan"):
        for seed in (0, 1):
            trained(here / "sweep" / f"{model}{seed}", f"model={model}", f"seed={seed}", *QUICK)
    capsys.readouterr()
    program.evaluate([here / "sweep"], ["out=table", "sort_by=kid"])
    assert len(rows_of(here, "table")) == 4
    lines = capsys.readouterr().out.splitlines()
    table = [line for line in lines if line.startswith(("vanilla", "dcgan"))]
    assert len(table) == 2
    assert all(" +- " in line for line in table)
    assert all(line.split()[1] == "2" or line.split()[2] == "2" for line in table), "two seeds each"
    assert table[0].endswith("best")


def test_earlier_evaluations_are_kept(trained, here):
    """Nothing that was measured is written over, and what is read is read before anything is written."""
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


def test_two_evaluations_at_once_write_two_files(here):
    with ExitStack() as held, ThreadPoolExecutor(8) as pool:
        names = [*pool.map(lambda _: held.enter_context(program.reserve_output(None)), range(40))]
        assert len(set(names)) == 40
        with (
            pytest.raises(UserError, match=r"out=evaluation: another gan-evaluate is writing evaluation\.json"),
            program.reserve_output("evaluation"),
        ):
            pass
    assert [*here.iterdir()] == [], "nothing was written, and the locks are gone"


def test_what_a_killed_evaluation_has_left_is_replaced(trained, here):
    trained(here / "one", "model=vanilla", *QUICK)
    (here / "scores.json").write_text('{"unfinished": true, "rows": []}')
    (here / ".scores.json.lock").touch()
    program.evaluate([here / "one"], ["out=scores"])
    assert len(rows_of(here, "scores")) == 1
    assert "unfinished" not in json.loads((here / "scores.json").read_text())
    assert sorted(path.name for path in here.iterdir()) == ["one", "scores.csv", "scores.json"]


@pytest.mark.parametrize("content", ["", "{}", "[]", "{", '{"rows": []}', '{"unfinished": false}', "\udcff"])
def test_files_that_are_not_of_a_killed_evaluation_are_left_alone(here, content):
    (here / "scores.json").write_bytes(content.encode(errors="surrogateescape"))
    with (
        pytest.raises(UserError, match=r"scores\.json or scores\.csv already exists"),
        program.reserve_output("scores"),
    ):
        pass
    assert (here / "scores.json").read_bytes() == content.encode(errors="surrogateescape")


def test_scores_of_a_killed_evaluation_are_not_replaced_under_a_name_that_nobody_typed(here):
    (here / "evaluation.json").write_text('{"unfinished": true, "rows": [1]}')
    with program.reserve_output(None) as out:
        assert str(out) == "evaluation-2"


@pytest.mark.parametrize("when", ["before a score", "between two runs", "before the table"])
def test_a_killed_evaluation_can_be_repeated(trained, here, monkeypatch, when):
    class Killed(BaseException):
        pass

    for seed in (0, 1):
        trained(here / str(seed), "model=vanilla", f"seed={seed}", *QUICK)
    place, calls = judge.evaluate_one, []

    def kill(*_: object) -> None:
        raise Killed

    def one(*words: object) -> object:
        calls.append(words)
        return kill() if len(calls) == {"before a score": 1, "between two runs": 2}.get(when) else place(*words)

    with monkeypatch.context() as patch:
        patch.setattr(judge, "evaluate_one", one)
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
            "metric": "fid",
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
def test_a_comparison_that_is_killed_anywhere_can_be_repeated(here, monkeypatch, function, after):
    """Also one that was killed between the table and the scores that it is of."""

    class Killed(BaseException):
        pass

    written(here / "one.json", {})
    module = importlib.import_module(f"gan_lightning.{function.rpartition('.')[0]}")
    name = function.rpartition(".")[2]
    place = getattr(module, name)

    def kill(*words: object, **more: object) -> None:
        if after:
            place(*words, **more)
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(module, name, kill)
        with pytest.raises(Killed):
            program.evaluate([here / "one.json"], ["out=scores"])
    program.evaluate([here / "one.json"], ["out=scores"])
    assert rows_of(here, "scores") == [SCORED]
    assert "unfinished" not in json.loads((here / "scores.json").read_text())
    assert sorted(path.name for path in here.iterdir()) == ["one.json", "scores.csv", "scores.json"]


def test_a_table_without_scores_is_not_of_a_killed_evaluation(here):
    written(here / "one.json", {})
    (here / "scores.csv").write_text("mine")
    with pytest.raises(UserError, match=r"out=scores: scores\.json or scores\.csv already exists"):
        program.evaluate([here / "one.json"], ["out=scores"])
    assert (here / "scores.csv").read_text() == "mine"


def test_a_killed_evaluation_s_table_does_not_pass_for_a_new_one(here, capsys):
    written(here / "scores.json", {}, unfinished=True)
    (here / "scores.csv").write_text("of the killed one")
    other = SCORED["scores"][0] | {"card": SCORED["scores"][0]["card"] | {"num_real": 8}}
    written(here / "one.json", {}, {"path": "b", "scores": [other]})
    with pytest.raises(UserError, match="measured differently"):
        program.evaluate([here / "one.json"], ["out=scores"])
    assert not (here / "scores.csv").exists()


def test_scores_that_are_taken_over_are_read_before_they_are_written_over(here):
    written(here / "one.json", {"path": "one"})
    written(here / "scores.json", {"path": "two", "seed": 1}, unfinished=True)
    program.evaluate([here / "one.json", here / "scores.json"], ["out=scores"])
    assert [row["path"] for row in rows_of(here, "scores")] == ["one", "two"]


def test_scores_that_cannot_be_compared_are_not_lost_where_they_are_taken_over(here):
    other = SCORED["scores"][0] | {"card": SCORED["scores"][0]["card"] | {"num_real": 8}}
    written(here / "scores.json", {}, {"path": "b", "scores": [other]}, unfinished=True)
    before = (here / "scores.json").read_bytes()
    with pytest.raises(UserError, match="measured differently"):
        program.evaluate([here / "scores.json"], ["out=scores"])
    assert (here / "scores.json").read_bytes() == before


def test_rows_of_a_killed_evaluation_can_be_taken_over(trained, here):
    for seed in (0, 1):
        trained(here / str(seed), "model=vanilla", f"seed={seed}", *QUICK)
    program.evaluate([here / "0"], ["out=scores"])
    rows = rows_of(here, "scores")
    (here / "scores.json").write_text(json.dumps({"unfinished": True, "rows": rows}))
    (here / "scores.csv").unlink()
    program.evaluate([here / "scores.json", here / "1"], ["out=scores"])
    assert rows_of(here, "scores")[0] == rows[0]
    assert [row["seed"] for row in rows_of(here, "scores")] == [0, 1]


def test_weights_that_are_not_finite_are_refused(trained, here):
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


def test_data_with_the_classes_in_another_order_are_refused(trained, here):
    trained(here / "one", "model=cgan", *QUICK)
    path = here / "one" / "checkpoints" / "last.ckpt"
    content = read(path)
    content["hyper_parameters"]["class_names"] = [*"9876543210"]
    torch.save(content, path)
    with pytest.raises(UserError, match=r"last\.ckpt: class 0 is '9' in the model and '0' in the data"):
        program.evaluate([here / "one"], TYPED)


def test_a_run_that_is_named_twice_is_no_repetition(trained, here, capsys):
    trained(here / "one", "model=vanilla", *QUICK)
    program.evaluate([here / "one", here / "one" / "checkpoints" / "last.ckpt", here / "." / "one"], [])
    assert len(rows_of(here)) == 1
    program.evaluate([here / "one"], [])
    capsys.readouterr()
    program.evaluate([here / "evaluation.json", here / "evaluation-2.json"], [])
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("vanilla")]
    assert line.split()[1] == "1", "one seed"
    assert "+-" not in line


def test_best_and_last_are_not_repetitions(trained, here):
    trained(here / "one", "model=vanilla", *QUICK)
    program.evaluate([here / "one"], ["which=both"])
    assert [row["experiment"]["checkpoint"] for row in rows_of(here)] == ["step 2", "best"]


def test_unlike_cards_are_refused_with_the_fields_and_nothing_is_lost(trained, here, capsys):
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
    assert not (here / "evaluation-2.json").exists(), "nothing was measured"
    program.evaluate([here / "evaluation.json"], ["allow=[weights,batchnorm]", "out=again"])
    assert rows_of(here, "again") == rows_of(here)


def test_earlier_scores_are_compared_without_measuring(trained, here, monkeypatch):
    trained(here / "one", "model=vanilla", *QUICK)
    program.evaluate([here / "one"], ["out=first"])
    program.evaluate([here / "one"], ["out=second", "eval.num_generated=30"])
    monkeypatch.setattr(judge, "evaluate_one", lambda *_: pytest.fail("measured again"))
    (here / "torn.json").write_text("{")
    with pytest.raises(UserError, match=r"num_generated: 40 \(.*\) / 30 \(") as caught:
        program.evaluate([here / "first.json", here / "second.json", here / "torn.json"], [])
    assert "torn.json: was not written by gan-evaluate" in str(caught.value), "what else is wrong is told as well"
    with pytest.raises(UserError, match="metric: has no effect on scores that are measured already"):
        program.evaluate([here / "first.json"], ["metric=kid"])


def test_a_folder_of_pictures_against_a_data_set(trained, here, capsys):
    trained(here / "one", "model=dcgan", *QUICK)
    pictures = here / "pictures"
    pictures.mkdir()
    for i in range(30):
        value = torch.randint(256, (20, 20, 3), generator=torch.Generator().manual_seed(i)).byte()
        Image.fromarray(value.numpy()).save(pictures / f"{i}.png")
    words = ["data=digits", "data.image_size=16", "data.limit=26", "feature.width=4", "feature.dim=8", *TYPED]
    program.evaluate([pictures], words)
    (row,) = rows_of(here)
    card = row["scores"][0]["card"]
    assert (card["num_generated"], card["origin"]) == (30, "pictures of a folder")
    assert card["fitted"].startswith("cropped and resized to 16 x 16")
    assert scores_of(row)["fid"] > 0
    program.evaluate([pictures, here / "one"], [*words, "out=beside", "eval.num_generated=30", "metric.kid.subsets=5"])
    assert {row["step"] for row in rows_of(here, "beside")} == {None, 2}
    with pytest.raises(UserError, match="is not a run; a folder of images needs data"):
        program.evaluate([pictures], [])


def test_samples_of_a_sorted_set_are_taken_from_all_of_it(here):
    """Twenty black pictures come before twenty white ones, as MNIST's clean digits before its others."""
    pictures = here / "pictures"
    pictures.mkdir()
    for i in range(40):
        Image.new("L", (8, 8), 255 * (i // 20)).save(pictures / f"{i:02}.png")
    words = ["data=digits", "data.limit=200", "feature.width=4", "feature.dim=8", *TYPED, "eval.num_generated=20"]
    asked, _ = asked_for.parse_request(words)
    *_, fake, card, _ = judge.prepare_image_folder(pictures, asked, {})
    assert card["num_generated"] == 20
    assert 3 < int((fake.samples[:, 0, 0, 0] > 0).sum()) < 17
    of, fake, *_ = judge.prepare_image_folder(program.Path("held_out"), asked, {})
    assert not torch.equal(fake.samples, of.data.held_out()[0][:20]), "not the first ones"


def test_a_torn_picture_is_told_and_the_card_counts_what_was_seen(here, caplog):
    pictures = here / "pictures"
    pictures.mkdir()
    for i in range(30):
        Image.new("L", (16, 16), 8 * i).save(pictures / f"{i}.png")
    (pictures / "7.png").write_bytes(b"torn")
    with caplog.at_level("INFO"):
        program.evaluate([pictures], ["data=digits", "data.limit=26", "feature.width=4", "feature.dim=8", *TYPED])
    assert "1 of 30 images cannot be read" in caplog.text
    assert rows_of(here)[0]["scores"][0]["card"]["num_generated"] == 29


def test_held_out_pictures_are_the_mark(here, monkeypatch):
    """The data against themselves: what a perfect generator would score."""
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
        patch.setattr(Classifier, "setup", lambda *_: pytest.fail("a classifier is trained before"))
        with pytest.raises(UserError, match="no real samples are held out"):
            program.evaluate([program.Path("held_out")], ["data=digits"])
    with pytest.raises(UserError, match=r"eval\.split=test would compare these samples"):
        program.evaluate([program.Path("held_out")], [*words, "eval.split=test"])
    assert scores_of(row)["coverage"] > 0.7
    assert scores_of(row)["fid"] < 0.2


def test_copies_come_with_the_picture_of_neighbours(trained, here):
    trained(here / "one", "model=dcgan", "metric=all", *QUICK)
    program.evaluate([here / "one"], [])
    (picture,) = here.glob("evaluation_neighbours_*.png")
    with Image.open(picture) as image:
        assert image.size == (7 * 18 + 2, 10 * 18 + 2)


def test_folders_of_one_name_keep_pictures_of_their_own(trained, here):
    trained(here / "a/s/0", "model=dcgan", "metric=all", *QUICK)
    shutil.copytree(here / "a", here / "b")
    program.evaluate([here / "a/s/0", here / "b/s/0"], ["metric=memorization"])
    assert len([*here.glob("evaluation_neighbours_*.png")]) == 2


def test_points_keep_their_own_metrics(trained, here, capsys):
    trained(here / "one", "model=wgan_gp", "data=gaussian_ring", *(word for word in QUICK if "kid" not in word))
    program.evaluate([here / "one"], [])
    assert scores_of(rows_of(here)[0]).keys() == {"modes", "quality", "reverse_kl"}


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["protocol=10k"], "protocol=10k: no such option; there are 10k_test"),
        (["metric=fidd"], "the nearest is fid"),
        (["eval.num_generate=3"], "eval.num_generate: there is no such key, the nearest is eval.num_generated"),
        (["eval.num_generated=1"], "eval.num_generated=1: must be a whole number of at least 2"),
        (["eval.split=val"], "must be one of train, test"),
        (["sortby=fid"], "sortby: there is no such key, the nearest is sort_by"),
        (["sort_by=fidd"], "sort_by=fidd: is not measured, the nearest is fid"),
        (["which=first"], "must be one of last, best, both"),
        (["eval.best_by=kid"], "eval.best_by: has no effect outside training"),
        (["data.batch_size=7"], "data.batch_size: has no effect outside training"),
        (["trust_checkpoint=maybe"], "trust_checkpoint=maybe: must be true or false"),
        (["feature=inception", "feature.weights=nowhere.pth"], "feature.weights=nowhere.pth: there is no such file"),
        (["model=dcgan"], "model: is stored in the checkpoint"),
        (["eval.split=test"], "no real samples are held out of training"),
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
        (["allow=[weigths,split]"], "allow=weigths: no card has such a field, the nearest is weights"),
        (["protcol=10k_test"], "protcol: there is no such key, the nearest is protocol"),
        (
            ["feature.resize=bilinear"],
            "feature.resize: there is no such key here; it is a setting of feature=inception",
        ),
        (["sort_by=class_accuracy"], "sort_by=class_accuracy: is not measured; one of fid, kid"),
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
def test_mistakes_are_told(trained, here, words, told):
    trained(here / "one", "model=vanilla", "data.limit=null", *QUICK)
    with pytest.raises(UserError) as caught:
        program.evaluate([here / "one"], words)
    assert told in str(caught.value)


def test_a_protocol_brings_its_feature_network_along(trained, here):
    """Also to a checkpoint that has another one."""
    trained(here / "one", "model=vanilla", *QUICK)
    asked, faults = asked_for.parse_request(["protocol=50k_train"])
    stored = OmegaConf.load(here / "one" / "config.yaml")
    assert faults == []

    def feature(*overrides: str) -> str:
        return asked_for.resolve_config(stored, asked_for.parse_request(overrides)[0]).feature._target_

    assert "classifier" in feature("protocol=10k_train")
    config = asked_for.resolve_config(stored, asked)
    assert "inception" in config.feature._target_
    assert config.eval.num_generated == 50_000
    assert "classifier" in feature("protocol=50k_train", "feature=classifier")


def test_a_judge_that_did_not_get_ready_judges_nobody(trained, here):
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
    assert not [*here.glob("evaluation*")], "nothing was measured"


def test_several_values_are_one_mistake():
    assert asked_for.parse_request(["metric=fid,kid"])[1] == [
        "metric=fid,kid: several values; give one, or a list: metric=[fid,kid]"
    ]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no signals between processes")
def test_a_signal_leaves_no_empty_file(here):
    """Sent while the first of the data is being seen."""
    code = (
        "import os, signal\nfrom gan_lightning.cli import evaluate, evaluate_checkpoint as judge\n"
        "judge.evaluate_one = lambda *_: os.kill(os.getpid(), signal.SIGTERM)\nevaluate.main()"
    )
    done = subprocess.run([sys.executable, "-c", code, "held_out", "data=digits"], timeout=120)
    assert done.returncode == 143
    assert not [*here.iterdir()]


def test_all_mistakes_come_at_once(here):
    with pytest.raises(UserError) as caught:
        program.evaluate([here / "nowhere", here / "nothing.ckpt"], ["protocol=10k", "sortby=fid"])
    assert len(caught.value.errors) == 4
    (here / "empty").mkdir()
    with pytest.raises(UserError, match="empty: is an empty folder"):
        program.evaluate([here / "empty"], [])


def test_a_stranger_s_checkpoint_runs_no_code(trained, here):
    trained(here / "one", "model=vanilla", *QUICK)
    path = here / "one" / "checkpoints" / "last.ckpt"
    checkpoint = torch.load(path, weights_only=True)
    checkpoint["hyper_parameters"]["config"]["data"]["_target_"] = "os.system"
    torch.save(checkpoint, path)
    with pytest.raises(UserError, match=r"names 'os.system'"):
        program.evaluate([path], [])


def test_a_stranger_s_interpolation_runs_no_code_either(trained, here):
    """What is looked at is what is built: a class may hide in another section, behind an interpolation."""
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


def test_a_checkpoint_of_another_version_takes_no_other_with_it(trained, here):
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


def test_a_run_that_was_stopped_is_told(trained, here, capsys):
    for name in ("whole", "stopped"):
        trained(here / name, "model=vanilla", *QUICK)
    (here / "whole" / "result.json").write_text('{"status": "finished"}')
    (here / "stopped" / "result.json").write_text('{"status": "failed", "error": "stopped at step 2\\u001b[2J"}')
    program.evaluate([here / "whole", here / "stopped"], [])
    told = [line.rpartition("last.ckpt")[2] for line in capsys.readouterr().out.splitlines() if "evaluating" in line]
    assert told == ["", ", of a run that stopped at step 2\\x1b[2J"]


def test_a_job_that_failed_is_told_and_is_no_folder_of_pictures(trained, here):
    trained(here / "sweep" / "good", "model=vanilla", *QUICK)
    for part in ("sweep/failed", "alone"):
        (here / part / "samples").mkdir(parents=True)
        (here / part / "config.yaml").write_text("")
    with pytest.raises(UserError, match=r"sweep/failed: this run has no last checkpoint"):
        program.evaluate([here / "sweep"], [])
    assert len(rows_of(here)) == 1
    with pytest.raises(UserError, match="alone: this run has no last checkpoint"):
        program.evaluate([here / "alone"], ["data=digits"])


def test_runs_of_another_schedule_are_no_repetitions(trained, here):
    for schedule in ("constant", "linear_decay"):
        trained(here / "runs" / schedule, "model=vanilla", f"callbacks.learning_rate.schedule={schedule}", *QUICK)
    program.evaluate([here / "runs"], [])
    assert len({str(row["experiment"]) for row in rows_of(here)}) == 2


def test_which_checkpoint_is_a_question_of_a_folder(trained, here):
    trained(here / "one", "model=vanilla", *QUICK)
    with pytest.raises(UserError, match="which=best: has no effect"):
        program.evaluate([here / "one" / "checkpoints" / "last.ckpt"], ["which=best"])


def test_what_a_logger_keeps_in_a_run_is_no_run(trained, here):
    trained(here / "runs" / "one", "model=vanilla", *QUICK)
    kept = here / "runs" / "one" / "wandb" / "files"
    kept.mkdir(parents=True)
    (kept / "config.yaml").write_text("_wandb: {}")
    inside = here / "runs" / "one" / "more"
    trained(inside, "model=vanilla", *QUICK)
    assert find_runs(here / "runs") == [here / "runs" / "one", inside]
    assert [kind for _, kind in program.find_sources([here / "runs"], "last")[0]] == ["checkpoint"] * 2


def test_earlier_scores_that_are_none_are_told(here):
    for name, text in {"empty": '{"rows": []}', "odd": '{"rows": [{"path": "x"}]}', "text": "no"}.items():
        (here / f"{name}.json").write_text(text)
        with pytest.raises(UserError, match=f"{name}.json: was not written by gan-evaluate"):
            program.evaluate([here / f"{name}.json"], [])


def test_where_nothing_can_be_written_is_told_before_anything_is_measured(here, monkeypatch):
    (here / "file").write_text("")
    monkeypatch.setattr(judge, "evaluate_one", lambda *_: pytest.fail("measured"))
    with pytest.raises(OSError, match="file"):
        program.evaluate([program.Path("held_out")], ["data=digits", "out=file/below"])


def test_the_command_ends_with_its_status(here):
    def command(*words):
        line = [sys.executable, "-m", "gan_lightning.cli.evaluate", *words]
        return subprocess.run(line, capture_output=True, text=True, timeout=120, cwd=here)

    assert command("--help").returncode == 0
    done = command("nowhere")
    assert done.returncode == 2
    assert "nowhere: there is no such file or folder" in done.stderr
    assert "Traceback" not in done.stderr
    assert command().returncode == 2


def test_a_damaged_checkpoint_takes_no_other_with_it(trained, here, capsys):
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


def test_held_out_points_are_as_good_as_the_law_says(here):
    program.evaluate([program.Path("held_out")], ["data=gaussian_grid"])
    scores = scores_of(rows_of(here)[0])
    assert scores["modes"] == 25
    assert scores["quality"] == pytest.approx(0.9889, abs=0.01)
