"""The report of a run: its contents, and its behaviour in a browser without a network."""

from __future__ import annotations

import base64
import io
import itertools
import json
import re
import shutil
import wave
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from browser import chromium, opened, wait_until
from conftest import make_notes, tune
from render.test_audio import measured_frequency

from musegen.cli import report
from musegen.codecs.midi import read_notes, write_notes
from musegen.render.audio import synthesise
from musegen.render.report import write_page
from musegen.render.tiles import write_tiles
from musegen.render.waveform import RATE

MIN_CONTRAST = 4.5
"""The contrast of text that WCAG 2.2 requires at level AA."""


def music_json() -> dict[str, Any]:
    """One metric with values, one without; hazards by age; copying."""
    names = [s + q for s in ("samples", "training", "held_out") for q in ("", "_5", "_95", "_mean")]
    missing = dict.fromkeys([*names, "overlap", "ceiling", "ratio", "held_out_ratio"])
    polyphony = missing | {"samples": 2.5, "training": 3.0, "training_5": 1.25, "training_95": 4.75,
                           "overlap": 0.72, "ceiling": 0.96, "ratio": 0.75}  # fmt: skip
    copied = {"runs_of_8": 0.125, "longest": 9.0, "longest_max": 31.0}
    return {
        "headline": 0.875, "held_out_headline": 0.985,
        "excerpts": {"seconds": 60.0, "samples": 4, "training": 128, "held_out": 20},
        "measures": {"polyphony": polyphony, "groove_consistency": missing},
        "hazard": {"unit": 1, "samples": [0.0625] * 63 + [None], "training": [0.5] * 64},
        "copying": {"samples": copied, "held_out": dict.fromkeys(copied)},
    }  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder made by hand: a tune, one long A4, a silent piece, pictures, texts."""
    folder = tmp_path_factory.mktemp("runs") / "one"
    (folder / "samples").mkdir(parents=True)
    config = {
        "model": {"_target_": "musegen.models.lstm_midi.LSTMMidi", "hidden": 16},
        "data": {"_target_": "datamodules.message_streams.Mozart", "root": None},
        "seed": 1, "monitor": "val/nll", "run_dir": str(folder),
    }  # fmt: skip
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    (folder / "metrics.csv").write_text(
        "epoch,step,train/nll,val/nll,val/accuracy\n"
        "0,9,,5.5,0.1\n0,9,6.0,,\n1,19,,4.25,0.2\n1,19,5.0,,\n2,29,,nan,0.3\n"
    )
    metrics = {"nll": 4.5, "accuracy": 0.25, "bpc/<b>": 1.0, "ngram_bpc/<b>": 2.0,
               "gain/<b>": 1.0, "bpc/Oz": 3.0, "unigram_nll": 6.5, "ngram_order": 4}  # fmt: skip
    (folder / "test.json").write_text(json.dumps(metrics))
    (folder / "run.json").write_text(json.dumps({
        "model": "lstm_midi", "weights": 12345, "data": "train 3 pieces", "device": "1 × cpu",
        "precision": "32-true", "epochs": 3, "best": 4.25, "started": "2026-11-23 08:00",
        "seconds": 83.4, "command": "python train.py model=lstm_midi data=mozart",
        "commit": None, "versions": {"python": "3.11"},
    }))  # fmt: skip
    (folder / "music.json").write_text(json.dumps(music_json()))
    write_notes(tune(3, 24), folder / "samples" / "00.mid")
    write_notes(make_notes([(0.0, 3.0, 69, 100)] * 1), folder / "samples" / "01.mid")
    write_notes(make_notes([]), folder / "samples" / "02.mid")
    (folder / "samples" / "samples.txt").write_text("<script>alert(1)</script>\n")
    for epoch in (1, 2):
        write_tiles([np.eye(4)], folder / "previews" / f"epoch_{epoch:03d}" / "filters.png")
    write_tiles(
        [np.eye(4)], folder / "samples" / "00.png"
    )  # a piano-roll, which the page draws itself
    write_page([folder])
    return folder


@pytest.fixture(scope="module")
def other(folder: Path) -> Path:
    """An unfinished run with other settings: only a config and curves."""
    other = folder.parent / "two"
    other.mkdir()
    config = (folder / "config.yaml").read_text().replace("hidden: 16", "hidden: 32")
    (other / "config.yaml").write_text(config.replace(str(folder), str(other)))
    (other / "metrics.csv").write_text("epoch,step,val/nll\n0,9,5.25\n1,19,4.0\n")
    return other


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as running:
        yield running


def test_the_page_contains_the_data_of_the_folder(folder: Path) -> None:
    html = (folder / "report.html").read_text()
    for text in ("lstm_midi", "12,345", "train 3 pieces", "1 min 23 s", "4.25", "1 × cpu",
                 "python train.py model=lstm_midi data=mozart", "Polyphony", "0.75",
                 "Degenerate: silence", "Degenerate: only 1 notes", "hidden: 16"):  # fmt: skip
        assert text in html, text
    (table,) = re.findall(r"<h2 id=\"test\">.*?</section>", html, re.S)
    rows = re.findall(r"<tr.*?>\s*(.*?)</tr>", table, re.S)
    assert "Baselines. Unigram: the frequencies of the training split, without context." in html
    assert '<span class="explanation">−log p of each prediction; 0 is best</span>' in rows[1]
    rows = [re.sub(r'<span class="explanation">.*?</span>', "", row) for row in rows]
    assert [re.sub(r"<[^>]+>", " ", row).split() for row in rows] == [
        ["test", "split", "this", "run"],
        ["Negative", "log-likelihood", "(nats)", "4.5"],
        ["baseline", "unigram", "6.5"],
        ["Accuracy", "(fraction)", "0.25"],
        ["baseline", "best", "n-gram,", "Order", "of", "the", "best", "n-gram", "4"],
        ["test", "split", "Bits", "per", "character", "baseline", "best", "n-gram",
         "Gain", "over", "the", "best", "n-gram", "(bits", "per", "character)"],
        ["&lt;b&gt;", "1", "2", "1"],
        ["Oz", "3", "–", "–"],
    ]  # fmt: skip
    (table,) = re.findall(r"<h2 id=\"music\">.*?</section>", html, re.S)
    rows = re.findall(r"<tr.*?>\s*(.*?)</tr>", table, re.S)
    cells = [re.sub(r"<[^>]+>", " ", row).split() for row in rows]
    assert " ".join(cells[1]).endswith("2.5 [– … –] 3 [1.25 … 4.75] 0.72 ÷ 0.96 = 0.75")
    assert " ".join(cells[2]).endswith("– [– … –] – [– … –] – ÷ – = –")
    assert ["8-note", "runs", "(fraction)", "0.125", "–"] in cells
    assert ["samples", *["0.0625"] * 11] in cells
    assert "<strong>0.88</strong> of the overlap" in table
    assert "<script>alert" not in html
    assert "previews/epoch_002/filters" in html
    assert "previews/epoch_001/filters" not in html
    assert html.count("<img") == 1
    description = "validation from 5.5 in epoch 1 to 4.25 in epoch 2; training from 6 in epoch 1"
    assert f"Negative log-likelihood (nats): {description}" in html


def test_the_page_contains_the_midi_files(folder: Path, tmp_path: Path) -> None:
    html = (folder / "report.html").read_text()
    first = re.findall(r"data:audio/midi;base64,([\w+/=]+)", html)[0]
    (tmp_path / "copy.mid").write_bytes(base64.b64decode(first))
    np.testing.assert_array_equal(
        read_notes(tmp_path / "copy.mid"), read_notes(folder / "samples" / "00.mid")
    )


def test_the_metrics_of_an_older_version_are_left_out(folder: Path, tmp_path: Path) -> None:
    old = tmp_path / "old"
    old.mkdir()
    (old / "config.yaml").write_text((folder / "config.yaml").read_text())
    (old / "music.json").write_text(json.dumps({"polyphony": {"samples": 2.5, "overlap": 0.75}}))
    assert "Music metrics" not in write_page([old]).read_text()


def test_several_runs_side_by_side(cli, folder: Path, other: Path, tmp_path: Path) -> None:
    code, out, err = cli(report.main, f"run={folder}", f"run={other}", "out=both.html")
    assert code == 0, err
    assert out.strip() == "both.html"
    html = (tmp_path / "both.html").read_text()
    (differing,) = re.findall(r"<h3>Settings that differ</h3>.*?</section>", html, re.S)
    (row,) = re.findall(r"<tr><th scope=\"row\">(.*?)</tr>", differing, re.S)
    name, cells = row.replace("<wbr>", "").split("</th>")
    assert name.startswith("Model: hidden <code>model.hidden</code><span")
    assert re.findall(r"<td>(.*?)</td>", cells) == ["16", "32"]
    assert "one, validation from 5.5" in html
    assert "two, validation from 5.25" in html


def test_a_picture_has_a_version_for_a_dark_page(
    browser: Any, folder: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(folder, run)
    for name, grey in (("units", 1.0), ("units_dark", 0.0)):
        write_tiles([np.full((1, 4), grey)], run / "dissection" / f"{name}.png")
    page_file = write_page([run])
    assert page_file.read_text().count("Every hidden unit while the network reads the text") == 1
    colour = """() => {
        const [canvas, img] = [document.createElement('canvas'),
                               document.querySelector('img[alt="dissection/units"]')];
        const context = canvas.getContext('2d');
        context.drawImage(img, 0, 0);
        return context.getImageData(0, 0, 1, 1).data[0];
    }"""
    for scheme, value in (("light", 255), ("dark", 0)):
        with opened(browser, page_file, color_scheme=scheme) as page:
            assert page.evaluate(colour) == value


def test_no_word_of_the_settings_is_broken(browser: Any, folder: Path, tmp_path: Path) -> None:
    """On a phone, lines end after words, or after a dot, slash or underscore of a long name."""
    run = tmp_path / "run"
    shutil.copytree(folder, run)
    text = (run / "config.yaml").read_text()
    (run / "config.yaml").write_text(text.replace("Mozart", "MidiFolder"))
    lines = """() => [...document.querySelectorAll('.settings code, .settings td')].flatMap(e => {
        const found = [];
        let last = null;
        for (const node of [...e.childNodes].filter(n => n.nodeType === 3))
            for (let i = 0; i < node.length; i++) {
                const range = document.createRange();
                range.setStart(node, i); range.setEnd(node, i + 1);
                const rect = range.getBoundingClientRect();
                if (!rect.width) continue;
                if (last !== null && rect.top > last) found.push('');
                last = rect.top;
                if (found.length === 0) found.push('');
                found[found.length - 1] += node.data[i];
            }
        return found.slice(0, -1);
    })"""
    with opened(browser, write_page([folder, run], tmp_path / "both.html"),
                viewport={"width": 320, "height": 800}) as page:  # fmt: skip
        ends = page.evaluate(lines)
        assert ends  # `musegen.training.…` needs several lines
        assert [end for end in ends if not end.endswith((".", "/", "_", " ", ","))] == []
        assert page.evaluate("document.documentElement.scrollWidth") <= 320


def test_a_wrong_call_prints_one_line(cli, folder: Path, tmp_path: Path) -> None:
    for arguments, message in (
        ([], "musegen report run=<run folder>"),
        ([f"run={folder}", "ouut=x"], "musegen report run=<run folder>"),
        ([f"run={tmp_path}/none"], "no such run folder"),
        ([f"run={tmp_path}"], "config"),
    ):
        code, _, err = cli(report.main, *arguments)
        assert code == 1
        assert message in err
        assert len(err.strip().splitlines()) == 1


def test_the_play_button_plays(browser: Any, folder: Path) -> None:
    with opened(browser, folder / "report.html") as page:
        assert page.locator(".player svg .notes").count() >= 2
        page.get_by_role("button", name="Play samples/00").click()
        wait_until(page, "document.querySelector('audio').currentTime > 0.4")
        assert page.locator(".playhead").first.evaluate("e => parseFloat(e.style.left)") > 0
        assert page.locator(".seek").first.input_value() != "0"
        page.get_by_role("button", name="Play samples/01").click()  # pauses the first
        wait_until(page, "document.querySelectorAll('audio')[1].currentTime > 0.1")
        assert page.locator("audio").first.evaluate("a => a.paused")
        page.get_by_role("button", name="Pause samples/01").click()
        assert page.locator("audio").nth(1).evaluate("a => a.paused")
        assert page.get_by_role("button", name="Play samples/02").is_disabled()


def test_the_keyboard_plays_and_seeks(browser: Any, folder: Path) -> None:
    with opened(browser, folder / "report.html") as page:
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.ariaLabel") == "Play samples/00"
        page.keyboard.press("Space")
        wait_until(page, "!document.querySelector('audio').paused")
        page.get_by_role("slider", name="Position in samples/00").focus()
        page.keyboard.press("End")
        wait_until(page, "document.querySelector('audio').currentTime > 5")


def test_the_piano_is_only_in_reports_with_music(folder: Path, other: Path, tmp_path: Path) -> None:
    piano, silent = folder / "report.html", write_page([other], tmp_path / "silent.html")
    synthesised = write_page([with_sound(folder, "additive")], tmp_path / "synthesised.html")
    kilobytes = [path.stat().st_size // 1000 for path in (piano, synthesised, silent)]
    assert kilobytes[0] < 400
    assert max(kilobytes[1:]) < 60
    assert ["Salamander" in path.read_text() for path in (piano, synthesised, silent)] == [
        True, False, False,
    ]  # fmt: skip


def with_sound(folder: Path, sound: str) -> Path:
    """A copy of the run with another `sound`."""
    copy = folder.parent / sound
    if not copy.exists():
        shutil.copytree(folder, copy)
        with (copy / "config.yaml").open("a") as config:
            config.write(f"sound: {sound}\n")
        write_page([copy])
    return copy


@pytest.mark.parametrize("instrument", ["piano", "additive"])
def test_the_page_and_the_wave_file_have_the_same_sound(
    browser: Any, folder: Path, instrument: str
) -> None:
    folder = with_sound(folder, instrument)
    read = """async i => {
        const sound = await (await fetch(document.querySelectorAll('audio')[i].src)).arrayBuffer();
        return btoa(Array.from(new Uint8Array(sound), b => String.fromCharCode(b)).join(''));
    }"""
    # The page's content security policy also applies to this test's `fetch`.
    with opened(browser, folder / "report.html", bypass_csp=True) as page:
        sounds = []
        for i in range(2):
            page.locator(".play").nth(i).click()
            wait_until(page, f"document.querySelectorAll('audio')[{i}].src")
            with wave.open(io.BytesIO(base64.b64decode(page.evaluate(read, i)))) as file:
                assert file.getframerate() == RATE
                sounds.append(np.frombuffer(file.readframes(file.getnframes()), "<i2") / 32767)
    for i, sound in enumerate(sounds):
        python = synthesise(read_notes(folder / "samples" / f"{i:02d}.mid"), instrument)
        assert len(sound) == len(python)
        assert np.abs(sound - python).max() < 1e-3
        assert np.std(sound) == pytest.approx(np.std(python), rel=1e-3)
    cents = 1200 * np.log2(measured_frequency(sounds[1]) / 440)
    assert abs(cents) < 5


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 390, 1280])
def test_width_and_contrast_on_every_screen(
    browser: Any, folder: Path, other: Path, tmp_path: Path, scheme: str, width: int
) -> None:
    """No element is wider than the screen, and every text has enough contrast."""
    both = write_page([folder, other], tmp_path / "both.html")
    contrast = """() => {
        const light = (c) => {
            const [r, g, b] = c.match(/[\\d.]+/g).slice(0, 3).map(x => x / 255)
                .map(x => x <= 0.04045 ? x / 12.92 : ((x + 0.055) / 1.055) ** 2.4);
            return 0.2126 * r + 0.7152 * g + 0.0722 * b;
        };
        const ground = (e) => {
            for (; e; e = e.parentElement) {
                const c = getComputedStyle(e).backgroundColor;
                if (!/, 0\\)/.test(c)) return c;
            }
            return 'rgb(255, 255, 255)';
        };
        const contrasts = {};
        for (const e of document.querySelectorAll('body *')) {
            const own = [...e.childNodes].some(n => n.nodeType === 3 && n.textContent.trim());
            if (!own || ['SCRIPT', 'STYLE'].includes(e.tagName)) continue;
            const style = getComputedStyle(e);
            const [a, b] = [light(e.closest('svg') ? style.fill : style.color), light(ground(e))];
            contrasts[`${e.tagName}.${e.className}`] =
                (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
        }
        return contrasts;
    }"""
    screen = {"width": width, "height": 800}
    for path in (folder / "report.html", both):
        with opened(browser, path, color_scheme=scheme, viewport=screen) as page:
            assert page.evaluate("document.documentElement.scrollWidth") <= width
            contrasts = page.evaluate(contrast)
            assert len(contrasts) > 15
            assert {k: v for k, v in contrasts.items() if v < MIN_CONTRAST} == {}


def test_elements_have_accessible_names(
    browser: Any, folder: Path, other: Path, tmp_path: Path
) -> None:
    """Controls and pictures have names, and no level of headings is skipped."""
    for path in (folder / "report.html", write_page([folder, other], tmp_path / "both.html")):
        with opened(browser, path) as page:
            for selector in ("button", "input", "img", "svg[role=img]", "[tabindex='0']"):
                names = page.locator(selector).evaluate_all(
                    "found => found.map(e => e.ariaLabel || e.alt || e.textContent.trim())"
                )
                assert names, selector
                assert all(names), selector
            # Screen readers ignore a name without a role, and a heading without text.
            unnamed = """[...document.querySelectorAll(
                    'th, [aria-label]:not(button, input, img, [role])')]
                .filter(e => e.ariaLabel || !e.textContent.trim()).map(e => e.outerHTML)"""
            assert page.evaluate(unnamed) == []
            levels = page.evaluate(
                "[...document.querySelectorAll('h1, h2, h3, h4')].map(h => Number(h.tagName[1]))"
            )
            assert levels[0] == 1
            assert all(b - a <= 1 for a, b in itertools.pairwise(levels)), levels
