#include "graph.h"

#include <algorithm>

#include "atom.h"
#include "neigh_list.h"
#include "neighbor.h"

#include "exclusions.h"

namespace sevennet_mf {

// Periodic images and copies of an atom share its id. Own atoms have lower
// indices than ghosts, so that an image of an own atom maps onto that atom.
void GraphBuilder::find_owners(const LAMMPS_NS::Atom &atom) {
  const int n_all = atom.nlocal + atom.nghost;
  by_id_.resize(n_all);
  for (int i = 0; i < n_all; ++i) by_id_[i] = {atom.tag[i], i};
  std::sort(by_id_.begin(), by_id_.end());

  owner_.resize(n_all);
  for (int k = 0; k < n_all; ++k) {
    const auto [id, i] = by_id_[k];
    const bool same = k > 0 && by_id_[k - 1].first == id;
    owner_[i] = same ? owner_[by_id_[k - 1].second] : i;
  }
}

int GraphBuilder::element(const LAMMPS_NS::Atom &atom,
                          const std::vector<int> &element_of_type, int i) const {
  if (!absent_.empty() && absent_[i]) return -1;
  return element_of_type[atom.type[i]];
}

void GraphBuilder::add_local_nodes(const LAMMPS_NS::Atom &atom,
                                   const LAMMPS_NS::NeighList &list,
                                   const std::vector<int> &element_of_type) {
  node_of_.assign(owner_.size(), -1);
  for (int ii = 0; ii < list.inum; ++ii) {
    const int i = list.ilist[ii];
    const int type = element(atom, element_of_type, i);
    if (type < 0) continue;
    node_of_[i] = static_cast<int>(graph_.n_nodes());
    graph_.atoms.push_back(i);
    graph_.types.push_back(type);
  }
  graph_.n_local = graph_.n_nodes();
}

void GraphBuilder::add_edges(const LAMMPS_NS::Atom &atom,
                             const LAMMPS_NS::NeighList &list,
                             const std::vector<int> &element_of_type,
                             double cutoff) {
  const double cutoff_squared = cutoff * cutoff;
  for (int64_t centre = 0; centre < graph_.n_local; ++centre) {
    const int i = graph_.atoms[centre];
    const double *xi = atom.x[i];
    for (int jj = 0; jj < list.numneigh[i]; ++jj) {
      // the upper bits say how the two are bonded: not part of the index
      const int j = list.firstneigh[i][jj] & NEIGHMASK;
      const double *xj = atom.x[j];
      const double d[3] = {xj[0] - xi[0], xj[1] - xi[1], xj[2] - xi[2]};
      // the list reaches further than the cutoff, by the skin
      if (d[0] * d[0] + d[1] * d[1] + d[2] * d[2] >= cutoff_squared) continue;
      const int type = element(atom, element_of_type, j);
      if (type < 0) continue;

      int &node = node_of_[owner_[j]];
      if (node < 0) {
        node = static_cast<int>(graph_.n_nodes());
        graph_.atoms.push_back(owner_[j]);
        graph_.types.push_back(type);
      }
      graph_.centres.push_back(centre);
      graph_.neighbours.push_back(node);
      for (const double component : d)
        graph_.vectors.push_back(static_cast<float>(component));
    }
  }
}

const Graph &GraphBuilder::build(const LAMMPS_NS::Atom &atom,
                                 const LAMMPS_NS::Neighbor &neighbor,
                                 const LAMMPS_NS::NeighList &list,
                                 const std::vector<int> &element_of_type,
                                 double cutoff, bool new_list) {
  const size_t n_all = static_cast<size_t>(atom.nlocal) + atom.nghost;
  if (new_list || owner_.size() != n_all) {
    find_owners(atom);
    find_absent(atom, neighbor, absent_);
  }

  graph_.atoms.clear();    // clear() keeps the memory for this step
  graph_.types.clear();
  graph_.centres.clear();
  graph_.neighbours.clear();
  graph_.vectors.clear();
  add_local_nodes(atom, list, element_of_type);
  add_edges(atom, list, element_of_type, cutoff);
  return graph_;
}

}    // namespace sevennet_mf
