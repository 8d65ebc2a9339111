"""The checks of K-means by hand: bytes, sums, empty clusters, faults of a step."""

import re

from tutorial.checks.core import host, squared_distances, step

import numpy as np


@step(
    "bytes-travel",
    "store the bytes to all workers in `sent`, and those from all of them in `back`.",
)
def check_bytes(workers, k, d, sent, back):
    """Neither number depends on the rows, so they are small beside what a worker reads."""
    sent, back = (float(host(each)) for each in (sent, back))
    out, answer = 8 * k * d, 8 * (k * d + k + 1)  # of one worker
    if sent == out and back == answer:
        return f"That is one worker's share: there are {workers}."
    if sent == out:
        return f"`sent` is one worker's share: there are {workers}."
    if sent == workers * k * d and back == workers * (k * d + k + 1):
        return "These are numbers. Each takes eight bytes."
    if sent != workers * out:
        return (
            "`sent` is wrong: each worker gets all centroids, d numbers for each of the k clusters."
        )
    if back == workers * 8 * k * d:
        return "In `back`, the counts and the inertia are missing."
    if back == workers * 8 * k * (d + 1):
        return "In `back`, the inertia is missing: one number for each worker."
    if back != workers * answer:
        return "`sent` is right, `back` is not: add sums, counts and one inertia for each worker."


def fault_of_array(function, found, shape):
    """Return what is wrong with what a learner's function has returned for an array of a shape, or None."""
    if found is None:
        return f"`{function}` returns None: it should return the centroids."
    if host(found).shape != shape:
        return f"`{function}` returns an array of shape {host(found).shape}: {shape} is needed."
    return None


@step("combine-sums", "write `combine`, which returns the new centroids.")
def check_combine(combine):
    """One total sum, divided by one total count: a mean of means would be wrong for chunks of other lengths."""
    # here: it loads Numba, and every notebook loads this file
    from tutorial.kmeans import step as one_pass

    random = np.random.default_rng(3)
    rows, centroids = random.normal(size=(600, 3)), random.normal(size=(4, 3))
    answers = [one_pass.step(part, centroids) for part in np.split(rows, [50, 250])]
    moved = combine([tuple(map(np.copy, answer)) for answer in answers], centroids.copy())
    if moved is ...:
        return moved
    if fault := fault_of_array("combine", moved, centroids.shape):
        return fault
    moved = host(moved)
    sums, counts = (sum(answer[part] for answer in answers) for part in (0, 1))
    step = sums / counts[:, None]
    if np.allclose(moved, centroids + step):
        return None
    if np.allclose(moved, step):
        return "These are means of differences: add the centroids that they are differences to."
    if np.allclose(moved, centroids - step):
        return "The sums are of (row - centroid): the centroids move along them, not against them."
    means = [answer[0] / np.maximum(answer[1], 1)[:, None] for answer in answers]
    if np.allclose(moved, centroids + np.mean(means, axis=0)):
        return "This is a mean of the chunks' means, and the chunks have different lengths."
    return "These are not the means of the clusters' rows."


@step("refill-empty", "write `refill`, which returns the centroids.")
def check_refill(refill):
    """A row that fits its own cluster badly is a good place for a new one."""
    random = np.random.default_rng(5)
    for empty in ([2], [0, 3], []):
        rows, centroids = random.normal(size=(200, 2)), random.normal(size=(5, 2))
        centroids[empty] = 50 + np.arange(2 * len(empty)).reshape(-1, 2)
        squared = squared_distances(rows, centroids)
        labels, own = squared.argmin(axis=1), squared.min(axis=1)
        filled = [j for j in range(5) if j in labels]
        try:
            placed = refill(rows.copy(), labels.copy(), centroids.copy())
        except ValueError as error:
            if empty:
                raise
            return (
                f"With no empty cluster, `refill` stops with {error} Beware: `[-0:]` is everything."
            )
        if placed is ...:
            return placed
        if fault := fault_of_array("refill", placed, centroids.shape):
            return fault
        placed = host(placed)
        if not np.allclose(placed[filled], centroids[filled]):
            return "A cluster that has rows was moved: only the empty ones move."
        gone = [j for j in range(5) if j not in labels]
        taken = placed[gone]
        if len(np.unique(taken, axis=0)) < len(gone):
            return "Two empty clusters took the same row: the second takes the next farthest."
        far = rows[own.argsort()[::-1][: len(gone)]]
        if {*map(tuple, np.round(taken, 9))} != {*map(tuple, np.round(far, 9))}:
            return "An empty cluster did not take a row with one of the largest distances to its own centroid."


def fault_of(run, right):
    """Return the number of the mistake that explains a run, 1 to 4, from its rows counted and its inertias."""
    counted, all_rows = ([each["rows counted"] for each in which] for which in (run, right))
    if counted[0] < all_rows[0]:
        return 1
    if counted[-1] > counted[0]:
        return 2
    return 3 if run[0]["inertia"] > right[0]["inertia"] else 4


@step("which-fault", "store the digits of the runs A, B and C in `answer`.")
def check_fault(runs, answer):
    """Rows counted and inertia tell much of a step: print both while you develop one."""
    if isinstance(answer, dict):
        answer = [answer[name] for name in sorted(answer)]
    digits = re.findall(r"\d", str(answer))
    names = [name for name in runs if name != "right"]
    if len(digits) != len(names) or not set(digits) <= set("1234"):
        return f"{len(names)} digits from 1 to 4 are needed, one for each of {', '.join(names)}."
    hints = {
        1: "Look at the rows counted: are there as many as in the right run?",
        2: "Look at how the rows counted change from one iteration to the next.",
        3: "Look at the first inertia: is it that of the right run?",
        4: "The first inertia is that of the right run. What is the first thing that happens after it?",
    }
    for name, digit in zip(names, digits, strict=True):
        right = fault_of(runs[name], runs["right"])
        if int(digit) != right:
            return f"Run {name}: {hints[right]}"
