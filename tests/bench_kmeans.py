"""K-means, engines x sizes x devices; `make bench` runs this through tests/bench.py.

- `test_settings`: cuML's own settings on large data, of which the best serves in all that follows.
- `test_fit`: over sizes, and `test_grid`: over features and clusters at the same bytes. Every engine starts from the
  same centroids, on rows drawn alike, which overlap so much that no engine should converge before its iterations are
  done; the iterations that it did do are recorded.
- `test_iteration`, `test_step`, `test_limit`: what of an iteration is Dask's; iterations without Dask, beside a matrix
  product; a kernel in a row, beside a copy.
- `test_labels`: how many labels differ from those of float64, and by how much.
- `test_whole_fit`: from the start to convergence, on groups that lie apart; last, since its data fill the memory.

Data are in place, the first call is not counted, and the median of three or more is kept. A fit ends when centroids and
labels are there. scikit-learn gets the number of threads that suits it best. Every engine has a memory pool: RMM's on
the workers and for cuML, PyTorch's own for flash-kmeans. Each result is judged: its inertia is computed in float64, in
plain array code.
"""

import contextlib
import functools
import gc
import importlib.util
import warnings

from tutorial import device, measure
from tutorial.kmeans import KMeans, estimator, gpu
from tutorial.kmeans import step as steps
from tutorial.kmeans.arrays import to_host
from tutorial.kmeans.shards import Shard, Shards

import dask
import dask.array as da
import numpy as np
import pytest
import sklearn.cluster
import sklearn.exceptions
from dask.distributed import Client, wait
from dask_ml.cluster import KMeans as DaskMLKMeans
from threadpoolctl import threadpool_limits

ITERATIONS = 20
N_DEVICES = max(1, len(device.gpus())) if device.GPU else 1
POWERS = (4, 5, 6, 7, 8) if device.GPU else (4, 5, 6)
NARROW = [(10**power, 2, 5) for power in POWERS]  # rows, features, clusters
WIDE = (10**7, 128, 256) if device.GPU else (10**5, 128, 64)
VALUES = 2**27 if device.GPU else 2**20  # of each cell of the grid: half a gigabyte in float32
GRID = [(VALUES // d, d, k) for d in (2, 8, 32, 128) for k in (5, 64, 256)]
GRID_ITERATIONS = 5
MOST_VALUES = {"scikit-learn": 2 * 10**7, "Dask-ML": 2 * 10**6}  # more would take minutes
LEAST_VALUES = {"Dask-ML": 2 * 10**6, "cuML, MNMG": 2 * 10**4}  # its time does not fall below
POOL = 8 * 2**30  # bytes that RMM holds from the start, in each process
# whole fits, the start included, on groups that lie apart: 100M rows on one GPU, a billion on more
WHOLE = 10**6 if not device.GPU else 10**8 if N_DEVICES == 1 else 10**9
APART = np.array([[-6.0, -6.0], [-6.0, 5.0], [0.0, 0.0], [5.0, -5.0], [6.0, 6.0]])
STD = 0.5
IN_A_ROW = 20 if device.GPU else 2  # calls of what takes no longer than a launch
AT_ONCE = 2**18  # rows that are made, and that the judge looks at, at a time
SETTINGS = [{"max_samples_per_batch": 2**power} for power in (15, 18, 21, 24)]
SETTINGS += [
    {"device_buffer_samples": 2**21}
]  # for rows on the host: it should change nothing here
best_settings = {}  # those of cuML that took the least time
took = {}  # settings of cuML, as text -> seconds
best_of_flash = {}  # (rows, features, clusters) -> those of flash-kmeans


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
    noise = random.standard_normal((rows, d))
    noise *= 6
    labels, centers = random.integers(0, k, rows), xp.asarray(start(d, k)[0])
    for part in parts_of(rows):
        noise[part] += centers[labels[part]]
    return noise.astype(dtype, copy=False)


def make_apart(number, rows, dtype, xp):
    """Return one chunk of rows around APART."""
    random = xp.random.default_rng(number)
    noise = random.standard_normal((rows, 2), dtype="float32").astype(dtype, copy=False)
    noise *= STD
    centers = xp.asarray(APART, dtype)
    for part in parts_of(rows):
        noise[part] += centers[xp.arange(part.start, part.stop) % 5]
    return noise


def parts_of(rows):
    """Yield slices of so many rows: what is made of a part at a time needs no memory for them all.

    A pool of RMM doubles when it is full, and gives nothing back: a worker that once had 33 GB in use holds 64.
    """
    for first in range(0, rows, AT_ONCE):
        yield slice(first, min(rows, first + AT_ONCE))


def chunked(client, devices, n, d, dtype, make, *shape):
    """Return n rows as a persisted Dask array: an equal chunk from each worker, on the first `devices` GPUs."""
    workers = sorted(client.nthreads())
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
    if not device.GPU:
        from tutorial.cpu_stand_ins import LocalCUDACluster

        options = {}
    else:
        import rmm
        from dask_cuda import LocalCUDACluster

        rmm.reinitialize(pool_allocator=True, initial_pool_size=POOL)
        options = {"rmm_pool_size": POOL}
    with (
        LocalCUDACluster(dashboard_address="127.0.0.1:0", **options) as cluster,
        Client(cluster) as client,
    ):
        yield client


@pytest.fixture(autouse=True)
def free_memory(client):
    """Give back, here and on the workers, what CuPy keeps of the last case: other engines want it."""
    yield
    gc.collect()
    if device.GPU:
        arrays().get_default_memory_pool().free_all_blocks()
        client.run(lambda: (gc.collect(), arrays().get_default_memory_pool().free_all_blocks())[1])


def fit_scikit_learn(n, d, k, dtype, client, devices, iterations):
    X, init = make_rows(0, n, dtype, np, d, k), start(d, k)[1].astype(dtype)
    options = {"n_init": 1, "max_iter": iterations, "tol": 0, "algorithm": "lloyd"}
    model = sklearn.cluster.KMeans(k, init=init, **options)
    few = sklearn.cluster.KMeans(k, init=init, **options | {"max_iter": 2})
    threads = measure.best_threads(lambda: few.fit(X))

    def fit():
        with threadpool_limits(threads):
            return attributes(model.fit(X))

    return fit, X, {"threads": threads}


def fit_dask_ml(n, d, k, dtype, client, devices, iterations):
    X, init = make_rows(0, n, dtype, np, d, k), start(d, k)[1].astype(dtype)
    # two chunks a core: with a given start they decide nothing but the time
    collection = da.from_array(X, chunks=(-(-n // (dask.system.CPU_COUNT * 2)), -1))
    model = DaskMLKMeans(k, init=init, max_iter=iterations, tol=0)

    def fit():
        with dask.config.set(scheduler="threads"):
            return attributes(model.fit(collection))

    return fit, X, None


def fit_ours(n, d, k, dtype, client, devices, iterations):
    X = chunked(client, devices, n, d, dtype, make_rows, d, k)
    model = KMeans(k, init=start(d, k)[1], max_iter=iterations, tol=0)
    return lambda: with_labels(model.fit(X)), X, None


def with_labels(model):
    """Return what `attributes` says of our model, once its labels, which are lazy, are where the rows are."""
    wait(model.labels_.persist())
    return attributes(model)


def cuml_options(d, k, dtype, iterations):
    init = arrays().asarray(start(d, k)[1].astype(dtype))
    options = {"n_clusters": k, "init": init, "max_iter": iterations, "tol": 1e-30}
    return options | {"random_state": 0}


def fit_cuml(n, d, k, dtype, client, devices, iterations, **settings):
    import cuml.cluster

    X = make_rows(0, n, dtype, arrays(), d, k)
    settings = settings or dict(best_settings)
    model = cuml.cluster.KMeans(n_init=1, **cuml_options(d, k, dtype, iterations), **settings)
    return lambda: attributes(model.fit(X)), X, settings


def fit_cuml_mnmg(n, d, k, dtype, client, devices, iterations):
    from cuml.dask.cluster import KMeans

    X = chunked(client, devices, n, d, dtype, make_rows, d, k)
    # it has no buffer for rows on the host
    settings = {name: best_settings[name] for name in best_settings if "buffer" not in name}
    model = KMeans(client=client, **cuml_options(d, k, dtype, iterations), **settings)
    return lambda: attributes(model.fit(X)), X, settings


def flash(X, centers, iterations, **options):
    """Return labels, centroids and iterations of flash-kmeans."""
    import torch
    from flash_kmeans import batch_kmeans_Euclid

    init = torch.as_tensor(centers, device="cuda")[None]
    rows = torch.from_dlpack(X)[None]
    options |= {"max_iters": iterations, "tol": -1.0, "init_centroids": init}
    labels, centroids, done = batch_kmeans_Euclid(rows, len(centers), **options)
    torch.cuda.synchronize()
    return arrays().from_dlpack(labels[0]), arrays().from_dlpack(centroids[0]), done


def flash_settings(X, centers):
    """Return the faster of flash-kmeans's two ways to choose its kernels for large rows; its default for the grid."""
    shape = *X.shape, len(centers)
    if shape not in best_of_flash and shape in GRID:
        best_of_flash[shape] = {}
    elif shape not in best_of_flash:
        ways = [{"use_heuristic": True}, {"use_heuristic": False}]
        calls = [functools.partial(flash, X, centers, 3, **way) for way in ways]
        found = [(call(), measure.seconds(call, repeat=3))[1] for call in calls]
        best_of_flash[shape] = ways[found.index(min(found))]
    return best_of_flash[shape]


def fit_flash(n, d, k, dtype, client, devices, iterations):
    X, init = make_rows(0, n, dtype, arrays(), d, k), start(d, k)[1].astype(dtype)
    settings = flash_settings(X, init)
    return lambda: flash(X, init, iterations, **settings)[1:], X, settings


def attributes(model):
    """Return the centroids of a fitted model, and how many iterations it did."""
    return model.cluster_centers_, int(model.n_iter_)


# engine -> (how to fit, dtypes, needs a GPU)
OURS = "our module"
ENGINES = {
    "scikit-learn": (fit_scikit_learn, ["float64"], False),
    "Dask-ML": (fit_dask_ml, ["float64"], False),
    OURS: (fit_ours, ["float32", "float64"], False),
    "cuML, one GPU": (fit_cuml, ["float32", "float64"], True),
    "cuML, MNMG": (fit_cuml_mnmg, ["float64"], True),
    "flash-kmeans": (fit_flash, ["float32"], True),
}
if not importlib.util.find_spec("flash_kmeans"):
    print("flash-kmeans is left out: it is not installed here (pip install flash-kmeans).")
    del ENGINES["flash-kmeans"]


def numbers_of_devices(engine):
    """Return on how many devices an engine is measured: those that take any number on 1, 2, ..."""
    return range(1, N_DEVICES + 1) if engine in (OURS, "cuML, MNMG") else [1]


def cases():
    """Yield (engine, n, d, k, dtype, devices) for all that this machine can run."""
    for n, d, k in [*NARROW, WIDE]:
        for engine, (_, dtypes, needs_gpu) in ENGINES.items():
            if needs_gpu and not device.GPU:
                continue
            if not LEAST_VALUES.get(engine, 0) <= n * d <= MOST_VALUES.get(engine, np.inf):
                continue
            for dtype in dtypes:
                for devices in numbers_of_devices(engine):
                    yield engine, n, d, k, dtype, devices


def blocks_of(rows):
    """Yield (slice, block): the rows, some at a time."""
    for part in parts_of(len(rows)):
        yield part, rows[part]


def squared_distances(rows, centers):
    """Return the squared distance of each row to each centre, (n, k), in float64 by plain array code: no engine's."""
    xp = arrays() if hasattr(rows, "get") else np
    exact = xp.asarray(to_host(centers), dtype=np.float64)
    middle = exact.mean(axis=0)
    rows, exact = rows.astype(np.float64) - middle, exact - middle
    lengths = (rows**2).sum(axis=1)[:, None] + (exact**2).sum(axis=1)
    return lengths - 2 * (rows @ exact.T)


def inertia_of(X, centers):
    """Return the sum of squared distances of all rows to their nearest centre."""
    centers = to_host(centers)

    def inertia(chunk):
        found = (squared_distances(block, centers).min(axis=1) for _, block in blocks_of(chunk))
        return sum(float(squared.sum()) for squared in found)

    if isinstance(X, da.Array):
        return sum(dask.compute(*map(dask.delayed(inertia), X.to_delayed().ravel())))
    return inertia(X)


def run(benchmark, call, rounds=3, **info):
    """Time a call, after one that is not counted, and keep what it was; return what it gave."""
    benchmark.extra_info |= info
    return benchmark.pedantic(call, rounds=rounds, warmup_rounds=1)


def describe(what, engine, n, d, k, dtype, devices=1, **more):
    """Return what a line of the benchmark says of itself."""
    info = {"what": what, "engine": engine, "rows": n, "features": d, "clusters": k}
    return info | {"dtype": dtype, "devices": devices} | more


def time_fit(benchmark, client, what, case, iterations, **settings):
    engine, n, d, k, dtype, devices = case
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", sklearn.exceptions.ConvergenceWarning)
        fit, X, settings = ENGINES[engine][0](
            n, d, k, dtype, client, devices, iterations, **settings
        )
        info = describe(what, *case, settings=settings or None)
        centers, done = run(benchmark, fit, **info)
    benchmark.extra_info |= {"iterations": done, "inertia": inertia_of(X, centers) / n}


@pytest.mark.gpu
@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_settings(benchmark, client, settings):
    """What cuML's settings change; the fastest of them stay."""
    case = "cuML, one GPU", *WIDE, "float32", 1
    time_fit(benchmark, client, "settings", case, 5, **settings)
    took[str(settings)] = benchmark.stats.stats.median
    best_settings.clear()
    best_settings.update(min(SETTINGS, key=lambda each: took.get(str(each), np.inf)))


@pytest.mark.parametrize(("engine", "n", "d", "k", "dtype", "devices"), list(cases()))
def test_fit(benchmark, client, engine, n, d, k, dtype, devices):
    """Twenty iterations from the same centroids."""
    case = engine, n, d, k, dtype, devices
    time_fit(benchmark, client, "iterations", case, ITERATIONS)


def grid_cases():
    """Yield (engine, n, d, k, dtype, devices) of the grid; without a GPU, of our module alone."""
    for shape in GRID:
        for engine in ENGINES if device.GPU else [OURS]:
            if engine not in MOST_VALUES:
                for devices in numbers_of_devices(engine):
                    if engine != "cuML, MNMG" or devices == N_DEVICES:  # alone it would be cuML's
                        yield engine, *shape, "float32", devices


@pytest.mark.parametrize(("engine", "n", "d", "k", "dtype", "devices"), list(grid_cases()))
def test_grid(benchmark, client, engine, n, d, k, dtype, devices):
    """Five iterations for each number of features and clusters, with rows that fill the same bytes."""
    case = engine, n, d, k, dtype, devices
    time_fit(benchmark, client, "grid", case, GRID_ITERATIONS)


def started(X, centers):
    """Return a function that starts a step over X and, on a GPU, does not wait for it: as a copy is started."""
    if not device.GPU or not gpu.is_narrow(X, centers):
        return functools.partial(steps.step, X, centers)
    return functools.partial(gpu.start_narrow, X, centers, centers.mean(axis=0))


def in_a_row(call):
    """Call many times in a row, and wait once: an idle GPU raises its clock only then, and a launch takes its time."""
    return finished(lambda: [call() for _ in range(IN_A_ROW)])


class TimedShard(Shard):
    """A shard that says how long a step takes, without messages."""

    def timed_step(self, centers):
        """Return the seconds of one of many steps in a row."""
        calls = [started(chunk, centers) for _, chunk, _ in self.parts]
        one = functools.partial(in_a_row, lambda: [call() for call in calls])
        one()  # warm up
        return measure.seconds(one, repeat=5) / IN_A_ROW


def iterate(shards, centers):
    """Do as many iterations as are timed, but always from the same centroids; return the counts of the last."""
    for _ in range(ITERATIONS):
        _, counts, _ = shards.step(centers)
    return counts


@pytest.mark.parametrize("devices", range(1, N_DEVICES + 1))
@pytest.mark.parametrize("shape", [(WHOLE, 2, 5), WIDE], ids=str)
def test_iteration(benchmark, client, shape, devices):
    """An iteration as Dask does it, and the step of the slowest worker."""
    n, d, k = shape
    make, *more = (make_apart,) if d == 2 else (make_rows, d, k)
    centers = (APART if d == 2 else start(d, k)[1]).astype("float32")
    shards = Shards(chunked(client, devices, n, d, "float32", make, *more), kind=TimedShard)
    # of all workers at the same time; before and after, as a card that is warm from work may be slower
    before = max(shards.ask("timed_step", centers))
    info = describe("iteration", OURS, n, d, k, "float32", devices, iterations=1, calls=ITERATIONS)
    counts = run(benchmark, lambda: shards.lead(iterate, centers), 5, **info)
    assert counts.sum() == n
    after = max(shards.ask("timed_step", centers))
    benchmark.extra_info["step"] = round(min(before, after), 6)
    shards.close()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("what", ["copy", "step"])
@pytest.mark.parametrize("n", [10**8, 10**9] if device.GPU else [10**6, 10**7])
def test_limit(benchmark, n, what, dtype):
    """One step over the rows, without Dask, and a copy of the rows, for the bytes that a second moves."""
    n //= np.dtype(dtype).itemsize // 4  # the same bytes
    xp = arrays()
    X = make_apart(0, n, dtype, xp)
    call = started(X, APART.astype(dtype))
    if what == "copy":
        call = functools.partial(xp.copyto, xp.empty_like(X), X)
    info = describe("limit", what, n, 2, 5, dtype, iterations=1, calls=IN_A_ROW)
    run(benchmark, functools.partial(in_a_row, call), 10, **info)


def step_cases():
    """Yield (shape, engine) of the steps alone."""
    for n, d, k in (NARROW[-2 if device.GPU else -1], WIDE):
        for engine in ("matrix product", OURS, "scikit-learn", "flash-kmeans"):
            known = engine in ENGINES or engine not in ("scikit-learn", "flash-kmeans")
            if known and n * d <= MOST_VALUES.get(engine, np.inf):
                yield (n, d, k), engine


class Alone:
    """Rows of this process as `lloyd` asks them: without Dask."""

    def __init__(self, X):
        self.X, self.dtype = X, X.dtype

    def step(self, centers):
        """Return what `step` says of the rows."""
        return steps.step(self.X, centers)


@pytest.mark.parametrize(("shape", "engine"), list(step_cases()), ids=str)
def test_step(benchmark, monkeypatch, shape, engine):
    """An iteration without Dask: the step, its answer on the host, the centroids moved; and a matrix product."""
    n, d, k = shape
    xp = arrays()
    X, centers = make_rows(0, n, "float32", xp, d, k), start(d, k)[1].astype("float32")
    info = describe("step", engine, n, d, k, "float32", iterations=1)
    if engine == "matrix product":
        target = xp.empty((n, k), "float32")
        call = functools.partial(xp.matmul, X, xp.asarray(centers.T.copy()), out=target)
        run(benchmark, functools.partial(in_a_row, call), 5, calls=IN_A_ROW, **info)
        return
    if engine == OURS:
        monkeypatch.setattr(estimator, "PATIENCE", np.inf)
        rows, init = Alone(X), centers.astype("float64")
        call = functools.partial(estimator.lloyd, rows, init, 0.0, ITERATIONS)
        done = run(benchmark, call, 5, calls=ITERATIONS, **info)[1]
        assert done == ITERATIONS
        return

    def fit(iterations):
        if engine == "flash-kmeans":
            return flash(X, centers, iterations, **info["settings"])[2]
        options = {"n_init": 1, "max_iter": iterations, "tol": 0, "algorithm": "lloyd"}
        return sklearn.cluster.KMeans(k, init=centers, **options).fit(to_host(X)).n_iter_

    # what of two fits is more in the longer one
    with warnings.catch_warnings(), contextlib.ExitStack() as stack:
        warnings.simplefilter("ignore", sklearn.exceptions.ConvergenceWarning)
        if engine == "flash-kmeans":
            info["settings"] = flash_settings(X, centers)
        else:
            threads = measure.best_threads(lambda: fit(2))
            info["settings"] = {"threads": threads}
            stack.enter_context(threadpool_limits(threads))
        fit(2)
        less = measure.seconds(lambda: fit(2), repeat=3)
        done = run(benchmark, lambda: fit(2 + ITERATIONS), 3, calls=ITERATIONS, less=less, **info)
    assert done == 2 + ITERATIONS


@pytest.mark.parametrize("engine", [each for each in (OURS, "flash-kmeans") if each in ENGINES])
@pytest.mark.parametrize("shape", [NARROW[-2], WIDE], ids=str)
def test_labels(benchmark, shape, engine):
    """How many rows get another label than in float64, from the initial centroids, and how much farther that one is."""
    n, d, k = shape
    X, centers = make_rows(0, n, "float32", arrays(), d, k), start(d, k)[1].astype("float32")
    call = functools.partial(steps.nearest, X, centers)
    if engine == "flash-kmeans":
        call = functools.partial(flash, X, centers, 1)
    info = describe("labels", engine, n, d, k, "float32")
    labels = run(benchmark, lambda: finished(call), **info)[0]
    differ, gap = 0, 0.0
    for part, block in blocks_of(X):
        squared = squared_distances(block, centers)
        given = labels[part]
        others = squared.argmin(axis=1) != given
        differ += int(others.sum())
        least, chosen = squared[others].min(axis=1), squared[others, given[others]]
        gap = max([gap, *to_host((chosen - least) / least)])
    benchmark.extra_info |= {"differ": differ, "gap": float(gap)}


def whole_cases():
    """Yield (engine, dtype, devices) of the whole fits."""
    for devices in range(1, N_DEVICES + 1):
        yield OURS, "float32", devices
    yield OURS, "float64", N_DEVICES
    if device.GPU:
        yield "cuML, MNMG", "float64", N_DEVICES


@pytest.mark.parametrize(("engine", "dtype", "devices"), list(whole_cases()))
def test_whole_fit(benchmark, client, engine, dtype, devices):
    """k-means|| and at most twenty iterations; the inertia is that over the ideal one, n d std^2."""
    X = chunked(client, devices, WHOLE, 2, dtype, make_apart)
    options = {"n_clusters": 5, "max_iter": ITERATIONS, "random_state": 0}
    model = KMeans(**options)
    if engine == "cuML, MNMG":
        from cuml.dask.cluster import KMeans as MNMGKMeans

        model = MNMGKMeans(client=client, **options)
    info = describe("whole fit", engine, WHOLE, 2, 5, dtype, devices)
    ended = with_labels if engine == OURS else attributes
    centers, done = run(benchmark, lambda: ended(model.fit(X)), **info)
    inertia = inertia_of(X, centers) / (WHOLE * 2 * STD**2)
    benchmark.extra_info |= {"iterations": done, "inertia": inertia}
