"""A sandbox that is gone says for a while how it ended."""

import asyncio
import re
import subprocess
import time
from datetime import UTC, datetime, timedelta

import pytest
from conftest import connect, frontend, text

pytestmark = pytest.mark.anyio

NAME = "mcp-ended"


async def create(client, ttl):
    """A new sandbox, ready or not."""
    for _ in range(300):
        created = await client.call_tool("sandbox_create", {"name": NAME, "ttl": ttl, "wait_seconds": 0})
        # The one before may be on its way out under the same name.
        if not (created.is_error and "SANDBOX_EXISTS" in text(created)):
            break
        await asyncio.sleep(0.1)
    assert not created.is_error, text(created)


async def gone(client):
    """What sandbox_get says once there is no sandbox."""
    end = time.monotonic() + 60
    while not (got := await client.call_tool("sandbox_get", {"sandbox_id": NAME})).is_error:
        assert time.monotonic() < end, got.structured_content
        await asyncio.sleep(0.1)
    return text(got)


def says(how):
    """The whole answer that says so."""
    since = r"SANDBOX_NOT_FOUND: sandbox mcp-ended is gone since 20\d\d-\d\d-\d\dT\d\d:\d\d:\d\dZ: "
    return since + re.escape(f"{how}. Call sandbox_create ") + ".*"


async def test_a_sandbox_that_is_gone_says_how_it_ended(tmp_path):
    async with connect() as client:
        await client.call_tool("sandbox_delete", {"sandbox_id": NAME})
        # The second end takes the place of the first one.
        for ttl in ["3s", "4s"]:
            await create(client, ttl)
            said = await gone(client)
            assert re.fullmatch(says(f"its ttl ({ttl}) was over"), said), said
        ran = await client.call_tool("run_code", {"sandbox_id": NAME, "code": "1"})
        assert ran.is_error and text(ran) == said

        # One that has seen nothing of it, as after a restart.
        with frontend(tmp_path / "log") as (url, _):
            async with connect(url=url, token=None) as other:
                assert await gone(other) == said

        await create(client, "10m")
        assert not (await client.call_tool("sandbox_get", {"sandbox_id": NAME})).is_error
        subprocess.run(
            ["kubectl", "-n", "codesandbox-sandboxes", "delete", "codesandbox", NAME],
            check=True, capture_output=True, timeout=60,
        )  # fmt: skip
        said = await gone(client)
        assert re.fullmatch(says("it was deleted"), said), said

        never = await client.call_tool("sandbox_get", {"sandbox_id": "mcp-never-was"})
        assert text(never).startswith("SANDBOX_NOT_FOUND: there is no sandbox mcp-never-was: ")


async def test_a_sandbox_whose_end_is_put_off_outlives_the_first_one():
    async with connect() as client:
        await client.call_tool("sandbox_delete", {"sandbox_id": NAME})
        await create(client, "10s")
        first = datetime.now(UTC) + timedelta(seconds=10)
        extended = await client.call_tool("sandbox_extend", {"sandbox_id": NAME, "ttl": "10m"})
        end = extended.structured_content["expires_at"]
        assert extended.structured_content == {"sandbox_id": NAME, "expires_at": end}
        lives = datetime.fromisoformat(end) - datetime.now(UTC)
        assert timedelta(minutes=9, seconds=55) < lives < timedelta(minutes=10, seconds=2), lives
        # It never shortens.
        again = await client.call_tool("sandbox_extend", {"sandbox_id": NAME, "ttl": "1s"})
        assert again.structured_content == extended.structured_content
        # Who asks for the sandbox as it was made has it, with the longer life.
        made = await client.call_tool("sandbox_create", {"name": NAME, "ttl": "10s", "wait_seconds": 0})
        assert not made.is_error, text(made)
        for ttl, why in [("168h", "168h (a week)"), ("soon", "`soon` is no duration")]:
            refused = await client.call_tool("sandbox_extend", {"sandbox_id": NAME, "ttl": ttl})
            assert refused.is_error and text(refused).startswith("INVALID_ARGUMENT: ") and why in text(refused), text(refused)

        await asyncio.sleep((first - datetime.now(UTC)).total_seconds() + 2)
        got = await client.call_tool("sandbox_get", {"sandbox_id": NAME})
        assert got.structured_content["expires_at"] == end, text(got)
        await client.call_tool("sandbox_delete", {"sandbox_id": NAME})
