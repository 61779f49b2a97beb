"""YAML as people mean it: numbers are numbers, and no key is given twice."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import IO, Any

import yaml

from sevennet_mf.errors import UserError, nearest_file


class RepeatedKey(UserError):
    """A key is given twice in a block; YAML would silently keep the last."""


class _Loader(yaml.SafeLoader):
    """Reads `lr: 1e-4` as a number, as in YAML 1.2; PyYAML makes it text."""


_Loader.add_implicit_resolver(
    'tag:yaml.org,2002:float',
    re.compile(r'[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+$'),
    list('-+0123456789'),
)


def load(filename: str) -> Any:
    """Return the content of a YAML file.

    Raises:
        UserError: The file does not exist, or is not valid YAML.
        RepeatedKey: A key is given twice in a block; the message has both lines.
    """
    try:
        with open(filename, encoding='utf-8') as stream:
            return parse(stream, filename)
    except FileNotFoundError:
        hint = nearest_file(filename)
        raise UserError(f'no such file: {filename}.{hint}') from None
    except IsADirectoryError:
        raise UserError(f'{filename} is a folder; give a YAML file in it.') from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f'{filename} cannot be read: {error}') from None


def parse(source: str | IO[str], name: str) -> Any:
    """Return the content of YAML in a text or a stream.

    Args:
        name: What errors call it.

    Raises:
        UserError: It is not valid YAML.
        RepeatedKey: As `load`.
    """
    try:
        return _content(_Loader(source), name)
    except (UserError, UnicodeDecodeError):
        raise
    except (yaml.YAMLError, ValueError) as error:  # such as the date 2026-02-30
        reason = ' '.join(str(error).split())
        raise UserError(f'{name} is not valid YAML: {reason}') from None


def _content(loader: _Loader, filename: str) -> Any:
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        _refuse_repeated(node, loader, filename)
        return loader.construct_document(node)
    finally:
        loader.dispose()


def _blocks(
    node: yaml.Node, path: str, seen: set[int]
) -> Iterator[tuple[str, yaml.MappingNode]]:
    """Every block in a node and its path; one with references to it, once."""
    if id(node) in seen:  # an anchor may even be within itself
        return
    seen.add(id(node))
    inner: list[tuple[str, yaml.Node]] = []
    if isinstance(node, yaml.SequenceNode):
        inner = [(f'{path}[{i}]', item) for i, item in enumerate(node.value)]
    elif isinstance(node, yaml.MappingNode):
        yield path, node
        inner = [(f'{path}.{k.value}'.lstrip('.'), v) for k, v in node.value]
    for where, item in inner:
        yield from _blocks(item, where, seen)


def _refuse_repeated(node: yaml.Node, loader: _Loader, filename: str) -> None:
    """Raise RepeatedKey for a key that is given twice in a block."""
    for path, block in _blocks(node, '', set()):
        lines: dict[Any, int] = {}
        for key, _ in block.value:
            # the loader refuses any other key
            if not isinstance(key, yaml.ScalarNode):
                continue
            merges = key.tag == 'tag:yaml.org,2002:merge'  # `<<` of another block
            name = key.tag if merges else loader.construct_object(key)
            line = key.start_mark.line + 1
            if name in lines:
                where = f'{path}.{key.value}'.lstrip('.')
                raise RepeatedKey(_told(filename, where, lines[name], line))
            lines[name] = line


def _told(filename: str, key: str, first: int, second: int) -> str:
    what = '' if '.' in key else 'the section '
    places = f'in line {first} and in line {second}'
    return (
        f'{filename}: {what}{key} is given twice, '
        f'{places if first != second else f"both times in line {first}"}; only the '
        'second would be used. Merge the two into one.'
    )
