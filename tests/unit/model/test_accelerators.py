"""Accelerators carry every parameter, or refuse (traps 19 and 20)."""

from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import sevenn._keys as KEY
import sevenn.checkpoint
import torch
from accelerators import (
    AVAILABLE,
    FLAGS,
    converted,
    is_accelerated,
    pretend,
    pretend_absent,
)
from e3nn.o3 import Linear
from helpers import (
    ARCHITECTURES,
    ENCODINGS,
    assert_close,
    build,
    evaluate,
    graph,
    host_config,
    model_config,
    registered,
    save_checkpoint,
    structures,
    trained,
)
from sevenn.model_build import build_E3_equivariant_model
from torch_geometric.data import Batch

from sevennet_mf.errors import HostError, UserError
from sevennet_mf.model import accelerators
from sevennet_mf.model.build import carry_theta, check_kept, fidelity_layers

BOTH = ['pbe', 'r2scan']
EACH = pytest.mark.parametrize('encoding', ENCODINGS)
EVERY = pytest.mark.parametrize('flag', FLAGS)


@pytest.fixture
def pretended(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch)


def batch(atoms: list[Any]) -> Batch:
    """One structure at each fidelity."""
    pairs = zip(atoms, BOTH, strict=True)
    return Batch.from_data_list([graph(a, fidelity) for a, fidelity in pairs])


def biased(model: torch.nn.Module) -> None:
    """Biases of every linear layer as if they had been trained."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith('linear.bias'):
                noise = torch.randn(parameter.shape, generator=generator)
                parameter.copy_(noise)


def plain_with_biases(path: Path) -> tuple[Any, Path]:
    """What `sevennet-mf export` writes: SevenNet's own model, with biases."""
    config = host_config(model_config(names=('pbe',), use_bias_in_linear=True))
    model = build(config)
    biased(model)
    return model, save_checkpoint(path, model, config)


# ---- which one, and whether it is there


def test_what_a_configuration_asks_for() -> None:
    config = model_config()
    off = dict.fromkeys(FLAGS, False)
    assert accelerators.asked(config) == off
    assert accelerators.name_of(config) is None
    before = dict(config)
    accelerators.switch(config, **off)
    assert config == before  # a run without one writes what it always wrote
    for flag, name in zip(FLAGS, accelerators.NAMES, strict=True):
        accelerators.switch(config, **{flag: True})
        assert accelerators.asked(config) == {**off, flag: True}
        assert accelerators.name_of(config) == name
    accelerators.switch(config)
    assert accelerators.asked(config) == off


@EVERY
def test_a_missing_one_is_refused(
    flag: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend_absent(monkeypatch)
    accelerators.check()
    name = accelerators.NAMES[FLAGS.index(flag)]
    words = f'{name} was requested, but it is not installed here or has no GPU'
    with pytest.raises(UserError, match=words):
        accelerators.check(**{flag: True})
    config: dict[str, Any] = {}
    accelerators.switch(config, **{flag: True})
    with pytest.raises(UserError, match=words):
        accelerators.check(config=config)
    monkeypatch.setattr(AVAILABLE[flag], lambda: True)
    accelerators.check(config=config)


def test_two_at_a_time_are_refused(pretended: None) -> None:
    with pytest.raises(UserError, match=r"one accelerator at a time, got \['cuEq"):
        accelerators.check(enable_cueq=True, config={KEY.USE_OEQ: True})


def test_cue_with_biases_is_refused(pretended: None) -> None:
    """SevenNet warns and builds the model without it."""
    config = {KEY.USE_BIAS_IN_LINEAR: True}
    with pytest.raises(UserError, match='have biases.*export --accelerated'):
        accelerators.check(enable_cueq=True, config=config)
    accelerators.check(enable_flash=True, config=config)
    accelerators.check(config=config)


# ---- conversion


@EVERY
@EACH
def test_there_and_back(
    encoding: str, flag: str, pretended: None, tmp_path: Path
) -> None:
    """Back: a checkpoint trained with one, on a machine without it."""
    options = {**ARCHITECTURES['lmax2' if flag == 'enable_flash' else 'parity']}
    options['use_bias_in_linear'] = flag != 'enable_cueq'
    model, config = trained(encoding, **options)
    biased(model)
    path = save_checkpoint(tmp_path / 'a.pth', model, config)
    with registered():
        fast = converted(path, flag)
        accelerators.switch(config, **{flag: True})
        path = save_checkpoint(tmp_path / 'b.pth', fast, config)
        back = sevenn.checkpoint.SevenNetCheckpoint(path).build_model().eval()
    source = model.state_dict()
    accelerators.check_carried(source, fast, 'a.pth')
    kinds = [type(layer) for layer in fidelity_layers(model)]
    assert [type(layer) for layer in fidelity_layers(fast)] == kinds
    assert is_accelerated(fast)
    assert not is_accelerated(back)
    for name, value in back.state_dict().items():
        assert torch.equal(source[name], value), name
    atoms = structures(2)
    assert_close(evaluate(fast, atoms, BOTH), evaluate(model, atoms, BOTH))


@pytest.mark.parametrize('flag', FLAGS[1:])
def test_biases_of_a_plain_model_are_carried(
    flag: str, pretended: None, tmp_path: Path
) -> None:
    """Trap 19: SevenNet alone drops them, and the energy is another."""
    model, path = plain_with_biases(tmp_path / 'plain.pth')
    with registered():
        fast = converted(path, flag)
    accelerators.check_carried(model.state_dict(), fast, str(path))
    atoms = structures(2)
    wanted = evaluate(model, atoms, [None, None])
    assert is_accelerated(fast)
    assert_close(evaluate(fast, atoms, [None, None]), wanted)


def test_what_sevennet_alone_makes_of_biases(tmp_path: Path) -> None:
    """If this fails, SevenNet has learnt to carry them."""
    model, _ = plain_with_biases(tmp_path / 'plain.pth')
    source = model.state_dict()
    config = {'num_convolution_layer': 2, 'self_connection_type': 'nequip'}
    convert = sevenn.checkpoint._convert_e3nn_and_cueq
    convert = getattr(convert, '__wrapped__', convert)
    empty = {name: torch.zeros_like(value) for name, value in source.items()}
    result = convert(source, empty, config, False)
    assert not result['reduce_hidden_to_energy.linear.bias'].any()
    fresh = build(host_config(model_config(names=('pbe',))))
    with pytest.raises(UserError, match='onehot.*would be lost with this acc'):
        accelerators.check_carried(source, fresh, 'a.pth')


def test_models_without_biases_are_converted_by_the_host(
    monkeypatch: pytest.MonkeyPatch, pretended: None, tmp_path: Path
) -> None:
    """Off means untouched."""
    from sevennet_mf.model import build as module

    def fail(*args: Any) -> None:
        raise AssertionError

    monkeypatch.setattr(module, 'carry_theta', fail)
    config = host_config(model_config())
    model = build(config)
    path = save_checkpoint(tmp_path / 'model.pth', model, config)
    with registered():
        fast = converted(path, 'enable_flash')
    accelerators.check_carried(model.state_dict(), fast, 'a.pth')


@EACH
def test_conversion_refuses_a_target_without_a_place(encoding: str) -> None:
    model, config = trained(encoding, use_bias_in_linear=True)
    source = model.state_dict()
    carried = list(carry_theta(source, source)[1])
    assert any(name.endswith('linear.bias') for name in carried)
    target = {n: v for n, v in source.items() if n != carried[-1]}
    with registered(), pytest.raises(HostError, match='no place for'):
        sevenn.checkpoint._convert_e3nn_and_cueq(source, target, config, False)
    target = {**source, carried[-1]: torch.zeros(1, 2, 3)}
    with pytest.raises(HostError, match=f'no place for {carried[-1]}'):
        carry_theta(source, target)


# ---- the guard


def test_the_guard_names_what_is_lost() -> None:
    model, _ = trained('lora', use_bias_in_linear=True)
    source = model.state_dict()
    accelerators.check_carried(source, model, 'a.pth')

    def lost(name: str, changed: dict[str, torch.Tensor]) -> None:
        words = f'a.pth: {name} would be lost.*export --accelerated'
        with pytest.raises(UserError, match=words) as error:
            accelerators.check_carried(changed, model, 'a.pth')
        assert '\n' not in str(error.value)

    for name, value in source.items():
        if accelerators.CONSTANT.match(name) or not value.numel():
            continue
        rest = {n: v for n, v in source.items() if n != name}
        lost(name, rest)  # the model has it from nowhere
        lost(name, {**source, name: value + 1})
    lost('a.gain.0', {**source, 'a.gain.0': torch.ones(2)})
    constants = {n: v for n, v in source.items() if 'output_mask' not in n}
    accelerators.check_carried(constants, model, 'a.pth')


@pytest.mark.parametrize('flag', FLAGS[1:])
def test_the_guard_knows_parallel_segments(
    flag: str, pretended: None, tmp_path: Path
) -> None:
    """SevenNet lets a segment miss anything when it is accelerated."""
    model, path = plain_with_biases(tmp_path / 'plain.pth')
    file = sevenn.checkpoint.SevenNetCheckpoint(path)
    with registered():
        whole = converted(path, flag).state_dict()
        config = file.config
        accelerators.switch(config, **{flag: True})
        segments = build_E3_equivariant_model(config, parallel=True)
    ghosts = ('onehot_to_feature_x', '0_self_interaction_1')
    for segment in segments:
        copies = {f'ghost_{n}': v for n, v in whole.items() if n.startswith(ghosts)}
        segment.load_state_dict({**whole, **copies}, strict=False)
    source = model.state_dict()
    accelerators.check_carried(source, segments, 'a.pth')
    with pytest.raises(UserError, match='would be lost'):
        accelerators.check_carried(source, segments[:1], 'a.pth')
    with torch.no_grad():
        segments[0].get_parameter('ghost_0_self_interaction_1.linear.bias').zero_()
    with pytest.raises(UserError, match='ghost_0_self_interaction_1.linear.bias'):
        accelerators.check_carried(source, segments, 'a.pth')


# ---- a model that is built with one, as training does it


@EVERY
@EACH
def test_built_for_training(encoding: str, flag: str, pretended: None) -> None:
    config = model_config(encoding)
    accelerators.switch(config, **{flag: True})
    model = build(config).train()
    assert is_accelerated(model)
    layers = fidelity_layers(model)
    assert len(layers) == 5  # two of each block but the last, and the readout
    assert {layer.encoding for layer in layers} == {encoding}
    model.set_is_batch_data(True)
    energy = model(batch(structures(2)))[KEY.PRED_TOTAL_ENERGY]
    energy.square().sum().backward()
    for layer in layers:
        for fidelity in (0, 1):
            owned = layer.theta(fidelity)
            assert any(p.grad is not None and p.grad.any() for p in owned)


def test_an_accelerator_that_takes_fidelity_layers_is_refused() -> None:
    layer = fidelity_layers(trained()[0])[0]
    other = torch.nn.Identity()
    check_kept(OrderedDict(a=layer, b=other), OrderedDict(a=layer, c=other))
    for built in ({}, {'a': other}):
        with pytest.raises(HostError, match='the accelerator replaces a, whose'):
            check_kept(OrderedDict(a=layer), built)
    layer.linear_cls = torch.nn.Linear
    with pytest.raises(HostError, match='would be lost'):
        check_kept(OrderedDict(a=layer), OrderedDict(a=layer))
    layer.linear_cls = Linear


# ---- the real ones


@pytest.mark.filterwarnings('ignore:cuequivariance_ops_torch is not available')
@pytest.mark.parametrize('fused', ['0', '1'])
@EACH
def test_cuequivariance_itself(
    encoding: str, fused: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """On the CPU, by its slow method; SevenNet asks for a GPU."""
    pytest.importorskip('cuequivariance_torch')
    monkeypatch.setattr(AVAILABLE['enable_cueq'], lambda: True)
    monkeypatch.setenv('CUEQ_TP_METHOD', 'naive')
    monkeypatch.setenv('CUEQ_USE_SCATTER_FUSION', fused)
    model, config = trained(encoding)
    path = save_checkpoint(tmp_path / 'model.pth', model, config)
    with registered():
        fast = converted(path, 'enable_cueq')
        accelerators.switch(config, enable_cueq=True)
        again = save_checkpoint(tmp_path / 'again.pth', fast, config)
        back = sevenn.checkpoint.SevenNetCheckpoint(again).build_model().eval()
    assert is_accelerated(fast)
    atoms = structures(2)
    wanted = evaluate(model, atoms, BOTH)
    for other in (fast, back):
        accelerators.check_carried(model.state_dict(), other, 'a.pth')
        assert_close(evaluate(other, atoms, BOTH), wanted)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a CUDA device')
@pytest.mark.parametrize(
    ('flag', 'package'),
    [
        ('enable_cueq', 'cuequivariance_ops_torch'),
        ('enable_flash', 'flashTP_e3nn'),
        ('enable_oeq', 'openequivariance'),
    ],
)
@EACH
def test_energies_on_a_gpu(
    encoding: str, flag: str, package: str, tmp_path: Path
) -> None:
    pytest.importorskip(package)
    # FlashTP and OpenEquivariance take channels in multiples of 32
    model, config = trained(encoding, channel=32)
    path = save_checkpoint(tmp_path / 'model.pth', model, config)
    with registered():
        fast = converted(path, flag)
    assert is_accelerated(fast)
    accelerators.check_carried(model.state_dict(), fast, 'a.pth')
    atoms = structures(2)
    wanted, found = on_gpu(model, atoms), on_gpu(fast, atoms)
    for name, value in wanted.items():
        torch.testing.assert_close(found[name], value, atol=1e-4, rtol=1e-5)


def on_gpu(model: Any, atoms: list[Any]) -> dict[str, torch.Tensor]:
    model.to('cuda').set_is_batch_data(True)
    output = model(batch(atoms).to('cuda'))
    names = (KEY.PRED_TOTAL_ENERGY, KEY.PRED_FORCE, KEY.PRED_STRESS)
    return {name: output[name].detach().cpu() for name in names}
