"""Open the learner's copy of the notebooks in JupyterLab.

    python .ci/lab.py [OPTION ...]    # options of `jupyter lab`, for example --no-browser --port 8899

Runs in the environment whose Python starts it, which must have JupyterLab; `make lab` starts it with that of .venv.
What it sets holds for this Lab only: nothing of the user's own Jupyter configuration is changed.
"""

import json
import os
import sys

import work

LOOPBACK = ["localhost", "127.0.0.1", "::1"]
# no question about news over the first cell, no note about a newer JupyterLab; a user's own setting comes first
SETTINGS = {
    "@jupyterlab/apputils-extension:notification": {"fetchNews": "false", "checkForUpdates": False}
}


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
    found.append("--log-level=WARN")  # nothing comes after the URL
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
    """Write SETTINGS as the defaults of the JupyterLab in an environment, unless it has others."""
    folder = os.path.join(prefix, "share", "jupyter", "lab", "settings")
    try:
        os.makedirs(folder, exist_ok=True)
        with open(os.path.join(folder, "overrides.json"), "x") as file:
            json.dump(SETTINGS, file, indent=1)
    except OSError:  # it has, or the environment belongs to somebody else
        pass


def main(arguments):
    os.chdir(work.ROOT)
    work.tell(work.ROOT)
    write_settings(sys.prefix)
    command = [sys.executable, "-m", "jupyterlab"] + options(os.environ) + arguments
    print("Starting JupyterLab; Control-C stops it.", flush=True)
    os.execve(sys.executable, command, environment(os.environ))


if __name__ == "__main__":
    main(sys.argv[1:])
