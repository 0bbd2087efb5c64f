"""Construct objects from sections of the configuration, with error messages that name the key."""

from typing import Any

from hydra.errors import InstantiationException
from hydra.utils import instantiate as hydra_instantiate
from omegaconf import DictConfig

from gan_lightning.config.nodes import walk
from gan_lightning.config.validation import how_to_import
from gan_lightning.errors import UserError, short_message
from gan_lightning.io.memory import is_out_of_memory


def instantiate(node: DictConfig, key: str, **more: Any) -> Any:
    """Construct the object that a section of the configuration describes.

    Args:
        node: The section, which has a ``_target_``.
        key: The section's key, for messages.
        more: Additional arguments of the constructor.

    Raises:
        UserError: The constructor rejects its arguments, a package is not installed, or memory is exhausted.
    """
    from pytorch_lightning.utilities.exceptions import MisconfigurationException  # takes seconds

    try:
        return hydra_instantiate(node, _convert_="all", **more)
    except InstantiationException as error:
        cause = error.__cause__
        if isinstance(cause, UserError):
            raise cause from None
        if isinstance(cause, ImportError | TypeError | ValueError | MisconfigurationException):
            if isinstance(cause, ImportError):
                targets = [str(part._value()) for path, part in walk(node) if path.endswith("_target_")]
                advice = how_to_import(cause, [target.partition(".")[0] for target in targets])
                raise UserError(f"{key}: a package is missing ({short_message(cause)}); {advice}") from error
            raise UserError(f"{key}: {' '.join(str(cause).split())}") from error
        if is_out_of_memory(cause):
            raise UserError(f"{key}: out of memory ({short_message(cause)})") from error
        raise
