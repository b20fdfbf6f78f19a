"""A model outside the package works in every command, without a change to musegen."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT
from tests.processes import Command

GRU_MIDI = """
import torch
from torch import nn

from musegen.codecs.messages import MessageCodec, messages_to_notes
from musegen.metrics.nll import FieldNLL
from musegen.models import Model
from musegen.specs import Messages


class GRUMidi(Model):
    reads = (Messages,)
    codec_type = MessageCodec

    def __init__(self, spec, codec=None, hidden: int = 8):
        super().__init__(spec, codec)
        self.save_settings()
        sizes = self.spec.sizes
        self.embed = nn.ModuleList(nn.Embedding(size + 1, hidden) for size in sizes)
        self.gru = nn.GRU(hidden, hidden, batch_first=True)
        self.out = nn.Linear(hidden, sum(sizes))

    def logits(self, x):
        h, _ = self.gru(sum(embed(x[..., i]) for i, embed in enumerate(self.embed)))
        return self.out(h).split(self.spec.sizes, dim=-1)

    def nll(self, batch):
        x, mask = batch.x_BLF[:, 1:][batch.mask_BT], batch.mask_BT
        logits = [part[mask] for part in self.logits(batch.x_BLF[:, :-1])]
        loss = nn.CrossEntropyLoss(reduction="none")
        nll = torch.stack([loss(part, x[:, i]) for i, part in enumerate(logits)], -1)
        right = torch.stack([part.argmax(-1) == x[:, i] for i, part in enumerate(logits)], -1)
        return nll, right

    def losses(self, batch):
        return {"nll": self.nll(batch)[0].sum(-1).mean()}

    def new_metric(self):
        return FieldNLL(["note", "velocity", "time"])

    def score(self, batch, metric, stage):
        metric.update(*self.nll(batch))

    @torch.inference_mode()
    def generate(self, n: int = 1, length: int = 20, seed: int = 0):
        generator = torch.Generator().manual_seed(seed)
        x = torch.tensor(self.spec.sizes).expand(n, 1, 3)
        for _ in range(length):
            last = [part[:, -1].softmax(-1) for part in self.logits(x)]
            drawn = [torch.multinomial(p, 1, generator=generator) for p in last]
            x = torch.cat([x, torch.cat(drawn, -1)[:, None]], 1)
        return [messages_to_notes(self.codec.decode(row[1:].numpy())) for row in x]
"""
SHORT = ["trainer.gpus=0", "trainer.max_epochs=2", "data.window=16", "data.batch_size=4",
         "sample.n=1", "preview.length=10"]  # fmt: skip


def installed(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    """`musegen ARGUMENTS` as the installed script: the current folder is not on its path."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    call = [sys.executable, "-P", "-m", "musegen", *arguments]
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(call, cwd=folder, env=environment, **pipes)


def forked(folder: Path, *arguments: str) -> Command:
    """The same in a process that has imported musegen, but nothing of the folder."""
    return Command("musegen", folder, *arguments)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "own" / "conf" / "model").mkdir(parents=True)
    (tmp_path / "own" / "my_gru.py").write_text(GRU_MIDI)
    (tmp_path / "own" / "conf" / "model" / "my_gru.yaml").write_text(
        "# @package _global_\nmodel:\n  _target_: my_gru.GRUMidi\n  hidden: 12\n"
    )
    return tmp_path / "own"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("choice", "start"),
    [
        (["model._target_=my_gru.GRUMidi"], forked),
        (["--config-dir=conf", "model=my_gru"], installed),
    ],
)
def test_a_model_outside_the_package_works_to_the_last_step(
    choice: list[str], start: Callable[..., Any], folder: Path, midi_folder: Path
) -> None:
    def done(start: Callable[..., Any], *arguments: str) -> tuple[int, str, str]:
        process = start(folder, *arguments)
        out, err = process.communicate()
        return process.returncode, out, err

    data = ["data=midi_folder", f"data.root={midi_folder}"]
    code, out, err = done(start, "train", *choice, *data, *SHORT, "hydra.run.dir=run")
    assert code == 0, out + err
    run = folder / "run"
    before = json.loads((run / "test.json").read_text())
    assert {"nll", "note", "unigram_nll"} <= before.keys()
    assert (run / "samples" / "00.mid").exists()
    assert "GRUMidi" in (run / "report.html").read_text()
    for arguments in (
        ["generate", "run=run", "n=2"],
        ["evaluate", "run=run"],
        ["evaluate", "run=run", *data, "data.window=16"],
        ["report", "run=run"],
        ["train", "resume=run", "trainer.max_epochs=3"],
    ):
        code, out, err = done(forked, *arguments)
        assert code == 0, (arguments, out + err)
    assert len(list((run / "generated").glob("*.mid"))) == 2
    assert json.loads((run / "evaluation.json").read_text()) == pytest.approx(before, rel=1e-4)

    # A checkpoint alone does not make musegen import anything.
    shutil.copy(run / "checkpoints" / "best.ckpt", folder / "alone.ckpt")
    code, _, err = done(forked, "generate", "run=alone.ckpt")
    assert code == 1
    assert "its model my_gru.GRUMidi is not part of musegen" in err
    assert len(err.splitlines()) == 1
    (folder / "my_gru.py").rename(folder / "moved.py")
    shutil.rmtree(folder / "__pycache__", ignore_errors=True)
    _, _, err = done(start, "generate", "run=run")
    assert "its model my_gru.GRUMidi cannot be imported (No module named 'my_gru')" in err
