"""The studio's page in the system's Chromium, without a network beyond the studio."""

from __future__ import annotations

import json
import subprocess
import tarfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from browser import chromium, wait_until
from conftest import make_notes, tune
from studio_server import Client, studio

import musegen.render.piano as piano
from musegen.codecs.midi import read_notes, write_notes
from musegen.models.rbm import RBM
from musegen.sharing.folder import write_model
from musegen.specs import Frames

pytestmark = pytest.mark.slow
LIMIT = 60.0
"""Seconds that one action of a page may take."""
AXE = "axe-core@4.10.3"
PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}
PAGES = ("music", "digits", "letters", "counting")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    folder = tmp_path_factory.mktemp("studio")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        write_model(RBM(Frames(64), hidden=12), folder / "small")
    with studio(folder, run=str(folder / "small")) as client:
        yield client


@contextmanager
def opened(
    browser: Any, client: Client, page_name: str = "music", **settings: Any
) -> Iterator[Any]:
    """A page of the studio. Fails at the end if there was a message on the console or a request to
    another place."""
    context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **settings})
    context.set_default_timeout(1000 * LIMIT)
    page = context.new_page()
    messages: list[str] = []
    page.on("console", lambda message: messages.append(message.text))
    page.on("pageerror", lambda error: messages.append(str(error)))
    own = (client.address, "blob:", "data:")

    def check(route: Any) -> None:
        if route.request.url.startswith(own):
            route.continue_()
        else:
            messages.append(f"request: {route.request.url}")
            route.abort()

    context.route("**/*", check)
    page.goto(f"{client.address}/#{page_name}")
    page.wait_for_selector("body[data-ready]")
    yield page
    context.close()
    assert messages == []


def idle(page: Any) -> None:
    page.wait_for_selector("#work", state="hidden")
    assert page.text_content("#problem") == ""


def write(page: Any, button: str = "#generate", **fields: Any) -> None:
    """Let the model write, and wait for it."""
    for name, value in fields.items():
        page.fill(f"#{name.replace('_', '-')}", str(value))
    page.click(button)
    idle(page)


def keep(page: Any, suffix: str, folder: Path) -> Path:
    with page.expect_download() as download:
        page.click(f"[data-format={suffix}]")
    path = folder / f"kept.{suffix}"
    download.value.save_as(path)
    return path


def notes(page: Any, folder: Path) -> np.ndarray:
    """The piece on the page, as it is kept."""
    return read_notes(keep(page, "mid", folder))


def open_file(page: Any, piece: np.ndarray, folder: Path) -> None:
    write_notes(piece, folder / "my.mid")
    count = page.text_content("#roll-text")
    page.set_input_files("#file", folder / "my.mid")
    end = time.monotonic() + LIMIT
    while page.text_content("#roll-text") == count:
        assert time.monotonic() < end
        time.sleep(0.02)


def point(page: Any, seconds: float, pitch: int) -> tuple[float, float]:
    """Where a time and the middle of a pitch are on the screen."""
    box, at = page.locator("#roll").bounding_box(), page.evaluate(
        """() => { const { scale, row } = JSON.parse(localStorage["musegen.studio"]);
        const { scrollLeft, scrollTop } = document.querySelector("#scroll");
        return { scale, row, scrollLeft, scrollTop }; }"""
    )  # fmt: skip
    x = box["x"] + 46 + seconds * at["scale"] - at["scrollLeft"]
    return x, box["y"] + 20 + (108 - pitch + 0.5) * at["row"] - at["scrollTop"]


def drag(page: Any, start: tuple[float, float], end: tuple[float, float]) -> None:
    page.mouse.move(*start)
    page.mouse.down()
    page.mouse.move(*end, steps=5)
    page.mouse.up()


def settled(page: Any) -> None:
    """Wait until the session is stored."""
    page.wait_for_timeout(350)


def test_generating_plays_and_is_collected(browser: Any, client: Client, tmp_path: Path) -> None:
    with opened(browser, client) as page:
        assert page.is_disabled("#continue")
        page.click("#loop")  # so that a busy computer cannot miss that it plays
        write(page, length=4)
        piece = notes(page, tmp_path)
        assert 6 < piece["end"].max() <= 8.001
        page.wait_for_selector("#play.playing")
        wait_until(page, "document.querySelector('#seek').value > 0.3")
        page.click("#play")
        write(page, "#another")
        assert page.input_value("#settings [data-setting=seed]") == "1"
        other = notes(page, tmp_path)
        assert other.tolist() != piece.tolist()
        page.click("#undo")
        assert notes(page, tmp_path).tolist() == piece.tolist()
        assert page.locator(".take").count() == 2
        page.click("[aria-label='A: compare take 2']")
        assert page.is_hidden("#compare")
        page.click("[aria-label='B: compare take 1']")
        assert page.locator("#compare dt").all_text_contents() == ["seed", "seed"]
        page.click("#compare [data-take='1']")
        page.wait_for_selector("#compare [data-take='1'].playing")
        page.click("[aria-label='Edit take 2']")
        assert notes(page, tmp_path).tolist() == other.tolist()


def test_stopping_keeps_what_was_written(browser: Any, client: Client, tmp_path: Path) -> None:
    with opened(browser, client) as page:
        page.select_option("#model", "mozart")
        page.wait_for_selector("#settings [data-setting=top_p]")
        page.uncheck("#listen")
        page.fill("#length", "250")
        page.click("#generate")
        page.wait_for_selector("#progress[value]")
        wait_until(page, "document.querySelector('#total').textContent !== '0:00'")
        page.click("#stop")
        idle(page)
        assert page.text_content("#status").startswith("Generate: stopped")
        assert 0 < notes(page, tmp_path)["end"].max() < 480
        started = time.monotonic()
        client.done("letters", {"model": "counting", "text": "01"})  # nothing runs any more
        assert time.monotonic() - started < 60


def test_editing_with_the_mouse(browser: Any, client: Client, tmp_path: Path) -> None:
    with opened(browser, client) as page:
        open_file(page, make_notes([(0.0, 1.0, 60, 80), (1.0, 2.0, 67, 80)]), tmp_path)
        settled(page)
        drag(page, point(page, 2.05, 64), point(page, 2.45, 64))  # draw, on a grid of 1/16
        drag(page, point(page, 0.5, 60), point(page, 0.99, 62))  # move
        drag(page, point(page, 1.99, 67), point(page, 2.99, 67))  # stretch
        edited = [(0.5, 1.5, 62, 80), (1.0, 3.0, 67, 80), (2.0, 2.5, 64, 80)]
        assert notes(page, tmp_path).tolist() == make_notes(edited).tolist()
        page.mouse.click(*point(page, 2.2, 64), button="right")  # delete
        assert notes(page, tmp_path)["pitch"].tolist() == [62, 67]
        page.keyboard.press("Control+z")
        page.keyboard.press("Control+z")
        assert notes(page, tmp_path)["end"].max() == 2.5
        page.keyboard.press("Control+Shift+z")
        page.keyboard.press("Control+y")
        assert notes(page, tmp_path)["pitch"].tolist() == [62, 67]
        page.check("[name=tool][value=select]", force=True)
        drag(page, point(page, 1.3, 65), point(page, 2.7, 70))
        assert page.text_content("#region-text") == "1.3 to 2.8 s, pitches 65 to 70"
        assert page.text_content("#roll-text") == "2 notes, 1 selected"
        page.click("#delete")
        assert notes(page, tmp_path)["pitch"].tolist() == [62]
        scale = page.evaluate("JSON.parse(localStorage['musegen.studio']).scale")
        page.click("#zoom-in")
        settled(page)
        zoomed = page.evaluate("JSON.parse(localStorage['musegen.studio']).scale")
        assert zoomed == pytest.approx(1.5 * scale)


def test_editing_with_the_keyboard(browser: Any, client: Client, tmp_path: Path) -> None:
    with opened(browser, client) as page:
        page.focus("#roll")
        for key in ("Enter", "ArrowUp", "ArrowUp", "ArrowRight", "Enter"):
            page.keyboard.press(key)
        step = 0.125
        drawn = [(0.0, step, 60, 80), (2 * step, 3 * step, 62, 80)]
        assert notes(page, tmp_path).tolist() == make_notes(drawn).tolist()
        page.focus("#roll")
        for key in ("n", "Shift+ArrowRight", "Shift+ArrowUp", "ArrowRight"):
            page.keyboard.press(key)
        assert page.text_content("#status") == "C5, 0.13 to 0.38 seconds"
        page.keyboard.press("Control+a")
        page.keyboard.press("ArrowDown")
        assert sorted(notes(page, tmp_path)["pitch"]) == [61, 71]
        page.focus("#roll")
        page.keyboard.press("Escape")
        for key in ("Home", "[", "ArrowRight", "]"):
            page.keyboard.press(key)
        assert page.text_content("#region-text") == "0.0 to 0.3 s, all pitches"
        page.keyboard.press("l")  # so that a busy computer cannot miss that it plays
        page.keyboard.press(" ")
        page.wait_for_selector("#play.playing")
        page.keyboard.press("n")
        page.keyboard.press("Delete")
        assert page.text_content("#roll-text") == "1 notes"


def test_the_computers_keys_play_notes(browser: Any, client: Client, tmp_path: Path) -> None:
    with opened(browser, client) as page:
        page.click("#record")
        for key in ("KeyA", "KeyW", "KeyX", "KeyA"):
            page.keyboard.down(key)
            page.wait_for_timeout(60)
            page.keyboard.up(key)
        assert sorted(notes(page, tmp_path)["pitch"]) == [60, 61, 72]
        page.click("#record")
        page.keyboard.press("a")
        assert page.text_content("#roll-text") == "3 notes"


KEYBOARD = """() => {
    const keyboard = { onmidimessage: null };
    const access = { inputs: new Map([["one", keyboard]]), onstatechange: null };
    navigator.requestMIDIAccess = async () => access;
    globalThis.send = (...data) => keyboard.onmidimessage({ data });
}"""
"""A MIDI keyboard that is not there: no test computer has one."""


def test_a_midi_keyboard_plays_notes(browser: Any, client: Client, tmp_path: Path) -> None:
    with opened(browser, client) as page:
        page.evaluate(KEYBOARD)
        page.click("#midi")
        page.wait_for_selector("#midi[aria-pressed=true]")
        page.evaluate("send(0x90, 64, 100)")
        page.wait_for_timeout(100)
        page.evaluate("send(0x90, 67, 50)")
        page.evaluate("send(0x80, 64, 0)")
        page.evaluate("send(0x90, 67, 0)")  # a release as well
        played = notes(page, tmp_path)
        assert played[["pitch", "velocity"]].tolist() == [(64, 100), (67, 50)]
        assert 0.05 < played["end"][0] < 5
        page.click("#midi")
        page.wait_for_selector("#midi[aria-pressed=false]")


def test_a_dropped_file_is_opened_and_loops(browser: Any, client: Client, tmp_path: Path) -> None:
    write_notes(make_notes([(0.0, 0.5, 60, 80), (0.5, 1.0, 64, 80)]), tmp_path / "my.mid")
    content = list((tmp_path / "my.mid").read_bytes())
    drop = """content => {
        const dataTransfer = new DataTransfer();
        dataTransfer.items.add(new File([Uint8Array.from(content)], "my.mid"));
        dispatchEvent(new DragEvent("drop", { dataTransfer }));
    }"""
    with opened(browser, client) as page:
        page.evaluate(drop, content)
        page.wait_for_selector("#roll-text:has-text('2 notes')")
        page.click("#loop")
        page.click("#play")
        page.wait_for_timeout(2500)  # longer than the piece
        assert page.get_attribute("#play", "aria-label") == "Pause"
        assert 0 <= float(page.input_value("#seek")) <= 1
        page.click("#loop")
        page.wait_for_selector("#play[aria-label=Play]")  # it ends


@pytest.mark.parametrize("model", ["jsb", "mozart"])
def test_continuing_a_file(browser: Any, client: Client, tmp_path: Path, model: str) -> None:
    piece = tune(2, n=12)
    with opened(browser, client) as page:
        page.select_option("#model", model)
        page.uncheck("#listen")
        open_file(page, piece, tmp_path)
        write(page, "#continue", length=2)
        continued = notes(page, tmp_path)
        assert np.allclose(continued["start"][: len(piece)], piece["start"], atol=2e-3)
        assert continued["pitch"][: len(piece)].tolist() == piece["pitch"].tolist()
        assert continued["end"].max() > piece["end"].max() + 2
        page.click("#undo")
        assert len(notes(page, tmp_path)) == len(piece)


def test_a_region_is_rewritten(browser: Any, client: Client, tmp_path: Path) -> None:
    with opened(browser, client) as page:
        page.uncheck("#listen")
        write(page, length=4)
        piece = notes(page, tmp_path)
        page.check("[name=tool][value=select]", force=True)
        settled(page)
        ruler = page.locator("#roll").bounding_box()["y"] + 8
        left, right = (point(page, seconds, 60)[0] for seconds in (2.2, 3.8))
        drag(page, (left, ruler), (right, ruler))  # the second bar
        assert page.text_content("#region-text") == "2.0 to 4.0 s, all pitches"
        write(page, "#rewrite")
        first = notes(page, tmp_path)
        write(page, "#another")
        second = notes(page, tmp_path)

    def sounding(rows: np.ndarray, inside: bool) -> list[list[int]]:
        """The pitches in each frame: a note that began in the region may end after it."""
        frames = [t for t in np.arange(0.25, 8, 0.5) if (2 < t < 4) == inside]
        return [sorted(rows["pitch"][(rows["start"] < t) & (rows["end"] > t)]) for t in frames]

    assert sounding(first, inside=False) == sounding(piece, inside=False)
    assert sounding(second, inside=False) == sounding(piece, inside=False)
    assert len({str(sounding(rows, inside=True)) for rows in (piece, first, second)}) == 3


def test_harmonise_vary_and_surprise(browser: Any, client: Client, tmp_path: Path) -> None:
    melody = make_notes([(0.0, 0.5, 72, 80), (0.5, 1.0, 74, 80), (1.0, 2.0, 76, 80)])
    with opened(browser, client) as page:
        page.uncheck("#listen")
        open_file(page, melody, tmp_path)
        write(page, "#harmonise")
        harmonised = notes(page, tmp_path)
        assert set(melody.tolist()) < set(harmonised.tolist())
        write(page, "#vary")
        assert notes(page, tmp_path).tolist() != harmonised.tolist()
        page.click("#surprise")
        page.wait_for_selector("#surprise[aria-pressed=true]")
        assert "nats" in page.text_content("#legend-text")
        page.click("#undo")
        assert page.is_hidden("#legend")


def test_a_file_that_is_no_midi_file_is_one_line(browser: Any, client: Client) -> None:
    with opened(browser, client) as page:
        file = {"name": "a.mid", "mimeType": "audio/midi", "buffer": b"nonsense"}
        page.set_input_files("#file", file)
        page.wait_for_selector("#problem:not(:empty)")
        assert page.text_content("#problem").startswith("this file: not a readable MIDI file")
        page.fill("#settings [data-setting=seed]", "-1")
        page.click("#generate")
        page.wait_for_selector("#problem:has-text('generate.seed=-1')")
        assert page.is_enabled("#generate")


def test_every_format_is_kept(browser: Any, client: Client, tmp_path: Path) -> None:
    piece = make_notes([(0.0, 0.5, 67, 80), (0.5, 1.0, 69, 80), (1.0, 2.0, 60, 80)])
    with opened(browser, client) as page:
        open_file(page, piece, tmp_path)
        kept = {
            suffix: keep(page, suffix, tmp_path) for suffix in ("mid", "wav", "musicxml", "png")
        }
    assert read_notes(kept["mid"]).tolist() == piece.tolist()
    sound, rate = soundfile.read(kept["wav"])
    assert len(sound) / rate == pytest.approx(2.3, abs=0.01)
    assert kept["png"].read_bytes().startswith(b"\x89PNG")
    from music21 import converter

    score = converter.parse(kept["musicxml"])
    assert sorted(p.midi for n in score.recurse().notes for p in n.pitches) == [60, 67, 69]


def test_the_session_survives_a_reload(browser: Any, client: Client, tmp_path: Path) -> None:
    with opened(browser, client) as page:
        page.uncheck("#listen")
        page.select_option("#model", "nottingham")
        write(page, length=3)
        page.check("[name=tool][value=select]", force=True)
        page.fill("#tempo", "90")
        page.press("#tempo", "Enter")
        piece = notes(page, tmp_path)
        page.reload()
        page.wait_for_selector("body[data-ready]")
        assert notes(page, tmp_path).tolist() == piece.tolist()
        assert page.input_value("#model") == "nottingham"
        assert (page.input_value("#tempo"), page.input_value("#length")) == ("90", "3")
        assert page.is_checked("[name=tool][value=select]")
        assert page.locator(".take").count() == 1


def test_the_page_plays_what_python_renders(browser: Any, client: Client) -> None:
    code = """async () => {
        const { ready, tone } = await import("./piano.js");
        await ready;
        return [...tone(64, 90, 4000)];
    }"""
    with opened(browser, client) as page:
        sound = np.array(page.evaluate(code))
    expected = piano.tone(64, 90, 4000)
    assert np.abs(sound - expected).max() < 0.02 * np.abs(expected).max()


def test_a_drawn_frame_runs_through_the_chain(browser: Any, client: Client) -> None:
    with opened(browser, client, "digits") as page:
        page.wait_for_selector("#filters-text:not(:empty)")
        box = page.locator("#sheet").bounding_box()
        before = page.screenshot(clip=page.locator("#filters").bounding_box())
        corner = box["x"] + 20, box["y"] + 20
        drag(page, corner, (box["x"] + box["width"] - 20, box["y"] + box["height"] - 20))
        page.wait_for_timeout(300)
        assert page.screenshot(clip=page.locator("#filters").bounding_box()) != before
        drawn = page.screenshot(clip=box)
        page.click("#chain")
        page.wait_for_timeout(500)
        assert page.screenshot(clip=box) != drawn
        page.click("#chain")
        assert page.get_attribute("#chain", "aria-pressed") == "false"
        page.focus("#sheet")
        page.keyboard.press("ArrowLeft")
        page.keyboard.press(" ")
        assert page.text_content("#status").startswith("column 4, row 5 of 8, o")


def test_names_and_their_letters(browser: Any, client: Client) -> None:
    with opened(browser, client, "letters") as page:
        page.click("#write")
        page.wait_for_selector(".name >> nth=7")
        page.wait_for_selector("#write:enabled")
        name = page.text_content(".name >> nth=0")
        page.click(".name >> nth=0")
        wait_until(
            page,
            f"document.querySelectorAll('.step').length === {len(name) + 1} && "
            f"document.querySelector('.letter').textContent === {json.dumps(name[0])}",
        )
        assert page.locator(".step >> nth=0").locator("li").count() == 8


def test_a_string_is_read_symbol_by_symbol(browser: Any, client: Client) -> None:
    with opened(browser, client, "counting") as page:
        page.wait_for_selector(".cell >> nth=8")
        page.fill("#string", "000111")
        page.wait_for_selector(".cell >> nth=7", state="detached")
        assert page.get_attribute(".cell >> nth=6", "aria-label") == "1, then end expected"
        page.click(".cell >> nth=3")
        assert page.input_value("#at") == "3"
        assert "The state after 3 symbols" in page.get_attribute("#plane svg", "aria-label")
        assert page.locator(".wrong").count() == 0


@pytest.mark.parametrize("name", PAGES)
def test_on_a_phone_nothing_is_wider_than_the_screen(
    browser: Any, client: Client, name: str
) -> None:
    with opened(browser, client, name, **PHONE) as page:
        page.wait_for_timeout(300)
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        if name == "music":
            page.uncheck("#listen")
            write(page, length=2)
            page.locator("#roll").scroll_into_view_if_needed()
            count = page.text_content("#roll-text")
            box = page.locator("#roll").bounding_box()
            page.touchscreen.tap(box["x"] + 60, box["y"] + box["height"] - 12)
            wait_until(
                page, f"document.querySelector('#roll-text').textContent !== {json.dumps(count)}"
            )
            assert page.evaluate("document.documentElement.scrollWidth") <= 390


@pytest.fixture(scope="module")
def axe(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The script of axe-core, from npm; the test is skipped without it."""
    folder = tmp_path_factory.mktemp("axe")
    command = ["npm", "pack", "--silent", AXE]
    try:
        subprocess.run(command, cwd=folder, check=True, capture_output=True, timeout=120)
        with tarfile.open(next(folder.glob("*.tgz"))) as archive:
            script = archive.extractfile("package/axe.min.js")
            assert script is not None
            return script.read().decode()
    except (OSError, subprocess.SubprocessError, StopIteration) as e:
        pytest.skip(f"npm pack {AXE} failed ({type(e).__name__})")


@pytest.mark.parametrize("name", PAGES)
def test_axe_finds_no_violation(browser: Any, client: Client, axe: str, name: str) -> None:
    with opened(browser, client, name) as page:
        if name == "music":
            page.uncheck("#listen")
            write(page, length=2)
            write(page, "#another")
            page.click("[aria-label='A: compare take 2']")
            page.click("[aria-label='B: compare take 1']")
            page.click("summary")
        page.wait_for_timeout(500)
        page.evaluate(axe)
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme)
            found = page.evaluate("axe.run()")["violations"]
            assert [(v["id"], [n["html"][:100] for n in v["nodes"]]) for v in found] == []
