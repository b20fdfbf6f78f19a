"""Log-likelihood and accuracy per test frame of baselines that model each note separately.

python benchmarks/rolls_baselines.py                                   # nottingham and jsb
python benchmarks/rolls_baselines.py data=piano_roll_folder data.root=DIR
"""

from __future__ import annotations

import sys

from musegen.baselines.note_ngram import baselines
from musegen.config.instantiation import build_data
from musegen.config.overrides import compose_config
from musegen.config.resolve import resolve_config


def main() -> None:
    arguments = sys.argv[1:]
    print("| data | model | LL (nats) | ACC (%) |\n|---|---|---|---|")
    for overrides in [arguments] if arguments else [["data=nottingham"], ["data=jsb"]]:
        settings = compose_config([*overrides, "model=rbm", "data.view=frames", "run_dir=unused"])
        data = build_data(resolve_config(settings))
        data.setup()
        results, order = baselines(data.rolls)
        for name, (log_likelihood, accuracy) in results.items():
            name += f" (n = {order})" if name == "note_ngram" else ""
            print(
                f"| {overrides[0]} | {name} | {log_likelihood:.2f} | {100 * accuracy:.2f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
