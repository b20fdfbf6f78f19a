"""What the studio shows of models of texts and frames."""

from __future__ import annotations

from typing import Any

import torch

from musegen.codecs.grammars import GRAMMARS
from musegen.energy.gibbs import GibbsChains
from musegen.errors import UserError
from musegen.models import Model
from musegen.models.char_rnn import CharRNN
from musegen.models.dissection import dissect
from musegen.models.rbm import RBM
from musegen.runtime.random_streams import Stream, torch_stream
from musegen.runtime.steps import Step, watching
from musegen.studio.jobs import Job
from musegen.studio.wire import packed, unpacked

MAX_TEXT = 200
"""Characters of a text that is looked into."""
MAX_STATE = 64
"""Units of a network whose states are drawn."""
MAX_FILTERS = 1024
SHOWN_LETTERS = 8
"""Alternatives that are shown for each character."""


def _char_rnn(model: Model) -> CharRNN:
    if not isinstance(model, CharRNN):
        raise UserError(f"{model.name}: only a char_rnn can be looked into")
    return model


def _rbm(model: Model) -> RBM:
    if not isinstance(model, RBM):
        raise UserError(f"{model.name}: only an RBM has chains and filters to show")
    return model


def facts(model: Model) -> dict[str, Any]:
    """What the page has to know of a model besides its settings."""
    codec = model.codec
    found: dict[str, Any] = {"labels": list(getattr(codec, "labels", None) or [])}
    if isinstance(model, CharRNN):
        found["symbols"] = codec.symbols
        found["grammar"] = next(
            (name for name, g in GRAMMARS.items() if codec.end and g.symbols == codec.symbols), None
        )
    if isinstance(model, RBM):
        hidden = model.W_DH.shape[1]
        found |= {"dim": model.spec.dim, "hidden": hidden, "shown": min(hidden, MAX_FILTERS)}
    if (pitch_range := getattr(codec, "pitch_range", None)) is not None:
        found["pitch_range"] = list(pitch_range)
    return found


def write_texts(job: Job, model: Model, settings: dict[str, Any]) -> dict[str, Any]:
    """Generate texts, as [label or null, text] pairs. Publishes those so far."""

    def pairs(samples: list[Any]) -> list[list[str | None]]:
        return [[None, s] if isinstance(s, str) else list(s) for s in samples]

    def describe(step: Step) -> dict[str, Any]:
        return {"fraction": step.done / step.total, "texts": pairs(step.samples())}

    with watching(job.watcher(describe)):
        return {"texts": pairs(list(model.generate(**settings)))}


@torch.inference_mode()
def alternatives(model: Model, text: str, label: str | None) -> dict[str, Any]:
    """For each character and for the end: its probability, and the most probable ones there."""
    model = _char_rnn(model)
    codec = model.codec
    labels = None if codec.labels is None else [codec.label_class(label or codec.labels[0])]
    row = codec.encode(text)
    names = [*codec.symbols, *["\N{REPLACEMENT CHARACTER}"] * codec.unknown, *["end"] * codec.end]
    if not len(row):
        raise UserError("text=: should have a character")
    log_p_NV, x_N = model.predicted(codec.batch([row], labels))
    p_NV = log_p_NV.double().softmax(-1)
    top = p_NV.topk(min(SHOWN_LETTERS, len(names)))
    steps = []
    for p_V, values, classes, x in zip(p_NV, *top, x_N.tolist(), strict=True):
        likeliest = [[names[c], v] for c, v in zip(classes.tolist(), values.tolist(), strict=True)]
        steps.append({"character": names[x], "probability": float(p_V[x]), "likeliest": likeliest})
    return {"steps": steps}


def look_into(model: Model, string: str, label: str | None) -> dict[str, Any]:
    """`musegen.models.dissection.dissect` of a network with few units.

    `legal` has what the grammar allows after each prefix, if the string is one of the grammar's.
    """
    model = _char_rnn(model)
    if len(string) > MAX_TEXT:
        raise UserError(f"string: {len(string)} characters, but at most {MAX_TEXT} are shown")
    size = model.cells.num_layers * model.cells.hidden_size
    if size > MAX_STATE:
        raise UserError(
            f"{size} units are too many for this page, which shows up to {MAX_STATE}; "
            "musegen dissect writes pictures of any network"
        )
    found = dissect(model, string, label, fixed=False)
    grammar = next((g for g in GRAMMARS.values() if g.symbols == model.codec.symbols), None)
    if grammar is not None and string == grammar.nested(string.count(grammar.symbols[0])):
        found["legal"] = [sorted(symbols) for symbols in grammar.legal(string)]
    return found


@torch.inference_mode()
def gibbs(model: Model, visible: str, steps: int, seed: int, number: int) -> dict[str, Any]:
    """Gibbs steps of a chain from `visible`: the next v, its probabilities, and p(h = 1 | v).

    The random numbers are those of step `number` of the chain with this seed.
    """
    model = _rbm(model)
    v_1D = torch.from_numpy(unpacked(visible, model.spec.dim).round())[None].to(model.W_DH)
    generator = torch_stream(Stream.SAMPLING, seed, number)
    chains = GibbsChains(1, model.W_DH)
    chains.set_visible(v_1D, model.W_DH, model.b_h, generator)
    if steps:
        v_1D = chains.run(steps, model.W_DH, model.b_v, model.b_h, generator)
    p_1D = chains.p_BD if steps else v_1D
    p_H = model.hidden_means(v_1D)[0]
    energy = float(model.free_energy(v_1D)[0])
    return {
        "visible": packed(v_1D[0].numpy()),
        "means": packed(p_1D[0].numpy()),
        "hidden": packed(p_H[:MAX_FILTERS].numpy()),
        "energy": round(energy, 3),
    }


def filters(model: Model) -> dict[str, Any]:
    """Each hidden unit's weights to the frame, scaled to [0, 1] around 0.5, as bytes."""
    weights_HD = torch.from_numpy(_rbm(model).filters()[:MAX_FILTERS])
    largest = weights_HD.abs().amax(dim=1, keepdim=True).clamp(min=1e-9)
    return {"filters": packed((0.5 + 0.5 * weights_HD / largest).numpy())}
