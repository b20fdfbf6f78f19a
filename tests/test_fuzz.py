"""Damaged and hostile files: every reader soon returns data or raises a `UserError`.

`MUSEGEN_FUZZ=20000 pytest tests/test_fuzz.py` tries 20,000 mutations for each reader.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import random
import resource
import shutil
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import pytorch_lightning as pl
import scipy.io
import torch

from datamodules.maestro import TABLE, read_catalogue
from datamodules.names import Names
from datamodules.roll_benchmark import read_mat
from datamodules.sources.archives import unpack
from datamodules.sources.idx import read_idx_images
from datamodules.text_file import TextFile
from musegen.codecs.chars import CharCodec
from musegen.codecs.midi import read_notes, write_notes
from musegen.codecs.roll_codec import RollCodec
from musegen.errors import UserError
from musegen.models import load_model
from musegen.models.char_rnn import CharRNN
from tests.conftest import max_cpu_seconds, tune

TRIES = int(os.environ.get("MUSEGEN_FUZZ", 300))
MAX_GROWTH = 400 << 20
"""Bytes by which the memory may grow in all tries together."""
BYTES = (0x00, 0x01, 0x7F, 0x80, 0xFF)


def mutated(content: bytes, rng: random.Random) -> bytes:
    """The content after one to four random changes."""
    data = bytearray(content)
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(data) + 1)
        span = min(rng.choice((1, 2, 4, 16, 256)), len(data) - at)
        match rng.randrange(6):
            case 0:
                data[at : at + span] = rng.randbytes(span)
            case 1:
                data[at : at + span] = bytes([rng.choice(BYTES)]) * span
            case 2:
                del data[at : at + span]
            case 3:
                data[at:at] = rng.randbytes(rng.choice((1, 4, 64)))
            case 4:
                data[at:at] = data[at : at + span]
            case _:
                del data[at:]
    return bytes(data)


def midi_seeds(folder: Path) -> list[bytes]:
    write_notes(tune(1), folder / "a.mid")
    seeds = [(folder / "a.mid").read_bytes()]
    real = Path(os.environ.get("MUSEGEN_DATA", "nowhere")) / "midi_odd"
    return seeds + [
        p.read_bytes() for p in sorted(real.rglob("*.mid")) if p.stat().st_size < 20_000
    ]


def read_roll(path: Path) -> None:
    RollCodec((21, 109), 0.25, "sustain").encode(read_notes(path, sustain=True))


def idx_seeds(folder: Path) -> list[bytes]:
    head = b"".join(n.to_bytes(4, "big") for n in (0x803, 3, 4, 4))
    return [head + bytes(48)]


def read_idx(path: Path) -> None:
    with path.open("rb") as file:
        content = file.read(1 << 20)
    read_idx_images(path, hashlib.sha256(content).hexdigest())


def gzip_seeds(folder: Path) -> list[bytes]:
    return [gzip.compress(idx_seeds(folder)[0])]


def zip_seeds(folder: Path) -> list[bytes]:
    seeds = []
    for more in ("maestro-v3.0.0/b.midi", "../outside.mid"):
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("maestro-v3.0.0/maestro-v3.0.0.csv", "a,b\n")
            archive.writestr("maestro-v3.0.0/2004/a.midi", bytes(4000))
            archive.writestr(more, b"x")
        seeds.append(buffer.getvalue())
    return seeds


def unzip(path: Path) -> None:
    into = path.parent / "unpacked"
    into.mkdir(exist_ok=True)
    before = set(path.parent.iterdir())
    try:
        unpack(path, into / "set", (".mid", ".midi", ".csv"), needed=TABLE)
    finally:
        assert set(path.parent.iterdir()) == before, "a file was written outside the folder"
        shutil.rmtree(into)


def catalogue_seeds(folder: Path) -> list[bytes]:
    row = '"Wolfgang ""Amadé"" Mozart",{},train\n'
    head = "canonical_composer,midi_filename,split\n"
    return [(head + row.format(name) * 3).encode() for name in ("2004/a.midi", "../a.midi")]


def read_files_named(path: Path) -> None:
    for row in read_catalogue(path):
        inside = (path.parent / row["midi_filename"]).resolve()
        assert inside.is_relative_to(path.parent.resolve())


def mat_seeds(folder: Path) -> list[bytes]:
    rolls = np.empty((1, 2), object)
    rolls[0, 0], rolls[0, 1] = np.zeros((3, 88), np.uint8), np.ones((2, 88), np.uint8)
    nested = rolls
    for _ in range(300):
        nested, inner = np.empty((1, 1), object), nested
        nested[0, 0] = inner
    zeros = np.zeros((20 << 20, 1), np.uint8)
    seeds = []
    for content in (rolls, nested, zeros):
        buffer = io.BytesIO()
        splits = dict.fromkeys(("traindata", "validdata", "testdata"), content)
        scipy.io.savemat(buffer, splits, do_compression=content is zeros)
        seeds.append(buffer.getvalue())
    return seeds


def read_forged_mat(path: Path) -> None:
    read_mat(path, "0" * 64)


def text_seeds(folder: Path) -> list[bytes]:
    return ["Ærøskøbing\nتونس\n東京\n".encode()]


def read_text(path: Path) -> None:
    TextFile(path).setup()


def read_names(path: Path) -> None:
    (path.parent / "others.txt").write_text("Ada\nBea\nCyd\nDee\n")
    Names(root=path.parent).setup()


def checkpoint_seeds(folder: Path) -> list[bytes]:
    codec = CharCodec("01", unknown=False)
    trainer = pl.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)
    trainer.strategy.connect(CharRNN(codec.spec, codec, hidden=2, embedding=2))
    trainer.save_checkpoint(folder / "a.ckpt")
    return [(folder / "a.ckpt").read_bytes()]


READERS: dict[str, tuple[str, Callable[[Path], list[bytes]], Callable[[Path], object]]] = {
    "midi": (".mid", midi_seeds, read_notes),
    "roll": (".mid", midi_seeds, read_roll),
    "idx": ("-ubyte", idx_seeds, read_idx),
    "idx.gz": (".gz", gzip_seeds, read_idx),
    "zip": (".zip", zip_seeds, unzip),
    "catalogue": (".csv", catalogue_seeds, read_files_named),
    "mat": (".mat", mat_seeds, read_forged_mat),
    "text": (".txt", text_seeds, read_text),
    "names": (".txt", text_seeds, read_names),
    "checkpoint": (".ckpt", checkpoint_seeds, load_model),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("reader", READERS)
def test_a_mutated_file_is_read_or_refused(reader: str, tmp_path: Path) -> None:
    suffix, seeds, read = READERS[reader]
    rng = random.Random(reader)
    contents = seeds(tmp_path)
    folder = tmp_path / "tried"
    folder.mkdir()
    path = folder / f"hostile{suffix}"
    limit = max_cpu_seconds()
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10
    refused = 0
    for i in range(TRIES):
        content = mutated(rng.choice(contents), rng) if i >= len(contents) else contents[i]
        path.write_bytes(content)
        started = time.process_time()
        try:
            read(path)
        except UserError as e:
            refused += 1
            assert "hostile" in str(e)
            assert "\n" not in str(e)
        except Exception as e:
            raise AssertionError(f"try {i}: not a UserError: {content[:200]!r}") from e
        seconds = time.process_time() - started
        assert seconds < limit, f"try {i} took too long: {content[:200]!r}"
    growth = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10) - memory
    print(f"{reader}: {TRIES} tried, {refused} refused, 0 other errors, {growth >> 20} MiB more")
    assert growth < MAX_GROWTH
    assert refused > 0


@pytest.mark.parametrize("reader", READERS)
def test_a_file_of_a_terabyte_is_refused_soon(reader: str, tmp_path: Path) -> None:
    suffix, _, read = READERS[reader]
    path = tmp_path / f"hostile{suffix}"
    with path.open("wb") as file:
        file.truncate(1 << 40)  # a sparse file, which takes no space
    limit = max_cpu_seconds()
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10
    started = time.process_time()
    with pytest.raises(UserError, match="hostile"):
        read(path)
    assert time.process_time() - started < limit
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10) - memory < MAX_GROWTH


def test_an_idx_header_that_claims_terabytes_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "images"
    path.write_bytes(b"".join(n.to_bytes(4, "big") for n in (0x803, *[0xFFFFFFFF] * 3)) + b"x")
    with pytest.raises(UserError, match="17 bytes, but 4,294,967,295 images"):
        read_idx(path)


def test_unpacking_a_gzip_file_stops_at_a_limit(tmp_path: Path) -> None:
    (tmp_path / "bomb.gz").write_bytes(gzip.compress(bytes(200 << 20)))
    with pytest.raises(UserError, match="more than 64 MiB unpacked"):
        read_idx(tmp_path / "bomb.gz")


def test_nothing_in_a_checkpoint_is_executed(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self):
            return (os.mkdir, (str(tmp_path / "executed"),))

    torch.save({"state_dict": {}, "hyper_parameters": {"name": Evil()}}, tmp_path / "x.ckpt")
    with pytest.raises(UserError, match="this file is damaged, or it is not a checkpoint"):
        load_model(tmp_path / "x.ckpt")
    assert not (tmp_path / "executed").exists()
