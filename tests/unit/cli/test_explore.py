"""gan-explore: ways through the latent space of every variant, the same by the same seed, as pictures and films."""

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
from gan_lightning.io.image import from_uint8, to_uint8, write_png
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
SMALL = "latent.feature.width=4", "latent.feature.dim=8"  # a classifier that learns in a second
CHECKPOINTS: dict[str, Path] = {}


@pytest.fixture
def checkpoint(run, tmp_path_factory):
    """``checkpoint("model=cgan")``: of a tiny run, one for all tests."""

    def checkpoint(*words: str) -> Path:
        name = " ".join(words)
        if name not in CHECKPOINTS:
            folder = tmp_path_factory.mktemp("run")
            run(folder, *words, *QUIET)
            CHECKPOINTS[name] = folder / "checkpoints" / "last.ckpt"
        return CHECKPOINTS[name]

    return checkpoint


def decoded(film: Path) -> np.ndarray:
    """The frames (T, H, W, 3) of an MP4."""
    with av.open(film) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


# Variants differ to these in their generator's layers and in having classes.
MODELS = {"vanilla": ("model=vanilla",), "acgan, rectangular, in colour, averaged": ("model=acgan", *WIDE)}


@pytest.mark.parametrize("way", ["walk", "directions"])
def test_every_variant_can_be_explored(checkpoint, tmp_path, learner, way):
    explored(checkpoint(f"model={learner}"), way, tmp_path)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("way", ["interpolate", "walk", "truncate", "blend", "attribute", "nearest", "invert"])
def test_explorations_are_written_and_repeatable(checkpoint, tmp_path, model, way):
    explored(checkpoint(*MODELS[model]), way, tmp_path)


def explored(path: Path, way: str, tmp_path: Path) -> None:
    """Explore a checkpoint twice: both write the same files, of the expected formats, lengths and sizes."""
    model = gan_lightning.load(path)
    words = [f"latent={way}", f"out={tmp_path}/found"]
    if way == "invert":
        write_png(tmp_path / "of.png", to_uint8(model.sample(1, seed=1)[0]).expand(3, -1, -1))
        words += [f"latent.image={tmp_path}/of.png", "latent.steps=3", "latent.num_restarts=2"]
    elif way not in ("truncate", "nearest"):
        words += ["latent.steps=3", *(["latent.samples=20"] if way in ("directions", "attribute") else [])]
        words += SMALL if way == "attribute" else []
    if way == "blend" and not model.num_classes:
        with pytest.raises(UserError, match=r"latent\.start=0: there is no class 0; the classes are none"):
            program.explore(path, words)
        return
    told = program.explore(path, words).splitlines()
    suffixes = ["png", "json"] if way in ("truncate", "nearest", "invert") else ["png", "gif", "mp4", "json"]
    assert told == [f"{tmp_path}/found.{suffix}" for suffix in suffixes]
    content = {suffix: (tmp_path / f"found.{suffix}").read_bytes() for suffix in suffixes}
    program.explore(path, words)
    for suffix in suffixes:
        assert (tmp_path / f"found.{suffix}").read_bytes() == content[suffix], "by the same seed the same"
    if "mp4" in suffixes:
        frames = decoded(tmp_path / "found.mp4")
        num = 9 if way == "interpolate" else 3  # of each of three ways between seeds, or in all
        assert len(frames) == num
        assert min(frames.shape[1:3]) >= 256
        with Image.open(tmp_path / "found.gif") as gif:
            lasts = [frame.info["duration"] for frame in ImageSequence.Iterator(gif)]
        # Equal pictures are one that lasts longer, and a GIF counts in hundredths of a second.
        assert sum(lasts) == pytest.approx(num * 1000 / 12, abs=10 * num)


def test_a_film_goes_with_what_it_was_of(checkpoint, tmp_path):
    path = checkpoint("model=dcgan")
    program.explore(path, ["latent=walk", "latent.steps=3", f"out={tmp_path}/x"])
    program.explore(path, ["latent=truncate", f"out={tmp_path}/x"])
    assert sorted(file.name for file in tmp_path.iterdir()) == ["x.json", "x.png"]


@pytest.mark.parametrize(("fps", "duration"), [(12, 80), (40, 20), (60, 20), (100, 20)])
def test_a_gif_keeps_to_what_browsers_play(fps, duration):
    """They slow a picture of less than two hundredths of a second down to ten."""
    with Image.open(io.BytesIO(gif(np.random.default_rng(0).integers(0, 255, (3, 8, 8, 3), np.uint8), fps))) as film:
        assert {frame.info["duration"] for frame in ImageSequence.Iterator(film)} == {duration}


def test_an_mp4_depends_on_its_frames_alone(tmp_path):
    """With AVX-512, x264's macroblock tree reads memory that nothing has been written to, so it must stay off."""
    rng = np.random.default_rng(0)
    frames = rng.integers(126, 130, (3, 38, 38, 1), np.uint8).repeat(7, 1).repeat(7, 2).repeat(3, 3)
    contents = set()
    for _ in range(20):
        used = [rng.bytes(size) for size in rng.integers(1, 200_000, 5)]  # memory that the encoder gets next
        del used
        contents.add(mp4(frames, 12))
    (content,) = contents
    (tmp_path / "film.mp4").write_bytes(content)
    settings = re.search(rb"x264 .* options: ([ -~]*)", content)[1].decode().split()
    assert "mbtree=0" in settings, "CPUs without AVX-512 make equal files in any case"
    assert "threads=1" in settings, "the number of cores changes the file"
    assert np.abs(decoded(tmp_path / "film.mp4").astype(int) - frames).mean() < 4


def test_points_are_drawn(checkpoint, tmp_path):
    path = checkpoint("model=vanilla", "data=gaussian_ring")
    assert program.explore(path, ["latent=walk", f"out={tmp_path}/w"]) == f"{tmp_path}/w.png\n{tmp_path}/w.json"
    write_png(tmp_path / "of.png", torch.zeros(3, 8, 8, dtype=torch.uint8))
    with pytest.raises(UserError, match="needs images"):
        program.explore(path, ["latent=invert", f"latent.image={tmp_path}/of.png"])
    for way in ("nearest", "attribute"):
        with pytest.raises(UserError, match=f"latent={way}: needs images"):
            program.explore(checkpoint("model=cgan", "data=gaussian_ring"), [f"latent={way}"])


def test_an_image_of_12_bits_in_16_is_not_black(checkpoint, tmp_path):
    """As in a training set of such images, the highest value of the bits that are used becomes white."""
    Image.fromarray(np.full((16, 16), 4095, np.uint16)).save(tmp_path / "of.png")
    model = gan_lightning.load(checkpoint("model=dcgan"))
    found = Invert(tmp_path / "of.png", steps=1, num_restarts=1)(model)
    assert found.rows[0].min() == 1


def test_an_export_can_be_explored(checkpoint, tmp_path):
    from gan_lightning.cli import export

    path = checkpoint("model=cgan")
    export.export(export.build_parser().parse_args([str(path), "--out", str(tmp_path / "out"), "--no-onnx"]))
    ours, theirs = (CircularWalk()(gan_lightning.load(place)) for place in (path, tmp_path / "out"))
    for one, other in zip(ours.rows, theirs.rows, strict=True):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=0)


def test_slerp_is_the_arc():
    a, b = torch.tensor([2.0, 0, 0]), torch.tensor([0.0, 4, 0])
    found = slerp(a, b, torch.tensor([0.0, 1 / 3, 0.5, 1]))
    expected = torch.tensor([[2, 0, 0], [0, 0, 0], [3 * 0.5**0.5, 3 * 0.5**0.5, 0], [0, 4, 0]])
    length = 2 + 2 / 3
    expected[1] = length * torch.tensor([3**0.5 / 2, 0.5, 0])
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(slerp(a, 2 * a, torch.tensor([0.5])), torch.tensor([[3.0, 0, 0]]))
    assert torch.isfinite(slerp(a, -a, torch.tensor([0.25, 0.5]))).all()


def test_an_arc_stays_where_latents_are_and_a_line_does_not():
    a, b = torch.randn(2, 512, generator=torch.Generator().manual_seed(0))
    middle = torch.tensor([0.5])
    assert float(slerp(a, b, middle).norm()) == pytest.approx(512**0.5, rel=0.1)
    assert float(torch.lerp(a, b, middle).norm()) < 0.8 * 512**0.5


def test_interpolation_passes_the_seeds(checkpoint):
    model = gan_lightning.load(checkpoint("model=cgan"))
    for spherical in (True, False):
        found = Interpolate(seeds=[3, 5], steps=4, loop=False, spherical=spherical, classes=[2])(model)
        (row,) = found.rows
        assert found.captions == ["class 2"]
        assert len(row) == 5
        for place, seed in ((0, 3), (4, 5)):
            torch.testing.assert_close(row[place], model.sample(1, [2], seed=seed)[0])
    assert len(Interpolate(seeds=[3, 5, 8], steps=4)(model).rows[0]) == 12
    assert len(Interpolate()(model).rows) == 10


def test_a_walk_is_round_and_normal(checkpoint):
    model = gan_lightning.load(checkpoint("model=cgan"))
    seen = []
    model.generate = lambda z, y: (seen.append((z, y)), torch.zeros(len(z), 1, 4, 4))[1]
    CircularWalk(seed=4, steps=8, classes=[6])(model)
    ((z, y),) = seen
    a, b = model.draw_latents(2, seed=4)[0]
    torch.testing.assert_close(z[0], a)
    torch.testing.assert_close(z[2], b)
    torch.testing.assert_close(z[4], -a)
    assert y.tolist() == [6] * 8
    apart = (z - z.roll(1, 0)).norm(dim=1)
    assert float(apart.max() / apart.min()) < 1.5


def test_truncation_takes_away_diversity(checkpoint):
    model = gan_lightning.load(checkpoint("model=dcgan"))
    found = Truncate(factors=[0, 0.5, 1], num=4, seed=2)(model)
    torch.testing.assert_close(found.rows[2], model.sample(4, seed=2))
    assert torch.equal(found.rows[0][0], found.rows[0][1])
    assert found.figures["diversity"][0] == 0 < found.figures["diversity"][1] < found.figures["diversity"][2]


@pytest.mark.parametrize("network", ["dcgan", "mlp", "resnet"])
def test_a_blend_begins_and_ends_with_its_classes(checkpoint, network):
    model = gan_lightning.load(checkpoint("model=cgan", f"network={network}"))
    for part in model.generator.modules():
        if isinstance(part, torch.nn.Embedding):
            torch.nn.init.normal_(part.weight)
    found = ClassInterpolation(start=3, end=8, steps=5, num=2, seed=1)(model)
    z, _ = model.draw_latents(2, seed=1)
    rows = torch.stack(found.rows)
    torch.testing.assert_close(rows[:, 0], model.generate(z, torch.tensor([3, 3])), atol=1e-5, rtol=0)
    torch.testing.assert_close(rows[:, 4], model.generate(z, torch.tensor([8, 8])), atol=1e-5, rtol=0)
    assert (rows[:, 0] - rows[:, 2]).abs().max() > 1e-3
    with interpolated_embeddings(model.generator, 0, 1, torch.tensor([0.5])):
        pass
    assert not any(part._forward_hooks for part in model.generator.modules()), "and nothing is left of it"


@pytest.mark.parametrize("method", ["first_layer", "pca"])
@pytest.mark.parametrize("network", ["dcgan", "mlp", "resnet"])
def test_directions_of_most_change_come_first(checkpoint, network, method):
    """In a generator whose first layer sees one latent number more than all others."""
    model = gan_lightning.load(checkpoint("model=cgan", f"network={network}"))
    layer = next(part for part in model.generator.modules() if isinstance(part, Linear | ConvTranspose2d))
    with torch.no_grad():
        column = layer.weight[:, 5] if isinstance(layer, Linear) else layer.weight[5]
        column.mul_(50)
    found = Directions(method=method, num=2)(model)
    first = torch.tensor(found.figures["directions"][0])
    assert float(first.norm()) == pytest.approx(1)
    assert float(first[5].abs()) > 0.8, "of a random one it is a tenth"
    scores = found.figures["against_random"]
    assert scores[0] > 3
    assert scores[0] > scores[1]
    assert len(found.rows) == 2
    z, _ = model.draw_latents(2000, seed=0)
    torch.testing.assert_close(found.rows[0][4], model.generate(z[:1], torch.tensor([0]))[0], atol=1e-5, rtol=0)
    by_chance = Directions(method="random", num=8, samples=64)(model).figures["against_random"]
    assert sum(by_chance) / 8 == pytest.approx(1, abs=0.5)


class Halves:
    """Calls a picture by where it is bright: 0 on the left, 1 on the right, and has a third class that hardly moves."""

    def setup(self, data, store, device) -> None:
        self.seen = data

    def logits_of(self, pictures: torch.Tensor) -> torch.Tensor:
        left, right = pictures[..., : pictures.shape[-1] // 2], pictures[..., pictures.shape[-1] // 2 :]
        sides = torch.stack([left.mean((1, 2, 3)), right.mean((1, 2, 3))], dim=1)
        return 10 * torch.cat([sides, sides.mean(1, keepdim=True)], dim=1)

    def __call__(self, samples: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return samples, self.logits_of(samples.float() / 127.5 - 1)


class Lamps(SamplingMixin):
    """A generator of which one number lights the left half of a picture, another the right, and a third both."""

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


@pytest.mark.parametrize(("method", "least"), [("boundary", 0.85), ("classifier", 0.95)])
def test_a_direction_moves_its_class_and_little_else(method, least):
    way = ClassDirection(Halves(), method=method, targets=[0, 1], steps=5, strength=2.0)
    way.load_data(SimpleNamespace(class_names=["left", "right", "both"], shape=(1, 8, 8)), None)
    found = way(Lamps())
    left, right = torch.tensor(found.figures["directions"])
    wanted = torch.zeros(8)
    wanted[2], wanted[5] = 0.5**0.5, -(0.5**0.5)  # of the same in both halves the third class goes along
    assert float(left @ wanted) > least
    assert float(right @ -wanted) > least
    against, at, along = found.figures["seen"][0]
    assert against < 0.1 < at < along > 0.9
    own, other = (torch.tensor(found.figures[name]) for name in ("change", "change_at_random"))
    assert (own > 2 * other).all()
    assert found.captions[0].startswith("left: x ")
    random = ClassDirection(Halves(), method="random", targets=[0, 1, 2, 0, 1, 2])
    random.load_data(way.feature.seen, None)
    by_chance = [abs(score) for score in random(Lamps()).figures["score"]]
    assert min(found.figures["score"]) > sum(by_chance) / 6


def test_the_score_is_of_the_target_against_the_rest():
    change = torch.tensor([[3.0, -1.0, 1.0], [1.0, 1.0, -1.0]])
    assert score(change, 0) == pytest.approx(2)
    assert score(change, 1) == pytest.approx(0)


def test_principal_components_are_those_within_classes():
    """What a class changes is told apart from what a latent does."""

    class Classes(Lamps):
        num_classes = 2

        def generate(self, z, y):
            return super().generate(z, y) + 100.0 * y[:, None, None, None]

    z, y = Lamps().draw_latents(400, seed=0)
    alone = principal(Lamps(), z, y)
    apart = principal(Classes(), z, torch.arange(400) % 2)
    torch.testing.assert_close(apart.abs()[:2], alone.abs()[:2], atol=0.05, rtol=0)


def test_more_steps_of_a_blend_than_one_batch_are_the_same(checkpoint, monkeypatch):
    model = gan_lightning.load(checkpoint("model=cgan"))
    complete = ClassInterpolation(steps=7, num=1)(model)
    for module in ("model.sampling", "latent.blend"):
        monkeypatch.setattr(f"gan_lightning.{module}.SAMPLING_BATCH", 3)
    torch.testing.assert_close(ClassInterpolation(steps=7, num=1)(model).rows, complete.rows)


def test_a_trained_classifier_is_asked(checkpoint, tmp_path):
    program.explore(checkpoint("model=dcgan"), ["latent=attribute", *SMALL, "latent.samples=20", f"out={tmp_path}/a"])
    told = json.loads((tmp_path / "a.json").read_text())
    assert told["targets"] == ["0", "1", "2", "3"]
    assert all(len(told[name]) == 4 for name in ("score", "at_random", "change", "change_at_random", "seen"))
    words = ["latent=attribute", *SMALL, "latent.targets=[3,10]", f"out={tmp_path}/b"]
    with pytest.raises(UserError, match=r"latent.targets=\[3,10\]: there is no class 10; the classes are 0 to 9"):
        program.explore(checkpoint("model=dcgan"), words)


@pytest.mark.parametrize(("name", "most"), [("PART", 7), ("PART_NUMBERS", 7 * 64)])
def test_the_nearest_training_pictures_are_found(monkeypatch, name, most):
    monkeypatch.setattr(nearest_module, name, most)
    parts, original = [], nearest_module.knn.nearest
    monkeypatch.setattr(nearest_module.knn, "nearest", lambda *args: parts.append(len(args[1])) or original(*args))
    model = Lamps()
    samples = to_uint8(model.generate(model.draw_latents(3, seed=0)[0], torch.zeros(3)))
    others = torch.randint(256, (40, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    others[11], others[30] = samples[1], samples[1].roll(1, -1)
    others[12] = (samples[2].int() + 2).clamp(max=255).byte()
    way = Nearest(num=3, k=4)
    data = SimpleNamespace(samples=others, shape=others.shape[1:], verify=lambda: None)
    way.load_data(data, None)
    with pytest.raises(UserError, match=rf"latent\.k={len(others) + 1}: there are {len(others)} training images"):
        Nearest(k=len(others) + 1).load_data(data, None)
    found = way(model)
    assert parts == [7] * 5 + [5]
    assert [len(row) for row in found.rows] == [5, 5, 5]
    index, distance = torch.tensor(found.figures["index"]), torch.tensor(found.figures["distance"])
    squared = (samples[:, None].double() - others[None].double()).square().mean((2, 3, 4)).sqrt()
    best = squared.topk(4, largest=False)
    assert torch.equal(index, best.indices)
    torch.testing.assert_close(distance.double(), best.values, atol=1e-4, rtol=1e-4)
    assert found.figures["index"][1][0] == 11
    assert distance[1, 0] == 0
    torch.testing.assert_close(found.rows[2][1], from_uint8(others[12]))


def test_data_that_have_moved_are_named(run, tmp_path, monkeypatch):
    for name in ("one", "two"):
        write_png(tmp_path / "photos" / f"{name}.png", torch.full((3, 16, 16), len(name), dtype=torch.uint8))
    words = "model=dcgan", "data=image_folder", f"data.root={tmp_path}/photos", "data.batch_size=2"
    run(tmp_path / "run", *words, *QUIET)
    (tmp_path / "photos").rename(tmp_path / "elsewhere")
    path, out = tmp_path / "run" / "checkpoints" / "last.ckpt", f"out={tmp_path}/n"
    with pytest.raises(UserError, match=r"its data were in .*photos.*data\.root=FOLDER"):
        program.explore(path, ["latent=nearest", out])
    program.explore(path, ["latent=nearest", "latent.k=2", out, f"data.root={tmp_path}/elsewhere"])
    assert len(json.loads((tmp_path / "n.json").read_text())["index"][0]) == 2
    with pytest.raises(UserError, match="feature=classifier: the data have no classes"):
        program.explore(path, ["latent=attribute", out, f"data.root={tmp_path}/elsewhere"])
    told = r"data\.root=[^\n]*: has no effect, since only latent=attribute[^\n]*\ncache=here: has no effect"
    with pytest.raises(UserError, match=told):
        program.explore(path, ["latent=walk", out, f"data.root={tmp_path}/elsewhere", "cache=here"])
    with pytest.raises(UserError, match="has no effect"):
        program.explore(path, ["latent=walk", out, "data={root:here}"])


def test_inversion_finds_a_sample_again(checkpoint, tmp_path):
    model = gan_lightning.load(checkpoint("model=cgan"))
    for weight in model.generator.parameters():  # pictures that differ by more than whole levels
        torch.nn.init.normal_(weight, std=0.2, generator=torch.Generator().manual_seed(0))
    write_png(tmp_path / "of.png", to_uint8(model.sample(1, [4], seed=9)[0]).expand(3, -1, -1))
    before = [weight.clone() for weight in model.parameters()]
    found = Invert(tmp_path / "of.png", steps=150, lr=0.1, num_restarts=2, l2_weight=0.0)(model)
    error = found.figures["error"]
    assert len(error) == 151
    assert error[-1] < 0.2 * error[0]
    z, y = torch.tensor([found.figures["latent"]]), torch.tensor([found.figures["class"]])
    torch.testing.assert_close(model.generate(z, y)[0], found.rows[1][-1], atol=1e-5, rtol=0)
    again = (model.generate(z, y) - found.rows[0][:1]).square().mean()
    assert float(again) == pytest.approx(error[-1], rel=1e-3)
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
    assert all(weight.grad is None for weight in model.parameters())


def test_without_the_package_for_films_the_rest_is_there(checkpoint, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    told = program.explore(checkpoint("model=dcgan"), ["latent.steps=1", f"out={tmp_path}/i"])
    assert "pip install 'gan-lightning[video]'" in told
    assert sorted(path.name for path in tmp_path.iterdir()) == ["i.gif", "i.json", "i.png"]
    assert json.loads((tmp_path / "i.json").read_text())["typed"][0] == "latent.steps=1"
    with Image.open(tmp_path / "i.png") as sheet:
        assert np.asarray(sheet).shape[2] == 3


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (
            "latent=wolk",
            "no such option, the nearest is walk; there are attribute, blend, directions, interpolate, invert",
        ),
        ("latent=null", "latent=null: no option is chosen; there are attribute"),
        ("latent=[walk,blend]", "several values; choose one option"),
        ("latent.stps=3", "there is no such key, the nearest is latent.steps"),
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
        ("latent.classes=3", "must be a list, each the name or the number of a class"),
        ("latent.classes=[true]", "must be a list, each the name or the number of a class"),
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
def test_mistakes_are_told(checkpoint, tmp_path, monkeypatch, words, told):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError) as caught:
        program.explore(checkpoint("model=cgan"), words.split())
    assert len(caught.value.errors) == 1
    assert told in caught.value.errors[0]
    assert [*tmp_path.iterdir()] == []


@pytest.mark.parametrize(
    ("ending", "content"), [("png", b"{}"), ("mp4", b"{}"), ("json", b"{}"), ("json", b"[" * 200_000)]
)
def test_files_that_are_not_its_own_are_left_alone(checkpoint, tmp_path, ending, content):
    file = tmp_path / f"holiday.{ending}"
    file.write_bytes(content)
    with pytest.raises(UserError, match=rf"holiday\.{ending} exists and was not written"):
        program.explore(checkpoint("model=dcgan"), ["latent=truncate", f"out={tmp_path}/holiday"])
    assert file.read_bytes() == content
    assert [*tmp_path.iterdir()] == [file]


def test_all_mistakes_come_at_once():
    with pytest.raises(UserError) as caught:
        program.explore(Path("nowhere.ckpt"), ["latent=wolk", "fps=0", "what"])
    assert len(caught.value.errors) == 4


def named(path: Path, target: Path) -> Path:
    """A copy of a checkpoint with other class names: the third one is ``10``."""
    content = read(path)
    content["hyper_parameters"]["class_names"] = ["cats", "dogs", "10", "sea lion", *"efghij"]
    torch.save(content, target)
    return target


@pytest.mark.parametrize(
    "word", ["latent.classes=[dogs,10,'sea lion',f]", "latent.classes=['dogs','10',\"sea lion\",'f']"]
)
def test_classes_are_chosen_by_name(checkpoint, tmp_path, monkeypatch, word):
    path, found = named(checkpoint("model=cgan"), tmp_path / "named.ckpt"), []
    monkeypatch.setattr("gan_lightning.latent.video.write", lambda what, *_: found.append(what) or "")
    program.explore(path, ["latent=walk", "latent.steps=2", word])
    assert found[0].captions == ["dogs", "class 10", "sea lion", "f"]
    expected = CircularWalk(steps=2, classes=[1, 2, 3, 5])(gan_lightning.load(path))
    assert all(torch.equal(one, other) for one, other in zip(found[0].rows, expected.rows, strict=True))


def test_a_blend_goes_from_name_to_name(checkpoint, tmp_path, monkeypatch):
    path, found = named(checkpoint("model=cgan"), tmp_path / "named.ckpt"), []
    monkeypatch.setattr("gan_lightning.latent.video.write", lambda what, *_: found.append(what) or "")
    program.explore(path, ["latent=blend", "latent.start=dogs", "latent.end=10", "latent.num=2"])
    assert found[0].captions == ["dogs to class 10"] * 2
    expected = ClassInterpolation(start=1, end=2, num=2)(gan_lightning.load(path))
    assert all(torch.equal(one, other) for one, other in zip(found[0].rows, expected.rows, strict=True))
    with pytest.raises(UserError, match=r"latent\.end=dog: there is no class 'dog'; did you mean dogs"):
        program.explore(path, ["latent=blend", "latent.end=dog"])


def test_targets_are_chosen_by_name():
    way = ClassDirection(Halves(), targets=["right", "left"], steps=3, samples=20)
    way.load_data(SimpleNamespace(class_names=["left", "right", "both"], shape=(1, 8, 8)), None)
    assert [name.partition(":")[0] for name in way(Lamps()).captions] == ["right", "left"]
    way.targets = ["rihgt"]
    told = r"latent\.targets=\[rihgt\]: there is no class 'rihgt'; did you mean right\? The classes are left \(0\),"
    with pytest.raises(UserError, match=told):
        way(Lamps())


def test_a_run_directory_is_explored(checkpoint, tmp_path, capsys):
    path = checkpoint("model=dcgan")
    program.explore(path.parent.parent, ["latent=truncate", f"out={tmp_path}/x"])
    assert capsys.readouterr().out == f"using {path}\n"
    assert json.loads((tmp_path / "x.json").read_text())["checkpoint"] == str(path)


def test_samples_that_are_not_finite_are_refused(checkpoint, tmp_path):
    content = read(checkpoint("model=vanilla", "data=gaussian_ring"))
    for name, value in content["state_dict"].items():
        if name.startswith("generator."):
            content["state_dict"][name] = torch.full_like(value, 3e38)
    torch.save(content, tmp_path / "large.ckpt")
    with pytest.raises(UserError, match=r"large\.ckpt: samples: .* are NaN or infinite"):
        program.explore(tmp_path / "large.ckpt", ["latent=walk", f"out={tmp_path}/x"])
    assert not (tmp_path / "x.json").exists()


@pytest.mark.parametrize("files", [0, 1, 2, 3])
def test_a_killed_exploration_can_be_repeated(checkpoint, tmp_path, monkeypatch, files):
    """The process ends after so many files have got their names."""

    class Killed(BaseException):
        pass

    done = []

    def replace(part: Path, path: Path) -> None:
        if len(done) == files:
            raise Killed
        done.append(path)
        part.replace(path)

    path = checkpoint("model=dcgan")  # trained before files are replaced by the function above
    words = ["latent=walk", "latent.steps=3", f"out={tmp_path}/x"]
    for before in (False, True):  # where nothing is, and over an older exploration
        with monkeypatch.context() as patch:
            patch.setattr("gan_lightning.io.files.replace", replace)
            done.clear()
            with pytest.raises(Killed):
                program.explore(path, words)
        assert (tmp_path / "x.json").exists() == (files > 0 or before)
        program.explore(path, words)
        assert {path.name for path in tmp_path.iterdir()} == {"x.png", "x.json", "x.gif", "x.mp4"}
