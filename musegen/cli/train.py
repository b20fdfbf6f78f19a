"""One run, in the order of events: compose, build, fit, test the best weights, sample, report."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import hydra
import pytorch_lightning as pl
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from musegen.cli.console import one_line_errors, quiet
from musegen.cli.generate import replace_samples
from musegen.cli.jobs import isolate_failures
from musegen.cli.train_help import print_train_help
from musegen.cli.usage import help_requested
from musegen.config.groups import CONF
from musegen.config.instantiation import build_data, build_model, build_trainer
from musegen.config.overrides import expand_resume, force_add_overrides, sweep_job
from musegen.config.resolve import resolve_config
from musegen.config.runs import refuse_existing_run
from musegen.config.signatures import parameters_of
from musegen.config.typed import keep_texts
from musegen.errors import UserError
from musegen.models import Model, load_model
from musegen.models.compiling import describe_fast
from musegen.render.audio import check_plays
from musegen.render.samples import one_per_sample, text_rows
from musegen.runtime import launch
from musegen.runtime.atomic import write_json, write_text
from musegen.runtime.commands import train_command
from musegen.runtime.distributed import host_lock, pin_cpu_affinity, teardown_process_group
from musegen.runtime.memory import keep_freed_memory
from musegen.runtime.signals import Stopped
from musegen.runtime.threads import describe_threads
from musegen.training.callbacks.checkpoints import last_checkpoint
from musegen.training.fine_tuning import Source
from musegen.training.learning_rate import tune_learning_rate
from musegen.training.lightning_compat import require_supported_lightning
from musegen.training.loggers.media import MediaLog, finishing, log_media
from musegen.training.resume import prepare_resume
from musegen.training.run_summary import write_report
from musegen.training.scores import check_unstated_scores
from musegen.training.testing import extra_metrics, format_test_table, run_test_pass


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="train")
def train(cfg: DictConfig) -> float:
    """Train, test and sample; returns the best value of the monitored metric, for sweeps."""
    job = sweep_job()
    try:
        with isolate_failures(*job) if job else one_line_errors():
            if cfg.resume == "auto":  # in a sweep; for a single run see `expand_resume`
                cfg.resume = cfg.run_dir
            keep_texts(cfg, HydraConfig.get().overrides.task)
            return run(resolve_config(cfg))
    finally:
        if job is None:  # Hydra needs the folders of all jobs of a sweep
            with suppress(OSError):  # a run that was refused leaves no empty folder
                Path(cfg.run_dir).rmdir()


def run(
    settings: dict[str, Any],
    callbacks: Sequence[pl.Callback] = (),
    model: Model | None = None,
    data: Any = None,
) -> float:
    """The complete run of a resolved config, in as many processes as the config says.

    `callbacks` are added to those of the config; not in a run of several processes. A `model` and
    `data` that are given are used instead of those of the config. Raises `UserError` if the folder
    already holds a run and `resume` is not set.
    """
    processes = launch.num_processes(build_trainer(settings, bare=True))
    if processes > 1:
        if not (model is data is None):
            raise UserError("objects of your own are trained in one process: set devices=1")
        if not settings["resume"]:
            if settings["tune"]["lr"]:
                raise UserError(
                    "tune.lr=true: the search runs in one process; find the rate with "
                    "trainer.gpus=1, then set optimizer.lr"
                )
            refuse_existing_run(Path(settings["run_dir"]))
        return launch.launch(run_in_process, settings, processes)
    if launch.rejoin_after_restart(os.environ):
        settings = settings | {"resume": settings["run_dir"]}
    keep_freed_memory()
    trainer = build_trainer(settings, callbacks=callbacks)
    if not settings["resume"] and trainer.is_global_zero:  # it may write before others check
        refuse_existing_run(Path(settings["run_dir"]))
    if trainer.strategy.root_device.type == "cpu":
        pin_cpu_affinity(os.environ)
    with finishing(trainer.loggers):
        score, report = fit_and_report(settings, trainer, model, data)
    if report is not None:
        # The last line, after those of the loggers, as an address that a terminal can open.
        print(f"report {report.as_uri()}")
    return score


def run_in_process(settings: dict[str, Any]) -> float:
    """`run` in one of several processes that `launch.launch` started."""
    quiet()
    with one_line_errors(), launch.lost_peers_as_user_errors():
        return run(settings)


def fit_and_report(
    settings: dict[str, Any], trainer: pl.Trainer, model: Model | None = None, data: Any = None
) -> tuple[float, Path | None]:
    """Build data and model unless they are given, fit, test, sample and write the report.

    Returns the best score and, in the process that wrote the report, its path.
    """
    started = time.time()
    run_dir = Path(settings["run_dir"])
    pl.seed_everything(settings["seed"], workers=True, verbose=False)
    checkpoint = last_checkpoint(run_dir) if settings["resume"] else None
    # A resumed run no longer needs the run whose weights it started with.
    source = Source(Path(path)) if (path := settings["init_from"]) and not checkpoint else None
    if data is None:
        data = build_data(settings)
    if model is None:
        model = build_model(settings, data)  # before the data work: it may refuse its settings
    if source is not None:
        source.initialise(model)
    check_generation(settings, model)
    if checkpoint is not None:
        started -= prepare_resume(checkpoint, model, trainer)
        data.keep_split(run_dir / "split.json")
    with host_lock():
        data.prepare_data()
    data.setup()
    check_interval(trainer, data)
    if source is not None and trainer.is_global_zero:
        source.warn_of_overlap(data.pieces_by_split)
    check_unstated_scores(settings, model, data)
    if settings["tune"]["lr"] and checkpoint is None:
        with raising_interrupts():
            settings = tune_learning_rate(settings, model, data)
    fit(settings, trainer, model, data, checkpoint)
    best = getattr(trainer.checkpoint_callback, "best_model_path", "") or ""
    if best:
        model = load_model(best)
    with resumable(run_dir):
        return evaluate_and_report(settings, trainer, model, data, started)


def evaluate_and_report(
    settings: dict[str, Any], trainer: pl.Trainer, model: Model, data: Any, started: float
) -> tuple[float, Path | None]:
    """What follows the training in `fit_and_report`."""
    run_dir = Path(settings["run_dir"])
    metrics = run_test_pass(model, data, settings)
    if not teardown_process_group(trainer):
        return best_score(trainer), None
    metrics |= extra_metrics(model, data, settings)
    for logger in trainer.loggers:
        logger.log_metrics({f"test/{k}": v for k, v in metrics.items()}, trainer.global_step)
        logger.save()
    print(format_test_table(metrics, run_dir / "test.json"))
    write_json(run_dir / "test.json", metrics)
    sample(settings, model.cpu(), trainer)  # on the CPU a seed gives the same samples everywhere
    return best_score(trainer), write_report(settings, model, data, trainer, started)


@contextmanager
def resumable(run_dir: Path) -> Iterator[None]:
    """After Ctrl-C, say how to resume a run that is trained and not yet tested; exit with 130."""
    try:
        yield
    except (KeyboardInterrupt, SystemExit) as end:
        # Lightning's test raises SystemExit for Ctrl-C, and prints nothing.
        if isinstance(end, SystemExit) and not isinstance(end.__context__, KeyboardInterrupt):
            raise
        command = resume_command(run_dir)
        print(f"musegen: interrupted after the training; to resume: {command}", file=sys.stderr)
        sys.exit(130)


def check_generation(settings: dict[str, Any], model: Model) -> None:
    """Generate one short sample with the settings of `sample` and `preview`, and discard it.

    Raises `UserError` for what `generate` would refuse after the training, e.g. a missing prime,
    and for a sound that cannot be played.
    """
    check_plays(settings["sound"])
    parameters = parameters_of(model.generate)[0]
    short = {k: 1 for k in ("n", "length", "steps", "rows") if k in parameters}
    left_out = {"formats"} | model.need_recorded
    for group in ("sample", "preview"):
        if settings[group]:
            given = {k: v for k, v in settings[group].items() if k not in left_out}
            try:
                model.generate(**{**given, **short})
            except UserError as e:
                raise UserError(f"{group}: {e}") from e


def check_interval(trainer: pl.Trainer, data: Any) -> None:
    """Raise `UserError` for validations at an interval that is longer than an epoch."""
    interval = trainer.val_check_interval
    if trainer.world_size > 1 or trainer.check_val_every_n_epoch is None:
        return
    batches = len(data.train_dataloader())
    if isinstance(interval, int) and interval > batches > 0:
        raise UserError(
            f"trainer.val_check_interval={interval}: an epoch has only {batches} batches; write at "
            "most so many, or add trainer.check_val_every_n_epoch=null to count across epochs"
        )


def fit(
    settings: dict[str, Any], trainer: pl.Trainer, model: Model, data: Any, checkpoint: Path | None
) -> None:
    """Write the config and train, from the checkpoint if there is one.

    Exits with the code of a signal that asked to stop.
    """
    restore_config = write_config(settings, trainer, model, data)
    try:
        with raising_interrupts():
            trainer.fit(model, datamodule=data, ckpt_path=checkpoint, weights_only=True)
        if trainer.is_global_zero:
            print_profile(Path(settings["run_dir"]))
    except Stopped as stopped:
        sys.exit(report_stop(stopped, settings, model, trainer))
    except Exception:
        if checkpoint is not None:
            restore_config()  # a changed setting that fails now would fail the next resume, too
        raise


@contextmanager
def raising_interrupts() -> Iterator[None]:
    """Raise `KeyboardInterrupt` for Ctrl-C, for which Lightning raises `SystemExit` silently."""
    try:
        yield
    except SystemExit as end:
        if isinstance(end.__context__, KeyboardInterrupt):
            raise KeyboardInterrupt from None
        raise


def print_profile(run_dir: Path) -> None:
    """Print the tables that `trainer.profiler` has written, and their paths."""
    for path in sorted(run_dir.glob("fit-profile*.txt")):
        print(path.read_text(encoding="utf-8").strip())
        print(f"profile {path}")


def write_config(
    settings: dict[str, Any], trainer: pl.Trainer, model: Model, data: Any
) -> Callable[[], None]:
    """Write config.yaml and print the banner; returns a function that restores the old file."""
    path = Path(settings["run_dir"]) / "config.yaml"
    before = ""
    if trainer.is_global_zero:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists():
            before = path.read_text(encoding="utf-8")
        write_text(path, OmegaConf.to_yaml(settings))
        data.write_split(path.with_name("split.json"))
        print(banner(settings, trainer, model, data), flush=True)
        if data.split_changes:
            print(data.split_changes)
    for logger in trainer.loggers:
        logger.log_hyperparams(settings)

    def restore() -> None:
        if before:
            with suppress(OSError, UserError):  # the error that is being raised matters more
                write_text(path, before)

    return restore


def report_stop(
    stopped: Stopped, settings: dict[str, Any], model: Model, trainer: pl.Trainer
) -> int:
    """Print where training stopped and how to resume it; returns the exit code."""
    if trainer.is_global_zero:
        resume = resume_command(Path(settings["run_dir"]))
        print(f"{stopped} after {trainer.global_step:,} updates; to resume: {resume}")
        if settings["sample_when_stopped"]:
            sample(settings, model, trainer)
    return stopped.code


def best_score(trainer: pl.Trainer) -> float:
    """The best value of the monitored metric, NaN if nothing is monitored."""
    score = getattr(trainer.checkpoint_callback, "best_model_score", None)
    return float(score) if score is not None else float("nan")


def sample(settings: dict[str, Any], model: Model, trainer: pl.Trainer) -> None:
    """Generate with the settings in `sample`; write, print and log the files."""
    if settings["sample"] is None:
        return
    given = dict(settings["sample"])
    formats = given.pop("formats", None)
    samples = model.generate(**given)
    folder = Path(settings["run_dir"]) / "samples"
    files = replace_samples(model.spec, samples, folder, formats, settings["sound"])
    for path in one_per_sample(files):
        print(f"sample {path}")
    texts = text_rows(model.spec, samples)
    media = MediaLog(trainer.current_epoch, trainer.global_step, files, texts, final=True)
    log_media(trainer.loggers, media)


def banner(settings: dict[str, Any], trainer: pl.Trainer, model: Model, data: Any) -> str:
    """The lines before training: model, data, device and run folder."""
    run_dir = Path(settings["run_dir"])
    weights = sum(p.numel() for p in model.parameters())
    device = str(trainer.strategy.root_device)
    if trainer.world_size > 1:
        device += f" and {trainer.world_size - 1} more"
    elif device == "cpu":
        device += f", {describe_threads()}"
    lines = {
        "model": f"{model.name}, {weights:,} weights",
        "data": f"{type(data).__name__}: {data.describe()}",
        "device": device,
        "precision": trainer.precision,
        **({"fast": describe_fast(model)} if settings["trainer"].get("fast") else {}),
        **({"start": f"weights of {origin}"} if (origin := settings["init_from"]) else {}),
        "folder": run_dir,
        "resume": resume_command(run_dir),
    }
    return "\n".join(f"{name:<9}  {value}" for name, value in lines.items())


def resume_command(run_dir: Path) -> str:
    """The command that resumes a run."""
    return train_command(f"resume={run_dir}")


def main() -> None:
    """`musegen train …` and `python train.py …`."""
    with one_line_errors():
        quiet()
        os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra then raises errors instead of printing them
        require_supported_lightning()
        launch.share_source_path(os.environ)
        if help_requested(sys.argv[1:]):
            print_train_help(expand_resume(sys.argv[1:]))
        arguments = launch.shared_run_dir(sys.argv[1:], os.environ)
        sys.argv[1:] = force_add_overrides(expand_resume(arguments))
        train()


if __name__ == "__main__":
    main()
