"""The checks of all exercises, and of the challenge: one for each step of multi-node multi-GPU k-means.

Each check takes what the step has made and returns a Check: to do while a value is still `...`, wrong with a hint, or
solved. None of them raises on a wrong answer, so that the notebook runs to its end whatever has been filled in.

A check does not ask how an answer came about. It brings rows and labels to this process (16 MB at a million rows) and
compares them, in NumPy, with what a right answer must have. So arrays and DataFrames, `predict` and `fit_predict` and
any seed are all right.
"""

import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps

from tutorial import flights
from tutorial.device import GPU, gpus

import dask
import dask.array as da
import dask.dataframe
import numpy as np
import pandas as pd
from dask.core import flatten
from dask.distributed import Client, Future, default_client, futures_of, wait
from scipy.optimize import linear_sum_assignment
from sklearn import metrics

if GPU:
    from cuml.dask.cluster import KMeans
    from cupy import asnumpy
    from dask_cuda import LocalCUDACluster
else:
    from tutorial.cpu_stand_ins import KMeans, LocalCUDACluster, asnumpy

STEPS = ("cluster", "data", "fit", "predict", "score")


@dataclass
class Check:
    """The answer to one step: its name, its state ("to do", "wrong" or "solved"), and what to say about it."""

    step: str
    state: str
    says: str

    def __repr__(self):
        if self.step not in STEPS:
            return f"{self.state.capitalize()}: {self.says}"
        return f"Step {STEPS.index(self.step) + 1} of {len(STEPS)}, {self.step}: {self.state}. {self.says}"


CHECKS = {}  # name of an exercise -> its check


def check(name, *answers):
    """Return the Check of an exercise: to do while an answer is `...`, wrong with a hint, or solved."""
    if name not in CHECKS:
        raise KeyError(f"There is no exercise {name!r}. There are: {', '.join(sorted(CHECKS))}.")
    return CHECKS[name](*answers)


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

        CHECKS[name] = check
        return check

    return decorate


def host(collection):
    """Return an array or frame, Dask's or not, on a GPU or not, as a NumPy array in this process."""
    (here,) = dask.compute(collection)
    return np.asarray(asnumpy(getattr(here, "values", here)))


def flat(collection):
    """Return labels as `host` does; those that come as the one column of a table are one-dimensional too."""
    here = host(collection)
    return here.ravel() if here.ndim == 2 and here.shape[1] == 1 else here


def kind(thing):
    """Name the type of `thing` for a hint."""
    if isinstance(thing, type):
        return f"the class {thing.__name__} itself"
    return f"of type {type(thing).__name__}"


def squared_distances(rows, points):
    """Return the squared distance from each of the rows (n, d) to each of the points (k, d), as (n, k)."""
    return ((rows[:, None] - points[None]) ** 2).sum(axis=2)


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
    if not (isinstance(cluster, LocalCUDACluster) or has_a_gpu_each(client)):
        return f"`cluster` is {kind(cluster)}: start LocalCUDACluster of the import cell, one worker for each device."
    devices = len(gpus()) if GPU else 2  # the stand-in's workers
    found = len(client.scheduler_info(n_workers=-1)["workers"])
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
    workers = dict.fromkeys(client.scheduler_info(n_workers=-1)["workers"], 0)
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


@step("fit", "Fit the distributed KMeans to `X`, with 5 clusters and a seed, as `kmeans`.")
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


def _n_workers():
    return len(default_client().scheduler_info(n_workers=-1)["workers"])


@step("submit-and-wait", "store the eight results in `results`, in order.")
def check_submitted(results):
    """`result()` waits. Submit everything first, and then ask for the results."""
    if not isinstance(results, (list, tuple)):
        return f"`results` is {kind(results)}: a list of eight results is needed."
    if any(isinstance(each, Future) for each in results):
        return "`results` holds futures: gather their results."
    if [number for number, *_ in results] != list(range(8)):
        return "The results should be those of job(0) to job(7), in this order."
    began, ended = zip(*(times for _, *times in results), strict=True)
    together = sum(
        b < e for b in began for e in ended
    )  # 8 * 9 / 2 where each waits for the one before
    if _n_workers() > 1 and together <= 36:
        return (
            "No two jobs ran at the same time. Does a line wait before the next job is submitted?"
        )


@step("which-failed", "store the place of the future that failed in `failed`.")
def check_failed(futures, failed):
    """The scheduler knows how each task ended; no result had to come here."""
    wrong = [number for number, future in enumerate(futures) if future.status == "error"]
    if isinstance(failed, Future):
        return "`failed` is a future: its place in the list is wanted."
    if failed in (wrong, tuple(wrong), set(wrong)):
        return None
    return None if [failed] == wrong else f"{failed!r} is not it. Look for the status 'error'."


@step("fewer-chunks", "make `fewer` of `scattered`, four chunks for each worker.")
def check_fewer(scattered, fewer):
    """`rechunk` only changes the plan. Better still is to choose the chunks where the array is made."""
    if not isinstance(fewer, da.Array):
        return f"`fewer` is {kind(fewer)}: a Dask array is needed."
    if fewer.shape != scattered.shape or fewer.dtype != scattered.dtype:
        return "`fewer` should have the shape and the type of `scattered`."
    workers = _n_workers()
    if fewer.npartitions != 4 * workers:
        return f"`fewer` has {fewer.npartitions} chunks; {workers} worker(s) make {4 * workers}."
    if not np.array_equal(host(fewer), host(scattered)):
        return "`fewer` should hold the same numbers, in the same order."


@step("three-numbers", "store the smallest number, the largest and the mean in `answer`.")
def check_three(X, answer):
    """`dask.compute` merges the plans: each chunk is read once for all three."""
    if isinstance(answer, da.Array) or any(isinstance(each, da.Array) for each in answer):
        return "The answer is still lazy: compute all three in one call."
    if len(answer) != 3:
        return f"Three numbers are needed, there are {len(answer)}."
    right = [float(each) for each in dask.compute(X.min(), X.max(), X.mean())]
    if not np.allclose([float(each) for each in answer], right, rtol=1e-6, atol=1e-9):
        return "The numbers are not those of `X`, in the order smallest, largest, mean."


def _flights(*months):
    """Return months of flights (1 to 12) as one pandas DataFrame."""
    paths = [flights.path(f"flights/2013-{month:02}") for month in months]
    return pd.concat(map(pd.read_parquet, paths), ignore_index=True)


@step("late-by-airport", "store the share of late flights of each airport in `shares`.")
def check_late(shares):
    """Dropping the flights without an arrival first gives one answer in every library."""
    if hasattr(shares, "compute"):
        shares = shares.compute()
    if hasattr(shares, "to_pandas"):
        shares = shares.to_pandas()
    if isinstance(shares, pd.DataFrame) and "origin" in shares:
        shares = shares.set_index("origin")
    if isinstance(shares, pd.DataFrame) and shares.shape[1] == 1:
        shares = shares.iloc[:, 0]
    if not isinstance(shares, (pd.Series, dict)):
        return f"`shares` is {kind(shares)}: a series with a share for each airport is needed."
    found = {airport: float(share) for airport, share in dict(shares).items()}
    july = _flights(7)
    late, arrived = july["arr_delay"] > 15, july["arr_delay"].notna()
    airports = july["origin"]
    if set(found) != set(airports):
        return f"A share is needed for each of {', '.join(sorted(set(airports)))}."

    def gives(right):
        return all(np.isclose(found[airport], right[airport], atol=1e-4) for airport in found)

    if gives(100 * late[arrived].groupby(airports[arrived]).mean()):
        return None
    if gives(late.groupby(airports).mean()):
        return "Flights without an arrival count as not late here. Drop them first."
    if not gives(late[arrived].groupby(airports[arrived]).mean()):
        return (
            "These are not the shares of flights with `arr_delay` over 15 among those that arrived."
        )


@step("two-months", "make `summer` of `ddf`, the flights of July and August in two partitions.")
def check_summer(summer):
    """Partitions are months here, so the two can be taken as they are."""
    if not hasattr(summer, "npartitions") or not hasattr(summer, "columns"):
        return f"`summer` is {kind(summer)}: a Dask frame is needed."
    if "month" not in summer.columns:
        summer = summer.reset_index()
    found = summer["month"].to_backend("pandas").compute().value_counts().to_dict()
    right = _flights(7, 8)["month"].value_counts().to_dict()
    if set(found) != set(right):
        return f"`summer` holds the months {sorted(found)}; partitions are counted from 0."
    if found != right:
        return "Some flights of July and August are missing in `summer`, or doubled."
    if summer.npartitions > 2:
        return (
            f"The flights are right, and `summer` reads {summer.npartitions} partitions: take two."
        )


@step("worst-route", "store the route with the largest share of late flights in `worst`.")
def check_route(worst):
    """A bound on n first, then the largest share: without it, a handful of flights would win."""
    year = _flights(*range(1, 13)).dropna(subset=["arr_delay"])
    late = (year["arr_delay"] > 15).groupby([year["origin"], year["dest"]]).agg(["mean", "size"])
    if isinstance(worst, str):
        worst = tuple(re.findall(r"[A-Z]{3}", worst))
    try:
        worst = tuple(str(airport) for airport in worst)
    except TypeError:
        worst = ()
    if len(worst) != 2 or worst not in late.index:
        return "A pair of airports is needed, such as ('JFK', 'LAX'), of a route that was flown."
    if late.loc[worst, "size"] < 365:
        return f"This route had only {late.loc[worst, 'size']} flights: leave out what has fewer than 365."
    if worst != late[late["size"] >= 365]["mean"].idxmax():
        return f"{late.loc[worst, 'mean']:.1%} of its flights were late: another has more."


@step("no-row-moves", "store the lazy join of `homes` and `prices` in `joined`.")
def check_unmoved(homes, prices, joined):
    """A frame of one partition is sent to the rows. They stay in their partitions."""
    if not isinstance(joined, dask.dataframe.DataFrame):
        return f"`joined` is {kind(joined)}: a Dask DataFrame is needed, the join itself."
    missing = {*homes.columns, *prices.columns} - {*joined.columns}
    if missing:
        return f"`joined` has no column {', '.join(sorted(missing))}."
    columns = ["ride", "home", "price"]
    parts = [joined.partitions[n][columns] for n in range(joined.npartitions)]
    parts = [host(part.astype("float64").fillna(-1)) for part in dask.compute(*parts)]
    rows = np.concatenate(parts)
    if len(rows) != len(homes):
        return f"`joined` has {len(rows):,} rows, `homes` has {len(homes):,}: how='left' keeps all."
    whole = homes.merge(prices.repartition(npartitions=1), on="key", how="left")[columns]
    right = host(whole.astype("float64").fillna(-1))  # NaN equals no NaN
    by_ride = [each[np.argsort(each[:, 0])] for each in (rows, right)]
    if not np.array_equal(*by_ride):
        return "Some rides have another price than `prices` gives their key: join on the key."
    numbers = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
    moved = np.mean(rows[:, 1] != numbers)
    if moved > 0:
        return f"{moved:.0%} of the rows of `homes` have moved. How many partitions has `prices`?"


def kept(uses, room):
    """Return which names are in a memory with room for `room` of them, after `uses`: last used, last out."""
    inside = []
    for name in uses:
        inside = [other for other in inside if other != name] + [name]
        inside = inside[-room:]
    return set(inside)


def oldest_out(uses, room):
    """Return the same where the one that came in first leaves first, however often it was used since."""
    inside = []
    for name in uses:
        if name not in inside:
            inside = [*inside, name][-room:]
    return set(inside)


@step("who-stays", "store the letters of the three partitions in `answer`, in any order.")
def check_stays(uses, answer):
    """Each use makes a partition the newest. The one that was used longest ago leaves."""
    if not isinstance(answer, (str, list, tuple, set, frozenset)):
        return f"`answer` is {kind(answer)}: three letters are needed, such as 'ABC'."
    letters = [letter for letter in "".join(answer).upper() if letter not in " ,"]
    strange = set(letters) - set(uses)
    if strange:
        return f"There is no partition {', '.join(sorted(strange))}."
    if set(letters) == kept(uses, 3):
        return None
    if len(set(letters)) != 3:
        return f"There is room for three partitions, and after {len(uses)} uses it is full."
    if set(letters) == oldest_out(uses, 3):
        return "That is the memory if the partition that came in first left first. Which was used longest ago?"
    return "Write down, after each use, the three letters in the order of their last use."


@step("slim-types", "store `part` with smaller types in `slim`.")
def check_slim(part, slim):
    """Smaller types cost nothing to use, and nothing has to spill. Choose them where the frame is made."""
    if dask.is_dask_collection(slim):
        (slim,) = dask.compute(slim)
    if not hasattr(slim, "columns"):
        return f"`slim` is {kind(slim)}: a DataFrame is needed."
    if [*slim.columns] != [*part.columns] or len(slim) != len(part):
        return "`slim` should have the columns and the rows of `part`."
    for name in part.columns:
        found, right = (host(frame[name].astype("float64")) for frame in (slim, part))
        if not np.array_equal(found, right):
            return (
                f"`{name}` has other values than before: its numbers go from {right.min():.0f} to "
                f"{right.max():.0f}, and {slim[name].dtype} does not hold them all."
            )
    size = int(slim.memory_usage(index=False).sum()) / len(slim)
    if size > 8:
        types = ", ".join(f"{name} {slim[name].dtype}" for name in slim.columns)
        return f"A row takes {size:.1f} bytes ({types}); at most 8 are asked for."
