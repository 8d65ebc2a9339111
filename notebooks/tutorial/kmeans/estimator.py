"""The estimator: Lloyd's iterations over the shards, with scikit-learn's interface."""

import contextlib
import numbers
import time
import warnings

import dask.array
import numpy as np
import sklearn.base
import sklearn.exceptions
from dask.array.utils import meta_from_array
from sklearn.utils.validation import check_is_fitted

from . import step
from .arrays import as_floats, as_rows
from .shards import Shards, is_lost
from .start import scalable_start

MAX_CLUSTERS = MAX_FEATURES = 2**15
PATIENCE = 1  # seconds of iterations on the workers until the client hears of them: so it can be interrupted


def _checked(X):
    """Return X if it declares what fit and predict take; raise ValueError otherwise."""
    if not isinstance(X, dask.array.Array):
        how = ", by to_dask_array(lengths=True)" if hasattr(X, "to_dask_array") else ""
        raise ValueError(f"X is a {type(X).__name__}: give a Dask array{how}.")
    if X.ndim != 2 or X.dtype not in (np.float32, np.float64):
        raise ValueError(
            f"X is {X.dtype} with {X.ndim} dimension(s): give float32 or float64, rows by features."
        )
    if X.numblocks[1] != 1:
        raise ValueError("X is cut along its features: rechunk it to {1: -1}.")
    if not 1 <= X.shape[1] <= MAX_FEATURES:
        raise ValueError(f"X has {X.shape[1]} features: 1 to {MAX_FEATURES} are possible.")
    return X


def _variance(shards):
    """Return the mean variance of the features, without weights; raise ValueError if a value is not finite."""
    origin = shards.row(0)[None]
    sums, counts, inertia = shards.step(origin, weighted=False)
    step.check_finite(inertia)
    means = sums / counts[0]
    return max(0.0, inertia / counts[0] - float((means**2).sum())) / origin.shape[1]


def _move(shards, centers):
    """Return the means of the clusters around `centers`, float64 (k, d); raise ValueError if a value is not finite."""
    sums, counts, inertia = shards.step(centers)
    step.check_finite(inertia)
    exact, counts = centers.astype(np.float64), counts.astype(np.float64)
    empty = np.flatnonzero(counts == 0)
    if len(empty):  # each takes the row that fits its own cluster worst, as in scikit-learn
        far = zip(*shards.farthest(centers, len(empty)), strict=True)
        for j, (label, weight, row) in zip(empty, far, strict=False):
            sums[label] -= weight * (row - exact[label])
            counts[label] -= weight
            sums[j], counts[j] = weight * (row - exact[j]), weight
    return exact + sums / np.where(counts > 0, counts, 1)[:, None]


def lloyd(shards, centers, tolerance, iterations):
    """Move centroids, float64 (k, d), to their clusters' means, until they rest or have moved `iterations` times.

    They rest when the sum of their squared movements is not above the tolerance, or is rounding in X's type. After
    PATIENCE seconds it stops earlier. Returns the centroids, how often they moved, and whether they rest.
    """
    end, epsilon = time.monotonic() + PATIENCE, np.finfo(shards.dtype).eps
    for iteration in range(1, iterations + 1):
        new = _move(shards, centers.astype(shards.dtype))
        shift = float(((new - centers) ** 2).sum())
        centers = new
        rounding = centers.size * (4 * epsilon * np.abs(centers).max()) ** 2
        at_rest = shift <= max(tolerance, rounding)
        if at_rest or time.monotonic() > end:
            return centers, iteration, at_rest
    return centers, iterations, False


def _label(chunk, centers):
    """Return `label` of a chunk of X, checked and in the centroids' type."""
    return step.label(as_rows(chunk, centers.dtype, centers.shape[1]), centers)


def _distances(chunk, centers):
    """Return `distances` of a chunk of X, checked and in the centroids' type."""
    return step.distances(as_rows(chunk, centers.dtype, centers.shape[1]), centers)


class KMeans(sklearn.base.ClusterMixin, sklearn.base.BaseEstimator):
    """K-means for Dask arrays, with scikit-learn's interface; runs on the workers of the active client.

    n_clusters: 1 to 32,768. init: "k-means||", or the initial centroids (n_clusters, n_features). max_iter: Lloyd
    iterations at most. tol: stop when the centroids move less, squared and relative to the variance of the data.
    random_state: seed of the start.

    X, in all methods, is a Dask array (n_samples, n_features) that declares float32 or float64 and is chunked along the
    rows; chunks are NumPy or CuPy arrays, of any lengths, known or not. A chunk of another type is converted if NumPy
    calls that safe (uint8, say), and refused otherwise. sample_weight is None, or a Dask or NumPy array (n_samples,),
    not negative; the start draws by it, too, but for its first row. y is ignored. Bad input raises ValueError, in
    predict and transform when the chunk that is bad is computed.

    After fit: cluster_centers_ (n_clusters, n_features), NumPy, X's dtype; labels_, a Dask array as predict(X) returns
    it, lazy, which keeps X; inertia_, float; n_iter_ and n_features_in_, int.
    """

    def __init__(self, n_clusters=8, init="k-means||", max_iter=300, tol=1e-4, random_state=None):
        self.n_clusters = n_clusters
        self.init = init
        self.max_iter = max_iter
        self.tol = tol
        self.random_state = random_state

    def fit(self, X, y=None, sample_weight=None):
        """Fit to X and return self; warn with scikit-learn's ConvergenceWarning if clusters are left without rows.

        Raises RuntimeError if a worker ends meanwhile.
        """
        X = _checked(X)
        init = self._checked_parameters(X)
        try:
            with contextlib.closing(Shards(X, sample_weight)) as shards:
                centers, n_iter, counts, inertia = self._converge(shards, init)
        except (OSError, RuntimeError) as error:
            if not is_lost(error):
                raise
            raise RuntimeError(
                "A worker has ended during the fit. Fit once more: Dask makes its rows again if they have a recipe."
            ) from None
        found = np.count_nonzero(counts)
        if found < self.n_clusters:
            warnings.warn(
                f"Only {found} of {self.n_clusters} clusters have rows: X may hold fewer distinct rows.",
                sklearn.exceptions.ConvergenceWarning,
                stacklevel=2,
            )
        self.n_features_in_ = X.shape[1]
        self.cluster_centers_, self.inertia_, self.n_iter_ = centers, inertia, n_iter
        self.labels_ = self.predict(X)
        return self

    def _checked_parameters(self, X):
        """Return the initial centroids, NumPy (n_clusters, n_features), or None for k-means||; raise ValueError."""
        for name in ("n_clusters", "max_iter"):
            value = getattr(self, name)
            if not isinstance(value, numbers.Integral) or isinstance(value, bool) or value < 1:
                raise ValueError(f"{name} is {value!r}: give a whole number, 1 or more.")
        if not isinstance(self.tol, numbers.Real) or not self.tol >= 0:
            raise ValueError(f"tol is {self.tol!r}: give a number, 0 or more.")
        try:
            np.random.default_rng(self.random_state)
        except (TypeError, ValueError):
            raise ValueError(
                f"random_state is {self.random_state!r}: give a whole number or None."
            ) from None
        if isinstance(self.init, str):
            if self.init != "k-means||":
                raise ValueError(
                    f"init is {self.init!r}: give 'k-means||' or an array of centroids."
                )
            return None
        try:
            init = as_floats(self.init, "init")
        except (TypeError, ValueError) as error:
            raise ValueError(f"init is no array of centroids: {error}") from None
        if init.shape != (self.n_clusters, X.shape[1]):
            raise ValueError(
                f"init has shape {init.shape}: ({self.n_clusters}, {X.shape[1]}) is needed."
            )
        if not (np.abs(init) <= np.finfo(X.dtype).max).all():
            raise ValueError(f"init holds NaN, infinity or values too large for {X.dtype}.")
        return init

    def _converge(self, shards, init):
        """Return centroids (k, d) in X's type, iterations, and each cluster's count and the inertia around them."""
        n_clusters, max_iter = int(self.n_clusters), int(self.max_iter)  # NumPy's may overflow
        most = min(shards.n_rows, MAX_CLUSTERS)
        if n_clusters > most:
            raise ValueError(
                f"n_clusters is {n_clusters}: choose 1 to {most}, for {shards.n_rows} rows."
            )
        tolerance = self.tol * shards.lead(_variance) if self.tol else 0.0
        if init is None:
            init = scalable_start(shards, n_clusters, self.random_state)
        centers, n_iter, at_rest = init.astype(np.float64), 0, False
        while n_iter < max_iter and not at_rest:
            left = max_iter - n_iter
            centers, moved, at_rest = shards.lead(lloyd, centers, tolerance, left)
            n_iter += moved
        centers = centers.astype(shards.dtype)
        _, counts, inertia = shards.step(centers)
        return centers, n_iter, counts, inertia

    def _fitted(self, X):
        """Return X, checked, and the centroids in its type; raise NotFittedError or ValueError."""
        check_is_fitted(self)
        X = _checked(X)
        if X.shape[1] != self.n_features_in_:
            raise ValueError(
                f"X has {X.shape[1]} features, the centroids have {self.n_features_in_}."
            )
        return X, self.cluster_centers_.astype(X.dtype)

    def predict(self, X):
        """Return the index of each row's nearest centroid: Dask array (n_samples,), int32, chunked as X is."""
        X, centers = self._fitted(X)
        meta = meta_from_array(X, ndim=1, dtype=np.int32)
        return X.map_blocks(_label, centers=centers, drop_axis=1, meta=meta)

    def transform(self, X):
        """Return each row's distance to each centroid: Dask array (n_samples, n_clusters), X's dtype, chunked as X."""
        X, centers = self._fitted(X)
        chunks = (X.chunks[0], (len(centers),))
        return X.map_blocks(_distances, centers=centers, chunks=chunks, meta=meta_from_array(X))

    def score(self, X, y=None, sample_weight=None):
        """Return minus the inertia of X around the centroids, a float."""
        X, centers = self._fitted(X)
        with contextlib.closing(Shards(X, sample_weight)) as shards:
            inertia = shards.step(centers)[2]
        step.check_finite(inertia)
        return -inertia
