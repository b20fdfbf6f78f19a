"""export, generate, evaluate and list with shared and pretrained models."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tiny_run import tiny_run

import musegen
from musegen.cli.main import main
from musegen.errors import UserError
from musegen.sharing import locate


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_run(tmp_path_factory.mktemp("shared") / "run")


def test_export_writes_a_folder_that_every_command_reads(cli, run: Path, tmp_path: Path) -> None:
    code, out, err = cli(main, "export", f"run={run}", "out=shared", "half=true")
    assert code == 0, err
    shared = tmp_path / "shared"
    files = sorted(p.relative_to(shared).as_posix() for p in shared.rglob("*") if p.is_file())
    assert files == ["README.md", "config.json", "model.safetensors", "samples/samples.txt"]
    assert sorted(out.split()) == sorted(f"shared/{name}" for name in files)

    card = (shared / "README.md").read_text()
    assert "# char_rnn on GrammarStrings" in card
    assert "- Licence of the data: none: the strings are generated" in card
    assert "musegen train model=char_rnn data=anbn" in card
    assert "| Negative log-likelihood (nats) | " in card
    assert "[samples/samples.txt](samples/samples.txt)" in card
    assert str(run) not in card + (shared / "config.json").read_text()

    assert cli(main, "generate", "run=shared", "n=3")[0] == 0
    assert len((shared / "generated" / "samples.txt").read_text().splitlines()) == 3
    code, _, err = cli(main, "evaluate", "run=shared")
    assert code == 0, err
    tested = json.loads((shared / "evaluation.json").read_text())
    before = json.loads((run / "test.json").read_text())
    assert tested["nll"] == pytest.approx(before["nll"], rel=1e-3)  # 16 bits
    assert tested.keys() == before.keys()


def test_a_pretrained_model_is_found_by_its_name(
    cli, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locate, "PRETRAINED", tmp_path / "pretrained")
    monkeypatch.setattr("musegen.cli.export.PRETRAINED", tmp_path / "pretrained")
    monkeypatch.setattr("musegen.cli.list.PRETRAINED", tmp_path / "pretrained")
    assert cli(main, "list", "what=pretrained")[1].splitlines()[1] == "  none"
    assert cli(main, "export", f"run={run}", "out=pretrained/counting")[0] == 0
    assert 'musegen.load("counting")' in (tmp_path / "pretrained/counting/README.md").read_text()
    out = cli(main, "list", "what=pretrained")[1]
    assert "  counting\n      char_rnn on GrammarStrings\n      test: nll " in out

    assert cli(main, "generate", "run=counting", "n=2")[0] == 0
    assert (tmp_path / "generated" / "counting" / "samples.txt").exists()
    assert cli(main, "evaluate", "run=counting")[0] == 0
    assert (tmp_path / "evaluation" / "counting" / "evaluation.json").exists()
    assert musegen.load("counting").name == "char_rnn"
    with pytest.raises(UserError, match=r"run=countin: no such run .* there are these: counting$"):
        musegen.load("countin")

    # A folder of this name is preferred if it holds a run.
    (tmp_path / "counting").mkdir()
    assert locate.locate("counting") == tmp_path / "pretrained" / "counting"
    (tmp_path / "counting" / "checkpoints").mkdir()
    (tmp_path / "counting" / "checkpoints" / "best.ckpt").touch()
    assert locate.locate("counting") == Path("counting/checkpoints/best.ckpt")


def test_a_checkpoint_outside_a_run_folder_cannot_be_exported(
    cli, run: Path, tmp_path: Path
) -> None:
    alone = tmp_path / "a" / "b" / "alone.ckpt"
    alone.parent.mkdir(parents=True)
    alone.write_bytes((run / "checkpoints" / "best.ckpt").read_bytes())
    code, _, err = cli(main, "export", f"run={alone}", "out=x")
    assert code == 1
    assert err.endswith("not in a run folder with a config.yaml, which names the data\n")
    assert not (tmp_path / "x").exists()
