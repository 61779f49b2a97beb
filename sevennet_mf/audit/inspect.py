"""The pre-flight audit of a data set: what is in it, and what looks wrong.

Everything is read once (scan.py), then checked, then reported (report.py,
picture.py). data/checks.py finds what training would stop at or warn about, as it
does in training. Nothing is trained, and a bad structure does not end the audit.
"""

from __future__ import annotations

import argparse
import itertools
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from rich.console import Group

from sevennet_mf.arrays import Floats
from sevennet_mf.audit import (
    between_fidelities,
    between_files,
    cutoffs,
    derivatives,
    outliers,
    repeats,
)
from sevennet_mf.audit.records import Records
from sevennet_mf.audit.report import table, write_json
from sevennet_mf.audit.scan import scan
from sevennet_mf.audit.summary import (
    Audit,
    PairAudit,
    SetAudit,
    Statistics,
    describe_pairs,
    describe_sets,
    histograms,
)
from sevennet_mf.audit.training_set import divide, fit_training, inferred
from sevennet_mf.checkpoint.origin import Origin
from sevennet_mf.config import inputs
from sevennet_mf.config.blocks import DataFidelity
from sevennet_mf.config.run_inputs import RunInputs
from sevennet_mf.data import checks
from sevennet_mf.data.dataset import TRAIN, sets_of
from sevennet_mf.data.findings import Finding, note, problem
from sevennet_mf.data.needs import Needs
from sevennet_mf.data.references import References, with_isolated
from sevennet_mf.data.undetermined import undetermined
from sevennet_mf.errors import UserError

__all__ = [
    'Audit',
    'Finding',
    'PairAudit',
    'SetAudit',
    'Statistics',
    'audit_of',
    'inspect',
    'table',
    'write_json',
    'write_picture',
]

LISTED: Final[int] = 10  # problems of one kind, and structures of one problem
PLACE: Final[re.Pattern[str]] = re.compile(r'^.+?:\d+(?=[ :,])')  # file:frame
NUMBER: Final[re.Pattern[str]] = re.compile(r'[-+]?\d+(\.\d+)?(e[-+]?\d+)?')


def write_picture(audit: Audit, path: str) -> None:
    """Write the audit as one PNG.

    Raises:
        UserError: `path` cannot be written.
    """
    from sevennet_mf.audit import picture  # matplotlib takes its time

    picture.write(audit, path)


def inspect(filename: str) -> Audit:
    """Audit the data that a YAML of multi-fidelity training names.

    Every `load_*_path` is read once, as a stream.

    Returns:
        The audit; its `problems` tell what is wrong with the data.

    Raises:
        UserError: Something is wrong with the YAML.
    """
    sections = inputs.load_yaml(filename)
    if not inputs.has_fidelity(sections):
        raise UserError(
            f'{filename} names no fidelity, but `inspect` audits data by fidelity. '
            'Name one for each file under data.load_trainset_path, as in '
            '`- {file: pbe.extxyz, fidelity: pbe}`.'
        )
    return audit_of(sections, str(filename))


def run(args: argparse.Namespace) -> tuple[Group, int]:
    """Run `sevennet-mf inspect`: write the JSON and the picture.

    Returns:
        The table to print and the exit code.
    """
    audit = inspect(args.input_yaml)
    write_json(audit, args.json)
    write_picture(audit, args.plot)
    bad = any(problem.severity == 'problem' for problem in audit.problems)
    return table(audit), 2 if bad and args.strict else 0


def audit_of(
    sections: dict[str, Any], name: str, origin: Origin | None = None
) -> Audit:
    """Audit the data of a YAML, as `inspect` does, given its sections.

    Args:
        name: Name of the YAML, for the report.
        origin: The checkpoint that the YAML continues from, if already opened.
    """
    asked = inputs.read(sections, opened=origin)
    options = asked.data
    sets = {**sets_of(asked.host), TRAIN: _trained_on(asked)}
    needs = Needs.of(asked, sets[TRAIN])
    unusable = _Unusable()
    records = scan(sets, options.key, needs.order, needs.cutoff, unusable.add)
    found = [*unusable.findings(), *(note('files', line) for line in records.said)]
    found += checks.as_read(needs, records.by_set())
    records, none = divide(records, needs.ratio, asked.seed)
    found += [] if none is None else [none]
    found += _validation(needs, records)
    references, more = _references(records, needs, options)
    found += [*more, *cutoffs.doubtful(records, needs.cutoff)]
    wrong: set[int] = set()
    found += _of_labels(records, needs, wrong)
    pairs, differences, more = _pairs(records, wrong)
    return Audit(
        file=name,
        fidelities=list(records.fidelities),
        base=needs.base,
        target=needs.target,
        sets=describe_sets(records),
        pairs=pairs,
        references={} if references is None else references.as_dict(),
        histograms=histograms(records, references, differences),
        problems=_sorted([*found, *more]),
    )


def _trained_on(asked: RunInputs) -> list[dict[str, Any]]:
    """The entries of the training set, with those of a replay."""
    replay = asked.train.replay
    labelled = [] if replay is None or replay.self_label else [replay.entry]
    return [*asked.entries[f'load_{TRAIN}_path'], *labelled]


@dataclass
class _Cause:
    """Structures that cannot be used for one reason."""

    kind: str
    message: str
    places: list[str]
    count: int = 0

    def finding(self) -> Finding:
        rest = self.count - 1
        if not rest:
            return problem(self.kind, self.message, count=1)
        more = f' and {rest - len(self.places)} more' * (rest > len(self.places))
        also = f': {", ".join(self.places)}{more}' if self.places else ''
        text = f'{self.message} {rest} more like this{also}.'
        return problem(self.kind, text, count=self.count)


class _Unusable:
    """Structures that cannot be used: those with one cause are one finding."""

    def __init__(self) -> None:
        self.causes: dict[tuple[str, str], _Cause] = {}

    def add(self, kind: str, message: str) -> None:
        # the same words about another structure, file or number
        words = NUMBER.sub('', PLACE.sub('', message, count=1))
        cause = self.causes.setdefault((kind, words), _Cause(kind, message, []))
        cause.count += 1
        place = PLACE.match(message)
        if cause.count > 1 and place and len(cause.places) < LISTED:
            cause.places.append(place[0])

    def findings(self) -> Iterator[Finding]:
        shown: Counter[str] = Counter()
        rest: Counter[str] = Counter()
        for cause in self.causes.values():
            shown[cause.kind] += 1
            if shown[cause.kind] <= LISTED:
                yield cause.finding()
            else:
                rest[cause.kind] += cause.count
        for kind, count in rest.items():
            yield problem(kind, f'{count} more like these.', count=count)


def _sorted(found: Iterable[Finding]) -> list[Finding]:
    """Problems before notes, and those of a kind together."""
    listed = list(found)
    first = {f.kind: k for k, f in reversed(list(enumerate(listed)))}
    return sorted(listed, key=lambda f: (not f.is_problem, first[f.kind]))


# ---- the checks


def _validation(needs: Needs, records: Records) -> Iterator[Finding]:
    """Whether a set can choose the best checkpoint."""
    held = {
        name: [f for f in records.fidelities if len(records.rows(f, name))]
        for name in records.sets
    }
    if not checks.choosing(needs.target, held):
        yield checks.no_validation(needs.target)


def _references(
    records: Records, needs: Needs, options: DataFidelity
) -> tuple[References | None, list[Finding]]:
    """Reference energies, and what they do not determine."""
    found: list[Finding] = []
    more = None
    if not needs.old:  # beside a checkpoint other references are fitted
        more, untried = inferred(records, needs, options)
        found += [] if untried is None else [untried]
    method = with_isolated(options.reference_energies, records.isolated)
    references, failed = fit_training(records, needs, method, more)
    found += [] if failed is None else [failed]
    if references is not None:
        fitted = [name for name in needs.fitted if name in references.fidelities]
        found += undetermined(
            references, needs.target, records.by_set(), fitted
        )
    return references, found


def _of_labels(
    records: Records, needs: Needs, wrong: set[int]
) -> Iterator[Finding]:
    """What looks wrong at one fidelity.

    Args:
        wrong: Gets the files, by position in `records.paths`, whose forces are in
            another unit.
    """
    yield from between_files.lengths(records)
    for name in records.fidelities:
        yield from repeats.repeats(records, name)
        yield from repeats.leaks(records, name, needs.target)
        yield from outliers.of_fidelity(records, name)
        yield from outliers.zeros(records, name)
        yield from outliers.constant(records, name)
        files = list(between_files.energies(records, name))
        # between files in different units, energies explain no force
        forces = between_files.forces(records, name, with_energies=not files)
        wrong.update(forces)
        yield from [*files, *forces.values()] or derivatives.against_energies(
            records, name
        )


def _pairs(
    records: Records, wrong: set[int]
) -> tuple[list[PairAudit], dict[str, Floats], list[Finding]]:
    """Each two fidelities: their pairs, differences (eV/atom) and what is wrong."""
    audits: list[PairAudit] = []
    differences: dict[str, Floats] = {}
    found: list[Finding] = []
    for low, high in itertools.combinations(records.fidelities, 2):
        first, second = records.pairs(low, high)
        found += between_fidelities.of_pair(records, low, high, first, second, wrong)
        if len(first) == 0:
            continue
        found += repeats.same_labels(records, low, high)
        gap = records['energy'][second] - records['energy'][first]
        rest = outliers.residuals(records, second, gap)
        found += outliers.of_differences(records, low, high, second, rest)
        differences[f'{high} - {low}'] = rest
        audits.append(describe_pairs(records, low, high, first, second, rest))
    return audits, differences, found
