"""deploy/kubernetes.yaml is what Dask's operator takes, as its schema says. No Kubernetes runs here."""

import copy
import functools
import importlib.util
import tomllib
from pathlib import Path

import dask_kubernetes
import distributed.cli.dask_scheduler
import distributed.cli.dask_worker
import jsonschema
import pytest
import yaml
from click import UsageError
from dask_kubernetes.exceptions import ValidationError
from dask_kubernetes.operator.controller import controller
from dask_kubernetes.operator.validation import validate_cluster_name
from packaging.requirements import Requirement

from tests.books import ROOT

pytestmark = pytest.mark.setup
MANIFEST = yaml.safe_load((ROOT / "notebooks/deploy/kubernetes.yaml").read_text(encoding="utf-8"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
# what `helm install` gives to Kubernetes: the package's templates with the parts of Kubernetes filled in
DEFINITION = (
    Path(dask_kubernetes.__file__).parent
    / "operator/deployment/helm/dask-kubernetes-operator/crds/daskcluster.yaml"
)
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # half a second, or several
EXTRA = "EXTRA_PIP_PACKAGES"  # what the image installs as it starts
TEXTS = {"type": "object", "additionalProperties": {"type": "string"}}
# Kubernetes itself knows these; a definition does not list them
METADATA = {"properties": {"name": {"type": "string"}, "labels": TEXTS, "annotations": TEXTS}}


@functools.cache
def schema():
    """Return the operator's schema, made strict: Kubernetes drops unknown fields in silence."""
    definition = yaml.load(DEFINITION.read_text(encoding="utf-8"), Loader=LOADER)
    [version] = definition["spec"]["versions"]
    found = version["schema"]["openAPIV3Schema"]
    found["properties"] |= {
        "apiVersion": {"const": f"{definition['spec']['group']}/{version['name']}"},
        "kind": {"const": definition["spec"]["names"]["kind"]},
        "metadata": METADATA,
    }
    found["required"] = [*found["required"], "apiVersion", "kind", "metadata"]
    return strict(found)


def strict(part):
    """Return a part of a schema in which an object has no fields but those that are listed."""
    if isinstance(part, list):
        return [strict(item) for item in part]
    if not isinstance(part, dict):
        return part
    part = {name: strict(value) for name, value in part.items()}
    if "properties" in part and not part.get("x-kubernetes-preserve-unknown-fields"):
        part.setdefault("additionalProperties", False)
    return part


def faults(manifest):
    """Yield a line for each thing that is wrong with a manifest."""
    for error in jsonschema.Draft7Validator(schema()).iter_errors(manifest):
        yield f"{error.json_path}: {error.message}"


def check(manifest):
    """Assert all that can be told of a manifest without Kubernetes."""
    assert not list(faults(manifest))
    name = manifest["metadata"]["name"]
    validate_cluster_name(name)
    assert not name.startswith("dask"), "Kubernetes' DASK_... would be Dask's settings"
    spec = manifest["spec"]
    [worker], [scheduler] = (spec[role]["spec"]["containers"] for role in ("worker", "scheduler"))

    for container in (
        worker,
        scheduler,
    ):  # the scheduler unpickles frames, and cuDF needs a GPU for that
        assert int(container["resources"].get("limits", {}).get("nvidia.com/gpu", 0)) > 0, "no GPU"
        assert {"name": "NCCL_SOCKET_IFNAME", "value": "eth0"} in container["env"], "NCCL"
    assert worker["args"][:3] == ["dask", "cuda", "worker"], "no workers with GPUs"
    assert worker["args"][3:5] == ["--name", "$(DASK_WORKER_NAME)"], "the operator names workers"
    cuda_worker().make_context("worker", worker["args"][3:])  # fails at an unknown option

    assert scheduler["args"][:2] == ["dask", "scheduler"], "no scheduler"
    options = distributed.cli.dask_scheduler.main.make_context("scheduler", scheduler["args"][2:])
    pages = int(options.params["dashboard_address"].rpartition(":")[2])
    listens = {"tcp-comm": int(options.params["port"] or 8786), "http-dashboard": pages}
    ports = {port["name"]: port["containerPort"] for port in scheduler["ports"]}
    # the operator, and Client, look for the ports by these names
    service = {port["name"]: port for port in spec["scheduler"]["service"]["ports"]}
    assert ports == listens == {name: port["port"] for name, port in service.items()}, "other ports"
    assert all(port["targetPort"] == name for name, port in service.items())
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert scheduler[probe]["httpGet"]["port"] == "http-dashboard"

    deployment = controller.build_scheduler_deployment_spec(name, spec["scheduler"]["spec"], {}, {})
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    assert spec["scheduler"]["service"]["selector"].items() <= labels.items(), "finds no scheduler"

    assert worker["image"] == scheduler["image"], "two images"
    image, _, tag = worker["image"].partition(":")
    version, cuda, python = tag.split("-")
    assert (image, version) == ("rapidsai/base", PROJECT["version"]), "another RAPIDS"
    assert cuda.replace("cuda", "gpu-cu") in PROJECT["optional-dependencies"]
    assert python in {"py3.11", "py3.12", "py3.13", "py3.14"}  # as rapidsai/docker builds them
    pins = {Requirement(text).name: text for text in PROJECT["dependencies"]}
    for container in (worker, scheduler):
        [packages] = [item["value"] for item in container["env"] if item["name"] == EXTRA]
        assert all(pins[Requirement(text).name] == text for text in packages.split()), packages


def cuda_worker():
    """Return the command `dask cuda worker`; without a GPU `dask worker`, of whose options it has the common ones."""
    if importlib.util.find_spec("dask_cuda"):
        from dask_cuda.cli import worker

        return worker
    return distributed.cli.dask_worker.main


def test_the_operator_takes_it():
    check(MANIFEST)


def at(manifest, path):
    """Return the part of a manifest at a path, `spec/worker`, and the last name of the path."""
    *names, last = [int(name) if name.isdigit() else name for name in path.split("/")]
    for name in names:
        manifest = manifest[name]
    return manifest, last


WORKER, SCHEDULER = (f"spec/{role}/spec/containers/0" for role in ("worker", "scheduler"))


@pytest.mark.parametrize(
    ("path", "value", "says"),
    [
        (f"{WORKER}/imagePullPolcy", "Always", "'imagePullPolcy' was unexpected"),
        ("spec/workers", {}, "'workers' was unexpected"),
        ("spec/worker/replica", 2, "'replica' was unexpected"),
        (f"{SCHEDULER}/readinessProbe/httpGet/url", "/", "'url' was unexpected"),
        ("metadata/label", {}, "'label' was unexpected"),
        ("apiVersion", "kubernetes.dask.org/v2", "'kubernetes.dask.org/v1' was expected"),
        ("spec/worker/replicas", "two", "'two' is not of type 'integer'"),
        (f"{WORKER}/resources/limits/nvidia.com~gpu", 1, "1 is not of type 'string'"),
        (f"{WORKER}/resources", {"limits": {"memory": "32Gi"}}, "no GPU"),
        (f"{SCHEDULER}/resources", {"requests": {"memory": "4Gi"}}, "no GPU"),
        (f"{WORKER}/env/1/value", "lo", "NCCL"),
        (f"{WORKER}/args/1", "cuda-worker", "no workers with GPUs"),
        (f"{WORKER}/args/5", "--dashboard-adress", "8788"),
        (f"{SCHEDULER}/args", ["dask", "scheduler", "--port", "9000"], "other ports"),
        ("spec/scheduler/service/ports/0/port", 8785, "other ports"),
        ("spec/scheduler/service/ports/0/name", "comm", "other ports"),
        ("spec/scheduler/service/selector/dask.org~cluster-name", "other", "finds no scheduler"),
        (f"{WORKER}/image", "rapidsai/base:26.08-cuda13-py3.12", "two images"),
        (f"{SCHEDULER}/image", "rapidsai/base:26.08-cuda13-py3.12", "two images"),
        (f"{WORKER}/env/0/value", "numpy==1.26.0", "numpy==1.26.0"),
        ("metadata/name", "Tutorial", "is invalid"),
        ("metadata/name", "dask-tutorial", "would be Dask's settings"),
    ],
)
def test_a_fault_is_found(path, value, says):
    manifest = copy.deepcopy(MANIFEST)
    part, last = at(manifest, path)
    part[last.replace("~", "/") if isinstance(last, str) else last] = value
    with pytest.raises((AssertionError, UsageError, ValidationError)) as raised:
        check(manifest)
    text = getattr(raised.value, "message", None) or str(raised.value)
    assert says in text, text
