"""A machine with too little: a folder that cannot be written, a disk that is full. One line says what to do."""

import os
import subprocess
import sys

import pytest

from tests.books import BOOKS, ROOT
from tests.copies import copy_project, lend_environment
from tests.nbval_plugin import NAMESPACES

pytestmark = [pytest.mark.setup, pytest.mark.namespaces]
READ_ONLY = 'mount --bind "$1" "$1" && mount -o remount,bind,ro "$1"'
FULL = 'mount -t tmpfs -o size=64k none "$1"; head -c 1M /dev/zero 2>/dev/null > "$1/filler"'
LAB = [".venv/bin/python", ".ci/lab.py", "--no-browser", "--port", "0"]
WORK = [sys.executable, ".ci/work.py"]


@pytest.fixture
def elsewhere(tmp_path):
    folder = copy_project(tmp_path / "eine Übung")
    lend_environment(folder)
    return folder


def run(folder, script, argument, command, **environment):
    """Run a command in `folder` with mounts of its own: those that the shell script makes of its argument."""
    shell = ["sh", "-c", f'{script}\nshift; cd "$1"; shift; exec "$@"', "sh", argument, folder]
    return subprocess.run(
        [*NAMESPACES, *map(str, [*shell, *command])],
        env=os.environ | {name: str(value) for name, value in environment.items()},
        capture_output=True,
        text=True,
        timeout=120,
    )


def only_line(answer):
    """Return the one line with which a program has given up."""
    [line] = answer.stderr.splitlines()
    assert answer.returncode == 1
    return line


def test_a_folder_that_cannot_be_written(elsewhere):
    line = only_line(run(elsewhere, READ_ONLY, elsewhere, LAB))
    assert line.startswith("work/, your copy of the notebooks, cannot be made: ")
    assert line.endswith("Copy the whole folder to where you may write, and run `make lab` there.")


def test_a_copy_that_cannot_be_written(elsewhere):
    """JupyterLab would say it only when something is saved."""
    assert "cannot" not in run(elsewhere, ":", elsewhere, WORK).stdout
    [line] = run(elsewhere, READ_ONLY, elsewhere, WORK).stdout.splitlines()
    assert line.startswith("work/ cannot be written: JupyterLab opens it and cannot save. ")


def test_a_copy_that_cannot_be_put_aside(elsewhere):
    run(elsewhere, ":", elsewhere, WORK)
    line = only_line(run(elsewhere, READ_ONLY, elsewhere, [*WORK, "reset"]))
    assert line.startswith("work/ stays where it is: ")
    assert (elsewhere / "work" / BOOKS[0]).read_bytes() == (ROOT / BOOKS[0]).read_bytes()


def test_a_disk_that_is_full_loses_nothing(elsewhere, tmp_path):
    """Half of the copies fit; once there is room, the others follow, and what a learner wrote meanwhile stays."""
    (elsewhere / "work").mkdir()
    second = f"""
mount -t tmpfs -o size=1m none "$1"
"{sys.executable}" "$1/../.ci/work.py" 2> "{tmp_path}/first"
echo mine > "$1/{BOOKS[0]}"
mount -o remount,size=100m "$1"
"""
    check = "import sys; from pathlib import Path; [print(Path(p).stat().st_size) for p in sys.argv[1:]]"
    command = [
        sys.executable,
        "-c",
        f"import subprocess; subprocess.run({WORK}, check=True); {check}",
    ]
    answer = run(
        elsewhere, second, elsewhere / "work", [*command, *(f"work/{book}" for book in BOOKS)]
    )
    [line] = (tmp_path / "first").read_text().splitlines()
    assert "No space left on device" in line
    assert line.endswith("Free some disk, then try again: nothing is lost.")
    sizes = [(ROOT / book).stat().st_size for book in BOOKS]
    assert answer.stdout.split()[-len(BOOKS) :] == [
        str(size) for size in [len("mine\n"), *sizes[1:]]
    ]


@pytest.mark.parametrize(
    ("script", "says"),
    [(READ_ONLY, "Read-only file system"), (FULL, "No space left on device")],
    ids=["read-only", "full"],
)
def test_a_home_that_takes_no_files(elsewhere, tmp_path, script, says):
    """Jupyter would say so in twenty lines, or in a hundred."""
    home = tmp_path / "home"
    home.mkdir()
    line = only_line(run(elsewhere, script, home, LAB, HOME=home))
    assert line.startswith("JupyterLab cannot write to ") and f": {says}. " in line
    assert line.endswith("Free some disk, or name another folder: HOME=/other/folder make lab")


def test_no_folder_for_temporary_files(elsewhere):
    """Each cell would end in a traceback of IPython's. Here no process may write a byte to any file."""
    assert run(elsewhere, ":", elsewhere, WORK).returncode == 0
    line = only_line(run(elsewhere, "ulimit -f 0", elsewhere, LAB))
    assert line.startswith("No folder for temporary files can be written: ")
    assert line.endswith("TMPDIR=/other/folder make lab")


def test_settings_that_cannot_be_written_stay(elsewhere):
    """JupyterLab's defaults, which somebody has changed in this environment, on a full disk."""
    settings = elsewhere / ".venv/share/jupyter/lab/settings/overrides.json"
    settings.parent.mkdir(parents=True, exist_ok=True)
    settings.write_text('{"mine": 1}')
    code = "import sys; sys.path.insert(0, '.ci'); import lab; lab.write_settings(sys.prefix)"
    assert run(elsewhere, "ulimit -f 0", elsewhere, [LAB[0], "-c", code]).returncode == 0
    assert settings.read_text() == '{"mine": 1}'
    assert run(elsewhere, ":", elsewhere, [LAB[0], "-c", code]).returncode == 0
    assert '"mine": 1' in settings.read_text() and len(settings.read_text()) > 100
