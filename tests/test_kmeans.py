"""tutorial.kmeans against scikit-learn, on the CPU and, where there is one, on the GPU."""

import os
import pickle
import re
import signal
import warnings

from tutorial import kmeans
from tutorial.kmeans import cpu, gpu
from tutorial.kmeans import step as steps
from tutorial.kmeans.arrays import to_host
from tutorial.kmeans.shards import Shards, _share_out
from tutorial.kmeans.start import scalable_start

import dask
import dask.array as da
import dask.dataframe as dd
import numpy as np
import pandas as pd
import pytest
import scipy.sparse
import sklearn.base
import sklearn.cluster
from dask.distributed import Client, LocalCluster, wait
from sklearn.datasets import make_blobs
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from threadpoolctl import threadpool_limits

DTYPES = ["float32", "float64"]
SHAPES = [(1, 3), (2, 1), (2, 5), (3, 20), (17, 9), (64, 40)]  # features, clusters


@pytest.fixture(params=["cpu", pytest.param("gpu", marks=pytest.mark.gpu)])
def device(request):
    return request.param


@pytest.fixture(scope="module")
def clusters():
    """Return a function that starts the cluster of a device once: two workers of one thread, or one worker a GPU."""
    running = {}

    def start(device):
        if device not in running:
            if device == "gpu":
                from dask_cuda import LocalCUDACluster
            else:
                from tutorial.cpu_stand_ins import LocalCUDACluster
            cluster = LocalCUDACluster(dashboard_address="127.0.0.1:0")
            running[device] = cluster, Client(cluster, set_as_default=False)
        return running[device][1]

    yield start
    for cluster, client in running.values():
        client.close()
        cluster.close()


@pytest.fixture
def client(clusters, device):
    client = clusters(device)
    with client.as_current():
        yield client


@pytest.fixture
def put(device):
    """Return a function that puts an array where the device computes."""
    if device == "cpu":
        return np.array
    import cupy

    return cupy.array


def blobs(n, d, k, dtype="float64", seed=0, spread=2.0):
    """Return n rows of d features around k centres; clusters overlap."""
    return make_blobs(n, d, centers=k, cluster_std=spread, random_state=seed)[0].astype(dtype)


def in_layout(X, layout, put):
    """Return X in rows ("C"), in columns ("F"), or as every other row and column of a larger array ("strided")."""
    if layout == "strided":
        return put(np.repeat(np.repeat(X, 2, axis=0), 2, axis=1))[::2, ::2]
    return put(X, order=layout)


def as_scikit_learn(X, init, weights=None, **options):
    """Return scikit-learn's fit from the same start, on one thread: more add up in an order that varies."""
    with warnings.catch_warnings(), threadpool_limits(1):
        warnings.simplefilter("ignore", ConvergenceWarning)
        model = sklearn.cluster.KMeans(len(init), init=init, n_init=1, **options)
        return model.fit(X, sample_weight=weights)


@pytest.mark.parametrize("layout", ["C", "F", "strided"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("d", "k"), SHAPES)
def test_step_adds_up_every_row_once(put, d, k, dtype, layout):
    X = blobs(10_007, d, k, dtype)
    centers = X[:k].copy()
    squared = ((X[:, None, :].astype("float64") - centers) ** 2).sum(axis=2)
    label = squared.argmin(axis=1)
    sums, counts, inertia = steps.step(in_layout(X, layout, put), centers)
    single = dtype == "float32"
    assert counts.sum() == len(X)
    assert np.abs(counts - np.bincount(label, minlength=k)).sum() <= (20 if single else 0)
    assert inertia == pytest.approx(squared.min(axis=1).sum(), rel=1e-5 if single else 1e-12)
    if not single:
        expected = np.zeros((k, d))
        np.add.at(expected, label, X - centers[label])
        np.testing.assert_allclose(sums, expected, atol=1e-7)


@pytest.mark.parametrize("layout", ["C", "F", "strided"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("d", "k"), [*SHAPES, (128, 256)])
def test_nearest(put, d, k, dtype, layout):
    X = blobs(5003, d, k, dtype)
    centers = X[:k].copy()
    squared = ((X[:, None, :].astype("float64") - centers) ** 2).sum(axis=2)
    labels, distances = map(to_host, steps.nearest(in_layout(X, layout, put), centers))
    assert labels.dtype == np.int32 and distances.dtype == dtype
    wrong = (labels != squared.argmin(axis=1)).mean()
    assert wrong <= (2e-3 if dtype == "float32" else 0)
    np.testing.assert_allclose(distances, squared.min(axis=1), rtol=1e-4, atol=1e-9)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("d", [2, 40])
def test_the_same_rows_are_drawn_whatever_the_device_and_the_slices(monkeypatch, put, d, dtype):
    X = blobs(50_021, d, 5, dtype)
    arguments = X[:7], 0.01 / d, 3, 11
    drawn = steps.draw(X, *arguments)
    assert 100 < len(drawn) < len(X) / 2
    for module in (cpu, gpu):
        monkeypatch.setattr(module, "AT_ONCE", 5000)
    np.testing.assert_array_equal(steps.draw(put(X), *arguments), drawn)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("d", "k"), SHAPES)
def test_fit_is_scikit_learns_from_the_same_start(client, put, d, k, dtype):
    X = blobs(12_007, d, k, dtype)
    options = {"max_iter": 60, "tol": 0 if dtype == "float64" else 1e-4}
    expected = as_scikit_learn(X, X[:k], **options)
    collection = da.from_array(X, chunks=(3001, -1)).map_blocks(put)
    model = kmeans.KMeans(k, init=X[:k], **options).fit(collection)
    labels = to_host(model.predict(collection).compute())
    assert (labels != expected.labels_).mean() <= (1e-3 if dtype == "float32" else 0)
    assert model.inertia_ == pytest.approx(
        expected.inertia_, rel=1e-4 if dtype == "float32" else 1e-6
    )
    assert model.cluster_centers_.dtype == X.dtype
    if dtype == "float64":
        assert model.n_iter_ == expected.n_iter_
        np.testing.assert_allclose(model.cluster_centers_, expected.cluster_centers_, rtol=1e-9)


@pytest.mark.parametrize("dtype", DTYPES)
def test_data_far_from_the_origin(client, put, dtype):
    """Standard deviation 0.1 around 10,000: |x|^2 - 2xc + |c|^2 would have no digit left in float32."""
    X = (blobs(50_000, 2, 5, spread=0.1) + 10_000).astype(dtype)
    collection = da.from_array(X, chunks=(9000, -1)).map_blocks(put)
    model = kmeans.KMeans(5, random_state=0).fit(collection)
    truth = sklearn.cluster.KMeans(5, random_state=0).fit(X.astype("float64"))
    assert model.inertia_ == pytest.approx(truth.inertia_, rel=1e-3 if dtype == "float32" else 1e-6)


def test_an_empty_cluster_gets_the_row_that_fits_worst(client, put):
    X = blobs(20_003, 2, 5)
    init = np.array([*X[:2], [1e4, 0], [0, 1e4], [1e4, 1e4]])
    expected = as_scikit_learn(X, init, max_iter=60, tol=0)
    collection = da.from_array(X, chunks=(3001, -1)).map_blocks(put)
    model = kmeans.KMeans(5, init=init, max_iter=60, tol=0).fit(collection)
    assert model.inertia_ == pytest.approx(expected.inertia_, rel=1e-6)
    np.testing.assert_array_equal(to_host(model.predict(collection).compute()), expected.labels_)


def test_fewer_chunks_than_workers_and_fewer_distinct_rows_than_clusters(client, put):
    X = np.repeat(np.array([[0.0, 0.0], [1.0, 1.0]]), 50, axis=0)
    collection = da.from_array(X, chunks=(-1, -1)).map_blocks(put)
    with pytest.warns(ConvergenceWarning, match=r"^Only 2 of 3 clusters have rows"):
        model = kmeans.KMeans(3, random_state=0).fit(collection)
    assert model.inertia_ == 0


def test_the_start_does_not_depend_on_chunks(client, put):
    X = blobs(30_000, 3, 8)
    fits = [
        kmeans.KMeans(8, random_state=5, max_iter=1).fit(
            da.from_array(X, chunks=(rows, -1)).map_blocks(put)
        )
        for rows in (30_000, 4000)
    ]
    np.testing.assert_allclose(fits[0].cluster_centers_, fits[1].cluster_centers_, rtol=1e-9)


def test_the_start_is_as_good_as_scikit_learns(client, put):
    X = blobs(30_000, 4, 20, spread=1.0)
    collection = da.from_array(X, chunks=(8000, -1)).map_blocks(put)
    ours = [kmeans.KMeans(20, random_state=seed).fit(collection).inertia_ for seed in range(5)]
    theirs = [
        sklearn.cluster.KMeans(20, n_init=1, random_state=seed).fit(X).inertia_ for seed in range(5)
    ]
    assert np.median(ours) <= 1.05 * np.median(theirs)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_value_that_is_not_finite_is_an_error(client, put, bad):
    X = blobs(1000, 2, 3)
    X[777, 1] = bad
    collection = da.from_array(X, chunks=(300, -1)).map_blocks(put)
    with pytest.raises(
        ValueError, match=r"^X holds NaN, infinity or .*Remove or fill them first\.$"
    ):
        kmeans.KMeans(3).fit(collection)


@pytest.mark.parametrize(
    ("X", "options", "says"),
    [
        (np.zeros((10, 2)), {}, "X is a ndarray: give a Dask array."),
        (da.zeros((10, 2), dtype=int), {}, "X is int64 with 2 dimension"),
        (da.zeros(10), {}, "X is float64 with 1 dimension"),
        (da.zeros((10, 4), chunks=(5, 2)), {}, "X is cut along its features"),
        (da.zeros((10, 2)), {"n_clusters": 11}, "n_clusters is 11: choose 1 to 10, for 10 rows."),
        (da.zeros((10, 2)), {"n_clusters": 0}, "n_clusters is 0"),
        (da.zeros((10, 2)), {"n_clusters": 5.0}, "n_clusters is 5.0: give a whole number"),
        (da.zeros((10, 2)), {"n_clusters": True}, "n_clusters is True: give a whole number"),
        (da.zeros((10, 2)), {"max_iter": 0}, "max_iter is 0: give a whole number, 1 or more."),
        (da.zeros((10, 2)), {"tol": -1}, "tol is -1: give a number, 0 or more."),
        (da.zeros((10, 2)), {"tol": np.nan}, "tol is nan"),
        (da.zeros((10, 2)), {"init": "random"}, "init is 'random'"),
        (da.zeros((10, 2)), {"init": np.zeros((2, 3)), "n_clusters": 2}, "init has shape"),
        (da.zeros((10, 2)), {"init": [[0, np.nan], [0, 0]]}, "init holds NaN, infinity"),
        (da.zeros((10, 2)), {"init": [[0, np.inf], [0, 0]]}, "init holds NaN, infinity"),
        (da.zeros((10, 2), dtype="f4"), {"init": [[0, 1e39], [0, 0]]}, "too large for float32."),
        (da.zeros((10, 2)), {"init": max}, "init is no array of centroids: "),
        (da.zeros((10, 2)), {"init": scipy.sparse.eye(2)}, "init is no array of centroids: "),
        (da.zeros((10, 2)), {"init": np.ma.masked_less(np.eye(2), 1)}, "init is a MaskedArray"),
        (da.zeros((10, 2)), {"init": 1j * np.eye(2)}, "init holds complex128: give real numbers."),
        (da.zeros((10, 2)), {"random_state": 1.5}, "random_state is 1.5: give a whole number"),
        (
            dd.from_dict({"a": [0.0] * 10}, 1),
            {},
            "give a Dask array, by to_dask_array(lengths=True)",
        ),
        (da.zeros((0, 2)), {}, "X has no rows."),
        (da.zeros((10, 2)).map_blocks(scipy.sparse.csr_array), {}, "A chunk of X is a csr_array"),
        (da.ma.masked_equal(da.zeros((10, 2)), 1), {}, "A chunk of X is a MaskedArray: dense"),
        (da.zeros((10, 2)).map_blocks(lambda c: c[:, :1]), {}, "A chunk of X has shape (10, 1)"),
        (
            da.zeros((10, 2)).map_blocks(
                lambda c: np.full(c.shape, 2**53 + 1), meta=np.zeros((0, 0))
            ),
            {},
            "A chunk of X holds whole numbers beyond 2**53",
        ),
    ],
)
def test_bad_input_gets_one_line(clusters, X, options, says):
    with (
        clusters("cpu").as_current(),
        pytest.raises(ValueError, match=re.escape(says)) as error,
    ):
        kmeans.KMeans(**{"n_clusters": 2, **options}).fit(X)
    assert "\n" not in str(error.value)


def test_rows_of_another_cluster_get_one_line(clusters):
    with Client(processes=False, dashboard_address="127.0.0.1:0", set_as_default=False) as other:
        with other.as_current():
            X = other.persist(da.from_array(blobs(100, 2, 2)))
            wait(X)
        with clusters("cpu").as_current(), pytest.raises(ValueError, match="of the active client"):
            kmeans.KMeans(2).fit(X)


@pytest.mark.parametrize("name", ["X", "sample_weight"])
def test_what_was_cancelled_is_named_in_one_line(clusters, name):
    client = clusters("cpu")
    with client.as_current():
        X, weights = client.persist([da.from_array(blobs(100, 2, 2), name=False), da.ones(100)])
        wait([X, weights])
        client.cancel(X if name == "X" else weights)
        with pytest.raises(
            ValueError,
            match=rf"^{name} was cancelled, or lost with a worker .*: make it again, and persist it\.$",
        ):
            kmeans.KMeans(2).fit(X, sample_weight=weights)


@pytest.mark.parametrize("integer", [np.int8, np.uint8, np.int64])
def test_whole_numbers_of_numpy_are_whole_numbers(clusters, integer):
    """The smallest of them would overflow."""
    X = da.from_array(blobs(2000, 2, 9))
    options = {"n_clusters": 100, "max_iter": 127, "random_state": 0}
    with clusters("cpu").as_current():
        expected = kmeans.KMeans(**options).fit(X)
        options |= {"n_clusters": integer(100), "max_iter": integer(127)}
        model = kmeans.KMeans(**options).fit(X)
    assert (model.inertia_, model.n_iter_) == (expected.inertia_, expected.n_iter_)
    assert type(model.n_iter_) is int


def test_predict_needs_a_fit_and_the_same_features(clusters):
    X = da.from_array(blobs(100, 2, 2))
    with clusters("cpu").as_current():
        with pytest.raises(ValueError, match="not fitted yet"):
            kmeans.KMeans(2).predict(X)
        model = kmeans.KMeans(2, random_state=0).fit(X)
        with pytest.raises(ValueError, match="X has 3 features, the centroids have 2"):
            model.predict(da.zeros((10, 3)))


METHODS = ["fit", "predict", "transform", "score"]


def called(method, X, fitted_on):
    """Return what a method of a model, fitted to other rows, computes of X."""
    model = kmeans.KMeans(3, init=to_host(fitted_on[:3].compute()), max_iter=3).fit(fitted_on)
    result = getattr(model, method)(X)
    return result.labels_.compute() if method == "fit" else dask.compute(result)[0]


def declared(chunks, dtype):
    """Return chunks of equal length as a Dask array that declares a type, whatever they are."""
    X = da.from_array(np.concatenate(list(map(to_host, chunks))), chunks=(len(chunks[0]), -1))
    return X.map_blocks(lambda _, block_id: chunks[block_id[0]], dtype="float64").map_blocks(
        lambda chunk: chunk, dtype=dtype, meta=np.empty((0, 0), dtype)
    )


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("dtype", "is_a"),
    [(64, "uint8"), (64, "int16"), (64, "int64"), (64, "float32"), (32, "uint8"), (32, "float16")],
)
def test_chunks_of_another_type_are_converted(client, put, method, dtype, is_a):
    rows = np.rint(blobs(600, 2, 3) * 5 + 100).clip(0, 255)
    right = da.from_array(rows.astype(f"float{dtype}"), chunks=(200, -1)).map_blocks(put)
    X = declared([put(part.astype(is_a)) for part in np.split(rows, 3)], f"float{dtype}")
    for result in (called(method, X, right), called(method, X, X)):
        np.testing.assert_array_equal(to_host(result), to_host(called(method, right, right)))


@pytest.mark.parametrize("method", METHODS)
def test_chunks_that_do_not_fit_their_declaration_are_refused(client, put, method):
    rows = blobs(600, 2, 3)
    right = da.from_array(rows.astype("float32"), chunks=(200, -1)).map_blocks(put)
    X = declared([put(part) for part in np.split(rows, 3)], "float32")
    with pytest.raises(ValueError, match=r"^A chunk of X is float64, X declares float32: .*\.$"):
        called(method, X, right)


@pytest.mark.parametrize("method", METHODS)
def test_the_error_of_a_reader_reaches_the_user(client, put, method):
    def read(chunk, block_id):
        if block_id[0] == 1:
            raise OSError("part-1 is not there")
        return put(chunk)

    right = da.from_array(blobs(900, 2, 3), chunks=(300, -1)).map_blocks(put)
    X = right.map_blocks(read, meta=right)
    with pytest.raises(OSError, match="^part-1 is not there$"):
        called(method, X, right)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_rows_that_are_not_finite_are_refused(client, put, method, bad):
    rows = blobs(900, 2, 3)
    right = da.from_array(rows, chunks=(300, -1)).map_blocks(put)
    rows = rows.copy()
    rows[500, 1] = bad
    with pytest.raises(ValueError, match=r"^X holds NaN, infinity or .* fill them first\.$"):
        called(method, da.from_array(rows, chunks=(300, -1)).map_blocks(put), right)


def test_replicated_chunks_are_shared_out(client, put):
    X = client.persist(da.from_array(blobs(8000, 2, 3), chunks=(1000, -1)).map_blocks(put))
    wait(X)
    client.replicate(X)
    lengths = [length for length, _ in Shards(X).ask("lengths")]
    assert len(lengths) == len(client.nthreads())
    assert sorted(n for answer in lengths for n in answer) == list(range(8))
    assert max(map(len, lengths)) - min(map(len, lengths)) <= 1


def test_chunks_go_to_a_worker_that_holds_them_evenly():
    both, one = ["b", "a"], ["a"]
    assert _share_out([both, both, one, one]) == {"a": [2, 3], "b": [0, 1]}
    assert _share_out([one, one]) == {"a": [0, 1]}


@pytest.mark.parametrize("lengths", [(0, 300, 0), (300, 0, 0, 0, 1), (150, 0, 151)])
def test_empty_chunks(client, put, lengths):
    rows = blobs(sum(lengths), 2, 3)
    X = da.from_array(rows, chunks=(lengths, -1)).map_blocks(put)
    expected = as_scikit_learn(rows, rows[:3])
    model = kmeans.KMeans(3, init=rows[:3]).fit(X, sample_weight=np.ones(len(rows)))
    np.testing.assert_array_equal(to_host(model.labels_.compute()), expected.labels_)
    model = kmeans.KMeans(3, random_state=0).fit(X)
    assert model.inertia_ == pytest.approx(expected.inertia_, rel=0.3)
    assert model.transform(X).compute().shape == (len(rows), 3)
    assert -model.score(X) == model.inertia_


def test_chunks_of_unknown_length(client, put):
    rows = blobs(900, 2, 3)
    frame = dd.from_pandas(pd.DataFrame(rows), npartitions=3)
    X, weights = frame.to_dask_array().map_blocks(put), frame.map_partitions(len_of).to_dask_array()
    assert np.isnan(X.shape[0])
    expected = as_scikit_learn(rows, rows[:3])
    for model in (
        kmeans.KMeans(3, init=rows[:3]).fit(X),
        kmeans.KMeans(3, init=rows[:3]).fit(X, sample_weight=weights),
    ):
        np.testing.assert_array_equal(to_host(model.labels_.compute()), expected.labels_)
        assert to_host(model.transform(X).compute()).shape == (900, 3)
    with pytest.raises(ValueError, match=r"unknown lengths: call compute_chunk_sizes\(\) first"):
        model.fit(X, sample_weight=np.ones(900))


def len_of(part):
    return pd.Series(np.ones(len(part)))


def test_parameters_as_scikit_learn_keeps_them(client, put):
    X = da.from_array(blobs(900, 2, 3), chunks=(300, -1)).map_blocks(put)
    model = kmeans.KMeans(n_clusters=3, random_state=5)
    assert model.get_params() == {
        "n_clusters": 3, "init": "k-means||", "max_iter": 300, "tol": 1e-4, "random_state": 5
    }  # fmt: skip
    labels = to_host(model.fit_predict(X).compute())
    assert isinstance(model.labels_, da.Array) and model.labels_.dtype == np.int32
    np.testing.assert_array_equal(to_host(model.labels_.compute()), labels)
    assert (
        model.n_features_in_ == 2 and type(model.inertia_) is float and type(model.n_iter_) is int
    )
    other = sklearn.base.clone(model).set_params(n_clusters=2)
    assert other.n_clusters == 2 and other.random_state == 5
    assert not hasattr(other, "cluster_centers_")
    assert sklearn.base.is_clusterer(model) and not hasattr(model, "set_output")
    again = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(to_host(again.predict(X).compute()), labels)
    for method in ("predict", "transform", "score"):
        with pytest.raises(NotFittedError):
            getattr(other, method)(X)


@pytest.mark.parametrize("dtype", DTYPES)
def test_transform_and_score_as_scikit_learn(client, put, dtype):
    rows = blobs(3000, 5, 4, dtype)
    X = da.from_array(rows, chunks=(700, -1)).map_blocks(put)
    expected = as_scikit_learn(rows, rows[:4], tol=0)
    model = kmeans.KMeans(4, init=rows[:4], tol=0).fit(X)
    distances = model.transform(X)
    assert distances.shape == (3000, 4) and distances.dtype == dtype
    assert distances.chunks == ((700, 700, 700, 700, 200), (4,))
    close = {"rtol": 1e-9 if dtype == "float64" else 1e-3}
    np.testing.assert_allclose(to_host(distances.compute()), expected.transform(rows), **close)
    assert model.score(X) == pytest.approx(expected.score(rows), rel=close["rtol"])
    weights = np.random.default_rng(0).uniform(0, 2, 3000)
    weighted = expected.score(rows, sample_weight=weights)
    assert model.score(X, sample_weight=weights) == pytest.approx(weighted, rel=close["rtol"])


def some_weights(n):
    """Return weights (n,), a third of them zero."""
    random = np.random.default_rng(1)
    return random.exponential(size=n) * (random.random(n) > 1 / 3)


@pytest.mark.parametrize(("d", "k"), [*SHAPES[:-1], (64, 8)])
def test_weighted_fit_is_scikit_learns(client, put, d, k):
    """Where no cluster loses all its rows: scikit-learn may then choose a row of no weight, and we do not."""
    rows = blobs(6007, d, k)
    weights = some_weights(len(rows))
    init = rows[weights > 0][:k]
    options = {"max_iter": 60, "tol": 0}
    expected = as_scikit_learn(rows, init, weights, **options)
    X = da.from_array(rows, chunks=(1501, -1)).map_blocks(put)
    for given in (
        weights,
        da.from_array(weights, chunks=999),
        da.from_array(weights).map_blocks(put),
    ):
        model = kmeans.KMeans(k, init=init, **options).fit(X, sample_weight=given)
        assert model.n_iter_ == expected.n_iter_
        np.testing.assert_allclose(model.cluster_centers_, expected.cluster_centers_, rtol=1e-9)
        assert model.inertia_ == pytest.approx(expected.inertia_, rel=1e-9)
        np.testing.assert_array_equal(to_host(model.labels_.compute()), expected.labels_)


def test_a_row_of_weight_zero_is_as_none_and_of_weight_two_as_two(client, put):
    rows = blobs(3000, 2, 5)
    weights = np.random.default_rng(0).integers(0, 3, len(rows))
    rows[weights == 0] *= 100  # far out: they would win clusters, if they counted
    init = np.array([*rows[weights > 0][:3], [1e4, 0], [1e4, 1e4]])  # two empty clusters
    X = da.from_array(rows, chunks=(800, -1)).map_blocks(put)
    alike = da.from_array(np.repeat(rows, weights, axis=0), chunks=(800, -1)).map_blocks(put)
    options = {"n_clusters": 5, "init": init, "tol": 0, "max_iter": 1}
    model = kmeans.KMeans(**options).fit(X, sample_weight=weights)
    np.testing.assert_array_less(np.abs(model.cluster_centers_), 100)
    options |= {"init": model.cluster_centers_, "max_iter": 60}
    model = kmeans.KMeans(**options).fit(X, sample_weight=weights)
    same = kmeans.KMeans(**options).fit(alike)
    np.testing.assert_allclose(model.cluster_centers_, same.cluster_centers_, rtol=1e-9)
    assert model.inertia_ == pytest.approx(same.inertia_, rel=1e-9)
    drawn = kmeans.KMeans(5, random_state=0).fit(X, sample_weight=weights)
    assert drawn.inertia_ < 1.5 * same.inertia_


@pytest.mark.parametrize(
    ("weights", "says"),
    [
        (np.ones(9), "sample_weight has shape (9,): (10,) is needed."),
        (np.ones((10, 1)), "sample_weight has shape (10, 1): (10,) is needed."),
        (2.0, "sample_weight has shape (): (10,) is needed."),
        (np.zeros(10), "sample_weight is zero for all rows."),
        (np.arange(10) - 1.0, "sample_weight holds NaN, infinity or a negative weight."),
        (np.full(10, np.nan), "sample_weight holds NaN, infinity or a negative weight."),
        (1j * np.ones(10), "sample_weight holds complex128: give real numbers."),
        (da.ones(10) * 1j, "sample_weight holds complex128: give real numbers."),
        (
            np.ma.masked_less(np.arange(10.0), 5),
            "sample_weight is a MaskedArray: dense NumPy or CuPy arrays without a mask are possible.",
        ),
    ],
)
def test_bad_weights_get_one_line(clusters, weights, says):
    model = kmeans.KMeans(2, init=np.eye(2))
    with clusters("cpu").as_current():
        for method in ("fit", "fit_predict", "score"):
            with pytest.raises(ValueError, match=f"^{re.escape(says)}$"):
                getattr(model, method)(da.ones((10, 2)), sample_weight=weights)
            model.fit(da.from_array(np.eye(2)))


def test_a_warning_where_scikit_learn_warns(client, put):
    for rows, init in ((np.eye(2).repeat(9, axis=0), np.eye(3)[:, :2]), (np.eye(3), np.eye(3))):
        X = da.from_array(rows, chunks=(4, -1)).map_blocks(put)
        with warnings.catch_warnings(record=True) as theirs:
            warnings.simplefilter("always")
            sklearn.cluster.KMeans(3, init=init, n_init=1).fit(rows)
        with warnings.catch_warnings(record=True) as ours:
            warnings.simplefilter("always")
            kmeans.KMeans(3, init=init).fit(X)
        ours, theirs = (
            [w.category for w in found if w.category is ConvergenceWarning]
            for found in (ours, theirs)
        )
        assert ours == theirs and len(ours) == (len(rows) > 3)


class Local:
    """What the start asks of shards, for rows in this process."""

    def __init__(self, X):
        self.X, self.n_rows = X, len(X)

    def row(self, index):
        return self.X[index]

    def weigh(self, candidates):
        return steps.weigh(self.X, candidates)

    def draw(self, candidates, factor, seed):
        return steps.draw(self.X, candidates, factor, seed, 0)


def test_clustering_the_candidates_is_bounded(monkeypatch):
    """At k = 2,000: about ten candidates a cluster, clustered once, in few iterations."""
    k, asked = 2000, []

    def fit(model, X, sample_weight):
        asked.append((len(X), model.n_init, model.max_iter))
        model.cluster_centers_ = X[:k]

    monkeypatch.setattr(sklearn.cluster.KMeans, "fit", fit)
    assert scalable_start(Local(blobs(40_000, 2, 50)), k, random_state=0).shape == (k, 2)
    [(candidates, n_init, max_iter)] = asked
    assert k < candidates < 11 * k and n_init == 1 and max_iter <= 20


@pytest.mark.parametrize("m", [1, 3, 6, 400])
def test_farthest_takes_the_first_of_equal_rows(put, m):
    """Distances are small whole numbers: many are equal, on each device the same."""
    X = np.arange(300.0)[:, None] % 7
    centers = np.array([[0.0]])
    expected = np.argsort(-X[:, 0], kind="stable")[:m]
    squared, rows, labels, weights, found = steps.farthest(put(X), centers, m)
    assert sorted(rows) == sorted(expected)
    np.testing.assert_array_equal(squared, X[rows, 0] ** 2)
    np.testing.assert_array_equal(found, X[rows])
    assert not labels.any() and (weights == 1).all()


def test_the_farthest_rows_do_not_depend_on_chunks(client, put):
    X = np.arange(300.0)[:, None] % 7
    answers = [
        Shards(da.from_array(X, chunks=(rows, -1)).map_blocks(put)).farthest(np.zeros((1, 1)), 60)
        for rows in (300, 50, 7)
    ]
    for answer in answers[1:]:
        for part, expected in zip(answer, answers[0], strict=True):
            np.testing.assert_array_equal(part, expected)


def test_no_chunk_is_sorted_to_find_empty_clusters_rows(monkeypatch):
    def sort(*arguments, **options):
        raise AssertionError("sorted")

    X = blobs(1000, 2, 3)
    for name in ("sort", "argsort", "lexsort"):
        monkeypatch.setattr(np, name, sort)
    assert len(steps.farthest(X, X[:3], 4)[0]) == 4


def test_messages_from_here_do_not_grow_with_iterations(client, put, monkeypatch):
    """Iterations are run by one worker, which the client asks about once a second."""
    asked = []
    lead, ask = Shards.lead, Shards.ask
    monkeypatch.setattr(Shards, "lead", lambda *a: asked.append("lead") or lead(*a))
    monkeypatch.setattr(Shards, "ask", lambda *a: asked.append("ask") or ask(*a))
    rows = blobs(4000, 2, 9)
    X = da.from_array(rows, chunks=(1000, -1)).map_blocks(put)
    counts = []
    for max_iter in (1, 10):
        asked.clear()
        model = kmeans.KMeans(9, init=rows[:9], max_iter=max_iter, tol=0).fit(X)
        assert model.n_iter_ == max_iter
        counts.append(len(asked))
    assert counts[1] - counts[0] <= 3  # seconds that ten iterations may take here


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_same_bits_twice(client, put, dtype):
    X = da.from_array(blobs(20_000, 3, 8, dtype), chunks=(3000, -1)).map_blocks(put)
    X = client.persist(X)
    fits = [kmeans.KMeans(8, random_state=0).fit(X) for _ in range(2)]
    np.testing.assert_array_equal(fits[0].cluster_centers_, fits[1].cluster_centers_)
    assert fits[0].inertia_ == fits[1].inertia_


def test_threads_are_those_that_this_process_may_use(monkeypatch):
    monkeypatch.setattr("os.cpu_count", lambda: 999)
    assert 1 <= cpu._threads() < 999


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
def test_weigh_is_a_step_without_sums(put, dtype, weighted):
    X = blobs(10_007, 3, 9, dtype)
    weights = some_weights(len(X)) if weighted else None
    given = None if weights is None else put(weights)
    counts, inertia = steps.weigh(put(X), X[:9], given)
    _, expected, whole = steps.step(put(X), X[:9], given)
    np.testing.assert_allclose(counts, expected, rtol=1e-12)
    assert inertia == pytest.approx(whole, rel=1e-6)


def test_a_worker_that_ends_during_a_fit(monkeypatch):
    """One line says so, and what to do: the next fit, on rows that Dask has made again, gives the same result."""
    monkeypatch.setenv("DASK_DISTRIBUTED__COMM__TIMEOUTS__CONNECT", "3s")
    with (
        dask.config.set({"distributed.comm.timeouts.connect": "3s"}),
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address="127.0.0.1:0") as cluster,
        Client(cluster) as client,
    ):
        X = da.random.default_rng(7).normal(size=(40_000, 8), chunks=(10_000, 8)).persist()
        wait(X)
        model = kmeans.KMeans(20, max_iter=10, random_state=0)
        before = sklearn.base.clone(model).fit(X)
        victims = [max(client.run(os.getpid).items())[1]]  # the one that leads
        real = Shards.lead

        def lead(shards, work, *arguments):
            if work is not kmeans.shards._place and victims:
                os.kill(victims.pop(), signal.SIGKILL)
            return real(shards, work, *arguments)

        monkeypatch.setattr(Shards, "lead", lead)
        with pytest.raises(
            RuntimeError, match=r"^A worker has ended during the fit\. Fit once more: "
        ):
            model.fit(X)
        client.wait_for_workers(2, timeout=60)
        wait(X, timeout=60)
        model.fit(X)
    np.testing.assert_allclose(model.cluster_centers_, before.cluster_centers_, atol=1e-9)
    assert model.n_iter_ == before.n_iter_
