"""Import paths that the docs of former versions named still lead to the same."""

from importlib import import_module

import pytest

FORMER = {
    'train.load': ('model.load', ('UNNAMED', 'LoadedModel', 'load_model')),
    'train.evaluate': ('evaluate.evaluation', ('evaluate',)),
    'study.mixing': ('analysis.mixing', ('Mixing', 'mixing_energy', 'r_squared')),
    'study.phase': ('analysis.hull', ('Phase', 'energies_above_hull')),
    'study.relax': ('analysis.relax', ('relax',)),
    'study.select.run': ('select.choose', ('select',)),
    'study.select.options': ('select.options', ('Options',)),
}


@pytest.mark.parametrize('path', FORMER)
def test_the_same_by_its_former_path(path: str) -> None:
    now, names = FORMER[path]
    former, present = (import_module(f'sevennet_mf.{p}') for p in (path, now))
    for name in names:
        assert getattr(former, name) is getattr(present, name)
