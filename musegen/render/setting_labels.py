"""A readable name and one line of explanation for each setting of a run."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from musegen.config.explanations import explanations, first_line
from musegen.config.signatures import target_of
from musegen.config.tune import Tune
from musegen.errors import UserError
from musegen.render.metric_labels import in_words

COMMON = {
    "seed": "of the random numbers; the same seed gives the same result",
    "data.seed": "of the order of the examples, and of a random split",
    "monitor": "the metric that decides which weights are best",
    "mode": "whether a smaller (min) or a larger (max) value of the monitored metric is better",
    "assess": "settings of the further test metrics",
    "preview": "settings of the samples during training",
    "sample": "settings of the samples after training; null for none",
    "sound": "how the generated music sounds: piano, additive or a SoundFont",
    "init_from": "the run or checkpoint whose weights the training starts with; null for none",
    "sample_when_stopped": "whether samples are also generated after Ctrl-C",
    "progress": "the bars and lines during the training; null for none",
    "early_stopping": "ends the training when a score no longer improves; null for no such end",
    "run_dir": "the run folder",
    "root": "the folder of the data; null for the data set's own place",
    "name": "which data set of this kind, or which method",
    "cache_dir": "where downloaded and converted data are kept",
    "num_workers": "processes that prepare batches",
    "batch_size": "examples per update",
    "first_n": "how many of the small sizes are trained first",
    "hidden": "hidden units",
    "layers": "layers of the recurrent network",
    "recurrent": "units of the recurrent network along time",
    "note_hidden": "units of the network along pitches",
    "embedding": "the width of the vector that a symbol is read as; null for that of the units",
    "head_width": "hidden units of each output network",
    "dropout": "the fraction of units that are off in an update",
    "k": "Gibbs steps per update",
    "sparsity_cost": "the weight of the sparsity target in the loss",
    "attention_span": "how many earlier steps attention reaches",
    "folder": "where files are written",
    "every": "epochs between two previews",
    "n": "how many samples",
    "length": "steps per sample",
    "rows": "rows of a sheet of samples",
    "chains": "Gibbs or annealing chains that run side by side",
    "steps": "steps of each Gibbs chain, or of each try",
    "tries": "how many random starts are compared",
    "temperature": "above 1 more random, below 1 more likely samples; 1 samples the model",
    "top_k": "sample among so many most likely symbols only",
    "top_p": "sample among the most likely symbols with so much probability in total",
    "label": "the label of the samples",
    "prime": "a MIDI file that the samples continue",
    "prime_seconds": "how much of the prime is read",
    "include_prime": "whether the samples contain the prime",
    "start_ND": "where the Gibbs chains start",
    "pitch_range": "the lowest MIDI pitch, and the one above the highest",
    "velocity_bins": "classes of velocities above 0",
    "time_scale": "whether classes of times grow (log) or have one width (linear)",
    "time_bins": "classes of times above 0",
    "time_min": "the centre of the shortest class of times, in seconds",
    "time_max": "the longest time, in seconds",
    "split": "the split that is evaluated",
    "schedule": "how annealing goes from the base to the model, as (steps, last β) pairs",
    "optimizer.schedule": "how the learning rate changes during the training",
    "tolerance": "the change in nats at which an estimate counts as converged",
    "final_lr": "the learning rate at the end of schedule=cosine",
    "factor": "what schedule=plateau multiplies the learning rate by",
    "patience": "how many epochs without a better score are waited for",
    "rbm_epochs": "epochs of the RBM's pretraining on single frames",
    "rbm_lr": "the learning rate of that pretraining",
    "rbm_k": "Gibbs steps per update of that pretraining",
    "rbm_batch_size": "frames per update of that pretraining",
    "rnn_epochs": "epochs of the recurrent network's pretraining",
    "rnn_lr": "the learning rate of that pretraining",
    "settings": "of the samples",
}
"""Explanations by key, or by the last part of a key, of settings that no docstring lists."""
WORDS = {
    "_target_": "class",
    "lr": "learning rate",
    "final_lr": "final learning rate",
    "k": "Gibbs steps k",
    "n": "number n",
    "ais_steps": "AIS steps",
    "gradient_clip_val": "gradient clipping",
    "accumulate_grad_batches": "batches per update",
}
"""Readable names of settings whose names are abbreviations."""


def setting_label(key: str) -> str:
    """`model.batch_size` → Model: batch size; `data._target_` → Data: class."""
    *group, name = key.split(".")
    words = WORDS.get(name) or name.replace("_", " ").strip()
    if not group:
        return in_words(words)
    return f"{in_words(', '.join(group))}: {words}"


def setting_texts(config: dict[str, Any]) -> dict[str, str]:
    """One line on each setting of a run's config, by its flat key such as `model.hidden`.

    From the docstrings of the constructors, or else from `COMMON`; empty for a setting of a
    constructor outside musegen that does not explain it.
    """
    return _texts(config, "", {}, loaded_class(config.get("model")))


def loaded_class(node: Any) -> Any:
    """The class in a node's `_target_`; None if it cannot be imported any more."""
    if isinstance(node, dict) and node.get("_target_"):
        with suppress(UserError):
            return target_of(node, "run")
    return None


def _texts(node: dict[str, Any], prefix: str, known: dict[str, str], model: Any) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, value in node.items():
        key = f"{prefix}{name}"
        if isinstance(value, dict) and value:
            found |= _texts(value, f"{key}.", _documented(value, str(name), model), model)
        else:
            text = COMMON.get(key) or known.get(name) or COMMON.get(str(name), "")
            found[key] = _first_sentence(text)
    return found


def _documented(node: dict[str, Any], name: str, model: Any) -> dict[str, str]:
    """The explanations of a node's settings in docstrings, and of its class as `_target_`."""
    target = Tune if name == "tune" else loaded_class(node)
    if target is None:
        functions = {
            "preview": "generate", "sample": "generate", "settings": "generate",
            "assess": "assess", "codec": "codec_type",
        }  # fmt: skip
        target = getattr(model, functions.get(name, ""), None)
    if target is None:
        return {}
    return {"_target_": first_line(target)} | explanations(target, node)


def _first_sentence(text: str) -> str:
    return text.replace("`", "").partition(". ")[0].rstrip(".:")
