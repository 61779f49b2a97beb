"""What the default recipe is worth: on several systems, beside other ways to train.

Each arm changes the section `train` alone: SevenNet's own defaults, which a YAML
with a `fidelity` had at first; the recipe, with nothing said; the values of the
system's example; the recipe with half and with twice its learning rate. Where the
example has the recipe's values, both are one run. The last checkpoint is measured,
on structures without a label of the target in training. What is done is not done
again.

    python benchmarks/defaults.py            # 12 or 15 trainings of each system
    python benchmarks/defaults.py --steps 4 --seeds 1 -o try    # does it work?
"""

from __future__ import annotations

import argparse
import copy
import csv
import json
import sys
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from ase.io import read, write
from pretrained import cell, run_in
from pretrained_systems import BENCHMARKS, EXAMPLES, SYSTEMS

from sevennet_mf import keys
from sevennet_mf.config import inputs, recipe

DATA = BENCHMARKS.parent / 'tests' / 'data' / 'ingan'
INGAN, MOLECULES = EXAMPLES / 'ingan', EXAMPLES / 'molecules'
ARMS = ('sevennet', 'recipe', 'tuned', 'half', 'double')
SEVENNET, RECIPE, TUNED, HALF, DOUBLE = ARMS
DRAWING = threading.Lock()  # matplotlib knows one thread
COLUMNS = ('energy (meV/atom)', 'force (meV/Å)')
# what a YAML with a `fidelity` had without the recipe
OLD = {
    'loss': 'mse',
    'loss_param': {},
    'force_loss_weight': 0.1,
    'stress_loss_weight': 1.0e-6,
    'optimizer': 'adam',
    'optim_param': {'lr': 0.001},
    'scheduler': 'exponentiallr',
    'scheduler_param': {'gamma': 1.0},
}
# of a section `train` what an arm may change
TRAINING = (*OLD, 'is_train_stress')


@dataclass(frozen=True)
class System:
    """Data, model and length of a training.

    example: the YAML of its model, data and tuned values; test: as an entry of
    load_validset_path; epochs, steps: of the schedule, and of the optimiser; pool,
    n: files that n labels of the target are drawn from anew for every seed; without,
    they are the example's.
    """

    example: Path
    test: dict[str, Any]
    epochs: int
    steps: int
    batch: int
    pool: tuple[Path, ...] = ()
    n: int = 0

    def sections(self, folder: Path, seed: int) -> dict[str, Any]:
        """The example with new labels written to `folder`, no word on training."""
        found: dict[str, Any] = yaml.safe_load(self.example.read_text('utf-8'))
        train, data = found['train'], found['data']
        for name in TRAINING:
            train.pop(name, None)
        train.update(random_seed=seed, error_record=[['TotalLoss', 'None']])
        train['best_metric'] = 'TotalLoss'
        train['fidelity'].pop('loss_weight', None)
        train['fidelity'].pop('max_drift', None)
        data['batch_size'] = self.batch
        data.pop('load_validset_path', None)  # the last checkpoint is measured
        for entry in data['load_trainset_path']:
            entry['file'] = str((self.example.parent / entry['file']).resolve())
        replay = train['fidelity'].get('replay')
        if replay:
            replay['file'] = str((self.example.parent / replay['file']).resolve())
        if self.pool:
            write(folder / 'labels.extxyz', self._labels(seed))
            own = data['load_trainset_path'][-1]
            own['file'] = str(folder / 'labels.extxyz')
        return found

    def _labels(self, seed: int) -> list[Any]:
        if self.pool == BINARIES:  # every element among them, as elsewhere
            return SYSTEMS['ingan'].labels(self.n, seed)
        found = [atoms for path in self.pool for atoms in read(path, ':')]
        order = np.random.default_rng(seed).permutation(len(found))
        return [found[i] for i in order[: self.n]]

    def tuned(self) -> dict[str, Any]:
        """Changes to `train` and `train.fidelity` that the example makes."""
        train = yaml.safe_load(self.example.read_text('utf-8'))['train']
        change = {name: train[name] for name in TRAINING if name in train}
        weight = train['fidelity'].get('loss_weight')
        return {**change, 'fidelity': {'loss_weight': weight} if weight else {}}


BINARIES = tuple(
    INGAN / f'r2scan_binaries_{part}.extxyz' for part in ('train', 'valid')
)
MIXED = {
    'file': [str(INGAN / 'r2scan_mixed_test.extxyz')],
    'fidelity': 'r2scan',
    'index': '1::2',  # the recipe was chosen on the others
}
BENCHED = {
    'composition': System(
        INGAN / 'multi_fidelity.yaml', MIXED, 30, 3000, 4, BINARIES, 24
    ),
    'random': System(
        INGAN / 'multi_fidelity.yaml',
        {'file': [str(DATA / 'r2scan_valid.extxyz')], 'fidelity': 'r2scan'},
        *(30, 3000, 4),
        pool=(DATA / 'r2scan_pool.extxyz',),
        n=12,
    ),
    'molecules': System(
        MOLECULES / 'multi_fidelity.yaml',
        {
            'file': [str(MOLECULES / 'ccsdt_test.extxyz')],
            'fidelity': 'ccsdt',
            'force_key': None,
            'stress_key': None,
        },
        *(30, 1860, 8),
    ),
    'pretrained': System(
        EXAMPLES / 'pretrained' / 'input.yaml', MIXED, 10, 200, 2, BINARIES, 8
    ),
}


@dataclass(frozen=True)
class Run:
    """A training of one arm; it may be another arm's as well."""

    system: str
    arm: str
    seed: int

    @property
    def name(self) -> str:
        return f'{self.system}/{self.arm}_seed{self.seed}'


def main(arguments: Sequence[str] | None = None) -> None:
    options = _options(arguments)
    out = options.output.resolve()
    runs = [
        Run(system, arm, seed)
        for seed in options.seeds
        for system in options.systems
        for arm in options.arms
    ]
    with ThreadPoolExecutor(options.jobs) as workers:
        futures = [workers.submit(_train, run, out, options) for run in runs]
        for future in futures:
            future.result()
            _report(runs, out)
    print(_report(runs, out))


# ---- training


def _train(run: Run, out: Path, options: argparse.Namespace) -> None:
    folder = out / run.name
    done = folder / 'done.json'
    if options.report_only:
        return
    folder.mkdir(parents=True, exist_ok=True)
    sections = _sections(run, folder, options.steps)
    text = yaml.safe_dump(sections, sort_keys=False)
    given = folder / 'input.yaml'
    if given.is_file() and given.read_text('utf-8') != text:
        raise SystemExit(f'{given} is of other options: choose another --output')
    given.write_text(text, encoding='utf-8')
    if done.is_file():
        return
    if RECIPE in options.arms and _is_recipe(run, sections, folder, options):
        done.write_text(json.dumps({'as': RECIPE}), encoding='utf-8')
        return
    command = [sys.executable, '-m', 'sevennet_mf.cli', 'train', 'input.yaml']
    if (folder / 'checkpoint_resume.pth').is_file():
        command.append('--resume')
    print(f'{run.name}: training', file=sys.stderr, flush=True)
    seconds = run_in(folder, command)
    found = _measured(run, folder, sections['train']['epoch'])
    found['seconds'] = seconds
    done.write_text(json.dumps(found), encoding='utf-8')


def _sections(run: Run, folder: Path, steps: int | None) -> dict[str, Any]:
    system = BENCHED[run.system]
    sections = system.sections(folder, run.seed)
    train = sections['train']
    steps = steps or system.steps
    epochs = min(system.epochs, steps)
    train.update(epoch=epochs, per_epoch=epochs)
    train['fidelity']['steps_per_epoch'] = steps // epochs
    change = copy.deepcopy(_change(run, system, 'continue' in train))
    train['fidelity'].update(change.pop('fidelity', {}))
    train.update(change)
    return sections


def _change(run: Run, system: System, is_continued: bool) -> dict[str, Any]:
    """Changes of an arm to the section `train`."""
    own = recipe.CONTINUED if is_continued else recipe.FROM_SCRATCH
    return {
        SEVENNET: OLD,
        RECIPE: {},
        TUNED: system.tuned(),
        HALF: {'optim_param': {'lr': own.rate / 2}},
        DOUBLE: {'optim_param': {'lr': own.rate * 2}},
    }[run.arm]


def _is_recipe(
    run: Run, sections: dict[str, Any], folder: Path, options: argparse.Namespace
) -> bool:
    """Whether another arm trains as the recipe does."""
    if run.arm == RECIPE:
        return False
    other = Run(run.system, RECIPE, run.seed)
    trained = []
    for own in (sections, _sections(other, folder, options.steps)):
        found = inputs.from_sections(own)[1]
        found.pop(keys.DEFAULTS)
        trained.append(found)
    return trained[0] == trained[1]


def _measured(run: Run, folder: Path, epoch: int) -> dict[str, Any]:
    """Mean absolute errors of the last checkpoint: meV/atom, meV/Å or None."""
    from sevennet_mf.evaluate.evaluation import evaluate

    path = str(folder / f'checkpoint_{epoch}.pth')
    test = BENCHED[run.system].test
    with DRAWING:
        found = evaluate(path, [dict(test)], str(folder / 'test'), progress=False)
    mae = found.rows[0].mae
    names = zip(COLUMNS, ('energy', 'force'), strict=True)
    return {
        column: None if np.isnan(mae.get(name, np.nan)) else float(mae[name])
        for column, name in names
    }


# ---- the table


def _report(runs: Sequence[Run], out: Path) -> str:
    """Write defaults.csv of what is done; return the table."""
    rows = []
    for run in runs:
        found = _done(out / run.name)
        if found.get('as'):
            found = _done(out / Run(run.system, found['as'], run.seed).name)
        if found:
            rows.append({**vars(run), **found})
    if not rows:
        return 'nothing is done yet'
    with open(out / 'defaults.csv', 'w', newline='', encoding='utf-8') as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    head = ['system', 'arm', 'seeds', *COLUMNS]
    text = [f'| {" | ".join(head)} |', '|---' * len(head) + '|']
    for system, arm in dict.fromkeys((r['system'], r['arm']) for r in rows):
        found = [r for r in rows if (r['system'], r['arm']) == (system, arm)]
        cells = [cell([r[name] for r in found]) for name in COLUMNS]
        cells = [system, f'`{arm}`', str(len(found)), *cells]
        text.append(f'| {" | ".join(cells)} |')
    return '\n'.join([*text, '', 'MAE of the last checkpoint, mean ± deviation.'])


def _done(folder: Path) -> dict[str, Any]:
    path = folder / 'done.json'
    if not path.is_file():
        return {}
    return dict(json.loads(path.read_text(encoding='utf-8')))


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add('-o', '--output', type=Path, default=Path('defaults'), help='folder')
    add('--systems', nargs='+', choices=list(BENCHED), default=list(BENCHED))
    add('--arms', nargs='+', choices=ARMS, default=list(ARMS))
    add('--seeds', type=int, nargs='+', default=[1, 2, 3], metavar='SEED')
    add('--steps', type=int, help="of the optimiser; default: each system's")
    add('--report_only', action='store_true', help='on what is done so far')
    add('--jobs', type=int, default=1, help='trainings at a time, one core each')
    return parser.parse_args(arguments)


if __name__ == '__main__':
    main()
