"""Compiled kernels against numpy and torch, with any number of threads."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import ROOT
from exact_rbm import log_weights, states

from musegen.energy import affine, kernels
from musegen.energy.free_energy import ContrastiveLoss, free_energy
from musegen.energy.gibbs import GibbsChains


def generator(seed: int = 1) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def binary(*size: int, fraction: float = 0.2, seed: int = 2) -> torch.Tensor:
    return (torch.rand(*size, generator=generator(seed)) < fraction).float()


def normal(*size: int, seed: int = 3) -> torch.Tensor:
    return torch.randn(*size, generator=generator(seed))


@pytest.fixture
def threads():
    """A function that sets the number of torch's threads, until the end of the test."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


# From kat_vectors of the authors' library Random123.
@pytest.mark.parametrize(
    ("counter", "key", "words"),
    [
        ([0] * 4, [0] * 2, "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
        ([2**32 - 1] * 4, [2**32 - 1] * 2, "408f276d 41c83b0e a20bc7c6 6d5451fd"),
        (
            [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344],
            [0xA4093822, 0x299F31D0],
            "d16cfe09 94fdcceb 5001e420 24126ea1",
        ),
    ],
)
def test_philox_gives_the_published_words(counter: list[int], key: list[int], words: str) -> None:
    result = kernels.philox(*(np.uint32(x) for x in counter + key))
    assert [f"{w:08x}" for w in result] == words.split()


def test_uniform_numbers_are_between_zero_and_one() -> None:
    assert kernels.uniform(np.uint32(0)) == 2.0**-24
    assert kernels.uniform(np.uint32(2**31)) == 0.5 + 2.0**-24
    assert kernels.uniform(np.uint32(2**31 - 1)) == 0.5 - 2.0**-24
    assert kernels.uniform(np.uint32(2**32 - 1)) == 1 - 2.0**-24


@pytest.mark.parametrize("word", [0, 1, 2**32 - 1])
def test_no_random_word_turns_on_an_impossible_unit_or_off_a_certain_one(
    word: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kernels, "philox", lambda *counter_and_key: [np.uint32(word)] * 4)
    a_H = np.array([17, 50, 87, 1e9, np.inf], np.float32)  # σ(−17) = 4·10⁻⁸ is below the smallest u
    a_H, on_H, u = np.concatenate([a_H, -a_H]), np.empty(10, np.float32), np.empty(13, np.float32)
    kernels.draw_row.py_func(a_H, on_H, u, 0, 0, 0)
    assert on_H.tolist() == [1] * 5 + [0] * 5


def test_exp_is_accurate_to_float32() -> None:
    x_N = np.linspace(-86.9, 86.9, 100_001).astype(np.float32)
    result_N = np.array([kernels.exp(x) for x in x_N], np.float64)
    assert np.abs(result_N / np.exp(x_N.astype(np.float64)) - 1).max() < 2.5e-7
    assert kernels.exp(np.float32(-1e9)) == kernels.exp(np.float32(-87)) < 2e-38
    assert np.isfinite(kernels.exp(np.float32(1e9)))


@pytest.mark.parametrize("num_threads", [1, 2])
@pytest.mark.parametrize("fraction", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("per_row", [True, False])
def test_sparse_products_equal_dense_products(
    threads, fraction: float, per_row: bool, num_threads: int
) -> None:
    threads(num_threads)
    for n, inputs, outputs in ((5, 3, 7), (300, 37, 129), (0, 4, 5)):
        x_NI, W_IO = (
            binary(n, inputs, fraction=fraction) * normal(n, inputs),
            normal(inputs, outputs),
        )
        b = normal(n, outputs) if per_row else normal(outputs)
        torch.testing.assert_close(kernels.product(x_NI, W_IO, b), x_NI @ W_IO + b)
        view_NI = x_NI.t().contiguous().t()  # a transposed view, as in the gradient of W
        torch.testing.assert_close(kernels.product(view_NI, W_IO, None), x_NI @ W_IO)


def test_affine_for_sparse_and_dense_inputs() -> None:
    for fraction in (0.05, 0.9):
        x_NI, W_IO, b = binary(50, 20, fraction=fraction), normal(20, 30), normal(30)
        assert (kernels.nonzero_fraction(x_NI) < affine.SPARSE_FRACTION) == (fraction == 0.05)
        assert (
            kernels.nonzero_fraction(x_NI)
            == kernels.nonzero_fraction(x_NI.t())
            == pytest.approx(float(x_NI.mean()))
        )
        torch.testing.assert_close(affine.affine(x_NI, W_IO, b), x_NI @ W_IO + b)
        x_NI, W_IO = x_NI.double(), W_IO.double()
        torch.testing.assert_close(affine.affine(x_NI, W_IO), x_NI @ W_IO)


def sampled(a_NH: torch.Tensor, seed: int = 1) -> torch.Tensor:
    on_NH = torch.full_like(a_NH, 7)
    kernels.draw(a_NH, on_NH, generator(seed))
    return on_NH


@pytest.mark.parametrize("width", [1, 5, 64])
def test_units_are_on_with_the_right_probability(width: int) -> None:
    n, a_H = 40_000, torch.linspace(-6, 6, width) if width > 1 else torch.tensor([-1.0])
    on_NH = sampled(a_H.repeat(n, 1))
    assert set(on_NH.unique().tolist()) == {0.0, 1.0}
    p_H = a_H.sigmoid()
    assert bool(((on_NH.mean(0) - p_H).abs() < 5 * (p_H * (1 - p_H) / n).sqrt()).all())


def test_units_with_probability_zero_or_one() -> None:
    assert bool(sampled(torch.full((1000, 10), 50.0)).all())
    assert not bool(sampled(torch.full((1000, 10), -50.0)).any())


def test_units_are_sampled_independently() -> None:
    on_ND = sampled(torch.zeros(1000, 1000))
    for a, b in (
        (on_ND[:, :-1], on_ND[:, 1:]),
        (on_ND[:-1], on_ND[1:]),
        (on_ND, sampled(on_ND * 0, 2)),
    ):
        assert abs(float(torch.corrcoef(torch.stack([a.flatten(), b.flatten()]))[0, 1])) < 0.005
    # Also with p = 0.01: both of a pair are on with probability 0.0001 ± 0.00001 (10⁶ pairs).
    rare_ND = sampled(torch.full((2000, 1000), -4.59512))
    assert abs(float((rare_ND[:, ::2] * rare_ND[:, 1::2]).mean()) - 1e-4) < 5e-5


SMALL, LARGE = (21, 34), (220, 310)
"""(visible, hidden) of an RBM that fits into one tile, and of one that needs several."""


def after_gibbs_steps(
    k: int, num_threads: int, per_row: bool = True, size: tuple[int, int] = SMALL
) -> tuple[torch.Tensor, ...]:
    """h, logit, v and a after k steps; with `per_row` each row has its own biases."""
    torch.set_num_threads(num_threads)
    n, (visible, hidden) = 300, size
    b_v, b_h = (normal(*([n] if per_row else []), width, seed=5) for width in (visible, hidden))
    h, a, logit, v = (
        binary(n, hidden),
        normal(n, hidden),
        torch.zeros(n, visible),
        torch.zeros(n, visible),
    )
    kernels.gibbs_steps(k, normal(visible, hidden), b_v, b_h, h, logit, v, a, generator(6))
    return h, logit, v, a


@pytest.mark.parametrize("k", [1, 5])
@pytest.mark.parametrize("size", [SMALL, LARGE])
@pytest.mark.parametrize("per_row", [True, False])
def test_gibbs_steps_do_not_depend_on_the_number_of_threads(
    threads, per_row: bool, size, k: int
) -> None:
    one = after_gibbs_steps(k, 1, per_row, size)
    for other in (after_gibbs_steps(k, 2, per_row, size), after_gibbs_steps(k, 3, per_row, size)):
        for a, b in zip(one, other, strict=True):
            assert torch.equal(a, b)


@pytest.mark.parametrize("size", [SMALL, LARGE])
def test_the_sizes_need_one_tile_and_several(size) -> None:
    assert (size[0] * size[1] > kernels.TILE_SIZE) == (size == LARGE)


@pytest.mark.parametrize("per_row", [True, False])
@pytest.mark.parametrize("k", [1, 4])
@pytest.mark.parametrize("size", [SMALL, LARGE])
def test_gibbs_steps_leave_consistent_buffers(threads, size, k: int, per_row: bool) -> None:
    visible, hidden = size
    W_DH = normal(visible, hidden)
    b_v, b_h = (normal(*([300] if per_row else []), width, seed=5) for width in size)
    h, logit, v, a = after_gibbs_steps(k, 1, per_row, size)
    if k == 1:
        start_BH = binary(300, hidden)
        torch.testing.assert_close(logit, start_BH @ W_DH.t() + b_v, rtol=1e-5, atol=2e-5)
    torch.testing.assert_close(a, v @ W_DH + b_h, rtol=1e-5, atol=2e-5)
    for on, mean in ((v, logit.sigmoid()), (h, a.sigmoid())):
        error = (mean * (1 - mean)).sum().sqrt()
        assert abs(float((on - mean).sum())) < 5 * float(error)
        assert float((on - mean).abs().mean()) < 0.5


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("k", [1, 12])
def test_chains_converge_to_the_distribution_of_the_rbm(dtype: torch.dtype, k: int) -> None:
    # Compiled (float32) and by torch's kernels, in one call of many steps and in many calls of one.
    W_DH, b_v, b_h = (normal(*s, seed=8).to(dtype) for s in ((4, 3), (4,), (3,)))
    n = 20_000
    gibbs, random = GibbsChains(n, W_DH), generator()
    for _ in range(12 // k):
        v_BD = gibbs.run(k, W_DH, b_v, b_h, random)
    weights = 2 ** torch.arange(4)
    counts = torch.bincount((v_BD.flip(-1).long() * weights).sum(-1), minlength=16)
    expected = log_weights(W_DH, b_v, b_h).softmax(0)
    assert torch.equal((states(4).flip(-1).long() * weights).sum(-1), torch.arange(16))
    error = (expected * (1 - expected) / n).sqrt()
    assert bool(((counts / n - expected).abs() < 5 * error).all())


@pytest.mark.parametrize("scale", [1, 30, 300])
def test_softplus_and_sigmoid(scale: float) -> None:
    a_NH, total_N, p_NH = normal(60, 1100) * scale, np.empty(60), np.empty((60, 1100), np.float32)
    kernels.softplus_part(a_NH.numpy(), np.float32(-0.25), total_N, p_NH, 0, 1)
    expected_N = -0.25 * F.softplus(a_NH.double()).sum(-1)
    torch.testing.assert_close(torch.from_numpy(total_N), expected_N, rtol=1.3e-6, atol=1e-5)
    torch.testing.assert_close(torch.from_numpy(p_NH), -0.25 * a_NH.sigmoid())
    nan_NH = np.array([[0.0, np.nan]], np.float32)
    kernels.softplus_part(nan_NH, np.float32(1), total_N, p_NH, 0, 1)
    assert np.isnan(total_N[0])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("num_threads", [1, 2])
@pytest.mark.parametrize(
    ("per_row", "size", "data", "ends", "fraction"),
    [
        (True, (9, 5), 7, 7, 0.2),
        (True, (9, 5), 1, 1, 0.2),
        (False, (9, 5), 1, 1, 0.2),
        (False, (9, 5), 7, 4, 0.2),
        (False, (9, 5), 7, 4, 0.9),
        (True, (40, 150), 600, 600, 0.2),
        (False, (2, kernels.TILE_SIZE + 1), 3, 2, 0.2),
    ],
)
def test_contrastive_loss_is_the_difference_of_free_energies(
    threads,
    per_row: bool,
    size,
    data: int,
    ends: int,
    fraction: float,
    num_threads: int,
    dtype: torch.dtype,
) -> None:
    # Compiled (float32) and by torch's kernels; the data contain values between 0 and 1.
    threads(num_threads)
    visible = size[0]
    W_DH = normal(*size).to(dtype).requires_grad_()
    b_v, b_h = (
        normal(*([data] if per_row else []), width, seed=5).to(dtype).requires_grad_()
        for width in size
    )
    x_BD = (binary(data, visible, fraction=fraction) * normal(data, visible).sigmoid()).to(dtype)
    v_CD = binary(ends, visible, seed=7).to(dtype)
    a_BH, end_CH = ((v @ W_DH + b_h).detach() for v in (x_BD, v_CD))
    weights = W_DH, b_v, b_h
    loss = ContrastiveLoss.apply(*weights, x_BD, a_BH, v_CD, end_CH)
    expected = free_energy(x_BD, *weights).mean() - free_energy(v_CD, *weights).mean()
    torch.testing.assert_close(loss, expected, rtol=1e-4, atol=1e-4)
    gradients = torch.autograd.grad(3 * loss, weights)
    for gradient, by_torch in zip(
        gradients, torch.autograd.grad(3 * expected, weights), strict=True
    ):
        torch.testing.assert_close(gradient, by_torch, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_contrastive_loss_of_an_empty_batch_is_zero(dtype: torch.dtype) -> None:
    # For example a batch that is all padding.
    W_DH, b_v, b_h = (torch.ones(*size, dtype=dtype) for size in ((9, 5), (0, 9), (0, 5)))
    weights = [w.requires_grad_() for w in (W_DH, b_v, b_h)]
    loss = ContrastiveLoss.apply(*weights, b_v.detach(), b_h.detach(), b_v.detach(), b_h.detach())
    loss.backward()
    assert loss.item() == 0
    assert float(W_DH.grad.abs().max()) == 0


def test_sums_over_no_rows_write_nothing() -> None:
    beyond = np.full(64, 7, np.float32)
    none_ND = np.zeros((0, 32), np.float32)
    kernels.sum_part(none_ND, kernels.ONE, none_ND, kernels.ONE, beyond[:0].reshape(0, 32), 0, 1)
    assert (beyond == 7).all()


def test_contrastive_loss_keeps_its_precision_under_autocast() -> None:
    weights = [normal(*size).requires_grad_() for size in ((9, 5), (9,), (5,))]
    x_BD, v_CD = binary(7, 9), binary(7, 9, seed=7)
    # Products as autocast computes them, the same for both calls.
    a_BH, end_CH = ((v @ weights[0] + weights[2]).detach().bfloat16() for v in (x_BD, v_CD))

    def loss_and_gradients() -> tuple[torch.Tensor, ...]:
        loss = ContrastiveLoss.apply(*weights, x_BD, a_BH, v_CD, end_CH)
        return loss, *torch.autograd.grad(loss, weights)

    with torch.autocast("cpu", torch.bfloat16):
        under_autocast = loss_and_gradients()
    for one, other in zip(under_autocast, loss_and_gradients(), strict=True):
        assert torch.equal(one, other)


def test_the_gradient_is_not_copied_in_the_backward_pass() -> None:
    W_DH, b_v, b_h = (normal(*size).requires_grad_() for size in ((9, 5), (9,), (5,)))
    v_BD = binary(7, 9)
    a_BH = (v_BD @ W_DH + b_h).detach()
    loss = ContrastiveLoss.apply(W_DH, b_v, b_h, v_BD, a_BH, v_BD, a_BH)
    address = loss.grad_fn.saved_tensors[0].data_ptr()
    loss.backward()
    assert W_DH.grad.data_ptr() == address


@pytest.mark.parametrize("scale", [1, 30, 300])
def test_softplus_increment(scale: float) -> None:
    base_H, delta_H = normal(700) * scale, normal(700, seed=4) * scale
    buffers = np.empty((2, 700), np.float32)
    increment = kernels.softplus_increment(
        base_H.numpy(), delta_H.numpy(), np.float32(0.25), np.float32(0.5), *buffers
    )
    base_H, delta_H = base_H.double(), delta_H.double()
    expected = F.softplus(base_H + 0.5 * delta_H).sum() - F.softplus(base_H + 0.25 * delta_H).sum()
    assert increment == pytest.approx(float(expected), rel=1e-5, abs=1e-5)


def test_annealing_does_not_depend_on_the_number_of_threads(threads) -> None:
    def annealed(num_threads: int) -> list[torch.Tensor]:
        threads(num_threads)
        biases = [normal(40, 9, seed=1), normal(40, 13), normal(40, 9, seed=7), normal(13)]
        v_SD, log_w_S = binary(400, 9), torch.zeros(400, dtype=torch.float64)
        betas = torch.linspace(0, 1, 130, dtype=torch.float64).tolist()
        steps = kernels.anneal(betas, normal(9, 13), *biases, v_SD, log_w_S, generator(9))
        assert list(steps) == [50, 100, 129]
        return [v_SD, log_w_S]

    for one, two in zip(annealed(1), annealed(2), strict=True):
        assert torch.equal(one, two)


def test_without_a_writable_folder_kernels_are_not_cached(tmp_path) -> None:
    # Files are in the place of the folders that Numba would create.
    shutil.copytree(ROOT / "musegen", tmp_path / "musegen", ignore=lambda *_: ["__pycache__"])
    for name in ("musegen/energy/__pycache__", "home"):
        (tmp_path / name).touch()
    home = str(tmp_path / "home")
    environment = os.environ | {"HOME": home, "XDG_CACHE_HOME": home, "PYTHONPATH": str(tmp_path)}
    environment.pop("NUMBA_CACHE_DIR", None)
    code = (
        "from musegen.energy import kernels; import torch; "
        "print(kernels.__file__, kernels.SETTINGS['cache'], kernels.nonzero_fraction(torch.eye(4)))"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True)
    assert done.stdout.split() == [str(tmp_path / "musegen/energy/kernels.py"), "False", "0.25"], (
        done.stderr
    )


def test_kernels_first_used_in_inference_mode_work_outside_it() -> None:
    code = (
        "import torch\n"
        "a = torch.zeros(2, 3)\n"
        "with torch.inference_mode():\n"
        "    from musegen.energy import kernels\n"
        "    kernels.draw(a, torch.empty(2, 3), None)\n"
        "kernels.draw(a, out := torch.empty(2, 3), None)\n"
        "print(out.unique().tolist())"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert set(done.stdout.strip("[]\n").split(", ")) <= {"0.0", "1.0"}, done.stderr
