"""Who may enter: tokens, hosts, origins, and the front end without a token."""

import os
import subprocess

import httpx2
import pytest
from conftest import TOKEN, URL, connect, frontend, text

pytestmark = pytest.mark.anyio

BINARY = os.environ["MCP_FRONTEND"]
CALL = {"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {}}
ACCEPT = {"Accept": "application/json, text/event-stream"}


async def post(body=CALL, url=URL, **headers):
    async with httpx2.AsyncClient() as http:
        return await http.post(url, json=body, headers={**ACCEPT, **headers})


async def test_a_missing_or_wrong_token_is_401():
    for headers in [{}, {"Authorization": "Bearer wrong"}, {"Authorization": f"Basic {TOKEN}"}]:
        answer = await post(**headers)
        assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
        assert answer.text.startswith("UNAUTHENTICATED: ")
    assert (await post(Authorization=f"Bearer {TOKEN}")).status_code == 200


async def test_foreign_hosts_and_origins_are_403():
    right = {"Authorization": f"Bearer {TOKEN}"}
    answer = await post(**right, Host="evil.example.com")
    assert answer.status_code == 403 and answer.text.startswith("HOST_NOT_ALLOWED: ")
    assert (await post(**right, Origin="https://evil.example.com")).status_code == 403
    service = "codesandbox-mcp-frontend.codesandbox.svc.cluster.local:8080"
    assert (await post(**right, Host=service)).status_code == 200


async def test_an_unknown_method_is_method_not_found():
    """tests.md H3."""
    answer = await post({**CALL, "method": "no/such"}, Authorization=f"Bearer {TOKEN}")
    assert answer.json()["error"]["code"] == -32601


@pytest.mark.parametrize("version", ["2025-03-26", "2025-06-18", "2025-11-25"])
async def test_every_version_with_a_handshake_is_spoken(version):
    right = {"Authorization": f"Bearer {TOKEN}"}
    client = {"protocolVersion": version, "capabilities": {}, "clientInfo": {"name": "e2e", "version": "1"}}
    greeted = await post({**CALL, "method": "initialize", "params": client}, **right)
    assert greeted.json()["result"]["protocolVersion"] == version
    call = {**CALL, "method": "tools/call", "params": {"name": "sandbox_list", "arguments": {}}}
    listed = await post(call, **right, **{"MCP-Protocol-Version": version})
    assert listed.json()["result"]["isError"] is False


async def test_health_and_metrics_ask_for_no_token():
    base = URL.removesuffix("/mcp")
    async with connect() as client:
        await client.call_tool("sandbox_list", {})
    async with httpx2.AsyncClient() as http:
        for path in ["/healthz", "/readyz", "/metrics"]:
            assert (await http.get(base + path)).status_code == 200
        metrics = (await http.get(base + "/metrics")).text
        assert 'codesandbox_mcp_calls_total{tool="sandbox_list",outcome="Ok"}' in metrics


def test_without_a_token_only_loopback_is_listened_on():
    command = [BINARY, "--listen", "0.0.0.0:0", "--namespace", "codesandbox-sandboxes"]
    refused = subprocess.run(command, capture_output=True, text=True, timeout=20)
    assert refused.returncode != 0
    assert "refusing to listen on 0.0.0.0:0 without a token" in refused.stderr


async def test_without_a_token_loopback_works_and_says_so(tmp_path):
    log = tmp_path / "log"
    with frontend(log) as (url, _):
        async with connect(url=url, token=None) as client:
            listed = await client.call_tool("sandbox_list", {})
            assert not listed.is_error, text(listed)
    assert "no token" in log.read_text()
