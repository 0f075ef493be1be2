"""What is a user's is in no log of ours."""

import subprocess

import pytest
from conftest import TOKEN, connect, sandbox, text

pytestmark = pytest.mark.anyio


def logs(namespace, selector):
    command = ["kubectl", "logs", "-n", namespace, "-l", selector, "--all-containers", "--tail=-1"]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout


async def test_code_output_files_variables_and_tokens_are_in_no_log():
    mark = "m4rk-of-a-secret"
    async with connect() as client, sandbox(client, "mcp-logs", env={"SECRET": f"{mark}-env"}) as id:
        for tool, arguments in [
            ("run_code", {"code": f"print('{mark}-code')"}),
            ("run_code", {"code": f"raise ValueError('{mark}-exception')"}),
            ("run_command", {"command": f"echo {mark}-command; exit 3", "stdin": f"{mark}-stdin"}),
            ("run_command", {"argv": [f"{mark}-program"]}),
            ("file_write", {"path": "x", "content": f"{mark}-content"}),
            ("file_read", {"path": "x"}),
        ]:
            ran = await client.call_tool(tool, {"sandbox_id": id, **arguments})
            assert mark in text(ran) or tool == "file_write", "the mark has to come by"
        for namespace, selector in [
            ("codesandbox", "app.kubernetes.io/component=mcp-frontend"),
            ("codesandbox", "app.kubernetes.io/component=operator"),
            ("codesandbox-sandboxes", f"codesandbox.dev/sandbox={id}"),
        ]:
            said = logs(namespace, selector)
            assert said, f"{selector} has to log something, or this proves nothing"
            assert mark not in said, selector
            assert TOKEN not in said, selector
