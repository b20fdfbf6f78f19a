"""Attention to earlier messages: window by window, its span, rows of different pieces."""

from __future__ import annotations

import pytest
import torch

from musegen.models.layers.past_attention import Past, PastAttention


def attention(span: int = 5) -> PastAttention:
    torch.manual_seed(0)
    made = PastAttention(hidden=8, embedding=6, heads=2, span=span)
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter)
    return made


H_BTD, V_BTE = (torch.randn(2, 17, n, generator=torch.Generator().manual_seed(n)) for n in (8, 6))


@pytest.mark.parametrize("sizes", [[1] * 17, [3, 1, 8, 5], [16, 1]], ids=str)
def test_windows_and_single_steps_equal_one_long_sequence(sizes: list[int]) -> None:
    layer = attention()
    whole, _ = layer(H_BTD, V_BTE, None)
    past: Past | None = None
    parts = []
    for h, v in zip(H_BTD.split(sizes, 1), V_BTE.split(sizes, 1), strict=True):
        y, past = layer(h, v, past)
        parts.append(y)
        assert past.k_BSZ.shape[1] <= layer.span
    torch.testing.assert_close(torch.cat(parts, 1), whole)


def test_a_message_is_read_at_the_next_span_steps_only() -> None:
    layer = attention(span=5)
    whole, _ = layer(H_BTD, V_BTE, None)
    changed = V_BTE.clone()
    changed[:, 9] += 1
    differs = (layer(H_BTD, changed, None)[0] != whole).any(-1)
    assert differs[0].nonzero()[:, 0].tolist() == [9, 10, 11, 12, 13]


def test_a_new_piece_does_not_read_the_one_before() -> None:
    layer = attention()
    _, past = layer(H_BTD[:, :6], V_BTE[:, :6], None)
    y, _ = layer(H_BTD[:, 6:], V_BTE[:, 6:], past.kept(torch.tensor([True, False])))
    torch.testing.assert_close(y[0], layer(H_BTD, V_BTE, None)[0][0, 6:])
    torch.testing.assert_close(y[1], layer(H_BTD[:, 6:], V_BTE[:, 6:], None)[0][1])


def test_at_first_nothing_is_added() -> None:
    layer = PastAttention(hidden=8, embedding=6, heads=2, span=5)
    torch.testing.assert_close(layer(H_BTD, V_BTE, None)[0], H_BTD)
