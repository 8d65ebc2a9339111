"""Notebook 04: nothing solved as shipped, everything with the solution's code; what its checks accept and refuse."""

import types

from tutorial import checks, device
from tutorial.checks import challenge
from tutorial.checks.core import flat

import dask
import dask.array as da
import dask.dataframe as dd
import numpy as np
import pytest
from dask.distributed import Client, LocalCluster, wait
from sklearn import metrics

from tests.books import ROOT, code_cells, read, texts
from tests.record import run

if device.GPU:
    import cupy as cp
    from cuml.cluster import KMeans as SingleKMeans
    from cuml.dask.cluster import KMeans
    from cuml.dask.datasets import make_blobs
    from cupy import asnumpy
    from dask_cuda import LocalCUDACluster
else:
    from tutorial.cpu_stand_ins import (
        KMeans,
        LocalCUDACluster,
        SingleKMeans,
        asnumpy,
        cp,
        make_blobs,
    )

CHALLENGE, SOLUTION = "notebooks/04-Challenge.ipynb", "notebooks/05-Challenge_Solution.ipynb"
N, STD = 10_000, 1.5
CENTERS = np.array([[-6.0, -6.0], [-6.0, 5.0], [0.0, 0.0], [5.0, -5.0], [6.0, 6.0]])
TWO_IN_ONE = np.array([[-6.5, -6.0], [-5.5, -6.0], [-6.0, 5.0], [2.5, -2.5], [6.0, 6.0]])
LONE = device.GPU and len(device.gpus()) == 1  # one worker is right, and nobody can be left out


def step_tags(cell):
    return [tag for tag in cell.metadata.get("tags", []) if tag.startswith("step-")]


def said(notebook, name):
    return "".join(texts(next(cell for cell in notebook.cells if cell.id == name).outputs))


def test_shipped_challenge_reports_nothing_solved():
    shipped = read(CHALLENGE)
    assert "0 of 5 steps solved" in said(shipped, "summary")
    for step in checks.STEPS:
        assert f"{step}: to do. " in said(shipped, f"check-{step}")


def test_solution_solves_every_step():
    """The cells of notebook 05 with the tag of a step are that step's solution."""
    solutions = {tag: cell.source for cell in code_cells(read(SOLUTION)) for tag in step_tags(cell)}
    assert sorted(solutions) == sorted(f"step-{step}" for step in checks.STEPS)
    notebook = read(CHALLENGE)
    names = [cell.id for cell in notebook.cells]
    worked = range(
        names.index("lloyd-step"), names.index("challenge")
    )  # the worked part takes no part in this
    notebook.cells = [cell for index, cell in enumerate(notebook.cells) if index not in worked]
    for cell in notebook.cells:
        for tag in step_tags(cell):
            cell.source = solutions[tag]
    run(notebook, ROOT / "notebooks")
    for step in checks.STEPS:
        assert f"{step}: solved. " in said(notebook, f"check-{step}")
    assert "All 5 steps solved" in said(notebook, "summary")


@pytest.mark.filterwarnings("error")
def test_lloyd_step_without_points():
    """A centroid that no point is nearest to keeps its place; the others go to the means of their points."""
    names = {"np": np}
    exec(next(cell for cell in read(CHALLENGE).cells if cell.id == "lloyd-step").source, names)
    points = np.array([[0.0, 0.0], [2.0, 0.0], [10.0, 0.0]])
    centroids = np.array([[1.0, 1.0], [99.0, 99.0], [9.0, 0.0]])
    labels, moved, inertia = names["lloyd_step"](points, centroids)
    assert labels.tolist() == [0, 0, 2]
    assert moved.tolist() == [[1.0, 0.0], [99.0, 99.0], [10.0, 0.0]]
    assert inertia == 2 + 2 + 1


def blobs(**changes):
    """Draw what step 2 asks for, with some of it changed."""
    arguments = {
        "n_samples": N,
        "n_features": 2,
        "centers": cp.asarray(CENTERS),
        "cluster_std": STD,
        "random_state": 7,
        "dtype": "float64",
    }
    return make_blobs(**arguments | changes)


def kept(*collections):
    """Persist Dask collections and wait; return them, a lone one as itself."""
    persisted = dask.persist(*collections)
    wait(persisted)
    return persisted if len(persisted) > 1 else persisted[0]


@pytest.fixture(scope="module")
def world():
    """A cluster with the right data, fit, labels and score on it, under the notebook's names, and what differs."""
    with (
        LocalCUDACluster(dashboard_address="127.0.0.1:0") as cluster,
        Client(cluster) as client,
        LocalCUDACluster(n_workers=1, dashboard_address="127.0.0.1:0") as small_cluster,
        Client(small_cluster, set_as_default=False) as small_client,
        LocalCluster(
            processes=False, n_workers=2, dashboard_address="127.0.0.1:0"
        ) as plain_cluster,
        Client(plain_cluster, set_as_default=False) as plain_client,
    ):
        n_workers = len(client.nthreads())
        X, y = kept(*blobs(n_parts=n_workers))
        frame = kept(dd.from_dask_array(X, columns=["a", "b"]))
        kmeans = KMeans(n_clusters=5, random_state=7).fit(X)
        labels = kmeans.predict(X)
        frame_kmeans = KMeans(n_clusters=5, random_state=1)
        frame_labels = frame_kmeans.fit_predict(frame)
        start = np.vstack([CENTERS, CENTERS[:3] + 1])
        eight = KMeans(n_clusters=8, init=start, random_state=7).fit(X)
        closed_client = Client(cluster.scheduler_address, set_as_default=False)
        gone = closed_client.persist(X + 0)
        closed_client.close()
        closed_cluster = LocalCluster(processes=False, n_workers=1, dashboard_address="127.0.0.1:0")
        closed_cluster.close()
        true, found = (asnumpy(part.compute()) for part in (y, labels))
        index = metrics.adjusted_rand_score(true, found)
        yield types.SimpleNamespace(**locals())


def started(world, client):
    return checks.check_cluster(world.cluster, client)


def drawn(world, X=None, y=None):
    X, y = world.X if X is None else X, world.y if y is None else y
    return checks.check_data(world.client, X, y, N, cp.asarray(CENTERS), STD)


def redrawn(world, **changes):
    return drawn(world, *kept(*blobs(n_parts=world.n_workers, **changes)))


def fitted(world, kmeans, X=None):
    return checks.check_fit(kmeans, world.X if X is None else X, cp.asarray(CENTERS))


def refitted(world, X=None, init=CENTERS, **changes):
    """Fit with arguments that are right but for some; from the true centres by default, which takes a moment."""
    arguments = {"n_clusters": 5, "init": init, "random_state": 7} | changes
    return fitted(world, KMeans(**arguments).fit(world.X if X is None else X))


def predicted(world, labels, X=None, kmeans=None):
    X, kmeans = world.X if X is None else X, world.kmeans if kmeans is None else kmeans
    return checks.check_predict(labels, X, world.y, kmeans)


def scored(world, score, labels=None):
    return checks.check_score(score, world.labels if labels is None else labels, world.y)


def started_with_address(world):
    with Client(world.cluster.scheduler_address, set_as_default=False) as client:
        return started(world, client)


def lopsided(world):
    """Return the rows of X, all but nine of them on the same worker."""
    one, other, *_ = world.client.nthreads()
    parts = (world.X[:-9] + 0, one), (world.X[-9:] + 0, other)
    arrays = [world.client.persist(part, workers=[worker]) for part, worker in parts]
    wait(arrays)
    return kept(da.concatenate(arrays))


RIGHT = {
    "client of the cluster": lambda w: started(w, w.client),
    "client of the address": started_with_address,
    "client by the cluster": lambda w: started(w, w.cluster.get_client()),
    "rows by make_blobs": lambda w: drawn(w),
    "rows in two parts a worker": lambda w: drawn(w, *kept(*blobs(n_parts=2 * w.n_workers))),
    "rows of another seed": lambda w: redrawn(w, random_state=3),
    "rows by client.persist": lambda w: drawn(w, *w.client.persist(blobs())),
    "rows persisted one by one": lambda w: drawn(w, *(array.persist() for array in blobs())),
    "a frame and an array": lambda w: drawn(w, X=w.frame),
    "a frame and a series": lambda w: drawn(w, w.frame, kept(dd.from_dask_array(w.y))),
    "whole-numbered y": lambda w: drawn(w, y=kept(w.y.astype("int64"))),
    "fit": lambda w: fitted(w, w.kmeans),
    "fit_predict of a frame": lambda w: fitted(w, w.frame_kmeans, w.frame),
    "fit with a start of one's own": lambda w: refitted(w),
    "fit to the last digit": lambda w: refitted(w, tol=1e-9),
    "predict": lambda w: predicted(w, w.labels),
    "predict, persisted": lambda w: predicted(w, kept(w.labels)),
    "predict, as another type": lambda w: predicted(w, w.labels.astype("int64")),
    "labels_": lambda w: predicted(w, w.kmeans.labels_),
    "predict of a frame": lambda w: predicted(
        w, w.frame_kmeans.predict(w.frame), w.frame, w.frame_kmeans
    ),
    "labels of fit_predict": lambda w: predicted(w, w.frame_labels, w.frame, w.frame_kmeans),
    "the least of transform": lambda w: predicted(
        w,
        w.kmeans.transform(w.X).map_blocks(
            lambda part: part.argmin(axis=1), drop_axis=1, dtype="int64"
        ),
    ),
    "ARI": lambda w: scored(w, w.index),
    "ARI, labels first": lambda w: scored(w, metrics.adjusted_rand_score(w.found, w.true)),
    "ARI as an array": lambda w: scored(w, cp.asarray(w.index)),
    "ARI of a series": lambda w: scored(
        w, metrics.adjusted_rand_score(w.true, asnumpy(w.frame_labels.compute())), w.frame_labels
    ),
}

# what is wrong -> the check, and words of its hint
# another metric -> what the hint calls it
METRICS = {
    "rand_score": "without the adjustment",
    "normalized_mutual_info_score": "the normalized mutual information",
    "adjusted_mutual_info_score": "the adjusted mutual information",
    "mutual_info_score": "You have the mutual information",
    "homogeneity_score": "the homogeneity",
    "completeness_score": "the completeness",
    "fowlkes_mallows_score": "Fowlkes-Mallows",
}


WRONG = {
    "cluster: the class": (
        lambda w: checks.check_cluster(LocalCUDACluster, w.client),
        "call LocalCUDACluster",
    ),
    "cluster: a client": (
        lambda w: checks.check_cluster(w.client, w.client),
        "`cluster` is of type Client",
    ),
    "cluster: a plain LocalCluster": (
        lambda w: checks.check_cluster(w.plain_cluster, w.plain_client),
        "start LocalCUDACluster",
    ),
    "cluster: closed": (
        lambda w: checks.check_cluster(w.closed_cluster, w.client),
        "`cluster` is closed",
    ),
    "client: the cluster": (lambda w: started(w, w.cluster), "Client(cluster)"),
    "client: of another cluster": (lambda w: started(w, w.plain_client), "another scheduler"),
    "client: closed": (lambda w: started(w, w.closed_client), "not running"),
    "data: in this process": (lambda w: drawn(w, X=asnumpy(w.X.compute())), "make_blobs"),
    "data: lazy": (lambda w: drawn(w, X=da.ones((N, 2), chunks=N // 2)), "still a recipe"),
    "data: not persisted": (lambda w: drawn(w, *blobs()), "dask.persist(X, y)"),
    "data: only X persisted": (lambda w: drawn(w, w.X, w.y + 0), "`y` is still a recipe"),
    "data: a lazy frame": (
        lambda w: drawn(w, X=dd.from_dask_array(w.X + 0, columns=["a", "b"])),
        "still a recipe",
    ),
    "data: of a closed client": (lambda w: drawn(w, X=w.gone), "closed"),
    "data: failed": (
        lambda w: drawn(
            w, X=w.X.map_blocks(lambda chunk: chunk / (1 // 0), meta=w.X._meta).persist()
        ),
        "failed: ZeroDivisionError",
    ),
    "data: X and y swapped": (lambda w: drawn(w, w.y, w.X), "Expected X (10000, 2)"),
    "data: half the rows": (lambda w: redrawn(w, n_samples=N // 2), "found X (5000, 2)"),
    "data: three features": (
        lambda w: redrawn(w, n_features=3, centers=None),
        "Expected X (10000, 2)",
    ),
    "data: float32": (lambda w: redrawn(w, dtype="float32"), 'dtype="float64"'),
    "data: not a number": (lambda w: drawn(w, X=kept(w.X * np.nan)), "not finite"),
    "data: all zero": (lambda w: drawn(w, X=kept(w.X * 0)), "the same mean"),
    "data: uniform": (lambda w: drawn(w, X=kept(w.X % 1)), "the same mean"),
    "data: another y": (
        lambda w: drawn(w, y=kept(w.y.map_blocks(lambda chunk: chunk[::-1]))),
        "one call of make_blobs",
    ),
    "data: three groups": (lambda w: redrawn(w, centers=None), "`y` names 3 groups"),
    "data: other centres": (
        lambda w: redrawn(w, centers=cp.asarray(CENTERS * 1.1)),
        "no centre is there",
    ),
    "data: groups in one place": (
        lambda w: redrawn(w, centers=cp.asarray(CENTERS[[0, 1, 2, 3, 3]])),
        "around the same centre",
    ),
    "data: another deviation": (lambda w: redrawn(w, cluster_std=1.0), "and 1.5 was asked for"),
    "fit: not fitted": (lambda w: fitted(w, KMeans(n_clusters=5)), "not fitted"),
    "fit: the class": (lambda w: fitted(w, KMeans), "the class KMeans itself"),
    "fit: for a single device": (
        lambda w: fitted(
            w, SingleKMeans(n_clusters=5, n_init=1, random_state=7).fit(w.X.compute())
        ),
        "the distributed one",
    ),
    "fit: labels in its place": (lambda w: fitted(w, w.labels), "keep the estimator"),
    "fit: centroids in its place": (lambda w: fitted(w, CENTERS), "keep the estimator"),
    "fit: eight clusters": (lambda w: fitted(w, w.eight), "8 centroids for 5 groups"),
    "fit: no seed": (lambda w: refitted(w, random_state=None), "random_state"),
    "fit: a thousand rows": (lambda w: refitted(w, X=w.X[:1000]), "1,000 rows"),
    "fit: other rows": (lambda w: refitted(w, X=kept(w.X + 1)), "Fit X as it is"),
    "fit: one iteration": (lambda w: refitted(w, init=CENTERS * 0.6, max_iter=1), "max_iter"),
    "fit: two centroids in one group": (
        lambda w: refitted(w, init=TWO_IN_ONE, max_iter=2),
        "times the best",
    ),
    "predict: collected": (lambda w: predicted(w, w.labels.compute()), "leave compute() out"),
    "predict: the truth": (lambda w: predicted(w, w.y), "the true groups"),
    "predict: zeros": (lambda w: predicted(w, w.labels * 0), "Every label is 0"),
    "predict: transform": (lambda w: predicted(w, w.kmeans.transform(w.X)), "gives distances"),
    "predict: a thousand rows": (
        lambda w: predicted(w, w.kmeans.predict(w.X[:1000])),
        "1,000 labels for 10,000 rows",
    ),
    "predict: another order": (
        lambda w: predicted(w, w.labels.map_blocks(lambda chunk: chunk[::-1])),
        "another order",
    ),
    "predict: other names": (lambda w: predicted(w, (w.labels + 1) % 5), "another fit's names"),
    "predict: another fit": (lambda w: predicted(w, w.eight.predict(w.X)), "% of the rows"),
    "predict: nothing fitted": (
        lambda w: predicted(w, w.labels, kmeans=KMeans(n_clusters=5)),
        "step 3",
    ),
    "score: a literal 1.0": (lambda w: scored(w, 1.0), "against themselves"),
    "score: equal labels": (
        lambda w: scored(w, np.mean((w.found + 1) % 5 == w.true), (w.labels + 1) % 5),
        "labels are only names",
    ),
    "score: equal labels, matched": (
        lambda w: scored(w, challenge.share_of_equal(w.true, w.found)),
        "after matching their names",
    ),
    "score: kmeans.score": (lambda w: scored(w, w.kmeans.score(w.X)), "minus the inertia"),
    "score: rounded": (lambda w: scored(w, round(w.index, 3)), "all digits"),
    "score: NaN": (lambda w: scored(w, np.nan), "Compare labels"),
    "score: not computed": (
        lambda w: scored(w, dask.delayed(metrics.adjusted_rand_score)(w.true, w.found)),
        "compute() makes it a number",
    ),
    "score: the labels": (lambda w: scored(w, w.found), "not one number"),
    "score: of useless labels": (lambda w: scored(w, 0.0, w.labels * 0), "Go back to the fit"),
    **{
        f"score: {name}": (
            lambda w, name=name: scored(w, getattr(metrics, name)(w.true, w.found)),
            called,
        )
        for name, called in METRICS.items()
    },
}
if not LONE:  # with a lone worker one is right, and nobody can be left out
    WRONG |= {
        "cluster: one worker": (
            lambda w: checks.check_cluster(w.small_cluster, w.small_client),
            "leave n_workers out",
        ),
        "data: one part": (lambda w: drawn(w, *kept(*blobs(n_parts=1))), "n_parts=n_workers"),
        "data: a crumb for one worker": (
            lambda w: drawn(w, X=lopsided(w)),
            "n_parts=n_workers",
        ),
    }


@pytest.mark.parametrize("name", RIGHT)
def test_right(world, name):
    check = RIGHT[name](world)
    assert check.state == "solved", check


@pytest.mark.parametrize("name", WRONG)
def test_wrong(world, name):
    find, words = WRONG[name]
    check = find(world)
    assert check.state == "wrong" and words in check.says, check


@pytest.mark.parametrize("answer", [None, "text", 3, CENTERS, {}, object, [1, 2]], ids=str)
def test_no_check_raises(world, answer):
    for check in (
        checks.check_cluster(answer, world.client),
        checks.check_cluster(world.cluster, answer),
        drawn(world, X=answer) if answer is not None else drawn(world, X="nothing"),
        fitted(world, answer),
        predicted(world, answer),
        scored(world, answer),
    ):
        assert check.state == "wrong" and check.says


def test_to_do(world):
    """A check of a later step is to do, not wrong, while an earlier one is."""
    later = checks.check_data(..., world.X, world.y, N, CENTERS, STD), fitted(world, ...)
    assert [check.state for check in later] == ["to do"] * 2


def test_the_start_finds_all_groups(world):
    """Dask-ML's seeded start follows the chunks: at one a worker, each fit here ends in the best optimum."""
    best, inertia = challenge.lloyd(asnumpy(world.X.compute()), CENTERS)
    for kmeans in (world.kmeans, world.frame_kmeans):
        assert float(kmeans.inertia_) == pytest.approx(inertia, rel=1e-4)


def test_estimators_answer_in_kind(world):
    """fit_predict, predict, transform and score: arrays for arrays, frames for frames, alike on both devices."""
    kmeans, frames = world.kmeans, world.frame_kmeans
    assert isinstance(kmeans.labels_, da.Array) and isinstance(kmeans.transform(world.X), da.Array)
    assert isinstance(world.frame_labels, dd.Series)
    assert isinstance(frames.predict(world.frame), dd.Series)
    assert isinstance(frames.transform(world.frame), dd.DataFrame)
    for model, X in ((kmeans, world.X), (frames, world.frame)):
        distances = checks.host(model.transform(X))
        assert distances.shape == (N, 5)
        assert -model.score(X) == pytest.approx((distances.min(axis=1) ** 2).sum(), rel=1e-6)
        assert float(model.inertia_) == pytest.approx(-model.score(X), rel=1e-6)
        assert np.array_equal(flat(model.predict(X)), distances.argmin(axis=1))
