"""Make a copy of the tutorial to hand out: no outputs, no solutions to the exercises, nothing of the tests.

    python .ci/learner.py [FOLDER]    # learner/ unless named; it must not exist

In it `make lab` works as here. Notebook 05, which follows the challenge of 04, stays.
"""

import os
import shutil
import sys

import nbformat
import work

TAKEN = [
    work.HOME,
    work.FOLDER,
    *work.BESIDE_HOME,
    ".ci",
    ".github/kmeans.png",
    "Makefile",
    "environment.yml",
]
LEFT_OUT = shutil.ignore_patterns("__pycache__", ".ipynb_checkpoints", "instructor-notes.md")
# what a notebook says of the solutions
ABOUT = " A solution follows; its code is hidden until you open it."


def main(arguments):
    folder = os.path.abspath(arguments[0] if arguments else "learner")
    os.chdir(work.ROOT)
    if os.path.lexists(folder):
        sys.exit("%s is there: name another folder, or remove it." % folder)
    for path in TAKEN:
        target = os.path.join(folder, path)
        os.makedirs(os.path.dirname(target), exist_ok=True)
        if os.path.isdir(path):
            shutil.copytree(path, target, ignore=LEFT_OUT)
        else:
            shutil.copy(path, target)
    for path in [work.HOME, *work.entries(folder, work.FOLDER)]:
        if work.is_notebook(path):
            hand_out(os.path.join(folder, path))
    print("%s: a copy without outputs and solutions." % folder)


def hand_out(path):
    """Take the outputs and the solutions out of a notebook file."""
    notebook = nbformat.read(path, as_version=4)
    notebook.cells = [
        cell for cell in notebook.cells if "solution" not in cell.metadata.get("tags", [])
    ]
    for cell in notebook.cells:
        cell.source = cell.source.replace(ABOUT, "")
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    nbformat.write(notebook, path)


if __name__ == "__main__":
    main(sys.argv[1:])
