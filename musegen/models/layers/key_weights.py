"""Notes of the key of what has been played so far are made more probable in sampling.

An LSTM on messages loses the key: with every note out of it, the next ones are less sure of it. So
the distribution of the notes that may start is multiplied by a second one, which knows only keys (a
product of experts, Hinton 2002),

    p(note | it starts) ∝ p_model(note | it starts) · q(pitch class | piece so far)^strength.

q is a mixture of the twelve diatonic scales by their posterior probabilities. In a scale, each of
its 7 pitch classes has the probability `IN_SCALE` / 7, each of the 5 others (1 − `IN_SCALE`) / 5.
In the posterior an onset counts half as much after 64 more, so that a piece can modulate.
How probable it is that a note starts, rather than ends, is left to the model.
"""

from __future__ import annotations

import torch
from torch import Tensor

SCALE = (0, 2, 4, 5, 7, 9, 11)
"""Of a major key, and of the natural minor key three semitones below."""
IN_SCALE = 0.94
"""The share of notes in the best scale of an excerpt of Mozart's quartets, in the median."""
DECAY = 0.5 ** (1 / 64)
TINY = 1e-30


class KeyWeights:
    """The posterior probability of the scales, and the notes that are silent, in each of B pieces.

    Starts with one piece that has no notes yet.
    """

    def __init__(self, notes: int, lowest: int, strength: float, device: torch.device) -> None:
        self.strength = strength
        class_P = (torch.arange(notes) + lowest) % 12
        in_scale_KC = torch.zeros(12, 12, dtype=torch.bool)
        for tonic in range(12):
            in_scale_KC[tonic, [(tonic + step) % 12 for step in SCALE]] = True
        q_KP = torch.where(in_scale_KC, IN_SCALE / 7, (1 - IN_SCALE) / 5)[:, class_P]
        self.q_KP, self.log_q_PK = q_KP.to(device), q_KP.log().t().contiguous().to(device)
        self.log_prob_BK = torch.zeros(1, 12, device=device)
        self.silent_BP = torch.ones(1, notes, device=device)

    def read(self, x_BF: Tensor) -> None:
        """The next message of each piece."""
        note_B1, starts_B1 = x_BF[:, :1], x_BF[:, 1:2].clamp(max=1).to(self.q_KP.dtype)
        added_BK = self.log_q_PK[note_B1[:, 0]] - (1 - DECAY) * self.log_prob_BK
        self.log_prob_BK = torch.addcmul(self.log_prob_BK, added_BK, starts_B1)
        self.silent_BP = self.silent_BP.scatter(1, note_B1, 1 - starts_B1)

    def add_to(self, z_BP: Tensor) -> Tensor:
        """The logits of the next note with the weights of the key."""
        weight_BP = (self.log_prob_BK.softmax(-1) @ self.q_KP).pow_(self.strength)
        p_BP = z_BP.softmax(-1) * self.silent_BP
        # So that the notes that may start are as probable together as before. TINY: none may.
        before_B1, after_B1 = p_BP.sum(-1, keepdim=True), (p_BP * weight_BP).sum(-1, keepdim=True)
        weight_BP = weight_BP * ((before_B1 + TINY) / (after_B1 + TINY))
        return torch.addcmul(z_BP, weight_BP.log_().to(z_BP.dtype), self.silent_BP.to(z_BP.dtype))

    def repeat(self, rows: int) -> None:
        """Go on with so many pieces, each like the only one so far."""
        self.log_prob_BK = self.log_prob_BK.expand(rows, -1)
        self.silent_BP = self.silent_BP.expand(rows, -1)
