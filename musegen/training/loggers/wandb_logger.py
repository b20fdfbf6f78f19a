"""Weights & Biases runs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pytorch_lightning.loggers import WandbLogger
from pytorch_lightning.utilities import rank_zero_only

from musegen.errors import UserError
from musegen.training.lightning_compat import (
    has_experiment,
    set_experiment,
    wandb_init_arguments,
)
from musegen.training.loggers.media import MediaLog


class WandB(WandbLogger):
    """A Weights & Biases run. One run folder is one W&B run: a resumed run continues its own.

    - mode: `online` needs an API key; `offline` needs neither an account nor a network, and
      `wandb sync` uploads an offline run later.
    - project, entity, group, tags, name, notes: as in `wandb.init`; the default name is the end
      of the run folder's path.
    - log_model: keep the best and the last checkpoint as an artifact, also when offline.

    Raises `UserError` if `online` has no key, or the server refuses the key.
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
            # Lightning's `offline` would stay in the environment for later jobs, and its
            # `log_model` refuses to work offline.
            mode=mode,
            entity=entity,
            group=group,
            tags=list(tags),
            notes=notes,
        )
        # Lightning always passes this argument, and W&B warns that it has no effect.
        wandb_init_arguments(self).pop("anonymous", None)
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
        # W&B cannot show MIDI files; it keeps them as an artifact.
        self._keep("midi", "samples", media.with_suffix(".mid"), media.moment)

    @rank_zero_only
    def finish(self, exit_code: int) -> None:
        """End the W&B run if it has started; the next job of a sweep then starts a new one.

        Any exit code but 0 is recorded as a failure.
        """
        if not has_experiment(self):
            return
        try:
            if self.keeps_checkpoints:
                paths = sorted((self.folder / "checkpoints").glob("*.ckpt"))
                self._keep("checkpoints", "model", paths, "final")
        finally:
            self.experiment.finish(exit_code)
            set_experiment(self, None)

    def _keep(self, name: str, kind: str, files: Sequence[Path], alias: str) -> None:
        """Log the files as a new version of this run's artifact with that name."""
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
        has_key = wandb.login(prompt=False)
    except wandb.Error as e:
        raise UserError(
            f"logger.wandb: {' '.join(str(e).split())}; check WANDB_API_KEY and the network, or "
            "write logger.wandb.mode=offline"
        ) from e
    if not has_key:
        raise UserError(
            "logger.wandb: no API key; set WANDB_API_KEY, run `wandb login`, or write "
            "logger.wandb.mode=offline"
        )
