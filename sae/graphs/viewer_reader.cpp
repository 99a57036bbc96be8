#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <map>

#include "sae/graphs/node_names.h"
#include "sae/graphs/viewer_graph.h"
#include "tensor/error.h"
#include "tensor/files/file.h"
#include "tensor/files/json_reader.h"

namespace vitrine::sae {
namespace {

constexpr std::int64_t kMostLayers = 100'000, kMostPositions = INT32_MAX;
constexpr JsonFault kMalformed = JsonFault::file;
const char* const kAdvice = "it is no graph that circuit-tracer or this program wrote";

// The fields that are not among these.
JsonValue unknown_fields(const JsonReader& object, std::initializer_list<std::string_view> known) {
  JsonValue others = JsonValue::object();
  for (const JsonReader& field : object.fields()) {
    if (std::find(known.begin(), known.end(), field.name()) == known.end())
      others[field.name()] = field.value();
  }
  return others;
}

std::vector<std::string> texts_of(const JsonReader& list) {
  std::vector<std::string> texts;
  for (const JsonReader& item : list.list()) texts.push_back(item.text());
  return texts;
}

std::optional<double> number_or_null(const JsonReader& field) {
  if (!field.given()) return {};
  return field.number();
}

// The whole numbers between the underscores of a name; false where it is made otherwise.
template <std::size_t n>
bool numbers_in(std::string_view text, std::array<std::int64_t, n>& numbers) {
  for (std::size_t i = 0; i < n; ++i) {
    const char* const end = text.data() + text.size();
    const auto [stop, error] = std::from_chars(text.data(), end, numbers[i]);
    if (error != std::errc() || numbers[i] < 0 || (stop == end) != (i + 1 == n)) return false;
    if (stop == end) return true;
    if (*stop != '_') return false;
    text.remove_prefix(static_cast<std::size_t>(stop - text.data()) + 1);
  }
  return false;
}

// ---- nodes ------------------------------------------------------------------------------------------
constexpr ViewerNodeKind kKinds[] = {ViewerNodeKind::feature, ViewerNodeKind::error,
                                     ViewerNodeKind::token, ViewerNodeKind::logit};

void require_same(const JsonReader& field, std::int64_t expected, std::int64_t found,
                  const std::string& id) {
  if (expected != found)
    field.fail(
        fmt::format("expected {}, as the node's name {} says, found {}", expected, id, found));
}

// Layer, number and position are in the name and in fields of their own, which must agree.
void read_name(const JsonReader& node, ViewerNode& n) {
  const JsonReader layer = node.at("layer"), id = node.at("node_id");
  const std::string& layer_text = layer.text();
  std::array<std::int64_t, 1> layer_number{-1};
  if (n.kind == ViewerNodeKind::token) {
    std::array<std::int64_t, 2> parts{};
    if (layer_text != "E") layer.reject("\"E\", the layer of an embedding");
    if (!n.id.starts_with("E_") || !numbers_in(std::string_view(n.id).substr(2), parts))
      id.reject("E_TOKEN_POSITION, the name of an embedding");
    n.number = parts[0];
    require_same(node.at("ctx_idx"), parts[1], n.position, n.id);
    return;
  }
  if (!numbers_in(layer_text, layer_number) || layer_number[0] > kMostLayers)
    layer.reject("the number of a layer, as text");
  n.layer = static_cast<int>(layer_number[0]);
  if (n.kind == ViewerNodeKind::error) {
    std::array<std::int64_t, 3> theirs{};
    std::array<std::int64_t, 2> ours{};
    if (n.id.starts_with("error_") && numbers_in(std::string_view(n.id).substr(6), ours))
      theirs = {0, ours[0], ours[1]};
    else if (!numbers_in(std::string_view(n.id), theirs) || theirs[0] != 0)
      id.reject("error_LAYER_POSITION or 0_LAYER_POSITION, the name of an error");
    require_same(layer, theirs[1], n.layer, n.id);
    require_same(node.at("ctx_idx"), theirs[2], n.position, n.id);
    return;
  }
  std::array<std::int64_t, 3> parts{};
  if (!numbers_in(std::string_view(n.id), parts) || parts[1] > INT32_MAX)
    id.reject("LAYER_NUMBER_POSITION, the name of a feature or a logit");
  require_same(layer, parts[0], n.layer, n.id);
  require_same(node.at("ctx_idx"), parts[2], n.position, n.id);
  n.number = parts[1];
}

void read_number(const JsonReader& node, const ViewerNode& n) {
  const JsonReader field = node.at("feature");
  const std::int64_t given = field.whole(-1);
  const std::int64_t expected = n.kind == ViewerNodeKind::feature ? paired(n.layer, n.number)
                                : n.kind == ViewerNodeKind::error ? -1
                                : n.kind == ViewerNodeKind::token ? n.position
                                                                  : n.number;
  if (n.kind == ViewerNodeKind::feature && given != expected)
    field.fail(fmt::format(
        "expected {}, Cantor's pairing of layer {} and feature {} in the node's name {}, found {}",
        expected, n.layer, n.number, n.id, given));
  require_same(field, expected, given, n.id);
}

ViewerNode read_node(const JsonReader& node, std::int64_t positions) {
  node.expect_object();
  ViewerNode n{.id = node.at("node_id").text(),
               .kind = node.at("feature_type").named(kKinds),
               .position = node.at("ctx_idx").whole(0, positions - 1),
               .probability = node.at("token_prob").number_or(0, 0, 1),
               .is_target = node.at("is_target_logit").flag_or(false),
               .label = node.at("clerp").text_or(""),
               .influence = number_or_null(node.at("influence")),
               .activation = number_or_null(node.at("activation")),
               .js_id = node.at("jsNodeId").text_or(""),
               .run = node.at("run_idx").whole_or(0, 0, INT64_MAX),
               .from_end = node.at("reverse_ctx_idx").whole_or(0, INT64_MIN, INT64_MAX)};
  read_name(node, n);
  read_number(node, n);
  n.others = unknown_fields(node, {"node_id", "feature_type", "ctx_idx", "token_prob",
                                   "is_target_logit", "clerp", "influence", "activation",
                                   "jsNodeId", "run_idx", "reverse_ctx_idx", "layer", "feature"});
  return n;
}

// ---- links, by the names of nodes -----------------------------------------------------------------
// A feature of layer 0 and an error may have the same name in circuit-tracer's files.
struct Named {
  std::int32_t node = -1, error = -1;  // -1: none
};

class Links {
 public:
  Links(const JsonReader& nodes, ViewerGraph& graph) : graph_(graph) {
    const std::vector<JsonReader> items = nodes.list();
    for (std::size_t i = 0; i < items.size(); ++i) {
      ViewerNode n = read_node(items[i], std::ssize(graph.prompt_tokens));
      Named& named = names_[n.id];
      std::int32_t& place = n.kind == ViewerNodeKind::error ? named.error : named.node;
      if (place >= 0)
        items[i].at("node_id").fail(
            fmt::format("two nodes are called {}; the other is nodes[{}]", n.id, place));
      place = static_cast<std::int32_t>(i);
      graph.nodes.push_back(std::move(n));
    }
  }

  void read(const JsonReader& links) {
    // How often a pair of names was met: where a feature and an error share a name, the first link is the feature's.
    for (const JsonReader& link : links.list()) {
      link.expect_object();
      link.only({"source", "target", "weight"});
      const JsonReader source = link.at("source"), target = link.at("target");
      const Named &from = named(source), &to = named(target);
      if (to.node < 0) target.reject("a node that something can enter", "an error has no inputs");
      if (from.node >= 0 && from.error >= 0)
        shared_[{from.node, to.node}].push_back(graph_.links.size());
      graph_.links.push_back(
          {from.node >= 0 ? from.node : from.error, to.node, link.at("weight").number()});
    }
    for (const auto& [ends, where] : shared_) tell_apart(links, ends.first, where);
    rename();
  }

  const Named& named(const JsonReader& id) const {
    const auto at = names_.find(id.text());
    if (at == names_.end()) id.reject("the name of a node", "no node has this one");
    return at->second;
  }
  bool shares_its_name(const Named& n) const { return n.node >= 0 && n.error >= 0; }

 private:
  // Sources come in order, and features before errors: of two links the second is the error's. Of one alone it is open whose it is.
  void tell_apart(const JsonReader& links, std::int32_t feature,
                  const std::vector<std::size_t>& where) {
    const std::string& name = graph_.nodes[static_cast<std::size_t>(feature)].id;
    if (where.size() != 2)
      links.list()[where[0]].at("source").fail(
          fmt::format("a feature and an error are both called {}, and it is open from which of the "
                      "two this link comes; write the graph again with other names of errors",
                      name));
    graph_.links[where[1]].source = names_.at(name).error;
  }
  void rename() {
    for (auto& [name, n] : names_) {
      if (!shares_its_name(n)) continue;
      ViewerNode& error = graph_.nodes[static_cast<std::size_t>(n.error)];
      error.id = fmt::format("error_{}_{}", error.layer, error.position);
    }
  }

  ViewerGraph& graph_;
  std::map<std::string, Named, std::less<>> names_;
  std::map<std::pair<std::int32_t, std::int32_t>, std::vector<std::size_t>> shared_;
};

// ---- the rest -----------------------------------------------------------------------------------------
void read_metadata(const JsonReader& m, ViewerGraph& graph) {
  m.expect_object(kAdvice);
  if (const JsonReader version = m.at("schema_version"); version.given() && version.whole() != 1)
    version.unsupported("1, the only version that can be read");
  graph.slug = m.at("slug").text();
  const JsonReader scan = m.at("scan");
  if (scan.given() && !scan.is_text() && !scan.is_list()) scan.reject("a name or a list of names");
  graph.scan = scan.value();
  const JsonReader transcoders = m.at("transcoder_list");
  if (transcoders.given()) transcoders.list();
  graph.transcoders = transcoders.given() ? transcoders.value() : JsonValue::list();
  graph.prompt_tokens = texts_of(m.at("prompt_tokens"));
  if (graph.prompt_tokens.empty()) m.at("prompt_tokens").reject("the tokens of the prompt");
  graph.prompt = m.at("prompt").text();
  const JsonReader threshold = m.at("node_threshold");
  if (threshold.given()) graph.node_threshold = threshold.number(0, 1);
  graph.other_metadata = unknown_fields(m, {"slug", "scan", "transcoder_list", "prompt_tokens",
                                            "prompt", "node_threshold", "schema_version"});
}

std::vector<Supernode> supernodes_of(const JsonReader& list) {
  std::vector<Supernode> supernodes;
  for (const JsonReader& item : list.list()) {
    std::vector<std::string> texts = texts_of(item);
    if (texts.size() < 2) item.reject("[name, node, ...]: a name and at least one node");
    supernodes.push_back({texts[0], {texts.begin() + 1, texts.end()}});
  }
  return supernodes;
}

void read_parameters(const JsonReader& q, const Links& links, ViewerGraph& graph) {
  if (!q.given()) return;
  q.expect_object();
  const auto known = [&](const JsonReader& id) {
    if (links.shares_its_name(links.named(id)))
      id.fail(fmt::format("a feature and an error are both called {}; it is open which is meant",
                          id.text()));
  };
  if (const JsonReader pinned = q.at("pinnedIds"); pinned.given()) {
    for (const JsonReader& id : pinned.list()) {
      known(id);
      graph.pinned.push_back(id.text());
    }
  }
  if (const JsonReader supernodes = q.at("supernodes"); supernodes.given()) {
    graph.supernodes = supernodes_of(supernodes);
    for (const JsonReader& one : supernodes.list()) {
      const std::vector<JsonReader> items = one.list();
      for (std::size_t i = 1; i < items.size(); ++i) known(items[i]);
    }
    try {
      graph.check_supernodes();
    } catch (const Error& e) {
      supernodes.fail(e.what());
    }
  }
  graph.link_type = q.at("linkType").text_or("both");
  graph.clicked = q.at("clickedId").text_or("");
  graph.shown_positions = q.at("sg_pos").text_or("");
  graph.other_parameters =
      unknown_fields(q, {"pinnedIds", "supernodes", "linkType", "clickedId", "sg_pos"});
}

}  // namespace

ViewerGraph viewer_graph_of(std::string_view text, const std::string& file) {
  const auto json = JsonReader::object(
      text, file, {.wrong = kMalformed, .root = "an attribution graph", .advice = ""});
  ViewerGraph graph;
  read_metadata(json.at("metadata"), graph);
  Links links(json.at("nodes"), graph);
  links.read(json.at("links"));
  read_parameters(json.at("qParams"), links, graph);
  graph.others = unknown_fields(json, {"metadata", "qParams", "nodes", "links"});
  return graph;
}

ViewerGraph read_viewer_graph(const std::filesystem::path& file) {
  return viewer_graph_of(read_text(file), file.string());
}

std::vector<Supernode> read_supernodes(const std::filesystem::path& file) {
  const auto json = JsonReader::parse(read_text(file), file.string(), {.wrong = kMalformed});
  if (json.is_list()) return supernodes_of(json);
  json.expect_object("supernodes are a graph's file, {\"supernodes\": [...]} or a list");
  const JsonReader parameters = json.at("qParams");
  const JsonReader list = (parameters.given() ? parameters : json).at("supernodes");
  if (!list.is_list()) list.reject("[[name, node, ...], ...]");
  return supernodes_of(list);
}

}  // namespace vitrine::sae
