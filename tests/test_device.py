"""The device switch and the set-up, against machines of every kind: each bad one gets one clear line."""

import ast
import gc
import json
import os
import platform
import re
import shutil
import socket
import subprocess
import sys
import warnings
from importlib import metadata
from types import SimpleNamespace
from urllib.parse import urlsplit

from tutorial import device, measure

import numpy as np
import psutil
import pytest
import sklearn.cluster
import threadpoolctl
from distributed import LocalCluster
from IPython.core.events import EventManager, available_events
from threadpoolctl import threadpool_info

from tests.books import DEEPER, LESSONS, ROOT, code_cells, read

DEVICE, GIB = "notebooks/tutorial/device.py", 2**30


def gpu(name, memory, capability, **more):
    """Describe one GPU to tests.fake_cuda; memory in GiB, half a GiB of it in use; uuid: one digit, 32 times."""
    described = {"name": name, "memory": memory * GIB, "free": int((memory - 0.5) * GIB)}
    return described | {"uuid": 32 * "a", "capability": capability} | more


H100 = gpu("NVIDIA H100 80GB HBM3", 80, 9.0)
H200 = gpu("NVIDIA H200", 140, 9.0, uuid=32 * "b")
V100 = gpu("Tesla V100", 16, 7.0, uuid=32 * "c")
A100 = gpu("NVIDIA A100", 40, 8.0, uuid=32 * "d")
KEPLER = gpu("Tesla K80", 11, 3.7, uuid=32 * "e")
MIG = gpu("NVIDIA H100 80GB HBM3 MIG 1g.10gb", 10, 9.0, uuid=32 * "f")
GB10 = gpu("NVIDIA GB10", 120, 12.1, uuid=32 * "1", integrated=True)
BUSY = gpu("NVIDIA H100 80GB HBM3", 80, 9.0, free=38 * GIB)
FULL = gpu("NVIDIA H100 80GB HBM3", 80, 9.0, context=2)
UUIDS = {letter: "-".join(letter * n for n in (8, 4, 4, 4, 12)) for letter in "abcdef1"}
WSL = {"cuda": "/usr/lib/wsl/lib/libcuda.so.1", "nvml": False}
NO_COMPUTE = {"cuda": None, "exist": ["/proc/driver/nvidia/version"]}
# where RAPIDS is not installed, these stand in, so that a GPU can be chosen
RAPIDS = dict.fromkeys(device.RAPIDS_MODULES, "__version__ = '26.10'")


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """Return a function that runs a Python file here as on a machine with the given GPUs and modules."""
    monkeypatch.delenv("TUTORIAL_DEVICE", raising=False)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)

    def run(*command, gpus=(), modules=None, machine=None, **environment):
        described = {"cuda": "libcuda.so.1" if gpus else None, "init": 0, "version": 13000}
        described |= {
            "nvml": True,
            "driver": "580.159.04",
            "gpus": gpus,
            "exist": [],
            "cores": [],
            "shm": True,
        }
        text = json.dumps(described | (machine or {}))
        (tmp_path / "fake_cuda.json").write_text(text)
        shutil.copy(ROOT / "tests/fake_cuda.py", tmp_path / "sitecustomize.py")
        for name, code in (modules or {}).items():
            (tmp_path / f"{name}.py").write_text(code)
        environment = {**os.environ, "PYTHONPATH": str(tmp_path), **environment}
        return subprocess.run(
            [sys.executable, *command], cwd=ROOT, env=environment, capture_output=True, text=True
        )

    return run


def one_line(answer):
    """Return the single line with which a command has refused."""
    assert answer.returncode == 1
    assert len(answer.stderr.strip().splitlines()) == 1, answer.stderr
    return answer.stderr.strip()


def older(driver, version):
    """Describe another driver than the newest."""
    return {"driver": driver, "version": version}


@pytest.mark.parametrize(
    ("gpus", "more", "wanted", "extra"),
    [
        ([], {}, "auto", "cpu"),
        ([H100], {}, "auto", "gpu-cu13"),
        ([H100, H200], {}, "auto", "gpu-cu13"),
        ([V100], {}, "auto", "gpu-cu12"),
        ([V100, H200], {}, "gpu", "gpu-cu12"),
        ([A100], older("545.23", 12030), "auto", "gpu-cu12"),
        ([KEPLER], {}, "auto", "cpu"),
        ([KEPLER, H100], {}, "auto", "gpu-cu13"),
        ([GB10], {}, "auto", "gpu-cu13"),
        ([MIG], {}, "auto", "gpu-cu13"),
        ([H100], WSL, "auto", "gpu-cu13"),
        ([H100], {}, "cpu", "cpu"),
    ],
)
def test_extra_fits_the_machine(machine, gpus, more, wanted, extra):
    answer = machine(DEVICE, "--extra", gpus=gpus, machine=more, TUTORIAL_DEVICE=wanted)
    assert answer.stdout.strip() == extra


@pytest.mark.parametrize(
    ("gpus", "more", "visible", "says"),
    [
        ([], {}, None, "no NVIDIA GPU found"),
        ([], {"cuda": "libcuda.so.1"}, None, "no NVIDIA GPU found"),
        ([], {"cuda": "libcuda.so.1"}, "0", "no NVIDIA GPU found"),
        (
            [KEPLER],
            {},
            None,
            "Tesla K80 is too old for RAPIDS 26.10 (compute capability 3.7, 7.0 is needed)",
        ),
        (
            [A100],
            older("470.82", 11040),
            None,
            "NVIDIA driver 470.82 is too old for RAPIDS 26.10: update it to 535 or newer",
        ),
        (
            [A100],
            older("450.51", 11000),
            None,
            "NVIDIA driver 450.51 is too old for RAPIDS 26.10: update it to 535 or newer",
        ),
        (
            [A100],
            {"nvml": False, "version": 11040},
            None,
            "NVIDIA driver of CUDA 11.4 is too old for RAPIDS 26.10: update it to 535 or newer",
        ),
        ([H100], {}, "", "CUDA_VISIBLE_DEVICES='' leaves no NVIDIA GPU visible"),
        ([H100], {}, "7", "CUDA_VISIBLE_DEVICES='7' leaves no NVIDIA GPU visible"),
        (
            [H100],
            NO_COMPUTE,
            None,
            "an NVIDIA driver is here, but its library libcuda.so.1 is not found "
            "(in a container, set NVIDIA_DRIVER_CAPABILITIES=compute,utility)",
        ),
        ([H100], {"init": 803}, None, "the CUDA driver fails (error 803: driver mismatch)"),
    ],
)
def test_unfit_gpu(machine, gpus, more, visible, says):
    """With gpu an error; with auto the CPU, and the report says why."""
    environment = {} if visible is None else {"CUDA_VISIBLE_DEVICES": visible}
    environment |= {"gpus": gpus, "machine": more}
    refused = machine(DEVICE, TUTORIAL_DEVICE="gpu", **environment)
    assert says in one_line(refused) and "TUTORIAL_DEVICE=gpu" in one_line(refused)
    report = machine(DEVICE, **environment)
    assert report.returncode == 0 and f"Mode      CPU: {says}\n" in report.stdout


def test_a_driver_that_crashes_takes_only_the_question_with_it(machine):
    report = machine(DEVICE, gpus=[H100], machine={"init": "crash"})
    assert report.returncode == 0 and "Mode      CPU: the CUDA driver fails (" in report.stdout


def names(run, code="[(gpu.name, gpu.uuid) for gpu in device.gpus()]", **options):
    """Return what Python says of tutorial.device on a made-up machine, evaluated."""
    code = (
        f"import sys; sys.path.insert(0, 'notebooks'); from tutorial import device; print({code})"
    )
    answer = run("-c", code, **options)
    assert answer.returncode == 0, answer.stderr
    return ast.literal_eval(answer.stdout)


@pytest.mark.parametrize(
    ("visible", "expected"),
    [
        (None, [H100, H200]),
        ("1", [H200]),
        ("1, 0", [H200, H100]),
        (f"GPU-{UUIDS['b']}", [H200]),
        ("GPU-bbbb", [H200]),
        ("0,9,1", [H100]),
    ],
)
def test_visible_devices(machine, visible, expected):
    environment = {} if visible is None else {"CUDA_VISIBLE_DEVICES": visible}
    found = names(machine, gpus=[H100, H200], **environment)
    assert found == [(gpu["name"], f"GPU-{UUIDS[gpu['uuid'][0]]}") for gpu in expected]


def test_an_instance_of_mig_is_called_as_cuda_calls_it(machine):
    [(_, uuid)] = names(machine, gpus=[MIG], CUDA_VISIBLE_DEVICES=f"MIG-{UUIDS['f']}")
    assert uuid == f"MIG-{UUIDS['f']}"


def on_gpu(run, what, **options):
    """Return a line of tutorial.device on a made-up machine whose GPU is chosen, RAPIDS made up as well."""
    return names(run, f"(device.GPU, {what})", modules=RAPIDS, **options)


def test_gpus_that_differ(machine):
    """Those that are fit are used, and the line says how: also Dask-CUDA and other processes see no others."""
    chosen, (line, visible) = on_gpu(
        machine,
        "(device.describe(), device.os.environ['CUDA_VISIBLE_DEVICES'])",
        gpus=[KEPLER, H100, H200],
    )
    uuids = f"GPU-{UUIDS['a']},GPU-{UUIDS['b']}"
    assert chosen and visible == uuids
    assert line == (
        "Device: 1 x NVIDIA H100 80GB HBM3, 1 x NVIDIA H200; Tesla K80 is too old for RAPIDS 26.10 "
        f"(compute capability 3.7, 7.0 is needed): not used; CUDA_VISIBLE_DEVICES={uuids}"
    )


def test_sizes_follow_the_memory_that_is_free(machine):
    code = "[device.describe(), __import__('tutorial.measure').measure.rows_that_fill(0.5, 8, 7)]"
    (_, [line, rows]), (_, [_, more]) = (on_gpu(machine, code, gpus=[gpu]) for gpu in (BUSY, H100))
    assert line == (
        "Device: 1 x NVIDIA H100 80GB HBM3; other programs hold memory, "
        "38 of 80 GiB are free: the sizes are smaller"
    )
    assert rows == 38 * GIB // 16 // 1000 * 1000 < more


def test_learners_who_share_a_gpu_get_their_part(machine):
    """As long as it is free; a part that is none gets one line."""
    code = "[device.describe(), __import__('tutorial.measure').measure.rows_that_fill(1, 8, 7)]"
    for gpu, room in [(H100, 0.25 * 80 * GIB), (BUSY, 0.25 * 80 * GIB)]:
        _, [line, rows] = on_gpu(machine, code, gpus=[gpu], TUTORIAL_GPU_SHARE="0.25")
        assert line.endswith(
            "H100 80GB HBM3; TUTORIAL_GPU_SHARE=0.25: the sizes are for 20 GiB of each"
        )
        assert rows == room // 8 // 1000 * 1000
    _, [line, rows] = on_gpu(machine, code, gpus=[BUSY], TUTORIAL_GPU_SHARE="0.5")
    assert "are for 40 GiB of each; other programs hold memory, 38 of 80" in line
    assert rows == 38 * GIB // 8 // 1000 * 1000
    code = "import sys; sys.path.insert(0, 'notebooks'); from tutorial import device; device.describe()"
    for wrong in ("0", "50%", "2"):
        answer = machine("-c", code, gpus=[H100], modules=RAPIDS, TUTORIAL_GPU_SHARE=wrong)
        says = f"TUTORIAL_GPU_SHARE is {wrong!r}: set it to a number above 0, up to 1."
        assert answer.stderr.strip().endswith(says)


def test_a_gpu_that_is_full_has_nothing_free(machine):
    assert names(machine, "[gpu.free for gpu in device.gpus()]", gpus=[FULL]) == [0]


def test_on_unified_memory_the_rest_of_the_machine_counts(machine):
    [free] = names(machine, "[gpu.free for gpu in device.gpus()]", gpus=[GB10])
    assert free == pytest.approx(psutil.virtual_memory().available, rel=0.3)
    assert free < GB10["free"]


def test_cores_are_those_that_this_process_may_use(machine):
    """By its affinity: in the report, at a notebook's end and where chunks are counted."""
    code = "(device.cores(), device.machine().split(';')[0], __import__('dask').system.CPU_COUNT)"
    count, label, dask_count = names(machine, code, machine={"cores": [0]})
    assert count == dask_count == 1
    assert label == (f"CPU, 1 of {os.cpu_count()} cores" if os.cpu_count() > 1 else "CPU, 1 cores")


def test_home_may_be_missing(machine):
    for home in ("/nowhere/at/all", ""):
        report = machine(DEVICE, HOME=home)
        assert report.returncode == 0 and re.search(r"Disk +\d+ GiB free\n", report.stdout)


def test_no_room_for_temporary_files(machine):
    """The report still comes; a notebook that writes files ends in one line before it does."""
    environment = {"TMPDIR": "/nowhere", "DASK_TEMPORARY_DIRECTORY": "/nowhere"}
    assert (
        "Disk      No room for temporary files (No such file or directory)"
        in machine(DEVICE, **environment).stdout
    )
    code = "import sys; sys.path.insert(0, 'notebooks'); from tutorial import device; device.need_disk(1)"
    shown = machine("-m", "IPython", "--colors=NoColor", "-c", code, **environment).stdout
    assert shown.splitlines() == [
        "DeviceError: No room for temporary files (No such file or directory), 1 GiB is needed: "
        "free some, or set TMPDIR to another folder."
    ]


def test_too_little_room_for_temporary_files(machine):
    """One line before a notebook starts to write; the line says how much there is."""
    code = "import sys; sys.path.insert(0, 'notebooks'); from tutorial import device; device.need_disk(10**6)"
    shown = machine("-m", "IPython", "--colors=NoColor", "-c", code).stdout
    says = r"DeviceError: \d+ GiB free for temporary files, 1000000 GiB is needed: free some, or set TMPDIR"
    assert re.match(says, shown) and len(shown.strip().splitlines()) == 1


def test_without_shared_memory_workers_cannot_start(machine):
    """One line at once, where a cluster would wait for its workers without end."""
    says = one_line(machine(DEVICE, machine={"shm": False}))
    assert says == (
        "DeviceError: Dask cannot start workers: processes share locks in /dev/shm, which is missing or cannot be "
        "written ([Errno 13] Permission denied). In a container, start it with --shm-size=1g."
    )


def test_the_mode_of_another_choice(machine):
    """What START_HERE shows: nothing changes for the process that asks."""
    assert names(machine, "[device.mode_with('cpu')]", gpus=[H100]) == [
        "Mode      CPU: TUTORIAL_DEVICE=cpu"
    ]
    assert names(machine, "[device.mode_with('gpu')]")[0].startswith(
        "DeviceError: TUTORIAL_DEVICE=gpu, but no"
    )


def test_the_versions_are_those_of_the_pins():
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    pinned = re.findall(r'^    "[^"]+==[^"]+",', text.split("[project.optional")[0], re.MULTILINE)
    assert device.check_versions() == f"Pinned packages: {len(pinned)}, all as recorded"


def test_other_versions_are_named(monkeypatch):
    """All of them in one line; a pin that ends in .* allows what begins so, and 3.0 does not allow 3.01."""
    real = metadata.version
    others = {"dask": "2020.1", "pandas": "3.01.2", "numpy": "2.4.60", "matplotlib": "3.11.99"}
    monkeypatch.setattr(metadata, "version", lambda name: others.get(name) or real(name))
    with pytest.raises(device.DeviceError) as raised:
        device.check_versions()
    says = str(raised.value)
    assert re.findall(r"(\w+) (\S+) \((\S+) is expected\)", says) == [
        ("dask", "2020.1", "2026.7.1"), ("numpy", "2.4.60", "2.4.6"), ("pandas", "3.01.2", "3.0.*")]  # fmt: skip
    assert "make lab" in says and len(says.splitlines()) == 1


def test_the_dashboard_has_a_fixed_port(monkeypatch):
    monkeypatch.delenv("TUTORIAL_DASHBOARD_PORT", raising=False)
    assert device.dashboard_address() == "127.0.0.1:8787"
    monkeypatch.setenv("TUTORIAL_DASHBOARD_PORT", "9")
    assert device.dashboard_address() == "127.0.0.1:9"
    monkeypatch.setenv("TUTORIAL_DASHBOARD_PORT", "http")
    with pytest.raises(device.DeviceError, match="is 'http': set it to a port"):
        device.dashboard_address()


def test_a_port_that_is_taken_gives_way_to_another(monkeypatch, recwarn):
    """Also to one that another notebook takes at the same moment; on loopback still, and without a word in red."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        monkeypatch.setenv("TUTORIAL_DASHBOARD_PORT", str(port))
        with warnings.catch_warnings():
            address = device.dashboard_address()
            with LocalCluster(n_workers=0, dashboard_address=address) as cluster:
                link = urlsplit(cluster.dashboard_link)
    assert address == f"127.0.0.1:{port}" and link.hostname == "127.0.0.1" and link.port != port
    assert not [warning for warning in recwarn if "already in use" in str(warning.message)]


@pytest.mark.parametrize("book", [*LESSONS, *DEEPER])
def test_a_notebook_in_another_python_shows_one_line(book):
    """The import cell of every notebook, in a Python without Dask (here: whose site-packages are not read)."""
    cell = code_cells(read(book))[0].source
    run = "import sys; sys.path.insert(0, 'notebooks')\n" + cell
    answer = subprocess.run(
        [sys.executable, "-S", "-c", run], cwd=ROOT, capture_output=True, text=True
    )
    says = answer.stderr.strip().splitlines()[-1]
    assert re.match(r"tutorial.device.DeviceError: This is Python .*: it has no dask, ", says)


def test_another_python_is_told_in_one_line(tmp_path):
    """A Python without Dask: in a terminal, and where it is a notebook's kernel."""
    bare = [sys.executable, "-S"]  # no site-packages
    answer = subprocess.run([*bare, DEVICE], cwd=ROOT, capture_output=True, text=True)
    says = one_line(answer)
    assert says.startswith(f"DeviceError: This is Python {platform.python_version()}, ")
    assert "it has no dask, distributed," in says and "Choose another kernel or Python: " in says


def test_wrong_value(machine):
    for command in (
        [DEVICE],
        [DEVICE, "--extra"],
        [".ci/environment.py"],
    ):
        says = one_line(machine(*command, TUTORIAL_DEVICE="GPU0"))
        assert says == "DeviceError: TUTORIAL_DEVICE is 'GPU0': set it to auto, gpu or cpu."


@pytest.mark.parametrize(
    ("code", "says"),
    [
        (
            "raise ModuleNotFoundError(\"No module named 'cupy'\", name='cupy')",
            "cupy is not installed",
        ),
        (
            "raise OSError('libcudart.so.13: cannot open\\nmore')",
            "cupy does not import (OSError: libcudart.so.13",
        ),
    ],
)
@pytest.mark.parametrize("wanted", ["auto", "gpu"])
def test_rapids_missing_or_broken(machine, code, says, wanted):
    """A machine with a GPU never falls back to the CPU in silence."""
    answer = machine(DEVICE, gpus=[H100], modules={"cupy": code}, TUTORIAL_DEVICE=wanted)
    assert one_line(answer).startswith(f"DeviceError: NVIDIA H100 80GB HBM3 is here, but {says}")
    assert "make lab" in one_line(answer) and "TUTORIAL_DEVICE=cpu" in one_line(answer)


@pytest.mark.parametrize("version", [(3, 10, 13), (3, 15, 0)])
def test_python_too_old_or_too_new(machine, version):
    code = f"import runpy, sys; sys.version_info = {version}; runpy.run_path('.ci/environment.py', run_name='__main__')"
    assert f"This is Python 3.{version[1]}; the tutorial needs 3.11 to 3.14." in one_line(
        machine("-c", code)
    )


@pytest.mark.parametrize("path", [".ci/environment.py", ".ci/lab.py", ".ci/work.py", DEVICE])
def test_any_python_reads_the_set_up(path):
    ast.parse((ROOT / path).read_text(encoding="utf-8"), feature_version=(3, 6))


def test_no_venv_module(machine):
    missing = "raise ModuleNotFoundError(\"No module named 'ensurepip'\", name='ensurepip')"
    assert "no module ensurepip" in one_line(
        machine(".ci/environment.py", modules={"ensurepip": missing})
    )


def test_engine_names_what_runs():
    import dask.array as da
    import numpy
    import sklearn.cluster

    assert (
        measure.engine(numpy)
        == measure.engine(da.ones(3, chunks=3))
        == measure.engine(numpy.ones(3))
        == "NumPy"
    )
    assert (
        measure.engine(sklearn.cluster.KMeans)
        == measure.engine(sklearn.cluster.KMeans())
        == "scikit-learn"
    )

    class Remote(sklearn.cluster.KMeans):
        """Like a fitted distributed model of cuML: each attribute it lacks is asked of the workers."""

        def __getattr__(self, name):
            raise AssertionError(f"asked for {name}")

    assert measure.engine(Remote()) == "scikit-learn"
    with pytest.raises(TypeError, match="no engine"):
        measure.engine(3)


def test_a_notebook_shows_one_line(machine):
    """Where IPython runs the import cell, it ends in the message, not in a traceback."""
    cell = "import sys; sys.path.insert(0, 'notebooks'); from tutorial.device import GPU"
    shown = machine("-m", "IPython", "--colors=NoColor", "-c", cell, TUTORIAL_DEVICE="gpu").stdout
    says = "DeviceError: TUTORIAL_DEVICE=gpu, but no NVIDIA GPU found. Unset TUTORIAL_DEVICE to run on the CPU."
    assert shown.strip().splitlines() == [says]


@pytest.mark.parametrize(
    "command", [["-m", "pytest"], ["-m", "pytest", "-n0"], ["-m", "tests.record"]]
)
def test_tools_say_it_in_one_line(machine, command):
    answer = machine(*command, TUTORIAL_DEVICE="gpu")
    assert answer.returncode != 0 and "Traceback" not in answer.stdout + answer.stderr
    assert "TUTORIAL_DEVICE=gpu, but no NVIDIA GPU found" in answer.stderr


def test_rows_that_fill():
    if device.GPU:
        smallest = min(gpu.free for gpu in device.gpus())
        assert 0.0599 < measure.rows_that_fill(0.06, 16, otherwise=7) * 16 / smallest <= 0.06
    else:
        assert measure.rows_that_fill(0.06, 16, otherwise=7) == 7


@pytest.mark.parametrize(("wanted", "waits"), [("auto", 4), ("gpu", 4), ("cpu", 0)])
def test_a_timing_waits_for_the_gpu_that_is_in_use(monkeypatch, wanted, waits):
    """Before and after each call, where CuPy is loaded; nothing else of RAPIDS is asked for."""
    waited = []
    gpu = SimpleNamespace(synchronize=lambda: waited.append("for the GPU"))
    cupy = SimpleNamespace(cuda=SimpleNamespace(Device=lambda: gpu))
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    monkeypatch.setenv("TUTORIAL_DEVICE", wanted)
    assert measure.seconds(int, repeat=2) >= 0
    assert len(waited) == waits


def threads_now():
    """Return how many threads OpenMP and BLAS would take now."""
    return max(pool["num_threads"] for pool in threadpool_info())


@pytest.mark.parametrize(
    ("best", "tried"),
    [(32, [32, 16, 8]), (16, [32, 16, 8, 4]), (4, [32, 16, 8, 4, 2, 1]), (1, [32, 16, 8, 4, 2, 1])],
)
def test_the_threads_of_the_fastest_call_are_the_best(monkeypatch, best, tried):
    """Whatever number that is; what can only take longer is not tried. Afterwards as many are allowed as before."""
    sklearn.cluster.KMeans(1, n_init=1).fit(np.zeros((300, 1)))  # loads OpenMP
    before, seen, limits = threads_now(), [], []
    monkeypatch.setattr(threadpoolctl, "threadpool_info", lambda: [{"num_threads": 32}])
    real = threadpoolctl.threadpool_limits
    monkeypatch.setattr(threadpoolctl, "threadpool_limits", lambda n: limits.append(n) or real(n))
    monkeypatch.setattr(measure, "seconds", lambda call, repeat=1: call())

    def took():
        if limits:
            seen.append(limits[-1])
            return abs(np.log2(limits[-1] / best)) + 0.2
        return None

    assert measure.best_threads(took) == best
    assert list(dict.fromkeys(seen)) == tried and threads_now() == before


def is_collected(thing):
    """Say whether a garbage collection would look at it."""
    return any(each is thing for each in gc.get_objects())


def test_timings_within_timings_thaw_nothing():
    """The outermost does, when it is done."""
    thing = [[]]
    with measure.settled():
        measure.seconds(int, repeat=2)
        assert not is_collected(thing)
    assert is_collected(thing)


def test_a_clock_freezes_beside_what_is_frozen():
    """Python 3.12 has some objects frozen from its start."""
    try:
        gc.freeze()
        thing = [[]]
        with measure.settled():
            assert not is_collected(thing)
    finally:
        gc.unfreeze()


def test_a_cell_freezes_once(monkeypatch):
    """At its first timing: what comes later is collected, and when the cell ends, all is."""
    monkeypatch.setattr(measure, "_cell_thaws", False)
    shell = SimpleNamespace(events=EventManager(None, available_events))
    measure.look_after(shell)
    before = [[]]
    measure.seconds(int)
    after = [[]]
    measure.seconds(int)
    assert not is_collected(before) and is_collected(after)
    shell.events.trigger("post_run_cell", None)
    assert is_collected(before)
