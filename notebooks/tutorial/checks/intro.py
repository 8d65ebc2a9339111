"""The checks of notebook 1: workers, futures, chunks."""

from tutorial.checks.core import count_workers, host, kind, step

import dask
import dask.array as da
import numpy as np
from dask.distributed import Future


@step("submit-and-wait", "store the eight results in `results`, in order.")
def check_submitted(results):
    """`result()` waits. Submit everything first, and then ask for the results."""
    if not isinstance(results, (list, tuple)):
        return f"`results` is {kind(results)}: a list of eight results is needed."
    if any(isinstance(each, Future) for each in results):
        return "`results` holds futures: gather their results."
    if [number for number, *_ in results] != list(range(8)):
        return "The results should be those of job(0) to job(7), in this order."
    began, ended = zip(*(times for _, *times in results), strict=True)
    together = sum(
        b < e for b in began for e in ended
    )  # 8 * 9 / 2 where each waits for the one before
    if count_workers() > 1 and together <= 36:
        return (
            "No two jobs ran at the same time. Does a line wait before the next job is submitted?"
        )


@step("which-failed", "store the place of the future that failed in `failed`.")
def check_failed(futures, failed):
    """The scheduler knows how each task ended; no result had to come here."""
    wrong = [number for number, future in enumerate(futures) if future.status == "error"]
    if isinstance(failed, Future):
        return "`failed` is a future: its place in the list is wanted."
    if failed in (wrong, tuple(wrong), set(wrong)):
        return None
    return None if [failed] == wrong else f"{failed!r} is not it. Look for the status 'error'."


@step("fewer-chunks", "make `fewer` of `scattered`, four chunks for each worker.")
def check_fewer(scattered, fewer):
    """`rechunk` only changes the plan. Better still is to choose the chunks where the array is made."""
    if not isinstance(fewer, da.Array):
        return f"`fewer` is {kind(fewer)}: a Dask array is needed."
    if fewer.shape != scattered.shape or fewer.dtype != scattered.dtype:
        return "`fewer` should have the shape and the type of `scattered`."
    workers = count_workers()
    if fewer.npartitions != 4 * workers:
        return f"`fewer` has {fewer.npartitions} chunks; {workers} worker(s) make {4 * workers}."
    if not np.array_equal(host(fewer), host(scattered)):
        return "`fewer` should hold the same numbers, in the same order."


@step("three-numbers", "store the smallest number, the largest and the mean in `answer`.")
def check_three(X, answer):
    """`dask.compute` merges the plans: each chunk is read once for all three."""
    if isinstance(answer, da.Array) or any(isinstance(each, da.Array) for each in answer):
        return "The answer is still lazy: compute all three in one call."
    if len(answer) != 3:
        return f"Three numbers are needed, there are {len(answer)}."
    right = [float(each) for each in dask.compute(X.min(), X.max(), X.mean())]
    if not np.allclose([float(each) for each in answer], right, rtol=1e-6, atol=1e-9):
        return "The numbers are not those of `X`, in the order smallest, largest, mean."
