"""`init_from=RUN`: which weights a new run starts with, and what is refused."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from musegen.codecs.chars import CharCodec
from musegen.codecs.messages import MessageCodec
from musegen.codecs.roll_codec import RollCodec
from musegen.errors import UserError
from musegen.models import RBM, RNNNADE, RNNRBM, CharRNN, LSTMMidi, Model
from musegen.specs import FrameBatch, Frames, LabelledMessageBatch, MessageBatch, Rolls
from musegen.training.callbacks.best_start import BestStart
from musegen.training.callbacks.pretraining import Pretraining
from musegen.training.fine_tuning import Source

WIDE = MessageCodec((60, 66), time_bins=3, velocity_bins=2, labels=("bach", "haydn", "mozart"))
SMALL = {"hidden": 5, "embedding": (3, 2, 2), "head_width": 4, "active_note_dim": 2}


def messages(codec: MessageCodec, **settings) -> LSTMMidi:
    return LSTMMidi(codec.spec, codec, **{**SMALL, **settings}).eval()


def texts(codec: CharCodec, **settings) -> CharRNN:
    return CharRNN(codec.spec, codec, hidden=5, **settings).eval()


def source_of(model: Model, folder: Path) -> Source:
    """A checkpoint of the model, read as `init_from` reads it."""
    path = folder / "source.ckpt"
    torch.save({"state_dict": model.state_dict(), "hyper_parameters": dict(model.hparams)}, path)
    return Source(path)


def nll(model: LSTMMidi, pitches: list[int], label: str | None) -> torch.Tensor:
    """nll_NF of onsets of these pitches."""
    x_TF = torch.tensor([[p - model.codec.pitch_range[0], 1, 1] for p in pitches])
    x_BLF = torch.cat([torch.tensor([model.spec.sizes]), x_TF])[None]
    parts = (x_BLF, torch.ones(1, len(pitches), dtype=torch.bool), torch.tensor([True]))
    batch = MessageBatch(*parts)
    if label is not None:
        batch = LabelledMessageBatch(*parts, torch.tensor([model.codec.labels.index(label)]))
    return model.nll(batch, "test")[0].detach()


def test_bars_are_counted_again_and_the_tempo_and_instrument_are_free(tmp_path: Path) -> None:
    old, new = (
        messages(MessageCodec((60, 66), time_unit="beats", tempo=tempo, program=program))
        for tempo, program in ((90, 0), (120, 48))
    )
    old.bars_L[36] = 1000
    source_of(old, tmp_path).initialise(new)
    assert torch.equal(new.lstm.weight_hh_l0, old.lstm.weight_hh_l0)
    assert not new.bars_L.any()


@pytest.mark.parametrize("settings", [{}, {"heads": "independent"}])
def test_a_message_model_starts_with_the_weights_of_its_labels_and_pitches(
    tmp_path: Path, settings: dict
) -> None:
    old = messages(WIDE, **settings)
    new = messages(
        MessageCodec((61, 65), time_bins=3, velocity_bins=2, labels=("mozart", "bach")), **settings
    )
    source_of(old, tmp_path).initialise(new)
    for label in ("bach", "mozart"):
        before, after = (nll(m, [61, 63, 61, 64], label) for m in (old, new))
        # Velocities and times are as probable as before; notes by less than before, because the
        # pitches 60 and 65 are left out, and by the same ratio in pairs.
        torch.testing.assert_close(before[:, 1:], after[:, 1:])
        assert (after[:, 0] < before[:, 0]).all()
    first_old, first_new = (
        torch.stack([nll(m, [p], "bach")[0, 0] for p in (61, 62, 63, 64)]) for m in (old, new)
    )
    torch.testing.assert_close(first_new, first_old + (-first_old).exp().sum().log())


def test_a_message_model_without_labels_starts_with_the_mean_label(tmp_path: Path) -> None:
    old = messages(WIDE)
    new = messages(MessageCodec((60, 66), time_bins=3, velocity_bins=2))
    source_of(old, tmp_path).initialise(new)
    with torch.no_grad():
        old.embed_label.weight.copy_(old.embed_label.weight.mean(0, keepdim=True).expand(3, -1))
    torch.testing.assert_close(nll(new, [60, 65], None), nll(old, [60, 65], "haydn"))


@pytest.mark.parametrize("unknown", [True, False])
def test_a_text_model_starts_with_the_weights_of_its_symbols(tmp_path: Path, unknown: bool) -> None:
    old = texts(CharCodec("abcd", labels=("x", "y", "z"), unknown=True), ngram_weight=0.3)
    old.ngram.fit([[0, 1]], [0])
    new = texts(CharCodec("bd", labels=("z", "x"), unknown=unknown), ngram_weight=0.3)
    source_of(old, tmp_path).initialise(new)
    assert new.ngram.texts == []  # they are counted again, in the new run's data
    logits = []
    for model in (old, new):
        rows = [model.codec.encode(t) for t in ("bdb", "dd")]
        labels = [model.codec.label_class(label) for label in ("x", "z")]
        logits.append(model.logits(model.codec.batch(rows, labels))[0].detach())
    kept = [1, 3, *([4] if unknown else []), 5]  # b, d, unknown and the end
    torch.testing.assert_close(logits[1], logits[0][:, kept])


def test_a_text_model_without_labels_starts_with_the_mean_label(tmp_path: Path) -> None:
    old, new = texts(CharCodec("ab", labels=("x", "y"))), texts(CharCodec("ab"))
    source_of(old, tmp_path).initialise(new)
    with torch.no_grad():
        old.embed_label.weight.copy_(old.embed_label.weight.mean(0, keepdim=True).expand(2, -1))
    rows = [old.codec.encode("abba")]
    expected = old.logits(old.codec.batch(rows, [0]))[0]
    torch.testing.assert_close(new.logits(new.codec.batch(rows))[0], expected)


ROLLS = RollCodec((60, 64))
REFUSED = [
    (messages(WIDE), texts(CharCodec("a")),
     "a checkpoint of lstm_midi, but this run's is char_rnn"),
    (messages(WIDE), messages(WIDE, hidden=6, dropout=0.0),
     "its model has hidden=5, dropout=0.3, but this run's has hidden=6, dropout=0.0"),
    (messages(WIDE), messages(MessageCodec((59, 66), time_bins=3, velocity_bins=2)),
     r"its data has pitch_range=\[60, 66\], and this run's pitch_range=\[59, 66\] is not a part"),
    (messages(WIDE, embedding=None),
     messages(MessageCodec((60, 65), time_bins=3, velocity_bins=2), embedding=None),
     r"has pitch_range=\[60, 66\], but this run's has \[60, 65\]; a model with model.embed"),
    (messages(WIDE), messages(MessageCodec((60, 66), time_bins=4, velocity_bins=2)),
     "its data has codec.time_bins=3, but this run's has 4; set data.codec.time_bins=3"),
    (messages(MessageCodec()), messages(MessageCodec(labels=("mozart",))),
     r"its data has labels=None, and this run's labels=\['mozart'\] is not a part"),
    (texts(CharCodec("ab")), texts(CharCodec("abc")), "its symbols 'ab' lack 'c' of this run's"),
    (texts(CharCodec("ab", end=False)), texts(CharCodec("ab")), "has end=False, .* end=True"),
    (RBM(Frames(4), hidden=2), RBM(Frames(5), hidden=2),
     r"its data is Frames\(dim=4\), but this run's is Frames\(dim=5\)"),
    (RNNNADE(ROLLS.spec, ROLLS, hidden=3), RNNNADE(ROLLS.spec, RollCodec((61, 65)), hidden=3),
     r"its data has pitch_range=\(60, 64\), but this run's has \(61, 65\)"),
]  # fmt: skip


@pytest.mark.parametrize(("old", "new", "message"), REFUSED)
def test_what_does_not_fit_is_refused(tmp_path: Path, old: Model, new: Model, message: str) -> None:
    weights = {k: v.clone() for k, v in new.state_dict().items()}
    with pytest.raises(UserError, match=rf"^init_from=.*source\.ckpt: .*{message}"):
        source_of(old, tmp_path).initialise(new)
    assert not new.initialised
    assert all(torch.equal(v, weights[k]) for k, v in new.state_dict().items())


def test_nothing_replaces_the_weights_when_training_starts() -> None:
    """Neither new random starts nor pretraining, nor the data's log-odds as visible biases."""
    start, rnn_rbm = texts(CharCodec("a")), RNNRBM(Rolls(4), hidden=2, recurrent=2)
    for model, callback in ((start, BestStart()), (rnn_rbm, Pretraining())):
        model.initialised = True
        # Without data this would raise an error, if it were not skipped.
        callback.on_fit_start(SimpleNamespace(ckpt_path=None), model)
    rbm = RBM(Frames(4), hidden=2, visible_bias="log_odds")
    rbm.initialised = True
    batch = FrameBatch(torch.tensor([[1.0, 0, 0, 0]]))
    rbm.trainer = SimpleNamespace(ckpt_path=None, datamodule=None)
    rbm.train_batches = lambda: [batch]
    rbm.on_fit_start()
    assert rbm.mean_D.tolist() == [0.75, 0.25, 0.25, 0.25]
    assert rbm.b_v.tolist() == [0, 0, 0, 0]
