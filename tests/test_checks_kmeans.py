"""The checks of deeper/KMeans_by_Hand: the stub is to do, wrong work gets a true hint, right work is solved."""

from tutorial import faulty
from tutorial.checks import check

import numpy as np
import pytest

from tests.books import code_cells, read

BOOK = "notebooks/deeper/KMeans_by_Hand.ipynb"
START = np.array([[-8.0, 0.0], [-4.0, 0.0], [0.0, 0.0], [4.0, 0.0], [8.0, 0.0]])
RUNS = faulty.runs(START)


@pytest.mark.parametrize(
    ("sent", "back", "says"),
    [
        (..., ..., "To do: "),
        (4194304, ..., "To do: "),
        (16 * 8 * 256 * 128, 16 * 8 * (256 * 128 + 256 + 1), "Solved: "),
        (4194304.0, np.int64(4227200), "Solved: "),
        (np.array(4194304), 4227200.0, "Solved: "),
        (8 * 256 * 128, 8 * (256 * 128 + 257), "Wrong: That is one worker's share"),
        (8 * 256 * 128, 8 * (256 * 128 + 256), "Wrong: `sent` is one worker's share"),
        (256 * 128, 4227200, "Wrong: `sent` is wrong"),
        (4194304 // 8, 4227200 // 8, "Wrong: These are numbers."),
        (4194304, 4194304, "Wrong: In `back`, the counts and the inertia are missing."),
        (4194304, 16 * 8 * 256 * 129, "Wrong: In `back`, the inertia is missing"),
        (4194304, 1, "Wrong: `sent` is right"),
        ("many", 1, "Wrong: The check stopped with"),
    ],
)
def test_bytes(sent, back, says):
    assert repr(check("bytes-travel", 16, 256, 128, sent, back)).startswith(says)


def to_do(*arguments):
    return ...


def combined(answers, centroids):
    sums = sum(sums for sums, _, _ in answers)
    return centroids + sums / sum(counts for _, counts, _ in answers)[:, None]


def by_loops(answers, centroids):
    moved = [list(row) for row in centroids]
    for j in range(len(centroids)):
        count = sum(int(counts[j]) for _, counts, _ in answers)
        for f in range(centroids.shape[1]):
            moved[j][f] += sum(float(sums[j, f]) for sums, _, _ in answers) / count
    return moved


def in_place(answers, centroids):
    sums, counts, _ = (np.sum(part, axis=0) for part in zip(*answers, strict=True))
    centroids += sums / np.maximum(counts, 1).reshape(-1, 1)
    return centroids


@pytest.mark.parametrize(
    ("combine", "says"),
    [
        (to_do, "To do: write `combine`"),
        (..., "To do: write `combine`"),
        (combined, "Solved: "),
        (by_loops, "Solved: "),
        (in_place, "Solved: "),
        (lambda answers, centroids: None, "Wrong: `combine` returns None"),
        (lambda answers, centroids: centroids[0], "Wrong: `combine` returns an array of shape"),
        (lambda a, c: combined(a, c) - c, "Wrong: These are means of differences"),
        (lambda a, c: 2 * c - combined(a, c), "Wrong: The sums are of (row - centroid)"),
        (
            lambda a, c: c + np.mean([s / np.maximum(n, 1)[:, None] for s, n, _ in a], axis=0),
            "Wrong: This is a mean of the chunks' means",
        ),
        (lambda answers, centroids: centroids, "Wrong: These are not the means"),
        (lambda answers: answers, "Wrong: The check stopped with TypeError"),
        (3, "Wrong: The check stopped with TypeError"),
    ],
)
def test_combine(combine, says):
    assert repr(check("combine-sums", combine)).startswith(says)


def refilled(rows, labels, centroids, order=-1):
    empty = np.flatnonzero(np.bincount(labels, minlength=len(centroids)) == 0)
    squared = ((rows - centroids[labels]) ** 2).sum(axis=1)
    placed = centroids.copy()
    placed[empty] = rows[squared.argsort()[::order][: len(empty)]]
    return placed


def one_by_one(rows, labels, centroids):
    squared = ((rows - centroids[labels]) ** 2).sum(axis=1)
    for j in range(len(centroids)):
        if not (labels == j).any():
            i = squared.argmax()
            centroids[j], squared[i] = rows[i], -1
    return centroids


def as_lists(rows, labels, centroids):
    return refilled(rows, labels, centroids).tolist()


def same_row(rows, labels, centroids):
    squared = ((rows - centroids[labels]) ** 2).sum(axis=1)
    empty = [j for j in range(len(centroids)) if j not in labels]
    centroids[empty] = rows[squared.argmax()]
    return centroids


def turned(rows, labels, centroids):
    """The farthest rows, in the other order."""
    placed, gone = (
        refilled(rows, labels, centroids),
        [j for j in range(len(centroids)) if j not in labels],
    )
    placed[gone] = placed[gone[::-1]]
    return placed


def mixed(rows, labels, centroids):
    """The first feature of one of the farthest rows with the second of another."""
    placed, gone = (
        refilled(rows, labels, centroids),
        [j for j in range(len(centroids)) if j not in labels],
    )
    placed[gone, 1] = placed[gone[::-1], 1] if len(gone) > 1 else placed[gone, 1]
    return placed


def last_ones(rows, labels, centroids):
    """Without an empty cluster, `[-0:]` takes all rows."""
    empty = np.flatnonzero(np.bincount(labels, minlength=len(centroids)) == 0)
    squared = ((rows - centroids[labels]) ** 2).sum(axis=1)
    centroids[empty] = rows[squared.argsort()[-len(empty) :]]
    return centroids


def all_move(rows, labels, centroids):
    return refilled(rows, labels, centroids) + 1


@pytest.mark.parametrize(
    ("refill", "says"),
    [
        (to_do, "To do: write `refill`"),
        (refilled, "Solved: "),
        (one_by_one, "Solved: "),
        (as_lists, "Solved: "),
        (turned, "Solved: "),
        (mixed, "Wrong: An empty cluster did not take"),
        (last_ones, "Wrong: With no empty cluster, `refill` stops"),
        (lambda rows, labels, centroids: None, "Wrong: `refill` returns None"),
        (lambda rows, labels, centroids: rows, "Wrong: `refill` returns an array of shape"),
        (same_row, "Wrong: Two empty clusters took the same row"),
        (all_move, "Wrong: A cluster that has rows was moved"),
        (lambda *all_of: refilled(*all_of, order=1), "Wrong: An empty cluster did not take"),
        (lambda rows, labels, centroids: centroids, "Wrong: An empty cluster did not take"),
    ],
)
def test_refill(refill, says):
    assert repr(check("refill-empty", refill)).startswith(says)


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (..., "To do: "),
        ("412", "Solved: "),
        (412, "Solved: "),
        ([4, 1, 2], "Solved: "),
        ("A4, B1, C2", "Solved: "),
        ({"A": 4, "B": 1, "C": 2}, "Solved: "),
        ("312", "Wrong: Run A: The first inertia is that of the right run."),
        ("432", "Wrong: Run B: Look at the rows counted: are there as many"),
        ("413", "Wrong: Run C: Look at how the rows counted change"),
        ("41", "Wrong: 3 digits from 1 to 4 are needed, one for each of A, B, C."),
        ("951", "Wrong: 3 digits from 1 to 4"),
    ],
)
def test_fault(answer, says):
    assert repr(check("which-fault", RUNS, answer)).startswith(says)


def test_the_fault_that_is_left_over_can_be_told():
    runs = {"right": RUNS["right"], "A": faulty.run(START, "farthest")}
    assert repr(check("which-fault", runs, 3)).startswith("Solved: ")
    assert repr(check("which-fault", runs, 4)).startswith("Wrong: Run A: Look at the first inertia")


def test_the_notebook_asks_for_these():
    """Each exercise has a stub, a check before the solution, and a solution that is checked."""
    sources = {cell.id: cell for cell in code_cells(read(BOOK))}
    for name in ("bytes", "combine", "empty", "fault"):
        assert "= ..." in sources[f"exercise-{name}-stub"].source
        assert "check(" in sources[f"exercise-{name}-check"].source
        solution = sources[f"exercise-{name}-solution"]
        assert "check(" in solution.source and solution.metadata.tags == ["solution"]
