"""New samples from a run: `musegen generate run=<run folder or checkpoint> n=4 …`."""

from __future__ import annotations

import itertools
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

from musegen.cli import console
from musegen.cli.infilling import infill_file, infill_section
from musegen.cli.usage import Section, description, help_requested, print_usage
from musegen.config.formats import PieceFormat, check_formats
from musegen.config.sound import check_sound
from musegen.config.typed import read_typed
from musegen.config.validation import check_settings
from musegen.errors import UserError
from musegen.models import MODELS
from musegen.render.audio import check_plays
from musegen.render.samples import one_per_sample, write_samples
from musegen.sharing.locate import load, output_folder
from musegen.specs import Spec

SUFFIXES = (*get_args(PieceFormat), "txt")
"""Of the files that hold one sample each."""
CALL = "generate run=<run folder or checkpoint> [n=4] [seed=0] [out=DIR] [key=value …]"
EXAMPLES = (
    "generate run=runs/mozart n=4 length=800 temperature=0.9",
    "generate run=runs/mozart prime=my.mid include_prime=true",
    "generate run=runs/mozart infill=my.mid region=[8,16] keep=melody n=2",
    "generate run=runs/names label=Japanese n=20",
)


def generate(
    run: Path,
    out: Path | None = None,
    formats: list[PieceFormat] | None = None,
    sound: str = "piano",
    infill: Path | None = None,
    region: tuple[float, float] | None = None,
    **settings: Any,
) -> list[Path]:
    """Generate samples from a checkpoint, which is all that this needs.

    - run: a run folder or a checkpoint, a pretrained model (`musegen list what=pretrained`), or
      hf:USER/NAME.
    - out: the folder of the files; by default generated/ in the run folder, and generated/NAME for
      a pretrained model.
    - formats: of pieces of music, by default [mid,wav,png]; musicxml is a score for score editors,
      and takes seconds per piece. The MIDI file is always written.
    - sound: how music sounds: piano, additive, or a SoundFont (FILE.sf2, FILE.sf3,
      FILE.sf2:PROGRAM).
    - infill: a MIDI file of which a region is written again; the rest does not change.
    - region: where it starts and ends, in seconds; null is the whole file.

    `settings` are those of the model's `generate`, or of its `infill`, as values or
    as they are typed.
    """
    sound = check_sound(sound)
    check_plays(sound)
    model = load(run)
    if formats is not None:
        formats = check_formats(formats, type(model), "generate.formats")
    if infill is None:
        if region is not None:
            raise UserError(f"region={list(region)}: of which file? infill=my.mid is missing")
        read = read_typed(model.generate, settings)
        samples = model.generate(**check_settings(model.generate, read, "generate"))
    else:
        samples = infill_file(model, infill, region, settings)
    folder = out or output_folder(run, "generated")
    paths = one_per_sample(replace_samples(model.spec, samples, folder, formats, sound))
    for path in paths:
        print(path)
    return paths


def replace_samples(
    spec: Spec,
    samples: Sequence[Any],
    folder: Path,
    formats: Sequence[PieceFormat] | None = None,
    sound: str = "piano",
) -> list[Path]:
    """Write samples, and remove those of an earlier call, which would lie among the new ones.

    Only files that carry on the numbering from 00 are removed. Returns the paths.
    """
    paths = write_samples(spec, samples, folder, formats, sound)
    earlier = [folder / "samples.txt"]
    for i in itertools.count():
        name = re.compile(rf"{i:02d}(_.+)?\.({'|'.join(SUFFIXES)})")
        numbered = [path for path in folder.iterdir() if name.fullmatch(path.name)]
        if not numbered:
            break
        earlier += numbered
    for path in set(earlier) - set(paths):
        path.unlink(missing_ok=True)
    return paths


def print_help(settings: dict[str, Any]) -> None:
    """The settings of the run's model; without a run, those of every model."""
    models = [type(load(settings["run"]))] if "run" in settings else MODELS.values()
    sections = []
    for model in models:
        name = f"settings of {model.name}"
        sections += [Section(name, model.generate, without=("start_ND",)), *infill_section(model)]
    print_usage(
        CALL, description(generate), Section("settings", generate), *sections, examples=EXAMPLES
    )


def main() -> None:
    with console.one_line_errors():
        console.quiet()
        settings = console.key_values(sys.argv[1:])
        if help_requested(sys.argv[1:]):
            print_help(settings)
        if "run" not in settings:
            raise UserError(f"which run? musegen {CALL}")
        generate(**check_settings(generate, read_typed(generate, settings), "generate"))


if __name__ == "__main__":
    main()
