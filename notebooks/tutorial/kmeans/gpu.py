"""The step on a GPU: which kernel is asked for, and with what. The kernels are in the .cu files beside this one.

`narrow` is for few features and clusters: a step in one read of the rows, all in registers. `tensor` is for 8 to 256
features, on compute capability 8.0 or newer: labels, and with up to 256 clusters, or as many as shared memory holds, a
whole step in one read.
`direct` finds labels for anything else, and `add_up` the sums that belong to labels.
"""

import functools
from importlib import resources

import numpy as np

AT_HAND = 128  # numbers of 4 bytes, for a thread's centroids, sums, counts and rows: `narrow` is for no more
THREADS = 256
AT_ONCE = 2**24  # rows whose labels and distances are kept, and dice thrown
SHORT = 2**16  # rows that are added up in their own type, before the sum goes to float64
MOST_BYTES = 2**24  # for sums of parts of the rows, so that they stay in the GPU's cache
MOST_SUMS = 2**27  # bytes for sums that `add_up` writes once


@functools.cache
def _kernel(name, dtype, **macros):
    """Return a kernel, compiled for one type and size; CuPy keeps it on disk."""
    import cupy

    macros = {"T": {"float32": "float", "float64": "double"}[dtype]} | macros
    folder = resources.files(__package__)  # also where the package came to a worker as one file
    source = "".join(f"#define {key} {value}\n" for key, value in macros.items())
    source += "".join(
        (folder / file).read_text(encoding="utf-8") for file in ("common.cu", f"{name}.cu")
    )
    return cupy.RawKernel(source, name, options=("--std=c++17",))


@functools.cache
def _attribute(name):
    """Return an attribute of this process's GPU; CuPy asks the driver for all of them at each call."""
    import cupy

    return cupy.cuda.Device().attributes[name]


@functools.cache
def _capability():
    """Return the compute capability of this process's GPU, times ten."""
    import cupy

    return int(cupy.cuda.Device().compute_capability)


def _resident_blocks(kernel, threads, shared=0):
    """Return how many blocks of a kernel the GPU runs at the same time."""
    registers = -(-kernel.num_regs // 8) * 8 * threads  # allotted by eights
    at_once = min(
        _attribute("MaxRegistersPerMultiprocessor") // registers,
        _attribute("MaxSharedMemoryPerMultiprocessor")
        // (kernel.shared_size_bytes + shared + 1024),
        _attribute("MaxThreadsPerMultiProcessor") // threads,
    )
    return _attribute("MultiProcessorCount") * max(1, at_once)


@functools.cache
def _adder():
    import cupy

    return cupy.ElementwiseKernel(
        "raw T parts, int32 number, int64 size",
        "float64 total",
        "for (int part = 0; part < number; ++part) total += parts[part * size + i]",
        "add_parts",
    )


def _add_parts(parts, total):
    """Add parts[0] + parts[1] + ... to total, in this order."""
    _adder()(parts, len(parts), total.size, total)


def _to_gpu(*arrays):
    """Return NumPy arrays on the GPU, sent in one piece: each transfer takes its time, however short."""
    import cupy

    starts = np.cumsum(
        [0, *(-(-array.nbytes // 16) * 16 for array in arrays)]
    )  # aligned for kernels
    packed = np.empty(starts[-1], np.uint8)
    places = [slice(start, start + a.nbytes) for start, a in zip(starts, arrays, strict=False)]
    for array, place in zip(arrays, places, strict=True):
        packed[place] = array.reshape(-1).view(np.uint8)
    sent = cupy.asarray(packed)
    return [
        sent[place].view(array.dtype).reshape(array.shape)
        for array, place in zip(arrays, places, strict=True)
    ]


def _steps(X):
    """Return how many elements of X lie between two rows, and between two columns."""
    return [np.int64(stride // X.itemsize) for stride in X.strides]


def _layout(X):
    """Return how a kernel may read X: LAYOUT in common.cu."""
    if X.data.ptr % 16 == 0 and X.flags.c_contiguous:
        return 0
    if X.data.ptr % 16 == 0 and X.strides[0] == X.itemsize and X.strides[1] % 16 == 0:
        return 1
    return 2


# --- few features and clusters -----------------------------------------------------------------------------------


def is_narrow(X, centers):
    """Tell whether features and clusters are so few that `narrow` has all it needs at hand."""
    k, d = centers.shape
    return (k * (2 * d + 1) + 4 * d) * X.itemsize // 4 <= AT_HAND


def start_narrow(X, centers, origin):
    """Start `narrow` without waiting; return its total, k x (d + 1) sums and counts, then the inertia."""
    import cupy

    k, d = centers.shape
    single = int(X.dtype == np.float32)
    sizes = {"D": d, "K": k, "LAYOUT": _layout(X), "THREADS": THREADS, "SINGLE": single}
    kernel = _kernel("narrow", X.dtype.name, **sizes)
    blocks = max(1, min(_resident_blocks(kernel, THREADS), -(-len(X) // THREADS)))
    values = k * (d + 1) + 1
    out = cupy.zeros((blocks + 1) * values + 1)
    placed = np.concatenate([centers, origin[None]])
    by_value = placed.reshape(-1).view(f"V{placed.nbytes}")  # the struct Centers
    kernel((blocks,), (THREADS,), (X, np.int64(len(X)), *_steps(X), by_value, out))
    return out[:values]


def _narrow_step(X, centers):
    k, d = centers.shape
    # sums of differences to one origin in the middle, so that float32 keeps its digits far from zero
    origin = centers.mean(axis=0, dtype=np.float64).astype(X.dtype)
    total = start_narrow(X, centers, origin).get()
    clusters = total[:-1].reshape(k, d + 1)
    counts = clusters[:, -1].astype(np.int64)
    moved = origin.astype(np.float64) - centers.astype(np.float64)
    return clusters[:, :-1] + counts[:, None] * moved, counts, float(total[-1])


# --- many, on tensor cores ---------------------------------------------------------------------------------------


def _tensor_bytes(warps, centers, d, dtype):
    """Return the shared memory of a block of `tensor`: the size of Shared in tensor.cu."""
    padded = -(-d // 32) * 32
    rows = dtype.itemsize * (warps * 16 * (padded + 4) + padded)
    return rows + centers * (4 + 2 * (padded + 32))


def _tensor_plan(X, centers):
    """Return (warps of a block, centres of a call) for `tensor`, or None where it has no place."""
    k, d = centers.shape
    if not 8 <= d <= 256 or _capability() < 80:
        return None
    plans = []
    for warps in (4, 8, 16):
        rows = _tensor_bytes(warps, 0, d, X.dtype)
        room = _attribute("MaxSharedMemoryPerBlockOptin") - rows
        most = room // (_tensor_bytes(warps, 1, d, X.dtype) - rows) // 32 * 32
        plans.append((min(most, 256, -(-k // 32) * 32), warps))
    most, warps = max(plans)
    return (warps, most) if most > 0 else None


@np.errstate(over="ignore", invalid="ignore")
def _scores(centers, padded):
    """Return what `tensor` needs to know of the centres: themselves, weights, constants, middle; scale, slack, floor.

    A score is |scale (row - centre)|^2 less what is the same for all centres: a sum of d products of numbers rounded to
    half precision (off by a share `half`, or by `tiny` where they are subnormal), added up in float32, with its lowest
    four bits overwritten. |scale (centre - middle)| is at most 1, and so a weight is at most 2 long. With L for
    |scale (row - middle)|, a score is off by at most slack x L + floor; the kernel gets twice that, for two scores.
    padded: how many centres there are with those that fill up the last call; no row is near them.
    """
    k, d = centers.shape
    exact = centers.astype(np.float64)
    middle = exact.mean(axis=0).astype(centers.dtype).astype(np.float64)
    apart = exact - middle
    squared = (apart**2).sum(axis=1)
    longest = np.sqrt(squared.max())
    scale = 2.0 ** -np.ceil(np.log2(max(longest, 1e-30)))  # at most what float32 holds
    weights = np.zeros((padded, -(-d // 32) * 32), np.float16)
    weights[:k, :d] = -2 * scale * apart
    constants = np.full(padded, 3e38, np.float32)
    constants[:k] = scale**2 * squared
    shift = np.zeros(weights.shape[1], centers.dtype)
    # so far apart that no score tells: of a row whose length is not a number, all centres are compared
    shift[:d] = -scale * middle if longest < np.inf else np.nan
    half, tiny, added = 2.0**-11, 2.0**-25 * np.sqrt(d), (d + 9) * 2.0**-23 + 2.0**-19
    slack = 2 * (2 * half + half**2 + added) + tiny
    floor = added + 2 * tiny + tiny**2
    bounds = (np.float32(2.02 * bound) for bound in (slack, floor))
    return *_to_gpu(centers, weights, constants, shift), centers.dtype.type(scale), *bounds


def _tensor(X, plan, scores, found=(0, 0), sums=None):
    """Run `tensor` for all centres: fill labels and distances, or add to sums: parts, counts and inertia."""
    warps, most = plan
    placed, weights, constants, *bounds = scores
    k, d = placed.shape
    sizes = {"D": d, "KT": most, "WARPS": warps, "LAYOUT": _layout(X), "SUMS": int(bool(sums))}
    kernel = _kernel("tensor", X.dtype.name, **sizes)
    shared = _tensor_bytes(warps, most, d, X.dtype)
    kernel.max_dynamic_shared_size_bytes = shared
    blocks = min(_resident_blocks(kernel, 32 * warps, shared), -(-len(X) // (16 * warps)))
    wanted = *found, *((np.int32(len(sums[0])), *sums) if sums else (np.int32(0), 0, 0, 0))
    for base in range(0, k, most):
        part = slice(base, base + most)
        rows = X, np.int64(len(X)), np.int32(min(most, k - base)), *_steps(X)
        known = placed[part], weights[part], constants[part], *bounds, np.int32(base)
        kernel((blocks,), (32 * warps,), (*rows, *known, *wanted), shared_mem=shared)


def _tensor_step(X, centers, plan):
    """Return sums, counts and inertia, NumPy; for no more clusters than `tensor` takes in one call."""
    import cupy

    k, d = centers.shape
    scores = _scores(centers, plan[1])
    size = k * d * X.itemsize  # of a replica of the sums; behind all of them come the counts
    replicas = max(1, min(plan[0] * _attribute("MultiProcessorCount"), MOST_BYTES // size))
    added = cupy.empty(replicas * (size + 4 * k), np.uint8)
    parts = added[: replicas * size].view(X.dtype).reshape(replicas, k, d)
    counted = added[replicas * size :].view(np.uint32).reshape(replicas, k)
    total = cupy.zeros(k * (d + 1) + 1)
    for start in range(0, len(X), SHORT * replicas):
        added.fill(0)
        rows = X[start : start + SHORT * replicas]
        _tensor(rows, plan, scores, sums=(parts, counted, total[-1:]))
        _add_parts(parts, total[: k * d])
        _add_parts(counted, total[k * d : -1])
    total = total.get()
    return total[: k * d].reshape(k, d), total[k * d : -1].astype(np.int64), float(total[-1])


# --- anything else -----------------------------------------------------------------------------------------------


def _direct(X, centers, labels, distances):
    import cupy

    k, d = centers.shape
    lanes = 16  # threads that share eight rows: few for few centres, as far as the rows fit shared memory
    while lanes > 1 and 2 * lanes >= k and min(d, 16) * X.itemsize * 4096 // lanes <= 40_000:
        lanes //= 2
    kernel = _kernel("direct", X.dtype.name, D=min(d, 16), LANES=lanes, LAYOUT=_layout(X))
    blocks = min(_resident_blocks(kernel, THREADS), -(-len(X) * lanes // (8 * THREADS)))
    rows = X, np.int64(len(X)), np.int32(d), np.int32(k), *_steps(X)
    kernel((blocks,), (THREADS,), (*rows, cupy.asarray(centers), labels, distances))


def nearest(X, centers):
    """Return what `step.nearest` says, CuPy."""
    import cupy

    labels, distances = cupy.empty(len(X), np.int32), cupy.empty(len(X), X.dtype)
    if len(X) and (plan := _tensor_plan(X, centers)):
        scores = _scores(centers, -(-len(centers) // plan[1]) * plan[1])
        _tensor(X, plan, scores, found=(labels, distances))
    elif len(X):
        _direct(X, centers, labels, distances)
    return labels, distances


def _add_up_plan(dtype, k, columns):
    """Return width, groups and height of `add_up`, and its grid: three blocks share a multiprocessor's memory."""
    most = _attribute("MaxSharedMemoryPerMultiprocessor") // 3 - 1024
    room = min(_attribute("MaxSharedMemoryPerBlockOptin"), most) // dtype.itemsize
    height = min(k, room)
    width = min(columns, room // height, THREADS)
    groups = min(room // (height * width), THREADS // width)
    across = -(-columns // width), -(-k // height)
    ranges = 3 * _attribute("MultiProcessorCount") // (across[0] * across[1])
    ranges = max(1, min(ranges, MOST_SUMS // (8 * k * columns)))
    return width, groups, height, (ranges, *across)


def _add_up(X, centers, labels, wanted):
    """Return the sums of so many features, and the number, of each cluster's labelled rows: float64 (k, wanted + 1)."""
    import cupy

    k, d = centers.shape
    width, groups, height, grid = _add_up_plan(X.dtype, k, wanted + 1)
    kernel = _kernel("add_up", X.dtype.name)
    sums = cupy.empty((grid[0], k, wanted + 1))
    shared = groups * height * width * X.itemsize
    kernel.max_dynamic_shared_size_bytes = shared
    rows = X, np.int64(len(X)), np.int32(d), np.int32(k), *_steps(X)
    sizes = (np.int32(size) for size in (wanted, width, groups, height))
    arguments = *rows, cupy.asarray(centers), labels, sums, *sizes
    kernel(grid, (width * groups,), arguments, shared_mem=shared)
    total = cupy.zeros(sums.shape[1:])
    _add_parts(sums, total)
    return total


def _labelled_step(X, centers, wanted):
    """Return the sums of so many features, counts and inertia, by way of labels; CuPy."""
    import cupy

    placed, clusters = cupy.asarray(centers), cupy.zeros((len(centers), wanted + 1))
    inertia = cupy.zeros(())
    ranges = _add_up_plan(X.dtype, len(centers), wanted + 1)[3][0]
    at_once = min(AT_ONCE, SHORT * ranges)
    for start in range(0, len(X), at_once):
        rows = X[start : start + at_once]
        labels, distances = nearest(rows, centers)
        if wanted or len(centers) <= THREADS:
            clusters += _add_up(rows, placed, labels, wanted)
        else:  # so many counters that few rows meet at one
            clusters[:, 0] += cupy.bincount(labels, minlength=len(centers))
        inertia += distances.sum(dtype=np.float64)
    return clusters[:, :-1], clusters[:, -1], inertia


# --- what step.py asks for ---------------------------------------------------------------------------------------


def step(X, centers):
    """Return what `step.step` says, NumPy."""
    if len(X) and is_narrow(X, centers):
        return _narrow_step(X, centers)
    plan = _tensor_plan(X, centers)
    if plan and plan[1] >= len(centers):
        return _tensor_step(X, centers, plan)
    sums, counts, inertia = _labelled_step(X, centers, centers.shape[1])
    return sums.get(), counts.get().astype(np.int64), float(inertia)


def weigh(X, candidates):
    """Return what `step.weigh` says, NumPy."""
    if len(X) and is_narrow(X, candidates):
        return _narrow_step(X, candidates)[1:]
    _, counts, inertia = _labelled_step(X, candidates, 0)
    return counts.get().astype(np.int64), float(inertia)


@functools.cache
def _dice_kernel():
    import cupy

    return cupy.ElementwiseKernel(
        "T chance, float64 factor, uint64 seed, uint64 first",
        "bool chosen",
        """
        unsigned long long z = seed + (first + i + 1) * 0x9E3779B97F4A7C15ULL;
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ULL;
        z = (z ^ (z >> 27)) * 0x94D049BB133111EBULL;
        double dice = ((z ^ (z >> 31)) >> 11) * 0x1p-53;
        chosen = dice < factor * (double)chance;
        """,
        "dice",
    )


def chosen(chance, factor, seed, first):
    """Return the indices of the elements whose dice are below factor x chance; dice by splitmix64, as in cpu.py."""
    import cupy

    dice = _dice_kernel()(chance, np.float64(factor), np.uint64(seed), np.uint64(first))
    return cupy.flatnonzero(dice)
