"""One run, in the order of events: compose, build, fit, test the best, sample, report."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import hydra
import pytorch_lightning as pl
from omegaconf import DictConfig, OmegaConf

from musegen import build, launch
from musegen.atomic import write_json, write_text
from musegen.callbacks.checkpoints import last_checkpoint
from musegen.checkpoint_files import CheckpointFiles
from musegen.cli import one_line_errors, quiet
from musegen.contracts import UserError
from musegen.evaluate import beside, test_pass, test_table
from musegen.interrupts import Stopped
from musegen.jobs import failing_alone
from musegen.loggers import Look, Rewinds, finishing, show
from musegen.memory import keep_freed_memory
from musegen.models import Model, load_model
from musegen.ranks import keep_to_own_cores, leave_the_others, one_at_a_time
from musegen.render.files import as_rows, one_each, write_samples
from musegen.report import command, conclude, threads


@hydra.main(version_base="1.3", config_path=str(build.CONF), config_name="train")
def train(cfg: DictConfig) -> float:
    """Train, test and sample; returns the best monitored score, for sweeps."""
    job = build.job_of_sweep()
    try:
        with failing_alone(*job) if job else one_line_errors():
            if cfg.resume == "auto":  # of a sweep; for a single run `main` has looked
                cfg.resume = cfg.run_dir
            return run(build.completed(cfg))
    finally:
        if job is None:  # a sweep looks for the folders of all its jobs
            with suppress(OSError):  # what was refused at once leaves none
                Path(cfg.run_dir).rmdir()


def run(settings: dict[str, Any], callbacks: Sequence[pl.Callback] = ()) -> float:
    """The whole story, from a completed config, in as many processes as it asks for.

    `callbacks` come beside those of the config, where it is one process.
    """
    if (processes := launch.wanted(settings)) > 1:
        return launch.launch(run, settings, processes)
    if launch.join_again(os.environ):
        settings = settings | {"resume": settings["run_dir"]}
    keep_freed_memory()
    trainer = build.build_trainer(settings, callbacks=callbacks)
    if trainer.strategy.root_device.type == "cpu":
        keep_to_own_cores(os.environ)
    with finishing(trainer.loggers):
        score, report = tell(settings, trainer)
    if report is not None:
        # Last of all, below what loggers say, and as an address: terminals make it one to click.
        print(f"report {report.as_uri()}")
    return score


def tell(settings: dict[str, Any], trainer: pl.Trainer) -> tuple[float, Path | None]:
    """Data and model, fit, test, samples, report; returns the score, and the report's path from
    the process that wrote it."""
    began = time.time()
    run_dir = Path(settings["run_dir"])
    pl.seed_everything(settings["seed"], workers=True, verbose=False)
    data = build.build_data(settings)
    model = build.build_model(settings, data)  # before any data work: it may refuse its settings
    checkpoint = last_checkpoint(run_dir) if settings["resume"] else None
    if checkpoint is not None:
        began -= rejoin(checkpoint, model, trainer)
        data.keep_split(run_dir / "split.json")
    with one_at_a_time():
        data.prepare_data()
    data.setup()
    before = ""
    if trainer.is_global_zero:
        run_dir.mkdir(parents=True, exist_ok=True)
        if checkpoint is not None:
            before = (run_dir / "config.yaml").read_text(encoding="utf-8")
        write_text(run_dir / "config.yaml", OmegaConf.to_yaml(settings))
        data.write_split(run_dir / "split.json")
        print(banner(trainer, model, data, run_dir), flush=True)
        if data.split_changes:
            print(data.split_changes)
    for logger in trainer.loggers:
        logger.log_hyperparams(settings)

    try:
        trainer.fit(model, datamodule=data, ckpt_path=checkpoint, weights_only=True)
    except Stopped as stopped:
        if trainer.is_global_zero:
            print(f"{stopped} after {trainer.global_step:,} updates; to go on: {going_on(run_dir)}")
            if settings["sample_when_stopped"]:
                sample(settings, model, trainer)
        sys.exit(stopped.code)
    except SystemExit as end:
        # Lightning makes one of Ctrl-C where no update is under way, and says nothing.
        if isinstance(end.__context__, KeyboardInterrupt):
            raise KeyboardInterrupt from None
        raise
    except Exception:
        if before:  # a change that ends so would end the next resumption, too
            with suppress(OSError, UserError):  # on a full disk that is not what went wrong
                write_text(run_dir / "config.yaml", before)
        raise

    best = getattr(trainer.checkpoint_callback, "best_model_path", "") or ""
    if best:
        model = load_model(best)
    figures = test_pass(model, data, settings)
    if not leave_the_others(trainer):
        return _score(trainer), None
    figures |= beside(model, data, settings)
    for logger in trainer.loggers:
        logger.log_metrics({f"test/{k}": v for k, v in figures.items()}, trainer.global_step)
        logger.save()
    print(test_table(figures))
    write_json(run_dir / "test.json", figures)
    sample(settings, model.cpu(), trainer)  # where a seed gives the same samples everywhere
    return _score(trainer), conclude(settings, model, data, trainer, began)


def _score(trainer: pl.Trainer) -> float:
    score = getattr(trainer.checkpoint_callback, "best_model_score", None)
    return float(score) if score is not None else float("nan")


def rejoin(path: Path, model: Model, trainer: pl.Trainer) -> float:
    """Take the loggers back to where the checkpoint stands; returns the seconds spent until then.

    Raises `UserError` for a checkpoint that is not of such a model.
    """
    checkpoint = CheckpointFiles().load_checkpoint(path)
    if not isinstance(checkpoint, dict) or not {"seconds", "logged", "loops"} <= set(checkpoint):
        raise UserError(f"{path}: not a checkpoint that this version of musegen can go on with")
    theirs, ours = checkpoint.get("hyper_parameters", {}), dict(model.hparams)
    if different := [k for k in ours if theirs.get(k) != ours[k]]:
        changes = ", ".join(f"{k}={ours[k]} (was {theirs.get(k)})" for k in different)
        raise UserError(f"{path}: a begun run keeps its model; {changes}")
    loops = checkpoint["loops"]["fit_loop"]
    for unit, done, most in (
        ("epochs", loops["epoch_progress"]["current"]["completed"], trainer.max_epochs),
        ("steps", checkpoint["global_step"], trainer.max_steps),
    ):
        if most is not None and -1 < most < done:
            raise UserError(f"{path}: {done} {unit} are done, not trainer.max_{unit}={most}")
    (kept,) = checkpoint["optimizer_states"]
    fresh = model.optimizer.build(model.parameters(), model.rates())
    if kept["param_groups"][0].keys() - {"initial_lr"} != fresh.param_groups[0].keys():
        name = model.optimizer.name
        raise UserError(f"{path}: a begun run keeps its optimiser, which was not {name}")
    for logger in trainer.loggers:
        if isinstance(logger, Rewinds):
            logger.rewind(checkpoint["global_step"], checkpoint["logged"])
    return float(checkpoint["seconds"])


def sample(settings: dict[str, Any], model: Model, trainer: pl.Trainer) -> None:
    """What the run is asked to generate: written, named, and shown to the loggers."""
    if settings["sample"] is None:
        return
    samples = model.generate(**settings["sample"])
    files = write_samples(model.spec, samples, Path(settings["run_dir"]) / "samples")
    for path in one_each(files):
        print(f"sample {path}")
    texts = as_rows(model.spec, samples)
    show(trainer.loggers, Look(trainer.current_epoch, trainer.global_step, files, texts, True))


def banner(trainer: pl.Trainer, model: Model, data: Any, run_dir: Path) -> str:
    """What is about to be trained, on what, where."""
    weights = sum(p.numel() for p in model.parameters())
    device = str(trainer.strategy.root_device)
    if trainer.world_size > 1:
        device += f" and {trainer.world_size - 1} more"
    elif device == "cpu":
        device += f", {threads()}"
    lines = {
        "model": f"{model.name}, {weights:,} weights",
        "data": f"{type(data).__name__}: {data.describe()}",
        "device": device,
        "precision": trainer.precision,
        "folder": run_dir,
        "resume": going_on(run_dir),
    }
    return "\n".join(f"{name:<9}  {said}" for name, said in lines.items())


def going_on(run_dir: Path) -> str:
    """How a run that was stopped goes on."""
    return command(f"resume={run_dir}")


def main() -> None:
    """`python train.py …` and `musegen-train …`."""
    quiet()
    # Hydra then raises instead of printing its own version of the error.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    with one_line_errors():
        launch.same_code(os.environ)
        arguments = launch.agreed_folder(sys.argv[1:], os.environ)
        sys.argv[1:] = build.free_overrides(build.with_resumed(arguments))
        train()
