"""Which processes a notebook's kernel has started, and whether that kernel still runs; for `make stop`, on Linux.

A kernel puts MARK into its environment: whatever it starts, and what that starts in turn, carries it for good. It names
this folder, the machine since its last start, and the kernel by its number and the moment at which it began. So no
process of another folder, of another machine whose job inherited the environment, or of a kernel that runs, is taken
for a left one. Only the standard library is needed, so that .ci/stop.py can ask this file. Written for any Python 3.
"""

import ctypes
import os
import re
import signal
import sys
import time

MARK = "TUTORIAL_KERNEL"
ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))
SET_PDEATHSIG = 1  # of Linux's prctl: what a process gets when its parent ends
# command line -> what it is; a notebook's workers are processes of Python's multiprocessing
KINDS = [
    (r"multiprocessing\.resource_tracker", "helper"),
    (r"multiprocessing\.(spawn|forkserver)", "worker"),
    (r"\b(dask|distributed\.cli\.dask|dask_cuda\.cli)[ ._-](cuda[ _-])?(worker|scheduler|spec)\b", None),
]  # fmt: skip


class Process:
    """A Dask process that a kernel of this folder has started.

    pid; began: when, in the kernel's clock ticks since the machine started; kind: worker, scheduler, spec or helper;
    kernel: the number of its kernel's process; left: whether that kernel is gone.
    """

    def __init__(self, pid, began, kind, kernel, left):
        self.pid, self.began, self.kind, self.kernel, self.left = pid, began, kind, kernel, left

    def runs(self):
        """Tell whether it still runs: its number may be another process's by now."""
        return _began(self.pid) == self.began

    def age(self):
        """Return for how many seconds it has run."""
        with open("/proc/uptime") as file:
            return float(file.read().split()[0]) - int(self.began) / os.sysconf("SC_CLK_TCK")

    def send(self, number):
        """Send it a signal, if it still runs."""
        try:
            if self.runs():
                os.kill(self.pid, number)
        except ProcessLookupError:
            pass


def mark():
    """Return what MARK is to be in this process's environment: this process is a kernel. None but on Linux."""
    began = _began(os.getpid())
    return began and "%d %s %s %s" % (os.getpid(), began, _machine(), ROOT)


def all_of_this_folder():
    """Return this user's Dask processes that kernels of this folder have started, as a list of Process."""
    found = []
    for pid in [int(name) for name in os.listdir("/proc") if name.isdigit()]:
        try:
            if os.stat("/proc/%d" % pid).st_uid != os.geteuid():
                continue
            environment, command = (_words(pid, name) for name in ("environ", "cmdline"))
        except OSError:  # it has ended, or its environment is nobody's to read
            continue
        value = [text[len(MARK) + 1 :] for text in environment if text.startswith(MARK + "=")]
        fields = value[0].split(" ", 3) if value else []
        kind, began = _kind(" ".join(command)), _began(pid)
        if len(fields) == 4 and fields[2:] == [_machine(), ROOT] and kind and began:
            kernel = int(fields[0])
            found.append(Process(pid, began, kind, kernel, _began(kernel) != fields[1]))
    return found


def end(processes, patience=5):
    """End processes: they are asked to, and killed if that takes more than `patience` seconds. Return what is left."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        for process in processes:
            process.send(number)
        deadline = time.time() + patience
        while processes and time.time() < deadline:
            time.sleep(0.05)
            processes = [process for process in processes if process.runs()]
    return processes


def end_with_parent():
    """Have Linux end this process as soon as the one that has started it is gone, whatever this one is doing then.

    Dask's own watch is a thread of the worker: it waits as long as a call into C keeps Python's lock.
    """
    import multiprocessing

    parent = multiprocessing.parent_process()
    if sys.platform != "linux" or parent is None or parent.pid != os.getppid():
        return
    signal_at_parents_end(signal.SIGKILL)
    if os.getppid() != parent.pid:  # it went meanwhile
        os._exit(1)


def signal_at_parents_end(number):
    """Have Linux send this process a signal when the thread that has started it ends."""
    ctypes.CDLL(None).prctl(SET_PDEATHSIG, number)


def _began(pid):
    """Return when a process began, as /proc writes it; None if it is gone, ended already or this is not Linux."""
    try:
        with open("/proc/%d/stat" % pid) as file:
            fields = file.read().rpartition(")")[2].split()
    except (OSError, ValueError):
        return None
    return None if fields[0] in "ZX" else fields[19]


def _machine():
    """Return a name of this machine since its last start; two containers on it have two."""
    with open("/proc/sys/kernel/random/boot_id") as file:
        return "%s:%d" % (file.read().strip(), os.stat("/proc/self/ns/pid").st_ino)


def _words(pid, name):
    with open("/proc/%d/%s" % (pid, name), "rb") as file:
        return os.fsdecode(file.read()).split("\0")


def _kind(command):
    """Return what a command line runs: worker, scheduler, spec or helper; None if it is not Dask's."""
    for pattern, kind in KINDS:
        match = re.search(pattern, command)
        if match:
            return kind or match.group(3)
    return None
