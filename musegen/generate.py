"""New pieces from a run: `python -m musegen.generate run=<run folder or checkpoint> n=4 …`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from musegen import build, cli
from musegen.contracts import UserError
from musegen.evaluate import find_checkpoint
from musegen.models import load_model
from musegen.render.files import one_each, write_samples


def generate(run: Path, out: Path | None = None, **settings: Any) -> list[Path]:
    """Let a checkpoint compose; needs nothing but the checkpoint.

    `settings` are those of the model's `generate`. Files go to `out`, or to `generated/` in the
    run folder.
    """
    model = load_model(find_checkpoint(run))
    samples = model.generate(**build.checked(model.generate, settings, "generate"))
    folder = out or (run if run.is_dir() else run.parent) / "generated"
    paths = one_each(write_samples(model.spec, samples, folder))
    for path in paths:
        print(path)
    return paths


def main() -> None:
    cli.quiet()
    with cli.one_line_errors():
        settings = cli.key_values(sys.argv[1:])
        if "run" not in settings:
            raise UserError(
                "which run? python -m musegen.generate run=<run folder or checkpoint> [n=4] "
                "[length=800] [temperature=0.9] [top_k=0] [top_p=0.95] [prime=my.mid] "
                "[prime_seconds=16] [include_prime=false] [label=NAME] [seed=0] [out=DIR]"
            )
        run = Path(str(settings.pop("run")))
        out = settings.pop("out", None)
        generate(run, Path(str(out)) if out else None, **settings)


if __name__ == "__main__":
    main()
