"""The checks of notebook 2: flights, by pandas."""

import re

from tutorial import flights
from tutorial.checks.core import kind, step

import numpy as np
import pandas as pd


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
