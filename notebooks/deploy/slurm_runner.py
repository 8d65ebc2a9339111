"""A script that brings its own Dask cluster: srun starts it several times, each time with another part to play.

    srun --nodes=2 --ntasks=4 --exclusive --distribution=cyclic --gpus-per-node=4 --cpus-per-task=8 \\
        --kill-on-bad-exit python notebooks/deploy/slurm_runner.py --interface ib0

Tasks: one for each node, and two more. Task 0 becomes the scheduler, task 1 the client, which runs work(). Each other
becomes a dask_cuda.CUDAWorker, which starts a worker for each GPU that it sees: all that the job has on its node. Two
of them on one node would share GPUs; --exclusive and --distribution=cyclic deal the tasks out in turn, one to a node.

Change the numbers, add --partition and --account; --interface is the network that the nodes share, and may be left
out. Put your own work into work(). It needs pip install dask-jobqueue, and starts in a folder that all nodes see.
"""

import argparse
import os
import sys
from collections import Counter

from dask.distributed import Client
from dask_jobqueue.slurm import SLURMRunner

# Nothing that uses a GPU is imported up here: each worker imports this file, too, before it knows which GPU is its own.


def work(client):
    """Fit k-means to rows that lie on all workers; print how far it is off, and which nodes' workers have rows."""
    from tutorial.device import GPU
    from tutorial.blobs import on_workers, spread_out

    import numpy as np

    if GPU:
        from cuml.dask.cluster import KMeans
        from cuml.dask.datasets import make_blobs
        from cupy import asarray, asnumpy
    else:
        from tutorial.cpu_stand_ins import KMeans, asnumpy, make_blobs

        asarray = np.asarray
    centers = spread_out(5, 2, apart=12)
    rows = on_workers(client, make_blobs, 1_000_000 if GPU else 100_000, centers=asarray(centers))
    found = asnumpy(KMeans(n_clusters=5, random_state=7).fit(rows).cluster_centers_)
    off = np.linalg.norm(centers[:, None] - found[None], axis=-1).min(axis=1).max()
    print(f"k-means: the worst of {len(found)} centroids is {off:.3f} off", flush=True)
    nodes = client.run(os.getenv, "SLURMD_NODENAME")
    holders = {worker for workers in client.who_has(rows).values() for worker in workers}
    for node, n in sorted(Counter(nodes[worker] for worker in holders).items()):
        print(f"{node}: rows on {n} workers", flush=True)


def main():
    """Play the part of this task. Only the client returns from SLURMRunner; the others stay in it to the end."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--interface")
    interface = parser.parse_args().interface
    # The tutorial sets it to lo, one machine alone, unless it is set. Empty, it lets NCCL choose.
    os.environ.setdefault("NCCL_SOCKET_IFNAME", interface or "")
    on_cpu = os.environ.get("TUTORIAL_DEVICE") == "cpu"
    gpus = 1 if on_cpu else int(os.environ["SLURM_GPUS_ON_NODE"])
    with (
        SLURMRunner(
            worker_class="distributed.Nanny" if on_cpu else "dask_cuda.CUDAWorker",
            worker_options={
                "interface": interface,
                "nthreads": 1,
                "dashboard_address": "127.0.0.1:0",
            },
            scheduler_options={"interface": interface, "dashboard_address": "127.0.0.1:0"},
            # of this step: a second srun in the same job must not find the first one's scheduler
            scheduler_file=f"scheduler-{{job_id}}-{os.environ.get('SLURM_STEP_ID')}.json",
        ) as runner,
        Client(runner) as client,
    ):
        client.wait_for_workers(runner.n_workers * gpus, timeout=300)
        nodes = client.run(os.getenv, "SLURMD_NODENAME").values()
        if set(Counter(nodes).values()) != {gpus}:
            sys.exit(
                f"Not one worker task for each node ({Counter(nodes)}): see how srun was called"
            )
        work(client)


if __name__ == "__main__":
    main()
