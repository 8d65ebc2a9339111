"""The CPU libraries under the names that the notebooks use on a GPU.

A notebook imports from here only where there is no GPU, so that its cells, written for RAPIDS, run for everybody.
There are no algorithms here: NumPy stands in for CuPy, pandas for cuDF, scikit-learn and Dask-ML for cuML, Dask's
LocalCluster for Dask-CUDA's. Every stand-in takes a part of the keywords of the real thing; a test on a GPU
holds each name and keyword against it. `measure.engine` tells which library a stand-in runs.
"""

import functools
import logging

import dask
import dask.array as da
import dask.dataframe
import dask_ml.cluster
import numpy
import pandas
import sklearn.cluster
import sklearn.datasets
import sklearn.ensemble
import sklearn.linear_model
from dask.distributed import LocalCluster, default_client

cp = numpy  # stands in for cupy
asnumpy = numpy.asarray  # stands in for cupy.asnumpy
cudf = pandas  # stands in for cudf
_BY_PROCESS_MEMORY = ("spill", "pause", "terminate")  # what Dask does by the memory of a process

# stand-in -> the real thing, for the contract test
STANDS_FOR = {
    "LocalCUDACluster": "dask_cuda.LocalCUDACluster",
    "KMeans": "cuml.dask.cluster.KMeans",
    "SingleKMeans": "cuml.cluster.KMeans",
    "RandomForestClassifier": "cuml.dask.ensemble.RandomForestClassifier",
    "SingleRandomForestClassifier": "cuml.ensemble.RandomForestClassifier",
    "LogisticRegression": "cuml.dask.linear_model.LogisticRegression",
    "SingleLogisticRegression": "cuml.linear_model.LogisticRegression",
    "make_blobs": "cuml.dask.datasets.make_blobs",
    "make_classification": "cuml.dask.datasets.make_classification",
    "from_cudf": "dask_cudf.from_cudf",
}


class LocalCUDACluster(LocalCluster):
    """Stand in for dask_cuda.LocalCUDACluster (one worker process per GPU): two worker processes of one thread.

    Rows stay on the worker that was given them. Where a task needs a copy of them on another worker (Dask-ML's k-means
    does that), Dask's active memory manager may afterwards drop the original and keep the copy: it is left off.

    A capped pool that spills (rmm_maximum_pool_size in bytes, enable_cudf_spill) becomes Dask's own spilling: results
    that a worker holds beyond the cap go to its folder on disk, which ends with it. The process's memory is not looked
    at. A pool has no counterpart otherwise, nor have the statistics: a worker's `data` keeps its own. pre_import names
    modules that a worker loads at its start, as dask_cudf to know the size of a cuDF frame: none is needed here.
    """

    def __init__(
        self,
        dashboard_address=":8787",
        n_workers=2,
        threads_per_worker=1,
        rmm_pool_size=None,
        rmm_maximum_pool_size=None,
        enable_cudf_spill=False,
        cudf_spill_stats=0,
        protocol="tcp",
        pre_import=None,
    ):
        settings, limit = {"distributed.scheduler.active-memory-manager.start": False}, {}
        if rmm_maximum_pool_size and enable_cudf_spill:
            limit = {"memory_limit": rmm_maximum_pool_size}
            settings |= {f"distributed.worker.memory.{name}": False for name in _BY_PROCESS_MEMORY}
            settings["distributed.worker.memory.target"] = 1.0  # of the limit, in bytes of results
        # on a busy machine a worker may take longer to end than Dask waits before it ends it: nothing to warn of
        logging.getLogger("distributed.nanny").setLevel(logging.ERROR)
        with dask.config.set(settings):
            super().__init__(
                n_workers=n_workers,
                threads_per_worker=threads_per_worker,
                dashboard_address=dashboard_address,
                protocol=protocol,
                **limit,
            )


def _unfused(method):
    """Return a method of Dask-ML that gives no two tasks one name, of which Dask's scheduler warns.

    Dask-ML asks for a sum by itself, and again with what it is a sum of. Dask would fuse
    the two in the first graph alone.
    """

    @functools.wraps(method)
    def run(self, X):
        with dask.config.set(array_optimize=False):
            return method(self, X)

    return run


class KMeans(dask_ml.cluster.KMeans):
    """Stand in for cuml.dask.cluster.KMeans: Dask-ML's, on the workers of the active client.

    X: Dask array or Dask DataFrame of shape (n_samples, n_features). Like cuML's, it starts from scalable k-means++,
    and what it returns after a fit to a DataFrame is a Dask DataFrame or Series, after a fit to an array a Dask array.
    As many candidates as cuML draws, twice the clusters in each of five rounds, of which Dask-ML by itself draws two.

    device_buffer_samples and init_size tell cuML how to stream rows from the host through the GPU. They have no effect
    here: there is no GPU to stream to, and Dask-ML goes from chunk to chunk anyway.
    """

    def __init__(
        self,
        n_clusters=8,
        init="k-means||",
        max_iter=300,
        tol=1e-4,
        random_state=None,
        device_buffer_samples=0,
        init_size=0,
    ):
        super().__init__(
            n_clusters=n_clusters,
            init=init,
            max_iter=max_iter,
            tol=tol,
            random_state=random_state,
            oversampling_factor=2 * n_clusters,
            init_max_iter=5,
        )
        self.device_buffer_samples, self.init_size = device_buffer_samples, init_size

    @_unfused
    def fit(self, X):
        self._answer = dask.dataframe.from_dask_array if _is_frame(X) else da.asarray
        super().fit(_known(X))
        self.labels_ = self._answer(self.labels_)
        # Dask-ML adds up the distances, not their squares, unless the last iteration moved nothing
        self.inertia_ = -self.score(X)
        return self

    def fit_predict(self, X):
        """Fit to X and return the label of each row."""
        return self.fit(X).labels_

    @_unfused
    def predict(self, X):
        """Return the label of each row: the number of its nearest centroid."""
        return self._answer(super().predict(_known(X)))

    @_unfused
    def transform(self, X):
        """Return the distance from each row to each centroid, (n_samples, n_clusters)."""
        return self._answer(super().transform(_known(X)))

    @_unfused
    def score(self, X):
        """Return minus the inertia of X."""
        nearest = super().transform(_known(X)).min(axis=1)
        return -float((nearest**2).sum().compute())


def _is_frame(X):
    return isinstance(X, dask.dataframe.DataFrame)


def _known(X):
    """Return X as a Dask array whose chunk sizes are known, which Dask-ML needs and cuML does not."""
    if _is_frame(X):
        return X.to_dask_array(lengths=True)
    return X.copy().compute_chunk_sizes() if numpy.isnan(X.shape[0]) else X


class SingleKMeans(sklearn.cluster.KMeans):
    """Stand in for cuml.cluster.KMeans, the one for a single GPU: scikit-learn's. X: (n_samples, n_features).

    init is "k-means++", "random" or an array; "k-means||", where cuML's starts by default, is not in scikit-learn.
    """

    def __init__(
        self,
        n_clusters=8,
        init="k-means++",
        n_init="auto",
        max_iter=300,
        tol=1e-4,
        random_state=None,
    ):
        super().__init__(
            n_clusters=n_clusters,
            init=init,
            n_init=n_init,
            max_iter=max_iter,
            tol=tol,
            random_state=random_state,
        )


class _Single:
    """What cuML's estimators for one GPU offer beyond scikit-learn's: frames for frames, and a way out."""

    def predict_proba(self, X):
        """Return one column a class: a DataFrame if X is one, as cuML does."""
        chances = super().predict_proba(X)
        return pandas.DataFrame(chances) if isinstance(X, pandas.DataFrame) else chances

    def as_sklearn(self):
        """Return scikit-learn's own estimator, with all that was learned."""
        return _as_base(self)


class _Distributed:
    """What cuML's estimators for many GPUs offer: fit from Dask collections, and the model for one GPU.

    X and y are Dask arrays or Dask DataFrames; fit collects them in this process.
    """

    def fit(self, X, y):
        return super().fit(*dask.compute(X, y))

    def get_combined_model(self):
        """Return the trained model as one for a single machine."""
        return _as_base(self)


def _as_base(model):
    """Return an estimator of the class that `model` extends, which comes last among its bases, with what it knows."""
    other = type(model).__bases__[-1]()
    vars(other).update(vars(model))
    return other


class SingleRandomForestClassifier(_Single, sklearn.ensemble.RandomForestClassifier):
    """Stand in for cuml.ensemble.RandomForestClassifier, the one for a single GPU: scikit-learn's, on all cores.

    X: (n_samples, n_features), y: (n_samples,). n_bins is cuML's alone and has no effect here.
    """

    def __init__(
        self,
        n_estimators=100,
        max_depth=None,
        max_features="sqrt",
        min_samples_leaf=1,
        max_samples=1.0,
        n_bins=128,
        random_state=None,
    ):
        super().__init__(
            n_estimators=n_estimators,
            max_depth=max_depth,
            max_features=max_features,
            min_samples_leaf=min_samples_leaf,
            max_samples=max_samples,
            random_state=random_state,
            n_jobs=-1,
        )
        self.n_bins = n_bins


class RandomForestClassifier(_Distributed, SingleRandomForestClassifier):
    """Stand in for cuml.dask.ensemble.RandomForestClassifier: one scikit-learn forest, trained in this process.

    No distributed forest exists among the CPU libraries. X and y are Dask arrays or Dask DataFrames; fit collects
    them here. predict and predict_proba run where the chunks are and return Dask collections: labels of shape
    (n_samples,), and for DataFrames alone a DataFrame of one column a class.
    """

    def predict(self, X):
        predict = self._on_a_worker().predict
        if isinstance(X, dask.dataframe.DataFrame):
            return X.map_partitions(lambda part: pandas.Series(predict(part)).astype("int32"))
        return X.map_blocks(
            lambda chunk: predict(chunk).astype("int32"), drop_axis=1, dtype="int32"
        )

    def predict_proba(self, X):
        return X.map_partitions(self._on_a_worker().predict_proba)

    def _on_a_worker(self):
        forest = self.get_combined_model()
        forest.n_jobs = 1  # a worker has one thread
        return forest


class SingleLogisticRegression(_Single, sklearn.linear_model.LogisticRegression):
    """Stand in for cuml.linear_model.LogisticRegression, the one for a single GPU: scikit-learn's.

    X: (n_samples, n_features), y: (n_samples,). verbose sets the messages of cuML's solver and has no effect here.
    """

    def __init__(self, C=1.0, max_iter=1000, verbose=False):
        super().__init__(C=C, max_iter=max_iter)


class LogisticRegression(_Distributed, SingleLogisticRegression):
    """Stand in for cuml.dask.linear_model.LogisticRegression: scikit-learn's, trained in this process.

    X and y are Dask DataFrames; fit collects them here. Like cuML's, it does not distribute predict_proba.
    """


def _spread(arrays, n_parts):
    """Give each worker its share of the rows, as cuML's generators do; return one Dask array for each array."""
    client = default_client()
    workers = sorted(client.nthreads())
    n_parts = n_parts or len(workers)
    collections = []
    for array in arrays:
        parts = []
        for number, part in enumerate(numpy.array_split(array, n_parts)):
            future = client.scatter(part, workers=[workers[number % len(workers)]], hash=False)
            parts.append(da.from_delayed(dask.delayed(future), part.shape, part.dtype))
        collections.append(da.concatenate(parts))
    return collections


def make_blobs(
    n_samples=100,
    n_features=2,
    centers=None,
    cluster_std=1.0,
    n_parts=None,
    random_state=None,
    dtype="float32",
):
    """Stand in for cuml.dask.datasets.make_blobs: scikit-learn makes the blobs, each worker gets its share.

    Returns X (n_samples, n_features) and y (n_samples,), Dask arrays of NumPy chunks.
    """
    X, y = sklearn.datasets.make_blobs(
        n_samples, n_features, centers=centers, cluster_std=cluster_std, random_state=random_state
    )
    return tuple(_spread([X.astype(dtype), y.astype(dtype)], n_parts))


def make_classification(
    n_samples=100,
    n_features=20,
    n_informative=2,
    n_redundant=2,
    n_classes=2,
    class_sep=1.0,
    flip_y=0.01,
    n_parts=None,
    random_state=None,
    dtype="float32",
):
    """Stand in for cuml.dask.datasets.make_classification: scikit-learn makes the rows, each worker gets its share.

    Returns X (n_samples, n_features) and y (n_samples,), Dask arrays of NumPy chunks.
    """
    X, y = sklearn.datasets.make_classification(
        n_samples,
        n_features,
        n_informative=n_informative,
        n_redundant=n_redundant,
        n_classes=n_classes,
        class_sep=class_sep,
        flip_y=flip_y,
        random_state=random_state,
    )
    return tuple(_spread([X.astype(dtype), y.astype("int64")], n_parts))


def from_cudf(data, npartitions=1):
    """Stand in for dask_cudf.from_cudf: dask.dataframe.from_pandas, which lacks the refusal of a MultiIndex."""
    if isinstance(data.index, pandas.MultiIndex):
        raise NotImplementedError("a MultiIndex cannot be partitioned")
    return dask.dataframe.from_pandas(data, npartitions=npartitions)
