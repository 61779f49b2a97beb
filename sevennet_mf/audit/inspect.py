"""The pre-flight audit of a data set: what is in it, and what looks wrong.

Nothing is trained and nothing stops at the first bad structure.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

from sevenn import _keys as KEY

from sevennet_mf import keys
from sevennet_mf.arrays import Floats
from sevennet_mf.audit import checks as checks
from sevennet_mf.audit import derivatives as derivatives
from sevennet_mf.audit import lengths as lengths
from sevennet_mf.audit import outliers as outliers
from sevennet_mf.audit import units as units
from sevennet_mf.audit.describe import describe_pairs, describe_sets, histograms
from sevennet_mf.audit.findings import (
    Audit,
    Findings,
    PairAudit,
    Problem,
    SetAudit,
    Spread,
)
from sevennet_mf.audit.report import table, write_json
from sevennet_mf.audit.scan import Records, scan
from sevennet_mf.audit.training import divide, inferred
from sevennet_mf.config import inputs
from sevennet_mf.data.dataset import TRAIN
from sevennet_mf.errors import UserError

__all__ = [
    'Audit',
    'PairAudit',
    'Problem',
    'SetAudit',
    'Spread',
    'audit_of',
    'inspect',
    'table',
    'write_json',
    'write_picture',
]

def write_picture(audit: Audit, path: str) -> None:
    """Write the audit as one PNG; UserError if `path` cannot be written."""
    from sevennet_mf.audit import (
        picture as inspect_picture,  # matplotlib takes its time
    )

    inspect_picture.write(audit, path)


def inspect(filename: str) -> Audit:
    """Audit the data that a YAML of multi-fidelity training names.

    Reads every `load_*_path` once, streaming. What is wrong with the data is in the
    audit's problems; raises UserError for what is wrong with the YAML.
    """
    sections = inputs.load_yaml(filename)
    if not inputs.has_fidelity(sections):
        raise UserError(
            f'{filename} names no fidelity, and `inspect` audits data by fidelity. '
            'Name one for each file under data.load_trainset_path, as in '
            '`- {file: pbe.extxyz, fidelity: pbe}`.'
        )
    return audit_of(sections, str(filename))


def audit_of(sections: dict[str, Any], name: str) -> Audit:
    """As `inspect`, of the sections of a YAML that is called `name`."""
    model, train, data = inputs.from_sections(sections)
    options = data[keys.FIDELITY_DATA]
    findings = Findings()
    sets = _sets(data, train[keys.FIDELITY_TRAIN]['replay'])
    records = scan(
        sets,
        options['key'],
        options['order'],
        model[KEY.CUTOFF],
        findings.add_structure,
    )
    base, target = options['base'], train[keys.FIDELITY_TRAIN]['target']
    ratio = float(data.get(KEY.RATIO) or 0.0)
    records = divide(records, ratio, train[KEY.RANDOM_SEED], findings.add)
    old = train[keys.OLD_FIDELITIES]
    checks.check_sets(records, target, findings.add, old)
    if data[keys.DEFAULT_ORDER] and not old:
        checks.check_base(records, base, findings.add)
    checks.check_neighbours(records, model[KEY.CUTOFF], findings.add)
    lengths.check(records, findings.add)
    checks.check_labels(records, sets[TRAIN], findings.add)
    checks.check_elements(records, model[KEY.CHEMICAL_SPECIES], findings.add)
    more = {}
    if not old:  # beside a checkpoint other references are fitted
        more[target] = inferred(
            records, sets[TRAIN], options, target, model[KEY.CUTOFF], findings.add
        )
    references = checks.fit_training(
        records, base, options['reference_energies'], findings.add, more
    )
    if references is not None:
        checks.check_determined(records, references, target, findings.add)
    for name in records.fidelities:
        checks.check_repeats(records, name, findings.add)
        checks.check_leaks(records, name, target, findings.add)
        outliers.check_fidelity(records, name, findings.add)
        outliers.check_zeros(records, name, findings.add)
        outliers.check_constant(records, name, findings.add)
        found = len(findings.found)
        units.check_files(records, name, findings.add)
        if len(findings.found) == found:
            # between files in different units, energies explain no force
            derivatives.check(records, name, findings.add)
    pairs, differences = _pairs(records, findings)
    return Audit(
        file=name,
        fidelities=list(records.fidelities),
        base=base,
        target=target,
        sets=describe_sets(records),
        pairs=pairs,
        references={} if references is None else references.as_dict(),
        histograms=histograms(records, references, differences),
        problems=findings.problems(),
    )


def _sets(
    data: Mapping[str, Any], replay: Mapping[str, Any] | None
) -> dict[str, list[Any]]:
    sets = {
        name.removeprefix('load_').removesuffix('_path'): list(entries)
        for name, entries in data.items()
        if name.startswith('load_') and name.endswith('_path') and entries
    }
    if replay and replay['self_label'] is None:
        sets[TRAIN].append(replay['entry'])
    return sets


def _pairs(
    records: Records, findings: Findings
) -> tuple[list[PairAudit], dict[str, Floats]]:
    audits, differences = [], {}
    for low, high in itertools.combinations(records.fidelities, 2):
        first, second = checks.pairs_of(records, low, high)
        units.check_pair(records, low, high, first, second, findings.add)
        if len(first) == 0:
            continue
        checks.check_same_labels(records, low, high, findings.add)
        rest = outliers.check_pair(
            records, low, high, first, second, findings.add
        )
        differences[f'{high} - {low}'] = rest
        audits.append(describe_pairs(records, low, high, first, second, rest))
    return audits, differences
