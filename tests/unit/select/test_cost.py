"""What a structure costs."""

import pytest
from ase import Atoms

from sevennet_mf.errors import UserError
from sevennet_mf.select.pool import cost_of

WATER = Atoms('OH2', info={'hours': 2.5, 'empty': 0.0, 'kind': 'water'})


def test_costs_by_atoms_and_by_column() -> None:
    cubed, column = cost_of('atoms3'), cost_of('hours')
    assert cubed is not None
    assert column is not None
    assert (cubed(WATER, 'a:0'), column(WATER, 'a:0')) == (27.0, 2.5)
    assert cost_of('none') is None


@pytest.mark.parametrize(
    ('name', 'said'),
    [
        ('hour', "a:0: --cost 'hour' is not in its info.* Did you mean 'hours'?"),
        ('atom3', "Did you mean 'atoms3'?"),
        ('empty', r'its empty \(--cost\) is 0.0, but a cost must be a positive'),
        ('kind', "is 'water', but a cost must be"),
    ],
)
def test_what_is_no_cost_is_named(name: str, said: str) -> None:
    cost = cost_of(name)
    assert cost is not None
    with pytest.raises(UserError, match=said):
        cost(WATER, 'a:0')
