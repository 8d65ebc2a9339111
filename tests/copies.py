"""Copies of the project in other folders, for tests that set up, start Lab or save notebooks there and not here."""

import shutil
import subprocess
import sys
from pathlib import Path

from tests.books import ROOT


def base_python():
    """Return the Python that this environment was made from: what a newcomer calls python3."""
    command = [sys.executable, "-c", "import sys; print(sys._base_executable)"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def copy_project(folder):
    """Copy every file of the project that git knows or would add to a new folder, and return it."""
    names = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "-z"], cwd=ROOT, capture_output=True
    )
    for name in filter(None, names.stdout.decode().split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    return folder


def lend_environment(folder):
    """Give a copy of the project a .venv that is this environment: the set-up finds it done and installs nothing.

    What holds packages is linked; JupyterLab's settings are the copy's own.
    """
    venv, here = folder / ".venv", Path(sys.prefix)
    lab = Path("share/jupyter/lab")
    (venv / lab).mkdir(parents=True)
    shutil.copy(here / "pyvenv.cfg", venv)
    for name in ("bin", "lib", "include", "etc"):
        if (here / name).exists():
            (venv / name).symlink_to(here / name)
    for path in [*(here / lab.parent).iterdir(), *(here / lab).iterdir()]:
        if path.name not in ("lab", "settings"):
            (venv / path.relative_to(here)).symlink_to(path)
    command = "import sys; sys.path.insert(0, '.ci'); import environment; print(environment.state()[1], end='')"
    fits = subprocess.run(
        [base_python(), "-c", command], cwd=folder, capture_output=True, check=True
    )
    (venv / "installed").write_bytes(fits.stdout)
