"""A sandbox that is set up before it is ready."""

import pytest
from conftest import connect, sandbox, text

pytestmark = pytest.mark.anyio

NAME = "mcp-setup"


async def test_a_sandbox_is_set_up_before_it_is_ready():
    lines = ["mkdir lib && echo 'answer = 42' > lib/made.py", "echo $HOME > where"]
    async with connect() as client, sandbox(client, NAME, setup=lines) as name:
        ran = await client.call_tool("run_code", {"sandbox_id": name, "code": "from lib import made\nmade.answer"})
        assert "42" in text(ran), text(ran)
        got = (await client.call_tool("sandbox_get", {"sandbox_id": name})).structured_content
        assert got["network"] == "deny" and got["network_isolated"], got


async def test_a_setup_that_fails_is_said_with_its_last_words():
    async with connect() as client:
        await client.call_tool("sandbox_delete", {"sandbox_id": "mcp-unset"})
        lines = ["echo no such package >&2; exit 3"]
        created = await client.call_tool("sandbox_create", {"name": "mcp-unset", "setup": lines, "ttl": "5m"})
        got = created.structured_content
        assert got["finished"] and got["reason"] == "SetupFailed", got
        assert "ended with exit code 3, and said at last: " in got["message"], got
        assert "no such package; correct it and create the sandbox anew" in got["message"], got
        ran = await client.call_tool("run_code", {"sandbox_id": "mcp-unset", "code": "1"})
        assert ran.is_error and text(ran).startswith("SANDBOX_FINISHED: "), text(ran)
        await client.call_tool("sandbox_delete", {"sandbox_id": "mcp-unset"})
