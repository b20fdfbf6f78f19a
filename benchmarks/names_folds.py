"""experiment=names18 with five folds, so that every name is tested once: a table by language.

    python benchmarks/names_folds.py out=DIR                     # five training runs
    python benchmarks/names_folds.py out=DIR model.hidden=128    # any setting of the experiment

A language of 70 names has only 14 test names in one split, too few for a comparison. Each fold
trains a network and an n-gram, and their nats per test name are pooled over the folds. "Network
alone" is the same trained network without the n-gram in its mixture.
"""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import NamedTuple

from musegen.baselines.name_quality import ScoredName, compare_to_ngram, score_names
from musegen.cli import console, train
from musegen.config.instantiation import build_data
from musegen.config.overrides import compose_config
from musegen.config.resolve import resolve_config
from musegen.errors import UserError
from musegen.models import load_model
from musegen.training.checkpoint_files import find_checkpoint

FOLDS = 5


class FoldName(NamedTuple):
    """A test name with −log p of the three models."""

    name: ScoredName
    network_nats: float
    """−log p of the network without the n-gram."""


def evaluate_fold(
    fold: int, out: Path, overrides: list[str]
) -> tuple[list[FoldName], tuple[str, ...]]:
    """One fold's test names, and the labels. Trains the fold's model if it is not yet trained."""
    run_dir = out / str(fold)
    typed = ["experiment=names18", f"data.fold={fold}", "sample=null", *overrides]
    settings = resolve_config(compose_config([*typed, f"run_dir={run_dir}"]))
    if not (run_dir / "test.json").exists():
        train.run(settings)
    model = load_model(find_checkpoint(run_dir))
    data = build_data(settings, codec=model.codec)
    data.prepare_data()
    data.setup()
    names = score_names(model, data)[0]
    model.ngram = None
    network_nats = (
        float(nll_T.sum()) for nll_T, _ in model.read(data.coded("test"), data.labels["test"])
    )
    pairs = zip(names, network_nats, strict=True)
    return [FoldName(*pair) for pair in pairs], model.codec.labels


def main() -> None:
    with console.one_line_errors():
        given = [a.removeprefix("out=") for a in sys.argv[1:] if a.startswith("out=")]
        if len(given) != 1:
            raise UserError("usage: python benchmarks/names_folds.py out=DIR [key=value …]")
        overrides = [a for a in sys.argv[1:] if not a.startswith("out=")]
        names: list[FoldName] = []
        for fold in range(FOLDS):
            of_fold, labels = evaluate_fold(fold, Path(given[0]), overrides)
            names += of_fold
    print("| language | names | char_rnn | network alone | best n-gram | gain |")
    print("|---|---|---|---|---|---|")
    groups = [(label, [n for n in names if n.name.label == i]) for i, label in enumerate(labels)]
    for label, rows in [*groups, ("all", names)]:
        f = compare_to_ngram([n.name for n in rows])
        alone = sum(n.network_nats for n in rows) / sum(n.name.length for n in rows) / math.log(2)
        print(f"| {label} | {len(rows):,} | {f['bpc']:.3f} | {alone:.3f} | {f['ngram_bpc']:.3f} "
              f"| {f['gain']:.3f} ± {f['gain_error']:.3f} |")  # fmt: skip


if __name__ == "__main__":
    console.quiet()
    main()
