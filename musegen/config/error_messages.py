"""Errors of Hydra, OmegaConf and Lightning about the command line, as one line each."""

from __future__ import annotations

import re

from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf.errors import OmegaConfBaseException
from pytorch_lightning.utilities.exceptions import MisconfigurationException

from musegen.config.groups import GROUPS, config_choices, top_level_keys
from musegen.errors import UserError, unknown_name


def as_user_error(error: Exception) -> UserError | None:
    """The library's error as a `UserError` of one line; None for errors of other kinds."""
    text = " ".join(str(error).split())
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        return _missing_config(str(error.missing_cfg_file)) or UserError(text)
    if isinstance(error, OverrideParseException):
        override = str(error.override).removeprefix("++")
        return UserError(f"cannot read {override!r}: write key=value or group=name")
    if isinstance(error, (HydraException, OmegaConfBaseException)):
        if found := re.search(r"Could not (?:override|delete|append|add) '([^']+)'", text):
            key = found[1].split("@")[0]
            return unknown_name(key, key, [*GROUPS, *top_level_keys()], "key or group")
        return UserError(re.sub(r" full_key:.*", "", text))
    if isinstance(error, ValueError) and text.startswith("Config group override must be a string"):
        return UserError("a group cannot be null: write group=NAME, or leave it out")
    if isinstance(error, MisconfigurationException):
        return UserError(f"trainer: {text}")
    return None


def _missing_config(path: str) -> UserError | None:
    group, _, name = path.rpartition("/")
    if group not in GROUPS:
        return None
    return unknown_name(f"{group}={name}", name, config_choices(group), f"{group} config")
