"""What a model made at one moment of its training, and the loggers that can show it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol, runtime_checkable

from pytorch_lightning.loggers import Logger


class MediaLog(NamedTuple):
    """What a model made at one moment of its training, or after it.

    - files: pictures (.png), sounds (.wav) and scores (.mid) in the run folder; the stem of the
      name says which sample it is.
    - texts: strings, each with its label in front where there are labels.
    - final: made after training by the best weights. Loggers keep these under names of their
      own, since they are other pieces than the previews, and longer.
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
        """What loggers file it under."""
        return f"final/{kind}" if self.final else kind

    @property
    def moment(self) -> str:
        """The alias of its artifacts."""
        return "final" if self.final else f"epoch_{self.epoch}"

    @property
    def columns(self) -> list[str]:
        """Headings for `texts`."""
        return ["label", "text"] if len(self.texts[0]) == 2 else ["text"]


@runtime_checkable
class SupportsMedia(Protocol):
    """A logger that has a form for samples."""

    def log_media(self, media: MediaLog) -> None: ...


@runtime_checkable
class SupportsTruncate(Protocol):
    """A logger that can take back what an interrupted run wrote after its last checkpoint."""

    def truncate(self, step: int, rows: int) -> None:
        """Back to when `step` updates had been made, and `rows` rows written."""


def log_media(loggers: Iterable[Logger], media: MediaLog) -> None:
    """Show a media to every logger that has a form for it."""
    for logger in loggers:
        if isinstance(logger, SupportsMedia):
            logger.log_media(media)
