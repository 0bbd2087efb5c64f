"""Runs on the same images in different containers have the same weights, bit for bit."""

from pathlib import Path

import pytest
import torch
from image_containers import CONTAINERS, photos, write_container

from gan_lightning.cli import evaluate
from gan_lightning.errors import UserError
from gan_lightning.run.command_line import check_command_line

WORDS = "model=acgan", "data=image_folder", "data.image_size=16", "data.limit=null", "trainer.max_steps=4"


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return photos(tmp_path_factory.mktemp("containers") / "photos")


@pytest.fixture(scope="module")
def expected(run, folder) -> dict[str, torch.Tensor]:
    """The weights of a run on the folder."""
    return run(folder.parent / "run", *WORDS, f"data.root={folder}").lightning_module.state_dict()


@pytest.mark.parametrize("name", CONTAINERS)
def test_runs_on_same_images_have_same_weights(run, folder, expected, tmp_path, name):
    (tmp_path / "photos").symlink_to(folder)
    path = write_container(name, tmp_path / "photos")
    weights = run(tmp_path / "run", *WORDS, f"data.root={path}").lightning_module.state_dict()
    assert weights.keys() == expected.keys()
    for key, value in weights.items():
        assert torch.equal(value, expected[key]), key


def test_order_of_images_matters_for_weights(run, folder, expected, tmp_path):
    """The test above fails if an order differs."""
    weights = run(tmp_path / "run", *WORDS, f"data.root={folder}", "data.seed=1").lightning_module.state_dict()
    assert not all(torch.equal(value, expected[key]) for key, value in weights.items())


def test_run_on_archive_is_resumed_and_evaluated(run, folder, expected, tmp_path, monkeypatch):
    """The path of a stored run may be an archive, or a folder in it, and must still exist."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").symlink_to(folder)
    path = write_container("zip of the folder", tmp_path / "photos")
    words = [*WORDS[:-1], f"data.root={path / 'photos'}"]
    run(tmp_path / "run", *words, "trainer.max_steps=2")
    checkpoint = tmp_path / "run" / "checkpoints" / "last.ckpt"
    check_command_line([f"ckpt_path={checkpoint}", "trainer.max_steps=4", "trainer.accelerator=cpu"])
    resumed = run(tmp_path / "run", *words, "trainer.max_steps=4", ckpt_path=checkpoint).lightning_module.state_dict()
    assert all(torch.equal(value, expected[key]) for key, value in resumed.items())
    evaluate.evaluate(
        [tmp_path / "run"], ["eval.num_generated=30", "feature.width=2", "feature.epochs=1", "metric=fid"]
    )
    assert (tmp_path / "evaluation.json").exists()
    path.unlink()
    with pytest.raises(UserError, match=r"its data were in '.*/photos', which does not exist; data\.root=FOLDER"):
        evaluate.evaluate([checkpoint], ["eval.num_generated=30"])
