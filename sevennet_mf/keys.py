"""Keys of the YAML, of checkpoints and of graphs, with shape, dtype and unit."""

from collections.abc import Mapping
from typing import Final

# ---- flat keys of the merged configuration (plain builtins, saved in checkpoints)
# The host merges the sections of the YAML into one dictionary, where three keys
# named `fidelity` would collapse into one.
FIDELITY_MODEL: Final[str] = 'fidelity_model'
FIDELITY_TRAIN: Final[str] = 'fidelity_train'
FIDELITY_DATA: Final[str] = 'fidelity_data'
# list of str | fidelities of the checkpoint that training starts from, by index
OLD_FIDELITIES: Final[str] = 'fidelity_old'
# bool | whether neither data.fidelity.order nor its base was written
DEFAULT_ORDER: Final[str] = 'fidelity_default_order'
# dict of dict | training keys that the YAML left out, by the origin of the default:
# see recipe.py
DEFAULTS: Final[str] = 'fidelity_defaults'
# int | a key of FIDELITY_TRAIN: the least steps of an epoch, where the YAML does not
# set the length of the run
LEAST_STEPS: Final[str] = 'least_steps'
# dict | names, order, target, references, data hashes, versions: see provenance.py
PROVENANCE: Final[str] = 'fidelity_provenance'
# dict | a key of the provenance: what a file of one fidelity was made from
FOLDED: Final[str] = 'folded'
# a key of `about` in a model of a difference: the lower of the two fidelities
DIFFERENCE_TO: Final[str] = 'difference_to'
# dict | what `--resume` needs besides the weights; a key of the checkpoint file
TRAINING_STATE: Final[str] = 'fidelity_training_state'

# ---- keys of a graph
# (n_graphs,) int64 | index of each graph's fidelity in the model's modal map
FIDELITY_INDEX: Final[str] = 'fidelity_index'
# (n_graphs,) int64 | index of each graph in its dataset, for messages
STRUCTURE_INDEX: Final[str] = 'structure_index'
# (n_graphs,) float32 | 1, or 0 for a graph that only fills up a batch
SAMPLE_WEIGHT: Final[str] = 'sample_weight'

# ---- the sites of the YAML and the host's switch for each
SITE_SWITCH: Final[dict[str, str]] = {
    'node_embedding': 'use_modal_node_embedding',
    'self_interaction_1': 'use_modal_self_inter_intro',
    'self_interaction_2': 'use_modal_self_inter_outro',
    'output': 'use_modal_output_block',
}

# keys of `train.continue` for elastic weight consolidation, as the host's reEWC has
# them; not every version of the host does
FISHER: Final[str] = 'fisher_information'
OPT_PARAMS: Final[str] = 'opt_params'
EWC_LAMBDA: Final[str] = 'ewc_lambda'

# eV/Å^3 -> kbar, the host's factor
KBAR: Final[float] = 1602.1766208
# Å^3 | the host treats a smaller cell as having no volume
FLAT: Final[float] = 1e-3

# 'table' or 'network' | in the configuration of a model that is scripted for our
# pair styles: where the radial weights of its convolutions come from
DEPLOYED_FORM: Final[str] = '_sevennet_mf_deployed_form'


def by_index(modal_map: Mapping[str, int]) -> list[str]:
    """Return names of the fidelities in the order of their indices in the model."""
    return sorted(modal_map, key=lambda name: int(modal_map[name]))


def is_load_path(name: object) -> bool:
    """Whether a key of the section `data` names a set, as load_trainset_path."""
    if not isinstance(name, str):
        return False
    return name.startswith('load_') and name.endswith('_path')
