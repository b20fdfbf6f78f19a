"""The base class of all models: hyper-parameters, the training step and the evaluation."""

from __future__ import annotations

import functools
import inspect
import math
from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar

import numpy as np
import pytorch_lightning as pl
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only
from torchmetrics import Metric

from musegen import __version__
from musegen.errors import PairingError, UserError
from musegen.render.shown import Samples, as_samples
from musegen.runtime.distributed import all_reduce_sum, this_rank
from musegen.runtime.random_streams import Stream, seed_default_generators
from musegen.specs import Spec, spec_from_dict
from musegen.training.lightning_compat import CURRENT_HOOK, training_loader
from musegen.training.optimizer import Optimizer


class LossReadback:
    """The loss of one update, copied to the CPU without waiting for the GPU."""

    def __init__(self, loss: Tensor, batch_idx: int) -> None:
        self.batch_idx = batch_idx
        self._loss = loss.detach()
        self._arrived: torch.cuda.Event | None = None
        if loss.is_cuda:
            # `item` would wait for everything that is queued on the GPU.
            self._loss = self._loss.to("cpu", non_blocking=True)
            self._arrived = torch.cuda.Event()
            self._arrived.record()

    def value(self) -> float:
        """The loss. Waits for the forward pass of this update only."""
        if self._arrived is not None:
            self._arrived.synchronize()
        return self._loss.item()


def import_path(cls: type) -> str:
    """The import path of a class, `module.Class`."""
    return f"{cls.__module__}.{cls.__qualname__}"


def _as_samples(generate: Callable[..., Sequence[Any]]) -> Callable[..., Samples]:
    """The same `generate`, with samples that show themselves in Jupyter."""

    @functools.wraps(generate)
    def generate_samples(self: Model, *args: Any, **settings: Any) -> Samples:
        return as_samples(self.spec, generate(self, *args, **settings))

    return generate_samples


MODELS: dict[str, type[Model]] = {}
"""Every model by its name. Subclasses of `Model` register themselves."""


class Model(pl.LightningModule):
    """A generative model: `losses` trains it, `score` evaluates it, `generate` samples from it.

    Subclasses take every size from the spec and call `self.save_settings()` in their constructor.
    A checkpoint holds plain values (numbers, strings, lists, dicts) and loads with
    `weights_only=True`. `load_from_checkpoint` restores the model without its data.

    In a config each model also has this setting:

    - compile: train with the loss compiled by torch.compile; the first updates then take minutes.
    """

    name: ClassVar[str]
    """Its name in conf/model and in checkpoints. A class without a name is named as in Python."""
    reads: ClassVar[tuple[type[Spec], ...]]
    """The kinds of data that it can be paired with."""
    codec_type: ClassVar[type | None] = None
    fits_16_bits: ClassVar[bool] = True
    """Whether its weights may be kept in 16 bits, as by `trainer.precision=bf16-true`."""
    compiles: ClassVar[str | None] = "losses"
    """The method that torch.compile can compile (`model.compile=true`); None if there is none."""
    monitor: ClassVar[tuple[str, str]] = ("val/nll", "min")
    """The metric that decides which checkpoint is best, and whether "min" or "max" is best."""
    scores: ClassVar[tuple[str, ...] | None] = None
    """The metrics that `score` gives on the validation split, so that a `monitor` of another name
    is refused at once. None: they are found out before training, by scoring a batch."""
    train_scores: ClassVar[tuple[str, ...]] = ()
    """The metrics of training that it logs besides `loss`."""
    recorded: ClassVar[frozenset[str]] = frozenset()
    """Settings of the codec that training sets, so that a resumed run may begin without them."""
    need_recorded: ClassVar[frozenset[str]] = frozenset()
    """Settings of `generate` that need them, so that they cannot be tried before training."""
    loss_metric: ClassVar[tuple[int, str] | None] = None
    """(sign, name) of the metric of `score` that the loss is, e.g. (1, "nll"); None if the loss is
    another quantity, as in contrastive divergence."""

    @staticmethod
    def built_with(compile: bool = False) -> None:
        """The settings of every model that its constructor does not have; see `build_model`."""

    def __init_subclass__(cls, abstract: bool = False, **settings: Any) -> None:
        super().__init_subclass__(**settings)
        if "generate" in cls.__dict__:
            cls.generate = _as_samples(cls.generate)  # type: ignore[method-assign]
        if abstract:
            return
        if not hasattr(cls, "name"):
            cls.name = cls.__name__
        if "name" in cls.__dict__:
            MODELS.setdefault(cls.name, cls)  # a class of the user hides none of musegen's

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
        self.initialised = False
        """Whether the weights are those of another run (`init_from`), and no random ones."""
        self.requires_finite_loss = True
        """Whether a loss that is not finite stops the training."""
        self._accumulated: dict[str, tuple[Tensor, int | Tensor]] = {}
        self._seed = 0
        self._last_loss: LossReadback | None = None
        """The last update's loss."""
        self.val_metric = self.new_metric()
        self.test_metric = self.new_metric()

    @contextmanager
    def evaluating(self) -> Iterator[None]:
        """Evaluation mode in this block; afterwards the mode is as it was."""
        training = self.training
        self.eval()
        try:
            yield
        finally:
            self.train(training)

    def save_settings(self) -> None:
        """Save the calling constructor's arguments, spec and codec as plain values."""
        caller = inspect.currentframe().f_back  # type: ignore[union-attr]
        # Loggers are given the whole config instead.
        self.save_hyperparameters(ignore=["spec", "codec"], frame=caller, logger=False)
        self.hparams.update(
            name=self.name,
            import_path=import_path(type(self)),
            musegen_version=__version__,
            spec=self.spec.to_dict(),
            codec=self.codec.to_dict() if self.codec is not None else None,
        )

    @abstractmethod
    def losses(self, batch: Any) -> dict[str, Tensor]:
        """Named scalar parts of the training loss; `backward()` on their sum gives the update."""

    @abstractmethod
    def new_metric(self) -> Metric:
        """The metric that `score` updates over a split. Its `compute` returns metrics by name."""

    @abstractmethod
    def score(self, batch: Any, metric: Metric, stage: str) -> None:
        """Update `metric` with one batch of the `val` or `test` split."""

    @abstractmethod
    def generate(self, *args: Any, **settings: Any) -> Sequence[Any]:
        """New samples, in the form that `musegen.render.samples` writes for the spec.

        Callers get them as `musegen.render.shown.Samples`, a list.
        """

    def weights_from(self, source: Model) -> dict[str, Tensor]:
        """The weights of a trained model of this class, for the data of this model (`init_from`).

        Subclasses select weights if the classes of their data may be a part of the source's. Raises
        `UserError`, with both values, for data that does not fit.
        """
        if source.spec != self.spec:
            raise UserError(f"its data is {source.spec}, but this run's is {self.spec}")
        old, new = (getattr(model.codec, "pitch_range", None) for model in (source, self))
        if old != new:
            raise UserError(f"its data has pitch_range={old}, but this run's has {new}")
        return source.state_dict()

    def filters(self) -> np.ndarray | None:
        """The weights (H, D) of each hidden unit to a frame; None for models without such units."""
        return None

    def assess(self, data: Any) -> dict[str, float]:
        """Test metrics that a pass over the batches does not give, such as log Z by AIS."""
        return {}

    def num_predictions(self, batch: Any) -> int | Tensor:
        """The number of predictions in a batch: the weight of its loss in the epoch's mean.

        A tensor where the CPU would have to wait for a GPU to count them.
        """
        return len(batch[0])

    def __setattr__(self, name: str, value: Any) -> None:
        # Lightning internals: see musegen.training.lightning_compat. Lightning sets this attribute
        # 44 times per update, and torch checks each time whether the value is a parameter or a
        # module. That takes more than 5 % of the time of a small network's update.
        if name == CURRENT_HOOK:
            self.__dict__[name] = value
        else:
            super().__setattr__(name, value)

    # --- What resuming needs besides weights and optimiser ------------------------------------

    def training_state(self) -> dict[str, Any]:
        """The state of this process that lasts from update to update: plain values and tensors.

        Subclasses add their own: persistent chains, the recurrent state along a piece.
        """
        return {"accumulated": dict(self._accumulated)}

    def load_training_state(self, state: dict[str, Any]) -> None:
        """Restore what `training_state` returned."""
        self._accumulated = {
            name: (total, count) for name, (total, count) in state["accumulated"].items()
        }

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the training state of every process, if the optimiser's state is saved as well."""
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
            # With more processes than before, the new ones start as copies. They differ from the
            # first random draw on.
            own = states[self.global_rank % len(states)]
            self.load_training_state(tree_map_only(Tensor, lambda t: t.to(self.device), own))

    # --- Training -----------------------------------------------------------------------------

    def setup(self, stage: str) -> None:
        """Raise `UserError` if a process has no batch of a split; before any pretraining.

        Lightning calls this when the processes have formed their group.
        """
        data: Any = getattr(self.trainer, "datamodule", None)
        if stage != "fit" or data is None or this_rank()[1] == 1:
            return
        for split in ("train", "val", "test"):
            try:
                len(getattr(data, f"{split}_dataloader")())
            except UserError as e:
                raise UserError(f"{split}: {e}") from e

    def on_train_start(self) -> None:
        self._seed = torch.initial_seed()

    def train_batches(self) -> Any:
        """The loader of the training batches, for `on_fit_start`; with or without a datamodule."""
        data = getattr(self.trainer, "datamodule", None)
        return training_loader(self.trainer) if data is None else data.train_dataloader()

    def on_train_epoch_start(self) -> None:
        """With `trainer.overfit_batches`, let every epoch have the same batches."""
        trainer: Any = self.trainer
        batches: Any = getattr(trainer.train_dataloader, "batch_sampler", None)
        if trainer.overfit_batches and hasattr(batches, "repeat_epoch"):
            batches.repeat_epoch = True

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Make the random draws of this update a function of (seed, rank, number of the batch).

        Chains and dropout then differ between ranks, and a resumed run draws the same numbers as
        an uninterrupted one, without a saved state of the generator.
        """
        key = self.global_rank, self.trainer.fit_loop.total_batch_idx
        seed_default_generators(Stream.UPDATES, self._seed, *key, device=self.device)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        parts = self.losses(batch)
        loss = functools.reduce(torch.add, parts.values())
        if self.requires_finite_loss:
            self._check(loss, batch_idx)
        steps = self.num_predictions(batch)
        self.accumulate(steps, loss=loss, **(parts if len(parts) > 1 else {}))
        trainer = self.trainer
        if trainer.is_last_batch or trainer.global_step + 1 == trainer.max_steps:
            self._log_accumulated()
        return loss if this_rank()[1] == 1 else loss * self._rank_weight(steps).type_as(loss)

    # Lightning internals: see musegen.training.lightning_compat. Lightning inspects the signature
    # in every update; this attribute caches it.
    training_step.__signature__ = inspect.signature(training_step)  # type: ignore[attr-defined]

    def _check(self, loss: Tensor, batch_idx: int) -> None:
        """Stop before a loss that is not finite changes the weights; on a GPU one update later.

        An immediate check on a GPU would make it wait for the CPU in every update.
        """
        last, self._last_loss = self._last_loss, LossReadback(loss, batch_idx)
        if last is None or not loss.is_cuda:
            last = self._last_loss
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

    def _rank_weight(self, steps: int | Tensor) -> Tensor:
        """The factor of this process's loss that turns DDP's mean over processes into the mean over
        all predictions of their batches.

        A tensor, so that the CPU does not wait for the sum on a GPU.
        """
        total = all_reduce_sum(torch.zeros((), device=self.device) + steps)
        return steps * this_rank()[1] / total.clamp_min(1)

    def accumulate(self, weight: int | Tensor, **metrics: Tensor) -> None:
        """Add metrics of a training batch, means over `weight` predictions, to the epoch's means.

        The means are logged as `train/…` with the epoch's last batch. `self.log` in every update
        would take a large part of a small network's few milliseconds per update.
        """
        for name, value in metrics.items():
            # float64: in bfloat16 the sum of many losses would stop growing.
            zero = torch.zeros_like(value, dtype=torch.float64)
            total, count = self._accumulated.get(name, (zero, 0))
            self._accumulated[name] = (total + value.detach().double() * weight, count + weight)

    def _log_accumulated(self) -> None:
        for name, (total, count) in self._accumulated.items():
            both = all_reduce_sum(torch.stack([total, torch.ones_like(total) * count]))
            mean = both[0] / both[1].clamp_min(1)
            self.log(f"train/{name}", mean, on_step=False, on_epoch=True, batch_size=1)
        self._accumulated = {}

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.score(batch, self.val_metric, "val")

    def test_step(self, batch: Any, batch_idx: int) -> None:
        self.score(batch, self.test_metric, "test")

    def on_validation_epoch_end(self) -> None:
        self._report(self.val_metric, "val")

    def on_test_epoch_end(self) -> None:
        self._report(self.test_metric, "test")

    def _report(self, metric: Metric, stage: str) -> None:
        metrics = {f"{stage}/{name}": value for name, value in metric.compute().items()}
        metric.reset()
        # Already equal on all ranks. float32 would lose the last digits.
        self.log_dict({k: v.double() for k, v in metrics.items()}, sync_dist=True)

    def learning_rate_factors(self) -> dict[nn.Parameter, float]:
        """Factors of the learning rate, for parameters with a learning rate of their own."""
        return {}

    def configure_optimizers(self) -> Any:
        return self.optimizer.configure(
            self.parameters(),
            # Called later: at this point the trainer would start the epoch before a resumed run has
            # restored its position.
            lambda: int(self.trainer.estimated_stepping_batches),
            *self.monitor,
            rates=self.learning_rate_factors(),
        )
