"""work/, the learner's copy: made once, never overwritten; from it every link and every import leads on."""

import datetime
import json
import subprocess
import sys

import pytest
from nbformat import from_dict, read, v4, write

from tests.books import BOOKS, LESSONS, ROOT, code_cells, texts
from tests.copies import copy_project
from tests.record import run
from tests.test_structure import LINK, markdown

pytestmark = pytest.mark.setup
ASIDE = f"work-{datetime.date.today().isoformat()}"


def work(folder, *arguments):
    """Run .ci/work.py in a copy of the project; return its lines."""
    command = [sys.executable, str(folder / ".ci/work.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()


def edit(path, source):
    """Add a cell to a notebook, as JupyterLab would; return the file's new content."""
    notebook = read(path, as_version=4)
    notebook.cells.append(v4.new_code_cell(source))
    write(notebook, path)
    return path.read_bytes()


@pytest.fixture
def elsewhere(tmp_path):
    return copy_project(tmp_path / "eine Übung")


def test_the_copy_is_made_once_and_never_overwritten(elsewhere):
    assert len(work(elsewhere)) == 1
    assert all(
        (elsewhere / "work" / book).read_bytes() == (ROOT / book).read_bytes() for book in BOOKS
    )
    mine = edit(elsewhere / "work" / BOOKS[0], "mine = 1")
    assert work(elsewhere) == []
    assert (elsewhere / "work" / BOOKS[0]).read_bytes() == mine
    (elsewhere / "work" / BOOKS[1]).unlink()
    assert work(elsewhere) == [f"Copied to work/: {BOOKS[1]}"]
    assert (elsewhere / "work" / BOOKS[0]).read_bytes() == mine


def test_an_interrupted_copy_is_finished(elsewhere):
    work(elsewhere)
    lost = elsewhere / "work" / LESSONS[2]
    lost.rename(f"{lost}.part")  # what was written when the power failed
    work(elsewhere)
    assert lost.read_bytes() == (ROOT / LESSONS[2]).read_bytes()
    assert [str(path) for path in elsewhere.rglob("work/**/*.part")] == []


def test_a_changed_original_is_named_in_one_line(elsewhere):
    """A changed text or code is; outputs and metadata, which opening the original may change, are not."""
    work(elsewhere)
    opened = read(elsewhere / BOOKS[1], as_version=4)
    opened.metadata.language_info.version = "3.12.3"
    code_cells(opened)[0].outputs = []
    write(opened, elsewhere / BOOKS[1])
    assert work(elsewhere) == []
    edit(elsewhere / BOOKS[2], "new = 1")
    before = (elsewhere / "work" / BOOKS[2]).read_bytes()
    [line] = work(elsewhere)
    assert (
        line.startswith("Changed since they were copied")
        and BOOKS[2] in line
        and BOOKS[1] not in line
    )
    assert "make reset" in line
    assert (elsewhere / "work" / BOOKS[2]).read_bytes() == before


def test_reset_puts_the_copy_aside(elsewhere):
    work(elsewhere)
    first = edit(elsewhere / "work" / BOOKS[0], "mine = 1")
    edit(elsewhere / BOOKS[0], "new = 1")
    command = ["make", "--no-print-directory", "reset", f"PYTHON={sys.executable}"]
    answer = subprocess.run(command, cwd=elsewhere, capture_output=True, text=True, check=True)
    assert answer.stdout.splitlines()[0] == f"Your copy is now in {ASIDE}/."
    assert (elsewhere / ASIDE / BOOKS[0]).read_bytes() == first
    assert (elsewhere / "work" / BOOKS[0]).read_bytes() == (elsewhere / BOOKS[0]).read_bytes()
    assert work(elsewhere) == []
    assert work(elsewhere, "reset")[0] == f"Your copy is now in {ASIDE}-2/."
    assert (elsewhere / ASIDE / BOOKS[0]).read_bytes() == first


def test_tools_and_git_leave_the_copies_alone(elsewhere):
    """Neither pytest nor ruff nor git sees work/ or what reset put aside; ruff not even without git."""
    work(elsewhere)
    work(elsewhere, "reset")
    for folder in ("work", ASIDE):
        bad = v4.new_notebook(cells=[v4.new_code_cell("import  os,sys")])
        write(bad, elsewhere / folder / "notebooks/Mine.ipynb")
        (elsewhere / folder / "test_mine.py").write_text("import  os,sys\n")
    for command in (["ruff", "check", "."], ["ruff", "format", "--check", "."]):
        answer = subprocess.run(
            [sys.executable, "-m", *command], cwd=elsewhere, capture_output=True, text=True
        )
        assert answer.returncode == 0, answer.stdout
    command = [sys.executable, "-m", "pytest", "--collect-only", "-n0", "-p", "no:cacheprovider"]
    answer = subprocess.run(command, cwd=elsewhere, capture_output=True, text=True)
    assert answer.returncode == 0, answer.stdout
    collected = {
        line.split("::")[0].split("/")[0] for line in answer.stdout.splitlines() if "::" in line
    }
    assert collected == {BOOKS[0], "notebooks", "tests"}
    subprocess.run(["git", "init", "-q"], cwd=elsewhere, check=True)
    command = ["git", "status", "--porcelain", "--untracked-files=all"]
    seen = subprocess.run(command, cwd=elsewhere, capture_output=True, text=True, check=True).stdout
    assert BOOKS[1] in seen and "?? work" not in seen and '?? "work' not in seen


def test_a_copy_that_cannot_be_made_is_one_line(elsewhere):
    (elsewhere / "work").write_text("a file of that name")
    command = [sys.executable, str(elsewhere / ".ci/work.py")]
    answer = subprocess.run(command, capture_output=True, text=True)
    assert answer.returncode == 1 and len(answer.stderr.splitlines()) == 1
    assert answer.stderr.startswith("work/, your copy of the notebooks, cannot be made: ")


def test_links_lead_from_the_copy_to_the_same_files(elsewhere):
    work(elsewhere)
    for book in BOOKS:
        original, copy = elsewhere / book, elsewhere / "work" / book
        links = {link for text in markdown(book) for link in LINK.findall(text)}
        for target in {link.split("#")[0] for link in links if "://" not in link}:
            found = (copy.parent / target).resolve()
            assert found.is_file(), f"{book}: {target}"
            if not target.endswith(".ipynb"):
                assert found == (original.parent / target).resolve()
            else:
                assert found.is_relative_to(elsewhere / "work")


def test_the_notebooks_run_from_the_copy(elsewhere, monkeypatch):
    """START_HERE from top to bottom; of a lesson what it imports, and the data. A proxy is not asked by the cluster."""
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    work(elsewhere)
    home = read(elsewhere / "work" / BOOKS[0], as_version=4)
    run(home, elsewhere / "work")
    assert "Ran on: " in "".join(texts(code_cells(home)[-1].outputs))
    imports = [from_dict(code_cells(read(elsewhere / "work" / LESSONS[1], as_version=4))[0])]
    data = v4.new_code_cell("from tutorial import flights; print(flights.path('flights'))")
    lesson = v4.new_notebook(cells=[*imports, data])
    run(lesson, elsewhere / "work/notebooks")
    assert str(elsewhere / "data/flights") in "".join(texts(lesson.cells[-1].outputs))


def test_what_was_copied_is_on_record(elsewhere):
    """A damaged record makes no noise, and nothing is lost by it."""
    work(elsewhere)
    record = elsewhere / "work/.copied.json"
    assert set(json.loads(record.read_text())) == set(BOOKS)
    record.write_text("{")
    assert work(elsewhere) == []
