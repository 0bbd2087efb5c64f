"""Golden files: losses of earlier versions are reproduced, and their checkpoints of the current format load."""

import json

import pytest
import torch
from golden import FOLDER, WORDS, curves

import gan_lightning
from gan_lightning.errors import UserError
from gan_lightning.run.checkpoint import config_of, read
from gan_lightning.run.checkpoint_format import FORMAT_VERSION
from gan_lightning.run.fit import train

CHECKPOINTS = sorted(FOLDER.glob("format_*.ckpt"))


def test_first_hundred_steps_match_golden_losses(tmp_path, learner):
    expected = json.loads((FOLDER / f"{learner}.json").read_text())
    found = curves(learner, tmp_path)
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        assert found[name] == pytest.approx(values, rel=1e-9, abs=0), name


def test_golden_losses_detect_changed_learning_rate(tmp_path, monkeypatch):
    """A learning rate that is off by a millionth changes the losses."""
    monkeypatch.setattr("golden.WORDS", (*WORDS, "model.generator_optimizer.lr=0.0002000002"))
    expected = json.loads((FOLDER / "dcgan.json").read_text())
    found = curves("dcgan", tmp_path)
    assert found["g/adversarial"] != pytest.approx(expected["g/adversarial"], rel=1e-9, abs=0)


@pytest.mark.parametrize("path", CHECKPOINTS, ids=lambda path: path.stem)
def test_checkpoints_of_current_format_load_and_resume(tmp_path, path):
    samples = torch.load(path.with_suffix(".pt"), weights_only=True)
    torch.testing.assert_close(gan_lightning.load(path).sample(len(samples), seed=0), samples, rtol=1e-5, atol=1e-5)
    checkpoint = read(path)
    config = config_of(checkpoint)
    config.trainer.max_steps = checkpoint["global_step"] + 2
    assert train(config, tmp_path, path).global_step == config.trainer.max_steps


def test_checkpoint_of_previous_format_is_rejected_in_one_line():
    (path,) = FOLDER.glob("older_*.ckpt")
    with pytest.raises(UserError) as caught:
        read(path)
    (line,) = caught.value.errors
    assert f"its checkpoint format is 3, and this gan-lightning reads format {FORMAT_VERSION}" in line
    assert "\n" not in line
