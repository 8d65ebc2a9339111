"""The nodes of Many machines, and its exercises: what ends, what comes back, what each check says."""

import os
import signal
import subprocess
import sys
import time

from tutorial import nodes
from tutorial.checks import check

import dask.array as da
import numpy as np
import psutil
import pytest
from dask.distributed import Client, Event, Future, wait

SCHEDULER = "dask scheduler --host 127.0.0.1 --port 0 --no-dashboard --scheduler-file s.json"
WORKER = "dask worker --scheduler-file s.json --host 127.0.0.1 --nthreads 1 --no-dashboard"


@pytest.fixture(scope="module")
def client():
    """A client of a scheduler and two workers that are processes of their own."""
    here = nodes.Nodes()
    here.start(SCHEDULER)
    for _ in range(2):
        here.start(WORKER)
    with Client(scheduler_file=str(here.folder / "s.json"), timeout=60) as client:
        client.wait_for_workers(2, timeout=60)
        yield client
    here.close()
    assert not here.folder.exists()
    assert not [child for child in psutil.Process().children() if "dask" in child.cmdline()]


@pytest.fixture
def draw():
    """The function of the page; one of a notebook travels whole, one of this module would not."""

    def draw(seed):
        return float(np.random.default_rng(seed).random())

    return draw


def test_the_fullest_worker(client):
    workers = nodes.all_workers(client, 2)
    for each in workers:
        kept = client.scatter(list(range(5)), workers=[each], hash=False)
        assert nodes.fullest(client) == each
        del kept


def test_a_cell_that_starts_workers_runs_again():
    """end_workers ends those of an earlier run, and the scheduler stays."""
    here = nodes.Nodes()
    here.start(SCHEDULER)
    with Client(scheduler_file=str(here.folder / "s.json"), timeout=60) as client:
        found = []
        for _ in range(2):
            here.end_workers()
            here.start(WORKER)
            client.wait_for_workers(1, timeout=60)
            found.append(nodes.all_workers(client, 1))
        assert found[0] != found[1]
    here.close()


def test_an_ended_worker_is_replaced(client):
    before = nodes.all_workers(client, 2)
    nodes.end_worker(client, before[0])
    assert before[0] not in client.nthreads()
    after = nodes.all_workers(client, 2)
    assert before[0] not in after and before[1] in after
    nodes.end_worker(client, before[0])  # a cell that was interrupted runs again
    assert nodes.all_workers(client, 2) == after


def test_a_worker_killed_during_an_svd(client):
    """Of notebook 1: Dask makes the lost blocks again, and the singular values are the same."""
    workers = nodes.all_workers(client, 2)
    A = da.random.default_rng(seed=7).standard_normal((20_000, 50), chunks=(1000, 50))
    started = Event("svd")

    def slow(block):
        started.set()
        time.sleep(0.1)
        return block

    _, before, _ = da.linalg.svd(A)
    _, after, _ = da.linalg.svd(A.map_blocks(slow))
    before, future = before.compute(), client.compute(after)
    assert started.wait(timeout=30)
    nodes.end_worker(client, workers[0])
    np.testing.assert_allclose(future.result(timeout=60), before, rtol=1e-12)
    assert workers[0] not in nodes.all_workers(client, 2)


def test_what_is_at_risk(client):
    rows = da.ones((60, 2), chunks=(10, 2)).persist()
    wait(rows)
    holders = [worker for [worker] in client.who_has(rows).values()]
    first = holders[0]
    right = 10 * holders.count(first)
    assert 0 < right < 60
    for answer, says in [
        (..., "To do: store in `at_risk`"),
        (right, "Solved: "),
        (np.int64(right), "Solved: "),
        (right // 10, "Wrong: These are the chunks"),
        (60, "Wrong: These are all rows"),
        (right + 1, f"Wrong: {right + 1} is not it"),
    ]:
        assert repr(check("rows-at-risk", answer, rows, first)).startswith(says)


def test_what_has_a_recipe(client, draw):
    numbers = [draw(seed) for seed in range(4)]
    wrong_order = client.map(draw, [1, 0, 2, 3])
    for answer, says in [
        (..., "To do: store four futures"),
        (client.map(draw, range(4)), "Solved: "),
        ([client.submit(draw, seed) for seed in range(4)], "Solved: "),
        (client.scatter(numbers, hash=False), "Wrong: These numbers were made here"),
        (numbers, "Wrong: `parts` is of type list"),
        (client.map(draw, range(3)), "Wrong: There are 3 futures"),
        (wrong_order, "Wrong: Future 0 is not `draw(0)`"),
        (client.map(lambda seed: seed / 0, range(4)), "Wrong: The task of future 0 failed: Zero"),
    ]:
        assert repr(check("with-a-recipe", answer, draw)).startswith(says)
    assert all(isinstance(future, Future) for future in wrong_order)


def test_a_wait_that_ends(client):
    def right(future, limit):
        try:
            return future.result(timeout=limit)
        except TimeoutError:
            return "no answer"

    for answer, says in [
        (lambda future, limit: ..., "To do: write `answer_of`"),
        (right, "Solved: "),
        (lambda future, limit: future.result(timeout=limit), "Wrong: The wait ended with Timeout"),
        (lambda future, limit: "no answer", "Wrong: A task whose result is 3 gave 'no answer'"),
        (lambda future, limit: right(future, limit) and 3, "Wrong: A task that never ends gave 3"),
    ]:
        for _ in range(2):  # the first leaves nothing behind that answers the second
            assert repr(check("patience", answer)).startswith(says)
    assert client.submit(sum, [1, 2], pure=False).result(timeout=30) == 3  # no worker is occupied


def test_within():
    """The answer, the call's own error, or one line when the time is over."""
    assert nodes.within(30, lambda: 7) == 7
    with pytest.raises(ZeroDivisionError):
        nodes.within(30, lambda: 1 / 0)
    with pytest.raises(TimeoutError, match=r"^No answer within 0.1 s\. .*client\.restart\(\)$"):
        nodes.within(0.1, lambda: time.sleep(5))


def test_said(capsys):
    with nodes.expected(OSError):
        raise ConnectionError("first line\nsecond")
    assert capsys.readouterr().out == "ConnectionError: first line\n"
    with pytest.raises(ValueError), nodes.expected(OSError):
        raise ValueError("another kind")
    with pytest.raises(AssertionError, match="no OSError was raised"), nodes.expected(OSError):
        pass


def test_a_command_that_cannot_start():
    here = nodes.Nodes()
    with pytest.raises(RuntimeError, match=r"^The scheduler has ended: .*--no-such-option"):
        here.start(SCHEDULER + " --no-such-option")
    with pytest.raises(ValueError, match="^ls: only commands of Dask"):
        here.start("ls")
    here.close()


OWNER = f"""
import os, signal
from tutorial.nodes import Nodes
nodes = Nodes()
nodes.start("{SCHEDULER}")
nodes.start("{WORKER}")
print(*(process.pid for process in nodes._running), flush=True)
signal.pause()
"""


@pytest.mark.setup
def test_nodes_end_with_a_killed_kernel():
    owner = subprocess.Popen([sys.executable, "-c", OWNER], stdout=subprocess.PIPE, text=True)
    started = [psutil.Process(int(pid)) for pid in owner.stdout.readline().split()]
    assert len(started) == 2
    os.kill(owner.pid, signal.SIGKILL)
    owner.wait()
    _, left = psutil.wait_procs(started, timeout=60)
    assert not left
