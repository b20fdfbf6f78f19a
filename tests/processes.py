"""Commands in processes of their own, each forked from one that has imported musegen.

A new Python needs seconds to import torch and Lightning. Tests of what happens between processes
fork theirs instead; tests of the start itself begin with `sys.executable`.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

import torch

from musegen.cli import main as musegen_main
from musegen.cli import train

HANG = 1800
"""Seconds after which a process counts as hanging; far more than it needs on a busy computer."""
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["tests.processes", "tests.conftest", "matplotlib.pyplot"])


class Command:
    """`musegen ARGUMENTS` or `python train.py ARGUMENTS` in a folder, in a process of its own.

    What it prints goes to files, because a pipe cannot be handed to the fork server. The methods
    are those of `subprocess.Popen`. In its `environment` are also the variables of this process.
    """

    def __init__(
        self, program: str, folder: Path, *arguments: object, own_group: bool = False,
        **environment: str,
    ) -> None:  # fmt: skip
        self.printed = tempfile.TemporaryDirectory()
        self.out, self.err = (Path(self.printed.name) / name for name in ("out.txt", "err.txt"))
        for path in (self.out, self.err):
            path.touch()
        argv = [program, *map(str, arguments)]
        variables = {**os.environ, "OMP_NUM_THREADS": "1", **environment}
        self.process = PROCESSES.Process(
            target=_call, args=(argv, folder, variables, self.out, self.err, own_group)
        )
        self.process.start()
        assert self.process.pid is not None
        self.pid: int = self.process.pid

    @property
    def returncode(self) -> int | None:
        """The exit code, or minus the signal that ended the process."""
        return self.process.exitcode

    def poll(self) -> int | None:
        """The exit code; None while the process runs."""
        return self.process.exitcode

    def send_signal(self, number: int) -> None:
        """Send a signal to this process only."""
        os.kill(self.pid, number)

    def terminate(self) -> None:
        """Ask the process to end."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """End the process at once, if it has not ended."""
        self.process.kill()

    def communicate(self, timeout: float = HANG) -> tuple[str, str]:
        """Wait for the end; returns what was printed to stdout and to stderr."""
        self.process.join(timeout)
        if self.process.exitcode is None:
            self.kill()
            raise subprocess.TimeoutExpired(self.process.name, timeout, self.out.read_text())
        return self.out.read_text(), self.err.read_text()


def _call(
    argv: list[str], folder: Path, environment: Mapping[str, str], out: Path, err: Path,
    own_group: bool,
) -> None:  # fmt: skip
    """Become the program; the target of the new process."""
    if own_group:
        os.setpgrp()
    for number, path in ((1, out), (2, err)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_APPEND), number)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    sys.argv = argv
    torch.set_num_threads(1)
    # Loader workers that the fork server starts would survive when their parent is killed.
    multiprocessing.set_start_method("fork", force=True)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    (train.main if argv[0].endswith("train.py") else musegen_main.main)()
