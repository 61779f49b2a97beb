"""The studies behind docs/recipe.md can be planned, and say what the page says."""

from pathlib import Path

import pytest

from sevennet_mf.study.plan.folders import plan
from sevennet_mf.study.plan.study_yaml import read_study

RECIPE = Path(__file__).parents[3] / 'benchmarks' / 'recipe'
STUDIES = sorted(p for p in RECIPE.glob('*.yaml') if 'study:' in p.read_text())


@pytest.mark.parametrize('path', STUDIES, ids=lambda p: p.stem)
def test_the_recipe_can_be_measured(path: Path, tmp_path: Path) -> None:
    study = read_study(str(path))
    runs = plan(study, tmp_path / 'out', dry_run=True)
    assert len(study.seeds) >= 3
    counted = [run for run in runs if run.labels]
    rows = len(study.methods) + len(study.variants)
    assert len(counted) == rows * len(study.labels) * len(study.seeds)
    for run in counted:
        assert sum(run.steps) == pytest.approx(3000, rel=0.01)  # the host's epochs


def test_there_are_studies() -> None:
    assert [path.stem for path in STUDIES] == ['compositions', 'labels', 'random']
