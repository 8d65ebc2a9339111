"""Probabilities, drawings and processes of deeper/Late_Flights, whose mechanics are no lesson.

    points = calibration(chances, late)    # what a model promised, and what came
    run_script("script.py", "argument", CUDA_VISIBLE_DEVICES="")

Rows are frames of pandas or cuDF; probabilities are NumPy arrays.
"""

import os
import subprocess
import sys

import pandas as pd
from scipy.stats import binomtest
from sklearn.metrics import roc_auc_score


def chances_of(model, rows):
    """Return the probability of class 1 for each row, as a NumPy array (n,), from a model that returns frames.

    model: a fitted estimator for one device, cuML's or the one that stands in for it. rows: its frame (n, n_features).
    """
    return model.predict_proba(rows)[1].to_numpy()


def auc(rows, chances):
    """Return the ROC AUC of probabilities (n,) for rows, a frame with a column late of 0 and 1."""
    return float(roc_auc_score(rows["late"].to_numpy(), chances))


def calibration(chances, late, width=0.1):
    """Return what was predicted and what came, as a DataFrame with a row for each class of probabilities.

    chances: array (n,), probabilities from 0 to 1. late: array (n,) of 0 and 1. width: that of a class. The columns
    are predicted (mean of the class), observed (share of ones), n, and low and high: the 95 % interval of the share,
    Wilson's, for n independent rows. A class without rows is left out. Raises ValueError for unequal lengths.
    """
    if len(chances) != len(late):
        raise ValueError(f"{len(chances)} probabilities for {len(late)} rows")
    rows = pd.DataFrame({"predicted": chances, "observed": late})
    classes = (rows["predicted"] / width).astype(int).clip(upper=round(1 / width) - 1)
    points = rows.groupby(classes).mean()
    points["n"] = rows.groupby(classes).size()
    bounds = []
    for point in points.itertuples():
        test = binomtest(round(point.observed * point.n), point.n)
        bounds.append(test.proportion_ci(method="wilson"))
    points["low"], points["high"] = zip(*bounds, strict=True)
    return points.reset_index(drop=True)


def draw_calibration(axes, points, label):
    """Draw the points of `calibration` with their intervals, each with its n, over the line of a perfect model."""
    axes.plot([0, 1], [0, 1], ":", color="black", label="promise kept")
    below, above = points["observed"] - points["low"], points["high"] - points["observed"]
    axes.errorbar(
        points["predicted"], points["observed"], [below, above], fmt="o-", capsize=3, label=label
    )
    for point in points.itertuples():
        axes.annotate(
            f"{point.n:,}",
            (point.predicted, point.observed),
            (6, -3),
            textcoords="offset points",
            va="top",
            fontsize=8,
        )


def run_script(*command, **variables):
    """Run Python with these arguments in a process of its own, with these environment variables; return its output.

    Raises RuntimeError with the last line of what it said if it fails.
    """
    environment = os.environ | variables
    done = subprocess.run(
        [sys.executable, *command], env=environment, capture_output=True, text=True
    )
    if done.returncode:
        said = (done.stderr.strip() or "nothing").splitlines()[-1]
        raise RuntimeError(f"{' '.join(command)} ended with {done.returncode}: {said}")
    return done.stdout
