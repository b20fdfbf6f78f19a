"""For all commands: `key=value` arguments, and one line for a mistake of the user."""

from __future__ import annotations

import logging
import os
import select
import signal
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from musegen.cli.main import release_interrupts
from musegen.config.error_messages import as_user_error
from musegen.errors import UserError


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Print an error that the user can fix as one line, and exit; let other errors through.

    The exit code is 1, or the error's own `code`. With MUSEGEN_TRACEBACK set, no error is reduced
    to a line.
    """
    release_interrupts()
    try:
        yield
        sys.stdout.flush()
    except Exception as error:
        if isinstance(error, BrokenPipeError) and _stdout_is_closed():
            raise SystemExit(128 + signal.SIGPIPE) from None
        problem = error if isinstance(error, UserError) else as_user_error(error)
        if problem is None and isinstance(error, OSError) and error.filename:
            problem = UserError(f"{error.filename}: {error.strerror}")
        if problem is None or os.environ.get("MUSEGEN_TRACEBACK"):
            raise
        print(f"musegen: {problem}", file=sys.stderr)
        raise SystemExit(getattr(problem, "code", 1)) from problem
    except KeyboardInterrupt:
        print("musegen: interrupted", file=sys.stderr)
        sys.exit(130)


def _stdout_is_closed() -> bool:
    """Whether nothing reads stdout any more, as after `| head`."""
    poll = select.poll()
    poll.register(sys.stdout, 0)
    if not poll.poll(0):
        return False
    # Python flushes stdout when it exits; without this, that would raise the error again.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return True


def key_values(arguments: list[str]) -> dict[str, str]:
    """`["n=4", "run=runs/x"]` → {"n": "4", "run": "runs/x"}, the values as they were typed.

    `-h` and `--help` are left out.
    """
    arguments = [a for a in arguments if a not in ("-h", "--help")]
    for argument in arguments:
        if "=" not in argument:
            raise UserError(f"cannot read {argument!r}: write key=value")
    return {key: value for key, _, value in (a.partition("=") for a in arguments)}


def quiet() -> None:
    """Hide warnings and advice of Lightning that do not apply to musegen."""
    for message in (
        ".*does not have many workers.*",
        ".*GPU available but not used.*",
        ".*exists and is not empty.*",
        ".*smaller than the logging interval.*",
        ".*LeafSpec.*",
        ".*sync_dist=True.*",
        ".*overridden `on_before_batch_transfer` in `LightningModule`.*",
        ".*lr_scheduler.step\\(\\).*before.*optimizer.step.*",
    ):
        warnings.filterwarnings("ignore", message)
    for library in ("pytorch_lightning", "lightning_fabric", "lightning.fabric"):
        logging.getLogger(library).setLevel(logging.WARNING)
