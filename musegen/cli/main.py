"""The `musegen` command: one subcommand per module of `musegen.cli`."""

from __future__ import annotations

import importlib
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from musegen.errors import unknown_name

COMMANDS = {
    "train": "train a model on a data set: musegen train model=lstm_midi data=mozart",
    "generate": "generate new samples from a run or a checkpoint",
    "evaluate": "compute the test metrics of a run again, on its own data or on other data",
    "report": "write the page of a run, or of several runs side by side",
    "export": "write a model for other programs, or to share: safetensors, ONNX, TorchScript",
    "publish": "write a model with its card to the Hugging Face Hub",
    "list": "list the models, data sets, experiments, runs and pretrained models",
    "new": "write a folder with a model or a data set of your own to start from",
    "completion": "print the completion script of bash, zsh or fish",
    "sweep": "search for good settings with Optuna",
    "critic": "train a critic that chooses among the continuations of generated piano-rolls",
    "dissect": "show what a char_rnn computes while it reads one string",
    "studio": "open a page that generates, edits and rewrites music with trained models",
    "count": "test up to which n a char_rnn predicts the strings of a grammar, e.g. 0ⁿ1ⁿ",
}


def main() -> None:
    """`musegen COMMAND key=value …`, also as `python -m musegen COMMAND key=value …`."""
    arguments = sys.argv[1:]
    if not arguments or arguments[0] in ("-h", "--help"):
        print(usage())
        sys.exit(0 if arguments else 2)
    command = arguments[0]
    if command not in COMMANDS:
        print(f"musegen: {unknown_name(command, command, COMMANDS, 'command')}", file=sys.stderr)
        sys.exit(2)
    sys.argv = [f"{sys.argv[0]} {command}", *arguments[1:]]
    with one_line_interrupts():
        module = importlib.import_module(f"musegen.cli.{command}")
    module.main()


@contextmanager
def one_line_interrupts() -> Iterator[None]:
    """While this program is imported, let Ctrl-C end it with one line.

    An exception would be printed with a traceback by some of the imported libraries, or lost.
    """
    catch_interrupts()
    try:
        yield
    finally:
        release_interrupts()


def catch_interrupts() -> None:
    """From here on, let Ctrl-C end this program with one line, if it raises KeyboardInterrupt."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _end)


def release_interrupts() -> None:
    """Let Ctrl-C raise KeyboardInterrupt again after `catch_interrupts`."""
    if signal.getsignal(signal.SIGINT) is _end:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _end(*_: object) -> None:
    print("musegen: interrupted", file=sys.stderr, flush=True)
    os._exit(130)


def usage() -> str:
    """The subcommands, one line each."""
    width = max(map(len, COMMANDS))
    rows = [f"  {name:<{width}}  {summary}" for name, summary in COMMANDS.items()]
    return "\n".join(
        [
            "usage: musegen COMMAND key=value …",
            "",
            *rows,
            "",
            "musegen COMMAND --help lists the settings of a command.",
        ]
    )
