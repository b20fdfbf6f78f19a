"""Runs that are asked to stop by a signal, and runs that must stop because of an error."""

from __future__ import annotations

import io
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from musegen.cli import train
from musegen.cli.main import COMMANDS
from musegen.config.overrides import compose_config, expand_resume
from musegen.config.resolve import resolve_config
from musegen.errors import UserError
from musegen.models.char_rnn import CharRNN
from musegen.models.lstm_midi import LSTMMidi
from musegen.runtime import signals
from musegen.runtime.signals import PATIENCE, Interrupts
from tests.conftest import ROOT
from tests.processes import HANG, Command

ENDLESS = ["model=char_rnn", "data=anbn", "model.hidden=4", "trainer.max_epochs=100000",
           "callbacks.samples=null", "callbacks.resume.steps=50"]  # fmt: skip


def started(tmp_path: Path, *typed: str) -> subprocess.Popen[str]:
    """`python train.py ARGUMENTS` as a user starts it."""
    return subprocess.Popen(
        [sys.executable, ROOT / "train.py", *typed], cwd=tmp_path, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def forked(tmp_path: Path, *typed: str) -> Command:
    return Command("train.py", tmp_path, *typed)


def with_checkpoint(process: Any, run: Path) -> Any:
    """Wait until the process has written a checkpoint."""
    while not (run / "checkpoints" / "last.ckpt").exists() and process.poll() is None:
        time.sleep(0.1)
    return process


@pytest.mark.slow
@pytest.mark.parametrize(("number", "start"), [(signal.SIGINT, started), (signal.SIGTERM, forked)])
def test_a_signal_ends_the_run_with_a_checkpoint_and_the_command_to_resume(
    number: signal.Signals, start: Callable[..., Any], tmp_path: Path
) -> None:
    run = tmp_path / "run"
    with_samples = number == signal.SIGINT
    typed = [*ENDLESS, f"sample_when_stopped={with_samples}", f"hydra.run.dir={run}"]
    process = with_checkpoint(start(tmp_path, *typed), run)
    process.send_signal(number)
    out, err = process.communicate(timeout=HANG)
    assert process.returncode == 128 + number, out + err
    assert "Traceback" not in out + err
    (line,) = [line for line in out.splitlines() if line.startswith("stopped by")]
    assert line.startswith(f"stopped by {number.name} after ")
    assert line.endswith(f"to resume: python train.py resume={run}")
    reached = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["global_step"]
    assert f"after {reached:,} updates" in line
    assert (run / "samples" / "samples.txt").exists() == with_samples


def test_a_signal_in_the_last_validation_stops_before_the_test(
    monkeypatch, midi_folder: Path, tmp_path: Path
) -> None:
    validated = LSTMMidi.on_validation_epoch_end

    def interrupted(self) -> None:
        validated(self)
        if not self.trainer.sanity_checking:
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(LSTMMidi, "on_validation_epoch_end", interrupted)
    plain = settings(tmp_path, "data=midi_folder", f"data.root={midi_folder}", "model.hidden=4",
                     "data.window=16", "data.batch_size=2", "trainer.max_epochs=1")  # fmt: skip
    with pytest.raises(SystemExit) as stop:
        train.run(plain)
    assert stop.value.code == 130
    assert (tmp_path / "checkpoints" / "last.ckpt").exists()
    assert not (tmp_path / "test.json").exists()


def test_ctrl_c_before_the_first_update_gives_one_line(
    cli, capfd, monkeypatch, midi_folder: Path, tmp_path: Path
) -> None:
    def interrupted(self) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(LSTMMidi, "on_fit_start", interrupted)
    before = signal.getsignal(signal.SIGINT)
    code, _, err = cli(train.main, "data=midi_folder", f"data.root={midi_folder}")
    signal.signal(signal.SIGINT, before)  # Lightning lets it be ignored
    assert (code, err) == (130, "musegen: interrupted\n")


@pytest.mark.parametrize(
    "call",
    [["-m", "musegen", "train"], [str(ROOT / "train.py")]]
    + [["-m", f"musegen.cli.{command}"] for command in COMMANDS],
    ids=lambda call: call[-1].rpartition("/")[2],
)
def test_ctrl_c_while_a_command_is_imported_gives_one_line(call: list[str], tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text(
        "import os, signal, time\nos.kill(os.getpid(), signal.SIGINT)\ntime.sleep(1)\n"
    )
    path = os.pathsep.join([str(tmp_path), str(ROOT)])
    done = subprocess.run(
        [sys.executable, *call], cwd=tmp_path, env={**os.environ, "PYTHONPATH": path},
        capture_output=True, text=True,
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "musegen: interrupted\n")


@pytest.mark.slow
def test_a_second_signal_ends_the_process_at_once() -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", "import time; from musegen.runtime.signals import Interrupts\n"
         "Interrupts().catch(); print('ready', flush=True); time.sleep(100_000)"],
        cwd=ROOT, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGINT)
    assert process.stdout.readline().startswith("stopping after this update")
    assert process.poll() is None
    time.sleep(2 * PATIENCE)
    process.send_signal(signal.SIGINT)
    assert process.wait(HANG) == -signal.SIGINT


def test_a_signal_that_comes_twice_within_the_patience_counts_once(monkeypatch) -> None:
    """A terminal and a launching process may both send it."""
    now, raised = [10.0], []
    monkeypatch.setattr(signals.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(signals.signal, "raise_signal", raised.append)
    before = signal.getsignal(signal.SIGINT)
    interrupts = Interrupts()
    try:
        interrupts._note(signal.SIGINT, None)
        now[0] += PATIENCE
        interrupts._note(signal.SIGINT, None)
        assert (interrupts.wanted, raised) == (signal.SIGINT, [])
        now[0] += PATIENCE
        interrupts._note(signal.SIGINT, None)
        assert raised == [signal.SIGINT]
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_signal_that_interrupts_a_print_is_noted(monkeypatch) -> None:
    interrupts = Interrupts()

    class Terminal(io.RawIOBase):
        def writable(self) -> bool:
            return True

        def write(self, text) -> int:
            if not interrupts.wanted:
                signal.raise_signal(signal.SIGINT)
            return len(text)

    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BufferedWriter(Terminal())))
    interrupts.catch()
    print("epoch 1/2", flush=True)
    interrupts.release()
    assert interrupts.wanted == signal.SIGINT


def test_signal_handlers_are_restored() -> None:
    before = signal.getsignal(signal.SIGINT)
    interrupts = Interrupts()
    interrupts.catch()
    assert signal.getsignal(signal.SIGINT) != before
    interrupts.release()
    assert signal.getsignal(signal.SIGINT) == before


@pytest.mark.slow
def test_a_full_disk_leaves_the_last_good_checkpoint(tmp_path: Path) -> None:
    run = tmp_path / "run"
    process = with_checkpoint(forked(tmp_path, *ENDLESS, f"hydra.run.dir={run}"), run)
    # The system now refuses to write large files, as if the disk were full.
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (1000, 1000))
    out, err = process.communicate(timeout=HANG)
    assert process.returncode == 1, out + err
    (line,) = [line for line in err.splitlines() if line.startswith("musegen: ")]
    assert "cannot be written (File too large)" in line
    assert torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["global_step"] >= 50
    assert not list((run / "checkpoints").glob("*.part"))


def settings(tmp_path: Path, *typed: str) -> dict:
    return resolve_config(compose_config(
        [*typed, f"run_dir={tmp_path}", "callbacks.samples=null", "callbacks.progress=null"]
    ))  # fmt: skip


def test_a_loss_that_is_not_finite_stops_before_the_update(
    monkeypatch, midi_folder: Path, tmp_path: Path
) -> None:
    """The line names the update, the pieces and the checkpoint; the weights have not changed."""
    before_update = {}

    def poisoned(self, batch):
        parts = original(self, batch)
        if self.trainer.global_step == 3:
            before_update.update({k: v.clone() for k, v in self.state_dict().items()}, model=self)
            parts["note"] = parts["note"] * float("nan")
        return parts

    original = LSTMMidi.losses
    monkeypatch.setattr(LSTMMidi, "losses", poisoned)
    plain = settings(tmp_path, "data=midi_folder", f"data.root={midi_folder}", "model.hidden=4",
                     "data.window=16", "data.batch_size=2", "callbacks.resume.steps=2")  # fmt: skip
    with pytest.raises(UserError) as stop:
        train.run(plain)
    message = str(stop.value)
    assert message.startswith("the loss is not finite at update 3 (epoch ")
    assert "tune" in message
    assert ".mid" in message
    assert message.endswith(f"the last good checkpoint is {tmp_path}/checkpoints/last.ckpt")
    saved = torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=True)
    assert saved["global_step"] == 2
    model = before_update.pop("model")
    for name, value in model.state_dict().items():
        assert torch.equal(value, before_update[name]), name


def test_a_batch_of_texts_is_named_by_its_texts(monkeypatch, tmp_path: Path) -> None:
    def poisoned(self, batch):
        return {"nll": sum(p.sum() for p in self.parameters()) * float("inf")}

    monkeypatch.setattr(CharRNN, "losses", poisoned)
    with pytest.raises(UserError, match=r"batch 0: '0+1+', .* and \d+ more"):
        train.run(settings(tmp_path, "model=char_rnn", "data=anbn"))
    assert not (tmp_path / "checkpoints").exists()
    assert os.listdir(tmp_path)


def test_runs_that_cannot_be_resumed_are_refused(cli, tmp_path: Path) -> None:
    run = tmp_path / "run"
    tiny = ["model=char_rnn", "data=anbn", "model.hidden=4", "trainer.max_epochs=1", "sample=null",
            "callbacks.samples=null"]  # fmt: skip
    code, _, err = cli(train.main, *tiny, f"hydra.run.dir={run}")
    assert code == 0, err

    def refused(*typed: str) -> str:
        code, _, err = cli(train.main, *typed)
        assert code == 1
        assert len(err.strip().splitlines()) == 1
        return err

    assert "so no run to resume" in refused(f"resume={tmp_path / 'nowhere'}")
    assert "leave out -m" in refused("-m", f"resume={run}")
    assert "add hydra.run.dir=DIR" in refused("resume=auto")
    assert "cannot change when a run is resumed: hidden=5 (was 4)" in refused(
        f"resume={run}", "model.hidden=5"
    )
    (run / "checkpoints" / "best.ckpt").replace(run / "checkpoints" / "last.ckpt")
    assert "cannot resume from this checkpoint" in refused(f"resume={run}")
    (run / "checkpoints" / "last.ckpt").write_bytes(b"half")
    assert "this file is damaged" in refused(f"resume={run}")
    (run / "checkpoints" / "last.ckpt").rename(run / "checkpoints" / "best.ckpt")
    for typed in ([f"resume={run}"], ["resume=auto", f"hydra.run.dir={run}"]):
        assert "last.ckpt is missing, and best.ckpt holds only weights" in refused(*typed)
    (run / "test.json").unlink()
    assert expand_resume(["resume=auto", f"hydra.run.dir={run}"])


@pytest.mark.parametrize("where", ["test_step", "assess"])
def test_ctrl_c_after_the_training_says_how_to_resume(
    cli, tmp_path: Path, monkeypatch, where: str
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    tiny = ["model=char_rnn", "data=anbn", "model.hidden=4", "trainer.max_epochs=1", "sample=null",
            "callbacks.samples=null", f"hydra.run.dir={tmp_path / 'run'}"]  # fmt: skip
    before = signal.getsignal(signal.SIGINT)
    with monkeypatch.context() as patched:
        patched.setattr(CharRNN, where, interrupted)
        code, _, err = cli(train.main, *tiny)
    signal.signal(signal.SIGINT, before)  # Lightning lets it be ignored
    resume = f"resume={tmp_path / 'run'}"
    assert code == 130
    assert err.startswith("musegen: interrupted after the training; to resume: ")
    assert err.endswith(f" {resume}\n")
    assert cli(train.main, resume)[0] == 0
    assert (tmp_path / "run" / "test.json").exists()
