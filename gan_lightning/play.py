"""gan-play: a page in the browser, to watch the game in the plane and walk through a generator's pictures."""

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING

from gan_lightning.errors import UserError
from gan_lightning.exit import told_plainly
from gan_lightning.paths import absolute, shorter

if TYPE_CHECKING:
    from gradio import Blocks

HOST = "127.0.0.1"  # the loopback: nobody else can reach the page
# Allowed Host headers. A web page of another host whose name resolves to this address (DNS rebinding) sends its own.
HOSTS = (HOST, "localhost", "[::1]")


def parser() -> argparse.ArgumentParser:
    """What gan-play takes."""
    take = argparse.ArgumentParser("gan-play", description="Watch the game, and explore trained generators.")
    take.add_argument("runs", type=absolute, nargs="?", default=absolute("runs"), help="folder of runs (default: runs)")
    take.add_argument("--port", type=int, default=7860, help="where the page is served (default: 7860)")
    take.add_argument("--no-browser", action="store_true", help="only say where the page is")
    return take


def main() -> None:
    """The command."""
    with told_plainly("TMPDIR"):
        play(parser().parse_args())


def play(args: argparse.Namespace) -> None:
    """Serve the page until it is interrupted.

    Raises:
        UserError: Gradio is not installed, the port is taken, or the folder is none.
    """
    runs = shorter(args.runs)
    faults = []
    if not 0 < args.port < 2**16:
        faults.append(f"--port {args.port}: must be between 1 and 65,535")
    if runs.exists() and not runs.is_dir():
        faults.append(f"{runs}: is no folder; gan-play takes one with runs in it")
    if not runs.exists() and args.runs != parser().get_default("runs"):
        faults.append(f"{runs}: there is no such folder")
    if faults:
        raise UserError(*faults)

    import warnings
    from urllib.request import getproxies

    import torch

    from gan_lightning.train import NOT_FOR_USERS

    for pattern in NOT_FOR_USERS:
        warnings.filterwarnings("ignore", pattern)
    torch.set_num_threads(1)  # threads that share tiny tensors wait for each other, and the page wants a core
    # Gradio asks its own page whether it is there, which nobody's proxy can tell.
    os.environ["no_proxy"] = ",".join(filter(None, (getproxies().get("no"), HOST)))
    blocks = page(runs)

    from starlette.middleware import Middleware  # of Gradio's dependencies
    from starlette.middleware.trustedhost import TrustedHostMiddleware

    try:
        _, address, _ = blocks.launch(
            server_name=HOST,
            server_port=args.port,
            inbrowser=not args.no_browser,
            share=False,
            quiet=True,
            prevent_thread_lock=True,
            theme=theme(),
            css=CSS,
            footer_links=[],
            ssr_mode=False,
            mcp_server=False,
            enable_monitoring=False,
            app_kwargs={"middleware": [Middleware(TrustedHostMiddleware, allowed_hosts=HOSTS, www_redirect=False)]},
        )
    except OSError as error:
        raise UserError(f"--port {args.port}: cannot be had, another gan-play has it perhaps; --port=NUMBER") from error
    print(f"{address}  (Ctrl-C ends it)", flush=True)
    blocks.block_thread()


CSS = """
.picture img {width: 100%; image-rendering: pixelated}
.scatter img {width: 100%; max-width: 560px}
#faults, .wrong {color: #b00020}
#board canvas {border: 1px solid gray; cursor: crosshair; touch-action: none}
#board button {text-decoration: underline}
.beside {display: flex; flex-wrap: wrap; gap: 1em}
.beside figure {margin: 0; max-width: 420px}
"""


def page(runs: Path) -> "Blocks":
    """The page, of two tabs.

    Args:
        runs: The folder whose runs can be chosen.

    Raises:
        UserError: Gradio is not installed.
    """
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # before it is imported: the page calls nobody
    try:
        import gradio as gr
    except ImportError as error:
        raise UserError("gan-play needs pip install 'gan-lightning[play]'") from error

    from gan_lightning import pictures, plane

    with gr.Blocks(title="gan-play", analytics_enabled=False, delete_cache=(3600, 3600), fill_width=True) as blocks:
        with gr.Tab("The game in the plane"):
            plane.Plane()
        with gr.Tab("Pictures of a run"):
            pictures.Pictures(runs)
    return blocks


def theme() -> object:
    """Gradio's plain look, with fonts of the machine's own."""
    import gradio as gr

    return gr.themes.Base(font="system-ui", font_mono="monospace")


if __name__ == "__main__":
    main()
