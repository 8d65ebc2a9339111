"""The recorded benchmark of k-means, and tables of it that name the machine it was recorded on.

from tutorial import recorded
bench = recorded.benchmark()           # a line for each figure; `make bench` records
recorded.table(columns, rows, "Steps")
"""

import functools
import json

from tutorial import figures
from tutorial.flights import DATA

import pandas as pd
from IPython.display import HTML

FILE = DATA / "bench-2-x-nvidia-h100-80gb-hbm3.json"
H200 = DATA / "bench-1-x-nvidia-h200.json"  # the step and the copy alone
# what the maker of the recorded machine's GPU (H100 SXM) says of it, without sparsity: bytes or operations a second.
# A multiplication with an addition counts as two operations, and is one instruction: https://www.nvidia.com/en-us/data-center/h100/
PEAKS = {"memory": 3.35e12, "float32": 67e12, "TF32": 494.5e12, "float16": 989.5e12}


@functools.cache
def _read(file):
    """Return what the file holds."""
    return json.loads(file.read_text(encoding="utf-8"))


def machine(file=FILE):
    """Return the hardware that a benchmark was recorded on."""
    return _read(file)["ran_on"].split(",")[0]


def benchmark(file=FILE):
    """Return the recorded figures as a DataFrame, a line each.

    what: which part of the benchmark; engine, rows, features, clusters, dtype, devices: what ran; seconds: a median
    of three or more; iterations, inertia, step, differ: where the part has them.
    """
    return pd.DataFrame(_read(file)["results"])


def table(columns, rows, caption="", files=(FILE,)):
    """Return figures.table in one line that begins with the machine: an output may name its engines only there."""
    shown = figures.table(columns, rows).data.replace("\n", "")
    machines = "; ".join(map(machine, files))
    return HTML(f"<p>\nRecorded on: {machines}. {caption}</p>{shown}")


def limits(bench):
    """Return a line for each type and number of rows: the seconds of a copy and of a step, and the step's share.

    The share: the bytes that a step reads in a second, of those that a copy reads and writes. Two features.
    """
    lines = bench.query("what == 'limit'")
    lines = lines.pivot(index=["dtype", "rows"], columns="engine", values="seconds").reset_index()
    return lines.assign(share=lines["copy"] / 2 / lines["step"])


def _ms(seconds):
    """Return seconds as milliseconds, a text of three digits or whole thousands."""
    ms = 1e3 * seconds
    return f"{ms:,.3g}" if ms < 1000 else f"{ms:,.0f}"


def fits(bench):
    """Return whole fits from a given start, with all iterations done, as a table: sizes x engines, milliseconds.

    An engine that takes any number of devices is shown with the number that suits it best, after a slash. Missing is
    what was not measured. Returns (columns, rows); in each row the shortest time is marked by a star.
    """
    lines = bench.query("what == 'iterations'").copy()
    shape = ["dtype", "rows", "features", "clusters"]
    lines = lines[lines["iterations"] == lines.groupby(shape)["iterations"].transform("max")]
    lines = lines.loc[lines.groupby([*shape, "engine"])["seconds"].idxmin()]
    engines = list(dict.fromkeys(lines.sort_values("seconds")["engine"]))
    rows = []
    for names, part in lines.groupby(shape):
        found = part.set_index("engine")
        best = found["seconds"].idxmin()
        cells = []
        for name in engines:
            if name not in found.index:
                cells.append("")
                continue
            devices = f" / {found.devices[name]}" if found.devices[name] > 1 else ""
            star = " *" if name == best else ""
            cells.append(f"{_ms(found.seconds[name])}{devices}{star}")
        dtype, n, d, k = names
        rows.append([f"{n:,} x {d}, k={k}, {dtype}", *cells])
    return ["rows x features, clusters, type", *engines], rows


def winners(bench):
    """Return, for each number of features (rows) and clusters (columns) of the grid, the fastest engine and its ms.

    Behind it stands what our module took, on the number of devices that suits it best. Returns (columns, rows).
    """
    grid = bench.query("what == 'grid'")
    clusters = sorted(grid["clusters"].unique())
    rows = []
    for d, part in grid.groupby("features"):
        row = [f"{int(part['rows'].iloc[0]):,} x {d}"]
        for k in clusters:
            cell = part[part["clusters"] == k].sort_values("seconds")
            best, own = cell.iloc[0], cell[cell["engine"] == "our module"].iloc[0]
            row.append(f"{best.engine} {_ms(best.seconds)} ms, our module {_ms(own.seconds)} ms")
        rows.append(row)
    return ["rows x features", *[f"{k} clusters" for k in clusters]], rows
