"""The MCP Inspector's command line: its lint of our schemas, typed arguments and exit codes."""

import json
import os
import subprocess

import pytest
from conftest import TOKEN, URL, stdio

ERAS = ["legacy", "auto", "modern"]
OVER = ["http", "stdio"]
AUTH_REQUIRED, TOOL_IS_ERROR = 3, 5


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    """What a user of the Inspector writes: the server over HTTP and as a child."""
    file = tmp_path_factory.mktemp("inspector") / "servers.json"
    command, *arguments = stdio()
    http = {"type": "streamable-http", "url": URL}
    servers = {
        "http": {**http, "headers": {"Authorization": f"Bearer {TOKEN}"}},
        "intruder": {**http, "headers": {"Authorization": "Bearer wrong"}},
        "stdio": {"command": command, "args": arguments, "env": {"KUBECONFIG": os.environ["KUBECONFIG"]}},
    }
    file.write_text(json.dumps({"mcpServers": servers}))
    return file


@pytest.fixture
def inspect(config):
    def inspect(server, era, *arguments):
        """Exit code, answer and what it found wrong."""
        command = ["mcp-inspector", "--cli", "--config", config, "--server", server, "--protocol-era", era]
        command += ["--format", "json", "--quiet", *arguments]
        ran = subprocess.run(command, capture_output=True, text=True, timeout=90)
        return ran.returncode, json.loads(ran.stdout or "{}").get("result"), ran.stderr

    return inspect


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize("over", OVER)
def test_a_strict_client_has_nothing_to_say_about_the_tools(inspect, over, era):
    code, listed, said = inspect(over, era, "--method", "tools/list", "--strict")
    assert (code, said) == (0, "")
    assert len(listed["tools"]) == 15


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize("over", OVER)
def test_typed_arguments_arrive_as_what_they_are(inspect, over, era):
    name = f"mcp-inspector-{over}-{era}"

    def call(tool, *arguments):
        code, result, _ = inspect(over, era, "--method", "tools/call", "--tool-name", tool, *arguments)
        return code, result["content"][0]["text"], result.get("structuredContent")

    here = ["--tool-arg", f"sandbox_id={name}"]
    code, _, created = call(
        "sandbox_create", "--tool-arg", f"name={name}", "ttl=10m", "wait_seconds=45", 'env={"GREETING":"hi"}'
    )
    assert (code, created["sandbox_id"], created["ready"]) == (0, name, True)
    try:
        code, said, _ = call("run_command", *here, 'argv=["sh","-c","echo $GREETING; exit 3"]', "timeout_seconds=9")
        assert (code, said.split("\n", 1)[1]) == (0, "--- stdout\nhi")
        assert said.startswith("exit_code=3 "), "a failure inside is no failure of the call"
        verbatim = json.dumps({"sandbox_id": name, "path": "n", "content": "2"})
        code, _, written = call("file_write", "--tool-args-json", verbatim)
        assert (code, written) == (0, {"path": "/workspace/n", "bytes": 1})
        code, _, files = call("file_list", *here, "depth=2", "limit=1")
        assert (code, [entry["path"] for entry in files["entries"]]) == (0, ["/workspace/n"])
        code, said, _ = call("file_read", *here, "path=none")
        assert (code, said.split(":")[0]) == (TOOL_IS_ERROR, "FILE_NOT_FOUND")
    finally:
        code, _, deleted = call("sandbox_delete", *here)
    assert (code, deleted) == (0, {"sandbox_id": name, "deleted": True})


def test_a_wrong_token_is_told_from_a_server_that_is_away(inspect):
    code, _, said = inspect("intruder", "auto", "--method", "tools/list")
    assert (code, json.loads(said)["error"]["code"]) == (AUTH_REQUIRED, "auth_required")
