"""What every notebook keeps: names, links, navigation, shape, tags, honest outputs."""

import ast
import os
import re
import statistics

from tutorial import checks

import nbformat
import pytest

from tests import record
from tests.books import BOOKS, DEEPER, HOME, LESSONS, ROOT, code_cells, faults, read, texts
from tests.nbval_plugin import GPU_ENGINE

IGNORE = "nbval-ignore-output"
TAGS = {IGNORE, "solution", "step-cluster", "step-data", "step-fit", "step-predict", "step-score"}
# cells of a notebook, and of its objectives and its recap the bullets: the most of each; three have two halves
MOST = dict.fromkeys((*LESSONS, *DEEPER), (60, 5))
WORDS = 1800  # of prose in a notebook of deeper/, at most
LINK = re.compile(r"\]\(([^)]+)\)")
# a measured figure: a number with a unit of time, or a ratio
MEASURED = re.compile(
    r"\b\d+(\.\d+)?\s?(s|ms|µs|seconds|milliseconds|times (faster|slower|as fast))\b|\b\d+(\.\d+)?x\b"
)

book = pytest.mark.parametrize("book", BOOKS)
lesson = pytest.mark.parametrize("book", [*LESSONS, *DEEPER])
deeper = pytest.mark.parametrize("book", DEEPER)
# the notebooks that keep what DESIGN.md asks of one: the list grows as they are rebuilt
REBUILT = [*LESSONS, *DEEPER]
MIDDLE = 7  # lines of the code cell in the middle; to come down towards 4
rebuilt = pytest.mark.parametrize("book", REBUILT)


def made_up(cells):
    """Return a notebook of code cells: id -> source."""
    new_cells = [nbformat.v4.new_code_cell(source, id=name) for name, source in cells.items()]
    return nbformat.v4.new_notebook(cells=new_cells)


def parsed(cell):
    """Return the syntax tree of a code cell; of a %%writefile cell, that of the script it writes."""
    return ast.parse(re.sub(r"\A%%writefile .*\n", "", cell.source))


def markdown(book):
    return [cell.source for cell in read(book).cells if cell.cell_type == "markdown"]


def short_name(book):
    """Return the title of a notebook, up to its first comma."""
    return re.search(r"^# (.*)", markdown(book)[1], re.MULTILINE)[1].split(",")[0]


def is_imports(cell):
    return cell.id == "imports"


def test_the_notebooks_are_these():
    """People link to the file names: none is renamed, none is left over."""
    found = {
        str(path.relative_to(ROOT))
        for path in [*ROOT.glob("*.ipynb"), *ROOT.glob("notebooks/**/*.ipynb")]
    }
    assert {path for path in found if ".ipynb_checkpoints" not in path} == set(BOOKS)


@book
def test_format(book):
    assert not list(faults(book, (ROOT / book).read_text(encoding="utf-8")))


@book
def test_links_lead_somewhere(book):
    targets = [target for text in markdown(book) for target in LINK.findall(text)]
    local = [target for target in targets if not target.startswith("https://")]
    assert local
    missing = [
        target for target in local if not ((ROOT / book).parent / target.split("#")[0]).is_file()
    ]
    assert not missing
    for target, heading in (target.split("#") for target in local if "#" in target):
        path = ((ROOT / book).parent / target).resolve().relative_to(ROOT)
        headings = re.findall(r"^#+ (.*)", "\n".join(markdown(path)), re.MULTILINE)
        assert heading in [each.replace(" ", "-") for each in headings]


def glossary():
    """Return the words that START_HERE's glossary explains."""
    [cell] = [cell for cell in read(HOME).cells if cell.id == "glossary"]
    return re.findall(r"^\| (?!Word \||---)([^|]+?) \|", cell.source, re.MULTILINE)


def uses(book, word):
    """Yield the lines of a notebook's text that use a word: not in headings, pictures, code or targets of links."""
    for text in markdown(book)[1:-1]:
        for line in text.splitlines():
            shown = re.sub(r"!\[[^]]*\]\([^)]*\)|`[^`]*`", "", line)
            plain = re.sub(r"\]\([^)]*\)", "]", shown)
            if not line.startswith("#") and re.search(
                rf"(?<![-\w]){re.escape(word)}(s|e?d)?\b", plain, re.IGNORECASE
            ):
                yield line


@pytest.mark.parametrize("word", glossary())
def test_a_word_of_the_glossary_leads_there_from_its_first_use(word):
    """In the order in which the notebooks are read: the five, then the deeper ones."""
    path, line = next((path, line) for path in [*LESSONS, *DEEPER] for line in uses(path, word))
    target = os.path.relpath(ROOT / HOME, (ROOT / path).parent) + "#Glossary"
    assert re.search(
        rf"\[{re.escape(word)}(s|e?d)?\]\({re.escape(target)}\)", line, re.IGNORECASE
    ), f"{path}: {line}"


@lesson
def test_objectives_and_recap(book):
    title = markdown(book)[1]
    assert re.findall(r"^# .*", title, re.MULTILINE) == re.findall(
        r"^# .*", "\n".join(markdown(book)), re.MULTILINE
    )
    assert len(re.findall(r"^# ", title, re.MULTILINE)) == 1
    objectives = re.findall(r"^- ([a-z]+)", title.split("**You will learn to**")[1], re.MULTILINE)
    assert 3 <= len(objectives) <= MOST[book][1]
    assert "**Minutes:**" in title and "**Device:**" in title
    recap = [text for text in markdown(book) if text.startswith("## What you learned")]
    assert len(recap) == 1
    assert 3 <= len(re.findall(r"^- \*\*", recap[0], re.MULTILINE)) <= MOST[book][1]
    assert [text.splitlines()[0] for text in markdown(book) if text.startswith("## Finish")] == [
        "## Finish"
    ]
    assert "CC BY 4.0" in markdown(book)[-2] and "LICENSE" in markdown(book)[-2]


@lesson
def test_cell_sizes(book):
    cells = read(book).cells
    assert 25 <= len(cells) <= MOST[book][0]
    assert not [cell.id for cell in cells if not cell.source.strip()]
    lines = {
        cell.id: sum(bool(line.strip()) for line in cell.source.splitlines())
        for cell in code_cells(read(book))
    }
    assert not {
        name: count for name, count in lines.items() if count > (36 if name == "imports" else 15)
    }
    assert statistics.median(lines.values()) <= 8
    words = [len(text.split()) for text in markdown(book)[1:-1]]
    assert 20 <= statistics.median(words) <= (75 if book in DEEPER else 60)


def words(notebook):
    """Count the words of a notebook's text, without the navigation lines."""
    return sum(
        len(cell.source.split()) for cell in notebook.cells[1:-1] if cell.cell_type == "markdown"
    )


def lines(cell):
    return sum(bool(line.strip()) for line in cell.source.splitlines())


def exercises(notebook, kinds="Exercise"):
    """Return for each heading "### Exercise N" the code cells between it and the next text, in order.

    With kinds="Exercise|Step" also for each heading "### Step N", a step of the challenge: its solution is notebook 05.
    """
    found, inside = [], False
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            inside = re.match(rf"### (?:{kinds}) \d+: ", cell.source)
            found += [[]] if inside else []
        elif inside:
            found[-1].append(cell)
    return found


def check_calls(cell):
    """Return the names of the exercises that a cell checks."""
    return [
        node.args[0].value
        for node in ast.walk(parsed(cell))
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "check"
    ]


def has_stub(cell):
    """Tell whether a cell leaves `...` for the reader to replace."""
    return any(
        isinstance(node, ast.Assign) and getattr(node.value, "value", None) is ...
        for node in ast.walk(parsed(cell))
    )


def is_set_up(cell):
    """Tell whether a cell only imports, starts or closes a cluster, or says what the notebook ran on."""
    return (
        is_imports(cell)
        or "LocalCUDACluster(" in cell.source
        or "cluster.close()" in cell.source
        or cell.source == "print(ran_on())"
    )


def minutes(notebook):
    """Return how many minutes a notebook takes a learner.

    A minute for each 180 words, a minute for each code cell that is more than set-up, and five minutes for each
    exercise and each step of the challenge, which are those of its cells as well.
    """
    tasks = exercises(notebook, "Exercise|Step")
    practised = {cell.id for cells in tasks for cell in cells}
    run = [
        cell for cell in code_cells(notebook) if cell.id not in practised and not is_set_up(cell)
    ]
    return words(notebook) / 180 + len(run) + 5 * len(tasks)


def named_minutes(book):
    """Return the minutes that the title of a lesson promises."""
    return int(re.search(r"\*\*Minutes:\*\* (\d+)", markdown(book)[1])[1])


@rebuilt
def test_a_lesson_is_an_hour_at_most(book):
    """At most 60 cells, 1800 words and 60 minutes; the title names the minutes, rounded to the nearest five."""
    notebook = read(book)
    assert len(notebook.cells) <= 60
    assert words(notebook) <= 1800
    assert minutes(notebook) <= 60
    assert named_minutes(book) == 5 * round(minutes(notebook) / 5)


@rebuilt
def test_code_cells_are_short(book):
    """The import cell has 25 lines at most, any other 15, a plot 8 from its first line on; half of them few."""
    cells = code_cells(read(book))
    assert not [cell.id for cell in cells if lines(cell) > (25 if is_imports(cell) else 15)]
    assert statistics.median(map(lines, cells)) <= MIDDLE
    drawn = {
        cell.id: cell.source[cell.source.index("plt.subplots") :]
        for cell in cells
        if "plt.subplots" in cell.source
    }
    assert not [name for name, source in drawn.items() if len(source.splitlines()) > 8]


@rebuilt
def test_exercises(book):
    """Three or more, with the steps of the challenge, which notebook 05 solves. Each exercise has a number, a stub, a
    check, and a collapsed solution that is checked by the same name.
    """
    notebook = read(book)
    headings = re.findall(r"^### Exercise (\d+): ", "\n".join(markdown(book)), re.MULTILINE)
    assert headings == [str(number) for number in range(1, len(headings) + 1)]
    assert len(exercises(notebook, "Exercise|Step")) >= 3
    names = []
    for cells in exercises(notebook):
        *work, tried, solution = cells
        assert any(map(has_stub, work)), cells[0].id
        assert not [
            cell.id for cell in (*work, tried) if "solution" in cell.metadata.get("tags", [])
        ]
        assert solution.metadata.get("tags") == ["solution"], solution.id
        assert check_calls(tried) == check_calls(solution) != [], tried.id
        names += check_calls(tried)
    assert len(set(names)) == len(names) and set(names) <= set(checks.CHECKS)


def test_minutes_are_counted():
    """A made-up notebook: two minutes of words, two cells that are more than set-up, an exercise, a step."""
    markdown_cell, code_cell = nbformat.v4.new_markdown_cell, nbformat.v4.new_code_cell
    notebook = nbformat.v4.new_notebook(
        cells=[
            markdown_cell("navigation"),
            markdown_cell("word " * 357),
            code_cell("from tutorial.device import GPU", id="imports"),
            code_cell("cluster = LocalCUDACluster()"),
            code_cell("1 + 1"),
            markdown_cell("### Exercise 1: add"),
            code_cell("answer = ..."),
            code_cell('check("add", answer)'),
            code_cell('check("add", 2)', metadata={"tags": ["solution"]}),
            markdown_cell("..."),
            code_cell("2 + 2"),
            markdown_cell("### Step 1: subtract"),
            code_cell("difference = ..."),
            code_cell("check_difference(difference)"),
            code_cell("client.close()\ncluster.close()"),
            code_cell("print(ran_on())"),
            markdown_cell("navigation"),
        ]
    )
    assert words(notebook) == 366
    assert minutes(notebook) == pytest.approx(366 / 180 + 2 + 5 + 5)
    [cells] = exercises(notebook)
    assert has_stub(cells[0]) and not has_stub(cells[1])
    assert check_calls(cells[1]) == check_calls(cells[2]) == ["add"]


@book
def test_one_run_from_top_to_bottom(book):
    cells = code_cells(read(book))
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert not [
        cell.id for cell in cells for output in cell.outputs if output.output_type == "error"
    ]
    assert not [
        cell.id for cell in cells for output in cell.outputs if output.get("name") == "stderr"
    ]


@book
def test_tags(book):
    """A misspelt tag is silently ignored by nbval."""
    assert {tag for cell in read(book).cells for tag in cell.metadata.get("tags", [])} <= TAGS


@book
def test_ignored_outputs(book):
    """Few outputs are ignored, and a cell whose output is ignored asserts what it claims."""
    cells = code_cells(read(book))
    ignored = [cell for cell in cells if IGNORE in cell.metadata.get("tags", [])]
    # one that waits to be recorded is taken for a cell with an output
    shown = [cell for cell in cells if cell.outputs or cell.execution_count is None]
    assert len(ignored) <= len(shown) / 4
    for cell in ignored:
        nodes = list(ast.walk(parsed(cell)))
        named = {getattr(getattr(node, "func", None), "attr", "") for node in nodes}
        assert "need_disk" in named or any(isinstance(node, ast.Assert) for node in nodes), cell.id


@book
def test_no_output_without_a_claim(book):
    """Figures whose text is not compared (HTML) come with text that is, or stand beside an assertion."""
    cells = code_cells(read(book))
    compared = [
        cell for cell in cells if cell.outputs and IGNORE not in cell.metadata.get("tags", [])
    ]
    strict = [
        cell
        for cell in compared
        if any("<IPython.core.display.HTML" not in text for text in texts(cell.outputs))
    ]
    assert len(strict) >= len(compared) / 2


@book
def test_clusters_listen_on_loopback(book):
    """Dask's default dashboard address is every interface."""
    starts = [
        node
        for cell in code_cells(read(book))
        for node in ast.walk(parsed(cell))
        if isinstance(node, ast.Call)
        and getattr(node.func, "id", "") in ("LocalCUDACluster", "LocalCluster")
    ]
    assert starts or book == "notebooks/04-Challenge.ipynb"
    for start in starts:
        keywords = {keyword.arg: ast.unparse(keyword.value) for keyword in start.keywords}
        assert keywords["dashboard_address"] in ("dashboard_address()", "'127.0.0.1:0'")


@book
def test_engines_are_not_written_down(book):
    """The name of an engine comes from measure.engine, below the import cell and outside of `if GPU:`."""
    for cell in code_cells(read(book)):
        if is_imports(cell) or book == "START_HERE.ipynb":
            continue
        tree = parsed(cell)
        guarded = {
            id(inner) for node in ast.walk(tree) if is_gpu_branch(node) for inner in ast.walk(node)
        }
        for node in ast.walk(tree):
            if (
                isinstance(node, ast.Constant)
                and isinstance(node.value, str)
                and id(node) not in guarded
            ):
                assert not GPU_ENGINE.search(node.value) or node.value in ("cupy", "cudf"), (
                    f"{cell.id}: {node.value}"
                )


def is_gpu_branch(node):
    """Tell whether `node` runs only on a GPU: the body of `if GPU:`."""
    return isinstance(node, ast.If) and getattr(node.test, "id", "") == "GPU"


@lesson
def test_device_is_chosen_in_the_import_cell(book):
    first = code_cells(read(book))[0]
    assert (
        is_imports(first)
        and "from tutorial.device import" in first.source
        and "describe()" in first.source
    )
    assert all("cpu_stand_ins" not in cell.source for cell in code_cells(read(book))[1:])
    assert code_cells(read(book))[-1].source == "print(ran_on())"


@book
def test_no_measured_figure_in_prose(book):
    found = [match[0] for text in markdown(book) for match in MEASURED.finditer(text)]
    assert not found


@book
def test_outputs_come_from_a_gpu(book):
    """Committed outputs name their hardware and versions at the end, and the hardware is a GPU."""
    ran_on = "".join(texts(code_cells(read(book))[-1].outputs))
    assert re.match(r"Ran on: \d+ x NVIDIA .*, driver [\d.]+, .*cudf [\d.]+", ran_on)


def without_a_bound(notebook):
    """Return the ids of the code cells that print a figure behind ≈, which is not compared, and assert nothing.

    Assert nothing: each assertion names no variable, and so none that was measured.
    """
    return [
        cell.id
        for cell in code_cells(notebook)
        if shows_about(parsed(cell)) and not asserts_something(parsed(cell))
    ]


def shows_about(tree):
    """Tell whether code holds the sign ≈ in a string, f-strings included; docstrings apart."""
    docstrings = [
        node.body[0].value
        for node in ast.walk(tree)
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and isinstance(node.body[0], ast.Expr)
    ]
    return any(
        isinstance(node, ast.Constant) and "≈" in str(node.value) and node not in docstrings
        for node in ast.walk(tree)
    )


def asserts_something(tree):
    return any(
        isinstance(inner, ast.Name)
        for node in ast.walk(tree)
        if isinstance(node, ast.Assert)
        for inner in ast.walk(node.test)
    )


@pytest.mark.parametrize("book", [HOME, *REBUILT])
def test_a_figure_behind_about_has_a_bound(book):
    """In its own cell: the figure itself is hidden from the comparison."""
    assert not without_a_bound(read(book))


def test_a_figure_without_a_bound_is_found():
    cells = {
        "bound": 'print(f"ROC AUC ≈ {auc:.3f}")\nassert auc > 0.9',
        "none": 'print(f"ROC AUC ≈ {auc:.3f}")',
        "empty": 'print(f"ROC AUC ≈ {auc:.3f}")\nassert True',
        "plain": 'print("ROC AUC ≈", auc)',
        "later": 'line = f"{name} ≈ {auc:.3f}"',
        "comment": "auc = 1  # ≈ what it should be",
        "docstring": 'def about():\n    """Return ≈ 1."""\n    return 1',
        "strict": "print(auc)",
    }
    assert without_a_bound(made_up(cells)) == ["none", "empty", "plain", "later"]


def without_words(notebook):
    """Return the ids of the code cells that draw a figure and do not give it an alternative text with figures.show."""
    found = []
    for cell in code_cells(notebook):
        calls = [node for node in ast.walk(parsed(cell)) if isinstance(node, ast.Call)]
        names = [ast.unparse(call.func) for call in calls]
        drawn = sum(name in ("plt.subplots", "plt.figure", "plt.subplot_mosaic") for name in names)
        words = [
            [*call.args, *(keyword.value for keyword in call.keywords)][1:]
            for call, name in zip(calls, names, strict=True)
            if name == "show"
        ]
        said = [text for text in words if text and len(ast.unparse(text[0])) > 30]
        if "plt.show" in names or len(said) < max(drawn, len(words)):
            found.append(cell.id)
    return found


@rebuilt
def test_figures_and_pictures_have_words(book):
    """For who cannot see them."""
    assert not without_words(read(book))
    pictures = [words for text in markdown(book) for words in re.findall(r"!\[(.*?)\]\(", text)]
    assert not [words for words in pictures if len(words.split()) < 5]


def test_a_figure_without_words_is_found():
    cells = {
        "said": 'figure, axes = plt.subplots()\nshow(figure, "Seconds by rows; cuts at a million")',
        "by-name": 'f, a = plt.subplots()\nshow(f, alt="Seconds by rows; cuts at a million")',
        "plain": "figure, axes = plt.subplots()\nplt.show()",
        "left": "figure, axes = plt.subplots()",
        "nothing": "figure, axes = plt.subplots()\nshow(figure)",
        "too-little": 'figure, axes = plt.subplots()\nshow(figure, "a plot")',
        "no-plot": "print(1)",
    }
    assert without_words(made_up(cells)) == ["plain", "left", "nothing", "too-little"]


def test_readme_shows_a_figure_of_the_recorded_run():
    assert (ROOT / record.PICTURE).read_bytes() == record.picture(read(record.PICTURE_BOOK))


def test_minutes_agree():
    """The agenda, its picture and README promise the minutes that each notebook names."""
    named = [str(named_minutes(book)) for book in LESSONS]
    for text in ("\n".join(markdown(HOME)), (ROOT / "README.md").read_text("utf-8")):
        assert re.findall(r"^\| \d \| \[.*\| (\d+) \|$", text, re.MULTILINE) == named
    drawn = re.findall(r">(\d+) min<", (ROOT / "notebooks/pictures/path.svg").read_text("utf-8"))
    [start] = re.findall(
        r"^\| \| \[Start here\].*\| (\d+) \|$",
        (ROOT / "README.md").read_text("utf-8"),
        re.MULTILINE,
    )
    assert drawn == [start, *named]


@deeper
def test_deeper(book):
    """It says which lesson it continues, keeps to its words, and README promises its minutes."""
    title = markdown(book)[1]
    assert f"continues [notebook {LESSONS.index(DEEPER[book]) + 1}](../" in title
    assert sum(len(text.split()) for text in markdown(book)[1:-1]) <= WORDS
    minutes = re.search(r"\*\*Minutes:\*\* (\d+)", title)[1]
    row = rf"^\| deeper \| \[.*\]\({re.escape(book)}\).* \| (\d+) \|$"
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert re.findall(row, readme, re.MULTILINE) == [minutes]
    drawn = re.findall(r">([^<]+)<", (ROOT / "notebooks/pictures/path.svg").read_text("utf-8"))
    assert short_name(book).lower() in " ".join(" ".join(drawn).lower().split())


def test_readme():
    """At most 80 lines, every link alive, the verified-on table in place."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(readme.splitlines()) <= 80
    local = [target for target in LINK.findall(readme) if not target.startswith("https://")]
    assert not [target for target in local if not (ROOT / target.split("#")[0]).exists()]
    assert set(BOOKS) <= set(local)
    assert "## Verified on" in readme
