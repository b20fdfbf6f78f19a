"""The site: `sphinx-build -W --keep-going docs docs/_build/html`. It needs no network."""

from __future__ import annotations

import os
import sys
from functools import partialmethod
from pathlib import Path

from nbclient import NotebookClient

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE / "_ext"), str(HERE.parent)]
# Pages run in a kernel with this environment: the clone's code and this environment's commands.
os.environ["PYTHONPATH"] = os.pathsep.join(
    [str(HERE.parent), *filter(None, [os.environ.get("PYTHONPATH")])]
)
os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
os.environ.setdefault("OMP_NUM_THREADS", "1")

from musegen import __version__  # noqa: E402

project = "musegen"
author = "the musegen contributors"
release = version = __version__
copyright = "the musegen contributors; MIT licence"

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx_copybutton",
    "docstrings",
    "mathml",
    "settings_reference",
]
exclude_patterns = ["_build", "_ext"]
myst_enable_extensions = ["amsmath", "colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3

html_theme = "furo"
html_title = f"musegen {__version__}"
html_static_path = ["_static"]
html_css_files = ["musegen.css"]
html_math_renderer = "mathml"
html_copy_source = False

# Every page with code cells is run at every build. An error in a cell is an error of the build.
nb_execution_mode = "force"
nb_execution_timeout = 900  # seconds for a cell; on a computer with other work
nb_execution_raise_on_error = True
# Stderr has lines about the progress inside an epoch; an error ends the build anyway.
nb_output_stderr = "remove"
# The output of a command arrives in pieces; myst-nb's nb_merge_streams would break lines there.
NotebookClient.__init__ = partialmethod(NotebookClient.__init__, coalesce_streams=True)
nb_execution_in_temp = True

autodoc_inherit_docstrings = False
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
default_role = "py:obj"
highlight_language = "none"  # equations and diagrams; blocks of code say their language

# A copied command has no prompt and no output.
copybutton_exclude = ".linenos, .gp, .go"
