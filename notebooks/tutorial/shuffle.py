"""Time a shuffle between this machine's workers, with one or more protocols and shuffle methods.

    python -m tutorial.shuffle --protocol tcp ucx --method tasks --rows 80000000
    python -m tutorial.shuffle --protocol tcp --method tasks p2p --rows 20000000 --record data/shuffle-two-devices.json

Starts a cluster for each protocol, in a process of its own, because a protocol belongs to a cluster. Every row (24
bytes) gets a place by the hash of its key. For each it prints one line of JSON: seconds of the first shuffle, seconds
of a warm one (median of three), protocol, method, rows, bytes, n_workers, and the hardware and versions it ran on.
--record adds the measurements to a file: {"ran_on": hardware and versions, "measurements": [one per line printed]}.

UCX listens on every network interface: use it on a network that you trust.
"""

import argparse
import json
import logging
import sys
from pathlib import Path

from tutorial.device import GPU, machine
from tutorial.measure import seconds

import dask
import dask.dataframe as dd
from dask.distributed import Client, wait

if GPU:
    import cudf
    import cupy as cp
    from dask_cuda import LocalCUDACluster
else:  # no GPU here: the same on the CPU
    from tutorial.cpu_stand_ins import LocalCUDACluster, cp, cudf

ROW_BYTES = 24
PARTS_PER_WORKER = 4  # few: by tasks, each is cut into as many pieces as there are partitions


def make_part(number, rows):
    """Return one partition: `rows` rows of three columns of 8 bytes, no key twice in all partitions."""
    ride = cp.arange(number * rows, (number + 1) * rows, dtype="int64")
    return cudf.DataFrame({"key": ride * 7919 % 1_000_000_007, "ride": ride, "minutes": ride * 0.5})


def measure(client, workers, rows, method):
    """Return (seconds of the first shuffle, seconds of a warm one, rows that came out) for one method."""
    count = PARTS_PER_WORKER * len(workers)
    parts = [
        client.submit(
            make_part, number, rows // count, workers=[workers[number % len(workers)]], pure=False
        )
        for number in range(count)
    ]
    wait(parts)
    table = dd.from_delayed(parts, meta=make_part(0, 0), verify_meta=False)

    def shuffle():
        shuffled = table.shuffle("key").persist()
        wait(shuffled)
        return shuffled

    with dask.config.set({"dataframe.shuffle.method": method}):
        results = []
        first = seconds(lambda: results.append(shuffle()))
        came_out = len(results.pop())
        return first, seconds(shuffle, repeat=3), came_out


def run(protocol, methods, rows):
    """Return one measurement for each method, as dictionaries. Raises AssertionError if a row is lost."""
    options = {"dashboard_address": "127.0.0.1:0", "protocol": protocol}
    if GPU:  # memory from a pool: what NVLink maps once, it need not map again
        options["rmm_pool_size"] = 8 * ROW_BYTES * rows
    measurements = []
    with LocalCUDACluster(**options) as cluster, Client(cluster) as client:
        workers = sorted(client.nthreads())
        rows -= rows % (PARTS_PER_WORKER * len(workers))
        for method in methods:
            first, warm, came_out = measure(client, workers, rows, method)
            assert came_out == rows, f"{protocol}, {method}: {rows - came_out} rows lost"
            measurements.append(
                {
                    "protocol": protocol,
                    "method": method,
                    "rows": rows,
                    "bytes": rows * ROW_BYTES,
                    "n_workers": len(workers),
                    "seconds_first": round(first, 4),
                    "seconds_warm": round(warm, 4),
                }
            )
    return measurements


def record(file, measurements):
    """Add measurements to a file; end with a line that says why if it comes from another machine or version."""
    file = Path(file)
    here = machine()
    known = {"ran_on": here, "measurements": []}
    if file.exists():
        known = json.loads(file.read_text(encoding="utf-8"))
    if known["ran_on"] != here:
        sys.exit(f"{file.name} was recorded on {known['ran_on']}: remove it to record anew.")
    known["measurements"] += measurements
    file.write_text(json.dumps(known, indent=1) + "\n", encoding="utf-8")


def main(arguments=None):
    """Measure, print, and record what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--protocol", choices=["tcp", "ucx"], nargs="+", default=["tcp"])
    parser.add_argument("--method", choices=["tasks", "p2p"], nargs="+", default=["tasks"])
    parser.add_argument("--rows", type=int, default=20_000_000)
    parser.add_argument("--record", metavar="FILE", help="add the measurements to this file")
    options = parser.parse_args(arguments)
    logging.getLogger("distributed.shuffle").setLevel(logging.ERROR)  # p2p announces each shuffle
    measurements = []
    for protocol in options.protocol:
        measurements += run(protocol, options.method, options.rows)
    ran_on = machine()
    for measurement in measurements:
        print(json.dumps({**measurement, "ran_on": ran_on}), flush=True)
    if options.record:
        record(options.record, measurements)


if __name__ == "__main__":
    main()
