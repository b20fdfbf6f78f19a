"""The log-likelihood of an RBM during training."""

from __future__ import annotations

import pytorch_lightning as pl

from musegen.constraints import NonNegativeInt, PositiveInt, check_arguments
from musegen.models.rbm import RBM
from musegen.runtime.distributed import single_process
from musegen.training.lightning_compat import required_datamodule


class RBMLikelihood(pl.Callback):
    """Logs the metrics of `RBM.assess` on the validation split, `val/log_likelihood`, ….

    - every: epochs between two estimates; null for none.
    - chains, reverse_rows, schedule: as in `assess`; by default a tenth of its AIS steps.

    Raises `UserError` for a setting outside its range.
    """

    scores = (
        "log_likelihood",
        "log_z",
        "log_z_error",
        "effective_chains",
        "log_likelihood_raise",
        "log_z_reverse",
        "log_z_reverse_error",
    )
    """The metrics of `RBM.assess`, which it logs for the validation split."""

    @check_arguments
    def __init__(
        self,
        every: PositiveInt | None = None,
        chains: NonNegativeInt = 100,
        reverse_rows: NonNegativeInt = 0,
        schedule: tuple[tuple[int, float], ...] = ((50, 0.5), (400, 0.9), (1000, 1.0)),
    ) -> None:
        self.every, self.chains = every, chains
        self.reverse_rows, self.schedule = reverse_rows, schedule

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        required_datamodule(trainer, "RBMLikelihood")

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, RBM)
        if not self.every or (trainer.current_epoch + 1) % self.every:
            return
        with single_process():
            metrics = pl_module.assess(
                trainer.datamodule,  # type: ignore[attr-defined]
                split="val",
                chains=self.chains,
                reverse_rows=self.reverse_rows,
                schedule=self.schedule,
            )
        for name, value in metrics.items():
            pl_module.log(f"val/{name}", value, sync_dist=True)
