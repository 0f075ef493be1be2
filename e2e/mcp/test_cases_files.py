"""Files through MCP: sizes, names, and what cannot be written."""

import base64
import hashlib
import os

import httpx2
import pytest
from conftest import TOKEN, URL, connect, facts, sandbox, text

pytestmark = pytest.mark.anyio

MIB = 1 << 20


async def shell(client, id, command):
    """What a shell line says that has to succeed."""
    ran = await client.call_tool("run_command", {"sandbox_id": id, "command": command})
    assert facts(ran)["exit_code"] == 0, text(ran)
    return text(ran).partition("\n--- stdout\n")[2]


async def read(client, id, path):
    """All of a file, in the parts its reader is told to ask for."""
    data = b""
    while True:
        got = await client.call_tool("file_read", {"sandbox_id": id, "path": path, "offset": len(data), "limit": MIB})
        assert not got.is_error, text(got)
        data += base64.b64decode(got.content[0].resource.blob)
        if f"call again with offset={len(data)} for more" not in text(got):
            return data


async def test_bytes_come_back_whole_up_to_the_limit_of_a_request():
    """tests.md D1. Larger files cross by the client library: e2e/tests/files.rs."""
    async with connect() as client, sandbox(client, "mcp-sizes") as id:
        for size in [17_000, 18_000, MIB - 1, MIB, 6 * MIB]:
            data = os.urandom(size)
            content = base64.b64encode(data).decode()
            written = await client.call_tool("file_write", {"sandbox_id": id, "path": "f", "content_base64": content})
            assert written.structured_content == {"path": "/workspace/f", "bytes": size}, text(written)
            assert await shell(client, id, "sha256sum <f") == f"{hashlib.sha256(data).hexdigest()}  -"
            assert await read(client, id, "f") == data, size


async def test_a_file_over_the_limit_is_refused_and_the_limit_is_said():
    """tests.md D1."""
    async with connect() as client, sandbox(client, "mcp-too-large") as id:
        await client.call_tool("file_write", {"sandbox_id": id, "path": "f", "content": "old"})
        content = base64.b64encode(bytes(7 * MIB)).decode()
        call = {"name": "file_write", "arguments": {"sandbox_id": id, "path": "f", "content_base64": content}}
        headers = {"Authorization": f"Bearer {TOKEN}", "Accept": "application/json, text/event-stream"}
        async with httpx2.AsyncClient(headers=headers) as http:
            body = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": call}
            answer = await http.post(URL, json=body)
        assert (answer.status_code, answer.text.split(":")[0]) == (413, "REQUEST_TOO_LARGE")
        assert str(8 * MIB + (64 << 10)) in answer.text
        assert text(await client.call_tool("file_read", {"sandbox_id": id, "path": "f"})) == "old"


async def test_an_empty_file_is_a_file():
    """tests.md C7."""
    async with connect() as client, sandbox(client, "mcp-empty") as id:
        for content in [{"content": ""}, {"content_base64": ""}]:
            written = await client.call_tool("file_write", {"sandbox_id": id, "path": "empty", **content})
            assert written.structured_content == {"path": "/workspace/empty", "bytes": 0}
            got = await client.call_tool("file_read", {"sandbox_id": id, "path": "empty"})
            assert (got.is_error, [block.text for block in got.content]) == (False, [""])
            assert await shell(client, id, "test -f empty && wc -c <empty && rm empty") == "0"
        listed = await client.call_tool("file_list", {"sandbox_id": id})
        assert listed.structured_content == {"entries": [], "truncated": False}


async def test_names_are_taken_as_they_are():
    """tests.md D7."""
    names = [
        "a b",
        "it's",
        '"quoted"',
        "ünï 文字 🐍.txt",
        "-rf",
        "new\nline",
        "$(touch pwned)`;&",
        "*",
        "back\\slash",
        " ",
    ]
    async with connect() as client, sandbox(client, "mcp-names") as id:
        for name in names:
            written = await client.call_tool("file_write", {"sandbox_id": id, "path": name, "content": f"<{name}>"})
            assert written.structured_content == {"path": f"/workspace/{name}", "bytes": len(f"<{name}>".encode())}
        for name in names:
            got = await client.call_tool("file_read", {"sandbox_id": id, "path": name})
            assert text(got) == f"<{name}>"
            ran = await client.call_tool("run_command", {"sandbox_id": id, "argv": ["cat", "--", name]})
            assert text(ran).partition("\n--- stdout\n")[2] == f"<{name}>"
        listed = await client.call_tool("file_list", {"sandbox_id": id})
        paths = [entry["path"] for entry in listed.structured_content["entries"]]
        assert sorted(paths) == sorted(f"/workspace/{name}" for name in names)


async def test_what_cannot_be_written_says_why_and_leaves_nothing():
    """tests.md D5."""
    async with connect() as client, sandbox(client, "mcp-refused") as id:
        await shell(client, id, "mkdir dir locked; echo kept >file; echo no >secret; chmod 0 secret; chmod 500 locked")
        for tool, path, begins in [
            ("file_write", "dir", "FILE_KIND: /workspace/dir: is a directory"),
            ("file_write", "file/x", "FILE_KIND: /workspace/file/x: "),
            ("file_write", "locked/x", "PERMISSION_DENIED: /workspace/locked/x: "),
            ("file_write", "/etc/x", "PERMISSION_DENIED: /etc/x: is on a read-only file system"),
            ("file_write", "/proc/x", "FILE_NOT_FOUND: /proc/x: "),
            ("file_write", "n" * 300, "INVALID_ARGUMENT: /workspace/nnn"),
            ("file_read", "dir", "FILE_KIND: /workspace/dir: is a directory"),
            ("file_read", "secret", "PERMISSION_DENIED: /workspace/secret: "),
        ]:
            content = {"content": "x"} if tool == "file_write" else {}
            refused = await client.call_tool(tool, {"sandbox_id": id, "path": path, **content})
            assert refused.is_error and text(refused).startswith(begins), (path, text(refused))
        left = await shell(client, id, "chmod 700 locked; find . -mindepth 1 | sort; cat file")
        assert left == "./dir\n./file\n./locked\n./secret\nkept"


async def test_a_full_disk_is_said_and_leaves_the_file_as_it_was():
    """tests.md D5: the space ends in the middle of the file."""
    async with connect() as client, sandbox(client, "mcp-full") as id:
        # Two mebibytes are left of a file system of memory.
        fill = "echo old >f; dd if=/dev/zero of=fill bs=1M 2>&1 | grep -q 'No space left' && truncate -s -2M fill"
        await shell(client, id, f"cd /dev/shm && {fill}")
        content = base64.b64encode(os.urandom(4 * MIB)).decode()
        for path in ["/dev/shm/f", "/dev/shm/new"]:
            refused = await client.call_tool("file_write", {"sandbox_id": id, "path": path, "content_base64": content})
            assert refused.is_error
            assert text(refused) == f"NO_SPACE: {path}: the disk is full; remove files first"
        assert await shell(client, id, "cd /dev/shm; ls -A; cat f") == "f\nfill\nold"
