"""What every kind of client does here, once with each, and what it has to see.

Run as a program (in a pod, by test_in_cluster.py) it goes through the scenario with the official
Python client, for every one of URLS and MODES, and prints what it saw, a line of JSON each.
"""

import asyncio
import json
import os
import pathlib
import secrets

import httpx2
from mcp import Client
from mcp.client.streamable_http import streamable_http_client


def new_name(prefix):
    """A name no sandbox has yet."""
    return f"{prefix}-{secrets.token_hex(4)}"


def expected(name, protocol):
    """What the scenario says when all is well."""
    return {
        "protocol": protocol,
        "tools": [
            "file_edit", "file_list", "file_read", "file_search", "file_write",
            "run_cancel", "run_code", "run_command", "run_list", "run_output",
            "sandbox_create", "sandbox_delete", "sandbox_extend", "sandbox_get", "sandbox_list",
        ],
        "created": [name, True, True],
        "ran": "--- result\n42\n--- stdout\nout",
        "failed": [False, 3, "--- stdout\nout\n--- stderr\nerr"],
        "written": {"path": "/workspace/a b/ü.txt", "bytes": 7},
        "read": "héllo\n",
        "missing": [True, "FILE_NOT_FOUND"],
        "deleted": {"sandbox_id": name, "deleted": True},
    }  # fmt: skip


async def scenario(client, name):
    """List, create, run with state, fail, write, read, err, delete."""

    async def call(tool, **arguments):
        return await client.call_tool(tool, {"sandbox_id": name, **arguments})

    def text(result):
        return result.content[0].text

    def body(result):
        return text(result).split("\n", 1)[1]

    tools = sorted(tool.name for tool in (await client.list_tools()).tools)
    created = await client.call_tool("sandbox_create", {"name": name, "ttl": "10m", "wait_seconds": 45})
    assert not created.is_error, text(created)
    try:
        await call("run_code", code="x = 20")
        ran = await call("run_code", code="print('out', end='')\nx + 22")
        failed = await call("run_command", command="echo out; echo err >&2; exit 3")
        written = await call("file_write", path="a b/ü.txt", content="héllo\n")
        read = await call("file_read", path="a b/ü.txt")
        missing = await call("file_read", path="none")
        deleted = await call("sandbox_delete")
    finally:
        await call("sandbox_delete")
    sandbox = created.structured_content
    return {
        "protocol": client.protocol_version,
        "tools": tools,
        "created": [sandbox["sandbox_id"], sandbox["ready"], sandbox["network_isolated"]],
        "ran": body(ran),
        "failed": [failed.is_error, failed.meta["codesandbox.dev/run"]["exit_code"], body(failed)],
        "written": written.structured_content,
        "read": text(read),
        "missing": [missing.is_error, text(missing).split(":")[0]],
        "deleted": deleted.structured_content,
    }


async def main():
    token = pathlib.Path(os.environ["TOKEN_FILE"]).read_text()
    for url in json.loads(os.environ["URLS"]):
        for mode in json.loads(os.environ["MODES"]):
            headers = {"Authorization": f"Bearer {token}"}
            async with httpx2.AsyncClient(headers=headers, timeout=httpx2.Timeout(30, read=120)) as http:
                async with Client(streamable_http_client(url, http_client=http), mode=mode) as client:
                    print(json.dumps(await scenario(client, new_name("mcp-pod"))))


if __name__ == "__main__":
    asyncio.run(main())
