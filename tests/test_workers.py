"""How workers are counted: always as the scheduler answers, never from a copy that another thread changes.

Every two seconds, Dask's client fetches a short answer without any worker into the place that Client.scheduler_info
returns. A call that this happens to sees a cluster of no workers, and rows drawn for none of them are no rows.
"""

import tokenize

from tutorial import blobs, forests
from tutorial.checks import core
from tutorial.cpu_stand_ins import LocalCUDACluster, make_blobs

import dask
import numpy as np
import pytest
from dask.distributed import Client

from tests.books import BOOKS, ROOT, code_cells, read

TIMES = 200


@pytest.fixture
def client():
    """A client that fetches the short answer every millisecond, of a cluster of two workers."""
    with (
        dask.config.set({"distributed.client.scheduler-info-interval": "1ms"}),
        LocalCUDACluster(dashboard_address="127.0.0.1:0") as cluster,
        Client(cluster) as client,
    ):
        yield client


def test_workers_are_counted_whatever_the_client_fetches(client):
    assert [core.count_workers() for _ in range(TIMES)] == [2] * TIMES


def test_rows_lie_on_workers_whatever_the_client_fetches(client):
    workers, centers = sorted(client.nthreads()), np.eye(2)
    for _ in range(TIMES // 10):
        X, y = forests.rows_on(client, workers[:1], 10)
        assert X.shape == (10, forests.N_FEATURES) and len(y.compute()) == 10
        assert blobs.on_workers(client, make_blobs, 10, centers=centers).numblocks == (2, 1)


@pytest.mark.parametrize("name", [*BOOKS, "notebooks/tutorial", "tests"])
def test_nothing_asks_the_clients_copy(name):
    """Client.nthreads asks the scheduler."""
    if name.endswith(".ipynb"):
        assert not [cell.id for cell in code_cells(read(name)) if "scheduler_info" in cell.source]
        return
    for path in (ROOT / name).rglob("*.py"):
        with path.open("rb") as file:
            words = {token.string for token in tokenize.tokenize(file.readline)}
        assert "scheduler_info" not in words, path
