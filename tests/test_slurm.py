"""The three ways to Slurm, on a Slurm cluster of two nodes with two GPUs each, which are two network namespaces here.

Its GPUs are device files of the right number, so Slurm deals them out as it does real ones. A package that takes the
place of Dask-CUDA starts a plain worker for each.
"""

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import psutil
import pytest

from tests.books import LESSONS, ROOT, code_cells, read, texts
from tests.nbval_plugin import SLURM_NAMESPACES

pytestmark = [pytest.mark.setup, pytest.mark.slurm]
DEPLOY = ROOT / "notebooks" / "deploy"
DAEMONS = {"bash", "sleep", "cat", "munged", "slurmctld", "slurmscriptd", "slurmd"}
PATIENCE = 300  # seconds for what takes ten on an idle machine
# n1 has Slurm's controller and node n1, n2 has node n2; a wire between them, and no other network. All of it ends when
# this process's input does: with the tests, however they end.
HOSTS = """
set -e
cd "$1"
mount --make-rprivate /
mount --bind hosts /etc/hosts
hostname n1
ip link set lo up
unshare --net --uts sleep infinity &
n2=$!
until [ "$(readlink /proc/$n2/ns/uts)" != "$(readlink /proc/self/ns/uts)" ]; do sleep 0.1; done
on_n2="nsenter --target $n2 --net --uts"
$on_n2 hostname n2
$on_n2 ip link set lo up
ip link add wire0 type veth peer name wire0 netns $n2
ip addr add 10.0.0.1/24 dev wire0
$on_n2 ip addr add 10.0.0.2/24 dev wire0
ip link set wire0 up
$on_n2 ip link set wire0 up
munged --force --socket=$1/munge --key-file=$1/key --pid-file=$1/munged.pid --log-file=$1/munged.log \
  --seed-file=$1/seed
slurmctld
slurmd -N n1
$on_n2 slurmd -N n2
until [ "$(sinfo --noheader --states=idle --format=%D)" = 2 ]; do sleep 0.2; done
touch ready
cat
"""
SLURM_CONF = """
ClusterName=rehearsal
SlurmctldHost=n1(10.0.0.1)
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
SlurmdParameters=config_overrides
GresTypes=gpu
MessageTimeout=90
BatchStartTimeout=120
SlurmdTimeout=0
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
NodeName=n1 NodeAddr=10.0.0.1 CPUs=4 RealMemory=4000 Gres=gpu:2
NodeName=n2 NodeAddr=10.0.0.2 CPUs=4 RealMemory=4000 Gres=gpu:2
PartitionName=gpu Nodes=ALL Default=YES
"""
GRES_CONF = """
NodeName=n1,n2 Name=gpu File=/dev/zero
NodeName=n1,n2 Name=gpu File=/dev/full
"""
# in the place of Dask-CUDA: `dask cuda worker` and `python -m dask_cuda.cli`, with those of its options that we use,
# and CUDAWorker; each starts a worker for each GPU in CUDA_VISIBLE_DEVICES
DASK_CUDA = {
    "dask_cuda-26.10.dist-info/METADATA": "Metadata-Version: 2.1\nName: dask-cuda\nVersion: 26.10\n",
    "dask_cuda-26.10.dist-info/entry_points.txt": "[dask_cli]\ncuda = dask_cuda.cli:cuda\n",
    "dask_cuda/__init__.py": """
import asyncio, os
from distributed import Nanny

class CUDAWorker:
    def __init__(self, name, nthreads=1, dashboard_address=":0", interface=None, scheduler_file=None):
        self.nannies = [
            Nanny(scheduler_file=scheduler_file, name=f"{name}-{gpu}", nthreads=nthreads, interface=interface)
            for gpu in os.environ["CUDA_VISIBLE_DEVICES"].split(",")
        ]

    async def __aenter__(self):
        await asyncio.gather(*self.nannies)
        return self

    async def __aexit__(self, *_):
        await asyncio.gather(*(nanny.close() for nanny in self.nannies))

    async def finished(self):
        await asyncio.gather(*(nanny.finished() for nanny in self.nannies))
""",
    "dask_cuda/cli.py": """
import os
import click
from distributed.cli.dask_worker import main

@click.command()
@click.argument("scheduler", required=False)
@click.option("--scheduler-file")
@click.option("--dashboard-address")
@click.option("--interface")
@click.option("--name")
@click.option("--nthreads", default=1)
@click.option("--memory-limit", default="auto")
@click.option("--death-timeout")
def worker(scheduler, dashboard_address, **options):
    gpus = os.environ["CUDA_VISIBLE_DEVICES"].split(",")
    given = [f"--{name.replace('_', '-')}={value}" for name, value in options.items() if value is not None]
    main([*filter(None, [scheduler]), "--dashboard-address", dashboard_address, f"--nworkers={len(gpus)}", *given])

@click.group
def cuda():
    pass

cuda.add_command(worker)

if __name__ == "__main__":
    worker()
""",
}
# what each worker says when it has a task: the names that Slurm gives its node and that its job inherits
WORK = """
import json, os, sys
from dask.distributed import Client

def name(_):
    return os.environ["SLURMD_NODENAME"], os.environ["NCCL_SOCKET_IFNAME"]

with Client(timeout=60) as client:
    workers = client.sync(client.scheduler.identity, n_workers=-1)["workers"].values()
    print("WORK", json.dumps({
        "tasks": sorted(client.submit(name, n, workers=[worker], allow_other_workers=False).result()
                        for n, worker in enumerate(client.nthreads())),
        "hosts": sorted(worker["host"] for worker in workers),
        "threads": sum(worker["nthreads"] for worker in workers),
        "memory": sum(worker["memory_limit"] for worker in workers),
    }), flush=True)
sys.exit(3)  # so the exit status of the job is this command's
"""


class Slurm:
    """A Slurm cluster that runs in namespaces of its own."""

    def __init__(self, folder):
        self.folder, self.log, self.process = folder, folder / "log", None
        path = [str(Path(sys.executable).parent), os.environ["PATH"], "/usr/sbin", "/sbin"]
        no = ("DASK_", "SLURM", "SBATCH", "NCCL_", "TUTORIAL_", "INTERFACE")
        self.environment = {k: v for k, v in os.environ.items() if not k.startswith(no)}
        self.environment |= {
            "PATH": os.pathsep.join(path),
            "SLURM_CONF": str(folder / "slurm.conf"),
        }

    def start(self):
        (self.folder / "slurm.conf").write_text(SLURM_CONF.format(folder=self.folder))
        (self.folder / "gres.conf").write_text(GRES_CONF)
        (self.folder / "hosts").write_text("127.0.0.1 localhost\n10.0.0.1 n1\n10.0.0.2 n2\n")
        (self.folder / "key").write_bytes(os.urandom(128))
        (self.folder / "key").chmod(0o600)
        for name in ("state", "spool-n1", "spool-n2"):
            (self.folder / name).mkdir()
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [*SLURM_NAMESPACES, "bash", "-c", HOSTS, "hosts", str(self.folder)],
                env=self.environment,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
            )
        self.wait_until(lambda: self.process.poll() is not None or (self.folder / "ready").exists())
        assert self.process.poll() is None, self.logs()

    def stop(self):
        self.process.stdin.close()
        try:
            self.process.wait(timeout=60)
        finally:
            self.process.kill()  # and with it, by --kill-child, all that runs in its namespaces
            self.process.wait()

    def popen(self, command, folder, stdout=subprocess.PIPE, **environment):
        """Start a command on n1, in a folder."""
        [init] = psutil.Process(self.process.pid).children()
        enter = ["nsenter", f"--target={init.pid}", "--net", "--mount", "--uts", "--pid"]
        return subprocess.Popen(
            [*enter, f"--wd={folder}", *map(str, command)],
            env=self.environment | environment,
            stdout=stdout,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, command, folder=None, **environment):
        """Run a command on n1 to its end; return the finished process."""
        process = self.popen(command, folder or self.folder, **environment)
        return finish(process, self)

    def jobs(self):
        return self.run(["squeue", "--noheader"]).stdout

    def states(self):
        """Return the states of dask-jobqueue's jobs so far."""
        command = ["squeue", "--noheader", "--states=all", "--name=dask-worker", "--format=%T"]
        return set(self.run(command).stdout.split())

    def processes(self):
        """Return the command lines of what runs in the cluster and belongs to no daemon."""
        [init] = psutil.Process(self.process.pid).children()
        here, found = os.readlink(f"/proc/{init.pid}/ns/pid"), []
        for process in psutil.process_iter():
            try:
                if os.readlink(f"/proc/{process.pid}/ns/pid") == here and (
                    process.name() not in DAEMONS or process.status() == psutil.STATUS_ZOMBIE
                ):
                    found.append(shlex.join(process.cmdline()))
            except (psutil.Error, OSError):  # it has ended
                continue
        return found

    def wait_until(self, true, patience=PATIENCE):
        deadline = time.monotonic() + patience
        while not true():
            assert time.monotonic() < deadline, f"not within {patience} s\n{self.logs()}"
            time.sleep(0.3)

    def logs(self):
        files = [self.log, *sorted(self.folder.glob("*.log"))]
        return "\n".join(f"== {file.name}\n{file.read_text()[-1500:]}" for file in files)


def finish(process, slurm):
    """Wait for a process; return it finished, with what it wrote."""
    try:
        stdout, stderr = process.communicate(timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        for left in [*psutil.Process(process.pid).children(), process]:
            left.kill()
        stdout, stderr = process.communicate(timeout=PATIENCE)
        pytest.fail(f"no end of {process.args}\n{stdout}\n{stderr[-5000:]}\n{slurm.logs()}")
    return subprocess.CompletedProcess(process.args, process.returncode, stdout, stderr)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    slurm = Slurm(tmp_path_factory.mktemp("slurm"))
    try:
        slurm.start()
        yield slurm
    finally:
        if slurm.process:
            slurm.stop()


@pytest.fixture
def slurm(cluster):
    """The cluster, on which a test leaves neither a job nor a process."""
    yield cluster
    try:
        cluster.wait_until(lambda: not cluster.jobs(), patience=60)
        cluster.wait_until(lambda: not cluster.processes(), patience=60)
    except AssertionError:
        pytest.fail(f"left: {cluster.jobs()}\n{cluster.processes()}")
    finally:
        cluster.run(["scancel", "--user=root"])


@pytest.fixture
def dask_cuda(tmp_path):
    """Return an environment with a package in Dask-CUDA's place."""
    for name, text in DASK_CUDA.items():
        file = tmp_path / "site" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return {"PYTHONPATH": str(tmp_path / "site")}


def batch(slurm, folder, *arguments, **environment):
    """Run slurm.sbatch in a folder; return its job's state, exit status, folder and log."""
    options = ["--parsable", "--cpus-per-task=2", "--gpus-per-node=2"]
    command = ["sbatch", *options, DEPLOY / "slurm.sbatch", *arguments]
    answer = slurm.run(command, folder, INTERFACE="wire0", **environment)
    assert answer.returncode == 0, answer.stderr
    job, file = answer.stdout.strip(), folder / f"slurm-{answer.stdout.strip()}.out"

    def state():
        shown = slurm.run(["scontrol", "--oneliner", "show", "job", job]).stdout
        return dict(field.split("=", 1) for field in shown.split() if "=" in field)

    try:
        active = ("PENDING", "CONFIGURING", "RUNNING", "COMPLETING")
        slurm.wait_until(lambda: state()["JobState"] not in active)
    except AssertionError:
        log = file.read_text() if file.exists() else ""
        slurm.run(["scancel", job])
        pytest.fail(f"job {job} does not end\n{log[-5000:]}\n{slurm.logs()}")
    return state(), folder / f"slurm-{job}", file.read_text()


def work(text):
    """Return what WORK has found."""
    [line] = [line for line in text.splitlines() if line.startswith("WORK ")] or [None]
    assert line, text[-5000:]
    return json.loads(line.removeprefix("WORK "))


def on_both_nodes(n):
    """Return what `n` workers on each node answer to WORK, less their memory."""
    return {
        "tasks": [["n1", "wire0"]] * n + [["n2", "wire0"]] * n,
        "hosts": ["10.0.0.1"] * n + ["10.0.0.2"] * n,
        "threads": 2 * n,
    }


def test_a_job_runs_notebook_5(slurm, tmp_path):
    """Without an argument; here those of its cells that use the cluster. Its outputs lie beside the log."""
    notebook = nbformat.from_dict(read(LESSONS[4]))
    needed = "imports parameters start-cluster make-data assert-distributed mnmg-fit mnmg-predict mnmg-score"
    notebook.cells = [cell for cell in notebook.cells if cell.id in needed.split()]
    for cell in notebook.cells:
        cell.outputs = []
    original = tmp_path / LESSONS[4]
    original.parent.mkdir()
    nbformat.write(notebook, original)
    before = original.read_bytes()
    state, folder, log = batch(slurm, tmp_path, TUTORIAL_DEVICE="cpu")
    assert (state["JobState"], state["ExitCode"]) == ("COMPLETED", "0:0"), log[-5000:]
    assert [file.name for file in folder.iterdir()] == [original.name]  # no scheduler's file
    assert original.read_bytes() == before
    cells = code_cells(nbformat.read(folder / original.name, as_version=4))
    assert len(cells) == len(needed.split()) and all(cell.execution_count for cell in cells)
    shown = "".join(text for cell in cells for text in texts(cell.outputs))
    assert "; workers of tcp://10.0.0.1:" in shown and "every worker holds rows: True" in shown
    assert "ARI against the true labels: 1.000" in shown
    for host in ("10.0.0.1", "10.0.0.2"):
        assert f"Register worker addr: tcp://{host}:" in log
    assert "Killed" not in log and "error:" not in log, log[-5000:]


def test_a_job_runs_a_command(slurm, dask_cuda, tmp_path):
    """With a worker for each GPU of each node. The command's exit status is the job's."""
    (tmp_path / "work.py").write_text(WORK)
    wrong = {"DASK_SCHEDULER_ADDRESS": "tcp://127.0.0.1:9"}  # of the shell
    state, _, log = batch(slurm, tmp_path, "python", "work.py", **dask_cuda, **wrong)
    assert (state["JobState"], state["ExitCode"]) == ("FAILED", "3:0"), log[-5000:]
    found = work(log)
    found.pop("memory")
    assert found == on_both_nodes(2)


JOBQUEUE = [
    "python",
    DEPLOY / "slurm_jobqueue.py",
    *("--nodes=2", "--gpus=2", "--cpus=4", "--memory=2GB", "--interface=wire0"),
]


def test_dask_jobqueue_runs_a_command(slurm, dask_cuda, tmp_path):
    """With a job for each node, a worker for each of its GPUs, and its part of the job's memory for each worker."""
    (tmp_path / "work.py").write_text(WORK)
    answer = slurm.run([*JOBQUEUE, "--", "python", "work.py"], tmp_path, **dask_cuda)
    assert answer.returncode == 3, answer.stderr[-5000:]
    found = work(answer.stdout)
    assert found.pop("memory") == pytest.approx(2 * 2e9, rel=0.05)
    assert found == on_both_nodes(2)
    assert len(list(tmp_path.glob("slurm-*.out"))) == 2
    assert slurm.states() <= {"CANCELLED", "COMPLETING"}


def test_dask_jobqueue_waits_for_an_interrupt(slurm, tmp_path):
    """Meanwhile another terminal uses the cluster by its address."""
    shown = tmp_path / "shown"
    with shown.open("w") as stdout:
        process = slurm.popen(JOBQUEUE, tmp_path, stdout, TUTORIAL_DEVICE="cpu")
    try:
        ready = "4 workers are there\n"
        slurm.wait_until(lambda: process.poll() is not None or ready in shown.read_text())
        assert process.poll() is None, finish(process, slurm)
        name, address = shown.read_text().splitlines()[0].removeprefix("export ").split("=")
        answer = slurm.run(["python", "-c", WORK], tmp_path, **{name: address})
        assert answer.returncode == 3, answer.stderr
        assert work(answer.stdout)["hosts"] == on_both_nodes(2)["hosts"]
        assert len(slurm.jobs().splitlines()) == 2
        [command] = psutil.Process(process.pid).children()  # of nsenter, which waits for it
        command.send_signal(signal.SIGINT)
        answer = finish(process, slurm)
    finally:
        if process.poll() is None:
            for left in [*psutil.Process(process.pid).children(), process]:
                left.kill()
    assert answer.returncode == 1, answer.stderr
    assert answer.stderr.strip().endswith("the jobs are cancelled"), answer.stderr
    assert slurm.states() <= {"CANCELLED", "COMPLETING"}


def test_jobs_that_end_without_workers(slurm, tmp_path):
    """Here they lack Dask-CUDA: one line, no wait without end."""
    answer = slurm.run([*JOBQUEUE, "--", "true"], tmp_path)
    assert answer.returncode == 1 and "Traceback" not in answer.stderr, answer.stderr
    assert answer.stderr.strip().endswith("without their workers: slurm-*.out say why.")
    said = "".join(path.read_text() for path in tmp_path.glob("slurm-*.out"))
    assert "dask_cuda" in said


def test_a_job_that_slurm_refuses(slurm, tmp_path):
    """What sbatch says of it, and its script, at once."""
    answer = slurm.run(
        [*JOBQUEUE, "--partition=none", "--", "true"], tmp_path, TUTORIAL_DEVICE="cpu"
    )
    assert answer.returncode == 1 and "Traceback" not in answer.stderr, answer.stderr
    assert "Invalid partition name" in answer.stderr and "#SBATCH -p none" in answer.stderr


def runner(slurm, folder, *options, **environment):
    tasks = [
        "srun",
        "--nodes=2",
        "--ntasks=4",
        "--exclusive",
        "--gpus-per-node=2",
        "--kill-on-bad-exit",
        *options,
    ]
    command = [*tasks, "python", DEPLOY / "slurm_runner.py", "--interface=wire0"]
    return slurm.run(command, folder, **environment)


def test_a_script_brings_its_cluster(slurm, tmp_path):
    """K-means on rows that lie on both nodes."""
    answer = runner(slurm, tmp_path, "--distribution=cyclic", TUTORIAL_DEVICE="cpu")
    assert answer.returncode == 0, answer.stderr[-5000:]
    fit, *nodes = answer.stdout.splitlines()
    assert nodes == ["n1: rows on 1 workers", "n2: rows on 1 workers"]
    assert float(fit.split()[-2]) < 0.1
    assert not list(tmp_path.iterdir())  # no scheduler's file


def test_two_worker_tasks_on_a_node_are_found(slurm, dask_cuda, tmp_path):
    """They would share its GPUs, and the other node's would have no worker."""
    answer = runner(slurm, tmp_path, "--distribution=block", **dask_cuda)
    assert answer.returncode
    assert "Not one worker task for each node (Counter({'n2': 4}))" in answer.stderr, answer.stderr
