"""A kernel that is killed leaves no worker; what it leaves otherwise, `make stop` ends, and nothing else."""

import os
import re
import signal
import subprocess
import sys
import time

from tutorial import processes

import psutil
import pytest

from tests.copies import copy_project
from tests.test_interrupt import START, Kernel

pytestmark = pytest.mark.setup
# one worker is in a call into C that keeps Python's lock for hours, the other is stopped
BUSY = """
import os, signal, time
from pathlib import Path


def hold():
    Event("it runs").set()
    sum(range(10**15))


def used():
    return int(Path(f"/proc/{first}/stat").read_text().rpartition(")")[2].split()[11])


(worker, first), (_, second) = client.run(os.getpid).items()
os.kill(second, signal.SIGSTOP)
future = client.submit(hold, workers=[worker])
Event("it runs").wait()
before = used()
while used() < before + 20:  # ticks of the clock
    time.sleep(0.05)
"""
# what a notebook starts beside its clusters; each ends when its input does, or not at all
STARTED = """
import subprocess, sys
import tutorial
started = []
for arguments in {commands}:
    command = [sys.executable, *arguments]
    started.append(subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True))
print("started", *[each.pid for each in started], flush=True)
"""
SLEEP = "import time; time.sleep(600)"
SCHEDULER = "-m dask scheduler --host 127.0.0.1 --port 0 --no-dashboard".split()
LIKE_A_WORKER = ["-c", SLEEP, "dask", "worker"]


def wait_until(condition):
    """Return once a function returns true; fail after a minute."""
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.fixture
def ends():
    """Return a list of processes, psutil's or subprocess's, that the test has started: they end with it."""
    started = []
    yield started
    for process in started:
        try:
            process.kill()
        except psutil.NoSuchProcess:
            pass
        process.wait(30)


def test_a_killed_kernel_leaves_no_worker(ends):
    """Whatever they do: Dask's own watch needs Python's lock, and a process that is not stopped."""
    kernel = Kernel()
    try:
        kernel.run(START)
        ends += kernel.process.children(recursive=True)
        if sys.platform == "linux":
            kernel.run(BUSY)
        kernel.process.kill()
        wait_until(lambda: not any(runs(process) for process in ends))
        assert len(ends) > 1
    finally:
        kernel.stop()


def runs(process):
    """Tell whether a process of psutil's still runs; one that nobody has buried does not."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def stop(folder):
    """Run `make stop` in a copy of the project; return its lines."""
    command = ["make", "--no-print-directory", "stop", f"PYTHON={sys.executable}"]
    answer = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120)
    assert (answer.returncode, answer.stderr) == (0, "")
    return answer.stdout.splitlines()


def start(kernel, *commands):
    """Have a kernel start Python with these arguments; return the processes."""
    kernel.client.execute(STARTED.format(commands=list(commands)))
    while message := kernel.client.get_iopub_msg(timeout=60):
        text = message["content"].get("text", "")
        if message["msg_type"] == "stream" and text.startswith("started "):
            return [psutil.Process(int(pid)) for pid in text.split()[1:]]


def test_stop_ends_what_a_killed_kernel_has_left_and_nothing_else(ends, tmp_path):
    """A real scheduler stays; another program of that kernel does too, and so do others' schedulers."""
    folder = copy_project(tmp_path / "eine Übung")
    assert stop(folder) == [
        "Nothing to end: no killed kernel of this folder has left a Dask process."
    ]
    kernel, other = Kernel(folder / "notebooks"), Kernel(folder / "notebooks")
    try:
        scheduler, program = start(kernel, SCHEDULER, ["-c", SLEEP])
        [of_the_other] = start(other, LIKE_A_WORKER)
        wait_until(lambda: scheduler.net_connections())
        mark = scheduler.environ()[processes.MARK]
        elsewhere, another_machine = mark + "-2", re.sub(r" \S+:", " another:", mark)
        unmarked = {key: value for key, value in os.environ.items() if key != processes.MARK}
        others = [
            subprocess.Popen([sys.executable, *SCHEDULER], env=unmarked, stderr=subprocess.DEVNULL),
            *(
                subprocess.Popen([sys.executable, *LIKE_A_WORKER], env=unmarked | {processes.MARK: value})
                for value in (elsewhere, another_machine)
            ),
        ]  # fmt: skip
        ends += [scheduler, program, of_the_other, *others]
        kept = "Kept: 2 Dask processes of kernels that run, as process {}, {}."
        numbers = sorted([kernel.process.pid, other.process.pid])
        assert stop(folder)[1].startswith(kept.format(*numbers))
        kernel.process.kill()
        ended, kept = stop(folder)
        assert re.fullmatch(
            rf"Ended: scheduler, process {scheduler.pid}, \d+ \w+ old; its kernel {kernel.process.pid} is gone\.",
            ended,
        )
        assert kept.startswith(
            f"Kept: 1 Dask processes of kernels that run, as process {other.process.pid}."
        )
        assert not runs(scheduler)
        assert all(map(runs, [program, of_the_other])) and not any(each.poll() for each in others)
        assert stop(folder)[0].startswith("Nothing to end: ")
    finally:
        kernel.stop()
        other.stop()


def test_another_user_s_processes_are_left_alone(ends, monkeypatch):
    gone = processes.mark().split(" ", 2)
    gone[1] = "1"  # as if another process had this number now
    environment = os.environ | {processes.MARK: " ".join(gone)}
    worker = subprocess.Popen([sys.executable, *LIKE_A_WORKER], env=environment)
    ends.append(worker)
    [found] = [each for each in processes.all_of_this_folder() if each.pid == worker.pid]
    assert (found.kind, found.kernel, found.left) == ("worker", os.getpid(), True)
    user = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: user + 1)
    assert processes.all_of_this_folder() == []


def test_a_process_that_does_not_listen_is_killed(ends):
    code = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(1, flush=True); time.sleep(600)"
    deaf = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    ends.append(deaf)
    deaf.stdout.readline()
    process = processes.Process(deaf.pid, processes._began(deaf.pid), "worker", 1, True)
    assert 0 <= process.age() < 60
    assert processes.end([process], patience=0.3) == []
    assert deaf.wait(30) == -signal.SIGKILL
    number = subprocess.Popen([sys.executable, "-c", SLEEP])
    ends.append(number)
    process.pid = number.pid  # another process has its number now
    assert processes.end([process], patience=0.3) == [] and number.poll() is None


@pytest.mark.parametrize(
    ("command", "kind"),
    [
        ("python -c from multiprocessing.spawn import spawn_main; spawn_main() --multiprocessing-fork", "worker"),
        ("python -c from multiprocessing.resource_tracker import main;main(64)", "helper"),
        ("python -m dask worker tcp://127.0.0.1:1", "worker"),
        ("python /env/bin/dask cuda worker tcp://127.0.0.1:1", "worker"),
        ("python /env/bin/dask-scheduler", "scheduler"),
        ("python -m distributed.cli.dask_spec --spec-file x", "spec"),
        ("python -m distributed.cli.dask_worker tcp://127.0.0.1:1", "worker"),
        ("python -m ipykernel_launcher -f dask.json", None),
        ("vim dask/worker.py", None),
    ],
)  # fmt: skip
def test_what_a_command_runs(command, kind):
    assert processes._kind(command) == kind


def test_without_proc_one_line_says_what_to_do(monkeypatch, capsys):
    """As on macOS."""
    monkeypatch.syspath_prepend(str(processes.ROOT) + "/.ci")
    import stop as program

    monkeypatch.setattr(program.os.path, "exists", lambda path: False)
    with pytest.raises(SystemExit) as end:
        program.main()
    assert "\n" not in end.value.code and "`kill -9`" in end.value.code
