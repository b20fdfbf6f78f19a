"""`musegen studio`: the address it prints, how it ends, and what it refuses."""

from __future__ import annotations

import builtins
import re
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from musegen.cli import studio
from tests.conftest import ROOT


@pytest.mark.slow
def test_it_serves_until_it_is_interrupted(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "musegen", "studio", "open=false", "run=jsb"]
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    environment = {"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "MUSEGEN_CACHE": str(tmp_path)}
    with subprocess.Popen(command, cwd=tmp_path, env=environment, **pipes) as process:
        line = process.stdout.readline()
        address = re.search(r"http://127\.0\.0\.1:\d+/", line)
        assert address, line + process.stderr.read()
        with urllib.request.urlopen(address[0]) as page:
            assert b"<title>musegen studio</title>" in page.read()
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (0, "musegen studio: ended\n", "")
    assert not (tmp_path / "studio").exists()


def test_without_the_extra_it_says_what_to_install(
    cli: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    find = builtins.__import__

    def without(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.partition(".")[0] in ("uvicorn", "starlette"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return find(name, *args, **kwargs)

    for module in [m for m in sys.modules if m.startswith("musegen.studio.server")]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setattr(builtins, "__import__", without)
    code, out, err = cli(studio.main, "open=false")
    assert (code, out) == (1, "")
    assert err == "musegen: the studio needs two more packages: pip install 'musegen[studio]'\n"


@pytest.mark.parametrize(
    ("setting", "line"),
    [
        ("port=70000", "studio.port=70000: should be less than or equal to 65535"),
        ("prot=8000", "studio.prot: no such setting; did you mean port?"),
        ("run=none", "run=none: no such run folder or checkpoint"),
        ("host=198.51.100.7", "host=198.51.100.7 port=0: cannot listen there"),
    ],
)
def test_wrong_settings_are_one_line(cli: Any, setting: str, line: str) -> None:
    code, out, err = cli(studio.main, "open=false", setting)
    assert (code, out) == (1, "")
    assert err.startswith(f"musegen: {line}")
    assert err.count("\n") == 1


def test_a_port_in_use_is_one_line(cli: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        code, _, err = cli(studio.main, "open=false", f"port={taken.getsockname()[1]}")
    assert code == 1
    assert "cannot listen there (Address already in use)" in err


def test_a_browser_in_the_terminal_is_not_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    assert not studio.has_screen()
    monkeypatch.setenv("WAYLAND_DISPLAY", "wayland-0")
    assert studio.has_screen()
