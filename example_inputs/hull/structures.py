"""Measured structures of the Li–Ti–O system, as two files for `sevennet-mf hull`.

    python structures.py

writes `ti_o.extxyz`, all that contains no Li, and `li.extxyz`, the rest. The name of
a phase is in the info of its structure. Lengths are in Å, angles in degrees; cells
are primitive. Where the source is a number of the ICSD, the values are those that
the AFLOW library of prototypes (D. Hicks et al., Comput. Mater. Sci. 199, 110450
(2021)) gives for it.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.build import bulk, make_supercell
from ase.spacegroup import crystal

from sevennet_mf.data import extxyz

Sites = Sequence[tuple[str, float, float, float]]


def primitive(
    group: int, cell: Sequence[float], sites: Sites, setting: int = 1
) -> Atoms:
    """A crystal of a space group, from a, b, c, alpha, beta, gamma and its sites."""
    return crystal(
        [site[0] for site in sites],
        [site[1:] for site in sites],
        spacegroup=group,
        setting=setting,
        cellpar=cell,
        primitive_cell=True,
    )


def hexagonal(a: float, c: float) -> list[float]:
    return [a, a, c, 90, 90, 120]


def tetragonal(a: float, c: float) -> list[float]:
    return [a, a, c, 90, 90, 90]


def orthorhombic(a: float, b: float, c: float) -> list[float]:
    return [a, b, c, 90, 90, 90]


def monoclinic(a: float, b: float, c: float, beta: float) -> list[float]:
    return [a, b, c, 90, beta, 90]


def cubic(a: float) -> list[float]:
    return [a, a, a, 90, 90, 90]


def elements() -> dict[str, Atoms]:
    return {
        # R. W. G. Wyckoff, Crystal Structures 1 (1963)
        'Ti': bulk('Ti', 'hcp', a=2.95, c=4.686),
        # J. C. Jamieson, Science 140, 72 (1963)
        'omega-Ti': primitive(
            191,
            hexagonal(4.625, 2.813),
            [('Ti', 0, 0, 0), ('Ti', 1 / 3, 2 / 3, 1 / 2)],
        ),
        # the bond of the molecule, which has no cell: K. P. Huber and G. Herzberg,
        # Constants of Diatomic Molecules (1979)
        'O2': Atoms('O2', [[0, 0, 0], [0, 0, 1.2075]]),
    }


def titanium_oxides() -> dict[str, Atoms]:
    return {
        # ICSD 17009
        'Ti6O': primitive(
            163,
            hexagonal(5.14, 9.48),
            [('Ti', 1 / 3, 0, 3 / 8), ('O', 1 / 3, 2 / 3, 1 / 4)],
        ),
        # ICSD 20041
        'Ti3O': primitive(
            163,
            hexagonal(5.15, 9.56),
            [
                ('Ti', 1 / 3, 1 / 3, 0.118),
                ('O', 0, 0, 1 / 4),
                ('O', 1 / 3, 2 / 3, 1 / 4),
            ],
        ),
        # without the vacancies of real TiO: Wyckoff (1963)
        'TiO rock salt': bulk('TiO', 'rocksalt', a=4.177),
        # a sixth of all sites is empty, in order: D. Watanabe et al., Acta Cryst.
        # 23, 307 (1967); sites of ICSD 56694
        'alpha-TiO': primitive(
            12,
            monoclinic(9.340, 4.142, 5.855, 72.47),
            [
                ('O', 0, 1 / 2, 0),
                ('O', 0.825, 0, 0.343),
                ('O', 0.821, 0, 0.833),
                ('Ti', 0, 0, 1 / 2),
                ('Ti', 0.660, 0, 0.170),
                ('Ti', 0.658, 0, 0.669),
            ],
        ),
        # R. E. Newnham and Y. M. de Haan, Z. Kristallogr. 117, 235 (1962)
        'Ti2O3': primitive(
            167,
            hexagonal(5.149, 13.642),
            [('Ti', 0, 0, 0.345), ('O', 0.317, 0, 0.25)],
        ),
        # ICSD 26492
        'beta-Ti3O5': primitive(
            12,
            monoclinic(9.752, 3.802, 9.442, 88.08),
            [
                ('O', 0.676, 0, 0.940),
                ('O', 0.241, 0, 0.755),
                ('O', 0.588, 0, 0.655),
                ('O', 0.953, 0, 0.842),
                ('O', 0.866, 0, 0.559),
                ('Ti', 0.128, 0, 0.956),
                ('Ti', 0.7786, 0, 0.7331),
                ('Ti', 0.0538, 0, 0.6341),
            ],
        ),
    }


def titanium_dioxides() -> dict[str, Atoms]:
    return {
        # S. C. Abrahams and J. L. Bernstein, J. Chem. Phys. 55, 3206 (1971)
        'rutile': primitive(
            136,
            tetragonal(4.59366, 2.95868),
            [('Ti', 0, 0, 0), ('O', 0.30479, 0.30479, 0)],
        ),
        # M. Horn, C. F. Schwerdtfeger and E. P. Meagher, Z. Kristallogr. 136, 273
        # (1972)
        'anatase': primitive(
            141,
            tetragonal(3.7842, 9.5146),
            [('Ti', 0, 0, 0), ('O', 0, 0, 0.2081)],
        ),
        # E. P. Meagher and G. A. Lager, Can. Mineral. 17, 77 (1979)
        'brookite': primitive(
            61,
            orthorhombic(9.174, 5.449, 5.138),
            [
                ('Ti', 0.1289, 0.0972, 0.8628),
                ('O', 0.0095, 0.1491, 0.1835),
                ('O', 0.2314, 0.1110, 0.5366),
            ],
        ),
        # ICSD 15328
        'columbite': primitive(
            60,
            orthorhombic(4.515, 5.497, 4.939),
            [('Ti', 0, 0.829, 1 / 4), ('O', 0.714, 0.376, 0.588)],
        ),
        'TiO2(B)': bronze(),
    }


def bronze() -> Atoms:
    """TiO2(B), ICSD 57154, in the cell of AFLOW's A2B_mC24_12_4i_2i-002."""
    a = 12.16
    return primitive(
        12,
        monoclinic(a, 0.30756579 * a, 0.9840625 * a, 148.7048),
        [
            ('O', 0.38, 0, 0.01),
            ('O', 0.10, 0, 0.34),
            ('O', 0.19, 0, 0.63),
            ('O', 0.57, 0, 0.72),
            ('Ti', 0.60, 0, 0.28),
            ('Ti', 0.86, 0, 0.26),
        ],
    )


def with_lithium() -> dict[str, Atoms]:
    return {
        # Wyckoff (1963)
        'Li': bulk('Li', 'bcc', a=3.5093),
        'Li2O': primitive(
            225, cubic(4.619), [('O', 0, 0, 0), ('Li', 1 / 4, 1 / 4, 1 / 4)]
        ),
        # L. G. Cota and P. de la Mora, Acta Cryst. B 61, 133 (2005)
        'Li2O2': primitive(
            194,
            hexagonal(3.1830, 7.7258),
            [
                ('Li', 0, 0, 0),
                ('Li', 1 / 3, 2 / 3, 1 / 4),
                ('O', 1 / 3, 2 / 3, 0.6497),
            ],
        ),
        # R. J. Cava et al., J. Solid State Chem. 53, 64 (1984): ICSD 48128
        'LiTiO2': primitive(
            227,
            cubic(8.3756),
            [('Li', 0, 0, 0), ('Ti', 1 / 2, 1 / 2, 1 / 2), ('O', *[0.2552] * 3)],
            setting=2,
        ),
        # anatase filled with Li: ICSD 164158
        'LiTiO2 anatase': primitive(
            141,
            tetragonal(4.043, 8.628),
            [('Li', 0, 0, 1 / 2), ('Ti', 0, 0, 0), ('O', 0, 0, 0.2362)],
        ),
        # Cava et al. (1984)
        'LiTi2O4': spinel(8.405, 0.2628),
        # K. Kataoka et al., Mater. Res. Bull. 44, 168 (2009); sites, to two or three
        # digits, near those of the ideal rock salt
        'Li2TiO3': primitive(
            15,
            monoclinic(5.0623, 8.7876, 9.7533, 100.212),
            [
                ('Li', 0.24, 0.08, 0),
                ('Li', 1 / 4, 1 / 4, 1 / 2),
                ('Li', 0, 0.08, 1 / 4),
                ('Ti', 0, 0.415, 1 / 4),
                ('Ti', 0, 0.747, 1 / 4),
                ('O', 0.14, 0.265, 0.138),
                ('O', 0.10, 0.586, 0.138),
                ('O', 0.14, 0.907, 0.135),
            ],
        ),
        'Li4Ti5O12': lithium_titanate(),
    }


def spinel(a: float, x: float) -> Atoms:
    """LiTi2O4: Li on 8a, Ti on 16d, O on 32e."""
    sites = [('Li', *[1 / 8] * 3), ('Ti', *[1 / 2] * 3), ('O', *[x] * 3)]
    return primitive(227, cubic(a), sites, setting=2)


def lithium_titanate() -> Atoms:
    """Li4Ti5O12, a spinel with Li on a sixth of the sites of Ti.

    In the crystal it is there at random: a = 8.355, K. Kataoka et al., J. Phys.
    Chem. Solids 69, 1454 (2008). Here it is on the two of 12 sites that are farthest
    apart, in a hexagonal cell of three primitive ones.
    """
    cell = [[1, -1, 0], [0, 1, -1], [1, 1, 1]]
    atoms = make_supercell(spinel(8.355, 0.2628), cell)
    sites = np.flatnonzero(atoms.symbols == 'Ti')
    distances = atoms.get_all_distances(mic=True).round(3)
    pair = max(combinations(sites, 2), key=lambda pair: distances[pair])
    atoms.symbols[list(pair)] = 'Li'
    return atoms


def named(phases: dict[str, Atoms]) -> list[Atoms]:
    """Copies without the notes of `crystal`, with their names."""
    found = []
    for name, atoms in phases.items():
        bare = extxyz.stripped(atoms)
        bare.info['name'] = name
        found.append(bare)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description='Write ti_o.extxyz and li.extxyz.')
    parser.add_argument('-o', '--output', default='.', help='folder')
    folder = Path(parser.parse_args().output)
    ti_o = {**elements(), **titanium_oxides(), **titanium_dioxides()}
    extxyz.write(folder / 'ti_o.extxyz', named(ti_o))
    extxyz.write(folder / 'li.extxyz', named(with_lithium()))


if __name__ == '__main__':
    main()
