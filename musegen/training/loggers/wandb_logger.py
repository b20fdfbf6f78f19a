"""Weights & Biases runs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from pytorch_lightning.loggers import Logger, WandbLogger
from pytorch_lightning.utilities import rank_zero_only

from musegen.errors import UserError
from musegen.training.loggers.media import MediaLog


class WandB(WandbLogger):
    """A Weights & Biases run. One run folder is one W&B run: a resumed run continues its own.

    - mode: `online` needs a key, `offline` neither account nor network; `wandb sync` brings an
      offline run online.
    - project, entity, group, tags, name, notes: as in `wandb.init`; the name is by default the
      end of the run folder's path.
    - log_model: keep the best and the last checkpoint as an artifact, offline too.

    Raises `UserError` where online has no key or the server does not take it.
    """

    def __init__(
        self,
        folder: Path,
        mode: Literal["online", "offline"] = "online",
        project: str = "musegen",
        entity: str | None = None,
        group: str | None = None,
        tags: tuple[str, ...] = (),
        name: str | None = None,
        notes: str | None = None,
        log_model: bool = False,
    ) -> None:
        # A W&B run's folder is named …run-TIME-ID.
        earlier = next(iter(Path(folder).glob("wandb/*run-*-*")), None)
        super().__init__(
            name or "/".join(Path(folder).parts[-2:]),
            save_dir=folder,
            id=earlier.name.rsplit("-", 1)[1] if earlier else None,
            project=project,
            # Lightning's own `offline` would stay in the environment for the jobs to come, and
            # its `log_model` refuses to be offline.
            mode=mode,
            entity=entity,
            group=group,
            tags=list(tags),
            notes=notes,
        )
        # Lightning passes it on even where nobody set it, and W&B warns that it does nothing.
        self._wandb_init.pop("anonymous", None)
        self.folder, self.keeps_checkpoints = Path(folder), log_model
        if mode == "online":
            _log_in()

    @rank_zero_only
    def log_media(self, media: MediaLog) -> None:
        import wandb

        logged: dict[str, object] = {}
        for path in media.with_suffix(".png"):
            logged[media.named(f"pictures/{path.stem}")] = wandb.Image(str(path))
        for path in media.with_suffix(".wav"):
            logged[media.named(f"audio/{path.stem}")] = wandb.Audio(str(path))
        if media.texts:
            rows = [list(row) for row in media.texts]
            logged[media.named("texts")] = wandb.Table(columns=list(media.columns), data=rows)
        self.log_metrics(logged, media.step)  # type: ignore[arg-type]
        # W&B has no form for MIDI.
        self._keep("midi", "samples", media.with_suffix(".mid"), media.moment)

    @rank_zero_only
    def finish(self, exit_code: int) -> None:
        """End the W&B run, if it has begun, so that the next job of a sweep begins one of its own.

        What is not a success is recorded as a failure with this exit code.
        """
        if self._experiment is None:
            return
        try:
            if self.keeps_checkpoints:
                paths = sorted((self.folder / "checkpoints").glob("*.ckpt"))
                self._keep("checkpoints", "model", paths, "final")
        finally:
            self.experiment.finish(exit_code)
            self._experiment = None

    def _keep(self, name: str, kind: str, files: Sequence[Path], alias: str) -> None:
        """Log files as a version of this run's artifact of that name."""
        import wandb

        if not files:
            return
        artifact = wandb.Artifact(f"{name}-{self.experiment.id}", kind)
        for path in files:
            artifact.add_file(str(path))
        self.experiment.log_artifact(artifact, aliases=[alias])


def _log_in() -> None:
    import wandb

    try:
        known = wandb.login(prompt=False)
    except wandb.Error as e:
        raise UserError(
            f"logger.wandb: {' '.join(str(e).split())}; mend WANDB_API_KEY or the network, or type "
            "logger.wandb.mode=offline"
        ) from e
    if not known:
        raise UserError(
            "logger.wandb: no key; set WANDB_API_KEY, run `wandb login`, or type "
            "logger.wandb.mode=offline"
        )


@contextmanager
def finishing(loggers: Iterable[Logger]) -> Iterator[None]:
    """Tell the W&B run at the end how it ended: 0, or the exit code of the failure."""
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
            if isinstance(logger, WandB):
                logger.finish(code)
