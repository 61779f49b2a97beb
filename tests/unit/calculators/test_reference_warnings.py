"""What is said about reference energies that nobody labelled."""

from __future__ import annotations

from dataclasses import replace

from sevennet_mf import keys
from sevennet_mf.calculators.reference_warnings import reference_doubts
from sevennet_mf.model.load import load_model


def test_ytterbium_in_7net_mf_0() -> None:
    """SevenNet's own file."""
    assert reference_doubts(load_model('7net-mf-0')) == {
        'R2SCAN': [
            'Yb: its reference energy is 0 at R2SCAN but -3.58 eV at PBE. No label '
            'of R2SCAN contained Yb; energies of structures with it '
            'are wrong by several eV there.'
        ]
    }


def test_elements_that_training_could_not_determine() -> None:
    loaded = load_model('7net-mf-0')
    said = {'In': {'determined': False}, 'N': {'determined': True}}
    origin = {'reference_energies': {'PBE': said}}
    doubts = reference_doubts(
        replace(loaded, config={**loaded.config, keys.PROVENANCE: origin})
    )
    (line,) = doubts['PBE']
    assert line.startswith('PBE: not determined for In; no label')
