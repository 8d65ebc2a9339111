"""Planted faults: a wrong result makes the cell fail that claims the right one."""

from tutorial import device

import pytest
from nbclient.exceptions import CellExecutionError

from tests.books import ROOT, code_cells, read
from tests.record import run

INTRO = "notebooks/01-Intro_to_Dask.ipynb"
SOLUTION = "notebooks/05-Challenge_Solution.ipynb"
FAULTS = {
    "Dask-ML left on one thread": (
        SOLUTION, "dask-ml-fit", '"scheduler": "threads"', '"scheduler": "synchronous"', "dask-ml-fit"),
    "Dask-ML left on the cluster's client": (
        SOLUTION, "dask-ml-fit", "dask.config.set(all_cores), ", "", "dask-ml-fit"),
    "labels swapped": (
        SOLUTION, "mnmg-predict", "predict(X)", "predict(X).map_blocks(lambda part: part[::-1])",
        "assert-agreement"),
}  # fmt: skip
if len(device.gpus()) != 1 or not device.GPU:  # a lone worker holds everything, and rightly so
    FAULTS |= {
        "one worker holds all points": (SOLUTION, "make-data", "n_parts=n_workers", "n_parts=1", "assert-distributed"),
        "one worker holds the array": (
            INTRO, "describe-array", "X.persist()", "client.persist(X, workers=workers[:1])", "show-persist"),
    }  # fmt: skip
# cells that time or draw, and on which none of the above rests
LEFT_OUT = {"measure-jobs", "plot-jobs", "measure-rule", "draw", "chunk-sizes", "plot-chunk-sizes"}


@pytest.mark.parametrize("fault", FAULTS)
def test_fault_is_caught(fault):
    """Run the notebook with the fault up to the cell that must fail; it does, by its assertion, and none before."""
    book, planted_in, right, wrong, caught_by = FAULTS[fault]
    notebook = read(book)
    last = next(index for index, cell in enumerate(notebook.cells) if cell.id == caught_by)
    notebook.cells = [cell for cell in notebook.cells[: last + 1] if cell.id not in LEFT_OUT]
    cell = next(cell for cell in notebook.cells if cell.id == planted_in)
    assert right in cell.source
    cell.source = cell.source.replace(right, wrong)
    with pytest.raises(CellExecutionError, match="AssertionError"):
        run(notebook, (ROOT / book).parent)
    failed = [
        cell.id
        for cell in code_cells(notebook)
        for output in cell.outputs
        if output.output_type == "error"
    ]
    assert failed == [caught_by]
