"""One explanation of each setting, from the docstrings of what takes it.

Docstrings have items `- name: text` and `- name, other: text`; a later sentence of an item may
explain another setting, as in `- layers: the LSTM stack. dropout: between its layers.` Google's
style, which Lightning's `Trainer` has, is read as well.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Collection
from typing import Any

from musegen.config.signatures import passed_on_to

SHARED = {
    "root": "the folder of the files; not used by data sets that come with a package.",
    "batch_size": "examples of an update.",
    "cache_dir": "the folder of converted and downloaded files; null uses MUSEGEN_CACHE, or the "
    "platform's cache folder.",
    "codec": "how data become classes and samples become data; its own settings are data.codec.*.",
    "num_workers": "processes that prepare batches; 0 prepares them in the training process.",
    "seed": "of the random numbers; the same seed gives the same result.",
    "schedule": "of annealed importance sampling (AIS): (steps, last β) pairs.",
    "split": "the split that is tested.",
    "hidden": "the number of hidden units.",
    "recurrent": "units of the recurrent network.",
    "attention_span": "the largest number of earlier frames that attention reaches.",
    "n": "how many samples to generate.",
    "length": "the length of a sample: messages, frames or characters at most.",
    "temperature": "what the logits are divided by: below 1 samples are more probable, above 1 "
    "more varied.",
    "top_k": "draw from the k most probable classes only; 0 draws from all.",
    "top_p": "draw from the fewest classes with this total probability only; 1 draws from all.",
    "label": "the label of the texts; null generates n of every label.",
    "particles": "how many continuations of each piece are sampled side by side; with more than 1, "
    "those that hold a note or a chord too long are replaced.",
    "max_hold": "how long a note or a chord may be held, in frames; null is the hold that 99.9 % "
    "of those of the training set do not exceed.",
    "critic": "let the critic choose among the particles, if the model has one (musegen critic "
    "run=RUN trains it).",
    "repeats": "whether a pitch in successive frames is one note (sustain) or a new note in each "
    "(retrigger); null uses the codec's setting.",
    "prime": "a MIDI file that the pieces continue.",
    "prime_seconds": "read only so many seconds of the prime; null reads all of it.",
    "include_prime": "let the pieces start with the prime.",
}
"""Settings that mean the same wherever they occur. A docstring that explains one is preferred."""


def explanations(target: Callable[..., Any], names: Collection[str]) -> dict[str, str]:
    """The text of each of the settings `names` of a class or a function, where there is one."""
    owners = target.__mro__ if inspect.isclass(target) else (target, *passed_on_to(target))
    found = {name: text for name, text in SHARED.items() if name in names}
    for owner in reversed(owners):
        for callable_ in (owner, owner.__init__) if inspect.isclass(owner) else (owner,):
            text = inspect.cleandoc(callable_.__doc__ or "")
            found |= google_items(text, names) | items(text, names)
    return found


def items(docstring: str, names: Collection[str]) -> dict[str, str]:
    """The text of each setting in a docstring's items `- name: text`."""
    found = {}
    for item in re.finditer(r"^- (.+(?:\n  .+)*)", docstring, re.M):
        text = " ".join(item[1].split())
        starts = [
            start
            for start in re.finditer(r"(?:^|(?<=[.;] ))(\w+(?:, \w+)*): ", text)
            if set(start[1].split(", ")) <= set(names)
        ]
        ends = [*(start.start() for start in starts[1:]), len(text)][: len(starts)]
        for start, end in zip(starts, ends, strict=True):
            explanation = text[start.end() : end].strip(" ;")
            found.update(dict.fromkeys(start[1].split(", "), explanation))
    return found


def google_items(docstring: str, names: Collection[str]) -> dict[str, str]:
    """The first sentence of each setting below `Args:`."""
    found = {}
    section = docstring.partition("Args:\n")[2]
    for item in re.finditer(r"^    (\w+): (.+(?:\n {6,}.+)*)", section, re.M):
        if item[1] in names:
            text = " ".join(item[2].replace("``", "").split())
            found[item[1]] = re.split(r"(?<=[a-z)\d'\"]\.) ", text)[0]
    return found


def first_line(target: Any) -> str:
    """The first sentence of the docstring of a class, a function or a module."""
    text = " ".join(inspect.cleandoc(target.__doc__ or "").partition("\n\n")[0].split())
    return re.split(r"(?<=[a-z)\]\d]\.) (?=[A-Z])", text)[0]
