// Makes a plugin of the pair style that the sevenn wheel ships as source.
#include "lammps.h"

#include "pair_e3gnn.h"
#include "plugin.h"

// of pair_e3gnn_oeq_autograd.cpp, which takes long to compile: for OpenEquivariance,
// which no file here is deployed with
void pair_e3gnn_oeq_register_autograd() {}

static void *create(void *lmp) {
  return new LAMMPS_NS::PairE3GNN(static_cast<LAMMPS_NS::LAMMPS *>(lmp));
}

extern "C" void lammpsplugin_init(void *lmp, void *handle, void *regfunc) {
  lammpsplugin_t plugin;
  plugin.version = static_cast<LAMMPS_NS::LAMMPS *>(lmp)->version;
  plugin.style = "pair";
  plugin.name = "e3gnn";
  plugin.info = "SevenNet's own pair style";
  plugin.author = "SevenNet";
  plugin.creator.v1 = &create;
  plugin.handle = handle;
  reinterpret_cast<lammpsplugin_regfunc>(regfunc)(&plugin, lmp);
}
