"""Tests of the tutorial. Makes the modules that stand beside the notebooks importable."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "notebooks"))
