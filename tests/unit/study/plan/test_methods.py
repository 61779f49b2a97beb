"""The YAML of each method, before anything is trained."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from commandline import small_yaml
from helpers import INGAN

from sevennet_mf.config import inputs
from sevennet_mf.study.plan import methods
from sevennet_mf.study.plan.budget import Budget
from sevennet_mf.study.plan.methods import Config, StudyRecipe

BUDGET = Budget(10, 7)
# real files, so that the YAML can be read as training would
FILES = {
    'pbe': str(INGAN / 'pbe_train.extxyz'),
    'mid': str(INGAN / 'mixing_pbe.extxyz'),
    'r2scan': str(INGAN / 'r2scan_pool.extxyz'),
}


def sections_of(*order: str) -> Config:
    """A YAML that says something about everything."""
    sections = small_yaml()
    sections['train'].update(epoch=10, device='cpu', best_metric='TotalLoss')
    sections['train']['fidelity'] = {
        'target': order[-1],
        'loss_weight': {name: 1.0 + i for i, name in enumerate(order)},
        'sampling': dict.fromkeys(order, 1.0),
        'regularization': 1e-4,
        'checkpoint_every': 20,
    }
    sections['data'].update(
        scale=3.0,
        fidelity={
            'order': list(order),
            'key': 'level',
            'base': order[0],
            'about': {name: {'code': name} for name in order},
            'reference_energies': {order[-1]: {'In': -3.0}},
        },
        data_divide_ratio=0.1,
    )
    return sections


def recipe_of(*order: str) -> StudyRecipe:
    names = order or ('pbe', 'r2scan')
    return StudyRecipe(
        sections=sections_of(*names),
        budget=Budget(10, 7),
        order=names,
        target='r2scan',
        low='pbe',
        elements=('Ga', 'In', 'N'),
        valid={name: [entry(name)] for name in names},
    )


def entry(name: str, count: int | None = None) -> Config:
    return methods.entry(FILES[name], name, count)


def train(*names: str) -> dict[str, list[Config]]:
    return {name: [entry(name, 4 if name == 'r2scan' else None)] for name in names}


def read(sections: Config) -> tuple[Config, Config, Config]:
    """As training would read it: every key has a meaning there."""
    before = copy.deepcopy(sections)
    found = inputs.from_sections(sections)
    assert sections == before
    return found


def test_high_only_is_of_the_target_alone() -> None:
    recipe = recipe_of()
    sections = methods.training(recipe, train('r2scan'), BUDGET, seed=3)
    read(sections)
    assert 'fidelity' not in sections['model']
    assert sections['train']['fidelity'] == {
        'target': 'r2scan',
        'checkpoint_every': 20,
        'steps_per_epoch': 7,
    }
    assert sections['train']['epoch'] == sections['train']['per_epoch'] == 10
    assert sections['train']['random_seed'] == 3
    assert sections['model']['chemical_species'] == ['Ga', 'In', 'N']
    assert sections['data']['fidelity'] == {
        'order': ['r2scan'],
        'about': {'r2scan': {'code': 'r2scan'}},
        'reference_energies': {'r2scan': {'In': -3.0}},
    }
    assert sections['data']['load_trainset_path'] == [entry('r2scan', 4)]
    assert sections['data']['load_validset_path'] == [entry('r2scan')]
    assert 'data_divide_ratio' not in sections['data']
    # the model is that of the YAML
    for name in ('channel', 'lmax', 'cutoff'):
        assert sections['model'][name] == recipe.sections['model'][name]


def test_multi_fidelity_is_as_it_was_written() -> None:
    recipe = recipe_of()
    sections = methods.training(recipe, train('pbe', 'r2scan'), BUDGET, 1)
    read(sections)
    given = recipe.sections
    assert sections['model']['fidelity'] == given['model']['fidelity']
    ours = dict(sections['train']['fidelity'])
    assert ours.pop('steps_per_epoch') == 7
    assert ours == given['train']['fidelity']
    wanted = {k: v for k, v in given['data']['fidelity'].items() if k != 'key'}
    assert sections['data']['fidelity'] == wanted
    assert sections['data']['load_trainset_path'] == [
        entry('pbe'),
        entry('r2scan', 4),
    ]


def test_low_is_all_but_the_target() -> None:
    two = methods.training(recipe_of(), train('pbe'), BUDGET, 1, 'pbe')
    read(two)
    assert two['train']['fidelity']['target'] == 'pbe'
    assert two['data']['fidelity']['order'] == ['pbe']
    assert 'reference_energies' not in two['data']['fidelity']
    assert 'fidelity' not in two['model']
    recipe = recipe_of('pbe', 'mid', 'r2scan')
    three = methods.training(recipe, train('pbe', 'mid'), BUDGET, 1, 'pbe')
    read(three)
    assert three['model']['fidelity'] == {'encoding': 'bias'}
    assert three['train']['fidelity']['loss_weight'] == {'pbe': 1.0, 'mid': 2.0}
    assert three['train']['fidelity']['sampling'] == {'pbe': 1.0, 'mid': 1.0}
    assert three['data']['fidelity']['base'] == 'pbe'


def test_transfer_starts_from_the_low_model() -> None:
    sections = methods.transfer(recipe_of(), train('r2scan'), BUDGET, 1, 'low.pth')
    start = sections['train'].pop('continue')
    assert start == {
        'checkpoint': 'low.pth',
        'reset_optimizer': True,
        'reset_scheduler': True,
        'reset_epoch': True,
        'use_statistic_values_of_checkpoint': False,
    }
    read(sections)
    # what the checkpoint brings along would be refused
    assert 'scale' not in sections['data']
    assert 'reference_energies' not in sections['data']['fidelity']


def test_difference_is_a_fidelity_of_its_own() -> None:
    recipe = recipe_of()
    assert recipe.difference == 'r2scan_minus_pbe'
    files = (FILES['r2scan'], FILES['pbe'])
    sections = methods.difference(recipe, files, BUDGET, 1)
    read(sections)
    assert sections['train']['fidelity']['target'] == 'r2scan_minus_pbe'
    assert sections['data']['fidelity'] == {
        'order': ['r2scan_minus_pbe'],
        'about': {'r2scan_minus_pbe': {'difference_to': 'pbe'}},
    }
    listed = sections['data']['load_trainset_path']
    assert listed == [{'file': files[0], 'fidelity': 'r2scan_minus_pbe'}]
    without = methods.difference(recipe, (files[0], ''), BUDGET, 1)
    assert 'load_validset_path' not in without['data']


def test_what_pairs_are_used_for_needs_them() -> None:
    recipe = recipe_of('pbe', 'mid', 'r2scan')
    recipe.sections['data']['fidelity']['inferred_labels'] = 'auto'
    alone = methods.training(recipe, train('r2scan'), BUDGET, 1)
    assert 'inferred_labels' not in alone['data']['fidelity']
    every = methods.training(recipe, train('pbe', 'mid', 'r2scan'), BUDGET, 1)
    assert every['data']['fidelity']['inferred_labels'] == 'auto'


def test_what_goes_in_stays_as_it_was() -> None:
    recipe = recipe_of()
    before = copy.deepcopy(recipe.sections)
    methods.training(recipe, train('r2scan'), Budget(3, 1), 1)
    methods.transfer(recipe, train('r2scan'), BUDGET, 1, 'low.pth')
    methods.difference(recipe, ('a', 'b'), BUDGET, 1)
    host(recipe)
    assert recipe.sections == before


def test_changes_of_a_variant_are_merged_block_by_block() -> None:
    base = {'model': {'channel': 4, 'fidelity': {'encoding': 'bias', 'rank': 2}}}
    change: dict[str, Any] = {
        'model': {'fidelity': {'encoding': 'lora', 'rank': None}}
    }
    found = methods.merged(base, change)
    assert found == {'model': {'channel': 4, 'fidelity': {'encoding': 'lora'}}}
    assert base['model']['fidelity'] == {'encoding': 'bias', 'rank': 2}


# ---- SevenNet's own


def host(recipe: StudyRecipe, change: Config | None = None) -> Config:
    names = recipe.order
    counts = {'pbe': 164, 'mid': 5, 'r2scan': 4}
    return methods.host_modality(
        recipe,
        train(*names),
        {name: counts[name] for name in names},
        Budget(3, 42),
        2,
        change or {},
    )


def test_host_modality_is_a_yaml_of_sevennet() -> None:
    sections = host(recipe_of())
    assert not inputs.has_fidelity(sections)
    # the sites of SevenNet's own multi_modal.yaml
    switches = {
        k: v for k, v in sections['model'].items() if k.startswith('use_modal')
    }
    assert switches == {
        'use_modal_node_embedding': False,
        'use_modal_self_inter_intro': True,
        'use_modal_self_inter_outro': True,
        'use_modal_output_block': True,
    }
    assert sections['train']['use_modality'] is True
    assert sections['train']['use_weight'] is True  # else data_weight is ignored
    data = sections['data']
    assert data['use_modal_wise_shift'] is True
    assert data['use_modal_wise_scale'] is False
    assert data['scale'] == 3.0
    pbe, r2scan = data['load_trainset_path']
    assert pbe['file_list'] == [{'file': FILES['pbe']}]
    assert r2scan == {
        'data_modality': 'r2scan',
        'file_list': [{'file': FILES['r2scan'], 'index': ':4'}],
        'data_weight': {'energy': 2.0, 'force': 2.0, 'stress': 2.0},
    }
    # the best checkpoint is that of this set, so of the target alone
    (valid,) = data['load_validset_path']
    assert valid['data_modality'] == 'r2scan'


def test_host_modality_reads_with_the_host() -> None:
    from sevenn.parse_input import (
        init_data_config,
        init_model_config,
        init_train_config,
    )

    sections = host(recipe_of())
    init_model_config(copy.deepcopy(sections['model']))
    init_train_config(copy.deepcopy(sections['train']))
    init_data_config(copy.deepcopy(sections['data']))


def test_the_host_gets_what_it_can_read() -> None:
    recipe = recipe_of()
    recipe.sections['train']['device'] = 'auto'  # torch knows no such device
    recipe.sections['model']['conv_denominator'] = 4
    recipe.sections['data']['scale'] = 1
    sections = host(recipe)
    assert 'device' not in sections['train']
    for value in (sections['model']['conv_denominator'], sections['data']['scale']):
        assert isinstance(value, float)
    recipe.sections['train']['device'] = 'cpu'
    assert host(recipe)['train']['device'] == 'cpu'


def test_weights_of_host_modality() -> None:
    recipe = recipe_of('pbe', 'mid', 'r2scan')
    block = recipe.sections['train']['fidelity']
    block['loss_weight'] = 'balanced'
    weights = [e['data_weight']['force'] for e in loads(host(recipe))]
    shares = [n * w for n, w in zip((164, 5, 4), weights, strict=True)]
    assert shares == pytest.approx([sum(shares) / 3] * 3)
    block['loss_weight'] = {'r2scan': {'energy': 5.0, 'force': 2.0}}
    assert [e['data_weight'] for e in loads(host(recipe))] == [
        {'energy': 1.0, 'force': 1.0, 'stress': 1.0},
        {'energy': 1.0, 'force': 1.0, 'stress': 1.0},
        {'energy': 5.0, 'force': 2.0, 'stress': 1.0},
    ]
    del block['loss_weight']
    assert not any('data_weight' in e for e in loads(host(recipe)))
    assert host(recipe)['train']['use_weight'] is False


def loads(sections: Config) -> list[Config]:
    found: list[Config] = sections['data']['load_trainset_path']
    return found


def test_a_variant_may_set_sites_of_the_host() -> None:
    change = {'model': {'use_modal_node_embedding': True}}
    assert host(recipe_of(), change)['model']['use_modal_node_embedding'] is True


@pytest.mark.parametrize(
    ('steps', 'structures', 'wanted'),
    [(3000, 193, (61, 49)), (3000, 168, (71, 42)), (5, 200, (1, 50))],
)
def test_epochs_of_the_host_come_near_the_steps(
    steps: int, structures: int, wanted: tuple[int, int]
) -> None:
    found = methods.budget_for(steps, structures, 4)
    assert (found.epochs, found.steps_per_epoch) == wanted
