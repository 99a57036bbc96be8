#include "apps/experiment/edit_maker.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "apps/experiment/prompts_file.h"
#include "apps/options/json_lines.h"
#include "apps/options/site_names.h"
#include "autograd/transform/recorded.h"
#include "interp/steering.h"
#include "tensor/error.h"
#include "tensor/random.h"

namespace vitrine::app {
namespace {

using Action = EditText::Action;

// Throws for a prompt that does not have a key that is told by its number from the first.
std::function<void(const nn::Tokens&)> has_keys(const std::string& site,
                                                const std::vector<interp::Position>& keys) {
  std::int64_t last = -1;
  for (const interp::Position& k : keys) {
    if (k.role.empty()) last = std::max(last, k.index);
  }
  return [site, last](const nn::Tokens& prompt) {
    if (last < std::ssize(prompt)) return;
    throw ContextError(
        fmt::format("the edit of {}: there is no key {}: a prompt has {} tokens, "
                    "0 to {}",
                    site, last, prompt.size(), std::ssize(prompt) - 1));
  };
}

// Throws Error (usage) for a head or feature that the site does not have, and for keys and positions
// where it has none.
void check_places(const EditText& text, const SiteEntry& site) {
  for (const WhereList& list : kWhereLists) {
    const auto& indices = text.where.*list.indices;
    if (indices.empty()) continue;
    const auto axis = std::find_if(site.axes.begin(), site.axes.end(),
                                   [&](Axis a) { return vitrine::name_of(a) == list.word; });
    if (axis == site.axes.end())
      throw Error(ErrorKind::usage,
                  fmt::format("the edit of {}: the site has no {}s", site.name, list.word));
    const std::int64_t size = site.type.shape[static_cast<int>(axis - site.axes.begin())];
    const auto most = *std::max_element(indices.begin(), indices.end());
    if (most < size) continue;
    throw Error(ErrorKind::usage,
                fmt::format("the edit of {}: there is no {} {}; there are 0 to {}", site.name,
                            list.word, most, size - 1));
  }
  if (!text.keys.empty() &&
      std::find(site.axes.begin(), site.axes.end(), Axis::key) == site.axes.end())
    throw Error(ErrorKind::usage, fmt::format("the edit of {}: the site has no keys", site.name));
  if (!text.positions.empty() && (site.axes.empty() || site.axes[0] != Axis::row))
    throw Error(ErrorKind::usage,
                fmt::format("the edit of {}: the site has no positions", site.name));
}

// ---- rows of other prompts ----------------------------------------------------------------------
// The value of a site [rows, ...] for packed prompts, taken from the rows of recorded ones.
struct RecordedRows {
  std::vector<nn::Tokens> prompts;
  Tensor rows;

  std::int64_t begin(std::size_t prompt) const {  // its first row
    std::int64_t row = 0;
    for (std::size_t i = 0; i < prompt; ++i) row += std::ssize(prompts[i]);
    return row;
  }
  // Prompt i gets the rows of recorded prompt source(i), as many as both have; the rest is zeros.
  template <class F>
  Tensor of(const std::vector<nn::Tokens>& given, const F& source) const {
    std::int64_t count = 0;
    for (const nn::Tokens& p : given) count += std::ssize(p);
    Shape shape = rows.shape();
    shape[0] = count;
    const Tensor value = Tensor::zeros(shape, rows.dtype());
    std::int64_t row = 0;
    for (std::size_t i = 0; i < given.size(); ++i) {
      const std::size_t k = source(i);
      const std::int64_t both =
          std::ssize(given[i].size() < prompts[k].size() ? given[i] : prompts[k]);
      for (std::int64_t p = 0; p < both; ++p) {
        const Tensor from = rows.select(0, begin(k) + p);
        std::copy_n(from.view().data, from.bytes(), value.select(0, row + p).view().data);
      }
      row += std::ssize(given[i]);
    }
    return value;
  }
};

std::string in_quotes(std::string_view text) { return fmt::format("'{}'", text); }

// What people call where the value comes from.
std::string source_text(const EditText& text) {
  if (!text.over.empty()) return in_quotes(text.over);
  if (!text.toward.empty()) return "toward " + in_quotes(text.toward);
  if (!text.plus.empty()) return in_quotes(text.plus) + " - " + in_quotes(text.minus);
  return text.action == Action::patch ? in_quotes(text.from) : text.from;
}

}  // namespace

// ---- what is kept -------------------------------------------------------------------------------
Tensor KeptTensors::get(const std::string& key, const std::function<Tensor()>& make) {
  {
    const std::lock_guard lock(mutex_);
    const auto at = std::find_if(kept_.begin(), kept_.end(),
                                 [&](const auto& entry) { return entry.first == key; });
    if (at != kept_.end()) {
      kept_.splice(kept_.begin(), kept_, at);
      return at->second;
    }
  }
  Tensor made = make();  // outside the lock: others may go on
  const std::lock_guard lock(mutex_);
  kept_.emplace_front(key, made);
  bytes_ += made.bytes();
  while (kept_.size() > kMost || (bytes_ > kMostBytes && kept_.size() > 1)) {
    bytes_ -= kept_.back().second.bytes();
    kept_.pop_back();
  }
  return made;
}

// ---- known prompts ------------------------------------------------------------------------------
void KnownPrompts::add(const interp::Example& example) {
  examples_.try_emplace(example.prompt, example);
  if (example.corrupt.empty()) return;
  interp::Example corrupt = example;
  corrupt.prompt = example.corrupt;
  examples_.try_emplace(example.corrupt, corrupt);
}

std::vector<std::int64_t> KnownPrompts::positions(const std::vector<interp::Position>& asked,
                                                  const nn::Tokens& prompt) const {
  // The example itself, or the longest that an answer follows.
  auto known = examples_.end();
  for (nn::Tokens begin = prompt; known == examples_.end() && !begin.empty(); begin.pop_back())
    known = examples_.find(begin);
  const interp::Example alone{.prompt = prompt};
  return (known != examples_.end() ? known->second : alone).all_at(asked);
}

// ---- making edits -------------------------------------------------------------------------------
EditMaker::EditMaker(const nn::Model& model, EditSettings settings)
    : model_(model),
      settings_(std::move(settings)),
      graph_(model.build(nn::BatchSize{1, 1, 1})),
      names_(graph_.site_names()) {
  if (settings_.known == nullptr) settings_.known = std::make_shared<const KnownPrompts>();
}

std::vector<nn::StandingEdit> EditMaker::make(const EditText& text) const {
  std::vector<nn::StandingEdit> edits;
  for (const std::string& name : select_sites({full_patterns(text.site, names_)}, names_)) {
    check_places(text, graph_.site(name));
    nn::StandingEdit e = of_action(text, Site{name});
    if (!(text.where == Where{})) e.edit.where = {text.where};
    place(e, text.positions, text.keys);
    if (!text.keys.empty()) e.check = has_keys(name, text.keys);
    edits.push_back(std::move(e));
  }
  return edits;
}

void EditMaker::place(nn::StandingEdit& e, const std::vector<interp::Position>& positions,
                      const std::vector<interp::Position>& keys) const {
  const auto narrow = [&](const std::vector<interp::Position>& to, const char* word, auto& places) {
    if (to.empty()) return;
    std::vector<std::string> words;
    words.reserve(to.size());
    for (const interp::Position& p : to) words.push_back(p.text());
    e.where += fmt::format("{}{} {}", e.where.empty() ? "" : ", ", word, fmt::join(words, ","));
    places = [known = settings_.known, to](const nn::Tokens& prompt) {
      return known->positions(to, prompt);
    };
  };
  narrow(positions, "pos", e.positions);
  narrow(keys, "key", e.keys);
}

nn::StandingEdit EditMaker::of_action(const EditText& text, const Site& site) const {
  const std::string from = source_text(text);
  switch (text.action) {
    case Action::zero:
      return {zero(site)};
    case Action::scale:
      return {scale(site, *text.number)};
    case Action::detach:
      return {detach(site)};
    case Action::set:
      return {replace(site, Tensor::full({1}, graph_.site(site.name).type.dtype, *text.number), {},
                      fmt::format("{:g}", *text.number))};
    case Action::add:
      return {add(site, direction(text, site), text.number.value_or(1), {}, from)};
    case Action::project_out:
      return {project_out(site, direction(text, site), {}, from)};
    case Action::mean: {
      Edit e = replace(site, mean_values(text, site), {}, from);
      e.origin = Edit::Origin::mean;
      return {e};
    }
    case Action::resample:
      return resampled(site, text.from);
    case Action::patch:
      return patched(text, site);
  }
  return {};
}

Tensor EditMaker::mean_values(const EditText& text, const Site& site) const {
  const bool file = text.over.empty();
  const auto key = fmt::format("mean\n{}\n{}\n{}", site.name, file, file ? text.from : text.over);
  return kept_.get(key, [&] {
    return vitrine::mean(
               site, recorded(file ? *prompts(text.from) : PromptList{encoded(text.over)}, site))
        .value;
  });
}

Tensor EditMaker::direction(const EditText& text, const Site& site) const {
  if (!text.from.empty()) {
    const std::size_t at = text.from.rfind('#');
    return at == text.from.npos ? interp::direction_from(model_, site, text.from)
                                : interp::direction_from(model_, site, text.from.substr(0, at),
                                                         text.from.substr(at + 1));
  }
  // Of one head alone, a token's vector is as wide as the head's part.
  const std::optional<int> head = text.where.head.size() == 1
                                      ? std::optional(static_cast<int>(text.where.head[0]))
                                      : std::nullopt;
  const auto key = fmt::format("direction\n{}\n{}\n{}\n{}\n{}\n{}", site.name, head.value_or(-1),
                               text.plus.size(), text.plus, text.minus, text.toward);
  return kept_.get(key, [&] {
    if (!text.toward.empty())
      return interp::direction_toward(model_, site, model_.token(text.toward), head);
    return interp::direction(model_, site, encoded(text.plus), encoded(text.minus));
  });
}

// Every position takes the value of the same position of another prompt.
nn::StandingEdit EditMaker::patched(const EditText& text, const Site& site) const {
  const nn::Tokens source = encoded(text.from);
  const Tensor rows =
      kept_.get(fmt::format("rows\n{}\n{}", site.name, fmt::join(source, " ")),
                [&] { return recorded({source}, site).raw(site.name).contiguous(); });
  const Axes& axes = graph_.site(site.name).axes;
  const bool by_key = std::find(axes.begin(), axes.end(), Axis::key) != axes.end();
  const auto refuse = [name = site.name, by_key, has = source.size()](std::size_t tokens) {
    throw Error(ErrorKind::input,
                fmt::format("the edit patch {}: the other prompt has {} tokens, and this one {}: "
                            "they must have as many{}",
                            name, has, tokens,
                            by_key ? "" : ", or the patch be at positions that both have"));
  };
  const std::vector<interp::Position>& at = text.positions;
  if (at.size() == 1 && at[0].role.empty() && at[0].index >= 0 && !by_key) {
    // One value, which is there for texts of any length, also for one that grows.
    if (at[0].index >= std::ssize(source))
      throw ContextError(
          fmt::format("the edit patch {}: there is no position {}: the other prompt "
                      "has {} tokens, 0 to {}",
                      site.name, at[0].index, source.size(), source.size() - 1));
    return {replace(site, rows.slice(0, at[0].index, at[0].index + 1).contiguous(), {},
                    source_text(text))};
  }
  nn::StandingEdit e{replace(site, Tensor::zeros({1}, rows.dtype()), {}, source_text(text))};
  e.value = [=, known = settings_.known, positions = at](const PromptList& given) {
    for (const nn::Tokens& prompt : given) {
      if (prompt.size() == source.size()) continue;
      if (positions.empty() || by_key) refuse(prompt.size());
      for (const std::int64_t p : known->positions(positions, prompt))
        if (p >= std::ssize(source)) refuse(prompt.size());
    }
    return RecordedRows{{source}, rows}.of(given, [](std::size_t) { return std::size_t{0}; });
  };
  return e;
}

// Every prompt takes the values of one of the file's of the same length, which is not itself.
nn::StandingEdit EditMaker::resampled(const Site& site, const std::string& from) const {
  nn::StandingEdit e{replace(site, Tensor::zeros({1}, DType::f32), {}, "resampled from " + from)};
  e.edit.origin = Edit::Origin::given;
  const auto file = prompts(from);
  const auto source = std::make_shared<const RecordedRows>(
      RecordedRows{*file, recorded(*file, site).raw(site.name).contiguous()});
  e.value = [source, from, name = site.name,
             key = random::Key{settings_.seed}.fold("resample")](const PromptList& given) {
    return source->of(given, [&](std::size_t i) {
      std::vector<std::size_t> others;
      for (std::size_t k = 0; k < source->prompts.size(); ++k) {
        if (source->prompts[k].size() == given[i].size() && source->prompts[k] != given[i])
          others.push_back(k);
      }
      if (others.empty()) {
        throw Error(ErrorKind::input,
                    fmt::format("the edit resample {}: {} has no other prompt of {} tokens to take "
                                "values from",
                                name, from, given[i].size()));
      }
      const double draw = random::uniform(key, i);
      return others[static_cast<std::size_t>(draw * static_cast<double>(others.size()))];
    });
  };
  return e;
}

nn::Tokens EditMaker::encoded(std::string_view text) const {
  const nn::Tokens tokens = settings_.encode ? settings_.encode(text) : model_.encode_prompt(text);
  nn::check_prompts({tokens}, model_.config());
  return tokens;
}

std::shared_ptr<const EditMaker::PromptList> EditMaker::prompts(const std::string& file) const {
  const std::lock_guard lock(mutex_);
  auto& known = prompts_[file];
  if (known != nullptr) return known;
  PromptList list;
  JsonLines lines(file);
  for (interp::Example& e : read_prompts(lines, model_, PromptOptions())) {
    list.push_back(std::move(e.prompt));
    if (!e.corrupt.empty()) list.push_back(std::move(e.corrupt));
  }
  return known = std::make_shared<const PromptList>(std::move(list));
}

Results EditMaker::recorded(const std::vector<nn::Tokens>& prompts, const Site& site) const {
  return model_.run_batch(prompts, fetch(site)).results;
}

}  // namespace vitrine::app
