"""Biaxial LSTM: exact probabilities of piano-roll frames, with weights shared by all pitches.

After Johnson, "Generating polyphonic music using tied parallel networks" (EvoMUSART 2017). Along
time an LSTM runs at every pitch d, the same one at all of them; what it reads of the frame before
is relative to d. Along pitch, low to high, a second one runs in every frame; it reads what the
first has made of the past, and the notes that are decided already:

    e(t, d) = W [window of x(t−1) about d, pitch classes about d, age of d] + clock + absolute pitch
    h(t, d) = LSTM over t of e(·, d)            u(t) = LSTM over t of x(t−1) and the clock
    c(t, d) = [h(t, d), e(t, d), U_d u(t), r(t, d)]
    n(t, d) = LSTM over d of [c(t, ·), the notes of x(t) just below d]

    p(x(1) … x(T)) = Π_t Π_d p(x(t, d) | x(1) … x(t−1), x(t, 1) … x(t, d−1)),
    each factor Bernoulli with the logit  w·n(t, d) + v·c(t, d) + b

r(t, d) is what attention heads read at pitch d in the piece's own past (`CausalAttention`), queries and
keys from u. The likelihood is exact, and drawing note after note draws from the model itself.

Without absolute pitch and without u the model is equivariant: a transposed piece has the same
likelihood, edges apart: no note may come near them, and the LSTM along pitch must have forgotten
where it began. Attention then takes its queries and keys from the mean of h over the notes that
sound.

Shapes beside the usual: P pitches in [low, high), E features of e, C of c, N real frames.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn
from torchmetrics import Metric

from musegen.codecs.roll_codec import RollCodec
from musegen.constraints import (
    DropoutRate,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    Probability,
    Seed,
    check_arguments,
)
from musegen.errors import UserError
from musegen.metrics.means import RowMeans
from musegen.metrics.roll_evaluation import SAMPLES, predicted_pieces, report, write_piece_table
from musegen.models.base import Model
from musegen.models.layers.attention import CausalAttention
from musegen.models.layers.clock import PERIODS
from musegen.models.layers.clock import clock as clock_hands
from musegen.models.layers.dropout import Dropout
from musegen.models.layers.frozen_history import freeze_history
from musegen.models.layers.note_age import AGE_BUCKETS, age_one_hot, note_ages
from musegen.runtime.progress import track
from musegen.specs import RollBatch, Rolls

OUTSIDE_LOGIT = -14.0
"""Of pitches outside [low, high): a note there costs 14 nats, and its absence nearly nothing."""
ATTENTION_HEAD_WIDTH, GLOBAL_NUMBERS = 32, 4
"""Numbers in each query and key; and of u at each pitch."""
MIDDLE_C = 60
FRAMES, SAMPLE_ROWS = 2048, 16384
"""Frames that are evaluated together, and frames that are drawn together."""


class Carried(NamedTuple):
    """What is known of the past at some frame: ages of notes, states of the LSTMs along time."""

    age_BD: Tensor
    time: tuple[Tensor, Tensor] | None
    whole: tuple[Tensor, Tensor] | None


class BiaxialLSTM(Model):
    """`hidden` units along time and `note_hidden` along pitch, at every pitch the same.

    - features: the width of e.
    - window: semitones above and below that e looks at; notes_below: semitones below a note that
      the LSTM along pitch sees of its own frame.
    - pitch_classes, note_age, clock, absolute_pitch: other parts of e: notes by pitch class
      relative to d, age of the note, t mod 2, 4, 8 and 16, pitch class and register of d itself.
    - global_hidden: units of u; 0 leaves u out.
    - attention_heads, attention_span: of the piece's own past, so many frames back at most.
    - low, high: the columns that are modelled, all by default. Notes outside are read, and have the
      fixed probability σ(−14) each: for sets in which they never sound, this saves their time.
    - dropout: of h, u and n.
    - frozen_histories, flipped_notes: in training, the past is read with parts frozen and notes
      flipped (`musegen.models.layers.frozen_history`); 0.3 and 0.004 make a composer.

    Logged besides the loss, in nats per frame: `nll`.
    """

    name: ClassVar[str] = "biaxial_lstm"
    reads = (Rolls,)
    codec_type = RollCodec
    monitor = ("val/nll", "min")
    spec: Rolls
    absolute_PZ: Tensor
    class_PK: Tensor

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
        pitch_classes: bool = True,
        note_age: bool = True,
        clock: bool = True,
        absolute_pitch: bool = True,
        global_hidden: NonNegativeInt = 128,
        attention_heads: NonNegativeInt = 4,
        attention_span: PositiveInt = 512,
        low: NonNegativeInt = 0,
        high: PositiveInt | None = None,
        dropout: DropoutRate = 0.4,
        frozen_histories: Probability = 0.0,
        flipped_notes: Probability = 0.0,
    ) -> None:
        super().__init__(spec, codec)
        self.save_settings()
        self.low, self.high = low, self.spec.pitches if high is None else high
        if not self.low < self.high <= self.spec.pitches:
            raise UserError(
                f"low={low} should be below high={self.high}, and high at most the number of "
                f"pitches, {self.spec.pitches}"
            )
        self.window, self.notes_below = window, notes_below
        self.pitch_classes, self.note_age = pitch_classes, note_age
        self.frozen_histories, self.flipped_notes = frozen_histories, flipped_notes
        pitches, hands = self.high - self.low, sum(PERIODS) if clock else 0
        relative = 2 * window + 1 + 12 * pitch_classes + len(AGE_BUCKETS) * note_age

        self.embed = nn.Linear(relative, features)
        self.hands = nn.Linear(hands, features, bias=False) if clock else None
        self.absolute = nn.Linear(13, features, bias=False) if absolute_pitch else None
        self.time_lstm = nn.LSTM(features, hidden)
        width, every, self.known = hidden + features, self.spec.pitches, global_hidden or hidden
        self.global_lstm: nn.LSTM | None = None
        if global_hidden:
            self.global_lstm = nn.LSTM(every + hands, global_hidden)
            self.numbers = nn.Linear(global_hidden, pitches * GLOBAL_NUMBERS)
            width += GLOBAL_NUMBERS
        self.attention: CausalAttention | None = None
        if heads := attention_heads:
            self.attention = CausalAttention(
                self.known, every, heads, ATTENTION_HEAD_WIDTH, attention_span
            )
            width += 2 * heads
        self.note_lstm = nn.LSTM(width + notes_below, note_hidden)
        self.note_logit = nn.Linear(note_hidden, 1, bias=False)
        self.context_logit = nn.Linear(width, 1)
        nn.init.constant_(self.context_logit.bias, -3.0)  # few of all notes sound
        self.dropout = Dropout(dropout)

        d_P = torch.arange(self.low, self.high)
        register_P = 2 * d_P / max(1, every - 1) - 1
        absolute_PZ = torch.cat([F.one_hot(d_P % 12, 12).float(), register_P[:, None]], dim=1)
        self.register_buffer("absolute_PZ", absolute_PZ, persistent=False)
        self.register_buffer("class_PK", (d_P[:, None] + torch.arange(12)) % 12, persistent=False)

    # --- Along time ---------------------------------------------------------------------------

    def start(self, rows: int) -> Carried:
        """What is known before the first frame: nothing."""
        return Carried(self.class_PK.new_zeros(rows, self.spec.pitches), None, None)

    def along_time(
        self, before_BTD: Tensor, carried: Carried, first: int = 0
    ) -> tuple[Tensor, Tensor, Tensor, Carried]:
        """What is known at frames first, first + 1, … by the frames before each, before_BTD.

        h_TBPH, e_TBPE, u_TBR, and what is carried on to the next frame.
        """
        x_TBD = before_BTD.transpose(0, 1)
        steps, rows, _ = x_TBD.shape
        age_BTD = note_ages(before_BTD, carried.age_BD)
        clock_TZ = clock_hands(steps, first, device=x_TBD.device).to(x_TBD.dtype)
        e_TBPE = self.embed(self.relative(x_TBD, age_BTD.transpose(0, 1)))
        if self.hands is not None:
            e_TBPE = e_TBPE + self.hands(clock_TZ)[:, None, None]
        if self.absolute is not None:
            e_TBPE = e_TBPE + self.absolute(self.absolute_PZ.to(x_TBD.dtype))
        h_TNH, time = self.time_lstm(e_TBPE.flatten(1, 2), carried.time)
        h_TBPH = self.dropout(h_TNH.unflatten(1, (rows, -1)))
        if self.global_lstm is None:
            on_TB1P = x_TBD[..., None, self.low : self.high]
            mean_TB1H = on_TB1P @ h_TBPH / on_TB1P.sum(-1, keepdim=True).clamp_min(1)
            return h_TBPH, e_TBPE, mean_TB1H[:, :, 0], Carried(age_BTD[:, -1], time, None)
        read_TBZ = x_TBD
        if self.hands is not None:
            read_TBZ = torch.cat([x_TBD, clock_TZ[:, None].expand(-1, rows, -1)], dim=-1)
        u_TBR, whole = self.global_lstm(read_TBZ, carried.whole)
        return h_TBPH, e_TBPE, self.dropout(u_TBR), Carried(age_BTD[:, -1], time, whole)

    def relative(self, x_TBD: Tensor, age_TBD: Tensor) -> Tensor:
        """Frames as each pitch sees them, (T, B, P, ·)."""
        reach = self.window
        padded_TBZ = F.pad(x_TBD, (reach, reach))[..., self.low : self.high + 2 * reach]
        seen = [padded_TBZ.unfold(-1, 2 * reach + 1, 1)]
        if self.pitch_classes:
            whole_TBZ = F.pad(x_TBD, (0, -x_TBD.shape[-1] % 12))
            count_TBK = whole_TBZ.unflatten(-1, (-1, 12)).sum(-2)
            seen.append(count_TBK[..., self.class_PK] / 2)
        if self.note_age:
            seen.append(age_one_hot(age_TBD[..., self.low : self.high]).to(x_TBD.dtype))
        return torch.cat(seen, dim=-1)

    def context(self, h_TBPH: Tensor, e_TBPE: Tensor, u_TBR: Tensor, r_TBZ: Any) -> Tensor:
        """c_TBPC: all that the frames before tell each pitch."""
        parts = [h_TBPH, e_TBPE]
        if self.global_lstm is not None:
            parts.append(self.numbers(u_TBR).unflatten(-1, (-1, GLOBAL_NUMBERS)))
        if self.attention is not None:
            r_TBMZ = r_TBZ.unflatten(-1, (self.attention.heads, -1))
            found_TBPM = r_TBMZ[..., self.low : self.high].transpose(-1, -2)
            nowhere_TB1M = r_TBMZ[..., -1][..., None, :]
            parts += [found_TBPM, nowhere_TB1M.expand_as(found_TBPM)]
        return torch.cat(parts, dim=-1)

    def contexts(self, read_BTD: Tensor) -> Tensor:
        """c_TBPC of whole sequences, each frame's from those before it."""
        before_BTD = F.pad(read_BTD, (0, 0, 1, 0))[:, :-1]
        h_TBPH, e_TBPE, u_TBR, _ = self.along_time(before_BTD, self.start(len(read_BTD)))
        r_TBZ = None
        if self.attention is not None:
            r_TBZ = self.attention.all_steps(u_TBR.transpose(0, 1), read_BTD).transpose(0, 1)
        return self.context(h_TBPH, e_TBPE, u_TBR, r_TBZ)

    # --- Along pitch --------------------------------------------------------------------------

    def logits(self, c_NPC: Tensor, x_ND: Tensor) -> Tensor:
        """The logit of every note of frames x_ND given the notes below it, (P, N)."""
        x_NP = x_ND[:, self.low : self.high]
        c_PNC, below = c_NPC.transpose(0, 1), self.notes_below
        read = [c_PNC]
        if below:
            read.append(F.pad(x_NP, (below, -1)).unfold(-1, below, 1).transpose(0, 1))
        n_PNH, _ = self.note_lstm(torch.cat(read, dim=-1))
        return (self.note_logit(self.dropout(n_PNH)) + self.context_logit(c_PNC)).squeeze(-1)

    def along_pitch(self, c_NPC: Tensor, x_ND: Tensor) -> Tensor:
        """log p of each frame x_ND, (N,), all its notes at once."""
        logit_PN, x_PN = self.logits(c_NPC, x_ND).float(), x_ND[:, self.low : self.high].t()
        nll_PN = F.binary_cross_entropy_with_logits(logit_PN, x_PN.float(), reduction="none")
        return outside_log_prob(x_ND, self.low, self.high) - nll_PN.sum(0)

    @torch.no_grad()
    def draw(
        self, c_NPC: Tensor, samples: int, temperature: float, generator: Generator
    ) -> tuple[Tensor, Tensor]:
        """Frames drawn note after note from their conditionals, (S, N, D); and log p, (S, N)."""
        frames, pitches, width = c_NPC.shape
        base_NP = self.context_logit(c_NPC).squeeze(-1)
        W_ih, W_hh, b_ih, b_hh = self.note_lstm.all_weights[0]
        known_NP4 = F.linear(c_NPC, W_ih[:, :width], b_ih + b_hh)
        W_Z4 = torch.cat([W_ih[:, width:], W_hh], dim=1).t().contiguous()
        rows = samples * frames
        shape = rows, self.spec.pitches
        drawn_MD = torch.rand(shape, generator=generator, device=c_NPC.device).to(c_NPC.dtype)
        x_MD = (drawn_MD < 1 / (1 + math.exp(-OUTSIDE_LOGIT))).to(c_NPC.dtype)
        x_MD[:, self.low : self.high] = 0
        h_MH = c_NPC.new_zeros(rows, W_hh.shape[1])
        cell_MH = torch.zeros_like(h_MH)
        log_prob_M = outside_log_prob(x_MD, self.low, self.high)
        for p in range(pitches):
            d = self.low + p
            below_MZ = x_MD[:, max(self.low, d - self.notes_below) : d]
            below_MZ = F.pad(below_MZ, (self.notes_below - below_MZ.shape[1], 0))
            known_M4 = known_NP4[:, p].repeat(samples, 1)
            gates_M4 = torch.addmm(known_M4, torch.cat([below_MZ, h_MH], dim=1), W_Z4)
            i, f, g, o = gates_M4.chunk(4, dim=1)
            cell_MH = f.sigmoid() * cell_MH + i.sigmoid() * g.tanh()
            h_MH = o.sigmoid() * cell_MH.tanh()
            logit_M = self.note_logit(h_MH).squeeze(-1) + base_NP[:, p].repeat(samples)
            logit_M = logit_M / temperature
            x_MD[:, d] = (drawn_MD[:, d] < logit_M.sigmoid()).to(x_MD.dtype)
            log_prob_M += F.logsigmoid((2 * x_MD[:, d] - 1) * logit_M)
        return tuple(z.unflatten(0, (samples, frames)) for z in (x_MD, log_prob_M))

    # --- Training -----------------------------------------------------------------------------

    def losses(self, batch: RollBatch) -> dict[str, Tensor]:
        read_BTD, (x_BTD, mask_BT) = batch.x_BTD, batch
        if self.training:
            low_pitches = max(0, MIDDLE_C - (self.codec or RollCodec()).pitch_range[0])
            read_BTD = freeze_history(*batch, low_pitches, self.frozen_histories, self.flipped_notes)
        c_TBPC, x_TBD, mask_TB = self.contexts(read_BTD), x_BTD.transpose(0, 1), mask_BT.t()
        if mask_TB.device.type == "cpu":
            return {"nll": -self.along_pitch(c_TBPC[mask_TB], x_TBD[mask_TB]).mean()}
        # A GPU would be waited for to know how many frames are real: padding stays, at no weight.
        log_prob_N = self.along_pitch(c_TBPC.flatten(0, 1), x_TBD.flatten(0, 1))
        return {"nll": -(log_prob_N * mask_TB.flatten()).sum() / mask_TB.sum()}

    def num_predictions(self, batch: RollBatch) -> Tensor:
        return batch.mask_BT.sum()

    # --- Measuring ----------------------------------------------------------------------------

    def new_metric(self) -> Metric:
        return RowMeans(["nll"])

    def score(self, batch: RollBatch, metric: Metric, stage: str) -> None:
        metric.update(nll=-self.log_prob(batch)[batch.mask_BT])

    def blocks(self, batch: RollBatch) -> Iterator[tuple[slice, Tensor, Tensor]]:
        """Some sequences after the others, and their c_BTPC and x_BTD, where the weights are."""
        rows, steps = batch.mask_BT.shape
        width = max(1, FRAMES // steps)
        for some in (slice(b, b + width) for b in range(0, rows, width)):
            x_BTD = batch.x_BTD[some].to(self.embed.weight)
            yield some, self.contexts(x_BTD).transpose(0, 1), x_BTD

    @torch.no_grad()
    def log_prob(self, batch: RollBatch) -> Tensor:
        """(B, T): log p of each frame given those before it, nats; 0 in padding.

        In the weights' type, whatever autocast may be on: an exact figure has all its digits.
        """
        device = self.embed.weight.device
        log_prob_BT = torch.zeros(batch.mask_BT.shape, device=device)
        with torch.autocast(device.type, enabled=False):
            for some, c_BTPC, x_BTD in self.blocks(batch):
                mask_BT = batch.mask_BT[some].to(device)
                log_prob_N = self.along_pitch(c_BTPC[mask_BT], x_BTD[mask_BT])
                log_prob_BT[some][mask_BT] = log_prob_N.to(log_prob_BT.dtype)
        return log_prob_BT

    @torch.no_grad()
    def sample_frames(self, batch: RollBatch, samples: int, generator: Generator) -> Tensor:
        """(S, N, D): each real frame S times, given the true frames before it."""
        parts = []
        for some, c_BTPC, x_BTD in self.blocks(batch):
            c_NPC = c_BTPC[batch.mask_BT[some].to(x_BTD.device)]
            for block_NPC in c_NPC.split(max(1, SAMPLE_ROWS // samples)):
                parts.append(self.draw(block_NPC, samples, 1.0, generator)[0].bool())
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
        """The protocol's LL (nats per frame, exact) and ACC (percent) of all frames of a split.

        - samples: of every frame's conditional, for ACC; 0 leaves it out.
        - pieces: a CSV file for the LL and ACC of every piece.

        Also the LL after contexts that the piece had before and after others, and of pieces that
        share no top line with training (`musegen.metrics.roll_evaluation`).
        """
        generator = torch.Generator(self.device).manual_seed(seed)
        loader = data.test_dataloader() if split == "test" else data.val_dataloader()
        predicted = predicted_pieces(self, loader, samples, generator)
        if pieces is not None:
            write_piece_table(predicted, pieces)
        return report(predicted, getattr(data, "rolls", {}).get("train"))

    # --- Generation ---------------------------------------------------------------------------

    @torch.inference_mode()
    @check_arguments
    def generate(
        self,
        n: PositiveInt = 4,
        length: PositiveInt = 200,
        temperature: PositiveFloat = 1.0,
        repeats: Literal["sustain", "retrigger"] | None = None,
        prime: Path | None = None,
        prime_seconds: float | None = None,
        include_prime: bool = False,
        seed: Seed = 0,
    ) -> list[np.ndarray]:
        """Compose n pieces of `length` frames, as `NOTES` arrays, drawn from the model itself.

        The logit of every note is divided by `temperature`; all else as for the RNN-RBM.
        """
        codec = self.codec if repeats is None else replace(self.codec, repeats=repeats)
        generator = torch.Generator(self.device).manual_seed(seed)
        primed_TD = codec.prime_frames(prime, prime_seconds)
        heard, training = len(primed_TD), self.training
        # A silent frame stands before the first.
        x_NTD = self.embed.weight.new_zeros(n, 1 + heard + length, self.spec.pitches)
        x_NTD[:, 1 : 1 + heard] = torch.from_numpy(primed_TD)
        u_NTR = x_NTD.new_zeros(n, heard + length, self.known)
        carried, r_1NZ = self.start(n), None
        self.eval()
        try:
            for t in track(range(heard + length), "composing", "frames"):
                h, e, u, carried = self.along_time(x_NTD[:, t, None], carried, t)
                u_NTR[:, t] = u[0]
                if t >= heard:
                    if self.attention is not None:
                        r_1NZ = self.attention.step(t, u_NTR, x_NTD[:, 1:])[None]
                    c_NPC = self.context(h, e, u, r_1NZ)[0]
                    x_NTD[:, t + 1] = self.draw(c_NPC, 1, temperature, generator)[0][0]
        finally:
            self.train(training)
        first = 1 if include_prime else 1 + heard
        return [codec.decode(piece_TD) for piece_TD in x_NTD[:, first:].cpu().numpy()]


def outside_log_prob(x_ND: Tensor, low: int, high: int) -> Tensor:
    """log p of the notes outside [low, high), each on its own, (N,)."""
    x_NZ = torch.cat([x_ND[:, :low], x_ND[:, high:]], dim=1).float()
    return (OUTSIDE_LOGIT * x_NZ - math.log1p(math.exp(OUTSIDE_LOGIT))).sum(1)
