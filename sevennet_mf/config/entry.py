"""An entry of a `load_*_path`: files, their labels, units and signs.

The reference page in docs/ is generated from the descriptions in this file.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator

from sevennet_mf import units
from sevennet_mf.config.validation import Block, Name

Files = str | Annotated[list[str], Field(min_length=1)]


class DataEntry(Block):
    """One entry of a `load_*_path` list."""

    file: Files = Field(
        description='A file that ASE can read, a file of a published data set (see '
        '`format`), a SevenNet graph file (`.pt`), a `structure_list`, a folder of '
        '`.aselmdb` files or of DeePMD systems, a pattern with `*` or `{a,b}`, or '
        'a list of these.'
    )
    fidelity: Name | None = Field(
        None,
        description='Fidelity of all structures in the file. Default: read '
        'from each structure with `data.fidelity.key`.',
    )
    energy_key: str | None = Field(
        None,
        description='Key of `atoms.info` that holds the total energy (eV). '
        'Default: the energy that ASE reads, or the free energy if there is one.',
    )
    force_key: str | None = Field(
        None,
        description='Key of `atoms.arrays` that holds the forces (eV/Å); `null`: '
        'no forces. Default: the forces that ASE reads.',
    )
    gradient_key: str | None = Field(
        None,
        description='Instead of `force_key`: key that holds the gradient of the '
        'energy; the forces are minus the gradient.',
    )
    stress_key: str | None = Field(
        None,
        description='Key of `atoms.info` that holds the stress (eV/Å^3, ASE sign '
        'and order); `null`: no stress. Default: the stress that ASE reads.',
    )
    virial_key: str | None = Field(
        None,
        description='Used instead of `stress_key`: key of `atoms.info`, or of '
        '`atoms.arrays` to be summed over the atoms, that holds the virial (eV): '
        '-V times the stress in ASE sign and order, positive under compression. '
        '`null`: ignore virials in the file.',
    )
    index: str = Field(
        ':',
        description="Frames to read from each file, in ASE's syntax; for an ASE "
        'database also a query.',
    )
    format: str | None = Field(
        None,
        description='What the file is, if its name and content do not tell: a '
        'published form (`matpes`, `mptrj`, `chgnet`, `aselmdb`, `omat24`, `salex`, '
        '`omol25`, `ani1x`, `ani1ccx`, `spice`, `qm7x`, `aimnet`, `colabfit`, '
        '`deepmd`, `mace`), a general one (`pymatgen`, `hdf5`, `parquet`), or the '
        'ASE name of a file format. A published form sets the keys, units and signs '
        'below.',
    )
    energy_unit: str | None = Field(
        None,
        description='Unit of the energy: eV (the default), meV, Hartree, Rydberg, '
        'kcal/mol or kJ/mol, followed by `/atom` if it is per atom.',
    )
    length_unit: str | None = Field(
        None,
        description='Unit of positions and cells: Å (the default), bohr, nm or pm.',
    )
    force_unit: str | None = Field(
        None,
        description='Unit of forces and gradients, as in `kcal/mol/Å`. Default: '
        '`energy_unit` per `length_unit`.',
    )
    stress_unit: str | None = Field(
        None,
        description='Unit of the stress: GPa, MPa, kbar, bar, or an energy per '
        'volume, as in `eV/Å^3`; with `virial_key`, an energy. Default: '
        '`energy_unit` per cubed `length_unit`; for a virial, `energy_unit`.',
    )
    stress_sign: Literal['tension', 'compression'] | None = Field(
        None,
        description='When the stress or virial is positive. Default: under '
        '`tension`, as in ASE; for a virial, under `compression`.',
    )
    stress_order: Literal['ase', 'vasp', 'lammps'] | None = Field(
        None,
        description='Order of the six components. `ase` (the default): xx yy zz yz '
        'xz xy. `vasp`: xx yy zz xy yz zx. `lammps`: xx yy zz xy xz yz.',
    )
    positions_key: str | None = Field(
        None, description='HDF5 files: name of the dataset with the positions.'
    )
    numbers_key: str | None = Field(
        None, description='HDF5 files: name of the dataset with the atomic numbers.'
    )
    cell_key: str | None = Field(
        None, description='HDF5 files: name of the dataset with the cells.'
    )
    weight_key: None = Field(
        None,
        description='`null`: ignore the weights of single structures, as in MACE '
        'files. Without it, weights other than 0 and 1 are refused, and a label of '
        'weight 0 counts as missing.',
    )
    on_bad: Literal['stop', 'skip'] = Field(
        'stop',
        description='What to do at a structure that cannot be used: `stop` with an '
        'error, or `skip` it; the log says how many were skipped, and why the '
        'first.',
    )

    @field_validator('index', mode='before')
    @classmethod
    def _as_text(cls, index: Any) -> Any:
        is_number = isinstance(index, int) and not isinstance(index, bool)
        return str(index) if is_number else index

    @field_validator('energy_unit', 'length_unit', 'force_unit')
    @classmethod
    def _a_unit(cls, name: str | None, info: ValidationInfo) -> str | None:
        if name is not None:
            units.BY_KEY[str(info.field_name)](name)
        return name

    @model_validator(mode='after')
    def _unit_of_stress(self) -> DataEntry:
        if self.stress_unit is not None:
            is_virial = self.virial_key is not None
            (units.energy if is_virial else units.stress)(self.stress_unit)
        return self

    @model_validator(mode='after')
    def _one_stress(self) -> DataEntry:
        if self.stress_key is not None and self.virial_key is not None:
            raise ValueError(
                'stress_key and virial_key both give the stress; take one out'
            )
        if self.force_key is not None and self.gradient_key is not None:
            raise ValueError(
                'force_key and gradient_key both give the forces; take one out'
            )
        return self
