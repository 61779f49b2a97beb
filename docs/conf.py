"""Sphinx configuration: `make docs` builds with warnings as errors."""

import tomllib
from pathlib import Path

from sevennet_mf import __version__

ROOT = Path(__file__).parents[1]
with open(ROOT / 'pyproject.toml', 'rb') as file:
    meta = tomllib.load(file)['project']

project = meta['name']
author = meta['authors'][0]['name']
copyright = author
version = release = __version__

extensions = ['myst_parser', 'sphinx.ext.autodoc', 'sphinx.ext.napoleon']
myst_enable_extensions = ['deflist', 'dollarmath']
myst_heading_anchors = 3
# docs/api.md: docstrings in Google's style; types stand in the signatures
default_role = 'literal'
napoleon_numpy_docstring = False
napoleon_use_ivar = True
autodoc_member_order = 'bysource'
exclude_patterns = ['_build']

html_theme = 'furo'
html_title = f'{project} {version}'
