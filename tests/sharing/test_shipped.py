"""The pretrained models of the package: complete, small, and ready to generate."""

from __future__ import annotations

import pytest

from musegen.codecs.midi import NOTES
from musegen.sharing.locate import PRETRAINED, load, pretrained

NAMES = ["counting", "jsb", "mnist", "mozart", "names18", "nottingham"]
SHORT = {
    "counting": {"n": 2, "length": 20},
    "jsb": {"n": 1, "length": 3},
    "mnist": {"n": 2, "rows": 1, "steps": 1},
    "mozart": {"n": 1, "length": 20},
    "names18": {"n": 1, "label": "Italian"},
    "nottingham": {"n": 1, "length": 3},
}  # fmt: skip


def test_the_models_are_there_and_small() -> None:
    assert pretrained() == NAMES
    sizes = {
        name: sum(f.stat().st_size for f in (PRETRAINED / name).rglob("*") if f.is_file())
        for name in NAMES
    }
    assert max(sizes.values()) < 3e6
    assert sum(sizes.values()) < 9e6


@pytest.mark.parametrize("name", NAMES)
def test_each_generates(name: str) -> None:
    samples = load(name).generate(**SHORT[name])
    assert len(samples) == SHORT[name].get("rows", SHORT[name].get("n"))
    if name in ("jsb", "nottingham", "mozart"):
        assert samples[0].dtype == NOTES


@pytest.mark.parametrize("name", NAMES)
def test_each_has_a_card_with_its_origin_and_metrics(name: str) -> None:
    card = (PRETRAINED / name / "README.md").read_text("utf-8")
    for part in ("- Data: ", "- Licence of the data: ", "- Seed: ", "- Command:", "## Test metrics",
                 "## Samples", f'musegen.load("{name}")'):  # fmt: skip
        assert part in card
    assert "/tmp" not in card
