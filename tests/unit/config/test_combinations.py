"""Combinations of classes are checked by the needs that they declare, without importing or naming a class."""

import re
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from gan_lightning.config import combinations, signature
from gan_lightning.config.combinations import errors_of_combinations
from gan_lightning.io.paths import CONF

SOURCE = """
class Model:
    needs_smooth = True
    needs_fast = "take another"
    needs_small = {"mode": ("large",)}
    needs_anything = True
    effective_with = {"extra": "smooth", "rate": {"mode": ("small",)}}
    def __init__(self, mode: str = "small", extra: int = 0, rate: float = 0.0) -> None: ...

class Network:
    provides_smooth = {"norm": ("none", "layer"), "depth": 3}
    provides_fast = True
    provides_small = {"width": (1, 2)}
    def __init__(self, norm: str = "none", width: int = 1, depth: int = 0) -> None: ...

class Slow(Network):
    provides_fast = False

class Silent:
    def __init__(self, norm: str = "batch") -> None: ...
"""


@pytest.fixture
def errors(tmp_path, monkeypatch):
    """``errors("Network", network={...}, model={...})``: errors of a model and a network with these settings."""
    (tmp_path / "declared.py").write_text(SOURCE)
    monkeypatch.syspath_prepend(tmp_path)
    for cached in (signature.load, signature.read):
        cached.cache_clear()

    def errors(network: str = "Network", *overridden: str, model: dict | None = None, **settings: object) -> list[str]:
        config = {
            "model": {"_target_": "declared.Model", **(model or {})},
            "network": {"_target_": f"declared.{network}", **settings},
        }
        return errors_of_combinations(OmegaConf.create(config), overridden)

    return errors


def test_need_is_met_by_any_setting_that_provides_it(errors):
    assert errors() == errors(norm="layer") == errors(norm="batch", depth=1) == []
    assert errors(norm="batch") == [
        "network.norm=batch, network.depth=0: model._target_=declared.Model needs smooth; "
        "network.norm=none, network.norm=layer or network.depth=3"
    ]


def test_setting_with_unmet_need_is_named(errors):
    assert errors(width=5) == []
    assert errors(width=5, model={"mode": "large"}) == [
        "network.width=5: model.mode=large needs small; network.width=1 or network.width=2"
    ]


def test_class_that_never_provides_need_is_error(errors):
    assert errors("Slow") == ["model._target_=declared.Model: needs fast; take another"]


def test_undeclared_need_is_accepted(errors):
    assert errors("Silent") == []


def test_value_known_only_from_data_meets_need(errors):
    assert errors(norm="batch", depth="${data_info.num_classes}") == []


def test_overrides_without_effect_are_errors(errors):
    overridden = ("Network", "model.extra", "model.rate")
    assert errors(*overridden) == errors(norm="batch", depth=1) == []
    (error,) = errors(*overridden, model={"mode": "large"})
    assert error == "model.rate: has no effect with model.mode=large"
    assert "model.extra: has no effect, since it needs smooth" in errors(*overridden, norm="batch")
    assert not any("no effect" in error for error in errors(norm="batch")), "an error about a value that is no override"


def test_errors_of_all_kinds_are_reported_together(tmp_path, monkeypatch):
    from gan_lightning.errors import UserError
    from gan_lightning.run.command_line import check_command_line

    monkeypatch.chdir(tmp_path)
    overrides = ["modle=x", "model=wgan_gp", "loss=hing", "trainer.max_steps=0", "network.discriminator.norm=batch"]
    with pytest.raises(UserError) as caught:
        check_command_line([*overrides, "+model.generator_optimizer.foo=1", "data.flip=2"])
    keys = [re.split("[=:]", error)[0] for error in caught.value.errors]
    assert sorted(keys) == sorted(
        [
            "modle",
            "loss",
            "trainer.max_steps",
            "network.discriminator.norm",
            "model.generator_optimizer.foo",
            "data.flip",
        ]
    )


def test_combinations_module_names_no_class():
    text = Path(combinations.__file__).read_text(encoding="utf-8").partition('"""\n\n')[2]
    targets = {target for group in ("model", "loss", "network", "data") for target in class_names(group)}
    assert [name for name in targets if re.search(rf"\b{name}\b", text)] == []
    assert {"WGANGP", "Wasserstein", "DCGANGenerator", "CelebA"} <= targets


def class_names(group: str) -> set[str]:
    """Return the class names of a group's options."""
    assert (CONF / group).is_dir()
    return {target.rpartition(".")[2] for targets in combinations.options_of(group).values() for target in targets} - {
        "Adam",
        "SGD",
    }
