"""On a GPU: every name and keyword of the stand-ins exists on the real thing."""

import importlib
import inspect

from tutorial import cpu_stand_ins

import pytest
from dask.distributed import LocalCluster

pytestmark = pytest.mark.gpu


def resolve(path):
    """Return the object that a dotted path names."""
    module, name = path.rsplit(".", 1)
    return getattr(importlib.import_module(module), name)


def keywords(callable_, passes_on_to=None):
    """Return the keywords a callable takes; where it passes **kwargs on, those of the next in line as well."""
    parameters = inspect.signature(callable_).parameters
    names = {
        name
        for name, parameter in parameters.items()
        if parameter.kind is not inspect.Parameter.VAR_KEYWORD
    }
    if len(names) < len(parameters) and passes_on_to is not None:
        names |= keywords(passes_on_to)
    return names


def next_in_line(path):
    """Return what the real thing passes its **kwargs on to: a cluster to Dask's, an estimator to the single-GPU one."""
    if path == "dask_cuda.LocalCUDACluster":
        return LocalCluster
    return (
        resolve(path.replace(".dask.", "."))
        if ".dask." in path and "datasets" not in path
        else None
    )


@pytest.mark.parametrize("name", sorted(cpu_stand_ins.STANDS_FOR))
def test_keywords_exist_on_the_real_thing(name):
    path = cpu_stand_ins.STANDS_FOR[name]
    real = keywords(resolve(path), next_in_line(path))
    assert keywords(getattr(cpu_stand_ins, name)) - real == set()


@pytest.mark.parametrize("name", sorted(cpu_stand_ins.STANDS_FOR))
def test_methods_take_the_same_arguments(name):
    stand_in, real = getattr(cpu_stand_ins, name), resolve(cpu_stand_ins.STANDS_FOR[name])
    for method in methods(stand_in):
        own = keywords(getattr(stand_in, method)) - {"self", "y", "sample_weight"}
        assert own <= keywords(getattr(real, method)), method


def methods(stand_in):
    """Return the names of the methods that notebooks and readers call on an estimator."""
    if not hasattr(stand_in, "fit"):
        return ()
    more = ("fit_predict", "transform", "score") if hasattr(stand_in, "transform") else ()
    return ("fit", "predict", *more)


def test_every_public_stand_in_is_listed():
    """A stand-in that the contract does not know is held to nothing."""
    public = {
        name
        for name, thing in vars(cpu_stand_ins).items()
        if getattr(thing, "__module__", "") == "tutorial.cpu_stand_ins" and not name.startswith("_")
    }
    assert public == set(cpu_stand_ins.STANDS_FOR)


def test_modules_stand_for_modules():
    import cudf
    import cupy

    assert callable(cudf.DataFrame) and callable(cupy.asarray) and callable(cupy.asnumpy)
