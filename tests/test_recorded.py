"""What the recorded benchmarks must show: notebook 5's prose rests on it."""

import json

import pandas as pd

from tests.books import ROOT

H200S = "bench-2-x-nvidia-h200.json"


def took(file, what, engine, rows, dtype="float32", devices=1, field="seconds"):
    """Return a figure of one line of a recorded benchmark."""
    bench = json.loads((ROOT / "data" / file).read_text(encoding="utf-8"))
    frame = pd.DataFrame(bench["results"])
    wanted = {"what": what, "engine": engine, "rows": rows, "dtype": dtype, "devices": devices}
    for name, value in wanted.items():
        frame = frame[frame[name] == value]
    [figure] = frame[field]
    return figure


def test_a_billion_points_in_half_a_second():
    """Two H200s, float32: start and iterations; the inertia within a thousandth of its ideal."""
    fit = {
        field: took(H200S, "whole fit", "kmeans.py", 10**9, devices=2, field=field)
        for field in ("seconds", "inertia", "iterations")
    }
    assert fit["seconds"] < 0.5 and fit["iterations"] <= 20
    assert abs(fit["inertia"] - 1) < 1e-3
    assert took(H200S, "whole fit", "cuML, MNMG", 10**9, "float64", 2) > fit["seconds"]


def test_dask_adds_less_than_ten_milliseconds_to_an_iteration():
    """Over a billion rows, on one GPU and on two: a whole iteration less its slowest step."""
    for devices in (1, 2):
        whole, step = (
            took(H200S, "iteration", "kmeans.py", 10**9, devices=devices, field=field)
            for field in ("seconds", "step")
        )
        assert whole - step < 0.010


def test_wide_data_take_no_longer_than_cuml():
    """10M x 128 rows, k=256, float32, on two GPUs."""
    ours, theirs = (
        took(H200S, "iterations", engine, 10**7, devices=2)
        for engine in ("kmeans.py", "cuML, MNMG")
    )
    assert ours <= theirs


def test_flash_kmeans_wins_on_wide_data_and_loses_on_narrow():
    """As the prose says: if this fails after a new recording, the prose is wrong."""
    for rows, flash_wins in {10**7: True, 10**8: False}.items():
        ours, flash = (
            took(H200S, "iterations", engine, rows) for engine in ("kmeans.py", "flash-kmeans")
        )
        assert (flash < ours) == flash_wins
