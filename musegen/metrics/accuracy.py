"""Accuracy of predicted piano-roll frames, as the ICML 2012 benchmark defines it."""

from __future__ import annotations

from torch import Tensor


def frame_accuracy(reference_ND: Tensor, sampled_SND: Tensor) -> Tensor:
    """Expected accuracy of each frame over S samples of its conditional, in [0, 1], (N,).

        mean over samples of  TP / max(N_reference, N_sampled)

    where TP is the number of notes that both frames contain, so that a wrong note in place of a
    right one counts as one error. Two silent frames have accuracy 1. The samples are drawn given
    the true history. The accuracy of a set is the mean over its frames (Boulanger-Lewandowski,
    Bengio & Vincent 2012, after Bay, Ehmann & Downie 2009).
    """
    reference_ND, sampled_SND = reference_ND.bool(), sampled_SND.bool()
    common_SN = (reference_ND & sampled_SND).sum(-1)
    larger_SN = sampled_SND.sum(-1).maximum(reference_ND.sum(-1))
    return ((common_SN + (larger_SN == 0)) / larger_SN.clamp(min=1)).mean(0)
