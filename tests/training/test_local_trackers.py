"""MLflow and Trackio: what they recorded is read back through their own clients."""

from __future__ import annotations

import csv
import json
import shutil
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
from conftest import tune
from pytorch_lightning import Callback, Trainer

from musegen.cli import train as train_module
from musegen.errors import UserError
from musegen.render.samples import write_pieces
from musegen.training.loggers import MLflow, Trackio
from musegen.training.loggers.media import MediaLog

mlflow = pytest.importorskip("mlflow")
trackio = pytest.importorskip("trackio")

TINY = ["model=char_rnn", "data=anbn", "model.hidden=4", "data.train_size=20", "data.batch_size=10",
        "data.val_n=[1,3]", "data.count_to=3", "trainer.max_epochs=2",
        "trainer.log_every_n_steps=1"]  # fmt: skip
NAMES = ("train/loss", "val/nll", "test/nll")
Points = dict[str, list[tuple[int, float]]]


class Stopping(Callback):
    """Sends Ctrl-C after the third update."""

    def on_train_batch_end(self, trainer: Trainer, *_: object) -> None:
        if trainer.global_step == 3:
            signal.raise_signal(signal.SIGINT)


STOPPING = "callbacks.stopping._target_=tests.training.test_local_trackers.Stopping"


@pytest.fixture(scope="module")
def new_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database without runs; MLflow takes seconds to make one."""
    folder = tmp_path_factory.mktemp("mlflow")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)  # it makes a folder for artifacts here
        mlflow.MlflowClient(f"sqlite:///{folder}/mlflow.db")
    return folder / "mlflow.db"


@pytest.fixture
def client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, new_database: Path) -> Any:
    """The MLflow client of the database that runs in `tmp_path` write to."""
    monkeypatch.chdir(tmp_path)  # artifacts are below the folder that a run starts from
    shutil.copy(new_database, tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    return mlflow.MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")


def mlflow_runs(client: Any) -> list[Any]:
    (experiment,) = [e for e in client.search_experiments() if e.name == "musegen"]
    return client.search_runs([experiment.experiment_id])


def mlflow_points(client: Any, run: Any) -> Points:
    history = client.get_metric_history
    return {k: [(m.step, m.value) for m in history(run.info.run_id, k)] for k in NAMES}


def trackio_rows(project: str, run: str) -> list[dict[str, Any]]:
    return trackio.SQLiteStorage.get_logs(project, run)


def trackio_points(project: str, run: str) -> Points:
    rows = trackio_rows(project, run)
    return {k: [(row["step"], row[k]) for row in rows if k in row] for k in NAMES}


def csv_points(folder: Path) -> Points:
    with open(folder / "metrics.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    found = {k: [(int(r["step"]), float(r[k])) for r in rows if r.get(k)] for k in NAMES}
    return {k: [(step, pytest.approx(value)) for step, value in v] for k, v in found.items()}


def test_both_record_what_the_table_of_the_run_has(cli, tmp_path: Path, client: Any) -> None:
    folder = tmp_path / "night" / "run"
    code, _, err = cli(
        train_module.main, *TINY, "logger=[csv,mlflow,trackio]", "logger.mlflow.name=first",
        "logger.mlflow.log_model=true", "logger.trackio.project=one", f"hydra.run.dir={folder}",
    )  # fmt: skip
    assert code == 0, err
    expected = csv_points(folder)
    assert len(expected["val/nll"]) == 2
    (run,) = mlflow_runs(client)
    assert (run.info.run_name, run.info.status) == ("first", "FINISHED")
    assert run.data.params["model/hidden"] == "4"
    assert mlflow_points(client, run) == expected
    files = {f.path for f in client.list_artifacts(run.info.run_id, "checkpoints")}
    assert files == {"checkpoints/best.ckpt", "checkpoints/last.ckpt"}
    texts = mlflow.artifacts.load_dict(f"{run.info.artifact_uri}/final/texts.json")
    assert texts["columns"] == ["text"]
    assert len(texts["data"]) == 4

    assert trackio_points("one", "night/run") == expected
    (listed,) = trackio.Api().runs("one")
    assert listed.config["model/hidden"] == 4
    (table,) = [row["final/texts"] for row in trackio_rows("one", "night/run")
                if "final/texts" in row]  # fmt: skip
    assert [row["text"] for row in table["_value"]] == [row[0] for row in texts["data"]]


def test_a_resumed_run_is_one_run(cli, tmp_path: Path, client: Any) -> None:
    folder = tmp_path / "run"
    code, _, err = cli(
        train_module.main, *TINY, "logger=[csv,mlflow,trackio]", "trainer.max_epochs=3",
        "logger.trackio.project=resumed", "logger.trackio.name=tuesday", STOPPING,
        f"hydra.run.dir={folder}",
    )  # fmt: skip
    assert code == 130, err
    (run,) = mlflow_runs(client)
    assert run.info.status == "KILLED"
    code, _, err = cli(train_module.main, f"resume={folder}", "trainer.max_epochs=4")
    assert code == 0, err
    (run,) = mlflow_runs(client)
    assert run.info.status == "FINISHED"
    assert run.data.params["trainer/max_epochs"] == "3"  # as it started
    expected = csv_points(folder)
    assert len(expected["val/nll"]) == 4
    assert mlflow_points(client, run) == expected
    assert trackio_points("resumed", "tuesday") == expected
    assert len(list(trackio.Api().runs("resumed"))) == 1


def test_every_job_of_a_sweep_is_its_own_run(cli, tmp_path: Path, client: Any) -> None:
    code, _, err = cli(
        train_module.main, "-m", *TINY, "logger=[mlflow,trackio]", "model.hidden=2,3",
        "logger.trackio.project=sweep", f"hydra.sweep.dir={tmp_path / 'sweep'}",
    )  # fmt: skip
    assert code == 0, err
    runs = mlflow_runs(client)
    assert sorted(run.info.run_name for run in runs) == ["sweep/0", "sweep/1"]
    assert sorted(run.data.params["model/hidden"] for run in runs) == ["2", "3"]
    assert sorted(run.name for run in trackio.Api().runs("sweep")) == ["sweep/0", "sweep/1"]


@pytest.fixture
def media(tmp_path: Path) -> MediaLog:
    write_pieces([tune(1)], tmp_path / "pieces")
    texts = [("Poland", "a|b"), ("Japan", "aiko")]
    return MediaLog(3, 70, sorted((tmp_path / "pieces").iterdir()), texts)


def test_mlflow_keeps_pictures_sound_scores_and_tables(
    media: MediaLog, tmp_path: Path, client: Any
) -> None:
    (tmp_path / "run").mkdir()
    logger = MLflow(tmp_path / "run", f"sqlite:///{tmp_path}/mlflow.db")
    logger.log_media(media)
    logger.log_media(media._replace(final=True))
    logger.finish(1)
    (run,) = mlflow_runs(client)
    assert run.info.status == "FAILED"
    for moment in ("epoch_3", "final"):
        for kind, name in (("pictures", "00.png"), ("audio", "00.wav"), ("midi", "00.mid")):
            (file,) = client.list_artifacts(run.info.run_id, f"{moment}/{kind}")
            assert file.path == f"{moment}/{kind}/{name}"
        table = mlflow.artifacts.load_dict(f"{run.info.artifact_uri}/{moment}/texts.json")
        assert table == {"columns": ["label", "text"], "data": [list(t) for t in media.texts]}


def test_trackio_keeps_pictures_sound_scores_and_tables(media: MediaLog, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    logger = Trackio(tmp_path / "run", project="media")
    logger.log_media(media)
    logger.log_media(media._replace(final=True))
    logger.finish(0)
    first, second = trackio_rows("media", logger.name)
    assert {k: v["_type"] for k, v in first.items() if isinstance(v, dict)} == {
        "pictures/00": "trackio.image", "audio/00": "trackio.audio", "texts": "trackio.table",
    }  # fmt: skip
    assert first["texts"]["_value"] == [
        {"label": "Poland", "text": "a|b"}, {"label": "Japan", "text": "aiko"},
    ]  # fmt: skip
    assert first["step"] == 70
    assert {"final/pictures/00", "final/audio/00", "final/texts"} <= set(second)
    names = [a["name"] for a in trackio.SQLiteStorage.get_artifacts("media")]
    assert sorted(names) == ["epoch_3-00.mid", "final-00.mid"]


def test_a_server_that_does_not_answer_is_refused_before_training(cli, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    code, _, err = cli(
        train_module.main, *TINY, "logger=mlflow", "logger.mlflow.tracking_uri=http://127.0.0.1:9",
        f"hydra.run.dir={folder}",
    )  # fmt: skip
    assert code != 0
    assert err.strip().endswith("no MLflow server answers there (ConnectionError); start it, or "
                                "correct the address")  # fmt: skip
    assert not (folder / "checkpoints").exists()


@pytest.mark.parametrize(("logger", "package"), [(MLflow, "mlflow"), (Trackio, "trackio")])
def test_a_missing_package_is_named(
    logger: Any, package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.setattr("pytorch_lightning.loggers.mlflow._MLFLOW_AVAILABLE", False)
    with pytest.raises(UserError, match=rf"pip install 'musegen\[{package}\]'"):
        logger(tmp_path)


def test_a_run_that_fails_is_recorded_as_failed(cli, tmp_path: Path, client: Any) -> None:
    code, _, _ = cli(
        train_module.main, *TINY, "logger=mlflow", "optimizer.lr=1e30",
        "trainer.gradient_clip_val=null", f"hydra.run.dir={tmp_path / 'run'}",
    )  # fmt: skip
    assert code != 0
    (run,) = mlflow_runs(client)
    assert run.info.status == "FAILED"
    json.dumps(run.data.metrics)
