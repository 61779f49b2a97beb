#include "pair_base.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "atom.h"
#include "comm.h"
#include "error.h"
#include "force.h"
#include "memory.h"
#include "neigh_list.h"
#include "neighbor.h"
#include "update.h"
#include "utils.h"

#include "elements.h"
#include "exclusions.h"

using namespace LAMMPS_NS;

namespace sevennet_mf {

namespace {

constexpr auto PLACE = "e3gnnplugin";    // not the path where it was compiled

}    // namespace

PairBase::PairBase(LAMMPS *lmp, const std::string &style) : Pair(lmp), style_(style) {
  single_enable = 0;
  restartinfo = 0;
  one_coeff = 1;
  manybody_flag = 1;
  // virials come from the edges: positions of ghosts do not enter
  no_virial_fdotr_compute = 1;
  // a message-passing model has no virial of an atom that gives the heat flux
  centroidstressflag = CENTROID_NOTAVAIL;
}

PairBase::~PairBase() {
  if (!allocated || copymode) return;
  memory->destroy(setflag);
  memory->destroy(cutsq);
}

void PairBase::fail_all(const std::string &text) {
  error->all(PLACE, 0, style_ + ": " + text);
}

void PairBase::fail_one(const std::string &text) {
  error->one(PLACE, 0, style_ + ": " + text);
}

void PairBase::settings(int narg, char **arg) {
  if (narg > 0)
    fail_all("pair_style takes no arguments, got '" + std::string(arg[0]) +
             "'; files and elements belong in pair_coeff");
}

void PairBase::check_wildcards(int narg, char **arg, const std::string &usage) {
  if (narg < 2 || std::strcmp(arg[0], "*") != 0 || std::strcmp(arg[1], "*") != 0)
    fail_all("the first two arguments of pair_coeff must be * *: " + usage);
  if (narg < 4) fail_all("too few arguments: " + usage);
}

void PairBase::use_device() {
  const NodeShare share = share_of_node(world);
  const int n_devices = cuda_devices();
  device_ = n_devices > 0 ? "cuda:" + std::to_string(share.rank % n_devices) : "cpu";
  n_threads_ = share.n_threads;
  set_threads(n_threads_);
  if (n_devices == 0) keep_freed_memory();
}

void PairBase::allocate() {
  allocated = 1;
  const int n = atom->ntypes + 1;
  memory->create(setflag, n, n, "pair:setflag");
  memory->create(cutsq, n, n, "pair:cutsq");
}

void PairBase::use_model(const Metadata &metadata, const std::string &file,
                         const std::vector<std::string> &names) {
  load_on_all([&] {
    element_of_type_ = elements_of_types(names, metadata.elements, file, atom->ntypes);
  });
  const bool hybrid = utils::strmatch(force->pair_style, "^hybrid");
  if (!hybrid && std::find(names.begin(), names.end(), "NULL") != names.end())
    fail_all("an atom type is NULL, which only pair_style hybrid supports");
  cutoff_ = metadata.cutoff;
  if (!allocated) allocate();
  for (int i = 1; i <= atom->ntypes; ++i) {
    for (int j = 1; j <= atom->ntypes; ++j) {
      setflag[i][j] = element_of_type_[i] >= 0 && element_of_type_[j] >= 0;
      cutsq[i][j] = cutoff_ * cutoff_;
    }
  }
  report(metadata, file, names);
}

void PairBase::report(const Metadata &metadata, const std::string &file,
                      const std::vector<std::string> &names) {
  std::string types;
  for (size_t i = 0; i < names.size(); ++i)
    types += " " + std::to_string(i + 1) + "=" + names[i];
  utils::logmesg(lmp, style_ + ": " + file + ", sevenn " + metadata.version + ", " +
                          metadata.dtype + " precision, deployed " + metadata.date +
                          ", device " + device_ + ", convolutions " +
                          metadata.convolution + ", threads per rank " +
                          std::to_string(n_threads_) + ", types" + types + "\n");
}

void PairBase::init_style() {
  if (std::strcmp(update->unit_style, "metal") != 0)
    fail_all("models are in eV and angstrom: put 'units metal' first, not 'units " +
             std::string(update->unit_style) + "'");
  if (!atom->tag_enable) fail_all("atoms need ids: remove 'atom_modify id no'");
  check_special_bonds();
  neighbor->add_request(this, NeighConst::REQ_FULL);
}

void PairBase::check_special_bonds() {
  for (int k = 1; k <= 3 && atom->molecular && atom->nbonds > 0; ++k) {
    // such neighbours would be left out of the list, and out of the energy
    if (force->special_lj[k] == 0.0 && force->special_coul[k] == 0.0)
      fail_all("bonded atoms must stay neighbours: add 'special_bonds lj/coul 1 1 1'");
  }
}

double PairBase::init_one(int, int) { return cutoff_; }

const Graph &PairBase::build_graph() {
  const bool new_list = neighbor->ago == 0;
  const Graph &graph = builder_.build(*atom, *neighbor, *list, element_of_type_, cutoff_,
                                      new_list);
  // only now: fixes add exclusions and molecules with bonds before the run
  if (new_list) {
    check_special_bonds();
    warn_of_hidden_neighbours();
  }
  return graph;
}

// Collective over `world`.
bool PairBase::pairs_excluded() {
  if (!neighbor->exclude) return false;
  std::vector<int> sides =
      sides_present(*atom, *neighbor, element_of_type_, builder_.absent());
  MPI_Allreduce(MPI_IN_PLACE, sides.data(), static_cast<int>(sides.size()), MPI_INT,
                MPI_MAX, world);
  for (size_t k = 0; k < sides.size(); k += 2)
    if (sides[k] && sides[k + 1]) return true;
  return false;
}

// Whether hybrid assigns pairs of our types to another style only.
bool PairBase::pairs_given_away() const {
  for (int i = 1; i <= atom->ntypes && list->ijskip; ++i)
    for (int j = 1; j <= atom->ntypes; ++j)
      if (list->ijskip[i][j] && element_of_type_[i] >= 0 && element_of_type_[j] >= 0)
        return true;
  return list->molskip != 0;    // hybrid/molecular
}

void PairBase::warn_of_hidden_neighbours() {
  if (warned_) return;
  std::string by, remedy;
  if (pairs_excluded()) {
    by = "neigh_modify exclude";
    remedy = "To keep atoms fixed, leave them out of the integration; to remove them "
             "from the model, exclude their group from group all";
  } else if (pairs_given_away()) {
    by = "pair_style hybrid";
    remedy = "Give it all pairs of its types: hybrid/overlay adds another style to them";
  } else {
    return;
  }
  warned_ = true;
  if (comm->me == 0)
    error->warning(PLACE, 0,
                   style_ + ": " + by +
                       " hides neighbours from the model; energies, and forces on all "
                       "nearby atoms, are not those of the model. " + remedy);
}

void PairBase::tally(const Graph &graph) {
  double **f = atom->f;
  const std::vector<float> &gradients = prediction_.gradients;
  for (size_t e = 0; 3 * e < gradients.size(); ++e) {
    double *on_centre = f[graph.atoms[graph.centres[e]]];
    double *on_neighbour = f[graph.atoms[graph.neighbours[e]]];
    for (int d = 0; d < 3; ++d) {
      on_centre[d] += gradients[3 * e + d];
      on_neighbour[d] -= gradients[3 * e + d];
    }
  }
  tally_energies(graph);    // in every step: the energy may be NaN in any
  if (vflag_either) tally_virials(graph);
}

void PairBase::tally_energies(const Graph &graph) {
  double sum = 0.0;
  for (int64_t node = 0; node < graph.n_local; ++node) {
    const double energy = prediction_.energies[node];
    if (eflag_atom) eatom[graph.atoms[node]] += energy;
    sum += energy;
  }
  if (!std::isfinite(sum))
    throw ModelError("the energy is not a number; are two atoms at the same position?");
  if (eflag_global) eng_vdwl += sum;
}

// Each edge's share goes to the neighbour, as in SevenNet's own per-atom virial. Only
// the sum has a meaning of its own.
void PairBase::tally_virials(const Graph &graph) {
  const std::vector<float> &gradients = prediction_.gradients;
  for (size_t e = 0; 3 * e < gradients.size(); ++e) {
    const float *r = &graph.vectors[3 * e];
    const float *g = &gradients[3 * e];
    const auto w = [&](int a, int b) { return -static_cast<double>(r[a]) * g[b]; };
    // xx yy zz xy xz yz; xz as SevenNet has it. The sum over edges is symmetric.
    const double six[6] = {w(0, 0), w(1, 1), w(2, 2), w(0, 1), w(2, 0), w(1, 2)};
    const int i = graph.atoms[graph.neighbours[e]];
    for (int k = 0; k < 6 && vflag_global; ++k) virial[k] += six[k];
    for (int k = 0; k < 6 && vflag_atom; ++k) vatom[i][k] += six[k];
  }
}

double PairBase::memory_usage() {
  const Graph &graph = builder_.graph();
  const double edges = graph.centres.capacity() * 2.0 * sizeof(int64_t) +
      (graph.vectors.capacity() + prediction_.gradients.capacity()) * sizeof(float);
  return Pair::memory_usage() + edges;
}

}    // namespace sevennet_mf
