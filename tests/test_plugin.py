"""The house checks that run with nbval catch what they are for, and the sanitizers replace what they should."""

import re
import subprocess
import sys

from tutorial import device

import nbformat
import pytest
from nbval.plugin import get_sanitize_patterns

from tests import nbval_plugin
from tests.books import ROOT, write
from tests.nbval_plugin import gpu_engines

pytestmark = pytest.mark.setup

LEFT_OPEN = """
import subprocess, sys
from dask.distributed import LocalCluster
cluster = LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address="127.0.0.1:0")
"""
EXPOSED = """
import socket
server = socket.create_server(("0.0.0.0", 0))
"""


def pytest_alone(*arguments):
    """Run pytest with this project's settings, in one process, on a file that lies elsewhere."""
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-c",
        "pyproject.toml",
        "--rootdir",
        ".",
        "-n0",
        *map(str, arguments),
    ]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


@pytest.fixture
def verdicts(tmp_path):
    """Return a function that runs cells, given with the output recorded for each, under nbval; name -> passed."""

    def run(cells):
        notebook = nbformat.v4.new_notebook()
        for number, (source, output) in enumerate(cells, start=1):
            outputs = (
                [nbformat.v4.new_output("stream", name="stdout", text=output)] if output else []
            )
            notebook.cells.append(
                nbformat.v4.new_code_cell(source, execution_count=number, outputs=outputs)
            )
        path = tmp_path / "planted.ipynb"
        write(notebook, path)
        answer = pytest_alone("-vv", path)
        found = re.findall(r"::(Cell \d+|nothing is left) (PASSED|FAILED)", answer.stdout)
        assert len(found) == len(cells) + 1, answer.stdout
        return {name: verdict == "PASSED" for name, verdict in found}

    return run


def test_a_cluster_left_open_is_caught(verdicts):
    assert verdicts([(LEFT_OPEN, "")]) == {"Cell 0": True, "nothing is left": False}


def test_a_server_on_every_interface_is_caught(verdicts):
    assert verdicts([(EXPOSED, ""), ("server.close()", "")]) == {
        "Cell 0": False, "Cell 1": True, "nothing is left": True}  # fmt: skip


def test_an_unexpected_stderr_is_shown(tmp_path):
    cell = nbformat.v4.new_code_cell("import sys; print('a warning', file=sys.stderr)")
    cell.execution_count = 1
    path = tmp_path / "planted.ipynb"
    write(nbformat.v4.new_notebook(cells=[cell]), path)
    answer = pytest_alone(path)
    assert answer.returncode == 1
    assert re.search(r"Captured stderr of the kernel: call -+\na warning\n", answer.stdout)


# as a log of Dask's event loop, which begins in one cell and writes in another
CONTEXT = "import contextvars, sys; context = contextvars.copy_context()"
IN_THE_CONTEXT = "context.run(print, 'a late warning', file=sys.stderr)"
# as a worker, past the kernel's sys.stderr
PROCESS = """
import subprocess, sys
code = "import sys; print(input(), file=sys.stderr)"
child = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, text=True)
"""
IN_THE_PROCESS = "_ = child.communicate('a late warning')"


@pytest.mark.parametrize(("begin", "write"), [(CONTEXT, IN_THE_CONTEXT), (PROCESS, IN_THE_PROCESS)])
def test_stderr_that_belongs_to_an_earlier_cell_is_caught(verdicts, begin, write):
    """By the cell that runs, or by the next one: a process's text takes a moment to arrive."""
    found = verdicts([(begin, ""), (write, "")])
    assert found.pop("Cell 0") and not all(found.values())


def test_the_user_s_profile_stays_out(tmp_path, monkeypatch, verdicts):
    """A start-up file of IPython, say one that imports and prints, changes no cell under nbval."""
    start = tmp_path / "profile_default/startup"
    start.mkdir(parents=True)
    (start / "mine.py").write_text("seven = 7\n")
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path))
    assert verdicts([("print('seven' in globals())", "False\n")])["Cell 0"]


def test_a_changed_output_is_caught_and_times_are_not(verdicts):
    cells = [
        ("print(1 + 1)", "3\n"),
        ("print('a fit took 0.12 s')", "a fit took 3.4 s\n"),
        ("print('Device: another one')", "Device: the one that recorded\n"),
    ]
    assert verdicts(cells) == {
        "Cell 0": False,
        "Cell 1": True,
        "Cell 2": True,
        "nothing is left": True,
    }


def test_gpu_engines_in_an_output_of_a_cpu_run():
    def output(text):
        return [nbformat.v4.new_output("stream", name="stdout", text=text)]

    assert gpu_engines(output("cuML fit: 0.1 s on one GPU")) == ["GPU", "cuML"]
    assert (
        gpu_engines(output("Device: CPU, 2 cores; no NVIDIA GPU found\nscikit-learn fit: 0.1 s"))
        == []
    )


def test_where_figures_were_recorded_may_be_named():
    """Only in a line of its own that begins so: figures recorded elsewhere do not pass for this run's."""

    def html(text):
        return [nbformat.v4.new_output("display_data", data={"text/html": text})]

    line = "Recorded on: 2 x NVIDIA H200, driver 580.1, cudf 26.10"
    assert gpu_engines(html(f"<p>\n{line}\n</p>\n<table><td>ucx</td></table>")) == []
    assert gpu_engines(html(f"<p>{line}</p>")) == ["H200", "NVIDIA", "cudf"]
    assert gpu_engines(html(f"<p>\n{line}\n</p>\n<td>cuDF: 0.1 s</td>")) == ["cuDF"]


def test_every_sanitizer_rule_is_read():
    """A rule whose empty `replace: ` has lost its blank is dropped in silence."""
    text = (ROOT / "tests" / "sanitize.cfg").read_text(encoding="utf-8")
    rules = get_sanitize_patterns(text)
    assert (
        len(rules)
        == len(re.findall("^regex:", text, re.MULTILINE))
        == len(re.findall("^replace:", text, re.MULTILINE))
    )


@pytest.mark.parametrize(
    ("raw", "clean"),
    [
        ("Device: 1 x NVIDIA H100\nnext", "Device: ...\nnext"),
        ("Ran on: CPU, 2 cores", "Ran on: ..."),
        ("one 0.12 s, two 13 ms, three 4.5 µs", "oneTIME, twoTIME, threeTIME"),
        ("http://127.0.0.1:8787/status", "http://127.0.0.1:PORT/status"),
        ("<Figure size 450x400 with 1 Axes>", "<Figure>"),
        ("5 samples, 120 bytes, 3 steps", "5 samples, 120 bytes, 3 steps"),
    ],
)
def test_sanitizers(raw, clean):
    for regex, replacement in get_sanitize_patterns(
        (ROOT / "tests" / "sanitize.cfg").read_text(encoding="utf-8")
    ):
        raw = re.sub(regex, replacement, raw)
    assert raw == clean


def test_a_skipped_test_fails_the_run(tmp_path):
    (tmp_path / "test_skipped.py").write_text("import pytest\ndef test_it():\n    pytest.skip()\n")
    answer = pytest_alone(tmp_path / "test_skipped.py")
    assert "1 skipped" in answer.stdout and answer.returncode == 1


def test_a_gpu_that_the_run_does_not_see_is_anothers(monkeypatch):
    """With CUDA_VISIBLE_DEVICES set, another program may fill the other GPU meanwhile."""
    answers = {
        "--query-gpu=uuid,memory.used": [["GPU-a", "900"], ["GPU-b", "100"]],
        "--query-compute-apps=gpu_uuid,pid,used_memory": [
            ["GPU-a", "8", "900"],
            ["GPU-b", "7", "60"],
        ],
    }
    seen = device.Gpu("NVIDIA H100", "GPU-b", 1, 1, (9, 0), "580.0", 13000)
    monkeypatch.setattr(nbval_plugin, "smi", answers.get)
    monkeypatch.setattr(device, "gpus", lambda: [seen])
    assert nbval_plugin.memory_of_others(7) == [40]
    seen.uuid = "MIG-c"  # which is in no line of nvidia-smi: then all GPUs count, as ever
    assert nbval_plugin.memory_of_others(7) == [900, 40]
