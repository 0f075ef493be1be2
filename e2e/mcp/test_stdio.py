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
async def child(mode, *more):
    """A client of a front end that it starts itself."""
    command, *args = [*stdio(), *more]
    env = {"KUBECONFIG": os.environ["KUBECONFIG"]}
    async with Client(stdio_client(StdioServerParameters(command=command, args=args, env=env)), mode=mode) as client:
        yield client


@pytest.mark.parametrize("mode", MODES)
async def test_every_tool_over_stdio(mode):
    async with child(mode) as client:
        await every_tool(client, f"mcp-stdio-{mode}")


@pytest.mark.parametrize("mode", MODES)
async def test_contexts_are_a_toolset(mode):
    """Made with a directory of its own, copied with its state, interrupted, listed, deleted."""
    async with child(mode) as client:
        assert not [tool.name for tool in (await client.list_tools()).tools if tool.name.startswith("context_")]
    async with child(mode, "--toolsets=contexts") as client, sandbox(client, f"mcp-contexts-{mode}") as id:

        async def call(tool, **arguments):
            return (await client.call_tool(tool, {"sandbox_id": id, **arguments})).structured_content

        async def value(context, code):
            ran = await client.call_tool("run_code", {"sandbox_id": id, "context_id": context, "code": code})
            return text(ran).split("\n--- result\n")[-1]

        made = await call("context_create", context_id="a", cwd="/tmp", env={"GREETING": "hello"})
        assert (made["context_id"], made["language"], made["cwd"], made["executions"]) == ("a", "python", "/tmp", 0)
        assert await value("a", "import os; x = 1; os.getcwd(), os.environ['GREETING']") == "('/tmp', 'hello')"
        forked = await call("context_fork", context_id="a", copies=["b", "c"])
        assert [(copy["context_id"], copy["forked_from"]) for copy in forked["contexts"]] == [("b", "a"), ("c", "a")]
        assert [await value(context, "x += 1; x, os.getcwd()") for context in "bca"] == ["(2, '/tmp')"] * 3
        assert await call("context_interrupt", context_id="b") == {"context_id": "b"}
        assert await call("context_delete", context_id="b") == {"context_id": "b", "existed": True}
        assert await call("context_delete", context_id="b") == {"context_id": "b", "existed": False}
        named = (await call("context_list"))["contexts"]
        assert [(context["context_id"], context["executions"]) for context in named] == [("a", 2), ("c", 1)]
        gone = await client.call_tool("context_interrupt", {"sandbox_id": id, "context_id": "b"})
        assert gone.is_error and text(gone).startswith("CONTEXT_NOT_FOUND: context b does not exist")
        own = await call("context_create", language="bash")
        assert own["context_id"].startswith("c-") and own["cwd"] == "/workspace"


@pytest.mark.parametrize("mode", MODES)
async def test_interactive_programs_are_a_toolset(mode):
    """A REPL with pipes and a shell at a terminal are talked with, signalled, and end as they say."""
    async with child(mode) as client:
        names = [tool.name for tool in (await client.list_tools()).tools]
        assert not {"run_start", "run_input", "run_signal"} & set(names)
    async with child(mode, "--toolsets=interactive") as client, sandbox(client, f"mcp-interactive-{mode}") as id:

        async def call(tool, **arguments):
            return await client.call_tool(tool, {"sandbox_id": id, **arguments})

        async def body(tool, **arguments):
            """What it has written, and how it is, without what differs from run to run."""
            told = text(await call(tool, **arguments))
            facts, _, rest = told.partition("\n")
            written = rest.split("\n[")[0].removeprefix("--- output\n")
            return facts.split()[0], written

        echo = "while read -r line; do echo \"heard $line\"; done; echo over"
        assert await body("run_start", run_id="pipes", command=f"echo ready; {echo}") == ("status=running", "ready")
        assert await body("run_input", run_id="pipes", input="one\ntwo\n") == ("status=running", "heard one\nheard two")
        assert (await body("run_input", run_id="pipes", input="three\n", close=True))[1].startswith("heard three")
        whole = "ready\nheard one\nheard two\nheard three\nover"
        assert await body("run_output", run_id="pipes", wait_seconds=30) == ("exit_code=0", whole)
        again = await call("run_input", run_id="pipes", input="three\n", input_offset=8, close=True)
        assert not again.is_error and text(again).endswith("[input: 14 bytes so far]")
        late = await call("run_input", run_id="pipes", input="four\n")
        assert late.is_error and text(late).startswith("INPUT_CLOSED: run pipes: has ended, after 14 bytes of input")

        shell = {"argv": ["bash", "--norc", "--noediting", "-i"], "env": {"PS1": "$ "}, "terminal": True, "columns": 100}
        await call("run_start", run_id="terminal", **shell)
        facts, written = await body("run_input", run_id="terminal", input="stty size; sleep 60\n")
        assert (facts, written.splitlines()[-1]) == ("status=running", "24 100")
        facts, written = await body("run_input", run_id="terminal", input="\u0003")
        assert facts == "status=running" and written.rstrip().endswith("$")
        facts, written = await body("run_input", run_id="terminal", input="echo ended by $?; tty\n")
        assert "ended by 130" in written and "/dev/pts/" in written
        await call("run_input", run_id="terminal", input="exit 7\n")
        assert (await body("run_output", run_id="terminal", wait_seconds=30))[0] == "exit_code=7"

        assert (await body("run_start", run_id="told", command="trap 'echo told; exit 3' USR1; echo up; while :; do sleep 0.1; done"))[1] == "up"
        told = (await call("run_signal", run_id="told", signal="USR1")).structured_content
        assert told == {"run_id": "told", "was_running": True}
        ended = text(await call("run_output", run_id="told", stream="stdout", wait_seconds=30))
        assert ended.startswith("exit_code=3 ") and ended.endswith("--- stdout\nup\ntold")
        told = (await call("run_signal", run_id="told", signal="TERM")).structured_content
        assert told == {"run_id": "told", "was_running": False}


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
