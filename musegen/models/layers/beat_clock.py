"""The place in the beat and in the bar, as an input, and the clock of a generated piece."""

from __future__ import annotations

from torch import Tensor, nn

SIXTEENTHS = 64
"""Places of a bar that have embeddings of their own: the sixteenths of four bars of 4/4."""


class BeatClock(nn.Module):
    """Embeddings of the tick in the beat, of the sixteenth in the bar and of the bar's length.

    Their sum is the input, (…, D). A clock (…, 2) is the number of ticks since the last bar line
    and the ticks of the bar, with `ticks` ticks per beat.
    """

    def __init__(self, ticks: int, width: int) -> None:
        super().__init__()
        self.ticks, self.sixteenth = ticks, ticks // 4
        self.in_beat = nn.Embedding(ticks, width)
        self.in_bar = nn.Embedding(SIXTEENTHS, width)
        self.bar_length = nn.Embedding(SIXTEENTHS + 1, width)

    def forward(self, clock_C: Tensor) -> Tensor:
        place, bar = clock_C.unbind(-1)
        sixteenth = (place // self.sixteenth).clamp(max=SIXTEENTHS - 1)
        length = (bar // self.sixteenth).clamp(max=SIXTEENTHS)
        embedded: Tensor = self.in_beat(place % self.ticks) + self.in_bar(sixteenth)
        return embedded + self.bar_length(length)


def advance(clock_BC: Tensor, ticks_B: Tensor) -> Tensor:
    """The clock after so many ticks."""
    advanced_BC = clock_BC.clone()
    advanced_BC[:, 0] = (clock_BC[:, 0] + ticks_B) % clock_BC[:, 1]
    return advanced_BC
