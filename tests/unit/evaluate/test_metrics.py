"""Errors by hand, missing labels, and the tables that show them."""

import csv
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from sevennet_mf.errors import UserError
from sevennet_mf.evaluate.metrics import error_table, errors, render, structure_table
from sevennet_mf.evaluate.predictions import Predictions
from sevennet_mf.files import write_csv
from sevennet_mf.keys import KBAR

NAN = np.nan


def predictions(**changes: Any) -> Predictions:
    """Three structures of 2, 1 and 1 atoms: one of `low`, two of `high`."""
    values: dict[str, Any] = {
        'fidelities': ('low', 'high'),
        'predicted_as': ('low', 'high'),
        'sources': ['a.xyz:0', 'b.xyz:0', 'b.xyz:1'],
        'fidelity': np.array([0, 1, 1]),
        'n_atoms': np.array([2, 1, 1]),
        'energy': np.array([-6000.002, -3.0, -4.0]),
        'reference': np.array([-5998.0, -3.5, -3.5]),
        'forces': [
            np.array([[0.1, 0, 0], [0, 0, 0.3]]),
            np.ones((1, 3)),
            np.ones((1, 3)),
        ],
        'stress': np.ones((3, 6)) / KBAR,
        'label_energy': np.array([-6000.0, -3.1, -4.3]),
        'label_forces': [np.zeros((2, 3)), np.zeros((1, 3)), np.full((1, 3), NAN)],
        'label_stress': np.concatenate([np.zeros((1, 6)), np.full((2, 6), NAN)]),
    }
    return Predictions(**{**values, **changes})


def shown(what: Any) -> str:
    stream = io.StringIO()
    Console(width=120, file=stream).print(what)
    return stream.getvalue()


def test_errors_by_hand() -> None:
    low, high = errors(predictions())
    assert (low.fidelity, low.structures) == ('low', 1)
    assert low.labelled == {'energy': 1, 'force': 1, 'stress': 1}
    assert low.mae['energy'] == pytest.approx(1.0)  # 2 meV over 2 atoms
    assert low.mae['force'] == pytest.approx(400 / 6)
    assert low.rmse['force'] == pytest.approx(np.sqrt((100**2 + 300**2) / 6))
    assert low.mae['stress'] == pytest.approx(1.0)
    assert high.structures == 2
    assert high.labelled == {'energy': 2, 'force': 1, 'stress': 0}
    assert high.mae['energy'] == pytest.approx(200.0)  # 100 and 300 meV
    assert high.rmse['energy'] == pytest.approx(np.sqrt((100**2 + 300**2) / 2))
    assert high.mae['force'] == pytest.approx(1000.0)
    assert np.isnan(high.mae['stress'])


def test_order_and_choice_of_fidelities() -> None:
    names = ['high', 'unheard of', 'low']
    assert [row.fidelity for row in errors(predictions(), names)] == ['high', 'low']
    assert [row.fidelity for row in errors(predictions(), ['low'])] == ['low']


def test_compared_leaves_missing_components_out() -> None:
    half = np.array([[0.0, NAN, 0.0]])
    found = predictions(label_forces=[np.zeros((2, 3)), half, half])
    label, predicted = found.compared('force', found.rows('high'))
    assert label.tolist() == [0, 0, 0, 0]
    assert predicted.tolist() == [1, 1, 1, 1]
    assert errors(found)[1].labelled['force'] == 0  # not labelled as a whole


def test_columns_without_labels_are_left_out() -> None:
    found = predictions()
    found.label_stress[:] = np.nan
    text = shown(render(errors(found)))
    assert 'force' in text
    assert 'stress' not in text


def test_table_for_the_terminal() -> None:
    text = shown(render(errors(predictions())))
    assert '1.00 / 1.00' in text
    assert '200.00 / 223.61' in text
    assert '(1 labelled)' in text  # forces of one of two
    assert '–' in text
    assert ' as ' not in text.replace('\n', ' ')
    other = predictions(predicted_as=('high', 'high'))
    assert 'as high' in shown(render(errors(other)))


def test_csv_of_errors(tmp_path: Path) -> None:
    path = tmp_path / 'errors.csv'
    write_csv(str(path), error_table(errors(predictions())))
    with open(path, encoding='utf-8', newline='') as stream:
        low, high = csv.DictReader(stream)
    assert low['fidelity'] == 'low'
    assert float(low['energy_MAE (meV/atom)']) == pytest.approx(1.0)
    assert high['force_labelled'] == '1'
    assert high['stress_MAE (kbar)'] == ''


def test_csv_of_structures_keeps_every_digit() -> None:
    head, *lines = structure_table(predictions())
    rows = [dict(zip(head, line, strict=True)) for line in lines]
    assert [row['source'] for row in rows] == ['a.xyz:0', 'b.xyz:0', 'b.xyz:1']
    assert rows[0]['energy (eV)'] == '-6000.002'
    assert float(rows[0]['energy_error (meV/atom)']) == pytest.approx(-1.0)
    assert float(rows[0]['stress_xy (kbar)']) == pytest.approx(1.0)
    assert rows[1]['stress_label_xy (kbar)'] == ''
    assert rows[1]['force_RMSE (meV/Å)'] == '1000'
    assert rows[2]['force_RMSE (meV/Å)'] == ''


def test_csv_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / 'errors.csv'
    path.write_text('old')
    with pytest.raises(UserError, match='cannot be written'):
        write_csv(str(tmp_path / 'gone' / 'errors.csv'), [['new']])
    assert path.read_text() == 'old'
    assert [p.name for p in tmp_path.iterdir()] == ['errors.csv']
