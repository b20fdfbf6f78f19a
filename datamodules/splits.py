"""Which pieces are for training, for validation and for test.

The split of a piece depends only on `split_seed` and on its key, which is a hash of its notes. The
two give a number, uniform in [0, 1): the piece is in test if it is below `test_fraction`, in
validation if it is below `test_fraction + val_fraction`, and in training otherwise. So a piece
stays in its split when other pieces are added or removed, when it is renamed, and when its folder
is moved. The fractions are right on average.

A small folder may have no piece for test or validation. Then the piece with the smallest number
goes to test, and the next one to validation. Only in this case do other pieces matter: when
pieces are added, such a piece can move to training, but no piece can move from training to
validation or test.
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
MAX_NAMES = 3
"""The number of pieces that a message about a changed folder names."""

Record = Mapping[str, Mapping[str, str]]
"""The names of the pieces of each split, by key: {"train": {key: name}, "val": …, "test": …}."""


def folder_split(name: str) -> str | None:
    """The split in a name such as train/a.mid, valid/b.mid or test/c.mid; None for other names."""
    return SPLIT_FOLDERS.get(name.split("/")[0].lower()) if "/" in name else None


def uniform_hash(seed: int, key: str) -> float:
    """A number in [0, 1), a function of the seed and the key."""
    digest = hashlib.sha256(f"{seed}/{key}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def check_fractions(val_fraction: float, test_fraction: float) -> None:
    """Raises `UserError` if the fractions leave nothing for training."""
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
    """The indices of the pieces of each split. `keys` are the keys of the pieces.

    - declared: the split of each piece according to folders or a catalogue. It is used if every
      piece has one and each of the three splits has a piece.
    - record: the split of an earlier run. Its pieces stay in their splits in any case.

    Raises `UserError` if a split would be empty.
    """
    check_fractions(val_fraction, test_fraction)
    recorded = _split_by_key(record or {})
    numbers = [uniform_hash(seed, key) for key in keys]
    if keys and None not in declared and set(declared) == set(SPLITS):
        splits = [str(split) for split in declared]
    else:
        splits = [split_at(n, val_fraction, test_fraction) for n in numbers]
    splits = [recorded.get(key, split) for key, split in zip(keys, splits, strict=True)]
    unrecorded = [i for i, key in enumerate(keys) if key not in recorded]
    fill_empty_splits(splits, sorted(unrecorded, key=numbers.__getitem__))
    for split in SPLITS:
        if split not in splits:
            raise UserError(_empty_split(len(keys), split))
    return {s: [i for i, split in enumerate(splits) if split == s] for s in SPLITS}


def split_at(number: float, val_fraction: float, test_fraction: float) -> str:
    """The split of a number in [0, 1): first the interval of test, then that of validation."""
    if number < test_fraction:
        return "test"
    return "val" if number < test_fraction + val_fraction else "train"


def fill_empty_splits(splits: list[str], order: Sequence[int]) -> None:
    """If test or validation has no piece, give it the first possible piece of `order`."""
    for split, taken in (("test", ()), ("val", ("test",))):
        candidates = [i for i in order if splits[i] not in taken]
        if split not in splits and candidates:
            splits[candidates[0]] = split


def _empty_split(n: int, split: str) -> str:
    what = f"{n} usable piece{'s' if n != 1 else ''}"
    if n < 3:
        return f"{what} cannot be split into train, validation and test: at least 3 are needed"
    return (
        f"with {what} the {split} split is empty: add pieces, or change data.split_seed, "
        "data.val_fraction or data.test_fraction"
    )


def describe_changes(record: Record, current: Record, without_record: Record) -> str:
    """One line on how the pieces differ from those of an earlier run.

    It is empty if nothing differs, and if no piece is the same: that is another data set.
    `without_record` is the split that the pieces would have without the record.
    """
    recorded, present, computed = map(_split_by_key, (record, current, without_record))
    if not recorded.keys() & present.keys():
        return ""
    names = {
        key: name
        for r in (record, current)
        for pieces in r.values()
        for key, name in pieces.items()
    }
    new = [k for k in present if k not in recorded]
    missing = [k for k in recorded if k not in present]
    kept = [k for k in present if k in recorded and computed[k] != recorded[k]]
    parts = [
        f"{_count_and_names([names[k] for k in keys])} {what}"
        for keys, what in (
            (new, "new"),
            (missing, "missing"),
            (kept, "kept in the split of the run, although another split would be computed now"),
        )
        if keys
    ]
    return f"data: the pieces differ from those of the run: {'; '.join(parts)}" if parts else ""


def _split_by_key(record: Record) -> dict[str, str]:
    return {key: split for split, pieces in record.items() for key in pieces}


def _count_and_names(names: list[str]) -> str:
    more = ", …" if len(names) > MAX_NAMES else ""
    verb = "is" if len(names) == 1 else "are"
    return f"{len(names)} ({', '.join(sorted(names)[:MAX_NAMES])}{more}) {verb}"
