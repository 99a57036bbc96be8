#include "nn/model/standing_edits.h"

#include <fmt/format.h>

#include <algorithm>

#include "tensor/error.h"

namespace vitrine::nn {
namespace {

constexpr const char* kStanding = "standing";

// The edits by stage; `placed` makes each of them for a graph.
template <class F>
Interventions in_stages(const std::vector<StandingEdit>& edits, const F& placed) {
  int last = 0;
  for (const StandingEdit& e : edits) last = std::max(last, e.stage);
  Interventions all;
  for (int stage = 0; stage <= last; ++stage) {
    std::vector<Edit> of_stage;
    for (const StandingEdit& e : edits) {
      if (e.stage == stage) of_stage.push_back(placed(e));
    }
    if (!of_stage.empty()) all = all.then(Interventions(std::move(of_stage)));
  }
  return all.named(kStanding);
}

// The edit's places along heads, keys and features; one that takes everything.
Where within(const Edit& e) { return e.where.empty() ? Where{} : e.where[0]; }

Edit placed_in(const StandingEdit& standing, const std::vector<Tokens>& prompts) {
  Edit e = standing.edit;
  if (standing.check) {
    for (const Tokens& prompt : prompts) standing.check(prompt);
  }
  if (standing.value) e.value = standing.value(prompts);
  if (!standing.positions && !standing.keys) return e;
  const Where inside = within(e);
  e.where.clear();
  for (std::size_t i = 0; i < prompts.size(); ++i) {
    Where w = inside;
    w.prompt = {static_cast<std::int64_t>(i)};
    if (standing.positions) w.pos = standing.positions(prompts[i]);
    if (standing.keys) w.key = standing.keys(prompts[i]);
    const bool none = (standing.positions && w.pos.empty()) || (standing.keys && w.key.empty());
    if (!none) e.where.push_back(std::move(w));
  }
  if (e.where.empty())
    throw GraphError(fmt::format("{}: no prompt has such a position", standing.to_text()));
  return e;
}

}  // namespace

std::string StandingEdit::to_text() const {
  const std::string text = edit.to_text();
  if (where.empty()) return text;
  const std::size_t close = text.find(']'), name = edit.site.name.size();
  if (edit.where.empty() || close == text.npos)
    return text.substr(0, name) + "[" + where + "]" + text.substr(name);
  return text.substr(0, name + 1) + where + ", " + text.substr(name + 1);
}

std::vector<std::int64_t> last_position(const Tokens& prompt) { return {std::ssize(prompt) - 1}; }

Interventions standing_in(const std::vector<StandingEdit>& edits,
                          const std::vector<Tokens>& prompts) {
  return in_stages(edits, [&](const StandingEdit& e) { return placed_in(e, prompts); });
}

Interventions standing_shape(const std::vector<StandingEdit>& edits, const Graph& graph) {
  return in_stages(edits, [&](const StandingEdit& standing) {
    Edit e = standing.edit;
    const Type& type = graph.site(e.site.name).type;
    if (standing.value) e.value = Tensor::empty(type.shape, type.dtype);
    if (standing.positions || standing.keys) {
      Where w = within(e);
      if (standing.positions) w.pos = {0};
      else w.prompt = {0};
      if (standing.keys) w.key = {0};
      e.where = {std::move(w)};
    }
    return e;
  });
}

void check_standing(const std::vector<StandingEdit>& edits) {
  for (const StandingEdit& e : edits) {
    if (e.edit.where.size() > 1 && (e.positions || e.keys))
      throw GraphError(fmt::format("{}: a standing edit at positions has one Where", e.to_text()));
    if (e.keys && within(e.edit).key != std::vector<std::int64_t>{})
      throw GraphError(fmt::format("{}: keys are told twice, by the Where too", e.to_text()));
    for (const Where& w : e.edit.where) {
      if (w.prompt.empty() && w.pos.empty()) continue;
      throw GraphError(fmt::format(
          "{}: a standing edit holds for prompts of any number and length; give its positions as a "
          "function of the prompt, and no prompts",
          e.to_text()));
    }
  }
}

}  // namespace vitrine::nn
