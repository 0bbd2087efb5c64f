"""Benchmarks: the plain training loop equals ours, and the page of results compares equal protocols only."""

import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

import results
import same


@pytest.mark.parametrize("name", results.VARIANTS)
def test_plain_loop_has_same_losses(run, tmp_path, name):
    """Both start with equal weights and use equal minibatches and random draws."""
    overrides = f"model={name}", "~callbacks.sample_grid", "trainer.max_steps=5", "trainer.precision=64-true"
    trainer = run(tmp_path, *overrides, "+callbacks.plain={_target_: same.Plain}")
    plain = next(callback for callback in trainer.callbacks if isinstance(callback, same.Plain))
    torch.testing.assert_close(same.losses(trainer), plain.losses, rtol=1e-9, atol=1e-12)
    assert len(plain.losses.unique()) == plain.losses.numel() == 10


def result(value: float, **card: Any) -> dict[str, Any]:
    card = {"num_generated": 9, "num_real": 9, "split": "train", "feature": "x", "weights": "raw"} | card
    scores = {score: [value, json.dumps(card)] for score in results.SETTINGS["mnist"].shown}
    return {"best_by": "fd", "curve": [{"step": 1, "scores": scores}], "cards": {json.dumps(card): card}}


def test_results_page_compares_equal_protocols_only(tmp_path, monkeypatch):
    monkeypatch.setattr(results, "RESULTS", tmp_path)

    def write(kind: str, seed: int, **result_arguments: Any) -> None:
        path = results.path_of("mnist", "dcgan", kind, seed)
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(result(**result_arguments)))

    for seed in range(3):
        write("ours", seed, value=10 + 0.1 * seed)
        write("plain", seed, value=20 + 0.1 * seed, training_seed=seed)
    assert "| dcgan | 3 | 10.1 &plusmn; 0.1 |" in results.page()
    assert "ours better" in results.page()
    for seed in range(3):
        write("ours", seed, value=30 + 0.1 * seed)
    assert "**ours worse**" in results.page()
    write("plain", 0, value=20, num_generated=8)
    with pytest.raises(SystemExit, match=r"fd was measured in several ways \(num_generated\)"):
        results.page()


def test_difference_of_means_within_noise_is_inconclusive():
    assert results.against([10.0, 14.0, 6.0], [12.0, 16.0, 8.0]).startswith("inconclusive")
    assert results.against([12.0, 16.0, 8.0], [10.0, 14.0, 6.0]).startswith("inconclusive")
    assert results.against([10.0], [20.0]) == "inconclusive (one seed)"


def test_results_page_has_full_length_runs(tmp_path, monkeypatch):
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


def test_ratios_of_readme_are_measured_ones():
    root = Path(__file__).parents[2]
    readme = (root / "README.md").read_text()
    measured = json.loads((root / "benchmarks" / "throughput.json").read_text())["results"]
    cells = r"(\w+ (?:points|\w+ \d+)) \| ([\d.]+) \| ([\d.]+) \(([\d.]+) to ([\d.]+)\)"
    rows = re.findall(rf"^\| {cells} \|$", readme, re.M)
    assert len(rows) == 14
    for setting, rate, *ratios in rows:
        result = measured[setting]
        assert rate == f"{result['ours_steps_per_second']:.1f}", setting
        assert ratios == [f"{value:.2f}" for value in (result["ratio"], *result["ratio_quartiles"])], setting
    images = [measured[setting]["ratio"] for setting, *_ in rows if "points" not in setting]
    text = re.search(r"images train ([\d.]+) to ([\d.]+) times", readme)
    assert text.groups() == (f"{min(images):.2f}", f"{max(images):.2f}")
