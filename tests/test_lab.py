"""`make lab` serves the learner's copy, with a token, on loopback only, and puts the environment on Lab's PATH."""

import asyncio
import json
import logging
import os
import re
import runpy
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request

import psutil
import pytest
from tornado.websocket import WebSocketClosedError, websocket_connect

from tests.books import BOOKS, HOME, ROOT
from tests.copies import base_python, copy_project, lend_environment
from tests.nbval_plugin import is_loopback, listeners

pytestmark = pytest.mark.setup
URL = re.compile(r"(http://(?:127\.0\.0\.1|localhost):\d+)/lab\S*\?token=(\w+)")
NEWS = "@jupyterlab/apputils-extension:notification"
# whatever asks it for a page gets none
NO_PROXY_THERE = "http://127.0.0.1:9"


class Lab:
    """A running `make lab`: its folder, process, port, base URL, token and log."""

    def __init__(self, folder, scratch, port=None):
        self.folder, self.log = folder, scratch / "log"
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = port or free.getsockname()[1]
        home = scratch / "home"
        home.mkdir()
        (home / ".bashrc").write_text("PATH=/usr/bin:/bin:$PATH\n")  # as conda and pyenv do
        environment = {
            **os.environ,
            "BROWSER": "true",
            "JUPYTER_RUNTIME_DIR": str(scratch),
            "PYTHONUNBUFFERED": "1",
            "SHELL": "/bin/bash",
            "HOME": str(home),  # a user's own settings of JupyterLab would come first
            "http_proxy": NO_PROXY_THERE,
            "NO_PROXY": "internal.example",
        }
        options = f"ARGS=--no-browser --port {self.port}"
        command = ["make", "lab", f"PYTHON={base_python()}", options]
        with self.log.open("w") as out:
            self.process = subprocess.Popen(command, cwd=folder, env=environment, stdout=out,
                                            stderr=subprocess.STDOUT, start_new_session=True)  # fmt: skip

    def wait(self):
        """Wait until the URL stands in the log, and a moment for what comes after it."""
        deadline = time.monotonic() + 120
        while not (match := URL.search(self.log.read_text())):
            assert self.process.poll() is None and time.monotonic() < deadline, self.log.read_text()
            time.sleep(0.5)
        self.base, self.token = match[1], match[2]
        time.sleep(2)
        self.greeting = self.log.read_text()

    def __enter__(self):
        try:
            self.wait()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_):
        self.stop()

    def stop(self):
        """End make and Lab, and wait for them."""
        os.killpg(self.process.pid, signal.SIGTERM)
        self.process.wait(timeout=60)

    def get(self, path, token=True, **options):
        """Return (URL, text) of what Lab answers; past any proxy that this machine has."""
        headers = {"Authorization": f"token {self.token}"} if token else {}
        request = urllib.request.Request(f"{self.base}/{path}", headers=headers, **options)
        direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with direct.open(request, timeout=30) as answer:
            return answer.url, answer.read().decode()

    def terminal(self, line, wanted):
        """Type a line in a terminal of Lab's; return the match of the pattern `wanted` in what it shows."""
        name = json.loads(self.get("api/terminals", method="POST")[1])["name"]
        url = f"{self.base}/terminals/websocket/{name}?token={self.token}".replace("http", "ws", 1)

        async def talk():
            connection = await websocket_connect(url)
            await connection.write_message(json.dumps(["stdin", line + "\r"]))
            shown = ""
            while not (match := re.search(wanted, shown)):
                kind, *text = json.loads(await connection.read_message())
                shown += text[0] if kind == "stdout" else ""
            return match

        return asyncio.run(asyncio.wait_for(talk(), timeout=60))


def newcomers_lab(tmp_path_factory):
    """Return a Lab of a copy of the project, to be entered."""
    folder = copy_project(tmp_path_factory.mktemp("lab") / "eine Übung")
    lend_environment(folder)
    return Lab(folder, tmp_path_factory.mktemp("scratch"))


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """Start `make lab` as a newcomer would, in a folder with a space and a letter that is not ASCII, behind a proxy."""
    with newcomers_lab(tmp_path_factory) as lab:
        yield lab


def test_lab_serves_the_notebooks(lab):
    """The copy and, for comparison, the originals; and what the copy links to."""
    for book in BOOKS:
        for path in (book, f"work/{book}"):
            assert json.loads(lab.get(f"api/contents/{path}")[1])["type"] == "notebook"
    for path in ("work/LICENSE", "work/notebooks/tutorial/device.py"):
        assert json.loads(lab.get(f"api/contents/{path}")[1])["type"] == "file"
    url, page = lab.get(f"lab/tree/work/{HOME}")
    assert HOME in url and "JupyterLab" in page
    with pytest.raises(urllib.error.HTTPError) as refused:
        lab.get(f"api/contents/{BOOKS[0]}", token=False)
    assert refused.value.code == 403
    hosts = {host for host, _ in listeners(psutil.Process(lab.process.pid))}
    assert hosts and all(map(is_loopback, hosts))


def test_it_opens_the_copy_and_the_url_comes_last(lab):
    *_, last = [line for line in lab.greeting.splitlines() if line.strip()]
    assert URL.search(last) and f"/lab/tree/work/{HOME}?" in last
    assert "work/ is your copy" in lab.greeting


def test_options_are_passed_on(lab):
    assert lab.base.endswith(f":{lab.port}")


def test_lab_and_its_kernels_encrypt_what_they_say(lab):
    """And so a kernel does not warn below the URL that it is overheard."""
    kernel = json.loads(lab.get("api/kernels", method="POST", data=b"{}")[1])["id"]
    [connection] = lab.log.parent.glob(f"kernel-{kernel}.json")
    assert "curve_secretkey" in json.loads(connection.read_text())
    lab.get(f"api/kernels/{kernel}", method="DELETE")


def test_no_question_about_news(lab):
    """JupyterLab asks while the setting is "none", its own default."""
    schema = json.loads(lab.get(f"lab/api/settings/{NEWS}")[1])["schema"]["properties"]
    assert schema["fetchNews"]["default"] == "false"
    assert schema["checkForUpdates"]["default"] is False


def test_the_panes_are_those_of_a_notebooks_cluster(lab):
    """Lab's own clusters are out of sight; three panes stand below one another; a cell says how long it took."""
    schema = json.loads(lab.get("lab/api/settings/dask-labextension:plugin")[1])["schema"][
        "properties"
    ]
    assert schema["hideClusterManager"]["default"] is True
    layout = schema["defaultLayout"]["default"]
    assert set(layout) == {
        f"individual-{name}" for name in ("task-stream", "progress", "workers-memory")
    }
    schema = json.loads(lab.get("lab/api/settings/@jupyterlab/notebook-extension:tracker")[1])[
        "schema"
    ]
    assert schema["properties"]["recordTiming"]["default"] is True


def test_a_port_that_is_taken(lab, tmp_path):
    """Then the next one; the URL says which."""
    with Lab(lab.folder, tmp_path, lab.port) as other:
        *_, last = [line for line in other.greeting.splitlines() if line.strip()]
        assert URL.search(last) and other.base != lab.base
        assert other.get("api/status")


def test_the_servers_log_is_for_the_reader(monkeypatch):
    """What goes wrong stands there; what a pane of an ended cluster causes does not."""
    monkeypatch.syspath_prepend(ROOT / ".ci")
    is_news = runpy.run_path(str(ROOT / ".ci/lab.py"))["is_news"]

    def record(level, message, error=None):
        exc_info = (type(error), error, None) if error else None
        return logging.LogRecord("ServerApp", level, "", 0, message, (), exc_info)

    assert is_news(record(logging.ERROR, "Uncaught exception", OSError()))
    assert is_news(record(logging.ERROR, "500 GET /api/contents"))
    assert is_news(record(logging.WARNING, "The port 8888 is already in use, trying another port."))
    assert not is_news(record(logging.INFO, "Build is up to date"))
    assert not is_news(record(logging.WARNING, "Notebook work/START_HERE.ipynb is not trusted"))
    assert not is_news(record(logging.ERROR, "Uncaught exception", WebSocketClosedError()))
    assert not is_news(record(logging.ERROR, "500 GET /user/me/proxy/8787/individual-plots.json"))


def test_python_in_labs_terminal_is_the_environments(lab):
    """And a proxy is not asked for what runs on this machine; hosts that the user excepts stay excepted."""
    line = 'echo "<$(command -v python)|$no_proxy|$NO_PROXY>"'
    python, *direct = lab.terminal(line, r"<(/[^|]*)\|([^|]+)\|([^>]+)>").groups()
    python = "".join(python.splitlines())
    assert python == str(lab.folder / ".venv/bin/python")
    for hosts in direct:
        assert "".join(hosts.splitlines()) == "internal.example,localhost,127.0.0.1,::1"
