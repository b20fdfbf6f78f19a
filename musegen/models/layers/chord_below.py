"""The chord below each pitch of a frame: what its lower notes are, and what they do.

An LSTM that runs along the pitches of a frame has to remember a chord over two octaves before it
comes to the melody, to count voices, and to notice that all of them go on. Here each pitch d has
these numbers:

- for each pitch class relative to d, how many notes sound below d;
- whether at least 1, 2, … 6 notes below d sound; go on from the frame before; start; end.

Suffixes: P pitches, N frames, M frames that are sampled, K pitch classes, 4 what notes do, V
numbers of notes.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

MOST = 6
"""Notes are counted up to this number."""
CHORD_FEATURES = 12 + 4 * MOST


def chords_below(x_NP: Tensor, before_NP: Tensor) -> Tensor:
    """The chord below each pitch of the frames x, (N, P, `CHORD_FEATURES`); `before` are the frames
    before them.

    Class k is of the notes 12 − k semitones lower, and of those whole octaves below them.
    """
    octaves_NP = x_NP.clone()
    for lower in range(12, x_NP.shape[1], 12):
        octaves_NP[:, lower:] += x_NP[:, :-lower]
    classes_NPK = F.pad(octaves_NP, (12, -1)).unfold(-1, 12, 1)
    count_NP4 = F.pad(motions(x_NP, before_NP), (0, 0, 1, -1)).cumsum(1)
    return torch.cat([classes_NPK, at_least(count_NP4)], dim=-1)


def motions(x: Tensor, before: Tensor) -> Tensor:
    """Whether each note sounds, goes on, starts, and ends, in a new last axis."""
    return torch.stack([x, x * before, x * (1 - before), (1 - x) * before], dim=-1)


def at_least(count_4: Tensor) -> Tensor:
    """Whether each of the last axis's numbers is at least 1, 2, … `MOST`, in one last axis."""
    most_V = torch.arange(1, MOST + 1, device=count_4.device)
    return (count_4[..., None] >= most_V).to(count_4).flatten(-2)


class ChordSoFar:
    """`chords_below` of frames that are sampled from low to high.

    What depends on the frame before is computed once: in terms of x, `motions` are a + b x.
    """

    def __init__(self, before_MP: Tensor) -> None:
        self.a_MP4 = motions(torch.zeros_like(before_MP), before_MP)
        self.b_MP4 = motions(torch.ones_like(before_MP), before_MP) - self.a_MP4
        self.octaves_MZ = F.pad(torch.zeros_like(before_MP), (12, 0))
        self.count_M4 = before_MP.new_zeros(len(before_MP), 4)

    def features(self, p: int) -> Tensor:
        """The chord below pitch p, (M, `CHORD_FEATURES`)."""
        return torch.cat([self.octaves_MZ[:, p : p + 12], at_least(self.count_M4)], dim=1)

    def append(self, p: int, x_M: Tensor) -> None:
        """Make x the notes at pitch p."""
        self.octaves_MZ[:, p + 12] = x_M + self.octaves_MZ[:, p]
        self.count_M4 += torch.addcmul(self.a_MP4[:, p], self.b_MP4[:, p], x_M[:, None])
