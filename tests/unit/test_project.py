"""What pyproject.toml, constraints.txt, CONTRIBUTING.md and the docs promise."""

import ast
import re
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / 'pyproject.toml').read_text())['project']
# modules whose name is not their distribution's
DISTRIBUTION = {'yaml': 'pyyaml', 'pydantic_core': 'pydantic'}
# the CUDA packages of torch, which pins them itself
OF_TORCH = re.compile(r'nvidia-|cuda-|triton$')


def pins() -> dict[str, str]:
    """Name -> version of each line of constraints.txt."""
    lines = (ROOT / 'constraints.txt').read_text().splitlines()
    found = {}
    for line in lines:
        if line and not line.startswith('#'):
            match = re.fullmatch(r'([\w.-]+)==([\w.]+)', line)
            assert match, f'not a plain pin: {line}'
            found[canonicalize_name(match[1])] = match[2]
    return found


def requirements() -> list[Requirement]:
    extras = PROJECT['optional-dependencies'].values()
    texts = [*PROJECT['dependencies'], *(text for extra in extras for text in extra)]
    return [Requirement(text) for text in texts]


def test_tested_versions_are_pinned() -> None:
    assert pins()['torch'] == '2.13.0'
    assert pins()['sevenn'] == '0.13.0'


def test_pins_satisfy_what_is_asked_for() -> None:
    for requirement in requirements():
        name = canonicalize_name(requirement.name)
        if name != canonicalize_name(PROJECT['name']):
            assert requirement.specifier.contains(pins()[name], prereleases=True)


def test_whole_closure_is_pinned() -> None:
    seen: set[str] = set()
    todo = [r.name for r in requirements()]
    while todo:
        name = canonicalize_name(todo.pop())
        if name in seen or name == canonicalize_name(PROJECT['name']):
            continue
        if OF_TORCH.match(name):
            continue
        seen.add(name)
        try:
            needs = metadata.requires(name) or []
        except metadata.PackageNotFoundError:  # of an extra that is not installed
            continue
        for text in needs:
            requirement = Requirement(text)
            if not requirement.marker or requirement.marker.evaluate({'extra': ''}):
                todo.append(requirement.name)
    assert 'pydantic-core' in seen  # the walk went below the first level
    assert seen - set(pins()) == set()


def test_each_dependency_is_explained() -> None:
    page = (ROOT / 'docs' / 'dependencies.md').read_text()
    in_code = re.findall(r'`([\w.-]+)`', page)
    explained = {canonicalize_name(name) for name in in_code}
    named = {canonicalize_name(r.name) for r in requirements()}
    named.discard(canonicalize_name(PROJECT['name']))
    assert named - explained == set()


@pytest.mark.parametrize(
    'path', sorted((ROOT / PROJECT['name']).rglob('*.py')), ids=lambda p: p.name
)
def test_every_import_is_a_declared_dependency(path: Path) -> None:
    extras = PROJECT['optional-dependencies']
    asked = [*PROJECT['dependencies'], *extras['slurm'], *extras['analysis']]
    declared = {canonicalize_name(Requirement(r).name) for r in asked}
    own = {PROJECT['name'], *sys.stdlib_module_names}
    for node in ast.walk(ast.parse(path.read_text())):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names = [node.module or '']
        for name in {n.split('.')[0] for n in names} - own:
            known = canonicalize_name(DISTRIBUTION.get(name, name))
            assert known in declared, f'{path.name} imports {name}'


# a file or folder, and a name in it, as CONTRIBUTING.md cites them
PATH = re.compile(r'`([\w.]+(?:/[\w.]+)+/?)`')
NAME = re.compile(r'`([A-Za-z_]\w+)`')


def advice() -> list[str]:
    """The items of the lists that say which files to change."""
    text = (ROOT / 'CONTRIBUTING.md').read_text(encoding='utf-8')
    lists = text.partition('## Which files for what')[2].partition('\n## ')[0]
    return re.findall(r'(?m)^(?:\d\.|-) .*(?:\n +.*)*', lists)


def test_contributing_names_files_that_are_there() -> None:
    text = (ROOT / 'CONTRIBUTING.md').read_text(encoding='utf-8')
    named = set(PATH.findall(text))
    assert len(named) > 20
    assert [path for path in named if not (ROOT / path).exists()] == []


@pytest.mark.parametrize('item', advice(), ids=lambda item: PATH.findall(item)[:1])
def test_contributing_names_what_is_in_the_files(item: str) -> None:
    files = [ROOT / path for path in PATH.findall(item)]
    files = [file for file in files if file.is_file()]
    text = ''.join(file.read_text(encoding='utf-8') for file in files)
    if text:
        missing = [name for name in NAME.findall(item) if name not in text]
        assert not missing, f'{item}: {missing}'
