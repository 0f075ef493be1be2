"""What the MCP tests share: the endpoint, clients of both protocol eras, a sandbox per test file."""

import contextlib
import os
import socket
import subprocess
import time

import anyio
import httpx2
import pytest
from mcp import Client
from mcp.client.streamable_http import streamable_http_client

URL = os.environ["CODESANDBOX_URL"]
TOKEN = os.environ["CODESANDBOX_TOKEN"]

# The handshake of 2025 and the stateless protocol of 2026.
MODES = ["legacy", "2026-07-28"]


def stdio():
    """The command of a front end that is the caller's child."""
    return [os.environ["MCP_FRONTEND"], "--stdio", "--namespace", "codesandbox-sandboxes"]


@pytest.fixture
def anyio_backend():
    return "asyncio"


@contextlib.asynccontextmanager
async def connect(mode="auto", url=URL, token=TOKEN, transport=None, patience=30):
    """A client of the front end, which waits so many seconds for a connection."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    limits = httpx2.Timeout(30, connect=patience, read=120)
    async with httpx2.AsyncClient(headers=headers, timeout=limits, transport=transport) as http:
        async with Client(streamable_http_client(url, http_client=http), mode=mode) as client:
            yield client


@contextlib.contextmanager
def frontend(log, *flags):
    """A second front end beside the cluster's, without a token: its URL and its process."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [os.environ["MCP_FRONTEND"], "--listen", f"127.0.0.1:{port}", "--namespace", "codesandbox-sandboxes", *flags]
    with log.open("w") as stderr:
        process = subprocess.Popen(command, stderr=stderr)
    try:
        end = time.monotonic() + 30
        while "listening" not in log.read_text():
            assert process.poll() is None and time.monotonic() < end, log.read_text()
            time.sleep(0.05)
        yield f"http://127.0.0.1:{port}/mcp", process
    finally:
        process.terminate()
        assert process.wait(30) == 0


def text(result):
    """All text of a result."""
    return "\n".join(block.text for block in result.content if block.type == "text")


def facts(result):
    """What a run's result says in its metadata."""
    return result.meta["codesandbox.dev/run"]


@contextlib.asynccontextmanager
async def sandbox(client, name, **arguments):
    """A ready sandbox, new, deleted at the end."""
    await client.call_tool("sandbox_delete", {"sandbox_id": name})
    for _ in range(300):
        created = await client.call_tool("sandbox_create", {"name": name, "wait_seconds": 45, "ttl": "30m", **arguments})
        # The one before may be on its way out under the same name.
        if not (created.is_error and "SANDBOX_EXISTS" in text(created)):
            break
        await anyio.sleep(0.1)
    assert not created.is_error, text(created)
    assert created.structured_content["ready"], created.structured_content
    try:
        yield created.structured_content["sandbox_id"]
    finally:
        await client.call_tool("sandbox_delete", {"sandbox_id": name})
