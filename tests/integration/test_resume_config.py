"""Configuration of a resumed run: which settings come from the checkpoint, which may change, which are rejected."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from command_errors import errors
from omegaconf import OmegaConf, open_dict

from gan_lightning.run.checkpoint import read
from gan_lightning.run.command_line import check_command_line
from gan_lightning.run.fit import train

ROOT = Path(__file__).parents[2]
SGD = (
    *("optimizer@model.generator_optimizer=sgd", "~model.generator_optimizer.betas"),
    *("optimizer@model.discriminator_optimizer=sgd", "~model.discriminator_optimizer.betas"),
)


@pytest.fixture(scope="module")
def done(tmp_path_factory) -> Path:
    """Run directory of a tiny wgan with settings other than the defaults."""
    folder = tmp_path_factory.mktemp("done")
    words = ["model=wgan", "seed=7", "network.width=4", "data.limit=20", "data.batch_size=4", "data.image_size=16"]
    command = [sys.executable, "train.py", *words, "trainer.max_steps=2", f"hydra.run.dir={folder}"]
    subprocess.run([*command, "callbacks.checkpoint.every_n_steps=1"], cwd=ROOT, check=True, capture_output=True)
    return folder


@pytest.fixture
def run(done, tmp_path) -> Path:
    return Path(shutil.copytree(done, tmp_path / "run"))


def resumed(*argv: str):
    """Return the configuration with which the command would resume."""
    from hydra import compose, initialize_config_dir

    from gan_lightning.io.paths import CONF

    name, overrides, _ = check_command_line([*argv])
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose(name, [word for word in overrides if not word.startswith("--")], return_hydra_config=True)
    return name, config


def test_checkpoint_path_sets_configuration_and_run_dir(run):
    name, config = resumed(f"ckpt_path={run}/checkpoints/last.ckpt", "trainer.max_steps=9")
    assert name == "resume"
    assert (config.seed, config.network.width, config.data.limit, config.model.d_steps) == (7, 4, 20, 5)
    assert config.model._target_.endswith("WGAN")
    assert config.trainer.max_steps == 9
    assert Path(config.hydra.run.dir) == run


def test_ckpt_path_last_takes_newest_checkpoint(run):
    _, config = resumed("ckpt_path=last", f"hydra.run.dir={run}")
    assert config.ckpt_path.endswith(("last.ckpt", "step_00000002.ckpt")), "neither name of the newest checkpoint"
    assert config.seed == 7


def test_repeated_command_line_resumes(done, tmp_path):
    """The command of a preemptible job is the same at every start, and may remove and add keys."""
    line = ["~logger", "~callbacks.progress", "+trainer.detect_anomaly=true", "+model.generator_optimizer.eps=1e-7"]
    run = tmp_path / "run"
    words = *line, "model=vanilla", "data.limit=20", "data.batch_size=4", "network.width=4", "data.image_size=16"
    where = f"hydra.run.dir={run}", "ckpt_path=last", "trainer=cpu", "trainer.max_steps=1", "eval.every_n_steps=null"
    command = [sys.executable, str(ROOT / "train.py"), *words, *where]
    assert subprocess.run(command, cwd=tmp_path, capture_output=True).returncode == 0
    name, config = resumed(*words, *where)
    assert name == "resume"
    assert "logger" not in config
    assert "progress" not in config.callbacks
    assert config.trainer.detect_anomaly is True
    second = subprocess.run([*command, "trainer.max_steps=2"], cwd=tmp_path, capture_output=True, text=True)
    assert second.returncode == 0, second.stdout + second.stderr
    assert read(run / "checkpoints" / "last.ckpt")["global_step"] == 2


@pytest.mark.parametrize(
    ("words", "kept"),
    [
        (
            [
                "experiment=vanilla_gaussian_ring",
                "trainer=cpu",
                "callbacks=default",
                "data.num=100",
                "data.batch_size=8",
            ],
            {"callbacks.learning_rate.schedule": "linear_decay", "model.ema_decay": 0.999},
        ),
        (["model=dcgan", "protocol=50k_train", "data=digits"], {"eval.num_generated": 50_000}),
        (["model=dcgan", "protocol=10k_test", "feature=classifier", "feature.epochs=1"], {"feature.epochs": 1}),
        (["model=wgan_gp", *SGD], {"model.generator_optimizer._target_": "torch.optim.SGD"}),
    ],
)
def test_repeated_command_line_changes_no_setting(tmp_path, capsys, words, kept):
    """Values that an experiment or another group has set survive when a group is on the command line again."""
    small = ["network.width=4", "data.image_size=16", "data.limit=20", "data.batch_size=4"]
    small = [] if "experiment" in words[0] else small
    line = [*words, *small, "eval.every_n_steps=null", f"hydra.run.dir={tmp_path}/run", "ckpt_path=last"]
    name, config = resumed(*line)
    assert name == "train"
    choices = dict(config.hydra.runtime.choices)
    with open_dict(config):
        del config.hydra
    config.trainer.max_steps, config.trainer.accelerator, budget = 1, "cpu", config.trainer.max_steps
    train(config, tmp_path / "run", None, {k: v for k, v in choices.items() if not k.startswith("hydra")})
    capsys.readouterr()
    name, config = resumed(*line)
    assert name == "resume"
    changes = [text for text in capsys.readouterr().out.splitlines() if text.startswith("changed")]
    assert set(changes) <= {"changed: trainer.accelerator from cpu to auto"}
    assert config.trainer.max_steps == 1, f"not the stored budget; the default is {budget}"
    assert {key: OmegaConf.select(config, key) for key in kept} == kept


def test_trainer_group_keeps_max_steps_on_resume(run, capsys):
    _, config = resumed("ckpt_path=last", f"hydra.run.dir={run}", "trainer=gpu")
    assert (config.trainer.max_steps, config.trainer.accelerator) == (2, "gpu")
    _, config = resumed("ckpt_path=last", f"hydra.run.dir={run}", "trainer=gpu", "trainer.max_steps=9")
    assert config.trainer.max_steps == 9


def test_last_option_of_repeated_group_wins(run):
    where = "ckpt_path=last", f"hydra.run.dir={run}"
    assert resumed(*where, "trainer=gpu", "trainer=default")[1].trainer.accelerator == "auto"
    assert resumed(*where, "trainer=default", "trainer=gpu")[1].trainer.accelerator == "gpu"
    assert resumed(*where, "model=dcgan", "model=wgan")[1].model._target_.endswith("WGAN")


def test_deleting_required_key_is_an_error_on_resume(run):
    for word in ("~seed", "~sede"):
        assert errors("ckpt_path=last", f"hydra.run.dir={run}", word)[0].startswith(f"{word}: is needed")


def test_protocol_override_sets_feature_network_on_resume(run):
    _, config = resumed("ckpt_path=last", f"hydra.run.dir={run}", "protocol=50k_train")
    assert config.eval.num_generated == 50_000
    assert config.feature._target_.endswith("Inception")
    _, config = resumed("ckpt_path=last", f"hydra.run.dir={run}", "data=stacked_mnist", "force_resume=true")
    assert (config.feature.per_channel, config.eval.num_generated) == (True, 26_000)


def test_logger_and_callback_can_be_removed_on_resume(run, capsys):
    _, config = resumed("ckpt_path=last", f"hydra.run.dir={run}", "~logger", "~callbacks.progress")
    assert "logger" not in config
    assert "progress" not in config.callbacks


def test_ckpt_path_last_skips_truncated_checkpoints(run, capsys):
    for name in ("last.ckpt", "step_00000002.ckpt", "best.ckpt"):
        path = run / "checkpoints" / name
        content = path.read_bytes()
        path.unlink()
        path.write_bytes(content[: len(content) // 2])
    _, config = resumed("ckpt_path=last", f"hydra.run.dir={run}")
    assert config.ckpt_path.endswith("step_00000001.ckpt")
    assert "cannot be read" in capsys.readouterr().out


def test_ckpt_path_last_starts_new_run_without_checkpoints(tmp_path):
    name, config = resumed("ckpt_path=last", f"hydra.run.dir={tmp_path}/new", "seed=3")
    assert (name, config.ckpt_path, config.seed) == ("train", None, 3)


def test_ckpt_path_last_fails_if_all_checkpoints_are_damaged(run):
    for path in (run / "checkpoints").iterdir():
        path.unlink()
        path.write_bytes(b"PK")
    assert "none that can be read" in errors("ckpt_path=last", f"hydra.run.dir={run}")[0]


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("seed=8", "seed: the run was started with 7, not 8"),
        ("model=dcgan", "model: the run was started with wgan, not dcgan"),
        ("model.clip_value=0.5", "model.clip_value: the run was started with 0.01, not 0.5"),
        ("data=mnist", "data: the run was started with digits, not mnist"),
        ("data.batch_size=8", "data.batch_size: the run was started with 4, not 8"),
        ("network.width=8", "network.width: the run was started with 4, not 8"),
        (
            "optimizer@model.generator_optimizer=sgd",
            "optimizer@model.generator_optimizer: the run was started with rmsprop, not sgd",
        ),
        ("loss=hinge", "loss: the run was started with wasserstein, not hinge"),
    ],
)
def test_settings_of_another_run_are_rejected_on_resume(run, word, message):
    found = errors(f"ckpt_path={run}/checkpoints/last.ckpt", word)
    assert any(error.startswith(message) for error in found), found


@pytest.mark.parametrize(
    "word",
    [
        "trainer.max_steps=5",
        "trainer.micro_batch=8",
        "seed=7",
        "model=wgan",
        "callbacks.metric_logger.every_n_steps=2",
        "optimizer@model.generator_optimizer=rmsprop",
        "model.generator_optimizer.lr=1e-6",
        "logger=csv",
        "trainer=cpu",
    ],
)
def test_budget_callbacks_and_equal_settings_are_accepted_on_resume(run, word):
    assert resumed(f"ckpt_path={run}/checkpoints/last.ckpt", word)[0] == "resume"


def test_changed_settings_are_printed_on_resume(run, capsys):
    resumed(
        f"ckpt_path={run}/checkpoints/last.ckpt",
        "trainer.max_steps=9",
        "callbacks.metric_logger.every_n_steps=2",
        "seed=7",
    )
    changes = [line for line in capsys.readouterr().out.splitlines() if line.startswith("changed")]
    assert changes == [
        "changed: trainer.max_steps from 2 to 9",
        "changed: callbacks.metric_logger.every_n_steps from 50 to 2",
    ]


@pytest.mark.parametrize(
    ("word", "message", "key"),
    [
        ("seed=8", "changed: seed from 7 to 8", "seed"),
        ("network.width=8", "changed: network.width from 4 to 8", "model.generator.width"),
        ("data.flip=true", "changed: data.flip from False to True", "data.flip"),
        ("loss=hinge", "changed: loss._target_ from", "loss._target_"),
    ],
)
def test_force_resume_accepts_settings_of_another_run(run, capsys, word, message, key):
    last = f"ckpt_path={run}/checkpoints/last.ckpt"
    _, config = resumed(last, word, "force_resume=true")
    assert message in capsys.readouterr().out
    value = str(OmegaConf.select(config, key))
    assert value.casefold().endswith(word.partition("=")[2]), value
    assert config.force_resume is True


def test_force_resume_rejects_other_networks(run):
    (error,) = errors(f"ckpt_path={run}/checkpoints/last.ckpt", "model=dcgan", "force_resume=true")
    assert "init_from=FILE" in error
    assert "force" not in error


def test_force_resume_and_trust_checkpoint_are_not_stored(run):
    """Otherwise every later resume would be forced, too."""
    path = run / "checkpoints" / "last.ckpt"
    checkpoint = read(path)
    checkpoint["hyper_parameters"]["config"] |= {"force_resume": True, "trust_checkpoint": True}
    torch.save(checkpoint, path)
    _, config = resumed(f"ckpt_path={path}")
    assert (config.force_resume, config.trust_checkpoint) == (False, False)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("loss._target_", "os.system", "names 'os.system', which is no class of this version"),
        ("logger.tensorboard.save_dir", "/elsewhere", "writes outside the run directory"),
        ("logger.tensorboard.save_dir", "elsewhere", "writes outside the run directory"),
        ("logger.tensorboard.name", "../../elsewhere", "writes outside the run directory"),
        ("callbacks.sample_grid.folder", "~/elsewhere", "writes outside the run directory"),
    ],
)
def test_unsafe_targets_and_paths_in_untrusted_checkpoint_are_rejected(run, key, value, message):
    path = run / "checkpoints" / "last.ckpt"
    checkpoint = read(path)
    config = OmegaConf.create(checkpoint["hyper_parameters"]["config"])
    OmegaConf.update(config, key, value, force_add=True)
    checkpoint["hyper_parameters"]["config"] = OmegaConf.to_container(config)
    torch.save(checkpoint, path)
    (error,) = errors(f"ckpt_path={path}")
    assert message in error
    assert error.startswith(f"{path}: ")
    assert error.endswith("trust_checkpoint=true")


@pytest.mark.parametrize("trust", ["trust_checkpoint=false", "trust_checkpoint=true"])
@pytest.mark.parametrize("value", ["${oc.create:{_target_: os.system}}", "${${seed}:4}", "${oc.env:HOME}", "${seed}"])
def test_interpolations_in_stored_configuration_are_rejected(run, value, trust):
    path = run / "checkpoints" / "last.ckpt"
    checkpoint = read(path)
    assert "${" not in str(checkpoint["hyper_parameters"]["config"])
    checkpoint["hyper_parameters"]["config"]["model"]["generator"]["width"] = value
    torch.save(checkpoint, path)
    (error,) = errors(f"ckpt_path={path}", trust)
    assert error.startswith(f"{path}: not a valid checkpoint: hyper_parameters.config.model.generator.width is '$")
    assert error.endswith("an interpolation, and the configuration is stored resolved")


def test_paths_and_environment_variables_are_not_stored(run, tmp_path, monkeypatch):
    """They are taken from the machine that resumes."""
    stored = read(run / "checkpoints" / "last.ckpt")["hyper_parameters"]["config"]
    assert str(run) not in str(stored)
    assert [stored[key] for key in ("run_dir",)] == ["<run_dir>"]
    assert stored["logger"]["tensorboard"]["save_dir"] == "<run_dir>"
    for section in ("data", "eval"):
        assert "<not stored>" in stored[section].values()
    monkeypatch.setenv("GAN_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("GAN_CACHE_DIR", str(tmp_path / "cache"))
    _, config = resumed("ckpt_path=last", f"hydra.run.dir={run}")
    config.run_dir = "here"
    assert config.data.root == str(tmp_path / "data")
    assert config.eval.cache == config.callbacks.evaluate.cache == str(tmp_path / "cache")
    assert config.logger.tensorboard.save_dir == "here"


def test_override_on_resume_reaches_all_references_to_key(run):
    """An override takes effect in every section that refers to the key, and nowhere else."""
    _, config = resumed(
        "ckpt_path=last", f"hydra.run.dir={run}", "eval.num_generated=64", "feature.dim=5", "data.root=here"
    )
    assert (config.callbacks.evaluate.num_generated, config.callbacks.evaluate.feature.dim) == (64, 5)
    path = run / "checkpoints" / "last.ckpt"
    checkpoint = read(path)
    stored = checkpoint["hyper_parameters"]["config"]
    for node in (stored["network"]["generator"], stored["model"]["generator"]):
        node["width"] = 6  # set for the generator alone, not through network.width
    torch.save(checkpoint, path)
    _, config = resumed("ckpt_path=last", f"hydra.run.dir={run}", "network.width=8", "force_resume=true")
    assert config.model.generator.width == config.network.generator.width == 6
    assert config.model.discriminator.width == config.network.discriminator.width == 8


def test_list_of_group_options_is_stored_as_choice(done, tmp_path):
    """Hydra omits lists from its choices, although the command that started the run repeats them."""
    folder, words = tmp_path / "run", ["metric=[fid]", "model=vanilla", "data.limit=20", "network.width=4"]
    words += ["data.image_size=16", "data.batch_size=4", "trainer=cpu", "eval.every_n_steps=null", "ckpt_path=last"]
    command = [sys.executable, "train.py", *words, "trainer.max_steps=1", f"hydra.run.dir={folder}"]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    assert read(folder / "checkpoints" / "last.ckpt")["hyper_parameters"]["choices"]["metric"] == ["fid"]
    _, config = resumed(*words, f"hydra.run.dir={folder}")
    assert [*config.metric] == [*config.callbacks.evaluate.metrics] == ["fid"]
    _, config = resumed(*words, "metric=[fid,kid]", f"hydra.run.dir={folder}")
    assert [*config.metric] == ["fid", "kid"]


def test_tracking_uri_on_command_line_is_accepted_on_resume(run):
    """The command of a preemptible job repeats all overrides, the address of the tracking server among them."""
    words = "logger=mlflow", "logger.mlflow.tracking_uri=http://figures"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("gan_lightning.run.command_line.errors_of_overrides", lambda *_: [])
        assert check_command_line([f"ckpt_path={run}/checkpoints/last.ckpt", *words])[0] == "resume"


def test_cache_path_of_checkpoint_is_ignored(run):
    path = run / "checkpoints" / "last.ckpt"
    checkpoint = read(path)
    checkpoint["hyper_parameters"]["config"]["eval"]["cache"] = "/elsewhere"
    torch.save(checkpoint, path)
    _, config = resumed(f"ckpt_path={path}")
    assert config.eval.cache != "/elsewhere"


def test_misspelt_key_gets_suggestion_on_resume(run):
    found = errors(f"ckpt_path={run}/checkpoints/last.ckpt", "trainer.max_step=5")
    assert "did you mean trainer.max_steps?" in found[0]


def test_checkpoints_of_other_programs_and_damaged_ones_are_rejected(tmp_path):
    plain, text, half = tmp_path / "plain.ckpt", tmp_path / "text.ckpt", tmp_path / "half.ckpt"
    torch.save({"state_dict": {}}, plain)
    text.write_text("hello")
    half.write_bytes(plain.read_bytes()[:200])
    assert "not one of gan-lightning's" in errors(f"ckpt_path={plain}")[0]
    for path in (text, half):
        assert "cannot be read (damaged" in errors(f"ckpt_path={path}")[0]


def test_checkpoint_outside_run_directory_requires_run_dir(run, tmp_path):
    path = shutil.copy(run / "checkpoints" / "last.ckpt", tmp_path / "mine.ckpt")
    assert "hydra.run.dir=FOLDER" in errors(f"ckpt_path={path}")[0]
    _, config = resumed(f"ckpt_path={path}", f"hydra.run.dir={tmp_path}/on")
    assert config.hydra.run.dir == f"{tmp_path}/on"
