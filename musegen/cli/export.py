"""A trained model as files: `musegen export run=RUN format=safetensors|onnx|torchscript`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Literal

from musegen.cli import console
from musegen.cli.usage import Section, description, help_requested, print_usage
from musegen.config.typed import read_typed
from musegen.config.validation import check_settings
from musegen.constraints import NonNegativeInt, check_arguments
from musegen.errors import UserError
from musegen.sharing.locate import PRETRAINED, load, output_folder
from musegen.sharing.step import write_step
from musegen.sharing.write import write_shared

CALL = "export run=<run folder or checkpoint> [format=safetensors] [out=DIR] [half=true]"
EXAMPLES = (
    "export run=runs/jsb out=shared/jsb half=true",
    "generate run=shared/jsb",
    "export run=runs/names format=onnx out=step",
)


@check_arguments
def export(
    run: Path,
    format: Literal["safetensors", "onnx", "torchscript"] = "safetensors",
    out: Path | None = None,
    half: bool = False,
    samples: NonNegativeInt = 2,
) -> list[Path]:
    """Write a trained model into a folder, for other programs or to share it.

    `safetensors` is a folder that `musegen.load` and `run=` read: config.json, model.safetensors
    and README.md, a card with the data, the command, the metrics and samples. `onnx` and
    `torchscript` are one step of a char_rnn or an lstm_midi: the state in, the logits and the
    state out. Its inputs and outputs are named in step.json. Of a char_rnn with an n-gram, the
    logits are those of the network alone.

    - run: a run folder or a checkpoint; for onnx and torchscript any model that `run=` names.
    - format: `safetensors`, `onnx` (needs `pip install 'musegen[onnx]'`) or `torchscript`.
    - out: the folder; by default export/ in the run folder.
    - half: keep float32 weights of safetensors in 16 bits.
    - samples: how many samples of the run are copied beside the card of safetensors.
    """
    folder = out or output_folder(run, "export")
    if format != "safetensors":
        if half:
            raise UserError(f"half=true: only for format=safetensors, not for {format}")
        paths = write_step(load(run), folder, format)
    else:
        name = folder.name if folder.absolute().parent == PRETRAINED else str(folder)
        paths = write_shared(run, folder, name, half, samples)
    for path in paths:
        print(path)
    return paths


def main() -> None:
    with console.one_line_errors():
        console.quiet()
        if help_requested(sys.argv[1:]):
            print_usage(CALL, description(export), Section("settings", export), examples=EXAMPLES)
        settings = console.key_values(sys.argv[1:])
        if "run" not in settings:
            raise UserError(f"which run? musegen {CALL}")
        export(**check_settings(export, read_typed(export, settings), "export"))


if __name__ == "__main__":
    main()
