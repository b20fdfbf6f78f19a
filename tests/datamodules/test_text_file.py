"""data=text: the split, the windows of training and evaluation, and files that are refused."""

from collections import Counter

import pytest

from datamodules.text_file import TextFile, TextWindowSampler
from musegen.codecs.chars import REPLACEMENT, CharCodec
from musegen.errors import UserError
from musegen.specs import Tokens


def loaded(tmp_path, text, **settings):
    path = tmp_path / "a.txt"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    data = TextFile(path=path, **settings)
    data.setup()
    return data


def test_the_end_of_the_file_is_held_out(tmp_path):
    data = loaded(tmp_path, "ab" * 45 + "vvvvvttttt")
    assert {s: t for s, (t,) in data.texts.items()} == {
        "train": "ab" * 45, "val": "vvvvv", "test": "ttttt"
    }  # fmt: skip
    assert data.codec.symbols == "ab"
    assert data.spec == Tokens(3)  # a, b and the unknown; a text file has no end-of-text class
    assert data.codec.decode(data.coded("test")[0]) == REPLACEMENT * 5


def test_held_out_characters_count_once_after_their_context(tmp_path):
    text = "".join(chr(97 + i % 26) for i in range(300))
    data = loaded(tmp_path, text, window=7, batch_size=2, test_fraction=0.2)
    counted = []
    for batch in data.test_dataloader():
        for x_L, mask_T in zip(batch.x_BL, batch.mask_BT, strict=True):
            assert x_L[0] == data.codec.start_class
            positions = mask_T.nonzero().ravel()
            counted.append(data.codec.decode(x_L[1:][mask_T].tolist()))
            assert len(counted) == 1 or positions[0] == 7
    assert "".join(counted) == data.texts["test"][0]


def test_training_windows_have_another_offset_in_each_epoch():
    batches = TextWindowSampler(length=45, window=10, batch_size=2, shuffle=True)
    plans = [batches.plan(epoch, 0, 1) for epoch in range(20)]
    assert {len(p) for p in plans} == {2}
    assert plans[0] == batches.plan(0, 0, 1)
    starts = Counter(w.first for plan in plans for batch in plan for w in batch)
    assert {s % 10 for s in starts} == set(range(6))
    assert all(w.last - w.first == 10 for plan in plans for batch in plan for w in batch)


def test_a_given_codec_reads_unknown_characters(tmp_path):
    codec = CharCodec("a", end=False)
    data = loaded(tmp_path, "a\u4e2d" * 20, codec=codec)
    assert data.coded("train")[0][:4].tolist() == [0, 1, 0, 1]


@pytest.mark.parametrize(
    ("text", "problem"),
    [(b"", "empty"), (b"x", "1 character cannot be split"), (b" \n", "empty"),
     (b"ab\xc3\x28", r"not UTF-8 \(byte 2 is 0xc3\)")],
)  # fmt: skip
def test_bad_files_are_refused(tmp_path, text, problem):
    with pytest.raises(UserError, match=problem):
        loaded(tmp_path, text)


def test_missing_files_are_refused(tmp_path):
    with pytest.raises(UserError, match=r"data\.path=FILE"):
        TextFile().setup()
    with pytest.raises(UserError, match="cannot be read"):
        TextFile(path=tmp_path / "none.txt").setup()
    with pytest.raises(UserError, match="cannot be read"):
        TextFile(path=tmp_path).setup()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"window": 0}, "window=0: should be greater than or equal to 1"),
        ({"batch_size": True}, "batch_size=True: should be a number"),
        ({"val_fraction": 0.0}, "val_fraction=0.0: should be greater than 0"),
        ({"test_fraction": 1.0}, "test_fraction=1.0: should be less than 1"),
        ({"num_workers": -1}, "num_workers=-1: should be greater than or equal to 0"),
    ],
)
def test_settings_out_of_range_are_refused(settings, message):
    with pytest.raises(UserError, match=message):
        TextFile(**settings)
