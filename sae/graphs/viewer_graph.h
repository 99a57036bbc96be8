// An attribution graph as circuit-tracer's viewers see it: the nodes and edges that pruning kept, and what a person marked.
//
//   ViewerGraph v = viewer_graph(g, prune(g), {.slug = "texas"});
//   v.supernodes.push_back({"Texas", {"1_20_3", "2_7_3"}});
//   write_text("graph.json", viewer_json(v).indented());
//   ViewerGraph same = read_viewer_graph("graph.json");
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "sae/graphs/pruned_graph.h"
#include "tensor/files/json_value.h"

namespace vitrine::sae {

enum class ViewerNodeKind { feature, error, token, logit };
// As files call them: "cross layer transcoder" (of transcoders per layer, too), "mlp reconstruction error", "embedding", "logit".
std::string_view name_of(ViewerNodeKind kind);

struct ViewerNode {
  std::string id;  // node_names.h
  ViewerNodeKind kind = ViewerNodeKind::feature;
  int layer = -1;             // of a feature or an error; -1 of a token; layers + 1 of a logit
  std::int64_t position = 0;  // in the prompt
  std::int64_t number = -1;   // the feature's in its layer; the token's of a token or a logit
  double probability = 0;     // of a logit
  bool is_target = false;     // the logit that the graph is about
  std::string label;          // "clerp": what a person, or a model, calls it
  std::optional<double> influence;   // the share of all influence of nodes with as much or more
  std::optional<double> activation;  // of a feature
  std::string js_id;
  std::int64_t run = 0, from_end = 0;      // run_idx, reverse_ctx_idx
  JsonValue others = JsonValue::object();  // fields of the file that are not circuit-tracer's
};

struct ViewerLink {
  std::int32_t source = 0, target = 0;  // numbers of nodes
  double weight = 0;
};

// Nodes that are looked at as one.
struct Supernode {
  std::string name;
  std::vector<std::string> nodes;  // their names
};

struct ViewerGraph {
  // metadata
  std::string slug;
  JsonValue scan = "";  // which transcoders the features are of: a name, a list, or null
  JsonValue transcoders = JsonValue::list();
  std::vector<std::string> prompt_tokens;
  std::string prompt;
  std::optional<double> node_threshold;
  JsonValue other_metadata = JsonValue::object();
  // qParams
  std::vector<std::string> pinned;  // names of nodes
  std::vector<Supernode> supernodes;
  std::string link_type = "both", clicked, shown_positions;
  JsonValue other_parameters = JsonValue::object();

  std::vector<ViewerNode> nodes;
  std::vector<ViewerLink> links;
  JsonValue others = JsonValue::object();  // fields beside metadata, qParams, nodes and links

  std::optional<std::int32_t> find(std::string_view id) const;
  // Throws Error (usage) unless supernodes have names of their own, and nodes that are there and in no other one.
  void check_supernodes() const;
};

struct ViewerSpec {
  std::string slug, scan;                  // what the graph is called; which features it is of
  std::function<std::string(int)> text{};  // of a token; none: its number
  double node_threshold = 0.8;
  std::vector<Supernode> supernodes{};  // whose nodes are there even where pruning dropped them
};
// The kept nodes that have a link, all tokens and logits; links between them. Throws what check_supernodes throws.
ViewerGraph viewer_graph(const AttributionGraph& graph, const PrunedGraph& pruned,
                         const ViewerSpec& spec);

// ---- supernodes as one node each ------------------------------------------------------------------
// A sum of links between two of: supernodes, by their names, and nodes in none, by theirs.
struct MergedLink {
  std::string source, target;
  double weight = 0;
  std::int64_t links = 0;
};
// All of them but those within one supernode, the strongest first.
std::vector<MergedLink> merged_links(const ViewerGraph& graph);

// ---- files ------------------------------------------------------------------------------------------
// {metadata, qParams, nodes, links, ...}. Errors are called error_LAYER_POSITION, where circuit-tracer's "0_LAYER_POSITION" may
// be a feature's name, too.
JsonValue viewer_json(const ViewerGraph& graph);

// A file that circuit-tracer or viewer_json wrote. Fields that neither knows are kept and written again. Throws FileError, with the
// place, for what is malformed: a field of another type, numbers that contradict a node's name, links and supernodes of nodes
// that are not there, a name that two nodes have where it is open which is meant; ConfigError for another schema_version.
ViewerGraph read_viewer_graph(const std::filesystem::path& file);
ViewerGraph viewer_graph_of(std::string_view text, const std::string& file);

// Supernodes from a file: a graph's, {"supernodes": [[name, node, ...], ...]}, or the list alone. Throws FileError.
std::vector<Supernode> read_supernodes(const std::filesystem::path& file);
JsonValue supernodes_json(const std::vector<Supernode>& supernodes);

}  // namespace vitrine::sae
