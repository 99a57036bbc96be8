#include "apps/graphs/feature_files.h"

#include <fmt/format.h>

#include <charconv>
#include <set>

#include "tensor/files/file.h"
#include "tensor/files/json_reader.h"

namespace vitrine::app {
namespace {

constexpr std::size_t kContextsShown = 5;

// L of blocks.L.ln2.hook_normalized.
int layer_of_site(const JsonReader& site) {
  constexpr std::string_view kBlocks = "blocks.";
  const std::string& text = site.text();
  int layer = -1;
  if (text.starts_with(kBlocks))
    std::from_chars(text.data() + kBlocks.size(), text.data() + text.size(), layer);
  if (layer < 0)
    site.reject("a site of a layer, blocks.LAYER....", "its features have no place in the graph");
  return layer;
}

// One context, whose tokens' texts go to `words`.
Json shown_context(const JsonReader& context, Json& words) {
  const std::vector<std::int64_t> ids = context.at("tokens").wholes(0, INT32_MAX);
  const auto most = std::ssize(ids);
  if (most == 0) context.at("tokens").reject("at least one token");
  const std::int64_t peak = context.at("peak").whole(0, most - 1);
  const double value = context.at("activation").number();
  if (const JsonReader texts = context.at("str_tokens"); texts.given()) {
    const std::vector<JsonReader> list = texts.list(most);
    for (std::size_t i = 0; i < list.size(); ++i) words[fmt::format("{}", ids[i])] = list[i].text();
  }
  std::vector<double> values(ids.size(), 0.0);
  values[static_cast<std::size_t>(peak)] = value;
  const std::int64_t pos = context.at("pos").whole(0);
  return {{"line", context.at("line").whole(1)},
          {"pos", pos},
          {"value", value},
          {"tokens", ids},
          {"values", values},
          {"peak", peak},
          {"before", pos > peak},
          {"after", false}};
}

}  // namespace

Json contexts_of_features(const std::vector<std::string>& files, const sae::ViewerGraph& graph) {
  std::set<std::pair<int, std::int64_t>> wanted;
  for (const sae::ViewerNode& n : graph.nodes) {
    if (n.kind == sae::ViewerNodeKind::feature) wanted.emplace(n.layer, n.number);
  }
  Json contexts = Json::object(), words = Json::object();
  for (const std::string& file : files) {
    const auto json =
        JsonReader::object(read_text(file), file,
                           {.root = "what 'vitrine sae features --corpus --format json' writes"});
    const int layer = layer_of_site(json.at("site"));
    for (const JsonReader& feature : json.at("features").list()) {
      const std::int64_t number = feature.at("feature").whole(0);
      if (!wanted.contains({layer, number}) || !feature.has("contexts")) continue;
      Json list = Json::list();
      for (const JsonReader& context : feature.at("contexts").list()) {
        if (list.list_items()->size() < kContextsShown)
          list.push_back(shown_context(context, words));
      }
      contexts[fmt::format("{}_{}", layer, number)] = std::move(list);
    }
  }
  return {{"contexts", std::move(contexts)}, {"words", std::move(words)}};
}

}  // namespace vitrine::app
