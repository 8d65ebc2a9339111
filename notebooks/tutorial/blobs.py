"""Rows in groups: where the groups have their centres, rows on the workers, in host memory and in NumPy chunks.

from tutorial.blobs import distance_to_nearest, on_workers, spread_out
"""

import logging

import dask
import dask.array as da
import numpy as np
from dask.distributed import wait


def host_rows(n, seed, centers, std):
    """Return n rows around the centres (k, d) as a NumPy array (n, d), float64; each centre is as likely."""
    draw = np.random.default_rng(seed)
    return centers[draw.integers(0, len(centers), n)] + std * draw.standard_normal(
        (n, centers.shape[1])
    )


def on_hosts(client, workers, n, centers, std):
    """Return n rows as a Dask array of NumPy chunks, and wait for it: four, or one for each of more workers.

    They lie in the host memory of these workers, in turn; n is rounded down to equal chunks. centers: NumPy array
    (k, d); std: the standard deviation of each group.
    """
    pieces = max(4, len(workers))
    shape, parts = (n // pieces, centers.shape[1]), []
    for seed in range(pieces):
        home = workers[seed % len(workers)]
        part = client.submit(host_rows, shape[0], seed, centers, std, workers=[home], pure=False)
        parts.append(da.from_delayed(dask.delayed(part), shape, "float64"))
    rows = client.persist(da.concatenate(parts))
    wait(rows)
    return rows


def on_workers(client, make_blobs, n, dtype="float64", centers=None, std=1.0, seed=8):
    """Return n rows of `make_blobs` around the centres (k, d) as a Dask array, a chunk on each worker; wait for it."""
    n_parts = len(client.nthreads())
    options = {"cluster_std": std, "n_parts": n_parts, "random_state": seed, "dtype": dtype}
    rows = client.persist(make_blobs(n, centers.shape[1], centers=centers, **options)[0])
    wait(rows)
    return rows


def in_chunks(rows, n_chunks):
    """Return NumPy rows (n, d) as a Dask array of n_chunks equal chunks, and one more for what is left."""
    return da.from_array(rows, chunks=(len(rows) // n_chunks, rows.shape[1]))


def quiet_scheduler():
    """Let this process's scheduler warn of nothing: Dask-ML submits two different graphs under one name, each right."""
    logging.getLogger("distributed.scheduler").setLevel(logging.ERROR)


def spread_out(n_clusters, n_features, apart, seed=7):
    """Return centres, (n_clusters, n_features), each of them at least `apart` from every other.

    They are drawn from a cube around the origin, which grows until all have room. The same arguments give the same
    centres.
    """
    generator, centers, reach = np.random.default_rng(seed), [], apart
    while len(centers) < n_clusters:
        center = generator.uniform(-reach, reach, n_features)
        if all(np.linalg.norm(center - other) >= apart for other in centers):
            centers.append(center)
        else:
            reach *= 1.01
    return np.array(centers).reshape(n_clusters, n_features)


def distance_to_nearest(centers, centroids):
    """Return the distance from each of the centres (k, d) to the nearest of the centroids (m, d), as (k,)."""
    return np.linalg.norm(centers[:, None] - centroids[None], axis=2).min(axis=1)
