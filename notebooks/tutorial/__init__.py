"""What the notebooks import. It holds no lesson."""

import sys
from pathlib import Path

STYLE = Path(__file__).with_name("style.mplstyle")  # how the notebooks' plots look


def _look_after(shell):
    """In a notebook's kernel: figures as recorded whatever the user has set, and no cluster that nobody holds.

    MPLBACKEND=Agg in the shell would show no figure, a matplotlibrc another one.
    """
    from tutorial import clusters, measure

    import matplotlib.style

    matplotlib.rcdefaults()
    shell.run_line_magic("matplotlib", "inline")
    matplotlib.style.use(STYLE)
    clusters.look_after(shell)
    measure.look_after(shell)


_shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
if _shell is not None and "ipykernel" in sys.modules:
    try:
        _look_after(_shell)
    except ImportError:  # another Python than the tutorial's: tutorial.device says so in one line
        pass
