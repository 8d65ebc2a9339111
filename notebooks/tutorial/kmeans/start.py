"""The start: scalable k-means++ (k-means||)."""

import warnings

import numpy as np
import sklearn.cluster
import sklearn.exceptions

from .step import check_finite

ROUNDS = 5
DRAWN = 2  # rows for each cluster and round
FEW = 100  # clusters up to which the candidates are clustered several times, for the best result


def scalable_start(shards, n_clusters, random_state):
    """Return initial centroids (n_clusters, d) by k-means||: five rounds of drawing rows by their distance.

    The rows drawn, about ten for each cluster, are weighted by what is nearest to them and clustered here, on one
    machine: for k clusters that takes at most 10 k² d (20 + 2 + ln k) squared differences, four times so for few
    clusters. The rounds before it compute about 50 k d squared differences for each row, as many as 50 iterations. For
    thousands of clusters, give initial centroids instead.
    """
    random = np.random.default_rng(random_state)
    candidates = shards.row(int(random.integers(shards.n_rows)))[None]
    for _ in range(ROUNDS):
        _, inertia = shards.weigh(candidates)
        check_finite(inertia)
        if inertia == 0:  # all rows are candidates already
            break
        drawn = shards.draw(candidates, DRAWN * n_clusters / inertia, int(random.integers(2**31)))
        candidates = np.concatenate([candidates, drawn])
    while len(candidates) < n_clusters:  # few distinct rows, or an unlucky draw: any rows will do
        candidates = np.concatenate(
            [candidates, shards.row(int(random.integers(shards.n_rows)))[None]]
        )
    weights = shards.weigh(candidates)[0].astype(np.float64)
    seed = int(random.integers(2**31))
    n_init = 4 if n_clusters <= FEW else 1
    model = sklearn.cluster.KMeans(n_clusters, n_init=n_init, max_iter=20, random_state=seed)
    origin = candidates.mean(axis=0, dtype=np.float64)  # far from zero, differences would be lost
    with warnings.catch_warnings():  # fewer distinct rows than clusters: some clusters stay empty
        warnings.simplefilter("ignore", sklearn.exceptions.ConvergenceWarning)
        model.fit(candidates - origin, sample_weight=weights)
    return model.cluster_centers_ + origin
