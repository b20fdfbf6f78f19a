"""A job of a sweep: in this process or in one that a launcher began, it fails alone."""

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
    """What the sweep says, and exits with, when its other jobs are done."""

    def __init__(self, said: str, code: int = 1) -> None:
        super().__init__(said)
        self.code = code


@contextmanager
def isolate_failures(job: str, elsewhere: bool) -> Iterator[None]:
    """What is wrong with a job is told where it runs, and raised as a `JobFailed`.

    Hydra keeps an exception until all jobs are done; an exit would end the sweep, or, where the
    job runs `elsewhere`, in a process of a launcher, be taken for that process's death. So only
    a job in the sweep's own process ends it when it is asked to stop.
    """
    if elsewhere:
        quiet()  # such a process has not gone through main()
        end_with_parent()  # joblib's would go on
    try:
        with one_line_errors():
            yield
    except SystemExit as e:
        code = e.code if isinstance(e.code, int) else 1
        if code in STOPPED and not elsewhere:
            raise
        raise JobFailed(f"{job}: {e.__cause__ or f'exit code {code}'}", code) from None
    except Exception as e:
        traceback.print_exc(file=sys.stderr)
        raise JobFailed(f"{job}: {type(e).__name__}: {e}") from None
