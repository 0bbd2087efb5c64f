"""Output of an exploration of the latent space: an image of all samples, and videos."""

import io
import json
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from gan_lightning.io.files import atomic_write
from gan_lightning.io.image import animated_gif, enlarge, fitting_scale, grid, png, strip
from gan_lightning.io.plot import points

if TYPE_CHECKING:
    from gan_lightning.latent import Exploration

MIN_SIDE = 256  # pixels of the shorter side of a video


def write(
    exploration: "Exploration", animated: bool, out: Path, fps: int, source: dict[str, Any], scale: int | None = None
) -> str:
    """Write NAME.png, NAME.json, and of an animation NAME.gif and NAME.mp4; return a line about each.

    All files are rendered and written to temporary files before the first one is renamed, and NAME.json is renamed
    first, so that the same command can be repeated if the process is killed. Videos of an earlier exploration of the
    same name are removed, since NAME.json does not describe them.

    Args:
        exploration: The result of the exploration.
        animated: Whether its rows are sequences in time, which are written as videos.
        out: Output path without suffix (NAME).
        fps: Frames per second of the videos.
        source: Entries of NAME.json that describe where the samples come from.
        scale: Factor by which the images of NAME.png are enlarged; None for a longer side of about 900 pixels.
    """
    rows = exploration.rows
    if rows[0].ndim == 4:
        grids = [grid(row, len(row)) for row in rows]
        factor = scale or fitting_scale(sum(row.shape[1] for row in grids), max(row.shape[2] for row in grids))
        sheet = strip([enlarge(row, factor) for row in grids], exploration.captions)
    else:
        sheet = points(torch.cat(rows))
    description = source | {"samples": len(rows) * len(rows[0]), **exploration.results}
    contents: dict[str, bytes | None] = {"png": png(sheet)}
    if animated:
        frames = video_frames(rows)
        contents |= {"gif": gif(frames, fps), "mp4": mp4(frames, fps)}
    contents["json"] = json.dumps(description, indent=2).encode()
    files = {suffix: out.with_name(f"{out.name}.{suffix}") for suffix in ("png", "gif", "mp4", "json")}
    with ExitStack() as stack:  # files are renamed in the reverse order of opening
        for suffix, content in contents.items():
            if content is not None:
                stack.enter_context(atomic_write(files[suffix])).write(content)
        for suffix in ("gif", "mp4"):
            files[suffix].unlink(missing_ok=True)
    lines = {suffix: str(files[suffix]) for suffix in contents}
    if contents.get("mp4", b"") is None:
        lines["mp4"] = "no MP4 video; pip install 'gan-lightning[video]'"
    return "\n".join(lines.values())


def video_frames(rows: list[Tensor]) -> np.ndarray:
    """Return frames (T, H, W, 3) as uint8: the images of all rows at one time side by side, enlarged by an integer."""
    columns = int(np.ceil(np.sqrt(len(rows))))
    frames = torch.stack([grid(torch.stack(images), columns) for images in zip(*rows, strict=True)])
    factor = max(1, -(-MIN_SIDE // min(frames.shape[-2:])))
    frames = frames.repeat_interleave(factor, -2).repeat_interleave(factor, -1)
    frames = F.pad(frames, (0, frames.shape[-1] % 2, 0, frames.shape[-2] % 2), value=255)  # H.264 needs even sides
    return frames.permute(0, 2, 3, 1).contiguous().numpy()


def gif(frames: np.ndarray, fps: int) -> bytes:
    """Return frames as the content of a looping GIF file."""
    return animated_gif([*map(Image.fromarray, frames)], 10 * max(2, round(100 / fps)))


def mp4(frames: np.ndarray, fps: int) -> bytes | None:
    """Return frames as the content of an MP4 file that browsers can play; None if PyAV is not installed.

    The content depends only on the frames and the version of x264.

    Args:
        frames: (T, H, W, 3) uint8, with even H and W.
        fps: Frames per second.
    """
    try:
        import av
    except ImportError:
        return None
    # The output changes with the number of threads, and x264's macroblock tree reads uninitialised memory on AVX-512.
    options = {"threads": "1", "mbtree": "0"}
    content = io.BytesIO()
    with av.open(content, "w", format="mp4") as container:
        stream = container.add_stream("libx264", fps, options=options)
        stream.height, stream.width, stream.pix_fmt = *frames.shape[1:3], "yuv420p"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    return content.getvalue()
