"""The quartets with their composers as labels; tunes take the place of the corpus."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import quartet_folders

from datamodules.message_streams import Mozart
from datamodules.quartets import Quartets
from musegen.baselines.by_spec import baselines
from musegen.codecs.messages import MessageCodec
from musegen.errors import UserError
from musegen.specs import LabelledMessages


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return quartet_folders(tmp_path / "scores", monkeypatch)


def ready(**settings) -> Quartets:
    data = Quartets(**settings)
    data.setup()
    return data


def test_the_spec_needs_no_scores_and_counts_the_composers() -> None:
    sizes = MessageCodec().spec.sizes
    assert Quartets().spec == LabelledMessages(*sizes, num_labels=3)
    assert Quartets(("mozart",)).spec == LabelledMessages(*sizes, num_labels=1)


def test_pieces_have_the_label_of_their_composer(folders: Path) -> None:
    data = ready(window=16, batch_size=4, transpose=0, tempo=0)
    names = [p.name for s in data.pieces.values() for p in s]
    assert len(names) == 9 + 4 + 4
    assert data.describe().endswith("; beethoven 4, haydn 4, mozart 9")
    coded, found = data.coded("val"), []
    for batch in data.val_dataloader():
        for x_LF, label in zip(
            batch.x_BLF[batch.fresh_B], batch.label_B[batch.fresh_B], strict=True
        ):
            starts = [np.array_equal(c[:16], x_LF[1:17]) for c in coded]
            found.append((starts.index(True), int(label)))
    assert sorted(found) == list(enumerate(data.labels["val"]))
    shuffled = next(iter(data.train_dataloader()))
    assert shuffled.label_B.shape == (4,)
    assert shuffled.label_B.dtype == torch.int64


def test_an_idle_row_of_a_stream_has_a_label(folders: Path) -> None:
    """Rows whose pieces are finished wait for the longest row."""
    data = ready(window=16, batch_size=4, carry=True)
    batches = list(data.train_dataloader())
    assert not batches[-1].mask_BT.any(1).all()
    assert all(len(b.label_B) == len(b.mask_BT) for b in batches)


def test_mozarts_movements_are_in_the_splits_of_mozarts_data_set(folders: Path) -> None:
    alone, among, only = Mozart(), ready(), ready(composers=("mozart",))
    alone.setup()
    expected = {p.name: s for s, pieces in alone.pieces.items() for p in pieces}
    for data in (among, only):
        splits = {p.name: s for s, pieces in data.pieces.items() for p in pieces}
        mozart = {n.removeprefix("mozart/"): s for n, s in splits.items() if "mozart/" in n}
        assert len(mozart) == 9
        assert mozart == {name: expected[name] for name in mozart}


def test_a_codec_with_more_labels_keeps_them(folders: Path) -> None:
    codec = Quartets().codec
    data = ready(composers=("mozart",), codec=codec)
    assert data.spec.num_labels == 3
    assert {i for labels in data.labels.values() for i in labels} == {2}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"composers": ("bach",)}, r"composers=\('bach',\): should be 'beethoven', 'haydn' or"),
        ({"composers": ()}, r"data.composers=\[\]: name each composer once"),
        ({"composers": ("haydn", "haydn")}, "name each composer once"),
        ({"codec": MessageCodec(labels=("bach",))},
         r"composers=beethoven: the labels of the given codec are \['bach'\]"),
    ],
)  # fmt: skip
def test_wrong_composers_are_refused(settings: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        Quartets(**settings)


def test_baselines_have_metrics_of_each_label(folders: Path) -> None:
    """The mean over all messages is the mean of the labels, weighted by their messages."""
    data = ready()
    metrics = baselines(data)
    names = data.codec.labels
    counts = np.bincount(data.labels["test"], [len(c) for c in data.coded("test")], minlength=3)
    assert (counts > 0).all()
    for metric in ("unigram_note", "ngram_nll"):
        of_labels = [metrics[f"{metric}/{name}"] for name in names]
        assert np.average(of_labels, weights=counts) == pytest.approx(metrics[metric])
