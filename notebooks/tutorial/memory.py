"""What the workers say about memory and traffic, for deeper/Moving_and_Spilling: functions for `client.run`.

    client.run(spilled)   # worker -> bytes moved out of the capped memory, and bytes moved back

On a GPU the answers are those of cuDF's spill manager and of RMM, without one those of Dask's own spilling. Which of
them is asked follows from what the process has loaded: to choose a device in every worker would take seconds.
"""

import contextlib
import logging
import sys

from tutorial.measure import seconds

import numpy as np


def quiet():
    """Let a process log nothing about a shuffle, nor about an allocation that fails."""
    for name in ("distributed.shuffle", "distributed.worker"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    if rmm := sys.modules.get("rmm"):  # each allocation that spills first would write a line
        rmm.set_logging_level(rmm.level_enum.critical)


def without_prints(call, *arguments):
    """Return call(*arguments) and drop what it prints, as cuDF does when it finds nothing more to spill."""
    with contextlib.redirect_stdout(None):
        return call(*arguments)


def traffic(dask_worker):
    """Return the bytes that a worker has sent to others as results, and those that p2p shuffles wrote to its files."""
    counts = dask_worker.digests_total
    written = [name for name in counts if name[0] == "p2p" and "disk-write" in name]
    files = sum(counts[name] for name in written if name[-1] == "bytes")
    return np.array([dask_worker.transfer_outgoing_bytes_total, files])


def allocate():
    """Return the milliseconds that a worker takes for a hundred requests of 16 MB, each given back at once."""
    if rmm := sys.modules.get("rmm"):
        took = seconds(lambda: [rmm.DeviceBuffer(size=2**24).size for _ in range(100)], repeat=3)
    else:
        took = seconds(lambda: [np.empty(2**24, "int8").size for _ in range(100)], repeat=3)
    return 1e3 * took


def places(dask_worker):
    """Return the bytes of a worker's rows that lie inside its capped memory, and of those that are spilled."""
    if "cudf" in sys.modules:
        buffers = _spill_manager().buffers()
        inside = sum(buffer.size for buffer in buffers if not buffer.is_spilled)
        return np.array([inside, sum(buffer.size for buffer in buffers) - inside])
    data = dask_worker.data
    return np.array([data.fast.total_weight, data.spilled_total.memory])


def spilled(dask_worker):
    """Return how many bytes a worker has moved out of its capped memory since it started, and how many back."""
    if "cudf" in sys.modules:
        totals = _spill_manager().statistics.spill_totals  # (from, to) -> bytes, seconds
        moved = [totals.get(way, (0, 0))[0] for way in (("gpu", "cpu"), ("cpu", "gpu"))]
    else:
        metrics = dask_worker.data.cumulative_metrics
        moved = [metrics["disk-write", "bytes"], metrics["disk-read", "bytes"]]
    return np.array(moved)


def _spill_manager():
    """Return cuDF's, which is there where a cluster was started with enable_cudf_spill."""
    from cudf.core.buffer.spill_manager import get_global_manager

    return get_global_manager()
