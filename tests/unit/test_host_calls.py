"""All that is called of the host is in the table, and the table is the host's."""

import ast
import inspect
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import sevenn.train.trainer
from sevenn.scripts import deploy

import sevennet_mf
from sevennet_mf import host, host_calls
from sevennet_mf.errors import HostError
from sevennet_mf.host_calls import CALLS, OVERRIDES, Call, Override

SOURCES = sorted(Path(sevennet_mf.__file__).parent.rglob('*.py'))
TABLE = {f'{call.module}.{call.name}': call for call in CALLS}
TORCH_GEOMETRIC = ('__inc__', '__cat_dim__')


def names_of_host(tree: ast.Module) -> dict[str, str]:
    """What the names in a file stand for, of those that are the host's."""
    names = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            if str(node.module).split('.')[0] == 'sevenn':
                for alias in node.names:
                    names[alias.asname or alias.name] = f'{node.module}.{alias.name}'
        elif isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.split('.')[0] == 'sevenn' and alias.asname:
                    names[alias.asname] = alias.name
    return names


def calls_of_host() -> Iterator[tuple[str, str, ast.Call]]:
    """(file, what is called, how) for every call of the host by its name."""
    for path in SOURCES:
        tree = ast.parse(path.read_text())
        names = names_of_host(tree)

        def dotted(node: Any, names: dict[str, str] = names) -> str | None:
            if isinstance(node, ast.Name):
                return names.get(node.id)
            if isinstance(node, ast.Call):  # Logger().writeline
                return dotted(node.func)
            inner = dotted(node.value) if isinstance(node, ast.Attribute) else None
            return None if inner is None else f'{inner}.{node.attr}'

        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and (name := dotted(node.func)):
                yield path.name, name, node
            if not isinstance(node, ast.ClassDef):
                continue
            base = next((b for b in map(dotted, node.bases) if b), None)
            for inner in ast.walk(node) if base else ():
                if isinstance(inner, ast.Call) and is_super(inner.func):
                    yield path.name, f'{base}.{inner.func.attr}', inner


def is_super(node: Any) -> bool:
    inner = node.value if isinstance(node, ast.Attribute) else None
    return (
        isinstance(inner, ast.Call)
        and isinstance(inner.func, ast.Name)
        and inner.func.id == 'super'
    )


def entry_of(name: str) -> Call | None:
    return TABLE.get(name) or TABLE.get(f'{name}.__init__')


def test_every_call_of_the_host_is_in_the_table() -> None:
    """Else a host that takes other arguments would end in a traceback."""
    seen = set()
    for file, name, call in calls_of_host():
        if name.startswith('sevenn._') or name.endswith(TORCH_GEOMETRIC):
            continue  # methods of constants, and of the bases of its classes
        entry = entry_of(name)
        assert entry is not None, f'{file} calls {name}'
        seen.add(entry)
        given = [k.arg for k in call.keywords if k.arg]
        places = [a for a in call.args if not isinstance(a, ast.Starred)]
        is_unbound = name.split('.')[-2][:1].isupper() and not is_super(call.func)
        if is_unbound and not isinstance(call.func.value, ast.Call):
            places = places[1:]  # IrrepsConvolution.forward(self, data)
        assert len(places) <= len(entry.order), f'{file}: {name}'
        assert {*given} <= {*entry.keywords, *entry.order}, f'{file}: {name}'
    assert len(seen) > 20


def test_the_installed_host_is_as_in_the_table() -> None:
    for entry in (*CALLS, *OVERRIDES):
        import_module(entry.module)
    assert list(host_calls.differences()) == []  # as it is imported


@pytest.mark.parametrize(
    ('module', 'name'),
    [
        ('sevenn.train.dataload', 'unlabeled_atoms_to_graph'),
        ('sevenn.atom_graph_data', 'AtomGraphData.__init__'),
        ('sevenn.nn.linear', 'IrrepsLinear.__init__'),
        ('sevenn.error_recorder', 'ErrorMetric.ddp_reduce'),
    ],
)
def test_a_source_has_the_parameters_of_what_it_defines(
    module: str, name: str
) -> None:
    """What is not imported yet is read, because importing it takes seconds."""
    import_module(module)
    found = host_calls._in_source(module, name)[1 if '.' in name else 0 :]
    wanted = host_calls._parameters(module, name)
    assert [(p.name, p.kind) for p in found] == [(p.name, p.kind) for p in wanted]
    empty = inspect.Parameter.empty
    assert [p.default is empty for p in found] == [
        p.default is empty for p in wanted
    ]


def test_what_is_in_no_source_is_missing() -> None:
    with pytest.raises(LookupError):
        host_calls._in_source('sevenn.train.dataload', 'no_such')
    with pytest.raises(ImportError):
        host_calls._in_source('sevenn.train.no_such', 'no_such')


# ---- hosts that differ


def parameters(function: Any) -> list[inspect.Parameter]:
    return list(inspect.signature(function).parameters.values())


CALL = Call('m', 'f', ('a', 'b'), ('c',))


@pytest.mark.parametrize(
    'function',
    [
        lambda a, b, c: 0,
        lambda a, b, c=1, d=2: 0,
        lambda a, b, d=2, c=1: 0,  # by name, wherever it stands
        lambda a, b, *, c: 0,
        lambda a, b, **more: 0,
        lambda a, b, c, *others, **more: 0,
    ],
)
def test_what_can_be_called_is_not_refused(function: Any) -> None:
    assert CALL.difference(parameters(function)) == ''


@pytest.mark.parametrize(
    ('function', 'listed'),
    [
        (lambda b, a, c: 0, '(b, a, c)'),
        (lambda a, x, b, c: 0, '(a, x, b, c)'),  # another one in between
        (lambda a, b: 0, '(a, b)'),
        (lambda a, b, c, d: 0, '(a, b, c, d)'),  # one more is needed
        (lambda a, *, b, c: 0, '(a, b, c)'),
        (lambda *all, c: 0, '(*all, c)'),
    ],
)
def test_what_cannot_be_called_is_told(function: Any, listed: str) -> None:
    told = CALL.difference(parameters(function))
    assert told == f'takes {listed}, but is called with (a, b, c=)'


def test_a_method_that_is_replaced_takes_exactly_the_same() -> None:
    entry = Override('m', 'C.f', ('a',))
    assert entry.difference(parameters(lambda a: 0)) == ''
    told = entry.difference(parameters(lambda a, b=None: 0))
    assert told == 'takes (a, b=None), but is replaced by one with (a)'


@pytest.mark.parametrize(
    ('place', 'name', 'told'),
    [
        (
            deploy,
            'deploy',
            'sevenn.scripts.deploy.deploy takes (fname, checkpoint), but is called '
            'with (checkpoint, fname)',
        ),
        (
            sevenn.train.trainer.Trainer,
            'get_lr',
            'sevenn.train.trainer.Trainer.get_lr takes (checkpoint), but is called '
            'with ()',
        ),
    ],
)
def test_registration_refuses_it_in_one_line(
    place: Any, name: str, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    was = host.is_registered()
    sevennet_mf.unregister()
    with monkeypatch.context() as changed:
        changed.setattr(place, name, lambda fname, checkpoint: None)
        with pytest.raises(HostError) as caught:
            sevennet_mf.register()
    assert not host.is_registered()
    assert told in str(caught.value)
    assert 'It works with' in str(caught.value)
    assert '\n' not in str(caught.value)
    if was:
        sevennet_mf.register()
