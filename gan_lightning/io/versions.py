"""Versions of Python and of the installed packages, as checkpoints, results and protocol cards store them."""

import platform
from importlib.metadata import PackageNotFoundError, version

PACKAGES = "gan-lightning", "torch", "torchvision", "pytorch-lightning", "hydra-core", "numpy"


def installed(package: str) -> str:
    """Return the version of a package, or ``unknown`` for a clone that is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "unknown"


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that results depend on."""
    found = {"python": platform.python_version(), "platform": platform.platform()}
    return found | {package: installed(package) for package in PACKAGES}
