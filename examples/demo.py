"""The main job, with the official MCP client: data in, analysis over several calls, a picture out.

It computes what the sandbox should find from the CSV itself and compares, so that a wrong
answer ends the demo with an error. Reads CODESANDBOX_URL and CODESANDBOX_TOKEN; DEMO_CSV and
DEMO_OUTPUT change where data comes from and the picture goes.
"""

import asyncio
import base64
import csv
import os
import pathlib
import sys
import time

import httpx2
from mcp import Client
from mcp.client.streamable_http import streamable_http_client

HERE = pathlib.Path(__file__).parent
CSV = pathlib.Path(os.environ.get("DEMO_CSV", HERE / "data" / "sunspots.csv"))
OUTPUT = pathlib.Path(os.environ.get("DEMO_OUTPUT", HERE.parent / "demo-output"))

LOAD = """
import pandas as pd
data = pd.read_csv("sunspots.csv").rename(columns=str.lower).set_index("year")["sunactivity"]
len(data)
"""
MEAN_AND_MAXIMUM = "round(float(data.mean()), 6), int(data.idxmax())"
CYCLE = """
centred = data - data.mean()
def alike(lag):
    return float((centred.iloc[lag:].to_numpy() * centred.iloc[:-lag].to_numpy()).mean())
cycle = max(range(5, 20), key=alike)
cycle
"""
PLOT = """
import matplotlib.pyplot as plt
figure, axes = plt.subplots(figsize=(9, 3.5))
axes.plot(data.index, data.values, linewidth=0.9)
axes.plot(data.index, data.rolling(cycle, center=True).mean(), label=f"mean over {cycle} years")
axes.set(title="Sunspots a year", xlabel="year", ylabel="sunspots")
axes.legend()
plt.show()
"""
# Each prints what it found, so that "closed" is seen and not assumed.
CLOSED = """
import socket
for what, where in [("DNS", ("example.com", 80)), ("the API server", ("10.96.0.1", 443)),
                    ("the metadata address", ("169.254.169.254", 80)), ("the internet", ("198.51.100.10", 80))]:
    try:
        socket.create_connection(where, timeout=2).close()
        print(what, "REACHED")
    except OSError as error:
        print(what, "unreachable:", error)
"""


def expected() -> tuple[int, float, int, int]:
    """Length, mean, year of the maximum and cycle, computed here in plain Python."""
    with CSV.open(newline="") as file:
        rows = [(int(float(year)), float(count)) for year, count in list(csv.reader(file))[1:]]
    counts = [count for _, count in rows]
    mean = sum(counts) / len(counts)
    centred = [count - mean for count in counts]

    def alike(lag: int) -> float:
        pairs = list(zip(centred[lag:], centred[:-lag]))
        return sum(a * b for a, b in pairs) / len(pairs)

    maximum = max(rows, key=lambda row: row[1])[0]
    return len(rows), round(mean, 6), maximum, max(range(5, 20), key=alike)


class Demo:
    """One sandbox and the steps in it, each printed with the time it took."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.sandbox = ""

    async def call(self, what: str, tool: str, **arguments: object):
        began = time.perf_counter()
        result = await self.client.call_tool(tool, arguments)
        text = "\n".join(block.text for block in result.content if block.type == "text")
        if result.is_error:
            sys.exit(f"{what}: {text}")
        print(f"  {what:<42} {(time.perf_counter() - began) * 1000:7.0f} ms", flush=True)
        return result, text

    async def value(self, what: str, code: str) -> str:
        _, text = await self.call(what, "run_code", sandbox_id=self.sandbox, code=code)
        if "--- result\n" not in text:
            sys.exit(f"{what}: there is no result in this answer:\n{text}")
        return text.split("--- result\n", 1)[1].split("\n[")[0].strip()

    async def run(self) -> None:
        created, _ = await self.call("create a sandbox", "sandbox_create", ttl="10m", wait_seconds=45)
        self.sandbox = created.structured_content["sandbox_id"]
        if not created.structured_content["ready"]:
            sys.exit(f"the sandbox is not ready: {created.structured_content}")
        try:
            await self.analyse()
        finally:
            await self.call("delete the sandbox", "sandbox_delete", sandbox_id=self.sandbox)

    async def analyse(self) -> None:
        await self.call(
            "upload the data", "file_write", sandbox_id=self.sandbox, path="sunspots.csv", content=CSV.read_text()
        )
        length, mean, maximum, cycle = expected()
        for what, code, wanted in [
            ("load it", LOAD, f"{length}"),
            ("mean and maximum", MEAN_AND_MAXIMUM, f"({mean}, {maximum})"),
            ("length of the cycle", CYCLE, f"{cycle}"),
        ]:
            found = await self.value(what, code)
            if found != wanted:
                sys.exit(f"{what}: the sandbox says {found}, the data {wanted}")
        print(f"  {length} years, mean {mean}, maximum in {maximum}, a cycle of {cycle} years: as computed here")

        plotted, _ = await self.call("plot it", "run_code", sandbox_id=self.sandbox, code=PLOT)
        pictures = [block for block in plotted.content if block.type == "image"]
        if not pictures:
            sys.exit("no picture came back")
        OUTPUT.mkdir(exist_ok=True)
        path = OUTPUT / "sunspots.png"
        path.write_bytes(base64.b64decode(pictures[0].data))
        print(f"  saved {os.path.relpath(path)} ({path.stat().st_size} bytes)")

        _, text = await self.call("try the network", "run_code", sandbox_id=self.sandbox, code=CLOSED)
        probes = text.split("--- stdout\n", 1)[1]
        print("    " + probes.replace("\n", "\n    "))
        if "REACHED" in probes:
            sys.exit("the network is not closed")


async def main() -> None:
    headers = {"Authorization": f"Bearer {os.environ['CODESANDBOX_TOKEN']}"}
    async with httpx2.AsyncClient(headers=headers, timeout=httpx2.Timeout(30, read=120)) as http:
        transport = streamable_http_client(os.environ["CODESANDBOX_URL"], http_client=http)
        async with Client(transport) as client:
            print(f"connected by MCP {client.protocol_version}", flush=True)
            await Demo(client).run()


if __name__ == "__main__":
    asyncio.run(main())
