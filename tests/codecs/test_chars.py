"""The character codec: the order of classes, round trips, unknown characters."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from musegen.codecs.chars import REPLACEMENT, CharCodec, normalise
from musegen.errors import UserError
from musegen.specs import LabelledTokens, Tokens

texts = st.text(max_size=30)


def test_classes_of_the_course():
    codec = CharCodec("01", unknown=False)
    assert codec.encode("0011").tolist() == [0, 0, 1, 1, 2]
    assert (codec.end_class, codec.start_class, codec.spec) == (2, 3, Tokens(3))


def test_the_class_of_unknown_characters_precedes_the_end_class():
    codec = CharCodec("ab")
    assert codec.encode("aXb").tolist() == [0, 2, 1, 3]
    assert codec.decode([0, 2, 1, 3, 0]) == f"a{REPLACEMENT}b"


def test_unknown_characters_without_a_class_are_refused():
    with pytest.raises(UserError, match="'2' is not one of the symbols '01'"):
        CharCodec("01", unknown=False).encode("012")


@given(texts, texts)
def test_decode_of_encode_is_quantise(training, text):
    codec = CharCodec.of([training, "a"])
    assert codec.decode(codec.encode(text)) == codec.quantise(text)
    assert codec.quantise(training) == normalise(training)


@given(st.lists(st.integers(0, 5), max_size=20), st.booleans())
def test_any_classes_decode(classes, end):
    codec = CharCodec("abc" if end else "abcd", end=end)
    assert codec.start_class == 5
    text = codec.decode(classes)
    before_end = classes[: classes.index(4)] if end and 4 in classes else classes
    assert len(text) == sum(c != 5 for c in before_end)


@given(texts.filter(str.strip), st.booleans())
def test_settings_as_plain_values(text, ascii):
    codec = CharCodec.of([text, "a"], ascii=ascii, labels=("x", "y"))
    assert CharCodec(**codec.to_dict()) == codec
    assert codec.spec == LabelledTokens(codec.size, 2)


def test_rare_characters_are_unknown():
    assert CharCodec.of(["aab", "bc"], min_count=2).symbols == "ab"
    assert CharCodec.of(["abc"], min_count=2).symbols == "abc"


@pytest.mark.parametrize(
    ("text", "ascii", "expected"),
    [
        ("e\u0301", False, "\xe9"),
        ("S\u0301lusa\u0300rski", True, "Slusarski"),
        ("Gro\xdf", True, "Gro"),
    ],
)
def test_normalise(text, ascii, expected):
    assert normalise(text, ascii) == expected


def test_a_batch_is_padded_and_masked():
    codec = CharCodec("01", unknown=False)
    batch = codec.batch([codec.encode("01"), codec.encode("0011")])
    assert batch.x_BL.tolist() == [[3, 0, 1, 2, 3, 3], [3, 0, 0, 1, 1, 2]]
    assert batch.mask_BT.tolist() == [[True] * 3 + [False] * 2, [True] * 5]


def test_labels_by_name():
    codec = CharCodec("a", labels=("Japanese", "Polish"))
    assert codec.label_class("polish") == 1
    with pytest.raises(UserError, match="did you mean Japanese"):
        codec.label_class("Japanes")
    with pytest.raises(UserError, match="there are Japanese, Polish"):
        codec.label_class("x")
    with pytest.raises(UserError, match="trained without labels"):
        CharCodec("a").label_class("x")


@pytest.mark.parametrize("settings", [{"symbols": ""}, {"symbols": "aa"},
                                      {"symbols": "a", "labels": ("x", "x")}])  # fmt: skip
def test_repeated_or_missing_symbols_are_refused(settings):
    with pytest.raises(UserError, match="should"):
        CharCodec(**settings)


def test_encoded_text_is_int64():
    assert CharCodec("a").encode("").dtype == np.int64
