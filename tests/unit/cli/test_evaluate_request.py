"""Overrides of gan-evaluate, merged with the configuration of a run."""

import sys

import pytest

from gan_lightning.cli.evaluate_request import parse_request, resolve_config
from gan_lightning.errors import UserError
from gan_lightning.io.paths import cache_directory


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no passwd file")
def test_unknown_home_directory_disables_cache_of_evaluation(compose, monkeypatch, caplog):
    for name in ("HOME", "GAN_CACHE_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("pwd.getpwuid", lambda _: {}["nobody"])
    monkeypatch.setattr("gan_lightning.io.paths.warned", set())
    request, errors = parse_request([])
    assert errors == []
    assert cache_directory(resolve_config(compose("model=vanilla"), request).eval.cache) is None
    assert "the home directory is unknown, so nothing is cached" in caplog.text
    with pytest.raises(UserError, match=r"^~/x: the home directory is unknown; set HOME"):
        resolve_config(compose("model=vanilla"), parse_request(["eval.cache=~/x"])[0])
