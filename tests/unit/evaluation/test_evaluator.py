"""Evaluator: drawn labels and samples, available metrics, cached features, protocol hashes and held-out data."""

import math
from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import torch
from sample_images import colours

from gan_lightning.callbacks.evaluate import Evaluate
from gan_lightning.errors import UnavailableError, UserError
from gan_lightning.evaluation.compare import Row, check_comparable, summarise
from gan_lightning.evaluation.evaluator import Evaluator, full_precision
from gan_lightning.evaluation.score import Score
from gan_lightning.feature.classifier import Classifier
from gan_lightning.feature.custom import CustomModule
from gan_lightning.io.cache import fingerprint
from gan_lightning.metric import FeatureSet
from gan_lightning.metric.class_accuracy import ClassAccuracy
from gan_lightning.metric.class_histogram import ClassHistogram
from gan_lightning.metric.density_coverage import DensityCoverage
from gan_lightning.metric.fid import FID
from gan_lightning.metric.inception_score import InceptionScore
from gan_lightning.metric.kid import KID
from gan_lightning.metric.memorization import Memorization
from gan_lightning.metric.modes import Modes
from gan_lightning.metric.precision_recall import PrecisionRecall


def test_missing_inception_weights_are_unavailable_with_advice(cache, monkeypatch, build):
    def offline(*_, **__):
        raise OSError("no route to host")

    from gan_lightning.feature.inception import Inception

    monkeypatch.setattr(torch.hub, "download_url_to_file", offline)
    _, data = build("model=vanilla")
    with pytest.raises(UnavailableError) as caught:
        Evaluator(Inception(), {"fid": FID()}, cache=str(cache)).setup(data, conditional=False)
    message = str(caught.value)
    assert "no route to host" in message
    assert "weights-inception-2015-12-05-6726825d.pth" in message
    assert "feature.weights=FILE" in message
    with pytest.raises(UserError, match="there is no such file") as caught:
        Evaluator(Inception("nowhere.pth"), {"fid": FID()}, cache=str(cache)).setup(data, conditional=False)
    assert not isinstance(caught.value, UnavailableError), "a missing file that the user named should be a UserError"


def test_classifier_is_unavailable_without_labels(cache, build):
    _, data = build("model=vanilla")
    data.class_names = []
    with pytest.raises(UnavailableError, match="feature=inception"):
        Evaluator(Classifier(), {"fid": FID()}, cache=str(cache)).setup(data, conditional=False)


def test_unavailable_metrics_have_reasons(cache, build):
    _, data = build("model=vanilla", "data.limit=null")
    metrics = {"fid": FID(), "class_accuracy": ClassAccuracy(), "memorization": Memorization()}
    module = CustomModule(torch.nn.Flatten())
    unavailable = Evaluator(module, metrics, cache=str(cache)).setup(data, conditional=True)
    assert unavailable["class_accuracy"] == "feature=custom returns no class logits"
    assert "set data.limit to leave some images out" in unavailable["memorization"]
    with pytest.raises(UnavailableError, match="no metric is available"):
        Evaluator(module, {"class_accuracy": ClassAccuracy()}, cache=str(cache)).setup(data, conditional=True)


def test_ranks_with_different_feature_networks_are_error():
    """This happens if each node trains its own classifier, in a cache that is not shared."""
    evaluate = Evaluate(feature=CustomModule(torch.nn.Flatten()), metrics={"fid": FID()})
    evaluate.evaluator.feature.setup(None, None, torch.device("cpu"))
    for card_of_rank_0, differs in ((evaluate.evaluator.feature.card(), False), ({"feature_sha256": "another"}, True)):
        strategy = SimpleNamespace(
            broadcast=lambda own_card, found=card_of_rank_0: found,
            reduce_boolean_decision=lambda decision, **_: decision,
        )
        with pytest.raises(UserError, match="different feature networks") if differs else nullcontext():
            evaluate.check_same_features(SimpleNamespace(strategy=strategy))


def test_class_metrics_are_unavailable_for_classes_of_inception(cache, build):
    """Inception has 1,008 classes, none of which is a digit."""
    _, data = build("model=vanilla")

    class Named(CustomModule):
        classes = True

        def __call__(self, samples):
            return super().__call__(samples.float())[0], torch.zeros(len(samples), 1008)

    metrics = {"fid": FID(), "accuracy": ClassAccuracy(), "histogram": ClassHistogram(), "is": InceptionScore()}
    evaluator = Evaluator(Named(torch.nn.Flatten()), metrics, cache=str(cache))
    unavailable = evaluator.setup(data, conditional=True)
    assert unavailable.keys() == {"accuracy", "histogram"}
    assert "not those of the data" in unavailable["accuracy"]


class Published(CustomModule):
    """A network whose distances are named like those of Inception."""

    inception = True


def measured(feature, data, cache) -> tuple[Evaluator, list[Score]]:
    """Return an evaluator with the distances, and the scores of some of the data."""
    metrics = {"fid": FID(), "kid": KID(subsets=3), "precision_recall": PrecisionRecall()}
    evaluator = Evaluator(feature, metrics, num_generated=20, cache=str(cache))
    evaluator.setup(data, conditional=False)
    return evaluator, evaluator.score(evaluator.extract_features(data.samples[:20], data.labels[:20]), {})


def test_distances_are_named_fid_and_kid_through_inception_only(cache, build):
    """Names of scores, metrics on the cards and warnings differ; values do not."""
    _, data = build("model=vanilla")
    evaluator, scores = measured(CustomModule(torch.nn.Flatten()), data, cache)
    published_evaluator, published = measured(Published(torch.nn.Flatten()), data, cache)
    assert [score.name for score in scores] == ["fd", "kd", "kd_std", "precision", "recall"]
    assert [score.name for score in published] == ["fid", "kid", "kid_std", "precision", "recall"]
    assert [score.value for score in scores] == [score.value for score in published]
    assert [score.card["metric"] for score in scores] == ["FD", "KD", "KD", *["PrecisionRecall"] * 2]
    assert [score.card["metric"] for score in published] == ["FID", "KID", "KID", *["PrecisionRecall"] * 2]
    assert [note.partition(": ")[0] for note in scores[0].notes + scores[1].notes] == ["fd", "kd"]
    assert [note.partition(": ")[0] for note in published[0].notes + published[1].notes] == ["fid", "kid"]
    assert scores[3].notes[0].startswith("precision, recall: 20 samples")
    assert evaluator.directions == {"fd": -1, "kd": -1, "precision": 1, "recall": 1}
    assert published_evaluator.directions == {"fid": -1, "kid": -1, "precision": 1, "recall": 1}
    fake = evaluator.extract_features(data.samples[:20], data.labels[:20])
    assert evaluator.value(fake, "kd") == scores[1].value == published_evaluator.value(fake, "kid")


def test_scores_of_other_networks_are_columns_of_their_own(cache, build):
    """FID and other Frechet distances are never compared."""
    _, data = build("model=vanilla")
    rows = [
        Row(name, {"model": name}, 0, 1, [score.line() for score in measured(feature, data, cache)[1][:1]])
        for name, feature in (("a", CustomModule(torch.nn.Flatten())), ("b", Published(torch.nn.Flatten())))
    ]
    check_comparable(rows)
    table = {line["experiment"]: line for line in summarise(rows, "fd", -1)}
    assert math.isnan(table["a"]["fid"])
    assert math.isnan(table["b"]["fd"])
    assert table["a"]["fd"] == table["b"]["fid"]
    assert table["b"]["against the best"] == "not measured"


@pytest.mark.parametrize(
    ("feature", "score", "hint"),
    [
        (CustomModule(torch.nn.Flatten()), "fid", "; fid is measured with feature=inception feature.resize=tf1"),
        (Published(torch.nn.Flatten()), "fd", "; fd is measured with other networks than Inception"),
        (CustomModule(torch.nn.Flatten()), "fd", ""),
        (Published(torch.nn.Flatten()), "fid", ""),
        (Published(torch.nn.Flatten()), "modes", ""),
    ],
)
def test_score_of_another_network_has_hint(feature, score, hint):
    assert Evaluator(feature, {"fid": FID(), "recall": PrecisionRecall()}).name_hint(score) == hint


def test_best_by_of_another_network_is_error(run, tmp_path):
    for best_by, feature, expected in (("fid", "classifier", "fd, kd"), ("fd", "inception", "fid, kid")):
        words = "model=vanilla", f"eval.best_by={best_by}", f"feature={feature}"
        with pytest.raises(UserError, match=rf"eval.best_by={best_by}: must be one of {expected}, .*; {best_by} is"):
            run(tmp_path / best_by, *words, "eval.every_n_steps=1")


@pytest.mark.parametrize("num", [30, 100, 250])
def test_sample_labels_have_class_frequencies_of_data(cache, num):
    """The order of the real labels must not matter."""
    for labels in ([0] * 90 + [1] * 10, [0, 1] * 10 + [0] * 80, ([1] + [0] * 9) * 60):
        evaluator = Evaluator(CustomModule(torch.nn.Flatten()), {}, num_generated=num, cache=str(cache))
        evaluator.real = FeatureSet(*[torch.zeros(len(labels), 1)] * 2, torch.tensor(labels))
        assert float(evaluator.sample_labels(2).double().mean()) == pytest.approx(0.1, abs=1 / num)


def test_non_finite_samples_are_error(cache, build):
    model, data = build("model=vanilla")
    evaluator = Evaluator(CustomModule(torch.nn.Flatten()), {"fid": FID()}, num_generated=20, cache=str(cache))
    next(model.generator.parameters()).data.fill_(math.nan)
    evaluator.real = FeatureSet(data.samples, data.samples, data.labels)
    with pytest.raises(UserError, match="samples are not finite"):
        evaluator.draw(model)


def test_full_precision_disables_tf32_and_restores_setting():
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
            assert torch.backends.cudnn.conv.fp32_precision == "ieee", "TF32 rounds inputs of convolutions to 10 bits"
            return super().__call__(samples.float())

    def make_evaluator() -> Evaluator:
        evaluator = Evaluator(Counting(torch.nn.Flatten()), {"fid": FID()}, cache=str(cache / "once"))
        evaluator.setup(data, conditional=False)
        return evaluator

    first, second = make_evaluator(), make_evaluator()
    assert calls == [26]
    assert torch.equal(first.prepared["fid"]["root"], second.prepared["fid"]["root"])
    data.samples = data.samples.flip(-1)
    make_evaluator()
    assert calls == [26, 26], "features of changed images are not computed again"


class WeightedPixels(torch.nn.Module):
    """Returns pixels, some of them weighted."""

    def __init__(self, weight: float) -> None:
        super().__init__()
        self.weight = weight

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        pixels = images.float().flatten(1)
        return torch.cat([pixels[:, ::9] * self.weight, pixels[:, 1::9]], 1)


@pytest.mark.parametrize(
    "other",
    [{"k": 5}, {"weight": 3.0}, {"num_real": 15}, {"reference": "test"}, {"seed": 1}],
    ids=lambda other: next(iter(other)),
)
def test_cache_distinguishes_evaluation_settings(cache, build, other):
    """Scores from a cache filled by another evaluation equal those from an empty cache."""
    _, data = build("model=vanilla")

    def scores(
        folder: str, k: int = 3, weight: float = 1.0, num_real: int = 20, reference: str = "train", seed: int = 0
    ):
        metrics = {"fid": FID(), "precision": PrecisionRecall(k), "density": DensityCoverage(k)}
        settings = {"num_generated": 30, "num_real": num_real, "reference": reference, "seed": seed}
        evaluator = Evaluator(CustomModule(WeightedPixels(weight)), metrics, **settings, cache=str(cache / folder))
        evaluator.setup(data, conditional=False)
        fake = evaluator.extract_features(*(part[-30:] for part in data.held_out()))
        return [(score.name, score.value, score.hash) for score in evaluator.score(fake, {"num_generated": 30})]

    one, two = scores("shared"), scores("shared", **other)
    assert scores("empty", **other) == two
    assert [line[2] for line in one] != [line[2] for line in two]
    assert [line[1] for line in one] != [line[1] for line in two]


def test_fingerprint_of_int_equals_that_of_float(build):
    one, other = (build("model=vanilla", "data=gaussian_ring", f"data.std={std}")[1] for std in ("1", "1.0"))
    assert fingerprint(one.std) == fingerprint(other.std)
    assert fingerprint(Modes(3).settings()) == fingerprint(Modes(3.0).settings())


def test_cache_distinguishes_logits_of_other_weights(cache, build):
    _, data = build("model=vanilla")

    class WithLogits(CustomModule):
        def __init__(self, scale: float | None) -> None:
            super().__init__(torch.nn.Flatten())
            self.classes, self.scale, self.logits_sha256 = scale is not None, scale, "" if scale is None else f"{scale}"

        def __call__(self, samples):
            features, _ = super().__call__(samples.float())
            return features, None if self.scale is None else features[:, :8] * self.scale

    scores_by_scale = {}
    for scale in (None, 0.01, 0.02):
        metrics = {"fid": FID()} if scale is None else {"fid": FID(), "is": InceptionScore(splits=2)}
        evaluator = Evaluator(WithLogits(scale), metrics, cache=str(cache / "logits"))
        evaluator.setup(data, conditional=False)
        assert (evaluator.real.logits is None) == (scale is None)
        scores_by_scale[scale] = {score.name: score for score in evaluator.score(evaluator.real, {"num_generated": 26})}
    assert len({named_scores["fd"].hash for named_scores in scores_by_scale.values()}) == 1, (
        "hashes of equal features differ"
    )
    one, two = (scores_by_scale[scale]["inception_score"] for scale in (0.01, 0.02))
    assert one.value != two.value
    assert one.hash != two.hash


def test_ranks_together_draw_samples_of_one_process(cache, build, monkeypatch):
    model, data = build("model=cgan")
    evaluator = Evaluator(CustomModule(torch.nn.Flatten()), {"fid": FID()}, num_generated=1100, cache=str(cache))
    evaluator.feature.network.forward = lambda images: images.float().flatten(1)
    evaluator.setup(data, conditional=True)
    single = evaluator.draw(model)
    shares: dict[int, list] = {0: [], 1: []}
    for rank in shares:
        evaluator.draw(model, rank, 2, lambda part, rank=rank: (shares[rank].append(part), part[None])[1])
    joined = [torch.cat(parts)[:1100] for parts in zip(*shares.values(), strict=True)]
    assert torch.equal(joined[0], single.samples)
    assert torch.equal(joined[1], single.features)


# --- held-out real samples ------------------------------------------------------------------------------------------


def test_held_out_points_are_new_draws_of_same_distribution(build):
    _, data = build("model=vanilla", "data=gaussian_ring", "data.num=4000")
    held_out, labels = data.held_out()
    assert held_out.shape == data.samples.shape
    assert not torch.equal(held_out, data.samples)
    assert (held_out - data.centres()[labels]).norm(dim=1).max() < 0.06


def test_whole_data_set_is_reference_although_limit_leaves_images_out(build, cache):
    _, data = build("model=vanilla")
    evaluator = Evaluator(CustomModule(torch.nn.Flatten()), {"fid": FID()}, reference="all", cache=str(cache))
    evaluator.setup(data, conditional=False)
    complete = build("model=vanilla", "data.limit=null")[1]
    assert torch.equal(evaluator.real.samples, complete.samples)
    assert torch.equal(evaluator.real.labels, complete.labels)
    assert (evaluator.data_card["split"], evaluator.data_card["num_real"]) == ("all", 1797)


@pytest.fixture
def reference(tmp_path) -> str:
    """A folder of 20 images of another size, in two classes."""
    for number in range(20):
        folder = tmp_path / "reference" / str(number % 2)
        folder.mkdir(parents=True, exist_ok=True)
        colours((20, 20), (10 * number,) * 3).save(folder / f"{number}.png")
    return str(tmp_path / "reference")


def test_folder_of_images_is_reference(build, cache, reference):
    _, data = build("model=vanilla")
    evaluator = Evaluator(CustomModule(torch.nn.Flatten()), {"fid": FID()}, reference=reference, cache=str(cache))
    evaluator.setup(data, conditional=False)
    assert evaluator.real.samples.shape == (20, 1, 16, 16)
    assert sorted(evaluator.real.samples[:, 0, 0, 0].tolist()) == [10 * number for number in range(20)]
    assert (evaluator.data_card["split"], evaluator.data_card["num_real"]) == ("reference", 20)


def test_reference_with_other_classes_is_error_for_conditional_model(build, cache, reference):
    _, data = build("model=cgan")
    arguments = {"reference": reference, "cache": str(cache)}
    with pytest.raises(
        UserError, match=r"eval\.reference=.*: has other classes than the data; eval\.label_distribution"
    ):
        Evaluator(CustomModule(torch.nn.Flatten()), {"fid": FID()}, **arguments).setup(data, conditional=True)
    uniform = Evaluator(CustomModule(torch.nn.Flatten()), {"fid": FID()}, label_distribution="uniform", **arguments)
    uniform.setup(data, conditional=True)
    assert uniform.sample_labels(10)[:10].tolist() == list(range(10))


def test_samples_beyond_limit_are_held_out(build):
    _, data = build("model=vanilla", "data.limit=1700")
    held_out, _ = data.held_out()
    assert len(held_out) == 97
    complete = build("model=vanilla", "data.limit=null")[1].samples
    assert torch.equal(torch.cat([data.samples, held_out]), complete)
    with pytest.raises(UserError, match=r"no test set; set data\.limit to leave"):
        build("model=vanilla", "data.limit=null")[1].held_out()
