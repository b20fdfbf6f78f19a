"""From a composed config to plain, complete and checked settings."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from musegen.config.consistency import check_consistency
from musegen.config.formats import check_formats
from musegen.config.groups import GROUPS, top_level_keys
from musegen.config.instantiation import fill_defaults
from musegen.config.overrides import command_line_overrides
from musegen.config.pairing import check_compile, check_pair, check_precision, check_view
from musegen.config.renamed import check_renamed_value
from musegen.config.signatures import is_node, target_of
from musegen.config.sound import check_sound
from musegen.config.tune import Tune
from musegen.config.typed import absolute, absolute_overrides
from musegen.config.validation import check_seed, check_settings
from musegen.errors import UserError, unknown_name
from musegen.models import Model

SET_ELSEWHERE = {
    "logger": "logger=NAME",
    "callbacks": "callbacks=NAME and callbacks.NAME.…",
    "default_root_dir": "hydra.run.dir=DIR",
}
"""Arguments of Lightning's Trainer that are not set under `trainer.`, and where they are set."""


def resolve_config(cfg: DictConfig, model: Model | None = None, data: Any = None) -> dict[str, Any]:
    """The config as plain values, with interpolations resolved and every default added.

    The settings of a `model` and of `data` that are given are not checked again: they are built.
    Raises `UserError` for unknown keys, wrong types and a model that cannot read the data.
    """
    for key in cfg:
        if key not in GROUPS and key not in top_level_keys():
            raise unknown_name(str(key), str(key), [*GROUPS, *top_level_keys()], "key or group")
    model_class = _model_class(cfg) if model is None else type(model)
    data_class = target_of(cfg.data, "data") if data is None else type(data)
    check_pair(model_class, data_class)
    if cfg.monitor != model_class.monitor[0]:  # a model may have a metric with an old name
        check_renamed_value("monitor", cfg.monitor)
    for key, value in zip(("monitor", "mode"), model_class.monitor, strict=True):
        if cfg[key] is None:
            cfg[key] = value
    plain = OmegaConf.to_container(cfg, resolve=True)
    assert isinstance(plain, dict)
    plain["seed"] = check_seed(plain["seed"], "seed")
    source = plain.get("init_from")  # configs of version 0.1 do not have it
    plain["init_from"] = None if source is None else absolute(source)
    plain["tune"] = asdict(Tune(**check_settings(Tune, plain.get("tune") or {}, "tune")))
    plain["sound"] = check_sound(plain.get("sound", "piano"))  # older configs have none
    built = {"model": model, "data": data}
    for group in ("model", "data", "optimizer", "trainer"):
        if built.get(group) is None:
            plain[group] = fill_defaults(plain[group], group)
    for key in SET_ELSEWHERE.keys() & plain["trainer"].keys():
        raise UserError(f"trainer.{key}: not set here; use {SET_ELSEWHERE[key]}")
    if data is None:
        check_view(model_class, data_class, plain["data"])
    check_precision(model_class, plain["trainer"])
    if model is None:
        check_compile(model_class, plain["model"])
    for group in ("logger", "callbacks"):
        plain[group] = _named_nodes(plain.get(group) or {}, group)  # logger=[] removes the group
    settings = {str(k): v for k, v in plain.items()}
    check_consistency(settings, model_class)
    _check_model_settings(settings, model_class)
    return settings | {"overrides": absolute_overrides(settings, command_line_overrides())}


def _model_class(cfg: DictConfig) -> type[Model]:
    model = target_of(cfg.model, "model")
    if not (isinstance(model, type) and issubclass(model, Model)):
        raise UserError(f"model._target_={cfg.model._target_}: not a musegen Model")
    return model


def _named_nodes(nodes: dict[str, Any], group: str) -> dict[str, Any]:
    """Check the entries of a group that holds several constructors; an entry may be null."""
    for name, node in nodes.items():
        if node is not None and not is_node(node):
            others = [n for n in nodes if n != name]
            raise unknown_name(f"{group}.{name}", name, others, f"entry of {group}")
    return {
        name: node if node is None else fill_defaults(node, f"{group}.{name}", fill=False)
        for name, node in nodes.items()
    }


def _check_model_settings(plain: dict[str, Any], model: type[Model]) -> None:
    """Check the settings of the model's `generate` and `assess`, in place."""
    plain["preview"] = check_settings(model.generate, plain.get("preview") or {}, "preview")
    if plain["sample"] is not None:
        formats = plain["sample"].pop("formats", None)
        plain["sample"] = check_settings(model.generate, plain["sample"], "sample")
        if formats is not None:
            plain["sample"]["formats"] = check_formats(formats, model, "sample.formats")
    for group in ("preview", "sample"):
        for key, value in (plain[group] or {}).items():
            plain[group][key] = Path(absolute(value)) if isinstance(value, Path) else value
    plain["assess"] = check_settings(model.assess, plain.get("assess") or {}, "assess", {"data"})
