"""What a chunk of rows is asked for, on either device: cpu.py and gpu.py do the work, plain array code what is rare.

In all functions X is (n, d), NumPy or CuPy, float32 or float64, with any strides; centers are NumPy (k, d), of the same
type; weights are None, or float64 (n,) on X's device. With weights, sums and counts are weighted, and nothing is fused.
"""

import numpy as np

from . import cpu, gpu
from .arrays import module_of, on_gpu, to_host


def _device(X):
    """Return the module that does the work where X is."""
    return gpu if on_gpu(X) else cpu


def nearest(X, centers):
    """Return for each row the index of its nearest centre, int32 (n,), and the squared distance, (n,), where X is.

    The distance of a row that is not finite is not finite.
    """
    return _device(X).nearest(X, centers)


def step(X, centers, weights=None):
    """Assign each row to its nearest centre and reduce the clusters; without weights, in one read of X.

    Returns NumPy: for each cluster the sum over its rows of (row - centre), float64 (k, d); the number of its rows,
    int64 (k,), or their weight, float64; and the inertia, the sum of squared distances, as a float.
    """
    if weights is None:
        return _device(X).step(X, centers)
    labels, squared = nearest(X, centers)
    xp, k = module_of(X), len(centers)
    exact = xp.asarray(centers, dtype=np.float64)
    differences = (weights * (X[:, f] - exact[labels, f]) for f in range(X.shape[1]))
    sums = xp.stack([xp.bincount(labels, feature, k) for feature in differences], axis=1)
    counts = xp.bincount(labels, weights, k)
    return to_host(sums), to_host(counts), float(weights @ squared.astype(np.float64))


def weigh(X, candidates, weights=None):
    """Return what is nearest to each candidate, rows as int64 (m,) or weight as float64, and the inertia as a float."""
    if weights is None:
        return _device(X).weigh(X, candidates)
    labels, squared = nearest(X, candidates)
    counts = module_of(X).bincount(labels, weights, len(candidates))
    return to_host(counts), float(weights @ squared.astype(np.float64))


def check_finite(distances):
    """Raise ValueError where squared distances, or a sum of them, show that a row was not finite."""
    if not module_of(distances).isfinite(distances).all():
        raise ValueError(
            "X holds NaN, infinity or values too large to square. Remove or fill them first."
        )


def label(X, centers):
    """Return the index of each row's nearest centre, int32 (n,), where X is; raise ValueError for NaN or infinity."""
    labels, squared = nearest(X, centers)
    check_finite(squared)
    return labels


def distances(X, centers):
    """Return each row's distance to each centre, (n, k), in X's type and where X is; as `label` for NaN."""
    xp = module_of(X)
    squared = xp.empty((len(X), len(centers)), X.dtype)
    for j in range(len(centers)):
        squared[:, j] = nearest(X, centers[j : j + 1])[1]
    check_finite(squared)
    return xp.sqrt(squared, out=squared)


def farthest(X, centers, m, weights=None):
    """Return the m rows that are farthest from their centre and have a weight; of equally far ones, the first.

    Returns NumPy, at most m of each: squared distances, numbers of the rows in X, labels, weights, rows (m, d).
    """
    xp = module_of(X)
    labels, squared = nearest(X, centers)
    if weights is None:
        weights = xp.ones(len(X))
    squared = xp.where(weights > 0, squared, -1)
    m = min(m, len(X))
    least = -xp.partition(-squared, m - 1)[m - 1]
    farther, equal = xp.flatnonzero(squared > least), xp.flatnonzero(squared == least)
    rows = xp.concatenate([farther, equal])[:m]
    rows = rows[squared[rows] >= 0]
    return tuple(map(to_host, (squared[rows], rows, labels[rows], weights[rows], X[rows])))


def draw(X, candidates, factor, seed, first, weights=None):
    """Return rows of X as NumPy (m, d), each drawn with probability factor x weight x squared distance to candidates.

    first: the number of X's first row in the whole data. A row's dice depend on seed and number alone, so the same rows
    are drawn on any number of workers.
    """
    drawn, device = [], _device(X)
    for start in range(0, len(X), device.AT_ONCE):
        part = X[start : start + device.AT_ONCE]
        chance = nearest(part, candidates)[1]
        if weights is not None:
            chance = chance * weights[start : start + device.AT_ONCE]
        drawn.append(to_host(part[device.chosen(chance, factor, seed, first + start)]))
    return np.concatenate(drawn)
