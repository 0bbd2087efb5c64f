"""An evaluation by itself: what is drawn, looked through, kept, held out and said."""

import math
from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import torch

from gan_lightning.callbacks.evaluate import Evaluate
from gan_lightning.errors import UnavailableError, UserError
from gan_lightning.evaluation.evaluator import Evaluator, full_precision
from gan_lightning.feature.classifier import Classifier
from gan_lightning.feature.custom import CustomModule
from gan_lightning.io.cache import fingerprint
from gan_lightning.metric import FeatureSet
from gan_lightning.metric.class_accuracy import ClassAccuracy
from gan_lightning.metric.class_histogram import ClassHistogram
from gan_lightning.metric.density_coverage import DensityCoverage
from gan_lightning.metric.fid import FID
from gan_lightning.metric.inception_score import InceptionScore
from gan_lightning.metric.memorization import Memorization
from gan_lightning.metric.modes import Modes
from gan_lightning.metric.precision_recall import PrecisionRecall


def test_what_is_said_of_missing_weights(cache, monkeypatch, build):
    def offline(*_, **__):
        raise OSError("no route to host")

    from gan_lightning.feature.inception import Inception

    monkeypatch.setattr(torch.hub, "download_url_to_file", offline)
    _, data = build("model=vanilla")
    with pytest.raises(UnavailableError) as caught:
        Evaluator(Inception(), {"fid": FID()}, cache=str(cache)).setup(data, conditional=False)
    told = str(caught.value)
    assert "no route to host" in told
    assert "weights-inception-2015-12-05-6726825d.pth" in told
    assert "feature.weights=FILE" in told
    with pytest.raises(UserError, match="there is no such file") as caught:
        Evaluator(Inception("nowhere.pth"), {"fid": FID()}, cache=str(cache)).setup(data, conditional=False)
    assert not isinstance(caught.value, UnavailableError), "a file that was named is no weather"


def test_data_without_labels_have_no_classifier(cache, build):
    _, data = build("model=vanilla")
    data.class_names = []
    with pytest.raises(UnavailableError, match="feature=inception"):
        Evaluator(Classifier(), {"fid": FID()}, cache=str(cache)).setup(data, conditional=False)


def test_metrics_that_cannot_be_had_are_named(cache, build):
    _, data = build("model=vanilla", "data.limit=null")
    metrics = {"fid": FID(), "class_accuracy": ClassAccuracy(), "memorization": Memorization()}
    module = CustomModule(torch.nn.Flatten())
    left_out = Evaluator(module, metrics, cache=str(cache)).setup(data, conditional=True)
    assert left_out["class_accuracy"] == "feature=custom returns no class logits"
    assert "set data.limit to leave some images out" in left_out["memorization"]
    with pytest.raises(UnavailableError, match="no metric is available"):
        Evaluator(module, {"class_accuracy": ClassAccuracy()}, cache=str(cache)).setup(data, conditional=True)


def test_ranks_that_look_through_unlike_networks_are_refused():
    """As where each node has trained a classifier of its own in a cache that they do not share."""
    judge = Evaluate(feature=CustomModule(torch.nn.Flatten()), metrics={"fid": FID()})
    judge.evaluator.feature.setup(None, None, torch.device("cpu"))
    for of_rank_0, unlike in ((judge.evaluator.feature.card(), False), ({"feature_sha256": "another"}, True)):
        strategy = SimpleNamespace(
            broadcast=lambda mine, found=of_rank_0: found, reduce_boolean_decision=lambda it, **_: it
        )
        with pytest.raises(UserError, match="different feature networks") if unlike else nullcontext():
            judge.check_same_features(SimpleNamespace(strategy=strategy))


def test_classes_of_another_network_are_not_those_of_the_data(cache, build):
    """Inception names 1,008 classes, of which none is a digit."""
    _, data = build("model=vanilla")

    class Named(CustomModule):
        classes = True

        def __call__(self, samples):
            return super().__call__(samples.float())[0], torch.zeros(len(samples), 1008)

    metrics = {"fid": FID(), "accuracy": ClassAccuracy(), "histogram": ClassHistogram(), "is": InceptionScore()}
    judge = Evaluator(Named(torch.nn.Flatten()), metrics, cache=str(cache))
    left_out = judge.setup(data, conditional=True)
    assert left_out.keys() == {"accuracy", "histogram"}
    assert "not those of the data" in left_out["accuracy"]


@pytest.mark.parametrize("num", [30, 100, 250])
def test_labels_are_asked_for_as_the_data_have_them(cache, num):
    """Also where they lie class by class, or one of each in turn until the rare ones are out."""
    for labels in ([0] * 90 + [1] * 10, [0, 1] * 10 + [0] * 80, ([1] + [0] * 9) * 60):
        judge = Evaluator(CustomModule(torch.nn.Flatten()), {}, num_generated=num, cache=str(cache))
        judge.real = FeatureSet(*[torch.zeros(len(labels), 1)] * 2, torch.tensor(labels))
        assert float(judge.sample_labels(2).double().mean()) == pytest.approx(0.1, abs=1 / num)


def test_samples_that_are_not_finite_are_no_black_pictures(cache, build):
    model, data = build("model=vanilla")
    judge = Evaluator(CustomModule(torch.nn.Flatten()), {"fid": FID()}, num_generated=20, cache=str(cache))
    next(model.generator.parameters()).data.fill_(math.nan)
    judge.real = FeatureSet(data.samples, data.samples, data.labels)
    with pytest.raises(UserError, match="samples are not finite"):
        judge.draw(model)


def test_features_are_computed_in_full_precision_and_the_setting_is_put_back():
    before, torch.backends.cudnn.allow_tf32 = torch.backends.cudnn.allow_tf32, True
    torch.set_float32_matmul_precision("high")
    try:
        with full_precision():
            assert torch.backends.cudnn.conv.fp32_precision == "ieee"
            assert torch.backends.cuda.matmul.fp32_precision == "ieee"
        assert torch.get_float32_matmul_precision() == "high"
        assert torch.backends.cudnn.allow_tf32
    finally:
        torch.set_float32_matmul_precision("highest")
        torch.backends.cudnn.allow_tf32 = before


def test_real_features_are_computed_once(cache, build, monkeypatch):
    _, data = build("model=vanilla")
    calls = []

    class Counting(CustomModule):
        def __call__(self, samples):
            calls.append(len(samples))
            assert torch.backends.cudnn.conv.fp32_precision == "ieee", "GPUs would convolve with ten bits"
            return super().__call__(samples.float())

    def judge() -> Evaluator:
        judge = Evaluator(Counting(torch.nn.Flatten()), {"fid": FID()}, cache=str(cache / "once"))
        judge.setup(data, conditional=False)
        return judge

    first, second = judge(), judge()
    assert calls == [26]
    assert torch.equal(first.prepared["fid"]["root"], second.prepared["fid"]["root"])
    data.samples = data.samples.flip(-1)
    judge()
    assert calls == [26, 26], "other pictures are looked at anew"


class Scaled(torch.nn.Module):
    """Pixels, a few of them weighted."""

    def __init__(self, weight: float) -> None:
        super().__init__()
        self.weight = weight

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        pixels = pictures.float().flatten(1)
        return torch.cat([pixels[:, ::9] * self.weight, pixels[:, 1::9]], 1)


@pytest.mark.parametrize(
    "other",
    [{"k": 5}, {"weight": 3.0}, {"num_real": 15}, {"split": "test"}, {"seed": 1}],
    ids=lambda other: next(iter(other)),
)
def test_what_is_kept_is_not_taken_for_something_else(cache, build, other):
    """Scores out of a cache that another evaluation has filled are those out of an empty one."""
    _, data = build("model=vanilla")

    def scores(folder: str, k: int = 3, weight: float = 1.0, num_real: int = 20, split: str = "train", seed: int = 0):
        metrics = {"fid": FID(), "precision": PrecisionRecall(k), "density": DensityCoverage(k)}
        of = {"num_generated": 30, "num_real": num_real, "split": split, "seed": seed}
        judge = Evaluator(CustomModule(Scaled(weight)), metrics, **of, cache=str(cache / folder))
        judge.setup(data, conditional=False)
        fake = judge.extract_features(*(part[-30:] for part in data.held_out()))
        return [(score.name, score.value, score.hash) for score in judge.score(fake, {"num_generated": 30})]

    one, two = scores("shared"), scores("shared", **other)
    assert scores("empty", **other) == two
    assert [line[2] for line in one] != [line[2] for line in two]
    assert [line[1] for line in one] != [line[1] for line in two]


def test_numbers_are_the_same_however_they_are_typed(build):
    one, other = (build("model=vanilla", "data=gaussian_ring", f"data.std={typed}")[1] for typed in ("1", "1.0"))
    assert fingerprint(one.std) == fingerprint(other.std)
    assert fingerprint(Modes(3).settings()) == fingerprint(Modes(3.0).settings())


def test_logits_of_other_weights_are_not_taken_for_these(cache, build):
    _, data = build("model=vanilla")

    class WithLogits(CustomModule):
        def __init__(self, scale: float | None) -> None:
            super().__init__(torch.nn.Flatten())
            self.classes, self.scale, self.logits_sha256 = scale is not None, scale, "" if scale is None else f"{scale}"

        def __call__(self, samples):
            features, _ = super().__call__(samples.float())
            return features, None if self.scale is None else features[:, :8] * self.scale

    found = {}
    for scale in (None, 0.01, 0.02):
        metrics = {"fid": FID()} if scale is None else {"fid": FID(), "is": InceptionScore(splits=2)}
        judge = Evaluator(WithLogits(scale), metrics, cache=str(cache / "logits"))
        judge.setup(data, conditional=False)
        assert (judge.real.logits is None) == (scale is None)
        found[scale] = {score.name: score for score in judge.score(judge.real, {"num_generated": 26})}
    assert len({scores["fid"].hash for scores in found.values()}) == 1, "the features are the same"
    one, two = (found[scale]["inception_score"] for scale in (0.01, 0.02))
    assert one.value != two.value
    assert one.hash != two.hash


def test_ranks_share_the_work_and_see_the_same_samples(cache, build, monkeypatch):
    model, data = build("model=cgan")
    judge = Evaluator(CustomModule(torch.nn.Flatten()), {"fid": FID()}, num_generated=1100, cache=str(cache))
    judge.feature.network.forward = lambda pictures: pictures.float().flatten(1)
    judge.setup(data, conditional=True)
    alone = judge.draw(model)
    shares: dict[int, list] = {0: [], 1: []}
    for rank in shares:
        judge.draw(model, rank, 2, lambda part, rank=rank: (shares[rank].append(part), part[None])[1])
    joined = [torch.cat(parts)[:1100] for parts in zip(*shares.values(), strict=True)]
    assert torch.equal(joined[0], alone.samples)
    assert torch.equal(joined[1], alone.features)


# --- real samples that training never sees --------------------------------------------------------------------------


def test_points_are_held_out_as_others_of_the_same_law(build):
    _, data = build("model=vanilla", "data=gaussian_ring", "data.num=4000")
    held_out, labels = data.held_out()
    assert held_out.shape == data.samples.shape
    assert not torch.equal(held_out, data.samples)
    assert (held_out - data.centres()[labels]).norm(dim=1).max() < 0.06


def test_what_lies_beyond_the_limit_is_held_out(build):
    _, data = build("model=vanilla", "data.limit=1700")
    held_out, _ = data.held_out()
    assert len(held_out) == 97
    complete = build("model=vanilla", "data.limit=null")[1].samples
    assert torch.equal(torch.cat([data.samples, held_out]), complete)
    with pytest.raises(UserError, match=r"no test set; set data\.limit to leave"):
        build("model=vanilla", "data.limit=null")[1].held_out()
