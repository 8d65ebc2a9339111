"""tests/bench.py: it measures, prints a table and keeps what it measured."""

import json
import os
import subprocess
import sys

import pytest

from tests.books import ROOT


@pytest.mark.setup
def test_the_benchmark_prints_and_keeps_what_it_measured(tmp_path):
    file = tmp_path / "bench.json"
    command = [sys.executable, "-m", "tests.bench", file, "-k", "10000-2-5 and not Dask-ML"]
    # without what says that this test is one of several at a time: pytest-benchmark would not measure
    env = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    ran = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    kept = json.loads(file.read_text(encoding="utf-8"))
    assert kept["ran_on"] in ran.stdout
    engines = {result["engine"] for result in kept["results"]}
    assert {"scikit-learn", "our module"} <= engines
    for result in kept["results"]:
        assert result["engine"] in ran.stdout
        assert result["seconds"] > 0 and result["rows"] == 10_000
    inertias = [result["inertia"] for result in kept["results"]]
    assert max(inertias) < 1.02 * min(inertias)
