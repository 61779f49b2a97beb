#ifndef SEVENNET_MF_PAIR_E3GNN_H
#define SEVENNET_MF_PAIR_E3GNN_H

#include "pair_base.h"

namespace sevennet_mf {

// pair_style e3gnn
// pair_coeff * * FILE ELEMENT ...
class PairE3GNN : public PairBase {
 public:
  explicit PairE3GNN(LAMMPS_NS::LAMMPS *lmp);
  void settings(int narg, char **arg) override;
  void coeff(int narg, char **arg) override;
  void compute(int eflag, int vflag) override;

 private:
  std::unique_ptr<SerialModel> model_;
};

}    // namespace sevennet_mf

#endif
