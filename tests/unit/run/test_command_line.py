"""Validation of the command line: all errors are reported together before training, each with a suggested fix."""

import re
import shlex
import shutil
import sys
from pathlib import Path

import pytest
from command_errors import errors
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.utils import get_args_parser
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.types import RunMode
from omegaconf import OmegaConf

from gan_lightning.config import validation
from gan_lightning.io.paths import CONF
from gan_lightning.run import summary
from gan_lightning.run.command_line import check_command_line

ROOT = Path(__file__).parents[3]


GROUPS = {
    "model": ("wgangp", "wgan_gp", "acgan, cgan, dcgan, vae, vanilla, wgan, wgan_gp"),
    "loss": ("hing", "hinge", "hinge, least_squares, minimax, non_saturating, wasserstein"),
    "data": ("celebA", "celeba", "celeba, cifar10, digits, fashion_mnist"),
    "network": ("resnets", "resnet", "dcgan, mlp, mlp_points, resnet"),
    "trainer": ("gpus", "gpu", "cpu, ddp, default, gpu"),
    "callbacks": ("defaults", "default", "checkpoint, default"),
    "logger": ("tensorbord", "tensorboard", "csv, mlflow, tensorboard, wandb"),
    "experiment": ("dcgan_cifar", "dcgan_cifar10", "acgan_cifar10, cgan_mnist"),
    "debug": ("one", "one_batch", "one_batch, overfit, profile"),
}


@pytest.mark.parametrize("group", GROUPS)
def test_unknown_option_is_error_with_valid_options(group):
    override, nearest, valid = GROUPS[group]
    (error,) = errors(f"{group}={override}")
    assert error.startswith(f"{group}={override}: no such option")
    assert valid in error
    assert group == "debug" or f"did you mean {nearest}?" in error
    assert "base" not in error.partition("there are ")[2].split(", ")


@pytest.mark.parametrize(
    ("override", "nearest"),
    [
        ("modle=dcgan", "model"),
        ("sed=3", "seed"),
        ("trainer.max_step=5", "trainer.max_steps"),
        ("max_steps=5", "trainer.max_steps"),
        ("data.batchsize=5", "data.batch_size"),
        ("batch_size=5", "data.batch_size"),
        ("model.dsteps=5", "model.d_steps"),
        ("model.n_critic=5", None),
        ("network.generator.upsampling=nearest", "network.generator.upsample"),
        ("callbacks.sample_grid.colums=4", "callbacks.sample_grid.columns"),
        ("model.generator_optimizer.learning_rate=1", None),
        ("model.generator_optimizer.beta=1", "model.generator_optimizer.betas"),
        ("lr=1e-4", "lr"),
        ("model.lr=1e-4", "_optimizer.lr"),
        ("foo=1", None),
        ("a.b.c=1", None),
    ],
)
def test_unknown_key_is_error_with_nearest_key(override, nearest):
    (error,) = errors(override)
    assert error.startswith(f"{override.partition('=')[0]}: there is no such key")
    assert nearest is None or re.search(rf"(did you mean |; )[\w.]*{re.escape(nearest)}", error)


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("trainer.max_steps=many", "whole number"),
        ("trainer.max_steps=1.5", "whole number"),
        ("trainer.max_steps=0", "at least 1"),
        ("data.batch_size=0", "at least 1"),
        ("data.batch_size=x", "whole number"),
        ("data.image_size=-3", "data.image_size"),
        ("data.image_size=30", "multiples of 4"),
        ("data.image_size=[32,30]", "multiples of 4"),
        ("data.image_size=[32,32,32]", "a side or [height,width]"),
        ("data.image_size=64x64", "a side or [height,width]"),
        ("data.channels=2", "one of 1, 3"),
        ("data.limit=0", "at least 1"),
        ("data.flip=perhaps", "true or false"),
        ("seed=-1", "seed"),
        ("seed=x", "whole number"),
        ("model.d_steps=0", "at least 1"),
        ("model.d_steps=two", "whole number"),
        ("model.latent_dim=0", "at least 1"),
        ("model.generator_batch_multiplier=0", "at least 1"),
        ("model.ema_decay=1.5", "model.ema_decay"),
        ("model.ema_decay=1", "model.ema_decay"),
        ("model.generator_clip_norm=-1", "above 0"),
        ("model.reuse_fake=5", "true or false"),
        ("model.generator_optimizer.lr=-1e-4", "model.generator_optimizer.lr"),
        ("model.generator_optimizer.lr=fast", "number"),
        ("model.generator_optimizer.betas=[0.5,1.0]", "a list of 2, each a number of at least 0 and below 1"),
        ("model.generator_optimizer.betas=[0.5]", "a list of 2"),
        ("trainer.deterministic=maybe", "true, false or warn"),
        ("model.generator_optimizer.betas=0.5", "model.generator_optimizer.betas"),
        ("loss.label_smoothing=2", "loss.label_smoothing"),
        ("network.width=0", "at least 1"),
        ("network.generator.norm=instance", "none, batch, layer"),
        ("network.generator.upsample=bilinear", "conv_transpose, nearest"),
        ("network.discriminator.dropout=1", "below 1"),
        ("network.discriminator.spectral_norm=2", "true or false"),
        ("callbacks.learning_rate.schedule=cosine", "constant, linear_decay"),
        ("callbacks.metric_logger.every_n_steps=0", "at least 1"),
        ("callbacks.checkpoint.keep=0", "at least 1"),
        ("trainer.precision=8", "trainer.precision"),
        ("trainer.accelerator=abacus", "auto, cpu, gpu"),
    ],
)
def test_invalid_value_is_error_with_valid_values(override, expected):
    (error,) = errors(override)
    assert override.partition("=")[0] in error
    assert expected in error


@pytest.mark.parametrize(
    ("overrides", "key", "expected"),
    [
        (["model=wgan", "model.clip_value=0"], "model.clip_value", "above 0"),
        (["model=wgan_gp", "model.gp_weight=-1"], "model.gp_weight", "above 0"),
        (["model=acgan", "model.class_weight_real=-1"], "model.class_weight_real", "at least 0"),
        (["model=acgan", "model.class_weight_real=0"], "model.class_weight_real", "model=dcgan"),
        (["model=acgan", "model.class_weight_generator=0"], "model.class_weight_generator", "model=dcgan"),
        (["model=vanilla", "network.depth=0"], "network.depth", "at least 1"),
        (["data=gaussian_ring", "model=vanilla", "data.modes=0"], "data.modes", "at least 1"),
        (["data=gaussian_ring", "model=vanilla", "data.std=-1"], "data.std", "at least 0"),
    ],
)
def test_invalid_value_of_specific_model_or_data_is_error(overrides, key, expected):
    (error,) = errors(*overrides)
    assert key in error
    assert expected in error


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (["model=cgan", "data=celeba"], r"data\.attribute=null: model=cgan needs labels; data\.attribute=Smiling$"),
        (
            ["model=wgan_gp", "network.discriminator.norm=batch"],
            r"discriminator\.norm=batch: model=wgan_gp needs .*norm=none or .*norm=layer$",
        ),
        (
            ["loss=wasserstein"],
            r"loss=wasserstein: needs a Lipschitz critic; model=wgan, model=wgan_gp or .*spectral_norm=true$",
        ),
        (
            ["model.generator_batch_multiplier=2", "model.reuse_fake=true"],
            r"_multiplier=2: model\.reuse_fake=true needs .*generator_batch_multiplier=1 or model\.reuse_fake=false$",
        ),
        (["data=gaussian_ring"], r"model=dcgan: .*model=vanilla"),
        (["network=mlp"], r"model=dcgan: .*model=vanilla"),
        (["data=image_folder"], r"data\.root: is needed"),
        (["data=image_folder", "data.root=nowhere"], r"data\.root='nowhere': there is no such folder or file"),
        (["model.gp_weight=1"], r"model\.gp_weight: there is no such key here; it is a setting of model=wgan_gp"),
        (["model.clip_value=1"], r"model\.clip_value: .*it is a setting of model=wgan$"),
        (["data.attribute=Smiling"], r"data\.attribute: .*it is a setting of data=celeba"),
        (["loss=hinge", "loss.label_smoothing=0.1"], r"loss\.label_smoothing: .*loss=minimax, non_saturating"),
        (["network.depth=3"], r"network\.depth: .*network=mlp, mlp_points$"),
        (["model=vanilla", "data=gaussian_ring", "data.image_size=32"], r"data\.image_size: "),
        (["data.batch_size=3", "trainer=ddp"], r"data\.batch_size=3: must be a multiple of the 2 devices"),
        (
            ["model=vanilla", "data=gaussian_ring", "feature=classifier"],
            r"feature=classifier: needs images.*feature=coordinates or feature=custom$",
        ),
        (["feature=coordinates"], r"feature=coordinates: needs points.*feature=classifier"),
        (["metric=[fid,modes]"], r"metric=modes: needs points.*metric=class_histogram"),
        (["metric=[fid,kidd]"], r"metric=kidd: no such option \(did you mean kid\?\)"),
        (["eval.reference=val"], "eval.reference=val: must be one of train, test, all, or a folder"),
        (["eval.every_n_steps=0"], r"eval\.every_n_steps=0: must be a whole number of at least 1 or null$"),
        (["feature=custom"], r"feature\.network\._target_: is needed"),
        (["trainer.devices=2"], r"trainer\.devices=2: several devices need trainer=ddp"),
        (
            ["trainer.accelerator=mps", "trainer.precision=64-true"],
            r"precision=64-true: trainer\.accelerator=mps needs single precision; trainer\.precision=32-true",
        ),
        (
            ["model=wgan_gp", "trainer.precision=bf16-true"],
            r"precision=bf16-true: model=wgan_gp needs .*single precision.*; trainer\.precision=bf16-mixed",
        ),
        (["trainer.devices=-1"], r"trainer\.devices=-1: several devices need trainer=ddp"),
        (["trainer.devices=[0,1]"], r"trainer\.devices=\[0, 1\]: several devices need trainer=ddp"),
        (["trainer.devices='0,1'"], r"trainer\.devices=0,1: several devices need trainer=ddp"),
        (
            ["trainer=ddp", "trainer.devices=[0,1,2]", "data.batch_size=64"],
            r"data\.batch_size=64: must be a multiple of the 3 devices",
        ),
        (
            ["trainer.precision=16-mixed", "model.discriminator_clip_norm=1", "model.generator_optimizer.fused=false"],
            r"precision=16-mixed: model\.discriminator_clip_norm=1 .*; model\.discriminator_optimizer\.fused=false",
        ),
        (
            ["trainer.micro_batch=16"],
            r"^trainer\.micro_batch=16: model\.reuse_fake=true needs the whole minibatch at once; "
            r"trainer\.micro_batch=null or model\.reuse_fake=false$",
        ),
        (
            ["trainer=ddp", "model=vanilla", "trainer.micro_batch=1"],
            r"^trainer\.micro_batch=1: .*norm=batch needs at least 2 samples .*; trainer\.micro_batch=2$",
        ),
        (
            ["model=vanilla", "trainer.micro_batch=9"],  # 64 = 7 * 9 + 1
            r"^trainer\.micro_batch=9: .*norm=batch needs at least 2 samples .*; trainer\.micro_batch=10$",
        ),
        (["trainer.micro_batch=0"], r"trainer\.micro_batch=0: must be a whole number .*at least 1.* or null$"),
        (["callbacks=checkpoint", "eval.every_n_steps=100"], r"eval\.every_n_steps: has no effect"),
        (["data.batch_size=1"], r"data\.batch_size=1: .*norm=batch needs at least 2 samples.*; data\.batch_size=2$"),
        (["model=vanilla", "network.generator.embed_dim=8"], r"network\.generator\.embed_dim: has no effect"),
        (
            ["model=acgan", "network=mlp", "network.discriminator.embed_dim=8"],
            r"discriminator\.embed_dim: has no effect",
        ),
        (["callbacks.sample_grid.points=8"], r"callbacks\.sample_grid\.points: has no effect, .*the data are images"),
        (
            ["model=wgan", "data=gaussian_ring", "callbacks.sample_grid.rows=8"],
            r"rows: has no effect, .*the data are points",
        ),
        (
            ["model=wgan", "data=gaussian_ring", "data.limit=8"],
            r"data\.limit: .*setting of data=celeba, cifar10, digits",
        ),
        (
            ["optimizer@model.generator_optimizer=sgd", "model.generator_optimizer.betas=[0.5,0.9]"],
            r"betas: .*a setting of optimizer@model\.generator_optimizer=adam",
        ),
        (
            ["model=vanilla", "data=gaussian_ring", "debug=overfit"],
            r"data\.limit: there is no such key \(did you mean data\.std\?\) \(in debug=overfit\)",
        ),
        (
            ["network.generator.latent_dim=50"],
            r"latent_dim=50: must equal model\.latent_dim=100; set model\.latent_dim",
        ),
        (
            ["data.image_size=[5,3]", "model=vanilla"],
            r"feature=classifier needs at least 4 pixels a side",
        ),
        (["init_from=nowhere.ckpt"], r"init_from=nowhere\.ckpt: there is no such file or run directory"),
        (["model=cgan", "network=resnet", "network.discriminator.conditioning=sum"], r"conditioning=sum: .*concat"),
        (["eval.best_by=kd", "eval.every_n_steps=null"], r"eval\.best_by: has no effect"),
        (
            ["network=resnet", "network.discriminator.conditioning=projection"],
            r"num_classes=0: .*conditioning=projection needs .*model=cgan",
        ),
        (
            ["network.generator.num_classes=10"],
            r"discriminator\.num_classes=0: network\.generator\.num_classes=10 needs .*discriminator\.num_classes=10$",
        ),
        (
            ["model=cgan", "network.discriminator.num_classes=0"],
            r"discriminator\.num_classes=0: .*; network\.discriminator\.num_classes=10$",
        ),
    ],
)
def test_incompatible_settings_are_error(tmp_path, monkeypatch, overrides, expected):
    monkeypatch.chdir(tmp_path)
    messages = errors(*overrides)
    assert any(re.search(expected, error) for error in messages), messages


def test_conditional_model_needs_folder_with_sub_folders(tmp_path):
    (tmp_path / "a.jpg").touch()
    (error,) = errors("model=acgan", "data=image_folder", f"data.root={tmp_path}")
    assert error.startswith(f"data.root={tmp_path}: model=acgan needs labels; ")
    assert "sub-folder" in error


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["model"], "model: not of the form KEY=VALUE"),
        (["model", "=", "dcgan"], "=: not of the form KEY=VALUE"),
        (["model=DCGAN"], "model=DCGAN: no such option (did you mean dcgan?)"),
        (["data.image_size=[64,64"], "data.image_size=[64,64: not of the form KEY=VALUE ("),
        (["--epochs", "3"], "--epochs: not a flag"),
        (["seed=1,2"], "seed=1,2: several values; add -m"),
        (["model=dcgan,wgan"], "model=dcgan,wgan: several values; add -m"),
        (["~data"], "~data: is needed; only callbacks"),
        (["~seed"], "~seed: is needed"),
        (["~callbacks.progres"], "callbacks.progres: there is no such key (did you mean callbacks.progress?)"),
        (["model=null"], "model=null: is needed; there are acgan, cgan"),
        (["data=null"], "data=null: is needed; there are celeba, cifar10"),
        (["callbacks=null"], "callbacks=null: ~callbacks leaves it out"),
        (["experiment=null"], "experiment=null: leave it out"),
        (["network.generator=null"], "network.generator=null: is needed"),
        (["eval=3", "trainer.max_steps=5"], "eval=3: is a section"),
        (["network.generator=5"], "network.generator=5: is a section"),
        (["seed=${seed}"], "seed: "),
        (["hydra.run.dir=null"], "hydra.run.dir"),
        (["seed=${foo}"], "seed: "),
        (["ckpt_path=nowhere.ckpt", "init_from=other.ckpt"], "init_from: has no effect on a resumed run"),
        (["+foo=1"], "foo: there is no such key"),
        (["+model.foo=1"], "model.foo: there is no such key"),
        (["--config-dir", "nowhere"], "--config-dir nowhere: there is no such folder"),
        (["data_info.num_classes=3"], "data_info.num_classes: the shape and the number of classes are read"),
        (["run_dir=x"], "run_dir: set hydra.run.dir"),
        (["data=base"], "data=base: no such option"),
        (["ckpt_path=last"], "ckpt_path=last: of which run? Add hydra.run.dir=FOLDER"),
        (["ckpt_path=nowhere.ckpt"], "ckpt_path=nowhere.ckpt: there is no such checkpoint"),
        (["-m", "ckpt_path=nowhere.ckpt", "seed=1,2"], "a sweep cannot resume a single run"),
        (["-m", "seed=1,x"], "seed=x"),
        (["-m", "model=dcgan,wgn"], "model=wgn: no such option (did you mean wgan?)"),
        (["-m", "seed=1,2", "trainer=ddp"], "trainer.devices: a sweep runs every job on one device"),
    ],
)
def test_invalid_arguments_are_error(arguments, expected):
    assert expected in " ".join(errors(*arguments))


def test_patience_without_evaluation_has_no_effect():
    patience = "callbacks.early_stopping.patience=3"
    message = "callbacks.early_stopping.patience: has no effect, since it needs evaluation"
    assert errors(patience, "eval.every_n_steps=null") == [message]
    check_command_line([patience])


def test_all_errors_are_reported_together():
    messages = errors("model=wgann", "sed=1", "trainer.max_steps=0", "data.batch_size=x", "network.widht=3", "+foo=1")
    for part in ("model=wgann", "sed", "trainer.max_steps=0", "data.batch_size=x", "network.widht", "foo"):
        assert sum(error.startswith(part) for error in messages) == 1, (part, messages)
    assert len(messages) == 6


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["model=wgan_gp", "data=mnist", "trainer.max_steps=3000"],
        ["model=vanilla", "loss=minimax", "data=gaussian_ring"],
        ["-m", "model=vanilla,dcgan,wgan_gp", "seed=1,2,3"],
        ["-m", "seed=range(1,4)", "hydra/launcher=joblib"],
        ["model=vanilla", "-m", "seed=1,2"],
        ["model=vanilla", "--multirun", "seed=1,2", "--config-name", "train", "trainer=cpu"],
        ["network=resnet", "loss=hinge", "data.image_size=[96,64]"],
        ["~logger.tensorboard", "~callbacks.sample_grid"],
        ["~logger"],
        ["+model.generator_optimizer.weight_decay=1e-4", "+trainer.detect_anomaly=true"],
        ["optimizer@model.generator_optimizer=sgd", "model.generator_optimizer.lr=0.05"],
        ["--cfg", "job"],
        ["experiment=wgan_gp_cifar10", "debug=one_batch"],
        ["model=cgan", "network=resnet", "network.discriminator.conditioning=projection"],
        ["model=wgan_gp", "network.generator.num_classes=10", "network.discriminator.num_classes=10"],
        ["model=acgan"],
        ["-m", "seed=1,2", "trainer=gpu", "trainer.devices=[1]"],
        [
            "trainer.precision=16-mixed",
            "model.discriminator_clip_norm=1",
            "model.discriminator_optimizer.fused=false",
        ],
    ],
    ids=" ".join,
)
def test_valid_command_lines_are_accepted(arguments):
    name, rest, sweep_dir = check_command_line(arguments)
    assert name == "train"
    expected = get_args_parser().parse_intermixed_args(arguments)
    expected.config_name = None  # returned separately
    if expected.multirun:
        assert sweep_dir.parent == Path("runs/sweeps").absolute()
        expected.overrides.append(f"hydra.sweep.dir='{sweep_dir}'")
    assert get_args_parser().parse_intermixed_args(rest) == expected


def test_help_lists_groups_options_and_keys(capsys):
    with pytest.raises(SystemExit) as caught:
        check_command_line(["--help"])
    assert not caught.value.code
    text = capsys.readouterr().out
    for group, (_, _, valid) in GROUPS.items():
        assert re.search(rf"^ *{group}: .*{re.escape(valid)}", text, re.M), group
    assert "base" not in re.search(r"^ *data: (.*)$", text, re.M)[1].split(", ")
    for key in (
        "trainer.max_steps",
        "seed",
        "data.batch_size",
        "model.d_steps",
        "network.width",
        "ckpt_path",
        "hydra.run.dir",
    ):
        assert key in text


# Commands that messages suggest


@pytest.mark.parametrize(
    "folder", ["runs/a", "runs/model=cgan,seed=2", "it's a {run}", "runs/a b", "$HOME/x", 'a"b\\c']
)
def test_quoted_override_survives_shell_and_hydra(folder):
    (word,) = shlex.split(summary.quote_override(f"hydra.run.dir={folder}"))
    (override,) = OverridesParser.create().parse_overrides([word])
    assert override.value() == folder


@pytest.mark.parametrize(("argv0", "program"), [("train.py", "python train.py"), ("/bin/gan-train", "gan-train")])
def test_resume_command_uses_program_of_run(monkeypatch, argv0, program):
    monkeypatch.setattr(sys, "argv", [argv0, "seed=1"])
    monkeypatch.setattr(summary, "program", str)
    assert (
        summary.resume_command(Path("runs/a"), OmegaConf.create({"mode": "RUN"}), [])
        == f"{program} ckpt_path=last hydra.run.dir=runs/a"
    )


def test_suggested_program_has_path_unless_first_on_path(monkeypatch, tmp_path):
    for folder in ("here", "other"):
        (tmp_path / folder).mkdir()
        for name in ("python", "gan-sample"):
            (tmp_path / folder / name).touch(mode=0o755)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "here" / "python3"))
    for path, expected in (("other", "here/python"), ("here", "python"), ("", "here/python")):
        monkeypatch.setenv("PATH", str(tmp_path / path) if path else "")
        assert summary.program("python") == expected
    (tmp_path / "here" / "python").unlink()
    assert summary.program("python") == "here/python3"


def test_group_of_another_command_is_error():
    message = "belongs to gan-explore, not to training"
    assert errors("latent=walk", "latent.steps=3") == [f"latent=walk: {message}", f"latent.steps=3: {message}"]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--experimental-rerun", "file"], "--experimental-rerun: unpickles a file, which runs the code in it"),
        (["--experimental-re=file", "--help"], "--experimental-rerun: unpickles a file"),  # argparse accepts prefixes
        (["--hydra-help", "--experimental-rerun=file"], "--experimental-rerun: unpickles a file"),
        (["-cp", "elsewhere"], "--config-path: not supported; --config-dir FOLDER"),
        (["--config-name", "evaluate"], "--config-name evaluate: belongs to gan-evaluate, not to training"),
        (["-cn", "nowhere"], "nowhere"),
        (["--package", "model"], "--package: has no effect without --cfg"),
        (["--resolve"], "--resolve: has no effect without --cfg"),
        (["-m", "--cfg", "job", "seed=1,2"], "--multirun --cfg: mutually exclusive"),
        (["--run", "--info"], "--run --info: mutually exclusive"),
        (["hydra.mode=MULTIRUN"], "hydra.mode=MULTIRUN: -m runs a sweep"),
        (["hydra/launcher=ray"], "hydra/launcher=ray: needs pip install 'gan-lightning[ray]'"),
        (["hydra/sweeper=optuna"], "hydra/sweeper=optuna: needs pip install hydra-optuna-sweeper"),
    ],
)
def test_unsupported_flags_and_missing_plugins_are_error(arguments, expected):
    (error,) = errors(*arguments)
    assert expected in error


def test_config_name_of_user_supplied_file_is_returned(tmp_path, monkeypatch):
    (tmp_path / "mine.yaml").write_text("defaults: [train, _self_]\nseed: 5\n", encoding="utf-8")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert check_command_line(["-cd", "~/", "-cn", "mine"]) == ("mine", [f"--config-dir={tmp_path}"], None)


@pytest.mark.parametrize(
    ("argv", "key", "expected"),
    [
        (["hydra.run.dir=~/a"], "hydra.run.dir", "{home}/a"),
        (["hydra.run.dir='~/it\\'s a {run}'"], "hydra.run.dir", "{home}/it's a {{run}}"),
        (["++hydra.run.dir=~/a"], "hydra.run.dir", "{home}/a"),
        (["hydra.run.dir=a/${seed}", "seed=3"], "hydra.run.dir", "{cwd}/a/3"),
        (["hydra.run.dir=${oc.env:THERE}/${hydra:runtime.choices.model}"], "hydra.run.dir", "{home}/there/dcgan"),
        (["hydra.run.dir=./~/a"], "hydra.run.dir", "{cwd}/~/a"),
        (["-m", "seed=1,2", "hydra.sweep.dir=~/a"], "hydra.sweep.dir", "{home}/a"),
        (["-m", "seed=1,2", "hydra.sweep.dir=a", "hydra.sweep.subdir=~/b"], "hydra.sweep.subdir", "{home}/b"),
        (["--config-dir", "mine", "experiment=here"], "hydra.run.dir", "{home}/mine"),
    ],
)
def test_directories_are_absolute_before_hydra_reads_them(tmp_path, monkeypatch, argv, key, expected):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("THERE", "~/there")
    (tmp_path / "mine/experiment").mkdir(parents=True)
    text = "# @package _global_\nhydra: {run: {dir: ~/mine}}\n"
    (tmp_path / "mine/experiment/here.yaml").write_text(text, encoding="utf-8")
    _, arguments, _ = check_command_line(argv)
    values = {o.key_or_group: o.value() for o in OverridesParser.create().parse_overrides(get_overrides(arguments))}
    assert values[key] == expected.format(home=tmp_path / "home", cwd=tmp_path)


CLASS_SOURCE = """class Mine:
    def __init__(self, n: int = 1) -> None:
        self.n = n
"""


@pytest.mark.parametrize("section", ["callbacks", "logger", "metric"])
def test_user_supplied_class_is_added_by_key(tmp_path, monkeypatch, section):
    (tmp_path / "own_class.py").write_text(CLASS_SOURCE)
    monkeypatch.syspath_prepend(tmp_path)
    target = f"+{section}.mine._target_=own_class.Mine"
    assert check_command_line([target, f"+{section}.mine.n=3"])[0] == "train"
    assert check_command_line([f"+{section}.mine={{_target_:own_class.Mine,n:3}}"])[0] == "train"
    assert errors(target, f"+{section}.mine.m=3") == [f"{section}.mine.m: own_class.Mine takes no such argument"]
    (error,) = errors(target, f"+{section}.mine.n=x")
    assert error.startswith(f"{section}.mine.n=x: must be a whole number")
    (error,) = errors(f"+{section}.mine.n=3")
    assert f"+{section}.mine._target_=CLASS" in error


def test_user_supplied_class_may_need_whole_minibatch(tmp_path, monkeypatch):
    (tmp_path / "of_minibatch.py").write_text(f"{CLASS_SOURCE}\n    needs_whole_minibatch = True\n")
    monkeypatch.syspath_prepend(tmp_path)
    overrides = ["model=vanilla", "loss=hinge", "loss._target_=of_minibatch.Mine"]
    assert check_command_line([*overrides, "trainer.micro_batch=64"])[0] == "train"
    assert errors(*overrides, "trainer.micro_batch=16") == [
        "trainer.micro_batch=16: loss._target_=of_minibatch.Mine needs the whole minibatch at once; "
        "trainer.micro_batch=null"
    ]


@pytest.mark.parametrize(
    ("overrides", "valid"),
    [
        (["trainer.micro_batch=60"], False),
        (["trainer.micro_batch=64"], True),  # has no effect on minibatches of 64
        (["trainer.micro_batch=32", "trainer=ddp"], True),
        (["trainer.micro_batch=16", "model.reuse_fake=false"], True),
        (["trainer.micro_batch=1", "model=vae", "network.generator.norm=none"], True),
    ],
)
def test_micro_batch_is_valid_with_what_needs_no_whole_minibatch(overrides, valid):
    if valid:
        assert check_command_line(overrides)[0] == "train"
    else:
        assert "needs the whole minibatch at once" in errors(*overrides)[0]


@pytest.mark.parametrize("source", ["experiment", "config-dir"])
def test_user_supplied_class_is_added_by_file(tmp_path, monkeypatch, source):
    (tmp_path / "own_class.py").write_text(CLASS_SOURCE)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "experiment").mkdir()
    text = "# @package _global_\ncallbacks: {mine: {_target_: own_class.Mine, n: 2}}\n"
    (tmp_path / "experiment" / "own.yaml").write_text(text)
    arguments = ["--config-dir", str(tmp_path), "experiment=own"]
    assert check_command_line(arguments)[0] == "train"
    (error,) = (
        errors(*arguments, "callbacks.mine.n=x")
        if source == "experiment"
        else errors(*arguments, "+callbacks.mine.m=1")
    )
    assert error.startswith(("callbacks.mine.n=x: must be", "callbacks.mine.m: own_class.Mine takes no such argument"))


@pytest.mark.parametrize("key", ["eval.patience", "network.x", "callbacks.x", "logger.x", "metric.x", "trainer.x"])
def test_added_key_hides_no_other_error(key):
    messages = errors(f"+{key}=3", "modle=dcgan", "trainer.max_steps=0", "data.batch_size=x")
    keys = [re.split("[:=]", error, maxsplit=1)[0] for error in messages]
    assert {key, "modle", "trainer.max_steps", "data.batch_size"} <= {*keys}


@pytest.mark.parametrize("source", ["experiment/mine.yaml", "train.yaml"])
def test_home_directory_in_conf_file_is_expanded(tmp_path, monkeypatch, source):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    conf = Path(shutil.copytree(CONF, tmp_path / "conf"))
    if source == "train.yaml":
        text = (conf / source).read_text(encoding="utf-8").replace('run: {dir: "runs/', 'run: {dir: "~/runs/')
        (conf / source).write_text(text, encoding="utf-8")
    else:
        (conf / source).write_text("# @package _global_\nhydra: {run: {dir: ~/job}}\n", encoding="utf-8")
    for module in ("run.command_line", "config.compose"):
        monkeypatch.setattr(f"gan_lightning.{module}.CONF", conf)
    _, arguments, _ = check_command_line([] if source == "train.yaml" else ["experiment=mine"])
    values = {o.key_or_group: o.value() for o in OverridesParser.create().parse_overrides(get_overrides(arguments))}
    assert values["hydra.run.dir"].startswith(str(tmp_path / "home" / ("runs" if source == "train.yaml" else "job")))


def get_overrides(arguments: list[str]) -> list[str]:
    return get_args_parser().parse_intermixed_args(arguments).overrides


def test_unknown_home_directory_is_error(monkeypatch):
    monkeypatch.setenv("HOME", "")
    monkeypatch.delenv("HOME")
    monkeypatch.setattr("pwd.getpwuid", lambda _: {}["nobody"])
    assert errors("hydra.run.dir=~/a") == ["~/a: the home directory is unknown; set HOME, or give a path without ~"]
    assert check_command_line([])[0] == "train", "the default cache must not be an error"


def test_large_sweep_is_checked_without_composing_each_job(monkeypatch, capsys):
    """A sweep of a thousand values took minutes without output."""
    composed, compose = [], ConfigLoaderImpl.load_configuration
    monkeypatch.setattr(
        ConfigLoaderImpl, "load_configuration", lambda *args, **kwargs: composed.append(1) or compose(*args, **kwargs)
    )
    validated, parameters_of = [], validation.parameters_of
    monkeypatch.setattr(validation, "parameters_of", lambda config: validated.append(1) or parameters_of(config))
    values = ",".join(map(str, range(1000)))
    _, arguments, _ = check_command_line(["-m", f"seed={values}", "model.generator_optimizer.lr=1e-4,2e-4"])
    assert len(composed) < 5
    assert len(validated) < 5
    assert "hydra.sweeper.max_batch_size=10" in arguments
    assert "sweep of 2,000 jobs" in capsys.readouterr().out
    assert errors("-m", f"seed={values},-1,x", "model.generator_optimizer.lr=1e-4,no") == [
        "seed=-1: must be a whole number of at least 0 and at most 4294967295",
        "seed=x: must be a whole number of at least 0 and at most 4294967295",
        "model.generator_optimizer.lr=no: must be a number above 0",
    ]
    assert errors("-m", "model.generator_optimizer.betas=[0.5,0.9],[0.5],[a,'b']")[1:] == [
        "model.generator_optimizer.betas=['a', 'b']: must be a list of 2, each a number of at least 0 and below 1"
    ]


def test_jobs_of_launcher_are_one_batch(capsys):
    _, arguments, _ = check_command_line(["-m", "seed=range(20)", "hydra/launcher=joblib"])
    assert not any("max_batch_size" in word for word in arguments)
    assert "sweep of 20 jobs\ncomposing all of them before the first starts" in capsys.readouterr().out


def test_launcher_selected_in_file_is_found(tmp_path, capsys):
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    (tmp_path / "mine.yaml").write_text("defaults: [train, _self_, {override hydra/launcher: joblib}]\n")
    _, arguments, _ = check_command_line(
        ["-m", "seed=range(20)", "--config-dir", str(tmp_path), "--config-name", "mine"]
    )
    assert not any("max_batch_size" in word for word in arguments)
    assert "composing all of them before the first starts" in capsys.readouterr().out


def test_resume_command_omits_time_limit_that_stopped_sweep(monkeypatch):
    monkeypatch.setattr("sys.argv", ["train.py"])
    monkeypatch.setattr(summary, "program", str)
    settings = OmegaConf.create({"mode": RunMode.MULTIRUN, "sweep": {"dir": str(Path("runs/s").absolute())}})
    argv = ["-m", "seed=1,2", "+trainer.max_time=00:01:00:00"]
    found = summary.resume_command(Path("runs/s/1"), settings, argv, "trainer.max_time has passed")
    assert found == "python train.py -m seed=1,2 hydra.sweep.dir=runs/s"


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"RANK": "x", "LOCAL_RANK": ""}, ["RANK=x: this environment variable must be", "LOCAL_RANK=: this"]),
        ({"SLURM_NTASKS": "x"}, ["SLURM_NTASKS=x: this environment variable must be a whole number; unset it"]),
        ({"RANK": "1"}, ["RANK=1: a rank in the environment, but WORLD_SIZE is not set; unset RANK, or start"]),
        ({"SLURM_PROCID": "2", "SLURM_NTASKS": "1"}, ["SLURM_PROCID=2: a rank in the environment, but SLURM_NTASKS"]),
        ({"SLURM_NTASKS": "2"}, ["SLURM_NTASKS=2: Lightning needs --ntasks-per-node=2 in place of --ntasks=2; on"]),
        ({"SLURM_NTASKS": "2", "SLURM_NTASKS_PER_NODE": "2"}, ["hydra.run.dir: several processes were started"]),
        ({"RANK": "0", "WORLD_SIZE": "2"}, ["hydra.run.dir: several processes were started"]),
        ({"NODE_RANK": "1"}, ["NODE_RANK=1: the number of a node in the environment, but trainer.num_nodes=1; unset"]),
        (
            {"SLURM_PROCID": "1", "SLURM_JOB_NAME": "bash"},
            ["SLURM_PROCID=1: Lightning ignores Slurm's variables in a job named bash; start the run with srun --job"],
        ),
    ],
)
def test_inconsistent_rank_variables_are_error(monkeypatch, variables, expected):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    messages = errors()
    assert len(messages) == len(expected)
    for text, start in zip(messages, expected, strict=True):
        assert text.startswith(start)


@pytest.mark.parametrize("name", ["bash", "interactive"])
def test_interactive_slurm_shell_starts_one_process(monkeypatch, name):
    for variable, value in {"SLURM_NTASKS": "2", "SLURM_PROCID": "0", "SLURM_JOB_NAME": name}.items():
        monkeypatch.setenv(variable, value)
    assert check_command_line([])[0] == "train"


def test_node_rank_is_accepted_with_several_nodes(monkeypatch):
    monkeypatch.setenv("NODE_RANK", "1")
    assert check_command_line(["trainer=ddp", "trainer.num_nodes=2"])[0] == "train"


@pytest.mark.parametrize("value", ["", "/", "~", "' '"])
@pytest.mark.parametrize("key", ["hydra.run.dir", "hydra.sweep.dir"])
def test_root_and_home_are_rejected_as_run_directory(tmp_path, monkeypatch, key, value):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    (error,) = errors(*["-m"] * (key == "hydra.sweep.dir"), f"{key}={value}")
    assert error.startswith(f"{key}=")
    assert error.endswith(f": not a directory for runs; {key}=FOLDER")


@pytest.mark.parametrize("value", ["/usr/../", "to_root", "to_home", "home/a/..", "to_root/usr/.."])
def test_links_and_parents_of_run_directory_are_resolved(tmp_path, monkeypatch, value):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "home/a").mkdir(parents=True)
    (tmp_path / "to_root").symlink_to(tmp_path.anchor)
    (tmp_path / "to_home").symlink_to("home")
    for name in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(name, str(tmp_path / "to_home"))
    assert errors(f"hydra.run.dir={value}")[0].startswith(f"hydra.run.dir={value}: not a directory for runs")
    assert check_command_line(["hydra.run.dir=to_home/a"])[1] == [f"hydra.run.dir='{tmp_path}/to_home/a'"]


@pytest.mark.parametrize("value", ["[" * 200 + "]" * 200, "{a:" * 500 + "}" * 500, "choice(" * 50 + ")" * 50])
def test_deeply_nested_value_is_one_error(value):
    assert errors(f"data.root={value}") == [f"data.root={value}: not of the form KEY=VALUE (nested too deeply)"]
    assert len(errors(f"data.root={value}", "seed=x")) == 2


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["optimizer=adam"], "optimizer=adam: each network has an optimizer of its own; optimizer@model."),
        (["optimizer@nowhere=adam"], "Could not override 'optimizer@nowhere'"),
        (["+trainer.num_nodes=1"], "+trainer.num_nodes=1: trainer.num_nodes exists already; leave out the +"),
        (["-m", "seed=1,2", "+trainer.strategy=ddp"], "+trainer.strategy=ddp: trainer.strategy exists already"),
        (["optimizer@model.optimizer=sgd", "model=vae", "optimizer@nowhere=adam"], "Could not override 'optimizer@now"),
    ],
)
def test_error_of_hydra_hides_no_other(overrides, message):
    found = errors(*overrides, "modle=dcgan", "data.batch_size=x")
    others = [error.partition(":")[0] for error in found if not error.startswith(message)]
    assert others == ["modle", "data.batch_size=x"]
    assert len(found) == 3


def test_dictionary_for_argument_of_lightning_is_accepted():
    overrides = ["+trainer.max_time={seconds:2}"]
    assert check_command_line(overrides)[1] == overrides
    (error,) = errors("+network.generator.max_time={seconds:2}")
    assert "there is no such key" in error


def test_invalid_user_supplied_yaml_is_error_with_file_and_line(tmp_path):
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment/mine.yaml").write_text("# @package _global_\nseed: [1,\n")
    (error,) = errors("--config-dir", str(tmp_path), "experiment=mine")
    assert "experiment/mine.yaml: not valid YAML, line 3: expected the node content" in error


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"\xff\xfe", "not plain text in UTF-8: invalid start byte"),
        (b"seed: \x01", "not plain text in UTF-8: special characters are not allowed"),
        (b"a: &a [*a]", "it refers to itself, or is nested too deeply"),
        (b"a: " + b"[" * 2000, "it refers to itself, or is nested too deeply"),
    ],
)
def test_unreadable_user_supplied_yaml_is_error_with_file(tmp_path, monkeypatch, content, problem):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment/mine.yaml").write_bytes(content)
    (tmp_path / "experiment/another.yaml").write_text("seed: [1,\n", encoding="utf-8")
    assert errors("--config-dir", ".", "experiment=mine") == [f"experiment/mine.yaml: cannot be read ({problem})"]
