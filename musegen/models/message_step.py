"""One message at a time through the network of `lstm_midi`, for generation and infilling."""

from __future__ import annotations

from types import ModuleType

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from musegen.energy.affine import dense_affine, supports_kernels
from musegen.models.layers.active_notes import active_features, next_ages
from musegen.models.message_net import MessageNet, State


class MessageStep:
    """`MessageNet.forward` with T = 1, for weights that do not change meanwhile.

    What does not change is computed once. The products of all embeddings with the first layer's
    weights are the rows of one table: a class of a field, a place in the bar, a label and each
    number of a match add a row to the gates. The other inputs of a layer, the layer below (in the
    first one the sounding notes) and its own last output, are side by side in one product.

    `nn.LSTM` is slow for T = 1: oneDNN's sequence kernel spends six times as long on repacking its
    weights as all cells need together. In float32 on a CPU, all but the products is compiled.

    Only without gradients. Suffixes besides those of `musegen.specs`: R rows of the table, K rows
    of one message, I inputs and G gates of a layer: input, forget, output, new.
    """

    def __init__(self, net: MessageNet) -> None:
        self.net = net
        with torch.no_grad():
            layers = [[_reordered(part) for part in layer] for layer in net.lstm.all_weights]
            biases = [b_ih + b_hh for _, _, b_ih, b_hh in layers]
            rows, W_active = _rows(net, layers[0][0])
            rows[0] += biases[0]  # a message has one note
            self.table_RG = torch.cat(rows)
            sizes = torch.tensor([0, *map(len, rows[:-1])], device=self.table_RG.device)
            self.first_K = sizes.cumsum(0)
            inputs = [W_active, *(layer[0] for layer in layers[1:])]
            self.W_IG = [
                torch.cat([W_GI, layer[1]], 1).t().contiguous()
                for W_GI, layer in zip(inputs, layers, strict=True)
            ]
            self.b_G = biases[1:]
        # Looking up a part of a module at every step would take as long as some of the products.
        active, self.attention, self.clock = net.embed_active, net.attention, net.clock
        self.W_QA = None if active is None else active.weight.detach().t().contiguous()
        self.kernels: ModuleType | None = None
        if supports_kernels(self.table_RG):
            from musegen.models import message_step_kernels

            self.kernels = message_step_kernels

    def __call__(
        self,
        x_BF: Tensor,
        state: State,
        label_B: Tensor | None = None,
        clock_BC: Tensor | None = None,
        match_BM: Tensor | None = None,
    ) -> tuple[Tensor, Tensor, State]:
        """One message → h_BD, active_BQ and the next state, h and c with one (B, H) per layer."""
        read = self._read if self.kernels is None else self._read_compiled
        given = label_B, clock_BC, match_BM
        input_BI, gates_BG, active_BQ, age_BP = read(x_BF, state, *given)
        h: list[Tensor] = []
        c: list[Tensor] = []
        for k, W_IG in enumerate(self.W_IG):
            if k:
                input_BI, gates_BG = torch.cat((h[-1], state.h[k]), 1), self.b_G[k - 1]
            h_BH, c_BH = self._cell(dense_affine(input_BI, W_IG, gates_BG), state.c[k])
            h.append(h_BH)
            c.append(c_BH)
        y_BD, past = h[-1], None
        if self.attention is not None:
            v_BE = self.net.embedded(x_BF, active_BQ, label_B, clock_BC, match_BM)
            y_B1D, past = self.attention(y_BD[:, None], v_BE[:, None], state.past)
            y_BD = y_B1D[:, 0]
        return y_BD, active_BQ, State(tuple(h), tuple(c), age_BP, past)

    def _read(self, x_BF: Tensor, state: State, *given: Tensor | None) -> tuple[Tensor, ...]:
        """The input of the first layer and what is added to its gates; the features of the sounding
        notes and their ages. `given`: the labels, the clock and the matches."""
        age_BP = active_BQ = state.age_BP
        input_BI = state.h[0]
        if self.W_QA is not None:
            age_BP = next_ages(x_BF, age_BP)
            active_BQ = active_features(age_BP)
            input_BI = torch.cat((active_BQ @ self.W_QA, input_BI), 1)
        row_BK = self._rows_of(x_BF, *given)
        return input_BI, F.embedding_bag(row_BK, self.table_RG, mode="sum"), active_BQ, age_BP

    def _read_compiled(
        self, x_BF: Tensor, state: State, *given: Tensor | None
    ) -> tuple[Tensor, ...]:
        """`_read` in compiled loops."""
        assert self.kernels is not None
        label_B, clock_BC, match_BM = given
        none_B0, ticks = x_BF[:, :0], 0
        if self.clock is not None:
            assert clock_BC is not None, "a model with a clock reads it with each message"
            ticks = self.clock.ticks
        label_BL = none_B0 if label_B is None else label_B[:, None]
        parts = (
            (none_B0 if part is None else part).contiguous().numpy()
            for part in (clock_BC if ticks else None, label_BL, match_BM)
        )
        x, table = x_BF.contiguous().numpy(), self.table_RG.numpy()
        row_BK = self.kernels.rows_of(x, *parts, ticks, self.first_K.numpy())
        gates_BG = self.table_RG.new_empty(len(x), table.shape[1])
        self.kernels.add_rows(row_BK, table, gates_BG.numpy())
        age_BP = active_BQ = state.age_BP
        input_BI = state.h[0]
        if self.W_QA is not None:
            before, h_BH = age_BP.contiguous().numpy(), input_BI.contiguous().numpy()
            age_BP = gates_BG.new_empty(before.shape)
            active_BQ = gates_BG.new_empty(len(x), 2 * before.shape[1])
            input_BI = gates_BG.new_empty(len(x), len(self.W_IG[0]))
            written = age_BP.numpy(), active_BQ.numpy(), input_BI.numpy()
            self.kernels.read_notes(x, before, self.W_QA.numpy(), h_BH, *written)
        return input_BI, gates_BG, active_BQ, age_BP

    def _cell(self, gates_BG: Tensor, before_BH: Tensor) -> tuple[Tensor, Tensor]:
        """The next h and c. `gates_BG` is overwritten."""
        if self.kernels is None:
            return _cell(gates_BG, before_BH)
        c_BH = gates_BG.new_empty(before_BH.shape)
        h_BH = torch.empty_like(c_BH)
        arrays = (part.numpy() for part in (gates_BG, before_BH.contiguous(), c_BH, h_BH))
        self.kernels.cell(*arrays)
        return h_BH, c_BH

    def _rows_of(
        self,
        x_BF: Tensor,
        label_B: Tensor | None,
        clock_BC: Tensor | None,
        match_BM: Tensor | None,
    ) -> Tensor:
        """The rows of the table that a message adds up."""
        parts = [x_BF]
        if self.clock is not None:
            assert clock_BC is not None, "a model with a clock reads it with each message"
            parts += [place_B[:, None] for place_B in self.clock.places(clock_BC)]
        if label_B is not None:
            parts.append(label_B[:, None])
        if match_BM is not None:
            parts.append(match_BM)
        return (torch.cat(parts, 1) if len(parts) > 1 else x_BF) + self.first_K


def _rows(net: MessageNet, W_GI: Tensor) -> tuple[list[Tensor], Tensor]:
    """The table, one part for each field and place, for the labels and for each number of a match;
    and what is left of W, the weights of the sounding notes."""
    fields = [embed for embed in net.embed if isinstance(embed, nn.Embedding)]
    widths = [embed.embedding_dim for embed in fields]
    widths.append(net.embed_active.out_features if net.embed_active else 0)
    *W_fields, W_active, W_clock = W_GI.split([*widths, W_GI.shape[1] - sum(widths)], 1)
    parts = list(zip(fields, W_fields, strict=True))
    if net.clock is not None:
        parts += [(table, W_clock) for table in net.clock.tables]
    if net.embed_label is not None:
        parts.append((net.embed_label, W_GI))
    if net.embed_match is not None:
        parts += [(table, W_GI) for table in net.embed_match.tables]  # type: ignore[misc]
    return [F.linear(table.weight, W) for table, W in parts], W_active


def _reordered(weight: Tensor) -> Tensor:
    """From torch's order of the gates (input, forget, new, output), so that the three with the
    same function are side by side."""
    i, f, new, o = weight.chunk(4)
    return torch.cat([i, f, o, new])


def _cell(gates_BG: Tensor, c_BH: Tensor) -> tuple[Tensor, Tensor]:
    """The next h and c. `gates_BG` is overwritten."""
    hidden = c_BH.shape[1]
    open_BG, new_BH = gates_BG.split_with_sizes((3 * hidden, hidden), 1)
    i_BH, f_BH, o_BH = open_BG.sigmoid_().chunk(3, 1)
    c_BH = (f_BH * c_BH).addcmul_(i_BH, new_BH.tanh_())
    return o_BH * c_BH.tanh(), c_BH
