#!/usr/bin/env bash
# A Dask cluster by address: a scheduler on one node, workers on every GPU node, and the notebooks connect to it.
#
#   bash by_address.sh scheduler INTERFACE          # on one node; its log names the address
#   bash by_address.sh workers INTERFACE ADDRESS    # on each GPU node; ADDRESS as tcp://10.0.0.1:8786
#   export DASK_SCHEDULER_ADDRESS=ADDRESS           # then start Jupyter
#
# INTERFACE is the network that the nodes share, as `ip -brief address` lists it: eth0, or ib0 of InfiniBand.
# TUTORIAL_PROTOCOL=tcp|tls|ucx: for the scheduler. tls: first `source tls.env`, that certificates.sh writes, on every
# node. ucx needs distributed-ucxx-cu13 (or -cu12) everywhere, and does not encrypt.
# TUTORIAL_DEVICE=cpu starts workers without GPUs.
# PYTHON=/path/to/python where `python` is another one; TUTORIAL_PORT for another port of the scheduler than 8786.
set -euo pipefail
usage="usage: bash by_address.sh scheduler INTERFACE | bash by_address.sh workers INTERFACE ADDRESS"
case "$# ${1:-}" in "2 scheduler" | "3 workers") ;; *) echo "$usage" >&2; exit 2 ;; esac
role="$1" interface="$2" address="${3:-}" protocol="${TUTORIAL_PROTOCOL:-tcp}"
dask=("${PYTHON:-python}" -m dask)
# cuML's workers meet by NCCL, first in the scheduler's process. By itself it may choose a network that others lack.
export NCCL_SOCKET_IFNAME="$interface"
case "$role" in
  scheduler)
    # UCX picks its transports as the first connection opens: the GPU must be in use by then
    if [ "$protocol" = ucx ]; then export DASK_DISTRIBUTED_UCXX__CREATE_CUDA_CONTEXT=True; fi
    # the dashboard shows all that runs, to anybody who reaches it: loopback, and `ssh -L 8787:localhost:8787` to see it
    exec "${dask[@]}" scheduler --interface "$interface" --protocol "$protocol" --port "${TUTORIAL_PORT:-8786}" \
      --dashboard-address 127.0.0.1:8787 ;;
  workers)
    if [ "${TUTORIAL_DEVICE:-auto}" = cpu ]; then
      worker=("${dask[@]}" worker --nthreads 1 --no-dashboard)
    else
      worker=("${dask[@]}" cuda worker)  # a process for each GPU of the node
    fi
    # UCX maps each piece of memory for each pair of processes: one pool is mapped once
    if [[ "$address" = ucx://* ]]; then worker+=(--rmm-pool-size 0.5); fi
    # workers talk to each other, too, so all listen on that network; their pages stay on loopback
    exec "${worker[@]}" "$address" --interface "$interface" --dashboard-address 127.0.0.1:0 ;;
esac
