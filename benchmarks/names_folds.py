"""experiment=names18 on five folds, so that every name is tested once: the table by language.

    python benchmarks/names_folds.py out=DIR                     # five trainings
    python benchmarks/names_folds.py out=DIR model.hidden=128    # any setting of the experiment

A language of 70 names has 14 test names in one split, which decide nothing. Each fold trains its
own network and its own n-gram; their nats per test name are pooled over the folds.
"""

from __future__ import annotations

import sys
from pathlib import Path

from musegen import build, cli, train
from musegen.contracts import UserError
from musegen.evaluate import find_checkpoint
from musegen.metrics.names import Read, compared, read
from musegen.models import load_model

FOLDS = 5


def tested(fold: int, out: Path, overrides: list[str]) -> tuple[list[Read], tuple[str, ...]]:
    """One fold's test names as its networks read them, and the labels; trains unless it has."""
    run_dir = out / str(fold)
    typed = ["experiment=names18", f"data.fold={fold}", "sample=null", *overrides]
    settings = build.completed(build.composed([*typed, f"run_dir={run_dir}"]))
    if not (run_dir / "test.json").exists():
        train.run(settings)
    model = load_model(find_checkpoint(run_dir))
    data = build.build_data(settings, codec=model.codec)
    data.prepare_data()
    data.setup()
    return read(model, data)[0], model.codec.labels


def main() -> None:
    with cli.one_line_errors():
        given = [a.removeprefix("out=") for a in sys.argv[1:] if a.startswith("out=")]
        if len(given) != 1:
            raise UserError("where to? python benchmarks/names_folds.py out=DIR [key=value …]")
        overrides = [a for a in sys.argv[1:] if not a.startswith("out=")]
        names: list[Read] = []
        for fold in range(FOLDS):
            more, labels = tested(fold, Path(given[0]), overrides)
            names += more
    print("| language | names | char_rnn | best n-gram | ahead by | standard error |")
    print("|---|---|---|---|---|---|")
    groups = [(name, [n for n in names if n.label == i]) for i, name in enumerate(labels)]
    for name, rows in [*groups, ("all", names)]:
        f = compared(rows)
        print(f"| {name} | {len(rows)} | {f['bits']:.3f} | {f['ngram_bits']:.3f} "
              f"| {f['ahead']:.3f} | {f['ahead_error']:.3f} |")  # fmt: skip


if __name__ == "__main__":
    cli.quiet()
    main()
