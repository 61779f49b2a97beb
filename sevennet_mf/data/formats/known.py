"""The forms that data sets are published in: their readers and conventions.

A form sets the keys, units and signs of its labels; what an entry of the YAML sets
takes precedence. See docs/formats.md for the source of each.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any, Final

from sevennet_mf.data.reading.convention import ALTERNATIVES
from sevennet_mf.data.reading.labels import LABEL_KEYS, Entry
from sevennet_mf.errors import UserError

Keys = dict[str, Any]
EXTRA: Final[str] = 'formats'  # of pyproject.toml
VASP: Final[Keys] = {'stress_unit': 'kbar', 'stress_sign': 'compression'}
NO_LABELS: Final[Keys] = {'force_key': None, 'stress_key': None}


@dataclass(frozen=True)
class Form:
    """How a data set is written.

    Attributes:
        reader: the module beside this one.
        keys: keys of an entry that the form sets.
        levels: keys that belong to each `energy_key`, where a file has several
            levels of theory.
        asks: keys that an entry must set, because the form leaves them open.
    """

    reader: str
    keys: Keys = field(default_factory=dict)
    levels: Mapping[str, Keys] = field(default_factory=dict)
    asks: tuple[str, ...] = ()
    weights: bool = False  # whether single structures may have weights
    asks_sign: bool = False  # of the stress, where it has one


MATPES = Form(
    'json_records',
    {'energy_key': 'energy', 'force_key': 'forces', 'stress_key': 'stress', **VASP},
)
# uncorrected: what a calculation gives; its neighbours are corrected, or of the
# relaxed structure
MPTRJ = Form(
    'json_records',
    {
        'energy_key': 'uncorrected_total_energy',
        'force_key': 'force',
        'stress_key': 'stress',
        **VASP,
    },
)
MACE = Form(
    'xyz',
    {
        'energy_key': 'REF_energy',
        'force_key': 'REF_forces',
        'stress_key': 'REF_stress',
        'virial_key': 'REF_virials',
    },
    weights=True,
)
GENERAL = ('energy_key', 'energy_unit')
# in eV, eV/Å and eV/Å^3 (materials.colabfit.org/docs/configuration_schema), which
# does not tell the sign of the stress
COLABFIT = Form(
    'parquet',
    {
        'energy_key': 'energy',
        'force_key': 'atomic_forces',
        'stress_key': 'cauchy_stress',
        'stress_unit': 'eV/Å^3',
    },
    asks_sign=True,
)
ASE_LMDB = Form('ase_lmdb')
ANI_LEVELS: Final[dict[str, Keys]] = {
    'wb97x_dz.energy': {'force_key': 'wb97x_dz.forces'},
    'wb97x_tz.energy': {'force_key': 'wb97x_tz.forces'},
    **{
        f'{level}.energy': {'force_key': None}
        for level in ('ccsd(t)_cbs', 'hf_dz', 'hf_tz', 'hf_qz')
    },
}


def _ani(level: str) -> Form:
    return Form(
        'hdf5',
        {
            'energy_key': f'{level}.energy',
            'energy_unit': 'Hartree',
            'positions_key': 'coordinates',
            'numbers_key': 'atomic_numbers',
            'stress_key': None,
        },
        ANI_LEVELS,
    )


FORMS: Final[dict[str, Form]] = {
    'matpes': MATPES,
    'mptrj': MPTRJ,
    'chgnet': MPTRJ,
    'pymatgen': Form('json_records', asks=GENERAL),
    'aselmdb': ASE_LMDB,
    'omat24': ASE_LMDB,
    'salex': ASE_LMDB,
    'omol25': ASE_LMDB,
    'ani1x': _ani('wb97x_dz'),
    'ani1ccx': _ani('ccsd(t)_cbs'),
    'spice': Form(
        'hdf5',
        {
            'energy_key': 'dft_total_energy',
            'gradient_key': 'dft_total_gradient',
            'energy_unit': 'Hartree',
            'length_unit': 'bohr',
            'positions_key': 'conformations',
            'numbers_key': 'atomic_numbers',
            'stress_key': None,
        },
    ),
    'qm7x': Form(
        'hdf5',
        {
            'energy_key': 'ePBE0+MBD',
            'positions_key': 'atXYZ',
            'numbers_key': 'atNUM',
            'stress_key': None,
        },
        {
            'ePBE0+MBD': {'force_key': 'totFOR'},
            'ePBE0': {'force_key': 'pbe0FOR'},
            'eDFTB+MBD': {'force_key': None},
        },
    ),
    'aimnet': Form(
        'hdf5',
        {
            'energy_key': 'energy',
            'force_key': 'forces',
            'positions_key': 'coord',
            'numbers_key': 'numbers',
            'stress_key': None,
        },
    ),
    'hdf5': Form('hdf5', asks=(*GENERAL, 'positions_key', 'numbers_key')),
    'deepmd': Form(
        'deepmd',
        {'energy_key': 'energy', 'force_key': 'force', 'virial_key': 'virial'},
        weights=True,
    ),
    'mace': MACE,
    'parquet': Form('parquet', asks=GENERAL),
    'colabfit': COLABFIT,
}
# other names of these
SAME_AS: Final[dict[str, str]] = {
    'deepmd/npy': 'deepmd',
    'deepmd/mixed': 'deepmd',
    'deepmd/npy/mixed': 'deepmd',
}


def form_of(reader: str) -> Form | None:
    """Return the form with this name, or None."""
    return FORMS.get(SAME_AS.get(reader, reader))


def module_of(form: Form) -> ModuleType:
    """Return the module that reads a form, with `rows(path, entry)`."""
    return importlib.import_module(f'sevennet_mf.data.formats.{form.reader}')


def completed(
    path: str, reader: str, entry: Entry, has_labels: bool = True
) -> Entry:
    """Return an entry with what the form of its file sets and the entry does not.

    Args:
        has_labels: whether labels are needed.

    Raises:
        UserError: The form leaves open what the entry must say.
    """
    form = form_of(reader)
    if form is None:
        return entry
    keys = {**form.keys, **_own_units(path, form, entry)}
    energy = entry.get('energy_key') or keys.get('energy_key')
    if form.levels:
        keys |= _of_level(path, reader, form, energy, entry)
    for pair in ALTERNATIVES:
        if any(entry.get(key) is not None for key in pair):
            for key in pair:
                keys.pop(key, None)
    whole = {**keys, **{k: v for k, v in entry.items() if _is_said(k, v)}}
    whole['format'] = reader  # not to be looked for again
    for key in form.asks:
        if whole.get(key) is None and (has_labels or key not in GENERAL):
            raise UserError(
                f'{path}: {reader} files do not say {_ASKED[key][0]}. Write '
                f'`{key}:` in the entry, as in `{key}: {_ASKED[key][1]}`.'
            )
    asks_sign = form.asks or (form.asks_sign and has_labels)
    if asks_sign and whole.get('stress_key') is not None:
        _ask_stress(path, whole)
    return whole


_ASKED: Final[dict[str, tuple[str, str]]] = {
    'energy_key': ('which number is the energy', 'energy'),
    'energy_unit': ('the unit of the energy', 'eV'),
    'positions_key': ('which data set has the positions', 'coordinates'),
    'numbers_key': ('which data set has the atomic numbers', 'atomic_numbers'),
}


def _is_said(key: str, value: Any) -> bool:
    # null is a word for labels only
    return value is not None or key in LABEL_KEYS or key == 'weight_key'


def _own_units(path: str, form: Form, entry: Entry) -> Keys:
    """The units that the file itself states, where its form may have them."""
    own: Keys = {}
    if hasattr(module := module_of(form), 'units_of'):
        own = module.units_of(path, {**form.keys, **entry})
    return own


def _of_level(
    path: str, reader: str, form: Form, energy: Any, entry: Entry
) -> Keys:
    """The keys of other labels at the level of an energy."""
    if energy in form.levels:
        return form.levels[energy]
    if 'force_key' not in entry and 'gradient_key' not in entry:
        raise UserError(
            f'{path}: {reader} files hold several levels of theory, and which '
            f'forces belong to {energy!r} is not known. Write `force_key: null`, or '
            'the key of its forces; the forces are known for '
            f'{", ".join(form.levels)}.'
        )
    return {}


def _ask_stress(path: str, entry: Entry) -> None:
    if not entry.get('stress_unit') or not entry.get('stress_sign'):
        raise UserError(
            f'{path}: the file does not say the unit and sign of its stress. '
            "Write `stress_unit: eV/Å^3` and `stress_sign: tension` for ASE's, "
            "`stress_unit: kbar` and `stress_sign: compression` for VASP's, or "
            '`stress_key: null`.'
        )


def need(package: str, path: str) -> ModuleType:
    """Import the package that reads `path`.

    Raises:
        UserError: It is not installed; the message names the extra to install.
    """
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise UserError(
            f'{path} is read with a package that is not installed '
            f"({error.name}). Run `pip install 'sevennet_mf[{EXTRA}]'`."
        ) from None


def recognised(path: str) -> str | None:
    """Return the form of a self-describing file or folder, or None."""
    name = os.path.basename(path).lower()
    if os.path.isdir(path):
        return 'deepmd' if is_system(path) else None
    for suffix in ('.gz', '.bz2', '.xz'):
        name = name.removesuffix(suffix)
    if name.endswith('.parquet'):
        return str(module_of(FORMS['parquet']).recognised(path))
    if name.endswith(('.h5', '.hdf5', '.hdf')):
        return str(module_of(FORMS['hdf5']).recognised(path))
    if name.endswith(('.json', '.jsonl', '.ndjson')):
        found: str | None = module_of(FORMS['pymatgen']).recognised(path)
        return found
    return None


def is_system(path: str) -> bool:
    """Return whether a folder is a DeePMD system."""
    return os.path.isfile(os.path.join(path, 'type.raw'))
