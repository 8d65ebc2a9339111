"""The nodes of a Dask cluster, on this machine: commands as one types them on each node, and a wait that ends.

    nodes = Nodes()
    nodes.start("dask scheduler --host 127.0.0.1 --port 0 --scheduler-file scheduler.json")
    nodes.start("dask worker --scheduler-file scheduler.json", CUDA_VISIBLE_DEVICES="0")
    nodes.close()

A command runs in a process of its own, in a folder that they share, and ends with this process at the latest.
"""

import contextlib
import os
import shlex
import signal
import subprocess
import sys
import tempfile
import threading
import time
import weakref
from functools import partial
from pathlib import Path

from tutorial.processes import signal_at_parents_end

_errors = []  # of the calls of within(): see there
PATIENCE = 60  # seconds to wait for a scheduler's file, and for a process to end


class Nodes:
    """Commands that run beside this process, and their shared folder, `folder` (a Path), with a log of each."""

    def __init__(self):
        self._temporary = tempfile.TemporaryDirectory(prefix="nodes-", ignore_cleanup_errors=True)
        self.folder, self._running = Path(self._temporary.name), []
        self._end_all = weakref.finalize(self, _end_all, self._running, self._temporary)

    def start(self, command, **environment):
        """Run a command line of Dask in the folder; return once a scheduler file that it writes is there.

        environment: names and texts, in addition to this process's own. Raises RuntimeError, with the end of the log,
        if the command ends before, and TimeoutError if the file is not there after a minute.
        """
        program, *arguments = shlex.split(command)
        if program != "dask":
            raise ValueError(f"{program}: only commands of Dask are run here, as `dask worker`.")
        log = self.folder / f"{len(self._running)}.log"
        with log.open("w") as file:
            process = subprocess.Popen(
                [sys.executable, "-m", "dask", *arguments],
                cwd=self.folder,
                env={**os.environ, **environment},
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                start_new_session=True,  # Jupyter's interrupt goes to a session
                preexec_fn=partial(signal_at_parents_end, signal.SIGTERM)
                if sys.platform == "linux"
                else None,
            )
        self._running.append(process)
        if arguments[0] == "scheduler" and "--scheduler-file" in arguments:
            self._wait_for(
                self.folder / arguments[arguments.index("--scheduler-file") + 1], process, log
            )

    def _wait_for(self, file, process, log):
        deadline = time.monotonic() + PATIENCE
        while not file.exists():
            if process.poll() is not None:
                last = log.read_text().strip().splitlines()[-1:]
                raise RuntimeError(f"The scheduler has ended: {''.join(last)}")
            if time.monotonic() > deadline:
                raise TimeoutError(f"No scheduler within {PATIENCE} s: is this machine very busy?")
            time.sleep(0.05)

    def end_workers(self):
        """End all commands but schedulers, so that a cell that starts workers may run once more."""
        _end(_but_schedulers(self._running))

    def close(self):
        """End all commands, and remove their folder."""
        self._end_all()


def _end_all(running, temporary):
    """End workers first: one whose scheduler is gone waits a while for it."""
    _end(_but_schedulers(running))
    _end(running)
    temporary.cleanup()


def _but_schedulers(running):
    return [process for process in running if "scheduler" not in process.args]


def _end(processes):
    """Ask processes to end, and wait until they have; kill those that do not."""
    for process in processes:
        process.terminate()
    for process in processes:
        try:
            process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def end_worker(client, worker):
    """End a worker of this machine (its address) as a crash does: at once, and without a word to anybody.

    Returns once the scheduler has noticed: what asks all workers would wait half a minute for one that is gone. Of one
    that has ended before, nothing is asked: a cell that was interrupted may run again.
    """
    if worker not in client.nthreads():
        return
    os.kill(client.run(os.getpid, workers=[worker])[worker], signal.SIGKILL)
    deadline = time.monotonic() + PATIENCE
    while worker in client.nthreads() and time.monotonic() < deadline:
        time.sleep(0.02)


def all_workers(client, n_workers):
    """Wait until n_workers answer, those included that took the place of ended ones; return their addresses, in order.

    Raises TimeoutError after a minute. For a moment after its end, Dask's scheduler still counts a worker; and a nanny
    does not replace a worker that ends before the nanny has heard of its start: both are waited for.
    """

    def ready(dask_worker):  # it runs in the nanny
        return dask_worker.status.name == dask_worker.process.status.name == "running"

    deadline = time.monotonic() + PATIENCE
    while True:
        client.wait_for_workers(n_workers, timeout=PATIENCE)
        answers = client.run(os.getpid, on_error="return")
        nannies = client.run(ready, nanny=True, on_error="return")
        there = [isinstance(answer, int) for answer in answers.values()]
        if len(there) == n_workers and all(there) and list(nannies.values()) == [True] * n_workers:
            return sorted(answers)
        if time.monotonic() > deadline:
            raise TimeoutError(
                f"{n_workers} workers do not answer within {PATIENCE} s: client.restart(timeout=60)"
            )
        time.sleep(0.1)


def fullest(client):
    """Return the address of the worker that holds most results."""
    held = client.has_what()
    return max(held, key=lambda worker: len(held[worker]))


def within(seconds, call):
    """Return call(), or raise TimeoutError once `seconds` have passed, and what the call raises before.

    The call runs in a thread, and goes on there after the time is over: nothing can end a thread. Restart the workers
    that it waits for, and it ends with an error that nobody sees. Errors are kept, with what their frames hold: cuML's
    communicator would tell the workers of its end, also those that are gone.
    """
    answer, late = [], threading.Event()

    def run():
        try:
            found = call(), None
        except BaseException as error:
            found = None, error
            _errors.append(error)
        if not late.is_set():
            answer.append(found)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    late.set()
    if not answer:
        raise TimeoutError(
            f"No answer within {seconds:.3g} s. A worker may have ended, and others wait for it: client.restart()"
        )
    [(value, error)] = answer
    if error is not None:
        raise error
    return value


@contextlib.contextmanager
def expected(*kinds):
    """Show an error of these kinds in one line, and go on: for a cell that shows what goes wrong."""
    try:
        yield
    except kinds as error:
        first = str(error).strip().splitlines() or [""]
        print(f"{type(error).__name__}: {first[0]}")
    else:
        raise AssertionError(f"no {' or '.join(kind.__name__ for kind in kinds)} was raised")
