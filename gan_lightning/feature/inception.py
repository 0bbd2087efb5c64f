"""The Inception network of published FIDs: torch-fidelity's port of the TensorFlow graph of 2015-12-05."""

import hashlib
import io
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torch_fidelity.feature_extractor_inceptionv3 import URL_INCEPTION_V3, FeatureExtractorInceptionV3
from torchvision.transforms.v2.functional import InterpolationMode, resize

from gan_lightning.config.constraints import Validated
from gan_lightning.errors import UnavailableError, UserError, short_message
from gan_lightning.feature import FeatureNetwork, Samples
from gan_lightning.io.cache import TensorCache, fingerprint
from gan_lightning.io.files import file_lock, part_of, replace
from gan_lightning.io.image import with_channels
from gan_lightning.io.paths import relative_path

SHA256 = "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"
FILE = URL_INCEPTION_V3.rpartition("/")[2]
SIDE = FeatureExtractorInceptionV3.INPUT_IMAGE_SIZE
FEATURES, LOGITS = "2048", "logits_unbiased"
Resize = Literal["tf1", "bilinear", "bicubic"]


class Inception(Validated, FeatureNetwork):
    """2,048 features of the last pooling layer, and 1,008 logits without bias, as used by the Inception Score.

    Args:
        weights: A file with the parameter names of torch-fidelity or pytorch-fid; None downloads the published file
            once. A file without the last layer (``fc``) gives features without logits.
        resize: ``tf1`` is the bilinear interpolation of TensorFlow 1, used by published scores; ``bilinear`` and
            ``bicubic`` are antialiased, and round to integers. With these, distances are named ``fd`` and ``kd``, since
            resizing 32 x 32 to 299 x 299 differs from ``tf1`` by 7.7 grey levels on average.
    """

    needs_images = True

    batch = 32  # larger batches are no faster, and take more memory
    no_logits_reason = f"the weights lack Inception's last layer (fc), which {FILE} has"

    def __init__(self, weights: str | Path | None = None, resize: Resize = "tf1") -> None:
        self.weights, self.resize = weights, resize
        self.inception = resize == "tf1"
        self.network: FeatureExtractorInceptionV3 | None = None

    def setup(self, data: Samples, store: TensorCache, device: torch.device) -> None:
        """Load the weights.

        Raises:
            UnavailableError: The weights are neither cached nor can be downloaded.
            UserError: ``weights`` does not exist, or is a file of another network.
        """
        if self.network is not None:
            return
        path = Path(self.weights).expanduser() if self.weights else self.downloaded(store)
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:
            problem = f"cannot be read; use {FILE}" if path.exists() else "there is no such file"
            raise UserError(f"feature.weights={relative_path(path)}: {problem}") from error
        wrong = UserError(f"feature.weights={relative_path(path)}: not the weights of this network; use {FILE}")
        if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
            raise wrong
        self.sha256 = fingerprint(*(state[name] for name in sorted(state) if not name.startswith("fc.")))
        self.classes = "fc.weight" in state
        self.logits_sha256 = fingerprint(state["fc.weight"]) if self.classes else ""
        placeholder = {"fc.weight": torch.full((1008, 2048), torch.nan), "fc.bias": torch.full((1008,), torch.nan)}
        # torch-fidelity unpickles the file that it is given, so it is given one with the verified tensors alone.
        buffer = io.BytesIO()
        torch.save(placeholder | state, buffer)
        buffer.seek(0)
        layers = [FEATURES, LOGITS] if self.classes else [FEATURES]
        try:
            with torch.random.fork_rng(devices=[]):
                network = FeatureExtractorInceptionV3("inception", layers, feature_extractor_weights_path=buffer)
        except (RuntimeError, AttributeError) as error:
            raise wrong from error
        for layer in network.modules():
            if hasattr(layer, "bn"):  # 1.3 times as fast on 2 cores, and the same to 1e-6
                layer.conv, layer.bn = fuse_conv_bn_eval(layer.conv, layer.bn), nn.Identity()
        self.network, self.device = network.to(device, memory_format=torch.channels_last), device

    def downloaded(self, store: TensorCache) -> Path:
        """Return the path of torch-fidelity's file, which is downloaded if it is missing or damaged.

        Raises:
            UnavailableError: The file cannot be downloaded.
        """
        if store.folder is None:
            raise UnavailableError(
                "feature=inception: the weights cannot be cached, since the home directory is unknown; "
                "set eval.cache=FOLDER or feature.weights=FILE"
            )
        path = store.folder / FILE
        if intact(path):
            return path
        try:
            with file_lock(path.with_suffix(".lock")):
                if not intact(path):
                    part = part_of(path)
                    torch.hub.download_url_to_file(URL_INCEPTION_V3, str(part), hash_prefix=SHA256)
                    replace(part, path)
        except (OSError, RuntimeError) as error:
            raise UnavailableError(
                f"feature=inception: the weights are not cached, and the download failed ({short_message(error)}); "
                f"save {URL_INCEPTION_V3} as {path}, or set feature.weights=FILE"
            ) from error
        return path

    def card(self) -> dict[str, Any]:
        """Return what identifies the network: its name, the hash of its weights without the last layer, the resize."""
        return {"feature": "inception-2015-12-05/2048", "feature_sha256": self.sha256, "resize": self.resize}

    @torch.no_grad()
    def __call__(self, samples: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return features (N, 2048) and logits (N, 1008) or None of uint8 images (N, 1 or 3, H, W)."""
        features, *logits = self.network(self.resized(with_channels(samples, 3).to(self.device)))
        return features, logits[0] if logits else None

    def resized(self, images: Tensor) -> Tensor:
        """Resize images to the network's input size, unless the network does it itself (``tf1``)."""
        if self.resize == "tf1":
            return images
        return resize(images, [SIDE, SIDE], InterpolationMode(self.resize), antialias=True)


def intact(path: Path) -> bool:
    """Return whether the file exists with the published checksum."""
    return path.exists() and hashlib.sha256(path.read_bytes()).hexdigest() == SHA256
