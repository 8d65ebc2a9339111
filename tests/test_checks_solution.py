"""The checks of notebook 05: the stub is to do, wrong work gets a true hint, right work is solved; and its helpers."""

from tutorial import blobs, broken, measure
from tutorial.checks import check

import numpy as np
import pytest
from dask.distributed import Client
from sklearn.metrics import adjusted_rand_score

RATIOS = {"as claimed": 140.0, "first calls": 20.0, "all cores": 7.0, "float64": 150.0}
RIVALS = ["scikit-learn", "Dask-ML"]
CURVES = {
    "scikit-learn": {1000: 0.001, 10_000: 0.01, 100_000: 0.1},
    "Dask-ML": {1000: 0.03, 10_000: 0.03, 100_000: 0.05},
}


@pytest.fixture(scope="module")
def fits():
    return broken.broken_fits()


@pytest.mark.parametrize(
    ("answers", "says"),
    [
        ((..., "scale", "names"), "To do: store a fault for each fit"),
        (("start", "scale", "names"), "Solved: "),
        (("Start", " SCALE ", "names"), "Solved: "),
        ((np.str_("start"), "scale", "names"), "Solved: "),
        (("scale", "scale", "names"), "Wrong: The ARI of fit A is 0.63, and its features spread"),
        (("start", "start", "names"), "Wrong: In fit B, one feature spreads 1,0"),
        (("start", "scale", "start"), "Wrong: The ARI of fit C is 1.00"),
        (("start", 2, "names"), "Wrong: For fit B there is 2; one of 'start'"),
    ],
)
def test_diagnose(fits, answers, says):
    assert repr(check("diagnose", fits, *answers)).startswith(says)


def test_evidence_tells_the_faults(fits):
    """One fit has an ARI of 1, one has features of different scale, one has two centroids close together."""
    index = {name: adjusted_rand_score(fit[1], fit[2]) for name, fit in fits.items()}
    assert index["C"] == 1 and max(index["A"], index["B"]) < 0.7
    spread = {name: np.divide(*fit[0].std(axis=0)[::-1]) for name, fit in fits.items()}
    assert spread["B"] > 900 and max(spread["A"], spread["C"]) < 1.1
    assert "0.827" in broken.evidence(fits).data


@pytest.mark.parametrize(
    ("repair", "share", "says"),
    [
        (..., 0.95, "To do: store the repair that leaves the least"),
        ("all cores", 0.95, "Solved: "),
        (" All Cores", np.float32(0.951), "Solved: "),
        ("all cores", "0.95", "Solved: "),
        ("first calls", 0.857, "Wrong: 'first calls' leaves 20 times as fast, and another"),
        ("all cores", 0.05, "Wrong: `share` is what is left of the claim."),
        ("all cores", 95, "Wrong: `share` is in percent"),
        ("all cores", 0.5, "Wrong: 140 was claimed and 7 is left"),
        ("as claimed", 0.95, "Wrong: `repair` is 'as claimed'; one of these is needed: 'first"),
        ("all cores", [1], "Wrong: `share` is of type list"),
    ],
)
def test_which_repair(repair, share, says):
    assert repr(check("which-repair", RATIOS, repair, share)).startswith(says)


@pytest.mark.parametrize(
    ("n", "faster", "measured", "says"),
    [
        (..., "Dask-ML", (1, 1), "To do: choose a size"),
        (50_000, "Dask-ML", (0.05, 0.04), "Solved: "),
        (np.int64(20_000), "scikit-learn", (0.02, 0.03), "Solved: "),
        (3e4, "scikit-learn", (0.031, 0.03), "Solved: "),  # a tie
        (50_000, "scikit-learn", (0.05, 0.04), "Wrong: At 50,000 rows Dask-ML is faster: 0.04 s"),
        (500, "scikit-learn", (1, 2), "Wrong: Choose a size between 1,000 and 100,000 rows"),
        (10_500, "scikit-learn", (1, 2), "Wrong: Both were measured near this size."),
        (50_000, "pandas", (1, 2), "Wrong: `faster` is 'pandas'; one of 'scikit-learn'"),
        (2500.5, "Dask-ML", (1, 2), "Wrong: `n_test` is 2500.5"),
    ],
)
def test_crossing_is_predicted(n, faster, measured, says):
    def race(size):
        return dict(zip(RIVALS, measured, strict=True))

    assert repr(check("crossing", CURVES, RIVALS, n, faster, race)).startswith(says)


def test_crossing():
    """Straight lines on logarithmic axes, in the direction that is asked for."""
    assert measure.crossing(CURVES["scikit-learn"], CURVES["Dask-ML"]) == pytest.approx(
        41_034, rel=0.01
    )
    assert measure.crossing(CURVES["Dask-ML"], CURVES["scikit-learn"]) is None
    assert measure.crossing({1: 1.0, 100: 10.0}, {1: 10.0, 100: 1.0}) == pytest.approx(10)


def test_fit_curve_judges_before_it_times():
    class Model:
        fits = 0

        def fit(self, rows):
            self.fits += 1

    model = Model()
    times = measure.fit_curve(model, np.zeros, [1, 2], lambda model, n: True)
    assert list(times) == [1, 2] and model.fits == 8
    with pytest.raises(AssertionError, match="2 rows: a fit is wrong"):
        measure.fit_curve(model, np.zeros, [1, 2], lambda model, n: n == 1)


def test_rows_lie_where_they_are_asked():
    """on_hosts: equal NumPy chunks around the centres, on the workers named; in_chunks: as many as asked."""
    centers = np.array([[0.0, 0, 0], [100, 0, 0]])
    with Client(
        processes=False, n_workers=2, threads_per_worker=1, dashboard_address="127.0.0.1:0"
    ) as client:
        workers = sorted(client.nthreads())
        rows = blobs.on_hosts(client, workers[:1], 1003, centers, 1.0)
        assert {worker for holders in client.who_has(rows).values() for worker in holders} == {
            workers[0]
        }
        assert rows.chunks == ((250,) * 4, (3,))
        found = rows.compute()
    assert len(np.unique(found, axis=0)) == 1000
    assert 400 < (found[:, 0] > 50).sum() < 600
    assert blobs.in_chunks(found, 8).numblocks == (8, 1)
