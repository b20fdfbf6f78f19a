"""Seconds from the request of a continuation to its first new note, for a page of the studio.

python benchmarks/studio_latency.py

The studio runs in a process of its own. It continues 16 s of a piece by the model itself, five
times with each model that is loaded already; the first line of a model is the time with loading it.
"""

from __future__ import annotations

import http.client
import json
import re
import statistics
import subprocess
import sys
import tempfile
import time
from typing import Any

MODELS = ("jsb", "mozart")
REPEATS = 5
SECONDS = 16


def first_sound(connection: http.client.HTTPConnection, body: dict[str, Any]) -> float:
    """Seconds until an event has a note that starts after those of the request."""
    end = max((note[1] for note in body["notes"]), default=0.0)
    started = time.perf_counter()
    connection.request("POST", "/api/generate", json.dumps(body))
    response = connection.getresponse()
    found = None
    while line := response.readline():
        if line.startswith(b"data: "):
            notes = json.loads(line[6:]).get("pieces", [[]])[0]
            if found is None and any(note[0] >= end - 0.5 for note in notes[len(body["notes"]) :]):
                found = time.perf_counter() - started
    assert found is not None, line
    return found


def generated(connection: http.client.HTTPConnection, model: str) -> list[list[float]]:
    """The notes of a piece of `SECONDS` by the model."""
    body = {"model": model, "settings": {"n": 1, "seed": 1}, "seconds": SECONDS}
    connection.request("POST", "/api/generate", json.dumps(body))
    *_, last = connection.getresponse().read().decode().strip().split("\n\n")
    return json.loads(last.split("data: ")[1])["pieces"][0]


def studio(folder: str) -> tuple[subprocess.Popen[str], int]:
    """A studio with a free port."""
    command = [sys.executable, "-m", "musegen", "studio", "open=false", f"out={folder}/kept"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    address = re.search(r":(\d+)/", process.stdout.readline())
    assert address is not None
    return process, int(address[1])


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        notes = {}
        for model in MODELS:
            process, port = studio(folder)
            try:
                connection = http.client.HTTPConnection("127.0.0.1", port)
                notes[model] = generated(connection, model)
            finally:
                process.terminate()
                process.wait()
        process, port = studio(folder)
        try:
            connection = http.client.HTTPConnection("127.0.0.1", port)
            for model in MODELS:
                body = {"model": model, "settings": {"n": 1}, "notes": notes[model], "seconds": 8}
                print(
                    f"{model}: first sound after {first_sound(connection, body):.2f} s, loading it"
                )
                times = [first_sound(connection, body) for _ in range(REPEATS)]
                median, most = statistics.median(times), max(times)
                print(f"{model}: first sound after {median:.2f} s (median), {most:.2f} s at most")
        finally:
            process.terminate()
            process.wait()


if __name__ == "__main__":
    main()
