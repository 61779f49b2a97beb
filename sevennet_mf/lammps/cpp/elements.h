#ifndef SEVENNET_MF_ELEMENTS_H
#define SEVENNET_MF_ELEMENTS_H

#include <string>
#include <vector>

namespace sevennet_mf {

// `names` as given to pair_coeff, one for each atom type -> (n_types + 1,) index in
// `known`, -1 for NULL; index 0 is unused, as in LAMMPS.
// Raises ModelError for an unknown name and for too few or too many names.
std::vector<int> elements_of_types(const std::vector<std::string> &names,
                                   const std::vector<std::string> &known,
                                   const std::string &file, int n_types);

std::string joined(const std::vector<std::string> &names);

}    // namespace sevennet_mf

#endif
