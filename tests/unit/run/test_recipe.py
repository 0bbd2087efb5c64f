"""The recipe of experiment=photos on the command line: typed settings win, and sweeps choose for each job."""

from pathlib import Path

import pytest
import torch
from hydra import compose
from PIL import Image

from gan_lightning.config.compose import initialize_hydra
from gan_lightning.errors import UserError
from gan_lightning.run import recipe as module
from gan_lightning.run.recipe import choose, compose_with_choices, print_choices, without_typed
from gan_lightning.run.run_dir import deferred_lines


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> Path:
    """A folder of 100 images of 40 x 40."""
    folder = tmp_path_factory.mktemp("photos")
    for i in range(100):
        Image.new("RGB", (40, 40), (i, 0, 0)).save(folder / f"{i}.png")
    return folder


@pytest.fixture
def on_cpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)


def chosen(photos: Path, *typed: str) -> dict[str, str]:
    return {one.key: one.value for one in choose(["experiment=photos", f"data.root={photos}", *typed])}


def test_choices_fit_folder_and_typed_settings(photos, on_cpu):
    found = chosen(photos)
    assert list(found) == [
        "data.image_size",
        "data.flip",
        "model",
        "network.width",
        "data.batch_size",
        "augment",
        "trainer.max_steps",
        "model.ema_decay",
        "eval.every_n_steps",
        "callbacks.early_stopping.patience",
    ]
    assert found["data.image_size"] == "32"
    typed = chosen(photos, "model=wgan_gp", "data.image_size=64", "trainer.max_steps=1000", "++network.width=32")
    assert not typed.keys() & {"model", "data.image_size", "trainer.max_steps", "network.width"}
    assert typed["eval.every_n_steps"] == "100"


def test_typed_default_is_not_chosen(photos, on_cpu):
    assert "data.batch_size" not in chosen(photos, "data.batch_size=64")
    assert "model" not in chosen(photos, "model=dcgan")


def test_settings_of_debug_and_of_own_files_win(photos, on_cpu, tmp_path):
    found = chosen(photos, "debug=one_batch")
    assert not found.keys() & {"trainer.max_steps", "data.batch_size", "eval.every_n_steps"}
    assert "callbacks.early_stopping.patience" not in found
    (tmp_path / "mine.yaml").write_text("defaults: [train, _self_]\ntrainer: {max_steps: 7}\n")
    overrides = ["experiment=photos", f"data.root={photos}"]
    keys = [choice.key for choice in choose(overrides, "mine", str(tmp_path))]
    assert "trainer.max_steps" not in keys
    assert "data.image_size" in keys


def test_settings_of_absent_callbacks_are_not_chosen(photos, on_cpu):
    assert "callbacks.early_stopping.patience" not in chosen(photos, "~callbacks.early_stopping")
    assert "callbacks.early_stopping.patience" not in chosen(photos, "~callbacks")


def test_gpu_is_used_unless_typed_otherwise(photos, monkeypatch):
    class Properties:
        total_memory = 8 * 10**9

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: Properties)
    assert chosen(photos)["network.width"] == "64"
    assert chosen(photos, "trainer=cpu")["network.width"] == "32"


def test_other_experiments_have_no_recipe(photos, monkeypatch):
    monkeypatch.setattr(module, "facts_of", None)
    assert choose(["model=wgan"]) == []
    assert choose(["experiment=dcgan_celeba"]) == []
    assert print_choices("train", ["model=wgan"]) == []
    assert print_choices("resume", ["experiment=photos"]) == []
    assert print_choices("train", ["--multirun", "experiment=photos", f"data.root={photos}"]) == []


def test_choices_are_printed_with_reasons_and_as_comments_by_cfg(photos, on_cpu, capsys):
    words = ["experiment=photos", f"data.root={photos}"]
    overrides = print_choices("train", words)
    printed = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in printed] == [["chosen", override] for override in overrides]
    assert printed[0].split(maxsplit=2)[2] == "100 images of about 40 x 40 on a CPU"
    print_choices("train", ["--cfg=job", *words])
    assert capsys.readouterr().out.splitlines() == [f"# {line}" for line in printed]
    deferred_lines.clear()


@pytest.mark.parametrize("data", ["digits", "gaussian_ring"])
def test_data_that_are_not_own_images_are_error(data):
    with pytest.raises(UserError, match=r"^experiment=photos: needs images of your own; use data=image_folder or"):
        choose(["experiment=photos", f"data={data}", *(["network=mlp"] if data == "gaussian_ring" else [])])


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "there is no such folder or file"), ([], "is empty"), (b"text", "is a file that images are not read from")],
)
def test_unusable_data_root_is_error_as_elsewhere(tmp_path, content, message):
    if content == []:
        (tmp_path / "photos").mkdir()
    elif content:
        (tmp_path / "photos").write_bytes(content)
    with pytest.raises(UserError, match=f"^data.root='.*photos': {message}"):
        choose(["experiment=photos", f"data.root={tmp_path / 'photos'}"])


def test_too_few_images_are_error(tmp_path):
    Image.new("RGB", (40, 40)).save(tmp_path / "a.png")
    with pytest.raises(UserError, match=r"^experiment=photos: needs at least 100 images, and there are 1;"):
        choose(["experiment=photos", f"data.root={tmp_path}"])


def test_job_of_sweep_composes_with_its_own_choices(photos, on_cpu):
    job = ["experiment=photos", f"data.root={photos}", "data.batch_size=16"]
    config, choices, overrides = compose_with_choices(job, "train", None, None)
    assert "hydra" not in config
    assert config.model.ema_decay == 0.9989
    assert (choices["augment"], choices["experiment"]) == ("diffaugment", "photos")
    assert "model.ema_decay=0.9989" in overrides
    assert config.callbacks.progress.estimate_steps == 10


def test_resumed_job_of_sweep_keeps_stored_choices_unless_typed(photos, monkeypatch):
    monkeypatch.setattr(module, "choose", None)
    stored = ["data.image_size=16", "trainer.max_steps=9"]
    job = ["experiment=photos", f"data.root={photos}", "trainer.max_steps=12"]
    config, _, overrides = compose_with_choices(job, "train", None, stored)
    assert (config.data.image_size, config.trainer.max_steps) == (16, 12)
    assert overrides == without_typed(stored, job) == ["data.image_size=16"]


def test_stored_choices_of_untrusted_checkpoint_are_only_those_of_the_recipe():
    hostile = ["model._target_=os.system", "hydra.run.dir=x", "++model=dcgan", "data.flip=${oc.env:HOME}", "~model"]
    assert without_typed([*hostile, "model=cgan"], []) == ["model=cgan"]


def test_choices_compose_in_python(photos, on_cpu):
    typed = ["experiment=photos", f"data.root={photos}"]
    overrides = [choice.override for choice in choose(typed)] + typed
    with initialize_hydra():
        config = compose("train", overrides)
    assert (config.data.image_size, config.data.flip, config.network.width) == (32, True, 32)
    assert config.augment._target_ == "gan_lightning.augment.diffaugment.DiffAugment"
