"""The checks of notebook 04: one for each step of multi-node multi-GPU k-means.

Each check takes what the step has made and returns a Check: to do while a value is still `...`, wrong with a hint, or
solved. None of them raises on a wrong answer, so that the notebook runs to its end whatever has been filled in.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps

import dask.array as da
import numpy as np
from dask.distributed import Client
from device import GPU, gpus
from sklearn.metrics import adjusted_rand_score

if GPU:
    from cuml.dask.cluster import KMeans
    from cupy import asnumpy
else:
    from cpu_stand_ins import KMeans, asnumpy

STEPS = ("cluster", "data", "fit", "predict", "score")


@dataclass
class Check:
    """The answer to one step: its name, its state ("to do", "wrong" or "solved"), and what to say about it."""

    step: str
    state: str
    says: str

    def __repr__(self):
        return f"Step {STEPS.index(self.step) + 1} of {len(STEPS)}, {self.step}: {self.state}. {self.says}"


def step(name: str, to_do: str) -> Callable:
    """Turn a function that returns a hint, or None where all is well, into a check of the step `name`.

    The check is "to do", and says `to_do`, while an argument is still `...`. A value of a kind that the function did
    not expect is wrong as well, with its error as the hint.
    """

    def decorate(find_fault):
        @wraps(find_fault)
        def check(*arguments):
            if any(argument is ... for argument in arguments):
                return Check(name, "to do", to_do)
            try:
                hint = find_fault(*arguments)
            except Exception as error:  # whatever a learner has put there
                hint = f"The check stopped with {type(error).__name__}: {error}"
            return (
                Check(name, "wrong", hint)
                if hint
                else Check(name, "solved", find_fault.__doc__.splitlines()[0])
            )

        return check

    return decorate


@step("cluster", "Start a LocalCUDACluster as `cluster` and connect a Client to it as `client`.")
def check_cluster(cluster, client):
    """One worker process per device, and a client that talks to them.

    cluster: LocalCUDACluster. client: dask.distributed.Client connected to it.
    """
    if not isinstance(client, Client):
        return f"`client` is a {type(client).__name__}, not a dask.distributed.Client."
    if client.cluster is not cluster:
        return "`client` talks to another scheduler: Client() without an argument starts a CPU cluster of its own."
    if client.status != "running":
        return "`client` is closed: run the cell again."
    workers = client.scheduler_info(n_workers=-1)["workers"]
    if GPU and len(workers) != len(gpus()):
        return "There should be one worker for each GPU: let LocalCUDACluster choose n_workers."
    return None


@step(
    "data",
    "Draw `X` and `y` on the workers with make_blobs, one part for each worker, persist them and wait.",
)
def check_data(client, X, y, n_samples):
    """The rows lie on the workers, spread over all of them.

    client: Client. X: Dask array (n_samples, 2). y: Dask array (n_samples,). n_samples: rows asked for.
    """
    for name, array in (("X", X), ("y", y)):
        if not isinstance(array, da.Array):
            return f"`{name}` is a {type(array).__name__} in this process: use make_blobs of cuml.dask.datasets."
    if X.shape != (n_samples, 2) or y.shape != (n_samples,):
        return f"Expected {n_samples} rows of 2 features, found X {X.shape} and y {y.shape}."
    holders = client.who_has(X)
    if not holders or not all(holders.values()):
        return "`X` is not on the workers yet: X, y = dask.persist(X, y), then wait([X, y])."
    n_workers = len(client.scheduler_info(n_workers=-1)["workers"])
    busy = {worker for workers in holders.values() for worker in workers}
    if len(busy) < n_workers:
        return "Some workers hold no rows and will have nothing to do: n_parts=n_workers gives each its share."
    return None


@step("fit", "Fit the distributed KMeans to `X`, with 5 clusters and a seed, as `kmeans`.")
def check_fit(kmeans, centers):
    """Every centroid lies at a true centre.

    kmeans: fitted cuml.dask.cluster.KMeans. centers: array (5, 2), the true centres.
    """
    if not isinstance(kmeans, KMeans):
        return f"`kmeans` is {type(kmeans).__module__}.{type(kmeans).__name__}: use KMeans of cuml.dask.cluster."
    if getattr(kmeans, "cluster_centers_", None) is None:
        return "`kmeans` is not fitted yet: call kmeans.fit(X)."
    found, centers = asnumpy(kmeans.cluster_centers_), asnumpy(centers)
    if len(found) != len(centers):
        return f"{len(found)} centroids for {len(centers)} groups: set n_clusters."
    distances = np.linalg.norm(centers[:, None] - found[None], axis=2).min(axis=1)
    if distances.max() > 0.1:
        return "A centroid is far from every true centre: was it fitted to X, and did the start find all groups?"
    return None


@step("predict", "Predict a label for each row of `X`, as a Dask array `labels`.")
def check_predict(labels, X):
    """Each worker labels its own rows.

    labels: Dask array (n_samples,), a chunk for each of X. X: Dask array (n_samples, 2).
    """
    if not isinstance(labels, da.Array):
        return f"`labels` is a {type(labels).__name__} in this process: leave compute() out, predict(X) is enough."
    if labels.numblocks[0] != X.numblocks[0]:
        return "`labels` and `X` have different chunks: predict from X itself."
    return None


@step("score", "Compare `labels` with `y` by the adjusted Rand index, on the host, as `score`.")
def check_score(score, labels, y):
    """The clusters are the true ones.

    score: float. labels, y: Dask arrays (n_samples,), found and true labels.
    """
    found, true = asnumpy(labels.compute()), asnumpy(y.compute()).astype("int64")
    index = adjusted_rand_score(true, found)
    if abs(float(score) - index) > 1e-6:
        if abs(float(score) - np.mean(found == true)) < 1e-6:
            return "That is the share of equal labels, but labels are only names: use adjusted_rand_score."
        return f"`score` is {float(score):.3f}, but the ARI of labels and y is {index:.3f}: check what you compare."
    if index < 0.99:
        return f"The ARI is {index:.3f}: the clusters are not the true ones. Go back to the fit."
    return None


def summary(*checks):
    """Return how many of the steps are solved, and which is next, as one line."""
    open_steps = [check.step for check in checks if check.state != "solved"]
    if not open_steps:
        return f"All {len(checks)} steps solved: compare your code with notebook 05."
    return f"{len(checks) - len(open_steps)} of {len(checks)} steps solved; next: {open_steps[0]}"
