"""The checks of notebook 3, and its rows: the stub is to do, wrong work gets a true hint, right work is solved."""

from tutorial.checks import check
from tutorial.forests import rows_on, slices_on

import dask.array as da
import numpy as np
import pytest
from dask.distributed import Client

from tests.books import LESSONS, code_cells, read

BOOK = LESSONS[2]


@pytest.fixture(scope="module")
def client():
    """A client of two workers of one thread, in this process."""
    options = {"processes": False, "n_workers": 2, "threads_per_worker": 1}
    with Client(**options, dashboard_address="127.0.0.1:0") as client:
        yield client


def workers_of(client):
    return sorted(client.nthreads())


def holders(client, array):
    return {worker for held_by in client.who_has(array).values() for worker in held_by}


@pytest.mark.parametrize("n_rows", [1000, 1001])
def test_rows_are_the_same_wherever_they_lie(client, n_rows):
    workers, found = workers_of(client), []
    for on in (workers[:1], workers):
        X, y = rows_on(client, on, n_rows)
        assert holders(client, X) == holders(client, y) == set(on)
        assert X.numblocks == (len(on), 1) and y.numblocks == (len(on),)
        assert (X.dtype, y.dtype, len(X), len(y)) == (np.float32, np.int32, n_rows, n_rows)
        found.append((X.compute(), y.compute()))
    assert np.array_equal(found[0][0], found[1][0]) and np.array_equal(found[0][1], found[1][1])
    assert 0.4 < found[0][1].mean() < 0.6


def test_slices_lie_in_order(client):
    X, y = np.arange(21, dtype="float32").reshape(7, 3), np.arange(7, dtype="int32")
    X_there, y_there = slices_on(client, workers_of(client), X, y)
    assert X_there.chunks == ((4, 3), (3,)) and y_there.chunks == ((4, 3),)
    assert holders(client, X_there) == set(workers_of(client))
    assert np.array_equal(X_there.compute(), X) and np.array_equal(y_there.compute(), y)


def without(X, chunks):
    """Return X without some of its ten chunks."""
    return da.concatenate([X.blocks[n] for n in range(10) if n not in chunks])


def by_mask(X):
    """Split by a mask over whole chunks, which keeps each row in its chunk."""
    chunk = np.arange(len(X)) // 100
    return X[~np.isin(chunk, (4, 5))], X[np.isin(chunk, (4, 5))]


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (lambda X: (..., ...), "To do: store the two lazy Dask arrays"),
        (lambda X: (without(X, (2, 3)), X.blocks[2:4]), "Solved: "),
        (lambda X: (without(X, (5, 8)), da.concatenate([X.blocks[8], X.blocks[5]])), "Solved: "),
        (lambda X: (without(X, (8, 9)).persist(), X[-200:]), "Solved: "),
        (by_mask, "Solved: "),
        (lambda X: (X.blocks[2:], X.blocks[2:4]), "Wrong: 200 held-out rows are training rows"),
        (lambda X: (X.blocks[2:], X.blocks[:2]), "Wrong: 200 rows were held out before"),
        (lambda X: (X.blocks[4:], X.blocks[2:4]), "Wrong: `X` has 1,000 rows, the two parts"),
        (lambda X: (without(X, (2, 4)), X.blocks[2:5:2]), "Wrong: The held-out rows do not come"),
        (lambda X: (without(X, (2,)), X.blocks[2]), "Wrong: 10% of the rows are held out"),
        (
            lambda X: (without(X, (2, 3)), X.blocks[2:4].rechunk((200, 4))),
            "Wrong: 1 chunk(s) have rows of more than one worker",
        ),
        (lambda X: (without(X, (2, 3)), X.blocks[2:4] + 9), "Wrong: `second_test` has rows that"),
        (lambda X: (X.compute(), X.compute()), "Wrong: `second_train` is of type ndarray"),
    ],
)
def test_hold_out_again(client, answer, says):
    X = da.from_array(np.random.default_rng(7).random((1000, 4)), chunks=(100, 4))
    assert repr(check("hold-out-again", X, X.blocks[:2], *answer(X))).startswith(says)


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (..., "To do: store the depth"),
        (8, "Solved: "),
        (np.int64(8), "Solved: "),
        (8.0, "Solved: "),
        (12, "Wrong: 0.960 is within 0.01 of the best, and so is a smaller depth."),
        (4, "Wrong: Its held-out accuracy is 0.900, the best is 0.960."),
        (5, "Wrong: 5 is none of the depths 2, 4, 8, 12."),
        (0.955, "Wrong: 0.955 is none of the depths"),
        ([8], "Wrong: [8] is none of the depths"),
    ],
)
def test_smallest_depth(answer, says):
    on_held_out = np.array([0.8, 0.9, 0.955, 0.96])
    assert repr(check("smallest-depth", [2, 4, 8, 12], on_held_out, answer)).startswith(says)


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (..., "To do: store the fair factor"),
        (12, "Solved: "),
        (np.float32(12), "Solved: "),
        ("12", "Solved: "),
        (120, "Wrong: That is the slide's factor"),
        (1.5, "Wrong: The first call"),
        (1.4, "Wrong: These two did not fit the same number of rows."),
        (1 / 12, "Wrong: The right pair, the wrong way round."),
        (7, "Wrong: Divide the seconds of the CPU"),
        ("all cores", "Wrong: The check stopped with ValueError"),
    ],
)
def test_fair_speed_up(answer, says):
    [stub] = [cell for cell in code_cells(read(BOOK)) if cell.id == "exercise-claim-stub"]
    names = {}
    exec(stub.source, names)  # the seconds that the notebook gives
    assert repr(check("fair-speed-up", names["timings"], answer)).startswith(says)
