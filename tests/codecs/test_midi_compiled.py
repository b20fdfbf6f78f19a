"""The compiled reader gives the notes of the ordinary one, and leaves odd files to it."""

from __future__ import annotations

import random
import struct
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mido
import numpy as np
import pytest
from conftest import make_notes, tune
from hypothesis import given, settings
from hypothesis import strategies as st

from musegen.codecs import midi_compiled
from musegen.codecs.midi import Score, read_notes, read_prime, read_score, write_notes
from musegen.codecs.midi_file import CONTROLS
from musegen.codecs.time_grid import TimeGrid, beat_grid, linear_grid, log_grid
from musegen.errors import UserError
from tests.codecs.test_midi_file import C4, E4, END, READABLE_FILES, WHOLE, chunk, head, track
from tests.test_fuzz import TRIES, midi_seeds, mutated

ENDINGS = (".mid", ".midi", ".kar", ".rmi")
HOW: list[tuple[Callable[..., Any], dict[str, Any]]] = [
    (read_notes, {}),
    (read_notes, {"sustain": True}),
    (read_notes, {"sustain": True, "overlapping": True}),
    (read_notes, {"seconds_per_beat": 1.0, "overlapping": True}),
    (read_score, {"sustain": True}),
]


def results(path: Path, ways: slice = slice(None)) -> list[Any]:
    """What each of `HOW` gives, or its error and warnings."""
    found: list[Any] = []
    for read, how in HOW[ways]:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            try:
                found.append(read(path, **how))
            except UserError as e:
                found.append(str(e))
        found.append([str(w.message) for w in caught])
    return found


def assert_same(ours: Any, expected: Any) -> None:
    assert type(ours) is type(expected)
    if isinstance(ours, Score):
        for a, b in zip(ours, expected, strict=True):
            assert_same(a, b)
    elif isinstance(ours, np.ndarray):
        np.testing.assert_array_equal(np.sort(ours), np.sort(expected))
    else:
        assert ours == expected


@pytest.fixture(scope="module")
def loops() -> Any:
    before = midi_compiled._loops
    midi_compiled._loops = None
    midi_compiled.prepare()
    loops = midi_compiled._loops
    midi_compiled._loops = before
    return loops


@pytest.fixture
def compare(loops: Any, monkeypatch: pytest.MonkeyPatch) -> Callable[..., bool]:
    """Read a file with and without the loops, compare, and return whether the loops read it."""

    def both(path: Path, ways: slice = slice(None)) -> bool:
        monkeypatch.setattr(midi_compiled, "_loops", None)
        expected = results(path, ways)
        monkeypatch.setattr(midi_compiled, "_loops", loops)
        for ours, theirs in zip(results(path, ways), expected, strict=True):
            assert_same(ours, theirs)
        return midi_compiled.read(path.read_bytes()) is not None

    return both


@pytest.mark.slow
def test_real_files_have_the_same_notes(real_data: Path, compare: Callable[..., bool]) -> None:
    """Every file, each in one of the ways."""
    files = sorted(p for p in real_data.rglob("*") if p.suffix.lower() in ENDINGS)
    assert len(files) > 1_000
    odd = {"midi_odd", "midi_cases"}
    for i, path in enumerate(files):
        way = i % len(HOW)
        assert compare(path, slice(way, way + 1)) or odd & set(path.parts)


# Few pitches and short times, so that notes overlap, and events have the same time.
BYTE = st.integers(0, 127)
PITCHES = st.sampled_from([60, 60, 60, 61])
CHANNELS = st.sampled_from([0, 0, 0, 1, 9])
DELTAS = st.sampled_from([0, 0, 0, 1, 7, 40, 200, 20_000])


def number(value: int) -> bytes:
    """A number of variable length."""
    rest = [value & 0x7F]
    while value := value >> 7:
        rest.append(value & 0x7F | 0x80)
    return bytes(reversed(rest))


def meta(kind: int, content: bytes) -> bytes:
    return bytes([0xFF, kind]) + number(len(content)) + content


EVENTS = st.one_of(
    st.builds(lambda c, p, v: bytes([0x90 | c, p, v]), CHANNELS, PITCHES, st.integers(0, 2)),
    st.builds(lambda c, p, v: bytes([0x90 | c, p, v]), CHANNELS, PITCHES, BYTE),
    st.builds(lambda c, p: bytes([0x80 | c, p, 64]), CHANNELS, PITCHES),
    st.builds(
        lambda c, n, v: bytes([0xB0 | c, n, v]), CHANNELS,
        st.sampled_from([*sorted(CONTROLS), 64, 64, 7]), st.sampled_from([0, 63, 64, 127]),
    ),
    st.builds(lambda c, p: bytes([0xC0 | c, p]), CHANNELS, BYTE),
    st.builds(lambda c, p: bytes([0xE0 | c, p, p]), CHANNELS, BYTE),
    st.builds(lambda t: meta(0x51, t.to_bytes(3, "big")), st.integers(1, 2**24 - 1)),
    st.builds(lambda n, d: meta(0x58, bytes([n, d, 24, 8])), st.integers(0, 9), st.integers(0, 9)),
    st.builds(lambda text: meta(3, text), st.binary(max_size=200)),
    st.builds(lambda body: b"\xf0" + number(len(body)) + body, st.binary(max_size=5)),
)  # fmt: skip


@st.composite
def midi_bytes(draw: st.DrawFn) -> bytes:
    """A file of one to three tracks, with running status wherever a status is repeated."""
    tracks = []
    for _ in range(draw(st.integers(1, 3))):
        content, running = b"", -1
        for delta, event in draw(st.lists(st.tuples(DELTAS, EVENTS), max_size=60)):
            same = event[0] == running and event[0] < 0xF0
            content += number(delta) + (event[1:] if same else event)
            running = event[0] if event[0] < 0xF0 else running
        tracks.append(track(content + END))
    division = draw(st.sampled_from([1, 96, 480]))
    return head(len(tracks), draw(st.sampled_from([0, 1])), division) + b"".join(tracks)


@settings(max_examples=150)
@given(content=midi_bytes())
def test_made_files_have_the_same_notes(
    content: bytes, loops: Any, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.getbasetemp() / "made.mid"
    path.write_bytes(content)
    midi_compiled._loops = None
    expected = results(path)
    try:
        midi_compiled._loops = loops
        assert midi_compiled.read(content) is not None
        for ours, theirs in zip(results(path), expected, strict=True):
            assert_same(ours, theirs)
    finally:
        midi_compiled._loops = None


@pytest.mark.parametrize("late", [0, 1, 10, 24, 25, 26, 40])
def test_large_groups_have_the_same_notes(
    late: int, compare: Callable[..., bool], tmp_path: Path
) -> None:
    """Fifty notes of one pitch, 50 ticks apart; each release comes `late` ticks after the next
    onset, or for odd notes as much earlier. So the median of the fractions is at ½ or near it."""
    rows = []
    for i in range(50):
        rows += [(50 * i, 0x90), (50 * i + 50 + (late if i % 2 else -late) // 2, 0x80)]
    content, clock = b"", 0
    for tick, status in sorted(rows):
        content += number(tick - clock) + bytes([status, 60, 64])
        clock = tick
    (tmp_path / "a.mid").write_bytes(head() + track(content + b"\1\x80\x3c\0" + END))
    assert compare(tmp_path / "a.mid")


@pytest.mark.filterwarnings("ignore")
def test_mutated_files_give_the_same_result(compare: Callable[..., bool], tmp_path: Path) -> None:
    rng = random.Random("compiled")
    seeds = [s for s in midi_seeds(tmp_path) if len(s) < 3_000]
    for i in range(TRIES):
        path = tmp_path / "hostile.mid"
        path.write_bytes(mutated(rng.choice(seeds), rng) if i >= len(seeds) else seeds[i])
        compare(path)


ORDINARY = {
    "a tune": WHOLE,
    "format 0": head(kind=0) + track(),
    "more tracks than the header says": head(1) + track(END) + track(),
    "no tracks according to the header": head(0) + track(),
    "fewer tracks than the header says": head(3) + track(),
    "negative number of tracks": READABLE_FILES["negative number of tracks"],
    "running status after a meta message":
        READABLE_FILES["running status after a meta message"],
    "running status after sysex": READABLE_FILES["running status after sysex"],
}  # fmt: skip
ODD = {name: content for name, content in READABLE_FILES.items() if name not in ORDINARY} | {
    "empty": b"",
    "header only": head(),
    "SMPTE time": head(division=-6360) + track(),
    "format 2": head(kind=2) + track(),
    "tempo 0": head() + track(b"\0\xff\x51\3\0\0\0" + C4 + E4 + END),
    "tempo of two bytes": head() + track(b"\0\xff\x51\2\7\0" + C4 + E4 + END),
    "end of track with content": head() + track(C4 + E4 + b"\0\xff\x2f\1\0"),
    "two ends of track": head() + track(C4 + E4 + END + END),
    "undefined status": head() + track(C4 + b"\0\xf4" + E4 + END),
    "a release without a status": head() + track(b"\0\x3c\x40" + C4 + E4 + END),
    "cut in an event": head() + chunk(b"MTrk", C4 + E4[:-1]),
    "cut in a number": head() + chunk(b"MTrk", C4 + b"\x83"),
    "cut in a meta message": head() + chunk(b"MTrk", C4 + b"\0\xff"),
    "a text longer than its track": head() + track(C4 + b"\0\xff\1\x7f" + END),
    "too many tracks": head(300) + track(END) * 299 + track(),
}


@pytest.mark.parametrize("name", ORDINARY)
def test_ordinary_files_are_read(name: str, compare: Callable[..., bool], tmp_path: Path) -> None:
    (tmp_path / "a.mid").write_bytes(ORDINARY[name])
    assert compare(tmp_path / "a.mid")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ODD)
def test_odd_files_are_left_to_the_other_reader(
    name: str, compare: Callable[..., bool], tmp_path: Path
) -> None:
    (tmp_path / "a.mid").write_bytes(ODD[name])
    assert not compare(tmp_path / "a.mid")


def test_a_piece_of_days_is_refused(compare: Callable[..., bool], tmp_path: Path) -> None:
    long = b"\0\x90\x3c\x50" + number(2**28 - 1) + b"\x80\x3c\x40" + END
    (tmp_path / "a.mid").write_bytes(head() + track(long))
    assert compare(tmp_path / "a.mid")
    with pytest.raises(UserError, match="lasts 78 hours"):
        read_notes(tmp_path / "a.mid")


def test_one_file_needs_no_compiled_loops(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(midi_compiled, "_loops", None)
    write_notes(tune(1), tmp_path / "a.mid")
    assert len(read_notes(tmp_path / "a.mid")) == 40
    assert midi_compiled.read((tmp_path / "a.mid").read_bytes()) is None


def test_the_notes_need_no_mido_message(
    loops: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    write_notes(make_notes([(0.0, 1.0, 60, 80)]), tmp_path / "a.mid")
    monkeypatch.setattr(midi_compiled, "_loops", loops)
    monkeypatch.setattr(mido.Message, "from_bytes", None)
    assert read_notes(tmp_path / "a.mid").tolist() == [(0.0, 1.0, 60, 80)]
    monkeypatch.setattr(midi_compiled, "_loops", None)
    with pytest.raises(TypeError):
        read_notes(tmp_path / "a.mid")


def test_a_prime_is_cut_at_its_seconds(
    loops: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    write_notes(tune(2), tmp_path / "a.mid")
    monkeypatch.setattr(midi_compiled, "_loops", None)
    expected = read_prime(tmp_path / "a.mid", 2.0, seconds_per_beat=1.0)
    monkeypatch.setattr(midi_compiled, "_loops", loops)
    ours = read_prime(tmp_path / "a.mid", 2.0, seconds_per_beat=1.0)
    np.testing.assert_array_equal(ours, expected)
    assert 0 < len(ours) < 40


def test_the_header_is_the_standards() -> None:
    assert midi_compiled.HEADER + struct.pack(">HHh", 1, 1, 480) == head()


@settings(max_examples=100)
@given(
    times=st.lists(
        st.floats(0, 12) | st.sampled_from([0.0, 0.004, 0.005, 1 / 24, 0.5]), max_size=50
    ),
    grid=st.sampled_from([log_grid(127, 0.005, 8.0), linear_grid(10, 1.0), beat_grid(63)]),
)  # fmt: skip
def test_times_have_the_same_classes(times: list[float], grid: TimeGrid, loops: Any) -> None:
    times_T = np.array(times, float)
    midi_compiled._loops = None
    expected = grid.classes(times_T)
    try:
        midi_compiled._loops = loops
        found = grid.classes(times_T)
    finally:
        midi_compiled._loops = None
    assert found.dtype == expected.dtype
    np.testing.assert_array_equal(found, expected)
