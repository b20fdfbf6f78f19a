"""The CPU threads that torch computes with."""

from __future__ import annotations

import sys
from collections.abc import MutableMapping

TRUE = ("true", "1", "yes", "on")
"""What the OpenMP libraries of GNU and LLVM read as true, in upper or lower case."""


def switch_off_dynamic_threads(environment: MutableMapping[str, str]) -> None:
    """Set OMP_DYNAMIC to false in the environment if it is true, and print one line about it.

    It lets OpenMP start fewer threads than a program asks for. oneDNN's kernels have a part of
    the result computed by each thread that they asked for, so that parts are missing: the sums of
    an LSTM's output and gradient are wrong by a third or more, and no error is raised. OpenMP
    reads the variable when torch is imported, so call this before.
    """
    if environment.get("OMP_DYNAMIC", "").strip().lower() in TRUE:
        environment["OMP_DYNAMIC"] = "false"
        print(
            "musegen: OMP_DYNAMIC is switched off, because torch computes wrong numbers with it",
            file=sys.stderr,
        )


def describe_threads() -> str:
    """The number of threads in words, e.g. "2 threads"."""
    import torch  # `switch_off_dynamic_threads` is called before torch is imported

    n = torch.get_num_threads()
    return f"{n} thread{'s' if n > 1 else ''}"
