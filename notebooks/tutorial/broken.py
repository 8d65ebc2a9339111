"""Three fits of k-means that look wrong, for an exercise: `broken_fits` makes them, `evidence` shows them.

Each is made of 2,000 rows in four groups at the corners of a square, by scikit-learn, from a start that is given.
"""

from tutorial.figures import table

import numpy as np
from scipy.spatial.distance import pdist
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score

CORNERS = np.array([[0.0, 0.0], [0.0, 10.0], [10.0, 0.0], [10.0, 10.0]])
TWO_IN_ONE = np.array([[-0.5, 0.0], [0.5, 0.0], [0.0, 10.0], [10.0, 5.0]])
STD = 0.5


def broken_fits():
    """Return the name of each fit -> (rows (n, 2), true labels (n,), labels (n,), centroids (4, 2))."""
    truth = np.arange(2000) % len(CORNERS)
    rows = CORNERS[truth] + STD * np.random.default_rng(7).standard_normal((len(truth), 2))
    in_mm = rows * [1, 1000]
    starts = {"A": (rows, TWO_IN_ONE), "B": (in_mm, in_mm[:4]), "C": (rows, CORNERS[[2, 0, 3, 1]])}
    fits = {}
    for name, (points, start) in starts.items():
        fitted = KMeans(n_clusters=len(start), init=start, n_init=1).fit(points)
        fits[name] = (points, truth, fitted.labels_, fitted.cluster_centers_)
    return fits


def evidence(fits):
    """Return a table of what the rows, labels and centroids of `broken_fits` tell about each fit."""
    lines = []
    for name, (rows, truth, labels, centroids) in fits.items():
        sizes, spread = np.bincount(labels), rows.std(axis=0)
        index, equal = adjusted_rand_score(truth, labels), 100 * np.mean(truth == labels)
        nearest = float(pdist(centroids).min())
        lines.append(
            [name, float(index), float(equal), int(sizes.min()), int(sizes.max()), nearest]
        )
        lines[-1] += map(float, spread)
    columns = ["fit", "ARI against the truth", "equal labels, %", "smallest cluster"]
    columns += ["largest cluster", "nearest two centroids", "spread of feature 0"]
    return table([*columns, "spread of feature 1"], lines)
