"""The checks of notebook 5: faults of a fit, of a claim, and a crossing."""

from tutorial.checks.core import kind, squared_distances, step

import numpy as np
from sklearn import metrics


def fault_of_fit(rows, truth, labels, centroids):
    """Return what is wrong with a fit: its "start", the "scale" of its features, or only its "names"."""
    if metrics.adjusted_rand_score(truth, labels) > 1 - 1e-9:
        return "names"
    spread = rows.std(axis=0)
    return "scale" if spread.max() > 10 * spread.min() else "start"


@step("diagnose", "store a fault for each fit: 'start', 'scale' or 'names'.")
def check_diagnosis(fits, *answers):
    """A stuck fit needs another start. Features on different scales need one scale. Other names need nothing."""
    faults = ("start", "scale", "names")
    for (name, (rows, truth, labels, centroids)), answer in zip(fits.items(), answers, strict=True):
        if not isinstance(answer, str) or answer.strip().lower() not in faults:
            return f"For fit {name} there is {answer!r}; one of {', '.join(map(repr, faults))} is needed."
        right = fault_of_fit(rows, truth, labels, centroids)
        if answer.strip().lower() == right:
            continue
        index, spread = metrics.adjusted_rand_score(truth, labels), rows.std(axis=0)
        if right == "names":
            return f"The ARI of fit {name} is {index:.2f}: can its groups be wrong?"
        if right == "scale":
            return f"In fit {name}, one feature spreads {spread.max() / spread.min():,.0f} times as wide as the other."
        apart = np.sqrt(
            squared_distances(centroids, centroids)[~np.eye(len(centroids), dtype=bool)]
        )
        return (
            f"The ARI of fit {name} is {index:.2f}, and its features spread alike. Two of its centroids are only "
            f"{apart.min():.1f} apart."
        )


@step("which-repair", "store the repair that leaves the least, and the share that it takes away.")
def check_repair(ratios, repair, share):
    """A ratio is only as good as its weakest condition. Ask for all of them before you repeat it."""
    claimed, *_ = ratios.values()
    repairs = dict(list(ratios.items())[1:])
    names = {name.strip().lower(): name for name in repairs}
    if not isinstance(repair, str) or repair.strip().lower() not in names:
        return f"`repair` is {repair!r}; one of these is needed: {', '.join(map(repr, repairs))}."
    name = names[repair.strip().lower()]
    least = min(repairs, key=repairs.get)
    if repairs[name] > 1.01 * repairs[least]:
        return f"{name!r} leaves {repairs[name]:.3g} times as fast, and another repair leaves less."
    try:
        share = float(share)
    except (TypeError, ValueError):
        return f"`share` is {kind(share)}: a number is needed."
    right = 1 - repairs[name] / claimed
    if abs(share - right) <= 0.01:
        return None
    if abs(share - repairs[name] / claimed) <= 0.01:
        return "`share` is what is left of the claim. How much is taken away?"
    if abs(share - 100 * right) <= 1:
        return "`share` is in percent: a number from 0 to 1 is asked for."
    return f"{claimed:.3g} was claimed and {repairs[name]:.3g} is left: that is not a share of {share:.3g}."


@step("crossing", "choose a size, `n_test`, and predict which of the rivals is faster there.")
def check_crossing(curves, rivals, n_test, faster, race):
    """Measured where no one had looked, the order is the predicted one. That is what a curve is good for."""
    if isinstance(n_test, bool) or int(n_test) != n_test:
        return f"`n_test` is {n_test!r}: a whole number of rows is needed."
    sizes = sorted(set.intersection(*(set(curves[name]) for name in rivals)))
    if not sizes[0] < n_test < sizes[-1]:
        return (
            f"Choose a size between {sizes[0]:,} and {sizes[-1]:,} rows, where both were measured."
        )
    if min(max(n_test / n, n / n_test) for n in sizes) < 1.2:
        return "Both were measured near this size. Choose one in between."
    if faster not in rivals:
        return f"`faster` is {faster!r}; one of {', '.join(map(repr, rivals))} is needed."
    measured = race(int(n_test))
    [other] = [name for name in rivals if name != faster]
    if measured[faster] > 1.1 * measured[other]:  # closer than that is a tie
        return (
            f"At {n_test:,} rows {other} is faster: {measured[other]:.3g} s against {measured[faster]:.3g} s. "
            "Where do the lines cross?"
        )


# columns of flights -> True where nobody knows them an hour before the departure
