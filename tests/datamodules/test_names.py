"""data=names and names_faker: unique names, splits and folds, files that are refused."""

import hashlib
from collections import Counter

import pytest

from datamodules import names as names_module
from datamodules.char_data import TextSampler
from datamodules.names import COUNTRIES, FakerNames, Names
from musegen.codecs.chars import CharCodec
from musegen.errors import UserError
from musegen.specs import LabelledTokens


def folder(tmp_path, **files):
    for label, text in files.items():
        data = text if isinstance(text, bytes) else text.encode()
        (tmp_path / f"{label}.txt").write_bytes(data)
    return tmp_path


def loaded(root, **settings):
    data = Names(root=root, **settings)
    data.prepare_data()
    data.setup()
    return data


def numbered(prefix, n):
    return "\n".join(f"{prefix}{i}" for i in range(n))


def test_a_repeated_name_is_in_one_split_only(tmp_path):
    # The Arabic file has 108 different names in 2,000 lines. Without this, test names would be
    # training names too.
    root = folder(tmp_path, A=numbered("a", 10) + "\n" + numbered(" a", 10), B=numbered("b", 20))
    data = loaded(root)
    everything = [t for s in data.texts.values() for t in s]
    assert Counter(everything).most_common(1)[0][1] == 1
    assert len(everything) == 30
    assert all(set(data.labels[s]) == {0, 1} for s in data.labels)


def split_by_name(data):
    return {text: s for s in data.texts for text in data.texts[s]}


def test_a_name_stays_in_its_split_when_others_are_added(tmp_path):
    """The others may be of another label or of the same label."""
    before = split_by_name(loaded(folder(tmp_path, A=numbered("a", 50))))
    more = split_by_name(loaded(folder(tmp_path, A=numbered("a", 73), B=numbered("b", 50))))
    fewer = split_by_name(loaded(folder(tmp_path, A=numbered("a", 31))))
    assert all(more[name] == split for name, split in before.items())
    assert all(before[name] == split for name, split in fewer.items() if name in before)


def test_fractions_are_right_on_average(tmp_path):
    data = loaded(folder(tmp_path, A=numbered("a", 2000)), test_fraction=0.2)
    assert 360 <= len(data.texts["test"]) <= 440
    assert 160 <= len(data.texts["val"]) <= 240


@pytest.mark.parametrize("n", [3, 4, 5, 9])
def test_small_labels_have_a_name_in_each_split_or_train(tmp_path, n):
    for seed in range(30):
        data = loaded(folder(tmp_path, A=numbered("a", n), B=numbered("b", 40)), split_seed=seed)
        counts = [data.labels[s].count(0) for s in ("train", "val", "test")]
        assert min(counts) >= 1 or counts == [n, 0, 0]


def everything(data):
    return {text for texts in data.texts.values() for text in texts}


def test_names_in_unicode_and_in_ascii(tmp_path):
    root = folder(tmp_path, A="S\u0301l\nSl\n\u015al\u00e0\n\u00a0 x  y \r\nb\nc\n")
    assert everything(loaded(root)) == {"\u015al", "Sl", "\u015al\xe0", "x y", "b", "c"}
    assert everything(loaded(root, ascii=True)) == {"Sl", "Sla", "x y", "b", "c"}


def test_the_codec_is_made_from_the_training_names(tmp_path):
    data = loaded(folder(tmp_path, A=numbered("a", 30)), min_count=3)
    counts = Counter("".join(data.texts["train"]))
    assert data.codec.symbols == "".join(sorted(c for c in counts if counts[c] >= 3))
    assert data.spec == LabelledTokens(len(data.codec.symbols) + 2, 1)


def test_a_given_codec_is_kept(tmp_path):
    root = folder(tmp_path, Polish="abc\nabd\nabe\n")
    codec = CharCodec("ab", labels=("Czech", "Polish"), ascii=True)
    data = loaded(root, codec=codec)
    assert data.codec is codec
    assert set(data.labels["train"]) == {1}
    with pytest.raises(UserError, match="did you mean Polnish"):
        loaded(root, codec=CharCodec("ab", labels=("Polnish",)))


@pytest.mark.parametrize(
    ("files", "problem"),
    [
        ({}, r"has no LABEL\.txt"),
        ({"A": ""}, r"A\.txt: empty"),
        ({"A": "\n \n"}, r"A\.txt: empty"),
        ({"A": b"abc\xff"}, r"A\.txt: not UTF-8 \(byte 3 is 0xff\)"),
        ({"A": "a"}, "no label has the 3 names"),
        ({"A": numbered("a", 9), "B": "\u4e2d\n"}, "label B: no names"),
    ],
)
def test_bad_files_are_refused(tmp_path, files, problem):
    with pytest.raises(UserError, match=problem):
        loaded(folder(tmp_path, **files), ascii=True)


def test_a_missing_folder_is_refused(tmp_path):
    with pytest.raises(UserError, match="no such folder"):
        Names(root=tmp_path / "none").prepare_data()


def test_a_label_of_two_names_is_for_training(tmp_path):
    data = loaded(folder(tmp_path, A=numbered("a", 9), B="x\ny"))
    assert data.labels["train"].count(1) == 2


def test_the_folds_together_test_every_name(tmp_path):
    root = folder(tmp_path, A=numbered("a", 23), B=numbered("b", 7))
    folds = [loaded(root, fold=k, test_fraction=0.2) for k in range(5)]
    tested = [name for data in folds for name in data.texts["test"]]
    assert set(tested) == everything(folds[0])
    tested_a = [name for name in tested if name.startswith("a")]
    assert len(tested_a) == len(set(tested_a)) == 23
    for data in folds:
        assert not set(data.texts["test"]) & set(data.texts["val"] + data.texts["train"])
        assert sum(map(len, data.texts.values())) == 30
    with pytest.raises(UserError, match=r"fold=5: with data\.test_fraction=0\.2 .* 0 to 4"):
        Names(root=root, fold=5, test_fraction=0.2)


@pytest.mark.parametrize(("balance", "small"), [(1.0, 400), (0.5, 200)])
def test_balanced_batches_draw_small_labels_more_often(tmp_path, balance, small):
    root = folder(tmp_path, A=numbered("a", 900), B=numbered("b", 100))
    data = loaded(root, balance=balance)
    drawn = Counter(
        label for batch in data.train_dataloader() for label in batch.label_B.tolist()
    )  # fmt: skip
    assert drawn.total() == len(data.texts["train"])
    assert drawn[1] == pytest.approx(small, abs=60)  # √900 : √100 is 3 : 1
    plain = [b.label_B for b in loaded(root).train_dataloader()]
    assert sum(int(label_B.sum()) for label_B in plain) == data.labels["train"].count(1)
    with pytest.raises(UserError, match=r"balance=2\.0: should be less than or equal to 1"):
        loaded(root, balance=2.0)


def test_the_ranks_together_read_every_text_at_most_once():
    lengths = list(range(1, 102))
    for shuffle in (False, True):
        plans = [TextSampler(lengths, 10, shuffle=shuffle).plan(0, r, 2) for r in range(2)]
        drawn = Counter(i for plan in plans for batch in plan for i in batch)
        assert max(drawn.values()) == 1
        assert drawn.total() == 101 if not shuffle else drawn.total() >= 90
    assert len(plans[0]) == len(plans[1])


def test_names_are_downloaded_once(tmp_path, monkeypatch):
    (tmp_path / "served").mkdir()
    source = folder(tmp_path / "served", A=numbered("a", 9))
    sha256 = hashlib.sha256((source / "A.txt").read_bytes()).hexdigest()
    fetched = []

    def fetch(name, urls, expected, into):
        fetched.append((name, urls, expected))
        (into / name).write_bytes((source / name).read_bytes())

    monkeypatch.delenv("MUSEGEN_DATA", raising=False)
    monkeypatch.setattr(names_module, "NAMES_SHA256", {"A": sha256})
    monkeypatch.setattr(names_module, "fetch", fetch)
    data = Names(cache_dir=tmp_path / "cache")
    data.prepare_data()
    data.setup()
    assert fetched[0] == ("A.txt", [names_module.NAMES_URL + "A.txt"], sha256)
    assert sum(map(len, data.texts.values())) == 9


def test_names_of_faker_by_country():
    pytest.importorskip("faker")
    data = FakerNames(countries=["Japan", "Switzerland"], size=200)
    data.setup()
    assert data.codec.labels == ("Japan", "Switzerland")
    japanese = [t for t, i in zip(data.texts["train"], data.labels["train"], strict=True) if i == 0]
    assert len(japanese) > 20
    assert all(ord(c) > 0x2E80 for name in japanese for c in name)
    again = FakerNames(countries=["Japan", "Switzerland"], size=200)
    again.setup()
    assert again.texts == data.texts


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"batch_size": True}, "batch_size=True: should be a number"),
        ({"balance": -0.5}, "balance=-0.5: should be greater than or equal to 0"),
        ({"test_fraction": 0}, "test_fraction=0: should be greater than 0"),
        ({"val_fraction": 0.5, "test_fraction": 0.5}, "leave nothing for training"),
        ({"fold": -1}, "fold=-1: should be greater than or equal to 0"),
    ],
)
def test_settings_out_of_range_are_refused(settings, message):
    with pytest.raises(UserError, match=message):
        Names(**settings)


def test_a_misspelt_country_is_refused():
    with pytest.raises(UserError, match="did you mean Japan"):
        FakerNames(countries=["Japn"])
    assert COUNTRIES["fr_CH"] == "Switzerland"


@pytest.mark.real_data
def test_the_real_names_of_18_languages(real_data):
    data = loaded(real_data / "names18")
    assert sum(map(len, data.texts.values())) == 18_012
    assert len(data.codec.labels) == 18


def test_a_line_that_is_too_long_is_refused(tmp_path):
    root = folder(tmp_path, A=numbered("a", 9) + "\n" + "a" * 1001)
    with pytest.raises(
        UserError, match=r"A\.txt: line 10 has 1,001 characters; a name may have at most"
    ):
        loaded(root)
