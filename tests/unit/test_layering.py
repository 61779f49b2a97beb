"""Which module imports which, and that only host.py changes the host."""

import ast
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path

import pytest

PACKAGE = 'sevennet_mf'
ROOT = Path(__file__).parents[2] / PACKAGE
SOURCES = sorted(ROOT.rglob('*.py'))
# what anything may import
BASE: tuple[str, ...] = (
    'keys', 'errors', 'arrays', 'units', 'files', 'lock', 'drawing'
)
# a model and its data, without training
MODEL = (*BASE, 'distributed', 'checkpoint', 'config', 'kernels', 'model')
DATA = (*MODEL, 'data')
TRAINED = (*DATA, 'calculators', 'evaluate', 'train', 'deploy')
# layer -> the layers it may import, from low to high: imports point upwards in
# this list only; a new top-level module or sub-package gets a line here
ALLOWED: dict[str, tuple[str, ...]] = {
    'keys': (),
    'errors': (),
    'arrays': (),
    'testing': (),
    'program': ('errors', 'files'),
    'host_traps': (),
    'host_calls': (),
    'interrupt': (),
    'files': ('errors',),
    'lock': ('errors', 'files'),
    'drawing': ('errors', 'files'),
    'units': ('errors',),
    'distributed': ('errors',),
    'checkpoint': (*BASE, 'checkpoint'),
    'config': (*BASE, 'checkpoint', 'config'),
    'kernels': (*BASE, 'kernels'),
    'model': (*BASE, 'distributed', 'checkpoint', 'config', 'kernels', 'model'),
    'data': (*BASE, 'checkpoint', 'config', 'data'),
    'audit': (*BASE, 'checkpoint', 'config', 'data', 'audit'),
    'calculators': (*DATA, 'calculators'),
    'evaluate': (*DATA, 'evaluate'),
    'train': (
        *(*DATA, 'interrupt', 'program', 'host_traps'),
        *('calculators', 'evaluate', 'train'),
    ),
    'deploy': (*DATA, 'calculators', 'train', 'deploy'),
    'lammps': (*TRAINED, 'program', 'lammps'),
    'info': (*TRAINED, 'info'),
    'select': (*DATA, 'evaluate', 'select'),
    'label': (*DATA, 'interrupt', 'program', 'calculators', 'label'),
    'analysis': (
        *(*TRAINED, 'lammps', 'interrupt', 'program', 'label'),
        'analysis',
    ),
    # select and analysis: their former import paths
    'study': (*TRAINED, 'interrupt', 'program', 'select', 'analysis', 'study'),
    'draft': (*DATA, 'audit', 'train', 'draft'),
    'demo': (*DATA, 'program', 'evaluate', 'train'),
    'cli': ('errors', 'checkpoint', 'program', 'cli'),
}
# the same for the modules and sub-packages of a study
IN_STUDY: dict[str, tuple[str, ...]] = {
    'status': (),
    'runs': ('status',),
    'plan': ('status', 'runs', 'plan'),
    'running': ('status', 'runs', 'plan', 'running'),
    'report': ('status', 'runs', 'report'),
    'command': ('status', 'runs', 'plan', 'running', 'report'),
}
# package -> its rooms, floor by floor from below: modules and sub-packages that
# import from lower floors only; a new room of these packages gets a place here
FLOORS: dict[str, tuple[tuple[str, ...], ...]] = {
    'cli': (('options',), ('commands',), ('parser',), ('entry',), ('__main__',)),
    'checkpoint': (('shipped', 'unpickle'), ('file',), ('origin',)),
    'config': (
        ('paths', 'recipe', 'validation', 'yaml_file'),
        ('optimizer', 'training'),
        ('criteria', 'entry'),
        ('blocks', 'option_words'),
        ('places',),
        ('host_checks',),
        ('complete', 'host_sections', 'later_host', 'run_inputs'),
        ('compatible',),
        ('inherit',),
        ('inputs',),
    ),
    'train': (
        ('loop',),
        ('setup',),
        ('continuing',),
        ('prepare', 'finish'),
        ('run',),
        ('launch',),
        ('evaluate', 'load'),  # former import paths
    ),
    'draft': (
        ('levels', 'size', 'timing'),
        ('plan',),
        ('label_keys', 'text'),
        ('make',),
    ),
}
EXEMPT = ('__init__', 'host')  # host wires the rest into sevenn, at any layer

# files with a stricter rule than their layer: all they may import beside the
# standard library
ONLY = {
    'keys.py': set(),
    'errors.py': set(),
    'arrays.py': {'numpy'},
    'data/estimator.py': {'numpy', 'sevennet_mf.arrays'},
    'data/labelled_energies.py': {
        'numpy',
        'sevennet_mf.arrays',
        'sevennet_mf.data.estimator',
        'sevennet_mf.errors',
    },
    'data/references.py': {
        'numpy',
        'ase.data',  # the symbols of the elements
        'sevennet_mf.arrays',
        'sevennet_mf.data.estimator',
        'sevennet_mf.data.labelled_energies',
        'sevennet_mf.errors',
    },
}
# what answers before anything heavy is loaded
QUICK = ('__init__.py', 'keys.py', 'errors.py', 'program.py', 'cli/__init__.py')
HEAVY = {'torch', 'sevenn', 'numpy', 'ase', 'e3nn', 'torch_geometric', 'matplotlib'}

MUTATORS = {'update', 'pop', 'popitem', 'setdefault', 'clear'}
MUTATORS |= {'append', 'extend', 'insert', 'remove', 'register_module'}


def label(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def layer(path: Path) -> str:
    return path.relative_to(ROOT).parts[0].removesuffix('.py')


@cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


@cache
def is_module(dotted: str) -> bool:
    inner = ROOT.parent / dotted.replace('.', '/')
    return inner.is_dir() or inner.with_suffix('.py').is_file()


def imports(tree: ast.AST, path: Path) -> Iterator[str]:
    """Dotted names that `tree` imports; for ours down to the module."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            source = node.module or ''
            if node.level:
                package = (PACKAGE, *path.relative_to(ROOT).parts[:-1])
                package = package[: len(package) + 1 - node.level]
                source = '.'.join([*package, source]).rstrip('.')
            for alias in node.names:
                name = f'{source}.{alias.name}'
                yield name if is_own(source) and is_module(name) else source


def at_import_time(node: ast.AST) -> Iterator[ast.AST]:
    """The nodes that run when the module is imported: no function bodies."""
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            yield child
            if not for_types_alone(child):
                yield from at_import_time(child)


def for_types_alone(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) == 'TYPE_CHECKING'


def is_own(name: str) -> bool:
    return name.split('.')[0] == PACKAGE


def is_heavy(name: str) -> bool:
    return name.split('.')[0] in HEAVY


@pytest.mark.parametrize('path', SOURCES, ids=label)
def test_imports_point_upwards(path: Path) -> None:
    here = layer(path)
    if here in EXEMPT:
        return
    assert here in ALLOWED, f'{here} has no layer: add a line to ALLOWED'
    for name in imports(parsed(path), path):
        # the package itself offers register() and __version__ to everybody
        if is_own(name) and name != PACKAGE:
            other = name.split('.')[1]
            assert other in ALLOWED[here], f'{label(path)} imports {name}'


def test_a_study_is_planned_done_and_reported() -> None:
    for path in SOURCES:
        parts = path.relative_to(ROOT).with_suffix('').parts
        if parts[0] != 'study' or parts[1] not in IN_STUDY:
            continue  # former import paths
        for name in imports(parsed(path), path):
            if name.startswith(f'{PACKAGE}.study.'):
                other = name.split('.')[2]
                assert other in IN_STUDY[parts[1]], f'{label(path)} imports {name}'


def test_no_module_imports_itself_by_way_of_others() -> None:
    modules = {f'{PACKAGE}.{label(p)[:-3].replace("/", ".")}': p for p in SOURCES}
    left = {}
    for name, path in modules.items():
        body = at_import_time(parsed(path))
        own = [n for n in body if isinstance(n, ast.Import | ast.ImportFrom)]
        left[name] = set(imports(ast.Module(own, []), path)) & modules.keys()
    while free := {name for name, others in left.items() if not others}:
        left = {n: others - free for n, others in left.items() if n not in free}
    assert not left


def test_class_names_are_unique() -> None:
    found = Counter(
        node.name
        for path in SOURCES
        for node in ast.walk(parsed(path))
        if isinstance(node, ast.ClassDef)
    )
    assert {name: n for name, n in found.items() if n > 1} == {}


def room(parts: Sequence[str]) -> str:
    return parts[1].removesuffix('.py')


@pytest.mark.parametrize('path', SOURCES, ids=label)
def test_rooms_of_a_package_have_no_circle(path: Path) -> None:
    package, *inner = path.relative_to(ROOT).parts
    if package not in FLOORS or inner == ['__init__.py']:
        return
    here = room((package, *inner))
    floor = {name: n for n, names in enumerate(FLOORS[package]) for name in names}
    assert here in floor, f'{here} has no floor: add it to FLOORS'
    for name in imports(parsed(path), path):
        _, *parts = name.split('.')
        if is_own(name) and parts[:1] == [package] and len(parts) > 1:
            other = room(parts)
            is_below = other == here or floor[other] < floor[here]
            assert is_below, f'{label(path)} imports {name}'


@pytest.mark.parametrize('file', [f for f in ONLY if (ROOT / f).is_file()])
def test_narrow_files_import_little(file: str) -> None:
    path = ROOT / file
    for name in imports(parsed(path), path):
        known = name.split('.')[0] in sys.stdlib_module_names or any(
            name == allowed or name.startswith(f'{allowed}.')
            for allowed in ONLY[file]
        )
        assert known, f'{file} imports {name}'


@pytest.mark.parametrize('file', [f for f in QUICK if (ROOT / f).is_file()])
def test_quick_modules_import_nothing_heavy(file: str) -> None:
    path = ROOT / file
    body = ast.Module(list(at_import_time(parsed(path))), [])
    assert not [name for name in imports(body, path) if is_heavy(name)]


def modules_after(code: str) -> set[str]:
    """The top-level modules that are loaded when a fresh process has run `code`."""
    code += "\nimport sys\nprint(*{name.split('.')[0] for name in sys.modules})"
    run = subprocess.run(
        [sys.executable, '-W', 'ignore', '-c', code],
        capture_output=True,
        text=True,
        check=True,
    )
    return set(run.stdout.split())


def test_quick_modules_load_nothing_heavy() -> None:
    files = [file.removesuffix('.py').replace('/', '.') for file in QUICK]
    names = [f'{PACKAGE}.{file}' for file in files]
    names = [name.removesuffix('.__init__') for name in names]
    loaded = modules_after(f'import {", ".join(names)}')
    assert PACKAGE in loaded
    assert not HEAVY & loaded


def host_names(tree: ast.AST) -> set[str]:
    """Names in a module that are bound to sevenn or to something of its."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.split('.')[0] == 'sevenn':
                    names.add(alias.asname or 'sevenn')
        elif isinstance(node, ast.ImportFrom):
            if (node.module or '').split('.')[0] == 'sevenn' and not node.level:
                names |= {alias.asname or alias.name for alias in node.names}
        elif isinstance(node, ast.Assign):
            value = ast.unparse(node.value)  # import_module('sevenn.x')
            if 'import_module(' in value and "('sevenn" in value:
                names |= {t.id for t in node.targets if isinstance(t, ast.Name)}
    return names


def root(node: ast.AST) -> str:
    """The name an attribute or item belongs to: `a` of `a.b['c'].d`."""
    while isinstance(node, ast.Attribute | ast.Subscript | ast.Starred):
        node = node.value
    return node.id if isinstance(node, ast.Name) else ''


def host_changes(tree: ast.AST) -> list[int]:
    """Line numbers where `tree` assigns into, deletes from or mutates sevenn."""
    names = host_names(tree)
    lines = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute | ast.Subscript):
            changes = isinstance(node.ctx, ast.Store | ast.Del)
            target: ast.AST = node
        elif isinstance(node, ast.Call) and node.args and root(node.func) in (
            'setattr',
            'delattr',
        ):
            changes, target = True, node.args[0]
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            changes, target = node.func.attr in MUTATORS, node.func.value
        else:
            continue
        if changes and root(target) in names:
            lines.append(node.lineno)
    return lines


@pytest.mark.parametrize('path', SOURCES, ids=label)
def test_only_host_changes_the_host(path: Path) -> None:
    if layer(path) != 'host':
        assert host_changes(parsed(path)) == []


@pytest.mark.parametrize(
    'line',
    [
        'import sevenn\nsevenn.model_build.patch_modules = f',
        'import sevenn.model_build as mb\nmb.patch_modules = f',
        'from sevenn import model_build\nmodel_build.a, b = 1, 2',
        'from sevenn import model_build as m\nsetattr(m, "patch_modules", f)',
        'import sevenn._const as c\nc.DEFAULTS["a"] = 1',
        'import sevenn._const as c\nc.DEFAULTS.update(a=1)',
        'import sevenn._const as c\ndel c.DEFAULTS',
        'from sevenn.nn.linear import IrrepsLinear\nIrrepsLinear.forward += f',
        'import importlib\nm = importlib.import_module("sevenn.util")\nm.a = 1',
    ],
)
def test_a_change_of_the_host_is_seen(line: str) -> None:
    assert host_changes(ast.parse(line)) == [line.count('\n') + 1]


def test_use_of_the_host_is_allowed() -> None:
    code = 'import sevenn.util as u\nx = u.f(1)\nx.y = u.z\nz = {}\nz[u.k] = 1'
    assert host_changes(ast.parse(code)) == []


@pytest.mark.parametrize('path', SOURCES, ids=label)
def test_pictures_look_and_are_written_one_way(path: Path) -> None:
    if layer(path) != 'drawing':
        names = set(imports(parsed(path), path))
        assert not [n for n in names if n.startswith('matplotlib.backends')]
        assert not names & {'matplotlib.pyplot', 'matplotlib.rc_context'}
        assert 'savefig(' not in path.read_text()


def test_a_run_waits_for_nothing_that_it_may_not_need() -> None:
    """Graphs may lie in the cache, and pictures are drawn at the end."""
    loaded = modules_after(
        'import sevennet_mf; sevennet_mf.register()\nimport sevennet_mf.train.run'
    )
    assert 'torch' in loaded
    assert not loaded & {'sklearn', 'matplotlib', 'lammps'}
