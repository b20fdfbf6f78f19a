"""Which pieces are for training, which for validation, which for test.

A piece's side is a function of its own key, a hash of its notes, and of `split_seed`: a number
drawn uniformly from the two is below `test_fraction` for the test, below `test_fraction +
val_fraction` for validation, and otherwise for training. So a piece keeps its side when others
come or go, when it is renamed, and wherever its folder lies. The fractions hold on average.

A small folder may have no piece in one of the two small intervals. Then the piece with the
smallest number becomes the test, and the one after it the validation. This is the one case in
which other pieces matter, and it is a harmless one: pieces that are added to the folder can only
move such a piece towards training, never a piece from training to validation or test.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

from musegen.errors import UserError

SPLITS = ("train", "val", "test")
SPLIT_FOLDERS = {
    "train": "train",
    "valid": "val",
    "validation": "val",
    "val": "val",
    "test": "test",
}
NAMED = 3
"""Pieces that a line on a changed folder names."""

Record = Mapping[str, Mapping[str, str]]
"""Names by key by split: {"train": {key: name}, "val": …, "test": …}."""


def folder_side(name: str) -> str | None:
    """The split that a name such as train/a.mid, valid/b.mid or test/c.mid says it is for."""
    return SPLIT_FOLDERS.get(name.split("/")[0].lower()) if "/" in name else None


def drawn(seed: int, key: str) -> float:
    """A number in [0, 1) that only the seed and the key decide."""
    digest = hashlib.sha256(f"{seed}/{key}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def check_fractions(val_fraction: float, test_fraction: float) -> None:
    """Raises `UserError` for fractions that leave a split without pieces."""
    for key, fraction in (("val_fraction", val_fraction), ("test_fraction", test_fraction)):
        if not 0 < fraction < 1:
            raise UserError(f"data.{key}={fraction}: must lie between 0 and 1")
    if val_fraction + test_fraction >= 1:
        raise UserError(
            f"data.val_fraction={val_fraction} and data.test_fraction={test_fraction} leave "
            "nothing for training: choose a smaller data.val_fraction or data.test_fraction"
        )


def split_pieces(
    keys: Sequence[str],
    val_fraction: float,
    test_fraction: float,
    seed: int,
    declared: Sequence[str | None] = (),
    record: Record | None = None,
) -> dict[str, list[int]]:
    """Indices of the pieces of each split, by their keys; a piece is never cut.

    `declared` are the sides that folders or a catalogue state; they decide where every piece has
    one and no side is without a piece. `record` is the split of an earlier run: pieces that it
    names keep its side, whatever else would decide.

    Raises `UserError` where a split would stay empty.
    """
    check_fractions(val_fraction, test_fraction)
    before = {key: side for side, pieces in (record or {}).items() for key in pieces}
    number = [drawn(seed, key) for key in keys]
    if keys and None not in declared and set(declared) == set(SPLITS):
        sides = [str(side) for side in declared]
    else:
        sides = [side_at(n, val_fraction, test_fraction) for n in number]
    sides = [before.get(key, side) for key, side in zip(keys, sides, strict=True)]
    free = sorted((i for i, key in enumerate(keys) if key not in before), key=number.__getitem__)
    fill_empty(sides, free)
    for side in SPLITS:
        if side not in sides:
            raise UserError(_too_few(len(keys), side))
    return {s: [i for i, side in enumerate(sides) if side == s] for s in SPLITS}


def side_at(number: float, val_fraction: float, test_fraction: float) -> str:
    """The side of a number in [0, 1): the test's interval comes first, then validation's."""
    if number < test_fraction:
        return "test"
    return "val" if number < test_fraction + val_fraction else "train"


def fill_empty(sides: list[str], order: Sequence[int]) -> None:
    """Give the test and validation the first pieces in `order` where they have none."""
    for side, others in (("test", ()), ("val", ("test",))):
        candidates = [i for i in order if sides[i] not in others]
        if side not in sides and candidates:
            sides[candidates[0]] = side


def _too_few(n: int, side: str) -> str:
    what = f"{n} usable piece{'s' if n != 1 else ''}"
    if n < 3:
        return f"{what} cannot be split into train, validation and test: 3 at least are needed"
    return (
        f"{what} leave the {side} split empty: add pieces, or change data.split_seed, "
        "data.val_fraction or data.test_fraction"
    )


def changes(record: Record, now: Record, alone: Record) -> str:
    """One line on how the pieces differ from those of an earlier run; empty where they do not,
    and where none is the same: that is another data set.

    `now` is the split as it is, `alone` as it would be without the record.
    """
    before, present, own = (
        {key: side for side, pieces in r.items() for key in pieces} for r in (record, now, alone)
    )
    if not before.keys() & present.keys():
        return ""
    names = {
        key: name for r in (record, now) for pieces in r.values() for key, name in pieces.items()
    }
    said = [
        f"{_listed([names[k] for k in found])} {what}"
        for found, what in (
            ([k for k in present if k not in before], "new"),
            ([k for k in before if k not in present], "gone"),
            (
                [k for k in present if k in before and own[k] != before[k]],
                "kept on the run's side of the split, which would be another now",
            ),
        )
        if found
    ]
    return f"data: not the pieces of the run: {'; '.join(said)}" if said else ""


def _listed(names: list[str]) -> str:
    more = ", …" if len(names) > NAMED else ""
    verb = "is" if len(names) == 1 else "are"
    return f"{len(names)} ({', '.join(sorted(names)[:NAMED])}{more}) {verb}"
