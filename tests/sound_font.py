"""A SoundFont made by hand: sine waves of 440 Hz, for a few programs."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np

RATE, PERIOD_SAMPLES, PERIODS = 44_000, 100, 40
"""One period of 440 Hz is 100 samples."""
ROOT_KEY = 69
SAMPLE_MODES, RELEASE, SAMPLE_ID, INSTRUMENT = 54, 38, 53, 41
"""Generators of the SoundFont 2.04 specification, section 8.1.2."""


def chunk(name: str, data: bytes) -> bytes:
    return name.encode() + struct.pack("<I", len(data)) + data + b"\0" * (len(data) % 2)


def write_sine_font(path: Path, programs: dict[int, float]) -> None:
    """For each program a looped sine wave, whose amplitude is the program's value."""
    t = np.arange(PERIOD_SAMPLES * PERIODS)
    sine = np.sin(2 * np.pi * t / PERIOD_SAMPLES)
    silence = np.zeros(46)  # required after each sample
    waves = [np.concatenate([a * sine, silence]) for a in programs.values()]
    smpl = (np.concatenate(waves) * 32767).astype("<i2").tobytes()
    phdr = pbag = pgen = inst = ibag = igen = shdr = b""
    for i, program in enumerate(programs):
        name = f"sine {i}".encode()
        phdr += struct.pack("<20s3H3I", name, program, 0, i, 0, 0, 0)
        pbag += struct.pack("<2H", i, 0)
        pgen += struct.pack("<2H", INSTRUMENT, i)
        inst += struct.pack("<20sH", name, i)
        ibag += struct.pack("<2H", 3 * i, 0)
        igen += struct.pack("<HhHhHh", RELEASE, -6000, SAMPLE_MODES, 1, SAMPLE_ID, i)
        first = i * len(waves[0])
        places = first, first + len(sine), first, first + len(sine)
        shdr += struct.pack("<20s5I2B2H", name, *places, RATE, ROOT_KEY, 0, 0, 1)
    n = len(programs)
    lists = {
        "phdr": phdr + struct.pack("<20s3H3I", b"EOP", 0, 0, n, 0, 0, 0),
        "pbag": pbag + struct.pack("<2H", n, 0),
        "pmod": bytes(10),
        "pgen": pgen + bytes(4),
        "inst": inst + struct.pack("<20sH", b"EOI", n),
        "ibag": ibag + struct.pack("<2H", 3 * n, 0),
        "imod": bytes(10),
        "igen": igen + bytes(4),
        "shdr": shdr + struct.pack("<20s5I2B2H", b"EOS", 0, 0, 0, 0, 0, 0, 0, 0, 0),
    }
    info = chunk("ifil", struct.pack("<2H", 2, 4)) + chunk("INAM", b"sines\0")
    data = b"".join(chunk(name, content) for name, content in lists.items())
    body = b"sfbk" + chunk("LIST", b"INFO" + info)
    body += chunk("LIST", b"sdta" + chunk("smpl", smpl)) + chunk("LIST", b"pdta" + data)
    path.write_bytes(chunk("RIFF", body))
