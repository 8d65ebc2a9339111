"""The checks of Late flights: leaks, a threshold, a feature."""

import re

from tutorial.device import GPU
from tutorial.checks.core import flat, kind, step

import numpy as np
from sklearn import metrics

if GPU:
    from cupy import asnumpy
else:
    from tutorial.cpu_stand_ins import asnumpy


KNOWN_LATER = {
    "carrier": False,
    "dep_time": True,
    "sched_arr_time": False,
    "air_time": True,
    "distance": False,
    "dep_delay": True,
    "arr_time": True,
    "minute": False,
}


@step("which-leak", "store the columns that leak in `leaks`.")
def check_leaks(leaks):
    """Each is known at the departure or later. No score tells you that: ask when a column is known."""
    if isinstance(leaks, dict) or not hasattr(leaks, "__iter__"):
        return f"`leaks` is {kind(leaks)}: a list of names is needed."
    names = set(re.findall(r"\w+", leaks)) if isinstance(leaks, str) else {*leaks}
    strange = [str(name) for name in names if name not in KNOWN_LATER]
    if strange:
        return f"There is no {', '.join(sorted(strange))} among the candidates."
    early = [name for name in KNOWN_LATER if name in names and not KNOWN_LATER[name]]
    if early:
        return f"{', '.join(early)}: in the timetable, so known long before."
    missing = sum(KNOWN_LATER.values()) - len(names)
    if missing:
        return f"{missing} more: what can only be measured when the plane has left?"


def cost_of_threshold(late, chances, alarm, miss, threshold):
    """Return what a flight costs on average, if we warn of those whose probability reaches the threshold."""
    late, warned = flat(late) == 1, flat(chances) >= threshold
    return alarm * np.mean(warned & ~late) + miss * np.mean(~warned & late)


@step("cheapest-threshold", "store the threshold that costs least in `threshold`.")
def check_threshold(late, chances, alarm, miss, threshold):
    """The costs chose it, on the validation months. With other costs it is another.

    late, chances: arrays (n,) of the validation months. Any threshold within 1 % of the least cost is right.
    """
    threshold = float(asnumpy(threshold))
    if not 0 <= threshold <= 1:
        return f"`threshold` is {threshold:g}: a probability is needed, from 0 to 1."
    tried = np.linspace(0, 1, 201)
    costs = [cost_of_threshold(late, chances, alarm, miss, each) for each in tried]
    costs_here = cost_of_threshold(late, chances, alarm, miss, threshold)
    if costs_here <= 1.01 * min(costs):
        return None
    says = f"A flight costs {costs_here:.3f} with it, and {min(costs):.3f} with the best."
    swapped = [cost_of_threshold(late, chances, miss, alarm, each) for each in tried]
    if abs(threshold - tried[np.argmin(swapped)]) < 0.011:
        return f"{says} Are the two costs the wrong way round?"
    if threshold == 0.5:
        return (
            f"{says} 0.5 would be right if both errors cost the same and every promise were kept."
        )
    if abs(threshold - alarm / (alarm + miss)) < 0.006:
        return f"{says} The formula trusts the probabilities: look at the calibration plot."
    return f"{says} Compute the cost for many thresholds and take the smallest."


@step("one-more-feature", "store the probabilities of two forests in `without` and `with_busy`.")
def check_feature(validation, test, without, with_busy):
    """Both forests were asked about the validation months. The test months know nothing of this choice.

    validation, test: frames with the column late. without, with_busy: arrays (n,) for the validation months.
    """
    late, areas = flat(validation["late"]), {}
    for name, chances in {"without": without, "with_busy": with_busy}.items():
        chances = flat(chances)
        if chances.ndim == 2 and chances.shape[1] == 2:
            return f"`{name}` has a column for each class: column 1 is the chance of being late."
        if len(chances) == len(test):
            return f"`{name}` is about the test months: then they would choose, and no longer test."
        if chances.shape != late.shape:
            return (
                f"`{name}` has the shape {chances.shape}; the validation months have {late.shape}."
            )
        if len(np.unique(chances)) < 3:
            return f"`{name}` holds labels: predict_proba gives probabilities."
        areas[name] = metrics.roc_auc_score(late, chances)
        if areas[name] < 0.65:
            return f"`{name}` has an ROC AUC of {areas[name]:.3f}: are the rows in the order of `validation`?"
        if areas[name] > 0.76:
            return (
                f"`{name}` has an ROC AUC of {areas[name]:.3f}, which is too good. Is a column there that is known "
                "only later, or did the forest learn from the validation months?"
            )
    if np.array_equal(flat(without), flat(with_busy)):
        return "Both are the same: one of the forests needs the column `busy`, too."
