#ifndef SEVENNET_MF_GRAPH_H
#define SEVENNET_MF_GRAPH_H

#include <cstdint>
#include <utility>
#include <vector>

namespace LAMMPS_NS {
class Atom;
class NeighList;
class Neighbor;
}    // namespace LAMMPS_NS

namespace sevennet_mf {

// Atoms and the edges within the cutoff, in the form the models want. Nodes are
// the rank's own atoms first, then the ghosts whose owner is another rank.
struct Graph {
  std::vector<int> atoms;             // (n_nodes,) LAMMPS index of each node
  std::vector<int64_t> types;         // (n_nodes,) index of its element in the file
  std::vector<int64_t> centres;       // (n_edges,) node that sees the neighbour
  std::vector<int64_t> neighbours;    // (n_edges,) node that is seen
  std::vector<float> vectors;         // (n_edges, 3) neighbour minus centre, angstrom
  int64_t n_local = 0;

  int64_t n_nodes() const { return static_cast<int64_t>(atoms.size()); }
  int64_t n_ghosts() const { return n_nodes() - n_local; }
  int64_t n_edges() const { return static_cast<int64_t>(centres.size()); }
};

// Turns a full neighbour list into a Graph; keeps its memory between steps.
class GraphBuilder {
 public:
  // element_of_type: (n_types + 1,), -1 for a type that has no element.
  // new_list: the neighbour list, and with it the ghosts, changed since last time.
  // Atoms that are excluded from all others have no node (see exclusions.h).
  const Graph &build(const LAMMPS_NS::Atom &atom, const LAMMPS_NS::Neighbor &neighbor,
                     const LAMMPS_NS::NeighList &list,
                     const std::vector<int> &element_of_type, double cutoff,
                     bool new_list);
  const Graph &graph() const { return graph_; }
  const std::vector<char> &absent() const { return absent_; }    // of `find_absent`

 private:
  void find_owners(const LAMMPS_NS::Atom &atom);
  // index of the element of an atom, -1 if it is none for the model
  int element(const LAMMPS_NS::Atom &atom, const std::vector<int> &element_of_type,
              int i) const;
  void add_local_nodes(const LAMMPS_NS::Atom &atom, const LAMMPS_NS::NeighList &list,
                       const std::vector<int> &element_of_type);
  void add_edges(const LAMMPS_NS::Atom &atom, const LAMMPS_NS::NeighList &list,
                 const std::vector<int> &element_of_type, double cutoff);

  Graph graph_;
  std::vector<std::pair<int64_t, int>> by_id_;    // (atom id, LAMMPS index)
  std::vector<char> absent_;    // LAMMPS index -> 1 for an excluded atom; or empty
  std::vector<int> owner_;      // LAMMPS index -> lowest index with the same id
  std::vector<int> node_of_;    // LAMMPS index -> node, -1 if it is none
};

}    // namespace sevennet_mf

#endif
