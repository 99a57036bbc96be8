// vitrine graph: which features cause which, and the next token, on one prompt?
#include <fmt/format.h>

#include <algorithm>
#include <numeric>

#include "apps/graphs/feature_files.h"
#include "apps/graphs/graph_report.h"
#include "apps/graphs/supernode_options.h"
#include "apps/graphs/viewer_report.h"
#include "apps/options/options.h"
#include "apps/options/sae_options.h"
#include "apps/terminal/interrupt.h"
#include "apps/terminal/progress.h"
#include "apps/verbs/verbs.h"
#include "tensor/error.h"
#include "tensor/random.h"

namespace vitrine::app {
namespace {

struct Options {
  CommonOptions common;
  PromptOptions prompt;
  SupernodeOptions supernodes;
  ExplainedAttentionOptions attention_of;
  sae::AttributionGraphSpec spec;
  sae::PruneSpec prune;
  std::string transcoders, read, first = "keep", attention = "recompute";
  std::vector<std::string> features;  // files
  int top = 20, verify = 10, random = 10;
};

// The features with the most influence, as far as they are there.
std::vector<std::size_t> strongest(const sae::AttributionGraph& graph,
                                   const sae::PrunedGraph& pruned, int count) {
  std::vector<std::size_t> order(graph.features.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
    return pruned.influence[a] > pruned.influence[b];
  });
  order.resize(std::min(order.size(), static_cast<std::size_t>(count)));
  return order;
}

// Active features that are not among these, drawn at random.
std::vector<std::size_t> others(const sae::AttributionGraph& graph,
                                const std::vector<std::size_t>& shown, int count,
                                std::uint64_t seed) {
  std::vector<std::size_t> rest;
  for (std::size_t i = 0; i < graph.features.size(); ++i) {
    if (std::find(shown.begin(), shown.end(), i) == shown.end()) rest.push_back(i);
  }
  const random::Key key = random::Key{seed}.fold("graph");
  const std::size_t n = std::min(rest.size(), static_cast<std::size_t>(count));
  for (std::size_t i = 0; i < n; ++i) {
    const std::uint32_t drawn = random::philox(key, i)[0];
    std::swap(rest[i], rest[i + drawn % (rest.size() - i)]);
  }
  rest.resize(n);
  return rest;
}

std::vector<VerifiedFeature> ablated(const nn::Model& model, const sae::TranscoderSet& set,
                                     const sae::AttributionGraph& graph,
                                     const std::vector<std::size_t>& features, const Options& o,
                                     const std::atomic<bool>& cancel) {
  std::vector<std::vector<std::size_t>> groups;
  for (const std::size_t f : features) groups.push_back({f});
  const auto patterns =
      o.attention == "hold" ? sae::AttentionPatterns::held : sae::AttentionPatterns::recomputed;
  const std::vector<double> exact =
      sae::exact_effects(model, set, graph, groups, 0, patterns, &cancel);
  std::vector<VerifiedFeature> found;
  for (std::size_t i = 0; i < features.size(); ++i) found.push_back({features[i], exact[i]});
  return found;
}

void add_to(CommandLine& line, Options& o) {
  o.prompt.add_to(line);
  line.option(
      "--transcoders", o.transcoders, "DIR",
      "a transcoder for every MLP: circuit-tracer's folder (layer_0.safetensors, ..., or of\n"
      "cross-layer ones W_enc_0.safetensors, W_dec_0.safetensors, ...), or a folder of "
      "SAELens's,\n"
      "as 'vitrine sae train --target' makes of several sites; or the name of one that came with\n"
      "the model (default: the first of these)");
  line.option("--read", o.read, "FILE.json",
              "instead of a prompt: a graph that circuit-tracer, this verb or its page wrote");
  line.option(
          "--first", o.first, "keep|zero",
          "zero: leaves out features and errors of the first token, as circuit-tracer does for\n"
          "models whose prompts begin with a beginning-of-text token (default: keep)")
      ->one_of({"keep", "zero"});
  line.number("--logits", o.spec.logits, "N",
              "at most so many of the most probable next tokens are nodes (default: 10) ...", 1,
              1000);
  line.real("--probability", o.spec.probability, "P",
            "... as few as have this probability together (default: 0.95)", Reals{0, 1});
  line.real("--node-threshold", o.prune.nodes, "X",
            "the nodes that have this share of all influence are kept (default: 0.8)", Reals{0, 1});
  line.real("--edge-threshold", o.prune.edges, "X",
            "the edges that have this share of all edges' scores are kept (default: 0.98)",
            Reals{0, 1});
  line.number("--top", o.top, "K",
              "how many of the features with the most influence are listed (default: 20)", 1,
              1'000'000);
  line.number("--verify", o.verify, "K",
              "how many of them are taken away in the model itself, one at a time (default: 10)", 0,
              1'000'000);
  line.number(
      "--random", o.random, "K",
      "how many other active features, at random, are taken away for comparison (default: 10)", 0,
      1'000'000);
  line.option("--attention", o.attention, "recompute|hold",
              "in these runs attention patterns are those of the edited run (default), or stay")
      ->one_of({"recompute", "hold"});
  o.supernodes.add_to(line);
  o.attention_of.add_to(line);
  line.option(
      "--features", o.features, "FILE.json",
      "of the page: where features are strongest in a text, as 'sae features --corpus --format "
      "json' of\n"
      "a layer's transcoder writes it (may be given again)");
  o.common.add_page_to(line);
  o.common.add_to(
      line,
      "FILE.safetensors or .npz: features, activation, error, adjacency [targets, nodes],\n"
      "influence, node_mask, edge_mask, attention/L.H.Q.K [query parts, key parts], ..., besides "
      "what goes to stdout; any other FILE: the "
      "table or\n"
      "JSON, and not to stdout",
      CommonOptions::Out::text_or_tensors);
}

// What a page shows besides, with what features respond to.
Json with_contexts(Json data, const Options& o, const sae::ViewerGraph& graph) {
  if (!o.features.empty()) data.update(contexts_of_features(o.features, graph));
  return data;
}

void check_features(const CommandLine& line, const Options& o) {
  if (!o.features.empty() && o.common.html.empty())
    line.fail("--features is of the page; give --html FILE, too");
}

// ---- a graph that was written before ---------------------------------------------------------------
void read_graph(const CommandLine& line, const Options& o) {
  for (const char* name :
       {"--transcoders", "--prompt", "--tokens", "--first", "--logits", "--probability",
        "--node-threshold", "--edge-threshold", "--verify", "--random", "--attention", "--factor",
        "--explain-attention", "--explain-edge", "--heads"}) {
    if (line.was_given(name))
      line.fail(fmt::format(
          "{} is of a graph that is made, and --read shows one that was made before", name));
  }
  if (is_tensor_file(o.common.out))
    line.fail("--out: a graph that is read has no tensors; give a .txt or .json file");
  ViewerReport report{sae::read_viewer_graph(o.read), o.top};
  const std::vector<sae::Supernode> more = o.supernodes.supernodes(line);
  report.graph.supernodes.insert(report.graph.supernodes.end(), more.begin(), more.end());
  report.graph.check_supernodes();
  check_folder_of(o.common.out);
  write_presentation(
      o.common, o.common.meta(line),
      {.text = [&](const Style& style, int) { return report.text(style); },
       .json = [&] { return report.json(); },
       .page = "graph",
       .page_data = [&] { return with_contexts(report.page_data(), o, report.graph); }});
}

// ---- a graph of a prompt ---------------------------------------------------------------------------
void make_graph(const CommandLine& line, Options& o) {
  const Interruptible interruptible;
  const std::vector<sae::Supernode> supernodes = o.supernodes.supernodes(line);
  const sae::TranscoderSet set = load_transcoder_set(o.transcoders, o.common.model);
  const nn::Model model = o.common.load();
  const nn::Tokens prompt = o.prompt.tokens(model);
  o.spec.cancel = &interruptible.requested();
  Progress progress("attributing", "targets", o.common.quiet);
  o.spec.progress = [&](std::int64_t done, std::int64_t total) {
    progress.update(static_cast<double>(done), static_cast<double>(total));
  };
  const sae::AttributionGraph graph = sae::attribution_graph(model, set, prompt, o.spec);
  const sae::PrunedGraph pruned = sae::prune(graph, o.prune);
  GraphReport report{model,
                     set,
                     graph,
                     pruned,
                     seen_by_viewers(model, set, graph, pruned, o.prune.nodes, supernodes),
                     strongest(graph, pruned, o.top),
                     sae::total_effects(graph),
                     {},
                     {},
                     measure_supernodes(model, set, graph, supernodes, o.supernodes.factor(),
                                        &interruptible.requested()),
                     explain_attention(model, set, graph, line, o.attention_of)};
  const auto first =
      report.strongest.begin() + std::min<std::ptrdiff_t>(o.verify, std::ssize(report.strongest));
  report.verified =
      ablated(model, set, graph, {report.strongest.begin(), first}, o, interruptible.requested());
  report.random =
      ablated(model, set, graph, others(graph, report.strongest, o.random, o.common.seed), o,
              interruptible.requested());
  write_presentation(
      o.common, o.common.meta(line),
      {.text = [&](const Style& style, int) { return report.text(style); },
       .json = [&] { return report.json(); },
       .tensors = [&] { return report.tensors(); },
       .axes = {.of = {{"adjacency", {"target", "node"}},
                       {"edge_mask", {"target", "node"}},
                       {"influence", {"node"}},
                       {"node_mask", {"node"}}}},
       .page = "graph",
       .page_data = [&] { return with_contexts(report.page_data(), o, report.seen); }});
}

}  // namespace

void verb_graph(const Arguments& arguments) {
  CommandLine line(
      arguments,
      "The attribution graph of a prompt: which features of the MLPs' transcoders cause which "
      "later ones,\n"
      "and the next token. With attention patterns, norms and what transcoders do not explain "
      "(errors) held,\n"
      "the model is linear in them: a target is the sum of what its sources write, exactly. Pruned "
      "to what\n"
      "matters; the strongest features are taken away in the model itself, beside random ones.\n\n"
      "json: circuit-tracer's {metadata, qParams, nodes, links}, which its viewers open, and "
      "{meta, tokens, str_tokens,\n"
      "counts, scores: {replacement, completeness, through_errors}, closure, logits, strongest: "
      "[{layer, position,\n"
      "feature, activation, influence, effect, exact, raised}], random, supernodes: [{name, nodes, "
      "factor, effects:\n"
      "[{id, token, by_graph, exact, exact_held}], after: [{id, token, prob}], after_held}], "
      "merged: "
      "[{source, target,\n"
      "weight, links}], attention: [{layer, head, query, key, score, pattern, closure, magnitude, "
      "query_parts: [{kind,\n"
      "layer, number, node, together, total}], key_parts, pairs: [{query, key, score}]}], edges: "
      "[{source, target, weight,\n"
      "direct, heads: [{layer, head, query, key, weight}]}], file}: effect is how much lower the "
      "first logit would be without the "
      "feature "
      "by the graph, exact\n"
      "is in the model (null where it was not measured); merged are sums of kept edges, a "
      "supernode "
      "as one node. With\n"
      "--read, the file's own JSON and merged\n",
      "vitrine graph --prompt 'The capital of Texas is'");
  Options o;
  add_to(line, o);
  if (!line.parse()) return;
  check_features(line, o);
  if (!o.read.empty()) return read_graph(line, o);
  o.prompt.require(line);
  o.spec.zero_first = o.first == "zero";
  make_graph(line, o);
}

}  // namespace vitrine::app
