"""What many tests share: single-threaded torch, configurations by their overrides, tiny runs in a folder."""

import copy
import logging
import os
import shutil
import signal
import socket
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import DictConfig, OmegaConf
from tiny import LEARNERS, TINY, VARIANTS, composed

from gan_lightning.cli import train as program
from gan_lightning.config.instantiate import instantiate
from gan_lightning.io.signals import SIGNALS
from gan_lightning.run.fit import train

if sys.platform == "win32":  # these fork, send signals, limit resources or run bash
    collect_ignore = [
        "docs/test_course.py",
        "integration/test_cluster.py",
        "integration/test_fault_injection.py",
        "integration/test_properties.py",
    ]

torch.set_num_threads(1)  # tiny tensors: threads only get in each other's way


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test that takes ``learner`` runs for every file in conf/model, one that takes ``variant`` for those of games.

    A game is what has a discriminator: a seventh variant is among them, and the baseline is not.
    """
    for name, found in {"learner": LEARNERS, "variant": VARIANTS}.items():
        if name in metafunc.fixturenames:
            metafunc.parametrize(name, found)


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory) -> Path:
    """A cache of the session's own: nothing is read from the user's, or left there."""
    folder = tmp_path_factory.mktemp("cache")
    os.environ["GAN_CACHE_DIR"] = str(folder)
    return folder


@pytest.fixture(scope="session", autouse=True)
def _default_signals():
    """Commands that tests start inherit no ignored signals, as nohup and background jobs of a shell have them."""
    for one in SIGNALS:
        if signal.getsignal(one) == signal.SIG_IGN:
            signal.signal(one, signal.default_int_handler if one == signal.SIGINT else signal.SIG_DFL)


@pytest.fixture(scope="module")
def free_port() -> int:
    """A port of the loopback that nobody has, for a page that is served there."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


@contextmanager
def quiet_libraries() -> Iterator[None]:
    """Ignore the warnings that the command keeps from its users; every other warning is an error."""
    with warnings.catch_warnings():
        for pattern in program.IGNORED_WARNINGS:
            warnings.filterwarnings("ignore", pattern)
        yield


@pytest.fixture(autouse=True)
def _log_level():
    """Commands that a test runs in this process set the level of the package's logger."""
    logging.getLogger("gan_lightning").setLevel(logging.NOTSET)


@pytest.fixture(autouse=True)
def _quiet_libraries():
    with quiet_libraries():
        yield


@pytest.fixture(scope="session")
def compose() -> Callable[..., DictConfig]:
    """``compose("model=wgan", ...)``: what the command line would make of these words, at a tiny size."""

    def compose(*overrides: str) -> DictConfig:
        # Hydra takes most of a second, so it chooses the options once and the values are put in here.
        groups = tuple(word for word in overrides if word[0] in "~+" or "." not in word.partition("=")[0])
        values = OmegaConf.from_dotlist([word for word in overrides if word not in groups])
        config = copy.deepcopy(composed(groups))
        for key, value in TINY.items():
            section, _, name = key.partition(".")
            if name in config[section]:
                config[section][name] = value
        config.merge_with(values)
        return config

    return compose


@pytest.fixture(scope="session")
def run(compose) -> Callable[..., Any]:
    """``run(folder, "model=wgan", ...)``: a tiny training run of the real program in a folder; its trainer."""

    def run(folder: Path, *overrides: str, ckpt_path: Path | None = None) -> Any:
        folder.mkdir(parents=True, exist_ok=True)
        before = logging.root.manager.disable
        logging.disable(logging.INFO)
        try:
            with quiet_libraries():  # also in fixtures of a module, which come before those of its tests
                return train(compose(*overrides), folder, ckpt_path)
        finally:
            logging.disable(before)

    return run


@pytest.fixture(scope="session")
def trained(run, tmp_path_factory) -> Callable[..., None]:
    """``trained(folder, "model=wgan", ...)``: as ``run``, but trained once in a session and copied from then on."""
    originals: dict[tuple[str, ...], Path] = {}

    def trained(folder: Path, *overrides: str) -> None:
        if overrides not in originals:
            originals[overrides] = tmp_path_factory.mktemp("trained")
            run(originals[overrides], *overrides)
        shutil.copytree(originals[overrides], folder, symlinks=True, dirs_exist_ok=True)

    return trained


@pytest.fixture(scope="session")
def build(compose) -> Callable[..., tuple[Any, Any]]:
    """``build("model=wgan", ...)``: a tiny model and its data, ready for a trainer; the seed decides the weights."""

    def build(*overrides: str) -> tuple[Any, Any]:
        config = compose(*overrides)
        data = instantiate(config.data, "data")
        data.setup()
        config.data_info = {"shape": list(data.shape), "num_classes": data.num_classes}
        torch.manual_seed(config.seed)
        return instantiate(config.model, "model"), data

    return build
