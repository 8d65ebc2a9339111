"""Notebook 02's table of what reads alike: every line of it runs, and pandas, cuDF and Dask agree."""

import re

from tutorial.device import GPU
from tutorial import flights

import dask
import dask.dataframe as dd
import pandas as pd
import pytest

from tests.books import read

BOOK = "notebooks/02-CuDF_and_Dask.ipynb"
FILES = {"CSV", "Parquet"}  # these lines write and read
DIFFER = {"by label", "by position", "first rows", "statistics", "transpose"}  # not the same


def lines():
    """Return the table's lines: (what, code for one frame, code for Dask), code as lists of expressions."""
    [text] = [cell.source for cell in read(BOOK).cells if cell.id == "daily"]
    rows = [line for line in text.splitlines() if line.startswith("|")][2:]
    cells = [[cell.strip() for cell in row.strip("|").split(" | ")] for row in rows]
    return [
        (what, re.findall("`(.*?)`", one), re.findall("`(.*?)`", many)) for what, one, many in cells
    ]


def on_host(result):
    """Return a result of any library as pandas or NumPy."""
    result = result.compute() if hasattr(result, "compute") else result
    return result.to_pandas() if hasattr(result, "to_pandas") else result


def libraries():
    """Return the DataFrame libraries of this machine: pandas, and cuDF on a GPU."""
    if not GPU:
        return [pd]
    import cudf

    return [pd, cudf]


@pytest.fixture(params=libraries(), ids=lambda library: library.__name__)
def names(request, tmp_path):
    """Return the names that the table's code uses, for one library."""
    library = request.param
    july = flights.path("flights/2013-07")
    columns = [
        "month",
        "day",
        "hour",
        "arr_delay",
        "distance",
        "carrier",
        "origin",
        "dest",
        "time_hour",
    ]
    backend = "pandas" if library is pd else "cudf"
    with dask.config.set({"dataframe.backend": backend, "scheduler": "threads"}):
        df = library.read_parquet(july, columns=columns)
        ddf = dd.from_map(library.read_parquet, [july], columns=columns)
        other = library.read_parquet(flights.path("airlines"))
        yield {"library": library, "df": df, "ddf": ddf, "dd": dd, "other": other, "tmp": tmp_path}


@pytest.mark.parametrize("line", lines(), ids=lambda line: line[0])
def test_a_line_of_the_table_runs(line, names):
    what, one, many = line
    places = {"file": str(names["tmp"] / "one"), "folder": str(names["tmp"] / "many")}
    places["pattern"] = str(names["tmp"] / "part-*.csv")
    results = [[eval(code, names | places) for code in codes] for codes in (one, many)]
    assert one and (many or what == "transpose")
    if what == "CSV":
        assert len(results[0][1]) == len(results[1][1]) == len(names["df"])
    elif what == "Parquet":
        assert len(names["library"].read_parquet(places["file"])) == len(names["df"])
        assert len(dd.read_parquet(places["folder"])) == len(names["df"])
    else:
        assert all(len(on_host(result)) for result in results[0] + results[1])
    if what not in FILES | DIFFER:  # the same question, so the same answer
        here, there = (on_host(result[0]) for result in results)
        assert len(here) == len(there)
        if isinstance(here, (pd.Series, pd.DataFrame)):
            orders = [
                pd.Series(pd.util.hash_pandas_object(each, index=False)) for each in (here, there)
            ]
            assert sorted(orders[0]) == sorted(orders[1])


def test_the_table_has_the_daily_work():
    assert len(lines()) >= 15
