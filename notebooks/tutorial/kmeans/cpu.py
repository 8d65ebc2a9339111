"""The step on a CPU: Numba kernels, one thread for each thread of the worker."""

from concurrent.futures import ThreadPoolExecutor

import numba
import numpy as np
from dask.distributed import get_worker
from dask.system import CPU_COUNT

from .arrays import total

BLOCK = 512  # rows that the kernel holds in cache at a time
AT_ONCE = 2**22  # rows for which dice are thrown at a time


@numba.njit(nogil=True, fastmath={"contract", "reassoc", "nsz"}, error_model="numpy")
def _nearest_block(X, centers, columns, squared, best, label):
    """Copy at most BLOCK rows into `columns`; set for each row the nearest centre and its squared distance."""
    rows, features = X.shape
    for f in range(features):
        for i in range(rows):
            columns[f, i] = X[i, f]
    for j in range(len(centers)):
        for i in range(rows):
            squared[i] = 0
        for f in range(features):
            center = centers[j, f]
            for i in range(rows):
                difference = columns[f, i] - center
                squared[i] += difference * difference
        for i in range(rows):
            closer = j == 0 or squared[i] < best[i]
            best[i] = squared[i] if closer else best[i]
            label[i] = j if closer else label[i]


@numba.njit(nogil=True, error_model="numpy")
def _step_rows(X, centers, sums, counts):
    """Add to `sums` each row's difference to its nearest centre, count the rows, return their inertia."""
    columns = np.empty((X.shape[1], BLOCK), X.dtype)
    squared, best = np.empty(BLOCK, X.dtype), np.empty(BLOCK, X.dtype)
    label = np.empty(BLOCK, np.int32)
    inertia = 0.0
    for start in range(0, len(X), BLOCK):
        block = X[start : start + BLOCK]
        _nearest_block(block, centers, columns, squared, best, label)
        for i in range(len(block)):
            j = label[i]
            counts[j] += 1
            inertia += best[i]
            for f in range(block.shape[1]):
                sums[j, f] += columns[f, i] - centers[j, f]
    return inertia


@numba.njit(nogil=True, error_model="numpy")
def _nearest_rows(X, centers, labels, distances):
    """Write each row's nearest centre and its squared distance."""
    columns = np.empty((X.shape[1], BLOCK), X.dtype)
    squared, best = np.empty(BLOCK, X.dtype), np.empty(BLOCK, X.dtype)
    label = np.empty(BLOCK, np.int32)
    for start in range(0, len(X), BLOCK):
        block = X[start : start + BLOCK]
        _nearest_block(block, centers, columns, squared, best, label)
        labels[start : start + len(block)] = label[: len(block)]
        distances[start : start + len(block)] = best[: len(block)]


def _threads():
    """Return how many threads this process may use: those of the Dask worker, or all outside of one."""
    try:
        return get_worker().state.nthreads
    except ValueError:
        return CPU_COUNT


def _in_threads(work, rows):
    """Call work(start, stop) for as many slices of the rows as there are threads; return the results in order."""
    threads = min(_threads(), max(1, rows // BLOCK))
    cuts = [rows * number // threads for number in range(threads + 1)]
    if threads == 1:
        return [work(0, rows)]
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(work, cuts[:-1], cuts[1:]))


def step(X, centers):
    """Return what `step.step` says; float64 sums, by one thread after another in the order of the rows."""

    def work(start, stop):
        sums, counts = np.zeros(centers.shape), np.zeros(len(centers), np.int64)
        return sums, counts, _step_rows(X[start:stop], centers, sums, counts)

    return total(_in_threads(work, len(X)))


def nearest(X, centers):
    """Return what `step.nearest` says."""
    labels, distances = np.empty(len(X), np.int32), np.empty(len(X), X.dtype)
    _in_threads(
        lambda start, stop: _nearest_rows(
            X[start:stop], centers, labels[start:stop], distances[start:stop]
        ),
        len(X),
    )
    return labels, distances


def weigh(X, candidates):
    """Return what `step.weigh` says."""
    labels, distances = nearest(X, candidates)
    return np.bincount(labels, minlength=len(candidates)), float(distances.sum(dtype=np.float64))


def chosen(chance, factor, seed, first):
    """Return the indices of the elements whose dice are below factor x chance; dice by splitmix64, as in gpu.py.

    An element's dice, in [0, 1), depend on the seed and on first + index.
    """
    z = np.arange(first + 1, first + len(chance) + 1, dtype=np.uint64)
    z = np.uint64(seed) + z * np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    dice = ((z ^ (z >> np.uint64(31))) >> np.uint64(11)).astype(np.float64) * 2.0**-53
    return np.flatnonzero(dice < factor * chance.astype(np.float64))
