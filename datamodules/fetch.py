"""Downloads: mirrors in turn, checked by hash, moved into place whole."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pooch
import requests

from musegen.contracts import UserError


def fetch(name: str, urls: Sequence[str], sha256: str, folder: Path, processor=None) -> Path:
    """`folder/name`, downloaded from the first mirror that gives the right content.

    Raises `UserError` with the addresses, the hash and the place, for fetching by hand.
    """
    problems = []
    for url in urls:
        try:
            return Path(
                pooch.retrieve(
                    url,
                    known_hash=f"sha256:{sha256}",
                    fname=name,
                    path=folder,
                    progressbar=True,
                    processor=processor,
                )
            )
        except (requests.RequestException, OSError, ValueError) as e:
            reason = "wrong content" if isinstance(e, ValueError) else type(e).__name__
            problems.append(f"{url} ({reason})")
    raise UserError(
        f"{name} could not be downloaded: {'; '.join(problems)}; fetch it by hand "
        f"(sha256 {sha256}) and put it into {folder}, or set data.root to where it is"
    )
