"""What every notebook keeps: names, links, navigation, shape, tags, honest outputs."""

import ast
import re
import statistics

import pytest

from tests import record
from tests.books import BOOKS, LESSONS, ROOT, code_cells, faults, read, texts
from tests.nbval_plugin import GPU_ENGINE

IGNORE = "nbval-ignore-output"
TAGS = {IGNORE, "step-cluster", "step-data", "step-fit", "step-predict", "step-score"}
# cells of a notebook, and of its objectives and its recap the bullets: the most of each; three have two halves
MOST = dict.fromkeys(LESSONS, (60, 5)) | dict.fromkeys((*LESSONS[1:3], LESSONS[4]), (126, 7))
LINK = re.compile(r"\]\(([^)]+)\)")
# a measured figure: a number with a unit of time, or a ratio
MEASURED = re.compile(
    r"\b\d+(\.\d+)?\s?(s|ms|µs|seconds|milliseconds|times (faster|slower|as fast))\b|\b\d+(\.\d+)?x\b"
)

book = pytest.mark.parametrize("book", BOOKS)
lesson = pytest.mark.parametrize("book", LESSONS)


def markdown(book):
    return [cell.source for cell in read(book).cells if cell.cell_type == "markdown"]


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
    assert 20 <= statistics.median(words) <= 60


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
    assert len(ignored) <= sum(bool(cell.outputs) for cell in cells) / 4
    for cell in ignored:
        nodes = list(ast.walk(ast.parse(cell.source)))
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
        for node in ast.walk(ast.parse(cell.source))
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
        tree = ast.parse(cell.source)
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


def test_readme_shows_a_figure_of_the_recorded_run():
    assert (ROOT / record.PICTURE).read_bytes() == record.picture(read(record.PICTURE_BOOK))


def test_minutes_agree():
    """The agenda and README promise the minutes that each notebook names."""
    named = [re.search(r"\*\*Minutes:\*\* (\d+)", markdown(book)[1])[1] for book in LESSONS]
    for text in ("\n".join(markdown("START_HERE.ipynb")), (ROOT / "README.md").read_text("utf-8")):
        assert re.findall(r"^\| \d \| \[.*\| (\d+) \|$", text, re.MULTILINE) == named


def test_readme():
    """At most 80 lines, every link alive, the verified-on table in place."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(readme.splitlines()) <= 80
    local = [target for target in LINK.findall(readme) if not target.startswith("https://")]
    assert not [target for target in local if not (ROOT / target.split("#")[0]).exists()]
    assert set(BOOKS) <= set(local)
    assert "## Verified on" in readme
