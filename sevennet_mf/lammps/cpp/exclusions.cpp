#include "exclusions.h"

#include <cstddef>

#include "atom.h"
#include "neighbor.h"

using namespace LAMMPS_NS;

namespace sevennet_mf {

namespace {

constexpr int ALL = 1;    // LAMMPS's bit of group all

// (n_types + 1,) 1 for a type that is excluded from every type
std::vector<char> types_without_partner(const Atom &atom, const Neighbor &neighbor) {
  std::vector<char> found(atom.ntypes + 1, neighbor.nex_type > 0);
  for (int i = 1; i <= atom.ntypes && neighbor.nex_type > 0; ++i)
    for (int j = 1; j <= atom.ntypes; ++j)
      if (!neighbor.ex_type[i][j]) found[i] = 0;
  return found;
}

// Bits of the groups that are excluded from group all. `fix gcmc` removes an atom from
// all groups but its own, even from group all: its images would stay in the list.
int groups_without_partner(const Neighbor &neighbor) {
  int bits = 0;
  for (int k = 0; k < neighbor.nex_group; ++k) {
    if (neighbor.ex2_bit[k] == ALL) bits |= neighbor.ex1_bit[k];
    if (neighbor.ex1_bit[k] == ALL) bits |= neighbor.ex2_bit[k];
  }
  return bits;
}

}    // namespace

void find_absent(const Atom &atom, const Neighbor &neighbor, std::vector<char> &absent) {
  absent.clear();
  if (!neighbor.exclude) return;
  const std::vector<char> types = types_without_partner(atom, neighbor);
  const int groups = groups_without_partner(neighbor);
  const int n_all = atom.nlocal + atom.nghost;
  absent.resize(n_all);
  for (int i = 0; i < n_all; ++i)
    absent[i] = types[atom.type[i]] || (atom.mask[i] & groups) != 0;
}

std::vector<int> sides_present(const Atom &atom, const Neighbor &neighbor,
                               const std::vector<int> &element_of_type,
                               const std::vector<char> &absent) {
  const int n_type = neighbor.nex_type, n_group = neighbor.nex_group;
  std::vector<int> sides(2 * static_cast<size_t>(n_type + n_group + neighbor.nex_mol));
  for (int i = 0; i < atom.nlocal; ++i) {
    if (absent[i] || element_of_type[atom.type[i]] < 0) continue;
    int *side = sides.data();
    for (int k = 0; k < n_type; ++k, side += 2) {
      side[0] |= atom.type[i] == neighbor.ex1_type[k];
      side[1] |= atom.type[i] == neighbor.ex2_type[k];
    }
    for (int k = 0; k < n_group; ++k, side += 2) {
      side[0] |= (atom.mask[i] & neighbor.ex1_bit[k]) != 0;
      side[1] |= (atom.mask[i] & neighbor.ex2_bit[k]) != 0;
    }
    for (int k = 0; k < neighbor.nex_mol; ++k, side += 2)
      side[0] = side[1] |= (atom.mask[i] & neighbor.ex_mol_bit[k]) != 0;
  }
  return sides;
}

}    // namespace sevennet_mf
