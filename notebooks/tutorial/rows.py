"""Rows that chosen workers make for themselves: only the recipe travels.

from tutorial.rows import on_workers
"""

from tutorial.device import GPU

import dask
import dask.array as da
import numpy as np
from dask.distributed import default_client, wait


def arrays():
    """Return the module whose arrays the workers hold: CuPy on a GPU, else NumPy."""
    if not GPU:
        return np
    import cupy

    return cupy


def make(seed, n, d):
    """Return n rows of d standard normal numbers, float32, on this process's device."""
    return arrays().random.default_rng(seed).standard_normal((n, d), dtype="float32")


def on_workers(n, d, workers):
    """Return a persisted Dask array of n rows (n, d), float32: an equal chunk made by each of the workers (addresses).

    n must be a multiple of the number of workers, or the last rows are left out.
    """
    client, shape, meta = (
        default_client(),
        (n // len(workers), d),
        arrays().empty((0, 0), "float32"),
    )
    parts = [
        client.submit(make, seed, *shape, workers=[worker], pure=False)
        for seed, worker in enumerate(workers)
    ]
    chunks = [da.from_delayed(dask.delayed(part), shape, meta=meta) for part in parts]
    X = da.concatenate(chunks).persist()
    wait(X)
    return X
