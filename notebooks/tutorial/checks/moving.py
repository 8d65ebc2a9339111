"""The checks of Moving and spilling: joins, memory, types."""

from tutorial.checks.core import host, kind, step

import dask.dataframe
import numpy as np


@step("no-row-moves", "store the lazy join of `homes` and `prices` in `joined`.")
def check_unmoved(homes, prices, joined):
    """A frame of one partition is sent to the rows. They stay in their partitions."""
    if not isinstance(joined, dask.dataframe.DataFrame):
        return f"`joined` is {kind(joined)}: a Dask DataFrame is needed, the join itself."
    missing = {*homes.columns, *prices.columns} - {*joined.columns}
    if missing:
        return f"`joined` has no column {', '.join(sorted(missing))}."
    columns = ["ride", "home", "price"]
    parts = [joined.partitions[n][columns] for n in range(joined.npartitions)]
    parts = [host(part.astype("float64").fillna(-1)) for part in dask.compute(*parts)]
    rows = np.concatenate(parts)
    if len(rows) != len(homes):
        return f"`joined` has {len(rows):,} rows, `homes` has {len(homes):,}: how='left' keeps all."
    whole = homes.merge(prices.repartition(npartitions=1), on="key", how="left")[columns]
    right = host(whole.astype("float64").fillna(-1))  # NaN equals no NaN
    by_ride = [each[np.argsort(each[:, 0])] for each in (rows, right)]
    if not np.array_equal(*by_ride):
        return "Some rides have another price than `prices` gives their key: join on the key."
    numbers = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
    moved = np.mean(rows[:, 1] != numbers)
    if moved > 0:
        return f"{moved:.0%} of the rows of `homes` have moved. How many partitions has `prices`?"


def kept(uses, room):
    """Return which names are in a memory with room for `room` of them, after `uses`: last used, last out."""
    inside = []
    for name in uses:
        inside = [other for other in inside if other != name] + [name]
        inside = inside[-room:]
    return set(inside)


def oldest_out(uses, room):
    """Return the same where the one that came in first leaves first, however often it was used since."""
    inside = []
    for name in uses:
        if name not in inside:
            inside = [*inside, name][-room:]
    return set(inside)


@step("who-stays", "store the letters of the three partitions in `answer`, in any order.")
def check_stays(uses, answer):
    """Each use makes a partition the newest. The one that was used longest ago leaves."""
    if not isinstance(answer, (str, list, tuple, set, frozenset)):
        return f"`answer` is {kind(answer)}: three letters are needed, such as 'ABC'."
    letters = [letter for letter in "".join(answer).upper() if letter not in " ,"]
    strange = set(letters) - set(uses)
    if strange:
        return f"There is no partition {', '.join(sorted(strange))}."
    if set(letters) == kept(uses, 3):
        return None
    if len(set(letters)) != 3:
        return f"There is room for three partitions, and after {len(uses)} uses it is full."
    if set(letters) == oldest_out(uses, 3):
        return "That is the memory if the partition that came in first left first. Which was used longest ago?"
    return "Write down, after each use, the three letters in the order of their last use."


@step("slim-types", "store `part` with smaller types in `slim`.")
def check_slim(part, slim):
    """Smaller types cost nothing to use, and nothing has to spill. Choose them where the frame is made."""
    if dask.is_dask_collection(slim):
        (slim,) = dask.compute(slim)
    if not hasattr(slim, "columns"):
        return f"`slim` is {kind(slim)}: a DataFrame is needed."
    if [*slim.columns] != [*part.columns] or len(slim) != len(part):
        return "`slim` should have the columns and the rows of `part`."
    for name in part.columns:
        found, right = (host(frame[name].astype("float64")) for frame in (slim, part))
        if not np.array_equal(found, right):
            return (
                f"`{name}` has other values than before: its numbers go from {right.min():.0f} to "
                f"{right.max():.0f}, and {slim[name].dtype} does not hold them all."
            )
    size = int(slim.memory_usage(index=False).sum()) / len(slim)
    if size > 8:
        types = ", ".join(f"{name} {slim[name].dtype}" for name in slim.columns)
        return f"A row takes {size:.1f} bytes ({types}); at most 8 are asked for."
