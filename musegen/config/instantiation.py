"""Build the objects of a run from checked settings."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import pytorch_lightning as pl

from musegen.config.signatures import is_node, parameters_of, passed_on_to, target_of
from musegen.config.typed import absolute, is_path
from musegen.config.validation import check_settings
from musegen.errors import UserError
from musegen.models import Model
from musegen.models.compiling import compile_loss


def instantiate(node: dict[str, Any], where: str, **given: Any) -> Any:
    """Call the node's `_target_` with its checked settings and the arguments `given`."""
    target = target_of(node, where)
    settings = {
        key: instantiate(value, f"{where}.{key}") if is_node(value) else value
        for key, value in node.items()
        if key != "_target_"
    }
    arguments = check_settings(target, settings, where, set(given))
    try:
        return target(**arguments, **given)
    except ModuleNotFoundError as e:  # a package of an optional extra
        raise UserError(f"{where}: {' '.join(str(e).split())}") from e


def fill_defaults(node: dict[str, Any], where: str, fill: bool = True) -> dict[str, Any]:
    """The node with its settings checked and, if `fill`, the constructor's defaults added.

    Paths become absolute, so that another folder can be the current one when the run is resumed.
    """
    target = target_of(node, where)
    settings = {k: v for k, v in node.items() if k != "_target_"}
    nested = {k: fill_defaults(v, f"{where}.{k}", fill) for k, v in settings.items() if is_node(v)}
    hints = parameters_of(target)[1]
    flat = {
        k: absolute(v) if v and is_path(hints.get(k)) else v
        for k, v in settings.items()
        if k not in nested
    }
    check_settings(target, flat, where, set(nested))
    plain = _plain_defaults(target) if fill else {}
    return {"_target_": node["_target_"], **plain, **flat, **nested}


def _plain_defaults(target: Any) -> dict[str, Any]:
    defaults = {
        name: p.default
        for name, p in parameters_of(target)[0].items()
        if p.default is not p.empty
        and name not in ("spec", "codec")
        # Defaults of the callable in `passes_to` may depend on one another; it sets them itself.
        and not (passed_on_to(target) and name not in inspect.signature(target).parameters)
    }
    return {k: list(v) if isinstance(v, tuple) else v for k, v in defaults.items()}


def build_data(cfg: dict[str, Any], **given: Any) -> Any:
    """The data module of a resolved config."""
    return instantiate(cfg["data"], "data", **given)


def build_model(cfg: dict[str, Any], data: Any) -> Model:
    """The model with the sizes of this data's spec, and its optimizer."""
    node = {k: v for k, v in cfg["model"].items() if k != "compile"}
    model = instantiate(node, "model", spec=data.spec, codec=data.codec)
    model.optimizer = instantiate(cfg["optimizer"], "optimizer")
    model.monitor = (cfg["monitor"], cfg["mode"])
    assert isinstance(model, Model)
    if cfg["trainer"].get("fast") and model.compiles is not None:
        # Gradients that are accumulated would lie in memory that the next replay overwrites.
        accumulates = cfg["trainer"].get("accumulate_grad_batches", 1) > 1
        compile_loss(model, "trainer.fast", cuda_graphs=not accumulates)
    elif cfg["model"].get("compile"):
        compile_loss(model, "model.compile")
    return model


def build_trainer(
    cfg: dict[str, Any], bare: bool = False, callbacks: Sequence[pl.Callback] = ()
) -> pl.Trainer:
    """The trainer with the loggers and callbacks of the config, and with `callbacks`.

    `bare` leaves out the loggers and callbacks of the config, for evaluation.
    """
    groups = {
        group: [
            instantiate(node, f"{group}.{name}")
            for name, node in cfg[group].items()
            if node is not None and not bare
        ]
        for group in ("logger", "callbacks")
    }
    trainer: pl.Trainer = instantiate(
        cfg["trainer"],
        "trainer",
        logger=groups["logger"] or False,
        callbacks=[*groups["callbacks"], *callbacks],
        default_root_dir=cfg["run_dir"],
    )
    return trainer
