"""Which device this machine offers to the notebooks: one flag, one report.

    from tutorial.device import GPU       # True: RAPIDS on NVIDIA GPUs; False: the same cells on the CPU
    python notebooks/tutorial/device.py   # the report that START_HERE.ipynb shows

TUTORIAL_DEVICE=auto|gpu|cpu chooses. `auto`, the default, takes the GPUs that RAPIDS can use and says why when it
takes none. It never falls back in silence: a machine with a fit GPU but without a working RAPIDS gets an error.

Only the standard library is needed up to the moment a GPU is chosen, so that the set-up can ask this file what to
install. Limits: https://docs.rapids.ai/platform-support (RAPIDS 26.10).
"""

import functools
import importlib
import importlib.util
import json
import multiprocessing
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import warnings
from importlib import metadata
from pathlib import Path
from uuid import UUID

RAPIDS = "26.10"
RAPIDS_MODULES = ("cupy", "cudf", "dask_cudf", "cuml", "dask_cuda")
# CUDA major version -> (oldest driver branch, the CUDA it knows, oldest compute capability) that RAPIDS supports
CUDA_NEEDS = {13: (580, 13000, 7.5), 12: (535, 12020, 7.0)}
CUDA_LIBRARIES = ("libcuda.so.1", "/usr/lib/wsl/lib/libcuda.so.1")
NVML_LIBRARIES = ("libnvidia-ml.so.1", "/usr/lib/wsl/lib/libnvidia-ml.so.1")
KERNEL_MODULE = "/proc/driver/nvidia/version"
SIGNS_OF_A_DRIVER = (KERNEL_MODULE, "/dev/nvidiactl", "/dev/dxg")
OUT_OF_MEMORY, NO_DEVICE = 2, 100  # error codes of the CUDA driver
BUSY = 0.8  # of a GPU that is at rest, more is free
PYPROJECT = Path(__file__).resolve().parents[2] / "pyproject.toml"
# what every notebook imports, on the CPU and on a GPU
NEEDS = ("dask", "distributed", "dask_ml", "matplotlib", "numpy", "pandas", "pyarrow", "sklearn")


class DeviceError(RuntimeError):
    """This machine cannot run what was asked for; the message says what to do. Jupyter shows that one line."""

    def _render_traceback_(self):
        return ["DeviceError: %s" % self]


class Gpu:
    """One GPU as the CUDA driver describes it.

    name; uuid: as CUDA_VISIBLE_DEVICES takes it; memory, free: bytes, free by a look from another process; capability:
    the compute capability; driver: its version, or None; cuda_version: the newest CUDA that the driver knows, 13000
    for 13.0. On unified memory `free` is what the whole machine has left.
    """

    def __init__(self, name, uuid, memory, free, capability, driver, cuda_version):
        self.name, self.uuid, self.memory, self.free = name, uuid, memory, free
        self.capability, self.driver, self.cuda_version = capability, driver, cuda_version

    def cuda(self):
        """Return the newest CUDA major version that driver and GPU allow RAPIDS, or None."""
        for major, (_, oldest, oldest_capability) in sorted(CUDA_NEEDS.items(), reverse=True):
            if self.cuda_version >= oldest and self.capability >= oldest_capability:
                return major
        return None

    def unfit(self):
        """Say in one line why RAPIDS cannot use this GPU; None if it can."""
        if self.cuda():
            return None
        branch, _, capability = CUDA_NEEDS[12]
        if self.capability < capability:
            return "%s is too old for RAPIDS %s (compute capability %s, %s is needed)" % (
                self.name, RAPIDS, self.capability, capability)  # fmt: skip
        return "NVIDIA driver %s is too old for RAPIDS %s: update it to %d or newer" % (
            _driver_name(self), RAPIDS, branch)  # fmt: skip


def _driver_name(gpu):
    return gpu.driver or "of CUDA %d.%d" % (gpu.cuda_version // 1000, gpu.cuda_version % 1000 // 10)


class _CudaError(Exception):
    """A function of the CUDA driver answered with an error code."""


def _probe():
    """Return what the CUDA driver says of the GPUs that this process may see; runs in a process of its own.

    Answers with a dictionary: {"missing": True} where there is no driver library, {"error": text} where it fails, else
    {"gpus": [the arguments of Gpu]}. CUDA itself decides what is visible: CUDA_VISIBLE_DEVICES, MIG and WSL need no
    code here. Driver API: https://docs.nvidia.com/cuda/cuda-driver-api/
    """
    import ctypes

    cuda = _library(ctypes, CUDA_LIBRARIES)
    if cuda is None:
        return {"missing": True}

    def call(name, *arguments):
        code = getattr(cuda, name)(*arguments)
        if code:
            text = ctypes.c_char_p()
            cuda.cuGetErrorString(code, ctypes.byref(text))
            raise _CudaError(code, (text.value or b"no description").decode(errors="replace"))

    def number(name, *arguments):
        value = ctypes.c_int()
        call(name, ctypes.byref(value), *arguments)
        return value.value

    try:
        call("cuInit", 0)
        version = number("cuDriverGetVersion")
        driver = _driver_version(ctypes)
        found = []
        for index in range(number("cuDeviceGetCount")):
            device = number("cuDeviceGet", index)
            name, uuid = ctypes.create_string_buffer(256), ctypes.create_string_buffer(16)
            memory = ctypes.c_size_t()
            call("cuDeviceGetName", name, 256, device)
            # drivers before CUDA 11.4 have the first version alone
            second = hasattr(cuda, "cuDeviceGetUuid_v2")
            call("cuDeviceGetUuid_v2" if second else "cuDeviceGetUuid", uuid, device)
            call("cuDeviceTotalMem_v2", ctypes.byref(memory), device)
            major, minor, integrated = (
                number("cuDeviceGetAttribute", what, device) for what in (75, 76, 18)
            )
            text = name.value.decode(errors="replace")
            kind = "MIG-" if " MIG " in text else "GPU-"
            # on unified memory, what the kernel can clear counts as free, too
            free = _available() if integrated else _free(ctypes, cuda, device)
            if free is None:
                free = memory.value
            found.append((text, kind + str(UUID(bytes=uuid.raw)), memory.value, min(free, memory.value),
                          float("%d.%d" % (major, minor)), driver, version))  # fmt: skip
        return {"gpus": found}
    except _CudaError as error:
        if error.args[0] == NO_DEVICE:
            return {"gpus": []}
        return {"error": "the CUDA driver fails (error %d: %s)" % error.args}


def _library(ctypes, names):
    """Return the first of these shared libraries that loads, or None."""
    for name in names:
        try:
            return ctypes.CDLL(name)
        except OSError:
            continue
    return None


def _free(ctypes, cuda, device):
    """Return the bytes that are free on a device, 0 where not even a context fits, None where it does not say."""
    context, free, memory = ctypes.c_void_p(), ctypes.c_size_t(), ctypes.c_size_t()
    code = cuda.cuDevicePrimaryCtxRetain(ctypes.byref(context), device)
    if code:
        return 0 if code == OUT_OF_MEMORY else None
    cuda.cuCtxSetCurrent(context)
    code = cuda.cuMemGetInfo_v2(ctypes.byref(free), ctypes.byref(memory))
    cuda.cuDevicePrimaryCtxRelease_v2(device)
    return None if code else free.value


def _available():
    """Return the bytes of main memory that a program could still get: Linux's estimate."""
    with open("/proc/meminfo") as file:
        lines = dict(line.split(":") for line in file)
    return int(lines["MemAvailable"].split()[0]) * 1024


def _driver_version(ctypes):
    """Return the driver's version as NVML says it, or the kernel module; None where neither answers, as on WSL."""
    nvml = _library(ctypes, NVML_LIBRARIES)
    text = ctypes.create_string_buffer(80)
    if nvml is not None and not nvml.nvmlInit_v2():
        code = nvml.nvmlSystemGetDriverVersion(text, 80)
        nvml.nvmlShutdown()
        if not code:
            return text.value.decode()
    try:
        with open(KERNEL_MODULE) as file:
            return re.search(r"\b\d{3,}\.\d+(\.\d+)?\b", file.read()).group(0)
    except (OSError, AttributeError):
        return None


def _ask(environment=None):
    """Return what `_probe` answers in a process of its own, with these environment variables: this one stays clean."""
    command = [sys.executable, os.path.abspath(__file__), "--probe"]
    try:
        answer = subprocess.run(
            command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=120
        )
    except subprocess.TimeoutExpired:
        return {"error": "the CUDA driver does not answer within two minutes"}
    try:
        return json.loads(answer.stdout.decode().splitlines()[-1])
    except (ValueError, IndexError):
        says = answer.stderr.decode(errors="replace").strip().splitlines()
        ended = says[-1] if says else "exit status %d" % answer.returncode
        return {"error": "the CUDA driver fails (%s)" % ended}


@functools.lru_cache(maxsize=None)
def _answer():
    """Return what the CUDA driver says, asked once a process: later, this process's own use would count as used."""
    return _ask()


def visible():
    """Return the GPUs that CUDA shows to this process, fit for RAPIDS or not, as a list of Gpu."""
    return [Gpu(*fields) for fields in _answer().get("gpus", [])]


def gpus():
    """Return those of the visible GPUs that RAPIDS can use, as a list of Gpu."""
    return [gpu for gpu in visible() if gpu.cuda()]


def unfit():
    """Say in one line why RAPIDS can use no GPU here; None if it can use one."""
    answer, hidden = _answer(), os.environ.get("CUDA_VISIBLE_DEVICES")
    if answer.get("missing"):
        if any(map(os.path.exists, SIGNS_OF_A_DRIVER)):
            return (
                "an NVIDIA driver is here, but its library libcuda.so.1 is not found "
                "(in a container, set NVIDIA_DRIVER_CAPABILITIES=compute,utility)"
            )
        return "no NVIDIA GPU found"
    if "error" in answer:
        return answer["error"]
    if not answer["gpus"]:
        shown = {key: value for key, value in os.environ.items() if key != "CUDA_VISIBLE_DEVICES"}
        if hidden is not None and _ask(shown).get("gpus"):
            return "CUDA_VISIBLE_DEVICES=%r leaves no NVIDIA GPU visible" % hidden
        return "no NVIDIA GPU found"
    return None if gpus() else visible()[0].unfit()


def extra():
    """Return the extra of pyproject.toml that fits this machine: cpu, gpu-cu12 or gpu-cu13."""
    if wanted() == "cpu" or (wanted() == "auto" and unfit()):
        return "cpu"
    if unfit():
        raise DeviceError(_gpu_missing(unfit()))
    return "gpu-cu%d" % min(gpu.cuda() for gpu in gpus())


def wanted():
    """Return TUTORIAL_DEVICE: auto, gpu or cpu."""
    value = os.environ.get("TUTORIAL_DEVICE", "auto")
    if value not in ("auto", "gpu", "cpu"):
        raise DeviceError("TUTORIAL_DEVICE is %r: set it to auto, gpu or cpu." % value)
    return value


def _gpu_missing(reason):
    return "TUTORIAL_DEVICE=gpu, but %s. Unset TUTORIAL_DEVICE to run on the CPU." % reason


def _check_python():
    """Raise DeviceError if the Python that runs lacks what the notebooks import: another one was meant."""
    missing = [name for name in NEEDS if importlib.util.find_spec(name) is None]
    if missing:
        python = Path(__file__).resolve().parents[2] / ".venv/bin/python"
        there = python if python.exists() else "the one that `make lab` installs, .venv/bin/python"
        raise DeviceError(
            "This is Python %s, %s: it has no %s. Choose another kernel or Python: %s."
            % (platform.python_version(), sys.executable, ", ".join(missing), there)
        )


def _check_processes():
    """Raise DeviceError if processes cannot share a lock: Dask's workers would never come up, and nothing say why."""
    try:
        multiprocessing.get_context("spawn").Lock()
    except (ImportError, OSError) as error:
        raise DeviceError(
            "Dask cannot start workers: processes share locks in /dev/shm, which is missing or cannot be written "
            "(%s). In a container, start it with --shm-size=1g." % error
        ) from None


def _keep_nccl_here():
    """Have NCCL meet on this machine alone, as the notebooks' clusters do, unless NCCL_SOCKET_IFNAME is set.

    Not in a worker of a cluster that others have started, which may have workers on other machines: workers of a
    notebook's own cluster inherit the variable.
    """
    dask = sys.modules.get("distributed.worker")
    if not (dask and len(dask.Worker._instances)):
        os.environ.setdefault("NCCL_SOCKET_IFNAME", "lo")


@functools.lru_cache(maxsize=None)
def _choose():
    """Return whether the GPU was chosen, and the reason where the choice fell on the CPU."""
    _check_python()
    _check_processes()
    if wanted() == "cpu":
        return False, "TUTORIAL_DEVICE=cpu"
    reason = unfit()
    if reason:
        if wanted() == "gpu":
            raise DeviceError(_gpu_missing(reason))
        return False, reason
    if len(gpus()) < len(visible()):  # Dask-CUDA takes all that are visible
        os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(gpu.uuid for gpu in gpus())
    _keep_nccl_here()
    # cuDF 26.10 says this, here and on the workers, whenever Dask asks a fresh frame for its size
    warnings.filterwarnings("ignore", message="The deep parameter is ignored")
    os.environ.setdefault("PYTHONWARNINGS", "ignore:The deep parameter is ignored:UserWarning")
    for name in RAPIDS_MODULES:
        try:
            importlib.import_module(name)
        except Exception as error:  # a broken install raises anything, OSError and RuntimeError too
            missing = getattr(error, "name", None) == name
            state = "is not installed" if missing else "does not import"
            says = str(error).splitlines()[0] if str(error) else ""
            raise DeviceError(
                "%s is here, but %s %s (%s: %s). Run `make lab` to install RAPIDS %s, "
                "or set TUTORIAL_DEVICE=cpu to run on the CPU."
                % (gpus()[0].name, name, state, type(error).__name__, says, RAPIDS)
            ) from None
    return True, ""


def __getattr__(name):
    """Choose the device at the first `from tutorial.device import GPU`, not before: the set-up needs no choice."""
    if name == "GPU":
        return _choose()[0]
    raise AttributeError("module 'tutorial.device' has no attribute %r" % name)


def dashboard_address():
    """Return where a cluster's dashboard is to listen: on this machine alone, "127.0.0.1:PORT".

    The port is TUTORIAL_DASHBOARD_PORT, else 8787. Where another program has it, Dask takes a free one; the link says
    which, so that Dask's warning of it stays out of the notebook.
    """
    port = os.environ.get("TUTORIAL_DASHBOARD_PORT", "8787")
    if not (port.isdigit() and int(port) < 2**16):
        raise DeviceError("TUTORIAL_DASHBOARD_PORT is %r: set it to a port, 0 to 65535." % port)
    warnings.filterwarnings("ignore", message=r"Port \d+ is already in use")
    return "127.0.0.1:" + port


def scheduler_address():
    """Return the address of a Dask scheduler that runs already, or None.

    DASK_SCHEDULER_ADDRESS, Dask's own setting, names it, or the file that `dask scheduler --scheduler-file` has written
    and DASK_SCHEDULER_FILE names.
    """
    address, path = (os.environ.get("DASK_SCHEDULER_" + name) for name in ("ADDRESS", "FILE"))
    if address or not path:
        return address or None
    try:
        with open(path) as file:
            return json.load(file)["address"]
    except (OSError, ValueError, KeyError) as error:
        raise DeviceError(
            "DASK_SCHEDULER_FILE=%s holds no scheduler's address (%s): start `dask scheduler --scheduler-file` first."
            % (path, type(error).__name__)
        ) from None


def running_cluster():
    """Return the cluster that DASK_SCHEDULER_ADDRESS names, for `Client(...)`; None where a notebook starts its own.

    Raises DeviceError, one line, if it does not answer or does not fit this notebook.
    """
    address = scheduler_address()
    if not address:
        return None
    from tutorial import clusters

    return clusters.RunningCluster(address)


def gpu_share():
    """Return which part of a GPU's memory this learner's notebooks may fill: TUTORIAL_GPU_SHARE, 0 to 1, else 1."""
    text = os.environ.get("TUTORIAL_GPU_SHARE", "1")
    try:
        share = float(text)
    except ValueError:
        share = 0
    if not 0 < share <= 1:
        raise DeviceError("TUTORIAL_GPU_SHARE is %r: set it to a number above 0, up to 1." % text)
    return share


def cores():
    """Return how many cores this process may use: its affinity and its control group's share decide, as in Dask."""
    try:
        from dask.system import cpu_count
    except ImportError:  # the set-up asks before Dask is installed
        return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return cpu_count()


def _cpu():
    usable, there = cores(), os.cpu_count()
    return "CPU, %s%d cores" % ("" if usable == there else "%d of " % usable, there)


def _gpu_names(found):
    names = sorted({gpu.name for gpu in found})
    return ", ".join("%d x %s" % (sum(gpu.name == name for gpu in found), name) for name in names)


def _remarks():
    """Return what a reader of this machine's figures must know of its GPUs, a phrase each."""
    remarks = ["%s: not used" % gpu.unfit() for gpu in visible() if not gpu.cuda()]
    if remarks:
        remarks.append("CUDA_VISIBLE_DEVICES=%s" % ",".join(gpu.uuid for gpu in gpus()))
    share, least = gpu_share(), min(gpus(), key=lambda gpu: gpu.free)
    if share < 1:
        remarks.append(
            "TUTORIAL_GPU_SHARE=%g: the sizes are for %.0f GiB of each"
            % (share, share * least.memory / 2**30)
        )
    if least.free < min(BUSY, share) * least.memory:
        remarks.append(
            "other programs hold memory, %.0f of %.0f GiB are free: the sizes are smaller"
            % (least.free / 2**30, least.memory / 2**30)
        )
    return remarks


def describe():
    """Return the one line that a notebook prints at its top: `Device: ...`."""
    on_gpu, why_cpu = _choose()
    address = scheduler_address()
    elsewhere = ["workers of %s" % address] if address else []
    if on_gpu:
        return "; ".join(["Device: %s" % _gpu_names(gpus())] + elsewhere + _remarks())
    return (
        "Device: %s; %s. The cells run on NumPy, pandas, scikit-learn and Dask-ML, at sizes that suit a laptop."
        % ("; ".join([_cpu()] + elsewhere), why_cpu)
    )


def ran_on():
    """Return the one line that a notebook prints at its end: `Ran on: ...`, and the machine."""
    return "Ran on: " + machine()


def machine():
    """Return hardware and versions in one line, the two parted by a semicolon: what a figure is recorded with."""
    names = ["dask", "scikit-learn", "dask-ml", "pandas", "numpy"]
    if _choose()[0]:
        found = gpus()
        hardware = "%s, driver %s, %s" % (_gpu_names(found), _driver_name(found[0]), _cpu())
        versions = [
            (name, importlib.import_module(name).__version__)
            for name in ("cudf", "cuml", "dask_cuda", "cupy")
        ]
    else:
        hardware, versions = _cpu(), []
    versions += [(name, metadata.version(name)) for name in names]
    return "%s; Python %s, %s" % (
        hardware, platform.python_version(), ", ".join("%s %s" % item for item in versions))  # fmt: skip


def _disk():
    """Return the bytes that are free for temporary files, where the notebooks and Dask's workers write; and a line."""
    try:
        from dask import config

        folder = config.get("temporary-directory", None) or tempfile.gettempdir()
        free = shutil.disk_usage(folder).free
    except OSError as error:  # no folder can be written, or the one that is set is not there
        return 0, "No room for temporary files (%s)" % error.strerror
    return free, "%.0f GiB free" % (free / 2**30)


def need_disk(gib):
    """Raise DeviceError unless so many GiB are free for temporary files."""
    free, line = _disk()
    if free < gib * 2**30:
        raise DeviceError(
            "%s%s, %s GiB is needed: free some, or set TMPDIR to another folder."
            % (line, " for temporary files" if free else "", gib)
        )


def report():
    """Return the machine check as text: devices, memory, driver, versions, and the mode of the notebooks."""
    on_gpu, why_cpu = _choose()
    lines = ["CPU       %s, %s" % (_cpu()[5:], platform.machine())]
    for number, gpu in enumerate(visible()):
        lines.append(
            "GPU %d     %s, %.0f GiB (%.0f free), compute capability %s, driver %s (%s)"
            % (
                number,
                gpu.name,
                gpu.memory / 2**30,
                gpu.free / 2**30,
                gpu.capability,
                _driver_name(gpu),
                "CUDA %d" % gpu.cuda() if gpu.cuda() else "not used: too old for RAPIDS",
            )
        )
    lines += ["          %s" % remark for remark in (_remarks() if on_gpu else [])]
    lines.append("Disk      %s" % _disk()[1])
    lines.append("Mode      %s" % ("GPU: the cells run on RAPIDS" if on_gpu else "CPU: " + why_cpu))
    lines.append("Versions  " + machine().split("; ", 1)[1])
    return "\n".join(lines)


def check_versions():
    """Return a line that says that the pinned packages are installed as the notebooks were recorded with.

    The pins are those of pyproject.toml with ==. Raises DeviceError, which names each package that differs.
    """
    import tomllib

    with open(str(PYPROJECT), "rb") as file:
        pins = [pin.split("==") for pin in tomllib.load(file)["project"]["dependencies"]]
    others, same = [], 0
    for package, pinned in (pin for pin in pins if len(pin) == 2):
        name = package.split("[")[0]
        try:
            installed = metadata.version(name)
        except metadata.PackageNotFoundError:
            installed = "nothing"
        fits = installed.startswith(pinned[:-1]) if pinned.endswith(".*") else installed == pinned
        same += fits
        if not fits:
            others.append("%s %s (%s is expected)" % (name, installed, pinned))
    if others:
        raise DeviceError(
            "Installed is %s. The notebooks may print something else than their text says. "
            "`make lab` installs the versions that they were recorded with." % ", ".join(others)
        )
    return "Pinned packages: %d, all as recorded" % same


def mode_with(value):
    """Return the line `Mode` of the report as it would be with TUTORIAL_DEVICE set to `value`."""
    environment = dict(os.environ, TUTORIAL_DEVICE=value)
    command = [sys.executable, os.path.abspath(__file__)]
    answer = subprocess.run(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    lines = (answer.stdout + answer.stderr).decode(errors="replace").splitlines()
    return next(line for line in lines if line.startswith(("Mode", "DeviceError")))


def main(arguments):
    """Print the report; with --extra, print what pyproject.toml offers for this machine."""
    try:
        if arguments == ["--extra"]:
            print(extra())
        elif arguments == ["--probe"]:
            print(json.dumps(_probe()))
        elif not arguments:
            print(report())
        else:
            sys.exit("usage: python notebooks/tutorial/device.py [--extra]")
    except DeviceError as error:
        sys.exit("DeviceError: %s" % error)


if __name__ == "__main__":
    main(sys.argv[1:])
