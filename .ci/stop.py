"""End what killed kernels of this folder have left: Dask's workers and schedulers, and nothing else.

    python3 .ci/stop.py

Kernels that run keep their processes. So do other folders, other users and other programs: a process is known by the
mark that its kernel gave it (see notebooks/tutorial/processes.py). Written for any Python 3.
"""

import os
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def age(seconds):
    """Return a time in words."""
    for unit, length in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * length:
            return "%d %s" % (seconds / length, unit)
    return "%d s" % seconds


def main():
    if not os.path.exists("/proc/self/environ"):
        sys.exit(
            "make stop finds processes in /proc, which this system lacks. Here: `ps -axo pid,ppid,etime,command | grep "
            "multiprocessing` lists workers; end those whose second number is 1 with `kill -9` and the first number."
        )
    sys.path.insert(0, os.path.join(ROOT, "notebooks", "tutorial"))
    import processes

    found = processes.all_of_this_folder()
    stale = [process for process in found if process.left]
    says = [(process, age(process.age())) for process in stale]
    stuck = processes.end(stale)
    for process, old in says:
        print(
            "%s: %s, process %d, %s old; its kernel %d is gone."
            % (
                "Cannot be ended" if process in stuck else "Ended",
                process.kind,
                process.pid,
                old,
                process.kernel,
            )
        )
    if not stale:
        print("Nothing to end: no killed kernel of this folder has left a Dask process.")
    kernels = sorted({process.kernel for process in found if not process.left})
    if kernels:
        print(
            "Kept: %d Dask processes of kernels that run, as process %s. JupyterLab shuts them down: "
            "Kernel, Shut Down All Kernels." % (len(found) - len(stale), ", ".join(map(str, kernels)))
        )  # fmt: skip
    if stuck:
        sys.exit(
            "They wait for a device or a disk; only a restart of the machine or container ends them."
        )


if __name__ == "__main__":
    main()
