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

import numpy as np

SCALE = (0, 2, 4, 5, 7, 9, 11)
"""Of a major key, and of the natural minor key three semitones below."""
IN_SCALE = 0.94
"""The share of notes in the best scale of an excerpt of Mozart's quartets, in the median."""
DECAY = 0.5 ** (1 / 64)


class KeyWeights:
    """The posterior probability of the scales, and the notes that are silent, in each of B pieces.

    Starts with one piece that has no notes yet.
    """

    def __init__(self, notes: int, lowest: int, strength: float) -> None:
        # Compiled: loading takes a second.
        from musegen.models.layers import sampling_kernels

        self.kernels, self.strength = sampling_kernels, strength
        self.class_P = (np.arange(notes) + lowest) % 12
        self.q_CK = np.full((12, 12), (1 - IN_SCALE) / 5)
        for tonic in range(12):
            self.q_CK[[(tonic + step) % 12 for step in SCALE], tonic] = IN_SCALE / 7
        self.log_q_CK = np.log(self.q_CK)
        self.log_prob_BK = np.zeros((1, 12))
        self.silent_BP = np.ones((1, notes), np.bool_)

    def read(self, x_BF: np.ndarray) -> None:
        """The next message of each piece."""
        note_B, starts_B = x_BF[:, 0].copy(), x_BF[:, 1] > 0
        state = self.log_prob_BK, self.silent_BP
        self.kernels.read_onsets(note_B, starts_B, DECAY, self.log_q_CK, self.class_P, *state)

    def add_to(self, z_BP: np.ndarray) -> None:
        """Add the weights of the key to the logits of the next note."""
        state = self.log_prob_BK, self.silent_BP
        self.kernels.add_key(z_BP, *state, self.q_CK, self.class_P, self.strength)

    def repeat(self, rows: int) -> None:
        """Go on with so many pieces, each like the only one so far."""
        self.log_prob_BK = self.log_prob_BK.repeat(rows, 0)
        self.silent_BP = self.silent_BP.repeat(rows, 0)
