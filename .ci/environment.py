"""Make .venv on first use, and again when pyproject.toml, the Python or the machine's GPU has changed.

    python3 .ci/environment.py

Installs the project, the extra that fits this machine (see notebooks/tutorial/device.py) and the test tools. Says
first what that takes, and a line now and then while it takes it. Prints one line and exits with 1 where that cannot
work. Written for any Python 3, so that an old one gets an answer.
"""

import hashlib
import os
import re
import subprocess
import sys
import time

OLDEST, NEWEST = (3, 11), (3, 14)
STAMP = os.path.join(".venv", "installed")
PIP_LOG = os.path.join(".venv", "pip.log")
# Linux, x86-64: what `pip download` fetched (CPU: 156 files, 336 MB; CUDA 13: 2.8 GB, 5.0 GB unpacked). The minutes are
# a guess at an ordinary connection.
TAKES = {
    "cpu": "about 350 MB to download, about 1 GB on disk, a few minutes",
    "gpu": "about 3 GB to download, more than 5 GB on disk, 10 minutes or more",
}
SILENCE = 15  # seconds without a line, at most


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


def run(command, log=None):
    """Run a command; exit with one line if it fails. Its errors stay in sight.

    With a file name `log` all else that it says goes there, and the last line of that is shown every SILENCE seconds.
    """
    out = open(log, "w") if log else None
    process = subprocess.Popen(command, stdout=out, env=pip_environment(os.environ))
    start = told = time.time()
    while process.poll() is None:
        time.sleep(0.2)
        if log and time.time() - told >= SILENCE:
            told = time.time()
            print("    %3.0f s: %s" % (told - start, last_line(log)), flush=True)
    if out:
        out.close()
    if process.returncode:
        sys.exit(
            "Set-up stopped: %s failed (its message stands above). Try again: make lab"
            % " ".join(command[:4])
        )


def pip_environment(inherited):
    """Return the environment variables less those that would have pip install elsewhere than into .venv.

    An index or a proxy of the user's own stays.
    """
    elsewhere = ("PIP_TARGET", "PIP_PREFIX", "PIP_ROOT")
    result = {name: value for name, value in inherited.items() if name not in elsewhere}
    result["PIP_USER"] = "0"  # a line user=true in pip.conf, too, gives way to it
    return result


def last_line(path):
    """Return the last line of a text file that says something, without the list after its colon, shortened."""
    with open(path, encoding="utf-8", errors="replace") as file:
        lines = [line.strip() for line in file if line.strip()]
    return lines[-1].split(": ")[0][:80] if lines else "starting"


def state():
    """Return what decides whether .venv fits: the extra of pyproject.toml, and a text that changes with what matters.

    Raises device.DeviceError if this machine cannot run what TUTORIAL_DEVICE asks for.
    """
    sys.path.insert(0, os.path.join("notebooks", "tutorial"))
    import device

    extra = device.extra()
    with open("pyproject.toml", "rb") as file:
        digest = hashlib.sha256(file.read()).hexdigest()
    return extra, "%s %s %s" % (digest, extra, sys.version)


def main():
    check_python(sys.version_info[:2])
    check_venv()
    try:
        extra, fits = state()
    except RuntimeError as error:  # DeviceError
        sys.exit("DeviceError: %s" % error)
    if os.path.exists(STAMP):
        with open(STAMP) as file:
            there = file.read()
        # the environment for a GPU runs on the CPU, too: TUTORIAL_DEVICE=cpu does not cost it
        if fits in (there, re.sub(r" gpu-cu\d+ ", " cpu ", there)):
            return
    print("Setting up .venv for %r, once: %s." % (extra, TAKES[extra[:3]]), flush=True)
    print("1 of 2: an empty environment", flush=True)
    run([sys.executable, "-m", "venv", "--clear", ".venv"])
    print("2 of 2: pip downloads and installs; all it says: %s" % PIP_LOG, flush=True)
    pip = [os.path.join(".venv", "bin", "python"), "-m", "pip", "install"]
    pip += ["--disable-pip-version-check", "--progress-bar=off", "-e", ".[%s,test]" % extra]
    run(pip, PIP_LOG)
    with open(STAMP, "w") as file:
        file.write(fits)
    print("Set up.", flush=True)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit("Set-up stopped. Again: make lab")
