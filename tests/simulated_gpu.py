"""A simulated GPU: its tensors are computed on the CPU and report the device `cuda:0`.

As on a real GPU, tensors of two devices in one operation are an error. Operations that make the
CPU wait for the GPU are recorded. In torch's C++ code the device is `meta`, since it does not
accept `cuda` without a GPU.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import cache
from types import SimpleNamespace
from typing import Any
from unittest import mock

import torch
from pytorch_lightning.accelerators import CPUAccelerator
from pytorch_lightning.strategies import SingleDeviceStrategy
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_map

CUDA, META, CPU = torch.device("cuda:0"), torch.device("meta"), torch.device("cpu")
aten = torch.ops.aten

COPIES = {aten.copy_.default, aten._to_copy.default}
INDEXES = {aten.index.Tensor, aten.index_put.default, aten.index_put_.default}
SYNCHRONISING = {
    aten._local_scalar_dense.default, aten.nonzero.default, aten.equal.default,
    aten.masked_select.default, aten._unique2.default,
}  # fmt: skip

waits: list[str] = []
"""The operations that made the CPU wait."""


class OnGPU(Tensor):
    """A tensor that reports to be on the GPU."""

    inner: Tensor
    is_cuda = True  # type: ignore[assignment]
    device = CUDA  # type: ignore[assignment]
    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, inner: Tensor) -> OnGPU:
        size, layout = inner.size(), {"strides": inner.stride(), "dtype": inner.dtype}
        offset = inner.storage_offset()
        tensor = Tensor._make_wrapper_subclass(
            cls, size, **layout, storage_offset=offset, device=META
        )
        tensor.inner = inner
        return tensor

    @classmethod
    def __torch_dispatch__(cls, func: Any, _: Any, args: Any = (), kwargs: Any = None) -> Any:
        return compute(func, args, kwargs or {})

    def data_ptr(self) -> int:
        return self.inner.data_ptr()

    def __deepcopy__(self, memo: Any) -> OnGPU:
        return OnGPU(self.inner.detach().clone())

    def __reduce_ex__(self, protocol: Any) -> Any:
        return self.inner.detach().clone().__reduce_ex__(protocol)

    def __repr__(self, **_: Any) -> str:  # type: ignore[override]
        return f"OnGPU({self.inner})"


def leaves_mapped(f: Callable[[Any], Any], x: Any) -> Any:
    """`tree_map` for what operations take and return; it takes a fifth of the time."""
    kind = type(x)
    if kind is tuple or kind is list:
        return kind([leaves_mapped(f, part) for part in x])
    if kind is dict:
        return {key: leaves_mapped(f, part) for key, part in x.items()}
    return tree_map(f, x) if isinstance(x, (tuple, list, dict)) else f(x)


@cache
def _is_composite(func: Any) -> bool:
    return torch._C._dispatch_has_kernel_for_dispatch_key(func.name(), "CompositeImplicitAutograd")


def compute(func: Any, args: tuple, kwargs: dict[str, Any]) -> Any:
    """Run an operation of torch on the CPU. The result is on the device that it would have."""
    if _is_composite(func):
        # In inference mode composite operations are not decomposed before the dispatch.
        with GPUMode():
            if (parts := func.decompose(*args, **kwargs)) is not NotImplemented:
                return parts
    gpu: list[Tensor] = []
    cpu: list[Tensor] = []

    def inner(x: Any) -> Any:
        if isinstance(x, OnGPU):
            gpu.append(x)
            return x.inner
        if isinstance(x, Tensor) and x.dim():
            cpu.append(x)
        return x

    args_cpu, kwargs_cpu = leaves_mapped(inner, args), leaves_mapped(inner, kwargs)
    _refuse_two_devices(func, args, gpu, cpu)
    device = kwargs.get("device")
    on_gpu = bool(gpu) if device is None else torch.device(device).type != "cpu"
    _record_waits(func, args, kwargs, gpu, on_gpu)

    kwargs_cpu.pop("pin_memory", None)
    if device is not None:
        kwargs_cpu["device"] = CPU
    # Tensors that are created in inference mode cannot be combined with the parameters.
    with torch.inference_mode(False), torch.no_grad():
        out = func(*args_cpu, **kwargs_cpu)
        if on_gpu:
            known = {id(t.inner): t for t in gpu}

            def outer(x: Any) -> Any:
                if not isinstance(x, Tensor):
                    return x
                return known[id(x)] if id(x) in known else OnGPU(x)

            out = leaves_mapped(outer, out)
        return return_and_correct_aliasing(func, args, kwargs, out) if gpu and on_gpu else out


def _refuse_two_devices(func: Any, args: tuple, gpu: list[Tensor], cpu: list[Tensor]) -> None:
    if not gpu or not cpu or func in COPIES:
        return
    if func in INDEXES and isinstance(args[0], OnGPU):
        return
    shapes = [tuple(t.shape) for t in cpu], [tuple(t.shape) for t in gpu]
    raise RuntimeError(f"{func}: not all tensors are on one device: {shapes[0]} and {shapes[1]}")


def _record_waits(func: Any, args: tuple, kwargs: dict, gpu: list[Tensor], on_gpu: bool) -> None:
    waits_for_gpu = func in SYNCHRONISING or (
        func in INDEXES and any(t is not None and t.dtype == torch.bool for t in args[1])
    )
    if func is aten._to_copy.default:
        waits_for_gpu = on_gpu != bool(gpu) and not kwargs.get("non_blocking")
    elif func is aten.copy_.default:
        waits_for_gpu = isinstance(args[0], OnGPU) != isinstance(args[1], OnGPU)
    if waits_for_gpu and (gpu or on_gpu):
        waits.append(str(func))


class GPUMode(TorchDispatchMode):
    """Computes operations that create tensors on the GPU or copy them there."""

    def __torch_dispatch__(self, func: Any, _: Any, args: Any = (), kwargs: Any = None) -> Any:
        return compute(func, args, kwargs or {})


class MetaDeviceMode(TorchFunctionMode):
    """Replaces the device `cuda` by `meta` in calls of torch."""

    def __torch_function__(self, func: Any, _: Any, args: Any = (), kwargs: Any = None) -> Any:
        args, kwargs = leaves_mapped(_to_meta, args), leaves_mapped(_to_meta, kwargs or {})
        if func is Tensor.tolist and isinstance(args[0], OnGPU):
            return args[0].cpu().tolist()
        if func in (torch.tensor, torch.as_tensor) and kwargs.get("device") is not None:
            device = kwargs.pop("device")
            return func(*args, **kwargs).to(device)
        if func is Tensor.new_tensor:
            return torch.tensor(*args[1:], **kwargs).to(args[0].device)
        return func(*args, **kwargs)


def _to_meta(x: Any) -> Any:
    if isinstance(x, torch.device):
        return META if x.type == "cuda" else x
    return META if isinstance(x, str) and x in ("cuda", "cuda:0") else x


class Graph(TorchDispatchMode):
    """A graph of kernels, each of which reads and writes the memory with which it was captured."""

    def __init__(self) -> None:
        super().__init__()
        self.kernels: list[tuple[Any, Any, Any, Any]] = []

    def __torch_dispatch__(self, func: Any, _: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        # A graph knows addresses. The tensors themselves may be swapped when a model is moved.
        call = func, args, kwargs or {}, out
        self.kernels.append(
            leaves_mapped(lambda x: OnGPU(x.inner) if isinstance(x, OnGPU) else x, call)
        )
        return out

    def replay(self) -> None:
        for func, args, kwargs, out in self.kernels:
            result = func(*args, **kwargs)
            if isinstance(out, Tensor) and result.data_ptr() != out.data_ptr():
                out.copy_(result)


@contextmanager
def _capturing(graph: Graph, **_: Any) -> Iterator[None]:
    # Captured operations do not run, so the state of the random generator does not change.
    state = torch.get_rng_state()
    with graph:
        yield
    torch.set_rng_state(state)


class _Accelerator(CPUAccelerator):
    def setup_device(self, device: torch.device) -> None: ...


def _one_gpu(gpus: Any) -> dict[str, Any]:
    strategy: Any = SingleDeviceStrategy(device=CUDA, accelerator=_Accelerator())
    return {"devices": 1, "strategy": strategy}


def _swapping(apply: Callable) -> Callable:
    def swap(module: torch.nn.Module, fn: Callable, recurse: bool = True) -> torch.nn.Module:
        """Moving a parameter changes the type of its tensor, so it must be swapped."""
        with mock.patch("torch.__future__._swap_module_params_on_conversion", True):
            return apply(module, fn, recurse)

    return swap


def _generator(device: Any = "cpu", make: Any = torch.Generator) -> torch.Generator:
    return make()


@contextmanager
def simulated_gpu() -> Iterator[torch.device]:
    """In this block torch has a simulated GPU, and Lightning trains on it."""
    waits.clear()
    stream = SimpleNamespace(wait_stream=lambda other: None)
    event = SimpleNamespace(record=lambda: None, synchronize=lambda: None)
    cuda = {
        "_lazy_init": lambda: None,
        "manual_seed": lambda seed: None,  # uses the generator of the CPU
        "get_device_name": lambda device: "simulated",
        "Event": lambda: event,
        "Stream": lambda device: stream,
        "current_stream": lambda device: stream,
        "stream": lambda stream: nullcontext(),
        "CUDAGraph": Graph,
        "graph": _capturing,
    }
    with (
        mock.patch.multiple(torch.cuda, **cuda),
        mock.patch.object(torch, "Generator", _generator),
        mock.patch.object(torch.nn.Module, "_apply", _swapping(torch.nn.Module._apply)),
        mock.patch("musegen.training.trainer.devices", _one_gpu),
        MetaDeviceMode(),
        GPUMode(),
    ):
        yield CUDA
