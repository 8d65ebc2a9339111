"""The copy to hand out: no output, no solution, every other cell as it is, and no cell needs one that is gone."""

import ast
import os
import re
import runpy
import subprocess
import sys

import nbformat
import pytest

from tests import record
from tests.books import BOOKS, HOME, LESSONS, ROOT, code_cells, is_solution, read, texts

pytestmark = pytest.mark.setup
CHALLENGE = LESSONS[3]


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    """The copy that `make learner-copy` makes, elsewhere."""
    folder = tmp_path_factory.mktemp("learner") / "to hand out"
    command = [sys.executable, ".ci/learner.py", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    return folder


@pytest.mark.parametrize("book", BOOKS)
def test_no_output_and_no_solution(copy, book, monkeypatch):
    """All other cells are there, and no text speaks of a solution that is not."""
    monkeypatch.syspath_prepend(ROOT / ".ci")
    about = runpy.run_path(str(ROOT / ".ci/learner.py"))["ABOUT"]
    kept = nbformat.read(copy / book, as_version=4)
    original = [cell for cell in read(book).cells if not is_solution(cell)]
    assert [cell.id for cell in kept.cells] == [cell.id for cell in original]
    assert not any(map(is_solution, kept.cells))
    assert not any(cell.outputs or cell.execution_count for cell in code_cells(kept))
    for cell, before in zip(kept.cells, original, strict=True):
        assert cell.source == before.source.replace(about, "")
    assert any(about in cell.source for cell in original) == (book == HOME)


def stored_and_read(source):
    """Return the names that a cell gives a value, and those that it reads."""
    tree = ast.parse(re.sub(r"\A%%writefile .*\n(.|\n)*", "", source))
    names = [node for node in ast.walk(tree) if isinstance(node, ast.Name)]
    stored = {node.id for node in names if isinstance(node.ctx, ast.Store)}
    stored |= {
        node.name for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.ClassDef))
    }
    stored |= {node.arg for node in ast.walk(tree) if isinstance(node, ast.arg)}
    return stored, {node.id for node in names if isinstance(node.ctx, ast.Load)}


def missing(notebook):
    """Yield (cell, name) where a cell reads a name that only a solution before it has given a value."""
    kept, gone = set(), set()
    for cell in code_cells(notebook):
        stored, used = stored_and_read(cell.source)
        if is_solution(cell):
            gone |= stored - kept
            continue
        kept |= stored
        gone -= stored
        yield from ((cell.id, name) for name in sorted(used & gone))


@pytest.mark.parametrize("book", BOOKS)
def test_no_cell_needs_a_solution(book):
    assert not list(missing(read(book)))


def test_a_cell_that_needs_a_solution_is_found():
    solution = nbformat.v4.new_code_cell("best = 1", metadata={"tags": ["solution"]})
    cells = [solution, nbformat.v4.new_code_cell("print(best)", id="plot")]
    assert list(missing(nbformat.v4.new_notebook(cells=cells))) == [("plot", "best")]


def test_the_copy_runs(copy, monkeypatch):
    """From the first cell to the last, with everything still to do."""
    monkeypatch.setenv("PYTHONPATH", str(copy / "notebooks"))
    notebook = nbformat.read(copy / CHALLENGE, as_version=4)
    record.run(notebook, (copy / CHALLENGE).parent)
    states = [
        text for cell in code_cells(notebook) for text in texts(cell.outputs) if "to do" in text
    ]
    assert len(states) >= 7
    command = ["python3", ".ci/work.py"]  # what `make lab` does first
    subprocess.run(command, cwd=copy, check=True, capture_output=True)
    assert os.path.exists(copy / "work" / HOME)


def test_what_is_there_stays(copy):
    command = [sys.executable, ".ci/learner.py", str(copy)]
    answer = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert answer.returncode == 1 and answer.stderr.strip().endswith(
        ": name another folder, or remove it."
    )
