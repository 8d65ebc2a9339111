"""Notebooks on a Dask cluster that runs already: by address, on two hosts that are two network namespaces."""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

from tutorial import checks, clusters, device

import nbformat
import pytest
from dask.distributed import Client

from tests.books import LESSONS, ROOT, code_cells, python_path, stderr, texts
from tests.nbval_plugin import NAMESPACES

pytestmark = pytest.mark.setup
# host 1 has the scheduler, a worker and the notebooks, host 2 a worker; a wire between them, and no other network.
# TLS names the settings of the certificates, where the hosts have some
TWO_HOSTS = """
set -e
trap 'set +e; kill $workers; wait $workers; kill $(jobs -p)' EXIT  # the workers first: they tell the scheduler
ip link set lo up
unshare --net sleep 600 &
other=$!
until [ "$(readlink /proc/$other/ns/net)" != "$(readlink /proc/self/ns/net)" ]; do sleep 0.1; done
ip link add wire0 type veth peer name wire1
ip link set wire1 netns $other
ip addr add 10.0.0.1/24 dev wire0
ip link set wire0 up
nsenter --target $other --net sh -c 'ip link set lo up; ip addr add 10.0.0.2/24 dev wire1; ip link set wire1 up'
export PYTHON="$1" TUTORIAL_DEVICE=cpu
if [ -n "${TLS:-}" ]; then source "$TLS"; fi
export DASK_SCHEDULER_ADDRESS="${TUTORIAL_PROTOCOL:-tcp}://10.0.0.1:8786"
start=notebooks/deploy/by_address.sh
bash $start scheduler wire0 &
bash $start workers wire0 "$DASK_SCHEDULER_ADDRESS" &
workers=$!
nsenter --target $other --net bash $start workers wire1 "$DASK_SCHEDULER_ADDRESS" &
workers+=" $!"
shift
"$@"
"""


def two_hosts(*command, **options):
    """Run a command on the first of two hosts; return the finished process."""
    return subprocess.run(
        [*NAMESPACES, "bash", "-c", TWO_HOSTS, "hosts", sys.executable, *command],
        cwd=ROOT,
        capture_output=True,
        text=True,
        **{"timeout": 500, **options},
    )


RUN = """
import sys
from dask.distributed import Client
with Client(timeout="60s") as client:  # of DASK_SCHEDULER_ADDRESS
    client.wait_for_workers(2, timeout=60)
import nbformat
from tests import record
from tests.books import ROOT, read
for book, target in zip(sys.argv[1::2], sys.argv[2::2]):
    notebook = nbformat.from_dict(read(book))
    record.run(notebook, (ROOT / book).parent)
    nbformat.write(notebook, target)
with Client(timeout="60s") as client:
    print(sorted(client.nthreads()), client.who_has())
"""


@pytest.mark.namespaces
def test_notebooks_run_on_two_hosts(tmp_path):
    """Every cell, with what it asserts; the first output names the cluster, which is still there afterwards, empty."""
    books = [LESSONS[0], LESSONS[2], LESSONS[4]]
    targets = [str(tmp_path / Path(book).name) for book in books]
    pairs = [name for pair in zip(books, targets, strict=True) for name in pair]
    environment = {
        **os.environ,
        "PYTHONPATH": f"{ROOT}{os.pathsep}{python_path()}",
        "TUTORIAL_DEVICE": "cpu",
    }
    answer = two_hosts(sys.executable, "-c", RUN, *pairs, env=environment)
    assert answer.returncode == 0, answer.stderr[-3000:]
    assert "'tcp://10.0.0.1:" in answer.stdout and "'tcp://10.0.0.2:" in answer.stdout
    assert answer.stdout.strip().endswith("] {}")
    for target in targets:
        cells = code_cells(nbformat.read(target, as_version=4))
        assert "; workers of tcp://10.0.0.1:8786; " in "".join(texts(cells[0].outputs))
        assert not [cell.id for cell in cells if stderr(cell.outputs)]
        closed = [
            text
            for cell in cells
            for text in texts(cell.outputs)
            if text.startswith("client: closed")
        ]
        assert closed == ["client: closed - cluster: running\n"] or target.endswith(
            Path(LESSONS[4]).name
        )


@pytest.fixture(scope="module")
def scheduler(tmp_path_factory):
    """A scheduler on loopback and a worker, which are no children of this process; the scheduler's file."""
    folder = tmp_path_factory.mktemp("scheduler")
    file, log = folder / "scheduler.json", (folder / "log").open("w")
    # a worker without this package: of another folder, whose Python does not see the project
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment["PYTHONSAFEPATH"] = "1"
    # of the scheduler: how long it tries to reach a worker
    environment["DASK_DISTRIBUTED__COMM__TIMEOUTS__CONNECT"] = "5s"
    dask = [sys.executable, "-m", "dask"]
    options = {"env": environment, "cwd": folder, "stdout": log, "stderr": log}
    commands = [
        [
            "scheduler",
            "--host",
            "127.0.0.1",
            "--port",
            "0",
            "--no-dashboard",
            "--scheduler-file",
            str(file),
        ],
        [
            "worker",
            "--scheduler-file",
            str(file),
            "--nthreads",
            "1",
            "--no-dashboard",
            "--host",
            "127.0.0.1",
        ],
    ]
    processes = [subprocess.Popen([*dask, *command], **options) for command in commands]
    try:
        deadline = time.monotonic() + 60
        while not file.exists():
            assert time.monotonic() < deadline, (folder / "log").read_text()
            time.sleep(0.1)
        with Client(json.loads(file.read_text())["address"], set_as_default=False) as client:
            client.wait_for_workers(1, timeout=60)
        yield file
    finally:
        for process in reversed(processes):
            process.terminate()
            process.wait(timeout=30)


@pytest.fixture
def by_file(scheduler, monkeypatch):
    monkeypatch.delenv("DASK_SCHEDULER_ADDRESS", raising=False)
    monkeypatch.setenv("DASK_SCHEDULER_FILE", str(scheduler))


def test_a_cluster_by_its_file(by_file, scheduler):
    """It answers, and closing it leaves it running."""
    for _ in range(2):
        cluster = device.running_cluster()
        with Client(cluster, set_as_default=False) as client:
            assert client.submit(sum, [1, 2]).result() == 3
            assert set(clusters._first_found(client, ["nobody-has-it"]).values()) == {None}
        cluster.close()
        assert cluster.status.name == "running"
    assert "Traceback" not in (scheduler.parent / "log").read_text()  # it is somebody else's, too


def test_nccl_meets_where_the_cluster_says(by_file, monkeypatch):
    """A notebook keeps it on this machine; a worker of others' cluster, which imports this package, does not."""
    monkeypatch.delenv("NCCL_SOCKET_IFNAME", raising=False)
    notebook = "from tutorial import device; device._keep_nccl_here(); import os; " \
               "print(os.environ['NCCL_SOCKET_IFNAME'])"  # fmt: skip

    def keep():
        device._keep_nccl_here()
        return os.environ.get("NCCL_SOCKET_IFNAME")

    with Client(device.running_cluster(), set_as_default=False) as client:
        assert set(client.run(keep).values()) == {None}
    # in a process of its own: other tests may have left a worker in this one
    command = [sys.executable, "-c", f"import dask.distributed; {notebook}"]
    environment = {**os.environ, "PYTHONPATH": python_path()}
    answer = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    assert answer.stdout == "lo\n", answer.stderr


def test_the_challenge_takes_it(by_file):
    cluster = device.running_cluster()
    with Client(cluster, set_as_default=False) as client:
        assert checks.check_cluster(cluster, client).state == "solved"


def test_no_cluster_by_default(monkeypatch):
    for name in ("DASK_SCHEDULER_ADDRESS", "DASK_SCHEDULER_FILE"):
        monkeypatch.delenv(name, raising=False)
    assert device.running_cluster() is None and "workers of" not in device.describe()


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        (
            "DASK_SCHEDULER_ADDRESS",
            "tcp://127.0.0.1:9",
            "No Dask scheduler answers at tcp://127.0.0.1:9",
        ),
        ("DASK_SCHEDULER_ADDRESS", "127.0.0.1", "No Dask scheduler answers at 127.0.0.1"),
        (
            "DASK_SCHEDULER_FILE",
            "no such file",
            "holds no scheduler's address (FileNotFoundError)",
        ),
    ],
)
def test_a_cluster_that_is_not_there(monkeypatch, name, value, says):
    """One line that says what to look at."""
    monkeypatch.delenv("DASK_SCHEDULER_ADDRESS", raising=False)
    monkeypatch.setenv(name, value)
    with pytest.raises(device.DeviceError) as raised:
        device.running_cluster()
    assert says in str(raised.value) and len(str(raised.value).splitlines()) == 1


def test_another_version_on_a_worker(by_file, monkeypatch):
    real = clusters._version
    monkeypatch.setattr(
        clusters, "_version", lambda name: "1.0" if name == "pandas" else real(name)
    )
    with pytest.raises(
        device.DeviceError, match=r"^The scheduler has pandas \S+, this notebook 1.0: "
    ):
        device.running_cluster()


def test_the_package_goes_to_workers_without_it(by_file, monkeypatch, tmp_path):
    """As one file, its kernels included. (To them it seems to be another version.)"""
    sent = []
    monkeypatch.setattr(
        Client, "upload_file", lambda self, file: sent.append(shutil.copy(file, tmp_path))
    )
    device.running_cluster()
    assert not sent  # they have it
    with monkeypatch.context() as not_installed:  # here neither: it was found beside the notebooks
        not_installed.setattr(clusters, "PROJECT", "a-name-that-nobody-has-installed")
        device.running_cluster()
    assert Path(sent.pop()).name == "tutorial.zip"
    monkeypatch.setattr(clusters, "PROJECT", "dask-ml-of-another-name")
    real = clusters._version
    monkeypatch.setattr(
        clusters, "_version", lambda name: "26.10" if name == clusters.PROJECT else real(name)
    )
    device.running_cluster()
    [file] = sent
    code = "import tutorial.kmeans.gpu as gpu; from importlib import resources; print(gpu.__file__); " \
           "print(len((resources.files('tutorial.kmeans') / 'narrow.cu').read_text()))"  # fmt: skip
    command = [
        sys.executable,
        "-S",
        "-c",
        f"import sys; sys.path[:0] = [{str(file)!r}, *{sys.path!r}]; {code}",
    ]
    answer = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    place, length = answer.stdout.splitlines()
    assert file in place and int(length) > 1000


def test_a_worker_of_another_network_is_found(by_file, scheduler):
    """It is known by an address at which nobody reaches it, as 127.0.0.1 is on another host."""
    command = ["worker", "--scheduler-file", str(scheduler), "--nthreads", "1", "--no-nanny"]
    command += ["--listen-address", "tcp://127.0.0.1:0", "--contact-address", "tcp://127.0.0.1:9"]
    worker = subprocess.Popen(
        [sys.executable, "-m", "dask", *command],
        cwd=scheduler.parent,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        with Client(scheduler_file=str(scheduler), set_as_default=False) as client:
            client.wait_for_workers(2, timeout=60)
            with pytest.raises(
                device.DeviceError,
                match="^The scheduler cannot reach the worker at tcp://127.0.0.1:9: start [^\n]*$",
            ):
                device.running_cluster()
    finally:
        worker.terminate()
        worker.wait(timeout=30)
    with Client(scheduler_file=str(scheduler), set_as_default=False) as client:
        deadline = time.monotonic() + 60
        while len(client.nthreads()) > 1:
            assert time.monotonic() < deadline
            time.sleep(0.1)


def test_workers_of_two_networks_are_found(by_file, monkeypatch):
    """The scheduler reaches both; one of them does not reach the other."""
    monkeypatch.setattr(clusters, "REACH", 2)
    real = Client.nthreads
    monkeypatch.setattr(Client, "nthreads", lambda client: {**real(client), "tcp://127.0.0.1:9": 1})
    with pytest.raises(
        device.DeviceError,
        match=r"^The worker at tcp://127.0.0.1:\d+ cannot reach the worker at tcp://127.0.0.1:9: ",
    ):
        device.running_cluster()


def test_two_workers_on_one_gpu_are_found():
    """Or one that has none: before a fit hangs."""

    class Workers:
        def __init__(self, **answers):
            self.answers = answers

        def run(self, *_, **__):
            return {
                f"tcp://{name.replace('_', '.')}:1": answer for name, answer in self.answers.items()
            }

    gpu, other = ("NVIDIA H100, PCI bus 0000:00:06.0", 1), ("NVIDIA H100, PCI bus 0000:00:07.0", 2)
    clusters._compare_devices(Workers(a=gpu, b=gpu))  # of two hosts
    with pytest.raises(
        device.DeviceError, match=r"^The worker at tcp://b:1 cannot use a GPU \(no module cupy\): "
    ):
        clusters._compare_devices(Workers(a=gpu, b=ImportError("no module cupy")))

    class OneHost(Workers):
        def run(self, *_, **__):
            return {"tcp://a:1": gpu, "tcp://a:2": other, "tcp://a:3": gpu}

    with pytest.raises(
        device.DeviceError, match="^The workers at tcp://a:1 and tcp://a:3 use the same GPU: "
    ):
        clusters._compare_devices(OneHost())
