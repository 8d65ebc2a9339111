"""The look of the plots: colours that all readers see, one look for an engine, an alternative text for each figure."""

import base64
import html
import itertools
import re
from importlib import resources

import tutorial
from tutorial import figures, measure

import matplotlib.pyplot as plt
import matplotlib.style
import nbformat
import numpy as np
import pytest
from matplotlib.colors import to_hex, to_rgb
from nbconvert import HTMLExporter

from tests import record
from tests.books import texts

# what protanopia, deuteranopia and tritanopia leave of linear RGB: Machado, Oliveira and Fernandes 2009, severity 1
BLINDNESS = {
    "none": np.eye(3),
    "red": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "green": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "blue": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}  # fmt: skip
XYZ = np.array(
    [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
)  # of linear sRGB
SEEN_APART = 15  # in CIELAB, where 2.3 is a difference that can just be seen


@pytest.fixture
def style():
    """The style of the plots, over Matplotlib's own settings."""
    with matplotlib.style.context(tutorial.STYLE, after_reset=True):
        yield matplotlib.rcParams


def linear(colour):
    """Return a colour as linear RGB."""
    value = np.array(to_rgb(colour))
    return np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)


def contrast(one, other):
    """Return the contrast of two colours as WCAG defines it, 1 to 21."""
    low, high = sorted(XYZ[1] @ linear(colour) for colour in (one, other))
    return (high + 0.05) / (low + 0.05)


def lab(rgb):
    """Return linear RGB as CIELAB."""
    share = XYZ @ np.clip(rgb, 0, 1) / XYZ.sum(axis=1)
    x, y, z = np.where(share > 0.008856, np.cbrt(share), 7.787 * share + 16 / 116)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def colours():
    cycle = plt.rcParams["axes.prop_cycle"].by_key()["color"]
    return [to_hex(f"#{colour.removeprefix('#')}") for colour in cycle]


def test_contrast_is_computed_right():
    assert contrast("white", "black") == pytest.approx(21)
    assert contrast("white", "#767676") == pytest.approx(
        4.54, abs=0.01
    )  # the darkest grey of WCAG's limit


def test_colours_stand_out_from_their_ground(style):
    """3:1 is what WCAG asks of a line; 4.5:1 of text."""
    grounds = [style[name] for name in ("figure.facecolor", "axes.facecolor", "savefig.facecolor")]
    lines = colours() + [figures.engine_style(name)["color"] for name in figures.STYLES]
    words = [style[f"{name}color"] for name in ("text.", "axes.label", "xtick.", "ytick.")]
    for ground in grounds:
        assert not [colour for colour in lines if contrast(colour, ground) < 3]
        assert not [colour for colour in words if contrast(colour, ground) < 4.5]


@pytest.mark.parametrize("kind", BLINDNESS)
def test_a_colour_blind_reader_tells_the_colours_apart(style, kind):
    seen = {colour: lab(BLINDNESS[kind] @ linear(colour)) for colour in colours()}
    assert len(seen) >= 6
    for one, other in itertools.combinations(seen, 2):
        assert np.linalg.norm(seen[one] - seen[other]) >= SEEN_APART, (one, other)


def test_lines_differ_without_their_colours(style):
    styles = [str(each["linestyle"]) for each in style["axes.prop_cycle"]]
    assert len(set(styles)) == len(styles) >= 6


def test_the_style_is_part_of_the_package():
    """That the wheel has it: test_starting."""
    found = resources.files("tutorial") / "style.mplstyle"
    assert found.is_file() and str(found) == str(tutorial.STYLE)


def test_an_engine_looks_the_same_everywhere(style):
    looks = {name: tuple(figures.engine_style(name).values()) for name in figures.STYLES}
    same = {"Dask-ML": "Dask over scikit-learn", "Dask-cuDF": "Dask over cuDF"}
    assert all(looks[name] == looks[other] for name, other in same.items())
    assert len(set(looks.values())) == len(looks) - len(same)
    assert {colour.lower() for colour, _, _ in looks.values()} <= set(colours())
    assert figures.engine_style("pandas, one core") == figures.engine_style("pandas")


def test_every_engine_has_a_look():
    names = set(measure.ENGINES.values())
    assert names <= set(figures.STYLES)
    assert {f"Dask over {name}" for name in names if "Dask" not in name} <= set(figures.STYLES)
    with pytest.raises(KeyError, match="no style for 'Polars'; there are: pandas, "):
        figures.engine_style("Polars")


ALT = 'Seconds by rows: "cuDF" < pandas'


@pytest.fixture
def shown(monkeypatch):
    """The output that figures.show makes of a plot."""
    outputs = []
    monkeypatch.setattr(figures, "display", lambda bundle, raw: outputs.append(bundle))
    figure, axes = plt.subplots(figsize=(2, 1))
    axes.plot([1, 2])
    figures.show(figure, ALT)
    assert not plt.fignum_exists(figure.number)  # Jupyter shows what is left open
    [output] = outputs
    assert output["text/plain"] == "<Figure>"  # what nbval compares
    return nbformat.v4.new_output("display_data", data=output)


def test_a_figure_has_its_alternative_text(shown):
    """In what nbconvert makes of it, too."""
    cell = nbformat.v4.new_code_cell("show()", outputs=[shown])
    page, _ = HTMLExporter().from_notebook_node(nbformat.v4.new_notebook(cells=[cell]))
    for text in (shown.data["text/html"], page):
        [image] = re.findall(r"<img[^>]*data:image/png[^>]*>", text)
        assert html.unescape(re.search(r"""alt=(["'])(.*?)\1""", image)[2]) == ALT


def test_a_figure_without_words_is_refused():
    with pytest.raises(ValueError, match="what the figure shows"):
        figures.show(None, " ")


def test_the_letters_of_a_picture_are_no_words(shown):
    """By chance they may spell the name of a library, or a path."""
    text, plain = sorted(texts([shown]), key=len, reverse=True)
    assert plain == "<Figure>" and text.endswith('src="data:image/png;base64,">')


def test_readme_takes_a_figure_that_is_shown_with_words(shown):
    cell = nbformat.v4.new_code_cell("show()", id=record.PICTURE_CELL, outputs=[shown])
    png = record.picture(nbformat.v4.new_notebook(cells=[cell]))
    assert png.startswith(b"\x89PNG")
    assert shown.data["image/png"] == base64.b64encode(png).decode()  # for who shows no HTML
