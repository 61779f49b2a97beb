#!/usr/bin/env bash
# kinisi's readers count the first frame twice: mean squared displacements at wrong lags.
#
# kinisi 2.1.0, scipp 26.8.0, ase 3.29.0, numpy 2.4.6, Python 3.11. The readers of ASE,
# pymatgen and MDAnalysis put a copy of the first frame in front of a trajectory (such as
# coords.insert(0, coords[0]) in kinisi/ase.py), and kinisi/displacement.py takes the
# displacement of the first window of each lag from the first of the resulting steps, which
# is 0: that window is one frame short. Four frames 1 ps apart span 3 ps, and get a mean
# squared displacement at 4 ps. Of ions that move at 1 Å/ps it is lag squared; seen:
#
#   lag 1 ps: 0.75 Å^2, right is 1.0
#   lag 2 ps: 3.00 Å^2, right is 4.0
#   lag 3 ps: 6.50 Å^2, right is 9.0
#   lag 4 ps: 9.00 Å^2, and no two frames are that far apart
#
# Short lags of a long trajectory hardly notice; the longest, and short trajectories, do.
#
# Ends with 0 if that is still so, with 1 if it has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet \
    kinisi==2.1.0 scipp==26.8.0 ase==3.29.0 numpy==2.4.6
"$folder/venv/bin/python" -W ignore - <<'PYTHON'
import numpy as np
import scipp as sc
from ase import Atoms
from kinisi.analyze import DiffusionAnalyzer

frames = [
    Atoms(
        'Li2S2',
        positions=[[t, 0, 0], [0, t, 0], [5, 5, 5], [7, 7, 7]],
        cell=[20] * 3,
        pbc=True,
    )
    for t in range(4)
]
found = DiffusionAnalyzer.from_ase(
    frames, 'Li', 1 * sc.Unit('ps'), 1 * sc.Unit('dimensionless'), progress=False
)
lags, msd = found.dt.values, found.msd.values
for lag, value in zip(lags, msd):
    right = f'right is {lag**2:.1f}' if lag < 4 else 'and no two frames are that far apart'
    print(f'lag {lag:.0f} ps: {value:.2f} Å^2, {right}')
is_so = len(lags) == 4 and np.allclose(msd, [0.75, 3.0, 6.5, 9.0])
raise SystemExit(0 if is_so else 1)
PYTHON
