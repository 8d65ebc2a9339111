"""Make .venv on first use, and again when pyproject.toml, the Python or the machine's GPU has changed.

    python3 .ci/environment.py

Installs the project, the extra that fits this machine (see notebooks/tutorial/device.py) and the test tools. Prints one
line and exits with 1 where that cannot work. Written for any Python 3, so that an old one gets an answer.
"""

import hashlib
import os
import subprocess
import sys

OLDEST, NEWEST = (3, 11), (3, 14)
STAMP = os.path.join(".venv", "installed")


def check_python(version):
    """Exit with one line if this Python version, a tuple (major, minor), has no RAPIDS 26.10."""
    if not OLDEST <= version <= NEWEST:
        sys.exit(
            "This is Python %d.%d; the tutorial needs %d.%d to %d.%d. Name another one: make lab PYTHON=python%d.%d"
            % (version + OLDEST + NEWEST + OLDEST)
        )


def check_venv():
    """Exit with one line if the modules that make a virtual environment are missing."""
    try:
        import ensurepip  # noqa: F401
        import venv  # noqa: F401
    except ImportError as error:
        sys.exit(
            "This Python has no module %s. Install it (Debian and Ubuntu: apt install python3-venv) and try again."
            % error.name
        )


def run(*command):
    """Run a command in sight of the user; exit with one line if it fails."""
    if subprocess.call(command):
        sys.exit(
            "Set-up stopped: %s failed (its message stands above). Try again: make lab"
            % " ".join(command[:4])
        )


def main():
    check_python(sys.version_info[:2])
    check_venv()
    sys.path.insert(0, os.path.join("notebooks", "tutorial"))
    import device

    try:
        extra = device.extra()
    except device.DeviceError as error:
        sys.exit("DeviceError: %s" % error)
    with open("pyproject.toml", "rb") as file:
        digest = hashlib.sha256(file.read()).hexdigest()
    state = "%s %s %s" % (digest, extra, sys.version)
    if os.path.exists(STAMP):
        with open(STAMP) as file:
            if file.read() == state:
                return
    print("Setting up .venv for %r: a few minutes, once." % extra, flush=True)
    run(sys.executable, "-m", "venv", "--clear", ".venv")
    python = os.path.join(".venv", "bin", "python")
    run(python, "-m", "pip", "install", "--disable-pip-version-check", "-e", ".[%s,test]" % extra)
    with open(STAMP, "w") as file:
        file.write(state)


if __name__ == "__main__":
    main()
