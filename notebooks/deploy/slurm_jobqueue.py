"""A Dask cluster of Slurm jobs: the scheduler is here, and each job is a node with a worker for each of its GPUs.

    python notebooks/deploy/slurm_jobqueue.py --nodes 2 --gpus 4 -- jupyter lab
    python notebooks/deploy/slurm_jobqueue.py --nodes 2 --gpus 4

The first runs a command with DASK_SCHEDULER_ADDRESS set, so that its notebooks use the cluster, and then ends the jobs.
The second prints the address, for other terminals, and ends the jobs at Ctrl-C.

Change --nodes, --gpus, --cpus and --memory, all but the first for each node, and --time; add --partition, --account and
--interface, the network that the nodes share with this machine, as your cluster wants them. Any other option of sbatch
goes through --sbatch="--qos=high". The notebooks need a GPU, too: run this on a node that has one.

It needs pip install dask-jobqueue, and a folder that all nodes see.
"""

import argparse
import os
import shlex
import signal
import subprocess
import sys

from dask.distributed import Client
from dask_jobqueue import SLURMCluster

ON_CPU = os.environ.get("TUTORIAL_DEVICE") == "cpu"  # a rehearsal: plain workers, as many


def read(arguments):
    """Return the options, and the command after `--`."""
    parser = argparse.ArgumentParser(usage="%(prog)s [options] [-- COMMAND ...]")
    parser.add_argument("--nodes", type=int, default=2)
    parser.add_argument("--gpus", type=int, default=4, help="of a node")
    parser.add_argument("--cpus", type=int, default=16, help="of a node")
    parser.add_argument("--memory", default="64GB", help="of a node")
    parser.add_argument("--time", default="00:30:00")
    parser.add_argument("--partition")
    parser.add_argument("--account")
    parser.add_argument("--interface")
    parser.add_argument("--sbatch", action="append", default=[], help="another option for sbatch")
    parser.add_argument("command", nargs="*")
    return parser.parse_args(arguments)


def start(options):
    """Submit the jobs; return the cluster."""
    cluster = SLURMCluster(
        # Dask-CUDA starts a worker for each GPU that the job sees. Told of as many processes, dask-jobqueue knows them
        # all by name, and gives each one thread and its part of the memory.
        worker_command="distributed.cli.dask_worker" if ON_CPU else "dask_cuda.cli",
        python=shlex.quote(sys.executable),
        processes=options.gpus,
        cores=options.gpus,
        memory=options.memory,
        worker_extra_args=["--dashboard-address", "127.0.0.1:0"],
        scheduler_options={"dashboard_address": "127.0.0.1:0"},
        interface=options.interface,
        job_cpu=options.cpus,
        walltime=options.time,
        queue=options.partition,
        account=options.account,
        job_extra_directives=[*([] if ON_CPU else [f"--gres=gpu:{options.gpus}"]), *options.sbatch],
    )
    # dask-jobqueue would wait for ever for a job that Slurm does not take
    question = ["sbatch", "--test-only"]
    answer = subprocess.run(question, input=cluster.job_script(), capture_output=True, text=True)
    if answer.returncode:
        cluster.close()
        sys.exit(f"{answer.stderr.strip()}\n{cluster.job_script()}")
    cluster.scale(jobs=options.nodes)
    return cluster


def wait_for_workers(cluster, client, number):
    """Wait as long as the queue takes; stop, with one line, once the jobs have ended without their workers."""
    while True:
        try:
            return client.wait_for_workers(number, timeout=10)
        except TimeoutError:
            jobs = [str(job.job_id) for job in cluster.workers.values() if job.job_id]
            command = ["squeue", "--noheader", "--format=%i", "--jobs", ",".join(jobs)]
            answer = subprocess.run(command, capture_output=True, text=True)
            gone = not answer.stdout.strip() and (
                not answer.returncode or "Invalid" in answer.stderr
            )
            if jobs and gone:
                sys.exit("The jobs have ended without their workers: slurm-*.out say why.")


def main(arguments):
    """Start the cluster, run the command or wait for Ctrl-C, end the cluster; return the command's exit status."""
    options = read(arguments)
    # dask_jobqueue has a handler of its own for Ctrl-C. SIGTERM does the same here: no job stays behind.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    # The tutorial sets it to lo, one machine alone, unless it is set. Empty, it lets NCCL choose. The jobs inherit it.
    os.environ.setdefault("NCCL_SOCKET_IFNAME", options.interface or "")
    with start(options) as cluster, Client(cluster) as client:
        print(f"export DASK_SCHEDULER_ADDRESS={cluster.scheduler_address}", flush=True)
        wait_for_workers(cluster, client, options.nodes * options.gpus)
        print(f"{len(client.nthreads())} workers are there", flush=True)
        if not options.command:
            signal.pause()
        signal.signal(signal.SIGINT, lambda *_: None)  # Ctrl-C is the command's, which may ask back
        environment = {**os.environ, "DASK_SCHEDULER_ADDRESS": cluster.scheduler_address}
        return subprocess.run(options.command, env=environment).returncode


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit("the jobs are cancelled")
