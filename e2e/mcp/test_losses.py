"""A run goes on whatever breaks between it and its caller, and its outcome is true."""

import asyncio
import subprocess
import time

import pytest
from conftest import connect, facts, sandbox, text

pytestmark = pytest.mark.anyio

# Prints a line every half second for twenty seconds, and counts that it was started.
COMMAND = "echo started >>starts; for i in $(seq 40); do echo line $i; sleep 0.5; done; cat starts"
LINES = "".join(f"line {i}\n" for i in range(1, 41)) + "started"


# Ends, or only counts, the processes with just these arguments. (The image has no pkill.)
PROCESSES = """
import os, pathlib, signal, sys
ends, wanted = int(sys.argv[1]), sys.argv[2:]
found = 0
for cmdline in pathlib.Path("/proc").glob("[0-9]*/cmdline"):
    try:
        if cmdline.read_bytes().decode().split(chr(0))[:-1] == wanted:
            found += 1
            if ends:
                os.kill(int(cmdline.parent.name), signal.SIGKILL)
    except (ProcessLookupError, FileNotFoundError):
        pass
print(found)
"""


async def processes(client, id, *arguments, end=False):
    """How many processes have these arguments; ends them if asked to."""
    argv = ["python3", "-c", PROCESSES, str(int(end)), *arguments]
    ran = await client.call_tool("run_command", {"sandbox_id": id, "argv": argv})
    assert facts(ran)["exit_code"] == 0, text(ran)
    return int(text(ran).split("--- stdout\n")[1])


async def until(count, client, id, *arguments):
    """Waits until so many processes have these arguments."""
    end = time.monotonic() + 30
    while (seen := await processes(client, id, *arguments)) != count:
        assert time.monotonic() < end, f"{seen} of {count}: {arguments}"
        await asyncio.sleep(0.2)


async def wait_on(run_id, id, until):
    """Asks for the run until it ends, on a new connection when the old one broke."""
    while time.monotonic() < until:
        try:
            async with connect() as client:
                arguments = {"sandbox_id": id, "command": COMMAND, "run_id": run_id, "wait_seconds": 30}
                ran = await client.call_tool("run_command", arguments)
                if not text(ran).startswith(("status=running ", "UNAVAILABLE: ", "SANDBOX_NOT_READY: ")):
                    return ran
        except Exception as error:  # the front end is away: what a caller sees, and tries again
            print("lost:", repr(error)[:200])
        await asyncio.sleep(0.2)
    raise AssertionError("the run did not end")


def frontend(*verb):
    subprocess.run(
        ["kubectl", "-n", "codesandbox", *verb], check=True, stdout=subprocess.DEVNULL, timeout=90
    )


async def test_a_run_outlives_its_exec_stream_and_the_front_end():
    async with connect() as client, sandbox(client, "mcp-losses") as id:
        waiting = asyncio.create_task(wait_on("outlives", id, time.monotonic() + 80))
        await asyncio.sleep(4)
        # The bridge is the user's own process to kill: the stream is cut in the middle of the run.
        assert await processes(client, id, "/.codesandbox/bin/agent", "connect", end=True) == 1
        await asyncio.sleep(3)
        assert not waiting.done()
        frontend("delete", "pod", "-l", "app.kubernetes.io/component=mcp-frontend", "--grace-period=1")
        ran = await waiting
        assert facts(ran)["exit_code"] == 0 and facts(ran)["log_complete"], text(ran)
        assert text(ran).split("--- stdout\n", 1)[1] == LINES
    frontend("rollout", "status", "deployment/codesandbox-mcp-frontend", "--timeout=60s")


async def test_a_run_whose_pod_went_away_has_no_outcome():
    async with connect() as client, sandbox(client, "mcp-gone") as id:
        waiting = asyncio.create_task(
            client.call_tool("run_command", {"sandbox_id": id, "argv": ["sleep", "30"], "run_id": "doomed"})
        )
        await until(1, client, id, "sleep", "30")
        subprocess.run(
            ["kubectl", "-n", "codesandbox-sandboxes", "delete", "pod", f"{id}-1", "--grace-period=0", "--force"],
            check=True, capture_output=True, timeout=60,
        )  # fmt: skip
        ran = await waiting
        # The agent may still have said that the run is lost with it; both are true, and neither is an exit code.
        assert ran.is_error and text(ran).startswith(("OUTCOME_UNKNOWN: ", "status=lost ")), text(ran)


async def test_a_cancelled_call_interrupts_code_and_keeps_its_state():
    """tests.md B4: the interpreter is free again within seconds."""
    async with connect() as client, sandbox(client, "mcp-interrupt") as id:

        async def code(source):
            return await client.call_tool("run_code", {"sandbox_id": id, "code": source})

        await code("x = 41")
        call = asyncio.create_task(code("x += 1\nopen('begun', 'w').close()\nimport time; time.sleep(600)"))
        while (await client.call_tool("file_read", {"sandbox_id": id, "path": "begun"})).is_error:
            assert not call.done()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        began = time.monotonic()
        assert text(await code("x")).endswith("\n--- result\n42")
        assert time.monotonic() - began < 5


async def test_a_cancelled_call_ends_the_run_unless_it_has_a_name():
    async with connect() as client, sandbox(client, "mcp-cancel") as id:
        for run_id in [None, "kept"]:
            arguments = {"sandbox_id": id, "command": "exec sleep 987"}
            if run_id:
                arguments["run_id"] = run_id
            call = asyncio.create_task(client.call_tool("run_command", arguments))
            await until(1, client, id, "sleep", "987")
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
            if not run_id:
                await until(0, client, id, "sleep", "987")
            else:
                # Longer than the other took to end, and than the grace of a kill.
                await asyncio.sleep(5)
                assert await processes(client, id, "sleep", "987") == 1
