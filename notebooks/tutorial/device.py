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
import os
import platform
import shutil
import subprocess
import sys
import warnings
from importlib import metadata
from pathlib import Path

RAPIDS = "26.10"
RAPIDS_MODULES = ("cupy", "cudf", "dask_cudf", "cuml", "dask_cuda")
# CUDA major version -> (oldest driver branch, oldest compute capability) that RAPIDS supports
CUDA_NEEDS = {13: (580, 7.5), 12: (535, 7.0)}


class DeviceError(RuntimeError):
    """This machine cannot run what was asked for; the message says what to do. Jupyter shows that one line."""

    def _render_traceback_(self):
        return ["DeviceError: %s" % self]


class Gpu:
    """One GPU as the driver describes it: name, memory and free memory in bytes, compute capability, driver version."""

    def __init__(self, name, memory, free, capability, driver):
        self.name, self.memory, self.free = name, memory, free
        self.capability, self.driver = capability, driver

    def cuda(self):
        """Return the newest CUDA major version that driver and GPU allow RAPIDS, or None."""
        branch = int(self.driver.split(".")[0])
        for major, (oldest_branch, oldest_capability) in sorted(CUDA_NEEDS.items(), reverse=True):
            if branch >= oldest_branch and self.capability >= oldest_capability:
                return major
        return None


@functools.lru_cache(maxsize=None)
def _nvidia_smi():
    """Return what nvidia-smi says of each GPU, a line each, and its complaint where it fails."""
    if not shutil.which("nvidia-smi"):
        return [], ""
    fields = "index,uuid,name,memory.total,memory.free,compute_cap,driver_version"
    query = ["nvidia-smi", "--query-gpu=" + fields, "--format=csv,noheader,nounits"]
    try:
        answer = subprocess.run(query, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=60)
    except (OSError, subprocess.SubprocessError) as error:
        return [], str(error)
    lines = answer.stdout.decode(errors="replace").strip().splitlines()
    if answer.returncode:
        return [], lines[0] if lines else "exit status %d" % answer.returncode
    return lines, ""


def gpus():
    """Return the GPUs that the NVIDIA driver shows and CUDA_VISIBLE_DEVICES leaves visible, as a list of Gpu."""
    found = {}
    for line in _nvidia_smi()[0]:
        try:
            index, uuid, name, memory, free, capability, driver = map(str.strip, line.split(","))
            memory, free = int(memory) * 2**20, int(free) * 2**20
            found[index, uuid] = Gpu(name, memory, free, float(capability), driver)
        except ValueError:  # a warning between the lines, or a field that reads [N/A]
            continue
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        return list(found.values())
    named = []
    for wanted in visible.split(","):
        match = [
            gpu
            for (index, uuid), gpu in found.items()
            if wanted and (wanted == index or uuid.startswith(wanted))
        ]
        if not match:
            break  # CUDA, too, stops at the first name that it does not know
        named += match
    return named


def unfit(found):
    """Say in one line why RAPIDS cannot use these GPUs; None if it can."""
    if not found:
        lines, complaint = _nvidia_smi()
        if complaint:
            return "nvidia-smi fails (%s)" % complaint.rstrip(".")
        if lines and os.environ.get("CUDA_VISIBLE_DEVICES") is not None:
            return (
                "CUDA_VISIBLE_DEVICES=%r leaves no NVIDIA GPU visible"
                % os.environ["CUDA_VISIBLE_DEVICES"]
            )
        return "no NVIDIA GPU found"
    if all(gpu.cuda() for gpu in found):
        return None
    gpu = next(gpu for gpu in found if not gpu.cuda())
    branch, capability = CUDA_NEEDS[12]
    if gpu.capability < capability:
        return "%s is too old for RAPIDS %s (compute capability %s, %s is needed)" % (
            gpu.name, RAPIDS, gpu.capability, capability)  # fmt: skip
    return "NVIDIA driver %s is too old for RAPIDS %s: update it to %d or newer" % (
        gpu.driver,
        RAPIDS,
        branch,
    )


def extra():
    """Return the extra of pyproject.toml that fits this machine: cpu, gpu-cu12 or gpu-cu13."""
    found = gpus()
    if wanted() == "cpu" or (wanted() == "auto" and unfit(found)):
        return "cpu"
    if unfit(found):
        raise DeviceError(_gpu_missing(unfit(found)))
    return "gpu-cu%d" % min(gpu.cuda() for gpu in found)


def wanted():
    """Return TUTORIAL_DEVICE: auto, gpu or cpu."""
    value = os.environ.get("TUTORIAL_DEVICE", "auto")
    if value not in ("auto", "gpu", "cpu"):
        raise DeviceError("TUTORIAL_DEVICE is %r: set it to auto, gpu or cpu." % value)
    return value


def _gpu_missing(reason):
    return "TUTORIAL_DEVICE=gpu, but %s. Unset TUTORIAL_DEVICE to run on the CPU." % reason


@functools.lru_cache(maxsize=None)
def _choose():
    """Return whether the GPU was chosen, and the reason where the choice fell on the CPU."""
    if wanted() == "cpu":
        return False, "TUTORIAL_DEVICE=cpu"
    found = gpus()
    reason = unfit(found)
    if reason:
        if wanted() == "gpu":
            raise DeviceError(_gpu_missing(reason))
        return False, reason
    # the notebooks' clusters stay on this machine: NCCL, too, has no need of the network
    os.environ.setdefault("NCCL_SOCKET_IFNAME", "lo")
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
                % (found[0].name, name, state, type(error).__name__, says, RAPIDS)
            ) from None
    return True, ""


def __getattr__(name):
    """Choose the device at the first `from tutorial.device import GPU`, not before: the set-up needs no choice."""
    if name == "GPU":
        return _choose()[0]
    raise AttributeError("module 'tutorial.device' has no attribute %r" % name)


def _cpu():
    return "CPU, %d cores" % os.cpu_count()


def _gpu_names(found):
    names = sorted({gpu.name for gpu in found})
    return ", ".join("%d x %s" % (sum(gpu.name == name for gpu in found), name) for name in names)


def describe():
    """Return the one line that a notebook prints at its top: `Device: ...`."""
    on_gpu, why_cpu = _choose()
    if on_gpu:
        return "Device: %s" % _gpu_names(gpus())
    return (
        "Device: %s; %s. The cells run on NumPy, pandas, scikit-learn and Dask-ML, at sizes that suit a laptop."
        % (
            _cpu(),
            why_cpu,
        )
    )


def ran_on():
    """Return the one line that a notebook prints at its end: `Ran on: ...`, and the machine."""
    return "Ran on: " + machine()


def machine():
    """Return hardware and versions in one line, the two parted by a semicolon: what a figure is recorded with."""
    names = ["dask", "scikit-learn", "dask-ml", "pandas", "numpy"]
    if _choose()[0]:
        found = gpus()
        hardware = "%s, driver %s, %s" % (_gpu_names(found), found[0].driver, _cpu())
        versions = [
            (name, importlib.import_module(name).__version__)
            for name in ("cudf", "cuml", "dask_cuda", "cupy")
        ]
    else:
        hardware, versions = _cpu(), []
    versions += [(name, metadata.version(name)) for name in names]
    return "%s; Python %s, %s" % (
        hardware, platform.python_version(), ", ".join("%s %s" % item for item in versions))  # fmt: skip


def report():
    """Return the machine check as text: devices, memory, driver, versions, and the mode of the notebooks."""
    on_gpu, why_cpu = _choose()
    lines = ["CPU       %d cores, %s" % (os.cpu_count(), platform.machine())]
    for number, gpu in enumerate(gpus()):
        lines.append(
            "GPU %d     %s, %.0f GiB (%.0f free), compute capability %s, driver %s (CUDA %s)"
            % (
                number,
                gpu.name,
                gpu.memory / 2**30,
                gpu.free / 2**30,
                gpu.capability,
                gpu.driver,
                gpu.cuda() or "too old for RAPIDS",
            )
        )
    free = shutil.disk_usage(Path.home()).free
    lines.append("Disk      %.0f GiB free" % (free / 2**30))
    lines.append("Mode      %s" % ("GPU: the cells run on RAPIDS" if on_gpu else "CPU: " + why_cpu))
    lines.append("Versions  " + machine().split("; ", 1)[1])
    return "\n".join(lines)


def main(arguments):
    """Print the report; with --extra, print what pyproject.toml offers for this machine."""
    try:
        if arguments == ["--extra"]:
            print(extra())
        elif not arguments:
            print(report())
        else:
            sys.exit("usage: python notebooks/tutorial/device.py [--extra]")
    except DeviceError as error:
        sys.exit("DeviceError: %s" % error)


if __name__ == "__main__":
    main(sys.argv[1:])
