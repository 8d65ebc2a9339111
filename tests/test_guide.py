"""The notes for instructors: agendas that add up, sections and links that are there, commands that exist."""

import os
import re
from datetime import timedelta

import pytest

from tests.books import BOOKS, ROOT, read

pytestmark = pytest.mark.setup
NOTES = "notebooks/instructor-notes.md"
TEXT = (ROOT / NOTES).read_text(encoding="utf-8")
DOCUMENTS = [NOTES, "README.md", ".github/CONTRIBUTING.md"]
LINK = re.compile(r"\]\(([^)#]+)[^)]*\)")
# in italics, but no section of a notebook
OTHER = {
    "Changed", "Interrupt", "Mode", "Minutes", "Not tried", "Progress", "Recorded", "Show it beside the notebook",
    "Task Stream", "Workers Memory", "Kernel", "wrong",
}  # fmt: skip


def agendas():
    """Return name -> rows of a table (from, what, minutes), the sum among them."""
    found = {}
    for name, table in re.findall(r"^\*\*([^*\n]+)\*\*[^\n]*\n\n((?:\|.*\n)+)", TEXT, re.MULTILINE):
        rows = [[cell.strip(" *") for cell in line.split("|")[1:-1]] for line in table.splitlines()]
        found[name] = rows[2:]
    return found


@pytest.mark.parametrize(
    ("name", "minutes"), [("90 minutes", 90), ("Half a day", 240), ("A day", 480)]
)
def test_an_agenda_adds_up(name, minutes):
    """Each part begins when the one before it ends."""
    *parts, (_, word, total) = agendas()[name]
    clock = timedelta()
    for begins, _, takes in parts:
        hours, rest = map(int, begins.split(":"))
        assert timedelta(hours=hours, minutes=rest) == clock, begins
        clock += timedelta(minutes=int(takes))
    assert (word, int(total), clock) == ("Sum", minutes, timedelta(minutes=minutes))


def test_a_whole_notebook_takes_the_minutes_that_it_says():
    said = {}
    for book in BOOKS[1:6]:
        [minutes] = re.findall(
            r"\*\*Minutes:\*\* (\d+)", "".join(cell.source for cell in read(book).cells)
        )
        said[f"Notebook {BOOKS.index(book)}"] = minutes
    whole = [
        (what.removesuffix(", all"), takes)
        for rows in agendas().values()
        for _, what, takes in rows
    ]
    whole = [(what, takes) for what, takes in whole if what in said]
    assert len(whole) == 7
    for what, takes in whole:
        assert said[what] == takes, what


def test_the_sections_are_there():
    """A name in italics is the beginning of a heading of a notebook."""
    headings = [
        re.sub(r"[*`]", "", heading)
        for book in BOOKS
        for cell in read(book).cells
        if cell.cell_type == "markdown"
        for heading in re.findall(r"^#+ (.*)$", cell.source, re.MULTILINE)
    ]
    agenda_and_notes = TEXT[TEXT.index("## Agendas") : TEXT.index("## The room")]
    names = re.findall(r"(?<![*\w])\*([A-Z][^*\n]+?)\*(?!\*)", agenda_and_notes)
    sections = [name for name in names if not name.endswith(".") and name not in OTHER]
    assert len(sections) > 20
    lost = [
        name
        for name in sections
        if not any(heading.startswith(name.rstrip("?")) for heading in headings)
    ]
    assert not lost


@pytest.mark.parametrize("document", DOCUMENTS)
def test_links_lead_somewhere(document):
    text = (ROOT / document).read_text(encoding="utf-8")
    for link in LINK.findall(text):
        if not link.startswith("http"):
            assert (ROOT / os.path.dirname(document) / link).exists(), link


@pytest.mark.parametrize("document", DOCUMENTS)
def test_the_targets_of_make_exist(document):
    targets = set(
        re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    )
    text = (ROOT / document).read_text(encoding="utf-8")
    named = set(re.findall(r"(?:^|`|; )(?:[A-Z_]+=\S+ )*make ([a-z-]+)", text, re.MULTILINE))
    assert named and named <= targets


def test_the_claim_is_the_recorded_one():
    """What the notes quote of notebook 5's claim, and what is left against scikit-learn, stand in its outputs."""
    claimed = re.search(r'"(\S+) times as fast"', TEXT)[1]
    left = re.search(r"Against scikit-learn, (\S+) remain", TEXT)[1]
    [cell] = [
        cell
        for cell in read("notebooks/05-Challenge_Solution.ipynb").cells
        if cell.id == "claim-repaired"
    ]
    shown = dict(
        re.findall(
            r">([a-z ]+)</div></td>(?:\s*<td>[^<]+</td>){2}\s*<td>([^<]+)</td>",
            cell.outputs[0].data["text/html"],
        )
    )
    assert claimed == shown["as claimed"]
    assert float(left) == pytest.approx(float(shown["the opponent"]), abs=0.05)
