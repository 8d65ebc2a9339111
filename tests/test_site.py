"""`make site`: every notebook is a page whose links work, that hides the solutions and names its hardware. And what
a Codespace, Binder and GitHub Pages start is there.
"""

import json
import re
import runpy
import subprocess
import sys
import tomllib
from html.parser import HTMLParser
from urllib.parse import unquote, urlsplit

import pytest
import yaml
from bs4 import BeautifulSoup
from packaging.specifiers import SpecifierSet

from tests.books import BOOKS, HOME, ROOT, code_cells, is_solution, read, texts
from tests.copies import base_python, copy_project, lend_environment

pytestmark = pytest.mark.setup
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
SITE = ROOT / ".ci" / "site.py"
SERIES = re.search(r"^# (.*)", (ROOT / "README.md").read_text(encoding="utf-8"), re.MULTILINE)[1]
# what nbconvert writes where a picture has no alternative text
NO_ALT = "No description has been provided"
VOID = {"area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "wbr"}
# what ends a paragraph, so that its own end tag would be one too many
BLOCK = {"div", "p", "pre", "table", "ul", "ol", "details", "nav", "h1", "h2", "h3", "h4"}

book = pytest.mark.parametrize("book", BOOKS)


def page(book):
    """Return the path of a notebook's page below the site's folder."""
    return "index.html" if book == HOME else re.sub(r"\.ipynb$", ".html", book)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The folder of a site, built as `make site` does, but from another folder than the project's."""
    scratch = tmp_path_factory.mktemp("site")
    command = [sys.executable, str(SITE), "eine Übung"]
    answer = subprocess.run(command, cwd=scratch, capture_output=True, text=True)
    assert answer.returncode == 0, answer.stderr
    return scratch / "eine Übung"


@pytest.fixture(scope="module")
def soups(site):
    """The parsed pages: path below the site's folder -> soup."""
    return {
        path.relative_to(site).as_posix(): BeautifulSoup(path.read_bytes(), "html.parser")
        for path in site.rglob("*.html")
    }


class Nesting(HTMLParser):
    """Collects, in `faults`, the tags of a page that are not nested as HTML asks."""

    def __init__(self, text):
        super().__init__()
        self.open, self.faults = [], []
        self.feed(text)
        self.close()
        self.faults += [f"<{tag}> has no end" for tag in self.open]

    def fault(self, what):
        self.faults.append(f"line {self.getpos()[0]}: {what}")

    def handle_starttag(self, tag, attrs):
        if len(dict(attrs)) < len(attrs):
            self.fault(f"an attribute of <{tag}> twice")
        if tag in BLOCK and "p" in self.open or tag == "a" and "a" in self.open:
            self.fault(f"<{tag}> in <{'p' if tag in BLOCK else tag}>")
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag in VOID:
            return
        if self.open and self.open[-1] == tag:
            self.open.pop()
        else:
            self.fault(f"</{tag}> ends nothing")


def test_a_page_for_each_notebook(soups):
    assert set(soups) == set(map(page, BOOKS))


@book
def test_html_is_well_formed(book, site):
    text = (site / page(book)).read_text(encoding="utf-8")
    assert text.startswith("<!DOCTYPE html>\n")
    assert not Nesting(text).faults


@pytest.mark.parametrize(
    "text",
    [
        "<div><p>one</div></p>",
        "<div>",
        "two</p>",
        "<p><table></table></p>",
        '<a href="x"><a href="y"></a></a>',
        '<b id="x" id="y"></b>',
    ],
)
def test_what_is_not_well_formed_is_found(text):
    assert Nesting(text).faults
    assert not Nesting('<div id="x"><p>one<br>two <img alt="x"></p></div>').faults


@book
def test_head(book, soups):
    """The language, a title of its own with the series' name, and a viewport: no zooming out on a telephone."""
    soup = soups[page(book)]
    assert soup.html["lang"] == "en"
    assert soup.find("meta", charset="utf-8")
    assert "width=device-width" in soup.find("meta", attrs={"name": "viewport"})["content"]
    heading = re.search(r"^# (.*)", read(book).cells[1].source, re.MULTILINE)[1]
    assert soup.title.string in (heading, f"{heading} | {SERIES}") and SERIES in soup.title.string
    titles = [other.title.string for other in soups.values()]
    assert titles.count(soup.title.string) == 1


def leads_to(site, path, link):
    """Return the file that a page's link leads to, and the anchor in it."""
    parts = urlsplit(link)
    target = (site / path).parent / unquote(parts.path) if parts.path else site / path
    return target.resolve(), parts.fragment


@book
def test_links_lead_somewhere(book, site, soups):
    """Within the site, to files and anchors that are there; none to a notebook. Others lead to the web, encrypted."""
    path = page(book)
    links = [
        element[attribute][:200]  # the data of a picture is long
        for element in soups[path].find_all(True)
        for attribute in ("href", "src")
        if attribute in element.attrs
    ]
    outside = [link for link in links if urlsplit(link).scheme or urlsplit(link).netloc]
    assert not [link for link in outside if not link.startswith(("https://", "data:image/png;"))]
    inside = [link for link in links if link not in outside]
    assert len(inside) > 10 and not [link for link in inside if ".ipynb" in link]
    for link in inside:
        target, anchor = leads_to(site, path, link)
        assert target.is_relative_to(site.resolve()) and target.is_file(), link
        if anchor:
            there = soups[target.relative_to(site.resolve()).as_posix()]
            assert there.find(id=anchor) or there.find(id=unquote(anchor)), link


@book
def test_links_are_those_of_the_notebook(book, site, soups):
    """The navigation line leads from page to page, in the notebook's order."""
    soup, path = soups[page(book)], page(book)
    wanted = re.findall(r"\]\(([^)]+)\)", read(book).cells[0].source)
    wanted = [((ROOT / book).parent / link).resolve().relative_to(ROOT) for link in wanted]
    for line in (soup.find_all("nav")[0], soup.find_all("nav")[-1]):
        found = [leads_to(site, path, link["href"])[0] for link in line.find_all("a")]
        assert found == [(site / page(link.as_posix())).resolve() for link in wanted]


def test_copied_files_are_the_projects(site):
    """Pictures, the licence and modules, as they are; the style sheet is the site's own."""
    files = [path for path in site.rglob("*") if path.is_file() and path.suffix != ".html"]
    copied = {path.relative_to(site).as_posix() for path in files} - {"style.css"}
    assert {"LICENSE", "notebooks/pictures/path.svg", "notebooks/tutorial/memory.py"} < copied
    assert not [name for name in copied if (site / name).read_bytes() != (ROOT / name).read_bytes()]


@book
def test_pictures(book, soups):
    """As many as the notebook has, each with an alternative text."""
    cells = read(book).cells
    count = sum(cell.source.count("![") for cell in cells if cell.cell_type == "markdown")
    outputs = [output for cell in code_cells(read(book)) for output in cell.outputs]
    count += sum("image/png" in output.get("data", {}) for output in outputs)
    pictures = soups[page(book)].find_all("img")
    assert len(pictures) == count
    for picture in pictures:
        alt = picture.get("alt", "").strip()
        assert alt and not alt.startswith(NO_ALT)


@book
def test_headings_are_in_order(book, soups):
    """One h1, which comes first; no level is skipped on the way down."""
    levels = [int(each.name[1]) for each in soups[page(book)].find_all(re.compile(r"^h[1-6]$"))]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after - before <= 1 for before, after in zip(levels, levels[1:], strict=False))


@book
def test_ids_are_unique(book, soups):
    ids = [element["id"] for element in soups[page(book)].find_all(id=True)]
    assert len(ids) > 20 and len(set(ids)) == len(ids)


@book
def test_the_banner_names_the_hardware(book, soups):
    """And the versions, as the notebook's last cell says them; it stands above everything else."""
    [banner] = soups[page(book)].body.find_all("header", class_="recorded")
    assert soups[page(book)].body.find(True) is banner
    said = " ".join(banner.get_text().split())
    hardware, versions = (
        "".join(texts(code_cells(read(book))[-1].outputs)).removeprefix("Ran on: ").split("; ")
    )
    assert hardware.strip() and banner.find_all("strong")[1].get_text() == hardware
    assert versions.strip() in said and "nothing runs here" in said


@book
def test_solutions_are_closed(book, soups):
    """Each in a box of its own, with its code and its outputs; nothing else is in one."""
    soup = soups[page(book)]
    solutions = [cell.id for cell in code_cells(read(book)) if is_solution(cell)]
    boxes = soup.select("details.solution")
    assert [box.select_one(".jp-CodeCell")["id"] for box in boxes] == [
        f"cell-id={name}" for name in solutions
    ]
    for box in boxes:
        assert not box.has_attr("open") and box.summary.get_text() == "Solution"
        assert len(box.select(".jp-Cell")) == 1
        assert box.select_one(".highlight") and box.select_one(".jp-OutputArea")
    badges = [each for each in soup.find_all("strong") if "solved" in each.get_text()]
    assert len(badges) >= len(solutions) and all(each.find_parent("details") for each in badges)


@book
def test_every_cell_is_there(book, soups):
    """With the notebook's code, character by character."""
    soup = soups[page(book)]
    for cell in read(book).cells:
        found = soup.find(id=f"cell-id={cell.id}")
        assert found, cell.id
        if cell.cell_type == "code":
            assert found.select_one(".highlight").get_text().strip() == cell.source.strip()


@book
def test_scripts_are_mathjax_where_there_are_formulas(book, soups):
    text = "\n".join(cell.source for cell in read(book).cells if cell.cell_type == "markdown")
    has_formulas = bool(re.search(r"\$\S", re.sub(r"```.*?```|`[^`]*`", "", text, flags=re.DOTALL)))
    scripts = soups[page(book)].find_all("script")
    assert bool(scripts) == has_formulas
    assert not [each for each in scripts if "mathjax" not in str(each).lower()]


def test_the_style_has_a_light_and_a_dark_theme(site):
    """The same variables in both, the dark ones for a reader whose system is dark."""
    style = (site / "style.css").read_text(encoding="utf-8")
    light, dark = style.split("@media (prefers-color-scheme: dark) {", 1)
    dark = dark.split("\n}\n}")[0]
    for name in ("layout-color0", "content-font-color1", "mirror-editor-keyword-color"):
        values = [re.findall(rf"--jp-{name}: ([^;]+);", theme)[-1] for theme in (light, dark)]
        assert values[0] != values[1], name
    assert style.count("{") == style.count("}")


def test_a_link_to_nothing_ends_it_with_one_line():
    target = runpy.run_path(str(SITE))["target"]
    assert target(BOOKS[1], "../LICENSE") == "LICENSE"
    assert target(BOOKS[1], "../START_HERE.ipynb#Glossary") == HOME
    assert target(BOOKS[1], "#Set-up") is target(BOOKS[1], "https://docs.dask.org") is None
    for link in ("06-None.ipynb", "../../elsewhere.py", "/etc/hostname", "pictures"):
        with pytest.raises(SystemExit, match=f"{BOOKS[1]}: .*{link}"):
            target(BOOKS[1], link)


@pytest.mark.parametrize(
    "arguments", [["--help"], ["one", "two"], [str(ROOT)]], ids=["option", "two folders", "itself"]
)
def test_nothing_is_written_elsewhere(arguments):
    """An option, two folders or the project's own folder: one line, and nothing is written."""
    with pytest.raises(SystemExit, match="usage: python .ci/site.py|another folder"):
        runpy.run_path(str(SITE))["main"](arguments)
    assert not (ROOT / "index.html").exists()


def test_pages_publishes_what_make_site_writes():
    """With no more rights than that takes."""
    text = (ROOT / ".github/workflows/pages.yml").read_text(encoding="utf-8")
    workflow = yaml.safe_load(text)
    build, deploy = workflow["jobs"]["build"], workflow["jobs"]["deploy"]
    assert "make site" in [step.get("run") for step in build["steps"]]
    assert re.search(r"^site: environment ", (ROOT / "Makefile").read_text(), re.MULTILINE)
    [upload] = [step for step in build["steps"] if "upload-pages" in step.get("uses", "")]
    assert upload["with"] == {"path": "site"} and deploy["needs"] == "build"
    assert workflow["permissions"] == {"contents": "read"}
    assert build["permissions"] == {"contents": "read", "pages": "read"}
    assert deploy["permissions"] == {"pages": "write", "id-token": "write"}
    assert "/site/" in (ROOT / ".gitignore").read_text().splitlines()


def supported(version):
    """Tell whether the project runs on a version of Python."""
    return SpecifierSet(PROJECT["requires-python"]).contains(version)


def test_codespace(tmp_path):
    """Its Python is one that the project supports. Its command is the set-up, which does nothing a second time."""
    settings = json.loads((ROOT / ".devcontainer/devcontainer.json").read_text(encoding="utf-8"))
    assert supported(re.search(r":(\d\.\d+)$", settings["image"])[1])
    python, script = settings["postCreateCommand"].split()
    assert python == "python3" and (ROOT / script).is_file()
    folder = copy_project(tmp_path)
    lend_environment(folder)
    command = [base_python(), script]
    answer = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60)
    assert (answer.returncode, answer.stdout, answer.stderr) == (0, "", "")
    [interpreter] = settings["customizations"]["vscode"]["settings"].values()
    assert interpreter == "${containerWorkspaceFolder}/.venv/bin/python"


def test_binder():
    """It installs the project for the CPU, on a Python that the project supports, and sees no environment.yml."""
    folder = ROOT / ".binder"
    assert {path.name for path in folder.iterdir()} == {"requirements.txt", "runtime.txt"}
    [line] = (folder / "requirements.txt").read_text().splitlines()
    [extra] = re.fullmatch(r"-e \.\[(.+)\]", line).groups()
    assert extra == "cpu" and extra in PROJECT["optional-dependencies"]
    assert supported((folder / "runtime.txt").read_text().strip().removeprefix("python-"))
