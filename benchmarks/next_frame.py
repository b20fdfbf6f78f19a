"""Are the next frames of a model of piano-rolls as real ones are, given real frames before them?

    python benchmarks/next_frame.py run=RUN                   # validation frames, 4 samples of each
    python benchmarks/next_frame.py run=RUN samples=16 most=12

Samples of every validation frame, given the true frames before it, are counted beside the true
frames. What differs here is an error of the model itself; what differs only in whole generated
pieces comes from pieces that drift away from real ones. Likelihoods hardly show such errors where
they are rare, as at changes of chord.

Each kind of count prints its total, and the values whose counts differ most by their standard
error under a Poisson distribution:

- frames in which a note starts: how many notes sound, and the distances of all pairs;
- the top note: its step from the top note before, if it starts;
- the top note above middle C over a new chord below it: its pitch class relative to the lowest;
- the notes below middle C: for how many frames they were the same when they change.
"""

from __future__ import annotations

import math
import sys
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch

from musegen.cli import console
from musegen.cli.evaluate import run_data, run_settings
from musegen.config.typed import read_typed
from musegen.config.validation import check_settings
from musegen.constraints import PositiveInt, check_arguments
from musegen.errors import UserError
from musegen.models import load_model
from musegen.models.biaxial_lstm import BiaxialLSTM
from musegen.specs import RollBatch
from musegen.training.checkpoint_files import find_checkpoint

CHORD = 3
"""Notes of a new chord below middle C; two of them or more start with it."""


def counts(
    before_ND: np.ndarray, x_ND: np.ndarray, age_N: np.ndarray, low: int
) -> dict[str, Counter[int]]:
    """The counts of frames x after the frames `before`, all bool, by kind.

    `age` is for how many frames the first `low` columns have been as in `before`.
    """
    start_ND = x_ND & ~before_ND
    starts_N, size_N = start_ND.any(1), x_ND.sum(1)
    top_N, top_before_N = top(x_ND), top(before_ND)
    lowest_N = np.where(x_ND.any(1), x_ND.argmax(1), -1)
    moves_N = start_ND[np.arange(len(x_ND)), top_N] & (top_N >= 0) & (top_before_N >= 0)
    chord_N = (start_ND[:, :low].sum(1) >= 2) & (x_ND[:, :low].sum(1) >= CHORD) & (top_N >= low)
    change_N = (x_ND[:, :low] != before_ND[:, :low]).any(1) & before_ND[:, :low].any(1)
    sounding = x_ND[starts_N].astype(int)
    distances = {
        d: int((sounding[:, d:] * sounding[:, :-d]).sum()) for d in range(1, x_ND.shape[1])
    }
    return {
        "notes at once": Counter(size_N[starts_N].tolist()),
        "distances of pairs": Counter({d: n for d, n in distances.items() if n}),
        "steps of the top note": Counter((top_N - top_before_N)[moves_N].tolist()),
        "top note over a new chord": Counter(((top_N - lowest_N)[chord_N] % 12).tolist()),
        "age of low notes at a change": Counter(age_N[change_N].tolist()),
    }


def top(x_ND: np.ndarray) -> np.ndarray:
    """The highest column that sounds; −1 for silence."""
    return np.where(x_ND.any(1), x_ND.shape[1] - 1 - x_ND[:, ::-1].argmax(1), -1)


def ages(before_TD: np.ndarray) -> np.ndarray:
    """For how many frames each frame has been as it is."""
    age_T = np.ones(len(before_TD), int)
    for t in range(1, len(before_TD)):
        if (before_TD[t] == before_TD[t - 1]).all():
            age_T[t] = age_T[t - 1] + 1
    return age_T


def compare(
    model: BiaxialLSTM, batches: Iterable[RollBatch], samples: int
) -> tuple[dict[str, Counter[int]], dict[str, Counter[int]]]:
    """The counts of the true frames, and of all samples together."""
    rng = torch.Generator().manual_seed(0)
    real: dict[str, Counter[int]] = {}
    sampled: dict[str, Counter[int]] = {}
    low = model.low_pitches
    for batch in batches:
        drawn_SND = model.sample_frames(batch, samples, rng).numpy()
        before_BTD = torch.nn.functional.pad(batch.x_BTD, (0, 0, 1, 0))[:, :-1].bool().numpy()
        age_BT = np.stack([ages(x_TD[:, :low]) for x_TD in before_BTD])
        mask_BT = batch.mask_BT.numpy()
        before_ND, age_N = before_BTD[mask_BT], age_BT[mask_BT]
        add(real, counts(before_ND, batch.x_BTD.bool().numpy()[mask_BT], age_N, low))
        for x_ND in drawn_SND:
            add(sampled, counts(before_ND, x_ND, age_N, low))
    return real, sampled


def add(total: dict[str, Counter[int]], more: dict[str, Counter[int]]) -> None:
    for kind, counter in more.items():
        total.setdefault(kind, Counter()).update(counter)


@check_arguments
def table(run: Path, samples: PositiveInt = 4, most: PositiveInt = 8) -> list[str]:
    """The lines of the table.

    - run: a run folder or checkpoint of a biaxial LSTM.
    - samples: of each frame.
    - most: how many values of each kind are shown.
    """
    checkpoint = find_checkpoint(run.expanduser())
    model = load_model(checkpoint)
    if not isinstance(model, BiaxialLSTM):
        raise UserError(f"run={run}: only a biaxial LSTM samples frames exactly, not {model.name}")
    data = run_data(run_settings(checkpoint, model, []), checkpoint, model)
    real, sampled = compare(model, data.val_dataloader(), samples)
    lines = ["| | total: true, sampled | value: true, sampled |", "|---|---|---|"]
    for kind, of_real in real.items():
        drawn = {value: n / samples for value, n in sampled[kind].items()}
        differ = sorted(
            of_real.keys() | drawn.keys(),
            key=lambda v: -abs(of_real[v] - drawn.get(v, 0)) / math.sqrt(max(of_real[v], 1)),
        )
        cells = [f"{v}: {of_real[v]}, {drawn.get(v, 0):.1f}" for v in differ[:most]]
        totals = f"{of_real.total()}, {sum(drawn.values()):.0f}"
        lines.append(f"| {kind} | {totals} | {'; '.join(cells)} |")
    return lines


def main() -> None:
    with console.one_line_errors():
        console.quiet()
        settings = console.key_values(sys.argv[1:])
        if "run" not in settings:
            raise UserError("which model? run=RUN")
        checked = check_settings(table, read_typed(table, settings), "next_frame")
        print("\n".join(table(**checked)))


if __name__ == "__main__":
    main()
