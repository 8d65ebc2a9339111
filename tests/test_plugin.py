"""The house checks that run with nbval catch what they are for, and the sanitizers replace what they should."""

import os
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
        (
            "MemoryError: std::bad_alloc: out\nthe worker answers",
            "MemoryError: ...\nthe worker answers",
        ),
        ("5 samples, 120 bytes, 3 steps", "5 samples, 120 bytes, 3 steps"),
    ],
)
def test_sanitizers(raw, clean):
    assert sanitized(raw) == clean


def sanitized(text):
    """Return what nbval compares of an output."""
    for regex, replacement in get_sanitize_patterns(
        (ROOT / "tests" / "sanitize.cfg").read_text(encoding="utf-8")
    ):
        text = re.sub(regex, replacement, text)
    return text


@pytest.mark.parametrize(
    "figure",
    ["0.951", "12", "1,234,567", "-3.5", "1e-05", "1.2e+06", "   7.25", "98 %", "98%", "2.04 s"]
    + ["13 ms", "4.5 µs", "8 ns", "3 min", "79 GiB", "512 B", "1.5 GB/s", "67 TFLOP/s", "2e-05 s"],
)
def test_a_figure_behind_about_is_hidden(figure):
    """The figure and its unit, and nothing else: the words and the figures around them are compared."""
    for behind in ("", ", of 8 rows", " of 8 rows", ".", "; 7 workers", "\n12 rows", "\n"):
        assert sanitized(f"5 fits ≈ {figure}{behind}") == f"5 fits ≈ FIGURE{behind}"


@pytest.mark.parametrize(
    ("raw", "clean"),
    [
        ("rows ≈ 2 samples", "rows ≈ FIGURE samples"),  # a word that begins like a unit
        ("≈ 3 Bytes, 4 sets", "≈ FIGURE Bytes, 4 sets"),
        ("≈ 3 GB/row", "≈ FIGURE GB/row"),  # another unit than that of the rule
        ("≈ 2.1 times", "≈ FIGURE times"),
        ("≈ 1, 2, 3", "≈ FIGURE, 2, 3"),  # one sign, one figure
        ("≈ 0.5 and ≈ 0.7", "≈ FIGURE and ≈ FIGURE"),
        ("≈ 12\nGiB", "≈ FIGURE\nGiB"),
        ("≈\n12", "≈\n12"),
        ("≈ nan", "≈ nan"),
        ("≈ inf s", "≈ inf s"),
        ("≈ several", "≈ several"),
        ("0.951 is the score", "0.951 is the score"),
    ],
)
def test_about_hides_no_more_than_a_figure(raw, clean):
    assert sanitized(raw) == clean


def test_what_stands_beside_a_figure_is_compared(verdicts):
    cells = [
        ("print('ROC AUC ≈ 0.951 of 8 rows')", "ROC AUC ≈ 0.87 of 8 rows\n"),
        ("print('ROC AUC ≈ 0.951 of 8 rows')", "ROC AUC ≈ 0.951 of 9 rows\n"),
        ("print('ROC AUC ≈ nan')", "ROC AUC ≈ 0.951\n"),
    ]
    assert verdicts(cells) == {
        "Cell 0": True, "Cell 1": False, "Cell 2": False, "nothing is left": True}  # fmt: skip


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


def test_a_process_left_on_a_gpu_is_found_beside_those_of_others(monkeypatch):
    """Another notebook's workers, and other programs, may use the GPUs while this one is tested."""
    wait = [sys.executable, "-c", "input()"]
    marks = {"this one": "1 a.ipynb", "another": "2 b.ipynb", "a program": None}
    users = {}
    for name, mark in marks.items():
        environment = {**os.environ, nbval_plugin.RUN: mark or ""}
        users[name] = subprocess.Popen(wait, stdin=subprocess.PIPE, env=environment)
    try:
        pids = {name: user.pid for name, user in users.items()}
        answer = [[str(pid)] for pid in [*pids.values(), os.getpid(), 2**22 + 1]]
        monkeypatch.setattr(nbval_plugin, "smi", lambda query: answer)
        assert nbval_plugin.left_on_gpus(os.getpid(), "1 a.ipynb") == [pids["this one"]]
        assert nbval_plugin.left_on_gpus(os.getpid(), "3 c.ipynb") == []
        assert nbval_plugin.left_on_gpus(pids["another"] + 2**22, "1 a.ipynb") is None
    finally:
        for user in users.values():
            user.communicate(b"\n")
