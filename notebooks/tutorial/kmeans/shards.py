"""The rows where they are: on each worker an actor holds its chunks, and all actors are asked at once.

A question that the client asks passes the scheduler, there and back. Iterations, which ask often, are therefore run by
one of the shards (`Shards.lead`): it asks the other workers directly, and itself without a message.
"""

import itertools

import dask.array
import numpy as np
from dask.core import flatten
from dask.distributed import CancelledError, default_client, futures_of, wait

from .arrays import as_floats, as_rows, as_weights, to_host, total
from .step import draw, farthest, step, weigh


def is_lost(error):
    """Tell whether an error of a Dask actor says that its worker has ended."""
    return str(error).startswith(("Worker holding Actor was lost", "Unable to contact Actor"))


def _merge(found, m):
    """Join what several calls of `farthest` found, and keep the m farthest rows; of equally far ones, the first."""
    parts = [np.concatenate(part) for part in zip(*found, strict=True)]
    squared, numbers = parts[:2]
    order = np.lexsort((numbers, -squared))[:m]
    return tuple(part[order] for part in parts)


class Shard:
    """The chunks that one worker holds, as a Dask actor: it lives on the worker, and others call its methods.

    chunks, weights: arrays by the chunk's number; weights may be None. dtype, n_features: what X declares.
    Raises ValueError where a chunk is something else that cannot be converted (`as_rows`, `as_weights`).
    """

    def __init__(self, chunks, weights, dtype, n_features):
        self.chunks = {n: as_rows(chunk, dtype, n_features) for n, chunk in chunks.items()}
        self.weights = {n: as_weights(weights[n], self.chunks[n]) for n in weights or ()}

    def lengths(self):
        """Return the number of rows of each chunk, by the chunk's number, and the sum of all weights."""
        weight = sum(float(weights.sum()) for weights in self.weights.values())
        return {n: len(chunk) for n, chunk in self.chunks.items()}, weight

    def place(self, firsts):
        """Take note of the number of each chunk's first row in the whole data; firsts: of all chunks, in order."""
        chunks = [(n, chunk) for n, chunk in self.chunks.items() if len(chunk)]
        self.parts = [(firsts[n], chunk, self.weights.get(n)) for n, chunk in chunks]

    def take(self, index):
        """Return row `index` of the whole data as NumPy, (d,), or None if it is not here."""
        for first, chunk, _ in self.parts:
            if first <= index < first + len(chunk):
                return to_host(chunk[index - first])

    def step(self, centers, weighted=True):
        """Return what `step` says of all chunks together, on request as if there were no weights."""
        return total(
            step(chunk, centers, weights if weighted else None) for _, chunk, weights in self.parts
        )

    def weigh(self, candidates):
        """Return what `weigh` says of all chunks together."""
        return total(weigh(chunk, candidates, weights) for _, chunk, weights in self.parts)

    def draw(self, candidates, factor, seed):
        """Return what `draw` says of each chunk, by the number of the chunk's first row."""
        return {
            first: draw(chunk, candidates, factor, seed, first, weights)
            for first, chunk, weights in self.parts
        }

    def farthest(self, centers, m):
        """Return what `farthest` says of all chunks together, with the rows' numbers in the whole data."""
        found = []
        for first, chunk, weights in self.parts:
            squared, rows, *rest = farthest(chunk, centers, m, weights)
            found.append((squared, first + rows, *rest))
        return _merge(found, m)

    def lead(self, work, *arguments):
        """Return work(*arguments), run on this worker."""
        return work(*arguments)

    def close(self):
        """Let go of the chunks."""
        self.chunks = self.weights = self.parts = None


def _chunks(client, X, name="X"):
    """Return the futures of an array's chunks, computed, in the order of the rows; raise the error of a failed one."""
    keys = list(flatten(X.__dask_keys__()))
    by_key = {future.key: future for future in futures_of(X)}
    if not by_key.keys() >= set(keys):  # where rows are in place already, no message is needed
        by_key = {future.key: future for future in futures_of(client.persist(X))}
    chunks = [by_key[key] for key in keys]
    try:
        wait(chunks)
    except CancelledError:
        raise ValueError(
            f"{name} was cancelled, or lost with a worker that has ended: make it again, and persist it."
        ) from None
    for chunk in chunks:
        if chunk.status != "finished":
            chunk.result()
    return chunks


def _cut_as(X, weights):
    """Return sample weights, NumPy, CuPy or Dask (n,), as a Dask array that is cut as X is along its rows."""
    if not isinstance(weights, dask.array.Array):
        weights = dask.array.from_array(as_floats(weights, "sample_weight"), chunks=-1)
    known = not np.isnan([*X.shape, *weights.shape]).any()
    if weights.ndim != 1 or (known and len(weights) != len(X)):
        raise ValueError(f"sample_weight has shape {weights.shape}: ({X.shape[0]},) is needed.")
    if known:
        return weights.rechunk(X.chunks[:1])
    if weights.numblocks != X.numblocks[:1]:
        raise ValueError(
            "X's or sample_weight's chunks have unknown lengths: call compute_chunk_sizes() first."
        )
    return weights


def _share_out(holders):
    """Give each chunk to one of the workers that hold it, evenly; holders: of each chunk. Returns worker -> numbers."""
    shares = {worker: [] for worker in sorted(set(itertools.chain(*holders)))}
    for n in sorted(range(len(holders)), key=lambda n: len(holders[n])):  # the least choice first
        worker = min(holders[n], key=lambda worker: (len(shares[worker]), worker))
        shares[worker].append(n)
    return {worker: sorted(numbers) for worker, numbers in shares.items() if numbers}


def _place(shards):
    """Number the rows of all shards; return how many there are, which shards have some, and the sum of all weights."""
    answers, weights = zip(*shards.ask("lengths"), strict=True)
    lengths = {n: length for answer in answers for n, length in answer.items()}
    *firsts, n_rows = itertools.accumulate((lengths[n] for n in sorted(lengths)), initial=0)
    shards.ask("place", firsts)
    return n_rows, [any(answer.values()) for answer in answers], sum(weights)


class Shards:
    """All shards of a Dask array X (n, d), asked at once. n_rows: n, counted; dtype: X's; shards: the actors.

    weights: None, or for each row a weight. kind: the class of the shards. Raises the error of a chunk that cannot be
    computed, and ValueError where X has no rows, or a chunk or a weight is not as it should be.
    """

    def __init__(self, X, weights=None, kind=Shard):
        client = default_client()
        chunks = _chunks(client, X)
        if weights is not None:
            weights = _chunks(client, _cut_as(X, weights), "sample_weight")
        where = client.who_has(chunks)
        holders = [where.get(chunk.key) for chunk in chunks]
        if not all(holders):
            raise ValueError("X is not on the workers of the active client: persist it there.")
        made = [
            client.submit(
                kind,
                {n: chunks[n] for n in numbers},
                weights and {n: weights[n] for n in numbers},
                X.dtype,
                X.shape[1],
                workers=[worker],
                actor=True,
                pure=False,
            )
            # in the order of addresses, by which the last leads: two fits at once cannot wait for each other in a ring
            for worker, numbers in _share_out(holders).items()
        ]
        self.shards = [future.result() for future in made]
        self.dtype = X.dtype
        self.n_rows, filled, weight = self.lead(_place)
        if not self.n_rows or (weights and not weight):
            self.close()
            what = "sample_weight is zero for all rows." if self.n_rows else "X has no rows."
            raise ValueError(what)
        self.shards = list(itertools.compress(self.shards, filled))

    def ask(self, method, *arguments):
        """Call a method of every shard with the same arguments; return the answers."""
        futures = [getattr(shard, method)(*arguments) for shard in self.shards]
        return [future.result() for future in futures]

    def lead(self, work, *arguments):
        """Return work(shards, *arguments), run on the worker of the last shard."""
        return self.shards[-1].lead(work, self, *arguments).result()

    def close(self):
        """Make the workers let go of the rows: actors live on until the leader collects its garbage."""
        self.ask("close")

    def row(self, index):
        """Return row `index` of the whole, NumPy (d,)."""
        return next(row for row in self.ask("take", index) if row is not None)

    def step(self, centers, weighted=True):
        """Return what `step` says of all rows, on request as if there were no weights."""
        return total(self.ask("step", centers, weighted))

    def weigh(self, candidates):
        """Return what `weigh` says of all rows."""
        return total(self.ask("weigh", candidates))

    def draw(self, candidates, factor, seed):
        """Return what `draw` says of all rows, in their order."""
        drawn = {}
        for answer in self.ask("draw", candidates, factor, seed):
            drawn |= answer
        return np.concatenate([drawn[first] for first in sorted(drawn)])

    def farthest(self, centers, m):
        """Return labels, weights and rows, (m, d), of the at most m rows that are farthest from their centre."""
        return _merge(self.ask("farthest", centers, m), m)[2:]
