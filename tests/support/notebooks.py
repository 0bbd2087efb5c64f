"""Execute a notebook in the current directory: ``python tests/support/notebooks.py NOTEBOOK [--write]``.

``--write`` stores the outputs in the notebook, without execution times.
"""

import asyncio
import sys
import warnings
from pathlib import Path

TIMEOUT = 300  # seconds of a cell


def execute(path: Path, write: bool = False) -> None:
    """Run all cells in order in a kernel that uses this Python and the current directory.

    Raises:
        CellExecutionError: A cell failed.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of Jupyter's packages
        import nbformat
        from nbclient import NotebookClient

        notebook = nbformat.read(path, as_version=4)
        client = NotebookClient(notebook, timeout=TIMEOUT, record_timing=False, resources={"metadata": {"path": "."}})
        client.km = client.create_kernel_manager()
        client.km.kernel_cmd = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
        client.execute()
    for cell in notebook.cells:
        if cell.cell_type == "code":  # without progress bars
            cell.outputs = [output for output in cell.outputs if output.get("name") != "stderr"]
    if write:
        notebook.metadata = {name: notebook.metadata[name] for name in ("kernelspec",)}
        nbformat.write(notebook, path)


if __name__ == "__main__":
    if sys.platform == "win32":
        asyncio.set_event_loop_policy(asyncio.WindowsSelectorEventLoopPolicy())
    execute(Path(sys.argv[1]), "--write" in sys.argv)
