"""The exercises of 04-Challenge: the stub is to do, wrong work gets a true hint, right work is solved; its centres."""

from tutorial.blobs import distance_to_nearest, spread_out
from tutorial.checks import check
from tutorial.checks.challenge import lloyd
from tutorial.checks.core import squared_distances

import numpy as np
import pandas as pd
import pytest
import sklearn.cluster
from sklearn.datasets import make_blobs
from threadpoolctl import threadpool_limits

from tests.books import code_cells, read

BOOK = "notebooks/04-Challenge.ipynb"
TRUTH = np.array([[-6.0, -6.0], [-6.0, 5.0], [0.0, 0.0], [5.0, -5.0], [6.0, 6.0]])
POINTS, _ = make_blobs(2_000, centers=TRUTH, cluster_std=1.0, random_state=7)
START = POINTS[np.random.default_rng(17).choice(len(POINTS), len(TRUTH), replace=False)]


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (..., "To do: "),
        (2, "Solved: "),
        (2.0, "Solved: "),
        (np.int64(2), "Solved: "),
        ("2", "Solved: "),
        (5, "Wrong: The loop does not find all of them. 4 of the 5 groups have a starting point"),
        (4, "Wrong: Right, 4 groups have a starting point."),
        (3, "Wrong: Look at each group in turn."),
        (0, "Wrong: Look at each group in turn."),
        (6, "Wrong: There are 5 true centres: 6 of them cannot be."),
        (2.5, "Wrong: There are 5 true centres: 2.5"),
        ("two", "Wrong: `answer` is of type str"),
        ([2, 3], "Wrong: `answer` is of type list"),
    ],
)
def test_where_stuck(answer, says):
    assert repr(check("where-stuck", POINTS, TRUTH, START, answer)).startswith(says)


def test_what_the_hints_of_the_start_say():
    """Four groups have a starting point. Two centroids end at a centre, two in one group, one between two groups."""
    nearest = squared_distances(START, TRUTH).argmin(axis=1)
    assert sorted(nearest) == [0, 0, 1, 2, 4]
    ended, _ = lloyd(POINTS, START)
    off = distance_to_nearest(TRUTH, ended)
    assert (off[[1, 4]] < 0.2).all() and 0.6 < off[0] < 1 and (off[[2, 3]] > 3).all()


def inertias(numbers=range(1, 9), seed=7, n_init=10, **options):
    with threadpool_limits(1):
        return [
            sklearn.cluster.KMeans(k, n_init=n_init, random_state=seed, **options)
            .fit(POINTS)
            .inertia_
            for k in numbers
        ]


@pytest.fixture(scope="module")
def right():
    return inertias()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda right: ..., "To do: "),
        (lambda right: right, "Solved: "),
        (tuple, "Solved: "),
        (np.array, "Solved: "),
        (lambda right: pd.Series(right, index=range(1, 9)), "Solved: "),
        (lambda right: dict(zip(range(1, 9), right, strict=True)), "Solved: "),
        (lambda right: inertias(seed=3, n_init=20, init="random"), "Solved: "),
        (lambda right: right[:5], "Wrong: `inertias` has 5 numbers"),
        (lambda right: [*right[1:], right[-1] * 0.95], "Wrong: The first of yours is the inertia"),
        (lambda right: [-each for each in right], "Wrong: An inertia is a sum of squares"),
        (
            lambda right: [each / len(POINTS) for each in right],
            "Wrong: These are means over the points",
        ),
        (
            lambda right: [*right[:4], 13_791, *right[5:]],
            "Wrong: With 5 cluster(s), yours is 3.52 times what the best of ten starts gives.",
        ),
        (
            lambda right: [each**0.5 for each in right],
            "Wrong: With 1 cluster(s), yours is 0.0031 times",
        ),
        (lambda right: [0] * 8, "Wrong: With 1 cluster(s), yours is 0 times"),
        (lambda right: right[0], "Wrong: The check stopped with TypeError"),
        (lambda right: ["many"] * 8, "Wrong: The check stopped with ValueError"),
    ],
)
def test_how_many(right, change, says):
    assert repr(check("how-many", POINTS, change(right))).startswith(says)


@pytest.mark.parametrize("seed", range(10))
def test_ten_starts_of_any_seed_will_do(seed):
    assert check("how-many", POINTS, inertias(seed=seed)).state == "solved"


@pytest.mark.parametrize(
    ("n_clusters", "n_features"), [(5, 2), (1, 1), (7, 1), (12, 2), (8, 3), (20, 50)]
)
def test_centres_are_apart(n_clusters, n_features):
    centers = spread_out(n_clusters, n_features, apart=7.5)
    assert centers.shape == (n_clusters, n_features)
    for number, center in enumerate(centers):
        others = np.delete(centers, number, axis=0)
        assert not len(others) or distance_to_nearest(center[None], others)[0] >= 7.5
    assert np.array_equal(centers, spread_out(n_clusters, n_features, apart=7.5))
    assert not np.array_equal(centers, spread_out(n_clusters, n_features, apart=7.5, seed=8))


def test_the_notebook_asks_for_these():
    """The notebook's points and start are those of these tests, and each exercise has stub, check and solution."""
    sources = {cell.id: cell for cell in code_cells(read(BOOK))}
    names = {"np": np, "make_host_blobs": make_blobs}
    exec(sources["small-data"].source, names)
    exec(sources["plot-start"].source.splitlines()[0], names)
    assert np.array_equal(names["points"], POINTS) and np.array_equal(names["truth"], TRUTH)
    assert np.array_equal(names["random_start"], START)
    for name in ("stuck", "inertias"):
        assert "= ..." in sources[f"exercise-{name}-stub"].source
        assert "check(" in sources[f"exercise-{name}-check"].source
        solution = sources[f"exercise-{name}-solution"]
        assert "check(" in solution.source and solution.metadata.tags == ["solution"]
