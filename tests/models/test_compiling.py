"""`model.compile=true`: the same training with a compiled loss."""

from __future__ import annotations

import copy
import csv
from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch
from tiny_run import SETTINGS, tiny_run

from musegen.cli import train
from musegen.codecs.messages import MessageCodec
from musegen.config.instantiation import build_data, build_model
from musegen.config.overrides import compose_config
from musegen.config.resolve import resolve_config
from musegen.errors import UserError
from musegen.models import RNNNADE, RNNRBM, BiaxialLSTM, LSTMMidi, load_model
from musegen.models.compiling import compile_loss
from musegen.specs import MessageBatch, Messages, RollBatch, Rolls


@pytest.mark.slow
def test_a_compiled_run_is_the_same_run(cli, tmp_path: Path) -> None:
    tiny_run(tmp_path / "eager")
    compiled = [*SETTINGS, "model.compile=true", f"hydra.run.dir={tmp_path / 'compiled'}"]
    code, _, err = cli(train.main, *compiled)
    assert (code, err) == (0, "")
    eager, compiled = (
        load_model(tmp_path / run / "checkpoints" / "best.ckpt") for run in ("eager", "compiled")
    )
    assert eager.state_dict().keys() == compiled.state_dict().keys()
    assert eager.hparams == compiled.hparams
    for name, weight in eager.state_dict().items():
        torch.testing.assert_close(compiled.state_dict()[name], weight, atol=1e-4, rtol=1e-3)
    losses = []
    for run in ("eager", "compiled"):
        with open(tmp_path / run / "metrics.csv", newline="") as table:
            losses += [float(loss) for row in csv.DictReader(table) if (loss := row["train/loss"])]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


MESSAGES = MessageCodec(time_unit="beats").spec
TINY = {
    "rnn_rbm": lambda: RNNRBM(Rolls(6), hidden=3, recurrent=2, attention_heads=1, clock=True),
    "rnn_nade": lambda: RNNNADE(
        Rolls(6), hidden=3, recurrent=2, note_age=True, clock=True, longest_match=True
    ),
    "biaxial_lstm": lambda: BiaxialLSTM(
        Rolls(88), hidden=2, note_hidden=2, features=2, dropout=0, longest_match=True
    ),
    "lstm_midi": lambda: LSTMMidi(MESSAGES, hidden=3, head_width=3, dropout=0),
}


def tiny_batch(spec: Rolls | Messages) -> RollBatch | MessageBatch:
    random = torch.Generator().manual_seed(0)
    if isinstance(spec, Rolls):
        x_BTD = (torch.rand(2, 5, spec.pitches, generator=random) < 0.2).float()
        return RollBatch(x_BTD, torch.tensor([[True] * 5, [True] * 3 + [False] * 2]))
    fields = [torch.randint(n, (2, 6), generator=random) for n in spec.sizes]
    clock_BL = torch.full((2, 6), 4 * spec.clock)
    fresh_B, mask_BT = torch.tensor([True, False]), torch.ones(2, 5, dtype=torch.bool)
    clock_BLC = torch.stack([clock_BL // 2, clock_BL], -1)
    return MessageBatch(torch.stack(fields, -1), mask_BT, fresh_B, clock_BLC)


@pytest.mark.slow
@pytest.mark.parametrize("name", TINY)
def test_the_fast_loss_of_every_model_is_its_loss(name: str) -> None:
    """In two updates, the second with the state after the first; the gradients as well.

    The wrapper for CUDA graphs is used here, too, though a CPU has none.
    """
    pl.seed_everything(0)
    eager = TINY[name]()
    compiled, batch = copy.deepcopy(eager), tiny_batch(eager.spec)
    compile_loss(compiled, "trainer.fast", cuda_graphs=True)
    assert compiled.compiles in vars(compiled)
    for update in range(2):
        totals = []
        for model in (eager, compiled):
            torch.manual_seed(update)  # of the Gibbs chains
            totals.append(sum(model.losses(batch).values()))
        for total in totals:
            total.backward()
        torch.testing.assert_close(totals[1], totals[0], rtol=1e-5, atol=0)
    for (weight, p), other in zip(eager.named_parameters(), compiled.parameters(), strict=True):
        torch.testing.assert_close(other.grad, p.grad, atol=1e-5, rtol=1e-3, msg=weight)


def test_the_built_loss_is_a_compiled_one() -> None:
    settings = resolve_config(compose_config([*SETTINGS, "run_dir=x", "model.compile=true"]))
    assert settings["model"]["compile"] is True
    model = build_model(settings, build_data(settings))
    assert model.losses is not type(model).losses
    assert model.losses.__wrapped__.__func__ is type(model).losses
    assert "compile" not in model.hparams


def test_a_loss_of_gibbs_chains_alone_is_refused(cli, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    code, out, err = cli(
        train.main, "model=rbm", "data=mnist_5k", "model.compile=true", f"hydra.run.dir={folder}"
    )
    assert (code, out) == (1, "")
    assert err == (
        "musegen: model.compile=true: the loss of model=rbm has compiled Gibbs chains already, "
        "which torch.compile cannot read; leave it out\n"
    )
    assert not folder.exists()


def test_a_missing_compiler_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "/nowhere/g++")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    settings = resolve_config(compose_config([*SETTINGS, "run_dir=x", "model.compile=true"]))
    with pytest.raises(UserError, match=r"no C\+\+ compiler \(/nowhere/g\+\+\); install one"):
        build_model(settings, build_data(settings))
