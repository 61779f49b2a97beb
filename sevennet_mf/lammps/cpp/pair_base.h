#ifndef SEVENNET_MF_PAIR_BASE_H
#define SEVENNET_MF_PAIR_BASE_H

#include <string>
#include <vector>

#include "exceptions.h"
#include "pair.h"

#include "graph.h"
#include "model.h"
#include "node.h"

namespace sevennet_mf {

// What e3gnn and e3gnn/parallel share: elements of the atom types, the checks,
// and handing energies, forces and virials to LAMMPS.
class PairBase : public LAMMPS_NS::Pair {
 public:
  PairBase(LAMMPS_NS::LAMMPS *lmp, const std::string &style);
  ~PairBase() override;

  void settings(int narg, char **arg) override;
  void init_style() override;
  double init_one(int i, int j) override;
  double memory_usage() override;

 protected:
  // One text for one cause, on every rank.
  [[noreturn]] void fail_all(const std::string &text);
  // What only this rank can see, in the middle of a step.
  [[noreturn]] void fail_one(const std::string &text);

  void check_wildcards(int narg, char **arg, const std::string &usage);
  // Loads with `load`, which throws; every rank then fails or none.
  template <typename Load> void load_on_all(Load load) {
    std::string problem;
    try {
      load();
    } catch (const std::exception &error) {
      problem = reason_of(error);
    }
    problem = agree(problem, world);
    if (!problem.empty()) fail_all(problem);
  }

  // Whatever is thrown in a step becomes a LAMMPS error.
  template <typename Step> void in_step(Step step) {
    try {
      step();
    } catch (const LAMMPS_NS::LAMMPSException &) {
      throw;    // LAMMPS has said it
    } catch (const std::exception &error) {
      fail_one(reason_of(error));
    }
  }

  void use_device();    // sets device_ and the number of threads
  void use_model(const Metadata &metadata, const std::string &file,
                 const std::vector<std::string> &names);

  // Collective over `world` where the neighbour list is new.
  const Graph &build_graph();
  void tally(const Graph &graph);

  std::string device_ = "cpu";
  Prediction prediction_;

 private:
  void allocate();
  void report(const Metadata &metadata, const std::string &file,
              const std::vector<std::string> &names);
  void check_special_bonds();
  bool pairs_excluded();
  bool pairs_given_away() const;
  void warn_of_hidden_neighbours();
  void tally_energies(const Graph &graph);
  void tally_virials(const Graph &graph);

  std::string style_;
  int n_threads_ = 1;
  bool warned_ = false;    // about hidden neighbours
  double cutoff_ = 0.0;
  std::vector<int> element_of_type_;    // (n_types + 1,), -1 for NULL
  GraphBuilder builder_;
};

}    // namespace sevennet_mf

#endif
