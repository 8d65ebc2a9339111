"""How nbval runs the notebooks here; loaded by pyproject.toml with `-p`.

- HTML and SVG are not compared: the text beside them is.
- After each cell on a machine without a GPU: no output names RAPIDS as the engine of a figure.
- After each cell: no server of the notebook listens beyond loopback.
- A notebook that JupyterLab has saved is compared with the outputs that git has of it.
- After each cell: the kernel has written nothing to stderr, whichever cell JupyterLab would show it under.
- After each notebook, one more test, `nothing is left`: no worker process, no port, no worker's GPU memory.
- Tests marked gpu are left out without a GPU, those marked browser without Chromium,
  those marked namespaces where no network namespace can be made, those marked slurm where no Slurm can be started,
  those marked ssh without an SSH server; a skipped test fails the run.
- Without a GPU two processes share the work; on a GPU the notebooks run one after another.
"""

import functools
import os
import re
import shutil
import subprocess
import tempfile
from functools import partial

from tutorial import device

import psutil
import pytest
from nbval.plugin import IPyNbCell, IPyNbFile

from tests.books import ROOT, python_path, texts, with_recorded_outputs

# allowed on the line that names the device, and on one that says where figures were recorded; nowhere else in an
# output of a CPU run
GPU_ENGINE = re.compile(r"\b(cuml|cudf|cupy|rapids|gpus?|cuda|nvidia|h100|h200)\b", re.IGNORECASE)
DEVICE_LINE = re.compile(r"^(Device: |Mode |Recorded on: ).*$", re.MULTILINE)
END = "<the end>"  # what the harness makes a kernel write to stderr, after all that the notebook wrote
RUN = "TUTORIAL_TESTED_NOTEBOOK"  # in the environment of a kernel under test, and of what it starts: whose they are
# begins a command that runs in a network of its own
NAMESPACES = ["unshare", "--user", "--map-root-user", "--net", "--mount"]
# the same for Slurm, which wants to be root, with processes and host names of its own; it ends with its first process
SLURM_NAMESPACES = "unshare --net --mount --uts --pid --fork --mount-proc --kill-child".split()
SPARE_MIB = 64  # GPU memory: what the driver may keep or free by itself meanwhile


def on_gpu():
    """Return device.GPU; a GPU that was asked for and is missing ends pytest with that one line."""
    try:
        return device.GPU
    except device.DeviceError as error:
        raise pytest.UsageError(str(error)) from None


def pytest_configure(config):
    """Choose the device before anything is collected; keep the user's IPython profile out of the kernels."""
    on_gpu()
    if not hasattr(config, "workerinput"):  # the processes of xdist inherit it
        folder = tempfile.TemporaryDirectory()
        config.add_cleanup(folder.cleanup)
        os.environ["IPYTHONDIR"] = folder.name
        os.environ["TUTORIAL_DASHBOARD_PORT"] = "0"  # two notebooks at once look for the same one


@pytest.hookimpl(tryfirst=True)  # before xdist's own count of the cores
def pytest_xdist_auto_num_workers(config):
    """One process on a GPU, whose memory and timings the notebooks want for themselves; two without."""
    return 0 if on_gpu() else 2


def pytest_collectstart(collector):
    """Compare text, not the HTML and SVG beside it; keep what the kernel writes to stderr."""
    if isinstance(collector, IPyNbFile):
        collector.skip_compare += ("text/html", "image/svg+xml")
        collector.setup = partial(start_kernel, collector)


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector):
    """Give the cells of each notebook their recorded outputs, and append `nothing is left`."""
    report = yield
    if isinstance(collector, IPyNbFile) and report.passed:
        if collector.path.is_relative_to(ROOT):  # nbval's items hold the cells of collector.nb
            with_recorded_outputs(collector.nb, collector.path.relative_to(ROOT).as_posix())
        report.result.append(NothingLeft.from_parent(collector, name="nothing is left"))
    return report


def pytest_collection_modifyitems(config, items):
    """Leave out, in sight, what needs a GPU, a browser, network namespaces or Slurm where there is none."""
    missing = {
        "gpu": not device.GPU,
        "browser": not browser_program(),
        "namespaces": not namespaces(),
        "slurm": not slurm(),
        "ssh": not ssh_server(),
    }
    left_out = [
        item
        for item in items
        if any(missing[mark.name] for mark in item.iter_markers() if mark.name in missing)
    ]
    items[:] = [item for item in items if item not in left_out]
    if left_out:
        config.hook.pytest_deselected(items=left_out)


@functools.cache
def namespaces():
    """Tell whether this user may make networks of their own."""
    command = [*NAMESPACES, "ip", "link", "add", "w0", "type", "veth"]
    try:
        return subprocess.run(command, capture_output=True).returncode == 0
    except OSError:
        return False


def ssh_server():
    """Return the path of an installed SSH server, or None."""
    return shutil.which("sshd", path="/usr/sbin:/usr/local/sbin:" + os.environ["PATH"])


@functools.cache
def slurm():
    """Tell whether this user may start a Slurm cluster here: root, with its daemons, in namespaces of its own."""
    programs = ("slurmctld", "slurmd", "munged", "sbatch", "srun", "nsenter")
    path = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
    if os.geteuid() or not all(shutil.which(program, path=path) for program in programs):
        return False
    command = [*SLURM_NAMESPACES, "ip", "link", "add", "wire0", "type", "veth"]
    return subprocess.run(command, capture_output=True).returncode == 0


def browser_program():
    """Return the path of an installed Chromium, or None."""
    return (
        shutil.which("chromium")
        or shutil.which("chromium-browser")
        or shutil.which("google-chrome")
    )


def pytest_sessionfinish(session):
    """Fail a run that skipped a test: what cannot run here is deselected, never skipped."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if reporter and reporter.stats.get("skipped") and session.exitstatus == 0:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def start_kernel(collector):
    """Start the kernel of a notebook under test; as in JupyterLab, it shows what its workers write to stderr."""
    del os.environ["PYTEST_CURRENT_TEST"]  # with it, ipykernel leaves the file descriptors alone
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", python_path())
        collector.mark = f"{os.getpid()} {collector.path}"
        patch.setenv(RUN, collector.mark)
        type(collector).setup(collector)
    collector.stderr = keep_stderr(collector.kernel)


def keep_stderr(kernel):
    """Return a list of what a kernel under test writes to stderr, which grows as nbval reads the kernel's messages.

    nbval itself looks at the messages that belong to the cell that runs. A line of a log, or of a worker, may belong to
    a cell that has run before: the one in which its thread or its cluster was started.
    """
    kept, get_message = [], kernel.get_message

    def get_and_keep(stream, timeout=None):
        message = get_message(stream, timeout)
        if message["msg_type"] == "stream" and message["content"]["name"] == "stderr":
            kept.append(message["content"]["text"])
        return message

    kernel.get_message = get_and_keep
    return kept


def read_all(collector):
    """Read the messages of a kernel up to all that it, and the processes that it has started, have written by now."""
    collector.kernel.execute_cell_input(f"__import__('os').write(2, b'{END}');")
    while END not in "".join(collector.stderr):
        collector.kernel.get_message("iopub", timeout=60)


def take_stderr(collector):
    """Return what the kernel of a notebook has written to stderr since this was last asked, as one text."""
    text = "".join(collector.stderr).replace(END, "")
    collector.stderr.clear()
    return text


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item):
    """Hold each cell, once it has run, to what every cell must keep."""
    if not isinstance(item, IPyNbCell):
        return (yield)
    kernel = kernel_process(item.parent)
    if item.cell_num == 0:
        item.parent.before = footprint(kernel)
    already_open = listeners(kernel)
    try:
        result = yield
    finally:
        written = take_stderr(item.parent)
        if written:  # nbval names an unexpected stderr of the cell, but does not show it
            item.add_report_section("call", "stderr of the kernel:", written)
    assert not written, f"Cell {item.cell_num}: the kernel has written to stderr:\n{written}"
    if not device.GPU:
        named = gpu_engines(item.test_outputs)
        assert not named, f"Cell {item.cell_num}: an output of a CPU run names {named}"
    exposed = [server for server in listeners(kernel) - already_open if not is_loopback(server[0])]
    assert not exposed, f"Cell {item.cell_num}: a server listens beyond loopback: {exposed}"
    return result


def gpu_engines(outputs):
    """Return the words in a CPU run's outputs that claim a GPU library or a GPU, lines that name a device apart."""
    return sorted(
        {word for text in texts(outputs) for word in GPU_ENGINE.findall(DEVICE_LINE.sub("", text))}
    )


def kernel_process(collector):
    """Return the kernel of a notebook under test as a psutil.Process."""
    return psutil.Process(collector.kernel.km.provisioner.pid)


def is_loopback(host):
    """Tell whether an address that a server listens on is this machine's alone."""
    return host.startswith("127.") or host == "::1"


def listeners(process):
    """Return the (host, port) pairs that a process and its children listen on."""
    found = set()
    for member in [process, *process.children(recursive=True)]:
        try:
            connections = member.net_connections("tcp")
        except psutil.Error:  # it ended meanwhile
            continue
        found |= {tuple(item.laddr) for item in connections if item.status == psutil.CONN_LISTEN}
    return found


def footprint(process):
    """Return what a kernel holds: (ports, worker processes, MiB used on each GPU by others than the kernel)."""
    children = process.children(recursive=True)
    workers = [
        child.pid for child in children if "resource_tracker" not in " ".join(child.cmdline())
    ]
    return listeners(process), workers, memory_of_others(process.pid) if device.GPU else []


def left_on_gpus(pid, mark):
    """Return which processes of a notebook use a GPU, its kernel `pid` apart; None where nvidia-smi lists no kernel.

    In a container, nvidia-smi may list no process, or give those of the host other numbers.
    """
    users = {int(owner) for (owner,) in smi("--query-compute-apps=pid")}
    if pid not in users:
        return None
    return sorted(user for user in users - {pid} if mark_of(user) == mark)


def mark_of(pid):
    """Return which notebook under test a process belongs to, or None."""
    try:
        return psutil.Process(pid).environ().get(RUN)
    except psutil.Error:  # it has ended, or is another user's
        return None


def memory_of_others(pid):
    """Return the MiB in use on each GPU that this run sees, less what process `pid` itself uses there."""
    seen = {gpu.uuid for gpu in device.gpus()}  # nvidia-smi lists those of other runs, too
    listed = {uuid: int(mib) for uuid, mib in smi("--query-gpu=uuid,memory.used")}
    used = {
        uuid: listed[uuid] for uuid in listed if uuid in seen
    } or listed  # MIG: none by its name
    for uuid, owner, mib in smi("--query-compute-apps=gpu_uuid,pid,used_memory"):
        if uuid in used and int(owner) == pid and mib.isdigit():
            used[uuid] -= int(mib)
    return list(used.values())


def smi(query):
    """Return what nvidia-smi answers to a query, as rows of fields."""
    answer = subprocess.run(
        ["nvidia-smi", query, "--format=csv,noheader,nounits"],
        capture_output=True,
        text=True,
        check=True,
    )
    return [[field.strip() for field in line.split(",")] for line in answer.stdout.splitlines()]


class NothingLeft(pytest.Item):
    """After the last cell, with the kernel still alive: the notebook has given back all that it took."""

    def runtest(self):
        read_all(self.parent)
        written = take_stderr(self.parent)
        assert not written, f"the kernel has written to stderr:\n{written}"
        before_ports, _, before_memory = self.parent.before
        kernel = kernel_process(self.parent)
        ports, workers, memory = footprint(kernel)
        assert not workers, f"worker processes left: {workers}"
        assert not ports - before_ports, f"ports left open: {sorted(ports - before_ports)}"
        left = left_on_gpus(kernel.pid, self.parent.mark) if device.GPU else []
        assert not left, f"processes left on a GPU: {left}"
        if left is not None:  # other programs may use the GPUs meanwhile
            return
        grown = [now - then for now, then in zip(memory, before_memory, strict=True)]
        assert max(grown, default=0) <= SPARE_MIB, (
            f"GPU memory left in use by other processes: {grown} MiB"
        )

    def reportinfo(self):
        return self.path, None, f"{self.path.name}: nothing is left"
