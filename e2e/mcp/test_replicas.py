"""Two replicas, and replicas that come and go: no caller has to know."""

import asyncio
import json
import subprocess
import time

import pytest
from conftest import MODES, connect, facts, sandbox, text
from test_tools import every_tool

pytestmark = pytest.mark.anyio

SELECTOR = "app.kubernetes.io/component=mcp-frontend"
DEPLOYMENT = "deployment/codesandbox-mcp-frontend"


def kubectl(*verb):
    command = ["kubectl", "-n", "codesandbox", *verb]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=120).stdout


def pods():
    """The front end's pods, those on their way out too."""
    return json.loads(kubectl("get", "pods", "-l", SELECTOR, "-o", "json"))["items"]


async def settled(count):
    """Waits until there are so many and no more: a pod that ends still has calls."""
    await asyncio.to_thread(kubectl, "rollout", "status", DEPLOYMENT, "--timeout=100s")
    end = time.monotonic() + 60
    while len(await asyncio.to_thread(pods)) != count:
        assert time.monotonic() < end, f"not {count} replicas"
        await asyncio.sleep(0.2)


async def restart(count):
    await asyncio.to_thread(kubectl, "rollout", "restart", DEPLOYMENT)
    await settled(count)


@pytest.fixture
async def replicas():
    """The addresses of two replicas."""
    before = kubectl("get", DEPLOYMENT, "-o", "jsonpath={.spec.replicas}")
    kubectl("scale", DEPLOYMENT, "--replicas=2")
    try:
        await settled(2)
        yield [f"http://{pod['status']['podIP']}:8080/mcp" for pod in pods()]
    finally:
        kubectl("scale", DEPLOYMENT, f"--replicas={before}")
        await settled(int(before))


class Turns:
    """Clients that are called in turn."""

    def __init__(self, *clients):
        self.clients = list(clients)

    def __getattr__(self, name):
        self.clients.append(self.clients.pop(0))
        return getattr(self.clients[0], name)


@pytest.mark.parametrize("mode", MODES)
async def test_two_replicas_in_turn_serve_every_tool(mode, replicas):
    """tests.md H2."""
    one, other = replicas
    async with connect(mode, one) as first, connect(mode, other) as second:
        await every_tool(Turns(first, second), f"mcp-turns-{mode}")


async def test_a_run_begun_at_one_replica_is_read_at_the_other(replicas):
    one, other = replicas
    async with connect(url=one) as first, connect(url=other) as second, sandbox(first, "mcp-both") as id:
        arguments = {"sandbox_id": id, "command": "echo begun >>log; sleep 2; cat log", "run_id": "shared"}
        begun = await first.call_tool("run_command", {**arguments, "wait_seconds": 0})
        assert text(begun).startswith("status=running run_id=shared ")
        ended = await second.call_tool("run_command", arguments)
        assert facts(ended)["exit_code"] == 0 and text(ended).endswith("\n--- stdout\nbegun"), text(ended)


@pytest.mark.parametrize("mode", MODES)
async def test_a_restart_between_two_calls_is_not_noticed(mode):
    """tests.md H1."""
    before = int(kubectl("get", DEPLOYMENT, "-o", "jsonpath={.spec.replicas}"))
    async with connect(mode) as client, sandbox(client, f"mcp-restart-{mode}") as id:
        await client.call_tool("run_code", {"sandbox_id": id, "code": "x = 41"})
        await restart(before)
        ran = await client.call_tool("run_code", {"sandbox_id": id, "code": "x + 1"})
        assert not ran.is_error and text(ran).endswith("\n--- result\n42"), text(ran)


async def test_a_rollout_drops_no_call(replicas):
    over = asyncio.Event()

    async def calls(mode, tool, arguments, right):
        """Calls without a pause; how many were answered right, which are all."""
        count = 0
        async with connect(mode) as client:
            while not over.is_set():
                result = await client.call_tool(tool, arguments)
                assert right(result), text(result)
                count += 1
        return count

    async def waits(mode, arguments):
        """Waits on a run for longer than the replica lives on: the answer comes before, and the run goes on."""
        async with connect(mode) as client:
            began = time.monotonic()
            first = await client.call_tool("run_command", arguments)
            assert text(first).startswith("status=running "), text(first)
            assert time.monotonic() - began < 35, "it was not the run that ended, nor the patience"
            return await client.call_tool("run_command", {**arguments, "run_id": facts(first)["run_id"]})

    async with connect() as client, sandbox(client, "mcp-rollout") as id:
        get, run = {"sandbox_id": id}, {"sandbox_id": id, "code": "6 * 7"}
        wait = {"sandbox_id": id, "command": "sleep 40; echo slept", "wait_seconds": 45}
        async with asyncio.TaskGroup() as group:
            callers = [
                group.create_task(each)
                for mode in MODES
                for each in [
                    calls(mode, "sandbox_get", get, lambda got: got.structured_content["ready"]),
                    calls(mode, "run_code", run, lambda ran: "\n--- result\n42" in text(ran)),
                ]
            ]
            waiters = [group.create_task(waits(mode, wait)) for mode in MODES]
            # Every caller's first call is answered or on its way.
            await asyncio.sleep(1)
            await restart(2)
            over.set()
        counts = [caller.result() for caller in callers]
        print("calls while the replicas were replaced:", counts)
        assert min(counts) > 100, counts
        for waiter in waiters:
            assert text(waiter.result()).endswith("\n--- stdout\nslept"), text(waiter.result())
