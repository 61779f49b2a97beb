#include "node.h"

#include <algorithm>
#include <cstdlib>
#include <thread>

#ifdef __linux__
#include <sched.h>
#endif
#ifdef __GLIBC__
#include <climits>
#include <malloc.h>
#endif

namespace sevennet_mf {

namespace {

// Cores that any rank of this computer may use. A launcher may have bound each
// rank to its own cores, or none: the union is right in both cases.
int cores_of_node(MPI_Comm node) {
#ifdef __linux__
  cpu_set_t mine, all;
  CPU_ZERO(&mine);
  if (sched_getaffinity(0, sizeof(mine), &mine) == 0) {
    MPI_Allreduce(&mine, &all, sizeof(mine), MPI_BYTE, MPI_BOR, node);
    return std::max(1, CPU_COUNT(&all));
  }
  MPI_Allreduce(&mine, &all, sizeof(mine), MPI_BYTE, MPI_BOR, node);
#else
  (void) node;
#endif
  return std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
}

int requested_threads() {
  const char *value = std::getenv("OMP_NUM_THREADS");
  return value ? std::atoi(value) : 0;    // "4,2" reads as 4, nonsense as 0
}

// What the launcher says about all processes that it started on this computer: with
// -partition, `world` is a part of them. 0 or -1: it does not say.
int from_launcher(const char *mpich, const char *open_mpi, int otherwise) {
  const char *value = std::getenv(mpich);
  if (!value) value = std::getenv(open_mpi);
  return value ? std::atoi(value) : otherwise;
}

}    // namespace

NodeShare share_of_node(MPI_Comm world) {
  MPI_Comm node;
  MPI_Comm_split_type(world, MPI_COMM_TYPE_SHARED, 0, MPI_INFO_NULL, &node);
  int n_ranks = 1;
  NodeShare share;
  MPI_Comm_rank(node, &share.rank);
  MPI_Comm_size(node, &n_ranks);
  const int cores = cores_of_node(node);
  MPI_Comm_free(&node);
  n_ranks = std::max(
      n_ranks, from_launcher("MPI_LOCALNRANKS", "OMPI_COMM_WORLD_LOCAL_SIZE", 0));
  const int launched = from_launcher("MPI_LOCALRANKID", "OMPI_COMM_WORLD_LOCAL_RANK", -1);
  if (launched >= 0) share.rank = launched;
  const int requested = requested_threads();
  share.n_threads = requested > 0 ? requested : std::max(1, cores / n_ranks);
  return share;
}

void keep_freed_memory() {
#ifdef __GLIBC__
  for (const char *name :
       {"MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES"}) {
    if (std::getenv(name)) return;
  }
  // before glibc 2.35 or so that is more than it takes
  if (!mallopt(M_MMAP_THRESHOLD, INT_MAX)) mallopt(M_MMAP_MAX, 0);
  mallopt(M_TRIM_THRESHOLD, -1);    // never; a model of many atoms holds more than 2 GB
#endif
}

std::string agree(const std::string &problem, MPI_Comm world) {
  int rank = 0, n_ranks = 1;
  MPI_Comm_rank(world, &rank);
  MPI_Comm_size(world, &n_ranks);
  const int mine = problem.empty() ? n_ranks : rank;
  int speaker = n_ranks;
  MPI_Allreduce(&mine, &speaker, 1, MPI_INT, MPI_MIN, world);
  if (speaker == n_ranks) return "";

  std::string text = problem;
  int length = static_cast<int>(text.size());
  MPI_Bcast(&length, 1, MPI_INT, speaker, world);
  text.resize(length);
  MPI_Bcast(text.data(), length, MPI_CHAR, speaker, world);
  return text;
}

}    // namespace sevennet_mf
