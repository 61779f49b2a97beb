"""The arguments and options of each command. Nothing heavy is imported here."""

from __future__ import annotations

import argparse

LABELS = {  # what each key names, and how to leave it out
    'energy_key': ('key of atoms.info with the energy', ''),
    'force_key': ('key of atoms.arrays with the forces', '; none: no forces'),
    'gradient_key': ('key with the gradient in place of forces', '; none: none'),
    'stress_key': ('key of atoms.info with the stress', '; none: no stress'),
    'virial_key': ('key with the virial in place of a stress', '; none: none'),
}

FORM = {  # how files are written that do not say it themselves
    'format': 'what the files are, such as matpes, spice or mace, or a name of ASE',
    'energy_unit': 'unit of the energy, such as Hartree or meV/atom',
    'length_unit': 'unit of positions and cells',
    'force_unit': 'unit of the forces',
    'stress_unit': 'unit of the stress',
    'stress_sign': 'tension, which is that of ASE, or compression',
    'stress_order': 'order of six components: ase, vasp or lammps',
    'positions_key': 'HDF5: data set with the positions',
    'numbers_key': 'HDF5: data set with the atomic numbers',
    'cell_key': 'HDF5: data set with the cells',
    'index': "frames to read from each file, in ASE's syntax",
    'weight_key': 'none: ignore the weights of single structures',
    'on_bad': 'skip: leave out structures that cannot be used',
}


def train(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add('input_yaml', help='input.yaml for training')
    add(
        '-m',
        '--mode',
        choices=['train_v1', 'train_v2'],
        default='train_v2',
        help="SevenNet's training script; fidelities need train_v2",
    )
    add('-cueq', '--enable_cueq', action='store_true', help='use cuEquivariance')
    add(
        '-flashTP',
        '--enable_flashTP',
        '--enable_flash',
        dest='enable_flash',
        action='store_true',
        help='use FlashTP',
    )
    add('-oeq', '--enable_oeq', action='store_true', help='use OpenEquivariance')
    add(
        '-w',
        '--working_dir',
        nargs='?',
        const='.',
        help='folder for all output; default: the current folder',
    )
    add('-l', '--log', default='log.sevenn', help='name of the log file')
    add('-s', '--screen', action='store_true', help='also print the log')
    add('-d', '--distributed', action='store_true', help='one of several processes')
    add(
        '--distributed_backend',
        default='nccl',
        choices=['nccl', 'gloo', 'mpi'],
        help='nccl for GPUs, gloo or mpi for CPUs; default: nccl',
    )
    add(
        '--resume',
        action='store_true',
        help='resume the interrupted run in the output folder',
    )


def init(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add(
        'files',
        nargs='+',
        metavar='FILE',
        help='labelled structures, from the low level of theory to the high one; '
        'NAME=FILE where the name of the file does not tell the level',
    )
    add('--from', dest='checkpoint', help='start from a checkpoint, such as 7net-0')
    add('--known_as', help='with --from: what its own level is called')
    for name, (what, none) in LABELS.items():
        add(
            f'--{name}',
            action='append',
            metavar='[NAME=]KEY',
            help=f'{what}{none}; NAME=KEY: of one level',
        )
    add('--valid', nargs='+', help='files for validation; default: a share of each')
    add('--hours', type=float, default=1.0, help='time for the training; default: 1')
    add('-o', '--output', default='input.yaml', help='file; default: input.yaml')
    add('--force', action='store_true', help='overwrite the output')


def inspect(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add('input_yaml', help='the YAML whose data are audited')
    add('--json', default='inspect.json', help='report; default: inspect.json')
    add('--plot', default='inspect.png', help='picture; default: inspect.png')
    add('--strict', action='store_true', help='exit with 2 if there are problems')


def evaluate(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add('checkpoint', help='checkpoint file, or a name such as 7net-mf-0')
    add('data', nargs='+', help='files ASE reads, SevenNet graphs, or an input.yaml')
    add('-f', '--fidelity', help='fidelity of the labels in the data')
    add('--predict_as', help='predict at this fidelity, whatever the labels are')
    add('--key', help='read the fidelity from this key of atoms.info')
    for name, (what, none) in LABELS.items():
        add(f'--{name}', help=f'{what}{none}')
    for name, what in FORM.items():
        add(f'--{name}', help=what)
    add('--set', help='which set of an input.yaml, such as validset')
    add('-o', '--output', default='evaluation', help='folder; default: evaluation')
    add('--batch_size', type=int, default=8, help='structures at a time')
    add('--device', default='auto', help='cpu, cuda or auto')


def info(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add('file', help='checkpoint, deployed file or folder, or a name such as 7net-0')
    add('--json', action='store_true', help='print JSON')


def _one_fidelity(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add('checkpoint', help='checkpoint file, or a name such as 7net-mf-0')
    add('-f', '--fidelity', help='which fidelity; common: the part that all share')
    add('--references', help='with common: source of the reference energies')


def export(parser: argparse.ArgumentParser) -> None:
    _one_fidelity(parser)
    add = parser.add_argument
    add('-o', '--output', help='file; default: CHECKPOINT_FIDELITY.pth')
    add(
        '--accelerated',
        action='store_true',
        help='for cuEquivariance, FlashTP or OpenEquivariance in SevenNet alone',
    )


def deploy(parser: argparse.ArgumentParser) -> None:
    _one_fidelity(parser)
    add = parser.add_argument
    add('-p', '--parallel', action='store_true', help='for e3gnn/parallel')
    add('-o', '--output', help='output file; with --parallel a folder')
    add(
        '--no_table',
        action='store_true',
        help='compute radial weights in each step instead of from a table',
    )


def lammps_build(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        '--force', action='store_true', help='compile again, even if up to date'
    )


def lammps_check(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add(
        'checkpoint',
        nargs='?',
        default='7net-0',
        help='checkpoint file, or a name such as 7net-mf-0; default: 7net-0',
    )
    add('-f', '--fidelity', help='which one, if the checkpoint has several')


def study(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add('study_yaml', help='study.yaml, which says what to compare')
    add('-o', '--output', default='study', help='folder; default: study')
    add('--dry_run', action='store_true', help='list the runs and do nothing')
    add('--report_only', action='store_true', help='only write the report')


def select(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add('checkpoint', help='checkpoint file, or a name such as 7net-mf-0')
    add('files', nargs='+', help='files with the structures to choose from')
    add(
        '-n',
        '--number',
        type=int,
        help='how many structures; default: 20, fewer if there are fewer, or as '
        'many as the budget allows',
    )
    add('-o', '--output', default='selected', help='folder; default: selected')
    add('--labelled', nargs='+', help='files with structures already labelled')
    add('-f', '--fidelity', help='which one, if the checkpoint has several')
    add(
        '--distance',
        choices=['mean', 'max'],
        default='mean',
        help='how the distances of its atoms give that of a structure',
    )
    add(
        '--disagreement',
        nargs='+',
        help='more checkpoints; prefer structures on which they disagree',
    )
    add(
        '--disagreement_of',
        choices=['force', 'energy'],
        default='force',
        help='quantity in which they are compared',
    )
    add(
        '--cost',
        default='none',
        help='cost of a structure: none, atoms3 or a key of atoms.info; default: '
        'none',
    )
    add('--budget', type=float, help='limit on the sum of the costs')
    add('--keep', nargs='+', help='keys of atoms.info to keep in the output')
    add('--seed', type=int, help='seed to choose the first structure at random')
    add('--batch_size', type=int, default=8, help='structures at a time')
    add('--device', default='auto', help='cpu, cuda or auto')


def _calculator(parser: argparse.ArgumentParser, levels: str) -> None:
    """A checkpoint or an ASE calculator, and its levels; levels: what -f names."""
    add = parser.add_argument
    add(
        '--with',
        dest='calculator',
        required=True,
        help='checkpoint file, a name such as 7net-mf-0, or the import path of an '
        'ASE calculator: module:Class, or file.py:function',
    )
    add(
        '--arguments',
        help="keywords of the calculator, as '{xc: PBE}', or a YAML file with them",
    )
    add(
        '-f',
        '--fidelity',
        nargs='+',
        help=f'{levels} of a checkpoint several, or NAME=FIDELITY with the name it '
        'has there; default: all it has',
    )


def label(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add('structures', nargs='+', help='files with structures, labelled or not')
    _calculator(parser, 'name of the level of theory;')
    add('-o', '--output', default='labels', help='folder; default: labels')
    add('--keep', nargs='+', help='keys of atoms.info to keep in the output')
    add(
        '--processes',
        type=int,
        default=1,
        help='how many calculators at a time, each in its process; default: 1',
    )
    add('--threads', type=int, default=1, help='cores of each of several processes')
    add('--retry', action='store_true', help='try again what failed before')


def extend(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add('checkpoint', help='checkpoint file, or a name such as 7net-0')
    add(
        'files', nargs='*', help='labels of the new level, to fit reference energies'
    )
    add('-f', '--fidelity', required=True, help='name of the new fidelity')
    add('--known_as', help='new name of the only fidelity of the checkpoint')
    add('--start_from', help='the fidelity from which it starts')
    add(
        '--encoding',
        choices=['bias', 'gain', 'lora'],
        help='form of the new weights',
    )
    add('--rank', type=int, help='rank of lora')
    add('--sites', nargs='+', metavar='SITE', help='layers that get new weights')
    add('--energy_key', help=LABELS['energy_key'][0])
    for name in ('format', 'energy_unit', 'length_unit', 'index', 'on_bad'):
        add(f'--{name}', help=FORM[name])
    add('-o', '--output', help='file; default: CHECKPOINT_FIDELITY.pth')
    add('--device', default='auto', help='cpu, cuda or auto')


def fisher(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add('checkpoint', help='checkpoint file, or a name such as 7net-0')
    add('files', nargs='+', help='files with structures, labelled or not')
    add('-f', '--fidelity', help='which one, if the checkpoint has several')
    add('-o', '--output', default='fisher.pt', help='file; default: fisher.pt')
    add(
        '--force_weight',
        type=float,
        default=0.1,
        help='weight of forces relative to energies',
    )
    add('--samples', type=int, default=1, help='sets of random signs per structure')
    add('--seed', type=int, default=1, help='seed of the random signs')
    add('--device', default='auto', help='cpu, cuda or auto')


def conductivity(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add('checkpoint', nargs='?', help='checkpoint file, or a name such as 7net-mf-0')
    add('structure', nargs='?', help='file with the structure to simulate')
    add('--ion', required=True, help='element of the mobile ion, such as Li')
    add('--charge', type=float, help='of an ion, in e; default: the usual one')
    add('-f', '--fidelity', help='which one, if the checkpoint has several')
    add('-T', '--temperatures', nargs='+', type=float, help='in K')
    add('--length', type=float, help='of each simulation after equilibration, in ps')
    add(
        '--equilibration',
        type=float,
        help='left out at the start, in ps; default: 10, and 0 with --read',
    )
    add(
        '--timestep',
        type=float,
        help='in fs; default: 2, with hydrogen 0.5; with --read that of the dump',
    )
    add('--every', type=float, default=100.0, help='time between frames in fs')
    add('--engine', default='ase', help='ase or lammps; default: ase')
    add('--parallel', type=int, default=1, help='temperatures at the same time')
    add('--resume', action='store_true', help='continue the runs in the folder')
    add(
        '--read',
        nargs='+',
        metavar='T=FILE',
        help='analyse trajectories, one at each T or parts of it in their order',
    )
    add('--frame_time', type=float, help='with --read: time between frames in fs')
    add('--types', nargs='+', help='with --read: elements of the types of a dump')
    add('--start', type=float, help='lag at which diffusion begins, in ps')
    add(
        '--extrapolate', type=float, default=300.0, help='to this T; default: 300 K'
    )
    default = 'conductivity'
    add('-o', '--output', default=default, help=f'folder; default: {default}')
    add('--seed', type=int, default=1, help='of velocities, thermostat and samples')
    add('--device', default='auto', help='cpu, cuda or auto')
    add('--only_run', action='store_true', help=argparse.SUPPRESS)


def hull(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add(
        'structures',
        nargs='+',
        help='files with the phases, of each element at least one of its own',
    )
    _calculator(parser, 'levels of theory to compare:')
    add('-o', '--output', default='hull', help='folder; default: hull')
    add(
        '--fmax',
        type=float,
        default=0.02,
        help='largest force of a relaxed structure in eV/Å; default: 0.02',
    )
    add('--steps', type=int, default=500, help='of a relaxation; default: 500')
    add('--fixed', action='store_true', help='relax nothing')
    add(
        '--tolerance',
        type=float,
        default=5.0,
        help='smaller changes of stability are too close to call, in meV/atom; '
        'default: 5',
    )


def demo(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add('--example', default='example_inputs/ingan', help='folder of the example')
    add('-o', '--output', default='demo', help='folder; default: demo')
    add('--seeds', nargs='+', type=int, default=[], help='train once with each seed')
