"""What a learner does in JupyterLab: interrupts a cell and runs it again, runs the cell of the cluster twice."""

import logging
import time

from tutorial import clusters

import dask
import psutil
import pytest
from dask.distributed import Client, LocalCluster
from jupyter_client.manager import KernelManager
from nbval.kernel import NbvalKernelspecManager
from tornado.websocket import WebSocketClosedError

from tests.books import LESSONS, ROOT, read
from tests.nbval_plugin import footprint

START = """
from dask.distributed import Client, Event
from tutorial.device import GPU
from tutorial.measure import seconds
if GPU:
    from dask_cuda import LocalCUDACluster
else:
    from tutorial.cpu_stand_ins import LocalCUDACluster
cluster = LocalCUDACluster(dashboard_address="127.0.0.1:0")
client = Client(cluster)
"""
FINISH = "client.close()\ncluster.close()"


class Kernel:
    """A kernel as JupyterLab starts it: a process group of its own, in the folder of the notebooks or another one."""

    def __init__(self, folder=ROOT / "notebooks"):
        self.manager = KernelManager(
            kernel_name=":nbval-parent-env", kernel_spec_manager=NbvalKernelspecManager()
        )
        self.manager.start_kernel(cwd=str(folder))
        self.process = psutil.Process(self.manager.provisioner.pid)
        self.client = self.manager.client()
        self.client.start_channels()
        self.client.wait_for_ready(timeout=60)

    def stop(self):
        """End the kernel and what it has left."""
        left = self.process.children(recursive=True)
        self.client.stop_channels()
        self.manager.shutdown_kernel(now=True)
        for child in left:
            if child.is_running():
                child.kill()

    def start(self, code, says=None):
        """Start a cell; where `says` is given, return once the cell has printed it."""
        cell = self.client.execute(code)
        while says and (message := self.client.get_iopub_msg(timeout=60)):
            assert message["msg_type"] != "error", message["content"]["traceback"]
            if message["msg_type"] == "stream" and says in message["content"]["text"]:
                break
        return cell

    def end(self, cell, timeout=60):
        """Wait until a cell has ended; return the name of its error, or None."""
        error = None
        while message := self.client.get_iopub_msg(timeout=timeout):
            if message["parent_header"].get("msg_id") != cell:
                continue
            if message["msg_type"] == "error":
                error = message["content"]["ename"]
            if message["content"].get("execution_state") == "idle":
                return error

    def run(self, code):
        """Run a cell that must not fail."""
        assert self.end(self.start(code)) is None, code

    def interrupt(self):
        """Press Kernel > Interrupt once."""
        self.manager.interrupt_kernel()

    def children(self):
        """Return the ids of all processes that the kernel has started."""
        return {child.pid for child in self.process.children(recursive=True)}

    def left(self):
        """Return the open ports and the worker processes."""
        return footprint(self.process)[:2]


@pytest.fixture
def kernel():
    kernel = Kernel()
    try:
        yield kernel
    finally:
        kernel.stop()


TASK = """
def task():
    Event("it runs").set()
    Event("gate").wait()


def run():
    future = client.submit(task, pure=False)
    Event("it runs").wait()
    print("it runs", flush=True)
    future.result()


seconds(run)
"""
# the cell that closes, on a machine so busy that it takes seconds
SLOW_FINISH = """
import asyncio
correct = cluster._correct_state


async def slow():
    cluster._correct_state = correct
    print("it closes", flush=True)
    await asyncio.sleep(3)
    await correct()


cluster._correct_state = slow
client.close()
cluster.close()
"""
# garbage that interrupts the kernel when it is collected, as if the key was pressed then
GARBAGE = """
import gc, os, signal


class Garbage:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGINT)


gc.disable()
garbage = Garbage()
garbage.itself = garbage
del garbage
seconds(bool)
"""
BESIDE = """
from dask.distributed import LocalCluster
options = {"n_workers": 1, "threads_per_worker": 1, "dashboard_address": "127.0.0.1:0"}
with LocalCluster(**options) as host, Client(host) as host_client:
    assert host_client.submit(abs, -1).result() == 1
"""


def test_an_interrupted_cell_runs_again_on_the_same_workers(kernel):
    ports, _ = kernel.left()
    kernel.run(START)
    before = kernel.children()
    running = kernel.start(TASK, says="it runs")
    kernel.interrupt()
    assert kernel.end(running) == "KeyboardInterrupt"
    kernel.run("Event('gate').set()")
    kernel.run(TASK)
    assert kernel.children() == before
    kernel.run(FINISH)
    assert kernel.left() == (ports, [])


def test_one_interrupt_is_enough_while_garbage_is_collected(kernel):
    kernel.run("from tutorial.measure import seconds")
    assert kernel.end(kernel.start(GARBAGE)) == "KeyboardInterrupt"


def test_an_interrupted_start_of_a_cluster_leaves_nothing(kernel):
    ports, _ = kernel.left()
    starting = kernel.start(START + "import threading; threading.Event().wait()")
    while not kernel.left()[1]:
        time.sleep(0.01)
    kernel.interrupt()
    assert kernel.end(starting) == "KeyboardInterrupt"
    kernel.run(START)
    kernel.run(FINISH)
    assert kernel.left() == (ports, [])


def test_an_interrupted_cell_that_closes_runs_again(kernel):
    """By itself Dask would wait for ever for the first attempt, which it has cancelled."""
    ports, _ = kernel.left()
    kernel.run(START)
    closing = kernel.start(SLOW_FINISH, says="it closes")
    kernel.interrupt()
    assert kernel.end(closing) == "KeyboardInterrupt"
    kernel.run(FINISH)
    kernel.run("assert cluster.status.name == 'closed'")
    assert kernel.left() == (ports, [])


def test_a_lost_cluster_is_closed_and_others_are_kept(kernel):
    kernel.run(START)
    _, first = kernel.left()
    kernel.run(BESIDE)
    assert kernel.left()[1] == first
    kernel.run(START)
    _, second = kernel.left()
    assert len(second) == len(first) and not set(first) & set(second)
    kernel.run("held = [cluster]; del cluster")  # its client is open
    assert kernel.left()[1] == second
    kernel.run("client = client.close()")
    assert kernel.left()[1] == []


@pytest.mark.parametrize("book", LESSONS)
def test_the_cell_of_the_cluster_runs_twice(book, kernel):
    """The second run closes the cluster of the first; after the Finish cell nothing is left."""
    cells = {cell.id: cell.source for cell in read(book).cells}
    start = [cells[name] for name in ("start-cluster", "capped-cluster") if name in cells]
    if not start:  # the challenge: what a learner writes there
        solution = {cell.id: cell.source for cell in read(LESSONS[-1]).cells}
        start = [solution["start-cluster"]]
    ports, _ = kernel.left()
    kernel.run(cells["imports"])
    if "part-2-imports" in cells and len(start) > 1:
        kernel.run(cells["part-2-imports"])
    for cell in start:
        kernel.run(cell)
        _, first = kernel.left()
        kernel.run(cell)
        _, second = kernel.left()
        assert first and len(second) == len(first) and not set(first) & set(second)
    kernel.run(cells["close"])
    assert kernel.left() == (ports, [])


def passes(name, text, error):
    """Tell, on a worker, whether this log of its would write such a line."""
    logger, exc_info = logging.getLogger(name), (type(error), error, None) if error else None
    record = logger.makeRecord(name, logging.ERROR, "", 0, text, (), exc_info)
    return bool(logger.filter(record))


def test_a_worker_does_not_report_that_its_cluster_closes():
    """A heartbeat that finds the scheduler gone, or its own end begun, would write a traceback below the Finish cell.

    Other lines stay.
    """
    closed, other = RuntimeError(clusters.CLOSED), RuntimeError("out of memory")
    quiet = [("distributed.worker", text, None) for text in clusters.CLOSING]
    quiet += [
        ("distributed.worker", "Unexpected exception during heartbeat. Closing worker.", closed)
    ]
    quiet += [
        ("tornado.application", "Exception in callback <bound method Worker.heartbeat>", closed)
    ]
    loud = [("distributed.worker", "Compute Failed", None)]
    loud += [(name, "Exception in callback", other) for name, *_ in quiet[-2:]]
    with (
        dask.config.set({"distributed.nanny.preload": ["tutorial.clusters"]}),
        LocalCluster(n_workers=1, dashboard_address="127.0.0.1:0") as cluster,
        Client(cluster) as client,
    ):
        said = {line: client.run(passes, *line).popitem()[1] for line in quiet + loud}
    assert [line for line in said if said[line]] == loud


@pytest.mark.parametrize(
    ("error", "request_line", "shown"),
    [
        (WebSocketClosedError(), "GET /status", False),
        (AssertionError(), "GET /individual-progress/ws (127.0.0.1)", False),
        (AssertionError(), "GET /status (127.0.0.1)", True),
        (None, "GET /status (127.0.0.1)", True),
    ],
)
def test_a_page_of_the_dashboard_that_is_closed_is_no_error_of_a_cell(error, request_line, shown):
    """Its server lives in the kernel: what it logs would stand in red below a cell."""
    exc_info = (type(error), error, None) if error else None
    what = ("Uncaught exception %s", (request_line,))
    record = logging.LogRecord("tornado.application", logging.ERROR, "", 0, *what, exc_info)
    assert clusters.is_no_closed_page(record) == shown
