#include "interp/patch_places.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <optional>

#include "nn/families/sites.h"
#include "tensor/error.h"
#include "tensor/nearest.h"

namespace vitrine::interp {

// ---- words --------------------------------------------------------------------------------------
namespace {

constexpr std::array<std::string_view, 7> kBy = {
    "pos", "head", "head,pos", "head,dest", "head,dest,src", "feature", "feature,pos"};

// The sites of a block that can be swept, and what their axes allow.
struct Component {
  enum class Kind { stream, heads, pattern, features };
  std::string_view name, inside;  // "z", "attn.hook_z"
  Kind kind;
};
constexpr Component kComponents[] = {
    {"resid_pre", "hook_resid_pre", Component::Kind::stream},
    {"resid_mid", "hook_resid_mid", Component::Kind::stream},
    {"resid_post", "hook_resid_post", Component::Kind::stream},
    {"attn_out", "hook_attn_out", Component::Kind::stream},
    {"mlp_out", "hook_mlp_out", Component::Kind::stream},
    {"z", "attn.hook_z", Component::Kind::heads},
    {"q", "attn.hook_q", Component::Kind::heads},
    {"k", "attn.hook_k", Component::Kind::heads},
    {"v", "attn.hook_v", Component::Kind::heads},
    {"pattern", "attn.hook_pattern", Component::Kind::pattern},
    {"post", "mlp.hook_post", Component::Kind::features},
    {"pre", "mlp.hook_pre", Component::Kind::features},
    {"pre_linear", "mlp.hook_pre_linear", Component::Kind::features}};
// Those of an SAE, behind the name of the site into which it is spliced.
constexpr Component kOfSaes[] = {{"sae_acts_post", "", Component::Kind::features},
                                 {"sae_acts_pre", "", Component::Kind::features},
                                 {"sae_error", "", Component::Kind::stream},
                                 {"sae_recons", "", Component::Kind::stream}};

Component component_named(std::string_view site) {
  std::vector<std::string_view> names;
  for (const Component& c : kComponents) {
    if (c.name == site) return c;
    names.push_back(c.name);
  }
  for (const Component& c : kOfSaes) {
    if (site == c.name || site.ends_with(fmt::format("hook_{}", c.name)))
      return {site, site, c.kind};
  }
  throw Error(ErrorKind::usage,
              fmt::format("there is no sweep over '{}'; there are {}, and an SAE's, such as "
                          "mlp_out.hook_sae_acts_post",
                          site, fmt::join(names, ", ")));
}

// The site in a layer; none where the layer does not have it.
const SiteEntry* in_layer(const Graph& graph, const Component& c, int layer) {
  for (const std::string_view prefix : {"", "hook_", "attn.hook_", "mlp.hook_"}) {
    const SiteEntry* found =
        graph.find_site(fmt::format("blocks.{}.{}{}", layer, prefix, c.inside));
    if (found != nullptr) return found;
  }
  return nullptr;
}

std::int64_t size_along(const SiteEntry& site, Axis axis) {
  const auto at = std::find(site.axes.begin(), site.axes.end(), axis);
  return at == site.axes.end() ? 0 : site.type.shape[static_cast<int>(at - site.axes.begin())];
}

}  // namespace

std::string_view name_of(By by) { return kBy[static_cast<std::size_t>(by)]; }
By parse_by(std::string_view text) {
  for (std::size_t i = 0; i < kBy.size(); ++i) {
    if (kBy[i] == text) return static_cast<By>(i);
  }
  throw Error(ErrorKind::usage,
              fmt::format("a sweep goes by {}, not by '{}'", fmt::join(kBy, " or "), text));
}
bool goes_by_features(By by) { return by == By::feature || by == By::feature_pos; }

std::vector<By> ways_to_sweep(std::string_view site) {
  switch (component_named(site).kind) {
    case Component::Kind::stream:
      return {By::pos};
    case Component::Kind::heads:
      return {By::head, By::pos, By::head_pos};
    case Component::Kind::pattern:
      return {By::head, By::head_dest, By::head_dest_src};
    case Component::Kind::features:
      return {By::feature, By::pos, By::feature_pos};
  }
  return {};
}

void check_sweep(std::string_view site, By by) {
  const std::vector<By> ways = ways_to_sweep(site);
  if (std::find(ways.begin(), ways.end(), by) != ways.end()) return;
  std::vector<std::string_view> words;
  words.reserve(ways.size());
  for (const By way : ways) words.push_back(name_of(way));
  throw Error(ErrorKind::usage, fmt::format("{} cannot be swept by {}; it can by {}", site,
                                            name_of(by), fmt::join(words, " or by ")));
}

// ---- the sites ----------------------------------------------------------------------------------
namespace {

void check_layers(const nn::Model& model, const SweepSpec& spec) {
  const int count = model.config().layers;
  for (const int l : spec.layers) {
    if (l >= 0 && l < count) continue;
    throw Error(ErrorKind::usage, fmt::format("there is no layer {} to sweep {} in; this model has "
                                              "layers 0 to {}",
                                              l, spec.site, count - 1));
  }
}

// Throws Error (usage) for an index that is not among `size`, and for one that is there twice.
void check_listed(const std::vector<int>& listed, std::int64_t size, std::string_view word,
                  const SweepSpec& spec) {
  if (listed.empty()) return;
  if (size == 0)
    throw Error(ErrorKind::usage,
                fmt::format("{} has no {}s that a sweep could be narrowed to", spec.site, word));
  for (std::size_t i = 0; i < listed.size(); ++i) {
    if (listed[i] < 0 || listed[i] >= size)
      throw Error(ErrorKind::usage, fmt::format("{} has no {} {}; there are 0 to {}", spec.site,
                                                word, listed[i], size - 1));
    if (std::find(listed.begin(), listed.begin() + static_cast<std::ptrdiff_t>(i), listed[i]) !=
        listed.begin() + static_cast<std::ptrdiff_t>(i))
      throw Error(ErrorKind::usage, fmt::format("{} {} is listed twice", word, listed[i]));
  }
}

void check_positions(const std::vector<Position>& listed) {
  for (auto p = listed.begin(); p != listed.end(); ++p) {
    if (std::find(listed.begin(), p, *p) != p)
      throw Error(ErrorKind::usage, fmt::format("position {} is listed twice", p->text()));
  }
}

}  // namespace

SiteSet SweptSite::all() const {
  std::vector<std::string> names;
  for (const Site& s : sites) names.push_back(s.name);
  return vitrine::sites(fmt::format("{}", fmt::join(names, ",")));
}

SweptSite swept_site(const nn::Model& model, const SweepSpec& spec) {
  const Component component = component_named(spec.site);
  check_layers(model, spec);
  const Graph graph = model.build(nn::BatchSize{1, 1, 1});
  SweptSite swept;
  std::vector<int> without;
  const auto add = [&](int layer) {
    const SiteEntry* entry = in_layer(graph, component, layer);
    if (entry == nullptr) return without.push_back(layer);
    const std::int64_t heads = size_along(*entry, Axis::head),
                       features = component.kind == Component::Kind::features
                                      ? entry->type.shape[entry->type.shape.size() - 1]
                                      : 0;
    if (!swept.sites.empty() && (heads != swept.heads || features != swept.features)) {
      throw Error(
          ErrorKind::usage,
          fmt::format("{} and {} differ in size, {} and {}: sweep one layer at a time",
                      swept.sites[0].name, entry->name, features > 0 ? swept.features : swept.heads,
                      features > 0 ? features : heads));
    }
    swept.heads = heads;
    swept.features = features;
    swept.layers.push_back(layer);
    swept.sites.push_back({entry->name});
  };
  for (const int l : spec.layers) add(l);
  for (int l = 0; spec.layers.empty() && l < model.config().layers; ++l) add(l);
  const std::string wanted =
      fmt::format("blocks.{}.{}", spec.layers.empty() ? 0 : spec.layers[0], component.inside);
  if (swept.sites.empty() || (!spec.layers.empty() && !without.empty())) {
    const bool of_sae = component.inside.find("sae_") != std::string_view::npos;
    throw SiteError(fmt::format(
        "{} the site {}{}{}",
        spec.layers.empty() ? "no layer has" : fmt::format("layer {} does not have", without[0]),
        spec.site, did_you_mean(nearest(wanted, graph.site_names())),
        of_sae ? "; an SAE has sites in the layer into which it is spliced" : ""));
  }
  check_listed(spec.heads, swept.heads, "head", spec);
  check_listed(spec.features, swept.features, "feature", spec);
  check_positions(spec.positions);
  check_positions(spec.sources);
  if (!spec.sources.empty() && component.kind != Component::Kind::pattern)
    throw Error(ErrorKind::usage,
                fmt::format("{} has no source positions; attention patterns have", spec.site));
  return swept;
}

// ---- the places ---------------------------------------------------------------------------------
namespace {

using Indices = std::vector<std::int64_t>;

// One axis of a site: how many places there are, and those that the sweep is narrowed to.
struct Narrowed {
  std::vector<Indices> places;
  std::vector<std::string> labels;
};
Narrowed of_numbers(const std::vector<int>& listed) {
  Narrowed n;
  for (const int i : listed) {
    n.places.push_back({i});
    n.labels.push_back(fmt::format("{}", i));
  }
  return n;
}
Narrowed of_positions(const std::vector<Position>& listed, const Example& example) {
  Narrowed n;
  for (const Position& p : listed) {
    const Span span = example.span(p);
    Indices& all = n.places.emplace_back();
    for (std::int64_t i = span.begin; i < span.end; ++i) all.push_back(i);
    n.labels.push_back(p.text());
  }
  return n;
}

Indices united(const std::vector<Indices>& places) {
  Indices all;
  for (const Indices& p : places) all.insert(all.end(), p.begin(), p.end());
  std::sort(all.begin(), all.end());
  all.erase(std::unique(all.begin(), all.end()), all.end());
  return all;
}

std::vector<std::string> axes_of(By by) {
  switch (by) {
    case By::pos:
      return {"pos"};
    case By::head:
      return {"head"};
    case By::head_pos:
      return {"pos", "head"};
    case By::head_dest:
      return {"head", "dest"};
    case By::head_dest_src:
      return {"head", "dest", "src"};
    case By::feature:
      return {"feature"};
    case By::feature_pos:
      return {"pos", "feature"};
  }
  return {};
}

}  // namespace

SweptPlaces swept_places(const SweepSpec& spec, const SweptSite& site, const Example& example) {
  const std::int64_t length = std::ssize(example.prompt);
  struct Kind {
    std::vector<std::int64_t> Where::*list;
    Narrowed narrowed;
    std::int64_t size;
  };
  const Kind pos{&Where::pos, of_positions(spec.positions, example), length},
      head{&Where::head, of_numbers(spec.heads), site.heads},
      feature{&Where::feature, of_numbers(spec.features), site.features},
      source{&Where::key, of_positions(spec.sources, example), length};
  SweptPlaces swept;
  std::vector<const Kind*> along;
  for (const std::string& name : axes_of(spec.by)) {
    const Kind& kind = name == "head"      ? head
                       : name == "feature" ? feature
                       : name == "src"     ? source
                                           : pos;
    along.push_back(&kind);
    SweptPlaces::Along& axis =
        swept.axes.emplace_back(SweptPlaces::Along{name, kind.list, kind.narrowed.places});
    for (std::int64_t i = 0; kind.narrowed.places.empty() && i < kind.size; ++i)
      axis.places.push_back({i});
    swept.labels.push_back(kind.narrowed.labels);
  }
  for (const Kind* kind : {&pos, &head, &feature, &source}) {
    if (std::find(along.begin(), along.end(), kind) == along.end())
      swept.within.*(kind->list) = united(kind->narrowed.places);
  }
  return swept;
}

Shape SweptPlaces::shape() const {
  Shape shape;
  for (const Along& a : axes) shape.push_back(std::ssize(a.places));
  return shape;
}

Where SweptPlaces::at(std::int64_t index) const {
  Where where = within;
  for (auto a = axes.rbegin(); a != axes.rend(); ++a) {
    const std::int64_t size = std::ssize(a->places);
    where.*(a->list) = a->places[static_cast<std::size_t>(index % size)];
    index /= size;
  }
  return where;
}

}  // namespace vitrine::interp
