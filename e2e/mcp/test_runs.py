"""Coming back to runs: what there is, what it has written, its end."""

import pytest
from conftest import MODES, connect, sandbox, text

pytestmark = pytest.mark.anyio


def body(result):
    """An answer but for its line of facts."""
    assert not result.is_error, text(result)
    return text(result).partition("\n")[2]


@pytest.mark.parametrize("mode", MODES)
async def test_a_run_is_come_back_to_without_its_code(mode):
    async with connect(mode) as client, sandbox(client, f"mcp-back-{mode}") as id:

        async def call(tool, **arguments):
            return await client.call_tool(tool, {"sandbox_id": id, **arguments})

        command = "echo begun; until test -e go; do sleep 0.05; done; echo ended; exit 3"
        begun = await call("run_command", command=command, run_id="mine", wait_seconds=0)
        assert text(begun).startswith("status=running run_id=mine ")
        # Whoever has seen nothing yet is answered by the first words, and not kept waiting for the end.
        first = await call("run_output", run_id="mine", offset=0, wait_seconds=45)
        where = "these are bytes 0..6 of 6 of output; call again with offset=6 for more"
        assert body(first) == f"--- output\nbegun\n[{where}]"
        [listed] = (await call("run_list")).structured_content["runs"]
        assert listed.pop("started_unix_ms") > 0
        assert listed == {
            "run_id": "mine", "title": command, "status": "running", "stdout_bytes": 6, "stderr_bytes": 0,
        }  # fmt: skip

        await call("file_write", path="go", content="")
        last = await call("run_output", run_id="mine", wait_seconds=45)
        assert text(last).startswith("exit_code=3 ")
        assert body(last) == "--- output\nbegun\nended"
        more = await call("run_output", run_id="mine", offset=6, stream="stdout")
        assert body(more) == "--- stdout\nended\n[these are bytes 6..12 of 12 of stdout]"

        await call("run_command", command="sleep 1000", run_id="endless", wait_seconds=0)
        for was_running in [True, False]:
            cancelled = await call("run_cancel", run_id="endless")
            assert cancelled.structured_content == {"run_id": "endless", "was_running": was_running}
            ended = await call("run_output", run_id="endless", wait_seconds=45)
            assert text(ended).startswith("status=cancelled ")
        runs = (await call("run_list")).structured_content["runs"]
        assert [(run["run_id"], run["status"], run.get("exit_code")) for run in runs] == [
            ("endless", "cancelled", None),
            ("mine", "exited", 3),
        ]
        unknown = await call("run_output", run_id="nobody")
        assert unknown.is_error and text(unknown).startswith("RUN_NOT_FOUND: run nobody: ")


async def test_the_middle_of_long_output_is_read_by_place_and_by_pattern():
    """tests.md C2. What an answer leaves out is there to be read."""
    wanted = "".join(f"{i}\n" for i in range(1, 2_000_001))
    async with connect() as client, sandbox(client, "mcp-middle") as id:
        run = {"sandbox_id": id, "run_id": "seq"}
        await client.call_tool("run_command", {**run, "command": "seq 1 2000000"})
        place = {**run, "stream": "stdout", "offset": 7_000_000, "max_output_chars": 100_000}
        part = await client.call_tool("run_output", place)
        text_, note = body(part).rsplit("\n", 1)
        assert text_ == "--- stdout\n" + wanted[7_000_000:7_100_000].rstrip("\n")
        where = f"these are bytes 7000000..7100000 of {len(wanted)} of stdout"
        assert note == f"[{where}; call again with offset=7100000 for more]"
        found = await client.call_tool("run_output", {**run, "pattern": "^1999[0-9]{2}7$"})
        lines, note = body(found).rsplit("\n", 1)
        assert lines == "--- output\n" + "\n".join(f"1999{n:02}7" for n in range(100))
        assert note == f"[searched bytes 0..{len(wanted)} of {len(wanted)} of output]"
        refused = await client.call_tool("run_output", {**run, "pattern": "("})
        assert refused.is_error and text(refused).startswith("INVALID_ARGUMENT: pattern: ")


async def test_threads_fit_the_processors_of_the_sandbox():
    """tests.md F5. The node has more of them."""
    async with connect() as client, sandbox(client, "mcp-cpu", cpu="500m") as id:
        command = "nproc; nproc --all; echo $OMP_NUM_THREADS $GOMAXPROCS $PYTHON_CPU_COUNT"
        ran = await client.call_tool("run_command", {"sandbox_id": id, "command": command})
        fits, node, variables = body(ran).splitlines()[1:]
        assert (fits, variables) == ("1", "1 1 1")
        assert int(node) > 1
    async with connect() as client, sandbox(client, "mcp-cpu-own", env={"OMP_NUM_THREADS": "7"}) as id:
        ran = await client.call_tool("run_command", {"sandbox_id": id, "command": "echo $OMP_NUM_THREADS $GOMAXPROCS"})
        assert body(ran) == "--- stdout\n7 1"


async def test_a_shell_stays_as_it_was_left():
    async with connect() as client, sandbox(client, "mcp-shell") as id:

        async def shell(code, **arguments):
            call = {"sandbox_id": id, "language": "bash", "code": code, **arguments}
            return await client.call_tool("run_code", call)

        left = await shell("mkdir -p 'a b' && cd 'a b' && own=1 && greet() { echo \"hi $1\"; }; (exit 3)")
        assert text(left).startswith("exit_code=3 ")
        kept = await shell("echo $? $own; greet ü; pwd")
        assert body(kept) == "--- stdout\n3 1\nhi ü\n/workspace/a b"
        late = await shell("sleep 1000; echo no", timeout_seconds=1)
        assert text(late).startswith("status=timed_out ") and "--- stdout" not in text(late)
        assert body(await shell("echo $own")) == "--- stdout\n1"


async def test_what_a_run_has_changed_is_told_to_who_asks():
    async with connect() as client, sandbox(client, "mcp-changes") as id:

        async def run(command):
            return body(await client.call_tool("run_command", {"sandbox_id": id, "command": command, "changes": True}))

        site = "$HOME/.local/lib/python3.11/site-packages"
        serve = "python3 -m http.server 8000 >/dev/null 2>&1 & echo $! >/tmp/server; until curl -s 127.0.0.1:8000 >/dev/null; do :; done"
        made = await run(f"echo 1 >a; mkdir -p b {site}/six-1.17.0.dist-info; {serve}")
        assert made == "--- changes\nfiles: +a +b/\npackages: +six==1.17.0\nports: +8000"
        code = {"sandbox_id": id, "code": "open('a', 'w').close()", "changes": True}
        wrote = await client.call_tool("run_code", code)
        assert "--- changes\nfiles: ~a" in text(wrote)
        assert await run("kill $(cat /tmp/server); until ! curl -s 127.0.0.1:8000 >/dev/null; do :; done") == (
            "--- changes\nports: -8000"
        )
        assert await run("true") == "--- changes\nnone"
