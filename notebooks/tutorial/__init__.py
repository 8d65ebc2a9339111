"""What the notebooks import. It holds no lesson."""

import sys


def _plain_display():
    """In a notebook's kernel, show figures as recorded, whatever the shell and the user have set.

    MPLBACKEND=Agg in the shell would show no figure, a matplotlibrc another one.
    """
    import matplotlib

    matplotlib.rcdefaults()
    sys.modules["IPython"].get_ipython().run_line_magic("matplotlib", "inline")


if "ipykernel" in sys.modules and getattr(sys.modules.get("IPython"), "get_ipython", bool)():
    try:
        _plain_display()
    except ImportError:  # another Python than the tutorial's: tutorial.device says so in one line
        pass
