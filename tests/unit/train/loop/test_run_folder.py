"""The folder of a training: what is resumed, and what is moved aside."""

from pathlib import Path

import pytest
import torch

from sevennet_mf import files, keys
from sevennet_mf.checkpoint import file as checkpoint_file
from sevennet_mf.errors import UserError
from sevennet_mf.train.loop import run_folder


def test_a_folder_without_a_run_cannot_be_resumed(tmp_path: Path) -> None:
    with pytest.raises(UserError, match='no such file: .* with -w, or leave out'):
        run_folder.began_with(str(tmp_path))


def test_weights_alone_cannot_be_resumed(tmp_path: Path) -> None:
    content = {'config': {'version': '0.13.0'}, 'epoch': 3}
    content['model_state_dict'] = {'weight': torch.zeros(3)}
    path = str(tmp_path / 'a.pth')
    checkpoint_file.save(path, content)
    with pytest.raises(UserError, match=r'--resume needs a checkpoint_resume\.pth'):
        run_folder.load_training_state(path)
    checkpoint_file.save(path, {**content, keys.TRAINING_STATE: {'state': {}}})
    assert run_folder.load_training_state(path)['epoch'] == 3


def test_an_earlier_runs_checkpoints_are_moved_not_lost(tmp_path: Path) -> None:
    names = ('checkpoint_0.pth', 'checkpoint_best.pth', 'checkpoint_resume.pth')
    for name in names:
        (tmp_path / name).write_text(name)
    (tmp_path / 'checkpoint_of_mine.pth').write_text('not of training')
    (tmp_path / '.abc.part').write_text('half of one')
    files.tidy(str(tmp_path))
    place = Path(run_folder.set_aside(str(tmp_path)))
    assert place == tmp_path / 'earlier_1'
    assert {p.name: p.read_text() for p in place.iterdir()} == {n: n for n in names}
    left = {p.name for p in tmp_path.iterdir()}
    assert left == {'checkpoint_of_mine.pth', 'earlier_1'}
    assert run_folder.set_aside(str(tmp_path)) == ''
    (tmp_path / names[1]).write_text('second')
    assert run_folder.set_aside(str(tmp_path)).endswith('earlier_2')
