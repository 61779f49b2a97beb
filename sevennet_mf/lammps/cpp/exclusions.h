#ifndef SEVENNET_MF_EXCLUSIONS_H
#define SEVENNET_MF_EXCLUSIONS_H

#include <vector>

namespace LAMMPS_NS {
class Atom;
class Neighbor;
}    // namespace LAMMPS_NS

namespace sevennet_mf {

// What `neigh_modify exclude` means for a model of many bodies. An atom that is
// excluded from all others is absent: so `fix gcmc` asks for the energy without it.
// Pairs left out between present atoms cut the surroundings that the model was
// trained on, and mean nothing.

// absent: (n_own + n_ghost atoms of LAMMPS,) 1 if the atom is; empty if nothing is
// excluded. As of the neighbour list: to be asked when that is new.
void find_absent(const LAMMPS_NS::Atom &atom, const LAMMPS_NS::Neighbor &neighbor,
                 std::vector<char> &absent);

// (n_exclusions, 2) 1 if the first, the second side of an exclusion has own atoms
// that are present and of our elements.
std::vector<int> sides_present(const LAMMPS_NS::Atom &atom,
                               const LAMMPS_NS::Neighbor &neighbor,
                               const std::vector<int> &element_of_type,
                               const std::vector<char> &absent);

}    // namespace sevennet_mf

#endif
