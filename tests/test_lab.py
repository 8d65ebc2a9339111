"""`make lab` serves START_HERE.ipynb, with a token, on loopback only."""

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request

import psutil
import pytest

from tests.books import BOOKS, ROOT
from tests.nbval_plugin import is_loopback, listeners

pytestmark = pytest.mark.setup
URL = re.compile(r"(http://(?:127\.0\.0\.1|localhost):\d+)/lab\S*\?token=(\w+)")


@pytest.fixture
def lab(tmp_path):
    """Start `make lab` as a newcomer would, without a browser; yield (process, base URL, token)."""
    environment = {
        **os.environ,
        "BROWSER": "true",
        "JUPYTER_RUNTIME_DIR": str(tmp_path),
        "PYTHONUNBUFFERED": "1",
    }
    log = tmp_path / "log"
    base = subprocess.run([sys.executable, "-c", "import sys; print(sys._base_executable)"], capture_output=True,
                          text=True, check=True).stdout.strip()  # fmt: skip
    with log.open("w") as out:
        process = subprocess.Popen(["make", "lab", f"PYTHON={base}"], cwd=ROOT, env=environment, stdout=out,
                                   stderr=subprocess.STDOUT, start_new_session=True)  # fmt: skip
    try:
        deadline = time.monotonic() + 120
        while not (match := URL.search(log.read_text())):
            assert process.poll() is None and time.monotonic() < deadline, log.read_text()
            time.sleep(0.5)
        yield process, match[1], match[2]
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(timeout=60)


def get(url):
    with urllib.request.urlopen(url, timeout=30) as answer:
        return answer.url, answer.read().decode()


def test_lab_serves_the_notebooks(lab):
    process, base, token = lab
    for book in BOOKS:
        _, text = get(f"{base}/api/contents/{book}?token={token}")
        assert json.loads(text)["type"] == "notebook"
    url, page = get(f"{base}/lab/tree/START_HERE.ipynb?token={token}")
    assert "START_HERE.ipynb" in url and "JupyterLab" in page
    with pytest.raises(urllib.error.HTTPError) as refused:
        get(f"{base}/api/contents/{BOOKS[0]}")
    assert refused.value.code == 403
    hosts = {host for host, _ in listeners(psutil.Process(process.pid))}
    assert hosts and all(map(is_loopback, hosts))
