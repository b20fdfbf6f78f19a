"""What every model of this house shares: hyper-parameters, one training step, one evaluation."""

from __future__ import annotations

import inspect
import math
from abc import abstractmethod
from collections.abc import Sequence
from functools import reduce
from typing import Any, ClassVar

import numpy as np
import pytorch_lightning as pl
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only
from torchmetrics import Metric

from musegen.contracts import PairingError, Spec, UserError, spec_from_dict
from musegen.optim import Optimizer
from musegen.ranks import summed, this_rank

SEED_STRIDE = 0x9E3779B1
"""2³² over the golden ratio, odd: seeds of neighbouring updates lie far apart."""


class Seen:
    """An update's loss, on its way to the CPU."""

    def __init__(self, loss: Tensor, batch_idx: int) -> None:
        self.batch_idx = batch_idx
        self._loss = loss.detach()
        self._arrived: torch.cuda.Event | None = None
        if loss.is_cuda:
            # `item` would wait for all that the GPU has been given by then.
            self._loss = self._loss.to("cpu", non_blocking=True)
            self._arrived = torch.cuda.Event()
            self._arrived.record()

    def value(self) -> float:
        """Waits for this update's forward pass, and for no other."""
        if self._arrived is not None:
            self._arrived.synchronize()
        return self._loss.item()


class Model(pl.LightningModule):
    """A generative model: `losses` teaches it, `score` measures it, `generate` lets it speak.

    Subclasses take every size from the spec and call `self.remember()` in their constructor.
    What is saved in a checkpoint is plain (numbers, strings, lists, dicts) and loads with
    `weights_only=True`; `load_from_checkpoint` gives the model back without its data.
    """

    name: ClassVar[str]
    """Its name in conf/model and in checkpoints."""
    reads: ClassVar[tuple[type[Spec], ...]]
    """The kinds of data it can be paired with."""
    codec_type: ClassVar[type | None] = None
    fits_16_bits: ClassVar[bool] = True
    """Whether its weights may be kept in 16 bits, as by `trainer.precision=bf16-true`."""
    monitor: ClassVar[tuple[str, str]] = ("val/nats", "min")
    """The score that decides which checkpoint is best, and whether it is a "min" or a "max"."""

    def __init__(self, spec: Spec | dict[str, Any], codec: Any = None) -> None:
        super().__init__()
        self.spec = spec_from_dict(spec) if isinstance(spec, dict) else spec
        if not isinstance(self.spec, self.reads):
            kinds = " or ".join(s.__name__ for s in self.reads)
            raise PairingError(
                f"{self.name} reads {kinds}, but the data yields {type(self.spec).__name__}"
            )
        self.codec = (
            self.codec_type(**codec) if self.codec_type and isinstance(codec, dict) else codec
        )
        self.optimizer = Optimizer()
        self._noted: dict[str, tuple[Tensor, int | Tensor]] = {}
        self._stream = 0
        self._seen: Seen | None = None
        """The last update's loss."""
        self.val_metric = self.new_metric()
        self.test_metric = self.new_metric()

    def remember(self) -> None:
        """Save the calling constructor's arguments, spec and codec as plain values."""
        caller = inspect.currentframe().f_back  # type: ignore[union-attr]
        # Loggers are given the whole config instead.
        self.save_hyperparameters(ignore=["spec", "codec"], frame=caller, logger=False)
        self.hparams.update(
            name=self.name,
            spec=self.spec.to_dict(),
            codec=self.codec.to_dict() if self.codec is not None else None,
        )

    @abstractmethod
    def losses(self, batch: Any) -> dict[str, Tensor]:
        """Named parts of the training loss; `backward()` on their sum is the update."""

    @abstractmethod
    def new_metric(self) -> Metric:
        """What accumulates `score` over a split; its `compute` gives a dict of named figures."""

    @abstractmethod
    def score(self, batch: Any, metric: Metric, stage: str) -> None:
        """Update `metric` with one batch of the `val` or `test` split."""

    @abstractmethod
    def generate(self, *args: Any, **settings: Any) -> Sequence[Any]:
        """New samples; `musegen.render.files.WRITERS` says what each kind of spec expects."""

    def filters(self) -> np.ndarray | None:
        """(H, D): what each hidden unit looks for in a frame, for models that have such units."""
        return None

    def assess(self, data: Any) -> dict[str, float]:
        """Figures of the test split that no pass over its batches gives, e.g. log Z by AIS."""
        return {}

    def steps(self, batch: Any) -> int | Tensor:
        """How many predictions a batch holds, the weight of its loss in the epoch's mean.

        A tensor, where the CPU would have to wait for a GPU's count.
        """
        return len(batch[0])

    def __setattr__(self, name: str, value: Any) -> None:
        # Lightning notes the hook it is in 44 times an update, and torch asks each time whether
        # that is a parameter or a module: more than a twentieth of a small net's update.
        if name == "_current_fx_name":
            self.__dict__[name] = value
        else:
            super().__setattr__(name, value)

    # --- What a resumed run needs beside weights and optimiser --------------------------------

    def training_state(self) -> dict[str, Any]:
        """What this process carries from update to update: plain values and tensors.

        Subclasses add their own: persistent chains, the state carried along a piece.
        """
        return {"noted": dict(self._noted)}

    def load_training_state(self, state: dict[str, Any]) -> None:
        """The inverse of `training_state`."""
        self._noted = {name: (total, count) for name, (total, count) in state["noted"].items()}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the training state of every process, where the optimiser's is saved too."""
        if "optimizer_states" not in checkpoint:
            return
        own = tree_map_only(Tensor, lambda t: t.detach().cpu().clone(), self.training_state())
        states: list[Any] = [own]
        if (world := this_rank()[1]) > 1:
            states = [None] * world
            dist.all_gather_object(states, own)
        checkpoint["processes"] = states

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        states = checkpoint.get("processes")
        if states:
            # More processes than before: theirs start as copies and part with the first draw.
            own = states[self.global_rank % len(states)]
            self.load_training_state(tree_map_only(Tensor, lambda t: t.to(self.device), own))

    # --- Training -----------------------------------------------------------------------------

    def on_train_start(self) -> None:
        words = np.random.SeedSequence([torch.initial_seed(), self.global_rank])
        self._stream = int(words.generate_state(1)[0])

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Make what this update draws a function of (seed, rank, number of the batch).

        Chains and dropout then differ between ranks, and a resumed run draws what it would have
        drawn: no random stream needs saving.
        """
        # An odd stride visits all 2³² seeds of torch's generator before one comes twice.
        done = self.trainer.fit_loop.total_batch_idx
        seed = (self._stream + done * SEED_STRIDE) % 2**32
        if self.device.type == "cuda":
            torch.cuda.manual_seed(seed)
        torch.default_generator.manual_seed(seed)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        parts = self.losses(batch)
        loss = reduce(torch.add, parts.values())
        self._check(loss, batch_idx)
        steps = self.steps(batch)
        self.note(steps, loss=loss, **(parts if len(parts) > 1 else {}))
        trainer = self.trainer
        if trainer.is_last_batch or trainer.global_step + 1 == trainer.max_steps:
            self._log_noted()
        share = self._share(steps)
        return loss if share == 1 else loss * share

    # Lightning reads the signature in every update; made once, it is found at once.
    training_step.__signature__ = inspect.signature(training_step)  # type: ignore[attr-defined]

    def _check(self, loss: Tensor, batch_idx: int) -> None:
        """Stop before a loss that is no number moves the weights; on a GPU one update later.

        To look at it there at once would let the GPU wait for the CPU in every update.
        """
        last, self._seen = self._seen, Seen(loss, batch_idx)
        if last is None or not loss.is_cuda:
            last = self._seen
        index = last.batch_idx
        if not math.isfinite(last.value()):
            step = self.trainer.global_step - (index != batch_idx)
            data: Any = getattr(self.trainer, "datamodule", None)
            pieces = "of unknown pieces" if data is None else data.pieces_of(index)
            raise UserError(
                f"the loss is not finite at update {step:,} (epoch {self.current_epoch + 1}, "
                f"batch {index}: {pieces}); a smaller optimizer.lr or trainer.gradient_clip_val "
                f"may help, and the last good checkpoint is {self.trainer.default_root_dir}"
                "/checkpoints/last.ckpt"
            )

    def _share(self, steps: int | Tensor) -> float:
        """What makes DDP's mean over processes the mean over all predictions of their batches."""
        world = this_rank()[1]
        if world == 1:
            return 1.0
        every = summed(torch.tensor(float(steps), device=self.device))
        return float(steps) * world / max(1.0, float(every))

    def note(self, weight: int | Tensor, **figures: Tensor) -> None:
        """Count figures of a training batch, means over `weight` predictions, towards the epoch's.

        Their means are logged as `train/…` with the epoch's last batch. A small net's update
        takes a few milliseconds, and `self.log` in each would be a good part of it.
        """
        for name, value in figures.items():
            total, count = self._noted.get(name, (torch.zeros_like(value), 0))
            self._noted[name] = (total.add_(value.detach() * weight), count + weight)

    def _log_noted(self) -> None:
        for name, (total, count) in self._noted.items():
            steps = torch.ones_like(total, dtype=torch.float64) * count
            both = summed(torch.stack([total.double(), steps]))
            mean = both[0] / both[1].clamp_min(1)
            self.log(f"train/{name}", mean, on_step=False, on_epoch=True, batch_size=1)
        self._noted = {}

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.score(batch, self.val_metric, "val")

    def test_step(self, batch: Any, batch_idx: int) -> None:
        self.score(batch, self.test_metric, "test")

    def on_validation_epoch_end(self) -> None:
        self._report(self.val_metric, "val")

    def on_test_epoch_end(self) -> None:
        self._report(self.test_metric, "test")

    def _report(self, metric: Metric, stage: str) -> None:
        figures = {f"{stage}/{name}": value for name, value in metric.compute().items()}
        metric.reset()
        # Equal on all ranks already; float64, since in float32 the last digits would go.
        self.log_dict({k: v.double() for k, v in figures.items()}, sync_dist=True)

    def rates(self) -> dict[nn.Parameter, float]:
        """Parameters whose learning rate is a multiple of the optimiser's."""
        return {}

    def configure_optimizers(self) -> Any:
        return self.optimizer.configure(
            self.parameters(),
            # Asked now, the trainer would begin the epoch before a resumed run knows its place.
            lambda: int(self.trainer.estimated_stepping_batches),
            *self.monitor,
            rates=self.rates(),
        )
