"""The front end as its client's child, over stdin and stdout."""

import asyncio
import contextlib
import json
import os

import pytest
from conftest import MODES, connect, sandbox, stdio, text
from mcp import Client
from mcp.client.stdio import StdioServerParameters, stdio_client
from test_losses import processes, until
from test_tools import every_tool

pytestmark = pytest.mark.anyio


@contextlib.asynccontextmanager
async def child(mode):
    """A client of a front end that it starts itself."""
    command, *args = stdio()
    env = {"KUBECONFIG": os.environ["KUBECONFIG"]}
    async with Client(stdio_client(StdioServerParameters(command=command, args=args, env=env)), mode=mode) as client:
        yield client


@pytest.mark.parametrize("mode", MODES)
async def test_every_tool_over_stdio(mode):
    async with child(mode) as client:
        await every_tool(client, f"mcp-stdio-{mode}")


@pytest.mark.parametrize("mode", MODES)
async def test_a_cancelled_call_over_stdio_ends_its_run(mode):
    """By `notifications/cancelled`: there is no connection of its own to close."""
    async with child(mode) as client, sandbox(client, f"mcp-stdio-cancel-{mode}") as id:
        call = asyncio.create_task(client.call_tool("run_command", {"sandbox_id": id, "command": "exec sleep 986"}))
        await until(1, client, id, "sleep", "986")
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        await until(0, client, id, "sleep", "986")


async def test_it_ends_with_stdin_and_the_run_goes_on():
    messages = [
        ("initialize", {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}),
        ("tools/call", {"name": "run_command", "arguments": {"sandbox_id": "mcp-stdin", "command": "exec sleep 985"}}),
    ]  # fmt: skip
    async with connect() as client, sandbox(client, "mcp-stdin") as id:
        pipes = dict.fromkeys(["stdin", "stdout", "stderr"], asyncio.subprocess.PIPE)
        frontend = await asyncio.create_subprocess_exec(*stdio(), **pipes)
        for number, (method, params) in enumerate(messages):
            message = {"jsonrpc": "2.0", "id": number, "method": method, "params": params}
            frontend.stdin.write(json.dumps(message).encode() + b"\n")
        await frontend.stdin.drain()
        await until(1, client, id, "sleep", "985")
        frontend.stdin.close()
        out, err = await asyncio.wait_for(frontend.communicate(), 2)
        assert frontend.returncode == 0
        # The log is on stderr, and on stdout are answers alone.
        assert b"serving on stdin and stdout" in err
        greeted, answered = (json.loads(line)["result"] for line in out.splitlines())
        assert greeted["serverInfo"]["name"] == "codesandbox"
        run = answered["_meta"]["codesandbox.dev/run"]["run_id"]
        assert answered["content"][0]["text"].startswith(f"status=running run_id={run} ")
        # Longer than a cancelled run takes to end.
        await asyncio.sleep(5)
        assert await processes(client, id, "sleep", "985") == 1
        arguments = {"sandbox_id": id, "command": "exec sleep 985", "run_id": run, "wait_seconds": 0}
        assert text(await client.call_tool("run_command", arguments)).startswith("status=running ")
