"""Equations as MathML, which browsers draw themselves: no script, no font and no network.

The usual renderers of Sphinx need a CDN (mathjax), LaTeX (imgmath) or node (katex). Docutils, which
Sphinx is built on, has a converter from LaTeX to MathML.
"""

from __future__ import annotations

from typing import Any

from docutils import nodes
from docutils.utils.math import MathError
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.application import Sphinx
from sphinx.util import logging


def convert(latex: str, block: bool, node: nodes.Node) -> str:
    """The MathML of an equation; one that cannot be converted is a warning, and shown as text."""
    try:
        return tex2mathml(latex, as_block=block)
    except MathError as error:
        logging.getLogger(__name__).warning("equation: %s: %s", error, latex, location=node)
        return f"<code>{nodes.fully_normalize_name(latex)}</code>"


def visit_inline(translator: Any, node: nodes.math) -> None:
    translator.body.append(convert(node.astext(), False, node))
    raise nodes.SkipNode


def visit_block(translator: Any, node: nodes.math_block) -> None:
    """An equation on its own line, which scrolls where the page is too narrow for it."""
    translator.body.append(f'<div class="equation">{convert(node.astext(), True, node)}</div>\n')
    raise nodes.SkipNode


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_html_math_renderer("mathml", (visit_inline, None), (visit_block, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
