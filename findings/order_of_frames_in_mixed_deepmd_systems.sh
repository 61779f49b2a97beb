#!/usr/bin/env bash
# dpdata reads the frames of a mixed DeePMD system in another order than they have.
#
# dpdata 1.1.0, numpy 2.4.6, Python 3.11. In the format deepmd/npy/mixed one folder holds
# frames of several compositions with the same number of atoms, each with its own
# real_atom_types. dpdata.MultiSystems.load_systems_from_file splits them by composition
# into systems, and nothing that it returns says at which place of the folder a frame was.
# Whoever joins these frames with something kept beside the folder in the order of its
# frames (ids, weights, labels of a second method) joins the wrong ones, without an error
# or a warning. The input is minimal and valid: three frames of two atoms, He2, Ne2, He2,
# with the energies 1, 2 and 3 eV. Seen:
#
#   written: 1.0 2.0 3.0
#   read:    1.0 3.0 2.0
#
# Ends with 0 if that is still so, with 1 if it has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet dpdata==1.1.0 numpy==2.4.6
cd "$folder"
"$folder/venv/bin/python" -W error - <<'PYTHON'
from pathlib import Path

import dpdata
import numpy as np

system = Path('system')
part = system / 'set.000'
part.mkdir(parents=True)
(system / 'type.raw').write_text('0\n0\n')
(system / 'type_map.raw').write_text('He\nNe\n')
energies = np.array([1.0, 2.0, 3.0])
coordinates = np.array([[0, 0, 0, 0, 0, 2.5], [0, 0, 0, 0, 0, 3.0], [0, 0, 0, 0, 0, 3.5]])
np.save(part / 'real_atom_types.npy', np.array([[0, 0], [1, 1], [0, 0]]))
np.save(part / 'coord.npy', coordinates)
np.save(part / 'box.npy', np.tile(10.0 * np.eye(3).reshape(9), (3, 1)))
np.save(part / 'energy.npy', energies)
np.save(part / 'force.npy', np.zeros((3, 6)))
systems = dpdata.MultiSystems().load_systems_from_file(
    str(system), fmt='deepmd/npy/mixed'
)
found = np.concatenate([one['energies'] for one in systems])
print('written:', *energies)
print('read:   ', *found)
assert sorted(found) == sorted(energies), 'frames are lost'
told = [key for one in systems for key in one.data if 'index' in key or 'order' in key]
raise SystemExit(0 if list(found) == [1.0, 3.0, 2.0] and not told else 1)
PYTHON
