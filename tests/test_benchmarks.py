"""The plain loop that ours is measured against plays the same game; the page of results compares like with like."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from gan_lightning import seed as seeds
from gan_lightning.data.base import StepLoader
from gan_lightning.model.base import GAN

sys.path.insert(0, str(Path(__file__).parent.parent / "benchmarks"))

import results
from plain_loop import plain_loop

STEPS = 3


@pytest.mark.parametrize("name", results.VARIANTS)
def test_the_plain_loop_is_the_same_game(run, build, tmp_path, monkeypatch, name):
    """From the same weights on the same minibatches and draws it takes the same steps; the order is its own."""
    on_fit_start, start = GAN.on_fit_start, {}

    def note(self: GAN) -> None:
        start.update({key: value.clone() for key, value in self.state_dict().items()})
        on_fit_start(self)

    monkeypatch.setattr(GAN, "on_fit_start", note)
    words = f"model={name}", "~callbacks.sample_grid", "eval.every_n_steps=null", f"trainer.max_steps={STEPS}"
    ours = run(tmp_path, *words).lightning_module
    model, data = build(*words)
    model.load_state_dict(start)
    data.setup()
    steps = StepLoader(data.scale(data.samples), data.labels, data.batch_size, model.d_steps, data.seed, stop=STEPS)
    minibatches = [pair for x, y in steps for pair in zip(x.chunk(model.d_steps), y.chunk(model.d_steps), strict=True)]
    assert all(len(y.unique()) > 1 for _, y in minibatches)
    monkeypatch.setattr("plain_loop.DataLoader", lambda *_, **__: minibatches)
    rng, randn, rand = torch.Generator(), torch.randn, torch.rand
    monkeypatch.setattr(torch, "randn", lambda *shape, **_: randn(*shape, generator=rng))
    monkeypatch.setattr(torch, "rand", lambda *shape, **_: rand(*shape, generator=rng))
    loop = plain_loop(model, data.scale(data.samples), data.labels, data.batch_size)
    for step in range(STEPS):
        rng.manual_seed(seeds.mix(0, seeds.GAME, step))
        generator = next(loop)
    for key, weight in generator.named_parameters():
        after, mine = weight.detach(), ours.generator.get_parameter(key).detach()
        moved, apart = after - start[f"generator.{key}"], after - mine
        assert float(apart.norm()) < 0.01 * float(moved.norm()), key


def result(value: float, **card: Any) -> dict[str, Any]:
    card = {"num_generated": 9, "num_real": 9, "split": "train", "feature": "x", "weights": "raw"} | card
    scores = {score: [value, json.dumps(card)] for score in results.SETTINGS["mnist"].shown}
    return {"best_by": "fid", "curve": [{"step": 1, "scores": scores}], "cards": {json.dumps(card): card}}


def test_the_page_compares_like_with_like(tmp_path, monkeypatch):
    monkeypatch.setattr(results, "RESULTS", tmp_path)

    def write(kind: str, seed: int, **found: Any) -> None:
        path = results.path_of("mnist", "dcgan", kind, seed)
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(result(**found)))

    for seed in range(3):
        write("ours", seed, value=10 + 0.1 * seed)
        write("plain", seed, value=20 + 0.1 * seed, training_seed=seed)
    assert "| dcgan | 3 | 10.1 &plusmn; 0.1 |" in results.page()
    assert "ours better" in results.page()
    for seed in range(3):
        write("ours", seed, value=30 + 0.1 * seed)
    assert "**ours worse**" in results.page()
    write("plain", 0, value=20, num_generated=8)
    with pytest.raises(SystemExit, match=r"fid was measured in several ways \(num_generated\)"):
        results.page()


def test_a_mean_that_is_lower_by_noise_is_inconclusive():
    assert results.against([10.0, 14.0, 6.0], [12.0, 16.0, 8.0]).startswith("inconclusive")
    assert results.against([12.0, 16.0, 8.0], [10.0, 14.0, 6.0]).startswith("inconclusive")
    assert results.against([10.0], [20.0]) == "inconclusive (one seed)"


def test_the_page_has_what_a_gpu_has_left(tmp_path, monkeypatch):
    monkeypatch.setattr(results, "RESULTS", tmp_path)
    assert results.full_length() == []
    scores = [{"metric": "fid", "value": 12.345, "card_hash": "abc"}, {"metric": "recall", "value": 0.5}]
    report = {
        "step": 4000,
        "finished": False,
        "seconds": 600,
        "device": "a card",
        "curve": [[2000, 99.0], [4000, 50.0]],
    }
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "wgan_gp.json").write_text(json.dumps(report | {"final": [{"scores": scores}]}))
    row = "| wgan_gp | 4,000, unfinished | 10 | a card | 12.35 |  |  | 0.5 | 16.95 | abc | 2,000: 99.0, 4,000: 50.0 |"
    assert results.full_length()[-1] == row
