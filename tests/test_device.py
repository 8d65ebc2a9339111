"""The device switch and the set-up, against machines of every kind: each bad one gets one clear line."""

import ast
import os
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import sklearn.cluster
from threadpoolctl import threadpool_info

from tests.books import ROOT
from tutorial import device, measure

H100 = "0, GPU-aa, NVIDIA H100 80GB HBM3, 81559, 81059, 9.0, 580.159.04"
H200 = "1, GPU-bb, NVIDIA H200, 143771, 143271, 9.0, 580.159.04"
V100 = "0, GPU-cc, Tesla V100, 16160, 15660, 7.0, 580.10"
A100_OLD_DRIVER = "0, GPU-dd, NVIDIA A100, 40960, 40460, 8.0, 545.23"
KEPLER = "0, GPU-ee, Tesla K80, 11441, 10941, 3.7, 470.82"
ANCIENT_DRIVER = "0, GPU-ff, NVIDIA A100, 40960, 40460, 8.0, 470.82"


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """Return a function that runs a Python file here as on a machine with the given GPUs and modules."""
    monkeypatch.delenv("TUTORIAL_DEVICE", raising=False)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)

    def run(*command, gpus=(), smi_status=0, modules=None, **environment):
        smi = tmp_path / "nvidia-smi"
        lines = "".join(f"{line}\n" for line in gpus)
        smi.write_text(f"#!/bin/sh\ncat <<'END'\n{lines}END\nexit {smi_status}\n")
        smi.chmod(0o755)
        for name, code in (modules or {}).items():
            (tmp_path / f"{name}.py").write_text(code)
        path = os.pathsep.join([str(tmp_path), os.environ["PATH"]])
        environment = {**os.environ, "PATH": path, "PYTHONPATH": str(tmp_path), **environment}
        return subprocess.run(
            [sys.executable, *command], cwd=ROOT, env=environment, capture_output=True, text=True
        )

    return run


def one_line(answer):
    """Return the single line with which a command has refused."""
    assert answer.returncode == 1
    assert len(answer.stderr.strip().splitlines()) == 1, answer.stderr
    return answer.stderr.strip()


@pytest.mark.parametrize(
    ("gpus", "wanted", "extra"),
    [
        ([], "auto", "cpu"),
        ([H100], "auto", "gpu-cu13"),
        ([H100, H200], "auto", "gpu-cu13"),
        ([V100], "auto", "gpu-cu12"),
        ([V100, H200], "gpu", "gpu-cu12"),
        ([A100_OLD_DRIVER], "auto", "gpu-cu12"),
        ([KEPLER], "auto", "cpu"),
        ([H100], "cpu", "cpu"),
    ],
)
def test_extra_fits_the_machine(machine, gpus, wanted, extra):
    answer = machine("notebooks/tutorial/device.py", "--extra", gpus=gpus, TUTORIAL_DEVICE=wanted)
    assert answer.stdout.strip() == extra


@pytest.mark.parametrize(
    ("gpus", "visible", "says"),
    [
        ([], None, "no NVIDIA GPU found"),
        (
            [KEPLER],
            None,
            "Tesla K80 is too old for RAPIDS 26.10 (compute capability 3.7, 7.0 is needed)",
        ),
        (
            [ANCIENT_DRIVER],
            None,
            "NVIDIA driver 470.82 is too old for RAPIDS 26.10: update it to 535 or newer",
        ),
        ([H100], "", "CUDA_VISIBLE_DEVICES='' leaves no NVIDIA GPU visible"),
        ([H100], "7", "CUDA_VISIBLE_DEVICES='7' leaves no NVIDIA GPU visible"),
    ],
)
def test_unfit_gpu(machine, gpus, visible, says):
    """With gpu an error; with auto the CPU, and the report says why."""
    environment = {} if visible is None else {"CUDA_VISIBLE_DEVICES": visible}
    refused = machine(
        "notebooks/tutorial/device.py", gpus=gpus, TUTORIAL_DEVICE="gpu", **environment
    )
    assert says in one_line(refused) and "TUTORIAL_DEVICE=gpu" in one_line(refused)
    report = machine("notebooks/tutorial/device.py", gpus=gpus, **environment)
    assert report.returncode == 0 and f"Mode      CPU: {says}" in report.stdout


def test_broken_driver(machine):
    """nvidia-smi is there and fails: its complaint is passed on, with auto and with gpu."""
    broken = {
        "gpus": ["Failed to initialize NVML: Driver/library version mismatch"],
        "smi_status": 18,
    }
    says = "nvidia-smi fails (Failed to initialize NVML: Driver/library version mismatch)"
    assert f"Mode      CPU: {says}" in machine("notebooks/tutorial/device.py", **broken).stdout
    assert says in one_line(
        machine("notebooks/tutorial/device.py", TUTORIAL_DEVICE="gpu", **broken)
    )


@pytest.mark.parametrize("visible", ["1", "GPU-bb"])
def test_visible_devices(machine, visible):
    code = "from tutorial import device; print([gpu.name for gpu in device.gpus()])"
    answer = machine("-c", f"import sys; sys.path.insert(0, 'notebooks'); {code}", gpus=[H100, H200],
                     CUDA_VISIBLE_DEVICES=visible)  # fmt: skip
    assert answer.stdout.strip() == "['NVIDIA H200']"


def test_wrong_value(machine):
    for command in (
        ["notebooks/tutorial/device.py"],
        ["notebooks/tutorial/device.py", "--extra"],
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
    answer = machine(
        "notebooks/tutorial/device.py", gpus=[H100], modules={"cupy": code}, TUTORIAL_DEVICE=wanted
    )
    assert one_line(answer).startswith(f"DeviceError: NVIDIA H100 80GB HBM3 is here, but {says}")
    assert "make lab" in one_line(answer) and "TUTORIAL_DEVICE=cpu" in one_line(answer)


@pytest.mark.parametrize("version", [(3, 10, 13), (3, 15, 0)])
def test_python_too_old_or_too_new(machine, version):
    code = f"import runpy, sys; sys.version_info = {version}; runpy.run_path('.ci/environment.py', run_name='__main__')"
    assert f"This is Python 3.{version[1]}; the tutorial needs 3.11 to 3.14." in one_line(
        machine("-c", code)
    )


@pytest.mark.parametrize(
    "path", [".ci/environment.py", ".ci/lab.py", ".ci/work.py", "notebooks/tutorial/device.py"]
)
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
        smallest = min(gpu.memory for gpu in device.gpus())
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


def test_the_threads_of_the_fastest_call_are_the_best(monkeypatch):
    """Whatever number that is; and afterwards as many are allowed as before."""
    sklearn.cluster.KMeans(1, n_init=1).fit(np.zeros((300, 1)))  # loads OpenMP
    before, tried = threads_now(), []
    monkeypatch.setattr(measure, "seconds", lambda call, repeat: call())
    for best in {1, before}:

        def took(best=best):
            tried.append(threads_now())
            return abs(tried[-1] - best)

        assert measure.best_threads(took) == best
    assert {1, before} <= set(tried) and threads_now() == before
