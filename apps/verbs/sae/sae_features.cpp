// vitrine sae features: what an SAE's features respond to and write.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "apps/experiment/edit_options.h"
#include "apps/options/sae_options.h"
#include "apps/pages/features_page.h"
#include "apps/reports/neurons_report.h"
#include "apps/terminal/interrupt.h"
#include "apps/terminal/progress.h"
#include "apps/verbs/verbs.h"
#include "interp/readout.h"
#include "nn/text/corpus_lines.h"
#include "sae/feature_contexts.h"
#include "tensor/files/file.h"

namespace vitrine::app {
namespace {

struct Options {
  CommonOptions common;
  EditOptions edits;
  PromptOptions prompt;
  std::string sae, corpus, sort = "peak", steered_prompt;
  int steered = 64;
  std::vector<std::int64_t> features;
  int position = -1, top = 10, contexts = 20, window = 8, words = 8;
};

// What one feature writes: which tokens it raises and lowers, read straight by the unembedding.
// Only of sites that are added to the residual stream, or are it.
struct Writes {
  std::vector<interp::TokenValue> raised, lowered;
};
bool writes_to_stream(const nn::Model& model, const sae::Sae& sae) {
  if (sae.config.d_out != model.config().d_model || sae.config.join_heads || sae.config.head)
    return false;
  const Graph graph = model.build(nn::Model::Uniform{1, 1});
  const SiteEntry* site = graph.find_site(sae.config.hook_name);
  return site == nullptr ||
         std::find(site->axes.begin(), site->axes.end(), Axis::head) == site->axes.end();
}
std::vector<Writes> writes_of(const nn::Model& model, const sae::Sae& sae,
                              const std::vector<std::int64_t>& features, int count) {
  std::vector<Writes> out;
  if (features.empty() || !writes_to_stream(model, sae)) return out;
  const Tensor w = sae.weights.at("W_dec").contiguous();
  Tensor rows = Tensor::empty({std::ssize(features), w.dim(1)}, DType::f32);
  for (std::size_t i = 0; i < features.size(); ++i)
    std::copy_n(w.data<float>() + features[i] * w.dim(1), w.dim(1),
                rows.data<float>() + static_cast<std::int64_t>(i) * w.dim(1));
  constexpr std::int64_t kAtOnce = 256;  // rows of logits
  for (std::int64_t begin = 0; begin < rows.dim(0); begin += kAtOnce) {
    const Tensor logits = interp::to_logits(model, rows.slice(0, begin, std::min(rows.dim(0), begin + kAtOnce)));
    for (std::int64_t i = 0; i < logits.dim(0); ++i)
      out.push_back(
          {interp::highest(logits.select(0, i), count), interp::lowest(logits.select(0, i), count)});
  }
  return out;
}

// ---- on a prompt --------------------------------------------------------------------------------
struct Active {
  std::int64_t position, feature;
  float activation;
};

// Of one position, in the table.
std::size_t most_shown(const Options& o) {
  return static_cast<std::size_t>(o.position >= 0 ? o.top : std::min(o.top, 4));
}

Json texts_of(const nn::Model& model, const nn::Tokens& tokens) {
  const nn::Tokenizer* tokenizer = tokenizer_of(model);
  return tokenizer == nullptr ? Json() : Json(tokenizer->shown_tokens(tokens));
}

void write_prompt_page(const CommandLine& line, const Options& o, const nn::Model& model,
                       const sae::Sae& sae, const nn::Tokens& prompt,
                       const std::vector<Active>& active, const std::vector<Writes>& writes) {
  Json list = Json::list(), of_features = Json::object();
  for (std::size_t i = 0; i < active.size(); ++i) {
    const Active& a = active[i];
    list.push_back({{"position", a.position}, {"feature", a.feature}, {"activation", a.activation}});
    if (writes.empty()) continue;
    of_features[fmt::format("{}", a.feature)] = {{"raised", tokens_json(model, writes[i].raised)},
                                                 {"lowered", tokens_json(model, writes[i].lowered)}};
  }
  write_text(o.common.html, page_html("active_features", {{"meta", o.common.meta(line)},
                                                          {"sae", json_text(sae.name)},
                                                          {"site", sae.config.hook_name},
                                                          {"tokens", prompt},
                                                          {"str_tokens", texts_of(model, prompt)},
                                                          {"active", list},
                                                          {"writes", of_features}}));
  if (!o.common.quiet) log(fmt::format("page written to {}", o.common.html));
}

void on_prompt(const CommandLine& line, const Options& o, const nn::Model& model,
               const sae::Sae& sae) {
  const nn::Tokens prompt = o.prompt.tokens(model);
  const auto n = std::ssize(prompt);
  if (o.position >= n)
    line.fail(fmt::format("--pos {}: the prompt has {} tokens, from 0", o.position, n));
  const Tensor f = sae::features_of(model, sae, {prompt});
  const bool all = o.common.json() || !o.common.html.empty();
  std::vector<Active> active;
  for (std::int64_t t = 0; t < n; ++t) {
    if (o.position >= 0 && t != o.position) continue;
    std::vector<Active> here;
    for (std::int64_t j = 0; j < f.dim(1); ++j) {
      const float a = f.data<float>()[t * f.dim(1) + j];
      const bool asked = o.features.empty() ||
                         std::find(o.features.begin(), o.features.end(), j) != o.features.end();
      if (a > 0 && asked) here.push_back({t, j, a});
    }
    std::stable_sort(here.begin(), here.end(),
                     [](const Active& a, const Active& b) { return a.activation > b.activation; });
    if (here.size() > most_shown(o) && !all) here.resize(most_shown(o));
    active.insert(active.end(), here.begin(), here.end());
  }
  std::vector<std::int64_t> numbers;
  for (const Active& a : active) numbers.push_back(a.feature);
  const auto writes = writes_of(model, sae, numbers, o.words);
  const Style style = o.common.style();
  if (!o.common.html.empty()) write_prompt_page(line, o, model, sae, prompt, active, writes);
  if (o.common.json()) {
    Json list = Json::list();
    for (std::size_t i = 0; i < active.size(); ++i) {
      list.push_back(
          {{"position", active[i].position},
           {"feature", active[i].feature},
           {"activation", active[i].activation},
           {"raised", writes.empty() ? Json() : tokens_json(model, writes[i].raised)},
           {"lowered", writes.empty() ? Json() : tokens_json(model, writes[i].lowered)}});
    }
    return write_result(o.common.out, to_line({{"meta", o.common.meta(line)},
                                               {"sae", json_text(sae.name)},
                                               {"site", sae.config.hook_name},
                                               {"tokens", prompt},
                                               {"str_tokens", texts_of(model, prompt)},
                                               {"active", list}}));
  }
  using Align = Table::Align;
  Table table({{"pos", Align::right},
               {"token", Align::left},
               {"feature", Align::right},
               {"activation", Align::right},
               {writes.empty() ? "" : "raises", Align::left}});
  std::size_t of_position = 0;  // how many have been shown
  for (std::size_t i = 0; i < active.size(); ++i) {
    const Active& a = active[i];
    const bool first = i == 0 || active[i - 1].position != a.position;
    of_position = first ? 1 : of_position + 1;
    if (of_position > most_shown(o)) continue;
    table.row(
        {first ? fmt::format("{}", a.position) : "",
         first ? token_label(tokenizer_of(model), prompt[static_cast<std::size_t>(a.position)])
               : "",
         fmt::format("{}", a.feature), fmt::format("{:.3f}", a.activation),
         writes.empty()
             ? ""
             : token_list(model, {writes[i].raised.begin(),
                                  writes[i].raised.begin() +
                                      std::min<std::ptrdiff_t>(4, std::ssize(writes[i].raised))})});
  }
  write_result(o.common.out,
               o.common.heading() +
                   fmt::format("features of {} ({})\n\n", sae.config.hook_name, visible(sae.name)) +
                   table.text(style));
}

// ---- over a text, or of the weights alone -------------------------------------------------------
Json feature_json(const nn::Model& model, const sae::Sae& sae, std::int64_t j, const Writes* writes,
                  const sae::FeatureContexts* c, std::span<const nn::Window> windows, bool detail) {
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
                        const Writes* writes, const sae::FeatureContexts* c,
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

sae::FeatureSpec reading_of(const Options& o, const nn::Model& model) {
  sae::FeatureSpec spec{.contexts = o.contexts, .special = o.prompt.special()};
  spec.bos = bos_of_lines(model, o.prompt.prepends_bos());
  return spec;
}

std::optional<sae::FeatureContexts> read_corpus(const Options& o, const nn::Model& model,
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

// Those that fired, in the order of --sort.
std::vector<std::int64_t> fired_features(const Options& o,
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

// Those that were asked for, or else those that fired.
std::vector<std::int64_t> features_to_show(const Options& o,
                                           const std::optional<sae::FeatureContexts>& found) {
  if (!o.features.empty()) return o.features;
  std::vector<std::int64_t> fired = fired_features(o, found);
  if (!o.common.json()) fired.resize(std::min(fired.size(), static_cast<std::size_t>(o.top)));
  return fired;
}

// ---- the page -----------------------------------------------------------------------------------
// Of a text all features: those that were asked for, those that fired, the others.
std::vector<std::int64_t> features_of_page(const Options& o,
                                           const std::optional<sae::FeatureContexts>& found) {
  if (!found) return o.features;
  std::vector<std::int64_t> all;
  std::vector<bool> there(static_cast<std::size_t>(found->features()), false);
  const auto add = [&](const std::vector<std::int64_t>& some) {
    for (const std::int64_t j : some) {
      if (!there[static_cast<std::size_t>(j)]) all.push_back(j);
      there[static_cast<std::size_t>(j)] = true;
    }
  };
  std::vector<std::int64_t> rest(there.size());
  std::iota(rest.begin(), rest.end(), std::int64_t{0});
  add(o.features);
  add(fired_features(o, found));
  add(rest);
  return all;
}

// --steer TEXT, or else the beginning of the line in which the first feature is strongest.
nn::Tokens steered_prompt(const Options& o, const nn::Model& model,
                          const std::optional<sae::FeatureContexts>& found, std::int64_t feature) {
  if (!o.steered_prompt.empty()) return o.prompt.encode(model, o.steered_prompt);
  nn::Tokens prompt;
  if (!found || found->peaks.of(feature).empty()) return prompt;
  constexpr std::ptrdiff_t kBeginning = 8;
  const std::int64_t number = found->peaks.of(feature)[0].line;
  nn::for_each_line(model, o.corpus, o.prompt.special(), {&number, 1}, [&](const nn::CorpusLine& line) {
    prompt.assign(line.tokens.begin(), line.tokens.begin() + std::min(kBeginning, std::ssize(line.tokens)));
  });
  return prompt;
}

void write_page(const CommandLine& line, const Options& o, const nn::Model& model,
                const sae::Sae& sae, const std::optional<sae::FeatureContexts>& found) {
  const Interruptible interruptible;
  FeaturesPageSpec spec{.corpus = o.corpus, .text = reading_of(o, model), .features = features_of_page(o, found),
                        .window = o.window, .words = o.words, .writes = writes_to_stream(model, sae),
                        .texts_in_blocks = is_page_folder(o.common.html), .prompt = {}, .steered = {},
                        .cancel = &interruptible.requested()};
  Progress progress("reading again", "tokens", o.common.quiet);
  spec.text.cancel = spec.cancel;
  spec.text.progress = [&](std::int64_t done, std::int64_t total) {
    progress.update(static_cast<double>(done), static_cast<double>(total));
  };
  spec.prompt = steered_prompt(o, model, found, spec.features[0]);
  const auto steered = std::max<std::ptrdiff_t>(o.steered, std::ssize(o.features));
  for (const std::int64_t j : spec.features) {
    if (std::ssize(spec.steered) < steered) spec.steered.push_back(j);
  }
  const FeaturesPage page = features_page(model, sae, found ? &*found : nullptr, spec);
  Json data = {{"meta", o.common.meta(line)},
               {"sae", json_text(sae.name)},
               {"site", sae.config.hook_name},
               {"file", o.corpus.empty() ? Json() : Json(json_text(o.corpus))},
               {"tokens", found ? Json(found->tokens) : Json()}};
  data.update(page.data);
  if (is_page_folder(o.common.html)) write_page_folder(o.common.html, "features", data, page.chunks);
  else write_text(o.common.html, page_html("features", data, page.chunks));
  if (!o.common.quiet) log(fmt::format("page written to {}", o.common.html));
}

// What is shown of several features.
struct Shown {
  const CommandLine& line;
  const Options& o;
  const nn::Model& model;
  const sae::Sae& sae;
  std::optional<sae::FeatureContexts> found;  // none without a corpus
  std::vector<std::int64_t> features;
  std::vector<nn::Window> windows;        // around the peaks of one feature after the other
  std::vector<std::size_t> first_window;  // of each feature
  std::vector<Writes> writes;             // of each feature; or none at all

  const sae::FeatureContexts* contexts() const { return found ? &*found : nullptr; }
  bool detail() const { return !o.features.empty(); }
  std::span<const nn::Window> windows_of(std::size_t i) const {
    const std::size_t count = found ? found->peaks.of(features[i]).size() : 0;
    return std::span<const nn::Window>(windows).subspan(first_window[i], count);
  }
  const Writes* writes_of(std::size_t i) const { return writes.empty() ? nullptr : &writes[i]; }

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
    if (const Writes* w = writes_of(i)) {
      const auto most = std::min<std::ptrdiff_t>(3, std::ssize(w->raised));
      raised = token_list(model, {w->raised.begin(), w->raised.begin() + most});
    }
    table.row({fmt::format("{}", j), fmt::format("{:.2f}", c.peaks.of(j)[0].activation),
               percent(c.density(j)), context_text(model, windows_of(i)[0], style), raised});
  }
  return text + table.text(style);
}

void over_features(const CommandLine& line, const Options& o, const nn::Model& model,
                   const sae::Sae& sae) {
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
  if (!o.common.html.empty()) write_page(line, o, model, sae, shown.found);
  if (o.common.json()) return shown.write_json();
  const Style style = o.common.style();
  write_result(o.common.out,
               o.common.heading() + (shown.detail() ? shown.details(style) : shown.table(style)));
}

void check_page(const CommandLine& line, const Options& o) {
  for (const char* of_page : {"--steer", "--previews"}) {
    if (line.was_given(of_page) && (o.common.html.empty() || o.prompt.given()))
      line.fail(fmt::format("{} is about the page of features; give --html FILE with --corpus or --feature", of_page));
  }
  if (!is_page_folder(o.common.html)) return;
  if (o.prompt.given()) line.fail("the page of a prompt is one file; give --html FILE");
  require_page_folder(o.common.html);
}

}  // namespace

void verb_sae_features(const Arguments& arguments) {
  CommandLine line(
      arguments,
      "What an SAE's features respond to and write. With a prompt, the features that are active "
      "at\n"
      "its tokens. With --corpus, the contexts in which features are strongest, one for each line "
      "of\n"
      "the text, all features in one pass. With --feature, all that is known of these.\n\n"
      "raises, lowers: the tokens whose logits the feature's decoder row raises most when the\n"
      "unembedding reads it directly.\n\n"
      "json: with a prompt {meta, sae, site, tokens, active: [{position, feature, activation,\n"
      "raised: [{id, token, value}], lowered}]}; else {meta, sae, site, file, tokens, features:\n"
      "[{feature, density, mean, raised, lowered, contexts: [{line, pos, activation, tokens,\n"
      "str_tokens, peak}], intervals: [{from, to, share}], neighbours: [{feature, cosine}]}]};\n"
      "neighbours with --feature only\n",
      "vitrine sae features --sae blocks.4.hook_mlp_out --prompt 'The capital of Texas is'");
  Options o;
  constexpr int kMost = 1'000'000;
  line.option("--sae", o.sae, "DIR",
              "a SAELens folder, or the name of one that came with the model")
      ->required();
  o.prompt.add_to(line);
  line.number("--pos", o.position, "P", "the position, from 0 (default: all)", 0, kMost);
  line.heading("Features");
  line.numbers("--feature", o.features, "J,...", "all that is known of these",
               NumberRange<std::int64_t>{0, INT32_MAX});
  line.option("--corpus", o.corpus, "FILE", "a text, each line of which is read on its own");
  line.number("--top", o.top, "K", "how many the table lists (default: 10)", 1, kMost);
  line.number("--contexts", o.contexts, "K", "kept of each feature (default: 20)", 1, 10'000);
  line.number("--window", o.window, "N", "tokens shown on either side of the peak (default: 8)", 0,
              kMost);
  line.number("--words", o.words, "K", "tokens raised and lowered (default: 8)", 1, 1000);
  line.option("--sort", o.sort, "peak|density", "the order of the table (default: peak)")
      ->one_of({"peak", "density"});
  line.option("--steer", o.steered_prompt, "TEXT",
              "of a page: the prompt of its steering previews (default: the beginning of a line of\n"
              "the text)");
  line.number("--previews", o.steered, "K", "of a page: how many features have one (default: 64)", 0,
              100'000);
  o.edits.add_to(line, o.common, false);
  o.common.add_page_to(line,
                       "a page of the result, to be opened in a browser: one file, which needs nothing\n"
                       "else; or, of a text, FOLDER/, with a file for every 64 features beside\n"
                       "index.html, read when they are looked at: for large SAEs");
  o.common.add_to(line);
  if (!line.parse()) return;
  check_page(line, o);
  if (o.prompt.given() && !o.corpus.empty())
    line.fail("give a prompt or --corpus, not both: these are two different questions");
  if (!o.prompt.given() && o.corpus.empty() && o.features.empty())
    line.fail("say what to look at: --prompt TEXT, --corpus FILE, or --feature J");
  if (o.prompt.given()) o.prompt.require(line);
  if (o.position >= 0 && !o.prompt.given()) line.fail("--pos is about a prompt; give --prompt too");
  const nn::Model model = o.common.load();
  const sae::Sae sae = load_sae(o.sae, o.common.model);
  if (o.prompt.given() || !o.corpus.empty()) require_fits(sae, model);
  const nn::Tokenizer* tokenizer = tokenizer_of(model);
  const bool by_tokenizer =
      o.prompt.by_text() && tokenizer != nullptr && !tokenizer->first().empty();
  note_its_model(sae, o.prompt.prepends_bos() || by_tokenizer, o.common.gauge);
  for (const std::int64_t j : o.features) {
    if (j < 0 || j >= sae.config.d_sae)
      line.fail(
          fmt::format("there is no feature {}; this SAE has 0 to {}", j, sae.config.d_sae - 1));
  }
  if (o.prompt.given()) return on_prompt(line, o, model, sae);
  over_features(line, o, model, sae);
}

}  // namespace vitrine::app
