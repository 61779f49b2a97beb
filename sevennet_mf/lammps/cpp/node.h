#ifndef SEVENNET_MF_NODE_H
#define SEVENNET_MF_NODE_H

#include <mpi.h>

#include <string>

namespace sevennet_mf {

// This rank's share of the computer it runs on.
struct NodeShare {
  int rank = 0;         // among the ranks on this computer
  int n_threads = 1;    // OMP_NUM_THREADS if set, else cores / ranks, at least 1
};

// Collective over `world`.
NodeShare share_of_node(MPI_Comm world);

// Every step frees and allocates the same large tensors. By default the C library
// returns each one to the system, which clears its pages again for the next step:
// a tenth to a third of the time of a step. Now they stay with this process, unless
// the user has set MALLOC_... or GLIBC_TUNABLES.
void keep_freed_memory();

// What this rank found wrong ("" for nothing) -> the same text on every rank:
// that of the lowest rank that found something. Collective over `world`.
std::string agree(const std::string &problem, MPI_Comm world);

}    // namespace sevennet_mf

#endif
