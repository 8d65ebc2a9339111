"""The checks of notebook 02's exercises: the stub is to do, wrong work a hint, right work of any style solved."""

from tutorial import flights
from tutorial.checks import check

import dask
import dask.dataframe as dd
import pandas as pd
import pytest

FILES = [flights.path(f"flights/2013-{month:02}") for month in range(1, 13)]


@pytest.fixture(scope="module")
def july():
    return pd.read_parquet(FILES[6])


@pytest.fixture(scope="module")
def ddf():
    with dask.config.set({"dataframe.convert-string": False, "scheduler": "threads"}):
        yield dd.from_map(pd.read_parquet, FILES)


def late(df):
    return df.assign(late=df["arr_delay"] > 15)


def arrived(df):
    return late(df.dropna(subset=["arr_delay"]))


def as_dict(july):
    return arrived(july).groupby("origin")["late"].mean().to_dict()


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (lambda july: ..., "To do: store the share"),
        (lambda july: arrived(july).groupby("origin")["late"].mean(), "Solved: "),
        (lambda july: arrived(july).groupby("origin")[["late"]].mean().reset_index(), "Solved: "),
        (as_dict, "Solved: "),
        (lambda july: 100 * arrived(july).groupby("origin")["late"].mean(), "Solved: "),
        (lambda july: late(july).groupby("origin")["late"].mean(), "Wrong: Flights without an"),
        (lambda july: arrived(july).groupby("dest")["late"].mean(), "Wrong: A share is needed for"),
        (lambda july: arrived(july).groupby("origin")["late"].sum(), "Wrong: These are not the sh"),
        (lambda july: arrived(july)["late"].mean(), "Wrong: `shares` is of type "),
    ],
)
def test_late_by_airport(july, answer, says):
    assert repr(check("late-by-airport", answer(july))).startswith(says)


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (lambda ddf: ..., "To do: make `summer`"),
        (lambda ddf: ddf.partitions[6:8], "Solved: "),
        (lambda ddf: ddf.set_index("month", sorted=True).loc[7:8], "Solved: "),
        (lambda ddf: dd.from_map(pd.read_parquet, FILES[6:8]), "Solved: "),
        (lambda ddf: ddf[ddf["month"].isin([7, 8])].repartition(npartitions=1), "Solved: "),
        (lambda ddf: ddf.partitions[7:9], "Wrong: `summer` holds the months [8, 9]"),
        (
            lambda ddf: ddf[ddf["month"].isin([7, 8])],
            "Wrong: The flights are right, and `summer` r",
        ),
        (lambda ddf: ddf.partitions[6:8].dropna(), "Wrong: Some flights of July and August"),
        (lambda ddf: ddf.partitions[6:8].compute(), "Wrong: `summer` is of type DataFrame"),
    ],
)
def test_two_months(ddf, answer, says):
    assert repr(check("two-months", answer(ddf))).startswith(says)


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (..., "To do: store the route"),
        (("EWR", "RIC"), "Solved: "),
        (["EWR", "RIC"], "Solved: "),
        ("EWR-RIC", "Solved: "),
        (pd.Series({"origin": "EWR", "dest": "RIC"}), "Solved: "),
        (("EWR", "DCA"), "Wrong: 38.4% of its flights were late: another has more."),
        (("EWR", "ANC"), "Wrong: This route had only 8 flights"),
        (("RIC", "EWR"), "Wrong: A pair of airports is needed"),
        (0.395, "Wrong: A pair of airports is needed"),
    ],
)
def test_worst_route(answer, says):
    assert repr(check("worst-route", answer)).startswith(says)
