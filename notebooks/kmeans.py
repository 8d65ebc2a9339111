"""K-means on all workers of a Dask cluster: Lloyd's algorithm, with one read of the data for each iteration.

    from kmeans import KMeans
    model = KMeans(n_clusters=5, random_state=0).fit(X)  # X: Dask array of NumPy or CuPy chunks
    labels = model.predict(X)                            # Dask array

The rows stay where they are. On each worker an actor holds its chunks; for each iteration the client sends it the
centroids (k x d) and gets back, for each cluster, the sum of its rows and their number, and the inertia.

A worker's step is one fused kernel: kmeans.cu for CuPy chunks, Numba for NumPy chunks. Distances are sums of squared
differences, not the expansion |x|^2 - 2xc + |c|^2, which loses its digits far from the origin. (For many features or
clusters on a GPU the expansion, a matrix product, names candidates; their differences decide.) What is added up over
all rows is float64.

Lloyd's iterations: S. P. Lloyd, Least squares quantization in PCM, IEEE Trans. Inf. Theory 28 (1982). The start,
k-means||: B. Bahmani et al., Scalable k-means++, PVLDB 5 (2012). Empty clusters and the tolerance: as scikit-learn.
"""

import bisect
import contextlib
import functools
import itertools
import os
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import dask
import dask.array
import numba
import numpy as np
import sklearn.cluster
import sklearn.exceptions
from dask.distributed import default_client, futures_of, get_worker, wait

MAX_CLUSTERS = MAX_FEATURES = 2**15
BLOCK = 512  # rows that the CPU kernel holds in cache at a time
ROUNDS = 5  # of k-means||
EPSILON = np.finfo(np.float64).eps


def _total(answers):
    """Return the sums over several answers, part by part: of steps, all their sums, counts and inertias."""
    return tuple(sum(parts) for parts in zip(*answers, strict=True))


# --- the step on the CPU -----------------------------------------------------------------------------------------


@numba.njit(nogil=True, fastmath={"contract", "reassoc", "nsz"}, error_model="numpy")
def _nearest_block(X, centers, columns, squared, best, label):
    """Copy at most BLOCK rows into `columns`; set for each row the nearest centre and its squared distance."""
    rows, features = X.shape
    for f in range(features):
        for i in range(rows):
            columns[f, i] = X[i, f]
    for j in range(len(centers)):
        for i in range(rows):
            squared[i] = 0
        for f in range(features):
            center = centers[j, f]
            for i in range(rows):
                difference = columns[f, i] - center
                squared[i] += difference * difference
        for i in range(rows):
            closer = j == 0 or squared[i] < best[i]
            best[i] = squared[i] if closer else best[i]
            label[i] = j if closer else label[i]


@numba.njit(nogil=True, error_model="numpy")
def _step_rows(X, centers, sums, counts):
    """Add to `sums` each row's difference to its nearest centre, count the rows, return their inertia."""
    columns = np.empty((X.shape[1], BLOCK), X.dtype)
    squared, best = np.empty(BLOCK, X.dtype), np.empty(BLOCK, X.dtype)
    label = np.empty(BLOCK, np.int32)
    inertia = 0.0
    for start in range(0, len(X), BLOCK):
        block = X[start : start + BLOCK]
        _nearest_block(block, centers, columns, squared, best, label)
        for i in range(len(block)):
            j = label[i]
            counts[j] += 1
            inertia += best[i]
            for f in range(block.shape[1]):
                sums[j, f] += columns[f, i] - centers[j, f]
    return inertia


@numba.njit(nogil=True, error_model="numpy")
def _nearest_rows(X, centers, labels, distances):
    """Write each row's nearest centre and its squared distance."""
    columns = np.empty((X.shape[1], BLOCK), X.dtype)
    squared, best = np.empty(BLOCK, X.dtype), np.empty(BLOCK, X.dtype)
    label = np.empty(BLOCK, np.int32)
    for start in range(0, len(X), BLOCK):
        block = X[start : start + BLOCK]
        _nearest_block(block, centers, columns, squared, best, label)
        labels[start : start + len(block)] = label[: len(block)]
        distances[start : start + len(block)] = best[: len(block)]


@numba.njit(error_model="numpy")
def _dice(seed, number):
    """Return a uniform number in [0, 1) for each row number: splitmix64, the same on a GPU (kmeans.cu)."""
    z = seed + (number + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return ((z ^ (z >> np.uint64(31))) >> np.uint64(11)) * 2.0**-53


@numba.njit(nogil=True, error_model="numpy")
def _draw_rows(distances, factor, seed, first, drawn):
    """Set drawn[i] where row first + i is drawn, with probability factor x its squared distance."""
    for i in range(len(distances)):
        drawn[i] = _dice(seed, first + np.uint64(i)) < factor * distances[i]


def _threads():
    """Return how many threads this process may use: those of the Dask worker, or all cores outside of one."""
    try:
        return get_worker().state.nthreads
    except ValueError:
        return os.cpu_count()


def _in_threads(work, rows):
    """Call work(start, stop) for as many slices of the rows as there are threads; return the results in order."""
    threads = min(_threads(), max(1, rows // BLOCK))
    cuts = [rows * number // threads for number in range(threads + 1)]
    if threads == 1:
        return [work(0, rows)]
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(work, cuts[:-1], cuts[1:]))


def _cpu_step(X, centers):
    def work(start, stop):
        sums, counts = np.zeros(centers.shape), np.zeros(len(centers), np.int64)
        return sums, counts, _step_rows(X[start:stop], centers, sums, counts)

    return _total(_in_threads(work, len(X)))


def _cpu_nearest(X, centers):
    labels, distances = np.empty(len(X), np.int32), np.empty(len(X), X.dtype)
    _in_threads(
        lambda start, stop: _nearest_rows(
            X[start:stop], centers, labels[start:stop], distances[start:stop]
        ),
        len(X),
    )
    return labels, distances


def _cpu_draw(X, candidates, factor, seed, first):
    drawn = np.empty(len(X), bool)
    _, distances = _cpu_nearest(X, candidates)
    _draw_rows(distances, factor, np.uint64(seed), np.uint64(first), drawn)
    return X[drawn]


# --- the step on a GPU -------------------------------------------------------------------------------------------

AT_HAND = 128  # numbers of 4 bytes, for a thread's centroids, sums, counts and rows: `lloyd` is for no more
THREADS = 256
BLOCKS = 8  # for each multiprocessor
SCORES = 2**29  # bytes of scores that are worked on at a time


@functools.cache
def _kernel(name, dtype, **macros):
    """Return a kernel of kmeans.cu, compiled for one type and size; CuPy keeps it on disk."""
    import cupy

    macros = {
        "T": {"float32": "float", "float64": "double"}[dtype],
        "D": 0,
        "K": 0,
        "THREADS": THREADS,
        "WIDE": 0,
    } | macros
    source = "".join(f"#define {key} {value}\n" for key, value in macros.items())
    source += Path(__file__).with_name("kmeans.cu").read_text(encoding="utf-8")
    return cupy.RawKernel(source, name, options=("--std=c++17",))


@functools.cache
def _attribute(name):
    """Return an attribute of this process's GPU; CuPy asks the driver for all of them at each call."""
    import cupy

    return cupy.cuda.Device().attributes[name]


@functools.cache
def _resident_blocks(kernel):
    """Return how many blocks of a kernel the GPU runs at the same time, as far as registers decide."""
    registers = -(-kernel.num_regs // 8) * 8 * THREADS  # allotted by eights
    at_once = _attribute("MaxRegistersPerMultiprocessor") // registers
    return _attribute("MultiProcessorCount") * max(1, min(at_once, BLOCKS))


def _steps(X):
    """Return how many elements of X lie between two rows, and between two columns."""
    return [np.int64(stride // X.itemsize) for stride in X.strides]


def _layout(X):
    """Return how the narrow kernel may read X: LAYOUT in kmeans.cu."""
    if X.data.ptr % 16 == 0 and X.flags.c_contiguous:
        return 0
    if X.data.ptr % 16 == 0 and X.strides[0] == X.itemsize and X.strides[1] % 16 == 0:
        return 1
    return 2


def _is_narrow(X, centers):
    """Tell whether features and clusters are so few that `lloyd` has all it needs at hand."""
    k, d = centers.shape
    return (k * (2 * d + 1) + 4 * d) * X.itemsize // 4 <= AT_HAND


def _lloyd(X, centers, origin):
    """Start `lloyd` on the GPU without waiting; return its total, k x (d + 1) sums and counts, then the inertia."""
    import cupy

    k, d = centers.shape
    kernel = _kernel("lloyd", X.dtype.name, D=d, K=k, LAYOUT=_layout(X))
    blocks = max(1, min(_resident_blocks(kernel), -(-len(X) // THREADS)))
    values = k * (d + 1) + 1
    out = cupy.zeros((blocks + 1) * values + 1)
    placed = np.concatenate([centers, origin[None]])
    by_value = placed.reshape(-1).view(f"V{placed.nbytes}")  # the struct Centers
    kernel((blocks,), (THREADS,), (X, np.int64(len(X)), *_steps(X), by_value, out))
    return out[:values]


def _gpu_step(X, centers):
    import cupy

    k, d = centers.shape
    if not _is_narrow(X, centers):
        sums, counts, inertia = cupy.zeros((k, d)), cupy.zeros(k, np.uint64), cupy.zeros(1)
        if threads := _wide_threads(X, centers):
            _lloyd_wide(X, centers, threads, sums, counts, inertia)
        else:
            _assign(X, centers, sums=sums, counts=counts, inertia=inertia)
        return sums.get(), counts.get().astype(np.int64), float(inertia[0])
    # sums of differences to one origin in the middle, so that float32 keeps its digits far from zero
    origin = centers.mean(axis=0, dtype=np.float64).astype(X.dtype)
    total = _lloyd(X, centers, origin).get()
    clusters = total[:-1].reshape(k, d + 1)
    counts = clusters[:, -1].astype(np.int64)
    moved = origin.astype(np.float64) - centers.astype(np.float64)
    return clusters[:, :-1] + counts[:, None] * moved, counts, float(total[-1])


@contextlib.contextmanager
def _fast_product(dtype):
    """Let CuPy's matrix product of float32 round its factors to TF32, where the GPU has it; yield its precision."""
    import cupy

    single = np.dtype(dtype) == np.float32
    if not single or int(cupy.cuda.Device().compute_capability) < 80:
        yield np.finfo(dtype).eps
        return
    before = cupy._core.get_compute_type(dtype)
    cupy._core.set_compute_type(dtype, cupy._core._routines_linalg.COMPUTE_TYPE_TF32)
    try:
        yield 2.0**-9  # two factors of ten bits and a leading one, cut off
    finally:
        cupy._core.set_compute_type(dtype, before)


def _scored(X, centers):
    """Yield slices of X, and of each what the kernels know of its rows: scores and their bounds (kmeans.cu).

    A matrix product gives the scores |row - centre|^2 - |row - middle|^2, fast and roughly; the kernels compute the
    differences of those centres that the product's error bound leaves. With one centre there are no scores.
    """
    import cupy

    k, d = centers.shape
    exact = centers.astype(np.float64)
    middle = exact.mean(axis=0).astype(X.dtype).astype(np.float64)
    apart = exact - middle
    squared = (apart**2).sum(axis=1)
    # far from zero the bound would be wide: shift the rows
    far = k > 1 and (middle**2).sum() > 16 * squared.mean()
    constants = squared + (0 if far else 2 * apart @ middle)
    weights = cupy.asarray(np.ascontiguousarray(-2 * apart.T), X.dtype)
    on_device, shift = cupy.asarray(centers), cupy.asarray(middle, X.dtype)
    rows, scores = len(X), 0
    if k > 1:
        rows = max(1024, SCORES // (k * X.itemsize))
        scores = cupy.empty((min(rows, len(X)), k), X.dtype)
    with _fast_product(X.dtype) as precision:
        rounding = (d + 8) * np.finfo(X.dtype).eps  # of sums of d products
        slack = X.dtype.type(2 * 2 * (precision + 4 * rounding) * np.sqrt(squared.max()))
        floor = X.dtype.type(2 * rounding * np.abs(constants).max())
        known = cupy.asarray(constants, X.dtype), slack, floor, shift if far else 0, on_device
        for start in range(0, len(X), rows):
            part = X[start : start + rows]
            if k > 1:
                cupy.matmul(part - shift if far else part, weights, out=scores[: len(part)])
            yield slice(start, start + len(part)), (scores, *known)


def _room_for_sums(X, centers):
    """Return the bytes of shared memory for a block's sums and counts; 0 if a block may not have so many."""
    k, d = centers.shape
    needed = k * d * X.itemsize + 4 * k
    return needed if needed <= _attribute("MaxSharedMemoryPerBlockOptin") else 0


def _launch(kernel, threads, arguments, shared):
    """Run a kernel on as many threads as a GPU holds at 64 registers each."""
    if shared:
        kernel.max_dynamic_shared_size_bytes = shared
    blocks = _attribute("MultiProcessorCount") * 1024 // threads
    kernel((blocks,), (threads,), (*arguments, np.int32(bool(shared))), shared_mem=shared)


def _assign(X, centers, labels=None, distances=None, sums=None, counts=None, inertia=None):
    """Find each row's nearest centre and fill the CuPy arrays that are given: `assign` in kmeans.cu."""
    kernel = _kernel("assign", X.dtype.name)
    shared = _room_for_sums(X, centers) if sums is not None else 0
    k, d = (np.int32(size) for size in centers.shape)
    for part, known in _scored(X, centers):
        own = [array if array is None else array[part] for array in (labels, distances)]
        wanted = [0 if array is None else array for array in (*own, sums, counts, inertia)]
        sizes = np.int64(part.stop - part.start), d, k, *_steps(X)
        _launch(kernel, 1024, (X[part], *sizes, *known, *wanted), shared)


def _wide_threads(X, centers):
    """Return the block size for `lloyd_wide`, which keeps its rows in registers; 0 if they do not fit."""
    k, d = centers.shape
    registers = 24 + (3 * -(-k // 32) + 2 * -(-d // 32)) * X.itemsize // 4
    return 1024 if registers <= 64 else 512 if registers <= 128 else 0


def _lloyd_wide(X, centers, threads, sums, counts, inertia):
    """Add up sums, counts and inertia as `_assign` does, for sizes that fit registers: `lloyd_wide` in kmeans.cu."""
    k, d = centers.shape
    kernel = _kernel("lloyd_wide", X.dtype.name, D=d, K=k, THREADS=threads, WIDE=1)
    shared = _room_for_sums(X, centers)
    for part, known in _scored(X, centers):
        rows = np.int64(part.stop - part.start), *_steps(X)
        _launch(kernel, threads, (X[part], *rows, *known, sums, counts, inertia), shared)


def _gpu_nearest(X, centers):
    import cupy

    labels, distances = cupy.empty(len(X), np.int32), cupy.empty(len(X), X.dtype)
    _assign(X, centers, labels=labels, distances=distances)
    return labels, distances


def _weigh(X, candidates, counts=0, inertia=0, chance=(0.0, 0, 0), drawn=(0, 0, 0)):
    """Call the kernel of that name: fill counts and inertia, or drawn: (rows, their number, room for them)."""
    import cupy

    m, d = candidates.shape
    kernel = _kernel("weigh", X.dtype.name, D=d if d <= 16 else 0)
    shared = m * d * X.itemsize + 4 * m
    room = _attribute("MaxSharedMemoryPerBlock")
    shared = shared if shared <= room else 0
    rows = np.int64(len(X)), np.int32(d), *_steps(X)
    factor, seed, first = chance
    dice = np.float64(factor), np.uint64(seed), np.uint64(first)
    place = (*drawn[:2], np.uint64(drawn[2]))
    sums = cupy.asarray(candidates), np.int32(m), counts, inertia
    blocks = BLOCKS * _attribute("MultiProcessorCount")
    arguments = (X, *rows, *sums, *dice, *place, np.int32(bool(shared)))
    kernel((blocks,), (THREADS,), arguments, shared_mem=shared)


def _gpu_weigh(X, candidates):
    import cupy

    counts, inertia = cupy.zeros(len(candidates), np.uint64), cupy.zeros(1)
    if X.shape[1] <= 16:
        _weigh(X, candidates, counts, inertia)
    else:
        _assign(X, candidates, counts=counts, inertia=inertia)
    return counts.get().astype(np.int64), float(inertia[0])


def _gpu_draw(X, candidates, factor, seed, first):
    import cupy

    room = 1024
    while True:
        drawn, count = cupy.empty(room, np.int64), cupy.zeros(1, np.uint64)
        _weigh(X, candidates, chance=(factor, seed, first), drawn=(drawn, count, room))
        found = int(count[0])
        if found <= room:
            return X[cupy.sort(drawn[:found])].get()
        room = found


# --- the step, wherever the rows are -----------------------------------------------------------------------------


def _on_gpu(X):
    return hasattr(X, "__cuda_array_interface__")


def _to_host(array):
    """Return an array as NumPy."""
    return array.get() if _on_gpu(array) else np.asarray(array)


def step(X, centers):
    """Assign each row to its nearest centre and reduce the clusters, in one read of X.

    X: (n, d), NumPy or CuPy, float32 or float64, any strides. centers: (k, d), NumPy, of the same dtype.
    Returns NumPy: for each cluster the sum over its rows of (row - centre), float64 (k, d); the number of its rows,
    int64 (k,); and the inertia, the sum of squared distances, as a float. Not finite if X is not.
    """
    return (_gpu_step if _on_gpu(X) else _cpu_step)(X, centers)


def nearest(X, centers):
    """Return for each row the index of its nearest centre, int32 (n,), and the squared distance, (n,), where X is."""
    return (_gpu_nearest if _on_gpu(X) else _cpu_nearest)(X, centers)


def weigh(X, candidates):
    """Return how many rows are nearest to each candidate, int64 (m,), and the inertia: a step without the sums."""
    return _gpu_weigh(X, candidates) if _on_gpu(X) else _cpu_step(X, candidates)[1:]


def draw(X, candidates, factor, seed, first):
    """Return rows of X as NumPy (m, d), each drawn with probability min(1, factor x squared distance to candidates).

    first: the number of X's first row in the whole data. A row's dice depend on seed and number alone, so the same rows
    are drawn on any number of workers.
    """
    return (_gpu_draw if _on_gpu(X) else _cpu_draw)(X, candidates, factor, seed, first)


class Shard:
    """The chunks that one worker holds, as a Dask actor: it lives on the worker, and the client calls its methods."""

    def __init__(self, *chunks):
        self.chunks = chunks

    def rows(self):
        """Return the number of rows of each chunk."""
        return [len(chunk) for chunk in self.chunks]

    def take(self, chunk, row):
        """Return one row as NumPy, (d,)."""
        return _to_host(self.chunks[chunk][row])

    def step(self, centers):
        """Return what `step` says of all chunks together."""
        return _total(step(chunk, centers) for chunk in self.chunks)

    def weigh(self, candidates):
        """Return what `weigh` says of all chunks together."""
        return _total(weigh(chunk, candidates) for chunk in self.chunks)

    def draw(self, candidates, factor, seed, firsts):
        """Return what `draw` says of each chunk; firsts: the number of each chunk's first row."""
        return [
            draw(chunk, candidates, factor, seed, first)
            for chunk, first in zip(self.chunks, firsts, strict=True)
        ]

    def farthest(self, centers, m):
        """Return the m rows that are farthest from their centre: squared distances (m,), labels (m,), rows (m, d)."""
        found = []
        for chunk in self.chunks:
            labels, distances = nearest(chunk, centers)
            last = distances.argsort()[-m:]
            found.append([_to_host(part[last]) for part in (distances, labels, chunk)])
        distances, labels, rows = map(np.concatenate, zip(*found, strict=True))
        last = distances.argsort()[-m:]
        return distances[last], labels[last], rows[last]


class _Shards:
    """All shards, asked at once, and which of them holds which chunk; kind: the class of the shards."""

    def __init__(self, X, kind=Shard):
        client = default_client()
        by_key = {future.key: future for future in futures_of(X)}
        chunks = [by_key[key] for [key] in X.__dask_keys__()]  # in the order of the rows
        wait(chunks)
        holders = client.who_has(chunks)
        held = {}  # worker -> the numbers of its chunks
        for number, chunk in enumerate(chunks):
            held.setdefault(min(holders[chunk.key]), []).append(number)
        made = [
            client.submit(
                kind, *map(chunks.__getitem__, numbers), workers=[worker], actor=True, pure=False
            )
            for worker, numbers in held.items()
        ]
        self.shards = [future.result() for future in made]
        self.numbers = list(held.values())
        places = {
            number: (shard, place)
            for shard, numbers in enumerate(self.numbers)
            for place, number in enumerate(numbers)
        }
        self.places = [places[number] for number in range(len(chunks))]
        rows = self.ask("rows")
        lengths = [rows[shard][place] for shard, place in self.places]
        self.firsts = [0, *itertools.accumulate(lengths)]
        self.n_rows = self.firsts.pop()

    def ask(self, method, *arguments):
        """Call a method of every shard with the same arguments; return the answers."""
        return [
            future.result()
            for future in [getattr(shard, method)(*arguments) for shard in self.shards]
        ]

    def row(self, index):
        """Return row `index` of the whole, NumPy (d,)."""
        number = bisect.bisect_right(self.firsts, index) - 1
        shard, place = self.places[number]
        return self.shards[shard].take(place, index - self.firsts[number]).result()

    def step(self, centers):
        """Return what `step` says of all rows."""
        return _total(self.ask("step", centers))

    def weigh(self, candidates):
        """Return what `weigh` says of all rows."""
        return _total(self.ask("weigh", candidates))

    def draw(self, candidates, factor, seed):
        """Return what `draw` says of all rows, in their order."""
        futures = [
            shard.draw(candidates, factor, seed, [self.firsts[number] for number in numbers])
            for shard, numbers in zip(self.shards, self.numbers, strict=True)
        ]
        drawn = [future.result() for future in futures]
        return np.concatenate([drawn[shard][place] for shard, place in self.places])

    def farthest(self, centers, m):
        distances, labels, rows = map(
            np.concatenate, zip(*self.ask("farthest", centers, m), strict=True)
        )
        last = distances.argsort()[::-1][:m]
        return labels[last], rows[last]


def scalable_start(shards, n_clusters, random_state):
    """Return initial centroids (n_clusters, d) by k-means||: five rounds of drawing rows by their distance.

    The rows drawn, a few for each cluster, are weighted by how many rows are nearest to them, and clustered here.
    """
    random = np.random.default_rng(random_state)
    candidates = shards.row(int(random.integers(shards.n_rows)))[None]
    for _ in range(ROUNDS):
        _, inertia = shards.weigh(candidates)
        if inertia == 0:  # all rows are candidates already
            break
        drawn = shards.draw(candidates, 2 * n_clusters / inertia, int(random.integers(2**31)))
        candidates = np.concatenate([candidates, drawn])
    while len(candidates) < n_clusters:  # few distinct rows, or an unlucky draw: any rows will do
        candidates = np.concatenate(
            [candidates, shards.row(int(random.integers(shards.n_rows)))[None]]
        )
    weights = shards.weigh(candidates)[0].astype(np.float64)
    seed = int(random.integers(2**31))
    model = sklearn.cluster.KMeans(n_clusters, n_init=4, random_state=seed)
    origin = candidates.mean(axis=0, dtype=np.float64)  # far from zero, differences would be lost
    with warnings.catch_warnings():  # fewer distinct rows than clusters: some clusters stay empty
        warnings.simplefilter("ignore", sklearn.exceptions.ConvergenceWarning)
        model.fit(candidates - origin, sample_weight=weights)
    return model.cluster_centers_ + origin


def _checked(X):
    """Return X if it is what fit and predict take; raise ValueError otherwise."""
    if not isinstance(X, dask.array.Array):
        raise ValueError(f"X is a {type(X).__name__}: give a Dask array.")
    if X.ndim != 2 or X.dtype not in (np.float32, np.float64):
        raise ValueError(
            f"X is {X.dtype} with {X.ndim} dimension(s): give float32 or float64, rows by features."
        )
    if X.numblocks[1] != 1:
        raise ValueError("X is cut along its features: rechunk it to {1: -1}.")
    if not 1 <= X.shape[1] <= MAX_FEATURES:
        raise ValueError(f"X has {X.shape[1]} features: 1 to {MAX_FEATURES} are possible.")
    return X


class KMeans:
    """K-means for Dask arrays, with scikit-learn's interface; runs on the workers of the active client.

    n_clusters: 1 to 32,768. init: "k-means||", or the initial centroids (n_clusters, n_features). max_iter: Lloyd
    iterations at most. tol: stop when the centroids move less, squared and relative to the variance of the data.
    random_state: seed of the start.

    After fit: cluster_centers_ (n_clusters, n_features), NumPy, X's dtype; inertia_, float; n_iter_, int.
    """

    def __init__(self, n_clusters=8, init="k-means||", max_iter=300, tol=1e-4, random_state=None):
        self.n_clusters, self.init, self.max_iter = n_clusters, init, max_iter
        self.tol, self.random_state = tol, random_state

    def fit(self, X, y=None):
        """Fit to X, a Dask array (n_samples, n_features), float32 or float64, chunked along the rows; return self.

        y is ignored. Raises ValueError where X is not that, has fewer rows than clusters, or holds NaN or infinity.
        """
        X = _checked(X).persist()
        shards = _Shards(X)
        most = min(shards.n_rows, MAX_CLUSTERS)
        if not 1 <= self.n_clusters <= most:
            raise ValueError(
                f"n_clusters is {self.n_clusters}: choose 1 to {most}, for {shards.n_rows} rows."
            )
        variance = self._variance(shards)
        centers = self._start(shards, X.shape[1], X.dtype)
        for iteration in range(1, self.max_iter + 1):
            self.n_iter_ = iteration
            new = self._move(shards, centers.astype(X.dtype))
            shift = float(((new - centers) ** 2).sum())
            centers = new
            rounding = centers.size * (4 * EPSILON * np.abs(centers).max()) ** 2
            if shift <= max(self.tol * variance, rounding):
                break
        self.cluster_centers_ = centers.astype(X.dtype)
        self.inertia_ = shards.step(self.cluster_centers_)[2]
        return self

    def _variance(self, shards):
        """Return the mean variance of the features; raise ValueError if a value is not finite."""
        origin = shards.row(0)[None]
        sums, counts, inertia = shards.step(origin)
        if not np.isfinite(inertia):
            raise ValueError(
                "X holds NaN, infinity or values too large to square. Remove or fill them first."
            )
        return (
            max(0.0, inertia / counts[0] - float(((sums / counts[0]) ** 2).sum())) / origin.shape[1]
        )

    def _start(self, shards, n_features, dtype):
        if isinstance(self.init, str):
            if self.init != "k-means||":
                raise ValueError(
                    f"init is {self.init!r}: give 'k-means||' or an array of centroids."
                )
            return scalable_start(shards, self.n_clusters, self.random_state).astype(np.float64)
        centers = np.array(_to_host(self.init), dtype=np.float64)
        if centers.shape != (self.n_clusters, n_features):
            raise ValueError(
                f"init has shape {centers.shape}: ({self.n_clusters}, {n_features}) is needed."
            )
        return centers

    @staticmethod
    def _move(shards, centers):
        """Return the means of the clusters around `centers`, float64 (k, d)."""
        sums, counts, _ = shards.step(centers)
        rounded, centers = centers, centers.astype(np.float64)
        empty = np.flatnonzero(counts == 0)
        if len(empty):  # each takes the row that fits its own cluster worst, as in scikit-learn
            labels, rows = shards.farthest(rounded, len(empty))
            for j, label, row in zip(empty, labels, rows.astype(np.float64), strict=True):
                sums[label] -= row - centers[label]
                counts[label] -= 1
                sums[j], counts[j] = row - centers[j], 1
        return centers + sums / np.maximum(counts, 1)[:, None]

    def predict(self, X):
        """Return the index of each row's nearest centroid: Dask array (n_samples,), int32, chunked as X is."""
        if not hasattr(self, "cluster_centers_"):
            raise ValueError("This KMeans is not fitted yet: call fit first.")
        X = _checked(X)
        if X.shape[1] != self.cluster_centers_.shape[1]:
            raise ValueError(
                f"X has {X.shape[1]} features, the centroids have {self.cluster_centers_.shape[1]}."
            )
        centers = self.cluster_centers_.astype(X.dtype)
        meta = X._meta.sum(axis=1).astype(np.int32)
        return X.map_blocks(lambda chunk: nearest(chunk, centers)[0], drop_axis=1, meta=meta)
