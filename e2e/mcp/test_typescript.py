"""The official TypeScript client in every mode it has, over HTTP and as the front end's parent."""

import json
import os
import pathlib
import subprocess

import pytest
from conftest import TOKEN, URL, stdio
from scenario import expected, new_name

SCRIPT = pathlib.Path(__file__).parent / "typescript" / "scenario.ts"
OVER = {"http": {"URL": URL, "TOKEN": TOKEN}, "stdio": {"COMMAND": json.dumps(stdio())}}


@pytest.mark.parametrize(
    ("mode", "protocol"),
    [("legacy", "2025-11-25"), ("auto", "2026-07-28"), ("2026-07-28", "2026-07-28")],
)
@pytest.mark.parametrize("over", OVER)
def test_the_scenario_with_the_typescript_client(over, mode, protocol):
    name = new_name("mcp-ts")
    environment = {**os.environ, **OVER[over], "MODE": mode, "NAME": name}
    ran = subprocess.run(["node", SCRIPT], env=environment, capture_output=True, text=True, timeout=120)
    assert ran.returncode == 0, ran.stderr
    assert json.loads(ran.stdout) == expected(name, protocol)
