"""New pieces from a run: `musegen generate run=<run folder or checkpoint> n=4 …`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from musegen.cli import console
from musegen.config.validation import check_settings
from musegen.errors import UserError
from musegen.models import load_model
from musegen.render.samples import one_per_sample, write_samples
from musegen.training.checkpoint_files import find_checkpoint


def generate(run: Path, out: Path | None = None, **settings: Any) -> list[Path]:
    """Let a checkpoint compose; needs nothing but the checkpoint.

    `settings` are those of the model's `generate`. Files go to `out`, or to `generated/` in the
    run folder.
    """
    model = load_model(find_checkpoint(run))
    samples = model.generate(**check_settings(model.generate, settings, "generate"))
    folder = out or (run if run.is_dir() else run.parent) / "generated"
    paths = one_per_sample(write_samples(model.spec, samples, folder))
    for path in paths:
        print(path)
    return paths


def main() -> None:
    console.quiet()
    with console.one_line_errors():
        settings = console.key_values(sys.argv[1:])
        if "run" not in settings:
            raise UserError(
                "which run? musegen generate run=<run folder or checkpoint> [n=4] "
                "[length=800] [temperature=0.9] [top_k=0] [top_p=0.95] [prime=my.mid] "
                "[prime_seconds=16] [include_prime=false] [label=NAME] [seed=0] [out=DIR]"
            )
        run = Path(str(settings.pop("run")))
        out = settings.pop("out", None)
        generate(run, Path(str(out)) if out else None, **settings)


if __name__ == "__main__":
    main()
