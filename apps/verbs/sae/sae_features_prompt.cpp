// vitrine sae features --prompt: the features that are active on a prompt.
#include <fmt/format.h>

#include <algorithm>

#include "apps/reports/neurons_report.h"
#include "apps/verbs/sae/sae_features.h"

namespace vitrine::app {

bool writes_to_stream(const nn::Model& model, const sae::Sae& sae) {
  if (sae.config.d_out != model.config().d_model || sae.config.join_heads || sae.config.head)
    return false;
  const Graph graph = model.build(nn::Model::Uniform{1, 1});
  const SiteEntry* site = graph.find_site(sae.config.hook_name);
  return site == nullptr ||
         std::find(site->axes.begin(), site->axes.end(), Axis::head) == site->axes.end();
}
std::vector<FeatureWrites> writes_of(const nn::Model& model, const sae::Sae& sae,
                                     const std::vector<std::int64_t>& features, int count) {
  std::vector<FeatureWrites> out;
  if (features.empty() || !writes_to_stream(model, sae)) return out;
  const Tensor w = sae.weights.at("W_dec").contiguous();
  Tensor rows = Tensor::empty({std::ssize(features), w.dim(1)}, DType::f32);
  for (std::size_t i = 0; i < features.size(); ++i)
    std::copy_n(w.data<float>() + features[i] * w.dim(1), w.dim(1),
                rows.data<float>() + static_cast<std::int64_t>(i) * w.dim(1));
  constexpr std::int64_t kAtOnce = 256;  // rows of logits
  for (std::int64_t begin = 0; begin < rows.dim(0); begin += kAtOnce) {
    const Tensor logits =
        interp::to_logits(model, rows.slice(0, begin, std::min(rows.dim(0), begin + kAtOnce)));
    for (std::int64_t i = 0; i < logits.dim(0); ++i)
      out.push_back({interp::highest(logits.select(0, i), count),
                     interp::lowest(logits.select(0, i), count)});
  }
  return out;
}

namespace {

struct Active {
  std::int64_t position, feature;
  float activation;
};

// Of one position, in the table.
std::size_t most_shown(const SaeFeaturesOptions& o) {
  return static_cast<std::size_t>(o.position >= 0 ? o.top : std::min(o.top, 4));
}

Json texts_of(const nn::Model& model, const nn::Tokens& tokens) {
  const nn::Tokenizer* tokenizer = tokenizer_of(model);
  return tokenizer == nullptr ? Json() : Json(tokenizer->shown_tokens(tokens));
}

// What a page of the prompt needs: each feature's words once.
Json page_data(const nn::Model& model, const std::vector<Active>& active,
               const std::vector<FeatureWrites>& writes) {
  Json list = Json::list(), of_features = Json::object();
  for (std::size_t i = 0; i < active.size(); ++i) {
    const Active& a = active[i];
    list.push_back(
        {{"position", a.position}, {"feature", a.feature}, {"activation", a.activation}});
    if (writes.empty()) continue;
    of_features[fmt::format("{}", a.feature)] = {
        {"raised", tokens_json(model, writes[i].raised)},
        {"lowered", tokens_json(model, writes[i].lowered)}};
  }
  return {{"active", list}, {"writes", of_features}};
}

Json as_json(const nn::Model& model, const sae::Sae& sae, const nn::Tokens& prompt,
             const std::vector<Active>& active, const std::vector<FeatureWrites>& writes) {
  Json list = Json::list();
  for (std::size_t i = 0; i < active.size(); ++i) {
    list.push_back({{"position", active[i].position},
                    {"feature", active[i].feature},
                    {"activation", active[i].activation},
                    {"raised", writes.empty() ? Json() : tokens_json(model, writes[i].raised)},
                    {"lowered", writes.empty() ? Json() : tokens_json(model, writes[i].lowered)}});
  }
  return {{"sae", json_text(sae.name)},
          {"site", sae.config.hook_name},
          {"tokens", prompt},
          {"str_tokens", texts_of(model, prompt)},
          {"active", list}};
}

// The strongest at each position, `most` of them.
std::string as_text(const nn::Model& model, const sae::Sae& sae, const nn::Tokens& prompt,
                    const std::vector<Active>& active, const std::vector<FeatureWrites>& writes,
                    std::size_t most, const Style& style) {
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
    if (of_position > most) continue;
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
  return fmt::format("features of {} ({})\n\n", sae.config.hook_name, visible(sae.name)) +
         table.text(style);
}

}  // namespace

void features_on_prompt(const CommandLine& line, const SaeFeaturesOptions& o,
                        const nn::Model& model, const sae::Sae& sae) {
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
  write_presentation(o.common, o.common.meta(line),
                     {.text =
                          [&](const Style& style, int) {
                            return as_text(model, sae, prompt, active, writes, most_shown(o),
                                           style);
                          },
                      .json = [&] { return as_json(model, sae, prompt, active, writes); },
                      .page = "active_features",
                      .page_data = [&] { return page_data(model, active, writes); }});
}

}  // namespace vitrine::app
