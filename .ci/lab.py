"""Open the learner's copy of the notebooks in JupyterLab.

    python .ci/lab.py [OPTION ...]    # options of `jupyter lab`, for example --no-browser --port 8899

Runs in the environment whose Python starts it, which must have JupyterLab; `make lab` starts it with that of .venv.
What it sets holds for this Lab only: nothing of the user's own Jupyter configuration is changed.
"""

import json
import logging
import os
import re
import sys
import tempfile

import work

LOOPBACK = ["localhost", "127.0.0.1", "::1"]
# Defaults; a user's own settings come first. No question about news over the first cell, no note about a newer
# JupyterLab. Each cell says how long it took. The Dask panes are those of a cluster that a notebook has started, and
# stand beside it; clusters of Lab's own would be a second way.
SETTINGS = {
    "@jupyterlab/apputils-extension:notification": {"fetchNews": "false", "checkForUpdates": False},
    "@jupyterlab/notebook-extension:tracker": {"recordTiming": True},
    "dask-labextension:plugin": {
        "hideClusterManager": True,
        "defaultLayout": {
            "individual-task-stream": {"mode": "split-right", "ref": None},
            "individual-progress": {"mode": "split-bottom", "ref": "individual-task-stream"},
            "individual-workers-memory": {"mode": "split-bottom", "ref": "individual-progress"},
        },
    },
}
# in the server's log: an extension's old name for its entry point, a notebook with outputs of another machine, the
# request of a pane whose cluster has ended, and the headers of a request that failed
NO_NEWS = re.compile(r"_jupyter_server_extension_points|is not trusted|^500 GET \S*/proxy/|^{")


def environment(inherited):
    """Return the environment variables of Lab, given those of this process.

    In Lab's terminal `python` is the one that runs the notebooks. A proxy is not asked for this machine's own servers.
    """
    result = dict(inherited)
    result["TUTORIAL_BIN"] = os.path.dirname(sys.executable)
    result["PATH"] = os.pathsep.join([result["TUTORIAL_BIN"], inherited.get("PATH", os.defpath)])
    if sys.prefix != sys.base_prefix:
        result["VIRTUAL_ENV"] = sys.prefix
    direct = ",".join(inherited.get(name, "") for name in ("no_proxy", "NO_PROXY")).split(",")
    direct = [host.strip() for host in direct if host.strip()] + LOOPBACK
    result["no_proxy"] = result["NO_PROXY"] = ",".join(dict.fromkeys(direct))
    return result


def options(inherited):
    """Return the options for JupyterLab, given the environment variables of this process."""
    found = ["--LabApp.default_url=/lab/tree/work/" + work.HOME]
    found.append("--LabApp.expose_app_in_browser=True")  # for the button below the dashboard's link
    found.append("--log-level=WARN")  # nothing comes after the URL
    # what Lab and a kernel say to each other is for them: a machine may have other users
    found.append("--KernelManager.transport_encryption=auto")
    found.append("--ServerApp.terminado_settings=%r" % {"shell_command": shell(inherited)})
    if os.geteuid() == 0:  # in a container
        found.append("--allow-root")
    return found


def shell(inherited):
    """Return the command for Lab's terminal: the user's shell, with the environment's Python first on its PATH.

    Left to itself Jupyter may start a login shell, and /etc/profile sets PATH anew.
    """
    program = inherited.get("SHELL") or "/bin/sh"
    if os.path.basename(program) == "bash":
        return [program, "--rcfile", os.path.join(work.ROOT, ".ci", "terminal.bash")]
    return [program]


def write_settings(prefix):
    """Add SETTINGS to the defaults of the JupyterLab in an environment, but for plugins that have other defaults."""
    path = os.path.join(prefix, "share", "jupyter", "lab", "settings", "overrides.json")
    try:
        with open(path) as file:
            there = json.load(file)
    except (OSError, ValueError):
        there = {}
    wanted = dict(SETTINGS, **there)
    if wanted == there:
        return
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path + ".part", "w") as file:
            json.dump(wanted, file, indent=1)
        os.replace(path + ".part", path)
    except OSError:  # the environment belongs to somebody else, or the disk is full
        pass


def check_folders():
    """Exit with one line if Jupyter, or every kernel, would fail for want of a folder to write to."""
    from jupyter_core.paths import jupyter_runtime_dir

    try:
        tempfile.gettempdir()
    except OSError as error:
        sys.exit(
            "No folder for temporary files can be written: %s. Free some disk, or name another folder: "
            "TMPDIR=/other/folder make lab" % error.strerror
        )
    folder = jupyter_runtime_dir()
    try:
        os.makedirs(folder, 0o700, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(bytes(2**16))  # some files of a few hundred bytes each
    except OSError as error:
        sys.exit(
            "JupyterLab cannot write to %s: %s. Free some disk, or name another folder: HOME=/other/folder make lab"
            % (folder, error.strerror)
        )


def is_news(record):
    """Tell whether a record of the server's log is for the reader of the terminal: what says that all is well is not.

    Nor is a pane of the browser that was closed, or that asks for the dashboard of a cluster which has ended.
    """
    error = (record.exc_info or [None])[0]
    ended = error is not None and error.__name__ in (
        "WebSocketClosedError",
        "ConnectionRefusedError",
    )
    return (
        record.levelno >= logging.WARNING and not ended and not NO_NEWS.search(record.getMessage())
    )


def main(arguments):
    os.chdir(work.ROOT)
    work.tell(work.ROOT)
    check_folders()
    write_settings(sys.prefix)
    print("Starting JupyterLab; Control-C stops it.", flush=True)
    os.environ.update(environment(os.environ))
    from jupyterlab import labapp
    from tornado.log import app_log

    for logger in (logging.getLogger("LabApp"), logging.getLogger("ServerApp"), app_log):
        logger.addFilter(is_news)
    labapp.main(options(os.environ) + arguments)


if __name__ == "__main__":
    main(sys.argv[1:])
