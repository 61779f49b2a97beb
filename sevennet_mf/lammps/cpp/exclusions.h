#ifndef SEVENNET_MF_EXCLUSIONS_H
#define SEVENNET_MF_EXCLUSIONS_H

#include <vector>

namespace LAMMPS_NS {
class Atom;
class Neighbor;
}    // namespace LAMMPS_NS

namespace sevennet_mf {

// What `neigh_modify exclude` means for a many-body model. An atom that is excluded
// from all others is absent: this is how `fix gcmc` obtains the energy without it.
// Excluding pairs of present atoms cuts up the environments that the model was
// trained on, and is meaningless.

// absent: (n_own + n_ghost atoms of LAMMPS,) 1 if the atom is; empty if nothing is
// excluded. It belongs to the neighbour list: ask again whenever that is new.
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
