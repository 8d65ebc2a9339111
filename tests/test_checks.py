"""The checks of the exercises: the stub is to do, wrong work gets a hint, right work of any style is solved."""

import time

from tutorial.checks import CHECKS, Check, check
from tutorial.checks.core import SIGNS

import dask
import dask.array as da
import numpy as np
import pytest
from dask.distributed import Client, wait

from tests.test_figures import contrast


@pytest.fixture(scope="module")
def client():
    """A client of two workers of one thread, in this process."""
    with Client(
        processes=False, n_workers=2, threads_per_worker=1, dashboard_address="127.0.0.1:0"
    ) as client:
        yield client


def job(number):
    """Stand in for real work; return the number, and when it began and ended."""
    began = time.time()
    time.sleep(0.05)
    return number, began, time.time()


def invert(number):
    return 1 / number


def mapped(client):
    return client.gather(client.map(job, range(8), pure=False))


def submitted(client):
    return [each.result() for each in [client.submit(job, n, pure=False) for n in range(8)]]


def one_by_one(client):
    return [client.submit(job, n, pure=False).result() for n in range(8)]


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (lambda client: ..., "To do: store the eight results"),
        (mapped, "Solved: "),
        (submitted, "Solved: "),
        (lambda client: tuple(mapped(client)), "Solved: "),
        (one_by_one, "Wrong: No two jobs ran at the same time."),
        (lambda client: mapped(client)[::-1], "Wrong: The results should be those of job(0)"),
        (lambda client: client.map(job, range(8), pure=False), "Wrong: `results` holds futures"),
        (lambda client: 8, "Wrong: `results` is of type int"),
    ],
)
def test_submit_and_wait(client, answer, says):
    assert repr(check("submit-and-wait", answer(client))).startswith(says)


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (..., "To do: "),
        (2, "Solved: "),
        ([2], "Solved: "),
        (np.int64(2), "Solved: "),
        (0, "Wrong: 0 is not it."),
        ("error", "Wrong: 'error' is not it."),
        (None, "Wrong: None is not it."),
    ],
)
def test_which_failed(client, answer, says):
    futures = client.map(invert, [3, 1, 0, 2])
    wait(futures)
    assert repr(check("which-failed", futures, answer)).startswith(says)
    assert repr(check("which-failed", futures, futures[2])).startswith(
        "Wrong: `failed` is a future"
    )


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (lambda x: ..., "To do: "),
        (lambda x: x.rechunk(200), "Solved: "),
        (lambda x: x.rechunk((200,) * 8), "Solved: "),
        (lambda x: x.rechunk({0: 200}).persist(), "Solved: "),
        (lambda x: x, "Wrong: `fewer` has 40 chunks; 2 worker(s) make 8."),
        (lambda x: x.rechunk(800), "Wrong: `fewer` has 2 chunks"),
        (lambda x: da.ones(1600, chunks=200), "Wrong: `fewer` should hold the same numbers"),
        (lambda x: x.compute(), "Wrong: `fewer` is of type ndarray"),
        (lambda x: x[:800].rechunk(100), "Wrong: `fewer` should have the shape"),
    ],
)
def test_fewer_chunks(client, answer, says):
    scattered = da.random.default_rng(seed=1).random(1600, chunks=40)
    assert repr(check("fewer-chunks", scattered, answer(scattered))).startswith(says)


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (lambda x: ..., "To do: "),
        (lambda x: dask.compute(x.min(), x.max(), x.mean()), "Solved: "),
        (lambda x: [float(x.min()), float(x.max()), float(x.mean())], "Solved: "),
        (lambda x: da.stack([x.min(), x.max(), x.mean()]).compute(), "Solved: "),
        (lambda x: (x.min(), x.max(), x.mean()), "Wrong: The answer is still lazy"),
        (lambda x: dask.compute(x.max(), x.min(), x.mean()), "Wrong: The numbers are not those"),
        (lambda x: dask.compute(x.min(), x.max()), "Wrong: Three numbers are needed, there are 2."),
        (lambda x: 3, "Wrong: The check stopped with TypeError"),
    ],
)
def test_three_numbers(client, answer, says):
    X = da.random.default_rng(seed=2).random((100, 3), chunks=(25, 3))
    assert repr(check("three-numbers", X, answer(X))).startswith(says)


def test_an_exercise_that_is_not_there():
    with pytest.raises(KeyError, match="There is no exercise 'sumbit'. There are: "):
        check("sumbit", ...)
    assert {"submit-and-wait", "cluster", "score"} <= set(CHECKS)


@pytest.mark.parametrize("state", ["to do", "wrong", "solved"])
def test_a_check_is_seen_at_a_glance(state):
    """A sign, a word and a colour tell the three apart; code is set as code, and text stays text."""
    shown = Check("which-failed", state, "`a[1]` < `b`, & so on.")._repr_html_()
    sign, colour = SIGNS[state]
    assert f"{sign} {state}</strong>" in shown and f"background: {colour}; color: white" in shown
    assert shown.endswith("</strong> <code>a[1]</code> &lt; <code>b</code>, &amp; so on.")
    assert contrast(colour, "white") > 4.5
    assert len({sign for sign, _ in SIGNS.values()}) == len(SIGNS)


def test_a_step_names_its_place():
    check = Check("fit", "solved", "Well done.")
    assert check._repr_html_().startswith("Step 3 of 5, fit: <strong")
    assert repr(check) == "Step 3 of 5, fit: solved. Well done."
