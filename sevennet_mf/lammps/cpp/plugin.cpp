#include "plugin.h"

#include "lammps.h"

#include "pair_e3gnn.h"
#include "pair_e3gnn_parallel.h"

namespace {

template <typename Style> void *create(void *lmp) {
  return new Style(static_cast<LAMMPS_NS::LAMMPS *>(lmp));
}

}    // namespace

extern "C" void lammpsplugin_init(void *lmp, void *handle, void *regfunc) {
  const auto enrol = reinterpret_cast<lammpsplugin_regfunc>(regfunc);
  lammpsplugin_t plugin;
  // compiled against the headers of the LAMMPS that loads it, so always its version
  plugin.version = static_cast<LAMMPS_NS::LAMMPS *>(lmp)->version;
  plugin.style = "pair";
  plugin.author = "sevennet_mf";
  plugin.handle = handle;

  plugin.name = "e3gnn";
  plugin.info = "SevenNet potential on one MPI rank";
  plugin.creator.v1 = &create<sevennet_mf::PairE3GNN>;
  enrol(&plugin, lmp);

  plugin.name = "e3gnn/parallel";
  plugin.info = "SevenNet potential over MPI ranks";
  plugin.creator.v1 = &create<sevennet_mf::PairE3GNNParallel>;
  enrol(&plugin, lmp);
}
