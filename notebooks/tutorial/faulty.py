"""Three wrong versions of Lloyd's step, and a right one: what they give, for an exercise that has the reader tell them.

from tutorial import faulty
"""

from tutorial.kmeans import step as fused

import numpy as np

CHUNKS = 4  # of the rows


def rows(n=4000, seed=7):
    """Return n rows (n, 2) around five centres, float64, in an order that leaves every chunk with all groups."""
    centers = np.array([[-6.0, -6.0], [-6.0, 5.0], [0.0, 0.0], [5.0, -5.0], [6.0, 6.0]])
    noise = np.random.default_rng(seed).standard_normal((n, 2))
    return centers[np.arange(n) % 5] + 0.5 * noise


def _farthest(X, centroids):
    """Return what a step does that gives each row to its farthest centroid."""
    squared = ((X[:, None] - centroids) ** 2).sum(axis=2)
    labels, k = squared.argmax(axis=1), len(centroids)
    differences = X - centroids[labels]
    sums = [np.bincount(labels, column, minlength=k) for column in differences.T]
    return (
        np.stack(sums, axis=1),
        np.bincount(labels, minlength=k),
        float(squared.max(axis=1).sum()),
    )


def run(centroids, fault=None, iterations=5):
    """Return what each iteration says of itself: [{"rows counted": whole number, "inertia": float}, ...].

    centroids: the first ones, (5, 2). fault: None, "lost" (a chunk is never asked), "kept" (counts of earlier
    iterations are added in), "farthest" (rows go to the farthest centroid) or "backwards" (sums are subtracted).
    """
    chunks, said = np.array_split(rows(), CHUNKS), []
    step = _farthest if fault == "farthest" else fused.step
    counted = np.zeros(len(centroids), np.int64)
    for _ in range(iterations):
        asked = chunks[1:] if fault == "lost" else chunks
        sums, counts, inertia = map(sum, zip(*(step(X, centroids) for X in asked), strict=True))
        counted = counted + counts if fault == "kept" else counts
        said.append({"rows counted": int(counted.sum()), "inertia": round(inertia)})
        moved = sums / np.maximum(counted, 1)[:, None]
        centroids = centroids - moved if fault == "backwards" else centroids + moved
    return said


def runs(centroids):
    """Return a right run, and the three of the exercise, by name: what `run` gives of each."""
    faults = {"right": None, "A": "backwards", "B": "lost", "C": "kept"}
    return {name: run(centroids, fault) for name, fault in faults.items()}
