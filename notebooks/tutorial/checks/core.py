"""What every check is made of: its answer, its name, and ways to look at what a learner has made."""

import html
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps

from tutorial.device import GPU

import dask
import numpy as np
from dask.distributed import default_client

if GPU:
    from cupy import asnumpy
else:
    from tutorial.cpu_stand_ins import asnumpy


STEPS = ("cluster", "data", "fit", "predict", "score")
# state -> its sign, and the ground of its badge: white on it has a contrast of 4.5 or more, in both themes
SIGNS = {"to do": ("○", "#0b5fa5"), "wrong": ("✘", "#b3261e"), "solved": ("✔", "#1a7f37")}


@dataclass
class Check:
    """The answer to one step: its name, its state ("to do", "wrong" or "solved"), and what to say about it."""

    step: str
    state: str
    says: str

    def __repr__(self):
        if self.step not in STEPS:
            return f"{self.state.capitalize()}: {self.says}"
        return f"{self._place()}: {self.state}. {self.says}"

    def _place(self):
        return f"Step {STEPS.index(self.step) + 1} of {len(STEPS)}, {self.step}"

    def _repr_html_(self):
        """The same as a badge, whose sign and colour are seen at a glance, and the text with its code set as code."""
        sign, colour = SIGNS[self.state]
        style = f"background: {colour}; color: white; border-radius: 3px; padding: 1px 6px"
        place = f"{self._place()}: " if self.step in STEPS else ""
        says = re.sub("`([^`]+)`", r"<code>\1</code>", html.escape(self.says, quote=False))
        return f'{place}<strong style="{style}">{sign} {self.state}</strong> {says}'


CHECKS = {}  # name of an exercise -> its check


def check(name, *answers):
    """Return the Check of an exercise: to do while an answer is `...`, wrong with a hint, or solved."""
    if name not in CHECKS:
        raise KeyError(f"There is no exercise {name!r}. There are: {', '.join(sorted(CHECKS))}.")
    return CHECKS[name](*answers)


def step(name: str, to_do: str) -> Callable:
    """Turn a function that returns a hint, or None where all is well, into a check of the step `name`.

    The check is "to do", and says `to_do`, while an argument is still `...`. A value of a kind that the function did
    not expect is wrong as well, with its error as the hint.
    """

    def decorate(find_fault):
        @wraps(find_fault)
        def check(*arguments):
            if any(argument is ... for argument in arguments):
                return Check(name, "to do", to_do)
            try:
                hint = find_fault(*arguments)
            except Exception as error:  # whatever a learner has put there
                hint = f"The check stopped with {type(error).__name__}: {error}"
            if hint is ...:  # a function that the check called has not been written yet
                return Check(name, "to do", to_do)
            return (
                Check(name, "wrong", hint)
                if hint
                else Check(name, "solved", find_fault.__doc__.splitlines()[0])
            )

        CHECKS[name] = check
        return check

    return decorate


def host(collection):
    """Return an array or frame, Dask's or not, on a GPU or not, as a NumPy array in this process."""
    (here,) = dask.compute(collection)
    return np.asarray(asnumpy(getattr(here, "values", here)))


def flat(collection):
    """Return labels as `host` does; those that come as the one column of a table are one-dimensional too."""
    here = host(collection)
    return here.ravel() if here.ndim == 2 and here.shape[1] == 1 else here


def kind(thing):
    """Name the type of `thing` for a hint."""
    if isinstance(thing, type):
        return f"the class {thing.__name__} itself"
    return f"of type {type(thing).__name__}"


def squared_distances(rows, points):
    """Return the squared distance from each of the rows (n, d) to each of the points (k, d), as (n, k)."""
    return ((rows[:, None] - points[None]) ** 2).sum(axis=2)


def count_workers():
    """Return how many workers the learner's cluster has."""
    return len(default_client().nthreads())
