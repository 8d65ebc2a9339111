"""The checks of deeper/Moving_and_Spilling: the stub is to do, wrong work gets a true hint, right work is solved."""

from tutorial.checks import check

import dask
import dask.dataframe as dd
import numpy as np
import pandas as pd
import pytest
from dask.distributed import Client


@pytest.fixture(scope="module")
def client():
    """A client of two workers of one thread, in this process."""
    with (
        dask.config.set({"dataframe.shuffle.method": "tasks", "dataframe.backend": "pandas"}),
        Client(
            processes=False, n_workers=2, threads_per_worker=1, dashboard_address="127.0.0.1:0"
        ) as client,
    ):
        yield client


def make_homes(number, rows=500):
    ride = np.arange(number * rows, (number + 1) * rows)
    return pd.DataFrame({"key": ride * 7919 % 10_007, "ride": ride, "home": number})


def shifted(prices):
    """Return the prices of other keys."""
    return prices.repartition(npartitions=1).assign(price=lambda each: each["price"] + 1)


def left(homes, right, **options):
    return homes.merge(right, on="key", how="left", **options)


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (lambda homes, prices: ..., "To do: store the lazy join"),
        (lambda homes, prices: left(homes, prices.repartition(npartitions=1)), "Solved: "),
        (lambda homes, prices: left(homes, prices.compute()), "Solved: "),
        (
            lambda homes, prices: homes.map_partitions(
                lambda part, right: part.merge(right, on="key", how="left"), prices.compute()
            ).persist(),
            "Solved: ",
        ),
        (left, "Wrong: 9"),
        (
            lambda homes, prices: homes.merge(prices.repartition(npartitions=1), on="key"),
            "Wrong: `joined` has 100 rows, `homes` has 5,000: how='left' keeps all.",
        ),
        (lambda homes, prices: left(homes, prices).compute(), "Wrong: `joined` is of type"),
        (
            lambda homes, prices: left(homes, shifted(prices)),
            "Wrong: Some rides have another price",
        ),
        (lambda homes, prices: homes, "Wrong: `joined` has no column price."),
    ],
)
def test_no_row_moves(client, answer, says):
    homes = dd.from_map(make_homes, range(10)).persist()
    prices = make_homes(0)[["key"]].head(100).assign(price=lambda each: each["key"] % 100)
    prices = dd.from_pandas(prices, npartitions=20)
    assert repr(check("no-row-moves", homes, prices, answer(homes, prices))).startswith(says)


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (..., "To do: "),
        ("BDE", "Solved: "),
        (["E", "D", "B"], "Solved: "),
        ({"b", "d", "e"}, "Solved: "),
        ("d, b, e", "Solved: "),
        ("CDE", "Wrong: That is the memory if the partition that came in first left first."),
        ("ADE", "Wrong: Write down, after each use"),
        ("DE", "Wrong: There is room for three partitions"),
        ("BDX", "Wrong: There is no partition X."),
        (3, "Wrong: `answer` is of type int"),
        ([1, 2, 3], "Wrong: The check stopped with TypeError"),
    ],
)
def test_who_stays(answer, says):
    assert repr(check("who-stays", "ABCADBE", answer)).startswith(says)


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (lambda part: ..., "To do: "),
        (
            lambda part: part.astype({"ride": "int32", "station": "int16", "minutes": "int8"}),
            "Solved: ",
        ),
        (
            lambda part: part.astype({"ride": "uint32", "station": "int16", "minutes": "uint16"}),
            "Solved: ",
        ),
        (lambda part: part.apply(pd.to_numeric, downcast="integer"), "Solved: "),
        (
            lambda part: dd.from_pandas(
                part.astype({"ride": "int32", "station": "uint16", "minutes": "int8"}),
                npartitions=3,
            ),
            "Solved: ",
        ),
        (
            lambda part: part.astype("int32"),
            "Wrong: A row takes 12.0 bytes (ride int32, station int32, minutes int32)",
        ),
        (
            lambda part: part.astype({"ride": "int32", "station": "int8", "minutes": "int8"}),
            "Wrong: `station` has other values than before: its numbers go from 0 to 999, and int8",
        ),
        (
            lambda part: part.astype({"ride": "float32", "station": "int16", "minutes": "int8"}),
            "Solved: ",
        ),
        (lambda part: part[["ride"]].astype("int32"), "Wrong: `slim` should have the columns"),
        (lambda part: part.head(10).astype("int16"), "Wrong: `slim` should have the columns"),
        (lambda part: 7, "Wrong: `slim` is of type int"),
    ],
)
def test_slim_types(answer, says):
    ride = np.arange(100_000)
    part = pd.DataFrame({"ride": ride, "station": ride * 7919 % 1000, "minutes": ride % 60 + 1})
    assert repr(check("slim-types", part, answer(part))).startswith(says)
