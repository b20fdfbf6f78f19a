"""Infilling by message models: against the exact conditional, and what stays as it was."""

from __future__ import annotations

import itertools
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.stats import chisquare

from musegen.codecs.message_matches import MessageHistory
from musegen.codecs.messages import MessageCodec, score_to_messages
from musegen.codecs.midi import BARS, NOTES, Score
from musegen.codecs.region import Region
from musegen.errors import UserError
from musegen.models import message_infilling
from musegen.models.lstm_midi import LSTMMidi
from musegen.models.message_infilling import MessageGibbs, MessageRegion, Metre
from musegen.models.message_reader import Reader, events_of
from musegen.runtime.steps import GenerationStopped, watching
from musegen.specs import MessageBatch

TICK = 1 / 24
"""Of a beat."""
CODEC = MessageCodec(pitch_range=(60, 63), velocity_bins=1, time_unit="beats", time_bins=2)
METRE = Metre(unit=1.0, bar=96)
START, END, LIMIT = 2, 4, 6
"""The region, and the end of the last new note, in ticks."""
GIVEN = [(0, 2, 62), (1, 2, 60), (2, 4, 62), (4, 6, 62), (5, 7, 60), (6, 8, 62)]
"""Ticks and pitch. The note at pitch 60 ends new ones of that pitch at tick 5."""


def model(seed: int = 5, std: float = 0.7, codec: MessageCodec = CODEC, **settings) -> LSTMMidi:
    """A model with large random weights, that likes the two lower pitches and moves on."""
    torch.manual_seed(seed)
    sizes = {"hidden": 6, "layers": 1, "embedding": (4, 2, 3), "head_width": 5,
             "active_note_dim": 3, "clock_dim": 3}  # fmt: skip
    lstm = LSTMMidi(codec.spec, codec, **{**sizes, **settings})
    for p in lstm.parameters():
        torch.nn.init.normal_(p, std=std)
    one_layer = "out" in dict(lstm.heads.named_children())
    with torch.no_grad():
        (lstm.heads.out if one_layer else lstm.heads.from_state).bias[:2] += 2.5
        (lstm.heads.out.bias[-3:] if one_layer else lstm.heads.time_out.bias)[1] += 0.5
    return lstm.eval()


def notes_of(rows: list[tuple[int, int, int]]) -> np.ndarray:
    notes = np.zeros(len(rows), NOTES)
    for i, (start, end, pitch) in enumerate(rows):
        notes[i] = start * TICK, end * TICK, pitch, 64
    return notes[np.lexsort((notes["pitch"], notes["start"]))]


def voices(pitch: int, limit: int) -> list[list[tuple[int, int, int]]]:
    """All that one pitch may play: disjoint notes that start in the region."""
    single = [(s, e, pitch) for s in range(START, END) for e in range(s + 1, limit + 1)]
    pairs = [[a, b] for a, b in itertools.combinations(single, 2) if a[1] <= b[0]]
    return [[], *([note] for note in single), *pairs]


CONTENTS = [
    tuple(sorted(low + high)) for low, high in itertools.product(voices(60, 5), voices(61, LIMIT))
]
"""Every content of the region."""


def exact(lstm: LSTMMidi, given: list[tuple[int, int, int]] = GIVEN) -> np.ndarray:
    """p of every content given the other notes, by the likelihood of evaluation."""
    bars = np.array([(0, 0, 4)], BARS)
    log_p = []
    for content in CONTENTS:
        stream = score_to_messages(Score(notes_of([*given, *content]), bars, 0.5))
        x_TF = CODEC.encode(stream)
        assert np.allclose(CODEC.decode(x_TF)["time"], stream["time"])  # no time was rounded
        x_LF = np.concatenate([[lstm.spec.sizes], x_TF])
        clock_LC = CODEC.prime_clock(stream, x_TF, 0, None)
        ones = torch.ones(1, len(x_TF), dtype=torch.bool)
        match_LM, _ = MessageHistory(1, lstm.spec.sizes).read(x_LF[None])
        batch = MessageBatch(
            torch.from_numpy(x_LF)[None], ones, torch.ones(1, dtype=torch.bool),
            torch.from_numpy(clock_LC)[None],
            torch.from_numpy(match_LM) if lstm.spec.matches else None,
        )  # fmt: skip
        log_p.append(-float(lstm.nll(batch, "test")[0].double().sum()))
    p = np.exp(np.array(log_p) - max(log_p))
    return p / p.sum()


def content_of(notes: np.ndarray) -> tuple[tuple[int, int, int], ...]:
    rows = zip(notes["start"] * 24, notes["end"] * 24, notes["pitch"], strict=True)
    return tuple(sorted((round(s), round(e), int(p)) for s, e, p in rows))


def gibbs_of(lstm: LSTMMidi, monkeypatch, seed: int = 0) -> MessageGibbs:
    monkeypatch.setattr(message_infilling, "RING", {True: 2 * TICK, False: 1.0})
    region = Region(START * TICK, END * TICK, 60, 61)
    checked = MessageRegion(CODEC, notes_of(GIVEN), region, METRE.unit)
    assert not checked.inside_K.any()
    reader = Reader(lstm, METRE.bar, None, 1.0)
    return MessageGibbs(reader, checked, torch.Generator().manual_seed(seed))


def distance(p: np.ndarray, q: np.ndarray) -> float:
    """Total variation."""
    return float(np.abs(p - q).sum() / 2)


CHAINED = {"seed": 12, "std": 0.5}
MATCHES = {"seed": 24, "std": 0.5, "codec": replace(CODEC, longest_match=True)}
ATTENTION = {"seed": 5, "attention_heads": 1, "attention_span": 8}
INDEPENDENT = {"seed": 2, "heads": "independent"}


@pytest.mark.parametrize(
    "settings", [CHAINED, ATTENTION, MATCHES], ids=["chained", "attention", "matches"]
)
@torch.inference_mode()
def test_weighted_particles_have_the_exact_conditional_distribution(settings, monkeypatch) -> None:
    lstm, count = model(**settings), 30_000
    p, past_only = exact(lstm), exact(lstm, [note for note in GIVEN if note[0] < END])
    monkeypatch.setattr(message_infilling, "PARTICLES", count)
    gibbs = gibbs_of(lstm, monkeypatch)
    particles = gibbs.particles(events_of(CODEC, gibbs.given), START * TICK, END * TICK, None)
    particles.run(lambda time: None)
    particles.log_weight_B += particles.weigh(torch.arange(count), 0, 99)
    weight_B = particles.log_weight_B.softmax(0).numpy()
    found: Counter[tuple] = Counter()
    for b in np.flatnonzero(weight_B):
        found[content_of(gibbs.notes(particles.events(b)))] += weight_B[b]
    assert set(found) <= set(CONTENTS)
    q = np.array([found[c] for c in CONTENTS])
    assert distance(p, q) < 0.1
    # A method that ignores the notes after the region is found out.
    assert distance(past_only, q) > 0.25


@pytest.mark.parametrize("settings", [CHAINED, INDEPENDENT], ids=["chained", "independent"])
@torch.inference_mode()
def test_an_update_of_a_block_leaves_the_exact_conditional_as_it_is(settings, monkeypatch) -> None:
    """Exact samples, rewritten block by block, are exact samples."""
    monkeypatch.setattr(message_infilling, "PARTICLES", 16)
    monkeypatch.setattr(message_infilling, "NEAR", 2)
    lstm, rng, starts = model(**settings), np.random.default_rng(0), 120
    p, found, changed = exact(lstm), np.zeros(len(CONTENTS), int), 0
    number = {content: i for i, content in enumerate(CONTENTS)}
    gibbs = gibbs_of(lstm, monkeypatch)
    for i in rng.choice(len(CONTENTS), starts, p=p):
        gibbs.new = notes_of(list(CONTENTS[i]))
        for start, end in ((START, END), (START, START + 1), (START + 1, END)):
            gibbs.rewrite(start * TICK, end * TICK, False, lambda time: None)
        after = number[content_of(gibbs.new)]
        found[after] += 1
        changed += after != i
    assert changed > starts / 8
    expected = p * starts
    rare = expected < 8
    observed = np.r_[found[~rare], found[rare].sum()]
    expected = np.r_[expected[~rare], expected[rare].sum()]
    assert chisquare(observed, expected).pvalue > 1e-3


SECONDS = MessageCodec(pitch_range=(48, 84))


def tune() -> np.ndarray:
    """Two voices in seconds, off the grid, with velocities."""
    rows = [(0.5 * k + 0.013, 0.5 * k + 0.47, 60 + 2 * k % 11, 50 + k) for k in range(16)]
    rows += [(1.0 * k, 1.0 * k + 1.2, 48 + k, 70) for k in range(8)]
    rows.append((3.0, 4.0, 100, 90))  # a pitch that the model does not have
    notes = np.array(rows, NOTES)
    return notes[np.lexsort((notes["pitch"], notes["start"]))]


@pytest.mark.parametrize("codec", [SECONDS, MessageCodec(time_unit="beats")], ids=["s", "beats"])
def test_notes_that_start_outside_do_not_change(codec) -> None:
    lstm, notes = model(codec=codec, std=0.3), tune()
    pieces = lstm.infill(notes, 2.0, 4.0, (55, 80), n=2, seed=3, sweeps=2)
    inside = (notes["start"] >= 2) & (notes["start"] < 4)
    inside &= (notes["pitch"] >= 55) & (notes["pitch"] <= 80)
    for piece in pieces:
        rows = [note.tobytes() for note in np.asarray(piece)]
        old = {note.tobytes() for note in notes[~inside]}
        assert old <= set(rows)
        new = np.array([np.frombuffer(row, NOTES)[0] for row in rows if row not in old], NOTES)
        assert (new["start"] >= 2 - 1e-6).all()
        assert (new["start"] < 4).all()
        assert (new["end"] > new["start"]).all()
        assert ((new["pitch"] >= 55) & (new["pitch"] <= 80)).all()
    again = lstm.infill(notes, 2.0, 4.0, (55, 80), n=2, seed=3, sweeps=2)
    assert all(np.array_equal(a, b) for a, b in zip(pieces, again, strict=True))
    assert not np.array_equal(pieces[0], pieces[1])


def test_the_melody_stays_and_new_notes_are_below_it() -> None:
    lstm, notes = model(codec=SECONDS, std=0.3), tune()[:-1]
    notes = notes[notes["pitch"] < 90]
    (piece,) = lstm.infill(notes, 0.0, 8.0, keep="melody", sweeps=1)
    melody = notes[notes["velocity"] != 70]
    kept = {note.tobytes() for note in melody}
    assert kept <= {note.tobytes() for note in np.asarray(piece)}
    for note in np.asarray(piece):
        if note.tobytes() not in kept:
            last = melody[melody["start"] <= note["start"] + 1e-6]
            assert note["pitch"] < (last[-1] if len(last) else melody[0])["pitch"]


def test_a_watcher_sees_the_progress_and_can_stop() -> None:
    lstm, steps = model(codec=SECONDS, std=0.3).train(), []

    def watcher(step) -> None:
        steps.append((step.done, step.total))
        assert isinstance(step.samples()[0], np.ndarray)
        if step.done > 40:
            raise GenerationStopped

    random = torch.get_rng_state()
    with watching(watcher), pytest.raises(GenerationStopped):
        lstm.infill(tune(), 2.0, 4.0, sweeps=1)
    assert steps[-1][0] > 40
    assert steps[-1][1] == 200
    assert steps == sorted(steps)
    assert torch.equal(random, torch.get_rng_state())
    assert lstm.training


def test_surprise_is_that_of_evaluation() -> None:
    lstm, notes = model(), notes_of(GIVEN)
    surprise = lstm.surprise(notes, tempo=60)
    bars = np.array([(0, 0, 4)], BARS)
    stream = score_to_messages(Score(notes, bars, 1.0))
    x_TF = CODEC.encode(stream)
    x_LF = torch.from_numpy(np.concatenate([[lstm.spec.sizes], x_TF]))
    clock_LC = torch.from_numpy(CODEC.prime_clock(stream, x_TF, 0, None))
    ones = torch.ones(1, len(x_TF), dtype=torch.bool)
    batch = MessageBatch(x_LF[None], ones, torch.ones(1, dtype=torch.bool), clock_LC[None])
    nll_N = lstm.nll(batch, "test")[0].sum(1).detach().numpy()
    np.testing.assert_allclose(surprise["nll"], nll_N[stream["velocity"] > 0], rtol=1e-5)
    assert surprise["pitch"].tolist() == notes["pitch"].tolist()
    np.testing.assert_allclose(surprise["end"], notes["end"])


def test_labels() -> None:
    codec = MessageCodec(pitch_range=(48, 84), labels=("a", "b"))
    lstm, notes = model(codec=codec, std=0.3), tune()
    nll = [lstm.surprise(notes, label=label)["nll"].sum() for label in "ab"]
    assert nll[0] != nll[1]
    assert len(lstm.infill(notes, 2.0, 3.0, label="b", sweeps=0)) == 1
    assert len(lstm.infill(notes, 2.0, 3.0, sweeps=0)) == 1
    with pytest.raises(UserError, match="label=c"):
        lstm.infill(notes, 2.0, 3.0, label="c")
