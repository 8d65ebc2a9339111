"""notebooks/kmeans.py against scikit-learn, on the CPU and, where there is one, on the GPU."""

import warnings

import dask.array as da
import kmeans
import numpy as np
import pytest
import sklearn.cluster
from dask.distributed import Client
from sklearn.datasets import make_blobs

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
                from cpu_stand_ins import LocalCUDACluster
            cluster = LocalCUDACluster(dashboard_address="127.0.0.1:0")
            running[device] = cluster, Client(cluster, set_as_default=False)
        return running[device][1]

    yield start
    for cluster, client in running.values():
        client.close()
        cluster.close()


@pytest.fixture
def client(clusters, device):
    with clusters(device).as_current() as client:
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


def as_scikit_learn(X, init, **options):
    """Return scikit-learn's fit from the same start."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", sklearn.exceptions.ConvergenceWarning)
        return sklearn.cluster.KMeans(len(init), init=init, n_init=1, **options).fit(X)


@pytest.mark.parametrize("layout", ["C", "F", "strided"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("d", "k"), SHAPES)
def test_step_adds_up_every_row_once(put, d, k, dtype, layout):
    X = blobs(10_007, d, k, dtype)
    centers = X[:k].copy()
    squared = ((X[:, None, :].astype("float64") - centers) ** 2).sum(axis=2)
    label = squared.argmin(axis=1)
    sums, counts, inertia = kmeans.step(in_layout(X, layout, put), centers)
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
    labels, distances = map(kmeans._to_host, kmeans.nearest(in_layout(X, layout, put), centers))
    assert labels.dtype == np.int32 and distances.dtype == dtype
    wrong = (labels != squared.argmin(axis=1)).mean()
    assert wrong <= (2e-3 if dtype == "float32" else 0)
    np.testing.assert_allclose(distances, squared.min(axis=1), rtol=1e-4, atol=1e-9)


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("d", [2, 40])
def test_the_same_rows_are_drawn_on_both_devices(d, dtype):
    import cupy

    X = blobs(50_021, d, 5, dtype)
    arguments = X[:7], 0.01 / d, 3, 11
    drawn = kmeans.draw(X, *arguments)
    assert 100 < len(drawn) < len(X) / 2
    np.testing.assert_array_equal(kmeans.draw(cupy.asarray(X), *arguments), drawn)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("d", "k"), SHAPES)
def test_fit_is_scikit_learns_from_the_same_start(client, put, d, k, dtype):
    X = blobs(12_007, d, k, dtype)
    options = {"max_iter": 60, "tol": 0 if dtype == "float64" else 1e-4}
    expected = as_scikit_learn(X, X[:k], **options)
    collection = da.from_array(X, chunks=(3001, -1)).map_blocks(put)
    model = kmeans.KMeans(k, init=X[:k], **options).fit(collection)
    labels = kmeans._to_host(model.predict(collection).compute())
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
    np.testing.assert_array_equal(
        kmeans._to_host(model.predict(collection).compute()), expected.labels_
    )


def test_fewer_chunks_than_workers_and_fewer_distinct_rows_than_clusters(client, put):
    X = np.repeat(np.array([[0.0, 0.0], [1.0, 1.0]]), 50, axis=0)
    collection = da.from_array(X, chunks=(-1, -1)).map_blocks(put)
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
        (da.zeros((10, 2)), {"init": "random"}, "init is 'random'"),
        (da.zeros((10, 2)), {"init": np.zeros((2, 3)), "n_clusters": 2}, "init has shape"),
    ],
)
def test_bad_input_gets_one_line(clusters, X, options, says):
    with (
        clusters("cpu").as_current(),
        pytest.raises(ValueError, match=says.replace("(", r"\(")) as error,
    ):
        kmeans.KMeans(**{"n_clusters": 2, **options}).fit(X)
    assert "\n" not in str(error.value)


def test_predict_needs_a_fit_and_the_same_features(clusters):
    X = da.from_array(blobs(100, 2, 2))
    with clusters("cpu").as_current():
        with pytest.raises(ValueError, match="call fit first"):
            kmeans.KMeans(2).predict(X)
        model = kmeans.KMeans(2, random_state=0).fit(X)
        with pytest.raises(ValueError, match="X has 3 features, the centroids have 2"):
            model.predict(da.zeros((10, 3)))


def test_the_step_is_as_fast_as_scikit_learns():
    """10M x 2, k=5, the cores that are here: a Lloyd iteration, measured in the same run."""
    from device import seconds

    X = blobs(10_000_000, 2, 5)
    init = X[:5].copy()
    kmeans.step(X[:1000], init)  # compiled
    ours = seconds(lambda: kmeans.step(X, init), repeat=3)
    few, many = (
        seconds(
            lambda n=n: as_scikit_learn(X, init, max_iter=n, tol=0, algorithm="lloyd"), repeat=2
        )
        for n in (2, 12)
    )
    assert ours <= (many - few) / 10
