"""The longest match of messages as an input, and in the logits of the next message.

A match is its level and the message that followed it (`musegen.codecs.message_matches`).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from musegen.codecs.message_matches import LEVELS, MessageHistory

STD = 0.3
"""Of the initial embeddings. Four of them are added to the embedding of a message."""


class MatchEmbedding(nn.Module):
    """The sum of embeddings of the level and of each field of the message that followed."""

    def __init__(self, sizes: tuple[int, ...], width: int) -> None:
        super().__init__()
        self.tables = nn.ModuleList(nn.Embedding(n + 1, width) for n in (LEVELS, *sizes))
        for table in self.tables:
            nn.init.normal_(table.weight, std=STD)  # type: ignore[arg-type]

    def forward(self, match_M: Tensor) -> Tensor:
        """(…, M) matches → (…, E)."""
        parts = [table(match_M[..., i]) for i, table in enumerate(self.tables)]
        return torch.stack(parts).sum(0)


class MatchLogits(nn.Module):
    """What is added to the logits of the message that followed the match.

    Its class m_f of each field f gets more, if the fields before f are those of that message:

        z_f(m_f) ← z_f(m_f) + g_f(l) + w_f · h + c_f

    with the level l and the state h of the network. g, w and c are learned and start at 0.
    """

    def __init__(self, hidden: int, fields: int) -> None:
        super().__init__()
        self.by_level = nn.Embedding(LEVELS + 1, fields)
        self.by_state = nn.Linear(hidden, fields)
        for parameter in self.parameters():
            nn.init.zeros_(parameter)

    def gains(self, h_ND: Tensor, match_NM: Tensor) -> Tensor:
        """What the class of each field gets, (N, F)."""
        gains_NF: Tensor = self.by_level(match_NM[:, 0]) + self.by_state(h_ND)
        return gains_NF

    def fixed_gains(self) -> Callable[[Tensor, Tensor], Tensor]:
        """`gains` in fewer calls, for weights that do not change meanwhile; without gradients."""
        with torch.no_grad():
            by_level_LF = self.by_level.weight + self.by_state.bias
            W_DF = self.by_state.weight.t().contiguous()
        return lambda h_ND, match_NM: torch.addmm(by_level_LF[match_NM[:, 0]], h_ND, W_DF)

    def forward(
        self, logits: list[Tensor], h_ND: Tensor, x_NF: Tensor, match_NM: Tensor
    ) -> list[Tensor]:
        """The logits (N, V) of every field, given the true message x_NF."""
        gain_NF, follows_N = self.gains(h_ND, match_NM), match_NM[:, 0] > 0
        added = []
        for f, z_NV in enumerate(logits):
            added.append(raised(z_NV, match_NM[:, 1 + f], gain_NF[:, f], follows_N))
            follows_N = follows_N & (x_NF[:, f] == match_NM[:, 1 + f])
        return added


def raised(z_NV: Tensor, class_N: Tensor, gain_N: Tensor, where_N: Tensor) -> Tensor:
    """The logits with a gain for one class of each row, where it is to be added."""
    # Where there is no match, the class is one more than the last one.
    class_N1 = class_N.clamp(max=z_NV.shape[1] - 1)[:, None]
    return z_NV.scatter_add(1, class_N1, (gain_N * where_N)[:, None].to(z_NV.dtype))


def drop_matches(match_BTM: Tensor, sizes: tuple[int, ...], probability: float) -> Tensor:
    """The matches, in training, of some batch rows none: so the model also learns to do without.

    What never came before has no match, and a piece that is generated begins without any.
    """
    if not probability:
        return match_BTM
    dropped_B = torch.rand(len(match_BTM), device=match_BTM.device) < probability
    # Built on the device: copying a tensor to a GPU would make the CPU wait for it.
    none_M = torch.stack([match_BTM.new_full((), n) for n in (0, *sizes)])
    return torch.where(dropped_B[:, None, None], none_M, match_BTM)


def read_matches(history: MessageHistory, x_BLF: Tensor) -> Tensor:
    """The matches after messages that follow the history, (B, L, M); they are added to it."""
    match_BLM, _ = history.read(x_BLF.cpu().numpy())
    return torch.from_numpy(match_BLM).to(x_BLF.device)
