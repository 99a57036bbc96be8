// The check of exercise 4: the heads of every layer add up to what the model gives.
#include "apps/lessons/exercises/04_heads_of_a_layer.h"
#include "apps/lessons/lesson.h"
#include "interp/decomposition.h"
#include "nn/families/sites.h"
#include "nn/model/model.h"
#include "nn/model/weights.h"

namespace {
using namespace vitrine;
using namespace vitrine::lesson;
}  // namespace

int main() {
  const nn::Model m = nn::load_gpt2();
  const std::string prompt = "The capital of Texas is";
  const nn::Run run = m.run(prompt, sites("blocks.*.attn.hook_z,ln_final.hook_scale"));
  const Parameters w = nn::weights(m, "blocks.*.attn.W_O,unembed.W_U,ln_final.w");
  const auto column = [&](const char* token) {
    return w.at("unembed.W_U").select(1, m.token(token)).to_vector<double>();
  };
  const interp::Decomposition library = interp::decompose(
      m, m.tokens(prompt), {.answer = m.token(" Austin"), .wrong = m.token(" Sacramento")});

  const auto of_library = [&](int layer, int head) {
    for (const interp::Part& part : library.parts)
      if (part.name() == fmt::format("L{}H{}", layer, head)) return part.value;
    return std::nan("");
  };

  section("How far each head pushes");
  std::vector<Row> rows;
  double largest = 0, of_layer_1 = 0;
  for (int layer = 0; layer < 6; ++layer) {
    Row row = {fmt::format("layer {}", layer)};
    for (int head = 0; head < 4; ++head) {
      const Tensor w_o =
          w.at(fmt::format("blocks.{}.attn.W_O", layer)).select(0, head);  // [64, 256]
      std::vector<exercise::Vector> matrix;
      for (int e = 0; e < 64; ++e) matrix.push_back(w_o.select(0, e).to_vector<double>());
      const double push = exercise::push_of_head(
          run[site::z(layer)].select(0, 0).select(0, 4).select(0, head).to_vector<double>(), matrix,
          run["ln_final.hook_scale"].at<float>({0, 4, 0}), w.at("ln_final.w").to_vector<double>(),
          column(" Austin"), column(" Sacramento"));
      row.push_back(fmt::format("{:+.2f}", push));
      if (layer == 1) of_layer_1 += push;
      largest = std::max(largest, std::abs(push - of_library(layer, head)));
    }
    rows.push_back(row);
  }
  table({"", "head 0", "head 1", "head 2", "head 3"}, rows);
  expect("the heads of layer 1 together", of_layer_1, near(7.28, 0.2));
  expect("largest difference from the library's decomposition", largest, at_most(1e-3));
}
