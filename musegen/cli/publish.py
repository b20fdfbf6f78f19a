"""A trained model on the Hugging Face Hub: `musegen publish run=RUN to=USER/NAME`."""

from __future__ import annotations

import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from musegen.cli import console
from musegen.cli.usage import Section, description, help_requested, print_usage
from musegen.config.typed import read_typed
from musegen.config.validation import check_settings
from musegen.constraints import NonNegativeInt, check_arguments
from musegen.errors import UserError
from musegen.sharing.remote import check_repository, hub_library, upload_folder
from musegen.sharing.write import write_shared

CALL = "publish run=<run folder or checkpoint> to=USER/NAME [private=true] [half=true]"
EXAMPLES = (
    "publish run=runs/jsb to=USER/jsb-chorales half=true",
    "generate run=hf:USER/jsb-chorales",
)


@check_arguments
def publish(
    run: Path, to: str, private: bool = False, half: bool = False, samples: NonNegativeInt = 4
) -> str:
    """Write a model with its card and samples to a repository of the Hub; returns its address.

    Needs `pip install 'musegen[hub]'` and a token (`hf auth login`, or HF_TOKEN). Anyone loads it
    with `musegen.load("hf:USER/NAME")` or `run=hf:USER/NAME`.

    - run: a run folder or a checkpoint in one.
    - to: the repository, USER/NAME; it is created if there is none.
    - private: create it as a private one.
    - half: keep float32 weights in 16 bits.
    - samples: how many samples of the run the card shows, with their sound.
    """
    check_repository(to)
    hub_library()
    with TemporaryDirectory() as folder:
        write_shared(run, Path(folder), f"hf:{to}", half, samples, audio=True)
        address = upload_folder(Path(folder), to, private)
    print(f"published {address}")
    return address


def main() -> None:
    with console.one_line_errors():
        console.quiet()
        if help_requested(sys.argv[1:]):
            print_usage(CALL, description(publish), Section("settings", publish), examples=EXAMPLES)
        settings = console.key_values(sys.argv[1:])
        if not {"run", "to"} <= set(settings):
            raise UserError(f"which run, and to which repository? musegen {CALL}")
        publish(**check_settings(publish, read_typed(publish, settings), "publish"))


if __name__ == "__main__":
    main()
