"""No result depends on the number of cores: notebook 05's fits by Dask-ML on machines that claim to have 1 to 128."""

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.books import BOOKS, ROOT, code_cells, read

BOOK = "notebooks/05-Challenge_Solution.ipynb"
CORES = [1, 3, 128]
FITS = {  # cell that fits Dask-ML -> its model
    "dask-ml-fit": "chunked_kmeans",
    "warm-timings": "chunked_kmeans",
    "claim": "baseline",
    "claim-repaired": "baseline",
    "run-sizes": "chunked_kmeans",
}
# cell -> what takes its place, or comes after it, so that nothing but Dask-ML takes time
INSTEAD = {
    "imports": """
{source}
clock = seconds
seconds = lambda call, repeat=1: clock(call)
warm_seconds = seconds
import tutorial.measure
tutorial.measure.rows_that_fill = lambda *_, **__: 10_000
""",
    "parameters": "{source}\nn_samples = 20_000",
    "start-cluster": """
from dask.distributed import LocalCluster
client = Client(LocalCluster(2, threads_per_worker=1, processes=False, dashboard_address="127.0.0.1:0"))
n_workers = 2
""",
    "mnmg-fit": "kmeans, first_fit = host_kmeans, 0.0",
}
CELLS = """imports parameters start-cluster make-data judge sklearn-fit dask-ml-fit mnmg-fit warm-timings claim
claim-repaired run-sizes""".split()

# a process in which the machine has so many cores, for whatever asks: Dask and Dask-ML ask when they are imported
PROGRAM = """
import contextlib, hashlib, io, json, os, re, sys, types
cores, cells, fits = json.load(sys.stdin)
os.cpu_count = lambda: cores
import multiprocessing
multiprocessing.cpu_count = lambda: cores
system = types.ModuleType("dask.system")
system.CPU_COUNT, system.cpu_count = cores, lambda: cores
sys.modules["dask.system"] = system
import dask
from dask.threaded import CPU_COUNT
import dask_ml.cluster.k_means
assert CPU_COUNT == dask_ml.cluster.k_means.cpu_count() == cores
names, said = {"__name__": "__main__"}, {}
for cell, source in cells:
    with contextlib.redirect_stdout(io.StringIO()) as out:
        exec(compile(source, cell, "exec"), names)
    said[cell] = re.sub("≈.*", "≈", out.getvalue())  # measured
    if cell in fits:
        model, cp, seen = names[fits[cell]], names["np"], hashlib.sha256()
        with dask.config.set(scheduler="threads"):
            seen.update(cp.asarray(model.labels_).tobytes())
        n, std = len(model.labels_), names["cluster_std"]
        rows = names["rows32"][:n] if cell.startswith("claim") else names["X_host"]
        if cell == "run-sizes":
            rows = names["on_host"](n)
        far = ((rows[:, None].astype(float) - model.cluster_centers_) ** 2).sum(axis=2).min(axis=1)
        said[cell] += f"{seen.hexdigest()} {model.cluster_centers_.tolist()}"
        said[cell, "over"] = far.sum() / (n * 2 * std**2)
names["client"].close()
over = {key[0]: said.pop(key) for key in list(said) if isinstance(key, tuple)}
said.pop("imports")
print(json.dumps([said, over]))
"""


def run_with(cores):
    """Return what the cells said and found on so many cores, each fit's inertia over its ideal, and stderr."""
    source = {cell.id: cell.source for cell in code_cells(read(BOOK))}
    cells = [
        (name, INSTEAD.get(name, "{source}").replace("{source}", source[name])) for name in CELLS
    ]
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        input=json.dumps([cores, cells, FITS]),
        cwd=ROOT / "notebooks",
        env=os.environ | {"TUTORIAL_DEVICE": "cpu", "MPLBACKEND": "agg"},
        capture_output=True,
        text=True,
    )
    said, over = json.loads(done.stdout) if done.returncode == 0 else ({}, {})
    return said, over, done.stderr


@pytest.fixture(scope="module")
def runs():
    """What run_with returns, for each number of cores; two processes at a time."""
    with ThreadPoolExecutor(2) as pool:
        return dict(zip(CORES, pool.map(run_with, CORES), strict=True))


@pytest.mark.parametrize("cores", CORES)
def test_dask_ml_fits_the_same_on_any_number_of_cores(runs, cores):
    """Labels, centroids and outputs are those of one core; the inertia is right; nothing goes to stderr."""
    said, over, errors = runs[cores]
    assert not errors
    assert set(over) == set(FITS)
    assert all(abs(ratio - 1) < 0.05 for ratio in over.values()), over
    assert said == runs[CORES[0]][0]


def test_cores_decide_nothing_but_speed():
    """What cells ask the number of cores for: threads and processes that run or copy; never how data are cut."""
    asked = {
        cell.id
        for book in BOOKS
        for cell in code_cells(read(book))
        if "CPU_COUNT" in cell.source or "cores()" in cell.source
    }
    assert asked == {"dask-ml-fit", "time-dask", "copy-rows"}
