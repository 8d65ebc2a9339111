"""The checks of K-means at the limit: what the recorded figures say."""

import re

from tutorial import recorded
from tutorial.checks.core import host, step


def _recorded(query):
    """Return the lines of the recorded benchmark that fit a query of pandas."""
    return recorded.benchmark().query(query)


@step("least-time", "store the milliseconds of one read of the rows in `least`.")
def check_least(least):
    """A copy reads and writes each byte, so one read takes half of its time."""
    [copied] = (
        1e3
        * _recorded(
            "what == 'limit' and engine == 'copy' and rows == 1_000_000_000 and dtype == 'float32'"
        )["seconds"]
    )
    least = float(host(least))
    if abs(least / (copied / 2) - 1) < 0.02:
        return None
    if abs(least / copied - 1) < 0.02:
        return "That is the copy itself, which also writes each byte."
    if abs(1e3 * least / (copied / 2) - 1) < 0.02:
        return "These are seconds: milliseconds are asked for."
    if abs(least / copied / 2 - 1) < 0.02:
        return "That is twice the copy's time; a read alone moves fewer bytes than a copy."
    return (
        f"The copy of a billion float32 rows took {copied:.2f} ms. What does it do besides reading?"
    )


@step("which-roof", "store the three roofs in `roofs`.")
def check_roof(roofs):
    """The nearest roof is the largest of the least times, and it changes with the shape."""
    issue = recorded.PEAKS["float32"] / 2  # a multiplication with an addition is one instruction

    def nearest(moved, operations, instructions):
        least = {
            "memory": moved / recorded.PEAKS["memory"],
            "float32": operations / recorded.PEAKS["float32"],
            "instructions": instructions / issue,
        }
        return max(least, key=least.get)

    # of a row: bytes, operations, instructions; in a product every instruction multiplies and adds, so its two are one
    right = [
        {nearest(16, 0, 4)},
        {nearest(2 * 4 * 4096, 2 * 4096 * 4096, 0), "instructions"},
        {nearest(8, 2 * 2 * 1000, 6 * 1000)},
    ]
    if isinstance(roofs, dict):
        roofs = [roofs[name] for name in sorted(roofs)]
    said = re.findall(r"[a-z]+\d*", str(roofs).lower())
    if len(said) != 3 or not set(said) <= {"memory", "float32", "instructions"}:
        return "Three of the words 'memory', 'float32' and 'instructions' are needed, one for each job."
    hints = {
        "A": "A copy computes nothing.",
        "B": "Each value that is read is used 4,096 times, and every instruction is a multiplication with an addition.",
        "C": "For each centroid there are six instructions or more, and only two of them multiply and add.",
    }
    for (name, hint), given, wanted in zip(hints.items(), said, right, strict=True):
        if given not in wanted:
            return f"{name}: {hint}"


@step("break-even", "store the number of rows in `even`.")
def check_even(even):
    """Two devices pay where half a step takes longer than the messages that they add."""
    lines = _recorded("what == 'iteration' and features == 2").set_index("devices")
    slope = lines["step"][1] / lines["rows"][1]  # seconds a row
    other = lines["seconds"] - lines["step"]
    right = 2 * (other[2] - other[1]) / slope
    even = float(host(even))
    if abs(even / right - 1) < 0.05:
        return None
    if abs(2 * even / right - 1) < 0.05:
        return "Two devices save half of the step, not all of it: the saving for each row is c / 2."
    if abs(even / (2 * other[2] / slope) - 1) < 0.05:
        return "One device has other costs as well: what counts is how much more two have."
    if abs(1e3 * even / right - 1) < 0.05 or abs(even / right / 1e3 - 1) < 0.05:
        return "That is off by a thousand: both columns are milliseconds."
    where = "shorter" if even > right else "longer"
    return f"With {even:,.0f} rows, an iteration on two devices is {where} than on one."
