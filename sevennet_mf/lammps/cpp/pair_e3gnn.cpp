#include "pair_e3gnn.h"

#include "comm.h"

#include "paths.h"

using namespace LAMMPS_NS;

namespace sevennet_mf {

namespace {

const std::string USAGE = "pair_coeff * * FILE ELEMENT ... (one element per atom type)";

}    // namespace

PairE3GNN::PairE3GNN(LAMMPS *lmp) : PairBase(lmp, "pair_style e3gnn") {}

void PairE3GNN::settings(int narg, char **arg) {
  PairBase::settings(narg, arg);
  if (comm->nprocs > 1)
    fail_all("runs on one MPI rank, but there are " + std::to_string(comm->nprocs) +
             "; use pair_style e3gnn/parallel");
}

void PairE3GNN::coeff(int narg, char **arg) {
  check_wildcards(narg, arg, USAGE);
  const std::string file = arg[2];
  use_device();
  load_on_all([&] {
    check_serial_file(file, narg > 3 ? arg[3] : "");
    model_ = std::make_unique<SerialModel>(file, device_);
  });
  use_model(model_->metadata(), file, {arg + 3, arg + narg});
}

void PairE3GNN::compute(int eflag, int vflag) {
  ev_init(eflag, vflag);
  in_step([&] {
    const Graph &graph = build_graph();
    if (graph.n_local == 0) return;
    if (graph.n_ghosts() > 0)
      throw ModelError("a neighbour is not an image of an atom on this rank");
    model_->evaluate(graph, prediction_);
    tally(graph);
  });
}

}    // namespace sevennet_mf
