"""How Sphinx builds the manual; the command is in the README, which is the manual's first page."""

import tomllib
from pathlib import Path

_distribution = tomllib.loads((Path(__file__).resolve().parent.parent / "pyproject.toml").read_text())["project"]

project = _distribution["name"]
release = _distribution["version"]

extensions = ["myst_parser"]
exclude_patterns = ["_build"]
# Down to the headings that pages link to.
myst_heading_anchors = 3
nitpicky = True

html_theme = "furo"
html_title = f"{project} {release}"
html_show_copyright = False
html_show_sourcelink = False
html_use_index = False
