"""What the CPU stand-ins do beside what the notebooks show."""

import logging

from tutorial.cpu_stand_ins import KMeans, LocalCUDACluster

import dask.array as da
import numpy as np
from dask.distributed import Client


def test_kmeans_gives_no_two_tasks_one_name(monkeypatch):
    """A scheduler that is never forgets warns of a task that comes back under its name with other needs."""
    rows = np.random.default_rng(7).uniform(-10, 10, (1000, 2))
    logged = []
    monkeypatch.setattr(logging.getLogger("distributed.scheduler"), "warning", logged.append)
    with LocalCUDACluster(dashboard_address="127.0.0.1:0") as cluster, Client(cluster):
        handlers = cluster.scheduler.stream_handlers
        monkeypatch.setitem(handlers, "client-releases-keys", lambda **message: None)
        model = KMeans(n_clusters=5, random_state=7).fit(da.from_array(rows, chunks=(250, 2)))
        assert np.isclose(model.inertia_, -model.score(da.from_array(rows, chunks=(250, 2))))
    assert not logged
