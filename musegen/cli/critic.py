"""Train a critic for a trained model of piano-rolls: `musegen critic run=RUN`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np

from musegen.cli import console
from musegen.cli.evaluate import run_data, run_settings
from musegen.cli.usage import Section, description, help_requested, print_usage
from musegen.config.typed import read_typed
from musegen.config.validation import check_settings
from musegen.constraints import PositiveInt, SampleLength, Seed, check_arguments
from musegen.errors import UserError
from musegen.models import load_model
from musegen.models.roll_model import CRITIC, RollModel
from musegen.runtime.random_streams import Stream, random_stream
from musegen.training.checkpoint_files import CheckpointFiles
from musegen.training.critic import train_critic

CALL = "critic run=<run folder> [pieces=384] [length=256]"
EXAMPLES = ("critic run=runs/tunes", "generate run=runs/tunes particles=4")
NOT_OF_SAMPLES = ("n", "length", "formats", "seed", "particles", "max_hold", "critic", "prime",
                  "prime_seconds", "include_prime")  # fmt: skip
"""Settings of `sample` that the pieces of the critic do not have."""
AT_ONCE = 128
"""Pieces that are generated together."""


@check_arguments
def train(
    run: Path,
    pieces: PositiveInt = 384,
    length: SampleLength = 256,
    epochs: PositiveInt = 25,
    seed: Seed = 0,
) -> Path:
    """Train a critic for a model of piano-rolls and add it to the best checkpoint of the run.

    The critic learns to tell the training pieces from pieces that the model has generated with the
    settings of the run's `sample`. Generation with `particles` above 1 then chooses among the
    continuations by it. The weights of the model do not change.

    - run: the folder of a run with a best checkpoint.
    - pieces: how many pieces the model generates; a sixth of them decides which epoch is best.
    - length: the length of these pieces, in frames; real pieces are cut to it.
    - epochs: of the critic's training.
    """
    if pieces < 2:
        raise UserError(f"pieces={pieces}: some are trained on and others not, so at least 2")
    path = run / "checkpoints" / "best.ckpt"
    if not path.exists():
        raise UserError(f"run={run}: no checkpoints/best.ckpt, which the critic is added to")
    model = load_model(path)
    if not isinstance(model, RollModel):
        raise UserError(f"run={run}: only models of piano-rolls have a critic, not {model.name}")
    settings = run_settings(path, model, [])
    data = run_data(settings, path, model)
    generated = generate_rolls(model, settings["sample"] or {}, pieces, length, seed)
    held_out = max(1, pieces // 6)
    critic, score = train_critic(
        (model.spec.pitches, model.low_pitches), data.rolls["train"], data.rolls["val"],
        (generated[held_out:], generated[:held_out]), length, epochs, seed,
    )  # fmt: skip
    checkpoint = CheckpointFiles().load_checkpoint(path)
    weights = {k: v for k, v in checkpoint["state_dict"].items() if not k.startswith(CRITIC)}
    weights |= {CRITIC + k: v for k, v in critic.state_dict().items()}
    CheckpointFiles().save_checkpoint(checkpoint | {"state_dict": weights}, path)
    print(
        f"the critic tells validation pieces from generated ones with an AUC of {score.auc:.3f} "
        "(0.5: not at all)"
    )
    print(f"written to {path}; musegen generate run={run} particles=4 uses it")
    return path


def generate_rolls(
    model: RollModel, sample: dict[str, Any], pieces: int, length: int, seed: int
) -> list[np.ndarray]:
    """Piano-rolls of `length` frames, sampled from silence with the settings of `sample`."""
    assert model.codec is not None
    given = {k: v for k, v in sample.items() if k not in NOT_OF_SAMPLES}
    rolls = []
    for first in range(0, pieces, AT_ONCE):
        key = random_stream(Stream.CRITIC, seed, 0, first).integers(2**31)
        n = min(AT_ONCE, pieces - first)
        for notes in model.generate(n=n, length=length, critic=False, seed=int(key), **given):
            roll_TD = model.codec.encode(notes)[:length]
            rolls.append(np.pad(roll_TD, ((0, length - len(roll_TD)), (0, 0))))
    return rolls


def main() -> None:
    with console.one_line_errors():
        console.quiet()
        if help_requested(sys.argv[1:]):
            print_usage(CALL, description(train), Section("settings", train), examples=EXAMPLES)
        settings = console.key_values(sys.argv[1:])
        if "run" not in settings:
            raise UserError(f"which run? musegen {CALL}")
        train(**check_settings(train, read_typed(train, settings), "critic"))


if __name__ == "__main__":
    main()
