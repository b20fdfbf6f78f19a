"""Biaxial LSTM: exact probabilities of piano-roll frames, with weights shared by all pitches.

After Johnson, "Generating polyphonic music using tied parallel networks" (EvoMUSART 2017). One
LSTM runs along time, with the same weights at every pitch d; its inputs from the frame before are
relative to d. A second LSTM runs along pitch in every frame, from low to high; its inputs are the
outputs of the first and the notes of the frame that are already known:

    e(t, d) = W [window of x(t−1) about d, pitch classes relative to d, age of note d]
              + clock and metre + absolute pitch + longest match
    h(t, d) = LSTM over t of e(·, d)            u(t) = LSTM over t of x(t−1), clock and metre
    c(t, d) = [h(t, d), e(t, d), U_d u(t), r(t, d)]
    n(t, d) = LSTM over d of [c(t, ·), the notes of x(t) just below d, the chord below d]

    p(x(1) … x(T)) = Π_t Π_d p(x(t, d) | x(1) … x(t−1), x(t, 1) … x(t, d−1)),
    each factor Bernoulli with the logit  w·n(t, d) + v·c(t, d) + b

r(t, d) is the output at pitch d of causal multi-head attention to the piece's earlier frames
(`CausalAttention`), with queries and keys from u. The likelihood is exact, and sampling note by
note gives exact samples.

Without absolute pitch and without u the model is equivariant to transposition: a transposed piece
has the same likelihood, as long as its notes stay away from the edges of the pitch range and the
LSTM along pitch has forgotten its initial state. The queries and keys then come from the mean of h
over the sounding notes.

Suffixes beside the usual: P pitches in [low, high), E features of e, C of c, N frames that are not
padding.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn
from torchmetrics import Metric

from musegen.codecs.roll_codec import RollCodec
from musegen.constraints import (
    DropoutRate,
    NonNegativeInt,
    PositiveInt,
    Probability,
    Seed,
    check_arguments,
)
from musegen.errors import UserError
from musegen.metrics.means import RowMeans
from musegen.metrics.roll_evaluation import SAMPLES, predicted_pieces, report, write_piece_table
from musegen.models.biaxial_sampler import MAX_FRAMES, BiaxialSampler
from musegen.models.layers.attention import CausalAttention
from musegen.models.layers.chord_below import CHORD_FEATURES
from musegen.models.layers.dropout import Dropout
from musegen.models.layers.frame_distribution import FrameDistribution
from musegen.models.layers.frame_sampler import FrameSampler
from musegen.models.layers.longest_match import LongestMatch
from musegen.models.layers.metre import MetreInput
from musegen.models.layers.note_age import AGE_BUCKETS, FINE_AGE_BUCKETS, note_ages
from musegen.models.layers.pitch_inputs import RelativeInputs, absolute_inputs
from musegen.models.roll_model import RollModel
from musegen.runtime.random_streams import Stream, torch_stream
from musegen.specs import RollBatch, Rolls

ATTENTION_HEAD_WIDTH = 32
"""Dimension of each head's queries and keys."""
GLOBAL_FEATURES = 4
"""Number of features of u at each pitch: the rows of U_d."""
INITIAL_LOG_ODDS = -3.0
"""The initial b: few of all notes sound."""
SAMPLE_ROWS = 16384
"""Number of frames that are sampled together."""


class PastState(NamedTuple):
    """What is kept of the frames so far: ages of the notes, states of the LSTMs along time."""

    age_BD: Tensor
    time_state: tuple[Tensor, Tensor] | None
    global_state: tuple[Tensor, Tensor] | None
    before_BSD: Tensor | None = None
    """All frames so far, if matches are searched or the metre is used."""

    def select(self, row_B: Tensor) -> PastState:
        """The state of these batch rows. The LSTM along time has its rows' pitches in one axis."""

        def rows(state: tuple[Tensor, Tensor] | None) -> Any:
            size = len(self.age_BD)
            return state and tuple(
                s.unflatten(1, (size, -1))[:, row_B].flatten(1, 2) for s in state
            )

        before_BSD = None if self.before_BSD is None else self.before_BSD[row_B]
        states = rows(self.time_state), rows(self.global_state)
        return PastState(self.age_BD[row_B], *states, before_BSD)


def check_columns(low: int, high: int, pitches: int) -> None:
    """Raise `UserError` unless there are columns from `low` to `high` − 1 of all `pitches`."""
    if not low < high <= pitches:
        raise UserError(
            f"low={low} should be below high={high}, and high at most the number of pitches, "
            f"{pitches}"
        )


class BiaxialLSTM(RollModel):
    """`hidden` units along time and `note_hidden` units along pitch, with shared weights.

    - hidden: units of the LSTM along time.
    - note_hidden: units of the LSTM along pitch.
    - features: the number of features of e.
    - window: semitones above and below each pitch in its inputs from the frame before.
    - notes_below: semitones below each note in the inputs of the LSTM along pitch.
    - chord_below: use in the LSTM along pitch how many notes sound, go on, start and end below each
      note, and the pitch classes of those that sound, relative to it.
    - pitch_classes: use the pitch classes of the frame before, relative to the pitch, in e.
    - note_age: use the age of the note in e.
    - fine_ages: with note_age, tell all ages up to 17 frames apart, instead of ten ranges of ages.
    - clock: use t modulo 2, 4, 8 and 16 in e and u.
    - metre: use how often notes started whole periods earlier, of 2 to 24 frames, in e and u.
    - absolute_pitch: use the pitch class and the register of the pitch itself in e.
    - global_hidden: units of u; 0 has no u.
    - attention_heads: heads of causal attention to the piece's earlier frames, at most
      `attention_span` frames back; 0 has no attention.
    - longest_match: use what followed the longest match of the last frames earlier in the piece.
    - low, high: the model predicts the columns from `low` to `high` − 1, by default all. Notes
      outside are inputs too; each has the fixed probability σ(−14). This saves time for data in
      which they never sound.
    - dropout: of h, u and n.
    - frozen_histories: the probability that a freeze of the history starts at each place where one
      may start; in training only. 0.3 is good for generation.
    - flipped_notes: the fraction of the notes of the history that is flipped; in training only.
      0.004 is good for generation.

    Logged metric besides the loss: `nll`, exact, in nats per frame. Raises `UserError` for a
    setting outside its range.
    """

    name: ClassVar[str] = "biaxial_lstm"
    monitor = ("val/nll", "min")
    scores = ("nll",)
    loss_metric = (1, "nll")
    absolute_PZ: Tensor

    @check_arguments
    def __init__(
        self,
        spec: Rolls,
        codec: RollCodec | None = None,
        hidden: PositiveInt = 64,
        note_hidden: PositiveInt = 64,
        features: PositiveInt = 32,
        window: NonNegativeInt = 12,
        notes_below: NonNegativeInt = 13,
        chord_below: bool = False,
        pitch_classes: bool = True,
        note_age: bool = True,
        fine_ages: bool = False,
        clock: bool = True,
        metre: bool = False,
        absolute_pitch: bool = True,
        global_hidden: NonNegativeInt = 128,
        attention_heads: NonNegativeInt = 4,
        attention_span: PositiveInt = 512,
        longest_match: bool = False,
        low: NonNegativeInt = 0,
        high: PositiveInt | None = None,
        dropout: DropoutRate = 0.4,
        frozen_histories: Probability = 0.0,
        flipped_notes: Probability = 0.0,
    ) -> None:
        super().__init__(spec, codec)
        self.save_settings()
        self.low, self.high = low, self.spec.pitches if high is None else high
        check_columns(self.low, self.high, self.spec.pitches)
        self.notes_below, self.chord_below = notes_below, chord_below
        self.frozen_histories, self.flipped_notes = frozen_histories, flipped_notes
        buckets = (FINE_AGE_BUCKETS if fine_ages else AGE_BUCKETS) if note_age else ()
        self.relative = RelativeInputs(self.low, self.high, window, pitch_classes, buckets)
        self.metre = MetreInput(clock, metre, self.low_pitches)
        visible, metre_size = self.spec.pitches, self.metre.out_features
        self.embed = nn.Linear(self.relative.out_features, features)
        self.hands = nn.Linear(metre_size, features, bias=False) if metre_size else None
        self.absolute = nn.Linear(13, features, bias=False) if absolute_pitch else None
        self.match = LongestMatch(visible, self.low, self.high, features) if longest_match else None
        self.time_lstm = nn.LSTM(features, hidden)
        width, self.state_width = hidden + features + chord_below, global_hidden or hidden
        self.global_lstm: nn.LSTM | None = None
        if global_hidden:
            self.global_lstm = nn.LSTM(visible + metre_size, global_hidden)
            self.numbers = nn.Linear(global_hidden, (self.high - self.low) * GLOBAL_FEATURES)
            width += GLOBAL_FEATURES
        self.attention: CausalAttention | None = None
        if attention_heads:
            self.attention = CausalAttention(
                self.state_width, visible, attention_heads, ATTENTION_HEAD_WIDTH, attention_span
            )
            width += 2 * attention_heads
        self.note_lstm = nn.LSTM(width + notes_below + CHORD_FEATURES * chord_below, note_hidden)
        self.note_logit = nn.Linear(note_hidden, 1, bias=False)
        self.context_logit = nn.Linear(width, 1)
        nn.init.constant_(self.context_logit.bias, INITIAL_LOG_ODDS)
        self.dropout = Dropout(dropout)
        absolute_PZ = absolute_inputs(self.low, self.high, visible)
        self.register_buffer("absolute_PZ", absolute_PZ, persistent=False)

    # --- Along time ---------------------------------------------------------------------------

    def start(self, rows: int) -> PastState:
        """The state before the first frame, for a number of batch rows."""
        age_BD = self.embed.weight.new_zeros(rows, self.spec.pitches, dtype=torch.int64)
        return PastState(age_BD, None, None)

    def along_time(
        self, before_BTD: Tensor, past: PastState, first: int = 0
    ) -> tuple[Tensor, Tensor, Tensor, PastState]:
        """h_TBPH, e_TBPE and u_TBR of frames t = first, first + 1, …, and the state after them.

        before_BTD are the frames t − 1.
        """
        x_TBD = before_BTD.transpose(0, 1)
        steps, rows, _ = x_TBD.shape
        age_BTD = note_ages(before_BTD, past.age_BD)
        before_BSD = before_BTD
        if past.before_BSD is not None:
            before_BSD = torch.cat([past.before_BSD, before_BTD], dim=1)
        e_TBPE = self.embed(self.relative(x_TBD, age_BTD.transpose(0, 1)))
        metre_TBZ = None
        if self.hands is not None:
            metre_TBZ = self.metre(before_BSD, steps, first).transpose(0, 1)
            e_TBPE = e_TBPE + self.hands(metre_TBZ)[:, :, None]
        if self.absolute is not None:
            e_TBPE = e_TBPE + self.absolute(self.absolute_PZ.to(x_TBD.dtype))
        if self.match is not None:
            e_TBPE = e_TBPE + self.match(before_BSD, steps).transpose(0, 1)
        h_TNH, time_state = self.time_lstm(e_TBPE.flatten(1, 2), past.time_state)
        h_TBPH = self.dropout(h_TNH.unflatten(1, (rows, -1)))
        if self.chord_below:
            e_TBPE = torch.cat([e_TBPE, x_TBD[..., self.low : self.high, None]], dim=-1)
        if self.global_lstm is None:
            u_TBR, global_state = self.mean_of_sounding_notes(h_TBPH, x_TBD), None
        else:
            inputs_TBZ = x_TBD if metre_TBZ is None else torch.cat([x_TBD, metre_TBZ], dim=-1)
            u_TBR, global_state = self.global_lstm(inputs_TBZ, past.global_state)
            u_TBR = self.dropout(u_TBR)
        searched = self.match is not None or self.metre.combs
        known_BSD = before_BSD if searched else None
        after = PastState(age_BTD[:, -1], time_state, global_state, known_BSD)
        return h_TBPH, e_TBPE, u_TBR, after

    def mean_of_sounding_notes(self, h_TBPH: Tensor, x_TBD: Tensor) -> Tensor:
        """The mean of h over the notes that sound in the frame before, (T, B, H); 0 in silence."""
        on_TB1P = x_TBD[..., None, self.low : self.high]
        mean_TB1H = on_TB1P @ h_TBPH / on_TB1P.sum(-1, keepdim=True).clamp_min(1)
        return mean_TB1H[:, :, 0]

    def context(self, h_TBPH: Tensor, e_TBPE: Tensor, u_TBR: Tensor, r_TBZ: Any) -> Tensor:
        """c_TBPC: what the earlier frames say about each pitch."""
        parts = [h_TBPH, e_TBPE]
        if self.global_lstm is not None:
            parts.append(self.numbers(u_TBR).unflatten(-1, (-1, GLOBAL_FEATURES)))
        if self.attention is not None:
            r_TBMZ = r_TBZ.unflatten(-1, (self.attention.heads, -1))
            attended_TBPM = r_TBMZ[..., self.low : self.high].transpose(-1, -2)
            null_TB1M = r_TBMZ[..., -1][..., None, :]
            parts += [attended_TBPM, null_TB1M.expand_as(attended_TBPM)]
        return torch.cat(parts, dim=-1)

    def contexts(self, x_BTD: Tensor) -> Tensor:
        """c_TBPC of whole sequences; the context of a frame depends on the frames before it."""
        before_BTD = F.pad(x_BTD, (0, 0, 1, 0))[:, :-1]
        h_TBPH, e_TBPE, u_TBR, _ = self.along_time(before_BTD, self.start(len(x_BTD)))
        r_TBZ = None
        if self.attention is not None:
            r_TBZ = self.attention.all_steps(u_TBR.transpose(0, 1), x_BTD).transpose(0, 1)
        return self.context(h_TBPH, e_TBPE, u_TBR, r_TBZ)

    @property
    def frame_distribution(self) -> FrameDistribution:
        """The distribution of frames given their contexts, by the LSTM along pitch."""
        layers = self.note_lstm, self.note_logit, self.context_logit, self.dropout
        columns = self.spec.pitches, self.low, self.high
        # Of the numbers of c, those of h and e come first; whether d sounded is the last one of e.
        sounded = self.time_lstm.hidden_size + self.embed.out_features if self.chord_below else None
        return FrameDistribution(*layers, *columns, self.notes_below, sounded)

    # --- Training -----------------------------------------------------------------------------

    def losses(self, batch: RollBatch) -> dict[str, Tensor]:
        x_TBD, mask_TB = batch.x_BTD.transpose(0, 1), batch.mask_BT.t()
        c_TBPC = self.contexts(self.history(batch))
        log_prob = self.frame_distribution.log_prob
        if mask_TB.device.type == "cpu":
            return {"nll": -log_prob(c_TBPC[mask_TB], x_TBD[mask_TB]).mean()}
        # Selecting by a mask would make the CPU wait for a GPU, so padding stays, with weight 0.
        log_prob_N = log_prob(c_TBPC.flatten(0, 1), x_TBD.flatten(0, 1))
        return {"nll": -(log_prob_N * mask_TB.flatten()).sum() / mask_TB.sum()}

    # --- Evaluation ---------------------------------------------------------------------------

    def new_metric(self) -> Metric:
        return RowMeans(self.scores)

    def score(self, batch: RollBatch, metric: Metric, stage: str) -> None:
        metric.update(nll=-self.log_prob(batch)[batch.mask_BT])

    def blocks(self, batch: RollBatch) -> Iterator[tuple[slice, Tensor, Tensor]]:
        """Blocks of batch rows, each with its c_BTPC and x_BTD on the device of the weights."""
        rows, steps = batch.mask_BT.shape
        width = max(1, MAX_FRAMES // steps)
        for block in (slice(b, b + width) for b in range(0, rows, width)):
            x_BTD = batch.x_BTD[block].to(self.embed.weight)
            yield block, self.contexts(x_BTD).transpose(0, 1), x_BTD

    @torch.no_grad()
    def log_prob(self, batch: RollBatch) -> Tensor:
        """log p of each frame given the frames before it, (B, T), in nats; 0 in padding.

        In the dtype of the weights even under autocast, so that the value is exact.
        """
        device = self.embed.weight.device
        log_prob_BT = torch.zeros(batch.mask_BT.shape, device=device)
        with torch.autocast(device.type, enabled=False):
            for block, c_BTPC, x_BTD in self.blocks(batch):
                mask_BT = batch.mask_BT[block].to(device)
                log_prob_N = self.frame_distribution.log_prob(c_BTPC[mask_BT], x_BTD[mask_BT])
                log_prob_BT[block][mask_BT] = log_prob_N.to(log_prob_BT.dtype)
        return log_prob_BT

    @torch.no_grad()
    def sample_frames(self, batch: RollBatch, samples: int, generator: Generator) -> Tensor:
        """S samples of each frame that is not padding, given the true frames before it: (S, N, D)
        bool."""
        sample, parts = self.frame_distribution.sample, []
        for block, c_BTPC, x_BTD in self.blocks(batch):
            c_NPC = c_BTPC[batch.mask_BT[block].to(x_BTD.device)]
            for c_MPC in c_NPC.split(max(1, SAMPLE_ROWS // samples)):
                parts.append(sample(c_MPC, samples, 1.0, generator)[0].bool())
        return torch.cat(parts, dim=1)

    @torch.inference_mode()
    @check_arguments
    def assess(
        self,
        data: Any,
        split: Literal["test", "val"] = "test",
        samples: NonNegativeInt = SAMPLES,
        pieces: Path | None = None,
        seed: Seed = 0,
    ) -> dict[str, float]:
        """Exact log-likelihood (nats per frame) and accuracy (fraction) of all frames of a split.

        Also the log-likelihood of frames after repeated and after new contexts, and of pieces that
        share no top line with training pieces (`musegen.metrics.roll_evaluation`).

        - samples: of each frame, for the accuracy; 0 leaves it out.
        - pieces: a CSV file to write, with the log-likelihood and accuracy of every piece.
        """
        generator = torch_stream(Stream.ASSESSMENT, seed, device=self.device)
        loader = data.test_dataloader() if split == "test" else data.val_dataloader()
        predicted = predicted_pieces(self, loader, samples, generator)
        if pieces is not None:
            write_piece_table(predicted, pieces)
        return report(predicted, getattr(data, "rolls", {}).get("train"))

    # --- Generation ---------------------------------------------------------------------------

    def frame_sampler(
        self, rows: int, frames: int, temperature: float, generator: Generator
    ) -> FrameSampler:
        return BiaxialSampler(self, rows, frames, temperature, generator)
