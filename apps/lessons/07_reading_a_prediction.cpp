// Lesson 7. Reading a prediction: what the model would say after each layer, and who wrote the logit.
#include <numeric>

#include "apps/lessons/lesson.h"
#include "interp/decomposition.h"
#include "interp/lens.h"
#include "nn/families/sites.h"
#include "nn/model/model.h"
#include "nn/model/weights.h"

namespace {

using namespace vitrine;
using namespace vitrine::lesson;

using Vector = std::vector<double>;

double dot(const Vector& a, const Vector& b) {
  return std::inner_product(a.begin(), a.end(), b.begin(), 0.0);
}
double mean_of(const Vector& x) {
  return std::accumulate(x.begin(), x.end(), 0.0) / static_cast<double>(x.size());
}

// The model, a prompt, the token that should follow, and a run in which everything of interest was kept.
struct Question {
  nn::Model model = nn::load_model();
  nn::Tokens prompt = model.tokens("The capital of Texas is");
  int answer = model.token(" Austin");
  int last = static_cast<int>(prompt.size()) - 1;
  nn::Run run = model.run(prompt, value("logits"),
                          sites("hook_embed,hook_pos_embed,blocks.*.attn.hook_result,"
                                "blocks.*.hook_mlp_out,blocks.*.hook_resid_post,"
                                "ln_final.hook_scale"));
  Parameters weights = nn::weights(model, "ln_final.*,unembed.W_U,blocks.*.attn.b_O");

  Vector gain = weights.at("ln_final.w").to_vector<double>();
  Vector bias = weights.at("ln_final.b").to_vector<double>();
  Vector column = weights.at("unembed.W_U").select(1, answer).to_vector<double>();  // of W_U

  // What a site holds at the last token: 256 numbers.
  Vector at_last(const Site& site) const {
    return run[site].select(0, 0).select(0, last).to_vector<double>();
  }
};

// [snippet say]
// The answer's logit if the model stopped here: the final LayerNorm, then the answer's column of W_U.
double logit_of(const Vector& state, const Question& q) {
  const double centre = mean_of(state);
  double variance = 0;
  for (const double x : state) variance += (x - centre) * (x - centre);
  const double scale = std::sqrt(variance / static_cast<double>(state.size()) + 1e-5);
  double logit = 0;
  for (std::size_t i = 0; i < state.size(); ++i)
    logit += ((state[i] - centre) / scale * q.gain[i] + q.bias[i]) * q.column[i];
  return logit;
}
// [/snippet say]

void lens(const Question& q) {
  section("What would it say after each layer?");
  // [snippet lens]
  Vector embedded = q.at_last(site::embed());
  const Vector position = q.at_last(site::pos_embed());
  for (std::size_t i = 0; i < embedded.size(); ++i) embedded[i] += position[i];

  Vector logits = {logit_of(embedded, q)};
  for (int layer = 0; layer < q.model.config().layers; ++layer)
    logits.push_back(logit_of(q.at_last(site::resid_post(layer)), q));
  // [/snippet lens]
  const auto words = interp::lens_tokens(q.model, q.prompt, {q.last}, 1)[0];  // [1 + layers][1]
  std::vector<Row> rows;
  for (std::size_t i = 0; i < logits.size(); ++i) {
    rows.push_back({i == 0 ? "the embedding" : fmt::format("layer {}", i - 1),
                    fmt::format("{:+.3f}", logits[i]),
                    "\"" + q.model.tokenizer().shown(words[i][0].id) + "\"",
                    fmt::format("{:.2f}%", 100 * words[i][0].probability)});
  }
  table({"after", "logit of \" Austin\"", "it would say", "probability"}, rows);

  const Tensor library = interp::logit_lens(q.model, q.prompt, q.answer).ln;  // [1 + layers, pos]
  double worst = 0;
  for (std::size_t i = 0; i < logits.size(); ++i)
    worst = std::max(worst, std::abs(logits[i] - library.at<double>({int(i), q.last})));
  expect("largest difference to interp::logit_lens", worst, at_most(1e-4));
  expect("after the last layer, the model's own logit", logits.back(), near(16.627, 0.005));
  expect("what layer 1 adds", logits[2] - logits[1], between(8, 9.5));
  std::size_t first = words.size();  // of the last rows in which the answer stands first
  while (first > 0 && words[first - 1][0].id == q.answer) --first;
  expect("from this layer on it would say \" Austin\"", static_cast<double>(first) - 1, near(4, 0));
}

// [snippet direction]
// The direction u for which logit = part . u, summed over all parts, + what the final bias gives. The scale
// of the final LayerNorm is held at the value that it had in this run.
Vector direction_of(const Question& q) {
  const double scale = q.at_last(site::final_scale())[0];
  Vector u(q.gain.size());
  for (std::size_t i = 0; i < u.size(); ++i) u[i] = q.gain[i] * q.column[i];
  const double centre = mean_of(u);  // LayerNorm takes the mean away: of the part, or of u
  for (double& x : u) x = (x - centre) / scale;
  return u;
}
// [/snippet direction]

void decomposition(const Question& q) {
  section("Who wrote it? The logit as a sum");
  const Vector u = direction_of(q);
  // [snippet parts]
  std::vector<std::pair<std::string, double>> parts = {
      {"embedding", dot(q.at_last(site::embed()), u)},
      {"position", dot(q.at_last(site::pos_embed()), u)}};
  for (int layer = 0; layer < q.model.config().layers; ++layer) {
    const Tensor heads = q.run[site::result(layer)].select(0, 0).select(0, q.last);  // [head, d]
    for (int head = 0; head < q.model.config().heads; ++head) {
      const Vector wrote = heads.select(0, head).to_vector<double>();
      parts.emplace_back(fmt::format("head {}.{}", layer, head), dot(wrote, u));
    }
    const Tensor b_o = q.weights.at(fmt::format("blocks.{}.attn.b_O", layer));
    parts.emplace_back(fmt::format("bias {}", layer), dot(b_o.to_vector<double>(), u));
    parts.emplace_back(fmt::format("MLP {}", layer), dot(q.at_last(site::mlp_out(layer)), u));
  }
  parts.emplace_back("final bias", dot(q.bias, q.column));
  // [/snippet parts]

  double total = 0;
  for (const auto& [name, share] : parts) total += share;
  const double logit = q.run.logits().at<float>({0, q.last, q.answer});
  std::vector<std::pair<std::string, double>> largest = parts;
  std::sort(largest.begin(), largest.end(),
            [](const auto& a, const auto& b) { return std::abs(a.second) > std::abs(b.second); });
  largest.resize(10);
  bars(largest);
  expect("parts", static_cast<double>(parts.size()), near(39, 0));
  expect("their sum", total, near(16.627, 0.005));
  expect("the model's logit less their sum", std::abs(logit - total), at_most(1e-5));
  const interp::Decomposition d = interp::decompose(q.model, q.prompt, {.answer = q.answer});
  double worst = 0;
  for (std::size_t i = 0; i < parts.size(); ++i)
    worst = std::max(worst, std::abs(parts[i].second - d.parts[i].value));
  expect("largest difference to interp::decompose", worst, at_most(1e-5));
}

void blind_spot(const Question& q) {
  section("What a share does not say");
  // [snippet zero]
  const auto texas = q.last - 1;  // the position of " Texas"
  const Interventions without = {zero(site::attn_out(0), {.pos = {texas}})};
  const nn::Run cut = q.model.run_edited({q.prompt}, without, fetch(value("logits")));
  // [/snippet zero]
  const double before = q.run.logits().at<float>({0, q.last, q.answer}),
               after = cut.logits().at<float>({0, q.last, q.answer});
  say("The attention of layer 0 writes at \" Texas\", not at the last token: its share is 0.");
  say("Without what it writes there, the logit falls from {:.2f} to {:.2f}.\n", before, after);
  expect("what it is worth", before - after, between(12, 15));
}

}  // namespace

int main() {
  const Question q;
  lens(q);
  decomposition(q);
  blind_spot(q);
}
