"""Which model can read which data set; a wrong pair is refused before any download."""

from __future__ import annotations

import functools
from typing import Any

from musegen.config.groups import config_choices
from musegen.config.overrides import compose_config
from musegen.config.signatures import target_of
from musegen.errors import PairingError, UserError
from musegen.models import Model


def check_pair(model: type[Model], data: type) -> None:
    """Raise `PairingError` if the model cannot read this data; the message lists pairs that fit."""
    yields: tuple[type, ...] = data.yields  # type: ignore[attr-defined]
    if set(model.reads) & set(yields):
        return
    data_sets = [d for d in config_choices("data") if set(model.reads) & _specs_of("data", d)]
    models = [m for m in config_choices("model") if _specs_of("model", m) & set(yields)]
    raise PairingError(
        f"model={model.name} reads {_names(model.reads)}, but this data yields {_names(yields)}; "
        f"use data={'|'.join(data_sets)} or model={'|'.join(models) or '(none yet)'}"
    )


def check_view(model: type[Model], data: type, settings: dict[str, Any]) -> None:
    """Raise `PairingError` if the data has several views and the model cannot read this one."""
    views: dict[str, type] = getattr(data, "views", {})
    if views and not issubclass(views[settings["view"]], model.reads):
        fitting = [name for name, spec in views.items() if issubclass(spec, model.reads)]
        raise PairingError(
            f"model={model.name} reads {_names(model.reads)}, but data.view={settings['view']} "
            f"yields {_names((views[settings['view']],))}; use data.view={'|'.join(fitting)}"
        )


def check_precision(model: type[Model], settings: dict[str, Any]) -> None:
    """Raise `UserError` for a precision in which the model's metrics would be meaningless."""
    precision = settings.get("precision")
    if not model.fits_16_bits and precision in ("16-true", "bf16-true"):
        raise UserError(
            f"trainer.precision={precision}: 16 bits do not hold the free energies of "
            f"model={model.name}; use bf16-mixed, 32-true or 64-true"
        )


def check_compile(model: type[Model], settings: dict[str, Any]) -> None:
    """Raise `UserError` for `model.compile=true` if torch.compile cannot compile the loss."""
    if settings["compile"] and model.compiles is None:
        raise UserError(
            f"model.compile=true: the loss of model={model.name} has compiled Gibbs chains "
            "already, which torch.compile cannot read; leave it out"
        )


def _names(specs: tuple[type, ...]) -> str:
    return " or ".join(s.__name__ for s in specs)


@functools.cache
def _specs_of(group: str, name: str) -> set[type]:
    target = target_of(compose_config([f"{group}={name}"])[group], group)
    return set(target.reads if group == "model" else target.yields)
