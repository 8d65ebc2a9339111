"""Run notebooks on the machine at hand and keep their outputs.

    python -m tests.record [--force] [BOOK ...]

A notebook that fails, or writes a warning, keeps the outputs it had. Without a GPU nothing is recorded unless --force
is given: committed outputs come from a GPU. Exit status 1 if a notebook failed or recording was refused.
"""

import base64
import os
import sys
import time

from tutorial import device

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError

from tests.books import BOOKS, ROOT, code_cells, python_path, read, stderr, write

# README's picture: the figure that a cell of a notebook drew when it was recorded
PICTURE, PICTURE_BOOK, PICTURE_CELL = (
    ".github/kmeans.png",
    "notebooks/04-Challenge.ipynb",
    "plot-crossing",
)

NO_LINK = "Dashboard: (the link stands here once you run the cell)"


def run(notebook, folder, timeout=300):
    """Run a notebook in place, in a fresh kernel that starts in `folder`; return its seconds of wall time."""
    start = time.perf_counter()
    NotebookClient(
        notebook,
        timeout=timeout,
        startup_timeout=120,
        record_timing=False,
        kernel_name="python3",
        resources={"metadata": {"path": str(folder)}},
    ).execute()
    return time.perf_counter() - start


def picture(notebook):
    """Return README's picture, PNG bytes, from the recorded notebook that draws it: from plt.show or figures.show."""
    [cell] = [cell for cell in code_cells(notebook) if cell.id == PICTURE_CELL]
    data = [output.data for output in cell.outputs if "data" in output]
    [png] = [each["image/png"] for each in data if "image/png" in each]
    return base64.b64decode(png)


def without_links(notebook):
    """Put a placeholder where a notebook shows the link to a dashboard, which ends with the run."""
    for output in (output for cell in code_cells(notebook) for output in cell.outputs):
        if output.get("data", {}).get("text/plain", "").startswith("Dashboard: "):
            output.data = nbformat.from_dict({"text/plain": NO_LINK})


def record(book):
    """Run `book` and write it with its new outputs; return True if it ran."""
    notebook = nbformat.from_dict(read(book))
    try:
        seconds = run(notebook, (ROOT / book).parent)
    except (CellExecutionError, CellTimeoutError, DeadKernelError) as error:
        print(f"{book}: not recorded, a cell failed\n{error}", flush=True)
        return False
    for cell in code_cells(notebook):
        if text := stderr(cell.outputs):
            print(f"{book}: not recorded, cell {cell.id} wrote to stderr\n{text}", flush=True)
            return False
    without_links(notebook)
    write(notebook, ROOT / book)
    if book == PICTURE_BOOK:
        (ROOT / PICTURE).write_bytes(picture(notebook))
    print(f"{book}: recorded in {seconds:.0f} s", flush=True)
    return True


def main(arguments):
    """Record the notebooks named, or all; return the exit status."""
    try:
        refused = "--force" not in arguments and not device.GPU
    except device.DeviceError as error:
        sys.exit(f"DeviceError: {error}")
    if refused:
        print(
            "Not recorded: committed outputs come from a GPU, and this machine has none (FORCE=1 records anyway)."
        )
        return 1
    books = [argument for argument in arguments if argument != "--force"] or BOOKS
    os.environ["PYTHONPATH"] = python_path()
    recorded = [record(book) for book in books]
    return 0 if all(recorded) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
