"""The checks of notebook 3: rows held out, depth, a fair comparison."""

from tutorial.checks.core import count_workers, host, kind, step

import dask.array as da
import numpy as np


def names_of(rows):
    """Return each row of a host array (n, d) as bytes: what makes it known again."""
    return [row.tobytes() for row in np.ascontiguousarray(rows)]


@step("hold-out-again", "store the two lazy Dask arrays in `second_train` and `second_test`.")
def check_second_split(X, X_test, second_train, second_test):
    """Whole chunks, the same number from each worker: no row moves, and no row is on both sides.

    X: Dask array (n, d) whose chunks the workers hold in turn. X_test: held out before. The rest: the learner's.
    """
    answers = {"second_train": second_train, "second_test": second_test}
    for name, rows in answers.items():
        if not isinstance(rows, da.Array) or rows.ndim != 2:
            return f"`{name}` is {kind(rows)}: a Dask array of rows of `X` is needed."
    workers, home = count_workers(), {}
    for number, chunk in enumerate(X.blocks[n] for n in range(X.numblocks[0])):
        home |= dict.fromkeys(names_of(host(chunk)), number % workers)
    found, mixed = {}, 0
    for name, rows in answers.items():
        chunks = [names_of(host(rows.blocks[n])) for n in range(rows.numblocks[0])]
        found[name] = [row for chunk in chunks for row in chunk]
        if not set(found[name]) <= set(home):
            return f"`{name}` has rows that `X` does not have."
        mixed += sum(len({home[row] for row in chunk}) > 1 for chunk in chunks)
    train, test = found["second_train"], found["second_test"]
    both = len(set(train) & set(test))
    if both:
        return (
            f"{both:,} held-out rows are training rows, too: that leaks. Which rows has `X_train`?"
        )
    before = len(set(test) & set(names_of(host(X_test))))
    if before:
        return f"{before:,} rows were held out before: hold out others."
    if len(train) + len(test) != len(home):
        return f"`X` has {len(home):,} rows, the two parts together {len(train) + len(test):,}."
    if not 0.19 < len(test) / len(home) < 0.21:
        return f"{len(test) / len(home):.0%} of the rows are held out; a fifth is asked for."
    if mixed:
        return f"{mixed} chunk(s) have rows of more than one worker: rows move. Take whole chunks."
    shares = [sum(home[row] == worker for row in test) for worker in range(workers)]
    if max(shares) > 1.1 * min(shares):
        return "The held-out rows do not come from all workers in equal shares. Chunks go to the workers in turn."


@step("smallest-depth", "store the depth in `depth`.")
def check_depth(depths, on_held_out, depth):
    """The held-out curve decides. A deeper forest would cost more and gain less than 0.01."""
    enough = [deep for deep, score in zip(depths, on_held_out, strict=True)
              if score >= max(on_held_out) - 0.01]  # fmt: skip
    if depth not in list(depths):
        return f"{depth!r} is none of the depths {', '.join(map(str, depths))}."
    score = float(on_held_out[list(depths).index(depth)])
    if depth not in enough:
        return f"Its held-out accuracy is {score:.3f}, the best is {max(on_held_out):.3f}."
    if depth != min(enough):
        return f"{score:.3f} is within 0.01 of the best, and so is a smaller depth."


@step("fair-speed-up", "store the fair factor in `fair`.")
def check_fair(timings, fair):
    """All cores against a device that is warm, with the same rows: that is a fair pair."""
    fair = float(fair)
    most = max(rows for _, rows in timings)
    gpu = timings["device, warm", most]
    if np.isclose(fair, timings["16 cores", most] / gpu, rtol=0.01):
        return None
    others = {
        timings["one core", most] / gpu: "That is the slide's factor: fifteen cores rest.",
        timings["16 cores", most] / timings["device, first call", most]: "The first call of "
        "the device includes its start-up.",
        timings["16 cores", min(rows for _, rows in timings)] / gpu: "These two did not "
        "fit the same number of rows.",
        gpu / timings["16 cores", most]: "The right pair, the wrong way round.",
    }
    for factor, hint in others.items():
        if np.isclose(fair, factor, rtol=0.01):
            return hint
    return "Divide the seconds of the CPU by those of the device: same rows, all cores, warm."
