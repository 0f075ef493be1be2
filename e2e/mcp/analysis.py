"""A small data analysis, cell by cell, and how its transcript reads."""

import re

DATA = """month,visits,orders
2026-01,1200,84
2026-02,1340,91
2026-03,1280,77
2026-04,1510,118
2026-05,1620,131
2026-06,1580,102
"""

# What is done, and the cells: each with what run_code is told beside the code.
CELLS = [
    ("Load the data", {}, "import pandas as pd\ndata = pd.read_csv('shop.csv')\ndata.head(3)"),
    ("What there is", {}, "data['rate'] = data.orders / data.visits\nprint(len(data), 'months')\ndata.rate.describe().round(4)"),
    ("A plot", {}, "ax = data.plot(x='month', y='rate', title='Orders per visit')"),
    ("A mistake", {}, "def share(column):\n    return data[column].sum() / totals[column]\n\nshare('orders')"),
    ("A long cell", {}, "import time\nfor step in range(1, 6):\n    time.sleep(0.3)\n    print(f'step {step} of 5: {step * 20} %')"),
    ("One that does not end", {"timeout_seconds": 1}, "time.sleep(3600)"),
    ("And its state is still there", {}, "best = data.loc[data.rate.idxmax()]\nbest.month, round(float(best.rate), 4)"),
]  # fmt: skip


def calls(sandbox):
    """All of it as calls of tools, without making the sandbox."""
    yield "file_write", {"sandbox_id": sandbox, "path": "shop.csv", "content": DATA}
    for _, arguments, code in CELLS:
        yield "run_code", {"sandbox_id": sandbox, "code": code, **arguments}


def transcript(results):
    """How the results of these calls read, as a page. They are dictionaries, as they cross the wire."""
    page = [
        "# A data analysis, as a model reads it",
        "Seven cells through `run_code`; what each answered stands below it, whole. The same through every MCP client, "
        "which a test sees (`e2e/mcp/test_transcript.py`).",
    ]
    for (title, arguments, code), result in zip(CELLS, results[1:], strict=True):
        options = "".join(f" ({name}={value})" for name, value in arguments.items())
        page += [f"## {title}{options}", f"```python\n{code}\n```"]
        page += [block(content) for content in result["content"]]
    return "\n\n".join(page) + "\n"


def block(content):
    """One block of a result, without what is another each time."""
    if content["type"] == "text":
        said = re.sub(r"duration=[0-9.]+s", "duration=…s", content["text"])
        said = re.sub(r"(run|sandbox)_id=[a-z0-9-]+", r"\1_id=…", said)
        return f"```text\n{said}\n```"
    return f"*({content['type']}, {content.get('mimeType')})*"
