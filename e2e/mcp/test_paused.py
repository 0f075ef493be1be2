"""A sandbox that nobody uses is paused, and woken by the next call, which says so."""

import json
import subprocess

import anyio
import pytest
from conftest import connect, facts, sandbox, text

pytestmark = pytest.mark.anyio

NAME = "mcp-paused"
KUBECTL = ["kubectl", "-n", "codesandbox-sandboxes"]


def kubectl(*args):
    done = subprocess.run([*KUBECTL, *args], check=True, capture_output=True, text=True, timeout=60)
    return done.stdout


async def paused(client):
    """Waits until it is paused and its pod is gone."""
    with anyio.fail_after(60):
        while True:
            got = (await client.call_tool("sandbox_get", {"sandbox_id": NAME})).structured_content
            suspended = json.loads(kubectl("get", "csb", NAME, "-o", "json"))["status"]["conditions"][4:]
            if got["reason"] == "Paused" and suspended[0]["status"] == "True":
                return got
            await anyio.sleep(0.2)


async def test_a_paused_sandbox_is_woken_by_the_next_call_which_says_so():
    idle = {"idle_timeout": "10s", "on_idle": "pause", "workspace": "64Mi"}
    async with connect() as client, sandbox(client, NAME, **idle):
        written = {"sandbox_id": NAME, "path": "/workspace/kept", "content": "still here"}
        assert not (await client.call_tool("file_write", written)).is_error
        code = {"sandbox_id": NAME, "code": "x = 1", "run_id": "before"}
        assert not (await client.call_tool("run_code", code)).is_error
        got = await paused(client)
        assert "what is on its disk is kept" in got["message"], got
        assert not got["ready"] and not got["finished"]

        # To look at it wakes nobody, nor does it that it is to live longer.
        extended = await client.call_tool("sandbox_extend", {"sandbox_id": NAME, "ttl": "45m"})
        assert extended.structured_content["expires_at"] > got["expires_at"] and "note:" not in text(extended)
        listed = (await client.call_tool("sandbox_list", {})).structured_content["sandboxes"]
        assert [one["reason"] for one in listed if one["sandbox_id"] == NAME] == ["Paused"]

        read = await client.call_tool("file_read", {"sandbox_id": NAME, "path": "/workspace/kept"})
        assert not read.is_error and "still here" in text(read), text(read)
        note = f"note: sandbox {NAME} was paused, since nobody had used it, and was woken for this call."
        assert read.content[-1].text.startswith(note), text(read)

        # What it knew before is gone, and that is said.
        ran = await client.call_tool("run_code", {"sandbox_id": NAME, "code": "x"})
        assert "NameError" in text(ran) and "note: sandbox" not in text(ran), text(ran)
        before = await client.call_tool("run_output", {"sandbox_id": NAME, "run_id": "before"})
        assert text(before).startswith("RUN_NOT_FOUND"), text(before)
        assert json.loads(kubectl("get", "csb", NAME, "-o", "json"))["spec"].get("suspend") is None


async def test_many_calls_at_once_wake_it_once():
    idle = {"idle_timeout": "10s", "on_idle": "pause", "workspace": "64Mi"}
    async with connect() as client, sandbox(client, NAME, **idle):
        await paused(client)
        answers = []

        async def call(number):
            command = {"sandbox_id": NAME, "command": f"echo {number}"}
            answers.append(await client.call_tool("run_command", command))

        async with anyio.create_task_group() as calls:
            for number in range(8):
                calls.start_soon(call, number)
        assert [facts(answer)["exit_code"] for answer in answers] == [0] * 8
        status = json.loads(kubectl("get", "csb", NAME, "-o", "json"))["status"]
        assert status["attempt"] == 2, status


async def test_what_its_user_has_suspended_is_woken_by_nobody():
    async with connect() as client, sandbox(client, NAME, ttl="10m"):
        kubectl("patch", "csb", NAME, "--type=merge", "-p", '{"spec":{"suspend":true}}')
        kubectl("wait", "--for=condition=Suspended", "csb", NAME, "--timeout=60s")
        ran = await client.call_tool("run_code", {"sandbox_id": NAME, "code": "1"})
        expected = f"SANDBOX_SUSPENDED: sandbox {NAME} has no pod because its spec.suspend is true. "
        assert ran.is_error and text(ran).startswith(expected), text(ran)
        kubectl("patch", "csb", NAME, "--type=merge", "-p", '{"spec":{"suspend":false}}')
        kubectl("wait", "--for=condition=Ready", "csb", NAME, "--timeout=60s")
        ran = await client.call_tool("run_code", {"sandbox_id": NAME, "code": "40 + 2"})
        assert "42" in text(ran), text(ran)
