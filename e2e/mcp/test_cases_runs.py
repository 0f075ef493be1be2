"""Runs through MCP: many, large, lost and long ones."""

import asyncio
import hashlib
import json
import os
import re
import subprocess
import time

import httpx2
import pytest
from conftest import connect, facts, frontend, sandbox, text
from scenario import new_name

pytestmark = pytest.mark.anyio

KIB, MIB = 1 << 10, 1 << 20


def stdout(result):
    return text(result).partition("\n--- stdout\n")[2]


class LosesAnswers(httpx2.AsyncHTTPTransport):
    """Brings every request to the server, and loses what tools answer."""

    lost = 0

    async def handle_async_request(self, request):
        answer = await super().handle_async_request(request)
        # Not what sends the client to look up the tools first: that is no answer of a tool.
        if b'"tools/call"' in request.content and answer.status_code == 200:
            await answer.aread()
            await answer.aclose()
            self.lost += 1
            raise httpx2.ReadError("the answer is lost", request=request)
        return answer


async def ask_in_vain(tool, arguments):
    transport = LosesAnswers()
    with pytest.raises(ExceptionGroup):
        async with connect(transport=transport) as client:
            await client.call_tool(tool, arguments)
    assert transport.lost == 1


async def test_a_thousand_calls_in_turn_and_a_hundred_at_once_leak_nothing(tmp_path):
    """tests.md A7."""
    with frontend(tmp_path / "log") as (url, process):

        def held():
            return [len(os.listdir(f"/proc/{process.pid}/{what}")) for what in ["fd", "task"]]

        async with (
            connect(url=url, token=None) as client,
            sandbox(client, "mcp-many-0") as even,
            sandbox(client, "mcp-many-1") as odd,
        ):

            async def echo(number):
                # A sandbox runs 64 at once.
                arguments = {"sandbox_id": [even, odd][number % 2], "argv": ["echo", str(number)]}
                return stdout(await client.call_tool("run_command", arguments))

            async def at_once(count):
                said = await asyncio.gather(*(echo(number) for number in range(count)))
                assert said == [str(number) for number in range(count)]

            async def in_turn(count):
                for number in range(count):
                    assert await echo(number) == str(number)

            # What it needs for a hundred calls at once it may keep: threads, and the connections its client keeps.
            await at_once(100)
            await in_turn(50)
            before = held()
            await in_turn(1000)
            await at_once(100)
            await in_turn(50)
            end = time.monotonic() + 10
            while any(now > then for now, then in zip(held(), before, strict=True)):
                assert time.monotonic() < end, f"{before} file descriptors and threads became {held()}"
                await asyncio.sleep(0.1)


async def test_what_is_asked_again_after_a_lost_answer_happened_once():
    """tests.md A8."""
    async with connect() as client, sandbox(client, "mcp-answers") as id:
        for tool, arguments, said in [
            ("run_command", {"command": "echo again >>log; cat log"}, "again"),
            ("run_code", {"code": "n = globals().get('n', 0) + 1\nprint(n)"}, "1"),
        ]:
            arguments = {"sandbox_id": id, "run_id": f"lost-{tool}", **arguments}
            for _ in range(3):
                await ask_in_vain(tool, arguments)
            ran = await client.call_tool(tool, arguments)
            assert (facts(ran)["exit_code"], stdout(ran).split("\n[")[0]) == (0, said), text(ran)


async def test_a_sandbox_asked_for_again_after_a_lost_answer_is_the_same():
    """tests.md E4."""
    name = new_name("mcp-retry")
    arguments = {"name": name, "ttl": "10m", "wait_seconds": 45}

    def objects():
        command = ["kubectl", "get", "codesandboxes", "-n", "codesandbox-sandboxes", "-o", "json"]
        items = json.loads(subprocess.run(command, check=True, capture_output=True, timeout=60).stdout)["items"]
        return [each["metadata"]["uid"] for each in items if each["metadata"]["name"].startswith(name)]

    await ask_in_vain("sandbox_create", {**arguments, "wait_seconds": 0})
    made = objects()
    assert len(made) == 1
    async with connect() as client:
        try:
            created = await client.call_tool("sandbox_create", arguments)
            assert (created.structured_content["sandbox_id"], created.structured_content["ready"]) == (name, True)
            assert objects() == made
        finally:
            await client.call_tool("sandbox_delete", {"sandbox_id": name})


async def test_a_sandbox_made_at_one_replica_is_known_to_another_at_once(tmp_path):
    """tests.md E3."""
    with frontend(tmp_path / "log") as (url, _):
        async with connect() as one, connect(url=url, token=None) as other:
            for _ in range(10):
                created = await one.call_tool("sandbox_create", {"ttl": "10m", "wait_seconds": 0})
                id = created.structured_content["sandbox_id"]
                got = await other.call_tool("sandbox_get", {"sandbox_id": id})
                deleted = await one.call_tool("sandbox_delete", {"sandbox_id": id})
                assert not got.is_error and got.structured_content["sandbox_id"] == id, text(got)
                assert not deleted.is_error


async def test_arguments_variables_and_code_are_large_or_refused_by_their_limit():
    """tests.md A10. What one argument or variable may be is the kernel's to say: 128 KiB."""
    async with connect() as client, sandbox(client, "mcp-large") as id:

        async def run(**arguments):
            return await client.call_tool("run_command", {"sandbox_id": id, **arguments})

        count = "import sys; print(len(sys.argv) - 1, sum(map(len, sys.argv[1:])))"
        ran = await run(argv=["python3", "-c", count, *["x" * (64 * KIB)] * 16])
        assert stdout(ran) == f"16 {MIB}"
        # With its name, `=` and a NUL it is just what the kernel takes.
        ran = await run(
            argv=["python3", "-c", "import os; print(len(os.environ['V']))"], env={"V": "x" * (128 * KIB - 3)}
        )
        assert stdout(ran) == str(128 * KIB - 3)
        for program, arguments in [
            ("echo", {"argv": ["echo", "x" * MIB]}),
            ("true", {"argv": ["true"], "env": {"V": "x" * (128 * KIB)}}),
            ("/bin/sh", {"command": f": {'x' * MIB}"}),
        ]:
            refused = await run(**arguments)
            assert refused.is_error
            assert text(refused) == (
                f"INVALID_ARGUMENT: {program}: argv and env are longer than the kernel takes (128 KiB each,"
                " 2 MiB together); pass the data by stdin or a file"
            )
        ran = await run(argv=["wc", "-c"], stdin="x" * (5 * MIB))
        assert stdout(ran) == str(5 * MIB)
        ran = await client.call_tool("run_code", {"sandbox_id": id, "code": f"len('{'x' * (5 * MIB)}')"})
        assert f"\n--- result\n{5 * MIB}" in text(ran)
        refused = await client.call_tool("run_code", {"sandbox_id": id, "code": f"#{'x' * (6 * MIB)}"})
        assert refused.is_error
        assert text(refused).startswith("INVALID_ARGUMENT: ") and f"at most {6 * MIB} are taken" in text(refused)


async def test_a_hundred_mebibytes_of_output_are_counted_hashed_and_bounded():
    """tests.md C2. The log keeps 32 MiB, and no tool reads more of it than this: what is not shown is said exactly."""
    wanted = b"".join(b"%08d\n" % number for number in range(1, 13_107_201))[: 100 * MIB]
    async with connect() as client, sandbox(client, "mcp-flood") as id:
        command = f"seq -w 1 13107200 | head -c {100 * MIB}"
        ran = await client.call_tool("run_command", {"sandbox_id": id, "command": command})
        told = facts(ran)["stdout"]
        assert (facts(ran)["exit_code"], facts(ran)["log_complete"]) == (0, False), text(ran)[:200]
        assert (told["bytes"], told["sha256"]) == (len(wanted), hashlib.sha256(wanted).hexdigest())
        shown, note = stdout(ran).rsplit("\n", 1)
        head, middle, tail = re.fullmatch(
            r"(.*)\n\[\.\.\. (\d+) bytes omitted; [^]]*\]\n(.*)", shown, re.DOTALL
        ).groups()
        later = told["omitted"] - int(middle)
        assert note == (
            f"[the log's bound was reached; {later} bytes of later output were counted, not kept:"
            " write large output to a file]"
        )
        kept = wanted[: len(wanted) - later]
        # A section ends without its line break, and the bound of the log may have fallen behind one.
        assert (head, tail) == (kept[:4_000].decode(), kept[-12_000:].decode().rstrip("\n"))
        assert (int(middle), told["omitted"]) == (len(kept) - 16_000, len(wanted) - 16_000)
        # But for the part of an event that the bound fell into.
        assert 31 * MIB < len(kept) <= 32 * MIB
