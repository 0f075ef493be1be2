"""The example that `make demo` runs, so that it is never stale."""

import csv
import os
import pathlib
import subprocess
import sys

EXAMPLES = pathlib.Path(__file__).parents[2] / "examples"


def demo(output, data):
    environment = {**os.environ, "DEMO_OUTPUT": str(output), "DEMO_CSV": str(data)}
    ran = subprocess.run(
        [sys.executable, EXAMPLES / "demo.py"], env=environment, capture_output=True, text=True, timeout=120
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return (output / "sunspots.png").read_bytes(), ran.stdout


def test_the_demo_finds_what_the_data_says_and_other_data_gives_another_picture(tmp_path):
    data = EXAMPLES / "data" / "sunspots.csv"
    picture, said = demo(tmp_path / "given", data)
    assert picture.startswith(b"\x89PNG") and "maximum in 1957" in said

    rows = list(csv.reader(data.open()))
    rows[1 + 1800 - 1700][1] = "500"
    changed = tmp_path / "changed.csv"
    with changed.open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    other, said = demo(tmp_path / "changed", changed)
    assert "maximum in 1800" in said
    assert other != picture
