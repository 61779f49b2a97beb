"""What a run of a study is made of: training, and what goes before it."""

from __future__ import annotations

from typing import Any, Final

from sevennet_mf.files import read_json, write_json
from sevennet_mf.study.plan.planned import DIFFERENCES, FOLDED, TRAINING
from sevennet_mf.study.runs import Run
from sevennet_mf.study.work.training import Signals, Stage, is_trained, train

# what the stages of a run left for its result.json
NOTES: Final[str] = 'notes.json'


def do(run: Run, stage: Stage, signals: Signals) -> None:
    """Do a stage of a run, if it is not done. Raises StageFailed, Interrupted."""
    if stage['kind'] == 'train':
        if not is_trained(run, stage):
            train(run, stage, signals)
    elif stage['kind'] == 'differences':
        _differences(run, stage)
    else:
        assert stage['kind'] == 'fold', stage
        _fold(run, stage)


def _differences(run: Run, stage: Stage) -> None:
    """Write the labels that the model of a difference is trained on."""
    from sevennet_mf.model.load import load_model
    from sevennet_mf.study.work import differences
    from sevennet_mf.study.work.measure import checkpoint_of

    wanted = {
        run.folder / name: stage[part]
        for name, part in zip(DIFFERENCES, ('train', 'valid'), strict=True)
        if stage[part]
    }
    if all(path.is_file() for path in wanted) and 'differences' in notes_of(run):
        return
    low = load_model(str(checkpoint_of(run.needed())))
    fidelity = stage['fidelity']
    paired = differences.read_paired(stage['paired'], fidelity, low.cutoff)
    counts = {}
    for path, (entry,) in wanted.items():
        # validation is of the sum of both models, as the test is
        known = paired if path.stem == 'train' else differences.Paired()
        counts[path.stem] = differences.write(
            low, entry, fidelity, known, path, device_of(run)
        )
    note(run, differences=counts)


def _fold(run: Run, stage: Stage) -> None:
    """Write one fidelity of the low model as a model of its own."""
    from sevennet_mf.deploy.export import export
    from sevennet_mf.study.work.measure import checkpoint_of

    path = run.folder / FOLDED
    if not path.is_file():
        export(str(checkpoint_of(run.needed())), str(path), stage['fidelity'])


# ---- what stages leave for the end


def device_of(run: Run) -> str:
    """Where the YAML of a run trains."""
    from sevennet_mf.config import inputs

    sections = inputs.load_yaml(str(run.folder / f'{TRAINING}.yaml'))
    return str(sections['train'].get('device', 'auto'))


def notes_of(run: Run) -> dict[str, Any]:
    """Seconds by stage, and what else the stages of a run left."""
    return read_json(run.folder / NOTES)


def note(run: Run, **more: Any) -> None:
    """Add to the notes of a run."""
    write_json(run.folder / NOTES, {**notes_of(run), **more})
