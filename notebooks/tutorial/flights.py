"""Where the data lie: the flights that left New York City in 2013, their weather, planes, airports and airlines.

    from tutorial import flights
    pd.read_parquet(flights.path("weather"))    # one file
    dd.read_parquet(flights.path("flights"))    # a folder, one file a month
    flights.months(pd, paths)                   # months one after another, to have more rows

What the tables hold, their types and their gaps: data/README.md.
"""

import functools
import hashlib
from collections import Counter
from pathlib import Path

DATA = Path(__file__).resolve().parents[2] / "data"
CHECKSUMS = "SHA256SUMS"


class DataError(RuntimeError):
    """A file of data/ is missing, damaged or foreign; the message says what to do. Jupyter shows that one line."""

    def _render_traceback_(self):
        return [f"DataError: {self}"]


@functools.cache
def path(table):
    """Return the absolute path of `table` as a string: a Parquet file, or for "flights" a folder of one a month.

    `table` is airlines, airports, flights, planes or weather; "flights/2013-07" is one month. Every file of it is held
    against its checksum, once a process. Raises DataError if one is missing or damaged, or if the folder of the
    flights holds another: whoever reads the folder would read that, too.
    """
    known = _checksums()
    if f"{table}.parquet" in known:
        _check(f"{table}.parquet", known)
        return str(DATA / f"{table}.parquet")
    names = [name for name in known if name.startswith(f"{table}/")]
    if not names:
        tables = sorted({name.split("/")[0].removesuffix(".parquet") for name in known})
        raise DataError(f"There is no table {table!r}. There are: {', '.join(tables)}.")
    for name in names:
        _check(name, known)
    for file in sorted((DATA / table).iterdir()):
        name = f"{table}/{file.name}"
        if name not in known and not file.name.startswith((".", "_")):  # hidden from readers, too
            raise DataError(f"data/{name} is not part of the data. Move it out of data/{table}.")
    return str(DATA / table)


def months(library, paths, columns=("origin", "hour", "time_hour", "arr_delay")):
    """Return the months in `paths` as one frame of `library`, pandas or cuDF; a path may come many times.

    Each file is read once. The rows come in any order, under an index from 0.
    """
    count = Counter(paths)
    whole = min(count.values())  # so many times all of them, and then what is left
    left = (count - Counter(dict.fromkeys(count, whole))).elements()
    read = {path: library.read_parquet(path, columns=list(columns)) for path in count}
    once = library.concat(list(read.values()))
    return library.concat([once] * whole + [read[path] for path in left], ignore_index=True)


@functools.cache
def _checksums():
    """Return what data/SHA256SUMS says: path below data/ -> SHA-256, hexadecimal. Raises DataError."""
    lines = _content(CHECKSUMS).decode("ascii", errors="replace").splitlines()
    pairs = [line.split() for line in lines]
    if not pairs or not all(len(pair) == 2 and len(pair[0]) == 64 for pair in pairs):
        raise DataError(f"data/{CHECKSUMS} is damaged. {_restore(CHECKSUMS)}")
    return {name: checksum for checksum, name in pairs}


def _check(name, known):
    if hashlib.sha256(_content(name)).hexdigest() != known[name]:
        raise DataError(f"data/{name} is damaged. {_restore(name)}")


def _content(name):
    """Return the bytes of data/`name`. Raises DataError if it cannot be read."""
    try:
        return (DATA / name).read_bytes()
    except FileNotFoundError:
        raise DataError(f"data/{name} is missing. {_restore(name)}") from None
    except OSError as error:
        raise DataError(f"data/{name} cannot be read ({error.strerror}).") from None


def _restore(name):
    return f"Restore it: git checkout data/{name}, or python data/build.py."
