"""The server, asked over HTTP: models, work, files, and what it refuses."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from studio_server import Client, studio, wait_for

from musegen.codecs.midi import read_notes
from musegen.models.rbm import RBM
from musegen.render.waveform import RATE
from musegen.sharing.folder import write_model
from musegen.sharing.locate import load
from musegen.specs import Frames
from musegen.studio.models import Catalogue
from musegen.studio.session import laid_out
from musegen.studio.wire import notes_of, packed, rows_of, unpacked

MELODY = [[0.0, 0.5, 67, 80], [0.5, 1.0, 69, 90], [1.0, 2.0, 71, 70]]


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    folder = tmp_path_factory.mktemp("studio")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        write_model(RBM(Frames(16), hidden=6), folder / "small")
    with studio(folder, run=str(folder / "small")) as client:
        yield client


def test_it_lists_the_pretrained_models_and_the_given_run(client: Client) -> None:
    models = {m["key"]: m for m in client.get("/api/models").json["models"]}
    assert next(iter(models)) == "run"
    assert models["run"]["kind"] == "frames"
    kinds = {key: models[key]["kind"] for key in ("jsb", "mozart", "names18", "counting")}
    assert kinds == {"jsb": "music", "mozart": "music", "names18": "text", "counting": "text"}


def test_a_model_offers_its_own_settings_without_paths(client: Client) -> None:
    settings = {s["name"]: s for s in client.get("/api/models/mozart").json["settings"]}
    assert settings["top_p"] == {
        "name": "top_p", "default": 0.85, "kind": "number", "whole": False,
        "above": 0.0, "max": 1.0,
        "text": "draw from the fewest classes with this total probability only; 1 draws from all.",
    }  # fmt: skip
    assert settings["n"]["max"] == 8
    assert not {"prime", "prime_seconds", "include_prime", "label"} & set(settings)
    assert "top_p" not in {s["name"] for s in client.get("/api/models/jsb").json["settings"]}
    assert client.get("/api/models/none").json == {
        "message": "model=none: not in the list of models; reload the page"
    }


def test_generating_streams_what_the_model_generates(client: Client) -> None:
    body = {"model": "jsb", "settings": {"n": 2, "length": 24, "seed": 5}}
    answer = client.post("generate", body)
    assert answer.headers["content-type"].startswith("text/event-stream")
    pieces = answer.last[1]["pieces"]
    expected = load("jsb").generate(n=2, length=24, seed=5)
    assert [notes_of(p).tolist() for p in pieces] == [np.asarray(e).tolist() for e in expected]
    progress = [data for name, data in answer.events if name == "progress"]
    assert progress
    assert all(len(p["pieces"]) == 2 and 0 < p["fraction"] <= 1 for p in progress)


@pytest.mark.parametrize("model", ["jsb", "mozart"])
def test_a_length_in_seconds(client: Client, model: str) -> None:
    body = {"model": model, "settings": {"n": 1, "seed": 1}, "seconds": 6.0, "tempo": 100}
    (piece,) = client.done("generate", body)["pieces"]
    notes = notes_of(piece)
    assert 4.0 < notes["end"].max() <= 6.0
    assert client.done("generate", body)["pieces"] == [piece]


@pytest.mark.parametrize("model", ["jsb", "mozart"])
def test_a_continuation_keeps_the_notes_and_begins_after_them(client: Client, model: str) -> None:
    body = {
        "model": model, "settings": {"n": 1, "seed": 2}, "notes": MELODY, "seconds": 4.0,
        "tempo": 90.0,
    }  # fmt: skip
    result = client.done("generate", body)
    (piece,) = result["pieces"]
    assert piece[:3] == MELODY
    assert result["cut"] == pytest.approx(2.0, abs=0.35)
    new = notes_of(piece[3:])
    assert len(new) > 3
    assert new["start"].min() >= result["cut"] - 1e-6
    assert new["end"].max() <= result["cut"] + 4.0 + 1e-6
    assert not list(client.folder.parent.glob("kept/.scratch*"))


def test_a_continuation_is_in_the_key_and_tempo_of_its_notes(client: Client) -> None:
    scale = [(i * 0.4, i * 0.4 + 0.4, p, 80) for i, p in enumerate((66, 68, 70, 71, 73, 70, 66))]
    base = np.array([tuple(row) for row in scale])
    raised = base + np.array([0, 0, 2, 0])
    slow = base * [2, 2, 1, 1]
    settings = {"n": 1, "length": 12, "seed": 3}

    def continued(rows: Any, tempo: float) -> np.ndarray:
        body = {"model": "jsb", "settings": settings, "notes": rows.tolist(), "tempo": tempo}
        return np.array(client.done("generate", body)["pieces"][0][7:])

    first = continued(base, 150)
    assert np.allclose(continued(raised, 150), first + np.array([0, 0, 2, 0]))
    assert np.allclose(continued(slow, 75), first * [2, 2, 1, 1])


@pytest.mark.parametrize(
    ("path", "body", "line"),
    [
        ("generate", {"model": "jsb", "settings": {"n": 9}}, "n=9: the studio allows at most 8"),
        ("generate", {"model": "jsb", "settings": {"length": 5000}}, "length=5000: the studio"),
        ("generate", {"model": "jsb", "settings": {"prime": "/etc/passwd"}}, "prime: biaxial_lstm"),
        ("generate", {"model": "jsb", "settings": {"temperature": 0}}, "generate.temperature=0"),
        ("generate", {"model": "/tmp/x.ckpt", "settings": {}}, "model=/tmp/x.ckpt: not in the"),
        ("generate", {"model": "names18", "settings": {}}, "model=names18: a model of text"),
        ("generate", {"model": "jsb", "settings": {"n": 8, "particles": 8}}, "n=8, particles=8"),
        (
            "generate",
            {"model": "jsb", "settings": {}, "notes": [[0, 1, 2, 3]]},
            "no note is within",
        ),
        ("generate", {"model": "mozart", "settings": {}, "notes": [[0, 1, 2, 3]]}, "no note is"),
        ("letters", {"model": "counting", "text": "x"}, "'x' is not one of the symbols '01'"),
        ("dissect", {"model": "names18", "string": "a"}, "256 units are too many"),
        ("gibbs", {"model": "jsb", "visible": ""}, "model=jsb: a model of music"),
        ("gibbs", {"model": "run", "visible": "AAAA"}, "visible: has 3 bytes"),
    ],
)
def test_work_that_cannot_be_done_says_why_in_one_line(
    client: Client, path: str, body: dict[str, Any], line: str
) -> None:
    name, data = client.post(path, body).last
    assert name == "error"
    assert data["message"].startswith(line)
    assert "\n" not in data["message"]


@pytest.mark.parametrize(
    ("path", "body", "line"),
    [
        ("generate", b"{", "the request should be a JSON object"),
        ("generate", b"[" * 100_000, "the request should be a JSON object"),
        ("generate", [], "the request should be a JSON object"),
        ("generate", {"settings": {}}, "generate: missing model"),
        (
            "generate",
            {"model": "jsb", "settings": {}, "seconds": 1e9},
            "generate.seconds=1000000000",
        ),
        ("generate", {"model": "jsb", "settings": {}, "out": "/tmp"}, "generate.out: no such"),
        ("keep", {"notes": MELODY, "format": "../x"}, "keep.format=../x: should be"),
        ("keep", {"notes": [[0, 1, 200, 1]], "format": "mid"}, "notes: [0, 1, 200, 1] should be"),
    ],
)
def test_requests_that_are_not_valid_are_refused(
    client: Client, path: str, body: Any, line: str
) -> None:
    answer = client.post(path, body)
    assert answer.status == 400
    assert answer.json["message"].startswith(line), answer.json


def test_nobody_else_is_answered(client: Client) -> None:
    assert client.get("/", Host="evil.example").status == 403
    assert client.get("/api/models", Origin="http://evil.example").status == 403
    assert client.post("keep", {}, Sec_Fetch_Site="cross-site").status == 403
    page = client.get("/", Origin=client.address)
    assert page.status == 200
    assert "script-src 'self'" in page.headers["content-security-policy"]


def test_no_file_outside_the_page_is_sent(client: Client) -> None:
    for path in (
        "/../server.py",
        "/%2e%2e/server.py",
        "/..%2fserver.py",
        "//etc/passwd",
        "/kept/x.mid",
    ):
        answer = client.get(path)
        assert answer.status in (400, 404)
    assert client.get("/app.js").headers["content-type"].startswith("text/javascript")
    assert b"--accent" in client.get("/report.css").body
    assert b"export { instrument, fadeIn, ready, tone };" in client.get("/piano.js").body


def test_large_requests_are_refused(client: Client) -> None:
    answer = client.post("open", bytes(5_000_001))
    assert answer.status == 413
    assert answer.body == b"a request may have at most 5 MB"


@pytest.mark.parametrize("suffix", ["mid", "wav", "musicxml", "png"])
def test_kept_files_hold_the_piece(client: Client, suffix: str, tmp_path: Path) -> None:
    kept = client.done("keep", {"notes": MELODY, "format": suffix, "tempo": 120})
    answer = client.get(f"/kept/{kept['name']}")
    content = answer.body
    assert answer.headers["content-disposition"] == f'attachment; filename="{kept["name"]}"'
    assert (client.folder / kept["name"]).read_bytes() == content
    path = tmp_path / kept["name"]
    path.write_bytes(content)
    if suffix == "mid":
        assert rows_of(read_notes(path)) == MELODY
    elif suffix == "wav":
        sound, rate = soundfile.read(path)
        assert rate == RATE
        assert len(sound) / rate == pytest.approx(2.3, abs=0.01)
        assert 0.85 < np.abs(sound).max() <= 0.91
    elif suffix == "png":
        assert content.startswith(b"\x89PNG")
    else:
        from music21 import converter

        score = converter.parse(path)
        assert [p.midi for n in score.recurse().notes for p in n.pitches] == [67, 69, 71]


def test_a_midi_file_is_opened(client: Client) -> None:
    kept = client.done("keep", {"notes": MELODY, "format": "mid", "tempo": 96})
    opened = client.done("open", client.get(f"/kept/{kept['name']}").body)
    assert opened["tempo"] == pytest.approx(96, abs=0.01)
    assert np.allclose(opened["notes"], MELODY, atol=2e-3)
    assert client.post("open", b"nonsense").last[1]["message"].startswith("this file: not a read")


def test_leaving_stops_the_work(client: Client) -> None:
    connection = client.connection()
    body = {"model": "mozart", "settings": {"n": 8, "length": 4096}}
    connection.request("POST", "/api/generate", json.dumps(body))
    response = connection.getresponse()
    assert response.readline().startswith(b"event: ")
    started = time.monotonic()
    response.close()
    connection.close()
    client.done("letters", {"model": "counting", "text": "01"})  # the next in the queue
    assert time.monotonic() - started < 60


def test_fifty_requests_at_once(client: Client) -> None:
    body = {"model": "jsb", "settings": {"n": 1, "length": 30}}
    with ThreadPoolExecutor(50) as pool:
        answers = [pool.submit(client.post, "generate", body) for _ in range(50)]
        wait_for(lambda: any(a.done() for a in answers))
        assert client.get("/api/models").status == 200  # while others are waiting
        found = [a.result() for a in answers]
    refused = [a for a in found if a.status == 503]
    assert {a.status for a in found} == {200, 503}
    assert all("requests are waiting already; try again soon" in a.json["message"] for a in refused)
    done = [a.last for a in found if a.status == 200]
    assert {name for name, _ in done} == {"done"}
    assert len({json.dumps(data) for _, data in done}) == 1


def test_texts_and_their_letters(client: Client) -> None:
    settings = {"n": 3, "label": "Japanese", "seed": 1}
    texts = client.done("texts", {"model": "names18", "settings": settings})["texts"]
    assert texts == [list(pair) for pair in load("names18").generate(**settings)]
    label, text = texts[0]
    steps = client.done("letters", {"model": "names18", "text": text, "label": label})["steps"]
    assert [s["character"] for s in steps] == [*text, "end"]
    model = load("names18")
    row = model.codec.encode(text)
    ((nll_T, _),) = model.read([row], [model.codec.label_class(label)])
    assert np.allclose([-np.log(s["probability"]) for s in steps], nll_T, atol=1e-4)
    for step in steps:
        values = [p for _, p in step["likeliest"]]
        assert values == sorted(values, reverse=True)
        assert sum(values) <= 1 + 1e-6


def test_a_counting_network_is_looked_into(client: Client) -> None:
    found = client.done("dissect", {"model": "counting", "string": "000111"})
    assert found["read"] == ["start", *"000111"]
    assert found["likeliest"][-1] == "end"
    assert found["legal"][0] == ["0"]
    assert found["legal"][4:] == [["1"], ["1"], ["end"]]
    assert set(found["units"]) == {"h", "c", "i", "f", "o", "g"}
    assert "legal" not in client.done("dissect", {"model": "counting", "string": "10"})


def test_an_rbm_answers_with_its_chain_and_its_filters(client: Client) -> None:
    model = load(client.folder.parent / "small")
    v = np.tile([0.0, 1.0], 8)
    body = {"model": "run", "visible": packed(v), "steps": 0, "seed": 1}
    at_rest = client.done("gibbs", body)
    assert (unpacked(at_rest["visible"], 16) == v).all()
    with torch.no_grad():
        p_H = model.hidden_means(torch.tensor(v, dtype=torch.float32)[None])[0].numpy()
    assert np.allclose(unpacked(at_rest["hidden"], 6), p_H, atol=0.003)
    moved = client.done("gibbs", body | {"steps": 3})
    assert moved == client.done("gibbs", body | {"steps": 3})
    assert set(unpacked(moved["visible"], 16)) <= {0.0, 1.0}
    others = [client.done("gibbs", body | {"steps": 3, "number": i})["visible"] for i in range(9)]
    assert len(set(others)) > 3
    filters = unpacked(client.get("/api/models/run/filters").json["filters"], 6 * 16)
    weights = model.filters()
    expected = 0.5 + 0.5 * weights / np.abs(weights).max(1, keepdims=True)
    assert np.allclose(filters.reshape(6, 16), expected, atol=0.003)


def test_runs_of_a_folder_are_in_the_list(tmp_path: Path) -> None:
    run = tmp_path / "runs" / "sweep" / "one"
    (run / "checkpoints").mkdir(parents=True)
    config = {
        "model": {"_target_": "musegen.models.rbm.RBM"},
        "data": {"_target_": "datamodules.mnist_5k.MNIST5k"},
    }
    (run / "config.yaml").write_text(json.dumps(config))
    catalogue = Catalogue(None, tmp_path / "runs")
    assert "runs:sweep/one" not in {e.key for e in catalogue.entries()}  # it has no checkpoint
    (run / "checkpoints" / "best.ckpt").touch()
    entry = catalogue.entry("runs:sweep/one")
    assert (entry.name, entry.kind) == ("one", "frames")


def test_a_given_pretrained_model_is_the_first(tmp_path: Path) -> None:
    assert Catalogue("mozart", tmp_path).entries()[0].key == "mozart"


@pytest.mark.parametrize("model", ["jsb", "mozart"])
def test_a_region_is_rewritten_and_the_rest_stays(client: Client, model: str) -> None:
    settings = {"n": 1, "seed": 4}
    body = {"model": model, "settings": settings, "seconds": 4.8, "tempo": 100}
    (piece,) = client.done("generate", body)["pieces"]
    region = {"start": 1.2, "end": 3.0, "low": 0, "high": 127}
    request = {"model": model, "notes": piece, "tempo": 100, "n": 2, "sweeps": 0, **region}
    first, second = client.done("rewrite", request)["pieces"]

    def outside(rows: list[list[float]]) -> list[list[float]]:
        return [row for row in rows if not 1.2 - 1e-6 <= row[0] < 3.0 - 1e-6]

    def inside(rows: list[list[float]]) -> list[list[float]]:
        return [row for row in rows if 1.2 - 1e-6 <= row[0] < 3.0 - 1e-6]

    for new in (first, second):
        assert [row for row in outside(piece) if row not in outside(new)] == []
        ends = [row for row in outside(new) if row not in outside(piece)]
        assert {row[0] for row in ends} <= {3.0}  # of notes that began in the region
        assert inside(new) != inside(piece)
    assert inside(first) != inside(second)
    assert client.done("rewrite", request)["pieces"] == [first, second]


def test_harmonising_keeps_the_melody(client: Client) -> None:
    melody = [[i * 0.5, i * 0.5 + 0.5, p, 80] for i, p in enumerate((72, 74, 76, 77, 76, 74, 72))]
    request = {"model": "jsb", "notes": melody, "start": 0, "end": 3.5, "keep": "melody"}
    (piece,) = client.done("rewrite", request | {"sweeps": 1})["pieces"]
    assert [row for row in melody if row not in piece] == []
    added = [row for row in piece if row not in melody]
    assert len(added) > 5
    for start, _, pitch, _ in added:
        (above,) = [row[2] for row in melody if row[0] <= start + 1e-6 < row[1]]
        assert pitch < above


def test_a_variation_keeps_the_strong_beats(client: Client) -> None:
    body = {"model": "jsb", "settings": {"n": 1, "seed": 6}, "seconds": 4.0}
    (piece,) = client.done("generate", body)["pieces"]
    request = {"model": "jsb", "notes": piece, "start": 0, "end": 4, "weak_beats": True, "n": 2}
    one, other = client.done("rewrite", request | {"sweeps": 1})["pieces"]

    def sounding(rows: list[list[float]], weak: bool) -> list[list[float]]:
        frames = np.arange(0.25, 4, 0.5)[int(weak) :: 2]
        return [sorted(row[2] for row in rows if row[0] < t < row[1]) for t in frames]

    for varied in (one, other):
        assert sounding(varied, weak=False) == sounding(piece, weak=False)
    assert len({str(sounding(rows, weak=True)) for rows in (piece, one, other)}) == 3


def test_surprise_is_what_the_model_computes(client: Client) -> None:
    notes = [[i * 0.5, i * 0.5 + 0.5, p, 80] for i, p in enumerate((60, 64, 67, 72))]
    for model in ("jsb", "mozart"):
        rows = client.done("surprise", {"model": model, "notes": notes})["rows"]
        expected = load(model).surprise(laid_out(notes_of(notes), 120.0), tempo=120.0)
        assert np.allclose([row[3] for row in rows], expected["nll"], atol=1e-4)
        assert all(row[0] < row[1] and row[3] >= 0 for row in rows)
