"""musegen publish and hf:USER/NAME, with a stand-in for the Hub on the loopback interface."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from conftest import serving
from hub_server import TOKEN, Hub
from tiny_run import tiny_run

import musegen
from musegen.cli.main import main
from musegen.errors import UserError
from musegen.sharing.remote import check_repository

huggingface_hub = pytest.importorskip("huggingface_hub", reason="needs musegen[hub]")


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """The repositories of the stand-in, which is the Hub of this test."""
    handler = type("OwnHub", (Hub,), {"repositories": {}})
    with serving(handler) as address:
        # The library reads these from the environment when it is imported.
        template = address + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", address)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        yield handler.repositories


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_run(tmp_path_factory.mktemp("published") / "run")


def test_a_published_model_can_be_loaded_by_anyone(cli, hub, run: Path, tmp_path: Path) -> None:
    code, out, err = cli(main, "publish", f"run={run}", "to=someone/counting")
    assert code == 0, err
    assert out.splitlines()[-1].endswith("/someone/counting")
    files = hub["someone/counting"]
    assert set(files) == {"README.md", "config.json", "model.safetensors", "samples/samples.txt"}
    card = files["README.md"].decode()
    assert card.startswith("---\nlibrary_name: musegen\n")
    assert 'musegen.load("hf:someone/counting")' in card
    assert "(samples/samples.txt)" in card
    assert json.loads(files["config.json"])["metrics"]["nll"] > 0

    model = musegen.load("hf:someone/counting")
    assert model.generate(2, seed=1) == musegen.load(run).generate(2, seed=1)
    assert cli(main, "generate", "run=hf:someone/counting", "n=2")[0] == 0
    assert (tmp_path / "generated" / "hf-someone-counting" / "samples.txt").exists()


def test_what_the_hub_refuses_is_one_line(
    cli, hub, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UserError, match=r"^hf:someone/nothing: .*Repository Not Found") as e:
        musegen.load("hf:someone/nothing")
    assert "\n" not in str(e.value)
    monkeypatch.setenv("HF_TOKEN", "wrong")
    code, _, err = cli(main, "publish", f"run={run}", "to=someone/x")
    assert code == 1
    assert err.startswith("musegen: to=someone/x: ")
    assert err.count("\n") == 1
    assert "someone/x" not in hub


def test_a_name_without_a_user_is_refused_before_any_work() -> None:
    with pytest.raises(UserError, match="counting: not a repository of the Hub; write USER/NAME"):
        check_repository("counting")
