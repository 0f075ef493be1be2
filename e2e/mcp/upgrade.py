"""Sandboxes of one version live on under another, and callers are answered all the while.

Takes the release off and puts it on again, so pytest does not collect it by itself: `make e2e` runs it at the end.
"""

import asyncio
import collections
import contextlib
import json
import pathlib
import subprocess
import time

import httpx2
import pytest
from conftest import connect, text

pytestmark = pytest.mark.anyio

HACK = pathlib.Path(__file__).parents[2] / "hack"
RELEASE, SANDBOXES = "codesandbox", "codesandbox-sandboxes"
NAMES = [f"upgrade-{number}" for number in range(20)]
# Says when it was started, and runs until it is told to stop.
COMMAND = "echo started >>starts; until [ -e stop ]; do sleep 0.2; done; cat starts"
# What a caller may be told while a front end goes and another comes. Each says that the call may be made again.
EXPECTED = {"answered", "no connection", "UNAVAILABLE"}
# How long a caller waits for a connection, in seconds. The first version ended as soon as it was told to, when the node still
# sent calls to it: a connection to it finds nobody there.
PATIENCE = 5
# How long nobody may be answered, in seconds: that one wait, and what a call takes.
LIMIT = 2 * PATIENCE


def run(*command):
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=1500)
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout


def hack(script, *arguments):
    return run(HACK / f"{script}.sh", *arguments)


def kubectl(*arguments):
    return run("kubectl", *arguments)


def door():
    return json.loads(hack("connect"))


def uninstall():
    """Takes the release off and waits for its pods: one on its way out would answer for the next."""
    hack("uninstall")
    ours = f"app.kubernetes.io/instance={RELEASE}"
    kubectl("wait", "--for=delete", "pod", "-n", RELEASE, "-l", ours, "--timeout=60s")


def forget_the_unanswered():
    """Makes the node forget the connections that found nobody. For two minutes (nf_conntrack_tcp_timeout_syn_sent) it would
    send whoever gets the port of one to the pod of that time, whatever the Service has become. A forwarded port knows none."""
    service = httpx2.URL(door()["url"]).host
    if service != "127.0.0.1":
        delete = ["conntrack", "-D", "-p", "tcp", "--orig-dst", service, "--state", "SYN_SENT"]
        done = subprocess.run(delete, check=False, capture_output=True, text=True)
        assert "flow entries have been deleted" in done.stderr, done.stderr


def pods():
    """The UID of each sandbox's pod."""
    items = json.loads(kubectl("get", "pods", "-n", SANDBOXES, "-o", "json"))["items"]
    found = {pod["metadata"]["name"]: pod["metadata"]["uid"] for pod in items}
    return {name: uid for name, uid in found.items() if name.startswith("upgrade-")}


def agents():
    """The agent image of each sandbox."""
    items = json.loads(kubectl("get", "pods", "-n", SANDBOXES, "-o", "json"))["items"]
    return {
        volume["image"]["reference"]
        for pod in items
        if pod["metadata"]["name"].startswith("upgrade-")
        for volume in pod["spec"]["volumes"]
        if "image" in volume
    }


def objects(namespace):
    """Everything in a namespace but what any namespace has and what only tells of the past."""
    kinds = run("kubectl", "api-resources", "--namespaced", "--verbs=list", "-o", "name").split()
    kinds = [kind for kind in kinds if not kind.startswith("events")]
    found = kubectl("get", ",".join(kinds), "-n", namespace, "-o", "name", "--ignore-not-found").split()
    return sorted(set(found) - {"configmap/kube-root-ca.crt", "serviceaccount/default"})


async def result(client, name):
    """What the sandbox's variable says."""
    return text(await client.call_tool("run_code", {"sandbox_id": name, "code": "x"}))


def unanswered(error):
    """Whether it is the connection's, and no answer: a client's tasks fail in groups."""
    if isinstance(error, BaseExceptionGroup):
        return all(unanswered(one) for one in error.exceptions)
    return isinstance(error, (httpx2.TransportError, OSError))


async def call_on(stop, outcomes, answers):
    """Calls one sandbox after the other, each time on a new connection, and writes down what came of it and when."""
    where, number = door(), 0
    while not stop.is_set():
        number = (number + 1) % len(NAMES)
        try:
            async with connect(url=where["url"], token=where["token"], patience=PATIENCE) as client:
                answer = await result(client, NAMES[number])
        except Exception as error:
            outcomes["no connection" if unanswered(error) else repr(error)] += 1
        else:
            right = answer.startswith("exit_code=0 ") and answer.endswith(f"\n--- result\n{number}")
            outcomes["answered" if right else answer.split(":")[0]] += 1
            if right:
                answers.append(time.monotonic())
        await asyncio.sleep(0.02)


@contextlib.asynccontextmanager
async def called_all_the_while(what):
    """Fails if a caller was told anything untrue, or nothing for too long; prints how many calls failed."""
    stop, outcomes = asyncio.Event(), collections.Counter()
    start = time.monotonic()
    answers = [start]
    calls = asyncio.create_task(call_on(stop, outcomes, answers))
    try:
        yield
    finally:
        stop.set()
        await calls
    silence = max(after - before for before, after in zip(answers, [*answers[1:], time.monotonic()], strict=True))
    print(f"{what}: {time.monotonic() - start:.0f} s, {dict(outcomes)}, nobody was answered for {silence:.1f} s at most")
    assert set(outcomes) <= EXPECTED, outcomes
    assert silence < LIMIT, silence


async def live_on(names=NAMES):
    """Each has its variable still, and its command runs still."""
    where = door()
    async with connect(url=where["url"], token=where["token"]) as client:
        for number, name in enumerate(names):
            assert (await result(client, name)).endswith(f"\n--- result\n{number}")
            arguments = {"sandbox_id": name, "command": COMMAND, "run_id": name, "wait_seconds": 0}
            assert text(await client.call_tool("run_command", arguments)).startswith("status=running ")


async def reachable():
    """Waits until the Service leads to the front end: its node hears of ready pods a moment after `helm --wait` does."""
    health = door()["url"].removesuffix("/mcp") + "/healthz"
    async with asyncio.timeout(30), httpx2.AsyncClient() as http:
        while True:
            with contextlib.suppress(httpx2.TransportError):
                if (await http.get(health)).status_code == 200:
                    return
            await asyncio.sleep(0.05)


async def make(names):
    where = door()
    async with connect(url=where["url"], token=where["token"]) as client:
        for number, name in enumerate(names):
            # Small, so that all of them fit on two cores.
            arguments = {"name": name, "cpu": "500m", "memory": "128Mi", "ttl": "1h", "wait_seconds": 45}
            created = await client.call_tool("sandbox_create", arguments)
            assert created.structured_content["ready"], text(created)
            await client.call_tool("run_code", {"sandbox_id": name, "code": f"x = {number}"})
            arguments = {"sandbox_id": name, "command": COMMAND, "run_id": name, "wait_seconds": 0}
            ran = text(await client.call_tool("run_command", arguments))
            assert ran.startswith("status=running "), ran


async def off_the_loop(call, *arguments):
    """So that callers go on meanwhile."""
    return await asyncio.to_thread(call, *arguments)


async def upgrade_roll_back_and_reinstall():
    uninstall()
    hack("upgrade", "install")
    await reachable()
    await make(NAMES)
    first, old = pods(), agents()
    assert len(first) == len(NAMES)
    await live_on()

    # The agents stay those of the old version, the front end is a new one.
    async with called_all_the_while("helm upgrade"):
        await off_the_loop(hack, "install")
    forget_the_unanswered()
    await live_on()
    assert pods() == first
    assert agents() == old

    # And the other way: one of the new version under the old front end and operator.
    await make(["upgrade-new"])
    both = pods()
    assert len(agents()) == 2
    async with called_all_the_while("helm rollback"):
        await off_the_loop(
            run, "helm", "rollback", RELEASE, "1", "--namespace", RELEASE, "--wait", "--timeout", "3m"
        )
    await live_on()
    await live_on(["upgrade-new"])
    assert pods() == both

    uninstall()
    assert objects(RELEASE) == ["lease.coordination.k8s.io/codesandbox-operator"]
    kinds = "validatingadmissionpolicies,validatingadmissionpolicybindings,clusterroles,clusterrolebindings"
    left = kubectl("get", kinds, "-l", f"app.kubernetes.io/instance={RELEASE}", "-o", "name")
    assert left == ""
    assert kubectl("get", "crd", "codesandboxes.codesandbox.dev", "-o", "name").strip()
    assert pods() == both

    hack("install")
    await reachable()
    await live_on()
    assert pods() == both
    where = door()
    async with connect(url=where["url"], token=where["token"]) as client:
        for name in [*NAMES, "upgrade-new"]:
            await client.call_tool("file_write", {"sandbox_id": name, "path": "stop", "content": ""})
            arguments = {"sandbox_id": name, "command": COMMAND, "run_id": name, "wait_seconds": 30}
            ran = text(await client.call_tool("run_command", arguments))
            assert ran.startswith("exit_code=0 ") and ran.endswith("\n--- stdout\nstarted"), ran


async def test_sandboxes_live_on_through_upgrade_rollback_and_reinstall():
    known = subprocess.run([HACK / "upgrade.sh", "known"], check=False, capture_output=True, text=True)
    if known.returncode != 0:
        pytest.skip(known.stderr.strip())  # a clone without its history
    hack("upgrade", "images")
    try:
        await upgrade_roll_back_and_reinstall()
    finally:
        # Whatever came of it: the release of this version, and none of these sandboxes.
        hack("install")
        names = [f"codesandbox/{name}" for name in [*NAMES, "upgrade-new"]]
        kubectl("delete", "-n", SANDBOXES, "--ignore-not-found", "--wait=false", *names)
