"""tutorial/shuffle.py: what it prints and records, and what the recorded figures must show."""

import json

from tutorial import shuffle
from tutorial.flights import DATA

import pytest

OPTIONS = ["--rows", "8000", "--protocol", "tcp", "tcp", "--method", "tasks", "p2p"]


def test_it_prints_and_records_a_line_for_each_protocol_and_method(tmp_path, capsys):
    file = tmp_path / "here.json"
    shuffle.main([*OPTIONS, "--record", str(file)])
    printed = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    recorded = json.loads(file.read_text(encoding="utf-8"))
    assert [line["method"] for line in printed] == ["tasks", "p2p"] * 2
    assert recorded["measurements"] == [
        {key: value for key, value in line.items() if key != "ran_on"} for line in printed
    ]
    for line in printed:
        assert line["ran_on"] == recorded["ran_on"]
        assert line["bytes"] == 24 * line["rows"] and line["rows"] == 8000
        assert line["seconds_first"] > 0 and line["seconds_warm"] > 0


def test_figures_of_two_machines_are_not_mixed(tmp_path):
    file = tmp_path / "here.json"
    file.write_text('{"ran_on": "an abacus", "measurements": []}', encoding="utf-8")
    with pytest.raises(SystemExit, match="here.json was recorded on an abacus: remove it to"):
        shuffle.record(file, [{}])
    assert "abacus" in file.read_text(encoding="utf-8")


def test_the_recorded_shuffle_is_ten_times_faster_than_the_default():
    """Dask's default is p2p over TCP; tasks over UCX is what Moving_and_Spilling shows on GPUs with NVLink."""
    recorded = json.loads((DATA / "shuffle-two-devices.json").read_text(encoding="utf-8"))
    assert "2 x" in recorded["ran_on"] and "cudf" in recorded["ran_on"]
    took = {
        (line["protocol"], line["method"]): line["seconds_warm"]
        for line in recorded["measurements"]
    }
    assert len({(line["rows"], line["n_workers"]) for line in recorded["measurements"]}) == 1
    assert took["tcp", "p2p"] >= 10 * took["ucx", "tasks"]
    assert took["ucx", "tasks"] < took["tcp", "tasks"] < took["tcp", "p2p"]
