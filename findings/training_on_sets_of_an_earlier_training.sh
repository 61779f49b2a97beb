#!/usr/bin/env bash
# SevenNet's second training in a process uses a data set that only the first one named.
#
# sevenn 0.13.0, torch 2.13.0, ase 3.29.0, Python 3.11. sevenn/main/sevenn.py collects the
# configuration of a run in a dictionary of the module, global_config, which is updated and
# never emptied. If two trainings run one after the other in one Python process, as in a
# notebook or a scan of hyperparameters, then keys that the second YAML leaves out are those
# of the first. Named data sets (load_..._path) are such keys: the second training evaluates
# itself on the validation set of the first, and picks its best checkpoint by it, without a
# word. Both YAMLs are valid; the second names a training set only. Seen, as the columns of
# lc.csv that are not of the training set:
#
#   first: 2 columns of validset
#   second, which has no validation set: 2 columns of validset
#   second, alone in a process: 0 columns of validset
#
# Ends with 0 if that is still so, with 1 if it has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet \
    sevenn==0.13.0 torch==2.13.0 ase==3.29.0
cd "$folder"
cat > two.py <<'PYTHON'
import csv
import sys
from argparse import Namespace
from pathlib import Path

import yaml
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write
from sevenn.main.sevenn import run


def labelled(name, seeds):
    frames = []
    for seed in seeds:
        atoms = bulk('Cu', cubic=True)
        atoms.rattle(0.1, seed=seed)
        atoms.calc = EMT()
        labels = {
            'energy': atoms.get_potential_energy(),
            'forces': atoms.get_forces(),
            'stress': atoms.get_stress(),
        }
        atoms.calc = SinglePointCalculator(atoms, **labels)
        frames.append(atoms)
    write(name, frames)
    return [str(Path(name).absolute())]


def train(name, **sets):
    sections = {
        'model': {
            'chemical_species': 'Auto',
            'cutoff': 4.0,
            'channel': 2,
            'lmax': 0,
            'num_convolution_layer': 1,
        },
        'train': {
            'epoch': 1,
            'scheduler': 'exponentiallr',
            'scheduler_param': {'gamma': 0.99},
            'error_record': [['Energy', 'RMSE'], ['TotalLoss', 'None']],
        },
        'data': {'batch_size': 2, **sets},
    }
    Path(f'{name}.yaml').write_text(yaml.safe_dump(sections))
    given = dict.fromkeys(('enable_cueq', 'enable_flash', 'enable_oeq'), False)
    given |= {'mode': 'train_v2', 'log': 'log.sevenn', 'screen': False}
    given |= {'distributed': False, 'distributed_backend': 'nccl'}
    run(Namespace(input_yaml=f'{name}.yaml', working_dir=name, **given))
    with open(Path(name) / 'lc.csv') as stream:
        return sum('validset' in column for column in next(csv.reader(stream)))


sets = {'load_trainset_path': labelled('train.xyz', range(4))}
valid = {'load_validset_path': labelled('valid.xyz', range(4, 6))}
if sys.argv[1] == 'two':
    print('first:', train('first', **sets, **valid), 'columns of validset')
    print('second, which has no validation set:', end=' ')
else:
    print('second, alone in a process:', end=' ')
found = train(f'second_{sys.argv[1]}', **sets)
print(found, 'columns of validset')
raise SystemExit(0 if (found > 0) == (sys.argv[1] == 'two') else 1)
PYTHON
"$folder/venv/bin/python" -W ignore two.py two
"$folder/venv/bin/python" -W ignore two.py one
