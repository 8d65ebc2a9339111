"""deploy/ssh_cluster.py, with an SSH server on loopback: it starts a cluster, says what is wrong, leaves nothing."""

import os
import signal
import socket
import subprocess
import sys
import time

import psutil
import pytest

from tests.books import ROOT
from tests.nbval_plugin import ssh_server

pytestmark = [pytest.mark.setup, pytest.mark.ssh]
SCRIPT = ROOT / "notebooks/deploy/ssh_cluster.py"
MARK = "TUTORIAL_TESTED_SSH"  # in the environment of the server, and so of all that is started through it
SETTINGS = """
Port {port}
ListenAddress 127.0.0.1
HostKey {folder}/host_key
AuthorizedKeysFile {folder}/user_key.pub
PidFile none
StrictModes no
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
SetEnv {mark}={folder}
"""


def new_key(path):
    command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)]
    subprocess.run(command, check=True)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """An SSH server of this user on loopback; the options of ssh_cluster.py for it, and a function: what it has run."""
    folder, port = tmp_path_factory.mktemp("ssh"), free_port()
    for name in ("host_key", "user_key", "other_key"):
        new_key(folder / name)
    (folder / ".ssh").mkdir()  # the folder is the user's home, too
    for name, key in [(".ssh/known_hosts", "host_key"), ("other_hosts", "other_key")]:
        (folder / name).write_text(
            f"[127.0.0.1]:{port} {(folder / key).with_suffix('.pub').read_text()}"
        )
    (folder / "no_hosts").write_text("")
    (folder / "settings").write_text(SETTINGS.format(port=port, folder=folder, mark=MARK))
    if os.getuid() == 0:  # where Debian's server wants an empty folder, which its service makes
        os.makedirs("/run/sshd", exist_ok=True)
    with (folder / "log").open("w") as log:
        command = [ssh_server(), "-D", "-e", "-f", str(folder / "settings")]
        process = subprocess.Popen(command, stderr=log)
    try:
        wait_until(lambda: answers(port) or process.poll() is not None, 20)
        assert process.poll() is None, (folder / "log").read_text()
        yield Server(folder, port)
    finally:
        process.terminate()
        process.wait(timeout=20)
        for left in started(folder):
            left.kill()


class Server:
    def __init__(self, folder, port):
        self.folder, self.port = folder, port

    def command(self, *arguments, **options):
        """Return ssh_cluster.py's command with the options that fit the server, some of them changed."""
        fits = {
            "port": self.port,
            "key": self.folder / "user_key",
            "interface": "lo",
        }
        given = [f"--{name}={value}" for name, value in {**fits, **options}.items()]
        return [sys.executable, str(SCRIPT), *given, *arguments]

    def environment(self, home="."):
        return {**os.environ, "TUTORIAL_DEVICE": "cpu", "HOME": str(self.folder / home)}

    def cluster(self, *arguments, home=".", **options):
        """Run ssh_cluster.py to its end."""
        answer = subprocess.run(
            self.command(*arguments, **options),
            env=self.environment(home),
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=120,
        )
        answer.log = (
            f"{answer.stdout}\n{answer.stderr}\n{(self.folder / 'log').read_text()[-3000:]}"
        )
        return answer

    def left(self):
        """Return the processes that the server's clients have left, after a while in which they may end."""
        wait_until(lambda: not started(self.folder), 40)
        return [(process.pid, process.info["cmdline"]) for process in started(self.folder)]


def answers(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def wait_until(true, seconds):
    deadline = time.monotonic() + seconds
    while not true() and time.monotonic() < deadline:
        time.sleep(0.1)


def started(folder):
    """Return the processes that were started through the server."""
    return [
        process
        for process in psutil.process_iter(["pid", "cmdline", "environ"])
        if (process.info["environ"] or {}).get(MARK) == str(folder)
    ]


CODE = """
import os
import signal
from dask.distributed import Client
with Client(timeout="60s") as client:
    print(client.submit(sum, [1, 2]).result(), len(client.nthreads()), client.run(os.getenv, "NCCL_SOCKET_IFNAME"),
          client.run_on_scheduler(os.getenv, "NCCL_SOCKET_IFNAME"))
"""


def test_a_command_runs_on_the_cluster(server):
    """Its status is the script's; the cluster is gone afterwards."""
    hosts = ["127.0.0.1"] * 3
    answer = server.cluster(*hosts, "--", sys.executable, "-c", CODE + "raise SystemExit(5)")
    assert answer.returncode == 5 and not answer.stderr, answer.log
    assert answer.stdout.startswith("3 2 {'tcp://127.0.0.1:"), answer.log
    assert answer.stdout.count("'lo'") == 2 and answer.stdout.endswith(" lo\n"), answer.log
    assert not server.left(), answer.log


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_it_stays_until_it_ends(server, number):
    """By Ctrl+C or a `kill`, or because its machine is gone: nothing is left on the hosts."""
    with subprocess.Popen(
        server.command("127.0.0.1", "127.0.0.1"),
        env=server.environment(),
        cwd=server.folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        try:
            lines = [process.stdout.readline() for _ in range(3)]
            assert "export DASK_SCHEDULER_ADDRESS=tcp://127.0.0.1:" in lines[1], lines
            assert started(server.folder)
            process.send_signal(number)
            rest, _ = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == (0 if number == signal.SIGTERM else -number) and not rest, rest
    assert not server.left()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"key": "other_key"}, "127.0.0.1: it refuses this user or key."),
        ({"key": "no_key"}, "there is no file no_key"),
        ({"known-hosts": "no_hosts"}, "127.0.0.1: its key is not the one in known_hosts"),
        ({"known-hosts": "other_hosts"}, "127.0.0.1: its key is not the one in known_hosts"),
        ({"home": "empty"}, "127.0.0.1: its key is not the one in known_hosts"),
        ({"port": "9"}, "127.0.0.1: no connection ("),
        ({"python": "no/python"}, "127.0.0.1: no Python with Dask at no/python"),
    ],
    ids=["another key", "no key", "new host", "changed host", "no home", "no server", "no Python"],
)
def test_one_line_says_what_is_wrong(server, options, says):
    answer = server.cluster("127.0.0.1", "127.0.0.1", "--", "true", **options)
    assert answer.returncode == (2 if says.startswith("there is no file") else 1), answer.log
    line = answer.stderr.splitlines()[-1]
    assert says in line and len(answer.stderr.splitlines()) == answer.returncode, answer.log
    assert not answer.stdout and not server.left(), answer.log


def test_one_host_is_too_few(server):
    answer = server.cluster("127.0.0.1")
    assert answer.returncode == 2 and "name two hosts or more" in answer.stderr
