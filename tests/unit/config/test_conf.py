"""Composition of every file of conf/, and a training step of every valid combination; others are errors."""

import importlib.util
import logging
import pickle
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from omegaconf import DictConfig, OmegaConf
from PIL import Image
from sample_images import pack, sample
from tiny import composed
from torchvision import datasets

from gan_lightning.cli import explore
from gan_lightning.config.instantiate import instantiate
from gan_lightning.config.nodes import target_of, walk
from gan_lightning.config.validation import check, errors_of_values, how_to_import, unknown_arguments
from gan_lightning.data.container import Folder
from gan_lightning.data.hub import Hub
from gan_lightning.errors import UserError
from gan_lightning.io.paths import CONF
from gan_lightning.model.base import GenerativeModel
from gan_lightning.run.checkpoint import RUN_SECTIONS
from gan_lightning.run.command_line import check_command_line
from gan_lightning.run.fit import train
from gan_lightning.run.trust import is_allowed_target

BASE_FILES = ("train", "evaluate", "explore", "data/base")  # files that are no option of a group
FILES = sorted(str(path.relative_to(CONF).with_suffix("")) for path in CONF.rglob("*.yaml"))
EXPLORE_OPTIONS = [name for name in FILES if name.startswith("latent/")]
OPTIONS = [name for name in FILES if name not in (*BASE_FILES, *EXPLORE_OPTIONS)]


def options(group: str) -> list[str]:
    return [name.partition("/")[2] for name in OPTIONS if name.startswith(f"{group}/")]


def to_override(option: str) -> str:
    """Return the command-line override that selects a file."""
    return option.replace("/", "=").replace("optimizer=", "optimizer@model.generator_optimizer=")


# Patterns of error messages about unsuitable networks.
CONVOLUTIONAL_ONLY = r"model=dcgan: needs convolutional networks; model=vanilla"
LIPSCHITZ = r"loss=wasserstein: needs a Lipschitz critic; model=wgan, model=wgan_gp or network\.discriminator\.spectral"


@pytest.fixture(scope="session")
def compose(compose) -> Callable[..., DictConfig]:
    """The fixture of conftest, extended by ``optimizer@model.generator_optimizer=sgd``."""

    def compose_all(*overrides: str) -> DictConfig:
        config = compose(*(override for override in overrides if "@" not in override))
        for override in overrides:
            key = override.partition("@")[2].partition("=")[0]
            if key:
                OmegaConf.update(config, key, OmegaConf.select(composed((override,)), key), merge=False)
        return config

    return compose_all


@pytest.fixture
def step(compose, tmp_path, monkeypatch) -> Callable[..., Any]:
    """``step("model=wgan", ...)``: train one step without callbacks; check that both networks have changed."""

    def step(*overrides: str, callbacks: bool = False) -> Any:
        config, before = compose(*overrides), {}
        config.trainer.max_steps = 1
        if not callbacks:
            config.callbacks, config.logger = None, None
        on_fit_start = GenerativeModel.on_fit_start

        def record_weights(self: GenerativeModel) -> None:
            before.update({name: weight.detach().clone() for name, weight in self.named_parameters()})
            on_fit_start(self)

        monkeypatch.setattr(GenerativeModel, "on_fit_start", record_weights)
        logging.disable(logging.INFO)
        try:
            trainer = train(config, tmp_path)
        finally:
            logging.disable(logging.NOTSET)
            monkeypatch.setattr(GenerativeModel, "on_fit_start", on_fit_start)
        assert trainer.global_step == 1
        after = dict(trainer.lightning_module.named_parameters())
        changed = {name.partition(".")[0] for name, weight in after.items() if not torch.equal(weight, before[name])}
        assert changed >= trainer.lightning_module.networks().keys()
        assert all(weight.isfinite().all() for weight in after.values())
        return trainer

    return step


# --- tiny files of every data set -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    """A folder of data sets: twelve samples each of MNIST, Fashion-MNIST, CIFAR-10, CelebA and an image folder."""
    root, random = tmp_path_factory.mktemp("data"), np.random.default_rng(0)
    for name in ("MNIST", "FashionMNIST"):
        raw = root / name / "raw"
        raw.mkdir(parents=True)
        for part in ("train", "t10k"):
            images = bytes([0, 0, 8, 3, *num(12), *num(28), *num(28)]) + random.bytes(12 * 28 * 28)
            (raw / f"{part}-images-idx3-ubyte").write_bytes(images)
            (raw / f"{part}-labels-idx1-ubyte").write_bytes(bytes([0, 0, 8, 1, *num(12), *(i % 10 for i in range(12))]))
    cifar = root / "cifar-10-batches-py"
    cifar.mkdir()
    batch = {"data": random.integers(0, 256, (12, 3072), np.uint8), "labels": [i % 10 for i in range(12)]}
    (cifar / "data_batch_1").write_bytes(pickle.dumps(batch))
    (cifar / "batches.meta").write_bytes(pickle.dumps({"label_names": [f"class {i}" for i in range(10)]}))
    faces, rows = root / "celeba" / "img_align_celeba", ["12", "Male Smiling"]
    faces.mkdir(parents=True)
    for i in range(12):
        image = Image.fromarray(random.integers(0, 256, (36, 30, 3), np.uint8))
        image.save(faces / f"{i:06}.jpg")
        rows.append(f"{i:06}.jpg {1 if i % 2 else -1} {1 if i % 3 else -1}")
        sub_folder = root / "images" / ("cats" if i % 2 else "dogs")
        sub_folder.mkdir(parents=True, exist_ok=True)
        image.save(sub_folder / f"{i}.png")
    (root / "celeba" / "list_attr_celeba.txt").write_text("\n".join(rows) + "\n")
    return root


def num(value: int) -> bytes:
    return value.to_bytes(4, "big")


@pytest.fixture
def files(root, monkeypatch) -> Callable[[str], list[str]]:
    """``files("mnist")``: the overrides that select a data set's files above instead of the real ones."""
    monkeypatch.setattr(datasets.CIFAR10, "train_list", [["data_batch_1", None]])
    monkeypatch.setattr(datasets.CIFAR10, "test_list", [])
    monkeypatch.setattr(datasets.CIFAR10, "meta", {"filename": "batches.meta", "key": "label_names", "md5": None})

    def files(name: str) -> list[str]:
        if "root" not in OmegaConf.load(CONF / "data" / "base.yaml") or name.startswith("gaussian"):
            return []
        if name == "hub":
            monkeypatch.setattr(Hub, "open_container", lambda _: Folder(root / "images"))
            return ["data.name=owner/name"]
        if name == "stream":
            return [f"data.root={pack(root / 'packed', map(sample, range(20)))}"]
        return [f"data.root={root / 'images' if name == 'image_folder' else root}"]

    return files


# --- every file ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("option", OPTIONS)
def test_option_composes_and_is_valid(compose, option):
    config = compose(to_override(option))
    if option == "feature/custom":
        config.feature.network = {"_target_": "torch.nn.Flatten"}
    if option == "augment/custom":
        config.augment = {"_target_": "torch.nn.Flatten"}
    if option in ("data/image_folder", "experiment/photos"):
        config.data.root = "folder"
    if option == "data/hub":
        config.data.name = "owner/name"
    config.data_info, config.run_dir = {"shape": [1, 16, 16], "num_classes": 10}, "run"
    OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    assert errors_of_values(config, {}) == []
    assert unknown_arguments(config) == []


@pytest.mark.parametrize("option", [option for option in OPTIONS if option.split("/")[0] in RUN_SECTIONS])
def test_checkpoint_may_name_classes_of_option(option):
    targets = [target for _, node in walk(composed((to_override(option),))) for target in target_of(node)]
    ours = [target for target in targets if target.startswith("gan_lightning.")]
    assert [target for target in ours if not is_allowed_target(target)] == []


@pytest.mark.parametrize("option", EXPLORE_OPTIONS)
def test_latent_option_composes_and_is_valid(option):
    overrides = [to_override(option), *(["latent.image=a.png"] if option == "latent/invert" else [])]
    config, errors = explore.compose_config(overrides)
    assert errors == unknown_arguments(config) == []


def test_help_lists_all_options(capsys):
    with pytest.raises(SystemExit):
        check_command_line(["--help"])
    listed = capsys.readouterr().out
    for group in sorted({name.partition("/")[0] for name in OPTIONS}):
        assert f"\n{group}: {', '.join(options(group))}\n" in listed
    assert len(OPTIONS) == len(FILES) - len(BASE_FILES) - len(EXPLORE_OPTIONS) > 40
    assert set(BASE_FILES) < set(FILES)


def test_options_of_group_compose_to_different_configurations():
    for group in ("model", "loss", "network", "data", "trainer", "logger", "callbacks", "experiment", "debug"):
        texts = [OmegaConf.to_yaml(composed((f"{group}={option}",))) for option in options(group)]
        assert len(set(texts)) == len(texts) > 2, group


def test_keys_named_in_help_exist(compose):
    train = OmegaConf.load(CONF / "train.yaml")
    known = {path for path, _ in walk(compose())} | {f"hydra.{path}" for path, _ in walk(train.hydra)}
    text = train.hydra.help.template.replace("train.py", "")
    keys = set(re.findall(r"\b[a-z]\w*(?:\.\w+)+", text)) | set(re.findall(r"^  (\w+)(?:=FILE)?  ", text, re.M))
    assert keys - known == set()
    assert {"seed", "ckpt_path", "init_from", "hydra.run.dir", "model.d_steps", "callbacks.sample_grid.seed"} <= keys


@pytest.mark.parametrize("name", sorted(path.stem for path in (CONF / "data").glob("*.yaml")))
def test_data_use_seed_of_run(compose, name):
    if f"data/{name}" not in BASE_FILES:
        assert compose(f"data={name}", "seed=5").data.seed == 5


# --- combinations ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("loss", options("loss"))
def test_model_trains_with_loss(step, variant, loss):
    overrides = f"model={variant}", f"loss={loss}"
    if loss == "wasserstein" and variant not in ("wgan", "wgan_gp"):
        with pytest.raises(UserError, match=LIPSCHITZ):
            step(*overrides)
        overrides = *overrides, "network.discriminator.spectral_norm=true"
    model = step(*overrides).lightning_module
    assert type(model.loss).__name__.lower() == loss.replace("_", "")


@pytest.mark.parametrize("network", options("network"))
def test_model_trains_with_network(step, learner, network):
    overrides = f"model={learner}", f"network={network}"
    if learner == "dcgan" and network.startswith("mlp"):
        with pytest.raises(UserError, match=CONVOLUTIONAL_ONLY):
            step(*overrides)
        return
    model, name = step(*overrides).lightning_module, network.partition("_")[0]
    assert type(model.generator).__name__.lower() == f"{name}generator"
    other = model.encoder if learner == "vae" else model.discriminator
    assert type(other).__name__.lower() == f"{name}discriminator"


@pytest.mark.parametrize("network", ["dcgan", "resnet", "mlp"])
@pytest.mark.parametrize("image_size", [28, 48, [24, 16]], ids=str)
@pytest.mark.parametrize("channels", [1, 3])
def test_network_trains_with_image_size_and_channels(step, network, image_size, channels):
    size = str(image_size).replace(" ", "")
    overrides = f"network={network}", f"data.image_size={size}", f"data.channels={channels}"
    trainer = step(f"model={'vanilla' if network == 'mlp' else 'dcgan'}", *overrides)
    height, width = (image_size, image_size) if isinstance(image_size, int) else image_size
    model = trainer.lightning_module
    assert model.sample(2).shape == (2, channels, height, width)
    assert trainer.datamodule.shape == (channels, height, width)


@pytest.mark.parametrize("image_size", ["30", "[32,30]", "4", "[8,6]", "[32,32,32]"])
@pytest.mark.parametrize("network", ["dcgan", "resnet"])
def test_image_size_unsuitable_for_network_is_error(compose, network, image_size):
    with pytest.raises(UserError, match=r"data\.image_size=.*(multiples of 4, from 8 on|a side or \[height,width\])"):
        check(compose(f"network={network}", f"data.image_size={image_size}"))


LABELLED = {
    "digits": 10,
    "mnist": 10,
    "stacked_mnist": 1000,
    "fashion_mnist": 10,
    "cifar10": 10,
    "celeba": 2,
    "image_folder": 2,
    "hub": 2,
    "stream": 3,
    "gaussian_ring": 8,
    "gaussian_grid": 25,
    "gaussian_mixture": 3,
}


@pytest.mark.parametrize("data", LABELLED)
@pytest.mark.parametrize("model", ["cgan", "acgan"])
def test_conditional_model_trains_on_labelled_data(step, files, model, data):
    overrides = files(data) + {
        "celeba": ["data.attribute=Smiling"],
        "stream": ["data.num_classes=3", "data.limit=null"],
    }.get(data, [])
    trainer = step(f"model={model}", f"data={data}", *overrides)
    conditional = trainer.lightning_module
    assert trainer.datamodule.num_classes == conditional.num_classes == LABELLED[data]
    if model == "acgan":
        assert conditional.discriminator.class_head.out_features == LABELLED[data]
    else:
        assert conditional.discriminator.num_classes == LABELLED[data]


def test_all_data_sets_are_covered():
    assert sorted(LABELLED) == options("data")


@pytest.mark.parametrize("model", ["cgan", "acgan"])
def test_conditional_model_needs_attribute_of_celeba(compose, step, files, model):
    overrides = f"model={model}", "data=celeba", *files("celeba")
    with pytest.raises(UserError, match=rf"data\.attribute=null: model={model} needs labels; data\.attribute=Smiling"):
        check(compose(*overrides))
    with pytest.raises(UserError, match=rf"data\.attribute=null: model={model} needs labels"):
        step(*overrides)


@pytest.mark.parametrize("data", ["celeba", "image_folder", "mnist"])
def test_unconditional_model_needs_no_labels(step, files, data):
    trainer = step("model=dcgan", f"data={data}", *files(data))
    assert trainer.lightning_module.num_classes == 0
    assert len(trainer.datamodule.samples) == 12


@pytest.mark.parametrize("data", ["gaussian_ring", "gaussian_grid", "gaussian_mixture"])
def test_model_trains_on_points(step, learner, data):
    overrides = f"model={learner}", f"data={data}"
    if learner == "dcgan":
        with pytest.raises(UserError, match=CONVOLUTIONAL_ONLY):
            step(*overrides)
        return
    model = step(*overrides).lightning_module
    assert model.sample(3).shape == (3, 2)
    assert not any(isinstance(module, torch.nn.BatchNorm1d) for module in model.modules())


@pytest.mark.parametrize("network", ["dcgan", "resnet"])
def test_convolutional_network_is_error_for_points(compose, network):
    with pytest.raises(UserError, match=rf"network={network}: needs images.*network=mlp_points"):
        check(compose("model=vanilla", "data=gaussian_ring", f"network={network}"))


OPTIMIZERS = {"adam": torch.optim.Adam, "rmsprop": torch.optim.RMSprop, "sgd": torch.optim.SGD}


@pytest.mark.parametrize("optimizer", options("optimizer"))
@pytest.mark.parametrize("network", ["generator", "discriminator"])
def test_optimizer_is_set_for_one_network(step, network, optimizer):
    model = step(f"optimizer@model.{network}_optimizer={optimizer}").lightning_module
    index = ["generator", "discriminator"].index(network)
    kinds = [type(optimizer_of_network.optimizer) for optimizer_of_network in model.optimizers()]
    assert kinds[index] is OPTIMIZERS[optimizer]
    assert kinds[1 - index] is torch.optim.Adam


# --- experiments -----------------------------------------------------------------------------------------------------

SIZES = {"mnist": 28, "cifar10": 32, "celeba": 64}
HEADER = ("Source", "Command", "Hardware", "Time", "Score")
PUBLISHED = [name for name in options("experiment") if name != "photos"]  # a recipe for any images


def header(name: str) -> dict[str, str]:
    """Return the fields at the top of an experiment's file: lines of a word followed by two or more spaces."""
    text = (CONF / "experiment" / f"{name}.yaml").read_text()
    return dict(re.findall(r"^# ([A-Z]\w+) {2,}(\S.*)$", text, re.M))


@pytest.mark.parametrize("name", PUBLISHED)
def test_experiment_trains_one_step(step, compose, files, name):
    data = next(data for data in sorted(LABELLED, key=len, reverse=True) if name.endswith(data))
    data_overrides = [f"data.image_size={SIZES[data]}", *files(data)] if data in SIZES else []
    check(compose(f"experiment={name}", *data_overrides))
    overrides = ["network.depth=1"] if "depth" in compose(f"experiment={name}").network else []
    trainer = step(f"experiment={name}", *data_overrides, *overrides)
    assert trainer.datamodule.shape[1:] == ((SIZES[data], SIZES[data]) if data in SIZES else ())
    assert type(trainer.lightning_module).__name__.lower().startswith(name.partition("_")[0])


@pytest.mark.parametrize("name", options("experiment"))
def test_experiment_header_has_source_command_and_score(name):
    fields = header(name)
    assert [field for field in HEADER if field not in fields] == []
    assert "https://" in fields["Source"]
    assert f"experiment={name}" in fields["Command"]


@pytest.mark.parametrize("name", options("experiment"))
def test_command_in_experiment_header_is_valid(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos" / "cats").mkdir(parents=True)
    program_name, script, *overrides = shlex.split(header(name)["Command"])
    assert (program_name, script) == ("python", "train.py")
    assert check_command_line(overrides) == ("train", overrides, None)


@pytest.mark.parametrize("name", PUBLISHED)
def test_experiment_name_matches_model_and_data(name):
    """The number of steps shows that an experiment is more than a choice of options."""
    node = OmegaConf.load(CONF / "experiment" / f"{name}.yaml")
    assert node.trainer.max_steps >= 10_000
    chosen = {key.removeprefix("override /"): value for line in node.defaults for key, value in line.items()}
    assert f"{chosen['model']}_{chosen['data']}" == name


def test_recipe_has_no_values_that_it_chooses():
    node = OmegaConf.load(CONF / "experiment" / "photos.yaml")
    assert [*node] == ["defaults", "callbacks"]
    assert node.callbacks == {"progress": {"estimate_steps": 10}}
    assert len(PUBLISHED) == len(options("experiment")) - 1


# --- debug, trainer, logger, callbacks -------------------------------------------------------------------------------


def test_debug_options_shorten_training(step):
    assert composed(("debug=one_batch",)).trainer.max_steps == 1
    assert composed(("debug=overfit",)).data.limit == composed(("debug=overfit",)).data.batch_size == 16
    assert composed(("debug=profile",)).trainer.profiler == "simple"
    assert composed(("debug=profile",)).trainer.max_steps == 100
    # A debug option overrides other defaults, but not the values of an experiment.
    both = composed(("experiment=cgan_mnist", "debug=one_batch"))
    assert (both.network.width, both.data._target_) == (1200, "gan_lightning.data.mnist.MNIST")


@pytest.mark.parametrize("name", options("debug"))
def test_debug_option_trains(step, name):
    profiler = step(f"debug={name}", callbacks=True).profiler
    assert type(profiler).__name__ == ("SimpleProfiler" if name == "profile" else "PassThroughProfiler")


def test_debug_option_shortens_experiment():
    """A user adds it to an experiment to check whether that runs at all."""
    assert composed(("experiment=cgan_mnist", "debug=one_batch")).trainer.max_steps == 1


def test_trainer_options_change_only_their_keys(step):
    default, cpu, gpu, ddp = (composed((f"trainer={name}",)).trainer for name in ("default", "cpu", "gpu", "ddp"))
    changed = [{key for key in other if other[key] != default[key]} for other in (cpu, gpu, ddp)]
    assert changed == [{"accelerator"}, {"accelerator", "benchmark"}, {"devices", "strategy"}]
    assert (cpu.accelerator, gpu.accelerator) == ("cpu", "gpu")
    assert ddp.devices == 2
    assert type(step("trainer=cpu").accelerator).__name__ == "CPUAccelerator"


def test_csv_and_tensorboard_loggers_write_files(step, tmp_path):
    step("logger=csv", callbacks=True)
    assert "d/adversarial" in (tmp_path / "csv" / "metrics.csv").read_text().splitlines()[0]
    assert not (tmp_path / "tensorboard").exists()
    step("logger=tensorboard", callbacks=True)
    assert [*(tmp_path / "tensorboard").glob("events.out.tfevents.*")]


@pytest.mark.parametrize("package", ["wandb", "mlflow"])
def test_logger_with_missing_package_is_error_with_advice(step, package):
    if importlib.util.find_spec(package):
        pytest.skip(f"{package} is installed")
    with pytest.raises(UserError, match=rf"logger\.{package}: .*pip install 'gan-lightning\[{package}\]'$") as error:
        step(f"logger={package}", callbacks=True)
    assert len(error.value.errors) == 1


def test_import_advice_names_package():
    def advice(statement: str, package: str = "") -> str:
        try:
            exec(statement)
        except ImportError as error:
            return how_to_import(error, [package])
        raise AssertionError

    def requirement(name: str) -> str:
        return f"raise ModuleNotFoundError(\"Requirement '{name}>=1' not met. HINT: pip install\")"

    user_class = "For your own class, add its folder to PYTHONPATH"
    assert advice("from torch.optim import Adm", "torch") == "torch is installed, but has no such class"
    assert advice("import nowhere.at_all", "nowhere") == f"is nowhere installed? {user_class}"
    assert (
        advice("from gan_lightning.model import nowhere", "gan_lightning")
        == "gan_lightning is installed, but has no such class"
    )
    assert advice("import nowhere", "mine") == "pip install nowhere"
    assert advice(requirement("comet-ml"), "pytorch_lightning") == "pip install comet-ml"
    assert advice(requirement("mlflow")) == "pip install 'gan-lightning[mlflow]'"


def test_loggers_write_to_run_directory(compose):
    for name in options("logger"):
        config = compose(f"logger={name}")
        config.run_dir = "a/run"
        assert str(config.logger[name].save_dir).startswith("a/run")


def test_default_callbacks_are_all_callback_options():
    names = [name for name in options("callbacks") if name != "default"]
    for name in names:
        assert [*composed((f"callbacks={name}",)).callbacks] == [name]
    assert sorted(composed(()).callbacks) == names


@pytest.mark.parametrize("name", [name for name in options("callbacks") if name != "default"])
def test_callback_runs_alone(compose, run, tmp_path, name):
    run(tmp_path, f"callbacks={name}", "~logger.tensorboard", "trainer.max_steps=1")
    written = {path.name for path in tmp_path.iterdir()}
    expected = {"checkpoint": {"checkpoints"}, "sample_grid": {"samples"}, "metric_logger": {"metrics.csv"}}
    assert written == {"config.yaml"} | expected.get(name, set())
    kind = type(instantiate(compose(f"callbacks={name}").callbacks[name], name)).__name__
    assert kind.lower() in (name.replace("_", ""), f"training{name}")


def test_run_without_callbacks_and_loggers_writes_only_config(run, tmp_path):
    assert run(tmp_path, "~callbacks", "~logger").global_step == 2
    assert [path.name for path in tmp_path.iterdir()] == ["config.yaml"]


class RejectingNetwork(torch.nn.Module):
    """A user-supplied network whose constructor rejects an image size."""

    def __init__(self, shape: list[int], **_: Any) -> None:
        super().__init__()
        raise ValueError(f"sides of {shape[1]} are not supported")


def test_errors_of_constructors_are_reported_before_data_are_read(compose, tmp_path, monkeypatch):
    monkeypatch.setattr("gan_lightning.data.digits.Digits.read", lambda *_: pytest.fail("data were read"))
    config = compose("model=vanilla")
    for name in ("generator", "discriminator"):
        config.network[name]._target_ = f"{RejectingNetwork.__module__}.RejectingNetwork"
    with pytest.raises(UserError) as caught:
        train(config, tmp_path)
    message = "sides of 16 are not supported"
    assert list(caught.value.errors) == [f"network.generator: {message}", f"network.discriminator: {message}"]
