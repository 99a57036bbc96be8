#include "apps/graphs/supernode_options.h"

#include <fmt/format.h>

namespace vitrine::app {

void SupernodeOptions::add_to(CommandLine& line) {
  line.heading("Supernodes");
  line.option("--supernode", texts_, "NAME=NODE,...",
              "nodes that are looked at as one (may be given again): features are "
              "LAYER_FEATURE_POSITION,\n"
              "errors error_LAYER_POSITION, tokens E_ID_POSITION; what scaling them together does "
              "is measured\n"
              "in the model, with attention recomputed and held");
  line.option("--supernodes", file_, "FILE.json",
              "those of a file: of a graph that the page saved, or [[name, node, ...], ...]");
  line.real("--factor", factor_, "X",
            "what all nodes of a supernode are multiplied by; 0 switches them off (default: 0)",
            Reals{-1e6, 1e6});
  line.heading("Options");
}

std::vector<sae::Supernode> SupernodeOptions::supernodes(const CommandLine& line) const {
  std::vector<sae::Supernode> all;
  if (!file_.empty()) all = sae::read_supernodes(file_);
  for (const std::string& text : texts_) {
    const auto at = text.find('=');
    if (at == std::string::npos || at == 0 || at + 1 == text.size())
      line.fail(fmt::format("--supernode '{}' is not NAME=NODE,NODE,...", text));
    sae::Supernode one{text.substr(0, at), {}};
    std::string_view rest = std::string_view(text).substr(at + 1);
    while (true) {
      const auto comma = rest.find(',');
      const std::string_view node = rest.substr(0, comma);
      if (node.empty())
        line.fail(fmt::format("--supernode '{}': there is a comma without a node", text));
      one.nodes.emplace_back(node);
      if (comma == std::string_view::npos) break;
      rest.remove_prefix(comma + 1);
    }
    all.push_back(std::move(one));
  }
  return all;
}

}  // namespace vitrine::app
