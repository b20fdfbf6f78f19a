"""Compiled rows: Philox's published words, exp, products, draws, walks, whoever computes them."""

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


def binary(*size: int, share: float = 0.2, seed: int = 2) -> torch.Tensor:
    return (torch.rand(*size, generator=generator(seed)) < share).float()


def normal(*size: int, seed: int = 3) -> torch.Tensor:
    return torch.randn(*size, generator=generator(seed))


@pytest.fixture
def threads():
    """Sets the number of torch's threads, for as long as the test runs."""
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
def test_philox_has_the_published_words(counter: list[int], key: list[int], words: str) -> None:
    found = kernels.philox(*(np.uint32(x) for x in counter + key))
    assert [f"{w:08x}" for w in found] == words.split()


def test_uniform_numbers_begin_at_zero_and_end_below_one() -> None:
    assert kernels.unit(np.uint32(0)) == 0
    assert kernels.unit(np.uint32(2**32 - 1)) == 1 - 2.0**-24


def test_exp_to_the_last_places() -> None:
    x_N = np.linspace(-86.9, 86.9, 100_001).astype(np.float32)
    found_N = np.array([kernels.exp(x) for x in x_N], np.float64)
    assert np.abs(found_N / np.exp(x_N.astype(np.float64)) - 1).max() < 2.5e-7
    assert kernels.exp(np.float32(-1e9)) == kernels.exp(np.float32(-87)) < 2e-38
    assert np.isfinite(kernels.exp(np.float32(1e9)))


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("share", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("own", [True, False])
def test_products_are_those_of_dense_matrices(threads, share: float, own: bool, count: int) -> None:
    threads(count)
    for n, inputs, outputs in ((5, 3, 7), (300, 37, 129), (0, 4, 5)):
        x_NI, W_IO = binary(n, inputs, share=share) * normal(n, inputs), normal(inputs, outputs)
        b = normal(n, outputs) if own else normal(outputs)
        torch.testing.assert_close(kernels.product(x_NI, W_IO, b), x_NI @ W_IO + b)
        turned_IN = x_NI.t().contiguous().t()  # as the gradient of W has it
        torch.testing.assert_close(kernels.product(turned_IN, W_IO, None), x_NI @ W_IO)


def test_affine_takes_either_way() -> None:
    for share in (0.05, 0.9):
        x_NI, W_IO, b = binary(50, 20, share=share), normal(20, 30), normal(30)
        assert (kernels.nonzero_fraction(x_NI) < affine.SPARSE_FRACTION) == (share == 0.05)
        assert (
            kernels.nonzero_fraction(x_NI)
            == kernels.nonzero_fraction(x_NI.t())
            == pytest.approx(float(x_NI.mean()))
        )
        torch.testing.assert_close(affine.affine(x_NI, W_IO, b), x_NI @ W_IO + b)
        x_NI, W_IO = x_NI.double(), W_IO.double()
        torch.testing.assert_close(affine.affine(x_NI, W_IO), x_NI @ W_IO)


def drawn(a_NH: torch.Tensor, seed: int = 1) -> torch.Tensor:
    on_NH = torch.full_like(a_NH, 7)
    kernels.draw(a_NH, on_NH, generator(seed))
    return on_NH


@pytest.mark.parametrize("width", [1, 5, 64])
def test_units_are_on_as_often_as_they_should(width: int) -> None:
    n, a_H = 40_000, torch.linspace(-6, 6, width) if width > 1 else torch.tensor([-1.0])
    on_NH = drawn(a_H.repeat(n, 1))
    assert set(on_NH.unique().tolist()) == {0.0, 1.0}
    p_H = a_H.sigmoid()
    assert bool(((on_NH.mean(0) - p_H).abs() < 5 * (p_H * (1 - p_H) / n).sqrt()).all())


def test_units_that_are_sure_are_never_wrong() -> None:
    assert bool(drawn(torch.full((1000, 10), 50.0)).all())
    assert not bool(drawn(torch.full((1000, 10), -50.0)).any())


def test_neighbours_know_nothing_of_each_other() -> None:
    on_ND = drawn(torch.zeros(1000, 1000))
    for a, b in (
        (on_ND[:, :-1], on_ND[:, 1:]),
        (on_ND[:-1], on_ND[1:]),
        (on_ND, drawn(on_ND * 0, 2)),
    ):
        assert abs(float(torch.corrcoef(torch.stack([a.flatten(), b.flatten()]))[0, 1])) < 0.005
    # Rare units, too: 0.01² of the pairs, ± 0.00001 over a million pairs.
    rare_ND = drawn(torch.full((2000, 1000), -4.59512))
    assert abs(float((rare_ND[:, ::2] * rare_ND[:, 1::2]).mean()) - 1e-4) < 5e-5


SMALL, LARGE = (21, 34), (220, 310)
"""Of a machine that is one tile, and of one that is several."""


def walked(
    k: int, count: int, own: bool = True, size: tuple[int, int] = SMALL
) -> tuple[torch.Tensor, ...]:
    torch.set_num_threads(count)
    n, (visible, hidden) = 300, size
    b_v, b_h = (normal(*([n] if own else []), width, seed=5) for width in (visible, hidden))
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
@pytest.mark.parametrize("own", [True, False])
def test_a_walk_is_the_same_by_any_number_of_threads(threads, own: bool, size, k: int) -> None:
    one = walked(k, 1, own, size)
    for other in (walked(k, 2, own, size), walked(k, 3, own, size)):
        for a, b in zip(one, other, strict=True):
            assert torch.equal(a, b)


@pytest.mark.parametrize("size", [SMALL, LARGE])
def test_sizes_are_on_either_side_of_a_tile(size) -> None:
    assert (size[0] * size[1] > kernels.TILE_SIZE) == (size == LARGE)


@pytest.mark.parametrize("own", [True, False])
@pytest.mark.parametrize("k", [1, 4])
@pytest.mark.parametrize("size", [SMALL, LARGE])
def test_what_a_walk_leaves_fits_together(threads, size, k: int, own: bool) -> None:
    visible, hidden = size
    W_DH = normal(visible, hidden)
    b_v, b_h = (normal(*([300] if own else []), width, seed=5) for width in size)
    h, logit, v, a = walked(k, 1, own, size)
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
def test_chains_come_to_the_machines_distribution(dtype: torch.dtype, k: int) -> None:
    # Compiled and by torch's kernels, in one call of many steps and in many of one.
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
def test_softplus_and_its_slope(scale: float) -> None:
    a_NH, total_N, p_NH = normal(60, 1100) * scale, np.empty(60), np.empty((60, 1100), np.float32)
    kernels.softplus_part(a_NH.numpy(), np.float32(-0.25), total_N, p_NH, 0, 1)
    expected_N = -0.25 * F.softplus(a_NH.double()).sum(-1)
    torch.testing.assert_close(torch.from_numpy(total_N), expected_N, rtol=1.3e-6, atol=1e-5)
    torch.testing.assert_close(torch.from_numpy(p_NH), -0.25 * a_NH.sigmoid())
    no_number = np.array([[0.0, np.nan]], np.float32)
    kernels.softplus_part(no_number, np.float32(1), total_N, p_NH, 0, 1)
    assert np.isnan(total_N[0])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize(
    ("own", "size", "data", "ends", "share"),
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
def test_contrast_is_the_difference_of_free_energies(
    threads, own: bool, size, data: int, ends: int, share: float, count: int, dtype: torch.dtype
) -> None:
    # Compiled and by torch's kernels; intensities between 0 and 1 among the data.
    threads(count)
    visible = size[0]
    W_DH = normal(*size).to(dtype).requires_grad_()
    b_v, b_h = (
        normal(*([data] if own else []), width, seed=5).to(dtype).requires_grad_() for width in size
    )
    x_BD = (binary(data, visible, share=share) * normal(data, visible).sigmoid()).to(dtype)
    v_CD = binary(ends, visible, seed=7).to(dtype)
    a_BH, end_CH = ((v @ W_DH + b_h).detach() for v in (x_BD, v_CD))
    weights = W_DH, b_v, b_h
    contrast = ContrastiveLoss.apply(*weights, x_BD, a_BH, v_CD, end_CH)
    expected = free_energy(x_BD, *weights).mean() - free_energy(v_CD, *weights).mean()
    torch.testing.assert_close(contrast, expected, rtol=1e-4, atol=1e-4)
    gradients = torch.autograd.grad(3 * contrast, weights)
    for slope, by_torch in zip(gradients, torch.autograd.grad(3 * expected, weights), strict=True):
        torch.testing.assert_close(slope, by_torch, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_contrast_of_nothing_is_nothing(dtype: torch.dtype) -> None:
    # As of a batch that holds padding alone.
    W_DH, b_v, b_h = (torch.ones(*size, dtype=dtype) for size in ((9, 5), (0, 9), (0, 5)))
    weights = [w.requires_grad_() for w in (W_DH, b_v, b_h)]
    contrast = ContrastiveLoss.apply(
        *weights, b_v.detach(), b_h.detach(), b_v.detach(), b_h.detach()
    )
    contrast.backward()
    assert contrast.item() == 0
    assert float(W_DH.grad.abs().max()) == 0


def test_of_no_rows_nothing_is_written() -> None:
    beyond = np.full(64, 7, np.float32)
    none_ND = np.zeros((0, 32), np.float32)
    kernels.sum_part(none_ND, kernels.ONE, none_ND, kernels.ONE, beyond[:0].reshape(0, 32), 0, 1)
    assert (beyond == 7).all()


def test_contrast_keeps_its_digits_under_autocast() -> None:
    weights = [normal(*size).requires_grad_() for size in ((9, 5), (9,), (5,))]
    x_BD, v_CD = binary(7, 9), binary(7, 9, seed=7)
    # What autocast makes of the products, given to both.
    a_BH, end_CH = ((v @ weights[0] + weights[2]).detach().bfloat16() for v in (x_BD, v_CD))

    def everything() -> tuple[torch.Tensor, ...]:
        contrast = ContrastiveLoss.apply(*weights, x_BD, a_BH, v_CD, end_CH)
        return contrast, *torch.autograd.grad(contrast, weights)

    with torch.autocast("cpu", torch.bfloat16):
        under = everything()
    for one, other in zip(under, everything(), strict=True):
        assert torch.equal(one, other)


def test_the_gradient_is_not_copied_on_its_way() -> None:
    W_DH, b_v, b_h = (normal(*size).requires_grad_() for size in ((9, 5), (9,), (5,)))
    v_BD = binary(7, 9)
    a_BH = (v_BD @ W_DH + b_h).detach()
    contrast = ContrastiveLoss.apply(W_DH, b_v, b_h, v_BD, a_BH, v_BD, a_BH)
    made = contrast.grad_fn.saved_tensors[0].data_ptr()
    contrast.backward()
    assert W_DH.grad.data_ptr() == made


@pytest.mark.parametrize("scale", [1, 30, 300])
def test_what_softplus_rises_by_row_by_row(scale: float) -> None:
    base_H, delta_H, room_2H = (
        normal(700) * scale,
        normal(700, seed=4) * scale,
        np.empty((2, 700), np.float32),
    )
    found = kernels.softplus_increment(
        base_H.numpy(), delta_H.numpy(), np.float32(0.25), np.float32(0.5), *room_2H
    )
    base_H, delta_H = base_H.double(), delta_H.double()
    expected = F.softplus(base_H + 0.5 * delta_H).sum() - F.softplus(base_H + 0.25 * delta_H).sum()
    assert found == pytest.approx(float(expected), rel=1e-5, abs=1e-5)


def test_annealing_is_the_same_by_any_number_of_threads(threads) -> None:
    def annealed(count: int) -> list[torch.Tensor]:
        threads(count)
        biases = [normal(40, 9, seed=1), normal(40, 13), normal(40, 9, seed=7), normal(13)]
        v_SD, log_w_S = binary(400, 9), torch.zeros(400, dtype=torch.float64)
        betas = torch.linspace(0, 1, 130, dtype=torch.float64).tolist()
        steps = kernels.anneal(betas, normal(9, 13), *biases, v_SD, log_w_S, generator(9))
        assert list(steps) == [50, 100, 129]
        return [v_SD, log_w_S]

    for one, two in zip(annealed(1), annealed(2), strict=True):
        assert torch.equal(one, two)


def test_without_a_folder_to_write_to_it_compiles_again(tmp_path) -> None:
    # Files stand where Numba would make its folders.
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


def test_what_was_first_used_in_inference_mode_serves_training() -> None:
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
