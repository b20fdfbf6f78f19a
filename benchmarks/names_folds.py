"""experiment=names18 on five folds, so that every name is tested once: the table by language.

    python benchmarks/names_folds.py out=DIR                     # five trainings
    python benchmarks/names_folds.py out=DIR model.hidden=128    # any setting of the experiment

A language of 70 names has 14 test names in one split, which decide nothing. Each fold trains its
own network and its own n-gram; their nats per test name are pooled over the folds. "Network alone"
is what the same trained network says without its n-gram's share.
"""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import NamedTuple

from musegen.baselines.name_quality import Read, compared, read
from musegen.cli import console, train
from musegen.config.instantiation import build_data
from musegen.config.overrides import compose_config
from musegen.config.resolve import resolve_config
from musegen.errors import UserError
from musegen.models import load_model
from musegen.training.checkpoint_files import find_checkpoint

FOLDS = 5


class Tested(NamedTuple):
    """A test name as all three read it."""

    name: Read
    alone: float
    """Nats that it cost the network without its n-gram's share."""


def tested(fold: int, out: Path, overrides: list[str]) -> tuple[list[Tested], tuple[str, ...]]:
    """One fold's test names, and the labels; trains unless it has."""
    run_dir = out / str(fold)
    typed = ["experiment=names18", f"data.fold={fold}", "sample=null", *overrides]
    settings = resolve_config(compose_config([*typed, f"run_dir={run_dir}"]))
    if not (run_dir / "test.json").exists():
        train.run(settings)
    model = load_model(find_checkpoint(run_dir))
    data = build_data(settings, codec=model.codec)
    data.prepare_data()
    data.setup()
    names = read(model, data)[0]
    model.ngram = None
    alone = (
        float(nats_T.sum()) for nats_T, _ in model.read(data.coded("test"), data.labels["test"])
    )
    return [Tested(*both) for both in zip(names, alone, strict=True)], model.codec.labels


def main() -> None:
    with console.one_line_errors():
        given = [a.removeprefix("out=") for a in sys.argv[1:] if a.startswith("out=")]
        if len(given) != 1:
            raise UserError("where to? python benchmarks/names_folds.py out=DIR [key=value …]")
        overrides = [a for a in sys.argv[1:] if not a.startswith("out=")]
        names: list[Tested] = []
        for fold in range(FOLDS):
            more, labels = tested(fold, Path(given[0]), overrides)
            names += more
    print("| language | names | char_rnn | network alone | best n-gram | ahead by |")
    print("|---|---|---|---|---|---|")
    groups = [(label, [n for n in names if n.name.label == i]) for i, label in enumerate(labels)]
    for label, rows in [*groups, ("all", names)]:
        f = compared([n.name for n in rows])
        alone = sum(n.alone for n in rows) / sum(n.name.length for n in rows) / math.log(2)
        print(f"| {label} | {len(rows):,} | {f['bpc']:.3f} | {alone:.3f} | {f['ngram_bpc']:.3f} "
              f"| {f['ahead']:.3f} ± {f['ahead_error']:.3f} |")  # fmt: skip


if __name__ == "__main__":
    console.quiet()
    main()
