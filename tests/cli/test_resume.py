"""A run that was killed and resumed ends exactly like an uninterrupted run, to the last bit.

`MUSEGEN_KILLS=8 pytest tests/cli/test_resume.py` kills a run of every family eight times, in turn
with no loader workers and with two.
"""

from __future__ import annotations

import csv
import multiprocessing
import os
import random
import sys
import time
from pathlib import Path

import pytest
import torch

from musegen.cli import train
from musegen.cli.console import quiet
from musegen.codecs.midi import write_notes
from musegen.config.overrides import compose_config
from musegen.config.resolve import resolve_config
from tests.conftest import tune
from tests.processes import HANG, PROCESSES

KILLS = int(os.environ.get("MUSEGEN_KILLS", 1))
ROLLS = ["data=piano_roll_folder", "data.dt=0.25", "model.hidden=12", "model.k=3"]
FAMILIES = {
    "rbm": [
        "model=rbm", *ROLLS, "data.view=frames", "data.batch_size=4", "trainer.max_epochs=4",
        "callbacks.likelihood=null", "assess.chains=0", "assess.reverse_rows=0",
        "optimizer=sgd", "optimizer.momentum=0.5", "model.centered=true",
    ],
    "rnn_rbm": [
        "model=rnn_rbm", *ROLLS, "data.chunk_length=10", "data.transpose=2", "model.cell=lstm",
        "model.recurrent=8", "model.dropout=0.5", "callbacks.pretraining.rbm_epochs=2",
        "callbacks.pretraining.rnn_epochs=2", "trainer.max_epochs=4", "assess.frames=20",
        "assess.ais_steps=20", "assess.reverse_frames=0", "optimizer.schedule=cosine",
    ],
    "rnn_nade": [
        "model=rnn_nade", "data=piano_roll_folder", "data.dt=0.25", "data.chunk_length=16",
        "data.transpose=2", "model.hidden=12", "model.recurrent=8", "model.cell=lstm",
        "model.dropout=0.5", "model.attention_heads=2", "model.attention_dropout=0.2",
        "model.note_age=true", "model.clock=true", "model.frozen_histories=0.3",
        "model.flipped_notes=0.01", "model.longest_match=true",
        "trainer.max_epochs=4", "assess.samples=2", "optimizer.schedule=cosine",
    ],
    "biaxial_lstm": [
        "model=biaxial_lstm", "data=piano_roll_folder", "data.dt=0.25", "data.chunk_length=16",
        "data.transpose=2", "model.hidden=6", "model.note_hidden=5", "model.features=4",
        "model.global_hidden=8", "model.attention_heads=2", "model.low=20", "model.high=70",
        "model.dropout=0.5", "model.frozen_histories=0.3", "model.flipped_notes=0.01",
        "model.longest_match=true",
        "trainer.max_epochs=4", "assess.samples=2", "optimizer.schedule=cosine",
    ],
    "char_rnn": [
        "model=char_rnn", "data=anbn", "data.train_size=200", "data.batch_size=8",
        "data.curriculum=3", "data.val_n=[1,6]", "data.test_n=[1,6]", "data.count_to=10",
        "model.hidden=6", "model.layers=2", "model.dropout=0.4", "model.ngram_weight=0.3",
        "trainer.max_epochs=4",
        "optimizer.schedule=plateau", "optimizer.patience=0",
    ],
    "lstm_midi": [
        "model=lstm_midi", "data=midi_folder", "data.carry=true", "data.window=8",
        "data.batch_size=2", "model.hidden=8", "model.head_width=8", "model.active_note_dim=4",
        "trainer.max_epochs=6", "optimizer.warmup_steps=5", "trainer.val_check_interval=0.5",
    ],
}  # fmt: skip


@pytest.fixture(scope="module")
def music(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("music")
    for i in range(6):
        write_notes(tune(i), folder / f"{i}.mid")
    return folder


def settings(family: str, run_dir: Path, music: Path, *more: str) -> dict:
    typed = [*FAMILIES[family], f"run_dir={run_dir}", "sample=null", "callbacks.samples=null",
             "callbacks.resume.steps=3", "callbacks.progress=null", *more]  # fmt: skip
    if "data=anbn" not in typed:
        typed += [f"data.root={music}", f"data.cache_dir={music / 'cache'}"]
    return resolve_config(compose_config(typed))


def run(plain: dict, out: Path) -> None:
    """Train as `train.main` does; the target of a new process."""
    # Loader workers that the fork server starts would survive when their parent is killed.
    multiprocessing.set_start_method("fork", force=True)
    sys.stdout = sys.stderr = out.open("a")
    torch.set_num_threads(1)
    quiet()
    train.run(plain)


def start(plain: dict, out: Path) -> multiprocessing.Process:
    process = PROCESSES.Process(target=run, args=(plain, out))
    process.start()
    return process


def run_to_the_end(plain: dict, out: Path) -> None:
    process = start(plain, out)
    process.join(HANG)
    assert process.exitcode == 0, out.read_text()[-2000:]


def end_of(run_dir: Path) -> dict:
    """The result of a run: the last checkpoint, without its clock, and the log."""
    path = run_dir / "checkpoints" / "last.ckpt"
    checkpoint = torch.load(path, weights_only=True)
    del checkpoint["seconds"], checkpoint["callbacks"], checkpoint["logged"]
    with (run_dir / "metrics.csv").open(newline="") as file:
        rows = [{k: v for k, v in row.items() if v} for row in csv.DictReader(file)]
    return {"checkpoint": checkpoint, "log": rows}


def differences(a: object, b: object, where: str = "") -> list[str]:
    """Where two nested values are not equal to the last bit."""
    if isinstance(a, dict) and isinstance(b, dict):
        keys = [*a, *(k for k in b if k not in a)]
        return [d for k in keys for d in differences(a.get(k), b.get(k), f"{where}/{k}")]
    if isinstance(a, (list, tuple)) and isinstance(b, (list, tuple)) and len(a) == len(b):
        pairs = enumerate(zip(a, b, strict=True))
        return [d for i, (x, y) in pairs for d in differences(x, y, f"{where}/{i}")]
    if isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor):
        return [] if torch.equal(a, b) else [where]
    return [] if a == b else [f"{where}: {a} {b}"]


def test_differences_are_found() -> None:
    assert differences({"a": [1, torch.ones(2)]}, {"a": [1, torch.ones(2)]}) == []
    assert differences({"a": [1, torch.ones(2)]}, {"a": [1, torch.zeros(2)]}) == ["/a/1"]
    assert differences({"a": 1}, {"a": 1, "b": 2}) == ["/b: None 2"]


def wait_for_step(process: multiprocessing.Process, run_dir: Path, step: int) -> None:
    """Wait until a checkpoint of this update or of a later one was written."""
    path = run_dir / "checkpoints" / "last.ckpt"
    while process.is_alive() and saved_step(path) < step:
        time.sleep(0.01)


def saved_step(path: Path) -> int:
    """The number of updates in a checkpoint; 0 if there is none."""
    return torch.load(path, weights_only=True)["global_step"] if path.exists() else 0


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_a_killed_run_ends_like_an_uninterrupted_one(
    family: str, music: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out.txt"
    run_to_the_end(settings(family, tmp_path / "uninterrupted", music), out)
    expected = end_of(tmp_path / "uninterrupted")
    run_to_the_end(settings(family, tmp_path / "again", music), out)
    assert not differences(expected, end_of(tmp_path / "again")), "one seed, two results"
    total = expected["checkpoint"]["global_step"]
    random_steps = random.Random(family)
    for kill in range(KILLS):
        run_dir = tmp_path / f"killed{kill}"
        plain = settings(family, run_dir, music, f"data.num_workers={2 * (kill % 2)}")
        killed = start(plain, out)
        if kill % 5 < 4:  # one in five is killed at any time, maybe before the first checkpoint
            wait_for_step(killed, run_dir, random_steps.randrange(1, total))
        killed.join(random_steps.uniform(0, 1))
        killed.kill()
        killed.join()
        checkpoint = run_dir / "checkpoints" / "last.ckpt"
        step = saved_step(checkpoint)
        run_to_the_end(plain | {"resume": str(run_dir)}, out)
        different = differences(expected, end_of(run_dir))
        print(f"{family}: resumed from update {step} of {total}, {len(different)} different")
        assert not different
        assert sorted(p.name for p in checkpoint.parent.iterdir()) == ["best.ckpt", "last.ckpt"]
