"""Figures of predicted piano-roll frames, as the ICML 2012 benchmark defines them."""

from __future__ import annotations

from torch import Tensor


def frame_accuracy(reference_ND: Tensor, sampled_SND: Tensor) -> Tensor:
    """Expected accuracy of each frame over S samples of its conditional, in [0, 1], (N,).

        mean over samples of  TP / max(N_reference, N_sampled)

    where TP counts the notes that both frames have, so that a note in another's place costs
    once; two silent frames agree fully. Samples are drawn given the true history. The metric of
    a set is the mean over its frames (Boulanger-Lewandowski, Bengio & Vincent 2012, after Bay,
    Ehmann & Downie 2009).
    """
    reference_ND, sampled_SND = reference_ND.bool(), sampled_SND.bool()
    right_SN = (reference_ND & sampled_SND).sum(-1)
    most_SN = sampled_SND.sum(-1).maximum(reference_ND.sum(-1))
    return ((right_SN + (most_SN == 0)) / most_SN.clamp(min=1)).mean(0)
