"""The setting `sound`: instruments, SoundFont files and programs, and what is refused."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from musegen.config.sound import SoundFont, check_sound, sound_font
from musegen.config.typed import absolute_overrides
from musegen.errors import UserError


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The checks are the same whether or not the optional package is here."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())


@pytest.fixture
def font(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The first bytes of a SoundFont, in the current folder."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "a b.SF3"
    path.write_bytes(b"RIFF\4\0\0\0sfbk")
    return path


@pytest.mark.parametrize("name", ["piano", "additive"])
def test_instruments(name: str) -> None:
    assert check_sound(name) == name
    assert sound_font(name) is None


@pytest.mark.usefixtures("installed")
def test_soundfonts(font: Path) -> None:
    assert check_sound("a b.SF3") == str(font)
    assert sound_font(str(font)) == SoundFont(font, None)
    assert check_sound(f"{font}:40") == f"{font}:40"
    assert sound_font(f"{font}:40") == SoundFont(font, 40)


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("pianoo", "should be piano, additive, FILE.sf2"),
        (None, "should be piano"),
        (True, "should be piano"),
        ("a b.SF3:128", "a program from 0 to 127"),
        ("a b.SF3:-1", "should be piano"),
        ("none.sf2", "sound=none.sf2: no such file"),
        ("text.sf2", "sound=text.sf2: not a SoundFont file"),
    ],
)
def test_refused_in_one_line(font: Path, value: object, message: str) -> None:
    font.with_name("text.sf2").write_text("a text that is longer than a header")
    with pytest.raises(UserError, match=message) as refused:
        check_sound(value)
    assert "\n" not in str(refused.value)


def test_a_missing_package_is_named(font: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match="pip install --no-deps tinysoundfont"):
        check_sound(font)


def test_a_resumed_run_finds_the_file_from_another_folder(font: Path) -> None:
    settings = {"sound": f"{font}:40", "seed": 1}
    overrides = absolute_overrides(settings, ["sound=a b.SF3:40", "seed=1"])
    assert overrides == [f"sound={font}:40", "seed=1"]
