"""Feature networks: what the classifier learns, what Inception is given, and what is kept of them."""

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
from gan_lightning.feature.custom import CustomModule, describe
from gan_lightning.feature.inception import Inception
from gan_lightning.io.cache import TensorCache, fingerprint
from gan_lightning.metric import FeatureSet
from gan_lightning.metric.fid import distance, statistics
from gan_lightning.metric.kid import KID

CPU = torch.device("cpu")


def bars(num: int = 400, classes: int = 4) -> SimpleNamespace:
    """Pictures with a bright column at one of four places."""
    labels = torch.arange(num) % classes
    pictures = torch.randint(80, (num, 1, 8, 8), generator=torch.Generator().manual_seed(0)).byte()
    for row, label in enumerate(labels.tolist()):
        pictures[row, 0, :, 2 * label] += 150
    names = [str(i) for i in range(classes)]
    return SimpleNamespace(samples=pictures, labels=labels, class_names=names, verify=lambda: None)


def test_the_classifier_learns_once_and_is_reused(tmp_path, monkeypatch):
    data, store = bars(), TensorCache(tmp_path)
    first = Classifier(width=4, dim=8)
    first.setup(data, store, CPU)
    assert first.accuracy > 0.9
    assert first.card()["feature_accuracy"] == round(first.accuracy, 4)
    features, logits = first(data.samples)
    assert features.shape == (400, 8)
    assert logits.shape == (400, 4)
    assert float(features.square().mean()) == pytest.approx(1, abs=0.1), "root mean square of one"
    monkeypatch.setattr(Classifier, "train", lambda *_: pytest.fail("it was there already"))
    second = Classifier(width=4, dim=8)
    second.setup(data, store, CPU)
    assert second.card() == first.card()
    assert torch.equal(second(data.samples)[0], features)


@pytest.mark.parametrize("classes", [2, 5, 10, 20])
def test_every_class_is_learned_and_held_out_also_where_they_lie_in_turn(classes):
    labels = torch.arange(2000) % classes
    share = labels[held_out_mask(labels)].bincount(minlength=classes) / labels.bincount()
    assert torch.equal(share, torch.full((classes,), 0.1))
    mixed = labels[torch.randperm(2000, generator=torch.Generator().manual_seed(0))]
    assert torch.equal(held_out_mask(mixed), torch.arange(2000) % 10 == 9), "as it has always been"


def test_the_classifier_is_the_same_every_time_and_leaves_the_generators_alone(tmp_path):
    data, shas = bars(), []
    for place in ("a", "b"):
        torch.manual_seed(len(shas))
        before = torch.get_rng_state()
        feature = Classifier(width=4, dim=8)
        feature.setup(data, TensorCache(tmp_path / place), CPU)
        assert torch.equal(torch.get_rng_state(), before)
        shas.append(feature.sha256)
    assert shas[0] == shas[1]


def test_other_data_get_another_classifier(tmp_path):
    store = TensorCache(tmp_path)
    for data in (bars(), bars(200)):
        Classifier(width=4, dim=8).setup(data, store, CPU)
    assert len([*tmp_path.glob("classifier-*.safetensors")]) == 2


def test_a_classifier_per_channel_names_the_number_that_the_digits_make(tmp_path):
    digits = bars(1200)
    picked = torch.randint(1200, (600, 3), generator=torch.Generator().manual_seed(1))
    stacked = SimpleNamespace(
        samples=digits.samples[picked, 0],
        labels=(digits.labels[picked] * torch.tensor([100, 10, 1])).sum(1),
        class_names=[f"{i:03d}" for i in range(1000)],
        verify=lambda: None,
    )
    feature = Classifier(width=4, dim=8, per_channel=True)
    feature.setup(stacked, TensorCache(tmp_path), CPU)
    features, logits = feature(stacked.samples)
    assert features.shape == (600, 24)
    assert logits.shape == (600, 1000)
    assert float((logits.argmax(1) == stacked.labels).double().mean()) > 0.9
    assert torch.allclose(logits.logsumexp(1), torch.zeros(600), atol=1e-4), "log probabilities of triples"


# --- Inception, without its weights ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> dict[str, torch.Tensor]:
    """Random weights in the form of the file that is downloaded."""
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


def ready(state: dict[str, torch.Tensor], folder, **more) -> Inception:
    torch.save(state, folder / "weights.pth")
    feature = Inception(folder / "weights.pth", **more)
    feature.setup(None, TensorCache(folder), CPU)
    return feature


def test_inception_is_that_of_torch_fidelity(weights, tmp_path):
    feature = ready(weights, tmp_path)
    theirs = FeatureExtractorInceptionV3(
        "x", ["2048", "logits_unbiased"], feature_extractor_weights_path=str(tmp_path / "weights.pth")
    )
    pictures = torch.randint(256, (3, 3, 32, 32), generator=torch.Generator().manual_seed(0)).byte()
    with torch.no_grad():
        expected = theirs(pictures)
    features, logits = feature(pictures)
    assert torch.allclose(features, expected[0], rtol=1e-4, atol=1e-5)
    assert torch.allclose(logits, expected[1], rtol=1e-4, atol=1e-5)
    assert feature.classes
    gray = pictures[:, :1]
    assert torch.allclose(feature(gray)[0], feature(gray.expand(-1, 3, -1, -1))[0])


def test_inception_without_its_last_layer_has_no_logits(weights, tmp_path):
    complete = ready(weights, tmp_path)
    headless = ready({name: value for name, value in weights.items() if not name.startswith("fc.")}, tmp_path)
    assert not headless.classes
    assert "lack Inception's last layer" in headless.no_logits_reason
    assert headless.card() == complete.card(), "the features are the same"
    other = ready(weights | {"fc.weight": weights["fc.weight"] * 2}, tmp_path)
    assert len({headless.logits_sha256, complete.logits_sha256, other.logits_sha256}) == 3
    features, logits = headless(torch.zeros(1, 3, 16, 16, dtype=torch.uint8))
    assert logits is None
    assert features.shape == (1, 2048)
    assert bool(features.isfinite().all())


def test_resizes_are_named_and_differ(weights, tmp_path):
    pictures = torch.randint(256, (2, 3, 32, 32), generator=torch.Generator().manual_seed(0)).byte()
    found = {resize: ready(weights, tmp_path, resize=resize) for resize in get_args(inception.Resize)}
    assert [feature.card()["resize"] for feature in found.values()] == ["tf1", "bilinear", "bicubic"]
    smooth = found["bilinear"].resized(pictures)
    assert smooth.shape == (2, 3, 299, 299)
    assert smooth.dtype == torch.uint8
    tf1 = interpolate_bilinear_2d_like_tensorflow1x(pictures.float(), (299, 299), align_corners=False)
    gap = float((smooth.float() - tf1).abs().mean())
    assert gap > 2, "half a pixel apart: which one was taken has to be said"
    with pytest.raises(ValueError, match="one of tf1, bilinear, bicubic"):
        Inception(resize="lanczos")


def test_other_files_are_refused(weights, tmp_path):
    with pytest.raises(UserError, match="not the weights of this network"):
        ready({"a": torch.zeros(1)}, tmp_path)
    with pytest.raises(UserError, match="not the weights of this network"):
        ready({"state_dict": {"a": torch.zeros(1)}, "global_step": 3}, tmp_path)
    (tmp_path / "broken.pth").write_bytes(b"no weights")
    with pytest.raises(UserError, match="cannot be read"):
        Inception(tmp_path / "broken.pth").setup(None, TensorCache(tmp_path), CPU)


# --- the store ------------------------------------------------------------------------------------------------------


def test_a_damaged_file_is_made_anew(tmp_path, caplog):
    store, made = TensorCache(tmp_path), []

    def compute():
        made.append(1)
        return {"x": torch.arange(1000.0)}

    store.get("x", compute)
    path = tmp_path / "x.safetensors"
    content = bytearray(path.read_bytes())
    content[-100] ^= 1
    path.write_bytes(content)
    with caplog.at_level(logging.WARNING):
        assert torch.equal(store.get("x", compute)["x"], torch.arange(1000.0))
    assert caplog.text.count("damaged; it is computed again") == 1
    path.write_bytes(content[:50])
    store.get("x", compute)
    assert len(made) == 3
    store.get("x", compute)
    assert len(made) == 3


def test_a_folder_that_cannot_be_written_costs_the_cache_only(tmp_path, caplog):
    (tmp_path / "file").write_text("")
    store = TensorCache(tmp_path / "file" / "below")
    with caplog.at_level(logging.WARNING):
        assert torch.equal(store.get("x", lambda: {"x": torch.ones(1)})["x"], torch.ones(1))
    assert "cannot be written" in caplog.text


def test_what_cannot_be_written_is_not_computed_twice(tmp_path, monkeypatch, caplog):
    """A full disk after hours of work."""
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


class Blocks(torch.nn.Module):
    """A network of the user's whose weights do not tell what it does."""

    def __init__(self, size: object, **settings: object) -> None:
        super().__init__()
        self.size = size
        vars(self).update(settings)

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.avg_pool2d(pictures.float(), self.size)


class Smaller(Blocks):
    """Inherits what it does."""


def scaled_by(factor: float):
    return lambda pictures: pictures * factor


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (lambda: Blocks(2), lambda: Blocks(4)),
        (lambda: Blocks([2]), lambda: Blocks([4])),
        (lambda: Blocks({"side": 2}), lambda: Blocks({"side": 4})),
        (lambda: Blocks(2), lambda: Smaller(2)),
        (lambda: Blocks(2, act=torch.relu), lambda: Blocks(2, act=torch.tanh)),
        (lambda: Blocks(2, act=scaled_by(2)), lambda: Blocks(2, act=scaled_by(3))),
        (lambda: Blocks(2, act=partial(torch.clamp, min=0)), lambda: Blocks(2, act=partial(torch.clamp, min=1))),
        (lambda: Blocks(2, mean=torch.zeros(3)), lambda: Blocks(2, mean=torch.ones(3))),
        (lambda: Blocks(2, mean=np.zeros(3)), lambda: Blocks(2, mean=np.ones(3))),
        (lambda: Blocks(2, inner=[Blocks(2)]), lambda: Blocks(2, inner=[Blocks(4)])),
        (lambda: torch.nn.Sequential(Blocks(2)), lambda: torch.nn.Sequential(Blocks(4))),
        (lambda: torch.nn.Upsample(size=[2, 2]), lambda: torch.nn.Upsample(size=[8, 8])),
        (lambda: torch.nn.Sequential(torch.nn.ReLU()), lambda: torch.nn.Sequential(torch.nn.Tanh())),
        (lambda: torch.nn.Threshold(0, 0).bfloat16(), lambda: torch.nn.Threshold(0, 1).bfloat16()),
    ],
)
def test_modules_that_compute_something_else_have_other_cards(tmp_path, one, other):
    def card(network: torch.nn.Module) -> dict:
        feature = CustomModule(network)
        feature.setup(None, TensorCache(tmp_path), CPU)
        return feature.card()

    assert card(one()) == card(one())
    assert card(one().train()) == card(one()), "evaluation is what counts"
    assert card(one())["feature_sha256"] != card(other())["feature_sha256"]


def test_inherited_code_counts(tmp_path, monkeypatch):
    before = describe(Smaller(2))
    monkeypatch.setattr(Blocks, "forward", lambda self, pictures: pictures.float().flatten(1) * 3)
    assert describe(Smaller(2)) != before


def test_what_a_module_is_described_by_may_lead_back_to_it():
    network = Blocks(2)
    vars(network)["owner"] = {"of": [network]}
    assert describe(network) == describe(network)
    weights = torch.nn.Conv2d(1, 2, 3).bfloat16()
    assert describe(weights) == describe(weights), "half precision has a fingerprint too"


def test_a_classifier_per_channel_of_other_data_is_refused(tmp_path):
    with pytest.raises(UserError, match="needs data=stacked_mnist"):
        Classifier(per_channel=True).setup(bars(), TensorCache(tmp_path), CPU)


def test_fingerprints_know_values_shapes_and_types():
    x = torch.arange(4)
    prints = {fingerprint(part) for part in (x, x.view(2, 2), x.float(), x + 1, {"a": 1}, {"a": 2}, "a")}
    assert len(prints) == 7
    assert fingerprint(x) == fingerprint(torch.arange(4))


# --- Inception with the real weights --------------------------------------------------------------------------------

REAL_WEIGHTS = Path(os.environ.get("GAN_DATA_DIR", "data"), "weights", "fid_inception_2015_nofc.pth")


@pytest.mark.slow
@pytest.mark.skipif(not REAL_WEIGHTS.exists(), reason=f"there is no {REAL_WEIGHTS}")
def test_the_examples_of_torchmetrics(tmp_path):
    """FID(feature=64) = 12.6388 and KID = 0.0312, from the docstrings of torchmetrics, of one draw of noise each.

    Theirs follow on what their network drew before; four draws of ours gave 12.657 to 12.693, and one 0.036.
    """
    feature = Inception(REAL_WEIGHTS)
    feature.setup(None, TensorCache(tmp_path), CPU)
    generator = torch.Generator().manual_seed(123)
    one = torch.randint(0, 200, (100, 3, 299, 299), generator=generator, dtype=torch.uint8)
    two = torch.randint(100, 255, (100, 3, 299, 299), generator=generator, dtype=torch.uint8)
    seen = [feature(part)[0] for part in (one, two)]
    samples = torch.zeros(100)
    found = KID(subset_size=50)(FeatureSet(samples, seen[0], samples), {}, FeatureSet(samples, seen[1], samples))
    assert found["kid"] == pytest.approx(0.0312, abs=0.008)
    feature.network.features_list = ["64"]
    early = [torch.cat([feature.network(part)[0] for part in images.split(20)]) for images in (one, two)]
    ours = distance(*(statistics(part) for part in early))
    assert ours == pytest.approx(12.6388, abs=0.06)
    theirs = FrechetInceptionDistance(feature=torch.nn.Identity(), input_img_size=(64,))
    theirs.update(early[0], real=True)
    theirs.update(early[1], real=False)
    assert ours == pytest.approx(float(theirs.compute()), rel=1e-4)
