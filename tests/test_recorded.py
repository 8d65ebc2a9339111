"""What the recorded benchmark must show: deeper/KMeans_at_the_Limit and its prose rest on it."""

from tutorial import recorded

import pytest

OURS, FLASH, ONE, MNMG = "our module", "flash-kmeans", "cuML, one GPU", "cuML, MNMG"
NARROW, WIDE = (2, 5), (128, 256)  # features, clusters


# the lines that two H100s recorded, as a DataFrame; `copy` and `step` are engines of "limit"
BENCH = recorded.benchmark()


def line(what, engine, rows, shape=NARROW, dtype="float32", devices=1):
    """Return one line of the recorded benchmark."""
    frame = BENCH
    wanted = {"what": what, "engine": engine, "rows": rows, "dtype": dtype, "devices": devices}
    wanted |= dict(zip(("features", "clusters"), shape, strict=True))
    for name, value in wanted.items():
        frame = frame[frame[name] == value]
    [(_, found)] = frame.iterrows()
    return found


def took(*arguments, **options):
    """Return the seconds of one line."""
    return line(*arguments, **options)["seconds"]


@pytest.mark.parametrize(
    ("rows", "dtype"),
    [(10**8, "float32"), (10**9, "float32"), (5 * 10**7, "float64"), (5 * 10**8, "float64")],
)
def test_the_narrow_step_reads_at_the_speed_of_a_copy(rows, dtype):
    """At least 90 % of the bytes per second that a copy reads and writes."""
    copy, step = (took("limit", engine, rows, dtype=dtype) for engine in ("copy", "step"))
    assert step <= copy / 2 / 0.9


def test_on_faster_memory_the_step_falls_behind_the_copy():
    """An H200 moves 4.3 TB/s, not 2.9: in float32 instructions hold the step up, in float64 (half the rows) less."""
    limits = recorded.limits(recorded.benchmark(recorded.H200))
    shares = limits.set_index(["dtype", "rows"])["share"]
    assert 0.75 < shares["float32"].min() < shares["float32"].max() < 0.9
    assert (
        0.84 < shares["float64"].min()
        and (shares["float64"].to_numpy() > shares["float32"].to_numpy()).all()
    )


def test_a_narrow_step_alone_is_faster_than_flash_kmeans():
    """10M rows, two features, five clusters: the step, its answer on the host, the centroids moved."""
    ours, theirs = (took("step", engine, 10**7) for engine in (OURS, FLASH))
    assert theirs > 5 * ours


def test_a_wide_step_alone_is_faster_than_flash_kmeans():
    """10M x 128, k=256, in the same run; both faster than a matrix product in full float32."""
    ours, theirs, product = (
        took("step", engine, 10**7, WIDE) for engine in (OURS, FLASH, "matrix product")
    )
    assert ours < theirs < product / 2


@pytest.mark.parametrize("shape", [NARROW, WIDE])
def test_labels_are_those_of_float64(shape):
    """Of ten million rows; flash-kmeans, which rounds to TF32, gives thousands of them another label."""
    ours, theirs = (line("labels", engine, 10**7, shape) for engine in (OURS, FLASH))
    assert ours["differ"] < 100 and 1000 < theirs["differ"] < 10_000
    assert ours["gap"] < 1e-6 < theirs["gap"]  # farther by float32's own rounding; by more


def test_no_iteration_is_shorter_than_its_step():
    """On one GPU or two, narrow rows and wide."""
    lines = BENCH.query("what == 'iteration'")
    assert len(lines) == 4 and (lines["seconds"] > lines["step"]).all()


@pytest.mark.parametrize("devices", [1, 2])
def test_ten_times_faster_than_cuml_on_many_narrow_rows(devices):
    """100M x 2 rows, k=5, the same start, 20 iterations, float64; and no worse."""
    ours, theirs = (
        line("iterations", engine, 10**8, dtype="float64", devices=devices)
        for engine in (OURS, MNMG)
    )
    assert ours["iterations"] == theirs["iterations"] == 20
    assert theirs["seconds"] >= 10 * ours["seconds"]
    assert ours["inertia"] <= 1.0001 * theirs["inertia"]


def test_wide_fits_on_one_gpu():
    """10M x 128 rows, k=256, float32: ours is faster than cuML; and no worse than anybody."""
    lines = {engine: line("iterations", engine, 10**7, WIDE) for engine in (OURS, ONE, FLASH)}
    assert {each["iterations"] for each in lines.values()} == {20}
    assert lines[OURS]["seconds"] < lines[ONE]["seconds"]
    best = min(each["inertia"] for each in lines.values())
    assert lines[OURS]["inertia"] <= 1.0001 * best


def test_flash_kmeans_wins_all_of_the_grid():
    """Half a gigabyte, five iterations, whole fits on one GPU or two."""
    grid = BENCH.query("what == 'grid' and dtype == 'float32'")
    assert set(grid["iterations"]) == {5}
    fastest = grid.loc[grid.groupby(["features", "clusters"])["seconds"].idxmin()]
    assert len(fastest) == 12 and set(fastest["engine"]) == {FLASH}


def test_where_two_gpus_beat_one():
    """Wide rows in float64, whose step takes long: our fit and cuML's, and ours is the faster; not 100M narrow rows."""
    ours, theirs = (
        [took("iterations", engine, 10**7, WIDE, "float64", devices) for devices in (1, 2)]
        for engine in (OURS, MNMG)
    )
    assert ours[1] < ours[0] < theirs[1] < theirs[0]
    one, two = (took("iterations", OURS, 10**8, devices=devices) for devices in (1, 2))
    assert one < two < took("iterations", FLASH, 10**8)


def test_no_result_of_the_grid_is_worse():
    """Every engine found the inertia that the others found; devices draw rows of their own."""
    grid = BENCH.query("what == 'grid' and devices == 1")
    inertias = grid.groupby(["features", "clusters"])["inertia"]
    assert (inertias.max() <= 1.01 * inertias.min()).all()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_billion_points_in_less_than_a_second(dtype):
    """Two GPUs, from the start to the labels: within a thousandth of the ideal inertia. cuML takes ten times that."""
    fit = line("whole fit", OURS, 10**9, dtype=dtype, devices=2)
    assert fit["seconds"] < 0.8 and fit["iterations"] <= 20
    assert abs(fit["inertia"] - 1) < 1e-3
    assert took("whole fit", MNMG, 10**9, dtype="float64", devices=2) > 10 * fit["seconds"]


def test_two_gpus_halve_the_step_and_pay_for_messages():
    """A billion narrow rows: what Dask adds to the slowest step."""
    one, two = (line("iteration", OURS, 10**9, devices=devices) for devices in (1, 2))
    assert one["step"] >= 1.8 * two["step"]
    assert one["seconds"] - one["step"] < 0.001
    assert 0.001 < two["seconds"] - two["step"] < 0.005


def test_cumls_settings_change_little():
    """The best is kept; on the device, none of them matters."""
    seconds = BENCH.query("what == 'settings'")["seconds"]
    assert len(seconds) == 5 and seconds.max() < 1.05 * seconds.min()
