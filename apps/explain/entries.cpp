#include "apps/explain/entries.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "apps/drawings/model_drawing.h"
#include "apps/explain/notes.h"
#include "apps/explain/site_values.h"
#include "apps/options/site_names.h"
#include "apps/terminal/host.h"
#include "apps/terminal/run.h"
#include "apps/verbs/verbs.h"
#include "autograd/ops/op_table.h"
#include "nn/model/sampling.h"
#include "tensor/error.h"
#include "tensor/nearest.h"

namespace vitrine::app {
namespace {

constexpr std::string_view kInBlock = "blocks.";

Json lesson_json(Topic topic) {
  const LessonFile* lesson = lesson_on(topic);
  if (lesson == nullptr) return {};
  return {{"number", lesson->number}, {"title", lesson->title}, {"file", lesson->file}};
}

std::string_view file_of(std::span<const Defined> rows, std::string_view name) {
  for (const Defined& row : rows) {
    if (row.name == name) return row.file;
  }
  return "";
}

Json or_null(std::string_view text) { return text.empty() ? Json() : Json(text); }

// What a verb says of itself.
std::string help_of(std::string_view verb) {
  Host inner;
  const HostScope here(inner);
  const auto space = verb.find(' ');
  Arguments arguments{std::string(verb.substr(0, space)), {}};
  if (space != verb.npos) arguments.rest.emplace_back(verb.substr(space + 1));
  arguments.rest.emplace_back("--help");
  find_verb(arguments.verb).run(arguments);
  return inner.written;
}

// The lines below "Example:", which end every help.
std::string example_in(std::string_view help) {
  constexpr std::string_view kHeading = "\nExample:\n  ";
  const auto at = help.rfind(kHeading);
  std::string text(at == help.npos ? "" : help.substr(at + kHeading.size()));
  while (text.ends_with('\n')) text.pop_back();
  return text;
}

std::string_view text_of(OpKind kind) {
  switch (kind) {
    case OpKind::input:
      return "an input";
    case OpKind::parameter:
      return "a parameter";
    case OpKind::constant:
      return "a constant";
    case OpKind::identity:
      return "an identity: y = x, dx = dy";
    case OpKind::detach:
      return "an identity that no gradient passes: y = x, dx = 0";
    case OpKind::rearrangement:
      return "a rearrangement: y[i] = x[p(i)]";
    case OpKind::selection:
      return "a selection along one axis: y[i] = x[s(i)]";
    case OpKind::product:
      return "a product: y = x w (+ bias)";
    case OpKind::norm:
      return "a norm: y = c(x) / s · gain (+ bias), with c linear";
    case OpKind::attention:
      return "attention: z = P v";
    case OpKind::activation:
      return "an activation, element by element: y[i] = f(x[i])";
    case OpKind::other:
    case OpKind::unstated:
      return "";
  }
  return "";
}

std::string_view gradient_of(const OpDef& op) {
  if (op.integer_only) return "none: its result carries no gradient";
  if (op.vjp != nullptr) return "its own, of graph ops";
  if (op.expand != nullptr) return "that of its expansion";
  return "none";
}

Json verb_entries() {
  Json list = Json::list();
  for (const Verb& verb : verbs()) {
    list.push_back(verb_entry(verb.name, verb.summary));
    if (std::string_view(verb.name) != "sae") continue;
    for (const Verb& more : sae_verbs())
      list.push_back(verb_entry(std::string("sae ") + more.name, more.summary));
  }
  return list;
}

// ---- sites ----------------------------------------------------------------------------------------
struct SitesMeant {
  std::string inside;
  std::vector<int> layers;  // empty: outside of the blocks
  std::optional<int> head;
};

// The sites of one name in all layers that are meant, in the order of the model.
std::vector<SitesMeant> grouped_sites(std::span<const std::string> names, std::optional<int> head) {
  std::vector<SitesMeant> found;
  for (const std::string& name : names) {
    const SiteName site = site_name(name);
    const bool in_block = name.starts_with(kInBlock) && site.layer;
    const std::string inside = in_block ? std::string(site.inside) : name;
    auto at = std::find_if(found.begin(), found.end(),
                           [&](const SitesMeant& s) { return s.inside == inside; });
    if (at == found.end()) at = found.insert(at, {inside, {}, head});
    if (in_block) at->layers.push_back(*site.layer);
  }
  return found;
}

// "blocks.9.attn.hook_z" of "9.z" and of "9.4.z".
std::string full_patterns_of(const std::string& word, std::span<const std::string> names) {
  return site_patterns(word, names).front().patterns;
}

std::vector<SitesMeant> sites_meant(const std::string& word, const Graph& graph) {
  const std::vector<std::string> names = graph.site_names();
  std::vector<SitesMeant> found;
  for (const SitePattern& pattern : site_patterns(word, names)) {
    std::vector<std::string> matching;
    for (const std::string& item : items_of(pattern.patterns)) {
      for (const std::string& name : names) {
        if (matches(item, name) || is_called(name, item)) matching.push_back(name);
      }
    }
    for (SitesMeant& s : grouped_sites(matching, pattern.head)) found.push_back(std::move(s));
  }
  if (!found.empty()) return found;
  const SiteName said = site_name(word);
  if (said.layer && full_patterns_of(word, names) != word)  // there is one, in no such layer
    select_sites({full_patterns_of(word, names)}, names);   // throws SiteError
  // Sites of other families, and of SAEs, which this model has not.
  for (const SiteNote& note : site_notes()) {
    if (is_called(note.inside, said.inside) || note.inside == word)
      found.push_back({std::string(note.inside), {}, {}});
  }
  return found;
}

std::string full_name(const SitesMeant& s, int layer) {
  return s.layers.empty() ? s.inside : fmt::format("blocks.{}.{}", layer, s.inside);
}

bool is_outside(std::string_view inside) {  // of the blocks
  for (const char* begin : {"hook_embed", "hook_pos_embed", "ln_final.", "unembed."}) {
    if (inside.starts_with(begin)) return true;
  }
  return false;
}

// "blocks.L.attn.hook_z", "hook_embed", "SITE.hook_sae_error"
std::string general_name(const std::string& inside, bool here, bool layered) {
  if (here) return layered ? "blocks.L." + inside : inside;
  if (inside.starts_with("hook_sae_")) return "SITE." + inside;
  return is_outside(inside) ? inside : "blocks.L." + inside;
}

// Throws Error (usage) for a head that the site has not.
void check_head(const SiteEntry& site, int head) {
  const auto axis = std::find(site.axes.begin(), site.axes.end(), Axis::head);
  if (axis == site.axes.end())
    throw Error(ErrorKind::usage,
                fmt::format("explain: {} has no heads; leave the {} out", site.name, head));
  const std::int64_t heads = site.type.shape[static_cast<int>(axis - site.axes.begin())];
  if (head >= heads)
    throw Error(ErrorKind::usage,
                fmt::format("explain: head {}: {} has heads 0 to {}", head, site.name, heads - 1));
}

Json values_json(const SitesMeant& s, Explained& about, const Interruptible& interruptible,
                 bool quiet) {
  std::string patterns;
  std::vector<int> layers = s.layers;
  if (layers.empty()) layers.push_back(-1);
  for (const int layer : layers) patterns += (patterns.empty() ? "" : ",") + full_name(s, layer);
  const Results results =
      run_model(about.model, *about.prompt, fetch(sites(patterns)), interruptible, quiet);
  Json list = Json::list();
  for (const int layer : layers) {
    const std::string name = full_name(s, layer);
    const std::vector<std::string> axes = fetched_axes(about.facts.graph().site(name));
    Json spread = spread_of(results[name], axes, s.head);
    Json row = {{"layer", layer < 0 ? Json() : Json(layer)}};
    row.update(spread);
    if (layers.size() == 1) row["positions"] = spread_by_position(results[name], axes, s.head);
    list.push_back(std::move(row));
  }
  return list;
}

}  // namespace

Json verb_entry(std::string_view name, std::string_view summary) {
  const VerbNote* note = find_verb_note(name);
  const std::string help = help_of(name);
  std::string function(name);
  std::replace(function.begin(), function.end(), ' ', '_');
  return {{"kind", "verb"},
          {"name", name},
          {"summary", summary},
          {"file", or_null(file_of(verbs_in_sources(), function))},
          {"library", note == nullptr ? Json() : or_null(note->library)},
          {"python", note == nullptr ? Json() : or_null(note->python)},
          {"lesson", note == nullptr ? Json() : lesson_json(note->topic)},
          {"example", example_in(help)},
          {"help", help}};
}

Json term_entry(const Term& term, const CommandWords& words) {
  const std::vector<std::string> names = names_of(term);
  return {{"kind", "term"},
          {"name", names.front()},
          {"names", names},
          {"summary", term.meaning},
          {"source", or_null(term.source)},
          {"command", or_null(command_of(term, words))},
          {"lesson", lesson_json(term.topic)}};
}

Json op_entry(const OpDef& op, Explained& about) {
  const std::string_view file = file_of(ops_in_sources(), op.name);
  Json linear = Json::list();
  for (std::size_t i = 0; i < 32 && op.linear_in != kEveryInput; ++i) {
    if (is_linear_in(op, i)) linear.push_back(i);
  }
  return {{"kind", "op"},
          {"name", op.name},
          {"formula", op.doc},
          {"is", or_null(text_of(op.kind))},
          {"linear_in", op.linear_in == kEveryInput ? Json("every input") : linear},
          {"gradient", gradient_of(op)},
          {"expands", op.expand != nullptr},
          {"file", or_null(file)},
          {"lesson", lesson_json(topic_of_op_file(file))},
          {"in_model", about.facts.of_op(op)}};
}

Json site_entry(const std::string& inside, const std::vector<int>& layers, std::optional<int> head,
                Explained& about, const Interruptible& interruptible, bool quiet) {
  const SitesMeant site{inside, layers, head};
  const SiteNote* note = find_site_note(inside);
  const std::string any = full_name(site, layers.empty() ? -1 : layers.front());
  const bool here = about.facts.graph().find_site(any) != nullptr;
  if (here && head) check_head(about.facts.graph().site(any), *head);
  Json json = {{"kind", "site"},
               {"name", general_name(inside, here, !layers.empty())},
               {"typed", is_outside(inside) ? inside : short_name(inside)},
               {"summary", note == nullptr ? Json() : Json(note->summary)},
               {"code", note == nullptr ? Json() : or_null(note->code)},
               {"lesson", note == nullptr ? Json() : lesson_json(note->topic)},
               {"layers", here ? Json(layers) : Json()},
               {"head", head ? Json(*head) : Json()}};
  for (const char* field : {"shape", "axes", "formula", "from", "inside", "weights", "ops", "file",
                            "line", "hidden_in", "values"})
    json[field] = Json();
  if (!here && note != nullptr) {
    json["axes"] = Json::list();
    for (const std::string& axis : items_of(note->axes)) json["axes"].push_back(axis);
  }
  if (here) json.update(about.facts.of_site(any));
  if (here && about.prompt) json["values"] = values_json(site, about, interruptible, quiet);
  return json;
}

Explained explained(const nn::Model& model, const std::optional<nn::Tokens>& prompt,
                    std::int64_t length, const Interruptible& interruptible, bool quiet) {
  if (prompt) length = std::ssize(*prompt);
  Explained about{
      model, {model.build(nn::Model::Uniform{.batch = 1, .tokens = length}), length}, prompt, {}};
  if (!prompt) return about;
  const Results results = run_model(model, *prompt, fetch(value("logits")), interruptible, quiet);
  const Tensor logits = results["logits"];
  const Tensor last = logits.select(0, 0).select(0, logits.dim(1) - 1).contiguous();
  const auto top = nn::top_tokens({last.data<float>(), static_cast<std::size_t>(last.numel())}, 2);
  const nn::Tokenizer* tokenizer = tokenizer_of(model);
  const auto word = [&](const nn::Tokens& ids) {
    return tokenizer == nullptr ? fmt::format("{}", fmt::join(ids, ","))
                                : shell_text({tokenizer->decode(ids)});
  };
  about.words = {word(*prompt), word({top.front().id}), word({top.back().id}),
                 tokenizer == nullptr};
  return about;
}

Json entries_of(const std::string& word, EntryKind kind, Explained& about,
                const Interruptible& interruptible, bool quiet) {
  const auto wants = [&](EntryKind k) { return kind == EntryKind::any || kind == k; };
  Json found = Json::list();
  std::vector<std::string> names;
  const Json all_verbs = verb_entries();
  for (const Json& verb : *all_verbs.list_items()) {
    names.push_back(*verb.find("name")->text());
    if (wants(EntryKind::verb) && names.back() == word) found.push_back(verb);
  }
  if (wants(EntryKind::term)) {
    for (const Term* term : find_terms(word)) found.push_back(term_entry(*term, about.words));
  }
  for (const OpDef* op : all_ops()) {
    names.emplace_back(op->name);
    if (wants(EntryKind::op) && op->name == word) found.push_back(op_entry(*op, about));
  }
  if (wants(EntryKind::site)) {
    for (const SitesMeant& s : sites_meant(word, about.facts.graph()))
      found.push_back(site_entry(s.inside, s.layers, s.head, about, interruptible, quiet));
  }
  if (!found.list_items()->empty()) return found;
  for (const Term& term : glossary()) {
    for (const std::string& name : names_of(term)) names.push_back(name);
  }
  for (const SiteNote& note : site_notes()) names.push_back(short_name(note.inside));
  throw Error(ErrorKind::usage,
              fmt::format("explain: there is no {} '{}'{}; 'vitrine explain' lists all",
                          kind == EntryKind::verb   ? "verb"
                          : kind == EntryKind::term ? "term"
                          : kind == EntryKind::op   ? "op"
                          : kind == EntryKind::site ? "site"
                                                    : "verb, term, op or site",
                          word, did_you_mean(nearest(word, names))));
}

Json all_entries(EntryKind kind, Explained& about, const Interruptible& interruptible, bool quiet) {
  const auto wants = [&](EntryKind k) { return kind == EntryKind::any || kind == k; };
  Json all = Json::list();
  if (wants(EntryKind::verb)) all = verb_entries();
  if (wants(EntryKind::term)) {
    for (const Term& term : glossary()) all.push_back(term_entry(term, about.words));
  }
  if (wants(EntryKind::op)) {
    for (const OpDef* op : all_ops()) all.push_back(op_entry(*op, about));
  }
  if (!wants(EntryKind::site)) return all;
  const std::vector<std::string> names = about.facts.graph().site_names();
  for (const SitesMeant& s : grouped_sites(names, {}))
    all.push_back(site_entry(s.inside, s.layers, {}, about, interruptible, quiet));
  for (const SiteNote& note : site_notes()) {  // those that other models have
    const auto is_there = [&](const std::string& n) { return find_site_note(n) == &note; };
    if (std::none_of(names.begin(), names.end(), is_there))
      all.push_back(site_entry(std::string(note.inside), {}, {}, about, interruptible, quiet));
  }
  return all;
}

}  // namespace vitrine::app
