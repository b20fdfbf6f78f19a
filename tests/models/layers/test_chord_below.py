"""The chord below each pitch: a frame by hand, and sampling that computes the same."""

from __future__ import annotations

import torch

from musegen.models.layers.chord_below import CHORD_FEATURES, MOST, ChordSoFar, chords_below

P = 30


def frames(*notes: set[int]) -> torch.Tensor:
    """Frames in which these pitches sound, (N, P)."""
    return torch.stack(
        [torch.tensor([float(p in sounding) for p in range(P)]) for sounding in notes]
    )


def test_a_chord_by_hand() -> None:
    """C, E, G and the C above. Before it C and F sounded: C goes on, three notes start, F ends."""
    (chord_PZ,) = chords_below(frames({0, 4, 7, 12}), frames({0, 5}))
    assert chord_PZ.shape == (P, CHORD_FEATURES)
    classes_PK, counts_P4V = chord_PZ[:, :12], chord_PZ[:, 12:].unflatten(1, (4, MOST))
    # Seen from the E at 16: two C are 4 semitones and an octave lower, G 9 and E 0 or 12.
    lower = {12 - k: int(n) for k, n in enumerate(classes_PK[16].tolist()) if n}
    assert lower == {4: 2, 9: 1, 12: 1}
    assert counts_P4V.sum(-1)[16].tolist() == [4, 1, 3, 1]
    assert counts_P4V[16, 2].tolist() == [1, 1, 1, 0, 0, 0]  # at least 1, 2, 3 start
    assert not chord_PZ[0].any()  # nothing is below the lowest pitch
    assert counts_P4V.sum(-1)[5].tolist() == [2, 1, 1, 0]  # the F itself is not below itself


def test_more_than_the_most_notes_are_counted_as_the_most() -> None:
    (chord_PZ,) = chords_below(frames(set(range(MOST + 3))), frames(set()))
    assert chord_PZ[-1, 12:].unflatten(0, (4, MOST)).sum(-1).tolist() == [MOST, 0, MOST, 0]


def test_sampling_has_the_same_numbers() -> None:
    generator = torch.Generator().manual_seed(0)
    x_NP, before_NP = (torch.rand(2, 40, P, generator=generator) < 0.3).float()
    whole_NPZ, chord = chords_below(x_NP, before_NP), ChordSoFar(before_NP)
    for p in range(P):
        torch.testing.assert_close(chord.features(p), whole_NPZ[:, p])
        chord.append(p, x_NP[:, p])
