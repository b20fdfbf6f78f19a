"""`musegen train … --help`: every setting with its type, its default and one explanation."""

from __future__ import annotations

import inspect
import re

import pytest
from omegaconf import OmegaConf

from musegen.cli import train
from musegen.cli.main import main
from musegen.cli.train_help import sections
from musegen.cli.usage import section_text
from musegen.config.explanations import explanations, google_items, items
from musegen.config.groups import config_choices
from musegen.config.overrides import compose_config, with_search_path
from musegen.config.signatures import parameters_of

CHOICES = [(g, n) for g in ("model", "data", "optimizer", "trainer") for n in config_choices(g)]
NOT_SETTINGS = {"spec", "logger", "callbacks", "default_root_dir", "start_ND"}


def listed(out: str, setting: str) -> list[str]:
    """The lines of a setting in the help: name, type and default; then its explanation."""
    lines = out.splitlines()
    (first,) = [i for i, line in enumerate(lines) if line.startswith(f"  {setting}  ")]
    following = range(first + 1, len(lines))
    end = next((i for i in following if not lines[i].startswith("      ")), len(lines))
    return lines[first:end]


@pytest.mark.parametrize(("group", "name"), CHOICES)
def test_every_setting_of_every_choice_is_explained(group: str, name: str) -> None:
    settings = OmegaConf.to_container(compose_config([f"{group}={name}"]), resolve=False)
    shown = [s for s in sections(settings) if s.prefix.split(".")[0] == group]
    if group == "model":  # the settings of generate and assess are those of the model
        shown += [s for s in sections(settings) if s.prefix in ("sample.", "preview.", "assess.")]
    for section in shown:
        out = section_text(section) + "\n"
        for setting, parameter in parameters_of(section.function)[0].items():
            if setting in NOT_SETTINGS | set(section.without):
                continue
            assert parameter.kind is not parameter.VAR_KEYWORD
            first, *explanation = listed(out, section.prefix + setting)
            assert re.fullmatch(r"  \S+  \S.*, (default .*|required)", first), first
            assert explanation, f"{section.prefix}{setting} has no explanation"


def test_the_help_of_a_model_and_a_data_set(cli) -> None:
    code, out, err = cli(main, "train", "model=rnn_rbm", "data=jsb", "model.hidden=33", "--help")
    assert (code, err) == (0, "")
    assert listed(out, "model.hidden")[0] == "  model.hidden  integer ≥ 1, default 33"
    assert listed(out, "data.dt") == [
        "  data.dt  number, default 0.5",
        "      the seconds of a frame when it is played; the rolls have no tempo.",
    ]
    # Not the default of the constructor, but what conf/optimizer/adamw.yaml says.
    assert listed(out, "optimizer.lr")[0] == "  optimizer.lr  number > 0, default 0.003"
    assert listed(out, "callbacks.pretraining.rbm_epochs")[0].endswith("default 100")
    assert listed(out, "sample.ais_steps")[1].startswith("      if above 0")
    assert listed(out, "seed") == [
        "  seed  default 1",
        "      Of the weights, the order of the data and all other random numbers.",
    ]
    assert "examples:\n  musegen train " in out


def test_the_help_lists_the_settings_of_the_codec(cli) -> None:
    _, out, _ = cli(train.main, "data=mozart", "data.codec.time_bins=8", "-h")
    expected = "integer ≥ 2, ≤ 10000 or null, default 8"
    assert listed(out, "data.codec.time_bins")[0].endswith(expected)


def test_the_help_of_a_misspelt_choice_is_one_line(cli) -> None:
    code, out, err = cli(train.main, "model=rnn_rmb", "--help")
    assert (code, out) == (1, "")
    assert err == "musegen: model=rnn_rmb: no such model config; did you mean rnn_rbm?\n"


def test_help_reads_a_config_folder_of_ones_own(cli, tmp_path) -> None:
    (tmp_path / "my conf" / "optimizer").mkdir(parents=True)
    (tmp_path / "my conf" / "optimizer" / "mine.yaml").write_text(
        "_target_: musegen.training.optimizer.Optimizer\nlr: 0.25\n"
    )
    code, out, err = cli(train.main, "--config-dir=my conf", "optimizer=mine", "--help")
    assert (code, err) == (0, "")
    assert listed(out, "optimizer.lr")[0].endswith("default 0.25")
    assert with_search_path(["-cd", "/a", "x=1"]) == ["hydra.searchpath=['file:///a']", "x=1"]


def test_items_of_a_docstring() -> None:
    docstring = """One line.

    - n: how many,
      in all.
    - top_k, top_p: limits: of both kinds. seed: of the draw; rows: ignored.
    - note: not a setting

    - not an item
    """
    names = {"n", "top_k", "top_p", "seed"}
    assert items(inspect.cleandoc(docstring), names) == {
        "n": "how many, in all.",
        "top_k": "limits: of both kinds.",
        "top_p": "limits: of both kinds.",
        "seed": "of the draw; rows: ignored.",
    }


def test_google_items_of_a_docstring() -> None:
    docstring = "X.\n\nArgs:\n    a: First ``line``\n        of a. More of a.\n\n    b: B.\n"
    assert google_items(docstring, {"a", "b"}) == {"a": "First line of a.", "b": "B."}


def test_a_class_explains_its_settings_before_its_base_class_does() -> None:
    class Base:
        """Base.

        - a: of the base. b: of the base.
        """

        def __init__(self, a: int, b: int, seed: int) -> None: ...

    class Sub(Base):
        """Sub.

        - b: of the subclass.
        """

    found = explanations(Sub, {"a", "b", "seed"})
    assert (found["a"], found["b"]) == ("of the base.", "of the subclass.")
    assert found["seed"].startswith("of the random numbers")
