"""The longest match of messages in the logits, by hand."""

from __future__ import annotations

import torch

from musegen.models.layers.message_match import MatchEmbedding, MatchLogits, drop_matches

SIZES = (3, 2, 4)
NONE = [0, *SIZES]


def test_only_fields_that_follow_the_match_get_more() -> None:
    """Level 2 gives 5, 6, 7. The second row has another note, the third no match."""
    layer = MatchLogits(1, 3)
    layer.by_level.weight.data[2] = torch.tensor([5.0, 6.0, 7.0])
    layer.by_state.bias.data.fill_(0.5)
    match_NM = torch.tensor([[2, 1, 0, 3], [2, 1, 0, 3], NONE])
    x_NF = torch.tensor([[1, 0, 2], [2, 0, 3], [1, 0, 3]])
    logits = [torch.zeros(3, size) for size in SIZES]
    note, velocity, time = layer(logits, torch.zeros(3, 1), x_NF, match_NM)
    assert note.tolist() == [[0, 5.5, 0], [0, 5.5, 0], [0, 0, 0]]
    assert velocity.tolist() == [[6.5, 0], [0, 0], [0, 0]]
    assert time.tolist() == [[0, 0, 0, 7.5], [0] * 4, [0] * 4]
    assert not any(z_NV.any() for z_NV in logits)


def test_a_new_layer_changes_nothing() -> None:
    layer, match_NM = MatchLogits(4, 3), torch.tensor([[7, 1, 0, 3]])
    logits = [torch.randn(1, size) for size in SIZES]
    after = layer(logits, torch.randn(1, 4), torch.tensor([[1, 0, 3]]), match_NM)
    assert all(torch.equal(a, b) for a, b in zip(logits, after, strict=True))


def test_the_embedding_is_the_sum_of_four() -> None:
    layer = MatchEmbedding(SIZES, 5)
    match_M = torch.tensor([3, 2, 1, 0])
    tables = zip(layer.tables, match_M, strict=True)
    torch.testing.assert_close(layer(match_M), sum(table.weight[i] for table, i in tables))
    assert layer(torch.tensor([NONE, NONE])).shape == (2, 5)


def test_whole_rows_are_dropped() -> None:
    match_BTM = torch.tensor([7, 1, 0, 3]).expand(4000, 2, 4)
    assert drop_matches(match_BTM, SIZES, 0.0) is match_BTM
    torch.manual_seed(0)
    dropped_BTM = drop_matches(match_BTM, SIZES, 0.3)
    gone_BT = (dropped_BTM == torch.tensor(NONE)).all(-1)
    assert torch.equal(gone_BT[:, 0], gone_BT[:, 1])
    assert torch.equal(dropped_BTM[~gone_BT], match_BTM[~gone_BT])
    assert abs(gone_BT[:, 0].double().mean() - 0.3) < 0.03
