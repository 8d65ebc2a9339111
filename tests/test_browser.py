"""`make lab` in a real browser: links lead where they say, notebooks run, an exercise is solved, the panes show tasks.

Needs Chromium, which `.ci/run` installs; left out, in sight, where there is none. Screenshots: build/screenshots.
"""

import json
import os
import re
import time

import pytest

from tests.books import BOOKS, HOME, LESSONS, ROOT, navigation
from tests.nbval_plugin import browser_program
from tests.test_lab import newcomers_lab

pytestmark = [pytest.mark.setup, pytest.mark.browser]
PICTURES = ROOT / "build" / "screenshots"
INTRO, CHALLENGE, SOLUTION = LESSONS[0], LESSONS[3], LESSONS[4]
SECONDS = 180  # for a notebook to run, on cores that other tests use, too

# the notebook that is in front: its path, and what its code cells hold
PATH = "() => jupyterapp.shell.currentWidget?.context?.path ?? ''"
CELLS = """() => jupyterapp.shell.currentWidget.content.model.sharedModel.cells
    .filter(cell => cell.cell_type === 'code').map(cell => cell.toJSON())"""
# what Dask's panes have been sent: for each, how many rows its longest table has
PANE_ROWS = """() => Math.max(0, ...Bokeh.documents.flatMap(doc => [...doc._all_models.values()])
    .filter(model => model.type === 'ColumnDataSource').map(source => source.get_length() ?? 0))"""
# text on too little contrast (WCAG: 4.5), and pictures cut off by what is around them; the editors are Lab's own
UNREADABLE = """() => {
  const numbers = colour => (colour.match(/[\\d.]+/g) || []).map(Number);
  const light = ([r, g, b]) => [r, g, b].map(v => v / 255)
    .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const ground = node => {
    for (; node; node = node.parentElement) {
      const colour = numbers(getComputedStyle(node).backgroundColor);
      if (colour.length === 3 || colour[3] > 0.9) return colour;
    }
    return [255, 255, 255];
  };
  const APART = 'script, mjx-container, .jp-RenderedMarkdown pre';  // code there has Lab's colours, too
  const panel = jupyterapp.shell.currentWidget.content.node, found = [];
  for (const area of panel.querySelectorAll('.jp-RenderedMarkdown, .jp-OutputArea-output')) {
    const walker = document.createTreeWalker(area, NodeFilter.SHOW_TEXT);
    for (let text; (text = walker.nextNode());) {
      const box = text.parentElement.getBoundingClientRect();
      if (!text.data.trim() || !box.width || text.parentElement.closest(APART)) continue;
      const [one, other] = [numbers(getComputedStyle(text.parentElement).color), ground(text.parentElement)].map(light);
      const contrast = (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05);
      if (contrast < 4.5) found.push(`${contrast.toFixed(1)}: ${text.data.trim().slice(0, 40)}`);
    }
    for (const image of area.querySelectorAll('img')) {
      const box = image.getBoundingClientRect(), around = area.getBoundingClientRect();
      if (!image.naturalWidth) found.push(`no picture: ${image.alt}`);
      if (box.left < around.left - 1 || box.right > around.right + 1) found.push(`clipped: ${image.alt}`);
      if (!image.alt) found.push('a picture without an alternative text');
    }
  }
  return [...new Set(found)];
}"""


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """`make lab`, whose notebooks draw all their cells at once."""
    with newcomers_lab(tmp_path_factory) as lab:
        setting = json.dumps({"raw": json.dumps({"windowingMode": "defer"})}).encode()
        lab.get(
            "lab/api/settings/@jupyterlab/notebook-extension:tracker", method="PUT", data=setting
        )
        yield lab


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=browser_program(), args=sandbox)
        yield browser
        browser.close()


@pytest.fixture
def page(browser, lab):
    """JupyterLab as `make lab` opens it, in a window of its own, and at the end without a kernel."""
    page = browser.new_page(viewport={"width": 1600, "height": 1000})
    page.set_default_timeout(60_000)
    page.goto(f"{lab.base}/lab/workspaces/auto-{time.time_ns()}/tree/work/{HOME}?token={lab.token}")
    page.wait_for_function(f"() => window.jupyterapp && ({PATH})() === 'work/{HOME}'")
    yield page
    page.close()
    for kernel in json.loads(lab.get("api/kernels")[1]):
        lab.get(f"api/kernels/{kernel['id']}", method="DELETE")


def bring_to_front(page, book):
    """Open a notebook of the learner's copy, or take its tab, and wait until its heading is drawn."""
    page.evaluate(
        "async path => { await jupyterapp.commands.execute('docmanager:open', {path}); }",
        f"work/{book}",
    )
    page.wait_for_function(f"path => ({PATH})() === path", arg=f"work/{book}")
    panel(page).locator("h1").first.wait_for()


def open_book(page, book):
    """Bring a notebook to the front, and wait until its kernel answers."""
    bring_to_front(page, book)
    page.wait_for_function(
        "() => jupyterapp.shell.currentWidget.sessionContext.session?.kernel?.status === 'idle'"
    )


def panel(page):
    """Return the notebook that is in front."""
    return page.locator(".jp-NotebookPanel:not(.lm-mod-hidden)").first


def execute(page, command):
    page.evaluate("async name => { await jupyterapp.commands.execute(name); }", command)


def run(page, cell_id):
    """Put the cursor into a cell, as a click does, and press Shift+Enter; wait until it has run."""
    page.evaluate(
        """id => { const notebook = jupyterapp.shell.currentWidget.content;
        notebook.activeCellIndex = notebook.widgets.findIndex(cell => cell.model.id === id);
        notebook.deselectAll(); notebook.node.focus(); }""",
        cell_id,
    )
    page.keyboard.press("Shift+Enter")
    page.wait_for_function(
        f"id => ({CELLS})().find(cell => cell.id === id).execution_count !== null &&"
        " jupyterapp.shell.currentWidget.sessionContext.session.kernel.status === 'idle'",
        arg=cell_id,
    )


def cell(page, cell_id):
    """Return what is drawn of a cell."""
    number = page.evaluate(
        "id => jupyterapp.shell.currentWidget.content.widgets.findIndex(cell => cell.model.id === id)",
        cell_id,
    )
    return panel(page).locator(".jp-Notebook .jp-Cell").nth(number)


def clear(page):
    """Take out the recorded outputs: what is there afterwards, this browser has made."""
    execute(page, "notebook:clear-all-cell-outputs")


def test_navigation_leads_where_it_says(page):
    """In each notebook every link of the line; the notebook itself stands in it without one."""
    for book in BOOKS:
        targets = re.findall(r"\[([^]]+)\]\(([^)]+)\)", navigation(book))
        assert len(targets) >= 6
        for text, target in targets:
            bring_to_front(page, book)
            line = panel(page).locator(".jp-RenderedMarkdown").first
            line.get_by_role("link", name=text, exact=True).click()
            path = os.path.normpath(os.path.join("work", os.path.dirname(book), target))
            page.wait_for_function(f"path => ({PATH})() === path", arg=path)


@pytest.mark.parametrize("book", [INTRO, CHALLENGE, SOLUTION])
def test_run_all_cells(page, book):
    """No error, nothing red; each cell has run and says how long it took. In both themes everything can be read."""
    open_book(page, book)
    clear(page)
    execute(page, "notebook:run-all-cells")
    page.wait_for_function(
        f"() => ({CELLS})().every(cell => cell.execution_count !== null) &&"
        " jupyterapp.shell.currentWidget.sessionContext.session.kernel.status === 'idle'",
        timeout=SECONDS * 1000,
    )
    cells = page.evaluate(CELLS)
    outputs = [output for cell in cells for output in cell["outputs"]]
    assert any("Ran on: " in "".join(output.get("text", "")) for output in outputs)
    red = [
        output
        for output in outputs
        if output["output_type"] == "error" or output.get("name") == "stderr"
    ]
    assert not red
    assert panel(page).get_by_text(re.compile(r"^Last executed at .* in ")).count() > 10
    look(page, book)


def test_start_here_can_be_read(page):
    open_book(page, HOME)
    look(page, HOME)


def look(page, book):
    """Hold a notebook to what a reader needs in either theme, and keep a picture of it."""
    PICTURES.mkdir(parents=True, exist_ok=True)
    for theme in ("Dark", "Light"):  # the light one stays for the next
        page.evaluate(
            "async theme => { await jupyterapp.commands.execute('apputils:change-theme', {theme}); }",
            f"JupyterLab {theme}",
        )
        page.wait_for_function(f"() => document.body.dataset.jpThemeName === 'JupyterLab {theme}'")
        page.wait_for_timeout(500)
        name = os.path.basename(book).removesuffix(".ipynb")
        page.screenshot(path=PICTURES / f"{name}-{theme.lower()}.png")
        assert not page.evaluate(UNREADABLE), theme


def test_an_exercise_is_solved_by_typing(page):
    """To do, then wrong with a hint, then solved: seen by a word, a sign and a colour."""
    open_book(page, CHALLENGE)
    clear(page)
    for name in (
        "imports",
        "small-data",
        "lloyd-step",
        "lloyd",
        "plot-start",
        "exercise-stuck-stub",
    ):
        run(page, name)
    for typed, state in [("...", "○ to do"), ("5", "✘ wrong"), ("2", "✔ solved")]:
        stub = cell(page, "exercise-stuck-stub")
        stub.locator(".cm-content").click()
        page.keyboard.press("Control+a")
        page.keyboard.type(f"answer = {typed}")
        run(page, "exercise-stuck-stub")
        run(page, "exercise-stuck-check")
        assert cell(page, "exercise-stuck-check").locator("strong").inner_text() == state


def test_one_click_shows_the_workers(page):
    """The panes are those of the notebook's cluster, through Lab's own address, and show the tasks that it runs."""
    open_book(page, INTRO)
    clear(page)
    for name in ("imports", "start-cluster"):
        run(page, name)
    started = cell(page, "start-cluster")
    link = started.get_by_role("link")
    assert re.fullmatch(r"/proxy/\d+/status", link.inner_text())
    with page.expect_popup() as opened:
        link.click()
    opened.value.get_by_text("Task Stream").first.wait_for(state="attached")
    opened.value.close()
    started.get_by_role("button", name="Show it beside the notebook").click()
    panes = {"Task Stream": "individual-task-stream", "Progress": "individual-progress",
             "Workers Memory": "individual-workers-memory"}  # fmt: skip
    for title in panes:
        page.locator(".lm-TabBar-tabLabel", has_text=re.compile(f"^{title}$")).wait_for()
    for name in ("job", "measure-jobs"):
        run(page, name)
    port = link.inner_text().split("/")[2]
    for path in panes.values():
        url = re.compile(rf"/proxy/{port}/{path}")
        [frame] = [frame for frame in page.frames if url.search(frame.url)]
        frame.wait_for_function(f"() => ({PANE_ROWS})() > 0")
    PICTURES.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=PICTURES / "panes.png")
    run(page, "close")
