"""Feature networks: training of the classifier, preprocessing of Inception, protocol cards, and the cache."""

import logging
import os
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import get_args

import numpy as np
import pytest
import torch
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
from torch_fidelity.interpolate_compat_tensorflow import interpolate_bilinear_2d_like_tensorflow1x
from torchmetrics.image.fid import FrechetInceptionDistance

from gan_lightning.errors import UserError
from gan_lightning.feature import inception
from gan_lightning.feature.classifier import Classifier, held_out_mask
from gan_lightning.feature.coordinates import Coordinates
from gan_lightning.feature.custom import CustomModule, describe
from gan_lightning.feature.inception import Inception
from gan_lightning.io.cache import TensorCache, fingerprint
from gan_lightning.metric import FeatureSet
from gan_lightning.metric.fid import distance, statistics
from gan_lightning.metric.kid import KID

CPU = torch.device("cpu")


def striped_images(num: int = 400, classes: int = 4) -> SimpleNamespace:
    """Images with a bright column at one of four positions."""
    labels = torch.arange(num) % classes
    images = torch.randint(80, (num, 1, 8, 8), generator=torch.Generator().manual_seed(0)).byte()
    for row, label in enumerate(labels.tolist()):
        images[row, 0, :, 2 * label] += 150
    names = [str(i) for i in range(classes)]
    return SimpleNamespace(samples=images, labels=labels, class_names=names, verify=lambda: None)


def test_classifier_is_trained_once_and_cached(tmp_path, monkeypatch):
    data, cache = striped_images(), TensorCache(tmp_path)
    first = Classifier(width=4, dim=8)
    first.setup(data, cache, CPU)
    assert first.accuracy > 0.9
    assert first.card()["feature_accuracy"] == round(first.accuracy, 4)
    features, logits = first(data.samples)
    assert features.shape == (400, 8)
    assert logits.shape == (400, 4)
    assert float(features.square().mean()) == pytest.approx(1, abs=0.1), "features should have a root mean square of 1"
    monkeypatch.setattr(Classifier, "train", lambda *_: pytest.fail("the cached classifier is trained again"))
    second = Classifier(width=4, dim=8)
    second.setup(data, cache, CPU)
    assert second.card() == first.card()
    assert torch.equal(second(data.samples)[0], features)


def test_distances_are_fid_and_kid_with_published_resize_of_inception_only():
    assert Inception().inception
    others = Inception(resize="bilinear"), Inception(resize="bicubic"), Classifier(), CustomModule(torch.nn.Flatten())
    assert not any(feature.inception for feature in (*others, Coordinates()))


@pytest.mark.parametrize("classes", [2, 5, 10, 20])
def test_held_out_mask_has_a_tenth_of_every_class(classes):
    labels = torch.arange(2000) % classes
    share = labels[held_out_mask(labels)].bincount(minlength=classes) / labels.bincount()
    assert torch.equal(share, torch.full((classes,), 0.1))
    mixed = labels[torch.randperm(2000, generator=torch.Generator().manual_seed(0))]
    assert torch.equal(held_out_mask(mixed), torch.arange(2000) % 10 == 9), "the mask of mixed classes has changed"


def test_classifier_is_deterministic_and_keeps_default_generator(tmp_path):
    data, shas = striped_images(), []
    for folder in ("a", "b"):
        torch.manual_seed(len(shas))
        before = torch.get_rng_state()
        feature = Classifier(width=4, dim=8)
        feature.setup(data, TensorCache(tmp_path / folder), CPU)
        assert torch.equal(torch.get_rng_state(), before)
        shas.append(feature.sha256)
    assert shas[0] == shas[1]


def test_classifier_is_cached_per_data_set(tmp_path):
    cache = TensorCache(tmp_path)
    for data in (striped_images(), striped_images(200)):
        Classifier(width=4, dim=8).setup(data, cache, CPU)
    assert len([*tmp_path.glob("classifier-*.safetensors")]) == 2


def test_classifier_per_channel_predicts_three_digit_numbers(tmp_path):
    digits = striped_images(1200)
    rows = torch.randint(1200, (600, 3), generator=torch.Generator().manual_seed(1))
    stacked = SimpleNamespace(
        samples=digits.samples[rows, 0],
        labels=(digits.labels[rows] * torch.tensor([100, 10, 1])).sum(1),
        class_names=[f"{i:03d}" for i in range(1000)],
        verify=lambda: None,
    )
    feature = Classifier(width=4, dim=8, per_channel=True)
    feature.setup(stacked, TensorCache(tmp_path), CPU)
    features, logits = feature(stacked.samples)
    assert features.shape == (600, 24)
    assert logits.shape == (600, 1000)
    assert float((logits.argmax(1) == stacked.labels).double().mean()) > 0.9
    assert torch.allclose(logits.logsumexp(1), torch.zeros(600), atol=1e-4), "logits are no log probabilities"


# --- Inception with random weights ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> dict[str, torch.Tensor]:
    """Random weights in the format of the downloaded file."""
    complete = SimpleNamespace()
    with torch.random.fork_rng():
        torch.manual_seed(0)

        class Random(FeatureExtractorInceptionV3):
            def load_state_dict(self, *_, **__):
                complete.state = {name: value.clone() for name, value in self.state_dict().items()}

        path = tmp_path_factory.mktemp("weights") / "empty.pth"
        torch.save({}, path)
        Random("random", ["2048"], feature_extractor_weights_path=str(path))
    return complete.state


def load_inception(state: dict[str, torch.Tensor], folder, **options) -> Inception:
    torch.save(state, folder / "weights.pth")
    feature = Inception(folder / "weights.pth", **options)
    feature.setup(None, TensorCache(folder), CPU)
    return feature


def test_inception_equals_that_of_torch_fidelity(weights, tmp_path):
    feature = load_inception(weights, tmp_path)
    reference = FeatureExtractorInceptionV3(
        "x", ["2048", "logits_unbiased"], feature_extractor_weights_path=str(tmp_path / "weights.pth")
    )
    images = torch.randint(256, (3, 3, 32, 32), generator=torch.Generator().manual_seed(0)).byte()
    with torch.no_grad():
        expected = reference(images)
    features, logits = feature(images)
    assert torch.allclose(features, expected[0], rtol=1e-4, atol=1e-5)
    assert torch.allclose(logits, expected[1], rtol=1e-4, atol=1e-5)
    assert feature.classes
    gray = images[:, :1]
    assert torch.allclose(feature(gray)[0], feature(gray.expand(-1, 3, -1, -1))[0])


def test_inception_without_last_layer_has_no_logits(weights, tmp_path):
    complete = load_inception(weights, tmp_path)
    headless = load_inception({name: value for name, value in weights.items() if not name.startswith("fc.")}, tmp_path)
    assert not headless.classes
    assert "lack Inception's last layer" in headless.no_logits_reason
    assert headless.card() == complete.card(), "equal features have different cards"
    other = load_inception(weights | {"fc.weight": weights["fc.weight"] * 2}, tmp_path)
    assert len({headless.logits_sha256, complete.logits_sha256, other.logits_sha256}) == 3
    features, logits = headless(torch.zeros(1, 3, 16, 16, dtype=torch.uint8))
    assert logits is None
    assert features.shape == (1, 2048)
    assert bool(features.isfinite().all())


def test_resize_methods_differ_and_are_in_card(weights, tmp_path):
    images = torch.randint(256, (2, 3, 32, 32), generator=torch.Generator().manual_seed(0)).byte()
    by_resize = {resize: load_inception(weights, tmp_path, resize=resize) for resize in get_args(inception.Resize)}
    assert [feature.card()["resize"] for feature in by_resize.values()] == ["tf1", "bilinear", "bicubic"]
    smooth = by_resize["bilinear"].resized(images)
    assert smooth.shape == (2, 3, 299, 299)
    assert smooth.dtype == torch.uint8
    tf1 = interpolate_bilinear_2d_like_tensorflow1x(images.float(), (299, 299), align_corners=False)
    difference = float((smooth.float() - tf1).abs().mean())
    assert difference > 2, "bilinear and tf1 should differ by half a pixel"
    with pytest.raises(ValueError, match="one of tf1, bilinear, bicubic"):
        Inception(resize="lanczos")


def test_files_that_are_no_inception_weights_are_error(weights, tmp_path):
    with pytest.raises(UserError, match="not the weights of this network"):
        load_inception({"a": torch.zeros(1)}, tmp_path)
    with pytest.raises(UserError, match="not the weights of this network"):
        load_inception({"state_dict": {"a": torch.zeros(1)}, "global_step": 3}, tmp_path)
    (tmp_path / "broken.pth").write_bytes(b"no weights")
    with pytest.raises(UserError, match="cannot be read"):
        Inception(tmp_path / "broken.pth").setup(None, TensorCache(tmp_path), CPU)


# --- cache ----------------------------------------------------------------------------------------------------------


def test_damaged_cache_file_is_computed_again(tmp_path, caplog):
    cache, computed = TensorCache(tmp_path), []

    def compute():
        computed.append(1)
        return {"x": torch.arange(1000.0)}

    cache.get("x", compute)
    path = tmp_path / "x.safetensors"
    content = bytearray(path.read_bytes())
    content[-100] ^= 1
    path.write_bytes(content)
    with caplog.at_level(logging.WARNING):
        assert torch.equal(cache.get("x", compute)["x"], torch.arange(1000.0))
    assert caplog.text.count("damaged; it is computed again") == 1
    path.write_bytes(content[:50])
    cache.get("x", compute)
    assert len(computed) == 3
    cache.get("x", compute)
    assert len(computed) == 3


def test_unwritable_cache_directory_is_warned_about(tmp_path, caplog):
    (tmp_path / "file").write_text("")
    cache = TensorCache(tmp_path / "file" / "below")
    with caplog.at_level(logging.WARNING):
        assert torch.equal(cache.get("x", lambda: {"x": torch.ones(1)})["x"], torch.ones(1))
    assert "cannot be written" in caplog.text


def test_result_is_returned_if_cache_cannot_be_written(tmp_path, monkeypatch, caplog):
    """The disk may be full after hours of computation."""
    calls = []
    monkeypatch.setattr(TensorCache, "write", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))

    def compute():
        calls.append(1)
        return {"x": torch.ones(3)}

    assert torch.equal(TensorCache(tmp_path).get("x", compute)["x"], torch.ones(3))
    assert len(calls) == 1
    assert "No space left on device" in caplog.text
    with pytest.raises(OSError, match="of its own"):
        TensorCache(tmp_path).get("y", lambda: (_ for _ in ()).throw(OSError("of its own")))


class AveragePooling(torch.nn.Module):
    """A user-supplied network whose behaviour does not depend on weights alone."""

    def __init__(self, size: object, **settings: object) -> None:
        super().__init__()
        self.size = size
        vars(self).update(settings)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.avg_pool2d(images.float(), self.size)


class InheritedPooling(AveragePooling):
    """Inherits its forward pass."""


def multiply_by(factor: float):
    return lambda images: images * factor


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (lambda: AveragePooling(2), lambda: AveragePooling(4)),
        (lambda: AveragePooling([2]), lambda: AveragePooling([4])),
        (lambda: AveragePooling({"side": 2}), lambda: AveragePooling({"side": 4})),
        (lambda: AveragePooling(2), lambda: InheritedPooling(2)),
        (lambda: AveragePooling(2, act=torch.relu), lambda: AveragePooling(2, act=torch.tanh)),
        (lambda: AveragePooling(2, act=multiply_by(2)), lambda: AveragePooling(2, act=multiply_by(3))),
        (
            lambda: AveragePooling(2, act=partial(torch.clamp, min=0)),
            lambda: AveragePooling(2, act=partial(torch.clamp, min=1)),
        ),
        (lambda: AveragePooling(2, mean=torch.zeros(3)), lambda: AveragePooling(2, mean=torch.ones(3))),
        (lambda: AveragePooling(2, mean=np.zeros(3)), lambda: AveragePooling(2, mean=np.ones(3))),
        (lambda: AveragePooling(2, inner=[AveragePooling(2)]), lambda: AveragePooling(2, inner=[AveragePooling(4)])),
        (lambda: torch.nn.Sequential(AveragePooling(2)), lambda: torch.nn.Sequential(AveragePooling(4))),
        (lambda: torch.nn.Upsample(size=[2, 2]), lambda: torch.nn.Upsample(size=[8, 8])),
        (lambda: torch.nn.Sequential(torch.nn.ReLU()), lambda: torch.nn.Sequential(torch.nn.Tanh())),
        (lambda: torch.nn.Threshold(0, 0).bfloat16(), lambda: torch.nn.Threshold(0, 1).bfloat16()),
    ],
)
def test_different_custom_modules_have_different_cards(tmp_path, one, other):
    def card(network: torch.nn.Module) -> dict:
        feature = CustomModule(network)
        feature.setup(None, TensorCache(tmp_path), CPU)
        return feature.card()

    assert card(one()) == card(one())
    assert card(one().train()) == card(one()), "the card depends on the training mode"
    assert card(one())["feature_sha256"] != card(other())["feature_sha256"]


def test_description_of_module_includes_inherited_code(tmp_path, monkeypatch):
    before = describe(InheritedPooling(2))
    monkeypatch.setattr(AveragePooling, "forward", lambda self, images: images.float().flatten(1) * 3)
    assert describe(InheritedPooling(2)) != before


def test_module_with_reference_cycle_can_be_described():
    network = AveragePooling(2)
    vars(network)["owner"] = {"of": [network]}
    assert describe(network) == describe(network)
    weights = torch.nn.Conv2d(1, 2, 3).bfloat16()
    assert describe(weights) == describe(weights), "descriptions of a bfloat16 module differ"


def test_classifier_per_channel_needs_stacked_mnist(tmp_path):
    with pytest.raises(UserError, match="needs data=stacked_mnist"):
        Classifier(per_channel=True).setup(striped_images(), TensorCache(tmp_path), CPU)


def test_fingerprints_depend_on_values_shapes_and_types():
    x = torch.arange(4)
    fingerprints = {fingerprint(part) for part in (x, x.view(2, 2), x.float(), x + 1, {"a": 1}, {"a": 2}, "a")}
    assert len(fingerprints) == 7
    assert fingerprint(x) == fingerprint(torch.arange(4))


# --- Inception with pretrained weights ------------------------------------------------------------------------------

REAL_WEIGHTS = Path(os.environ.get("GAN_DATA_DIR", "data"), "weights", "fid_inception_2015_nofc.pth")


@pytest.mark.slow
@pytest.mark.skipif(not REAL_WEIGHTS.exists(), reason=f"there is no {REAL_WEIGHTS}")
def test_fid_and_kid_match_examples_of_torchmetrics(tmp_path):
    """FID(feature=64) = 12.6388 and KID = 0.0312, from the docstrings of torchmetrics, each from one draw of noise.

    Those draws follow others that the network made; four draws here gave FID 12.657 to 12.693, and one KID 0.036.
    """
    feature = Inception(REAL_WEIGHTS)
    feature.setup(None, TensorCache(tmp_path), CPU)
    generator = torch.Generator().manual_seed(123)
    one = torch.randint(0, 200, (100, 3, 299, 299), generator=generator, dtype=torch.uint8)
    two = torch.randint(100, 255, (100, 3, 299, 299), generator=generator, dtype=torch.uint8)
    features = [feature(part)[0] for part in (one, two)]
    samples = torch.zeros(100)
    scores = KID(subset_size=50)(
        FeatureSet(samples, features[0], samples), {}, FeatureSet(samples, features[1], samples)
    )
    assert scores["kid"] == pytest.approx(0.0312, abs=0.008)
    feature.network.features_list = ["64"]
    first_features = [torch.cat([feature.network(part)[0] for part in parts.split(20)]) for parts in (one, two)]
    ours = distance(*(statistics(part) for part in first_features))
    assert ours == pytest.approx(12.6388, abs=0.06)
    reference = FrechetInceptionDistance(feature=torch.nn.Identity(), input_img_size=(64,))
    reference.update(first_features[0], real=True)
    reference.update(first_features[1], real=False)
    assert ours == pytest.approx(float(reference.compute()), rel=1e-4)
