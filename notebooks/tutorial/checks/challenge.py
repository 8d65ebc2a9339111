"""The checks of notebook 4: k-means by hand, and the five steps of multi-node multi-GPU k-means.

A step is not asked how it came about. Its check brings rows and labels to this process (16 MB at a million rows) and
compares them, in NumPy, with what a right answer must have. So arrays and DataFrames, `predict` and `fit_predict` and
any seed are all right.
"""

import os

from tutorial.device import GPU, gpus
from tutorial.checks.core import flat, host, kind, squared_distances, step
from tutorial.clusters import RunningCluster

import dask
import dask.array as da
import numpy as np
import sklearn.cluster
from dask.core import flatten
from dask.distributed import Client, futures_of, wait
from scipy.optimize import linear_sum_assignment
from sklearn import metrics
from threadpoolctl import threadpool_limits

if GPU:
    from cuml.dask.cluster import KMeans
    from cupy import asnumpy
    from dask_cuda import LocalCUDACluster
else:
    from tutorial.cpu_stand_ins import KMeans, LocalCUDACluster, asnumpy


@step("cluster", "Start a LocalCUDACluster as `cluster` and connect a Client to it as `client`.")
def check_cluster(cluster, client):
    """One worker process per device, and a client that talks to them.

    cluster: LocalCUDACluster, or another cluster each of whose workers has a GPU of its own.
    client: dask.distributed.Client connected to it.
    """
    if isinstance(cluster, type) or not hasattr(cluster, "scheduler_address"):
        return f"`cluster` is {kind(cluster)}: call LocalCUDACluster and keep what it returns."
    if not isinstance(client, Client):
        return f"`client` is {kind(client)}, not a Client: Client(cluster) makes one."
    if cluster.status.name != "running":
        return "`cluster` is closed: run the cell again."
    if client.status != "running":
        return f"`client` is {client.status}, not running: run the cell again."
    if client.scheduler.address != cluster.scheduler_address:
        return "`client` talks to another scheduler: Client() without an argument starts a CPU cluster of its own."
    if isinstance(cluster, RunningCluster):  # it has compared its workers with this notebook
        return None
    if not (isinstance(cluster, LocalCUDACluster) or has_a_gpu_each(client)):
        return f"`cluster` is {kind(cluster)}: start LocalCUDACluster of the import cell, one worker for each device."
    devices = len(gpus()) if GPU else 2  # the stand-in's workers
    found = len(client.nthreads())
    if found != devices:
        return f"Expected {devices} worker(s), one for each device, and found {found}: leave n_workers out."
    return None


def has_a_gpu_each(client):
    """Tell whether each worker of the client sees another GPU first."""
    if not GPU:
        return False
    visible = client.run(lambda: os.environ.get("CUDA_VISIBLE_DEVICES", "")).values()
    first = {names.split(",")[0] for names in visible}
    return "" not in first and len(first) == len(visible)


@step(
    "data",
    "Draw `X` and `y` on the workers with make_blobs, one part for each worker, persist them and wait.",
)
def check_data(client, X, y, n_samples, centers, cluster_std):
    """The rows lie on the workers, spread over all of them, in groups around the centres.

    client: Client. X: Dask array or DataFrame (n_samples, d). y: Dask array or Series (n_samples,), the true groups.
    n_samples: rows asked for. centers: array (k, d). cluster_std: standard deviation of each group.
    """
    for name, rows in (("X", X), ("y", y)):
        if not dask.is_dask_collection(rows):
            return f"`{name}` is {kind(rows)}, not rows on the workers: draw it with make_blobs of the import cell."
        hint = fault_of_place(name, rows)
        if hint:
            return hint
    points, truth, centers = host(X), flat(y), asnumpy(centers)
    expected = (n_samples, centers.shape[1])
    if points.shape != expected or truth.shape != expected[:1]:
        return f"Expected X {expected} and y {expected[:1]}, found X {points.shape} and y {truth.shape}."
    if points.dtype != "float64":
        return f'The rows are {points.dtype}: ask make_blobs for dtype="float64".'
    if not np.isfinite(points).all():
        return "Some values of `X` are not finite: draw it again."
    return fault_of_groups(points, truth, centers, cluster_std) or fault_of_spread(client, X)


def fault_of_place(name, rows):
    """Return a hint if a collection is not held by workers; wait for what they are still working on."""
    futures = futures_of(rows)
    made = {future.key for future in futures}
    asked = set(flatten(rows.__dask_keys__())) if isinstance(rows, da.Array) else set()
    if not made or not made >= asked:
        return f"`{name}` is still a recipe: persist both, X, y = dask.persist(X, y), and wait([X, y])."
    if any(future.cancelled() for future in futures):
        return f"`{name}` went with a client or a cluster that is closed: run your cell again."
    wait(futures, timeout=60)
    failed = [future for future in futures if future.status == "error"]
    if failed:
        return f"Drawing `{name}` failed: {failed[0].exception()!r}"
    return None


def fault_of_spread(client, X):
    """Return a hint unless each worker holds at least a quarter of its fair share of the rows."""
    futures = futures_of(X)
    counted = client.gather([client.submit(len, each, pure=False) for each in futures])
    lengths = {future.key: length for future, length in zip(futures, counted, strict=True)}
    workers = dict.fromkeys(client.nthreads(), 0)
    for key, holders in client.who_has(futures).items():
        for worker in holders:
            workers[worker] += lengths[key]
    if min(workers.values()) * len(workers) * 4 < sum(lengths.values()):
        shares = " and ".join(f"{rows:,}" for rows in workers.values())
        return f"The workers hold {shares} of the rows: n_parts=n_workers gives each its share."
    return None


def fault_of_groups(points, truth, centers, cluster_std):
    """Return a hint unless the true groups have the means and the standard deviation that were asked for.

    Both are held to six standard errors: of a mean, std / sqrt(n) for each feature; of a standard deviation,
    std / sqrt(2 n), with n the rows of the group.
    """
    groups = [points[truth == name] for name in np.unique(truth)]
    if len(groups) != len(centers):
        return f"`y` names {len(groups)} groups, and there are {len(centers)} centres: centers=centers."
    means = np.array([group.mean(axis=0) for group in groups])
    if np.ptp(means, axis=0).max() < cluster_std:
        return "By `y`, all groups have the same mean: draw X and y in one call of make_blobs, with centers=centers."
    distances = np.sqrt(squared_distances(means, centers))
    errors = [cluster_std / np.sqrt(len(group)) for group in groups]
    off = distances.min(axis=1) > 6 * np.array(errors)
    if off.any():
        mean = ", ".join(f"{value:.2f}" for value in means[off][0])
        return f"By `y`, a group has its mean at ({mean}), and no centre is there: centers=centers."
    if len(set(distances.argmin(axis=1))) != len(centers):
        return "By `y`, two groups lie around the same centre: centers=centers."
    for group in groups:
        found = group.std(axis=0)
        if np.abs(found / cluster_std - 1).max() > 6 / np.sqrt(2 * len(group)):
            return (
                f"By `y`, a group has a standard deviation of {found.mean():.2f}, and {cluster_std} was asked for: "
                "cluster_std=cluster_std."
            )
    return None


@step("fit", "Fit the distributed KMeans to `X`, with `n_clusters` and a seed, as `kmeans`.")
def check_fit(kmeans, X, centers):
    """Every centroid is where Lloyd's iterations on X come to rest.

    kmeans: fitted distributed KMeans. X: Dask array or DataFrame (n, d). centers: array (k, d), the true centres.

    Groups that overlap cut off each other's outermost rows, so the best centroids are not quite the true centres.
    Lloyd's iterations from the true centres, over all of X, end at the best ones. The libraries' stopping rules leave
    0.02 at most (200 seeds of 10,000 rows); centroids of a thousand rows are about 0.2 off. The limit is 0.05.
    """
    if not isinstance(kmeans, KMeans):
        if dask.is_dask_collection(kmeans) or isinstance(kmeans, np.ndarray):
            return f"`kmeans` is {kind(kmeans)}, a result: keep the estimator itself as `kmeans`."
        if isinstance(kmeans, type):
            return f"`kmeans` is {kind(kmeans)}: make one of it, with its arguments in parentheses."
        origin = f"{type(kmeans).__module__}.{type(kmeans).__name__}"
        return f"`kmeans` is a {origin}: take the distributed one, `KMeans` of the import cell."
    if getattr(kmeans, "cluster_centers_", None) is None:
        return "`kmeans` is not fitted yet: call kmeans.fit(X)."
    found, rows, centers = host(kmeans.cluster_centers_), host(X), asnumpy(centers)
    if len(found) != len(centers):
        return f"{len(found)} centroids for {len(centers)} groups: n_clusters={len(centers)}."
    if getattr(kmeans, "kwargs", vars(kmeans)).get("random_state") is None:
        return "`kmeans` has no seed, which step 3 asks for: pass random_state."
    fitted_to = len(host(kmeans.labels_))
    if fitted_to != len(rows):
        return f"`kmeans` was fitted to {fitted_to:,} rows, and X has {len(rows):,}: kmeans.fit(X)."
    best, best_inertia = lloyd(rows, centers)
    off = np.sqrt(squared_distances(best, found).min(axis=1))
    if not off.max() < 0.05:
        place = ", ".join(f"{value:.2f}" for value in best[off.argmax()])
        over = squared_distances(rows, found).min(axis=1).sum() / best_inertia
        return (
            f"A centroid belongs at ({place}), and the nearest of yours is {off.max():.2f} away; the inertia on X is "
            f"{over:.4f} times the best. Fit X as it is, leave max_iter and tol alone, or try another seed."
        )
    return None


def lloyd(rows, centroids):
    """Return the centroids where Lloyd's iterations over the rows (n, d) come to rest, and their inertia there."""
    for _ in range(100):
        distances = squared_distances(rows, centroids)
        nearest, before = distances.argmin(axis=1), centroids
        centroids = np.array(
            [
                rows[nearest == label].mean(axis=0) if (nearest == label).any() else old
                for label, old in enumerate(centroids)
            ]
        )
        if np.abs(centroids - before).max() < 1e-3:
            break
    return centroids, distances.min(axis=1).sum()


@step("predict", "Predict a label for each row of `X`, as a Dask array `labels`.")
def check_predict(labels, X, y, kmeans):
    """Each row has the label of its nearest centroid.

    labels: Dask array or Series (n,). X: Dask array or DataFrame (n, d). y: true labels (n,). kmeans: fitted KMeans.
    One row in ten thousand may differ: a row half-way between two centroids goes either way by rounding.
    """
    if not dask.is_dask_collection(labels):
        return f"`labels` is {kind(labels)} in this process: leave compute() out, predict(X) is enough."
    if getattr(kmeans, "cluster_centers_", None) is None:
        return (
            "`kmeans` is not fitted yet, so there is nothing to compare with: first solve step 3."
        )
    found, rows, centroids = flat(labels), host(X), host(kmeans.cluster_centers_)
    if found.ndim != 1:
        return f"`labels` has the shape {found.shape}: transform gives distances, predict gives labels."
    if len(found) != len(rows):
        return f"{len(found):,} labels for {len(rows):,} rows: predict from X itself."
    nearest = squared_distances(rows, centroids).argmin(axis=1)
    different = np.mean(found != nearest)
    if different < 1e-4:
        return None
    if np.array_equal(found, flat(y)):
        return "`labels` are `y`, the true groups: kmeans.predict(X) gives those that were found."
    if np.ptp(found) == 0:
        return f"Every label is {found[0]:g}: kmeans.predict(X) gives each row its own."
    if share_of_equal(nearest, found) > 1 - 1e-4:
        return "The grouping is right, but the labels are another fit's names: predict with `kmeans` of step 3."
    if np.array_equal(np.sort(found), np.sort(nearest)):
        return (
            "The labels are right, but in another order than the rows of X. `labels_` may go worker by worker: "
            "kmeans.predict(X) keeps the order of X."
        )
    return f"{different:.1%} of the rows have another label than their nearest centroid's: kmeans.predict(X)."


def share_of_equal(labels, others):
    """Return the share of rows whose labels are equal, after the names have been matched as well as they can be."""
    counts = metrics.cluster.contingency_matrix(labels, others)
    return counts[linear_sum_assignment(counts, maximize=True)].sum() / len(labels)


# what else a learner may have computed: the name, and the function of true and found labels
OTHER_SCORES = {
    "the share of equal labels, but labels are only names": lambda true, found: np.mean(
        true == found
    ),
    "the share of equal labels after matching their names": share_of_equal,
    "the Rand index without the adjustment for chance": metrics.rand_score,
    "the normalized mutual information": metrics.normalized_mutual_info_score,
    "the adjusted mutual information": metrics.adjusted_mutual_info_score,
    "the mutual information": metrics.mutual_info_score,
    "the homogeneity": metrics.homogeneity_score,
    "the completeness": metrics.completeness_score,
    "the Fowlkes-Mallows index": metrics.fowlkes_mallows_score,
}


@step("score", "Compare `labels` with `y` by the adjusted Rand index, on the host, as `score`.")
def check_score(score, labels, y):
    """The score is the adjusted Rand index of labels and y, and the clusters are the true groups.

    score: float. labels, y: Dask arrays or Series (n,), found and true labels.
    """
    if dask.is_dask_collection(score):
        return f"`score` is {kind(score)}, still a recipe: compute() makes it a number."
    try:
        score = float(asnumpy(score))
    except (TypeError, ValueError):
        return (
            f"`score` is {kind(score)}, not one number: adjusted_rand_score(y, labels) returns one."
        )
    true, found = flat(y).astype("int64"), flat(labels).astype("int64")
    if true.shape != found.shape:
        return f"`labels` has the shape {found.shape}, `y` {true.shape}: first solve step 4."
    index = metrics.adjusted_rand_score(true, found)
    if not abs(score - index) <= 1e-6:  # NaN is wrong too
        return f"`score` is {score:.6f}, and the ARI of labels and y is {index:.6f}. {guess(score, true, found)}"
    if index < 0.9:
        return f"The ARI is {index:.3f}: the clusters are not the true groups. Go back to the fit."
    return None


def guess(score, true, found):
    """Say what a score that is not the ARI may be."""
    if score == 1:
        return "Exactly 1 is what labels score against themselves: compare labels with y."
    if score < -1:
        return "kmeans.score gives minus the inertia: use adjusted_rand_score."
    others = {name: other(true, found) for name, other in OTHER_SCORES.items()}
    name = min(others, key=lambda name: abs(others[name] - score))
    if abs(others[name] - score) < 1e-6:
        return f"You have {name}: use adjusted_rand_score."
    return "Compare labels, from your step 4, with y, from step 2, all rows and all digits."


def summary(*checks):
    """Return how many of the steps are solved, and which is next, as one line."""
    open_steps = [check.step for check in checks if check.state != "solved"]
    if not open_steps:
        return f"All {len(checks)} steps solved: compare your code with notebook 05."
    return f"{len(checks) - len(open_steps)} of {len(checks)} steps solved; next: {open_steps[0]}"


@step("where-stuck", "store how many true centres will have a centroid nearby in `answer`.")
def check_stuck(points, truth, start, answer):
    """Two centroids in one group cut it in two. One centroid for two groups lies between them."""
    try:
        number = float(answer)
    except (TypeError, ValueError):
        return f"`answer` is {kind(answer)}: a whole number from 0 to {len(truth)} is needed."
    if number not in range(len(truth) + 1):
        return f"There are {len(truth)} true centres: {number:g} of them cannot be."
    ended, _ = lloyd(points, start)
    found = int((squared_distances(truth, ended).min(axis=1) < 0.5**2).sum())
    started = len(set(squared_distances(start, truth).argmin(axis=1)))
    if number == found:
        return None
    if number == len(truth):
        return (
            f"The loop does not find all of them. {started} of the {len(truth)} groups have a starting point: what "
            "happens in the others?"
        )
    if number == started:
        return (
            f"Right, {started} groups have a starting point. But where does a centroid come to rest that two groups "
            "share? And two centroids that share one group?"
        )
    return (
        "Look at each group in turn. Is one starting point the nearest to all of its points, and to no point of "
        "another group? Then that centroid comes to rest at its centre."
    )


def best_inertias(points):
    """Return the inertia for 1, 2, ..., 8 clusters of points (n, d), each the best of ten starts by k-means++."""
    with threadpool_limits(1):  # the points are too few for more
        fits = [
            sklearn.cluster.KMeans(number, n_init=10, random_state=7).fit(points)
            for number in range(1, 9)
        ]
    return [fit.inertia_ for fit in fits]


@step("how-many", "store the inertia for 1 to 8 clusters, eight numbers, in `inertias`.")
def check_inertias(points, inertias):
    """The inertia falls with every further cluster, so the smallest one says nothing about the number of groups."""
    if isinstance(inertias, dict):
        inertias = [inertias[number] for number in sorted(inertias)]
    listed = inertias if isinstance(inertias, (list, tuple)) else host(inertias)
    found = np.array([float(each) for each in listed])
    if len(found) != 8:
        return (
            f"`inertias` has {len(found)} numbers: one for each of 1, 2, ..., 8 clusters is needed."
        )
    best = np.array(best_inertias(points))
    ratio = found / best
    if ((ratio > 0.98) & (ratio < 1.15)).all():
        return None
    if (found < 0).any():
        return "An inertia is a sum of squares, and some of yours are negative: `score` gives minus the inertia."
    if np.allclose(found * len(points), best, rtol=0.15):
        return "These are means over the points: the inertia is their sum."
    if np.allclose(found[:-1], best[1:], rtol=0.15):
        return "The first of yours is the inertia for 2 clusters: begin with 1."
    worst = int(np.abs(np.log(np.maximum(ratio, 1e-9))).argmax())
    if ratio[worst] > 1:
        return (
            f"With {worst + 1} cluster(s), yours is {ratio[worst]:.2f} times what the best of ten starts gives. Did "
            "that fit end in a local optimum? Keep the best of ten."
        )
    return (
        f"With {worst + 1} cluster(s), yours is {ratio[worst]:.2g} times what the best of ten starts gives: too small. "
        "The inertia is the sum of the squared distances to the nearest centroid."
    )
