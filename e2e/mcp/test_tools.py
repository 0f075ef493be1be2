"""Every tool, with the official Python client, in both protocol eras."""

import base64
import hashlib
import struct

import anyio
import pytest
from conftest import MODES, connect, facts, sandbox, text
from mcp.shared.exceptions import MCPError

pytestmark = pytest.mark.anyio


async def every_tool(client, name):
    """Calls every tool and looks at what it does."""
    async with sandbox(client, name) as id:
        tools = {tool.name for tool in (await client.list_tools()).tools}
        assert tools == {
            "sandbox_create", "sandbox_list", "sandbox_get", "sandbox_extend", "sandbox_delete",
            "run_code", "run_command", "run_output", "run_list", "run_cancel",
            "file_read", "file_write", "file_list", "file_edit", "file_search",
        }  # fmt: skip

        again = await client.call_tool("sandbox_create", {"name": name, "ttl": "30m"})
        assert again.structured_content["sandbox_id"] == id
        listed = await client.call_tool("sandbox_list", {})
        assert id in [each["sandbox_id"] for each in listed.structured_content["sandboxes"]]
        got = await client.call_tool("sandbox_get", {"sandbox_id": id})
        assert got.structured_content["ready"] and got.structured_content["network_isolated"]
        assert {"python", "bash"} <= set(got.structured_content["languages"])

        await client.call_tool("run_code", {"sandbox_id": id, "code": "x = 20"})
        ran = await client.call_tool("run_code", {"sandbox_id": id, "code": "print('out', end='')\nx + 22"})
        assert not ran.is_error and ran.structured_content is None
        assert text(ran).startswith("exit_code=0 ")
        assert text(ran).endswith("\n--- result\n42\n--- stdout\nout")

        ran = await client.call_tool("run_command", {"sandbox_id": id, "argv": ["echo", "$HOME; 'quoted'"]})
        assert text(ran).endswith("\n--- stdout\n$HOME; 'quoted'")
        ran = await client.call_tool("run_command", {"sandbox_id": id, "command": "cat; pwd", "stdin": "in\n", "cwd": "/tmp"})
        assert text(ran).endswith("\n--- stdout\nin\n/tmp")

        written = await client.call_tool("file_write", {"sandbox_id": id, "path": "a b/ü.txt", "content": "héllo\n"})
        assert written.structured_content == {"path": "/workspace/a b/ü.txt", "bytes": 7}
        read = await client.call_tool("file_read", {"sandbox_id": id, "path": "a b/ü.txt"})
        assert text(read) == "héllo\n"
        entries = await client.call_tool("file_list", {"sandbox_id": id, "depth": 2})
        assert [(e["path"], e["kind"], e["size"]) for e in entries.structured_content["entries"]][1:] == [
            ("/workspace/a b/ü.txt", "file", 7)
        ]

        here = {"sandbox_id": id, "path": "a b/ü.txt"}
        added = await client.call_tool("file_write", here | {"content": "wörld\n", "append": True})
        assert added.structured_content == {"path": "/workspace/a b/ü.txt", "bytes": 7}
        edited = await client.call_tool("file_edit", here | {"edits": [{"old": "wörld", "new": "all"}]})
        digest = hashlib.sha256("héllo\nall\n".encode()).hexdigest()
        assert edited.structured_content == {"path": "/workspace/a b/ü.txt", "replacements": 1, "bytes": 11, "sha256": digest}
        edited = await client.call_tool("file_edit", here | {"edits": [{"old": "l", "new": "L"}]})
        assert edited.is_error and text(edited).startswith("EDIT_MISMATCH: /workspace/a b/ü.txt: edit 1 of 1: its old text occurs 4 times, at lines 1, 1, 2, 2;")
        searched = await client.call_tool("file_search", {"sandbox_id": id, "pattern": "L+$", "ignore_case": True, "glob": "*.txt"})
        assert [block.text for block in searched.content] == ["/workspace/a b/ü.txt:2:all", "[1 matches in 1 files searched]"]
        entries = await client.call_tool("file_list", {"sandbox_id": id, "depth": 2, "glob": "*.txt", "after": "a b"})
        assert [e["path"] for e in entries.structured_content["entries"]] == ["/workspace/a b/ü.txt"]

        deleted = await client.call_tool("sandbox_delete", {"sandbox_id": id})
        assert deleted.structured_content == {"sandbox_id": id, "deleted": True}
        # Another replica hears of it by its watch, and has a stream to a pod that ends.
        with anyio.fail_after(5):
            while not (gone := await client.call_tool("run_code", {"sandbox_id": id, "code": "1"})).is_error:
                pass
        assert text(gone).startswith(("SANDBOX_NOT_FOUND: ", "SANDBOX_NOT_READY: "))


@pytest.mark.parametrize("mode", ["auto", *MODES])
async def test_every_tool(mode):
    async with connect(mode) as client:
        await every_tool(client, f"mcp-{mode}")


async def test_a_failure_inside_is_a_successful_call():
    """tests.md C4 and C6."""
    async with connect() as client, sandbox(client, "mcp-failures") as id:
        ran = await client.call_tool("run_command", {"sandbox_id": id, "command": "echo out; echo err >&2; exit 3"})
        assert not ran.is_error
        assert facts(ran)["exit_code"] == 3
        assert text(ran).endswith("\n--- stdout\nout\n--- stderr\nerr")
        ran = await client.call_tool("run_code", {"sandbox_id": id, "code": "def f():\n    return 1 / 0\nf()"})
        assert not ran.is_error
        assert "ZeroDivisionError: division by zero" in text(ran)
        assert "return 1 / 0" in text(ran)
        assert "driver" not in text(ran), "only the user's frames"


async def test_a_figure_is_a_picture():
    async with connect() as client, sandbox(client, "mcp-figure") as id:
        code = "import matplotlib.pyplot as plt\nplt.plot([1, 4, 9])\nplt.show()"
        ran = await client.call_tool("run_code", {"sandbox_id": id, "code": code})
        pictures = [block for block in ran.content if block.type == "image"]
        assert [picture.mime_type for picture in pictures] == ["image/png"], text(ran)
        assert base64.b64decode(pictures[0].data).startswith(b"\x89PNG")
        # The same bytes as a file come back as a picture, too.
        await client.call_tool(
            "file_write", {"sandbox_id": id, "path": "p.png", "content_base64": pictures[0].data}
        )
        read = await client.call_tool("file_read", {"sandbox_id": id, "path": "p.png"})
        assert read.content[0].type == "image" and read.content[0].data == pictures[0].data


# Two thousand by a hundred pixels that nothing makes smaller.
LARGE = r"""
import os, struct, zlib
def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
rows = b"".join(b"\0" + os.urandom(2000) for _ in range(100))
class Large:
    def _repr_png_(self):
        head = struct.pack(">IIBBBBB", 2000, 100, 8, 0, 0, 0, 0)
        parts = [chunk(b"IHDR", head), chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b"")]
        return b"\x89PNG\r\n\x1a\n" + b"".join(parts)
display(Large())
"""


async def test_a_large_picture_comes_scaled_and_its_original_by_its_uri():
    async with connect() as client, sandbox(client, "mcp-large") as id:
        ran = await client.call_tool("run_code", {"sandbox_id": id, "code": LARGE})
        assert [block.type for block in ran.content] == ["text", "image", "resource_link"], text(ran)
        _, image, link = ran.content
        assert f"picture 1: scaled from 2000x100 to 1568x78; the original: {link.uri}]" in text(ran)
        assert png_size(base64.b64decode(image.data)) == (1568, 78)
        [original] = (await client.read_resource(str(link.uri))).contents
        assert png_size(base64.b64decode(original.blob)) == (2000, 100)


def png_size(data):
    assert data.startswith(b"\x89PNG")
    return struct.unpack(">II", data[16:24])


async def test_a_dead_interpreter_is_said_and_replaced():
    """tests.md B5."""
    async with connect() as client, sandbox(client, "mcp-dead") as id:
        for code, begins in [
            ("import os; os._exit(3)", "exit_code=3 "),
            ("exit()", "exit_code=0 "),
            ("import ctypes; ctypes.string_at(0)", "status=signaled signal=11 "),
            ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "status=signaled signal=9 "),
        ]:
            await client.call_tool("run_code", {"sandbox_id": id, "code": "state = 1"})
            ran = await client.call_tool("run_code", {"sandbox_id": id, "code": code})
            assert text(ran).startswith(begins), code
            assert "its variables are gone" in text(ran), code
            ran = await client.call_tool("run_code", {"sandbox_id": id, "code": "'state' in globals()"})
            assert "--- result\nFalse" in text(ran), code


async def test_a_timeout_ends_the_run_and_keeps_the_state():
    """tests.md B3."""
    async with connect() as client, sandbox(client, "mcp-timeout") as id:
        ran = await client.call_tool(
            "run_code", {"sandbox_id": id, "code": "x = 1\nwhile True: pass", "timeout_seconds": 1}
        )
        assert text(ran).startswith("status=timed_out ")
        ran = await client.call_tool("run_code", {"sandbox_id": id, "code": "x"})
        assert "--- result\n1" in text(ran)


async def test_errors_say_what_to_do():
    """tests.md H3: bad input is an answer, never a fault."""
    async with connect() as client, sandbox(client, "mcp-errors") as id:
        for tool, arguments, begins in [
            ("run_code", {"sandbox_id": "none-such", "code": "1"}, "SANDBOX_NOT_FOUND: "),
            ("file_read", {"sandbox_id": id, "path": "none"}, "FILE_NOT_FOUND: "),
            ("file_read", {"sandbox_id": id, "path": "/workspace"}, "FILE_KIND: "),
            ("file_write", {"sandbox_id": id, "path": "x"}, "INVALID_ARGUMENT: "),
            ("file_write", {"sandbox_id": id, "path": "x", "content_base64": "?"}, "INVALID_ARGUMENT: "),
            ("file_write", {"sandbox_id": id, "path": "/etc/x", "content": ""}, ("PERMISSION_DENIED: ", "READ_ONLY: ")),
            ("run_command", {"sandbox_id": id}, "INVALID_ARGUMENT: "),
            ("run_command", {"sandbox_id": id, "command": "a", "argv": ["b"]}, "INVALID_ARGUMENT: "),
            ("run_command", {"sandbox_id": id, "argv": ["no-such-program"]}, "COMMAND_NOT_FOUND: "),
            ("run_command", {"sandbox_id": id, "command": "true", "run_id": "a/b"}, "INVALID_ARGUMENT: "),
            ("sandbox_create", {"name": "Not A Name"}, "INVALID_ARGUMENT: "),
            ("sandbox_create", {"ttl": "9000h"}, "INVALID_ARGUMENT: "),
            ("sandbox_create", {"name": "mcp-errors", "ttl": "1h"}, "SANDBOX_EXISTS: "),
        ]:
            result = await client.call_tool(tool, arguments)
            assert result.is_error, (tool, arguments, text(result))
            assert text(result).startswith(begins), (tool, arguments, text(result))
        with pytest.raises(MCPError) as unknown:
            await client.call_tool("no_such_tool", {})
        assert unknown.value.error.code == -32602


async def test_a_sandbox_has_its_templates_defaults_and_bounds():
    async with connect() as client:
        async with sandbox(client, "mcp-template", template="data-science", memory="3Gi") as id:
            ran = await client.call_tool("run_command", {"sandbox_id": id, "argv": ["cat", "/etc/codesandbox.json"]})
            assert '"memory": "3Gi"' in text(ran) and '"cpu": "2"' in text(ran)
        # It is answered as soon as that is known.
        with anyio.fail_after(10):
            made = await client.call_tool("sandbox_create", {"template": "none-such", "ttl": "1m", "wait_seconds": 45})
        assert made.structured_content["reason"] == "TemplateNotFound", made
        assert not made.structured_content["ready"]
        await client.call_tool("sandbox_delete", {"sandbox_id": made.structured_content["sandbox_id"]})
        refused = await client.call_tool("sandbox_create", {"name": "mcp-evil", "template": "python", "image": "evil:1", "ttl": "1m"})
        assert refused.is_error and text(refused) == (
            "FORBIDDEN: could not create CodeSandbox mcp-evil: CodeSandboxTemplate python does not allow spec.image evil:1 "
            "(allowed: the template's own); ask for what it allows, or name another template."
        )


async def test_the_same_run_id_never_runs_twice():
    async with connect() as client, sandbox(client, "mcp-once") as id:
        arguments = {"sandbox_id": id, "command": "echo once >>log; cat log", "run_id": "mine"}
        first = await client.call_tool("run_command", arguments)
        second = await client.call_tool("run_command", arguments)
        assert text(first) == text(second)
        assert text(second).endswith("\n--- stdout\nonce")
        other = await client.call_tool("run_command", {**arguments, "command": "true"})
        assert other.is_error and text(other).startswith("RUN_CONFLICT: ")


async def test_a_long_run_is_waited_for_in_steps_with_progress():
    """tests.md B12: no call waits for longer than clients do, and each tells how the run gets on."""
    async with connect() as client, sandbox(client, "mcp-steps") as id:
        seen = []

        async def progress(count, total, message):
            seen.append((count, message))

        command = "for i in 1 2 3 4 5 6; do echo line $i; sleep 0.5; done"
        arguments = {"sandbox_id": id, "command": command, "wait_seconds": 1, "run_id": "long"}
        first = await client.call_tool("run_command", arguments, progress_callback=progress)
        assert text(first).startswith("status=running run_id=long ")
        assert "[the run goes on; run_output with run_id=long waits on" in text(first)
        last = await client.call_tool("run_command", {**arguments, "wait_seconds": 30}, progress_callback=progress)
        assert text(last).startswith("exit_code=0 ")
        assert text(last).endswith("".join(f"\nline {i}" for i in range(1, 7)))
        assert any("line" in message for _, message in seen), seen


async def test_fifty_times_two_million_lines_are_complete_or_say_so():
    """tests.md A1 and C2. Complete: every byte passed through the front end, whose digest is the agent's."""
    wanted = "".join(f"{i}\n" for i in range(1, 2_000_001)).encode()
    digest = hashlib.sha256(wanted).hexdigest()
    async with connect() as client, sandbox(client, "mcp-seq") as id:
        for _ in range(50):
            ran = await client.call_tool("run_command", {"sandbox_id": id, "command": "seq 1 2000000"})
            stdout = facts(ran)["stdout"]
            assert (facts(ran)["exit_code"], facts(ran)["log_complete"]) == (0, True), text(ran)[:200]
            assert (stdout["bytes"], stdout["sha256"]) == (len(wanted), digest)
            body = text(ran).split("--- stdout\n", 1)[1]
            omitted = stdout["omitted"]
            assert f"[... {omitted} bytes omitted; " in body
            head, tail = body.split(f"\n[... {omitted} bytes omitted; ")
            tail = tail.split(" ...]\n", 1)[1]
            assert wanted.startswith(head.encode()) and wanted.endswith(tail.encode() + b"\n")
            assert len(head) + omitted + len(tail) + 1 == len(wanted)
