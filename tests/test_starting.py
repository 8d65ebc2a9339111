"""However a notebook is started, and from whatever folder: the package and the data are found."""

import os
import re
import subprocess
import sys
import zipfile
from types import SimpleNamespace

from tutorial import clusters, device, flights, measure

import nbformat
import numpy as np
import pytest
from dask.distributed import Client, LocalCluster
from nbclient import NotebookClient

from tests.books import DEEPER, LESSONS, ROOT, code_cells, read, texts

if device.GPU:
    from dask_cuda import LocalCUDACluster
else:
    from tutorial.cpu_stand_ins import LocalCUDACluster

pytestmark = pytest.mark.setup


def opening(*books):
    """Return a notebook of the books' import cells and of one that reads a table and prints where it runs."""
    sources = [code_cells(read(book))[0].source for book in books]
    look = "import os; from tutorial import flights; print(os.getcwd()); print(flights.path('weather'))"
    cells = [nbformat.v4.new_code_cell(source) for source in [*sources, look]]
    return nbformat.v4.new_notebook(cells=cells)


def test_a_kernel_that_starts_in_another_folder(tmp_path):
    """As papermill's or VS Code's does: the folder of the shell or of the workspace, not of the notebook."""
    notebook = opening(*LESSONS, *DEEPER)
    NotebookClient(notebook, resources={"metadata": {"path": str(tmp_path)}}).execute()
    *imports, look = notebook.cells
    where, table = "".join(texts(look.outputs)).splitlines()
    assert where == str(tmp_path) and table.endswith(os.path.join("data", "weather.parquet"))
    assert all(re.match("Device: (CPU|.*NVIDIA)", "".join(texts(cell.outputs))) for cell in imports)


LOOK = """
import matplotlib
import pandas as pd
plt.plot([1, 2])
plt.show()
print(matplotlib.rcParams["figure.facecolor"])
print(pd.DataFrame({f"a rather long name {n}": [n] for n in range(4)}))
"""


def test_the_user_s_settings_change_no_output(tmp_path):
    """A figure is shown, as recorded, and a table is broken where it was."""
    (tmp_path / "matplotlibrc").write_text("figure.facecolor: red\n")
    values = {"MPLBACKEND": "Agg", "COLUMNS": "30", "MATPLOTLIBRC": str(tmp_path / "matplotlibrc")}
    outputs = []
    for environment in ({}, values):
        notebook = nbformat.v4.new_notebook()
        for source in (code_cells(read(LESSONS[0]))[0].source, LOOK):
            notebook.cells.append(nbformat.v4.new_code_cell(source))
        client = NotebookClient(notebook, resources={"metadata": {"path": str(ROOT / "notebooks")}})
        client.execute(env=os.environ | environment)
        figures = [each for each in notebook.cells[1].outputs if each.output_type != "stream"]
        outputs.append((figures, "".join(texts(notebook.cells[1].outputs))))
    plain, changed = outputs
    assert "image/png" in plain[0][0].data and len(plain[0]) == 1
    assert changed == plain


def test_nbconvert_from_another_folder(tmp_path):
    """The notebook lies where it lies; the shell is elsewhere, and so is the output."""
    book = tmp_path / "opening.ipynb"
    nbformat.write(opening(LESSONS[2]), book)
    command = ["-m", "jupyter", "nbconvert", "--to", "notebook", "--execute", "--output", "out"]
    subprocess.run([sys.executable, *command, str(book)], cwd="/", check=True, capture_output=True)
    assert nbformat.read(tmp_path / "out.ipynb", 4).cells[1].outputs


def test_a_worker_that_was_started_elsewhere(tmp_path):
    """A function of the package travels by its name alone: the worker imports it."""
    with LocalCluster(n_workers=0, dashboard_address="127.0.0.1:0") as cluster:
        command = [sys.executable, "-m", "distributed.cli.dask_worker", cluster.scheduler_address]
        command += ["--no-dashboard", "--no-nanny", "--nthreads", "1", "--host", "127.0.0.1"]
        command += ["--death-timeout", "60", "--local-directory", str(tmp_path)]
        worker = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.DEVNULL)
        try:
            with Client(cluster) as client:
                client.wait_for_workers(1, timeout=60)
                assert client.submit(measure.engine, float("nan")).exception() is not None
                answer = client.submit(flights.path, "weather").result()
        finally:
            worker.terminate()
            worker.wait(30)
    assert answer.endswith("weather.parquet")


def test_a_module_as_a_program(tmp_path):
    command = [sys.executable, "-m", "tutorial.shuffle", "--help"]
    shown = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "--protocol" in shown.stdout


def test_the_wheel_holds_the_package(tmp_path):
    """Code and kernels, for the workers of a real cluster; no notebook, no data."""
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "-w", str(tmp_path)]
    subprocess.run([*command, str(ROOT)], check=True, capture_output=True)
    [wheel] = tmp_path.glob("*.whl")
    packed = {name for name in zipfile.ZipFile(wheel).namelist() if "dist-info" not in name}
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "tutorial"],
        cwd=ROOT / "notebooks",
        capture_output=True,
        text=True,
        check=True,
    )
    assert packed == set(listed.stdout.split()) and any(name.endswith(".cu") for name in packed)
    assert "tutorial/style.mplstyle" in packed


def test_the_workers_of_a_cluster_introduce_themselves():
    """START_HERE shows it."""
    with LocalCUDACluster(dashboard_address="127.0.0.1:0") as cluster, Client(cluster) as client:
        rows = clusters.introduce(client)
        processes = {str(process) for process in client.run(os.getpid).values()}
    assert [number for number, _, _ in rows] == list(range(len(rows)))
    assert {process for _, _, process in rows} == processes
    names = {name for _, name, _ in rows}
    assert len(names) == len(rows) if device.GPU else names == {"the processor"}


def test_a_worker_names_its_gpu(monkeypatch):
    """On a made-up one: what CuPy says, once it has added a few numbers."""
    runtime = SimpleNamespace(getDeviceProperties=lambda number: {"name": b"NVIDIA H100"})
    cuda = SimpleNamespace(
        runtime=runtime, Device=lambda number: SimpleNamespace(pci_bus_id="0000:4B:00.0")
    )
    cupy = SimpleNamespace(arange=np.arange, cuda=cuda)
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    assert clusters._introduce(True) == ("NVIDIA H100, PCI bus 0000:4B:00.0", os.getpid())
    cupy.arange = np.ones
    with pytest.raises(RuntimeError, match="does not add up"):
        clusters._introduce(True)
