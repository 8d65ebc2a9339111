"""The flights pipeline of notebook 02 on a worker whose memory is too small: it spills, and the result is right."""

from functools import partial

from tutorial import flights
from tutorial.memory import places, spilled

import dask
import dask.dataframe as dd
import pandas as pd
import pytest
from dask.distributed import Client, wait

from tests.books import code_cells, read

BOOK = "notebooks/02-CuDF_and_Dask.ipynb"
KEYS = ["origin", "hour", "rain"]
MONTHS = [f"flights/2013-{month:02}" for month in range(1, 13)]


def cell(name):
    """Return the source of a code cell of the notebook."""
    return next(cell.source for cell in code_cells(read(BOOK)) if cell.id == name)


def functions():
    """Return what the notebook's cell defines, ready for a worker: late_table and read_weather."""
    names = {"flights": flights}
    exec(cell("late-table"), names)
    return [names[name] for name in ("late_table", "read_weather")]


def spill(library, from_library, new_cluster, cap, copies):
    """Run the pipeline on `copies` years that a worker holds, with `cap` bytes of memory."""
    late_table, read_weather = functions()
    months = [flights.path(month) for month in MONTHS]
    expected = late_table(flights.months(pd, months), read_weather(pd))
    pool = {"rmm_pool_size": cap, "rmm_maximum_pool_size": cap}
    options = {"enable_cudf_spill": True, "cudf_spill_stats": 1, "n_workers": 1}
    with (
        dask.config.set({"dataframe.convert-string": False}),
        new_cluster(dashboard_address="127.0.0.1:0", **pool, **options) as cluster,
        Client(cluster) as client,
    ):
        parts = client.map(
            partial(flights.months, library),
            [[path] * (copies // 4) for path in months] * 4,
            pure=False,
        )
        wait(parts)
        sizes = client.map(lambda part: int(part.memory_usage(index=False).sum()), parts)
        held = sum(client.gather(sizes))
        meta = flights.months(library, months[:1]).head(0)
        ddf = dd.from_delayed(parts, meta=meta, verify_meta=False)
        weather = from_library(read_weather(library), npartitions=1)
        lazy = late_table(ddf, weather).reset_index()
        result = lazy.to_backend("pandas").compute().sort_values(KEYS, ignore_index=True)
        moved, lie = client.run(spilled), client.run(places)
    assert held > 1.5 * cap, "the data fit into the memory: nothing is tested"
    assert all(min(out, back) > 0 for out, back in moved.values())
    assert all(inside <= cap and outside > 0 for inside, outside in lie.values())
    expected = expected.reset_index()
    assert (result["flights"] == copies * expected["flights"]).all()
    assert (result[KEYS] == expected[KEYS]).all(axis=None)
    pd.testing.assert_series_equal(result["late"], expected["late"], check_exact=True)


@pytest.mark.gpu
def test_the_flights_spill_from_a_gpu():
    """More than 1.5 GB of flights, and the joins of a partition besides, in a pool of 1 GB."""
    import cudf
    import rmm
    from dask_cuda import LocalCUDACluster
    from dask_cudf import from_cudf

    def quiet_cluster(**options):
        # imported on the worker: Dask-cuDF teaches Dask there how to join categories
        cluster = LocalCUDACluster(pre_import="dask_cudf", **options)
        with Client(cluster) as client:  # each allocation that spills would write a line
            client.run(lambda: rmm.set_logging_level(rmm.level_enum.critical))
        return cluster

    with cudf.option_context(
        "spill", True, "spill_stats", 1
    ):  # the cluster sets them here, for good
        spill(cudf, from_cudf, quiet_cluster, cap=10**9, copies=240)


def test_the_flights_spill_to_disk():
    """The same on the CPU, with the stand-in's cluster."""
    from tutorial.cpu_stand_ins import LocalCUDACluster

    spill(pd, dd.from_pandas, LocalCUDACluster, cap=30 * 10**6, copies=8)
