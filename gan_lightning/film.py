"""What an exploration has found, as a sheet of pictures and as a film."""

import io
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from gan_lightning.files import whole
from gan_lightning.image import MARK, grid, strip, write_png
from gan_lightning.plot import points

if TYPE_CHECKING:
    from gan_lightning.latent import Found

LEAST = 256  # pixels that the shorter side of a film has at least


def write(found: "Found", moves: bool, out: Path, fps: int, of: dict[str, Any]) -> str:
    """Write NAME.png, NAME.json, and of what moves NAME.gif and NAME.mp4; return a line on each.

    Films that an exploration of the same name has left go, since they are not of what NAME.json tells.

    Args:
        found: What was found.
        moves: Whether its rows are ways in time, which can be played.
        out: NAME.
        fps: Pictures a second of the film.
        of: Where it comes from.
    """
    is_picture = found.rows[0].ndim == 4
    if is_picture:
        sheet = strip([grid(row, len(row)) for row in found.rows], found.captions)
    else:
        sheet = points(torch.cat(found.rows))
    written = [out.with_name(f"{out.name}.png"), out.with_name(f"{out.name}.json")]
    for ending in ("gif", "mp4"):
        out.with_name(f"{out.name}.{ending}").unlink(missing_ok=True)
    write_png(written[0], sheet)
    with whole(written[1], "w") as file:
        json.dump(of | {"samples": len(found.rows) * len(found.rows[0]), **found.figures}, file, indent=2)
    if moves:
        frames = film(found.rows)
        written.insert(1, out.with_name(f"{out.name}.gif"))
        with whole(written[1]) as file:
            file.write(gif(frames, fps))
        written.insert(2, out.with_name(f"{out.name}.mp4"))
        if not write_mp4(written[2], frames, fps):
            written[2] = "no film as MP4: pip install 'gan-lightning[video]'"
    return "\n".join(map(str, written))


def film(rows: list[Tensor]) -> np.ndarray:
    """Frames (T, H, W, 3) uint8: every row's picture at one time side by side, enlarged by whole factors."""
    columns = int(np.ceil(np.sqrt(len(rows))))
    frames = torch.stack([grid(torch.stack(at), columns) for at in zip(*rows, strict=True)])
    factor = max(1, -(-LEAST // min(frames.shape[-2:])))
    frames = frames.repeat_interleave(factor, -2).repeat_interleave(factor, -1)
    frames = F.pad(frames, (0, frames.shape[-1] % 2, 0, frames.shape[-2] % 2), value=255)  # H.264 wants even sides
    return frames.permute(0, 2, 3, 1).contiguous().numpy()


def gif(frames: np.ndarray, fps: int) -> bytes:
    """Frames as the content of a GIF that plays again and again."""
    content = io.BytesIO()
    first, *rest = map(Image.fromarray, frames)
    # In hundredths of a second, of which browsers play no less than two.
    shown = {"duration": 10 * max(2, round(100 / fps)), "loop": 0, "comment": f"Software: {MARK}"}
    first.save(content, "GIF", save_all=True, append_images=rest, **shown)
    return content.getvalue()


def write_mp4(path: Path, frames: np.ndarray, fps: int) -> bool:
    """Write a film that every browser plays; False if PyAV is not installed.

    The file depends on the frames and the version of x264 only.

    Args:
        path: The file.
        frames: (T, H, W, 3) uint8, with even H and W.
        fps: Frames per second.
    """
    try:
        import av
    except ImportError:
        return False
    # The output changes with the number of threads, and x264's macroblock tree reads uninitialised memory on AVX-512.
    options = {"threads": "1", "mbtree": "0"}
    content = io.BytesIO()
    with av.open(content, "w", format="mp4") as container:
        stream = container.add_stream("libx264", fps, options=options)
        stream.height, stream.width, stream.pix_fmt = *frames.shape[1:3], "yuv420p"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    with whole(path) as file:
        file.write(content.getvalue())
    return True
