"""Training, evaluation, resume and loading from Python."""

import json
import re
from functools import partial
from pathlib import Path

import pytest
import torch
from PIL import Image
from pytorch_lightning import Callback
from pytorch_lightning.callbacks import EarlyStopping
from torch import nn

import gan_lightning
from gan_lightning import Trainer, UserError, default_callbacks, evaluate, from_dataset, load, train
from gan_lightning.callbacks.checkpoint import Checkpoint
from gan_lightning.callbacks.evaluate import Evaluate
from gan_lightning.callbacks.metric_logger import MetricLogger
from gan_lightning.cli import sample
from gan_lightning.cli.evaluate import main as evaluate_command
from gan_lightning.export.model_card import training_settings
from gan_lightning.loss.non_saturating import NonSaturating
from gan_lightning.model.cgan import CGAN
from gan_lightning.model.dcgan import DCGAN
from gan_lightning.network.dcgan import DCGANDiscriminator, DCGANGenerator
from gan_lightning.run.checkpoint import read
from gan_lightning.run.command_line import check_command_line

SMALL = ["network.width=4", "data.image_size=16", "data.batch_size=4", "data.limit=26", "trainer.accelerator=cpu"]
EVAL = ["feature.width=4", "feature.dim=8", "eval.num_generated=20"]
ADAM = partial(torch.optim.Adam, lr=2e-4, betas=(0.5, 0.999))
PAIRS = [(Image.new("RGB", (20, 16), (9 * i, 255 - 9 * i, 99)), i % 2) for i in range(24)]


class Generator(nn.Module):
    def __init__(self, num_classes=None) -> None:
        super().__init__()
        if num_classes is not None:
            self.num_classes = num_classes
        self.net = nn.Sequential(nn.Linear(8, 3 * 16 * 16), nn.Tanh())

    def forward(self, z, y):
        return self.net(z + y[:, None]).view(-1, 3, 16, 16)


class Discriminator(Generator):
    def __init__(self, num_classes=None) -> None:
        super().__init__(num_classes)
        self.net = nn.Sequential(nn.Flatten(), nn.Linear(3 * 16 * 16, 1))

    def forward(self, x, y):
        return self.net(x).squeeze(1) + y


def parts(generator, discriminator, **more):
    networks = {"generator": generator, "discriminator": discriminator, "loss": NonSaturating(), "latent_dim": 8}
    return networks | {"generator_optimizer": ADAM, "discriminator_optimizer": ADAM} | more


def own_model(**more) -> DCGAN:
    torch.manual_seed(0)
    return DCGAN(**parts(Generator(), Discriminator(), **more))


def our_model(**more) -> CGAN:
    torch.manual_seed(0)
    size = {"shape": (3, 16, 16), "width": 4, "num_classes": 2}
    return CGAN(**parts(DCGANGenerator(8, **size), DCGANDiscriminator(**size), ema_decay=0.9, **more))


def pairs(**more):
    return from_dataset(PAIRS, image_size=16, batch_size=4, class_names=["cat", "dog"], **more)


def fit(model, folder: Path, steps: int, data=None, callbacks=None, **more) -> Trainer:
    trainer = Trainer(
        max_steps=steps,
        default_root_dir=folder,
        accelerator="cpu",
        callbacks=[Checkpoint()] if callbacks is None else callbacks,
    )
    trainer.fit(model, pairs() if data is None else data, **more)
    return trainer


def same_weights(a, b) -> bool:
    a, b = a.state_dict(), b.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("build", [own_model, our_model])
def test_model_of_parts_resumes_bit_for_bit(build, tmp_path):
    whole, first, resumed = build(d_steps=2), build(d_steps=2), build(d_steps=2)
    fit(whole, tmp_path / "whole", 7, pairs(flip=True))
    fit(first, tmp_path / "parts", 3, pairs(flip=True), ckpt_path="last")  # there is none, so a new run starts
    trainer = fit(resumed, tmp_path / "parts", 7, pairs(flip=True), ckpt_path="last")
    assert trainer.global_step == 7
    assert not same_weights(whole, first)
    assert same_weights(whole, resumed)


def test_model_of_our_parts_is_rebuilt_from_its_checkpoint(tmp_path, monkeypatch):
    model = our_model()
    fit(model, tmp_path, 2)
    for path in (tmp_path, tmp_path / "checkpoints" / "last.ckpt", tmp_path / "checkpoints" / "step_00000002.ckpt"):
        loaded = load(path)
        assert isinstance(loaded, CGAN)
        assert not loaded.training
        assert same_weights(loaded, model)
    assert loaded.class_names == model.class_names == ["cat", "dog"]
    assert torch.equal(loaded.sample(labels=["dog"]), model.sample(labels=[1]))
    monkeypatch.setattr("sys.argv", ["gan-sample", str(tmp_path), "--num", "2", "--out", str(tmp_path / "grid.png")])
    sample.main()
    assert (tmp_path / "grid.png").exists()
    settings = training_settings(read(tmp_path / "checkpoints" / "last.ckpt"))
    assert (settings["model"], settings["data"], settings["batch_size"]) == ("CGAN", "DatasetImages", 4)
    assert settings["weights"] == "EMA, decay 0.9"
    assert settings["precision"] == "32-true"


def test_model_with_own_networks_is_loaded_into_one_that_is_passed(tmp_path):
    model = own_model(ema_decay=0.5)
    fit(model, tmp_path, 2)
    assert model.num_classes == 0
    torch.manual_seed(1)
    other = DCGAN(**parts(Generator(), Discriminator(), ema_decay=0.5))
    loaded = load(tmp_path, model=other)
    assert loaded is other
    assert not loaded.training
    assert torch.equal(loaded.sample(3, seed=1), model.sample(3, seed=1))
    path = tmp_path / "checkpoints" / "last.ckpt"
    names = ", ".join(f"{cls.__module__}.{cls.__name__}" for cls in (Generator, Discriminator))
    with pytest.raises(UserError) as error:
        load(path, trust_checkpoint=True)
    assert str(error.value) == (
        f"{path}: was trained in Python with {names}, whose arguments a checkpoint does not hold; construct the model "
        "as it was trained, and pass it: gan_lightning.load(path, model=model)"
    )
    with pytest.raises(UserError, match=r"its weights do not fit the model that was passed: .*Unexpected key"):
        load(path, model=own_model())


def test_commands_name_what_checkpoint_of_python_lacks(tmp_path, monkeypatch, capsys):
    fit(our_model(), tmp_path / "run", 1)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["gan-evaluate", "run"])
    with pytest.raises(SystemExit):
        evaluate_command()
    message = (
        f"{Path('run', 'checkpoints', 'last.ckpt')}: was trained in Python on PIL.Image.Image, which a checkpoint does "
        "not hold; evaluate it there with gan_lightning.evaluate(model, data), or on other data: data=OPTION"
    )
    assert capsys.readouterr().err.splitlines()[-1].endswith(message)
    message = "was trained in Python by trainer.fit, and has no configuration; resume it there: trainer.fit(model, data"
    with pytest.raises(UserError, match=re.escape(message)):
        check_command_line(["ckpt_path=last", "hydra.run.dir=run", "trainer.max_steps=5"])


def test_conditional_networks_of_ones_own(tmp_path):
    model = CGAN(**parts(Generator(2), Discriminator(2)))
    fit(model, tmp_path, 1)
    assert (model.num_classes, model.class_names) == (2, ["cat", "dog"])
    assert model.sample(labels=["cat", "dog"]).shape == (2, 3, 16, 16)
    with pytest.raises(ValueError, match="cgan: both networks need num_classes > 0"):
        CGAN(**parts(Generator(2), Discriminator()))
    with pytest.raises(ValueError, match="cgan: both networks need num_classes > 0"):
        CGAN(**parts(Generator(), Discriminator(2)))


def test_default_callbacks_work_with_own_data_and_networks(tmp_path):
    class Seen(Callback):
        def on_validation_end(self, trainer, module):
            scores.append({name: float(value) for name, value in trainer.callback_metrics.items()})

    scores: list[dict[str, float]] = []
    settings = ["eval.every_n_steps=2", *EVAL, "callbacks.metric_logger.every_n_steps=1", "~callbacks.progress"]
    callbacks = default_callbacks(*settings)
    assert isinstance(callbacks[0], MetricLogger)
    trainer = fit(own_model(), tmp_path, 4, callbacks=[*callbacks, Seen()])
    assert len(scores) == 2
    assert {"eval/fd", "eval/kd", "eval/precision", "eval/recall"} <= scores[0].keys()
    evaluator = next(callback for callback in callbacks if isinstance(callback, Evaluate))
    expected = {f"eval/{score.name}": pytest.approx(score.value) for score in evaluator.latest}
    assert {name: float(value) for name, value in trainer.callback_metrics.items()} == expected
    assert {path.name for path in tmp_path.iterdir()} == {"checkpoints", "samples", "metrics.csv", "evaluation.jsonl"}
    assert (tmp_path / "checkpoints" / "best.ckpt").exists()
    assert len((tmp_path / "metrics.csv").read_text().splitlines()) == 5
    assert {json.loads(line)["step"] for line in (tmp_path / "evaluation.jsonl").read_text().splitlines()} == {2, 4}


def test_callback_of_lightning_monitors_scores(tmp_path):
    evaluation = [c for c in default_callbacks("eval.every_n_steps=1", *EVAL) if isinstance(c, Evaluate)]
    stopping = EarlyStopping(monitor="eval/fd", divergence_threshold=0.0)
    trainer = fit(own_model(), tmp_path, 5, callbacks=[*evaluation, stopping, Checkpoint()])
    assert trainer.global_step == 1


def test_default_callbacks_report_all_invalid_settings():
    with pytest.raises(UserError) as error:
        default_callbacks("eval.evry_n_steps=2", "callbacks.checkpoint.keep=0", "--help")
    assert error.value.errors == ("--help: is a flag of the command line; pass settings KEY=VALUE",)
    with pytest.raises(UserError) as error:
        default_callbacks("eval.evry_n_steps=2", "callbacks.checkpoint.keep=0")
    assert len(error.value.errors) == 2
    assert "eval.every_n_steps" in str(error.value)


def test_evaluate_returns_scores_with_cards(tmp_path):
    model, data = our_model(), pairs(test=PAIRS[:7])
    fit(model, tmp_path, 1, data)
    scores = evaluate(model, data, *EVAL, "metric=[precision_recall,class_accuracy]")
    assert scores.keys() == {"precision", "recall", "class_accuracy"}
    card = scores["precision"].card
    assert (card["num_generated"], card["num_real"], card["split"], card["data"]) == (20, 24, "train", "DatasetImages")
    assert 0 <= scores["precision"].value <= 1
    assert evaluate(model, data, *EVAL, "eval.reference=test", "metric=fid")["fd"].card["num_real"] == 7


def test_train_equals_command_line_and_resumes_bit_for_bit(run, tmp_path):
    class Counted(Callback):
        def on_train_batch_end(self, *_):
            counted.append(1)

    counted: list[int] = []
    settings = ["model=vanilla", "data=digits", "eval.every_n_steps=null", "~callbacks.progress", *SMALL]
    whole = train(*settings, "trainer.max_steps=5", run_dir=tmp_path / "whole", callbacks=[Counted()])
    assert len(counted) == 5
    first = train(*settings, "trainer.max_steps=2", run_dir=tmp_path / "run")
    assert first.global_step == 2
    resumed = train("ckpt_path=last", "trainer.max_steps=5", run_dir=tmp_path / "run")
    assert resumed.global_step == 5
    assert same_weights(whole.lightning_module, resumed.lightning_module)
    by_command = run(tmp_path / "command", *settings, "trainer.max_steps=5")
    assert same_weights(whole.lightning_module, by_command.lightning_module)
    assert same_weights(load(tmp_path / "run"), whole.lightning_module)
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert (result["status"], result["step"]) == ("finished", 5)
    assert result["overrides"] == [*settings, "trainer.max_steps=2", "trainer.max_steps=5"]
    stored = read(tmp_path / "run" / "checkpoints" / "last.ckpt")["hyper_parameters"]
    assert stored["choices"]["model"] == "vanilla"
    assert not any("hydra" in group for group in stored["choices"])


def test_train_reports_all_invalid_settings_before_it_writes(tmp_path):
    with pytest.raises(UserError) as error:
        train("model=dcgn", "trainer.max_steps=0", run_dir=tmp_path / "run")
    assert len(error.value.errors) == 2
    assert "did you mean dcgan?" in str(error.value)
    assert not (tmp_path / "run").exists()


def test_train_rejects_directory_of_another_run(tmp_path):
    settings = ["model=vanilla", "data=digits", "eval.every_n_steps=null", "~callbacks.progress", *SMALL]
    train(*settings, "trainer.max_steps=1", run_dir=tmp_path)
    with pytest.raises(UserError, match="contains another run; add ckpt_path=last to resume it"):
        train(*settings, "trainer.max_steps=1", run_dir=tmp_path)


def test_public_names_can_be_imported_and_have_docstrings():
    for name in gan_lightning.__all__:
        assert getattr(gan_lightning, name).__doc__
    assert dir(gan_lightning) == sorted(gan_lightning.__all__)
    with pytest.raises(AttributeError, match="module 'gan_lightning' has no attribute 'tran'"):
        gan_lightning.tran  # noqa: B018
