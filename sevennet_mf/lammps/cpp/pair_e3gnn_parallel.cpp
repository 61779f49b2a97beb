#include "pair_e3gnn_parallel.h"

#include <algorithm>
#include <cstring>

#include "atom.h"
#include "comm.h"
#include "force.h"

#include "paths.h"

using namespace LAMMPS_NS;

namespace sevennet_mf {

namespace {

const std::string USAGE = "pair_coeff * * N FOLDER ELEMENT ... or pair_coeff * * N FILE_1 "
                          "... FILE_N ELEMENT ... (N: number of files)";

// LAMMPS sends doubles; two floats travel in each.
int doubles_for(int n_floats) { return (n_floats + 1) / 2; }

}    // namespace

PairE3GNNParallel::PairE3GNNParallel(LAMMPS *lmp) :
    PairBase(lmp, "pair_style e3gnn/parallel") {}

void PairE3GNNParallel::coeff(int narg, char **arg) {
  check_wildcards(narg, arg, USAGE);
  const int n_files = positive_number(arg[2]);
  if (n_files == 0)
    fail_all("expected the number of files, got '" + std::string(arg[2]) + "': " + USAGE);
  const std::vector<std::string> rest(arg + 3, arg + narg);
  use_device();
  SegmentFiles found;
  load_on_all([&] {
    found = segment_files(n_files, rest);
    model_ = std::make_unique<SegmentedModel>(found.files, device_);
  });
  use_model(model_->metadata(), rest[0], {rest.begin() + found.n_arguments, rest.end()});
}

void PairE3GNNParallel::init_style() {
  if (!force->newton_pair)
    fail_all("forces on ghost atoms are returned to their owners, which needs 'newton on'");
  PairBase::init_style();
  // an exchange sets them to its own width
  comm_forward = comm_reverse = doubles_for(model_->largest_width());
  // Comm sizes its buffers by the outermost pair style, and hybrid asked its
  // parts before their files were read
  force->pair->comm_forward = std::max(force->pair->comm_forward, comm_forward);
  force->pair->comm_reverse = std::max(force->pair->comm_reverse, comm_reverse);
}

void PairE3GNNParallel::compute(int eflag, int vflag) {
  ev_init(eflag, vflag);
  in_step([&] {
    graph_ = &build_graph();
    prediction_.gradients.clear();
    model_->evaluate(*graph_, *this, prediction_);
    tally(*graph_);
  });
}

void PairE3GNNParallel::start_exchange(int width) {
  width_ = width;
  comm_forward = comm_reverse = doubles_for(width);
  const size_t n_all = static_cast<size_t>(atom->nlocal) + atom->nghost;
  rows_.assign(n_all * width, 0.0F);
}

// Every ghost gets its row, whether this rank's graph uses it or it only passes
// through on its way to the next rank.
void PairE3GNNParallel::forward(const float *local, float *ghosts, int width) {
  if (comm->nprocs == 1) return;    // every ghost is an image of an own atom
  start_exchange(width);
  const size_t bytes = width * sizeof(float);
  for (int64_t n = 0; n < graph_->n_local; ++n)
    std::memcpy(row(graph_->atoms[n]), local + n * width, bytes);
  comm->forward_comm(this);
  for (int64_t n = graph_->n_local; n < graph_->n_nodes(); ++n)
    std::memcpy(ghosts + (n - graph_->n_local) * width, row(graph_->atoms[n]), bytes);
}

void PairE3GNNParallel::reverse(const float *ghosts, float *local, int width) {
  if (comm->nprocs == 1) return;
  start_exchange(width);
  for (int64_t n = graph_->n_local; n < graph_->n_nodes(); ++n)
    std::memcpy(row(graph_->atoms[n]), ghosts + (n - graph_->n_local) * width,
                width * sizeof(float));
  comm->reverse_comm(this);
  for (int64_t n = 0; n < graph_->n_local; ++n) {
    const float *found = row(graph_->atoms[n]);
    for (int k = 0; k < width; ++k) local[n * width + k] += found[k];
  }
}

int PairE3GNNParallel::pack_forward_comm(int n, int *atoms, double *buffer, int, int *) {
  const size_t stride = doubles_for(width_);
  for (int k = 0; k < n; ++k)
    std::memcpy(buffer + k * stride, row(atoms[k]), width_ * sizeof(float));
  return static_cast<int>(n * stride);
}

void PairE3GNNParallel::unpack_forward_comm(int n, int first, double *buffer) {
  const size_t stride = doubles_for(width_);
  for (int k = 0; k < n; ++k)
    std::memcpy(row(first + k), buffer + k * stride, width_ * sizeof(float));
}

int PairE3GNNParallel::pack_reverse_comm(int n, int first, double *buffer) {
  const size_t stride = doubles_for(width_);
  for (int k = 0; k < n; ++k)
    std::memcpy(buffer + k * stride, row(first + k), width_ * sizeof(float));
  return static_cast<int>(n * stride);
}

void PairE3GNNParallel::unpack_reverse_comm(int n, int *atoms, double *buffer) {
  const size_t stride = doubles_for(width_);
  for (int k = 0; k < n; ++k) {
    const auto *sent = reinterpret_cast<const unsigned char *>(buffer + k * stride);
    float *to = row(atoms[k]);
    for (int m = 0; m < width_; ++m) {
      float value;
      std::memcpy(&value, sent + m * sizeof(float), sizeof(float));
      to[m] += value;
    }
  }
}

double PairE3GNNParallel::memory_usage() {
  return PairBase::memory_usage() + rows_.capacity() * sizeof(float);
}

}    // namespace sevennet_mf
