"""Runs that are asked to stop, and runs that have to."""

from __future__ import annotations

import io
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from musegen.cli import train
from musegen.config.overrides import compose_config
from musegen.config.resolve import resolve_config
from musegen.errors import UserError
from musegen.models.char_rnn import CharRNN
from musegen.models.lstm_midi import LSTMMidi
from musegen.runtime.signals import Interrupts
from tests.conftest import ROOT

ENDLESS = ["model=char_rnn", "data=anbn", "model.hidden=4", "trainer.max_epochs=100000",
           "callbacks.samples=null", "callbacks.resume.steps=50"]  # fmt: skip


def begin(tmp_path: Path, *typed: object, **settings) -> subprocess.Popen:
    process = subprocess.Popen(
        [sys.executable, ROOT / "train.py", *map(str, typed)], cwd=tmp_path, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **settings,
    )  # fmt: skip
    checkpoint = tmp_path / "run" / "checkpoints" / "last.ckpt"
    for _ in range(600):
        if checkpoint.exists() or process.poll() is not None:
            return process
        time.sleep(0.1)
    raise AssertionError("no checkpoint came")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_run_with_a_checkpoint_and_how_to_go_on(number, tmp_path: Path) -> None:
    run = tmp_path / "run"
    asked = number == signal.SIGINT
    process = begin(tmp_path, *ENDLESS, f"sample_when_stopped={asked}", f"hydra.run.dir={run}")
    process.send_signal(number)
    out, _ = process.communicate(timeout=30)
    assert process.returncode == 128 + number, out
    assert "Traceback" not in out
    (line,) = [line for line in out.splitlines() if line.startswith("stopped by")]
    assert line.startswith(f"stopped by {number.name} after ")
    assert line.endswith(f"to go on: python train.py resume={run}")
    reached = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["global_step"]
    assert f"after {reached:,} updates" in line
    assert (run / "samples" / "samples.txt").exists() == asked


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


def test_ctrl_c_before_the_first_update_is_said(
    cli, capfd, monkeypatch, midi_folder: Path, tmp_path: Path
) -> None:
    def interrupted(self) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(LSTMMidi, "on_fit_start", interrupted)
    before = signal.getsignal(signal.SIGINT)
    code, _, err = cli(train.main, "data=midi_folder", f"data.root={midi_folder}")
    signal.signal(signal.SIGINT, before)  # Lightning has it ignored
    assert (code, err) == (130, "musegen: interrupted\n")


def test_a_second_signal_ends_it_at_once() -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", "import time; from musegen.runtime.signals import Interrupts\n"
         "Interrupts().catch(); print('ready', flush=True); time.sleep(60)"],
        cwd=ROOT, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGINT)
    time.sleep(0.1)
    process.send_signal(signal.SIGINT)  # a terminal's and a launcher's are one
    time.sleep(0.7)
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    assert process.wait(5) == -signal.SIGINT


def test_a_signal_in_the_midst_of_a_line_is_noted(monkeypatch) -> None:
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


def test_handlers_are_given_back() -> None:
    before = signal.getsignal(signal.SIGINT)
    interrupts = Interrupts()
    interrupts.catch()
    assert signal.getsignal(signal.SIGINT) != before
    interrupts.release()
    assert signal.getsignal(signal.SIGINT) == before


def test_a_full_disk_leaves_the_last_good_checkpoint(tmp_path: Path) -> None:
    run = tmp_path / "run"
    process = begin(tmp_path, *ENDLESS, f"hydra.run.dir={run}")
    # What the system refuses to write from now on is what a full disk refuses.
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (1000, 1000))
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 1
    (line,) = [line for line in out.splitlines() if line.startswith("musegen: ")]
    assert "cannot be written (File too large)" in line
    assert torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["global_step"] >= 50
    assert not list((run / "checkpoints").glob("*.part"))


def settings(tmp_path: Path, *typed: str) -> dict:
    return resolve_config(compose_config(
        [*typed, f"run_dir={tmp_path}", "callbacks.samples=null", "callbacks.progress=null"]
    ))  # fmt: skip


def test_a_loss_that_is_no_number_stops_before_the_update(
    monkeypatch, midi_folder: Path, tmp_path: Path
) -> None:
    """The line names the update, the pieces and the checkpoint, and the weights are as before."""
    kept = {}

    def poisoned(self, batch):
        parts = original(self, batch)
        if self.trainer.global_step == 3:
            kept.update({k: v.clone() for k, v in self.state_dict().items()}, model=self)
            parts["note"] = parts["note"] * float("nan")
        return parts

    original = LSTMMidi.losses
    monkeypatch.setattr(LSTMMidi, "losses", poisoned)
    plain = settings(tmp_path, "data=midi_folder", f"data.root={midi_folder}", "model.hidden=4",
                     "data.window=16", "data.batch_size=2", "callbacks.resume.steps=2")  # fmt: skip
    with pytest.raises(UserError) as stop:
        train.run(plain)
    said = str(stop.value)
    assert said.startswith("the loss is not finite at update 3 (epoch ")
    assert "tune" in said
    assert ".mid" in said
    assert said.endswith(f"the last good checkpoint is {tmp_path}/checkpoints/last.ckpt")
    saved = torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=True)
    assert saved["global_step"] == 2
    model = kept.pop("model")
    for name, value in model.state_dict().items():
        assert torch.equal(value, kept[name]), name


def test_a_texts_batch_is_named_by_its_texts(monkeypatch, tmp_path: Path) -> None:
    def poisoned(self, batch):
        return {"nll": sum(p.sum() for p in self.parameters()) * float("inf")}

    monkeypatch.setattr(CharRNN, "losses", poisoned)
    with pytest.raises(UserError, match=r"batch 0: '0+1+', .* and \d+ more"):
        train.run(settings(tmp_path, "model=char_rnn", "data=anbn"))
    assert not (tmp_path / "checkpoints").exists()
    assert os.listdir(tmp_path)


def test_what_cannot_be_gone_on_with(cli, tmp_path: Path) -> None:
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

    assert "no run to go on with" in refused(f"resume={tmp_path / 'nowhere'}")
    assert "leave out -m" in refused("-m", f"resume={run}")
    assert "add hydra.run.dir=DIR" in refused("resume=auto")
    assert "a begun run keeps its model; hidden=5 (was 4)" in refused(
        f"resume={run}", "model.hidden=5"
    )
    (run / "checkpoints" / "best.ckpt").replace(run / "checkpoints" / "last.ckpt")
    assert "can go on with" in refused(f"resume={run}")
    (run / "checkpoints" / "last.ckpt").write_bytes(b"half")
    assert "not a whole checkpoint" in refused(f"resume={run}")
