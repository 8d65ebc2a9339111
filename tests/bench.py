"""Run the k-means benchmark on the machine at hand; print a table and keep the figures.

    python -m tests.bench [FILE [OPTION ...]]    # FILE: data/bench-<hardware>.json; OPTION: pytest's, as -k cuML

The file holds the hardware and versions, and for each engine, size, type and number of devices the median seconds of a
call, the longest call over the shortest, its inertia per row (of a whole fit, over the ideal one), and of an iteration
on Dask the slowest worker's step.
Exit status 1 if a case fails.
"""

import json
import re
import statistics
import sys
import tempfile
from importlib.metadata import distributions
from pathlib import Path

from tutorial import device

import pandas as pd
import pytest

from tests.books import ROOT

KEYS = ["rows", "features", "clusters"]
KEPT = ["what", "engine", *KEYS, "dtype", "devices", "iterations", "inertia"]
MORE = ["step", "settings", "differ", "gap"]  # of some lines
OTHERS = ["flash-kmeans", "torch", "triton"]  # whose versions are told, where they are installed


def measure(more):
    """Run the benchmark, with more options of pytest; return its results, dictionaries, and pytest's status."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder, "report.json")
        options = ["-p", "benchmark", "-n0", "-p", "no:cacheprovider", "--benchmark-quiet"]
        status = pytest.main(
            ["tests/bench_kmeans.py", *options, f"--benchmark-json={report}", *more]
        )
        if not report.exists():
            sys.exit("Nothing was measured: no case ran, or several processes do (pytest -n).")
        found = json.loads(report.read_text(encoding="utf-8"))["benchmarks"]
    results = []
    for item in found:
        result = {key: item["extra_info"].get(key) for key in KEPT}
        if result["inertia"] is not None:
            result["inertia"] = float(f"{result['inertia']:.7g}")
        extra = {
            key: item["extra_info"][key] for key in MORE if item["extra_info"].get(key) is not None
        }
        median = statistics.median(item["stats"]["data"])
        seconds = (median - item["extra_info"].get("less", 0)) / item["extra_info"].get("calls", 1)
        spread = round(max(item["stats"]["data"]) / min(item["stats"]["data"]), 3)
        results.append(result | extra | {"seconds": round(seconds, 7), "spread": spread})
    return results, status


def table(results):
    """Return the results as text: a line each, with how many times the fastest of its size it took."""
    frame = pd.DataFrame(results)
    fastest = frame.groupby(["what", *KEYS])["seconds"].transform("min")
    best = frame.groupby(["what", *KEYS])["inertia"].transform("min")
    frame["x fastest"] = frame["seconds"] / fastest
    frame["inertia / best"] = frame["inertia"] / best
    columns = [
        "what",
        "engine",
        *KEYS,
        "dtype",
        "devices",
        "seconds",
        "x fastest",
        "inertia / best",
    ]
    return frame[columns].to_string(index=False, float_format="%.4g")


def file_name():
    """Return where figures of this machine are kept: by the names of its GPUs, or its cores."""
    hardware = device.machine().split(",")[0]
    return ROOT / "data" / f"bench-{re.sub('[^a-z0-9]+', '-', hardware.lower())}.json"


def main(arguments):
    """Measure, print, keep; return the exit status."""
    results, status = measure(arguments[1:])
    others = {each.metadata["Name"]: each.version for each in distributions()}
    ran_on = ", ".join([device.machine(), *(f"{n} {others[n]}" for n in OTHERS if n in others)])
    print(f"{ran_on}\n{table(results)}")
    path = Path(arguments[0]) if arguments else file_name()
    lines = ",\n".join(json.dumps(result) for result in results)
    path.write_text(
        f'{{"ran_on": {json.dumps(ran_on)}, "results": [\n{lines}\n]}}\n', encoding="utf-8"
    )
    print(f"kept in {path}")
    return int(status)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
