"""The notebooks as files: which there are, their navigation line, their canonical format, their code.

python -m tests.books          # name what is not canonical, exit with 1
python -m tests.books --fix    # write it canonical

The canonical format is what JupyterLab writes, without the version of the reader's Python. A notebook that JupyterLab
has saved, as its autosave does as soon as one is opened, is tested with the outputs that git has of it.
"""

import functools
import os
import re
import subprocess
import sys
from pathlib import Path

import nbformat

ROOT = Path(__file__).resolve().parent.parent
HOME = "START_HERE.ipynb"
LESSONS = [
    "notebooks/01-Intro_to_Dask.ipynb",
    "notebooks/02-CuDF_and_Dask.ipynb",
    "notebooks/03-CuML_and_Dask.ipynb",
    "notebooks/04-Challenge.ipynb",
    "notebooks/05-Challenge_Solution.ipynb",
]
# optional, for whoever wants to know more: notebook -> the lesson that it continues
DEEPER = {
    "notebooks/deeper/Moving_and_Spilling.ipynb": LESSONS[1],
    "notebooks/deeper/Late_Flights.ipynb": LESSONS[2],
    "notebooks/deeper/KMeans_by_Hand.ipynb": LESSONS[4],
    "notebooks/deeper/KMeans_at_the_Limit.ipynb": LESSONS[4],
    "notebooks/deeper/Many_Machines.ipynb": LESSONS[4],
}
BOOKS = [HOME, *LESSONS, *DEEPER]
# What JupyterLab writes, less language_info.version: that is of the machine which saved the notebook last, so none
# would stay. Whether it is there tells a notebook that JupyterLab saved from one that was recorded.
METADATA = {
    "kernelspec": {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"},
    "language_info": {
        "codemirror_mode": {"name": "ipython", "version": 3},
        "file_extension": ".py",  # what nbconvert --to script names its file
        "mimetype": "text/x-python",
        "name": "python",
        "nbconvert_exporter": "python",
        "pygments_lexer": "ipython3",
    },
}
MAX_BYTES = 2**20
# a home, a temporary or a site-packages folder of the machine that recorded
MACHINE_PATH = re.compile(
    r"(?<![\w.~/:-])/(?:home|root|tmp|Users|work|opt|usr|var|mnt)/[\w.-]+|site-packages"
)
PICTURE_DATA = re.compile(r"(?<=data:image/png;)base64,([A-Za-z0-9+/=]+)")  # in HTML: figures.show


def python_path():
    """Return PYTHONPATH with the package first: for deeper/, which it is not beside, where it is not installed."""
    return os.pathsep.join(filter(None, [str(ROOT / "notebooks"), os.environ.get("PYTHONPATH")]))


def read(book):
    """Return the notebook `book` (a path below the root) as nbformat 4.5, with its recorded outputs."""
    notebook = nbformat.read(ROOT / book, as_version=4)
    return with_recorded_outputs(notebook, book)


def saved_by_jupyter(notebook):
    """Tell whether JupyterLab (or another editor) saved the notebook last: it names the version of its Python."""
    return "version" in notebook.metadata.get("language_info", {})


@functools.cache
def committed(book):
    """Return `book` as the last commit has it, as nbformat 4.5; None where git does not know it."""
    command = ["git", "show", f"HEAD:./{book}"]
    try:
        answer = subprocess.run(command, cwd=ROOT, capture_output=True, check=True)
    except (OSError, subprocess.CalledProcessError):  # no git, no clone, a new notebook
        return None
    return nbformat.reads(answer.stdout.decode(), as_version=4)


def with_recorded_outputs(notebook, book):
    """Return the notebook; where JupyterLab saved it, each unchanged code cell with the outputs of the last commit."""
    if saved_by_jupyter(notebook) and (before := committed(book)):
        recorded = {cell.id: cell for cell in code_cells(before)}
        for cell in code_cells(notebook):
            was = recorded.get(cell.id)
            if was and was.source == cell.source:
                cell.outputs, cell.execution_count = was.outputs, was.execution_count
    return notebook


def write(notebook, path):
    """Write a notebook canonically."""
    Path(path).write_text(canonical(notebook), encoding="utf-8")


def canonical(notebook):
    """Return a notebook's canonical text: fixed metadata, tags as the only metadata of a cell, sorted keys."""
    notebook = nbformat.from_dict(notebook)
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    notebook.metadata = nbformat.from_dict(METADATA)
    for cell in notebook.cells:
        tags = cell.metadata.get("tags", [])
        metadata = {"tags": tags} if tags else {}
        if "solution" in tags:  # JupyterLab shows it collapsed
            metadata["jupyter"] = {"source_hidden": True}
        cell.metadata = nbformat.from_dict(metadata)
        for output in cell.get("outputs", []):
            if "metadata" in output:
                output.metadata = nbformat.from_dict({})
    return nbformat.writes(notebook, indent=1, ensure_ascii=False, sort_keys=True) + "\n"


def code_cells(notebook):
    """Return the code cells of a notebook, in order."""
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def is_solution(cell):
    """Tell whether a cell is the solution of an exercise."""
    return "solution" in cell.metadata.get("tags", [])


def texts(outputs):
    """Yield every text that outputs hold: streams, plain text, HTML without its pictures, error messages."""
    for output in outputs:
        if output.output_type == "stream":
            yield output.text
        elif output.output_type == "error":
            yield output.evalue
        else:
            yield from (
                PICTURE_DATA.sub("base64,", text)
                for kind, text in output.data.items()
                if isinstance(text, str) and "image" not in kind
            )


def stderr(outputs):
    """Return what outputs hold of stderr, as one text."""
    return "".join(output.text for output in outputs if output.get("name") == "stderr")


def navigation(book):
    """Return the navigation line of `book` as Markdown: previous, home, the five lessons, next.

    A notebook of deeper/ has the lesson that it continues in place of the previous, and no next.
    """
    path_of_all = [HOME, *LESSONS]

    def link(text, target):
        return f"[{text}]({os.path.relpath(target, Path(book).parent)})"

    if book in DEEPER:
        lesson = DEEPER[book]
        parts = [link(f"← Notebook {LESSONS.index(lesson) + 1}", lesson)]
        after = []
    else:
        number = path_of_all.index(book)
        parts = [link("← Previous", path_of_all[number - 1])] if number else []
        after = [link("Next →", path) for path in path_of_all[number + 1 : number + 2]]
    parts += ["**Home**" if book == HOME else link("Home", HOME)]
    for lesson, path in enumerate(LESSONS, start=1):
        parts.append(f"**{lesson}**" if path == book else link(str(lesson), path))
    return " · ".join([*parts, *after])


def faults(book, text):
    """Yield what is wrong with the format of the notebook text, a line each."""
    notebook = nbformat.reads(text, as_version=4)
    if saved_by_jupyter(notebook):
        if (before := committed(book)) and saved_by_jupyter(before):
            yield "committed as JupyterLab saved it: run make format"
        text = canonical(with_recorded_outputs(notebook, book))
    elif text != canonical(notebook):
        yield "not in canonical format: run make format"
    if len(text.encode()) > MAX_BYTES:
        yield f"{len(text.encode())} bytes: over {MAX_BYTES}"
    for end in (notebook.cells[0], notebook.cells[-1]):
        if end.source != navigation(book):
            yield "first and last cell must be the navigation line: run make format"
            break
    for cell in code_cells(notebook):
        for output in texts(cell.outputs):
            if MACHINE_PATH.search(output):
                yield f"cell {cell.id}: an output shows a path of a machine: {MACHINE_PATH.search(output)[0]}"


def fix(book):
    """Write `book` in canonical format, its navigation line renewed."""
    notebook = read(book)
    for end in (notebook.cells[0], notebook.cells[-1]):
        end.source = navigation(book)
    write(notebook, ROOT / book)


def main(arguments):
    """Check, or with --fix write, every notebook; return the exit status."""
    if arguments == ["--fix"]:
        for book in BOOKS:
            fix(book)
    found = [
        (book, fault)
        for book in BOOKS
        for fault in faults(book, (ROOT / book).read_text(encoding="utf-8"))
    ]
    for book, fault in found:
        print(f"{book}: {fault}")
    if not found:
        print(f"{len(BOOKS)} notebooks in canonical format")
    return bool(found)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
