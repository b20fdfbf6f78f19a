"""A page that plays with trained models: `musegen studio [run=<run folder or checkpoint>]`."""

from __future__ import annotations

import os
import socket
import sys
import webbrowser
from pathlib import Path
from typing import Annotated

from annotated_types import Interval

from musegen.cli import console
from musegen.cli.usage import Section, description, help_requested, print_usage
from musegen.config.typed import read_typed
from musegen.config.validation import check_settings
from musegen.constraints import check_arguments
from musegen.errors import UserError

CALL = "studio [run=<run folder or checkpoint>] [port=0] [open=true] [key=value …]"
EXAMPLES = ("studio", "studio run=runs/mozart", "studio port=8000 open=false")
Port = Annotated[int, Interval(ge=0, le=65535)]


@check_arguments
def serve(
    run: str | None = None,
    host: str = "127.0.0.1",
    port: Port = 0,
    open: bool = True,
    runs: Path = Path("runs"),
    out: Path = Path("studio"),
) -> None:
    """Start the studio: a page in the browser that generates, edits, rewrites and keeps music.

    It also shows what RBMs and char_rnns compute. It needs no network, and ends with Ctrl-C.

    - run: a run folder, a checkpoint or hf:USER/NAME that is first in the list of models; the list
      has the pretrained models and all runs in any case.
    - host: the address on which it listens. By default only this computer can reach it; 0.0.0.0
      lets everyone in the network use it.
    - port: the port; 0 takes a free one.
    - open: open the page in the browser.
    - runs: the folder in which runs are searched.
    - out: the folder of the files that are kept in the studio.
    """
    try:
        from musegen.studio.server import Server, make_app
    except ImportError as e:
        if (e.name or "").partition(".")[0] not in ("starlette", "uvicorn"):
            raise
        raise UserError("the studio needs two more packages: pip install 'musegen[studio]'") from e
    from musegen.studio.models import Catalogue
    from musegen.studio.session import Session

    app = make_app(Catalogue(run, runs), Session(out), host)
    listening = listen(host, port)
    address = f"http://{shown(host)}:{listening.getsockname()[1]}/"
    print(f"musegen studio: {address}  (Ctrl-C ends it)", flush=True)
    if open and has_screen():
        webbrowser.open(address)
    try:
        Server(app).run(sockets=[listening])
    except KeyboardInterrupt:
        print("musegen studio: ended")


def has_screen() -> bool:
    """Whether a browser with windows can be opened; one in the terminal would block the studio."""
    screens = ("DISPLAY", "WAYLAND_DISPLAY")
    return sys.platform in ("darwin", "win32") or any(map(os.environ.get, screens))


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens. Raises `UserError` if the address cannot be used."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except OSError as e:
        reason = os.strerror(e.errno or 0)
        raise UserError(f"host={host} port={port}: cannot listen there ({reason})") from e


def shown(host: str) -> str:
    """The host in an address that a browser on this computer opens."""
    if host in ("0.0.0.0", "::"):
        return "127.0.0.1"
    return f"[{host}]" if ":" in host else host


def main() -> None:
    with console.one_line_errors():
        console.quiet()
        if help_requested(sys.argv[1:]):
            print_usage(CALL, description(serve), Section("settings", serve), examples=EXAMPLES)
        settings = console.key_values(sys.argv[1:])
        serve(**check_settings(serve, read_typed(serve, settings), "studio"))


if __name__ == "__main__":
    main()
