// vitrine sae features --corpus, --feature: what features respond to in a text, and what they write.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "apps/reports/neurons_report.h"
#include "apps/terminal/interrupt.h"
#include "apps/terminal/progress.h"
#include "apps/verbs/sae/sae_features.h"

namespace vitrine::app {

sae::FeatureSpec reading_of(const SaeFeaturesOptions& o, const nn::Model& model) {
  sae::FeatureSpec spec{.contexts = o.contexts, .special = o.prompt.special()};
  spec.bos = bos_of_lines(model, o.prompt.prepends_bos());
  return spec;
}

std::vector<std::int64_t> fired_features(const SaeFeaturesOptions& o,
                                         const std::optional<sae::FeatureContexts>& found) {
  std::vector<std::int64_t> fired;
  for (std::int64_t j = 0; j < found->features(); ++j) {
    if (found->fired[static_cast<std::size_t>(j)] > 0) fired.push_back(j);
  }
  const auto key = [&](std::int64_t j) {
    return o.sort == "density" ? -found->density(j)
                               : -static_cast<double>(found->peaks.of(j)[0].activation);
  };
  std::stable_sort(fired.begin(), fired.end(),
                   [&](std::int64_t a, std::int64_t b) { return key(a) < key(b); });
  return fired;
}

namespace {

Json feature_json(const nn::Model& model, const sae::Sae& sae, std::int64_t j,
                  const FeatureWrites* writes, const sae::FeatureContexts* c,
                  std::span<const nn::Window> windows, bool detail) {
  Json json = {{"feature", j},
               {"raised", writes ? tokens_json(model, writes->raised) : Json()},
               {"lowered", writes ? tokens_json(model, writes->lowered) : Json()}};
  if (c != nullptr) {
    json["density"] = c->density(j);
    json["mean"] = c->mean(j);
    Json contexts = Json::list();
    const auto peaks = c->peaks.of(j);
    for (std::size_t k = 0; k < peaks.size(); ++k) {
      const nn::Window& w = windows[k];
      contexts.push_back(
          {{"line", peaks[k].line},
           {"pos", peaks[k].position},
           {"activation", peaks[k].activation},
           {"tokens", w.tokens},
           {"str_tokens",
            model.has_tokenizer() ? Json(model.tokenizer().shown_tokens(w.tokens)) : Json()},
           {"peak", w.peak}});
    }
    json["contexts"] = contexts;
    Json bins = Json::list();
    for (const sae::Interval& in : sae::intervals(*c, j, 8))
      bins.push_back({{"from", in.from}, {"to", in.to}, {"share", in.share}});
    json["intervals"] = bins;
  }
  if (detail) {
    Json near = Json::list();
    for (const sae::Neighbour& nb : sae::neighbours(sae, j, 8))
      near.push_back({{"feature", nb.feature}, {"cosine", nb.cosine}});
    json["neighbours"] = near;
  }
  return json;
}

// Dimensions of the site along which a feature's decoder row is longest: |w_i| / |w|.
std::string alignment(const sae::Sae& sae, std::int64_t j) {
  const Tensor w = sae.weights.at("W_dec").contiguous();
  const std::int64_t d = w.dim(1);
  const float* row = w.data<float>() + j * d;
  std::vector<std::int64_t> order(static_cast<std::size_t>(d));
  std::iota(order.begin(), order.end(), std::int64_t{0});
  std::stable_sort(order.begin(), order.end(), [&](std::int64_t a, std::int64_t b) {
    return std::abs(row[a]) > std::abs(row[b]);
  });
  double squares = 0;
  for (std::int64_t i = 0; i < d; ++i) squares += static_cast<double>(row[i]) * row[i];
  std::vector<std::string> parts;
  for (std::size_t i = 0; i < std::min<std::size_t>(4, order.size()); ++i)
    parts.push_back(
        fmt::format("{} {:+.2f}", order[i], row[order[i]] / std::sqrt(std::max(squares, 1e-30))));
  return fmt::format("{}", fmt::join(parts, ", "));
}

std::string detail_text(const nn::Model& model, const sae::Sae& sae, std::int64_t j,
                        const FeatureWrites* writes, const sae::FeatureContexts* c,
                        std::span<const nn::Window> windows, const Style& style) {
  std::string text =
      style.bold(fmt::format("feature {}", j)) + " of " + sae.config.hook_name + "\n";
  if (c != nullptr)
    text += fmt::format("  active at {} of the tokens, mean {:.3f} there\n", percent(c->density(j)),
                        c->mean(j));
  if (writes != nullptr)
    text += fmt::format("  raises {}\n  lowers {}\n", token_list(model, writes->raised),
                        token_list(model, writes->lowered));
  std::vector<std::string> near;
  for (const sae::Neighbour& nb : sae::neighbours(sae, j, 6))
    near.push_back(fmt::format("{} ({:.2f})", nb.feature, nb.cosine));
  text += fmt::format("  nearest decoder rows {}\n  strongest dimensions {}\n",
                      fmt::join(near, ", "), alignment(sae, j));
  if (c == nullptr) return text;
  for (const sae::Interval& in : sae::intervals(*c, j, 8))
    text += fmt::format("  {:>8.2f} to {:<8.2f} {:>6}  {}\n", in.from, in.to, percent(in.share),
                        style.bar(bar(in.share, 30)));
  using Align = Table::Align;
  Table table({{"activation", Align::right}, {"line", Align::right}, {"context", Align::left}});
  const auto peaks = c->peaks.of(j);
  for (std::size_t k = 0; k < peaks.size(); ++k)
    table.row({fmt::format("{:.3f}", peaks[k].activation), fmt::format("{}", peaks[k].line),
               context_text(model, windows[k], style)});
  return text + "\n" + table.text(style) + "\n";
}

std::optional<sae::FeatureContexts> read_corpus(const SaeFeaturesOptions& o, const nn::Model& model,
                                                const sae::Sae& sae) {
  if (o.corpus.empty()) return {};
  const Interruptible interruptible;
  Progress progress("reading", "tokens", o.common.quiet);
  sae::FeatureSpec spec = reading_of(o, model);
  note_bare_lines(model, o.prompt.prepends_bos(), o.common.quiet);
  spec.cancel = &interruptible.requested();
  spec.progress = [&](std::int64_t done, std::int64_t total) {
    progress.update(static_cast<double>(done), static_cast<double>(total));
  };
  return sae::collect_features(model, sae, o.corpus, spec);
}

// Those that were asked for, or else those that fired.
std::vector<std::int64_t> features_to_show(const SaeFeaturesOptions& o,
                                           const std::optional<sae::FeatureContexts>& found) {
  if (!o.features.empty()) return o.features;
  std::vector<std::int64_t> fired = fired_features(o, found);
  if (!o.common.json()) fired.resize(std::min(fired.size(), static_cast<std::size_t>(o.top)));
  return fired;
}

// What is shown of several features.
struct Shown {
  const CommandLine& line;
  const SaeFeaturesOptions& o;
  const nn::Model& model;
  const sae::Sae& sae;
  std::optional<sae::FeatureContexts> found;  // none without a corpus
  std::vector<std::int64_t> features;
  std::vector<nn::Window> windows;        // around the peaks of one feature after the other
  std::vector<std::size_t> first_window;  // of each feature
  std::vector<FeatureWrites> writes;      // of each feature; or none at all

  const sae::FeatureContexts* contexts() const { return found ? &*found : nullptr; }
  bool detail() const { return !o.features.empty(); }
  std::span<const nn::Window> windows_of(std::size_t i) const {
    const std::size_t count = found ? found->peaks.of(features[i]).size() : 0;
    return std::span<const nn::Window>(windows).subspan(first_window[i], count);
  }
  const FeatureWrites* writes_of(std::size_t i) const {
    return writes.empty() ? nullptr : &writes[i];
  }

  void write_json() const;
  std::string details(const Style& style) const;
  std::string table(const Style& style) const;
};

void Shown::write_json() const {
  const Json head = {{"meta", o.common.meta(line)},
                     {"sae", json_text(sae.name)},
                     {"site", sae.config.hook_name},
                     {"file", o.corpus.empty() ? Json() : Json(json_text(o.corpus))},
                     {"tokens", found ? Json(found->tokens) : Json()}};
  write_result_in_pieces(o.common.out, [&](const auto& write) {
    std::string text = to_line(head);
    text.resize(text.size() - 2);
    write(text + ", \"features\": [");
    for (std::size_t i = 0; i < features.size(); ++i) {
      std::string piece = to_line(
          feature_json(model, sae, features[i], writes_of(i), contexts(), windows_of(i), detail()));
      piece.pop_back();
      write((i == 0 ? "" : ",\n") + piece);
    }
    write("]}\n");
  });
}

std::string Shown::details(const Style& style) const {
  std::string text;
  for (std::size_t i = 0; i < features.size(); ++i) {
    text += detail_text(model, sae, features[i], writes_of(i), contexts(), windows_of(i), style);
  }
  return text;
}

std::string Shown::table(const Style& style) const {
  const sae::FeatureContexts& c = *found;
  const auto fired =
      std::count_if(c.fired.begin(), c.fired.end(), [](std::int64_t n) { return n > 0; });
  const std::string text =
      fmt::format("{}: {} tokens; {} of {} features fired; here {}\n\n", visible(o.corpus),
                  grouped(c.tokens), grouped(fired), grouped(c.features()),
                  o.sort == "density" ? "the most frequent" : "the strongest");
  using Align = Table::Align;
  Table table({{"feature", Align::right},
               {"peak", Align::right},
               {"density", Align::right},
               {"context", Align::left},
               {writes.empty() ? "" : "raises", Align::left}});
  for (std::size_t i = 0; i < features.size(); ++i) {
    const std::int64_t j = features[i];
    std::string raised;
    if (const FeatureWrites* w = writes_of(i)) {
      const auto most = std::min<std::ptrdiff_t>(3, std::ssize(w->raised));
      raised = token_list(model, {w->raised.begin(), w->raised.begin() + most});
    }
    table.row({fmt::format("{}", j), fmt::format("{:.2f}", c.peaks.of(j)[0].activation),
               percent(c.density(j)), context_text(model, windows_of(i)[0], style), raised});
  }
  return text + table.text(style);
}

}  // namespace

void features_over_text(const CommandLine& line, const SaeFeaturesOptions& o,
                        const nn::Model& model, const sae::Sae& sae) {
  Shown shown{line, o, model, sae, read_corpus(o, model, sae), {}, {}, {}, {}};
  shown.features = features_to_show(o, shown.found);
  std::vector<nn::Peak> peaks;
  for (const std::int64_t j : shown.features) {
    shown.first_window.push_back(peaks.size());
    if (!shown.found) continue;
    const auto of = shown.found->peaks.of(j);
    peaks.insert(peaks.end(), of.begin(), of.end());
  }
  if (shown.found)
    shown.windows = nn::windows_around(model, o.corpus, o.prompt.special(), peaks, o.window);
  shown.writes = writes_of(model, sae, shown.features, o.words);
  if (!o.common.html.empty()) write_features_page(line, o, model, sae, shown.found);
  if (o.common.json()) return shown.write_json();
  const Style style = o.common.style();
  write_result(o.common.out,
               o.common.heading() + (shown.detail() ? shown.details(style) : shown.table(style)));
}

}  // namespace vitrine::app
