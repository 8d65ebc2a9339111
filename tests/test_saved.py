"""Opening a notebook in JupyterLab saves it: that changes one line, and no test fails because of it."""

import subprocess
import sys

import nbformat
import pytest
from ipykernel.ipkernel import IPythonKernel
from jupyter_server.services.contents.filemanager import FileContentsManager
from nbconvert import ScriptExporter
from nbformat.sign import MemorySignatureStore, NotebookNotary

from tests.books import BOOKS, METADATA, ROOT, code_cells, read
from tests.copies import copy_project

pytestmark = pytest.mark.setup


def save(folder, book, change=lambda notebook: None):
    """Open, change and save a notebook below `folder` as JupyterLab does, through Jupyter's own contents manager."""
    notary = NotebookNotary(store_factory=MemorySignatureStore, secret=b"")  # not the user's
    manager = FileContentsManager(root_dir=str(folder), notary=notary)
    model = manager.get(book)
    notebook = nbformat.from_dict(model["content"])
    notebook.metadata["language_info"] = nbformat.from_dict(IPythonKernel.language_info)
    change(notebook)
    manager.save({"type": "notebook", "format": "json", "content": notebook}, book)


def run_out_of_order(notebook):
    """Change a notebook as a learner does: outputs gone, another's error, counts, folded cells, another kernel name."""
    notebook.metadata.kernelspec.display_name = ".venv (3.12)"
    for number, cell in enumerate(code_cells(notebook)):
        cell.execution_count, cell.outputs = None, []
        cell.metadata["jupyter"] = {"outputs_hidden": True}
        cell.metadata["execution"] = {"iopub.execute_input": "2026-05-09T10:00:00.000000Z"}
        if number == 1:
            cell.execution_count = 17
            where = 'File "/home/me/lib/python3.12/site-packages/x.py"'
            cell.outputs = [nbformat.v4.new_output("error", ename="E", evalue=where, traceback=[])]


@pytest.fixture
def clone(tmp_path):
    """The project as a clone whose one commit has its files as they are here."""
    folder = copy_project(tmp_path / "clone")
    commit(folder)
    return folder


def commit(folder):
    git = [
        "git",
        "-c",
        "user.name=me",
        "-c",
        "user.email=me@localhost",
        "-c",
        "commit.gpgsign=false",
    ]
    for command in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "all"]):
        subprocess.run([*git, *command], cwd=folder, check=True)


def python(folder, *arguments):
    """Run a module in a copy of the project; return (status, what it printed)."""
    command = [sys.executable, "-m", *arguments]
    answer = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    return answer.returncode, answer.stdout + answer.stderr


def test_the_stored_language_is_the_kernels():
    language = dict(IPythonKernel.language_info)
    language.pop("version")
    assert METADATA["language_info"] == language


@pytest.mark.parametrize("book", BOOKS)
def test_saving_changes_the_version_of_python_only(book, tmp_path):
    (tmp_path / book).parent.mkdir(parents=True, exist_ok=True)
    before = (ROOT / book).read_text(encoding="utf-8")
    (tmp_path / book).write_text(before, encoding="utf-8")
    save(tmp_path, book)
    after = (tmp_path / book).read_text(encoding="utf-8").splitlines()
    [version] = [line for line in after if line.startswith('   "version": "3.')]
    at = after.index(version)
    after[at - 1] = after[at - 1].removesuffix(",")
    assert "\n".join(after[:at] + after[at + 1 :]) + "\n" == before


def test_a_script_is_named_py():
    """jupyter nbconvert --to script."""
    _, resources = ScriptExporter().from_notebook_node(read(BOOKS[0]))
    assert resources["output_extension"] == ".py"


def test_checks_and_tests_pass_on_saved_notebooks(clone):
    """With what a learner's run leaves in them; nbval compares START_HERE with the outputs of the commit."""
    for book in BOOKS:
        save(clone, book, run_out_of_order)
    saved = {book: (clone / book).read_bytes() for book in BOOKS}
    for module in (["tests.books"], ["ruff", "check", "."], ["ruff", "format", "--check", "."]):
        status, text = python(clone, *module)
        assert status == 0, text
    tests = ["tests/test_structure.py", BOOKS[0]]
    status, text = python(clone, "pytest", "-n0", "-p", "no:cacheprovider", *tests)
    assert status == 0, text
    assert {book: (clone / book).read_bytes() for book in BOOKS} == saved


def test_format_restores_a_saved_notebook(clone):
    save(clone, BOOKS[1], run_out_of_order)
    assert python(clone, "tests.books", "--fix")[0] == 0
    assert (clone / BOOKS[1]).read_bytes() == (ROOT / BOOKS[1]).read_bytes()


def test_a_saved_notebook_is_not_committed(clone):
    """What CI sees: the recorded outputs would be lost."""
    save(clone, BOOKS[1], run_out_of_order)
    commit(clone)
    status, text = python(clone, "tests.books")
    assert status == 1
    assert f"{BOOKS[1]}: committed as JupyterLab saved it: run make format" in text


def test_a_changed_cell_keeps_its_own_output(clone):
    """The recorded output is that of another code."""

    def change(notebook):
        code_cells(notebook)[-1].source = "1 + 1"
        code_cells(notebook)[-1].outputs = []

    save(clone, BOOKS[0], change)
    command = (
        "from tests.books import *; print([len(cell.outputs) for cell in code_cells(read(HOME))])"
    )
    answer = subprocess.run(
        [sys.executable, "-c", command], cwd=clone, capture_output=True, text=True
    )
    recorded = [len(cell.outputs) for cell in code_cells(read(BOOKS[0]))]
    assert answer.stdout.strip() == str([*recorded[:-1], 0]) and recorded[-1]
