"""Shared fixtures: composed configurations, tiny runs and models, an own cache; torch runs single-threaded."""

import copy
import logging
import os
import shutil
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import DictConfig, OmegaConf
from tiny import MODELS, TINY, VARIANTS, composed

from gan_lightning.config.instantiate import instantiate
from gan_lightning.io.library_warnings import ignore_library_warnings
from gan_lightning.io.signals import SIGNALS
from gan_lightning.run.fit import train

if sys.platform == "win32":  # these fork, send signals, limit resources or run bash
    collect_ignore = [
        "docs/test_course.py",
        "integration/test_cluster.py",
        "integration/test_fault_injection.py",
        "integration/test_properties.py",
    ]

torch.set_num_threads(1)  # with tiny tensors, more threads are slower


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Parametrize ``learner`` over all files in conf/model and ``variant`` over those with a discriminator.

    So a variant that is added to conf/model is tested, too; the baseline, a VAE, is a ``learner`` only.
    """
    for name, values in {"learner": MODELS, "variant": VARIANTS}.items():
        if name in metafunc.fixturenames:
            metafunc.parametrize(name, values)


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory) -> Path:
    """Cache directory of the test session, so that the user's cache is neither read nor written."""
    folder = tmp_path_factory.mktemp("cache")
    os.environ["GAN_CACHE_DIR"] = str(folder)
    return folder


@pytest.fixture(scope="session", autouse=True)
def _default_signals():
    """Reset ignored signals, as under nohup or in a shell's background job, since child processes inherit them."""
    for signum in SIGNALS:
        if signal.getsignal(signum) == signal.SIG_IGN:
            signal.signal(signum, signal.default_int_handler if signum == signal.SIGINT else signal.SIG_DFL)


@pytest.fixture(scope="module")
def free_port() -> int:
    """A free TCP port on the loopback interface."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


@contextmanager
def quiet_libraries() -> Iterator[None]:
    """Ignore the warnings that gan-train ignores; every other warning is an error."""
    with ignore_library_warnings():
        yield


@pytest.fixture(autouse=True)
def _log_level():
    """Reset the level of the package's logger, which commands set when a test runs them in this process."""
    logging.getLogger("gan_lightning").setLevel(logging.NOTSET)


@pytest.fixture(autouse=True)
def _quiet_libraries():
    with quiet_libraries():
        yield


@pytest.fixture(scope="session")
def compose() -> Callable[..., DictConfig]:
    """``compose("model=wgan", ...)``: the configuration of these overrides, at a tiny size."""

    def compose(*overrides: str) -> DictConfig:
        # Hydra takes most of a second, so options are composed once (cached) and values are merged here.
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
    """``run(folder, "model=wgan", ...)``: train a tiny run in a folder; return its trainer."""

    def run(folder: Path, *overrides: str, ckpt_path: Path | None = None) -> Any:
        folder.mkdir(parents=True, exist_ok=True)
        before = logging.root.manager.disable
        logging.disable(logging.INFO)
        try:
            with quiet_libraries():  # module-scoped fixtures run before _quiet_libraries
                return train(compose(*overrides), folder, ckpt_path)
        finally:
            logging.disable(before)

    return run


@pytest.fixture(scope="session")
def trained(run, tmp_path_factory) -> Callable[..., None]:
    """``trained(folder, "model=wgan", ...)``: like ``run``, but trained once per session and then copied."""
    originals: dict[tuple[str, ...], Path] = {}

    def trained(folder: Path, *overrides: str) -> None:
        if overrides not in originals:
            originals[overrides] = tmp_path_factory.mktemp("trained")
            run(originals[overrides], *overrides)
        shutil.copytree(originals[overrides], folder, symlinks=True, dirs_exist_ok=True)

    return trained


@pytest.fixture(scope="session")
def build(compose) -> Callable[..., tuple[Any, Any]]:
    """``build("model=wgan", ...)``: a tiny model with seeded weights, and its data module."""

    def build(*overrides: str) -> tuple[Any, Any]:
        config = compose(*overrides)
        data = instantiate(config.data, "data")
        data.setup()
        config.data_info = {"shape": list(data.shape), "num_classes": data.num_classes}
        torch.manual_seed(config.seed)
        return instantiate(config.model, "model"), data

    return build
