"""Callback Evaluate: scores and their cards during training, best checkpoint, summary, and resumed runs."""

import json
import math
import statistics

import pytest
import torch
from pytorch_lightning.callbacks import EarlyStopping

from gan_lightning.callbacks.evaluate import Evaluate
from gan_lightning.errors import UserError
from gan_lightning.evaluation.evaluator import Evaluator
from gan_lightning.evaluation.score import FIELDS, card_hash, differences
from gan_lightning.metric.class_accuracy import ClassAccuracy
from gan_lightning.metric.fid import FID
from gan_lightning.run import checkpoint as checkpoints
from gan_lightning.run.fit import train
from gan_lightning.run.summary import exit_status_and_reason

EVAL = (
    "eval.every_n_steps=2",
    "eval.num_generated=40",
    "eval.num_real=20",
    "metric.kid.subsets=5",
    "trainer.max_steps=5",
)

EVAL = (
    "eval.every_n_steps=2",
    "eval.num_generated=40",
    "eval.num_real=20",
    "metric.kid.subsets=5",
    "trainer.max_steps=5",
)
OPTIONAL_FIELDS = {"num_held_out", "logits_sha256", "fitted", "origin"}  # fields that not every score has


def callback_of(trainer) -> Evaluate:
    return next(callback for callback in trainer.callbacks if isinstance(callback, Evaluate))


def optimized_parameters(path) -> dict[str, torch.Tensor]:
    return checkpoints.read(path)["state_dict"]


def lines_of(folder) -> list[dict]:
    return [json.loads(line) for line in (folder / "evaluation.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("ema", ["model.ema_decay=0.9", "model.ema_decay=null"])
def test_evaluation_does_not_change_trained_weights(run, tmp_path, learner, ema):
    run(tmp_path / "on", f"model={learner}", ema, *EVAL)
    run(tmp_path / "off", f"model={learner}", ema, *EVAL, "eval.every_n_steps=null")
    assert (tmp_path / "on" / "evaluation.jsonl").exists()
    assert not (tmp_path / "off" / "evaluation.jsonl").exists()
    on, off = (optimized_parameters(tmp_path / name / "checkpoints" / "last.ckpt") for name in ("on", "off"))
    assert on.keys() == off.keys()
    assert all(torch.equal(on[name], off[name]) for name in on)


def test_every_score_is_logged_with_its_card(run, tmp_path):
    trainer = run(tmp_path, "model=cgan", "metric=all", "data.limit=26", *EVAL)
    lines = lines_of(tmp_path)
    assert {line["step"] for line in lines} == {2, 4, 5}, "not every second step and the last"
    names = {line["metric"] for line in lines}
    assert names >= {"fd", "kd", "precision", "recall", "density", "coverage", "class_accuracy", "classes_found"}
    assert names >= {"inception_score", "class_kl", "copies"}
    for line in lines:
        assert set(FIELDS) - OPTIONAL_FIELDS <= line["card"].keys() <= set(FIELDS)
        assert len(line["card_hash"]) == 12
    hashes_of = {name: {line["card_hash"] for line in lines if line["metric"] == name} for name in names}
    assert all(len(hashes) == 1 for hashes in hashes_of.values())
    assert hashes_of["precision"] == hashes_of["recall"] != hashes_of["fd"]
    accuracy = next(line for line in lines if line["metric"] == "class_accuracy")
    assert len(accuracy["details"]["class_accuracy_each"]) == 10
    state = checkpoints.read(tmp_path / "checkpoints" / "last.ckpt")["callbacks"]["Evaluate"]
    assert state["curve"][-1]["step"] == 5
    assert state["cards"][state["curve"][-1]["scores"]["fd"][1]]["metric"] == "FD"
    value = next(x["value"] for x in lines if (x["step"], x["metric"]) == (5, "fd"))
    assert callback_of(trainer).last(5)["fd"] == (value, *hashes_of["fd"])
    copies = next(line["card"] for line in lines if line["metric"] == "copies")
    assert (copies["num_real"], copies["num_held_out"], copies["split"]) == (26, 1771, "train, and held out")


def test_card_describes_weights_batchnorm_labels_and_seeds(run, tmp_path):
    def card(*more: str) -> dict:
        folder = tmp_path / str(len([*tmp_path.iterdir()]))
        run(folder, *EVAL, *more)
        return next(line["card"] for line in lines_of(folder) if line["metric"] == "fd")

    plain, averaged = card("model=dcgan"), card("model=dcgan", "model.ema_decay=0.9")
    assert (plain["weights"], plain["batchnorm"], plain["labels"]) == ("raw", "running statistics", "data")
    assert averaged["weights"] == "average"
    assert averaged["batchnorm"].startswith("recalibrated")
    assert set(differences([plain, averaged])) == {"weights", "batchnorm"}
    assert differences([plain, card("model=dcgan", "seed=3")]) == {}
    for other in ("model=vanilla", "model=cgan", "model=wgan_gp"):
        assert card_hash(card(other)) == card_hash(plain), "variants have different cards"
    assert plain["generator_dtype"] == "float32"
    conditional = card("model=cgan", "eval.label_distribution=uniform")
    assert conditional["labels"] == "uniform"
    assert set(differences([plain, conditional])) == {"labels"}
    assert set(differences([plain, card("model=dcgan", "eval.num_real=12", "eval.seed=1")])) == {
        "num_real", "data_sha256", "sampling_seed"
    }  # fmt: skip


def test_best_checkpoint_is_kept_and_summarized(run, tmp_path, monkeypatch):
    values = iter([30.0, 10.0, 25.0])
    monkeypatch.setattr(FID, "__call__", lambda *_: {"fid": next(values)})
    trainer = run(tmp_path, "model=vanilla", *EVAL)
    callback = callback_of(trainer)
    assert callback.best() == (4, 10.0)
    assert callback.worst() == (2, 30.0)
    assert checkpoints.read(tmp_path / "checkpoints" / "best.ckpt")["global_step"] == 4
    assert checkpoints.read(tmp_path / "checkpoints" / "last.ckpt")["global_step"] == 5
    callback.seconds = 1.0
    lines = callback.summary(seconds=10.0)
    assert lines[0] == "fd  best 10 at step 4, last 25 at step 5, worst 30 at step 2"
    assert "40 generated against 20 of Digits (train)" in lines[1]
    assert "10% of the time" in lines[1]
    assert "The last checkpoint is much worse than the best: fd 25 against 10 at step 4, 2.5 times." in lines[2]


def test_early_stopping_monitors_scores_at_each_evaluation(compose, tmp_path, monkeypatch):
    """EarlyStopping ends the run at an evaluation, before max_steps, with status 0."""
    values = iter([30.0, 10.0, 25.0, 26.0, 1.0])
    monkeypatch.setattr(FID, "__call__", lambda *_: {"fid": next(values)})
    config = compose("model=vanilla", *EVAL, "eval.every_n_steps=2", "trainer.max_steps=20")
    trainer = train(config, tmp_path, more_callbacks=[EarlyStopping("eval/fd", patience=2, verbose=False)])
    assert trainer.global_step == 8
    assert float(trainer.callback_metrics["eval/fd"]) == 26.0
    assert checkpoints.read(tmp_path / "checkpoints" / "last.ckpt")["global_step"] == 8
    status, reason = exit_status_and_reason(trainer)
    assert status == 0
    assert reason.startswith("Monitored metric eval/fd did not improve in the last 2 records. Best score: 10.000")


PATIENCE = "callbacks.early_stopping.patience=2"
# The distance at steps 2, 4 and 6, then with four other seeds, since 9.9 is better than 30, and at step 8.
SCORES, NOISE = [30.0, 10.0, 9.9, 9.0, 11.0, 9.0, 11.0, 9.8], (4 / 3) ** 0.5 / 10


def test_early_stopping_ignores_improvements_within_noise(compose, tmp_path, monkeypatch):
    values = iter(SCORES)
    monkeypatch.setattr(FID, "__call__", lambda *_: {"fid": next(values)})
    config = compose("model=vanilla", *EVAL, "eval.every_n_steps=2", "trainer.max_steps=20", PATIENCE)
    trainer = train(config, tmp_path)
    assert trainer.global_step == 8
    assert exit_status_and_reason(trainer) == (
        0,
        f"early stopping: fd has not improved by more than {2 * NOISE * 10:.3g} in 2 evaluations; the best is 9.8 "
        "at step 8",
    )
    assert checkpoints.read(tmp_path / "checkpoints" / "best.ckpt")["global_step"] == 8
    assert [*values] == []


def test_early_stopping_measures_noise_once_in_resumed_run(run, tmp_path, monkeypatch):
    values = iter(SCORES)
    monkeypatch.setattr(FID, "__call__", lambda *_: {"fid": next(values)})
    overrides = "model=vanilla", *EVAL, "eval.every_n_steps=2", PATIENCE
    run(tmp_path, *overrides, "trainer.max_steps=6")
    last = tmp_path / "checkpoints" / "last.ckpt"
    trainer = run(tmp_path, *overrides, "trainer.max_steps=20", ckpt_path=last)
    assert trainer.global_step == 8
    assert [*values] == []


@pytest.mark.parametrize(("scores", "step"), [([10.0, 11.0, 12.0], 6), ([10.0, 11.0, 10.0], 6)])
def test_early_stopping_without_improvement_measures_no_noise(run, tmp_path, monkeypatch, scores, step):
    values = iter(scores)
    monkeypatch.setattr(FID, "__call__", lambda *_: {"fid": next(values)})
    trainer = run(tmp_path, "model=vanilla", *EVAL, "eval.every_n_steps=2", "trainer.max_steps=20", PATIENCE)
    assert trainer.global_step == step
    assert [*values] == []


def test_noise_is_relative_std_over_other_seeds(run, tmp_path):
    trainer = run(tmp_path, "model=vanilla", *EVAL, "trainer.max_steps=2")
    evaluate, model = callback_of(trainer), trainer.lightning_module
    noise = evaluate.measure_noise(trainer, model, 3)
    evaluator, values = evaluate.evaluator, []
    for seed in (1, 2, 3):
        evaluator.seed = seed
        values.append(evaluator.score(evaluator.draw(model), {})[0].value)
    assert len(set(values)) == 3
    assert noise == pytest.approx(statistics.stdev(values) / statistics.mean(values))


def test_damaged_lines_of_scores_are_skipped_and_others_are_kept(run, tmp_path, caplog):
    run(tmp_path, "model=vanilla", *EVAL, "callbacks.checkpoint.every_n_steps=4")
    path = tmp_path / "evaluation.jsonl"
    lines = path.read_bytes().split(b"\n")[:-1]
    odd = [b"\xff" + lines[0], lines[1][:-9], b"[1]", b'{"step": "x"}', b"\x00", b""]
    path.write_bytes(b"\n".join([*odd, *lines]) + b"\n" + lines[0][:7])
    last = tmp_path / "checkpoints" / "step_00000004.ckpt"
    run(tmp_path, "model=vanilla", *EVAL, "eval.every_n_steps=null", ckpt_path=last)
    assert path.read_bytes().split(b"\n")[:-1] == [line for line in lines if json.loads(line)["step"] <= 4]
    assert f"{path}: skipped 6 damaged lines: 1, 2, 3, 4, 5, 6" in caplog.text


def test_unreadable_scores_file_is_renamed_not_overwritten(run, tmp_path, caplog):
    run(tmp_path, "model=vanilla", *EVAL)
    path = tmp_path / "evaluation.jsonl"
    content = path.read_text().encode("utf-16")  # as saved by some editors and by PowerShell
    path.write_bytes(content)
    last = tmp_path / "checkpoints" / "last.ckpt"
    run(tmp_path, "model=vanilla", *EVAL, "eval.every_n_steps=null", "trainer.max_steps=6", ckpt_path=last)
    assert (tmp_path / "evaluation.jsonl.1").read_bytes() == content
    assert path.read_bytes() == b""
    assert f"{path}: none of its lines can be read; it is renamed to evaluation.jsonl.1" in caplog.text


def test_best_checkpoint_by_score_to_maximize(run, tmp_path, monkeypatch):
    values = iter([0.2, 0.9, 0.8])
    monkeypatch.setattr(ClassAccuracy, "__call__", lambda *_: {"class_accuracy": next(values)})
    callback = callback_of(run(tmp_path, "model=cgan", "eval.best_by=class_accuracy", *EVAL))
    assert callback.best() == (4, 0.9)
    assert callback.worst() == (2, 0.2)
    assert len(callback.summary(1.0)) == 2, "0.8 is reported as much worse than 0.9"


def test_resumed_run_has_scores_of_uninterrupted_run(run, tmp_path):
    run(tmp_path / "whole", "model=cgan", *EVAL, "trainer.max_steps=6", "callbacks.checkpoint.every_n_steps=3")
    run(tmp_path / "parts", "model=cgan", *EVAL, "trainer.max_steps=6", "callbacks.checkpoint.every_n_steps=3")
    path = tmp_path / "parts" / "checkpoints" / "step_00000003.ckpt"
    with (tmp_path / "parts" / "evaluation.jsonl").open("a") as file:
        file.write('{"step": 4, "metr')  # as if killed in the middle of a line
    trainer = run(tmp_path / "parts", "model=cgan", *EVAL, "trainer.max_steps=6", ckpt_path=path)
    assert lines_of(tmp_path / "parts") == lines_of(tmp_path / "whole")
    assert [entry["step"] for entry in callback_of(trainer).curve] == [2, 4, 6]
    best = [checkpoints.read(tmp_path / name / "checkpoints" / "best.ckpt") for name in ("whole", "parts")]
    assert best[0]["global_step"] == best[1]["global_step"]


def test_missing_inception_weights_disable_evaluation_only(run, tmp_path, monkeypatch, caplog):
    def offline(*_, **__):
        raise OSError("no route to host")

    monkeypatch.setattr(torch.hub, "download_url_to_file", offline)
    trainer = run(tmp_path, "model=vanilla", "feature=inception", *EVAL)
    assert trainer.global_step == 5
    assert "evaluation is off: feature=inception: the weights are not cached" in caplog.text
    assert not (tmp_path / "evaluation.jsonl").exists()


def test_unknown_best_by_is_rejected_before_setup(run, tmp_path, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr(Evaluator, "setup", lambda *_: pytest.fail("setup runs, which may train a classifier"))
        with pytest.raises(UserError, match=r"eval.best_by=fidd: must be one of fd, "):
            run(tmp_path, "model=vanilla", "eval.best_by=fidd", *EVAL)
    with pytest.raises(UserError, match=r"class_accuracy is not measured, since the model is not conditional"):
        run(tmp_path, "model=dcgan", "eval.best_by=class_accuracy", *EVAL)


def test_nan_score_is_never_best(run, tmp_path, monkeypatch):
    values = iter([math.nan, 5.0, 7.0])
    monkeypatch.setattr(FID, "__call__", lambda *_: {"fid": next(values)})
    trainer = run(tmp_path, "model=vanilla", *EVAL)
    assert callback_of(trainer).best() == (4, 5.0)
    assert checkpoints.read(tmp_path / "checkpoints" / "best.ckpt")["global_step"] == 4


def test_run_resumed_in_new_directory_keeps_own_best_checkpoint(run, tmp_path, monkeypatch):
    """The best checkpoint of the whole curve is in the old directory; the new one is another."""
    values = iter([1.0, 30.0, 10.0, 25.0])
    monkeypatch.setattr(FID, "__call__", lambda *_: {"fid": next(values)})
    run(tmp_path / "old", "model=vanilla", *EVAL, "trainer.max_steps=2")
    path = tmp_path / "old" / "checkpoints" / "last.ckpt"
    trainer = run(tmp_path / "new", "model=vanilla", *EVAL, "trainer.max_steps=8", ckpt_path=path)
    assert callback_of(trainer).best() == (2, 1.0)
    assert checkpoints.read(tmp_path / "new" / "checkpoints" / "best.ckpt")["global_step"] == 6
    assert "holds that one" not in "".join(callback_of(trainer).summary(1.0))


def test_best_checkpoint_of_abandoned_continuation_is_ignored(run, tmp_path):
    """If the run is resumed from step 4, a checkpoint of step 5 belongs to the abandoned continuation."""
    callback = callback_of(run(tmp_path, "model=vanilla", *EVAL))
    kept = checkpoints.read(callback.best_path)["global_step"]
    assert callback.step_of_best(5) == kept
    assert callback.step_of_best(kept - 1) is None
    callback.best_path.write_bytes(callback.best_path.read_bytes()[:1000])
    assert callback.step_of_best(5) is None


def test_last_scores_are_those_of_final_step_only(run, tmp_path):
    """The final step has no scores if evaluation was turned off, or a signal ended the run between evaluations."""
    run(tmp_path, "model=vanilla", *EVAL)
    path = tmp_path / "checkpoints" / "last.ckpt"
    trainer = run(tmp_path, "model=vanilla", *EVAL, "trainer.max_steps=7", "eval.every_n_steps=null", ckpt_path=path)
    callback = callback_of(trainer)
    assert callback.curve[-1]["step"] == 5
    assert callback.last(5).keys() >= {"fd", "kd"}
    assert callback.last(trainer.global_step) == {}


@pytest.mark.parametrize(
    ("words", "first"),
    [
        (["model=cgan"], "fd"),
        (["model=cgan", "metric=[precision_recall,fid]"], "precision"),
        (["model=cgan", "metric=class_histogram"], "class_kl"),
        (["model=vanilla", "data=gaussian_ring"], "reverse_kl"),
    ],
)
def test_best_by_defaults_to_first_measured_score(run, tmp_path, words, first):
    """gan-evaluate sorts by the first score, too."""
    more = [word for word in EVAL if "metric" not in word or words == ["model=cgan"]]
    trainer = run(tmp_path, *words, *more)
    assert callback_of(trainer).best_by == first
    assert lines_of(tmp_path)[0]["metric"] == first


def test_scores_cards_and_notes_are_in_result(run, tmp_path):
    from gan_lightning.run.summary import log_summary

    trainer = run(tmp_path, "model=vanilla", *EVAL)
    from omegaconf import OmegaConf

    config = OmegaConf.load(tmp_path / "config.yaml")
    ended = log_summary(config, trainer, tmp_path, 0.0)
    value, card = callback_of(trainer).last(5)["fd"]
    assert (ended["metrics"]["eval/fd"], ended["cards"]["eval/fd"]) == (value, card)
    assert ended["notes"] == callback_of(trainer).notes(), "no notes about the small number of samples"
    assert any(note.startswith("kd: subsets of 20") for note in ended["notes"])


def test_card_for_points_does_not_depend_on_training_seed(run, tmp_path):
    words = "model=vanilla", "data=gaussian_grid", "eval.every_n_steps=2", "eval.num_generated=50"
    cards = []
    for seed in (0, 1):
        run(tmp_path / str(seed), *words, f"seed={seed}")
        cards.append(lines_of(tmp_path / str(seed))[0]["card"])
    assert differences(cards) == {}


def test_metrics_that_need_more_samples_are_skipped_for_tiny_data_set(run, tmp_path, caplog):
    trainer = run(tmp_path, "model=vanilla", *EVAL, "data.limit=5")
    scores = callback_of(trainer).last(5)
    left_out = callback_of(trainer).evaluator.setup(trainer.datamodule, conditional=False)
    assert left_out["density_coverage"] == "6 samples are needed on each side, and there are 5"
    assert "5 samples cannot span 8 features" in caplog.text
    assert lines_of(tmp_path)[0]["card"]["feature_accuracy"] is None, "accuracy measured without held-out samples"
    assert differences([line["card"] for line in lines_of(tmp_path) if line["metric"] == "fd"]) == {}
    assert "fd" in scores
    assert "precision" in scores, "precision is missing, which needs k + 1 = 4 samples"
    assert "density" not in scores, "density is measured, which needs k + 1 = 6 samples"


def test_scores_with_another_card_are_not_compared_for_best(run, tmp_path):
    """A run that is resumed with another protocol starts a new curve."""
    run(tmp_path, "model=vanilla", *EVAL)
    path = tmp_path / "checkpoints" / "last.ckpt"
    callback = callback_of(
        run(tmp_path, "model=vanilla", *EVAL, "trainer.max_steps=6", "eval.num_generated=30", ckpt_path=path)
    )
    assert len(callback.curve) == 4
    assert [step for step, _ in callback.history()] == [6]
    assert callback.best() == callback.worst() == callback.history()[0]
    assert checkpoints.read(tmp_path / "checkpoints" / "best.ckpt")["global_step"] == 6
