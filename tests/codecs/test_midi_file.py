"""Bytes → events: imperfect files that other programs can read, and files that are refused."""

from __future__ import annotations

import io
import random
import struct
import time
from contextlib import suppress
from pathlib import Path

import mido
import pytest
from conftest import max_cpu_seconds
from hypothesis import given, settings
from hypothesis import strategies as st

from musegen.codecs.midi import read_notes
from musegen.codecs.midi_file import CONTROLS, BrokenFile, parse
from musegen.errors import UserError

END = b"\0\xff\x2f\0"
E4 = b"\0\x90\x40\x50\x83\x60\x80\x40\x40"
C4 = b"\0\x90\x3c\x50\x83\x60\x80\x3c\x40"
TUNE = C4 + E4 + END
"""C4 and E4, a quarter note each at 480 ticks per quarter note."""
NOTES = [(0.0, 0.5, 60), (0.5, 1.0, 64)]


def chunk(name: bytes, content: bytes, length: int | None = None) -> bytes:
    return name + struct.pack(">L", len(content) if length is None else length) + content


def head(tracks: int = 1, kind: int = 1, division: int = 480, more: bytes = b"") -> bytes:
    return chunk(b"MThd", struct.pack(">HHh", kind, tracks, division) + more)


def track(content: bytes = TUNE, extra_length: int = 0) -> bytes:
    return chunk(b"MTrk", content, len(content) + extra_length)


def riff(content: bytes, before: bytes = b"", after: bytes = b"") -> bytes:
    body = b"RMID" + before + b"data" + struct.pack("<L", len(content)) + content + after
    return b"RIFF" + struct.pack("<L", len(body)) + body


WHOLE = head() + track()
XF = chunk(b"XFIH", b"\0" * 4)
READABLE_FILES = {
    "riff": riff(WHOLE),
    "riff with other chunks": riff(WHOLE, b"LIST\4\0\0\0INFO", b"DLS \x0c\0\0\0MTrk\0\0\0\0abcd"),
    "riff with a wrong size": riff(WHOLE).replace(struct.pack("<L", len(WHOLE)), b"\xff" * 4),
    "macbinary": bytes(128) + WHOLE,
    "macbinary padding": bytes(128) + WHOLE + bytes(100),
    "byte order mark": b"\xef\xbb\xbf" + WHOLE,
    "longer header": head(more=b"\0\0") + track(),
    "header with a wrong length": WHOLE.replace(b"\0\0\0\6", b"\0\0\0\x16", 1),
    "header with length 0": WHOLE.replace(b"\0\0\0\6", b"\0\0\0\0", 1),
    "unknown chunk before": head() + XF + track(),
    "unknown chunks after": head() + track() + XF + chunk(b"XFKM", b"\0" * 9),
    "unknown chunk with a wrong length": head() + chunk(b"XFIH", b"\0" * 4, 12) + track(),
    "text after the last track": head() + track() + b"\r\n\x1a",
    "another file after": WHOLE + head() + track(C4 + C4 + END),
    "more tracks than the header says": head(1) + track(END) + track(),
    "no tracks according to the header": head(0) + track(),
    "fewer tracks than the header says": head(3) + track(),
    "negative number of tracks": head(0xFFFF) + track(),
    "length 0": head() + track(extra_length=-len(TUNE)),
    "length much too large": head() + track(extra_length=1 << 24),
    "no end of track, but counted in the length": head() + track(C4 + E4, extra_length=4),
    "no end of track": head() + track(C4 + E4),
    "last byte missing": WHOLE[:-1],
    "other bytes after the end of track": head() + track(TUNE + b"\xf4\xf4junk"),
    "format 7": head(kind=7) + track(),
    "real-time message": head() + track(C4 + b"\0\xf8\0\xfe" + E4 + END),
    "running status after sysex": head() + track(
        b"\0\x90\x3c\x50\x83\x60\x3c\0\0\xf0\3\x7e\x7f\xf7\0\x40\x50\x83\x60\x40\0" + END
    ),
    "running status after a meta message": head() + track(
        b"\0\x90\x3c\x50\x83\x60\x3c\0\0\xff\1\1a\0\x40\x50\x83\x60\x40\0" + END
    ),
    "velocity above 127": head() + track(C4.replace(b"\x50", b"\xd0") + E4 + END),
    "number with leading zeros": head() + track(b"\x80\x80\x80\x80" + TUNE),
}  # fmt: skip


@pytest.mark.parametrize("name", READABLE_FILES)
def test_imperfect_files_are_read(name: str, tmp_path: Path) -> None:
    (tmp_path / "a.mid").write_bytes(READABLE_FILES[name])
    notes = read_notes(tmp_path / "a.mid")
    assert notes[["start", "end", "pitch"]].tolist() == NOTES


@pytest.mark.parametrize("extra_length", [n for n in range(-len(TUNE), 60) if n])
def test_a_wrong_track_length_loses_no_event(extra_length: int, tmp_path: Path) -> None:
    """The wrong length is that of the only track, of the first track or of the last track."""
    high = track(b"\0\x90\x60\x50\x83\x60\x80\x60\x40" + END)
    for name, content, pitches in (
        ("only", head() + track(extra_length=extra_length), [60, 64]),
        ("first", head(2) + track(extra_length=extra_length) + high, [60, 96, 64]),
        ("last", head(2) + high + track(extra_length=extra_length), [60, 96, 64]),
    ):
        (tmp_path / name).write_bytes(content)
        assert read_notes(tmp_path / name)["pitch"].tolist() == pitches


@pytest.mark.parametrize("length", [0, 1, 2])
def test_meta_messages_that_are_too_short_are_ignored(length: int, tmp_path: Path) -> None:
    kinds = [k for k in range(128) if k != 0x2F]
    meta = b"".join(bytes([0, 0xFF, k, length]) + b"\xff" * length for k in kinds)
    (tmp_path / "a.mid").write_bytes(head() + track(C4 + meta + E4 + END))
    assert read_notes(tmp_path / "a.mid")[["start", "end", "pitch"]].tolist() == NOTES


def test_the_delta_time_of_an_ignored_meta_message_counts(tmp_path: Path) -> None:
    """There is a key signature a quarter note after the first note."""
    signature = b"\x83\x60\xff\x59\2\0\0"
    (tmp_path / "a.mid").write_bytes(head() + track(C4 + signature + E4 + END))
    assert read_notes(tmp_path / "a.mid")["start"].tolist() == [0.0, 1.0]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (head() + track(C4 + E4, extra_length=5), "ends too early"),
        (WHOLE[:-6], "ends too early"),
        (WHOLE[:20], "has no track"),
        (head() + track(b"\0\xf4" + TUNE), "undefined status byte 0xf4, at byte 23"),
        (head() + track(b"\0\x3c\x50" + END), "running status without a status"),
        (head() + track(b"\x80" * 9 + TUNE), "a number without an end"),
        (head(2) + track(C4 + b"\0\xff\1\x20abc") + track(), "crosses the end of its track"),
        (head() + chunk(b"mTrk", TUNE), "has no track"),
        (b"MT0d" + WHOLE[4:], "MThd not found"),
        (b"RIFF\4\0\0\0WAVEfmt " + WHOLE, None),
        (bytes(5000) + WHOLE, "MThd not found"),
    ],
)
def test_damaged_files_are_refused(content: bytes, message: str | None) -> None:
    if message is None:
        assert parse(content).tracks  # RIFF files of another kind are skipped like any prefix
        return
    with pytest.raises(BrokenFile, match=message):
        parse(content)


def test_the_time_is_proportional_to_the_size() -> None:
    """None of these files makes the reader read the same bytes many times."""
    n, limit = 100_000, max_cpu_seconds()
    for content in (
        head() + b"MTrk\0\0\0\0" * n,
        head() + b"MTrk\0\0\0\1" * n,
        head() + b"XFIH\0\0\0\0" * n + track(),
        head() + b"XFIH\0\0\0\1" * n + track(),
        head() + b"MTrk" * n,
        head() + track(b"\x80" * 8 * n),
    ):
        start = time.process_time()
        with suppress(BrokenFile):
            parse(content)
        assert time.process_time() - start < limit


def events_by_mido(content: bytes) -> list[list[tuple[int, mido.Message]]]:
    """The result of `parse` for a well-formed file, made with mido."""
    tracks = []
    for messages in mido.MidiFile(file=io.BytesIO(content), clip=True).tracks:
        tick, events = 0, []
        for m in messages:
            tick += m.time
            if m.type in ("note_on", "note_off", "set_tempo") or (
                m.type == "control_change" and m.control in CONTROLS
            ):
                m.time = 0
                events.append((tick, m))
            elif m.type == "time_signature" and m.numerator:
                beats = {"numerator": m.numerator, "denominator": m.denominator}
                events.append((tick, mido.MetaMessage("time_signature", **beats)))
        tracks.append(events)
    return tracks


messages = st.one_of(
    st.builds(
        mido.Message, st.sampled_from(["note_on", "note_off"]), channel=st.integers(0, 15),
        note=st.integers(0, 127), velocity=st.integers(0, 127), time=st.integers(0, 1 << 20),
    ),
    st.builds(
        mido.Message, st.just("control_change"), control=st.integers(0, 127),
        value=st.integers(0, 127), time=st.integers(0, 1000),
    ),
    st.builds(mido.Message, st.just("program_change"), program=st.integers(0, 127)),
    st.builds(mido.Message, st.just("pitchwheel"), pitch=st.integers(-8192, 8191)),
    st.builds(mido.Message, st.just("sysex"), data=st.lists(st.integers(0, 127), max_size=5)),
    st.builds(mido.MetaMessage, st.just("set_tempo"), tempo=st.integers(0, (1 << 24) - 1)),
    st.builds(mido.MetaMessage, st.just("text"), text=st.text("abc", max_size=200)),
)  # fmt: skip


@given(st.lists(st.lists(messages, max_size=12), min_size=1, max_size=4))
def test_well_formed_files_are_read_as_mido_reads_them(tracks: list[list[mido.Message]]) -> None:
    file = mido.MidiFile(tracks=[mido.MidiTrack(t) for t in tracks])
    buffer = io.BytesIO()
    file.save(file=buffer)
    assert parse(buffer.getvalue()).tracks == events_by_mido(buffer.getvalue())


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("sizes", "at_least"),
    [(range(20_000), 150), pytest.param(range(20_000, 50_000), 25, marks=pytest.mark.slow)],
    ids=["small", "large"],
)
def test_real_files_are_read_as_mido_reads_them(
    real_data: Path, sizes: range, at_least: int
) -> None:
    n_read = 0
    for path in sorted((real_data / "midi_odd").rglob("*.mid")):
        if path.stat().st_size not in sizes:
            continue
        try:
            by_mido = events_by_mido(path.read_bytes())
        except Exception:  # mido cannot read it
            continue
        assert parse(path.read_bytes()).tracks[: len(by_mido)] == by_mido, path.name
        n_read += 1
    assert n_read >= at_least


@settings(max_examples=300)
@given(data=st.data())
def test_a_mutated_file_gives_notes_or_a_user_error(data, tmp_path_factory) -> None:
    content = bytearray(READABLE_FILES[data.draw(st.sampled_from(sorted(READABLE_FILES)))])
    rng = random.Random(data.draw(st.integers(0, 1 << 32)))
    for _ in range(data.draw(st.integers(1, 6))):
        at = rng.randrange(len(content) + 1)
        match rng.randrange(3):
            case 0:
                content[at : at + 1] = bytes([rng.randrange(256)])
            case 1:
                del content[at : at + rng.randrange(8)]
            case _:
                content[at:at] = rng.randbytes(rng.randrange(8))
    path = tmp_path_factory.getbasetemp() / "mutated.mid"
    path.write_bytes(content)
    try:
        notes = read_notes(path)
    except UserError as e:
        assert "mutated.mid" in str(e)
        assert "\n" not in str(e)
    else:
        assert (notes["end"] > notes["start"]).all()


QUARTERS = [(0.5 * i, 0.5 * i + 0.5, 60) for i in range(4)]
CASES = {
    "riff_rmid": NOTES,
    "leading_zero_bytes_128_macbinary": NOTES,
    "meta_time_signature_len1": NOTES,
    "track_length_short": NOTES,
    "ntracks_too_few": NOTES,
    "tempo_zero": NOTES,
    "unknown_chunk_between_tracks": [(0.0, 0.5, 60), (0.0, 0.5, 72), (0.5, 1.0, 64)],
    "zero_length_notes": [(1.0, 1.5, 64)],
    "same_tick_off_before_on": QUARTERS,
    "same_tick_on_before_off": QUARTERS,
    "legato_5_ticks": QUARTERS,
}


@pytest.mark.real_data
@pytest.mark.filterwarnings("ignore:.*tempo of 0")
@pytest.mark.parametrize("name", CASES)
def test_files_with_one_fault_are_read(name: str, real_data: Path) -> None:
    notes = read_notes(real_data / "midi_cases" / f"{name}.mid")
    assert notes[["start", "end", "pitch"]].tolist() == CASES[name]
