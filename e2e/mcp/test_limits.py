"""What a caller's sandboxes may use together, by a second front end that has limits."""

import pytest
from conftest import connect, frontend, text

pytestmark = pytest.mark.anyio

# Of a class that no operator makes: nothing runs, and nobody else's sandboxes count.
FLAGS = ["--class", "mcp-limits", "--max-cpu", "4", "--max-gpus", "0"]
NAMES = ["mcp-limits-first", "mcp-limits-second"]
DELETE = "delete those that are not needed (sandbox_list has them), or wait for the end of their ttl."


async def create(client, **arguments):
    return await client.call_tool("sandbox_create", {"wait_seconds": 0, "ttl": "10m", **arguments})


async def delete(client):
    for name in NAMES:
        await client.call_tool("sandbox_delete", {"sandbox_id": name})


async def test_a_sandbox_too_much_is_refused_until_there_is_room(tmp_path):
    first, second = NAMES
    with frontend(tmp_path / "log", *FLAGS) as (url, _):
        async with connect(url=url, token=None) as client:
            await delete(client)
            try:
                # Two CPUs, by its template.
                made = await create(client, name=first, template="data-science")
                assert not made.is_error, text(made)
                refused = await create(client, name=second, cpu="3")
                assert text(refused) == (
                    "QUOTA_EXCEEDED: your sandboxes have 2 of at most 4 CPUs, and this one asks for 3. "
                    f"Ask for less, {DELETE}"
                )
                made = await create(client, name=second, cpu="2")
                assert not made.is_error, text(made)
                refused = await create(client, template="any-image")
                assert text(refused).startswith("QUOTA_EXCEEDED: your sandboxes have 4 of at most 4 CPUs, ")
                await client.call_tool("sandbox_delete", {"sandbox_id": second})
                made = await create(client, name=second, cpu="2")
                assert not made.is_error, text(made)

                refused = await create(client, cpu="5", gpu=1)
                assert text(refused) == (
                    "QUOTA_EXCEEDED: this one asks for 5 CPUs, of at most 4, and 1 GPUs, of at most 0 "
                    "for all your sandboxes together, so it can never be made. Ask for less."
                )
            finally:
                await delete(client)
