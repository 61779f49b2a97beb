#include "elements.h"

#include <algorithm>
#include <cctype>

#include "model.h"

namespace sevennet_mf {

namespace {

std::string lower(std::string text) {
  for (char &c : text) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return text;
}

// Symbols are one or two letters: the same letters in another case, or the same
// length with one letter wrong, is as near as two symbols get.
std::string hint_for(const std::string &name, const std::vector<std::string> &known) {
  std::string nearest;
  for (const std::string &symbol : known) {
    if (lower(symbol) == lower(name)) return " Did you mean '" + symbol + "'?";
    if (symbol.size() != name.size() || symbol.size() < 2) continue;
    if (symbol[0] == name[0] && nearest.empty()) nearest = symbol;
  }
  return nearest.empty() ? "" : " Did you mean '" + nearest + "'?";
}

}    // namespace

std::string joined(const std::vector<std::string> &names) {
  std::string text;
  for (const std::string &name : names) text += (text.empty() ? "" : " ") + name;
  return text;
}

std::vector<int> elements_of_types(const std::vector<std::string> &names,
                                   const std::vector<std::string> &known,
                                   const std::string &file, int n_types) {
  std::vector<int> elements(1, -1);
  for (const std::string &name : names) {
    const auto found = std::find(known.begin(), known.end(), name);
    if (found == known.end() && name != "NULL")
      throw ModelError("unknown element '" + name + "'; '" + file + "' has " +
                       joined(known) + "." + hint_for(name, known));
    elements.push_back(
        found == known.end() ? -1 : static_cast<int>(found - known.begin()));
  }
  if (static_cast<int>(names.size()) != n_types)
    throw ModelError(std::to_string(names.size()) + " elements given for " +
                     std::to_string(n_types) + " atom types; pair_coeff needs one " +
                     "for each type");
  return elements;
}

}    // namespace sevennet_mf
