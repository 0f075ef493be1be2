"""A data analysis through every client: the same for all, and kept as a page of the documentation."""

import json
import os
import pathlib
import subprocess

import analysis
import pytest
from conftest import MODES, connect, sandbox
from test_inspector import config, inspect  # noqa: F401 (fixtures)
from test_stdio import child
from test_typescript import OVER, SCRIPT

PAGE = pathlib.Path(__file__).parents[2] / "docs" / "analysis.md"

pytestmark = pytest.mark.anyio


def reads_as_kept(results):
    page = analysis.transcript(results)
    if os.environ.get("UPDATE_DOCS"):
        PAGE.write_text(page)
    assert page == PAGE.read_text()


async def through(client, id):
    """With the official Python client, which hears of progress."""
    heard, results = [], []

    async def progress(count, total, message):
        heard.append(message)

    for tool, arguments in analysis.calls(id):
        result = await client.call_tool(tool, arguments, progress_callback=progress)
        results.append(result.model_dump(mode="json", by_alias=True))
    reads_as_kept(results)
    assert any(message and "% " in f"{message} " for message in heard), heard


@pytest.mark.parametrize("mode", MODES)
async def test_the_analysis_reads_well_over_http(mode):
    async with connect(mode) as client, sandbox(client, f"mcp-analysis-{mode}") as id:
        await through(client, id)


@pytest.mark.parametrize("mode", MODES)
async def test_the_analysis_reads_well_over_stdio(mode):
    async with child(mode) as client, sandbox(client, f"mcp-analysis-stdio-{mode}") as id:
        await through(client, id)


@pytest.mark.parametrize("over", OVER)
async def test_the_analysis_reads_well_with_the_typescript_client(over):
    async with connect() as client, sandbox(client, f"mcp-analysis-ts-{over}") as id:
        environment = {**os.environ, **OVER[over], "CALLS": json.dumps(list(analysis.calls(id)))}
        calls = SCRIPT.with_name("calls.ts")
        ran = subprocess.run(["node", calls], env=environment, capture_output=True, text=True, timeout=120)
        assert ran.returncode == 0, ran.stderr
        reads_as_kept(json.loads(ran.stdout))


async def test_the_analysis_reads_well_with_the_inspector(inspect):  # noqa: F811
    async with connect() as client, sandbox(client, "mcp-analysis-inspector") as id:
        results = []
        for tool, arguments in analysis.calls(id):
            call = ["--method", "tools/call", "--tool-name", tool, "--tool-args-json", json.dumps(arguments)]
            results.append(inspect("http", "modern", *call)[1])
        reads_as_kept(results)
