"""Rows of notebook 3 on the workers that a cell names.

X, y = rows_on(client, workers[:1], 10**6)   # a million rows, all on the first worker
X, y = rows_on(client, workers, 10**6)       # the same rows, an equal share on each

X: Dask array (n_rows, 20), float32; y: Dask array (n_rows,), int32. Each worker has one chunk of each, in its memory.
"""

import importlib
import operator
import sys
import uuid

import dask.array as da
import numpy as np
from dask.distributed import wait

N_FEATURES, N_INFORMATIVE = 20, 10
MIDDLE = 9.342  # half of all points have a smaller sum of ten squared normal numbers
WRONG = 0.025  # share of the labels that are turned round


def draw(numbers, sizes, on_gpu=False):
    """Draw blocks of rows and put them together: X (n, 20) in Fortran order, y (n,). By block, always the same rows.

    numbers: of the blocks, their seeds. sizes: rows of each. Returns CuPy arrays if on_gpu, else NumPy arrays.
    A row is a point with normal coordinates; its label tells whether the first ten put it outside a ball.
    """
    xp = _library(on_gpu)
    X, y = xp.empty((N_FEATURES, sum(sizes)), "float32"), xp.empty(sum(sizes), "int32")
    end = 0
    for number, size in zip(numbers, sizes, strict=True):
        begin, end = end, end + size
        rng = xp.random.default_rng(1000 + number)
        square = xp.zeros(size, "float32")
        for feature in range(N_FEATURES):
            X[feature, begin:end] = rng.standard_normal(size, dtype="float32")
            if feature < N_INFORMATIVE:
                square += X[feature, begin:end] ** 2
        turned = rng.random(size, dtype="float32") < WRONG
        y[begin:end] = (square > MIDDLE) ^ turned
    return X.T, y


def installed(package):
    """Return the names of the estimators in a package of cuml.dask, such as "cluster", in order; needs cuML."""
    module = importlib.import_module(f"cuml.dask.{package}")
    return sorted(name for name, each in vars(module).items() if isinstance(each, type))


def rows_on(client, on, n_rows):
    """Return X and y of n_rows rows that lie on the workers `on`, which are one or all of the client's.

    As many blocks as there are workers are drawn, so that the rows are the same on one worker and on all of them.
    """
    n_blocks = len(client.nthreads())
    sizes = [n_rows * (k + 1) // n_blocks - n_rows * k // n_blocks for k in range(n_blocks)]
    parts = []
    for worker, numbers in zip(on, np.array_split(range(n_blocks), len(on)), strict=True):
        own = [int(number) for number in numbers]
        rows = [sizes[k] for k in own]
        task = client.submit(draw, own, rows, _here_on_gpu(), workers=[worker], pure=False)
        parts.append((task, sum(rows), worker))
    return _collections(client, parts, np.float32, np.int32)


def slices_on(client, on, X, y):
    """Put consecutive slices of host arrays X (n, d) and y (n,) on the workers `on`; return two Dask arrays."""
    parts = []
    for worker, rows in zip(on, np.array_split(np.arange(len(y)), len(on)), strict=True):
        share = client.scatter((X[rows], y[rows]), workers=[worker], hash=False)
        task = client.submit(_to_device, share, _here_on_gpu(), workers=[worker], pure=False)
        parts.append((task, len(rows), worker))
    return _collections(client, parts, X.dtype, y.dtype, X.shape[1])


def _to_device(arrays, on_gpu):
    return tuple(_library(on_gpu).asarray(array) for array in arrays)


def _library(on_gpu):
    return importlib.import_module("cupy") if on_gpu else np


def _here_on_gpu():
    """Tell whether this process works on a GPU: it has loaded CuPy. A worker need not choose a device to know."""
    return "cupy" in sys.modules


def _collections(client, parts, X_type, y_type, n_features=N_FEATURES):
    """Return Dask arrays of the pairs that tasks have made: (task, its rows, its worker) each; wait for them.

    The tasks bear the keys of the chunks, as those of persisted arrays do. So no chunk is copied to another worker.
    """
    xp, arrays = _library(_here_on_gpu()), []
    for which, dtype, more in ((0, X_type, (n_features,)), (1, y_type, ())):
        name, graph = f"rows-{uuid.uuid4().hex}", {}
        for number, (task, _, worker) in enumerate(parts):
            key = (name, number, *(0 for _ in more))
            options = {"key": key, "workers": [worker], "pure": False}
            graph[key] = client.submit(operator.getitem, task, which, **options)
        wait(list(graph.values()))
        chunks = (tuple(size for _, size, _ in parts), *((length,) for length in more))
        meta = xp.empty((0,) * len(chunks), dtype)
        arrays.append(da.Array(graph, name, chunks, dtype=dtype, meta=meta))
    return arrays
