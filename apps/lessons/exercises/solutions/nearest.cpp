// vitrine nearest: the tokens whose embeddings are most like a token's. Our solution of the exercise "add a verb".
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "apps/options/options.h"
#include "apps/verbs/verbs.h"
#include "nn/model/weights.h"

namespace vitrine::app {

void verb_nearest(const Arguments& arguments);  // in verbs.h, once it is a verb of the program

namespace {

struct Neighbour {
  int id = 0;
  double cosine = 0;
};

// The `count` tokens with the largest cosine to `token`, itself left out; of equal ones the lower id first.
std::vector<Neighbour> nearest_tokens(const nn::Model& model, int token, int count) {
  const Tensor table = nn::weights(model, "embed.W_E").at("embed.W_E").to(DType::f32).contiguous();
  const std::int64_t d = table.dim(1);
  const float* all = table.data<float>();
  const auto dot = [&](std::int64_t a, std::int64_t b) {
    double sum = 0;
    for (std::int64_t i = 0; i < d; ++i) sum += double{all[a * d + i]} * double{all[b * d + i]};
    return sum;
  };
  std::vector<Neighbour> found;
  for (int id = 0; id < table.dim(0); ++id) {
    if (id != token)
      found.push_back({id, dot(token, id) / std::sqrt(dot(token, token) * dot(id, id))});
  }
  std::stable_sort(found.begin(), found.end(),
                   [](const Neighbour& a, const Neighbour& b) { return a.cosine > b.cosine; });
  found.resize(std::min(found.size(), static_cast<std::size_t>(count)));
  return found;
}

}  // namespace

void verb_nearest(const Arguments& arguments) {
  CommandLine line(arguments,
                   "The tokens whose embeddings are most like a token's, by their cosine.\n\n"
                   "json: {meta, token: {id, token}, nearest: [{id, token, cosine}], file}\n",
                   "vitrine nearest --token ' Texas' --top 5");
  CommonOptions common;
  std::string word;
  int count = 10;
  line.option("--token", word, "TEXT", "a single token; mind its space: ' Texas'");
  line.number("--top", count, "K", "how many tokens (default: 10)", 1, 1'000'000);
  common.add_to(line);
  if (!line.parse()) return;
  if (word.empty()) line.fail("say which token: --token ' Texas'");

  const nn::Model model = common.load();
  const int token = model.token(word);
  const std::vector<Neighbour> found = nearest_tokens(model, token, count);
  const auto shown = [&](int id) { return model.tokenizer().shown(id); };
  const auto text = [&](const Style& style, int) {
    using Align = Table::Align;
    Table table({{"token", Align::left},
                 {"id", Align::right},
                 {"cosine", Align::right},
                 {"", Align::left}});
    for (const Neighbour& n : found)
      table.row({token_label(&model.tokenizer(), n.id), fmt::format("{}", n.id),
                 fmt::format("{:.3f}", n.cosine), style.bar(bar(std::max(0.0, n.cosine), 24))});
    return table.text(style);
  };
  const auto json = [&] {
    Json list = Json::list();
    for (const Neighbour& n : found)
      list.push_back({{"id", n.id}, {"token", json_text(shown(n.id))}, {"cosine", n.cosine}});
    return Json{{"token", {{"id", token}, {"token", json_text(shown(token))}}}, {"nearest", list}};
  };
  write_presentation(common, common.meta(line), {.text = text, .json = json});
}

}  // namespace vitrine::app
