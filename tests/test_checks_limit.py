"""The checks of deeper/KMeans_at_the_Limit: the stub is to do, wrong work gets a true hint, right work is solved."""

from tutorial import recorded
from tutorial.checks import check

import numpy as np
import pytest

BENCH = recorded.benchmark()
[COPY] = BENCH.query("what == 'limit' and engine == 'copy' and rows == 1_000_000_000")["seconds"]
TWO = BENCH.query("what == 'iteration' and features == 2").set_index("devices")
OTHER, SLOPE = TWO["seconds"] - TWO["step"], TWO["step"][1] / 1e9
EVEN = 2 * (OTHER[2] - OTHER[1]) / SLOPE


@pytest.mark.parametrize(
    ("least", "says"),
    [
        (..., "To do: store the milliseconds"),
        (500 * COPY, "Solved: "),
        (np.float32(500 * COPY), "Solved: "),
        (round(500 * COPY, 1), "Solved: "),
        (1000 * COPY, "Wrong: That is the copy itself"),
        (COPY / 2, "Wrong: These are seconds"),
        (2000 * COPY, "Wrong: That is twice the copy's time"),
        (1, "Wrong: The copy of a billion float32 rows took"),
        ("fast", "Wrong: The check stopped with ValueError"),
    ],
)
def test_least(least, says):
    assert repr(check("least-time", least)).startswith(says)


@pytest.mark.parametrize(
    ("roofs", "says"),
    [
        (..., "To do: store the three roofs"),
        (["memory", "float32", "instructions"], "Solved: "),
        ("Memory, float32, instructions", "Solved: "),
        (["memory", "instructions", "instructions"], "Solved: "),  # in a product they are one roof
        ({"A": "memory", "B": "float32", "C": "instructions"}, "Solved: "),
        (["instructions", "float32", "memory"], "Wrong: A: "),
        (["memory", "memory", "instructions"], "Wrong: B: "),
        (["memory", "float32", "memory"], "Wrong: C: "),
        (["memory", "float32", "float32"], "Wrong: C: "),
        (["memory", "float32"], "Wrong: Three of the words"),
        ("cache, float32, memory", "Wrong: Three of the words"),
    ],
)
def test_roofs(roofs, says):
    assert repr(check("which-roof", roofs)).startswith(says)


@pytest.mark.parametrize(
    ("even", "says"),
    [
        (..., "To do: store the number of rows"),
        (EVEN, "Solved: "),
        (int(1.04 * EVEN), "Solved: "),
        (np.array(EVEN), "Solved: "),
        (EVEN / 2, "Wrong: Two devices save half of the step"),
        (2 * OTHER[2] / SLOPE, "Wrong: One device has other costs"),
        (EVEN / 1000, "Wrong: That is off by a thousand"),
        (10 * EVEN, "Wrong: With "),
        (1, "Wrong: With 1 rows, an iteration on two devices is longer"),
        ("many", "Wrong: The check stopped with ValueError"),
    ],
)
def test_even(even, says):
    assert repr(check("break-even", even)).startswith(says)


def test_each_line_of_the_fits_has_one_winner():
    columns, rows = recorded.fits(BENCH)
    assert len(rows) == 12
    assert all(len(row) == len(columns) for row in rows)
    assert all(sum("*" in cell for cell in row) == 1 for row in rows)


def test_the_winners_are_those_of_the_grid():
    """flash-kmeans wins every cell, which the notebook says."""
    columns, rows = recorded.winners(BENCH)
    assert columns[1:] == ["5 clusters", "64 clusters", "256 clusters"] and len(rows) == 4
    assert all(cell.startswith("flash-kmeans ") for row in rows for cell in row[1:])


def test_a_table_names_the_machine_in_its_line():
    """An output of a CPU run may name a GPU's engine on such a line alone."""
    shown = recorded.table(*recorded.fits(BENCH), "Whole fits.").data
    named = [line for line in shown.splitlines() if "cuML" in line]
    assert named and all(line.startswith("Recorded on: 2 x NVIDIA H100") for line in named)


def test_no_share_of_a_roof_is_above_one():
    """The wide steps' operations and bytes, by the peaks that the maker names."""
    steps = BENCH.query("what == 'step' and features == 128").set_index("engine")["seconds"]
    work, moved = 2 * 1e7 * 128 * 256, 4 * 1e7 * 128
    units = {"our module": "float16", "flash-kmeans": "TF32", "matrix product": "float32"}
    for engine, unit in units.items():
        assert max(work / recorded.PEAKS[unit], moved / recorded.PEAKS["memory"]) < steps[engine]
