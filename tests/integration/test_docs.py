"""Every command, YAML and message that a user is shown, tried out.

The blocks of a page run in its order, in one copy of the project whose examples
are cut to a few structures, with a small model. What a block of each language
means, and where it runs, is said at `Page`.
"""

from __future__ import annotations

import ast
import copy
import os
import re
import runpy
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import published
import pytest
import yaml
from commandline import LIMIT, write_yaml
from helpers import build, host_config, model_config, registered, save_checkpoint

from sevennet_mf import cli
from sevennet_mf.config import inputs
from sevennet_mf.lammps.plugin_path import CACHE_VARIABLE
from sevennet_mf.study.plan.study_yaml import read_study

pytestmark = [
    # pages train in the same folder one after another
    pytest.mark.filterwarnings('ignore:checkpoints of an earlier run'),
    # the PBE labels are of another code than a pretrained model's, or at random
    pytest.mark.filterwarnings('ignore:.* labels of .* differ from'),
]

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / 'sevennet_mf'
PAGES = [
    *(ROOT / name for name in ('README.md', 'CONTRIBUTING.md', 'CHANGELOG.md')),
    *sorted((ROOT / 'docs').glob('*.md')),
    *sorted((ROOT / 'example_inputs').glob('*/README.md')),
]
YAMLS = sorted((ROOT / 'example_inputs').glob('*/*.yaml'))
STUDIES = [path for path in YAMLS if path.parent.name == 'study']
SHIPPED = [path for path in YAMLS if path not in STUDIES]
KEPT = 10  # structures of each file, or a few more
SMALL_MODEL = {
    'channel': 4,
    'lmax': 1,
    'num_convolution_layer': 1,
    'weight_nn_hidden_neurons': [8],
}
SMALL_RUN = {'epoch': 1, 'per_epoch': 1}
# Pretrained models that a YAML or a command starts from, and the fidelities of the
# small one that takes its place: a step of a universal potential takes half a
# second, and to deploy it a quarter of a minute
SMALL_PRETRAINED = {
    '7net-0': ('pbe',),
    '7net-l3i5': ('pbe',),
    '7net-mf-0': ('R2SCAN', 'PBE'),
}
# in segments: scripts for LAMMPS say that there are five
FIVE_SEGMENTS = {'num_convolution_layer': 5, 'channel': 2}
SMALL_STUDY = {'methods': ['high_only'], 'labels': [2], 'seeds': [1], 'steps': 2}
START_FROM = (
    *('extend', 'fisher', 'init', 'export', 'deploy', 'label', 'select'),
    *('conductivity', 'hull', 'lammps'),
)
# simulations of a few steps, before random weights make them fly apart
SHORT_MD = {'--timestep': '0.5', '--every': '0.5', '--equilibration': '0'}
LENGTHS = {'200': '0.01', '400': '0.012'}  # ps
# Lines that a test leaves to others, by how they begin, and why
NOT_RUN = {
    '. .venv/bin/activate': 'this environment is active',
    'PIP_CONSTRAINT=constraints.txt python -m pip install': 'make does the same',
    'pip install': 'make does the same',
    'python -m pytest -p sevennet_mf.testing': "needs SevenNet's own tests",
    'python -m pytest SevenNet/': "needs SevenNet's own tests",
    'sevennet-mf label ../ingan/r2scan_mixed_test.extxyz --with chgnet': 'no CHGNet',
    'sevennet-mf label selected/selected.extxyz --with dft.py': 'no VASP',
    'python ../../example_inputs/lipscl/': 'hours; integration/test_lipscl.py',
    'sevennet-mf label lipscl/': 'hours; integration/test_lipscl.py',
    'sevennet-mf study lipscl_': 'hours; integration/test_lipscl.py',
    'python ../../example_inputs/ingan_teacher/': 'test_ingan_teacher.py',
    'sevennet-mf label ingan/': 'integration/test_ingan_teacher.py',
    'sevennet-mf study ingan_': 'integration/test_ingan_teacher.py',
    'python ../recipe/by_cell.py': 'unit/test_by_cell.py',
    'python mixing.py': 'integration/test_ingan_teacher.py',
    'python benchmarks/': 'takes too long; make bench',
    'sevennet-mf study benchmarks/': 'an hour; unit/study/test_recipe_studies.py',
}
# of these the options of ours are parsed: this machine is one, without GPUs
ONLY_PARSED = ('--nnodes', '--nproc_per_node 4', '-cueq', '-flashTP', '-oeq')
# Programs that depend on nothing else on their page: for several pages, once
ALONE = ('python many.py',)
SHELL = re.compile(r'[|&;<>$`*]|\b[A-Z_]+=')


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, its text, and the folder it is for."""

    language: str
    text: str
    folder: str


@dataclass(frozen=True)
class Table:
    """A table: its head and its rows, by cell."""

    head: list[str]
    rows: list[list[str]]


def label(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def blocks_of(page: Path) -> Iterator[Block]:
    """The blocks of a page; `<!-- folder: x -->` sets the folder from there on."""
    folder = 'example_inputs/ingan' if page.parent.name == 'docs' else '.'
    if page.parent.parent.name == 'example_inputs':
        folder = page.parent.relative_to(ROOT).as_posix()
    pattern = r'<!-- folder: (\S+) -->|^```([\w{}-]*)[^\n]*\n(.*?)^```$'
    text = page.read_text(encoding='utf-8')
    for found in re.finditer(pattern, text, re.MULTILINE | re.DOTALL):
        if found[1]:
            folder = found[1]
        else:
            yield Block(found[2], found[3], folder)


def tables_of(page: Path) -> Iterator[Table]:
    text = page.read_text(encoding='utf-8')
    for lines in re.findall(r'(?:^\|.*\n)+', text, re.MULTILINE):
        rows = [
            [cell.strip() for cell in re.split(r'(?<!\\)\|', line)[1:-1]]
            for line in lines.splitlines()
        ]
        yield Table(rows[0], rows[2:])


def cut(source: Path, target: Path) -> None:
    """Copy an extended XYZ file, evenly thinned out."""
    lines = source.read_text(encoding='utf-8').splitlines(keepends=True)
    frames, at = [], 0
    while at < len(lines):
        end = at + int(lines[at]) + 2
        frames.append(''.join(lines[at:end]))
        at = end
    step = max(1, len(frames) // KEPT)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(''.join(frames[::step]), encoding='utf-8')


def shrunk(sections: dict[str, Any], project: Path) -> dict[str, Any]:
    """The same YAML with a small model and one epoch; a study of one run.

    project: where small models lie that take the place of pretrained ones.
    """
    small = copy.deepcopy(sections)
    if 'study' in small:
        small['study'].update(SMALL_STUDY, run={'parallel': 1})
        small['study'].pop('variants', None)
        return small
    small['train'].update(SMALL_RUN)
    if 'warmup_steps' in (small['train'].get('scheduler_param') or {}):
        small['train']['scheduler_param']['warmup_steps'] = 1
    start = small['train'].get('continue') or {}
    name = Path(start.get('checkpoint') or '').stem  # of a small one as well
    if name in SMALL_PRETRAINED:
        start['checkpoint'] = str(project / f'{name}.pth')
    else:  # else the architecture is the checkpoint's
        small.setdefault('model', {}).update(SMALL_MODEL)
    shrink_fidelity(small['train'].get('fidelity') or {})
    shrink_data(small.get('data') or {})
    return small


def shrink_data(block: dict[str, Any]) -> None:
    """No choice among the frames, which are few already."""
    for name, entries in block.items():
        if name.startswith('load_') and isinstance(entries, list):
            for entry in entries:
                if isinstance(entry, dict):
                    entry.pop('index', None)


def shrink_fidelity(block: dict[str, Any]) -> None:
    """Fewer steps and self labels; with random weights no limit of drift holds."""
    if block.get('steps_per_epoch'):
        block['steps_per_epoch'] = 2
    labels = (block.get('replay') or {}).get('self_label')
    if labels:
        labels['per_structure'] = 1
        if labels.get('md'):
            labels['md']['steps'] = 1
    for quantity in block.get('max_drift') or {}:
        block['max_drift'][quantity] *= 1e6


def write_pretrained(folder: Path) -> None:
    """Write small random checkpoints of SevenNet, of all elements of the data."""
    (folder / 'parallel').mkdir()
    elements = ['Ga', 'In', 'N', 'C', 'H', 'O', 'Li', 'P', 'S', 'Cl', 'Ti']
    for name, fidelities in SMALL_PRETRAINED.items():
        for place, model in ((name, {}), (f'parallel/{name}', FIVE_SEGMENTS)):
            config = host_config(
                model_config(names=fidelities, chemical_species=elements, **model)
            )
            save_checkpoint(folder / f'{place}.pth', build(config), config)


def merged(base: Any, change: Any) -> Any:
    """`base` with the keys of `change`; lists are replaced."""
    if not isinstance(base, dict) or not isinstance(change, dict):
        return change
    result = dict(base)
    for name, value in change.items():
        result[name] = merged(base.get(name), value)
        if value is None and name.startswith('load_'):
            del result[name]  # in a piece of YAML: leave it out
    return result


@pytest.fixture(scope='module', autouse=True)
def _plugin(pytestconfig: pytest.Config) -> Iterator[None]:
    """Registered; and the pair styles are those that tests/lammps compile."""
    kept = str(pytestconfig.rootpath / '.pytest_cache' / 'plugin')
    with registered(), pytest.MonkeyPatch.context() as patch:
        patch.setenv(CACHE_VARIABLE, os.environ.get(CACHE_VARIABLE) or kept)
        yield


@pytest.fixture(scope='module')
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small copy of the project, with a training in example_inputs/ingan/run."""
    folder = tmp_path_factory.mktemp('project')
    folders = ('example_inputs/*/*', 'tests/data/*/*', 'benchmarks/paper/*')
    for source in (path for folder in folders for path in ROOT.glob(folder)):
        target = folder / source.relative_to(ROOT)
        if source.suffix == '.extxyz':
            cut(source, target)
        elif source.suffix == '.yaml':
            target.parent.mkdir(parents=True, exist_ok=True)
            write_yaml(target, shrunk(inputs.load_yaml(str(source)), folder))
        elif source.is_file():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)
    published.write_all(folder / 'example_inputs' / 'formats')
    write_pretrained(folder)
    ingan = folder / 'example_inputs' / 'ingan'
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ingan)
        assert cli.main(['train', 'multi_fidelity.yaml', '-w', 'run']) == cli.DONE
    shim = folder / 'bin' / 'sevennet-mf'
    shim.parent.mkdir()
    shim.write_text(f'#!/bin/sh\nexec {sys.executable} -m sevennet_mf.cli "$@"\n')
    shim.chmod(0o755)
    return folder


class Page:
    """Runs the blocks of one page.

    bash: each line, or, if it begins with `#!`, the whole as a script. python: in
    this process. yaml: trained on; a whole one is `input.yaml` from there on, else
    it is a change to the folder's multi_fidelity.yaml or, where there is none, to
    input.yaml; a study is planned.
    A text after a yaml is the error that it ends with instead; `…` stands for
    anything.
    """

    ran: ClassVar[set[tuple[str, str]]] = set()  # (folder, line), of ALONE

    def __init__(
        self,
        project: Path,
        patch: pytest.MonkeyPatch,
        capture: pytest.CaptureFixture[str],
    ) -> None:
        self.project, self.patch, self.capture = project, patch, capture
        self.folder = project
        self.trainings = 0

    def run(self, blocks: list[Block]) -> None:
        folder = ''
        for block, after in zip(blocks, [*blocks[1:], None], strict=True):
            if block.folder != folder:
                folder = block.folder
                self.enter(self.project / folder)
            if block.language in ('bash', 'console'):
                self.shell(block)
            elif block.language == 'python':
                exec(compile(block.text, 'docs', 'exec'), {'__name__': '__main__'})
            elif block.language == 'yaml':
                is_wrong = after is not None and after.language == 'text'
                self.yaml(block.text, after.text if is_wrong and after else None)
            else:
                assert block.language.startswith(('{', 'text')), block

    def enter(self, folder: Path) -> None:
        assert folder.is_dir(), folder
        self.folder = folder
        self.patch.chdir(folder)

    # ---- commands

    def shell(self, block: Block) -> None:
        if block.text.startswith('#!'):
            self.program(['bash', '-c', block.text])
            return
        lines = block.text.replace('\\\n', ' ').splitlines()
        if block.language == 'console':
            lines = [line[2:] for line in lines if line.startswith('$ ')]
        for line in lines:
            if line.strip() and not line.startswith('#'):
                self.line(line)

    def line(self, line: str) -> None:
        words = shlex.split(line, comments=True)
        if words[0] == 'cd':
            self.enter(self.folder / words[1])
        elif words[0] == 'make':
            assert all(w in targets() or '=' in w for w in words[1:]), line
        elif any(word in line for word in ONLY_PARSED):
            own = words[words.index('sevennet-mf') + 1 :]
            args = cli.make_parser().parse_args(own)
            assert (self.folder / args.input_yaml).is_file(), line
        elif any(line.startswith(start) for start in NOT_RUN):
            return
        elif line in ALONE:
            where = str(self.folder.relative_to(self.project))
            if (where, line) not in self.ran:
                self.ran.add((where, line))
                self.program(['bash', '-c', line])
        elif words[0] == 'sevennet-mf' and not SHELL.search(line.split(' #')[0]):
            self.ours(words[1:])
        elif words[0] == 'python' and not SHELL.search(line):
            self.script(words[1:])
        else:
            self.program(['bash', '-c', line])

    def ours(self, args: list[str]) -> None:
        """A command of ours in this process: imports would take most of the time."""
        self.capture.readouterr()
        if args == ['lammps', 'check']:  # with what it takes by default
            args = [*args, cli.make_parser().parse_args(args).checkpoint]
        if args[0] in START_FROM:
            small = self.project / ('parallel' if '--parallel' in args else '')
            args = [
                str(small / f'{arg}.pth') if arg in SMALL_PRETRAINED else arg
                for arg in args
            ]
        if args[0] == 'conductivity' and '--read' not in args:
            args = [LENGTHS.get(arg, arg) for arg in args]
            args += [word for pair in SHORT_MD.items() for word in pair]
        if args[0] == 'hull' and '--fixed' not in args:
            args += ['--steps', '1']
        try:
            code: Any = cli.main(args)
        except SystemExit as stop:  # --help
            code = stop.code
        said = self.capture.readouterr()
        assert code in (None, cli.DONE), f'{args}: {said.err}{said.out}'
        if args[0] == 'init':  # what it wrote is trained on later
            written = args[args.index('-o') + 1] if '-o' in args else 'input.yaml'
            sections = inputs.load_yaml(written)
            write_yaml(self.folder / written, shrunk(sections, self.project))

    def script(self, args: list[str]) -> None:
        """A Python program in this process, for the same reason."""
        code: Any = None
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, 'argv', args)
            patch.syspath_prepend(Path(args[0]).parent.absolute())
            try:
                runpy.run_path(args[0], run_name='__main__')
            except SystemExit as stop:
                code = stop.code
        assert code in (None, 0), f'{args}: {code}'

    def program(self, command: list[str]) -> None:
        path = [str(self.project / 'bin'), str(Path(sys.executable).parent)]
        done = subprocess.run(
            command,
            cwd=self.folder,
            env={**os.environ, 'PATH': os.pathsep.join([*path, os.environ['PATH']])},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=LIMIT,
            check=False,
        )
        assert done.returncode == 0, f'{command}: {done.stderr}{done.stdout}'

    # ---- YAML

    def yaml(self, text: str, error: str | None) -> None:
        shown = yaml.safe_load(text)
        if set(shown) == {'study'}:
            read_study(write_yaml(self.folder / 'study.yaml', shown))
            shown['study']['labels'] = [2]  # of a few
            write_yaml(self.folder / 'study.yaml', shown)
            self.trainings += 1
            output = f'study_{self.trainings}'
            self.ours(['study', 'study.yaml', '-o', output, '--dry_run'])
            return
        assert set(shown) <= set(inputs.SECTIONS), f'not of an input: {text}'
        name = 'input.yaml'
        if not is_whole(shown):
            base = self.folder / 'multi_fidelity.yaml'
            base = base if base.is_file() else self.folder / name
            shown = merged(inputs.load_yaml(str(base)), shown)
            name = 'changed.yaml'
        write_yaml(self.folder / name, shrunk(shown, self.project))
        self.trainings += 1
        args = ['train', name, '-w', f'training_{self.trainings}']
        if error is None:
            if inputs.has_fidelity(shown):
                inputs.from_sections(shown)  # as it is shown
            self.ours(args)
            return
        self.capture.readouterr()
        assert cli.main(args) == cli.BAD_INPUT
        said = ' '.join(self.capture.readouterr().err.split())
        pattern = re.escape(' '.join(error.split())).replace('…', '.+')
        assert re.fullmatch(f'sevennet-mf: {pattern}', said), said


def is_whole(shown: dict[str, Any]) -> bool:
    """Whether it is no change; a checkpoint to start from brings `model` along."""
    train = shown.get('train', {})
    brought = {'model'} if 'continue' in train and 'epoch' in train else set()
    return set(shown) | brought == set(inputs.SECTIONS)


def targets() -> set[str]:
    makefile = (ROOT / 'Makefile').read_text(encoding='utf-8')
    return set(re.findall(r'^([a-z-]+):', makefile, re.MULTILINE))


@pytest.mark.parametrize('path', PAGES, ids=label)
def test_what_a_page_shows_works(
    path: Path,
    project: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    blocks = list(blocks_of(path))
    if not any(b.language in ('bash', 'console', 'python', 'yaml') for b in blocks):
        pytest.skip('nothing to run')
    own = tmp_path / 'project'
    shutil.copytree(project, own)
    Page(own, monkeypatch, capsys).run(blocks)


@pytest.mark.parametrize('path', PAGES, ids=label)
def test_a_piece_of_yaml_says_that_it_is_merged(path: Path) -> None:
    """Pasted below the rest, its sections would stand twice."""
    for block in blocks_of(path):
        if block.language != 'yaml' or path.name == 'errors.md':  # what is wrong
            continue
        shown = yaml.safe_load(block.text)
        if set(shown) != {'study'} and not is_whole(shown):
            assert block.text.startswith('# merge into your YAML\n'), block.text


@pytest.mark.parametrize('path', SHIPPED, ids=label)
def test_shipped_yaml_is_valid_and_trains(
    path: Path, project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(path.parent)
    inputs.from_sections(inputs.load_yaml(path.name))  # whole, as it is shipped
    monkeypatch.chdir(project / label(path.parent))
    assert cli.main(['train', path.name, '-w', str(tmp_path)]) == cli.DONE


@pytest.mark.parametrize('path', STUDIES, ids=label)
def test_shipped_study_is_valid(path: Path, tmp_path: Path) -> None:
    args = ['study', str(path), '-o', str(tmp_path / 'study'), '--dry_run']
    assert cli.main(args) == cli.DONE


@pytest.mark.parametrize('path', PAGES, ids=label)
def test_links_lead_to_files(path: Path) -> None:
    text = path.read_text(encoding='utf-8')
    for link in re.findall(r'\]\(([^)#:]+)\)', text):
        assert (path.parent / link).exists(), link


# ---- what tables promise


@pytest.mark.parametrize(
    ('page', 'head', 'folder'),
    [
        ('quickstart.md', 'file of a training', 'run'),
        ('evaluate.md', 'file in `evaluation/`', 'evaluation'),
    ],
)
def test_files_are_those_that_are_explained(
    page: str, head: str, folder: str, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ingan = project / 'example_inputs' / 'ingan'
    monkeypatch.chdir(ingan)
    if folder == 'evaluation':
        line = 'evaluate run/checkpoint_best.pth r2scan_mixed_test.extxyz -f r2scan'
        assert cli.main(line.split()) == cli.DONE
    (table,) = (t for t in tables_of(ROOT / 'docs' / page) if t.head[0] == head)
    names = {n for row in table.rows for n in re.findall(r'`([^`]+)`', row[0])}
    written = {p.name + '/' * p.is_dir() for p in (ingan / folder).iterdir()}
    assert names == written


def test_every_kind_of_finding_is_explained() -> None:
    kinds = set()
    makes = re.compile(r"\b(?:problem|note|Finding|report)\(\s*'([^']+)',")
    folders = (PACKAGE / name for name in ('data', 'audit'))
    for path in (p for folder in folders for p in folder.glob('*.py')):
        kinds |= set(makes.findall(path.read_text(encoding='utf-8')))
    (table,) = (
        t for t in tables_of(ROOT / 'docs' / 'inspect.md') if t.head[0] == 'kind'
    )
    assert {row[0].strip('`') for row in table.rows} == kinds


def messages() -> Iterator[str]:
    """Texts of the package, with `…` for what is put into them."""
    for path in PACKAGE.rglob('*.py'):
        tree = ast.parse(path.read_text(encoding='utf-8'))
        names = dict(constants(tree))
        for node in ast.walk(tree):
            if isinstance(node, ast.JoinedStr):
                yield ''.join(part_of_message(part, names) for part in node.values)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield node.value


def constants(tree: ast.Module) -> Iterator[tuple[str, str]]:
    """Names that a module gives to texts."""
    for node in tree.body:
        if isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            if isinstance(node.value, ast.Constant):
                for target in targets:
                    if isinstance(target, ast.Name):
                        yield target.id, str(node.value.value)


def part_of_message(part: ast.expr, names: Mapping[str, str]) -> str:
    if isinstance(part, ast.Constant):
        return str(part.value)
    if isinstance(part, ast.FormattedValue) and isinstance(part.value, ast.Name):
        return names.get(part.value.id, '…')
    return '…'


def test_messages_are_those_of_the_package() -> None:
    known = [' '.join(text.split()) for text in messages()]
    listed = [
        row[0].strip('`')
        for table in tables_of(ROOT / 'docs' / 'errors.md')
        if table.head[0] == 'message'
        for row in table.rows
    ]
    assert listed
    unknown = []
    for message in listed:
        # a key of the YAML is put in front of a message by whoever knows it
        keyless = re.sub(r'^[a-z_.…]+(?=:| )', '', message)
        forms = [_pattern(message)]
        if keyless not in ('', message):
            forms.append(f'^{_pattern(keyless)}')
        if not any(re.search(form, text) for form in forms for text in known):
            unknown.append(message)
    assert not unknown


def _pattern(message: str) -> str:
    """A regular expression for a message in which … stands for anything."""
    return '.*'.join(re.escape(part.strip()) for part in message.split('…'))
