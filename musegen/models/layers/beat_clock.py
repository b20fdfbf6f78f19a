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

    @property
    def tables(self) -> tuple[nn.Embedding, nn.Embedding, nn.Embedding]:
        return self.in_beat, self.in_bar, self.bar_length

    def places(self, clock_C: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The row of each of the `tables`."""
        place, bar = clock_C.unbind(-1)
        sixteenth = (place // self.sixteenth).clamp(max=SIXTEENTHS - 1)
        length = (bar // self.sixteenth).clamp(max=SIXTEENTHS)
        return place % self.ticks, sixteenth, length

    def forward(self, clock_C: Tensor) -> Tensor:
        in_beat, in_bar, length = (
            table(place) for table, place in zip(self.tables, self.places(clock_C), strict=True)
        )
        embedded: Tensor = in_beat + in_bar + length
        return embedded


def advance(clock_BC: Tensor, ticks_B: Tensor) -> Tensor:
    """The clock after so many ticks."""
    advanced_BC = clock_BC.clone()
    advanced_BC[:, 0] = (clock_BC[:, 0] + ticks_B) % clock_BC[:, 1]
    return advanced_BC
