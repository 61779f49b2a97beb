"""Names of checkpoints become paths, and nothing is fetched."""

import os
from pathlib import Path

import pytest
import sevenn._const as const

from sevennet_mf.checkpoint import shipped as pretrained
from sevennet_mf.checkpoint.shipped import find_checkpoint
from sevennet_mf.errors import UserError


def test_every_pretrained_name_is_the_hosts() -> None:
    from sevenn.util import get_available_pretrained_models

    assert set(get_available_pretrained_models()) <= set(pretrained.PRETRAINED)
    for constant in pretrained.PRETRAINED.values():
        assert isinstance(getattr(const, constant), str)


def test_nothing_is_downloaded(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(pretrained, 'CACHE', str(tmp_path))
    with pytest.raises(UserError, match='7net-omni is not on this machine'):
        find_checkpoint('7net-omni')
    there = const.SEVENNET_omni.replace(const._prefix, str(tmp_path))
    os.makedirs(os.path.dirname(there))
    Path(there).touch()
    assert find_checkpoint('7net-omni') == there  # the host's own download


def test_unknown_names(tmp_path: Path) -> None:
    (tmp_path / 'checkpoint_best.pth').touch()
    with pytest.raises(UserError, match="no such file.*mean 'checkpoint_best"):
        find_checkpoint(str(tmp_path / 'checkpoint_bset.pth'))
    with pytest.raises(UserError, match="no such file.*'7net-mf-0'"):
        find_checkpoint('7net-mf')
    with pytest.raises(UserError, match=r"'7net-omni'.* must be downloaded: .s"):
        find_checkpoint('7net-1')
    with pytest.raises(UserError, match='is a folder'):
        find_checkpoint(str(tmp_path))
