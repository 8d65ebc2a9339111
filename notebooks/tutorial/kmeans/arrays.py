"""Arrays of either device, and what a chunk of a Dask array must be."""

import numpy as np


def on_gpu(array):
    """Tell whether an array lies on a GPU."""
    return hasattr(array, "__cuda_array_interface__")


def module_of(array):
    """Return the module that computes with an array: cupy or numpy."""
    if not on_gpu(array):
        return np
    import cupy

    return cupy


def to_host(array):
    """Return an array as NumPy."""
    return array.get() if on_gpu(array) else np.asarray(array)


def total(answers):
    """Return the sums over several answers, part by part: of steps, all their sums, counts and inertias."""
    return tuple(sum(parts) for parts in zip(*answers, strict=True))


def dense(array, name):
    """Return an array as plain NumPy or CuPy; raise ValueError where it is none: sparse, masked, a frame."""
    if on_gpu(array) or (
        isinstance(array, np.ndarray) and not isinstance(array, np.ma.MaskedArray)
    ):
        return module_of(array).asarray(array)
    raise ValueError(
        f"{name} is a {type(array).__name__}: dense NumPy or CuPy arrays without a mask are possible."
    )


def _check_real(array, name):
    """Raise ValueError where an array holds no real numbers."""
    if array.dtype.kind not in "biuf":
        raise ValueError(f"{name} holds {array.dtype}: give real numbers.")


def as_floats(values, name):
    """Return a list, or a dense array, of real numbers as NumPy float64; raise ValueError where it is none."""
    values = dense(values if hasattr(values, "shape") else np.array(values), name)
    _check_real(values, name)
    return np.array(to_host(values), dtype=np.float64)


def as_rows(chunk, dtype, n_features):
    """Return a chunk of X, (n, n_features), in the type that X declares; raise ValueError where it cannot be that.

    Integers, booleans and shorter floats are converted where NumPy calls it safe: uint8 and int16 to float32, these and
    float32, int32 and int64 to float64, unless a number of 64 bits is rounded. A chunk of float64 in a float32 X is
    refused.
    """
    chunk = dense(chunk, "A chunk of X")
    if chunk.ndim != 2 or chunk.shape[1] != n_features:
        raise ValueError(f"A chunk of X has shape {chunk.shape}: X declares {n_features} features.")
    if not np.can_cast(chunk.dtype, dtype):
        raise ValueError(
            f"A chunk of X is {chunk.dtype}, X declares {dtype}: convert the chunk, or declare what it is."
        )
    if chunk.dtype.kind in "iu" and chunk.itemsize == 8 and (abs(chunk) > 2**53).any():
        raise ValueError("A chunk of X holds whole numbers beyond 2**53, which float64 rounds.")
    return chunk.astype(dtype, copy=False)


def as_weights(chunk, rows):
    """Return a chunk of sample weights as float64 (n,), where its n rows are; raise ValueError where it cannot be."""
    chunk = dense(chunk, "A chunk of sample_weight")
    if chunk.shape != (len(rows),):
        raise ValueError(f"A chunk of sample_weight has shape {chunk.shape} for {len(rows)} rows.")
    if not on_gpu(rows):
        chunk = to_host(chunk)
    _check_real(chunk, "sample_weight")
    weights = module_of(rows).asarray(chunk, dtype=np.float64)
    if not ((weights >= 0) & (weights < np.inf)).all():
        raise ValueError("sample_weight holds NaN, infinity or a negative weight.")
    return weights
