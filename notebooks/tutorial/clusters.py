"""What the kernel of a notebook does for its clusters: it keeps the workers at an interrupt, and closes a lost cluster.

`introduce` lets the workers of a cluster say who they are.

Jupyter interrupts a kernel with SIGINT, and sends it to all processes that the kernel has started: Dask's workers would
end, and the next cell would wait for them. And a cell that starts a cluster may be run twice: the cluster of the first
run would keep its workers, its ports and its memory until the kernel ends.
"""

import asyncio
import logging
import os
import signal
import threading
from contextlib import suppress
from multiprocessing import resource_tracker

from tutorial import device

import dask
from dask.distributed import Client, Nanny, Status
from distributed.deploy.spec import SpecCluster

# a heartbeat between the end of the scheduler and that of the worker
CLOSING = ("Failed to communicate with scheduler during heartbeat", "Scheduler was unaware of this")
OPEN = (Status.created, Status.starting, Status.running)


def look_after(shell):
    """Keep the workers of every cluster that this process starts, and close its lost clusters after each cell.

    shell: IPython's InteractiveShell.
    """
    dask.config.set({"distributed.nanny.preload": [__name__]})
    shell.events.register("post_run_cell", _Closer(shell.user_ns))


def dask_setup(server):
    """Prepare a nanny for its worker, or a worker for its end: Dask calls this before it starts either.

    A nanny lives in a thread of the kernel, and a process starts with the signals blocked that its parent's thread
    blocks. So a worker is deaf to SIGINT from its first moment on, that of a LocalCUDACluster, too. And it loads this
    module: then its log keeps quiet about a scheduler that is gone, as it is when a cluster closes.
    """
    if not isinstance(server, Nanny):
        logging.getLogger("distributed.worker").addFilter(is_no_news)
        return
    server.preload = [*server.preload, __name__]
    resource_tracker.ensure_running()  # multiprocessing's helper, deaf by itself, unblocks signals as it starts
    if threading.current_thread() is not threading.main_thread():
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})


def is_no_news(record):
    """Tell whether a worker's log should have a record: not if it says what happens whenever a cluster closes."""
    return not record.getMessage().startswith(CLOSING)


def introduce(client):
    """Return a row for each worker of a client: its number, its device as the worker itself names it, its process.

    On a GPU each worker adds a few numbers first, so that a row means that its GPU computes.
    """
    answers = client.run(_introduce, device.GPU).values()
    return [[number, name, str(process)] for number, (name, process) in enumerate(answers)]


def _introduce(on_gpu):
    """Return the name of this worker's device and the number of its process."""
    if not on_gpu:
        return "the processor", os.getpid()
    import cupy

    if int(cupy.arange(5).sum()) != 10:
        raise RuntimeError("this worker's GPU does not add up 0, 1, 2, 3, 4")
    name = cupy.cuda.runtime.getDeviceProperties(0)["name"].decode()
    return f"{name}, PCI bus {cupy.cuda.Device(0).pci_bus_id}", os.getpid()


class _Closer:
    """Call it after each cell: it closes the clusters that the cell has lost.

    Lost is a cluster that a variable held before the cell and none holds now, and one that a failed or interrupted cell
    has begun to start without giving it to a variable. A variable holds a cluster itself, or through an open client.
    Clusters held elsewhere, in a list, say, are left alone.
    """

    def __init__(self, variables):
        self.variables, self.held, self.known = variables, set(), set()

    def __call__(self, result):
        before = self.held
        started = _open_clusters() - self.known
        self.held = self._held()
        lost = before - self.held
        if result is None or not result.success:
            lost |= started - self.held
        for cluster in lost & _open_clusters():
            _close(cluster)
        self.known = _open_clusters()

    def _held(self):
        held = set()
        for name, value in list(self.variables.items()):
            if name.startswith("_"):  # what IPython remembers of the cells' outputs
                continue
            if isinstance(value, Client) and value.status != "closed":
                value = value.cluster
            if isinstance(value, SpecCluster):
                held.add(value)
        return held


def _open_clusters():
    """Return the clusters of this process that are not closed."""
    return {cluster for cluster in SpecCluster._instances if cluster.status in OPEN}


def _close(cluster):
    """Close a cluster and its clients; an interrupted start may have left workers that the cluster does not know."""

    async def close_workers():
        await asyncio.gather(*(nanny.close() for nanny in list(cluster._created)))

    for client in list(Client._instances):
        if client.cluster is cluster:
            client.close()
    with suppress(TimeoutError):
        cluster.sync(close_workers)
        cluster.close(timeout=10)
