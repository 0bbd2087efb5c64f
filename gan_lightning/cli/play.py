"""gan-play: a web page for interactive training on points in the plane, and for exploring trained generators."""

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING

from gan_lightning.cli.exit import exit_on_error
from gan_lightning.errors import UserError
from gan_lightning.io.paths import absolute, relative_path

if TYPE_CHECKING:
    from gradio import Blocks

HOST = "127.0.0.1"  # loopback: the page is not reachable from other machines
# Allowed Host headers. A web page of another host whose name resolves to this address (DNS rebinding) sends its own.
HOSTS = (HOST, "localhost", "[::1]")


def build_parser() -> argparse.ArgumentParser:
    """Return the argument parser of gan-play."""
    parser = argparse.ArgumentParser("gan-play", description="Train interactively, and explore trained generators.")
    parser.add_argument("runs", type=absolute, nargs="?", default="runs", help="run folder (default: runs)")
    parser.add_argument("--port", type=int, default=7860, help="port of the page (default: 7860)")
    parser.add_argument("--no-browser", action="store_true", help="print the address without opening a browser")
    return parser


def main() -> None:
    """Run the command."""
    with exit_on_error("TMPDIR"):
        play(build_parser().parse_args())


def play(args: argparse.Namespace) -> None:
    """Serve the page until it is interrupted.

    Raises:
        UserError: Gradio is not installed, the port is in use, or the directory of runs is invalid.
    """
    runs = relative_path(args.runs)
    errors = []
    if not 0 < args.port < 2**16:
        errors.append(f"--port {args.port}: must be between 1 and 65,535")
    if runs.exists() and not runs.is_dir():
        errors.append(f"{runs}: is not a folder; give a folder with runs")
    if not runs.exists() and args.runs != absolute("runs"):
        errors.append(f"{runs}: there is no such folder")
    if errors:
        raise UserError(*errors)

    import warnings
    from urllib.request import getproxies

    import torch

    from gan_lightning.io.library_warnings import IGNORED_WARNINGS

    for pattern in IGNORED_WARNINGS:
        warnings.filterwarnings("ignore", pattern)
    torch.set_num_threads(1)  # more threads slow small tensors down, and the server needs a core
    # Gradio requests its own page when it starts, which must not go through a proxy.
    os.environ["no_proxy"] = ",".join(filter(None, (getproxies().get("no"), HOST)))
    blocks = build_page(runs)

    from gradio.themes import Base
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
            theme=Base(font="system-ui", font_mono="monospace"),  # system fonts, so that none are downloaded
            css=CSS,
            footer_links=[],
            ssr_mode=False,
            mcp_server=False,
            enable_monitoring=False,
            app_kwargs={"middleware": [Middleware(TrustedHostMiddleware, allowed_hosts=HOSTS, www_redirect=False)]},
        )
    except OSError as error:
        raise UserError(f"--port {args.port}: is in use, perhaps by another gan-play; choose --port=NUMBER") from error
    print(f"{address}  (Ctrl-C ends it)", flush=True)
    blocks.block_thread()


CSS = """
.image img {width: 100%; image-rendering: pixelated}
.scatter img {width: 100%; max-width: 560px}
#errors, .error {color: #b00020}
#board canvas {border: 1px solid gray; cursor: crosshair; touch-action: none}
#board button {text-decoration: underline}
.beside {display: flex; flex-wrap: wrap; gap: 1em}
.beside figure {margin: 0; max-width: 420px}
"""


def build_page(runs: Path) -> "Blocks":
    """Build the page with its two tabs.

    Args:
        runs: The directory whose runs can be chosen.

    Raises:
        UserError: Gradio is not installed.
    """
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # set before the import, so that Gradio sends no data
    try:
        import gradio as gr
    except ImportError as error:
        raise UserError("gan-play needs pip install 'gan-lightning[play]'") from error

    from gan_lightning.demo import images_tab, points_tab

    with gr.Blocks(title="gan-play", analytics_enabled=False, delete_cache=(3600, 3600), fill_width=True) as blocks:
        with gr.Tab("Training in the plane"):
            points_tab.PointsTab()
        with gr.Tab("Images of a run"):
            images_tab.ImagesTab(runs)
    return blocks


if __name__ == "__main__":
    main()
