"""A cluster on two hosts that speaks TLS: who has a certificate gets in, and everybody else one clear line."""

import json
import os
import shutil
import stat
import subprocess
import sys

import pytest

from tests.books import ROOT, python_path
from tests.test_address import two_hosts

pytestmark = pytest.mark.setup
SCRIPT = ROOT / "notebooks/deploy/certificates.sh"
SETTING = "DASK_DISTRIBUTED__COMM__TLS__"
OPENSSL = shutil.which("openssl")
ROLES = ("scheduler", "worker", "client")


def certificates(folder):
    """Run certificates.sh."""
    return subprocess.run(["bash", SCRIPT, folder], capture_output=True, text=True, timeout=60)


def settings(folder):
    """Return what tls.env sets in the environment."""
    command = ["bash", "-c", 'source "$1" && env -0', "bash", folder / "tls.env"]
    answer = subprocess.run(command, env={}, capture_output=True, text=True, check=True)
    found = dict(line.split("=", 1) for line in answer.stdout.split("\0") if line)
    return {name: value for name, value in found.items() if name.startswith(("DASK", "TUTORIAL"))}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Two folders of certificates: the cluster's, and those of an authority that it does not know."""
    parent = tmp_path_factory.mktemp("certificates")
    for name in ("ours", "theirs"):
        answer = certificates(parent / name)
        assert answer.returncode == 0 and not answer.stderr, answer.stderr
    return parent / "ours", parent / "theirs"


def test_the_folder_is_private_and_complete(folders):
    """Without the authority's key; all that the settings name is there; a year long."""
    folder, _ = folders
    files = {f"{role}{end}" for role in ROLES for end in (".pem", "-key.pem")}
    assert {path.name for path in folder.iterdir()} == {"ca.pem", "tls.env", *files}
    for path in (folder, *folder.iterdir()):
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path == folder else 0o600)
    for role in ROLES:
        check = ["openssl", "verify", "-CAfile", folder / "ca.pem", folder / f"{role}.pem"]
        subprocess.run(check, check=True, capture_output=True)
        days = {}
        for day in (364, 366):
            command = ["openssl", "x509", "-noout", "-checkend", str(day * 24 * 3600)]
            days[day] = subprocess.run(
                [*command, "-in", folder / f"{role}.pem"], capture_output=True
            )
        assert (days[364].returncode, days[366].returncode) == (0, 1)
    found = settings(folder)
    assert all(os.path.exists(found[name]) for name in found if name.startswith(SETTING))
    names = {f"{role.upper()}__{kind}" for role in ROLES for kind in ("CERT", "KEY")}
    assert {name.removeprefix(SETTING) for name in found} == {
        "CA_FILE",
        "DASK_DISTRIBUTED__COMM__REQUIRE_ENCRYPTION",
        "TUTORIAL_PROTOCOL",
        *names,
    }


def test_a_client_cannot_be_a_scheduler(folders):
    """The certificate that notebooks have opens connections, and accepts none."""
    folder, _ = folders
    uses = {}
    for role in ROLES:
        command = ["openssl", "verify", "-purpose", "sslserver", "-CAfile", folder / "ca.pem"]
        uses[role] = subprocess.run([*command, folder / f"{role}.pem"], capture_output=True)
    assert {role: uses[role].returncode == 0 for role in ROLES} == {
        "scheduler": True,
        "worker": True,
        "client": False,
    }


def test_nothing_is_overwritten(folders):
    folder, _ = folders
    before = (folder / "client-key.pem").read_bytes()
    answer = certificates(folder)
    assert answer.returncode == 1 and "nothing is overwritten" in answer.stderr
    assert (folder / "client-key.pem").read_bytes() == before


def test_a_failure_leaves_nothing(tmp_path):
    """Not even a part of the folder, which the next call would refuse, nor the authority's key."""
    broken = tmp_path / "bin/openssl"
    broken.parent.mkdir()
    broken.write_text(
        f'#!/bin/sh\n[ $1 = req ] || {{ echo broken >&2; exit 1; }}\nexec {OPENSSL} "$@"\n'
    )
    broken.chmod(0o755)
    answer = subprocess.run(
        ["bash", SCRIPT, tmp_path / "new"],
        env={**os.environ, "PATH": f"{broken.parent}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert answer.returncode == 1 and answer.stderr == "broken\n"
    assert [path.name for path in tmp_path.iterdir()] == ["bin"]


# what a notebook does; prints who computes, or the one line of a DeviceError
CLIENT = """
import time
start = time.monotonic()
from tutorial import device
try:
    cluster = device.running_cluster()
    from dask.distributed import Client
    with Client(cluster) as client:
        first, second = sorted(client.nthreads())
        data = client.submit(list, range(100), workers=[first])
        print(first, second, client.submit(sum, data, workers=[second]).result())  # data goes from host to host
except device.DeviceError as error:
    print(error)
print(time.monotonic() - start)
"""
# what runs on the first host: waits for the workers, then is a notebook in each of the environments
RUN = """
import json, os, subprocess, sys
import psutil
from dask.distributed import Client
with Client(timeout="60s") as client:
    client.wait_for_workers(2, timeout=60)
listening = sorted({item.laddr.ip for item in psutil.net_connections("tcp") if item.status == "LISTEN"})
code, cases = json.loads(sys.stdin.read())
answers = {}
for name, changes in cases.items():
    environment = {name: value for name, value in {**os.environ, **changes}.items() if value is not None}
    command = ["timeout", "60", sys.executable, "-c", code]
    answer = subprocess.run(command, env=environment, capture_output=True, text=True)
    answers[name] = answer.returncode, answer.stdout, answer.stderr
print(json.dumps([listening, answers]))
"""
ADDRESS = "DASK_SCHEDULER_ADDRESS"
SAYS = {
    "a certificate": ("tls://10.0.0.1:", " tls://10.0.0.2:", " 4950"),
    "no certificate": ("The scheduler at tls://10.0.0.1:8786 asks for a certificate, and this notebook has none: ",),
    "another authority's": ("The scheduler at tls://10.0.0.1:8786 has no certificate of this notebook's authority (",),
    "another authority's certificate": ("The scheduler at tls://10.0.0.1:8786 refused this notebook's certificate: ",),
    "a plain address": ("This notebook's settings want TLS, the address tcp://10.0.0.1:8786 does not: ",),
    "a plain notebook": ("The scheduler at tcp://10.0.0.1:8786 speaks TLS: its address is tls://10.0.0.1:8786, ",),
    "no file": ("This notebook's certificates cannot be read ([Errno 2] No such file",),
}  # fmt: skip


@pytest.fixture(scope="module")
def answers(folders):
    """What notebooks in several environments get to see of a cluster on two hosts."""
    ours, theirs = folders
    plain = dict.fromkeys(settings(ours))
    other = settings(theirs)
    client = {
        f"{SETTING}CLIENT__{name}": other[f"{SETTING}CLIENT__{name}"] for name in ("CERT", "KEY")
    }
    tcp = {ADDRESS: "tcp://10.0.0.1:8786"}
    cases = {
        "a certificate": {},
        "no certificate": plain,
        "another authority's": other,
        "another authority's certificate": client,
        "a plain address": tcp,
        "a plain notebook": {**plain, **tcp},
        "no file": {f"{SETTING}CA_FILE": "nothing"},
    }
    environment = {**os.environ, "TLS": str(ours / "tls.env"), "PYTHONPATH": python_path()}
    answer = two_hosts(
        sys.executable, "-c", RUN, env=environment, input=json.dumps([CLIENT, cases]), timeout=240
    )
    assert answer.returncode == 0, answer.stderr[-3000:]
    return *json.loads(answer.stdout), answer.stderr[-3000:]


@pytest.mark.namespaces
@pytest.mark.parametrize("case", SAYS)
def test_who_gets_in(answers, case):
    """The others hear within half a minute, in one line, what is wrong."""
    _, found, log = answers
    status, output, stderr = found[case]
    assert status == 0 and not stderr, f"{output}\n{stderr}\n{log}"
    line, seconds = output.splitlines()
    assert all(text in line for text in SAYS[case]), f"{line}\n{log}"
    assert float(seconds) < 30, f"{line}\n{log}"


@pytest.mark.namespaces
def test_nothing_listens_on_every_network(answers):
    """Dask listens on the network that it is given; its pages, which ask for no certificate, on loopback."""
    listening, _, log = answers
    assert listening == ["10.0.0.1", "127.0.0.1"], log
