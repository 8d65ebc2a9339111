"""K-means, engines x sizes x devices; `make bench` runs this through tests/bench.py.

`test_fit`: every engine starts from the same centroids and does the same 20 Lloyd iterations on rows drawn alike,
which overlap so much that no engine converges before. `test_whole_fit`: from the start to convergence, on groups that
lie apart. `test_iteration`: what of an iteration is Dask's. `test_limit`, `test_wide_limit`: our step alone, beside a
copy and a matrix product. Data are in place and the first call is not counted; only cuML's fits of many seconds run
once, after smaller ones, and Dask-ML's once after a first. Each result is judged: its inertia is computed in float64,
and compared.
"""

import functools
import gc
import importlib.util
import warnings

import dask
import dask.array as da
import device
import kmeans
import numpy as np
import pytest
import sklearn.cluster
import sklearn.exceptions
from dask.distributed import Client, wait
from dask_ml.cluster import KMeans as DaskMLKMeans

ITERATIONS = 20
N_DEVICES = max(1, len(device.gpus())) if device.GPU else 1
POWERS = (4, 5, 6, 7, 8) if device.GPU else (4, 5, 6)
NARROW = [(10**power, 2, 5) for power in POWERS]  # rows, features, clusters
if device.GPU:
    NARROW.insert(-1, (5 * 10**7, 2, 5))
WIDE = (10**7, 128, 256) if device.GPU else (10**5, 128, 64)
MOST_VALUES = {"scikit-learn": 2 * 10**7, "Dask-ML": 2 * 10**6}  # more would take minutes
LARGE = 10**8  # values from which on cuML's k-means is run once, as it takes seconds
# whole fits, the start included, on groups that lie apart: 100M rows on one GPU, a billion on more
WHOLE = 10**6 if not device.GPU else 10**8 if N_DEVICES == 1 else 10**9
APART = np.array([[-6.0, -6.0], [-6.0, 5.0], [0.0, 0.0], [5.0, -5.0], [6.0, 6.0]])
STD = 0.5
IN_A_ROW = 20 if device.GPU else 2  # calls of what takes no longer than a launch
AT_ONCE = 2**20  # rows that the judge turns into float64 at a time


def arrays():
    """Return the module whose arrays the workers hold: CuPy on a GPU, else NumPy."""
    if not device.GPU:
        return np
    import cupy

    return cupy


def finished(call, *arguments, **options):
    """Call, and wait until the device has finished; return what the call gave."""
    result = call(*arguments, **options)
    if device.GPU:
        arrays().cuda.Device().synchronize()
    return result


@functools.cache
def start(d, k):
    """Return the true centres (k, d) and the initial centroids (k, d), float64."""
    random = np.random.default_rng(0)
    scale = (2 / d) ** 0.5  # as far apart in 128 dimensions as in two
    centers = random.uniform(-10, 10, (k, d)) * scale
    return centers, centers + random.normal(0, 4, (k, d)) * scale


def make_rows(number, rows, dtype, xp, d, k):
    """Return one chunk: rows around the centres, with a standard deviation that lets clusters overlap."""
    random = xp.random.default_rng(number)
    centers = xp.asarray(start(d, k)[0])
    noise = 6 * random.standard_normal((rows, d))
    noise += centers[random.integers(0, k, rows)]
    return noise.astype(dtype)


def make_apart(number, rows, dtype, xp):
    """Return one chunk of rows around APART."""
    random = xp.random.default_rng(number)
    noise = STD * random.standard_normal((rows, 2), dtype="float32").astype(dtype)
    noise += xp.asarray(APART, dtype)[xp.arange(rows, dtype="int32") % 5]
    return noise


def chunked(client, devices, n, d, dtype, make, *shape):
    """Return n rows as a persisted Dask array: an equal chunk from each worker, on the first `devices` GPUs."""
    workers = sorted(client.scheduler_info(n_workers=-1)["workers"])
    workers = workers[:devices] if device.GPU else workers
    rows, xp = n // len(workers), arrays()
    parts = [
        client.submit(make, number, rows, dtype, xp, *shape, workers=[worker], pure=False)
        for number, worker in enumerate(workers)
    ]
    meta = xp.empty((0, 0), dtype)
    chunks = [da.from_delayed(dask.delayed(part), (rows, d), meta=meta) for part in parts]
    X = da.concatenate(chunks).persist()
    wait(X)
    return X


@pytest.fixture(scope="module")
def client():
    if device.GPU:
        from dask_cuda import LocalCUDACluster
    else:
        from cpu_stand_ins import LocalCUDACluster
    with LocalCUDACluster(dashboard_address="127.0.0.1:0") as cluster, Client(cluster) as client:
        yield client


@pytest.fixture(autouse=True)
def free_memory(client):
    """Give back, here and on the workers, what CuPy keeps of the last case: other engines want it."""
    yield
    gc.collect()
    if device.GPU:
        arrays().get_default_memory_pool().free_all_blocks()
        client.run(lambda: (gc.collect(), arrays().get_default_memory_pool().free_all_blocks())[1])


def fit_scikit_learn(n, d, k, dtype, client, devices):
    X, init = make_rows(0, n, dtype, np, d, k), start(d, k)[1].astype(dtype)
    model = sklearn.cluster.KMeans(
        k, init=init, n_init=1, max_iter=ITERATIONS, tol=0, algorithm="lloyd"
    )
    return lambda: model.fit(X).cluster_centers_, X


def fit_dask_ml(n, d, k, dtype, client, devices):
    X, init = make_rows(0, n, dtype, np, d, k), start(d, k)[1].astype(dtype)
    collection = da.from_array(X, chunks=(-(-n // (dask.system.CPU_COUNT * 2)), -1))
    model = DaskMLKMeans(k, init=init, max_iter=ITERATIONS, tol=0)

    def fit():
        with dask.config.set(scheduler="threads"):
            return model.fit(collection).cluster_centers_

    return fit, X


def fit_ours(n, d, k, dtype, client, devices):
    X = chunked(client, devices, n, d, dtype, make_rows, d, k)
    model = kmeans.KMeans(k, init=start(d, k)[1], max_iter=ITERATIONS, tol=0)
    return lambda: model.fit(X).cluster_centers_, X


def fit_cuml(n, d, k, dtype, client, devices):
    import cuml.cluster

    X = make_rows(0, n, dtype, arrays(), d, k)
    init = arrays().asarray(start(d, k)[1].astype(dtype))
    options = {"n_init": 1, "max_iter": ITERATIONS, "tol": 1e-30, "random_state": 0}
    model = cuml.cluster.KMeans(n_clusters=k, init=init, **options)
    return lambda: model.fit(X).cluster_centers_, X


def fit_cuml_mnmg(n, d, k, dtype, client, devices):
    from cuml.dask.cluster import KMeans

    X = chunked(client, devices, n, d, dtype, make_rows, d, k)
    init = arrays().asarray(start(d, k)[1].astype(dtype))
    model = KMeans(
        client=client, n_clusters=k, init=init, max_iter=ITERATIONS, tol=1e-30, random_state=0
    )
    return lambda: model.fit(X).cluster_centers_, X


def fit_flash(n, d, k, dtype, client, devices):
    import torch
    from flash_kmeans import batch_kmeans_Euclid

    X = make_rows(0, n, dtype, arrays(), d, k)
    tensor = torch.from_dlpack(X)[None]
    init = torch.as_tensor(start(d, k)[1].astype(dtype), device=tensor.device)[None]

    def fit():
        centers = batch_kmeans_Euclid(
            tensor, k, max_iters=ITERATIONS, tol=-1.0, init_centroids=init
        )[1]
        torch.cuda.synchronize()
        return arrays().from_dlpack(centers[0])

    return fit, X


# engine -> (how to fit, dtypes, needs a GPU)
ENGINES = {
    "scikit-learn": (fit_scikit_learn, ["float64"], False),
    "Dask-ML": (fit_dask_ml, ["float64"], False),
    "kmeans.py": (fit_ours, ["float32", "float64"], False),
    "cuML, one GPU": (fit_cuml, ["float32", "float64"], True),
    "cuML, MNMG": (fit_cuml_mnmg, ["float32", "float64"], True),
    "flash-kmeans": (fit_flash, ["float32"], True),
}
if not importlib.util.find_spec("flash_kmeans"):
    print("flash-kmeans is left out: it is not installed here (pip install flash-kmeans).")
    del ENGINES["flash-kmeans"]


def cases():
    """Yield (engine, n, d, k, dtype, devices) for all that this machine can run."""
    for n, d, k in [*NARROW, WIDE]:
        for engine, (_, dtypes, needs_gpu) in ENGINES.items():
            if (needs_gpu and not device.GPU) or n * d > MOST_VALUES.get(engine, np.inf):
                continue
            many = engine in ("kmeans.py", "cuML, MNMG")
            for dtype in dtypes:
                for devices in range(1, N_DEVICES + 1) if many else [1]:
                    yield engine, n, d, k, dtype, devices


def inertia_of(X, centers):
    """Return the sum of squared distances of all rows to their nearest centre, in float64."""
    centers = kmeans._to_host(centers).astype(np.float64)

    def inertia(chunk):
        blocks = (chunk[first : first + AT_ONCE] for first in range(0, len(chunk), AT_ONCE))
        return sum(kmeans.step(block.astype(np.float64), centers)[2] for block in blocks)

    if isinstance(X, da.Array):
        return sum(dask.compute(*map(dask.delayed(inertia), X.to_delayed().ravel())))
    return inertia(X)


def run(benchmark, call, rounds, warm=True, **info):
    """Time a call and keep what it was; return what it gave."""
    benchmark.extra_info |= info
    return benchmark.pedantic(call, rounds=rounds, warmup_rounds=int(warm))


@pytest.mark.parametrize(("engine", "n", "d", "k", "dtype", "devices"), list(cases()))
def test_fit(benchmark, client, engine, n, d, k, dtype, devices):
    """Twenty iterations from the same centroids."""
    shape = {"engine": engine, "rows": n, "features": d, "clusters": k, "dtype": dtype}
    slow = engine.startswith("cuML") and n * d >= LARGE
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", sklearn.exceptions.ConvergenceWarning)
        fit, X = ENGINES[engine][0](n, d, k, dtype, client, devices)
        rounds = 1 if slow or engine == "Dask-ML" else 3
        info = {"what": "iterations", "devices": devices, "iterations": ITERATIONS}
        centers = run(benchmark, fit, rounds, not slow, **shape, **info)
    benchmark.extra_info["inertia"] = inertia_of(X, centers) / n


def whole_cases():
    """Yield (engine, dtype, devices) of the whole fits."""
    for devices in range(1, N_DEVICES + 1):
        yield "kmeans.py", "float32", devices
    yield "kmeans.py", "float64", N_DEVICES
    if device.GPU:
        yield "cuML, MNMG", "float64", N_DEVICES


@pytest.mark.parametrize(("engine", "dtype", "devices"), list(whole_cases()))
def test_whole_fit(benchmark, client, engine, dtype, devices):
    """k-means|| and at most twenty iterations; the inertia is that over the ideal one, n d std^2."""
    X = chunked(client, devices, WHOLE, 2, dtype, make_apart)
    options = {"n_clusters": 5, "max_iter": ITERATIONS, "random_state": 0}
    if engine == "cuML, MNMG":
        from cuml.dask.cluster import KMeans

        model, rounds = KMeans(client=client, **options), 1
    else:
        model, rounds = kmeans.KMeans(**options), 5
    info = {"engine": engine, "rows": WHOLE, "features": 2, "clusters": 5, "dtype": dtype}
    info |= {"what": "whole fit", "devices": devices}
    run(benchmark, lambda: model.fit(X), rounds, rounds > 1, **info)
    benchmark.extra_info["iterations"] = int(model.n_iter_)
    benchmark.extra_info["inertia"] = inertia_of(X, model.cluster_centers_) / (WHOLE * 2 * STD**2)


def started(X, centers):
    """Return a function that starts a step over X and, on a GPU, does not wait for it: as a copy is started."""
    if not device.GPU or not kmeans._is_narrow(X, centers):
        return functools.partial(kmeans.step, X, centers)
    return functools.partial(kmeans._lloyd, X, centers, centers.mean(axis=0))


def in_a_row(call):
    """Call many times in a row, and wait once: an idle GPU raises its clock only then, and a launch takes its time."""
    return finished(lambda: [call() for _ in range(IN_A_ROW)])


class TimedShard(kmeans.Shard):
    """A shard that says how long a step takes, without messages."""

    def timed_step(self, centers):
        """Return the seconds of one of many steps in a row."""
        calls = [started(chunk, centers) for chunk in self.chunks]
        one = functools.partial(in_a_row, lambda: [call() for call in calls])
        one()  # warm up
        return device.seconds(one, repeat=5) / IN_A_ROW


@pytest.mark.parametrize("devices", range(1, N_DEVICES + 1))
def test_iteration(benchmark, client, devices):
    """One iteration as Dask does it, and the step of the slowest worker."""
    X = chunked(client, devices, WHOLE, 2, "float32", make_apart)
    shards = kmeans._Shards(X, TimedShard)
    centers = APART.astype("float32")
    info = {"engine": "kmeans.py", "rows": WHOLE, "features": 2, "clusters": 5, "dtype": "float32"}
    info |= {"what": "iteration", "devices": devices, "iterations": 1}
    _, counts, _ = run(benchmark, lambda: shards.step(centers), 50, **info)
    assert counts.sum() == WHOLE
    steps = shards.ask("timed_step", centers)  # of all workers at the same time
    benchmark.extra_info["step"] = round(max(steps), 6)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("what", ["copy", "step"])
@pytest.mark.parametrize("n", [5 * 10**7, 10**8, 10**9] if device.GPU else [10**6, 10**7])
def test_limit(benchmark, n, what, dtype):
    """One step over the rows, without Dask, and a copy of the rows, for the bytes that a second moves."""
    n //= np.dtype(dtype).itemsize // 4  # the same bytes
    xp = arrays()
    X = make_apart(0, n, dtype, xp)
    call = started(X, APART.astype(dtype))
    if what == "copy":
        call = functools.partial(xp.copyto, xp.empty_like(X), X)
    info = {"engine": what, "rows": n, "features": 2, "clusters": 5, "dtype": dtype}
    info |= {"what": "limit", "devices": 1, "iterations": 1, "calls": IN_A_ROW}
    run(benchmark, functools.partial(in_a_row, call), 10, inertia=None, **info)


@pytest.mark.parametrize("what", ["matrix product", "step"])
def test_wide_limit(benchmark, what):
    """One step over wide rows, without Dask, and the matrix product of rows and centroids."""
    n, d, k = WIDE
    xp = arrays()
    X, centers = make_rows(0, n, "float32", xp, d, k), start(d, k)[1].astype("float32")
    call = started(X, centers)
    if what == "matrix product":
        target = xp.empty((n, k), "float32")
        call = functools.partial(xp.matmul, X, xp.asarray(centers.T.copy()), out=target)
    info = {"engine": what, "rows": n, "features": d, "clusters": k, "dtype": "float32"}
    info |= {"what": "limit", "devices": 1, "iterations": 1, "calls": IN_A_ROW}
    run(benchmark, functools.partial(in_a_row, call), 5, inertia=None, **info)
