"""The dashboard's link: one to click that works from the reader's browser; the committed one is a placeholder."""

import http.server
import json
import re
import threading

from tutorial import dashboard

import dask
import nbformat
import pytest
from dask.distributed import Client

from tests import record
from tests.books import BOOKS, code_cells, read, texts
from tests.nbval_plugin import gpu_engines


@pytest.fixture
def jupyter(tmp_path, monkeypatch):
    """Return a function that starts a stand-in for Jupyter's server, which answers each request with a status."""
    servers = []

    def start(status, base_url="/user/me/"):
        asked = []

        class Answer(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                asked.append((self.path, self.headers["Authorization"]))
                self.send_response(status)
                self.end_headers()

            def log_message(self, *_):
                pass

        server = http.server.HTTPServer(("127.0.0.1", 0), Answer)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        url = f"http://127.0.0.1:{server.server_port}{base_url}"
        file = tmp_path / "jpserver-17.json"
        file.write_text(json.dumps({"url": url, "base_url": base_url, "token": "secret"}))
        return asked

    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path))
    monkeypatch.setenv("JPY_PARENT_PID", "17")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")  # no one is there
    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture(scope="module")
def client():
    with Client(processes=False, n_workers=1, dashboard_address="127.0.0.1:0") as client:
        yield client


@pytest.fixture(autouse=True)
def link():
    """Keep Dask's template of the link as it was."""
    with dask.config.set({"distributed.dashboard.link": dashboard.DEFAULT}):
        yield


@pytest.mark.parametrize(
    ("status", "base"),
    [(200, "/user/me/"), (403, "/user/me/"), (500, "/user/me/"), (404, None)],
)
def test_the_server_is_asked_whether_it_passes_requests_on(jupyter, status, base):
    """404 means that it has no jupyter-server-proxy; 500 that the dashboard has not answered it yet."""
    asked = jupyter(status)
    assert dashboard.proxying_server(8787) == base
    assert asked == [("/user/me/proxy/8787/individual-plots.json", "token secret")]


def test_no_server_no_proxy(jupyter, monkeypatch, tmp_path):
    """No Jupyter server started this process; its file is no JSON; it has ended."""
    assert dashboard.proxying_server(8787) is None
    file = tmp_path / "jpserver-17.json"
    file.write_text("half a")
    assert dashboard.proxying_server(8787) is None
    file.write_text(json.dumps({"url": "http://127.0.0.1:9/", "base_url": "/", "token": ""}))
    assert dashboard.proxying_server(8787) is None
    monkeypatch.delenv("JPY_PARENT_PID")
    assert dashboard.proxying_server(8787) is None


def shown(client, monkeypatch):
    """Return what show_dashboard shows: text and HTML."""
    things = []
    monkeypatch.setattr(dashboard, "display", things.append)
    dashboard.show_dashboard(client)
    [thing] = things
    return repr(thing), thing._repr_html_()


def test_the_link_goes_through_a_server_that_proxies(jupyter, client, monkeypatch):
    """Dask's own dashboard_link is the same: JupyterLab's Dask panes ask the kernel for it."""
    text, page = shown(client, monkeypatch)
    assert re.fullmatch(r"Dashboard: http://[\d.]+:\d+/status", text)
    assert f'<a href="{client.dashboard_link}" target="_blank">' in page
    jupyter(200)
    text, page = shown(client, monkeypatch)
    assert re.fullmatch(r"Dashboard: /user/me/proxy/\d+/status", text)
    assert f'<a href="{client.dashboard_link}" target="_blank">' in page
    assert text == f"Dashboard: {client.dashboard_link}"


def test_a_link_of_the_readers_own_stays(jupyter, client, monkeypatch):
    asked = jupyter(200)
    with dask.config.set({"distributed.dashboard.link": "https://hub/{port}"}):
        text, _ = shown(client, monkeypatch)
    assert re.fullmatch(r"Dashboard: https://hub/\d+", text) and not asked


@pytest.mark.parametrize("gpu", [False, True])
def test_gpu_panes_open_on_a_gpu_only(client, monkeypatch, gpu):
    monkeypatch.setattr(dashboard, "GPU", gpu)
    _, page = shown(client, monkeypatch)
    outputs = [nbformat.v4.new_output("display_data", {"text/html": page})]
    assert bool(gpu_engines(outputs)) == gpu


def test_a_recorded_link_is_a_placeholder():
    """The dashboard ends with the run: a link to it would lead nowhere."""
    link = {"text/plain": "Dashboard: /proxy/8787/status", "text/html": "<a>"}
    other = {"text/plain": "1", "text/html": "<b>1</b>"}
    cell = nbformat.v4.new_code_cell(
        outputs=[nbformat.v4.new_output("display_data", data) for data in (link, other)]
    )
    record.without_links(nbformat.v4.new_notebook(cells=[cell]))
    assert [output.data for output in cell.outputs] == [{"text/plain": record.NO_LINK}, other]


@pytest.mark.parametrize("book", BOOKS)
def test_no_notebook_shows_a_dead_link(book):
    for cell in code_cells(read(book)):
        for text in texts(cell.outputs):
            assert not re.search(r"(?<!tcp://)(localhost|127\.0\.0\.1):\d+|proxy/\d+", text), (
                cell.id
            )
