"""How much of the test pieces of the piano-roll benchmark is in the training pieces.

python benchmarks/leakage.py                        # the four sets
python benchmarks/leakage.py data=jsb

A window is found if training has it, as it is or at some transposition. `pieces` counts the test
pieces with more than half of their windows found. The top line is the highest pitch of each frame.
A window counts if at least four of its frames differ: every piece has held notes and silence.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable

import numpy as np

from musegen.config.instantiation import build_data
from musegen.config.overrides import compose_config
from musegen.config.resolve import resolve_config
from musegen.metrics.roll_evaluation import top_line

SETS = ("jsb", "nottingham", "musedata", "piano_midi")
FRAMES = {"jsb": 16, "nottingham": 32, "musedata": 16, "piano_midi": 16}
"""The number of frames of a window: four bars, or about so many."""
MIN_DIFFERENT = 4


def windows(rows_TX: np.ndarray, length: int) -> Iterable[np.ndarray]:
    for first in range(len(rows_TX) - length + 1):
        window = rows_TX[first : first + length]
        if len({frame.tobytes() for frame in window}) >= MIN_DIFFERENT:
            yield window


def sounds(window: np.ndarray) -> np.ndarray:
    """Where a note sounds: silence is −1 in a top line, and 0 in a roll."""
    return window >= 0 if window.ndim == 1 else window > 0


def as_is(window: np.ndarray) -> bytes:
    return window.tobytes()


def relative_line(window: np.ndarray) -> bytes:
    """A window of the top line, relative to its first note."""
    sounding = sounds(window)
    first = int(window[sounding][0])
    return np.where(sounding, window - first, 1000).astype(np.int16).tobytes()


def relative_roll(window: np.ndarray) -> bytes:
    """A window of whole frames, moved down until its lowest note is the first column."""
    lowest = int(window.any(0).argmax())
    return np.roll(window, -lowest, axis=1).tobytes()


def shared(train: list, test: list, length: int, key) -> tuple[float, int]:
    """The fraction of the test windows found, and the pieces with more than half found."""
    known = {key(w) for rows in train for w in windows(rows, length)}
    found = [[key(w) in known for w in windows(rows, length)] for rows in test]
    fraction = np.mean([hit for piece in found for hit in piece])
    return float(fraction), sum(np.mean(piece) > 0.5 for piece in found if piece)


def main() -> None:
    named = [a.removeprefix("data=") for a in sys.argv[1:]]
    print("| set | of each frame | frames | as it is (%) | at some transposition (%) | pieces |")
    print("|---|---|---|---|---|---|")
    for name in named or SETS:
        overrides = [f"data={name}", "model=rbm", "data.view=frames", "run_dir=unused"]
        data = build_data(resolve_config(compose_config(overrides)))
        data.setup()
        train, test = data.rolls["train"], data.rolls["test"]
        length = FRAMES[name]
        for what, rows, relative in (
            ("top line", top_line, relative_line),
            ("all notes", np.asarray, relative_roll),
        ):
            sides = [[rows(roll) for roll in side] for side in (train, test)]
            exact, _ = shared(*sides, length, as_is)
            moved, pieces = shared(*sides, length, relative)
            print(
                f"| {name} | {what} | {length} | {100 * exact:.2f} | {100 * moved:.2f} "
                f"| {pieces} of {len(test)} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
