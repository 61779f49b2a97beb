"""report.html and the table of the terminal, from the files of a study alone."""

import base64
import html
import json
import re
import shutil
from html.parser import HTMLParser
from importlib import resources
from pathlib import Path

import pytest
import synthetic_study as synthetic
from rich.console import Console
from study_inputs import write_study

from sevennet_mf.errors import UserError
from sevennet_mf.study.plan.folders import plan
from sevennet_mf.study.plan.study_yaml import read_study
from sevennet_mf.study.report import page as module
from sevennet_mf.study.report import tables


class Page(HTMLParser):
    """Tags in order, text, and whether what was opened was closed."""

    ALONE = ('meta', 'img')

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.words: list[str] = []
        self.feed(text)
        self.text = ' '.join(' '.join(self.words).split())

    def handle_starttag(
        self, tag: str, attrs: list[tuple[str, str | None]]
    ) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.ALONE:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open[-1:] != ['style']:
            self.words.append(data)

    def values(self, attribute: str) -> list[str]:
        return [value for _, attrs in self.tags if (value := attrs.get(attribute))]


def written(out: Path) -> Page:
    page = Page(Path(module.write(str(out))).read_text(encoding='utf-8'))
    assert page.open == []
    return page


@pytest.fixture(scope='module')
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return synthetic.study(tmp_path_factory.mktemp('report') / 'study')


@pytest.fixture(scope='module')
def page(out: Path) -> Page:
    return written(out)


def terminal(out: Path) -> str:
    console = Console(width=160, color_system=None)
    with console.capture() as text:
        console.print(tables.for_terminal(str(out)))
    return text.get()


def test_files(out: Path, page: Page) -> None:
    assert (out / 'report.html').is_file()
    assert len((out / 'results.csv').read_text().splitlines()) == 61
    names = {path.name for path in (out / 'figures').iterdir()}
    assert names == {
        *(f'learning_curves.{kind}' for kind in ('png', 'svg')),
        *(f'labels_saved.{kind}' for kind in ('png', 'svg')),
        *(f'parity_{row}.png' for row in synthetic.POWER_LAWS),
    }


def test_page_is_one_file(page: Page) -> None:
    sources = page.values('src')
    assert len(sources) == 2 + len(synthetic.POWER_LAWS)
    assert all(re.match(r'data:image/(png|svg\+xml);base64,', s) for s in sources)
    content = base64.b64decode(sources[0].partition(',')[2])
    assert b'<svg' in content
    assert page.values('href') == ['#failed']
    assert page.values('alt') != []
    assert not {tag for tag, _ in page.tags} & {'script', 'link', 'iframe'}


def test_headline(page: Page) -> None:
    found = re.search(
        r'multi_fidelity with 4 r2scan labels reaches the energy error of high_only '
        r'with (\d+) labels \(95 % interval: (\d+) to (\d+)\)\.',
        page.text,
    )
    assert found
    value, low, high = map(int, found.groups())
    # of the power laws that the errors were drawn from
    truth = (260.0 / (85.0 * 4**-0.48)) ** (1 / 0.60)
    assert low <= value <= high
    assert low <= truth <= high
    assert 'the force error of high_only with' in page.text


def test_what_was_compared(page: Page) -> None:
    for text in (
        'A study of 5 methods, with pbe as the lower fidelity.',
        '59 of 60 runs are done.',
        'by composition: trained on GaN and InN, tested on the rest',
        '4, 8, 16, 29',
        '164 pbe',
        'Every run took 3,000 optimiser steps in total.',
        '1,500 + 1,500',
        '82,416',
        '6 of the 18 test structures have a low-fidelity label in training.',
        'sevennet_mf 0.1.0, sevenn 0.13.0',
        'Batch size 4',
        'sevennet-mf study full_study.yaml -o study',
    ):
        assert text in page.text


def test_tables(page: Page) -> None:
    assert 'Energy, meV/atom; 3 seeds, unless n is given' in page.text
    assert 'Force, meV/Å' in page.text
    assert re.search(r'52\.3 ± 12\.3 \(n = 2\)', page.text)  # the failed run
    assert '> 29' in page.text  # beyond the measured range
    assert 'Stress' not in page.text


def test_failed_runs(page: Page) -> None:
    assert 'transfer/n8_seed2' in page.text
    assert 'train.batch_size 4 needs more memory' in page.text


def test_fewer_seeds_are_marked_in_the_terminal(out: Path, page: Page) -> None:
    assert re.search(r'52\.3 ± 12\.3 \(n = 2\)', terminal(out))
    assert terminal(out).count('(n = ') == 2  # energy and force


def test_terminal_table(out: Path, page: Page) -> None:
    text = terminal(out)
    assert '59 of 60 runs done' in text
    assert 'energy in meV/atom; force in meV/Å' in text
    (cell,) = re.findall(r'multi_fidelity +│ energy │ +([\d.]+ ± [\d.]+)', text)
    assert cell in page.text


def test_words_of_others_are_no_html(tmp_path: Path) -> None:
    bad = '<script>alert(1)</script> & "more"'
    synthetic.run(tmp_path, 'high_only', 8, 1)
    synthetic.failed(tmp_path, 'delta', 8, 1, bad)
    synthetic.dump(tmp_path / 'study.json', {'target': '<b>r2scan</b>'})
    page = written(tmp_path)
    assert bad in page.text
    assert '<b>r2scan</b>' in page.text
    assert not {tag for tag, _ in page.tags} & {'script', 'b'}
    assert html.escape(bad)[:20] in (tmp_path / 'report.html').read_text()


def test_a_study_half_way(tmp_path: Path) -> None:
    for seed in (1, 2):
        synthetic.run(tmp_path, 'high_only', 8, seed)
    synthetic.run(tmp_path, 'delta', 8, 1)
    waits = synthetic.run(tmp_path, 'delta', 8, 2)
    (waits / 'result.json').unlink()
    page = written(tmp_path)
    assert '3 of 4 runs are done' in page.text
    assert 'Unfinished runs 1 of 4: delta/n8_seed2.' in page.text
    assert 'No interval, because delta has only one seed.' in page.text
    assert 'Parity plots' not in page.text  # nobody wrote predictions
    assert '3 of 4 runs done' in terminal(tmp_path)


def test_nothing_done_yet(tmp_path: Path) -> None:
    synthetic.failed(tmp_path, 'high_only', 8, 1, 'no such file: a.extxyz')
    page = written(tmp_path)
    assert 'No finished run has errors to compare yet.' in page.text
    assert 'no such file: a.extxyz' in page.text
    assert page.values('src') == []
    assert '0 of 1 runs done' in terminal(tmp_path)


def test_energies_alone(tmp_path: Path) -> None:
    for row in ('high_only', 'delta'):
        for seed in (1, 2):
            errors = {'energy': {'mae': 10.0 + seed, 'rmse': 12.0, 'n': 5}}
            synthetic.run(tmp_path, row, 8, seed, errors=errors)
    page = written(tmp_path)
    assert 'Energy, meV/atom; 2 seeds' in page.text
    assert 'Force' not in page.text
    assert len(page.values('src')) == 2


def test_stress_has_a_table(tmp_path: Path) -> None:
    errors = {q: {'mae': 5.0, 'rmse': 6.0, 'n': 5} for q in ('energy', 'stress')}
    synthetic.run(tmp_path, 'high_only', 8, 1, errors=errors)
    assert 'Stress, kbar; one seed, so no spread' in written(tmp_path).text


def test_a_variant_is_explained(tmp_path: Path) -> None:
    change = {'model': {'fidelity': {'encoding': 'gain'}}}
    about = {'method': 'multi_fidelity', 'set': change}
    synthetic.run(tmp_path, 'gain', 8, 1)
    synthetic.dump(tmp_path / 'study.json', {'rows': {'gain': about}})
    text = written(tmp_path).text
    assert 'gain is multi_fidelity with' in text
    assert "{'encoding': 'gain'}" in text


def test_a_study_as_it_is_planned(tmp_path: Path) -> None:
    change = {'model': {'channel': 8}}
    variants = {'wide': {'method': 'high_only', 'set': change}}
    path = write_study(tmp_path, methods=['high_only'], variants=variants)
    command = 'sevennet-mf study my.yaml -o study'
    runs = plan(read_study(path), tmp_path / 'study', command=command)
    for run in runs:
        errors = {'energy': {'mae': 10.0, 'rmse': 12.0, 'n': 5}}
        synthetic.dump(run.folder / 'result.json', {**run.content, 'errors': errors})
    text = written(tmp_path / 'study').text
    assert "wide is high_only with {'model': {'channel': 8}}" in text
    assert 'Batch size' in text
    assert re.search(r'Test set \d+ structures', text)
    assert command in text


def test_labels_and_seeds_are_those_of_the_runs(tmp_path: Path) -> None:
    """A study that grew: study.json may know of its latest plan alone."""
    for labels, seed in ((4, 1), (8, 1), (8, 2)):
        synthetic.run(tmp_path, 'high_only', labels, seed)
    synthetic.dump(tmp_path / 'study.json', {'labels': [8], 'seeds': [2]})
    text = written(tmp_path).text
    assert 'Target labels in training 4, 8 ' in text
    assert 'Seeds 1, 2 ' in text


def test_inferred_labels_are_told(tmp_path: Path) -> None:
    told = {2: (0, 0), 8: (120, 5)}
    for labels, (inferred, tested) in told.items():
        more = {'inferred': inferred, 'inferred_test': tested}
        synthetic.run(tmp_path, 'multi_fidelity', labels, 1, **more)
        synthetic.run(tmp_path, 'high_only', labels, 1, inferred=0, inferred_test=0)
    synthetic.run(tmp_path, 'delta', 8, 1)  # an older result does not say
    page = written(tmp_path)
    assert 'inferred labels' in page.text
    assert '0 to 120' in page.text
    assert 'none with 2 labels and 120 with 8. Its error may jump' in page.text
    assert 'Up to 5 of them may have been in training with an inf' in page.text


def test_a_result_without_a_number_is_told(tmp_path: Path) -> None:
    nan = {'energy': {'mae': float('nan'), 'rmse': 1.0, 'n': 5}}
    synthetic.run(tmp_path, 'high_only', 8, 1, errors=nan)
    page = written(tmp_path)
    assert 'the energy MAE is not a finite number' in page.text


def test_not_a_study(tmp_path: Path) -> None:
    with pytest.raises(UserError, match='is not the folder of a study'):
        module.write(str(tmp_path))
    with pytest.raises(UserError, match='is not the folder of a study'):
        tables.for_terminal(str(tmp_path))


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    synthetic.run(tmp_path, 'high_only', 8, 1)
    (tmp_path / 'figures').write_text('in the way')
    with pytest.raises(UserError, match=r'figures cannot be made: .+'):
        module.write(str(tmp_path))


def test_the_template_is_shipped() -> None:
    package = resources.files('sevennet_mf.study.report')
    template = package / 'templates/report.html.jinja'
    assert template.is_file()
    project = Path(__file__).parents[4] / 'pyproject.toml'
    assert "'sevennet_mf.study.report' = ['templates/*']" in project.read_text()


def test_good_news_is_in_no_warnings_colour(out: Path, tmp_path: Path) -> None:
    """What is tested is new to every method: nothing to be careful about."""
    changed = tmp_path / 'study'
    shutil.copytree(out, changed)
    for path in changed.glob('runs/*/*/result.json'):
        told = json.loads(path.read_text())
        path.write_text(json.dumps({**told, 'test_low_labelled': 0}))
    said = Path(module.write(str(changed))).read_text(encoding='utf-8')
    assert '<p class="soft">No test structure has a low-fidelity label' in said
    seen = Path(module.write(str(out))).read_text(encoding='utf-8')
    assert re.search(r'<p class="note">\d+ of the', seen)
