"""docs/api.md lists what is public, and its docstrings say all of it.

Which style that is says CONTRIBUTING.md; that it can be parsed is held by the build
of the documentation, where warnings are errors.
"""

from __future__ import annotations

import ast
import dataclasses
import importlib
import inspect
import re
from pathlib import Path
from typing import Any

import pytest

import sevennet_mf

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / 'docs' / 'api.md').read_text(encoding='utf-8')
LISTED = re.findall(
    r'^\.\. auto(\w+):: ([\w.]+)(?:\n   :members: (.*))?$', PAGE, re.MULTILINE
)
CODE = re.compile(r'^```python\n(.*?)^```$', re.MULTILINE | re.DOTALL)


def found(name: str) -> Any:
    """The object of a dotted name."""
    module, _, last = name.rpartition('.')
    return getattr(importlib.import_module(module), last)


def section(docstring: str, title: str) -> dict[str, str]:
    """The entries of a section of a docstring: name -> text."""
    match = re.search(rf'(?m)^{title}:\n((?:    .*\n|\n)+)', docstring + '\n')
    entries = re.split(r'(?m)^    (?=\S)', match[1]) if match else []
    return dict(entry.split(':', 1) for entry in entries if entry.strip())


def documented() -> dict[str, Any]:
    """What of the page has a signature: functions, classes, and their methods."""
    objects = {}
    for kind, name, members in LISTED:
        if kind not in ('function', 'class'):
            continue
        objects[name] = found(name)
        for member in filter(None, members.split(', ')):
            objects[f'{name}.{member}'] = getattr(objects[name], member)
    return objects


def arguments(thing: Any) -> list[str]:
    if isinstance(thing, property):
        return []
    names = [*inspect.signature(thing).parameters]
    return names[1:] if names[:1] == ['self'] else names


@pytest.mark.parametrize('name', documented())
def test_docstrings_name_every_argument(name: str) -> None:
    thing = documented()[name]
    text = inspect.getdoc(thing) or ''
    assert text.strip()
    title = 'Attributes' if dataclasses.is_dataclass(thing) else 'Args'
    entries = section(text, title)
    assert [*entries] == arguments(thing)
    assert all(entry.strip().endswith('.') for entry in entries.values())


@pytest.mark.parametrize('name', documented())
def test_docstrings_say_what_is_returned(name: str) -> None:
    thing = documented()[name]
    if not inspect.isfunction(thing):
        return
    is_given = inspect.signature(thing).return_annotation not in ('None', None)
    assert ('\nReturns:\n' in (inspect.getdoc(thing) or '')) == is_given


def test_the_page_lists_what_is_public() -> None:
    names = {name for _, name, _ in LISTED}
    public = {f'sevennet_mf.{name}' for name in sevennet_mf.__all__}
    assert public - {'sevennet_mf.__version__'} <= names


@pytest.mark.parametrize(
    'page', sorted((ROOT / 'docs').glob('*.md')), ids=lambda p: p.name
)
def test_what_docs_import_is_on_the_page(page: Path) -> None:
    listed = {name for _, name, _ in LISTED}
    for code in CODE.findall(page.read_text(encoding='utf-8')):
        for node in ast.walk(ast.parse(code)):
            if isinstance(node, ast.ImportFrom) and node.module.startswith(
                sevennet_mf.__name__
            ):
                for alias in node.names:
                    assert f'{node.module}.{alias.name}' in listed
