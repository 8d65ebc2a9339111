"""How the notebooks measure: seconds that wait for the GPU, sizes that fit, the name of the library that did the work.

from tutorial.measure import engine, rows_that_fill, seconds
"""

import contextlib
import functools
import gc
import math
import statistics
import sys
import threading
import time
import types

from tutorial import device

# importable package -> the name that a table, a legend or a verdict gives it
ENGINES = {
    "cudf": "cuDF",
    "cuml": "cuML",
    "cupy": "CuPy",
    "dask_cudf": "Dask-cuDF",
    "dask_ml": "Dask-ML",
    "numpy": "NumPy",
    "pandas": "pandas",
    "sklearn": "scikit-learn",
}
_frozen = False  # a timing has left what was alive out of the collections. (Python 3.12 freezes some itself)
_cell_thaws = False  # who takes it back: the end of the cell, or of the timing


def engine(thing):
    """Return the name of the library that does the work of `thing`, for tables, legends and verdicts.

    `thing` is a module, a class, an object or a Dask collection. The name comes from where the code that runs is
    defined, so a label cannot name a library that did not run. Raises TypeError for anything else.
    """
    if hasattr(type(thing), "__dask_graph__"):  # a Dask collection: what its pieces are
        thing = thing._meta
    # by its type alone: to ask a distributed model for an attribute is to ask its workers
    if isinstance(thing, types.ModuleType):
        origins = [thing.__name__]
    else:
        origins = [
            kind.__module__ for kind in (thing if isinstance(thing, type) else type(thing)).__mro__
        ]
    for origin in origins:
        if origin.split(".")[0] in ENGINES:
            return ENGINES[origin.split(".")[0]]
    raise TypeError(f"no engine is known for {thing!r}")


def rows_that_fill(share, row_bytes, otherwise):
    """Return how many rows of `row_bytes` bytes fill `share` (0 to 1) of one GPU; `otherwise` without a GPU.

    The GPU with the least free memory decides: what it had when this process chose its device. Of a GPU that learners
    share, TUTORIAL_GPU_SHARE is this learner's part. Rounded down to whole thousands, so that the count divides well.
    """
    if not device.GPU:
        return otherwise
    room = min(min(gpu.free, device.gpu_share() * gpu.memory) for gpu in device.gpus())
    return int(share * room / row_bytes) // 1000 * 1000


def look_after(shell):
    """Let what the first timing of a cell leaves out of later collections stay out until the cell ends.

    shell: IPython's InteractiveShell. Libraries have so many objects that a collection of all takes longer than a fit.
    """
    global _cell_thaws
    _cell_thaws = True
    shell.events.register("post_run_cell", lambda result: _thaw())


@contextlib.contextmanager
def settled():
    """Collect garbage, and leave what is alive then out of later collections, so that those between timings are short.

    Of timings within timings, the outermost does so. In a notebook the first of each cell does.
    """
    global _frozen
    outermost = not _frozen
    if outermost:
        _collect()
        gc.freeze()
        _frozen = True
    try:
        yield
    finally:
        if outermost and not _cell_thaws:
            _thaw()


def _thaw():
    global _frozen
    if _frozen:
        gc.unfreeze()
        _frozen = False


def seconds(call, repeat=1):
    """Return the median wall-clock seconds of `repeat` calls of `call()`, each until the GPU has finished.

    What earlier calls left is collected before each: Dask would take a result that is still held for the new one.
    """
    # what computes on a GPU has loaded CuPy; to ask for all of RAPIDS would load it in every worker that is timed
    synchronize = _synchronize if device.wanted() != "cpu" and "cupy" in sys.modules else bool
    times = []
    with settled():
        for _ in range(repeat):
            _collect()
            synchronize()
            start = time.perf_counter()
            call()
            synchronize()
            times.append(time.perf_counter() - start)
    return statistics.median(times)


def warm_seconds(call, repeat=3):
    """Return the median wall-clock seconds of `repeat` calls of `call()`, after one to warm up.

    Three are enough for calls that take a second. Those that take milliseconds vary more.
    """
    call()
    return seconds(call, repeat)


def one_thread_each(most):
    """Return a pool for Dask's threaded scheduler: a thread for each core, `most` at most.

    Each task keeps to its thread: OpenMP starts no others. How many cores there are decides nothing but the speed.
    """
    from concurrent.futures import ThreadPoolExecutor

    from dask.system import CPU_COUNT
    from threadpoolctl import threadpool_limits

    return ThreadPoolExecutor(
        min(most, CPU_COUNT), initializer=threadpool_limits, initargs=(1, "openmp")
    )


def crossing(first, second):
    """Return the rows from which `second` is faster than `first`, or None where the order does not turn that way.

    first, second: {rows: seconds}. Between two sizes the curves are taken as straight on logarithmic axes. Where the
    order turns more than once, the first time counts.
    """
    common = sorted(set(first) & set(second))
    lead = [math.log(first[n] / second[n]) for n in common]
    for m, n, before, after in zip(common, common[1:], lead, lead[1:], strict=False):
        if before < 0 <= after:
            return m * (n / m) ** (before / (before - after))
    return None


def best_threads(call):
    """Return with how many threads a call takes the least time: as many as it would take by itself, or ..., 4, 2, 1.

    Threads are those of OpenMP and BLAS. Fewer and fewer are tried, until two numbers in a row take a tenth longer than
    the best so far. Each gets a call to warm up, and then one; of short calls, which vary more, the median of three.
    """
    from threadpoolctl import threadpool_info, threadpool_limits

    call()  # loads the libraries
    most, took = max((pool["num_threads"] for pool in threadpool_info()), default=1), {}
    with settled():
        for threads in sorted(
            {2**power for power in range(most.bit_length())} | {most}, reverse=True
        ):
            with threadpool_limits(threads):
                repeat = 1 if seconds(call) > 0.1 else 3
                took[threads] = seconds(call, repeat)
            if all(time > 1.1 * min(took.values()) for time in list(took.values())[-2:]):
                break
    return min(took, key=took.get)


def fit_seconds(estimator, data, repeat=3):
    """Return the median wall-clock seconds of `repeat` fits of an estimator to data, warm.

    A fit to a NumPy array gets the number of threads that suits it best.
    """
    import numpy as np
    from threadpoolctl import threadpool_limits

    def fit():
        estimator.fit(data)

    fit()
    with settled():
        threads = best_threads(fit) if isinstance(data, np.ndarray) else None
        with threadpool_limits(threads):
            return seconds(fit, repeat)


def fit_curve(model, place, sizes, right, tune=False):
    """Return {rows: seconds of a warm fit} of a model, the median of three fits for each of the sizes.

    place(n) puts n rows where the model wants them. right(model, n) judges the fit that warms up; AssertionError where
    it says no. tune: give the fit the number of threads with which it takes the least time.
    """
    from threadpoolctl import threadpool_limits

    times = {}
    for n in sizes:
        fit = functools.partial(model.fit, place(n))
        fit()  # warm up
        assert right(model, n), f"{n:,} rows: a fit is wrong"
        with settled(), threadpool_limits(best_threads(fit) if tune else None):
            times[n] = seconds(fit, repeat=3)
    return times


def _collect():
    """Collect what is garbage, in a thread of its own: what it finalises would swallow an interrupt of this one."""
    collector = threading.Thread(target=gc.collect)
    collector.start()
    collector.join()


def _synchronize():
    sys.modules["cupy"].cuda.Device().synchronize()
