"""A job of a sweep: its failure does not end the other jobs."""

from __future__ import annotations

import signal
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

from musegen.cli.console import one_line_errors, quiet
from musegen.errors import UserError
from musegen.runtime.distributed import end_with_parent

STOPPED = (128 + signal.SIGINT, 128 + signal.SIGTERM)
"""Exit codes of a job that was asked to stop."""


class JobFailed(UserError):
    """The failure of a job, which the sweep prints, and exits with, after its other jobs."""

    def __init__(self, message: str, code: int = 1) -> None:
        super().__init__(message)
        self.code = code


@contextmanager
def isolate_failures(job: str, own_process: bool) -> Iterator[None]:
    """Print an error of the job at once, and raise it as a `JobFailed`.

    Hydra keeps an exception until all jobs are done. An exit would end the sweep; in a job with
    its `own_process`, which a launcher has started, it would look like the death of that process.
    So only a job in the sweep's process exits, and only if it was asked to stop.
    """
    if own_process:
        quiet()  # this process has not called main()
        end_with_parent()  # joblib's processes would continue without the sweep
    try:
        with one_line_errors():
            yield
    except SystemExit as e:
        code = e.code if isinstance(e.code, int) else 1
        if code in STOPPED and not own_process:
            raise
        raise JobFailed(f"{job}: {e.__cause__ or f'exit code {code}'}", code) from None
    except Exception as e:
        traceback.print_exc(file=sys.stderr)
        raise JobFailed(f"{job}: {type(e).__name__}: {e}") from None
