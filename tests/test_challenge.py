"""Notebook 04: nothing solved as shipped, everything with the solution's code, a hint for typical mistakes."""

import challenge
import dask
import dask.array as da
import device
import numpy as np
import pytest
from dask.distributed import Client, wait
from sklearn.metrics import adjusted_rand_score

from tests.books import ROOT, code_cells, read, texts
from tests.record import run

if device.GPU:
    import cupy as cp
    from cuml.cluster import KMeans as SingleKMeans
    from cuml.dask.cluster import KMeans
    from cuml.dask.datasets import make_blobs
    from cupy import asnumpy
    from dask_cuda import LocalCUDACluster
else:
    from cpu_stand_ins import KMeans, LocalCUDACluster, SingleKMeans, asnumpy, cp, make_blobs

CHALLENGE, SOLUTION = "notebooks/04-Challenge.ipynb", "notebooks/05-Challenge_Solution.ipynb"
N = 10_000
CENTERS = np.array([[-6.0, -6.0], [-6.0, 5.0], [0.0, 0.0], [5.0, -5.0], [6.0, 6.0]])


def step_tags(cell):
    return [tag for tag in cell.metadata.get("tags", []) if tag.startswith("step-")]


def said(notebook, name):
    return "".join(texts(next(cell for cell in notebook.cells if cell.id == name).outputs))


def test_shipped_challenge_reports_nothing_solved():
    shipped = read(CHALLENGE)
    assert "0 of 5 steps solved" in said(shipped, "summary")
    for step in challenge.STEPS:
        assert f"{step}: to do. " in said(shipped, f"check-{step}")


def test_solution_solves_every_step():
    """The cells of notebook 05 with the tag of a step are that step's solution."""
    solutions = {tag: cell.source for cell in code_cells(read(SOLUTION)) for tag in step_tags(cell)}
    assert sorted(solutions) == sorted(f"step-{step}" for step in challenge.STEPS)
    notebook = read(CHALLENGE)
    names = [cell.id for cell in notebook.cells]
    worked = range(
        names.index("lloyd-step"), names.index("challenge")
    )  # the worked part takes no part in this
    notebook.cells = [cell for index, cell in enumerate(notebook.cells) if index not in worked]
    for cell in notebook.cells:
        for tag in step_tags(cell):
            cell.source = solutions[tag]
    run(notebook, ROOT / "notebooks")
    for step in challenge.STEPS:
        assert f"{step}: solved. " in said(notebook, f"check-{step}")
    assert "All 5 steps solved" in said(notebook, "summary")


@pytest.fixture(scope="module")
def solved():
    """A cluster with the right data, fit, labels and score on it, as a dict of the notebook's names."""
    with LocalCUDACluster(dashboard_address="127.0.0.1:0") as cluster, Client(cluster) as client:
        n_workers = len(client.scheduler_info(n_workers=-1)["workers"])
        X, y = dask.persist(*blobs(n_parts=n_workers))
        wait([X, y])
        kmeans = KMeans(n_clusters=5, random_state=7).fit(X)
        labels = kmeans.predict(X)
        yield locals()


def blobs(n_parts):
    return make_blobs(
        N,
        2,
        centers=cp.asarray(CENTERS),
        cluster_std=0.5,
        n_parts=n_parts,
        random_state=7,
        dtype="float64",
    )


def ari(solved):
    return adjusted_rand_score(asnumpy(solved["y"].compute()), asnumpy(solved["labels"].compute()))


def test_right_answers(solved):
    checks = [
        challenge.check_cluster(solved["cluster"], solved["client"]),
        challenge.check_data(solved["client"], solved["X"], solved["y"], N),
        challenge.check_fit(solved["kmeans"], CENTERS),
        challenge.check_predict(solved["labels"], solved["X"]),
        challenge.check_score(ari(solved), solved["labels"], solved["y"]),
    ]
    assert [check.state for check in checks] == ["solved"] * 5


def test_hint_client_without_the_cluster(solved):
    stranger = Client(solved["client"].scheduler.address)
    check = challenge.check_cluster(solved["cluster"], stranger)
    stranger.close()
    assert check.state == "wrong" and "Client() without an argument" in check.says


def test_hint_data_in_this_process(solved):
    X = asnumpy(solved["X"].compute())
    check = challenge.check_data(solved["client"], X, solved["y"], N)
    assert check.state == "wrong" and "make_blobs of cuml.dask.datasets" in check.says


def test_hint_lazy_data(solved):
    X, y = da.ones((N, 2), chunks=N // 2), da.ones(N, chunks=N // 2)
    check = challenge.check_data(solved["client"], X, y, N)
    assert check.state == "wrong" and "wait" in check.says


def test_hint_number_of_clusters(solved):
    check = challenge.check_fit(KMeans(random_state=7).fit(solved["X"]), CENTERS)
    assert check.state == "wrong" and "8 centroids for 5 groups" in check.says


def test_hint_single_gpu_estimator(solved):
    single = SingleKMeans(n_clusters=5, n_init=1, random_state=7).fit(solved["X"].compute())
    check = challenge.check_fit(single, CENTERS)
    assert check.state == "wrong" and "cuml.dask.cluster" in check.says


def test_hint_not_fitted(solved):
    check = challenge.check_fit(KMeans(n_clusters=5), CENTERS)
    assert check.state == "wrong" and "not fitted" in check.says


def test_hint_labels_collected(solved):
    check = challenge.check_predict(solved["labels"].compute(), solved["X"])
    assert check.state == "wrong" and "leave compute() out" in check.says


def test_hint_share_of_equal_labels(solved):
    found, true = asnumpy(solved["labels"].compute()), asnumpy(solved["y"].compute())
    labels = da.from_array((found + 1) % 5, chunks=N)  # names that surely differ from the true ones
    check = challenge.check_score(np.mean((found + 1) % 5 == true), labels, solved["y"])
    assert check.state == "wrong" and "labels are only names" in check.says


def test_no_check_raises(solved):
    for answer in (None, "text", 3, CENTERS):
        for check in (
            challenge.check_cluster(answer, answer),
            challenge.check_data(solved["client"], answer, answer, N),
            challenge.check_fit(answer, CENTERS),
            challenge.check_predict(answer, solved["X"]),
            challenge.check_score(answer, solved["labels"], solved["y"]),
        ):
            assert check.state == "wrong" and check.says


if len(device.gpus()) != 1 or not device.GPU:  # with a lone worker there is nobody to leave out

    def test_hint_one_worker_holds_everything(solved):
        X, y = dask.persist(*blobs(n_parts=1))
        wait([X, y])
        check = challenge.check_data(solved["client"], X, y, N)
        assert check.state == "wrong" and "n_parts=n_workers" in check.says
