"""What the kernel of a notebook does for its clusters: it keeps the workers at an interrupt, and closes a lost cluster.

`introduce` lets the workers of a cluster say who they are. `RunningCluster` is one that somebody else has started.

Jupyter interrupts a kernel with SIGINT, and sends it to all processes that the kernel has started: Dask's workers would
end, and the next cell would wait for them. And a cell that starts a cluster may be run twice: the cluster of the first
run would keep its workers, its ports and its memory until the kernel ends.
"""

import asyncio
import functools
import logging
import os
import shutil
import signal
import socket
import ssl
import tempfile
import threading
from contextlib import suppress
from importlib import metadata
from multiprocessing import resource_tracker
from pathlib import Path

from tutorial import device, processes

import dask
from dask.distributed import Client, Nanny, Security, Status
from distributed.comm import CommClosedError, get_address_host_port
from distributed.deploy.spec import SpecCluster

# a heartbeat between the end of the scheduler and that of the worker, and one while the worker itself ends
CLOSING = ("Failed to communicate with scheduler during heartbeat", "Scheduler was unaware of this")
CLOSED = "ConnectionPool is closed"
REACH = 10  # seconds for a worker to reach another
PROJECT = "rapids-dask-tutorial"  # what pip calls this package
# what to do about certificates that do not fit
TLS_SETTINGS = "`source tls.env` of the cluster's folder of certificates before Jupyter starts"
OPEN = (Status.created, Status.starting, Status.running)


def look_after(shell):
    """Keep the workers of every cluster that this process starts, and close its lost clusters after each cell.

    What it starts carries its mark, for `make stop`. shell: IPython's InteractiveShell.
    """
    if processes.mark():
        os.environ[processes.MARK] = processes.mark()
    dask.config.set({"distributed.nanny.preload": [__name__]})
    logging.getLogger("tornado.application").addFilter(is_no_closed_page)
    SpecCluster._close = _to_the_end(SpecCluster._close)
    shell.events.register("post_run_cell", _Closer(shell.user_ns))


def dask_setup(server):
    """Prepare a nanny for its worker, or a worker for its end: Dask calls this before it starts either.

    A nanny lives in a thread of the kernel, and a process starts with the signals blocked that its parent's thread
    blocks. So a worker is deaf to SIGINT from its first moment on, that of a LocalCUDACluster, too. And it loads this
    module: then it ends with a kernel that is killed, and its log keeps quiet about a scheduler that is gone, as it is
    when a cluster closes.
    """
    if not isinstance(server, Nanny):
        processes.end_with_parent()
        for name in ("distributed.worker", "tornado.application"):
            logging.getLogger(name).addFilter(is_no_news)
        return
    server.preload = [*server.preload, __name__]
    resource_tracker.ensure_running()  # multiprocessing's helper, deaf by itself, unblocks signals as it starts
    if threading.current_thread() is not threading.main_thread():
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})


def is_no_news(record):
    """Tell whether a worker's log should have a record: not if it says what happens whenever a cluster closes."""
    error = (record.exc_info or (None, None))[1]
    return not (record.getMessage().startswith(CLOSING) or str(error) == CLOSED)


def is_no_closed_page(record):
    """Tell whether a record of the dashboard's server says more than that a reader has closed a page of it.

    Bokeh fails in several ways where a page goes before its socket ("/ws") is served.
    """
    error = (record.exc_info or [None])[0]
    closed = error is not None and error.__name__ in ("StreamClosedError", "WebSocketClosedError")
    return not closed and "/ws" not in record.getMessage()


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


class RunningCluster:
    """A Dask cluster that somebody else has started: `Client(cluster)` connects to it, and `close` leaves it running.

    It is asked at once whether its workers fit this notebook, and gets this package if they do not have it. Raises
    device.DeviceError, with one line that says what is wrong and what to do.
    """

    def __init__(self, address):
        self.scheduler_address, self.status = address, Status.running
        client = _connect(address)
        with client:
            if not client.nthreads():
                raise device.DeviceError(f"The scheduler at {address} has no workers: start some.")
            _compare_networks(client)
            _compare_versions(client)
            _bring_package(client)
            if device.GPU:
                _compare_devices(client)

    def close(self):
        """Leave the cluster as it is. What this notebook's clients held, they have given back when they closed."""


def _connect(address):
    """Return a client of the scheduler at an address; Dask's settings name the certificates, where it speaks TLS."""
    tls = address.startswith("tls://")
    try:
        settings = Security().get_connection_args("client")
    except (OSError, ValueError) as error:  # a file that is not there, or is no certificate
        raise device.DeviceError(
            f"This notebook's certificates cannot be read ({error}). Look at DASK_DISTRIBUTED__COMM__TLS__CA_FILE, "
            "__CLIENT__CERT and __CLIENT__KEY."
        ) from None
    if tls and not settings["ssl_context"]:
        raise device.DeviceError(
            f"The scheduler at {address} asks for a certificate, and this notebook has none: {TLS_SETTINGS}."
        )
    if settings["require_encryption"] and not tls:
        raise device.DeviceError(
            f"This notebook's settings want TLS, the address {address} does not: let it begin with tls://, or unset "
            "DASK_DISTRIBUTED__COMM__REQUIRE_ENCRYPTION."
        )
    try:
        if tls or address.startswith("tcp://") or "://" not in address:
            _open(address).close()
        return Client(address, timeout="30s", set_as_default=False)
    except (OSError, ValueError) as error:
        raise device.DeviceError(_no_connection(address, tls, error)) from None


def _open(address):
    """Return a socket that is connected to an address of Dask's."""
    return socket.create_connection(get_address_host_port(address, strict=True), 10)


def _no_connection(address, tls, error):
    """Return one line: why a client did not get through to the scheduler at an address."""
    closed = isinstance(error, CommClosedError)
    if closed and not tls and _speaks_tls(address):
        bare = address.removeprefix("tcp://")
        return f"The scheduler at {address} speaks TLS: its address is tls://{bare}, and {TLS_SETTINGS}."
    if closed and tls:
        if not _speaks_tls(address):
            return f"The scheduler at {address} does not speak TLS: its address begins with tcp://."
        if isinstance(error.__cause__, ssl.SSLCertVerificationError):
            return (
                f"The scheduler at {address} has no certificate of this notebook's authority "
                f"({error.__cause__.verify_message}): {TLS_SETTINGS}."
            )
        return f"The scheduler at {address} refused this notebook's certificate: {TLS_SETTINGS}."
    return (
        f"No Dask scheduler answers at {address} ({type(error).__name__}). Look at DASK_SCHEDULER_ADDRESS, "
        "or unset it: then the notebook starts a cluster of its own."
    )


def _speaks_tls(address):
    """Tell whether who listens at an address speaks TLS, whoever it is."""
    anybody = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    anybody.check_hostname, anybody.verify_mode = False, ssl.CERT_NONE
    try:
        with _open(address) as plain, anybody.wrap_socket(plain):
            return True
    except ssl.SSLError as error:
        return "ALERT" in (error.reason or "")  # it misses this side's certificate
    except OSError:
        return False


def _compare_networks(client):
    """Raise DeviceError where the scheduler or a worker cannot reach a worker at the address by which it is known."""

    # inside of this function it travels whole: a worker need not have this package yet
    async def unreached(addresses, seconds, dask_worker):
        async def reach(address):
            try:
                await asyncio.wait_for(dask_worker.rpc(address).identity(), seconds)
            except (OSError, TimeoutError):
                return address

        return [each for each in await asyncio.gather(*map(reach, addresses)) if each]

    workers = list(client.nthreads())
    answers = client.run(unreached, workers, REACH, on_error="return")
    missed = [("scheduler", worker) for worker in answers if isinstance(answers[worker], OSError)]
    for worker, answer in answers.items():
        if isinstance(answer, list):
            missed += [(f"worker at {worker}", other) for other in answer]
        elif not isinstance(answer, OSError):
            raise answer
    for who, other in missed[:1]:
        raise device.DeviceError(
            f"The {who} cannot reach the worker at {other}: start scheduler and workers with --interface, and the name "
            "of a network that all share."
        )


def _compare_versions(client):
    """Raise DeviceError where the scheduler or a worker has another version of a library than this notebook, or none.

    Asked for is what results depend on. The scheduler unpickles what it passes on, and cuML's workers meet through it.
    """
    names = ["dask", "distributed", "numpy", "pandas", "scikit-learn"]
    if device.GPU:
        names += ["cudf", "cuml", "cupy"]
    here = {name: _version(name) for name in names}
    for name in names:
        # only what every Python has is asked for: a worker need not have this package yet
        for who, found in _first_found(client, _packages(name)).items():
            if found != here[name]:
                raise device.DeviceError(
                    f"The {who} has {name} {found or 'not installed'}, this notebook {here[name]}: install the same "
                    "versions everywhere."
                )


def _packages(name):
    """Return what pip and conda may call the package of a library."""
    return [name + suffix for suffix in ("", "-cu12", "-cu13", "-cuda12x", "-cuda13x")]


def _first_found(client, packages):
    """Return "scheduler", "worker at ADDRESS" -> the version of the first of the packages that it has, or None."""

    # inside of this function it travels whole, and it fails nowhere: an error would fill the logs of the cluster
    def version():
        for package in packages:
            with suppress(metadata.PackageNotFoundError):
                return metadata.version(package)

    answers = client.run(version)
    return {
        "scheduler": client.run_on_scheduler(version),
        **{f"worker at {worker}": answer for worker, answer in answers.items()},
    }


def _version(name):
    """Return the version of a package that this process has, whatever pip or conda calls it, or None."""
    for package in _packages(name):
        with suppress(metadata.PackageNotFoundError):
            return metadata.version(package)
    return None


def _bring_package(client):
    """Send this package, as one file, to scheduler and workers where one of them lacks it in this version."""
    here = _version(PROJECT)  # None where it was found beside the notebooks
    if here and all(version == here for version in _first_found(client, [PROJECT]).values()):
        return
    with tempfile.TemporaryDirectory() as folder:
        package = Path(__file__).parent
        name = f"tutorial-{here}" if here else "tutorial"
        file = shutil.make_archive(f"{folder}/{name}", "zip", package.parent, package.name)
        client.upload_file(file)


def _compare_devices(client):
    """Raise DeviceError where a worker has no GPU, or sees the one that another worker uses."""
    seen = {}
    for worker, answer in client.run(_introduce, True, on_error="return").items():
        if isinstance(answer, Exception):
            raise device.DeviceError(
                f"The worker at {worker} cannot use a GPU ({answer}): start it by `dask cuda worker`."
            )
        place = worker.rsplit(":", 1)[0], answer[0]
        if place in seen:
            raise device.DeviceError(
                f"The workers at {seen[place]} and {worker} use the same GPU: start them by `dask cuda worker`, "
                "which gives each its own."
            )
        seen[place] = worker


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


def _to_the_end(close):
    """Return SpecCluster._close such that an interrupt ends the wait for it, and the closing goes on.

    Dask would cancel it half-way, and the next close() would wait for it for ever.
    """

    @functools.wraps(close)
    async def closes(cluster):
        cluster._closing = asyncio.ensure_future(close(cluster))  # the loop alone would forget it
        await asyncio.shield(cluster._closing)

    return closes


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
