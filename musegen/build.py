"""Config → objects: composition, one clear line per mistake, the pairing of model and data.

Every node with a `_target_` names a constructor; its settings are the constructor's own
parameters, checked by name and type against its signature. Hydra composes, this file judges.
"""

from __future__ import annotations

import functools
import inspect
import re
import typing
from collections.abc import Callable, Sequence
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from hydra.types import RunMode
from hydra.utils import get_object
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import ConfigDict, PydanticSchemaGenerationError, TypeAdapter, ValidationError
from pytorch_lightning.utilities.exceptions import MisconfigurationException

from musegen.contracts import PairingError, UserError, unknown_name
from musegen.models import Model

_HERE = Path(__file__).resolve().parent
CONF = next(c for c in (_HERE / "conf", _HERE.parent / "conf") if c.is_dir())
"""The config folder: beside this file when installed, beside the package in a clone."""

OTHERS = {
    "logger": "logger=NAME",
    "callbacks": "callbacks=NAME and callbacks.NAME.…",
    "default_root_dir": "hydra.run.dir=DIR",
}
"""Arguments of Lightning's Trainer that come from elsewhere."""

GROUPS = sorted(p.name for p in CONF.iterdir() if p.is_dir())


# --- Composition ---------------------------------------------------------------------------


def free_overrides(arguments: list[str]) -> list[str]:
    """Let `data.batch_size=16` set a constructor's parameter that the YAML does not state.

    Hydra refuses keys that no file holds; ours hold only what differs from the constructors'
    defaults. Dotted keys therefore become `++key=value`, and `construct` checks their names.
    """
    return [
        f"++{a}" if re.match(r"[A-Za-z_]\w*\.[\w.@-]+=", a) and not a.startswith("hydra.") else a
        for a in map(quoted, arguments)
    ]


def quoted(argument: str) -> str:
    """The argument, its value in quotes where Hydra's grammar could not read it bare: a folder
    with an accent or a parenthesis in its name."""
    key, equals, value = argument.partition("=")
    if not (equals and value) or value[0] in "'\"[{" or "," in value:
        return argument
    parser = OverridesParser.create()
    for one in (argument, f"{key}={_in_quotes(value)}"):
        try:
            parser.parse_override(one)
        except HydraException:
            continue
        return one
    return argument


def _in_quotes(value: str) -> str:
    inner = value.replace("'", "\\'")
    return f"'{inner}'"


def composed(overrides: list[str]) -> DictConfig:
    """The config of conf/train.yaml with overrides, inside or outside a Hydra application."""
    overrides = free_overrides(overrides)
    if GlobalHydra.instance().is_initialized():
        return compose("train", overrides)
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose("train", overrides)


def typed() -> list[str]:
    """What was typed for the job that Hydra is running, alone of its sweep."""
    if not HydraConfig.initialized():
        return []
    overrides = [o.removeprefix("++") for o in HydraConfig.get().overrides.task]
    return [o for o in overrides if not o.startswith("resume=")]


def job_of_sweep() -> tuple[str, bool] | None:
    """The name of the sweep's job that Hydra is running, and whether a launcher's process does;
    None for a single run."""
    hydra = HydraConfig.get()
    if hydra.mode != RunMode.MULTIRUN:
        return None
    return f"job {hydra.job.num}", hydra.runtime.choices["hydra/launcher"] != "basic"


def with_resumed(arguments: list[str]) -> list[str]:
    """With `resume=<run folder>` what was typed for that run comes before what is typed now.

    `resume=auto` stands for the folder of `hydra.run.dir`, and for a new run where that has no
    config yet: the same command then begins a job and goes on with it. In a sweep it stands for
    each job's own folder below `hydra.sweep.dir`.

    Raises `UserError` for a folder that holds no run.
    """
    given = {a.partition("=")[0]: a.partition("=")[2] for a in arguments}
    if given.get("resume", "null") == "null":
        return arguments
    if "-m" in arguments or "--multirun" in arguments:
        if given["resume"] == "auto":
            return arguments
        raise UserError(
            "resume goes on with one run: leave out -m, or go on with all jobs of a sweep by "
            "resume=auto hydra.sweep.dir=DIR"
        )
    run_dir = given.get("hydra.run.dir", "").strip("'\"")
    if given["resume"] == "auto" and not run_dir:
        raise UserError("resume=auto needs the run's folder: add hydra.run.dir=DIR")
    folder = Path(run_dir if given["resume"] == "auto" else given["resume"]).expanduser()
    config = folder / "config.yaml"
    rest = [a for a in arguments if not a.startswith(("resume=", "hydra.run.dir="))]
    if config.exists():
        before = run_config(config).get("typed", [])
        rest = [*before, *(a for a in rest if a not in before)]
    elif given["resume"] != "auto":
        raise UserError(f"resume={folder}: no config.yaml there, so no run to go on with")
    place = _in_quotes(str(folder.absolute()))
    return [*rest, f"resume={place}", f"hydra.run.dir={place}"]


def run_config(path: Path) -> dict[str, Any]:
    """The config that was saved in a run folder. Raises `UserError` where it cannot be read."""
    try:
        plain = OmegaConf.to_container(OmegaConf.load(path))
        assert isinstance(plain, dict)
    except Exception as e:
        raise UserError(f"{path}: cannot read the run's config ({type(e).__name__})") from e
    if not plain:
        raise UserError(f"{path}: holds no config of a run")
    return {str(k): v for k, v in plain.items()}


def choices(group: str) -> list[str]:
    """Names that `group=…` can take."""
    return sorted(p.stem for p in (CONF / group).glob("*.yaml"))


def readable(error: Exception) -> UserError | None:
    """Hydra's, OmegaConf's and Lightning's complaints about what was typed, as one line; None for
    others."""
    text = " ".join(str(error).split())
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        group, _, name = str(error.missing_cfg_file).rpartition("/")
        if group in GROUPS:
            return unknown_name(f"{group}={name}", name, choices(group), f"{group} config")
        return UserError(text)
    if isinstance(error, OverrideParseException):
        said = str(error.override).removeprefix("++")
        return UserError(f"cannot read {said!r}: write key=value or group=name")
    if isinstance(error, (HydraException, OmegaConfBaseException)):
        if found := re.search(r"Could not (?:override|delete|append|add) '([^']+)'", text):
            key = found[1].split("@")[0]
            return unknown_name(key, key, [*GROUPS, *_top_level()], "key or group")
        return UserError(re.sub(r" full_key:.*", "", text))
    if isinstance(error, ValueError) and text.startswith("Config group override must be a string"):
        return UserError("a group cannot be null: write group=NAME, or leave it out")
    if isinstance(error, MisconfigurationException):
        return UserError(f"trainer: {text}")
    return None


def _top_level() -> list[str]:
    own = OmegaConf.load(CONF / "train.yaml")
    return [str(k) for k in own if k not in ("defaults", "hydra")]


def completed(cfg: DictConfig) -> dict[str, Any]:
    """The config as plain values, interpolations resolved and nothing left to guess.

    Raises `UserError` for unknown keys, wrong types and a model that cannot read the data.
    """
    for key in cfg:
        if key not in GROUPS and key not in _top_level():
            raise unknown_name(str(key), str(key), [*GROUPS, *_top_level()], "key or group")
    model, data = _target(cfg.model, "model"), _target(cfg.data, "data")
    if not issubclass(model, Model):
        raise UserError(f"model._target_={cfg.model._target_}: not a musegen Model")
    check_pair(model, data)
    for key, value in zip(("monitor", "mode"), model.monitor, strict=True):
        if cfg[key] is None:
            cfg[key] = value
    plain = OmegaConf.to_container(cfg, resolve=True)
    assert isinstance(plain, dict)
    plain["seed"] = _seed(plain["seed"], "seed")
    for group in ("model", "data", "optimizer", "trainer"):
        plain[group] = with_defaults(plain[group], group)
    for key in OTHERS.keys() & plain["trainer"].keys():
        raise UserError(f"trainer.{key}: not set here; use {OTHERS[key]}")
    check_view(model, data, plain["data"])
    check_precision(model, plain["trainer"])
    for group in ("logger", "callbacks"):
        plain[group] = plain.get(group) or {}  # logger=[] leaves no trace of the group
        for name, node in plain[group].items():
            if node is None:
                continue
            if not _is_node(node):
                others = [n for n in plain[group] if n != name]
                raise unknown_name(f"{group}.{name}", name, others, f"entry of {group}")
            plain[group][name] = with_defaults(node, f"{group}.{name}", fill=False)
    plain["preview"] = checked(model.generate, plain.get("preview") or {}, "preview")
    if plain["sample"] is not None:
        plain["sample"] = checked(model.generate, plain["sample"], "sample")
    plain["assess"] = checked(model.assess, plain.get("assess") or {}, "assess", {"data"})
    plain["typed"] = typed()
    return {str(k): v for k, v in plain.items()}


def check_pair(model: type[Model], data: type) -> None:
    """End with what the model reads, what the data yields, and which choices fit."""
    if set(model.reads) & set(data.yields):  # type: ignore[attr-defined]
        return
    fitting_data = [d for d in choices("data") if set(model.reads) & set(_class("data", d).yields)]
    fitting_models = [
        m
        for m in choices("model")
        if set(_class("model", m).reads) & set(data.yields)  # type: ignore[attr-defined]
    ]
    raise PairingError(
        f"model={model.name} reads {_names(model.reads)}, but this data yields "
        f"{_names(data.yields)}; "  # type: ignore[attr-defined]
        f"use data={'|'.join(fitting_data)} or model={'|'.join(fitting_models) or '(none yet)'}"
    )


def check_view(model: type[Model], data: type, settings: dict[str, Any]) -> None:
    """Where the data offers several views, end with the one that the model reads."""
    views: dict[str, type] = getattr(data, "views", {})
    if views and not issubclass(views[settings["view"]], model.reads):
        fitting = [name for name, spec in views.items() if issubclass(spec, model.reads)]
        raise PairingError(
            f"model={model.name} reads {_names(model.reads)}, but data.view={settings['view']} "
            f"yields {_names((views[settings['view']],))}; use data.view={'|'.join(fitting)}"
        )


def _names(specs: tuple[type, ...]) -> str:
    return " or ".join(s.__name__ for s in specs)


@functools.cache
def _class(group: str, name: str) -> Any:
    return _target(composed([f"{group}={name}"])[group], group)


# --- Construction --------------------------------------------------------------------------


def accepts(node: dict[str, Any], name: str) -> bool:
    """Whether the constructor that the node names has such a parameter."""
    return name in _signature(_target(node, name))[0]


def construct(node: dict[str, Any], where: str, **given: Any) -> Any:
    """Call the node's `_target_` with its checked settings and what the caller gives."""
    target = _target(node, where)
    settings = {
        key: construct(value, f"{where}.{key}") if _is_node(value) else value
        for key, value in node.items()
        if key != "_target_"
    }
    arguments = checked(target, settings, where, set(given))
    try:
        return target(**arguments, **given)
    except ModuleNotFoundError as e:  # a package of an extra
        raise UserError(f"{where}: {' '.join(str(e).split())}") from e


def with_defaults(node: dict[str, Any], where: str, fill: bool = True) -> dict[str, Any]:
    """The node with the constructor's plain defaults written out, its settings checked."""
    target = _target(node, where)
    settings = {k: v for k, v in node.items() if k != "_target_"}
    nested = {k: with_defaults(v, f"{where}.{k}", fill) for k, v in settings.items() if _is_node(v)}
    flat = {k: v for k, v in settings.items() if k not in nested}
    checked(target, flat, where, set(nested))
    defaults = {
        name: p.default
        for name, p in _signature(target)[0].items()
        if fill
        and p.default is not p.empty
        and name not in ("spec", "codec")
        # What is passed on has its defaults elsewhere, and they may depend on one another.
        and not (_passed_on(target) and name not in inspect.signature(target).parameters)
    }
    plain = {k: list(v) if isinstance(v, tuple) else v for k, v in defaults.items()}
    return {"_target_": node["_target_"], **plain, **flat, **nested}


def checked(
    target: Callable,
    settings: dict[str, Any],
    where: str,
    given: set[str] | frozenset = frozenset(),
) -> dict[str, Any]:
    """Settings with their values converted to the types of `target`'s parameters.

    Raises `UserError` for a name that is not a parameter or a value of the wrong type.
    """
    parameters, hints = _signature(target)
    result = {}
    for key, value in settings.items():
        parameter = parameters.get(key)
        if parameter is None:
            if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
                result[key] = value
                continue
            raise unknown_name(f"{where}.{key}", key, set(parameters) - given, "setting")
        hint, place = hints.get(key, Any), f"{where}.{key}"
        nested: Any = next((h for h in (hint, *typing.get_args(hint)) if is_dataclass(h)), None)
        if nested is not None and isinstance(value, dict):
            value = nested(**checked(nested, value, place))  # settings of a part, e.g. a codec
        if value == "" and Path in (hint, *typing.get_args(hint)):
            raise UserError(f"{place}=: empty; write {place}=PATH")
        result[key] = _seed(value, place) if key == "seed" else _converted(value, hint, place)
    missing = [
        name
        for name, p in parameters.items()
        if p.default is p.empty
        and p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)
        and name not in settings
        and name not in given | {"spec", "codec"}
    ]
    if missing:
        raise UserError(f"{where}: missing {', '.join(missing)}; write {where}.{missing[0]}=…")
    return result


def _seed(value: Any, where: str) -> int:
    seed = _converted(value, int, where)
    if not 0 <= seed < 2**32:
        raise UserError(f"{where}={seed}: must be a whole number from 0 to {2**32 - 1}")
    return seed


def _converted(value: Any, hint: Any, where: str) -> Any:
    try:
        adapter = TypeAdapter(hint, config=ConfigDict(arbitrary_types_allowed=True))
    except PydanticSchemaGenerationError:  # an annotation only a type checker understands
        return value
    except Exception as e:
        if type(e).__name__ != "PydanticUserError":
            raise
        adapter = TypeAdapter(hint)  # dataclasses bring their own configuration
    try:
        return adapter.validate_python(value)
    except ValidationError as e:
        wanted = dict.fromkeys(p["msg"].removeprefix("Input should be ") for p in e.errors())
        raise UserError(f"{where}={value}: should be {' or '.join(wanted)}") from e


def check_precision(model: type[Model], settings: dict[str, Any]) -> None:
    """End with the precisions in which the model's figures would mean something."""
    precision = settings.get("precision")
    if not model.fits_16_bits and precision in ("16-true", "bf16-true"):
        raise UserError(
            f"trainer.precision={precision}: 16 bits do not hold the free energies of "
            f"model={model.name}; use bf16-mixed, 32-true or 64-true"
        )


def _signature(target: Callable) -> tuple[dict[str, inspect.Parameter], dict[str, Any]]:
    """Parameters and their types, by name.

    What a class takes as **settings is its base's; a function may say whose its are with an
    attribute `passes_to`.
    """
    parameters: dict[str, inspect.Parameter] = {}
    hints: dict[str, Any] = {}
    owners = target.__mro__ if inspect.isclass(target) else (target, *_passed_on(target))
    for owner in owners:
        call = owner.__init__ if inspect.isclass(owner) else owner
        own = inspect.signature(call).parameters
        parameters = {**own, **parameters}
        hints = {**typing.get_type_hints(call), **hints}
        if not any(p.kind is p.VAR_KEYWORD for p in own.values()):
            parameters = {k: p for k, p in parameters.items() if p.kind is not p.VAR_KEYWORD}
            break
    named = {k: p for k, p in parameters.items() if k != "self" and p.kind is not p.VAR_POSITIONAL}
    return named, hints


def _passed_on(target: Callable) -> tuple[Callable, ...]:
    return (target.passes_to,) if hasattr(target, "passes_to") else ()


def _target(node: Any, where: str) -> Any:
    path = node.get("_target_") if node is not None else None
    if not path:
        raise UserError(f"{where}: not chosen; write {where}=NAME with one of {choices(where)}")
    try:
        return get_object(path)
    except Exception as e:
        raise UserError(f"{where}._target_={path}: cannot be imported ({e})") from e


def _is_node(value: Any) -> bool:
    return isinstance(value, dict) and "_target_" in value


# --- The objects of a run ------------------------------------------------------------------


def build_data(cfg: dict[str, Any], **given: Any) -> Any:
    return construct(cfg["data"], "data", **given)


def build_model(cfg: dict[str, Any], data: Any) -> Model:
    """The model for this data's sizes, with its optimiser."""
    model = construct(cfg["model"], "model", spec=data.spec, codec=data.codec)
    model.optimizer = construct(cfg["optimizer"], "optimizer")
    model.monitor = (cfg["monitor"], cfg["mode"])
    return model


def build_trainer(
    cfg: dict[str, Any], bare: bool = False, callbacks: Sequence[pl.Callback] = ()
) -> pl.Trainer:
    """The trainer with its loggers and callbacks, and those given beside them.

    `bare` leaves out those of the config, for evaluation.
    """
    groups = {
        group: [
            construct(node, f"{group}.{name}")
            for name, node in cfg[group].items()
            if node is not None and not bare
        ]
        for group in ("logger", "callbacks")
    }
    return construct(
        cfg["trainer"],
        "trainer",
        logger=groups["logger"] or False,
        callbacks=[*groups["callbacks"], *callbacks],
        default_root_dir=cfg["run_dir"],
    )
