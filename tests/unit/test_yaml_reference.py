"""The generated pages of docs/ are what their generators write today."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

from sevennet_mf.cli.commands import COMMANDS
from sevennet_mf.config import blocks as config

DOCS = Path(__file__).parents[2] / 'docs'
GENERATORS = ['generate_yaml_reference', 'generate_cli_reference']


def load(name: str) -> ModuleType:
    """A generator; docs/ is no package."""
    spec = importlib.util.spec_from_file_location(name, DOCS / f'{name}.py')
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize('name', GENERATORS)
def test_page_is_current(name: str) -> None:
    module = load(name)
    page = module.PAGE.read_text(encoding='utf-8')
    renew = f'renew it with: python docs/{name}.py'
    assert page == module.page(), f'docs/{module.PAGE.name} is not current; {renew}'


def test_yaml_reference_has_every_key_with_its_description() -> None:
    page = load('generate_yaml_reference').page()
    for block in config.Block.__subclasses__():
        for name, field in block.model_fields.items():
            assert field.description, f'{block.__name__}.{name} has no description'
            rows = re.findall(rf'^\| `{name}` \|.*$', page, re.MULTILINE)
            text = ' '.join(field.description.split())
            assert any(text in row for row in rows), f'{block.__name__}.{name}'


@pytest.mark.parametrize(
    ('key', 'value', 'default'),
    [
        ('encoding', '`bias`, `gain`, `lora`', '`bias`'),
        ('rank', 'whole number, 1 or above', '`4`'),
        ('order', 'list of fidelities', ''),
        ('energy', 'number above 0', '`1.0`'),
        ('file', 'text, or list of texts', 'required'),
        ('force_key', 'text, or `null`', ''),
    ],
)
def test_types_in_plain_words(key: str, value: str, default: str) -> None:
    page = load('generate_yaml_reference').page()
    assert f'| `{key}` | {value} | {default} |' in page


def test_every_block_has_a_section_after_the_one_that_it_is_in() -> None:
    module = load('generate_yaml_reference')
    found = {block: title for title, block in module.titled()}
    assert found.keys() >= set(config.Block.__subclasses__())
    places = [*found.values()]
    for inner, outer in (
        ('`train.fidelity.replay.self_label.md`', '`train.fidelity.replay`'),
        ('An entry of `study.variants`', '`study`, of a study.yaml'),
    ):
        assert places.index(inner) > places.index(outer)


def test_an_unknown_type_is_not_passed_over() -> None:
    with pytest.raises(TypeError, match='no words for'):
        load('generate_yaml_reference').words(complex)


def test_command_line_page_has_every_option() -> None:
    page = load('generate_cli_reference').page()
    for name in COMMANDS:
        assert f'## `sevennet-mf {name}`' in page
    options = DOCS.parent / 'sevennet_mf/cli/options.py'
    text = options.read_text(encoding='utf-8')
    for option in re.findall(r"'(--?[A-Za-z]\w*)'", text):
        if option != '--only_run':  # of our own processes
            assert f'`{option}`' in page, option
