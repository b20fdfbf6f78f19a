"""What loggers may do besides logging metrics: show samples, end a run with its exit code."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, Protocol, runtime_checkable

from pytorch_lightning.loggers import Logger


class MediaLog(NamedTuple):
    """The samples of one moment of the training, or those made after it.

    - files: pictures (.png), sounds (.wav) and scores (.mid) in the run folder; the stem of a
      file's name identifies the sample.
    - texts: generated strings, each after its label if the model has labels.
    - final: made after training, with the best weights. Loggers keep these apart from the
      previews, which are shorter pieces.
    """

    epoch: int
    step: int
    files: Sequence[Path] = ()
    texts: Sequence[tuple[str, ...]] = ()
    final: bool = False

    def with_suffix(self, suffix: str) -> list[Path]:
        """The files of one kind."""
        return [path for path in self.files if path.suffix == suffix]

    def named(self, kind: str) -> str:
        """The name under which loggers keep this kind of sample."""
        return f"final/{kind}" if self.final else kind

    @property
    def moment(self) -> str:
        """The alias of the W&B artifacts."""
        return "final" if self.final else f"epoch_{self.epoch}"

    @property
    def columns(self) -> list[str]:
        """The column headings of `texts`."""
        return ["label", "text"] if len(self.texts[0]) == 2 else ["text"]


@runtime_checkable
class SupportsMedia(Protocol):
    """A logger that can show samples."""

    def log_media(self, media: MediaLog) -> None: ...


@runtime_checkable
class SupportsTruncate(Protocol):
    """A logger that can delete what an interrupted run wrote after its last checkpoint."""

    def truncate(self, step: int, rows: int) -> None:
        """Keep only what was logged in the first `step` updates, the first `rows` CSV rows."""


@runtime_checkable
class SupportsFinish(Protocol):
    """A logger whose run ends with an exit code, after the test and the samples."""

    def finish(self, exit_code: int) -> None: ...


def log_media(loggers: Iterable[Logger], media: MediaLog) -> None:
    """Pass the samples to every logger that can show them."""
    for logger in loggers:
        if isinstance(logger, SupportsMedia):
            logger.log_media(media)


@contextmanager
def finishing(loggers: Iterable[Logger]) -> Iterator[None]:
    """At the end of the block, tell the loggers its exit code: 0, or that of the failure."""
    code = 1
    try:
        yield
        code = 0
    except KeyboardInterrupt:
        code = 130
        raise
    except SystemExit as e:
        code = e.code if isinstance(e.code, int) else 1
        raise
    finally:
        for logger in loggers:
            if isinstance(logger, SupportsFinish):
                logger.finish(code)
