// Supernodes on the command line: groups of an attribution graph's nodes that are looked at as one.
#pragma once

#include <string>
#include <vector>

#include "apps/options/command_line.h"
#include "sae/graphs/viewer_graph.h"

namespace vitrine::app {

class SupernodeOptions {
 public:
  void add_to(CommandLine& line);
  bool given() const { return !texts_.empty() || !file_.empty(); }
  double factor() const { return factor_; }
  // Those of the file, then those of the command line. Throws Error (usage) for a text that is not NAME=NODE,..., and what
  // read_supernodes throws.
  std::vector<sae::Supernode> supernodes(const CommandLine& line) const;

 private:
  std::vector<std::string> texts_;
  std::string file_;
  double factor_ = 0;
};

}  // namespace vitrine::app
