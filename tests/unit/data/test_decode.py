"""Decoding of images: formats, modes, bit depths, orientation, cropping and errors."""

import random
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sample_images import BLUE, GREEN, RED, at, colours, near, one, opened

from gan_lightning.data.decode import CHUNK, decode
from gan_lightning.data.image_folder import ImageFolder
from gan_lightning.errors import UserError


@pytest.mark.parametrize("suffix", ["png", "bmp", "tif", "gif", "webp", "ppm", "jpg", "tga", "jp2", "ico"])
def test_file_format_is_decoded(tmp_path, suffix):
    path = tmp_path / f"image.{suffix}"
    colours().save(path, **({"lossless": True} if suffix == "webp" else {}))
    image = one(path)
    assert near(at(image, 0.2, 0.5), RED, 6)
    assert near(at(image, 0.8, 0.5), BLUE, 6)


def test_gray_and_one_bit_images_are_decoded(tmp_path):
    ramp = Image.fromarray(np.tile(np.arange(0, 256, 8, dtype=np.uint8), (32, 1)))
    ramp.save(tmp_path / "gray.png")
    image = one(tmp_path / "gray.png", (32, 32))
    assert torch.equal(image, torch.arange(0, 256, 8, dtype=torch.uint8).expand(3, 32, 32))
    assert torch.equal(one(tmp_path / "gray.png", (32, 32), channels=1), image[:1])
    Image.new("1", (32, 32), 1).save(tmp_path / "bits.png")
    assert at(one(tmp_path / "bits.png"), 0.5, 0.5) == (255, 255, 255)


def test_colour_is_converted_to_gray(tmp_path):
    colours(left=RED, right=GREEN).save(tmp_path / "image.png")
    image = one(tmp_path / "image.png", channels=1)
    assert (at(image, 0.2, 0.5), at(image, 0.8, 0.5)) == ((76,), (150,))


def transparent_images() -> dict[str, tuple[Image.Image, dict]]:
    """Return images with a transparent left half (black or green below) and an opaque blue or black right half."""
    rgba = Image.new("RGBA", (32, 32), (0, 255, 0, 0))
    rgba.paste((0, 0, 255, 255), (16, 0, 32, 32))
    la = Image.new("LA", (32, 32), (0, 0))
    la.paste((0, 255), (16, 0, 32, 32))
    palette = Image.new("P", (32, 32), 0)
    palette.putpalette([0, 255, 0, 0, 0, 255])
    palette.paste(1, (16, 0, 32, 32))
    return {
        "rgba.png": (rgba, {}),
        "rgba.webp": (rgba, {"lossless": True, "exact": True}),
        "la.png": (la, {}),
        "palette.png": (palette, {"transparency": 0}),
        "palette.gif": (palette, {"transparency": 0}),
        "gray.png": (colours(left=(7, 7, 7), right=(0, 0, 0)).convert("L"), {"transparency": 7}),
        "rgb.png": (colours(left=GREEN, right=BLUE), {"transparency": GREEN}),
    }


@pytest.mark.parametrize("name", transparent_images())
def test_transparency_becomes_white(tmp_path, name):
    image, options = transparent_images()[name]
    image.save(tmp_path / name, **options)
    decoded = one(tmp_path / name)
    assert at(decoded, 0.2, 0.5) == (255, 255, 255)
    assert at(decoded, 0.8, 0.5) == ((0, 0, 0) if name in ("la.png", "gray.png") else BLUE)
    assert at(one(tmp_path / name, channels=1), 0.2, 0.5) == (255,)


def test_partial_transparency_is_mixed_with_white(tmp_path):
    Image.new("RGBA", (16, 16), (0, 0, 0, 128)).save(tmp_path / "half.png")
    assert near(at(one(tmp_path / "half.png"), 0.5, 0.5), (127, 127, 127), 1)


def test_opaque_palette_is_decoded(tmp_path):
    colours().quantize(4).save(tmp_path / "palette.png")
    assert near(at(one(tmp_path / "palette.png"), 0.2, 0.5), RED)


@pytest.mark.parametrize("suffix", ["jpg", "tif"])
def test_cmyk_is_converted_to_rgb_and_gray(tmp_path, suffix):
    colours(left=RED, right=(255, 255, 255)).convert("CMYK").save(tmp_path / f"print.{suffix}", quality=95)
    assert opened(tmp_path / f"print.{suffix}", "mode") == "CMYK"
    image = one(tmp_path / f"print.{suffix}")
    assert near(at(image, 0.2, 0.5), RED, 8)
    assert near(at(image, 0.8, 0.5), (255, 255, 255), 8)
    assert near(at(one(tmp_path / f"print.{suffix}", channels=1), 0.2, 0.5), (76,), 8)


@pytest.mark.parametrize("name", ["deep.png", "deep.tif", "big_endian.tif", "int32.tif", "deep.pgm"])
def test_16_bit_values_are_scaled_and_not_clipped(tmp_path, name):
    values = np.zeros((16, 16), dtype=np.uint16)
    values[:, :4], values[:, 4:8], values[:, 8:12], values[:, 12:] = 0, 257, 32896, 49344
    if name == "int32.tif":
        image = Image.fromarray(values.astype(np.int32))
    elif name == "big_endian.tif":
        image = Image.frombytes("I;16B", (16, 16), values.astype(">u2").tobytes())
    else:
        image = Image.fromarray(values)
    image.save(tmp_path / name)
    assert opened(tmp_path / name, "mode").startswith("I")
    assert one(tmp_path / name)[0, 8, [1, 6, 10, 14]].tolist() == [0, 1, 128, 192]
    assert one(tmp_path / name, channels=1)[0, 8, [1, 6, 10, 14]].tolist() == [0, 1, 128, 192]


@pytest.mark.parametrize(
    "values", [np.float32([0, 0.5, 1]), np.int32([-40000, 0, 40000]), np.int32([0, 10**8, 2 * 10**8])]
)
def test_float_and_signed_values_are_scaled_by_their_range(tmp_path, values):
    Image.fromarray(np.repeat(np.tile(values, (12, 1)), 4, axis=1)).save(tmp_path / "measured.tif")
    assert one(tmp_path / "measured.tif", (12, 12), 1)[0, 6, [1, 6, 10]].tolist() == pytest.approx(
        [0, 127.5, 255], abs=0.6
    )


def test_constant_float_image_is_black_and_nan_is_broken(tmp_path):
    Image.fromarray(np.full((8, 8), 3.5, dtype=np.float32)).save(tmp_path / "flat.tif")
    assert one(tmp_path / "flat.tif").max() == 0
    Image.fromarray(np.full((8, 8), np.nan, dtype=np.float32)).save(tmp_path / "nan.tif")
    assert "NaN or infinite" in decode([tmp_path / "nan.tif"], (8, 8), 1).broken[0]


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(tmp_path, suffix, orientation):
    upright = Image.new("RGB", (48, 32), RED)  # red left half, green top right, blue bottom right
    upright.paste(GREEN, (24, 0, 48, 16))
    upright.paste(BLUE, (24, 16, 48, 32))
    method = Image.Transpose  # inverse of the transform that a viewer applies for this orientation
    undo = [
        None, None, method.FLIP_LEFT_RIGHT, method.ROTATE_180, method.FLIP_TOP_BOTTOM,
        method.TRANSPOSE, method.ROTATE_90, method.TRANSVERSE, method.ROTATE_270,
    ][orientation]  # fmt: skip
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = upright if undo is None else upright.transpose(undo)
    stored.save(tmp_path / f"phone.{suffix}", exif=exif, **({"quality": 95} if suffix in ("jpg", "webp") else {}))
    decoded = decode([tmp_path / f"phone.{suffix}"], (16, 24), 3)
    for place, colour in {(0.2, 0.2): RED, (0.2, 0.8): RED, (0.8, 0.2): GREEN, (0.8, 0.8): BLUE}.items():
        assert near(at(decoded.images[0], *place), colour, 12)
    assert list(decoded.sizes) == [(48, 32)]


@pytest.mark.parametrize("suffix", ["gif", "webp", "png", "tif"])
def test_first_frame_of_animation_is_decoded(tmp_path, suffix):
    frames = [Image.new("RGB", (16, 16), colour) for colour in (RED, GREEN, BLUE)]
    frames[0].save(tmp_path / f"animation.{suffix}", save_all=True, append_images=frames[1:])
    assert opened(tmp_path / f"animation.{suffix}", "n_frames") == 3
    assert near(at(one(tmp_path / f"animation.{suffix}"), 0.5, 0.5), RED)


def test_format_is_detected_from_content(tmp_path):
    colours().save(tmp_path / "really_png.jpg", format="PNG")
    assert at(one(tmp_path / "really_png.jpg"), 0.2, 0.5) == RED


def test_postscript_is_rejected(tmp_path):
    (tmp_path / "program.jpg").write_bytes(
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n"
    )
    assert opened(tmp_path / "program.jpg", "format") == "EPS"
    assert "unknown format" in decode([tmp_path / "program.jpg"], (8, 8), 3).broken[0]


@pytest.mark.parametrize(("stored", "size"), [((60, 20), (20, 20)), ((20, 60), (20, 20)), ((40, 40), (40, 20))])
def test_crop_is_central(tmp_path, stored, size):
    """The parts that should be cropped are blue, the centre is green."""
    image = Image.new("RGB", stored, BLUE)
    height, width = size
    scale = min(stored[0] / width, stored[1] / height)
    kept = width * scale, height * scale
    box = [int((stored[i] + sign * kept[i]) / 2) for sign in (-1, 1) for i in (0, 1)]
    image.paste(GREEN, tuple(box))
    image.save(tmp_path / "image.png")
    assert (one(tmp_path / "image.png", size) == torch.tensor(GREEN).view(3, 1, 1)).all()


def test_draft_mode_keeps_content_of_large_jpegs(tmp_path):
    """Decoding a large JPEG at reduced size must not shift details that the small image can show."""
    noise = np.random.default_rng(0).integers(0, 256, (9, 12, 3), dtype=np.uint8)
    large = Image.fromarray(noise).resize((640, 480), Image.Resampling.BICUBIC)
    large.save(tmp_path / "large.jpg", quality=95)
    decoded = decode([tmp_path / "large.jpg"], (32, 32), 3)
    box = large.crop((80, 0, 560, 480)).resize((32, 32), Image.Resampling.BICUBIC)
    expected = torch.from_numpy(np.array(box)).permute(2, 0, 1).float()
    assert (decoded.images[0].float() - expected).abs().mean() < 0.5
    assert list(decoded.sizes) == [(640, 480)]


def test_small_images_are_enlarged(tmp_path):
    Image.new("RGB", (1, 1), GREEN).save(tmp_path / "dot.png")
    assert at(one(tmp_path / "dot.png", (64, 48)), 0.5, 0.5) == GREEN


def test_order_of_many_images_is_kept(tmp_path):
    paths = [tmp_path / f"{i}.png" for i in range(3 * CHUNK + 5)]
    for i, path in enumerate(paths):
        Image.new("L", (4, 4), i).save(path)
    random.Random(0).shuffle(paths)
    broken = [paths[3], paths[CHUNK + 1]]
    for path in broken:
        path.write_bytes(b"x")
    decoded = decode(paths, (4, 4), 1)
    assert decoded.images[:, 0, 0, 0].tolist() == [int(path.stem) for path in paths if path not in broken]
    assert [paths[row] for row in decoded.rows] == [path for path in paths if path not in broken]
    assert len(decoded.broken) == 2


def test_decompression_bombs_are_rejected_in_every_thread(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    for i in range(2 * CHUNK):
        Image.new("L", (10, 10) if i % 2 else (15, 10)).save(tmp_path / f"{i}.png")  # 150: Pillow only warns
    Image.new("L", (30, 10)).save(tmp_path / "huge.png")
    paths = sorted(tmp_path.iterdir())
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        decoded = decode(paths, (4, 4), 1)
        assert caught == []
        warnings.warn("filters are restored", stacklevel=1)
        assert len(caught) == 1
    assert len(decoded.rows) == CHUNK
    assert len(decoded.broken) == CHUNK + 1
    assert all("more than 100 pixels" in line for line in decoded.broken.values())


def test_images_that_exceed_memory_are_error(tmp_path):
    with pytest.raises(UserError, match=r"3,000 images of this size take 38,025 GB or more.*data\.limit"):
        decode([tmp_path / "a.png"] * 3000, (65_000, 65_000), 3)


def write_ramps(folder: Path, peak: int, kind=np.uint16, suffix="png", num=3) -> list[Path]:
    """Write ramps from 0 to ``peak``; the first ends at a third of it."""
    folder.mkdir(exist_ok=True)
    for i in range(num):
        values = np.linspace(0, peak if i else peak // 3, 16).round().astype(kind)
        Image.fromarray(np.tile(values, (16, 1))).save(folder / f"{i}.{suffix}")
    return [folder / f"{i}.{suffix}" for i in range(num)]


@pytest.mark.parametrize(
    ("peak", "white"), [(255, 255), (900, 1023), (4095, 4095), (4096, 16383), (16384, 65535), (65535, 65535)]
)
@pytest.mark.parametrize(("kind", "suffix"), [(np.uint16, "png"), (np.int32, "tif"), (np.uint16, "tif")])
def test_high_bit_depth_is_scaled_by_bits_used_in_data_set(tmp_path, peak, white, kind, suffix):
    paths = write_ramps(tmp_path / "deep", peak, kind, suffix)
    assert opened(paths[0], "mode").startswith("I")
    found = decode(paths, (16, 16), 1)
    assert (found.white, found.deep, found.stretched) == (white, 3, 0)
    for image, high in zip(found.images, (peak // 3, peak, peak), strict=True):
        assert int(image.max()) == pytest.approx(255 * high / white, abs=0.6)
    assert found.levels == (0, round(255 * peak / white))
    later = decode(paths[:1], (16, 16), 1, white=found.white)  # held-out images use the scale of the training set
    assert torch.equal(later.images[0], found.images[0])


def test_values_above_given_white_are_clipped(tmp_path):
    (path,) = write_ramps(tmp_path / "deep", 3 * 5000, num=1)
    assert int(decode([path], (16, 16), 1, white=4095).images.max()) == 255


def test_black_16_bit_images_stay_black(tmp_path):
    found = decode(write_ramps(tmp_path / "deep", 0), (16, 16), 1)
    assert (int(found.images.max()), found.white, found.levels) == (0, 65535, (0, 0))


@pytest.mark.parametrize("cache", [None, "cache"])
def test_number_of_used_bits_is_warned_about(tmp_path, caplog, cache):
    write_ramps(tmp_path / "deep", 4000, num=6)
    for _ in range(2):
        caplog.clear()
        data = ImageFolder(
            tmp_path / "deep", 16, channels=1, limit=4, cache=tmp_path / cache if cache else None, memory_gb=1
        )
        data.setup()
        held_out, _ = data.held_out()
        messages = [record.message for record in caplog.records if record.levelname == "WARNING"]
        assert len(messages) == 1
        assert (
            f"data.root={tmp_path / 'deep'}: 4 images in a format of 16 or 32 bits a pixel use 12 of them"
            in messages[0]
        )
        assert "so 4,095 becomes white" in messages[0]
        assert int(data.samples[1].max()) == int(held_out.max()) == round(255 * 4000 / 4095)


@pytest.mark.parametrize("peaks", [[4095] * 5 + [65535], [255, 255, 1023], [4000, 10_000, 65535, 4000]])
def test_data_set_darkened_by_one_image_is_warned_about(tmp_path, caplog, peaks):
    """One hot pixel has this effect, or one 16-bit image among 12-bit images."""
    for i, peak in enumerate(peaks):
        Image.fromarray(np.linspace(0, peak, 256).reshape(16, 16).astype(np.uint16)).save(tmp_path / f"{i}.png")
    data = ImageFolder(tmp_path, 16, channels=1, cache=None)
    data.setup()
    dark = sum(peak < (max(peaks) + 1) // 4 for peak in peaks)
    bits = max(peaks).bit_length()
    expected = (
        f"data.root={tmp_path}: {dark} of {len(peaks)} images with more than 8 bits a pixel use less than a quarter of "
    )
    (line,) = [record.message for record in caplog.records if "a quarter of" in record.message]
    assert line.startswith(f"{expected}0 to {2**bits - 1:,}")


@pytest.mark.parametrize("peaks", [[4095, 4095, 65535, 65535], [0, 0, 0, 65535], [16384] * 3])
def test_mostly_bright_data_set_is_not_warned_about(tmp_path, caplog, peaks):
    for i, peak in enumerate(peaks):
        Image.fromarray(np.linspace(0, peak, 256).reshape(16, 16).astype(np.uint16)).save(tmp_path / f"{i}.png")
    ImageFolder(tmp_path, 16, channels=1, cache=None).setup()
    assert "a quarter of" not in caplog.text


def write_16_bit_colour(path: Path, peak: int) -> Path:
    """Write an image with 16 bits per channel, which Pillow reads but cannot write."""
    values = np.zeros((8, 8, 3), np.uint16)
    values[4:] = peak
    path.parent.mkdir(exist_ok=True)
    if path.suffix == ".png":
        rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
        parts = [
            (b"IHDR", struct.pack(">IIBBBBB", 8, 8, 16, 2, 0, 0, 0)),
            (b"IDAT", zlib.compress(rows)),
            (b"IEND", b""),
        ]
        chunks = [
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
            for kind, data in parts
        ]
        path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunks))
    else:
        where = 8 + 2 + 9 * 12 + 4
        tags = [(256, 3, 1, 8), (257, 3, 1, 8), (258, 3, 3, where), (259, 3, 1, 1), (262, 3, 1, 2)]
        tags += [(273, 4, 1, where + 6), (277, 3, 1, 3), (278, 3, 1, 8), (279, 4, 1, values.nbytes)]
        entries = b"".join(struct.pack("<HHII", *tag) for tag in tags)
        head = b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4) + struct.pack("<HHH", 16, 16, 16)
        path.write_bytes(head + values.astype("<u2").tobytes())
    return path


@pytest.mark.parametrize(("peak", "reached"), [(4095, 15), (16383, 63), (65535, None)])
@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_16_bit_colour_using_fewer_bits_is_warned_about(tmp_path, caplog, suffix, peak, reached):
    write_16_bit_colour(tmp_path / "photos" / f"a.{suffix}", peak)
    colours((8, 8)).save(tmp_path / "photos" / "b.png")
    for _ in range(2):
        caplog.clear()
        ImageFolder(tmp_path / "photos", 8, cache=tmp_path / "cache").setup()
        expected = (
            f"data.root={tmp_path / 'photos'}: 16-bit colour is read by its high byte and reaches only {reached} of "
        )
        expected += "255; save it with 8 bits a channel"
        assert [record.message for record in caplog.records] == ([expected] if reached else [])


def test_images_scaled_individually_are_warned_about(tmp_path, caplog):
    write_ramps(tmp_path / "floats", 1, np.float32, "tif")
    ImageFolder(tmp_path / "floats", 16).setup()
    assert "3 images hold floats, negative values or values above 65,535; each is scaled by its own" in caplog.text


@pytest.mark.parametrize(
    ("low", "high", "expected"), [(0, 15, "only the values 0 to 15"), (9, 9, "are 9;"), (0, 64, "")]
)
@pytest.mark.parametrize("memory_gb", [1, 1e-9])
def test_small_value_range_is_warned_about(tmp_path, caplog, low, high, expected, memory_gb):
    (tmp_path / "photos").mkdir()
    for level in (low, high):
        Image.new("RGB", (8, 8), (level,) * 3).save(tmp_path / "photos" / f"{level}.png")
    ImageFolder(tmp_path / "photos", 8, cache=tmp_path / "cache", memory_gb=memory_gb).setup()
    assert expected in caplog.text if expected else caplog.text == ""


# --- fitting another aspect ratio ------------------------------------------------------------------------------------


def bands(path: Path, size: tuple[int, int], vertical: bool) -> Path:
    """Write an image of three bands: red, green, blue."""
    image = Image.new("RGB", size, GREEN)
    width, height = size
    image.paste(RED, (0, 0, width, height // 3) if vertical else (0, 0, width // 3, height))
    image.paste(BLUE, (0, height - height // 3, width, height) if vertical else (width - width // 3, 0, width, height))
    image.save(path, quality=95)
    return path


@pytest.mark.parametrize("suffix", ["png", "jpg"])
@pytest.mark.parametrize(
    ("fit", "expected"),
    [
        ("crop", [GREEN] * 5),
        ("pad", [(0, 0, 0), RED, GREEN, BLUE, (0, 0, 0)]),
        ("stretch", [RED, RED, GREEN, BLUE, BLUE]),
    ],
)
def test_fit_of_tall_image(tmp_path, fit, expected, suffix):
    path = bands(tmp_path / f"a.{suffix}", (90, 270), vertical=True)
    (image,) = decode([path], (48, 48), 3, fit=fit).images
    if fit == "pad":  # the whole image is 16 wide, in the centre
        colours_across = [at(image, 0.1, 0.5), at(image, 0.5, 0.1), at(image, 0.5, 0.5), at(image, 0.5, 0.9)]
        found = [*colours_across, at(image, 0.9, 0.5)]
    else:
        found = [at(image, 0.5, y) for y in (0.05, 0.2, 0.5, 0.8, 0.95)]
    assert all(near(colour, wanted, 12) for colour, wanted in zip(found, expected, strict=True)), found


@pytest.mark.parametrize(("size", "inner"), [((90, 270), (16, 48)), ((270, 90), (48, 16)), ((1, 1000), (1, 48))])
def test_pad_keeps_aspect_ratio_in_centre(tmp_path, size, inner):
    Image.new("RGB", size, "white").save(tmp_path / "a.png")
    (image,) = decode([tmp_path / "a.png"], (48, 48), 3, fit="pad").images
    (width, height), white = inner, image == 255
    left, top = (48 - width) // 2, (48 - height) // 2
    assert white[:, top : top + height, left : left + width].all()
    assert int((image == 0).sum()) == 3 * (48 * 48 - width * height)


@pytest.mark.parametrize("fit", ["pad", "stretch"])
@pytest.mark.parametrize("kind", ["L", "P", "RGBA", "CMYK", "I;16"])
def test_fit_accepts_every_mode(tmp_path, fit, kind):
    image = Image.fromarray(np.full((30, 60), 65535, np.uint16)) if kind == "I;16" else Image.new(kind, (60, 30))
    image.save(tmp_path / "a.tif")
    decoded = decode([tmp_path / "a.tif"], (16, 16), 3, fit=fit)
    assert decoded.broken == {}
    assert decoded.images.shape == (1, 3, 16, 16)


@pytest.mark.parametrize("fit", ["crop", "pad", "stretch"])
def test_fit_does_not_change_image_of_same_aspect_ratio(tmp_path, fit):
    colours((64, 32)).save(tmp_path / "a.png")
    assert torch.equal(
        decode([tmp_path / "a.png"], (16, 32), 3, fit=fit).images, decode([tmp_path / "a.png"], (16, 32), 3).images
    )


def test_image_folder_uses_fit_and_caches_each(tmp_path):
    Image.new("RGB", (60, 20), "white").save(tmp_path / "a.png")
    found = {}
    for fit in ("crop", "pad", "stretch", "pad"):
        data = ImageFolder(tmp_path, 12, fit=fit, cache=tmp_path / "cache")
        data.setup()
        found[fit] = int((data.samples == 0).sum())
    assert found == {"crop": 0, "pad": 3 * 12 * 8, "stretch": 0}
    assert len([*(tmp_path / "cache").glob("*.uint8")]) == 3
    with pytest.raises(ValueError, match="fit=squeeze: must be one of crop, pad, stretch"):
        ImageFolder(tmp_path, 12, fit="squeeze")
