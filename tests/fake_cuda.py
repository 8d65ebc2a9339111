"""A made-up machine for tests: what the CUDA driver and NVML answer there. Copied beside a test as sitecustomize.py.

It reads fake_cuda.json beside it:
    cuda: under which name the driver's library loads, or null; init: what cuInit returns, or "crash"
    version: 13000 is CUDA 13.0; nvml: whether NVML loads; driver: the version that it says
    gpus: a list of {name, uuid (32 hexadecimal digits), memory, free (bytes), capability (9.0), integrated, context}
    exist: paths that exist besides; cores: the cores that the process may use; shm: whether /dev/shm can be written
CUDA_VISIBLE_DEVICES is read as CUDA reads it: names are indices or the beginnings of UUIDs, and the first unknown ends
the list.
"""

import ctypes
import json
import os
from pathlib import Path

MACHINE = json.loads(Path(__file__).with_name("fake_cuda.json").read_text())
ERRORS = {2: b"out of memory", 100: b"no CUDA-capable device is detected", 803: b"driver mismatch"}


def visible():
    """Return the GPUs that CUDA would show."""
    found, names = MACHINE["gpus"], os.environ.get("CUDA_VISIBLE_DEVICES")
    if names is None:
        return found
    shown = []
    for name in map(str.strip, names.split(",")):
        kind = {
            f"{'MIG' if ' MIG ' in gpu['name'] else 'GPU'}-{dashed(gpu['uuid'])}": gpu
            for gpu in found
        }
        match = [gpu for uuid, gpu in kind.items() if len(name) > 4 and uuid.startswith(name)]
        if name.isdigit() and int(name) < len(found):
            match = [found[int(name)]]
        if len(match) != 1:
            break
        shown += match
    return shown


def dashed(uuid):
    """Return a UUID of 32 digits as it is written."""
    return "-".join([uuid[:8], uuid[8:12], uuid[12:16], uuid[16:20], uuid[20:]])


def put(reference, value):
    """Write to what a function got by reference."""
    reference._obj.value = value
    return 0


class Cuda:
    """libcuda: the functions that tutorial.device calls."""

    def cuInit(self, flags):
        if MACHINE["init"] == "crash":
            os.abort()
        return MACHINE["init"] or (0 if visible() else 100)

    def cuGetErrorString(self, code, text):
        return put(text, ERRORS[code])

    def cuDriverGetVersion(self, version):
        return put(version, MACHINE["version"])

    def cuDeviceGetCount(self, count):
        return put(count, len(visible()))

    def cuDeviceGet(self, device, index):
        return put(device, index)

    def cuDeviceGetName(self, name, size, device):
        name.value = visible()[device]["name"].encode()
        return 0

    def cuDeviceGetUuid(self, uuid, device):
        uuid.raw = bytes.fromhex(visible()[device]["uuid"])
        return 0

    if MACHINE["version"] >= 11040:
        cuDeviceGetUuid_v2 = cuDeviceGetUuid

    def cuDeviceTotalMem_v2(self, memory, device):
        return put(memory, visible()[device]["memory"])

    def cuDeviceGetAttribute(self, value, what, device):
        major, minor = str(visible()[device]["capability"]).split(".")
        integrated = visible()[device].get("integrated", False)
        return put(value, int({75: major, 76: minor, 18: integrated}[what]))

    def cuDevicePrimaryCtxRetain(self, context, device):
        self.current = device
        return visible()[device].get("context", 0)

    def cuCtxSetCurrent(self, context):
        return 0

    def cuMemGetInfo_v2(self, free, memory):
        put(memory, visible()[self.current]["memory"])
        return put(free, visible()[self.current]["free"])

    def cuDevicePrimaryCtxRelease_v2(self, device):
        return 0


class Nvml:
    """libnvidia-ml: the driver's version."""

    def nvmlInit_v2(self):
        return 0

    def nvmlShutdown(self):
        return 0

    def nvmlSystemGetDriverVersion(self, text, size):
        text.value = MACHINE["driver"].encode()
        return 0


def load(name, *arguments, **options):
    """Stand in for ctypes.CDLL."""
    if "libcuda.so" in str(name) or "libnvidia-ml.so" in str(name):
        fake = (
            Cuda if name == MACHINE["cuda"] else Nvml if MACHINE["nvml"] and "ml" in name else None
        )
        if fake is None:
            raise OSError(f"{name}: cannot open shared object file")
        return fake()
    return real_load(name, *arguments, **options)


real_load, ctypes.CDLL = ctypes.CDLL, load
real_exists = os.path.exists
os.path.exists = lambda path: path in MACHINE["exist"] or real_exists(path)
if not MACHINE["shm"]:
    import _multiprocessing

    class NoLock:
        """Stand in for a semaphore, which needs /dev/shm."""

        SEM_VALUE_MAX = 1

        def __init__(self, *arguments):
            raise PermissionError(13, "Permission denied")

    _multiprocessing.SemLock = NoLock
if MACHINE["cores"]:
    os.sched_setaffinity(0, MACHINE["cores"])
