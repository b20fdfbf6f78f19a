"""Fixtures: small pieces, the real data if MUSEGEN_DATA is set, and calls of the commands."""

from __future__ import annotations

import gc
import hashlib
import itertools
import logging
import os
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import settings

from musegen.codecs.midi import NOTES, write_notes

ROOT = Path(__file__).parent.parent
torch.set_num_threads(1)  # tests run in parallel, and their networks are tiny
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell ignores Ctrl-C in what it starts in the background, and so would our processes.
    signal.signal(signal.SIGINT, signal.default_int_handler)
settings.register_profile("busy", deadline=None)  # a slow or busy computer is no error
settings.load_profile("busy")
# Trackio reads it when it is imported, so it cannot be set for each test.
os.environ["TRACKIO_DIR"] = tempfile.mkdtemp()


def max_cpu_seconds() -> float:
    """The CPU time that reading a small file may take on this computer, at its present load.

    It is a hundred times what SHA-256 needs for 64 MiB: a limit in seconds would be exceeded on a
    slow or busy computer.
    """
    started = time.process_time()
    hashlib.sha256(bytes(64 << 20))
    return 100 * (time.process_time() - started)


def make_notes(rows: list[tuple[float, float, int, int]]) -> np.ndarray:
    """(start, end, pitch, velocity) rows as a `NOTES` array."""
    return np.array(rows, NOTES)


def tune(seed: int, n: int = 40) -> np.ndarray:
    """A tune of n notes; each seed gives another key and rhythm."""
    rng = np.random.default_rng(seed)
    steps = np.cumsum(rng.choice([0.125, 0.25, 0.5], n))
    pitches = 50 + seed + rng.choice([0, 2, 4, 5, 7, 9, 11, 12], n)
    velocities = rng.integers(30, 110, n)
    rows = zip(np.r_[0.0, steps[:-1]], steps, pitches, velocities, strict=True)
    return make_notes([(float(a), float(b), int(p), int(v)) for a, b, p, v in rows])


class Server(ThreadingHTTPServer):
    """A server that prints nothing when a client closes the connection, as W&B's client may."""

    def handle_error(self, request: object, client_address: object) -> None:
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


@contextmanager
def serving(handler: type[BaseHTTPRequestHandler]) -> Iterator[str]:
    """A server on the loopback interface; yields its address."""
    server = Server(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def pytest_collection_finish() -> None:
    """Let the garbage collector leave out what was imported: it is most of what there is."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def new_caches(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Empty folders. `mktemp` would look at those of all earlier tests before it makes one."""
    folder = tmp_path_factory.mktemp("caches")
    return (folder / str(n) for n in itertools.count())


@pytest.fixture(autouse=True)
def own_cache(new_caches: Iterator[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """Give each test its own cache, so that none uses the user's."""
    cache = next(new_caches)
    cache.mkdir()
    monkeypatch.setenv("MUSEGEN_CACHE", str(cache))


@contextmanager
def log_handlers_restored() -> Iterator[None]:
    """Undo what Hydra does to the root logger.

    Its handlers write to the standard error of the test that ran Hydra, which is closed by then: a
    warning of a later test would end in logging's own error message.
    """
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    try:
        yield
    finally:
        for handler in root.handlers[:]:
            if type(handler) is logging.StreamHandler and handler not in before:
                root.removeHandler(handler)
        root.setLevel(level)


@pytest.fixture(autouse=True)
def own_log_handlers() -> Iterator[None]:
    """Undo what Hydra does to the root logger in each test."""
    with log_handlers_restored():
        yield


@pytest.fixture
def midi_folder(tmp_path: Path) -> Path:
    """Six different tunes as MIDI files, one in a subfolder."""
    folder = tmp_path / "midi"
    (folder / "more").mkdir(parents=True)
    for i in range(6):
        write_notes(tune(i), folder / ("more" if i == 5 else "") / f"tune{i}.mid")
    return folder


def quartet_folders(root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Tunes in the place of the corpus's scores, for `data=quartets` and `data=mozart`.

    root/COMPOSER has four tunes by Beethoven, four by Haydn and nine by Mozart.
    """
    numbers = {"beethoven": range(4), "haydn": range(4, 8), "mozart": range(8, 17)}
    for composer, seeds in numbers.items():
        (root / composer).mkdir(parents=True)
        for i in seeds:
            write_notes(tune(i), root / composer / f"{i}.mid")
    convert = "datamodules.quartets.convert_composer"
    monkeypatch.setattr(convert, lambda composer, cache, in_parallel: root / composer)
    convert = "datamodules.message_streams.convert_mozart"
    monkeypatch.setattr(convert, lambda cache, in_parallel: root / "mozart")
    return root


@pytest.fixture
def cli(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    """Call a command in this process; returns (exit code, stdout, stderr)."""

    def call(main: Callable[[], None], *arguments: str) -> tuple[int, str, str]:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", ["musegen", *map(str, arguments)])
        capfd.readouterr()
        code = 0
        try:
            main()
        except SystemExit as stop:
            code = int(stop.code or 0)
        out, err = capfd.readouterr()
        return code, out, err

    return call


@pytest.fixture
def real_data() -> Path:
    """The folder of real data sets; the test is skipped unless MUSEGEN_DATA is set to it."""
    folder = os.environ.get("MUSEGEN_DATA")
    if not folder or not Path(folder).is_dir():
        pytest.skip("MUSEGEN_DATA is not set to the folder with the real data sets")
    return Path(folder).resolve()


@pytest.fixture
def two_processes(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Call it with a rank: `this_rank` is then (rank, 2), without a second process."""

    def pretend(rank: int) -> None:
        monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
        monkeypatch.setattr(torch.distributed, "get_rank", lambda *_: rank)
        monkeypatch.setattr(torch.distributed, "get_world_size", lambda *_: 2)

    return pretend


@pytest.fixture
def near_matches() -> Iterator[None]:
    """Longest matches that end just before their context, as there are in short pieces."""
    from musegen.models.layers import longest_match

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(longest_match, "LEAST_LAG", 1)
        yield
