"""The Inception network of published FIDs: the TensorFlow graph of 2015-12-05, as torch-fidelity has it."""

import hashlib
import io
import os
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torch_fidelity.feature_extractor_inceptionv3 import URL_INCEPTION_V3, FeatureExtractorInceptionV3
from torchvision.transforms.v2.functional import InterpolationMode, resize

from gan_lightning.config.constraints import Validated
from gan_lightning.errors import UnavailableError, UserError, first_line
from gan_lightning.feature import Samples
from gan_lightning.files import locked, replace
from gan_lightning.image import with_channels
from gan_lightning.paths import shorter
from gan_lightning.store import Store, fingerprint, others_make

SHA256 = "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"
FILE = URL_INCEPTION_V3.rpartition("/")[2]
SIDE = FeatureExtractorInceptionV3.INPUT_IMAGE_SIZE
FEATURES, LOGITS = "2048", "logits_unbiased"
Resize = Literal["tf1", "bilinear", "bicubic"]


class Inception(Validated):
    """2,048 features of the last pooling layer, and 1,008 logits without their bias, as Inception Score has them.

    Args:
        weights: A file with torch-fidelity's or pytorch-fid's names, or None for the one that is downloaded once.
            A file without the last layer (``fc``) gives features and no logits.
        resize: ``tf1``, the bilinear of TensorFlow 1 that published figures have; ``bilinear`` and ``bicubic`` smooth
            before they shrink, and round to whole levels.
    """

    needs_images = True

    data_classes = instant = False
    batch = 32  # larger ones are no faster, and take more memory
    no_classes = f"the weights lack Inception's last layer (fc), which {FILE} has"

    def __init__(self, weights: str | Path | None = None, resize: Resize = "tf1") -> None:
        self.weights, self.resize = weights, resize
        self.network: FeatureExtractorInceptionV3 | None = None

    @property
    def classes(self) -> bool:
        """Whether the weights have the last layer."""
        return LOGITS in self.network.features_list

    def get_ready(self, data: Samples, store: Store, device: torch.device) -> None:
        """Load the weights.

        Raises:
            UnavailableError: They are not there and cannot be downloaded.
            UserError: The file that was named is not there, or is of another network.
        """
        if self.network is not None:
            return
        path = Path(self.weights).expanduser() if self.weights else self.downloaded(store)
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:
            kind = f"cannot be read; take {FILE}" if path.exists() else "there is no such file"
            raise UserError(f"feature.weights={shorter(path)}: {kind}") from error
        if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
            raise UserError(f"feature.weights={shorter(path)}: not the weights of this network; take {FILE}")
        self.sha256 = fingerprint(*(state[name] for name in sorted(state) if not name.startswith("fc.")))
        whole = "fc.weight" in state
        self.logits_sha256 = fingerprint(state["fc.weight"]) if whole else ""
        nothing = {"fc.weight": torch.full((1008, 2048), torch.nan), "fc.bias": torch.full((1008,), torch.nan)}
        # torch-fidelity unpickles the file that it is given; this is one that we have just written ourselves.
        buffer = io.BytesIO()
        torch.save(nothing | state, buffer)
        buffer.seek(0)
        layers = [FEATURES, LOGITS] if whole else [FEATURES]
        try:
            with torch.random.fork_rng(devices=[]):
                network = FeatureExtractorInceptionV3("inception", layers, feature_extractor_weights_path=buffer)
        except (RuntimeError, AttributeError) as error:
            raise UserError(f"feature.weights={shorter(path)}: not the weights of this network; take {FILE}") from error
        for layer in network.modules():
            if hasattr(layer, "bn"):  # 1.3 times as fast on 2 cores, and the same to 1e-6
                layer.conv, layer.bn = fuse_conv_bn_eval(layer.conv, layer.bn), nn.Identity()
        self.network, self.device = network.to(device, memory_format=torch.channels_last), device

    def downloaded(self, store: Store) -> Path:
        """The file of torch-fidelity's release, downloaded where it is not there or damaged.

        Raises:
            UnavailableError: It is not there and cannot be had.
        """
        if store.folder is None:
            raise UnavailableError(
                "feature=inception: its weights have no place, since the home directory is unknown; "
                "eval.cache=FOLDER, or feature.weights=FILE"
            )
        path = store.folder / FILE
        if intact(path):
            return path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with locked(path.with_suffix(".lock"), others_make(FILE)):
                if not intact(path):
                    part = path.with_name(f".{FILE}.{os.getpid()}.part")
                    torch.hub.download_url_to_file(URL_INCEPTION_V3, str(part), hash_prefix=SHA256)
                    replace(part, path)
        except (OSError, RuntimeError) as error:
            raise UnavailableError(
                f"feature=inception: its weights are not there, and the download failed ({first_line(error)}). Take "
                f"{URL_INCEPTION_V3} and put it at {path}, or say where it is: feature.weights=FILE"
            ) from error
        return path

    def card(self) -> dict[str, Any]:
        """The network, its weights without the last layer, and the resize."""
        return {"feature": "inception-2015-12-05/2048", "feature_sha256": self.sha256, "resize": self.resize}

    @torch.no_grad()
    def __call__(self, samples: Tensor) -> tuple[Tensor, Tensor | None]:
        """Uint8 (N, 1 or 3, H, W) to (N, 2048) and (N, 1008) or None."""
        features, *logits = self.network(self.enlarged(with_channels(samples, 3).to(self.device)))
        return features, logits[0] if logits else None

    def enlarged(self, pictures: Tensor) -> Tensor:
        """At the network's own size, unless that is left to it."""
        if self.resize == "tf1":
            return pictures
        return resize(pictures, [SIDE, SIDE], InterpolationMode(self.resize), antialias=True)


def intact(path: Path) -> bool:
    """Whether the file is there as it was published."""
    return path.exists() and hashlib.sha256(path.read_bytes()).hexdigest() == SHA256
