#ifndef SEVENNET_MF_PAIR_E3GNN_PARALLEL_H
#define SEVENNET_MF_PAIR_E3GNN_PARALLEL_H

#include "pair_base.h"

namespace sevennet_mf {

// pair_style e3gnn/parallel
// pair_coeff * * N FOLDER ELEMENT ...
// pair_coeff * * N FILE_1 ... FILE_N ELEMENT ...
class PairE3GNNParallel : public PairBase, private GhostExchange {
 public:
  explicit PairE3GNNParallel(LAMMPS_NS::LAMMPS *lmp);
  void coeff(int narg, char **arg) override;
  void init_style() override;
  void compute(int eflag, int vflag) override;
  double memory_usage() override;

  int pack_forward_comm(int n, int *atoms, double *buffer, int, int *) override;
  void unpack_forward_comm(int n, int first, double *buffer) override;
  int pack_reverse_comm(int n, int first, double *buffer) override;
  void unpack_reverse_comm(int n, int *atoms, double *buffer) override;

 private:
  void forward(const float *local, float *ghosts, int width) override;
  void reverse(const float *ghosts, float *local, int width) override;
  void start_exchange(int width);
  float *row(int64_t atom) { return rows_.data() + atom * width_; }

  std::unique_ptr<SegmentedModel> model_;
  const Graph *graph_ = nullptr;    // of this step
  std::vector<float> rows_;         // (n_own + n_ghost atoms of LAMMPS, width)
  int width_ = 0;                   // floats per atom in this exchange
};

}    // namespace sevennet_mf

#endif
