"""What the notebooks import. It holds no lesson."""

import sys

# in a notebook, and nowhere else: whoever sets the tutorial up has no Dask yet
_shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
if _shell is not None:
    from tutorial import clusters

    clusters.look_after(_shell)
