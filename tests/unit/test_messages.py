"""Options and words of the YAML that messages name exist."""

from __future__ import annotations

import argparse
import ast
import re
from collections.abc import Collection, Iterator
from pathlib import Path

import pytest

import sevennet_mf
from sevennet_mf.cli.commands import COMMANDS
from sevennet_mf.cli.parser import make_parser
from sevennet_mf.config.option_words import ENTRY
from sevennet_mf.config.places import OURS
from sevennet_mf.draft.label_keys import OPTIONS as OF_INIT
from sevennet_mf.train.continuing.extend_file import ENTRY as OF_EXTEND

PATH = r'\b((?:model|train|data)\.fidelity)\.(\w+)'
PACKAGE = Path(sevennet_mf.__file__).parent
# of other programs: torchrun, pip, a linker, Slurm; of scripts that make structures
OTHERS = {
    *('--nproc_per_node', '--force-reinstall', '--no-as-needed'),
    *('--disable-new-dtags', '--me', '--noheader', '--array'),
    *('--small', '--version'),
}


def options_of(command: str) -> set[str]:
    parser: argparse.ArgumentParser = make_parser()
    for word in command.split():
        [groups] = [
            action
            for action in parser._actions
            if isinstance(action, argparse._SubParsersAction)
        ]
        parser = groups.choices[word]
    return {
        option for action in parser._actions for option in action.option_strings
    }


def texts() -> Iterator[tuple[str, str]]:
    """Where and what: each text in the code that is no docstring."""
    for path in sorted(PACKAGE.rglob('*.py')):
        tree = ast.parse(path.read_text(encoding='utf-8'))
        docs = {
            id(node.value)
            for node in ast.walk(tree)
            if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        }
        for node in ast.walk(tree):
            is_text = isinstance(node, ast.Constant) and isinstance(node.value, str)
            if is_text and id(node) not in docs:
                where = f'{path.relative_to(PACKAGE)}:{node.lineno}'
                yield where, str(node.value)


@pytest.fixture(scope='module')
def said() -> list[tuple[str, str]]:
    return list(texts())


def test_options_that_messages_name_exist(said: list[tuple[str, str]]) -> None:
    known = {option for command in COMMANDS for option in options_of(command)}
    named = [
        (where, found)
        for where, text in said
        for found in re.findall(r'(?<![-\w])--[a-z]\w*(?:-\w+)*', text)
    ]
    assert len(named) > 50
    assert [pair for pair in named if pair[1] not in known | OTHERS] == []


def test_words_of_the_yaml_that_messages_name_exist(
    said: list[tuple[str, str]],
) -> None:
    named = [
        (where, block, name)
        for where, text in said
        for block, name in re.findall(PATH, text)
    ]
    assert len(named) > 50
    lacking = [row for row in named if row[2] not in OURS[row[1]].model_fields]
    assert lacking == []


@pytest.mark.parametrize(
    ('command', 'keys'),
    [('evaluate', ENTRY), ('extend', OF_EXTEND), ('init', OF_INIT)],
)
def test_keys_of_an_entry_that_messages_turn_into_options_exist(
    command: str, keys: Collection[str]
) -> None:
    assert {f'--{key}' for key in keys} <= options_of(command)
