"""The label of a piece as a condition of the LSTM on messages."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import tune

from musegen.codecs.messages import MessageCodec
from musegen.codecs.midi import write_notes
from musegen.errors import UserError
from musegen.metrics.nll import FieldNLL, LabelledNLL
from musegen.models.lstm_midi import LSTMMidi
from musegen.models.message_step import MessageStep
from musegen.specs import LabelledMessageBatch, LabelledMessages, MessageBatch

CODEC = MessageCodec(labels=("bach", "haydn", "mozart"))
SMALL = {"hidden": 8, "layers": 2, "embedding": (4, 2, 2), "head_width": 4, "active_note_dim": 2}


def model(codec: MessageCodec = CODEC) -> LSTMMidi:
    torch.manual_seed(0)
    return LSTMMidi(codec.spec, codec, **SMALL).eval()


def batch(labels: list[int]) -> LabelledMessageBatch:
    """The same messages in every row."""
    rng = np.random.default_rng(0)
    x_LF = torch.from_numpy(np.stack([rng.integers(0, n, 6) for n in CODEC.spec.sizes], -1))
    B = len(labels)
    mask_BT = torch.ones(B, 5, dtype=torch.bool)
    mask_BT[-1, 3:] = False
    return LabelledMessageBatch(
        x_LF.expand(B, -1, -1), mask_BT, torch.ones(B, dtype=torch.bool), torch.tensor(labels)
    )


def test_the_spec_counts_labels_and_survives_a_checkpoint() -> None:
    assert CODEC.spec == LabelledMessages(*MessageCodec().spec.sizes, num_labels=3)
    assert MessageCodec(**CODEC.to_dict()) == CODEC
    with pytest.raises(UserError, match="should have a label and not repeat one"):
        MessageCodec(labels=("a", "a"))


def test_rows_depend_on_their_labels_and_without_embedding_on_none() -> None:
    labelled, x = model(), batch([1, 2, 1])
    first, other, same = labelled.nll(x, "test")[0].detach().split([5, 5, 3])
    assert not torch.allclose(first, other)
    torch.testing.assert_close(first[:3], same)
    plain = model(MessageCodec())
    weights = labelled.state_dict()
    weights.pop("embed_label.weight").zero_()  # in the labelled model, too
    plain.load_state_dict(weights)
    expected = plain.nll(MessageBatch(*x[:3]), "test")[0]
    torch.testing.assert_close(labelled.nll(x, "val")[0], expected)


def test_a_step_reads_the_label_as_a_sequence_does() -> None:
    labelled, x = model(), batch([0, 2])
    h_BTD, _, _ = labelled(x.x_BLF, None, x.label_B)
    h, _, state = labelled(x.x_BLF[:, :2], None, x.label_B)
    state = state._replace(h=state.h.unbind(), c=state.c.unbind())
    step = MessageStep(labelled)
    with torch.inference_mode():
        for t in range(2, 6):
            h, _, state = step(x.x_BLF[:, t], state, x.label_B)
    torch.testing.assert_close(h, h_BTD[:, -1], atol=1e-5, rtol=1e-5)


def test_scores_are_given_by_label() -> None:
    labelled, x = model(), batch([1, 2])
    metric = labelled.new_metric()
    assert isinstance(metric, LabelledNLL)
    labelled.score(x, metric, "test")
    nll_NF = labelled.nll(x, "val")[0].detach()
    assert float(metric.compute()["note/haydn"]) == pytest.approx(float(nll_NF[:5, 0].mean()))
    assert float(metric.compute()["nll/mozart"]) == pytest.approx(float(nll_NF[5:].sum(1).mean()))
    assert type(model(MessageCodec()).new_metric()) is FieldNLL


def test_pieces_are_generated_with_a_label(tmp_path: Path) -> None:
    labelled = model()
    every = labelled.generate(n=2, length=12, seed=3)
    assert [label for label, _ in every] == ["bach"] * 2 + ["haydn"] * 2 + ["mozart"] * 2
    write_notes(tune(0), tmp_path / "prime.mid")
    for prime in (None, tmp_path / "prime.mid"):
        (name, one), _ = labelled.generate(n=2, label="Mozart", length=12, prime=prime)
        (_, again), _ = labelled.generate(n=2, label="mozart", length=12, prime=prime)
        (_, other), _ = labelled.generate(n=2, label="bach", length=12, prime=prime)
        assert name == "mozart"
        np.testing.assert_array_equal(one, again)
        assert one.tobytes() != other.tobytes()
    with pytest.raises(UserError, match="label=mozrat: .*mozart"):
        labelled.generate(label="mozrat")
    with pytest.raises(UserError, match="label=bach: this model was trained without labels"):
        model(MessageCodec()).generate(label="bach")
