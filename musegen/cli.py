"""Entry points: `key=value` arguments, one line for a user's mistake, a traceback for ours."""

from __future__ import annotations

import logging
import os
import select
import signal
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from omegaconf import OmegaConf

from musegen.build import readable
from musegen.contracts import UserError


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Print what the user can mend as one line, and exit; let everything else through.

    The exit code is 1, or the error's own `code`.
    """
    try:
        yield
        sys.stdout.flush()
    except Exception as error:
        if isinstance(error, BrokenPipeError) and _reader_is_gone():
            raise SystemExit(128 + signal.SIGPIPE) from None
        problem = error if isinstance(error, UserError) else readable(error)
        if problem is None and isinstance(error, OSError) and error.filename:
            problem = UserError(f"{error.filename}: {error.strerror}")
        if problem is None or os.environ.get("MUSEGEN_TRACEBACK"):
            raise
        print(f"musegen: {problem}", file=sys.stderr)
        raise SystemExit(getattr(problem, "code", 1)) from problem
    except KeyboardInterrupt:
        print("musegen: interrupted", file=sys.stderr)
        sys.exit(130)


def _reader_is_gone() -> bool:
    """Whether what is printed goes nowhere any more, as after `| head`."""
    poll = select.poll()
    poll.register(sys.stdout, 0)
    if not poll.poll(0):
        return False
    # Python flushes once more at its end, and would complain.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return True


def key_values(arguments: list[str]) -> dict[str, Any]:
    """`["n=4", "run=runs/x"]` → {"n": 4, "run": "runs/x"}, values read as YAML.

    `--help` is left out: what is then missing is answered by how to call the program.
    """
    arguments = [a for a in arguments if a not in ("-h", "--help")]
    for argument in arguments:
        if "=" not in argument:
            raise UserError(f"cannot read {argument!r}: write key=value")
    try:
        plain = OmegaConf.to_container(OmegaConf.from_dotlist(arguments))
    except Exception as e:
        raise UserError(f"cannot read {' '.join(arguments)!r}: write key=value ({e})") from e
    assert isinstance(plain, dict)
    return {str(k): v for k, v in plain.items()}


def quiet() -> None:
    """Keep Lightning's advice on matters that are settled here out of the user's way."""
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
