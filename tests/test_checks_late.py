"""The checks of deeper/Late_Flights: the stub is to do, wrong work gets a true hint, right work is solved."""

from tutorial.checks import check
from tutorial.judging import calibration, draw_calibration, run_script

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (..., "To do: store the columns that leak"),
        (["dep_time", "dep_delay", "arr_time", "air_time"], "Solved: "),
        ({"arr_time", "air_time", "dep_time", "dep_delay"}, "Solved: "),
        ("dep_time, dep_delay, arr_time, air_time", "Solved: "),
        (np.array(["dep_time", "dep_delay", "arr_time", "air_time"]), "Solved: "),
        (["dep_time", "dep_delay"], "Wrong: 2 more: what can only be measured"),
        ([], "Wrong: 4 more: "),
        (
            ["dep_time", "dep_delay", "arr_time", "sched_arr_time", "distance"],
            "Wrong: sched_arr_time, distance: in the timetable",
        ),
        (["late"], "Wrong: There is no late among the candidates."),
        (4, "Wrong: `leaks` is of type int"),
        ({"dep_time": True}, "Wrong: `leaks` is of type dict"),
    ],
)
def test_which_leak(answer, says):
    assert repr(check("which-leak", answer)).startswith(says)


@pytest.fixture(scope="module")
def model():
    """Labels and probabilities that promise too much, as those of the notebook do on its validation months."""
    rng = np.random.default_rng(7)
    chances = rng.beta(2, 5, 20_000)
    return (rng.random(20_000) < 0.6 * chances).astype("int32"), chances


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (..., "To do: store the threshold"),
        (0.54, "Solved: "),
        (np.array(0.55), "Solved: "),
        ("0.545", "Solved: "),
        (0.5, "Wrong: A flight costs 0."),
        (1 / 3, "Wrong: A flight costs 0."),
        (0.1, "Wrong: A flight costs 0."),
        (54, "Wrong: `threshold` is 54: a probability is needed"),
        (-1, "Wrong: `threshold` is -1: "),
        ([0.1, 0.2], "Wrong: The check stopped with TypeError"),
    ],
)
def test_cheapest_threshold(model, answer, says):
    assert repr(check("cheapest-threshold", *model, 1, 2, answer)).startswith(says)


@pytest.mark.parametrize(
    ("alarm", "miss", "answer", "hint"),
    [
        (1, 2, 1 / 3, "The formula trusts the probabilities"),
        (1, 2, 0.1, "Compute the cost for many thresholds"),
        (1, 10, 0.5, "0.5 would be right if both errors cost the same"),
        (1, 10, 1.0, "Are the two costs the wrong way round?"),
    ],
)
def test_cheapest_threshold_hints(model, alarm, miss, answer, hint):
    late, chances = model
    if answer == 1.0:  # what the swapped costs choose
        tried = np.linspace(0, 1, 201)
        warned = chances[:, None] >= tried
        wrong = (late == 0)[:, None]
        swapped = miss * (warned & wrong).mean(0) + alarm * (~warned & ~wrong).mean(0)
        answer = tried[swapped.argmin()]
    assert hint in repr(check("cheapest-threshold", late, chances, alarm, miss, answer))


@pytest.fixture(scope="module")
def months():
    """Validation and test months, and probabilities as good as the notebook's for the first."""
    rng = np.random.default_rng(7)
    late = (rng.random(20_000) < 0.2).astype("int32")
    good = 1 / (1 + np.exp(-(0.8 * late + rng.standard_normal(20_000))))
    return pd.DataFrame({"late": late}), pd.DataFrame({"late": late[:9000]}), good


@pytest.mark.parametrize(
    ("without", "with_busy", "says"),
    [
        (lambda good, late: ..., lambda good, late: ..., "To do: store the probabilities"),
        (lambda good, late: good, lambda good, late: good**1.01 + 1e-3 * late, "Solved: "),
        (lambda good, late: pd.Series(good), lambda good, late: good + 0.01 * late, "Solved: "),
        (
            lambda good, late: pd.DataFrame({"late": good}),
            lambda good, late: good.astype("float32"),
            "Solved: ",
        ),
        (lambda good, late: good, lambda good, late: good, "Wrong: Both are the same"),
        (lambda good, late: good[:9000], lambda good, late: good, "Wrong: `without` is about the"),
        (
            lambda good, late: good,
            lambda good, late: good[:77],
            "Wrong: `with_busy` has the shape (77,)",
        ),
        (
            lambda good, late: np.column_stack([1 - good, good]),
            lambda good, late: good,
            "Wrong: `without` has a column for each class",
        ),
        (lambda good, late: good > 0.5, lambda good, late: good, "Wrong: `without` holds labels"),
        (lambda good, late: good[::-1], lambda good, late: good, "Wrong: `without` has an ROC AUC"),
        (
            lambda good, late: good,
            lambda good, late: good + 0.5 * late,
            "Wrong: `with_busy` has an ROC AUC of 0.9",
        ),
    ],
)
def test_one_more_feature(months, without, with_busy, says):
    validation, test, good = months
    answers = [make(good, validation["late"].to_numpy()) for make in (without, with_busy)]
    assert repr(check("one-more-feature", validation, test, *answers)).startswith(says)


def test_calibration():
    """Means, shares, counts and Wilson's interval of each class that has rows; a probability of 1 is in the last."""
    chances = np.array([0.02, 0.04, 0.55, 0.55, 0.55, 0.55, 1.0])
    points = calibration(chances, np.array([0, 0, 1, 1, 1, 0, 1]))
    assert points["predicted"].tolist() == pytest.approx([0.03, 0.55, 1.0])
    assert points["observed"].tolist() == pytest.approx([0, 0.75, 1])
    assert points["n"].tolist() == [2, 4, 1]
    assert (points["low"] <= points["observed"]).all() and (
        points["high"] >= points["observed"]
    ).all()
    assert points["low"][1] == pytest.approx(0.3006, abs=1e-3)  # 3 of 4
    axes = Figure().subplots()
    draw_calibration(axes, points, "model")
    assert [text.get_text() for text in axes.texts] == ["2", "4", "1"]
    with pytest.raises(ValueError, match="7 probabilities for 2 rows"):
        calibration(chances, [0, 1])


def test_run_script():
    """It returns what was printed; a failure says its last line."""
    show = "import os, sys; print(sys.argv[1], os.environ['LATE'])"
    assert run_script("-c", show, "and", LATE="7") == "and 7\n"
    with pytest.raises(RuntimeError, match="ended with 1: ZeroDivisionError"):
        run_script("-c", "1 / 0")
