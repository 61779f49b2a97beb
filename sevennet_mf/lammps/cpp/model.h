#ifndef SEVENNET_MF_MODEL_H
#define SEVENNET_MF_MODEL_H

// What the pair styles know about the models. Free of torch headers, so that only
// the files that run a model pay for compiling them.

#include <memory>
#include <new>
#include <stdexcept>
#include <string>
#include <tuple>
#include <vector>

#include "graph.h"

namespace sevennet_mf {

// One clear line for the user; the pair style makes it a LAMMPS error.
struct ModelError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// One line for whatever was thrown.
inline std::string reason_of(const std::exception &problem) {
  return dynamic_cast<const std::bad_alloc *>(&problem) ? "out of memory" : problem.what();
}

// What the deployed file says about itself.
struct Metadata {
  std::vector<std::string> elements;    // index = element number in the model
  double cutoff = 0.0;                  // angstrom
  int comm_size = 0;                    // floats per ghost atom; 0 in a serial file
  std::string version, dtype, date;
  std::string model;                    // names the model; empty in the host's files
  int segment = -1;                     // number of a segment; -1 in the host's files
  std::string convolution = "e3nn";     // how it is computed

  // segments of one model agree in everything
  bool operator!=(const Metadata &other) const {
    return std::tie(elements, cutoff, comm_size, version, dtype, model) !=
        std::tie(other.elements, other.cutoff, other.comm_size, other.version, other.dtype,
                 other.model);
  }
};

// Kept between steps to reuse its memory.
struct Prediction {
  std::vector<float> energies;     // (n_local,) eV
  std::vector<float> gradients;    // (n_edges, 3) dE/d(edge vector), eV/angstrom
};

// Moves rows of node features between ranks; every rank calls it equally often.
class GhostExchange {
 public:
  // local (n_local, width) -> ghosts (n_ghosts, width), from their owners
  virtual void forward(const float *local, float *ghosts, int width) = 0;
  // ghosts (n_ghosts, width), added onto their owners' rows of local (n_local, width)
  virtual void reverse(const float *ghosts, float *local, int width) = 0;

 protected:
  ~GhostExchange() = default;    // never deleted through this interface
};

int cuda_devices();
void set_threads(int n_threads);

class SerialModel {
 public:
  SerialModel(const std::string &file, const std::string &device);
  ~SerialModel();
  const Metadata &metadata() const;
  void evaluate(const Graph &graph, Prediction &prediction);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

// A model cut at every exchange of ghost features; one file for each segment.
class SegmentedModel {
 public:
  SegmentedModel(const std::vector<std::string> &files, const std::string &device);
  ~SegmentedModel();
  const Metadata &metadata() const;
  int largest_width() const;    // floats per atom of the largest exchange
  // A rank without atoms runs no model, but takes part in every exchange.
  void evaluate(const Graph &graph, GhostExchange &exchange, Prediction &prediction);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}    // namespace sevennet_mf

#endif
