#include "autograd/transform/intervention.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

namespace vitrine {

// ---- values -----------------------------------------------------------------------------------
std::string_view name_of(Edit::Action action) {
  constexpr std::string_view kNames[] = {"replace",     "zero",  "add",
                                         "project_out", "scale", "detach"};
  return kNames[static_cast<int>(action)];
}

bool has_value(Edit::Action a) {
  return a == Edit::Action::replace || a == Edit::Action::add || a == Edit::Action::project_out;
}
bool has_factor(Edit::Action a) { return a == Edit::Action::add || a == Edit::Action::scale; }

std::string_view name_of(Edit::Origin origin) {
  constexpr std::string_view kNames[] = {"given", "held", "mean", "mean_by_position", "resampled"};
  return kNames[static_cast<int>(origin)];
}

namespace {

Edit edit(const Site& site, Edit::Action action, const Where& where) {
  Edit e{.site = site, .action = action};
  if (!(where == Where{})) e.where = {where};
  return e;
}
Edit with_value(Edit e, const Tensor& value, std::string_view from) {
  e.value = value;
  e.from = from;
  return e;
}

std::string to_text(const Where& w) {
  std::vector<std::string> parts;
  for (const WhereList& l : kWhereLists) {
    if (!(w.*l.indices).empty())
      parts.push_back(fmt::format("{} {}", l.word, fmt::join(w.*l.indices, ",")));
  }
  return fmt::format("[{}]", fmt::join(parts, "; "));
}
std::string replacement(const Edit& e) {
  switch (e.origin) {
    case Edit::Origin::given:
      return fmt::format(" = {}", e.from);
    case Edit::Origin::held:
      return fmt::format(" held at {}", e.from);
    case Edit::Origin::mean:
      return fmt::format(" = the mean of {}", e.from);
    case Edit::Origin::mean_by_position:
      return fmt::format(" = the mean of {} at each position", e.from);
    case Edit::Origin::resampled:
      return fmt::format(" = {}, prompts [{}]", e.from, fmt::join(e.permutation, ", "));
  }
  return "";
}

}  // namespace

Edit replace(const Site& site, const Tensor& value, const Where& where, std::string_view from) {
  return with_value(edit(site, Edit::Action::replace, where), value, from);
}
Edit zero(const Site& site, const Where& where) { return edit(site, Edit::Action::zero, where); }
Edit add(const Site& site, const Tensor& direction, double factor, const Where& where,
         std::string_view from) {
  Edit e = with_value(edit(site, Edit::Action::add, where), direction, from);
  e.factor = factor;
  return e;
}
Edit project_out(const Site& site, const Tensor& direction, const Where& where,
                 std::string_view from) {
  return with_value(edit(site, Edit::Action::project_out, where), direction, from);
}
Edit scale(const Site& site, double factor, const Where& where) {
  Edit e = edit(site, Edit::Action::scale, where);
  e.factor = factor;
  return e;
}
Edit detach(const Site& site, const Where& where) {
  return edit(site, Edit::Action::detach, where);
}

std::string Edit::to_text() const {
  std::string at = site.name;
  for (const Where& w : where) at += vitrine::to_text(w);
  switch (action) {
    case Action::replace:
      return at + replacement(*this);
    case Action::zero:
      return fmt::format("{} = 0", at);
    case Action::add:
      return fmt::format("{} += {:g} x {}", at, factor, from);
    case Action::project_out:
      return fmt::format("{} without its part along {}", at, from);
    case Action::scale:
      return fmt::format("{} *= {:g}", at, factor);
    case Action::detach:
      return fmt::format("{} without gradient", at);
  }
  return at;
}

Interventions Interventions::named(std::string name) const {
  Interventions same = *this;
  same.name_ = std::move(name);
  return same;
}

Interventions Interventions::then(const Interventions& later) const {
  Interventions both = *this;
  both.stages_.insert(both.stages_.end(), later.stages_.begin(), later.stages_.end());
  return both;
}
std::string Interventions::to_text() const {
  std::string text;
  for (std::size_t s = 0; s < stages_.size(); ++s) {
    for (const Edit& e : stages_[s])
      text += fmt::format("{}{}\n", s == 0 ? "" : "then ", e.to_text());
  }
  return text;
}

}  // namespace vitrine
