"""The checks of all exercises, and of the challenge's five steps: a file for each notebook.

Each check takes what the learner has made and returns a Check: to do while a value is still `...`, wrong with a hint,
or solved. None of them raises on a wrong answer, so that the notebook runs to its end whatever has been filled in.
"""

from tutorial.checks import (
    by_hand,
    challenge,
    forests,
    frames,
    intro,
    late,
    limit,
    machines,
    moving,
    solution,
)
from tutorial.checks.challenge import (
    best_inertias,
    check_cluster,
    check_data,
    check_fit,
    check_predict,
    check_score,
    summary,
)
from tutorial.checks.core import CHECKS, STEPS, Check, check, host

PARTS = [
    by_hand,
    challenge,
    forests,
    frames,
    intro,
    late,
    limit,
    machines,
    moving,
    solution,
]  # each names its exercises to `check`
__all__ = [
    "CHECKS",
    "STEPS",
    "Check",
    "best_inertias",
    "check",
    "check_cluster",
    "check_data",
    "check_fit",
    "check_predict",
    "check_score",
    "host",
    "summary",
]
