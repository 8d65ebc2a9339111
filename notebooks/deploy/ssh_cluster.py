"""A Dask cluster over SSH: the scheduler on the first host, workers on each of the others.

    python ssh_cluster.py HOST HOST ...                   # runs until Ctrl+C, and says what to type for the notebooks
    python ssh_cluster.py HOST HOST ... -- COMMAND ...    # runs a command on the cluster, then closes it

Name a host twice to have the scheduler and workers there. On each host: the same Python environment, and this user's
key. A host must be in ~/.ssh/known_hosts; `ssh HOST` puts it there. TUTORIAL_DEVICE=cpu starts workers without GPUs.
"""

import argparse
import asyncio
import importlib.metadata
import logging
import os
import shlex
import signal
import subprocess
import sys

import asyncssh

WAIT = 10  # seconds to connect to a host, and to log in
ON_CPU = os.environ.get("TUTORIAL_DEVICE") == "cpu"
# prints the version of Dask's scheduler and workers there, and whether Dask-CUDA is
LOOK = (
    "from importlib import metadata, util; print(metadata.version('distributed'), "
    "util.find_spec('dask_cuda') is not None)"
)

# How Dask's processes start there: they end with the connection, whichever way it ends. SSHCluster itself sends them a
# signal, which not every SSH server passes on, and after a lost connection it sends none.
MAIN = """
import os, runpy, signal, sys, threading, time
def end():
    sys.stdin.buffer.read()
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(20)
    os._exit(1)
threading.Thread(target=end, daemon=True).start()
del sys.argv[:2]
runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
"""


class Refused(Exception):
    """The cluster cannot start; the message is one line that says why."""


def parse(arguments):
    """Return the options, and the command after `--` as a list."""
    command = []
    if "--" in arguments:
        split = arguments.index("--")
        arguments, command = arguments[:split], arguments[split + 1 :]
    parser = argparse.ArgumentParser(
        description="Start a Dask cluster over SSH.",
        usage="%(prog)s [options] HOST HOST ... [-- COMMAND ...]",
    )
    parser.add_argument("hosts", nargs="+", metavar="HOST", help="the first has the scheduler")
    parser.add_argument("--interface", help="the network that the hosts share, eth0 or ib0")
    parser.add_argument("--python", default=sys.executable, help="Python on the hosts (as here)")
    parser.add_argument("--user", help="log in under this name")
    parser.add_argument("--port", type=int, help="of the SSH servers")
    parser.add_argument("--key", help="file of the private key")
    parser.add_argument("--known-hosts", help="file of the hosts' keys (~/.ssh/known_hosts)")
    parser.add_argument("--verbose", action="store_true", help="show the logs of the hosts")
    options = parser.parse_args(arguments)
    if len(options.hosts) < 2:
        parser.error("name two hosts or more: one for the scheduler, the others for workers")
    for file in filter(None, (options.key, options.known_hosts)):
        if not os.path.isfile(file):
            parser.error(f"there is no file {file}")
    return options, command


def connect_options(options):
    """Return what asyncssh is told: what is left out it takes from ~/.ssh, as ssh does."""
    given = {
        "username": options.user,
        "port": options.port,
        "client_keys": options.key and [options.key],
        "known_hosts": options.known_hosts,  # None would mean that any host's key is taken
    }
    given = {name: value for name, value in given.items() if value}
    return {**given, "connect_timeout": WAIT, "login_timeout": WAIT}


async def look_at(host, python, connect):
    """Log in to a host, and raise Refused, one line, unless its Python can be part of the cluster."""
    here = importlib.metadata.version("distributed")
    try:
        async with asyncssh.connect(host, **connect) as connection:
            answer = await connection.run(f"{shlex.quote(python)} -c {shlex.quote(LOOK)}")
    except asyncssh.HostKeyNotVerifiable:
        says = f"its key is not the one in known_hosts, or is not there. Type `ssh {host}` once, and compare the key"
    except asyncssh.PermissionDenied:
        says = f"it refuses this user or key. `ssh-copy-id {host}` brings your key there"
    except asyncssh.KeyImportError as error:
        says = f"the key cannot be used ({error}): a key with a passphrase goes into ssh-agent"
    except (OSError, TimeoutError, asyncssh.Error) as error:
        says = f"no connection ({error or type(error).__name__})"
    else:
        version, has_gpu_workers = (answer.stdout.split() + ["", ""])[:2]
        if answer.exit_status:
            says = f"no Python with Dask at {python}: name it by --python"
        elif version != here:
            says = f"distributed {version} is there, {here} here: install the same versions"
        elif has_gpu_workers != "True" and not ON_CPU:
            says = "no dask-cuda there: install it, or set TUTORIAL_DEVICE=cpu"
        else:
            return
    raise Refused(f"{host}: {' '.join(says.split())}.")


async def look_at_all(options):
    hosts = dict.fromkeys(options.hosts)
    connect = connect_options(options)
    await asyncio.gather(*(look_at(host, options.python, connect) for host in hosts))


def start(options):
    """Return the cluster; the scheduler's page and the workers' are on loopback."""
    from dask.distributed import SSHCluster  # the hosts are looked at first: that needs no Dask

    logging.getLogger("distributed").setLevel(logging.INFO if options.verbose else logging.ERROR)
    common = {"interface": options.interface} if options.interface else {}
    python = f"{shlex.quote(options.python)} -c {shlex.quote(MAIN)}"
    if options.interface:  # Dask writes this behind `env`: cuML's workers meet on that network, too
        python = f"NCCL_SOCKET_IFNAME={shlex.quote(options.interface)} {python}"
    protocol = os.environ.get("TUTORIAL_PROTOCOL")  # tls.env sets it; Dask sends its settings along
    return SSHCluster(
        options.hosts,
        connect_options=connect_options(options),
        remote_python=python,
        scheduler_options={
            **common,
            **({"protocol": protocol} if protocol else {}),
            "port": 0,
            "dashboard_address": "127.0.0.1:8787",
        },
        # CUDAWorker: one process for each GPU of the host
        worker_class="distributed.Nanny" if ON_CPU else "dask_cuda.CUDAWorker",
        worker_options={**common, "nthreads": 1, "dashboard_address": "127.0.0.1:0"},
    )


async def follow(process, verbose):
    """Read what a host writes: unread, it would fill the connection, and the host's process would wait."""
    async for line in process.proc.stderr:
        if verbose:
            print(line, end="", file=sys.stderr)


def wait_for_workers(cluster, number):
    from dask.distributed import Client

    with Client(cluster, set_as_default=False) as client:
        try:
            client.wait_for_workers(number, timeout=60)
        except TimeoutError:
            raise Refused(
                f"{len(client.nthreads())} of {number} hosts have workers after a minute: can they reach "
                f"{cluster.scheduler_address}? Name the network that they share by --interface."
            ) from None


def run(options, command):
    """Start the cluster, run the command or wait for Ctrl+C, close the cluster; return the exit status."""
    cluster = start(options)
    try:
        for process in [cluster.scheduler, *cluster.workers.values()]:
            cluster.loop.add_callback(follow, process, options.verbose)
        wait_for_workers(cluster, len(options.hosts) - 1)
        address = cluster.scheduler_address
        if command:
            return subprocess.run(
                command, env={**os.environ, "DASK_SCHEDULER_ADDRESS": address}
            ).returncode
        print(f"The cluster is up. For the notebooks, in another terminal, before Jupyter starts:\n"
              f"  export DASK_SCHEDULER_ADDRESS={address}\nCtrl+C ends it.", flush=True)  # fmt: skip
        signal.pause()
    except KeyboardInterrupt:
        return 130 if command else 0
    finally:
        cluster.close(timeout=30)


def interrupt(*_):
    raise KeyboardInterrupt


def main(arguments):
    options, command = parse(arguments)
    logging.getLogger("asyncssh").setLevel(logging.ERROR)
    # a terminal that closes, or a `kill`: the cluster closes in order
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, interrupt)
    try:
        asyncio.run(look_at_all(options))
        return run(options, command)
    except (Refused, RuntimeError, OSError) as error:
        return " ".join(f"ssh_cluster.py: {error}".split())
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
