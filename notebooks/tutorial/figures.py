"""Tables, drawings and the dashboard's link: what notebooks show, and whose mechanics are no lesson."""

import base64
import contextlib
import html
import io
import re

from tutorial.dashboard import show_dashboard

import pandas as pd
from IPython.display import HTML, display

__all__ = ["draw_graph", "engine_style", "plan", "share_bars", "show", "show_dashboard", "table"]
# the colours of style.mplstyle: by where the work is done
ALONE, ON_WORKERS = "-", "--"
HOST, HOST_WORKERS, GPU, GPU_WORKERS = "#332288", "#8E6BBE", "#D55E00", "#882255"
STYLES = {  # engine -> colour, marker, line style
    "pandas": (HOST, "o", ALONE),
    "NumPy": (HOST, "s", ALONE),
    "scikit-learn": (HOST, "v", ALONE),
    "cuDF": (GPU, "^", ALONE),
    "CuPy": (GPU, "D", ALONE),
    "cuML": (GPU, "P", ALONE),
    "Dask over pandas": (HOST_WORKERS, "o", ON_WORKERS),
    "Dask over NumPy": (HOST_WORKERS, "s", ON_WORKERS),
    "Dask over scikit-learn": (HOST_WORKERS, "v", ON_WORKERS),
    "Dask over cuDF": (GPU_WORKERS, "^", ON_WORKERS),
    "Dask over CuPy": (GPU_WORKERS, "D", ON_WORKERS),
    "Dask over cuML": (GPU_WORKERS, "P", ON_WORKERS),
}
STYLES |= {
    "Dask-ML": STYLES["Dask over scikit-learn"],
    "Dask-cuDF": STYLES["Dask over cuDF"],
}


def engine_style(name):
    """Return the colour, marker and line style of an engine, the same in every plot: `axes.plot(x, y, **style)`.

    `name` is what measure.engine returns, or "Dask over ..." it. What follows a comma is ignored, so that a label such
    as "pandas, one core" will do. Raises KeyError for another name.
    """
    known = name.split(",")[0].strip()
    if known not in STYLES:
        raise KeyError(f"no style for {known!r}; there are: {', '.join(STYLES)}")
    return dict(zip(("color", "marker", "linestyle"), STYLES[known], strict=True))


def show(figure, alt):
    """Show a Matplotlib figure with an alternative text: what a reader learns who cannot see it.

    It is shown as HTML, since JupyterLab and nbconvert give a PNG no alternative text. The PNG lies beside it: in a
    notebook that it does not trust, as one that was just cloned, JupyterLab shows no picture of an HTML output.
    """
    import matplotlib.pyplot as plt

    if not alt.strip():
        raise ValueError("say in `alt` what the figure shows")
    png = io.BytesIO()
    figure.savefig(png, format="png", bbox_inches="tight")
    plt.close(figure)  # or Jupyter would show it once more
    data = base64.b64encode(png.getvalue()).decode()
    image = f'<img alt="{html.escape(alt)}" src="data:image/png;base64,{data}">'
    display({"image/png": data, "text/html": image, "text/plain": "<Figure>"}, raw=True)


def table(columns, rows, caption=""):
    """Return an HTML table of rows (lists) under columns (names): integers with commas, floats with three digits."""

    def cell(value):
        if isinstance(value, float):
            return f"{value:,.3g}" if abs(value) < 1000 else f"{value:,.0f}"
        if isinstance(value, int):
            return f"{value:,}"
        return f'<div style="text-align: left">{html.escape(str(value))}</div>'

    frame = pd.DataFrame([[cell(value) for value in row] for row in rows], columns=list(columns))
    with pd.option_context("display.max_colwidth", None):
        shown = frame.to_html(index=False, escape=False)
    return HTML((f"<p>{caption}</p>" if caption else "") + shown)


def draw_graph(collection, axes):
    """Draw the task graph of a Dask collection, a row for each step that must wait for the one before; time goes up."""
    import networkx as nx
    from dask.utils import key_split

    graph = nx.DiGraph()
    dependencies = collection.__dask_graph__().get_all_dependencies()
    graph.add_nodes_from(dependencies)
    for task, inputs in dependencies.items():
        graph.add_edges_from((needed, task) for needed in inputs)
    for step, tasks in enumerate(nx.topological_generations(graph)):
        nx.set_node_attributes(graph, dict.fromkeys(tasks, step), "step")
    place = nx.multipartite_layout(graph, subset_key="step", align="horizontal")
    nx.draw_networkx(graph, place, ax=axes, with_labels=False, node_size=90, node_color=HOST)
    label = {"fontsize": 8, "bbox": {"facecolor": "white", "edgecolor": "none", "pad": 1}}
    for task, (across, up) in place.items():
        axes.text(across, up - 0.06, key_split(task), ha="center", va="top", **label)
    axes.margins(0.15)
    axes.set_axis_off()


def share_bars(axes, groups, shares, counts):
    """Draw a bar for each group's share (0 to 1) in percent, with its count n and its 95 % interval.

    The interval is Wilson's, for `counts` independent rows in each group.
    """
    from scipy.stats import binomtest

    groups, shares, counts = list(groups), list(shares), [int(count) for count in counts]
    width = 0.8 * min((b - a for a, b in zip(groups, groups[1:], strict=False)), default=1)
    axes.bar(groups, [100 * share for share in shares], width, color=HOST)
    for group, share, count in zip(groups, shares, counts, strict=True):
        test = binomtest(round(share * count), count)
        low, high = test.proportion_ci(method="wilson")
        axes.vlines(group, 100 * low, 100 * high, color="black", linewidth=1.5)
        axes.text(
            group,
            1,
            f"n = {count:,}",
            rotation=90,
            ha="center",
            va="bottom",
            fontsize=8,
            color="white",
        )
    axes.set(ylabel="late, % of flights", ylim=(0, None))


def plan(collection):
    """Return the optimised plan of a Dask DataFrame's query as HTML.

    Left out are this machine's folders, block sizes, the classes of readers, and steps that do nothing.
    """
    text = io.StringIO()
    with contextlib.redirect_stdout(text):
        collection.optimize(fuse=False).pprint()
    short = re.sub(r"'/[^']*/(data/[^']*)'", r"'\1'", text.getvalue())
    short = re.sub(r" (blocksize=\S+|engine=<class [^>]*>)|(?m:^ *NoOp:.*\n)", "", short)
    return HTML(f"<pre style='font-family: monospace'>{html.escape(short)}</pre>")
