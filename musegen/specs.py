"""The interface of data and models: a spec when they are paired, batches at run time.

Shape letters, used as suffixes of tensor names throughout:

    B batch row    T time step    D visible unit or pitch    H hidden unit
    V vocabulary   S sample       F field of a message (note, velocity, time)
    L = T + 1      N selected positions of a batch           P pitch
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar, NamedTuple

from torch import Tensor

from musegen.errors import UserError

# --- Specs: the kind of the data and its sizes -------------------------------------------------


@dataclass(frozen=True)
class Spec:
    """The kind and the sizes of the data. A model takes every size that it needs from its spec."""

    kind: ClassVar[str] = "spec"

    def to_dict(self) -> dict[str, Any]:
        """Plain values for a checkpoint; `spec_from_dict` is the inverse."""
        return {"kind": self.kind, **asdict(self)}


@dataclass(frozen=True)
class Frames(Spec):
    """Independent vectors in [0, 1]^dim: images, single piano-roll frames."""

    kind: ClassVar[str] = "frames"
    dim: int


@dataclass(frozen=True)
class Rolls(Spec):
    """Sequences of binary frames, one column per pitch."""

    kind: ClassVar[str] = "rolls"
    pitches: int


@dataclass(frozen=True)
class Tokens(Spec):
    """Sequences of symbols."""

    kind: ClassVar[str] = "tokens"
    vocab_size: int


@dataclass(frozen=True)
class LabelledTokens(Spec):
    """Sequences of symbols, each sequence with one label."""

    kind: ClassVar[str] = "labelled_tokens"
    vocab_size: int
    num_labels: int


@dataclass(frozen=True)
class Messages(Spec):
    """Streams of MIDI messages as (note, velocity, time) classes. The sizes count classes.

    - clock: ticks per beat of the clock in the batches; 0 where times are seconds, without bars.
    - matches: whether the batches have the longest match after each message.
    """

    kind: ClassVar[str] = "messages"
    notes: int
    velocities: int
    times: int
    clock: int = 0
    matches: bool = False

    @property
    def sizes(self) -> tuple[int, int, int]:
        """Classes per field, in the order of the fields."""
        return self.notes, self.velocities, self.times


@dataclass(frozen=True)
class LabelledMessages(Messages):
    """Streams of MIDI messages, each piece with one label."""

    kind: ClassVar[str] = "labelled_messages"
    num_labels: int = field(kw_only=True)


SPECS: dict[str, type[Spec]] = {
    s.kind: s for s in (Frames, Rolls, Tokens, LabelledTokens, Messages, LabelledMessages)
}


def spec_from_dict(plain: dict[str, Any]) -> Spec:
    """The inverse of `Spec.to_dict`. Raises `UserError` for an unknown kind or wrong sizes."""
    sizes = dict(plain)
    kind = sizes.pop("kind", None)
    try:
        return SPECS[str(kind)](**sizes)
    except (KeyError, TypeError) as e:
        raise UserError(f"not a spec that this version knows: {plain}") from e


# --- Batches: one per spec -----------------------------------------------------------------


class FrameBatch(NamedTuple):
    """x_BD in [0, 1], float."""

    x_BD: Tensor


class RollBatch(NamedTuple):
    """x_BTD in {0, 1}, float; mask_BT is True for a frame of the data and False for padding."""

    x_BTD: Tensor
    mask_BT: Tensor


class TokenBatch(NamedTuple):
    """x_BL int64, L = T + 1: x[:, :-1] is the input, x[:, 1:] the target where mask_BT is True."""

    x_BL: Tensor
    mask_BT: Tensor


class LabelledTokenBatch(NamedTuple):
    """A `TokenBatch` with one label per sequence, int64."""

    x_BL: Tensor
    mask_BT: Tensor
    label_B: Tensor


class MessageBatch(NamedTuple):
    """x_BLF int64, L = T + 1: x[:, :-1] is the input, x[:, 1:] the target where mask_BT is True.

    A class equal to the field's size means "before the piece". fresh_B is True where a batch row
    starts a new sequence; elsewhere the row continues the same row of the previous batch.
    clock_BLC, C = 2: ticks since the last bar line at each message, and ticks of its bar; None if
    the spec has no clock. match_BLM, M = 1 + F: the longest match after each message, its level and
    the classes of the message that followed it (`musegen.codecs.message_matches`); None if the spec
    has no matches.
    """

    x_BLF: Tensor
    mask_BT: Tensor
    fresh_B: Tensor
    clock_BLC: Tensor | None = None
    match_BLM: Tensor | None = None


class LabelledMessageBatch(NamedTuple):
    """A `MessageBatch` with the label of the piece that each batch row reads, int64."""

    x_BLF: Tensor
    mask_BT: Tensor
    fresh_B: Tensor
    label_B: Tensor
    clock_BLC: Tensor | None = None
    match_BLM: Tensor | None = None
