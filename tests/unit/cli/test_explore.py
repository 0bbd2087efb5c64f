"""gan-explore: paths through the latent space of every model, their reproducibility, and the written files."""

import io
import json
import re
import sys
from pathlib import Path
from types import SimpleNamespace

import av
import numpy as np
import pytest
import torch
from PIL import Image, ImageSequence
from torch.nn import ConvTranspose2d, Linear

import gan_lightning
from gan_lightning.cli import explore as program
from gan_lightning.errors import UserError
from gan_lightning.io.image import enlarge, from_uint8, read_png, to_uint8, write_png
from gan_lightning.latent import nearest as nearest_module
from gan_lightning.latent.attribute import ClassDirection, score
from gan_lightning.latent.blend import ClassInterpolation, interpolated_embeddings
from gan_lightning.latent.directions import Directions, principal
from gan_lightning.latent.interpolate import Interpolate, slerp
from gan_lightning.latent.invert import Invert
from gan_lightning.latent.nearest import Nearest
from gan_lightning.latent.truncate import Truncate
from gan_lightning.latent.video import gif, mp4
from gan_lightning.latent.walk import CircularWalk
from gan_lightning.model.sampling import SamplingMixin
from gan_lightning.run.checkpoint import read

QUIET = "~callbacks.progress", "~callbacks.sample_grid", "~logger"
WIDE = "data.image_size=[16,24]", "data.channels=3", "model.ema_decay=0.9"
SMALL = "latent.feature.width=4", "latent.feature.dim=8"  # a classifier that trains in a second
CHECKPOINTS: dict[str, Path] = {}


@pytest.fixture
def checkpoint(run, tmp_path_factory):
    """``checkpoint("model=cgan")``: the checkpoint of a tiny run, trained once for all tests."""

    def checkpoint(*overrides: str) -> Path:
        name = " ".join(overrides)
        if name not in CHECKPOINTS:
            folder = tmp_path_factory.mktemp("run")
            run(folder, *overrides, *QUIET)
            CHECKPOINTS[name] = folder / "checkpoints" / "last.ckpt"
        return CHECKPOINTS[name]

    return checkpoint


def decode_mp4(video: Path) -> np.ndarray:
    """Return the frames (T, H, W, 3) of an MP4."""
    with av.open(video) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


# These two cover the generators' layers and models with and without classes.
MODELS = {"vanilla": ("model=vanilla",), "acgan, rectangular, colour, EMA": ("model=acgan", *WIDE)}


@pytest.mark.parametrize("kind", ["walk", "directions"])
def test_latent_paths_of_every_model_are_written(checkpoint, tmp_path, learner, kind):
    check_exploration(checkpoint(f"model={learner}"), kind, tmp_path)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("kind", ["interpolate", "walk", "truncate", "blend", "attribute", "nearest", "invert"])
def test_explorations_are_written_and_reproducible(checkpoint, tmp_path, model, kind):
    check_exploration(checkpoint(*MODELS[model]), kind, tmp_path)


def check_exploration(path: Path, kind: str, tmp_path: Path) -> None:
    """Explore a checkpoint twice and check that both runs write equal files of the expected formats and lengths."""
    model = gan_lightning.load(path)
    overrides = [f"latent={kind}", f"out={tmp_path}/found"]
    if kind == "invert":
        write_png(tmp_path / "of.png", to_uint8(model.sample(1, seed=1)[0]).expand(3, -1, -1))
        overrides += [f"latent.image={tmp_path}/of.png", "latent.steps=3", "latent.num_restarts=2"]
    elif kind not in ("truncate", "nearest"):
        overrides += ["latent.steps=3", *(["latent.samples=20"] if kind in ("directions", "attribute") else [])]
        overrides += SMALL if kind == "attribute" else []
    if kind == "blend" and not model.num_classes:
        with pytest.raises(UserError, match=r"latent\.start=0: there is no class 0; the classes are none"):
            program.explore(path, overrides)
        return
    written = program.explore(path, overrides).splitlines()
    suffixes = ["png", "json"] if kind in ("truncate", "nearest", "invert") else ["png", "gif", "mp4", "json"]
    assert written == [f"{tmp_path}/found.{suffix}" for suffix in suffixes]
    content = {suffix: (tmp_path / f"found.{suffix}").read_bytes() for suffix in suffixes}
    program.explore(path, overrides)
    for suffix in suffixes:
        assert (tmp_path / f"found.{suffix}").read_bytes() == content[suffix], "same seed, different file"
    if "mp4" in suffixes:
        frames = decode_mp4(tmp_path / "found.mp4")
        num = 9 if kind == "interpolate" else 3  # interpolate has three segments between seeds
        assert len(frames) == num
        assert min(frames.shape[1:3]) >= 256
        with Image.open(tmp_path / "found.gif") as gif:
            durations = [frame.info["duration"] for frame in ImageSequence.Iterator(gif)]
        # A GIF merges equal frames into one with a longer duration, and stores durations in hundredths of a second.
        assert sum(durations) == pytest.approx(num * 1000 / 12, abs=10 * num)


def test_scale_enlarges_sheet_of_samples(checkpoint, tmp_path):
    path = checkpoint("model=cgan")
    words = "latent=interpolate", "latent.classes=[1,2]", "latent.seeds=[0,1]", "latent.steps=3"
    sheets = {}
    for scale in (1, 3, "null"):
        program.explore(path, [*words, f"scale={scale}", f"out={tmp_path}/x{scale}"])
        sheets[scale] = read_png(tmp_path / f"x{scale}.png")
    columns = len(Interpolate([0, 1], 3).path(gan_lightning.load(path)))
    height, width = 2 * (18 + 2), columns * 18 + 2
    margin = sheets[1].shape[2] - width
    assert sheets[1].shape[1] == height
    for scale, factor in ((3, 3), ("null", round(900 / width))):
        assert torch.equal(sheets[scale][:, :, margin:], enlarge(sheets[1][:, :, margin:], factor))
    assert (tmp_path / "x3.gif").read_bytes() == (tmp_path / "x1.gif").read_bytes(), "the video has its own size"


def test_video_of_replaced_exploration_is_removed(checkpoint, tmp_path):
    path = checkpoint("model=dcgan")
    program.explore(path, ["latent=walk", "latent.steps=3", f"out={tmp_path}/x"])
    program.explore(path, ["latent=truncate", f"out={tmp_path}/x"])
    assert sorted(file.name for file in tmp_path.iterdir()) == ["x.json", "x.png"]


@pytest.mark.parametrize(("fps", "duration"), [(12, 80), (40, 20), (60, 20), (100, 20)])
def test_gif_frame_duration_is_at_least_two_hundredths(fps, duration):
    """Browsers play a frame of less than two hundredths of a second at ten."""
    with Image.open(io.BytesIO(gif(np.random.default_rng(0).integers(0, 255, (3, 8, 8, 3), np.uint8), fps))) as video:
        assert {frame.info["duration"] for frame in ImageSequence.Iterator(video)} == {duration}


def test_mp4_depends_only_on_frames(tmp_path):
    """With AVX-512, x264's macroblock tree reads uninitialised memory, so it must stay off."""
    rng = np.random.default_rng(0)
    frames = rng.integers(126, 130, (3, 38, 38, 1), np.uint8).repeat(7, 1).repeat(7, 2).repeat(3, 3)
    contents = set()
    for _ in range(20):
        used = [rng.bytes(size) for size in rng.integers(1, 200_000, 5)]  # memory that the encoder reuses
        del used
        contents.add(mp4(frames, 12))
    (content,) = contents
    (tmp_path / "video.mp4").write_bytes(content)
    settings = re.search(rb"x264 .* options: ([ -~]*)", content)[1].decode().split()
    assert "mbtree=0" in settings, "mbtree is on; CPUs without AVX-512 would not show the difference"
    assert "threads=1" in settings, "the file depends on the number of cores"
    assert np.abs(decode_mp4(tmp_path / "video.mp4").astype(int) - frames).mean() < 4


def test_points_are_plotted_without_animation(checkpoint, tmp_path):
    path = checkpoint("model=vanilla", "data=gaussian_ring")
    assert program.explore(path, ["latent=walk", f"out={tmp_path}/w"]) == f"{tmp_path}/w.png\n{tmp_path}/w.json"
    with pytest.raises(UserError, match="scale=2: has no effect, since the model generates points"):
        program.explore(path, ["latent=walk", "scale=2", f"out={tmp_path}/w"])
    write_png(tmp_path / "of.png", torch.zeros(3, 8, 8, dtype=torch.uint8))
    with pytest.raises(UserError, match="needs images"):
        program.explore(path, ["latent=invert", f"latent.image={tmp_path}/of.png"])
    for option in ("nearest", "attribute"):
        with pytest.raises(UserError, match=f"latent={option}: needs images"):
            program.explore(checkpoint("model=cgan", "data=gaussian_ring"), [f"latent={option}"])


def test_invert_scales_12_bit_image_to_white(checkpoint, tmp_path):
    """The highest value of the used bits becomes white, as in a training set of such images."""
    Image.fromarray(np.full((16, 16), 4095, np.uint16)).save(tmp_path / "of.png")
    model = gan_lightning.load(checkpoint("model=dcgan"))
    result = Invert(tmp_path / "of.png", steps=1, num_restarts=1)(model)
    assert result.rows[0].min() == 1


def test_export_is_explored_like_its_checkpoint(checkpoint, tmp_path):
    from gan_lightning.cli import export

    path = checkpoint("model=cgan")
    export.export(export.build_parser().parse_args([str(path), "--out", str(tmp_path / "out"), "--no-onnx"]))
    from_checkpoint, from_export = (CircularWalk()(gan_lightning.load(source)) for source in (path, tmp_path / "out"))
    for one, other in zip(from_checkpoint.rows, from_export.rows, strict=True):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=0)


def test_slerp_follows_arc():
    a, b = torch.tensor([2.0, 0, 0]), torch.tensor([0.0, 4, 0])
    result = slerp(a, b, torch.tensor([0.0, 1 / 3, 0.5, 1]))
    expected = torch.tensor([[2, 0, 0], [0, 0, 0], [3 * 0.5**0.5, 3 * 0.5**0.5, 0], [0, 4, 0]])
    length = 2 + 2 / 3
    expected[1] = length * torch.tensor([3**0.5 / 2, 0.5, 0])
    torch.testing.assert_close(result, expected)
    torch.testing.assert_close(slerp(a, 2 * a, torch.tensor([0.5])), torch.tensor([[3.0, 0, 0]]))
    assert torch.isfinite(slerp(a, -a, torch.tensor([0.25, 0.5]))).all()


def test_slerp_keeps_latent_norm_and_lerp_shrinks_it():
    a, b = torch.randn(2, 512, generator=torch.Generator().manual_seed(0))
    middle = torch.tensor([0.5])
    assert float(slerp(a, b, middle).norm()) == pytest.approx(512**0.5, rel=0.1)
    assert float(torch.lerp(a, b, middle).norm()) < 0.8 * 512**0.5


def test_interpolation_passes_through_seeds(checkpoint):
    model = gan_lightning.load(checkpoint("model=cgan"))
    for spherical in (True, False):
        result = Interpolate(seeds=[3, 5], steps=4, loop=False, spherical=spherical, classes=[2])(model)
        (row,) = result.rows
        assert result.captions == ["class 2"]
        assert len(row) == 5
        for index, seed in ((0, 3), (4, 5)):
            torch.testing.assert_close(row[index], model.sample(1, [2], seed=seed)[0])
    assert len(Interpolate(seeds=[3, 5, 8], steps=4)(model).rows[0]) == 12
    assert len(Interpolate()(model).rows) == 10


def test_circular_walk_has_normal_latents_at_equal_distances(checkpoint):
    model = gan_lightning.load(checkpoint("model=cgan"))
    calls = []
    model.generate = lambda z, y: (calls.append((z, y)), torch.zeros(len(z), 1, 4, 4))[1]
    CircularWalk(seed=4, steps=8, classes=[6])(model)
    ((z, y),) = calls
    a, b = model.draw_latents(2, seed=4)[0]
    torch.testing.assert_close(z[0], a)
    torch.testing.assert_close(z[2], b)
    torch.testing.assert_close(z[4], -a)
    assert y.tolist() == [6] * 8
    apart = (z - z.roll(1, 0)).norm(dim=1)
    assert float(apart.max() / apart.min()) < 1.5


def test_truncation_reduces_diversity(checkpoint):
    model = gan_lightning.load(checkpoint("model=dcgan"))
    result = Truncate(factors=[0, 0.5, 1], num=4, seed=2)(model)
    torch.testing.assert_close(result.rows[2], model.sample(4, seed=2))
    assert torch.equal(result.rows[0][0], result.rows[0][1])
    assert result.results["diversity"][0] == 0 < result.results["diversity"][1] < result.results["diversity"][2]


@pytest.mark.parametrize("network", ["dcgan", "mlp", "resnet"])
def test_class_interpolation_starts_and_ends_at_its_classes(checkpoint, network):
    model = gan_lightning.load(checkpoint("model=cgan", f"network={network}"))
    for part in model.generator.modules():
        if isinstance(part, torch.nn.Embedding):
            torch.nn.init.normal_(part.weight)
    result = ClassInterpolation(start=3, end=8, steps=5, num=2, seed=1)(model)
    z, _ = model.draw_latents(2, seed=1)
    rows = torch.stack(result.rows)
    torch.testing.assert_close(rows[:, 0], model.generate(z, torch.tensor([3, 3])), atol=1e-5, rtol=0)
    torch.testing.assert_close(rows[:, 4], model.generate(z, torch.tensor([8, 8])), atol=1e-5, rtol=0)
    assert (rows[:, 0] - rows[:, 2]).abs().max() > 1e-3
    with interpolated_embeddings(model.generator, 0, 1, torch.tensor([0.5])):
        pass
    assert not any(part._forward_hooks for part in model.generator.modules()), "a forward hook is left"


@pytest.mark.parametrize("method", ["first_layer", "pca"])
@pytest.mark.parametrize("network", ["dcgan", "mlp", "resnet"])
def test_directions_are_sorted_by_change(checkpoint, network, method):
    """The generator's first layer weights one latent dimension far more than all others."""
    model = gan_lightning.load(checkpoint("model=cgan", f"network={network}"))
    layer = next(part for part in model.generator.modules() if isinstance(part, Linear | ConvTranspose2d))
    with torch.no_grad():
        column = layer.weight[:, 5] if isinstance(layer, Linear) else layer.weight[5]
        column.mul_(50)
    result = Directions(method=method, num=2)(model)
    first = torch.tensor(result.results["directions"][0])
    assert float(first.norm()) == pytest.approx(1)
    assert float(first[5].abs()) > 0.8, "a random direction has about 0.1"
    scores = result.results["against_random"]
    assert scores[0] > 3
    assert scores[0] > scores[1]
    assert len(result.rows) == 2
    z, _ = model.draw_latents(2000, seed=0)
    torch.testing.assert_close(result.rows[0][4], model.generate(z[:1], torch.tensor([0]))[0], atol=1e-5, rtol=0)
    random_scores = Directions(method="random", num=8, samples=64)(model).results["against_random"]
    assert sum(random_scores) / 8 == pytest.approx(1, abs=0.5)


class HalvesClassifier:
    """Classify by where an image is bright: 0 left, 1 right; the third class's logit hardly changes."""

    def setup(self, data, store, device) -> None:
        self.seen = data

    def logits_of(self, images: torch.Tensor) -> torch.Tensor:
        left, right = images[..., : images.shape[-1] // 2], images[..., images.shape[-1] // 2 :]
        sides = torch.stack([left.mean((1, 2, 3)), right.mean((1, 2, 3))], dim=1)
        return 10 * torch.cat([sides, sides.mean(1, keepdim=True)], dim=1)

    def __call__(self, samples: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return samples, self.logits_of(samples.float() / 127.5 - 1)


class TwoHalvesGenerator(SamplingMixin):
    """A generator: one latent dimension lights the left half of an image, one the right half, one both."""

    latent_dim, num_classes = 8, 0

    def __init__(self) -> None:
        super().__init__()
        self.generator = torch.nn.Linear(8, 2, bias=False)
        torch.nn.init.zeros_(self.generator.weight)
        with torch.no_grad():
            self.generator.weight[0, 2] = self.generator.weight[1, 5] = 0.2
            self.generator.weight[:, 7] = 0.2
        self.generator.register_forward_pre_hook(lambda net, args: args[:1])
        self.generator.register_forward_hook(
            lambda net, args, out: out[:, None, None, :].repeat_interleave(4, 3).expand(-1, 1, 8, -1)
        )


@pytest.mark.parametrize(("method", "min_similarity"), [("boundary", 0.85), ("classifier", 0.95)])
def test_class_direction_changes_mostly_its_class(method, min_similarity):
    path = ClassDirection(HalvesClassifier(), method=method, targets=[0, 1], steps=5, strength=2.0)
    path.load_data(SimpleNamespace(class_names=["left", "right", "both"], shape=(1, 8, 8)), None)
    result = path(TwoHalvesGenerator())
    left, right = torch.tensor(result.results["directions"])
    expected = torch.zeros(8)
    expected[2], expected[5] = 0.5**0.5, -(0.5**0.5)  # equal change of both halves would change the third class
    assert float(left @ expected) > min_similarity
    assert float(right @ -expected) > min_similarity
    against, at, along = result.results["seen"][0]
    assert against < 0.1 < at < along > 0.9
    own, other = (torch.tensor(result.results[name]) for name in ("change", "change_at_random"))
    assert (own > 2 * other).all()
    assert result.captions[0].startswith("left: x ")
    random = ClassDirection(HalvesClassifier(), method="random", targets=[0, 1, 2, 0, 1, 2])
    random.load_data(path.feature.seen, None)
    random_scores = [abs(score) for score in random(TwoHalvesGenerator()).results["score"]]
    assert min(result.results["score"]) > sum(random_scores) / 6


def test_direction_score_compares_target_with_other_classes():
    change = torch.tensor([[3.0, -1.0, 1.0], [1.0, 1.0, -1.0]])
    assert score(change, 0) == pytest.approx(2)
    assert score(change, 1) == pytest.approx(0)


def test_principal_components_ignore_change_between_classes():

    class Classes(TwoHalvesGenerator):
        num_classes = 2

        def generate(self, z, y):
            return super().generate(z, y) + 100.0 * y[:, None, None, None]

    z, y = TwoHalvesGenerator().draw_latents(400, seed=0)
    alone = principal(TwoHalvesGenerator(), z, y)
    apart = principal(Classes(), z, torch.arange(400) % 2)
    torch.testing.assert_close(apart.abs()[:2], alone.abs()[:2], atol=0.05, rtol=0)


def test_class_interpolation_is_independent_of_batch_size(checkpoint, monkeypatch):
    model = gan_lightning.load(checkpoint("model=cgan"))
    complete = ClassInterpolation(steps=7, num=1)(model)
    for module in ("model.sampling", "latent.blend"):
        monkeypatch.setattr(f"gan_lightning.{module}.SAMPLING_BATCH", 3)
    torch.testing.assert_close(ClassInterpolation(steps=7, num=1)(model).rows, complete.rows)


def test_class_directions_use_trained_classifier(checkpoint, tmp_path):
    program.explore(checkpoint("model=dcgan"), ["latent=attribute", *SMALL, "latent.samples=20", f"out={tmp_path}/a"])
    report = json.loads((tmp_path / "a.json").read_text())
    assert report["targets"] == ["0", "1", "2", "3"]
    assert all(len(report[name]) == 4 for name in ("score", "at_random", "change", "change_at_random", "seen"))
    overrides = ["latent=attribute", *SMALL, "latent.targets=[3,10]", f"out={tmp_path}/b"]
    with pytest.raises(UserError, match=r"latent.targets=\[3,10\]: there is no class 10; the classes are 0 to 9"):
        program.explore(checkpoint("model=dcgan"), overrides)


@pytest.mark.parametrize(("name", "largest_part"), [("PART", 7), ("PART_NUMBERS", 7 * 64)])
def test_nearest_training_images_are_found(monkeypatch, name, largest_part):
    monkeypatch.setattr(nearest_module, name, largest_part)
    parts, original = [], nearest_module.knn.nearest
    monkeypatch.setattr(nearest_module.knn, "nearest", lambda *args: parts.append(len(args[1])) or original(*args))
    model = TwoHalvesGenerator()
    samples = to_uint8(model.generate(model.draw_latents(3, seed=0)[0], torch.zeros(3)))
    others = torch.randint(256, (40, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    others[11], others[30] = samples[1], samples[1].roll(1, -1)
    others[12] = (samples[2].int() + 2).clamp(max=255).byte()
    path = Nearest(num=3, k=4)
    data = SimpleNamespace(samples=others, shape=others.shape[1:], verify=lambda: None)
    path.load_data(data, None)
    with pytest.raises(UserError, match=rf"latent\.k={len(others) + 1}: there are {len(others)} training images"):
        Nearest(k=len(others) + 1).load_data(data, None)
    result = path(model)
    assert parts == [7] * 5 + [5]
    assert [len(row) for row in result.rows] == [5, 5, 5]
    index, distance = torch.tensor(result.results["index"]), torch.tensor(result.results["distance"])
    squared = (samples[:, None].double() - others[None].double()).square().mean((2, 3, 4)).sqrt()
    best = squared.topk(4, largest=False)
    assert torch.equal(index, best.indices)
    torch.testing.assert_close(distance.double(), best.values, atol=1e-4, rtol=1e-4)
    assert result.results["index"][1][0] == 11
    assert distance[1, 0] == 0
    torch.testing.assert_close(result.rows[2][1], from_uint8(others[12]))


def test_moved_data_are_error_and_data_root_replaces_them(run, tmp_path, monkeypatch):
    for name in ("one", "two"):
        write_png(tmp_path / "photos" / f"{name}.png", torch.full((3, 16, 16), len(name), dtype=torch.uint8))
    overrides = "model=dcgan", "data=image_folder", f"data.root={tmp_path}/photos", "data.batch_size=2"
    run(tmp_path / "run", *overrides, *QUIET)
    (tmp_path / "photos").rename(tmp_path / "elsewhere")
    path, out = tmp_path / "run" / "checkpoints" / "last.ckpt", f"out={tmp_path}/n"
    with pytest.raises(UserError, match=r"its data were in .*photos.*data\.root=FOLDER"):
        program.explore(path, ["latent=nearest", out])
    program.explore(path, ["latent=nearest", "latent.k=2", out, f"data.root={tmp_path}/elsewhere"])
    assert len(json.loads((tmp_path / "n.json").read_text())["index"][0]) == 2
    with pytest.raises(UserError, match="feature=classifier: the data have no classes"):
        program.explore(path, ["latent=attribute", out, f"data.root={tmp_path}/elsewhere"])
    expected = r"data\.root=[^\n]*: has no effect, since only latent=attribute[^\n]*\ncache=here: has no effect"
    with pytest.raises(UserError, match=expected):
        program.explore(path, ["latent=walk", out, f"data.root={tmp_path}/elsewhere", "cache=here"])
    with pytest.raises(UserError, match="has no effect"):
        program.explore(path, ["latent=walk", out, "data={root:here}"])


def test_inversion_reconstructs_sample(checkpoint, tmp_path):
    model = gan_lightning.load(checkpoint("model=cgan"))
    for weight in model.generator.parameters():  # so that images differ by more than one 8-bit level
        torch.nn.init.normal_(weight, std=0.2, generator=torch.Generator().manual_seed(0))
    write_png(tmp_path / "of.png", to_uint8(model.sample(1, [4], seed=9)[0]).expand(3, -1, -1))
    before = [weight.clone() for weight in model.parameters()]
    result = Invert(tmp_path / "of.png", steps=150, lr=0.1, num_restarts=2, l2_weight=0.0)(model)
    error = result.results["error"]
    assert len(error) == 151
    assert error[-1] < 0.2 * error[0]
    z, y = torch.tensor([result.results["latent"]]), torch.tensor([result.results["class"]])
    torch.testing.assert_close(model.generate(z, y)[0], result.rows[1][-1], atol=1e-5, rtol=0)
    again = (model.generate(z, y) - result.rows[0][:1]).square().mean()
    assert float(again) == pytest.approx(error[-1], rel=1e-3)
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
    assert all(weight.grad is None for weight in model.parameters())


def test_missing_video_package_skips_only_mp4(checkpoint, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    output = program.explore(checkpoint("model=dcgan"), ["latent.steps=1", f"out={tmp_path}/i"])
    assert "pip install 'gan-lightning[video]'" in output
    assert sorted(path.name for path in tmp_path.iterdir()) == ["i.gif", "i.json", "i.png"]
    assert json.loads((tmp_path / "i.json").read_text())["typed"][0] == "latent.steps=1"
    with Image.open(tmp_path / "i.png") as sheet:
        assert np.asarray(sheet).shape[2] == 3


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (
            "latent=wolk",
            "no such option (did you mean walk?); there are attribute, blend, directions, interpolate, invert",
        ),
        ("latent=null", "latent=null: no option is chosen; there are attribute"),
        ("latent=[walk,blend]", "several values; choose one option"),
        ("latent.stps=3", "there is no such key (did you mean latent.steps?)"),
        ("latent.steps=x", "must be a whole number of at least 1"),
        ("latent=directions latent.method=sefa", "method=sefa: must be one of first_layer, pca, random"),
        ("latent=directions latent.method=boundary", "method=boundary: must be one of first_layer, pca, random"),
        ("latent=attribute latent.method=pca", "method=pca: must be one of boundary, classifier, random"),
        ("latent=attribute latent.targets=3", "must be a list"),
        ("latent=nearest latent.k=0", "must be a whole number of at least 1"),
        ("latent=walk latent.steps=1", "steps=1: must be a whole number of at least 2"),
        ("latent.seeds=3", "must be a list of at least 2, each a whole number"),
        ("latent.seeds=[]", "must be a list of at least 2, each a whole number"),
        ("latent.seeds=[1]", "must be a list of at least 2, each"),
        ("latent.classes=[11]", "latent.classes=[11]: there is no class 11; the classes are 0 to 9"),
        ("latent=blend latent.end=99", "latent.end=99: there is no class 99; the classes are 0 to 9"),
        ("latent.classes=3", "must be a list of at least 1, each the name or the number of a class"),
        ("latent.classes=[true]", "must be a list of at least 1, each the name or the number of a class"),
        ("latent=blend latent.start=1.5", "must be the name or the number of a class"),
        ("latent=invert", "latent.image: is needed"),
        ("latent=invert latent.image=/nowhere.png", "latent.image=/nowhere.png: No such file"),
        ("latent=interpolate,walk", "several values; choose one option"),
        ("latent=interpolate latent.seeds=1,2", "several values; give one, or a list: latent.seeds=[1,2]"),
        ("+x=1", "keys cannot be added or deleted"),
        ("~latent", "keys cannot be added or deleted"),
        (
            "latent=invert latent.image=x latent.lr=1e38",
            "latent.lr=1e+38: must be a number above 0 and at most 1000000",
        ),
        ("latent=directions latent.strength=1e39", "must be a number above 0 and at most 1000000"),
        ("latent=invert latent.image=~/no/where_(1).png", "No such file"),
        ("fps=0", "must be a whole number of at least 1 and at most 100"),
        ("scale=0", "must be a whole number of at least 1 and at most 32"),
        ("latent=truncate fps=30", "fps=30: has no effect, since there is no animation"),
        ("latent=directions latent.num=500", "latent.num=500: there are 100 directions"),
        ("latent=directions latent.method=random latent.num=64", "latent.num=64: there are 32 directions"),
        ("out=", "must be a name"),
        ("out=null", "must be a name"),
        ("out=some/walk.gif", "use a name without a suffix"),
        ("trust_checkpoint=1", "must be true or false"),
        ("latent._target_=os.system", "there is no such key"),
        ("what", "not of the form KEY=VALUE"),
    ],
)
def test_invalid_settings_are_reported(checkpoint, tmp_path, monkeypatch, overrides, expected):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError) as caught:
        program.explore(checkpoint("model=cgan"), overrides.split())
    assert len(caught.value.errors) == 1
    assert expected in caught.value.errors[0]
    assert [*tmp_path.iterdir()] == []


@pytest.mark.parametrize(
    ("ending", "content"), [("png", b"{}"), ("mp4", b"{}"), ("json", b"{}"), ("json", b"[" * 200_000)]
)
def test_files_of_other_programs_are_not_overwritten(checkpoint, tmp_path, ending, content):
    file = tmp_path / f"holiday.{ending}"
    file.write_bytes(content)
    with pytest.raises(UserError, match=rf"holiday\.{ending} exists and was not written"):
        program.explore(checkpoint("model=dcgan"), ["latent=truncate", f"out={tmp_path}/holiday"])
    assert file.read_bytes() == content
    assert [*tmp_path.iterdir()] == [file]


def test_all_errors_are_reported_together():
    with pytest.raises(UserError) as caught:
        program.explore(Path("nowhere.ckpt"), ["latent=wolk", "fps=0", "what"])
    assert len(caught.value.errors) == 4


def rename_classes(path: Path, target: Path) -> Path:
    """Write a copy of a checkpoint with other class names; the third one is ``10``."""
    content = read(path)
    content["hyper_parameters"]["class_names"] = ["cats", "dogs", "10", "sea lion", *"efghij"]
    torch.save(content, target)
    return target


@pytest.mark.parametrize(
    "override", ["latent.classes=[dogs,10,'sea lion',f]", "latent.classes=['dogs','10',\"sea lion\",'f']"]
)
def test_classes_are_selected_by_name(checkpoint, tmp_path, monkeypatch, override):
    path, results = rename_classes(checkpoint("model=cgan"), tmp_path / "named.ckpt"), []
    monkeypatch.setattr("gan_lightning.latent.video.write", lambda what, *_: results.append(what) or "")
    program.explore(path, ["latent=walk", "latent.steps=2", override])
    assert results[0].captions == ["dogs", "class 10", "sea lion", "f"]
    expected = CircularWalk(steps=2, classes=[1, 2, 3, 5])(gan_lightning.load(path))
    assert all(torch.equal(one, other) for one, other in zip(results[0].rows, expected.rows, strict=True))


def test_class_interpolation_selects_classes_by_name(checkpoint, tmp_path, monkeypatch):
    path, results = rename_classes(checkpoint("model=cgan"), tmp_path / "named.ckpt"), []
    monkeypatch.setattr("gan_lightning.latent.video.write", lambda what, *_: results.append(what) or "")
    program.explore(path, ["latent=blend", "latent.start=dogs", "latent.end=10", "latent.num=2"])
    assert results[0].captions == ["dogs to class 10"] * 2
    expected = ClassInterpolation(start=1, end=2, num=2)(gan_lightning.load(path))
    assert all(torch.equal(one, other) for one, other in zip(results[0].rows, expected.rows, strict=True))
    with pytest.raises(UserError, match=r"latent\.end=dog: there is no class 'dog'; did you mean dogs"):
        program.explore(path, ["latent=blend", "latent.end=dog"])


def test_targets_are_selected_by_name():
    path = ClassDirection(HalvesClassifier(), targets=["right", "left"], steps=3, samples=20)
    path.load_data(SimpleNamespace(class_names=["left", "right", "both"], shape=(1, 8, 8)), None)
    assert [name.partition(":")[0] for name in path(TwoHalvesGenerator()).captions] == ["right", "left"]
    path.targets = ["rihgt"]
    expected = r"latent\.targets=\[rihgt\]: there is no class 'rihgt'; did you mean right\? The classes are left \(0\),"
    with pytest.raises(UserError, match=expected):
        path(TwoHalvesGenerator())


def test_run_directory_is_explored(checkpoint, tmp_path, capsys):
    path = checkpoint("model=dcgan")
    program.explore(path.parent.parent, ["latent=truncate", f"out={tmp_path}/x"])
    assert capsys.readouterr().out == f"using {path}\n"
    assert json.loads((tmp_path / "x.json").read_text())["checkpoint"] == str(path)


def test_non_finite_samples_are_error(checkpoint, tmp_path):
    content = read(checkpoint("model=vanilla", "data=gaussian_ring"))
    for name, value in content["state_dict"].items():
        if name.startswith("generator."):
            content["state_dict"][name] = torch.full_like(value, 3e38)
    torch.save(content, tmp_path / "large.ckpt")
    with pytest.raises(UserError, match=r"large\.ckpt: samples: .* are NaN or infinite"):
        program.explore(tmp_path / "large.ckpt", ["latent=walk", f"out={tmp_path}/x"])
    assert not (tmp_path / "x.json").exists()


@pytest.mark.parametrize("files", [0, 1, 2, 3])
def test_killed_exploration_can_be_repeated(checkpoint, tmp_path, monkeypatch, files):
    """The process ends after this number of files has been renamed."""

    class Killed(BaseException):
        pass

    done = []

    def replace(part: Path, path: Path) -> None:
        if len(done) == files:
            raise Killed
        done.append(path)
        part.replace(path)

    path = checkpoint("model=dcgan")  # trained before file replacement is patched
    overrides = ["latent=walk", "latent.steps=3", f"out={tmp_path}/x"]
    for before in (False, True):  # without and with files of an earlier exploration
        with monkeypatch.context() as patch:
            patch.setattr("gan_lightning.io.files.replace", replace)
            done.clear()
            with pytest.raises(Killed):
                program.explore(path, overrides)
        assert (tmp_path / "x.json").exists() == (files > 0 or before)
        program.explore(path, overrides)
        assert {path.name for path in tmp_path.iterdir()} == {"x.png", "x.json", "x.gif", "x.mp4"}
