"""A client that is a pod of its own in the cluster, with the official Python client."""

import json
import os
import pathlib
import subprocess

import pytest
from conftest import MODES, TOKEN
from scenario import expected

IMAGE = os.environ["E2E_CLIENT_IMAGE"]
NAMESPACE = "e2e-client"
SERVICE = "codesandbox-mcp-frontend.codesandbox"
# All names the Service has outside its own namespace.
HOSTS = [SERVICE, f"{SERVICE}.svc", f"{SERVICE}.svc.cluster.local"]
PROTOCOLS = {"legacy": "2025-11-25", "2026-07-28": "2026-07-28"}


def kubectl(*verb, **options):
    command = ["kubectl", "-n", NAMESPACE, *verb]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=150, **options).stdout


def create(kind, name, **fields):
    made = {"apiVersion": "v1", "kind": kind, "metadata": {"name": name}, **fields}
    kubectl("create", "-f", "-", input=json.dumps(made))


def client():
    """The scenario, in a pod as restricted as the standards have it."""
    container = {
        "name": "client",
        "image": IMAGE,
        "command": ["python", "/scenario/scenario.py"],
        "env": [
            {"name": "URLS", "value": json.dumps([f"http://{host}:8080/mcp" for host in HOSTS])},
            {"name": "MODES", "value": json.dumps(MODES)},
            {"name": "TOKEN_FILE", "value": "/token/token"},
        ],
        "volumeMounts": [{"name": name, "mountPath": f"/{name}", "readOnly": True} for name in ["scenario", "token"]],
        "securityContext": {
            "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]},
        },
    }  # fmt: skip
    return {
        "restartPolicy": "Never",
        "activeDeadlineSeconds": 120,
        "automountServiceAccountToken": False,
        "securityContext": {"runAsNonRoot": True, "runAsUser": 65532, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [container],
        "volumes": [
            {"name": "scenario", "configMap": {"name": "scenario"}},
            {"name": "token", "secret": {"secretName": "token"}},
        ],
    }


@pytest.fixture
def namespace():
    subprocess.run(["kubectl", "delete", "namespace", NAMESPACE, "--ignore-not-found"], check=True, timeout=120)
    kubectl("create", "namespace", NAMESPACE)
    kubectl("label", "namespace", NAMESPACE, "pod-security.kubernetes.io/enforce=restricted")
    yield
    subprocess.run(["kubectl", "delete", "namespace", NAMESPACE, "--wait=false"], check=True, timeout=60)


def test_a_pod_reaches_the_front_end_by_every_name_of_its_service(namespace):
    assert IMAGE, "make e2e makes the image of this client"
    script = (pathlib.Path(__file__).parent / "scenario.py").read_text()
    create("ConfigMap", "scenario", data={"scenario.py": script})
    create("Secret", "token", stringData={"token": TOKEN})
    create("Pod", "client", spec=client())
    ended = "jsonpath={.status.containerStatuses[0].state.terminated}"
    kubectl("wait", "pod/client", f"--for={ended}", "--timeout=130s")
    said = kubectl("logs", "pod/client")
    assert kubectl("get", "pod/client", "-o", ended.replace("terminated", "terminated.exitCode")) == "0", said
    seen = [json.loads(line) for line in said.splitlines()]
    modes = MODES * len(HOSTS)
    assert seen == [expected(each["created"][0], PROTOCOLS[mode]) for each, mode in zip(seen, modes, strict=True)]
