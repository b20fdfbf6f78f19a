"""Block Gibbs sampling of binary RBMs."""

from __future__ import annotations

import torch
from torch import Generator, Tensor

from musegen.energy.affine import affine, fits_in_cache, supports_kernels


def bernoulli(a_NH: Tensor, out_NH: Tensor, generator: Generator | None = None) -> Tensor:
    """`out_NH`, overwritten by samples: 1 with probability σ(a), else 0."""
    if not supports_kernels(a_NH):
        return out_NH.uniform_(generator=generator).lt_(a_NH.sigmoid())
    from musegen.energy import kernels

    kernels.draw(a_NH, out_NH, generator)
    return out_NH


class GibbsChains:
    """Block Gibbs steps h → v → h of B chains, in preallocated buffers.

    On a CPU in float32, each chain takes all its steps in one compiled loop that skips units which
    are off (`musegen.energy.kernels`). On CUDA a step is far shorter than the launches of its
    kernels: all k steps are captured as one CUDA graph at the first call, which is replayed as
    long as the weights keep their memory addresses. Biases for each row are new tensors in every
    call and are copied to where the graph reads them. With an explicit generator there is no graph.
    """

    def __init__(self, chains: int, W_DH: Tensor) -> None:
        def buffer(width: int) -> Tensor:
            return torch.zeros(chains, width, device=W_DH.device, dtype=W_DH.dtype)

        visible, hidden = W_DH.shape
        self.logit_BD, self.v_BD = buffer(visible), buffer(visible)
        self.a_BH, self.h_BH = buffer(hidden), buffer(hidden)
        self.device, self._fits_in_cache = W_DH.device, fits_in_cache(W_DH)
        self._graph: torch.cuda.CUDAGraph | None = None
        self._captured: tuple[int, ...] = ()
        self._graph_logit_BD = self.logit_BD  # where the graph writes its logits
        self._row_biases: tuple[Tensor, Tensor] | None = None  # where it reads biases of rows

    @property
    def p_BD(self) -> Tensor:
        """p(v=1 | h) that `v_BD` was drawn from."""
        return self.logit_BD.sigmoid()

    @property
    def p_BH(self) -> Tensor:
        """p(h=1 | v) that `h_BH` was drawn from."""
        return self.a_BH.sigmoid()

    def fits(self, chains: int, device: torch.device) -> bool:
        """Whether these buffers can be used for so many chains on that device.

        Buffers that were made in inference mode, as in validation, cannot be written outside it.
        """
        same_mode = self.h_BH.is_inference() == torch.is_inference_mode_enabled()
        return len(self.h_BH) == chains and self.device == device and same_mode

    @torch.no_grad()
    def set_visible(
        self, v_BD: Tensor, W_DH: Tensor, b_h: Tensor, generator: Generator | None = None
    ) -> Tensor:
        """Start the chains at h ~ p(h | v); returns c + v W."""
        self.a_BH = affine(v_BD, W_DH, b_h)
        bernoulli(self.a_BH, self.h_BH, generator)
        return self.a_BH

    @torch.no_grad()
    def run(
        self,
        k: int,
        W_DH: Tensor,
        b_v: Tensor,
        b_h: Tensor,
        generator: Generator | None = None,
    ) -> Tensor:
        """k Gibbs steps from `h_BH`; returns `v_BD`, whose logits are in `logit_BD`.

        Afterwards `a_BH` is c + v W, and `h_BH` a sample given the new `v_BD`. The next call
        overwrites the result.
        """
        if self._fits_in_cache and k > 1:  # for one step the copy of Wᵀ costs more than it saves
            from musegen.energy import kernels

            # The caller of `set_visible` may still hold the previous buffer.
            self.a_BH = torch.empty_like(self.h_BH)
            buffers = self.h_BH, self.logit_BD, self.v_BD, self.a_BH
            kernels.gibbs_steps(k, W_DH, b_v, b_h, *buffers, generator)
            return self.v_BD
        if self.device.type == "cuda" and generator is None:
            self._replay(k, W_DH, b_v, b_h)
        else:
            self._steps(k, W_DH, b_v, b_h, generator)
        self.set_visible(self.v_BD, W_DH, b_h, generator)
        return self.v_BD

    def _steps(
        self, k: int, W_DH: Tensor, b_v: Tensor, b_h: Tensor, generator: Generator | None
    ) -> None:
        W_HD = W_DH.t()
        for step in range(k):
            if step:
                self.set_visible(self.v_BD, W_DH, b_h, generator)
            self.logit_BD = affine(self.h_BH, W_HD, b_v)
            bernoulli(self.logit_BD, self.v_BD, generator)

    def _replay(self, k: int, W_DH: Tensor, b_v: Tensor, b_h: Tensor) -> None:
        """k steps by the CUDA graph, captured first if there is none for these arguments."""
        if b_v.dim() > 1:
            b_v, b_h = self._copied(b_v, b_h)
        # A graph reads the addresses it was captured with; optimisers update weights in place.
        key = (k, W_DH.data_ptr(), b_v.data_ptr(), b_h.data_ptr())
        if self._graph is None or self._captured != key:
            self._capture(k, W_DH, b_v, b_h)
            self._captured = key
        assert self._graph is not None
        self._graph.replay()
        self.logit_BD = self._graph_logit_BD

    def _copied(self, b_v_BD: Tensor, b_h_BH: Tensor) -> tuple[Tensor, Tensor]:
        """The biases of each row, at the same addresses in every call."""
        if self._row_biases is None:
            self._row_biases = b_v_BD.clone(), b_h_BH.clone()
        for own, new in zip(self._row_biases, (b_v_BD, b_h_BH), strict=True):
            own.copy_(new)
        return self._row_biases

    def _capture(self, k: int, W_DH: Tensor, b_v: Tensor, b_h: Tensor) -> None:
        start_BH, current = self.h_BH.clone(), torch.cuda.current_stream(self.device)
        stream = torch.cuda.Stream(self.device)
        stream.wait_stream(current)
        with torch.cuda.stream(stream):  # libraries need one run before they can be captured
            self._steps(min(k, 2), W_DH, b_v, b_h, None)
        current.wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        # Threads of a data loader or of NCCL may call CUDA meanwhile.
        with torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"):
            self._steps(k, W_DH, b_v, b_h, None)
        self._graph, self._graph_logit_BD = graph, self.logit_BD
        self.h_BH.copy_(start_BH)
