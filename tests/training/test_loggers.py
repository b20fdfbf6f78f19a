"""The loggers of a run: their files are read back and compared with the run."""

from __future__ import annotations

import csv
import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import pytorch_lightning as pl
from conftest import tune
from omegaconf import OmegaConf
from wandb_file import OfflineRun
from wandb_server import KEY, Server, wandb_server

from musegen.cli import train as train_module
from musegen.errors import UserError
from musegen.render.samples import write_pieces
from musegen.training.loggers.csv_table import CSV
from musegen.training.loggers.media import MediaLog, finishing
from musegen.training.loggers.tensorboard_logger import TensorBoard
from musegen.training.loggers.wandb_logger import WandB

wandb = pytest.importorskip("wandb")
event_accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")

TINY = ["model=char_rnn", "data=anbn", "model.hidden=4", "data.train_size=20", "data.batch_size=10",
        "data.val_n=[1,3]", "data.count_to=3", "trainer.max_epochs=2"]  # fmt: skip
OFFLINE = "logger.wandb.mode=offline"
LATE_ERROR = "the disk is full"
"""The error of a run that fails after training, when it writes samples."""


def fail_late(*_: object) -> None:
    raise UserError(LATE_ERROR)


@pytest.fixture(autouse=True)
def no_wandb_account(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("WANDB_API_KEY", "WANDB_MODE", "WANDB_IDENTITY_TOKEN_FILE"):
        monkeypatch.delenv(name, raising=False)
    for name in ("DATA", "CACHE", "CONFIG"):
        monkeypatch.setenv(f"WANDB_{name}_DIR", str(tmp_path / "wandb-home"))
    monkeypatch.setenv("NETRC", str(tmp_path / "no-netrc"))


@pytest.fixture
def repository(tmp_path: Path) -> str:
    """A git repository in the folder that runs are started from; returns its commit."""

    def git(*arguments: str) -> str:
        command = ["git", "-c", "user.name=n", "-c", "user.email=e", *arguments]
        done = subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True)
        return done.stdout.strip()

    git("init", "-q")
    git("commit", "-q", "--allow-empty", "-m", "one")
    return git("rev-parse", "HEAD")


def test_an_offline_run_records_everything(cli, tmp_path: Path, repository: str) -> None:
    folder = tmp_path / "run"
    code, _, err = cli(
        train_module.main, *TINY, "logger=[csv,tensorboard,wandb]", OFFLINE,
        "logger.wandb.project=counting", "logger.wandb.entity=me", "logger.wandb.group=night",
        "logger.wandb.tags=[small,anbn]", "logger.wandb.name=first",
        "logger.wandb.notes=as a test", "logger.wandb.log_model=true", f"hydra.run.dir={folder}",
    )  # fmt: skip
    assert code == 0, err
    offline = OfflineRun(folder)
    run = offline.run
    assert (run.project, run.entity, run.run_group) == ("counting", "me", "night")
    assert (run.display_name, run.notes) == ("first", "as a test")
    assert sorted(run.tags) == ["anbn", "small"]
    assert run.git.commit == repository
    assert offline.environment.python.split()[1] == ".".join(map(str, sys.version_info[:3]))
    resolved = OmegaConf.to_container(OmegaConf.load(folder / "config.yaml"))
    assert {key: offline.config[key] for key in resolved} == resolved
    assert offline.exit_codes == [0]

    with open(folder / "metrics.csv", newline="") as table:
        rows = list(csv.DictReader(table))
    board = event_accumulator.EventAccumulator(str(folder / "tensorboard")).Reload()
    for name in ("train/loss", "val/nll", "test/nll"):
        expected = [(int(r["step"]), float(r[name])) for r in rows if r.get(name)]
        assert len(expected) == (1 if name == "test/nll" else 2)
        assert offline.column(name) == [(s, pytest.approx(v)) for s, v in expected]
        shown = [(e.step, e.value) for e in board.Scalars(name)]
        assert shown == [(s, pytest.approx(v)) for s, v in expected]

    assert offline.column("final/texts.nrows") == [(4, 4)]
    assert "final/texts/text_summary" in board.Tags()["tensors"]

    (model,) = [a for a in offline.artifacts if a.type == "model"]
    assert sorted(c.path for c in model.manifest.contents) == ["best.ckpt", "last.ckpt"]


def test_every_job_of_a_sweep_is_its_own_wandb_run(cli, tmp_path: Path) -> None:
    sweep = tmp_path / "sweep"
    code, _, err = cli(
        train_module.main, "-m", *TINY, "logger=wandb", OFFLINE, "model.hidden=2,3",
        f"hydra.sweep.dir={sweep}",
    )  # fmt: skip
    assert code == 0, err
    jobs = [OfflineRun(sweep / job) for job in "01"]
    assert [job.config["model"]["hidden"] for job in jobs] == [2, 3]
    assert [job.run.display_name for job in jobs] == ["sweep/0", "sweep/1"]
    assert [job.exit_codes for job in jobs] == [[0], [0]]
    assert jobs[0].run.run_id != jobs[1].run.run_id


class Stopping(pl.Callback):
    """Sends Ctrl-C after the given number of updates."""

    def __init__(self, updates: int) -> None:
        self.updates = updates

    def on_train_batch_end(self, trainer: pl.Trainer, *_: object) -> None:
        if trainer.global_step == self.updates:
            signal.raise_signal(signal.SIGINT)


def test_a_resumed_run_is_one_run_with_every_step_once(cli, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    code, _, err = cli(
        train_module.main, *TINY, "logger=[csv,wandb]", OFFLINE, "trainer.max_epochs=3",
        "trainer.log_every_n_steps=1", "callbacks.stopping.updates=3",
        "callbacks.stopping._target_=tests.training.test_loggers.Stopping",
        f"hydra.run.dir={folder}",
    )  # fmt: skip
    assert code == 130, err
    code, _, err = cli(train_module.main, f"resume={folder}")
    assert code == 0, err
    parts = [OfflineRun(folder, part, 2) for part in (0, 1)]
    assert parts[0].run.run_id == parts[1].run.run_id
    assert [part.exit_codes for part in parts] == [[130], [0]]
    with open(folder / "metrics.csv", newline="") as table:
        rows = list(csv.DictReader(table))
    for name in ("train/loss", "val/nll", "test/nll"):
        expected = [(int(r["step"]), pytest.approx(float(r[name]))) for r in rows if r[name]]
        assert len(expected) == (1 if name == "test/nll" else 3)
        assert [row for part in parts for row in part.column(name)] == expected
    assert all(part.history for part in parts)


def test_a_full_disk_gives_one_line(tmp_path: Path) -> None:
    logger = CSV(tmp_path)
    logger.log_metrics({"loss": 1.0}, 1)
    logger.save()
    (tmp_path / "metrics.csv").unlink()
    (tmp_path / "metrics.csv").symlink_to("/dev/full")
    logger.log_metrics({"loss": 2.0}, 2)
    with pytest.raises(
        UserError, match=r"metrics.csv: cannot be written \(No space left on device"
    ):
        logger.save()


def test_a_wandb_run_continues_in_its_folder_only(tmp_path: Path) -> None:
    first = WandB(tmp_path / "a", mode="offline")
    first_id = first.experiment.id
    first.finish(0)
    again, other = (WandB(tmp_path / name, mode="offline") for name in "ab")
    assert again.version == first_id
    assert other.version is None


def test_a_failed_run_records_its_exit_code(cli, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(train_module, "sample", fail_late)
    code, _, err = cli(
        train_module.main, *TINY, "logger=wandb", OFFLINE,
        f"hydra.run.dir={tmp_path}/run",
    )  # fmt: skip
    assert code == 1
    assert err.splitlines()[-1] == f"musegen: {LATE_ERROR}"
    assert OfflineRun(tmp_path / "run").exit_codes == [1]


@pytest.mark.parametrize(
    ("end", "exit_code"), [(None, 0), (ZeroDivisionError, 1), (KeyboardInterrupt, 130)]
)
def test_the_exit_code_is_passed_to_wandb(monkeypatch, tmp_path: Path, end, exit_code: int) -> None:
    codes: list[int] = []
    monkeypatch.setattr(WandB, "finish", lambda self, code: codes.append(code))

    def run_until_end() -> None:
        with finishing([WandB(tmp_path, mode="offline")]):
            if end:
                raise end

    if end:
        with pytest.raises(end):
            run_until_end()
    else:
        run_until_end()
    assert codes == [exit_code]


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A W&B server that accepts the key in the environment; wandb has to read it again."""
    with wandb_server() as server:
        monkeypatch.setenv("WANDB_BASE_URL", server.address)
        monkeypatch.setenv("WANDB_API_KEY", KEY)
        wandb.teardown()
        yield server
        wandb.teardown()


def test_online_with_a_key(cli, tmp_path: Path, server: Server, monkeypatch) -> None:
    """Everything from login to the exit code, also that of a failed run."""
    code, out, err = cli(
        train_module.main, *TINY, "logger=wandb", "logger.wandb.project=counting",
        "logger.wandb.entity=me", "logger.wandb.group=night", "logger.wandb.tags=[small,anbn]",
        "logger.wandb.notes=as a test", "logger.wandb.log_model=true",
        f"hydra.run.dir={tmp_path}/runs/first",
    )  # fmt: skip
    assert code == 0, err
    # The last line, after all that W&B prints.
    assert out.splitlines()[-1] == f"report file://{tmp_path}/runs/first/report.html"
    (run,) = server.runs
    recorded = {
        k: run[k] for k in ("project", "entity", "groupName", "tags", "notes", "displayName")
    }
    assert recorded == {
        "project": "counting", "entity": "me", "groupName": "night", "tags": ["small", "anbn"],
        "notes": "as a test", "displayName": "runs/first",
    }  # fmt: skip
    assert json.loads(run["config"])["model"]["value"]["hidden"] == 4
    (nll,) = [row["test/nll"] for row in server.history if "test/nll" in row]
    assert nll == json.loads((tmp_path / "runs" / "first" / "test.json").read_text())["nll"]
    assert set(server.artifacts["checkpoints"]) == {"latest", "final"}
    assert any("final/texts" in str(row) for row in server.history)
    assert server.exit_codes == [0]

    monkeypatch.setattr(train_module, "sample", fail_late)
    code, _, err = cli(
        train_module.main,
        *TINY,
        "logger=wandb",
        f"hydra.run.dir={tmp_path}/second",
    )
    assert code == 1
    assert err.splitlines()[-1] == f"musegen: {LATE_ERROR}"
    assert server.exit_codes == [0, 1]


def test_a_wrong_key_gives_one_line(cli, monkeypatch, server: Server) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "1" * 40)
    code, _, err = cli(train_module.main, "data=midi_folder", "logger=wandb")
    assert code == 1
    (line,) = [line for line in err.splitlines() if line.startswith("musegen:")]
    assert "who are you?" in line
    assert line.endswith("check WANDB_API_KEY and the network, or write logger.wandb.mode=offline")


def test_an_offline_run_can_be_uploaded(tmp_path: Path, server: Server) -> None:
    logger = WandB(tmp_path / "run", mode="offline", project="counting", entity="me")
    logger.log_metrics({"val/nll": 1.5}, 3)
    logger.finish(7)
    OfflineRun(tmp_path / "run")  # its file is complete now
    (folder,) = (tmp_path / "run" / "wandb").glob("offline-run-*")
    sync = [sys.executable, "-m", "wandb", "sync", str(folder)]
    done = subprocess.run(sync, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert [run["project"] for run in server.runs] == ["counting"]
    assert [row["val/nll"] for row in server.history] == [1.5]
    assert server.exit_codes == [7]


def test_without_a_key_one_line_comes_before_any_work(cli) -> None:
    # If the data were read first, the error would name their missing folder.
    code, _, err = cli(train_module.main, "data=midi_folder", "logger=wandb")
    assert code == 1
    assert err.strip() == (
        "musegen: logger.wandb: no API key; set WANDB_API_KEY, run `wandb login`, or write "
        "logger.wandb.mode=offline"
    )


@pytest.mark.parametrize(
    ("name", "flags"),
    [
        ("wandb", ["pytorch_lightning.loggers.wandb._WANDB_AVAILABLE"]),
        (
            "tensorboard",
            [
                "lightning_fabric.loggers.tensorboard._TENSORBOARD_AVAILABLE",
                "lightning_fabric.loggers.tensorboard._TENSORBOARDX_AVAILABLE",
            ],
        ),
    ],
)
def test_a_missing_package_gives_one_line(cli, monkeypatch, name: str, flags: list[str]) -> None:
    for flag in flags:
        monkeypatch.setattr(flag, False)
    code, _, err = cli(train_module.main, "data=midi_folder", f"logger={name}")
    assert code == 1
    assert err.startswith(f"musegen: logger.{name}: ")
    assert len(err.strip().splitlines()) == 1


@pytest.fixture
def media(tmp_path: Path) -> MediaLog:
    write_pieces([tune(1)], tmp_path / "pieces")
    texts = [("Poland", "a|b\nc"), ("Japan", "aiko")]
    return MediaLog(3, 70, sorted((tmp_path / "pieces").iterdir()), texts)


def test_wandb_shows_picture_sound_table_and_score(media: MediaLog, tmp_path: Path) -> None:
    logger = WandB(tmp_path, mode="offline")
    logger.log_media(media)
    logger.finish(0)
    offline = OfflineRun(tmp_path)
    assert offline.column("pictures/00._type") == [(70, "image-file")]
    assert offline.column("audio/00._type") == [(70, "audio-file")]
    assert offline.column("texts.nrows") == [(70, 2)]
    (midi,) = [a for a in offline.artifacts if a.type == "samples"]
    assert [c.path for c in midi.manifest.contents] == ["00.mid"]
    assert "epoch_3" in midi.aliases


def test_final_samples_have_other_names_than_previews(media: MediaLog, tmp_path: Path) -> None:
    logger = WandB(tmp_path, mode="offline")
    for one in (media, media._replace(final=True)):
        logger.log_media(one)
    logger.finish(0)
    offline = OfflineRun(tmp_path)
    for kind in ("pictures/00._type", "audio/00._type", "texts.nrows"):
        assert len(offline.column(kind)) == len(offline.column(f"final/{kind}")) == 1
    aliases = [set(a.aliases) for a in offline.artifacts if a.type == "samples"]
    assert [("epoch_3" in a, "final" in a) for a in aliases] == [(True, False), (False, True)]


def test_tensorboard_shows_picture_sound_and_table(media: MediaLog, tmp_path: Path) -> None:
    logger = TensorBoard(tmp_path)
    logger.log_media(media)
    logger.finalize("success")
    board = event_accumulator.EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    (picture,), (sound,) = board.Images("pictures/00"), board.Audio("audio/00")
    assert (picture.step, sound.step) == (70, 70)
    assert picture.encoded_image_string.startswith(b"\x89PNG")
    written = (tmp_path / "pieces" / "00.wav").read_bytes()
    logged, original = (np.frombuffer(b[44:], "<i2") for b in (sound.encoded_audio_string, written))
    assert np.abs(logged.astype(int) - original).max() <= 1
    (text,) = board.Tensors("texts/text_summary")
    assert text.tensor_proto.string_val[0].decode().splitlines() == [
        "| label | text |", "| --- | --- |", "| Poland | a\\|b<br>c |", "| Japan | aiko |"
    ]  # fmt: skip
