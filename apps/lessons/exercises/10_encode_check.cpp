// Checks exercise 10: features of a real SAE, beside those of sae::Encoder.
#include "apps/lessons/exercises/10_encode.h"
#include "apps/lessons/lesson.h"
#include "nn/families/sites.h"
#include "nn/model/find_model.h"
#include "nn/model/model.h"
#include "sae/folder.h"

int main() {
  using namespace vitrine;
  using namespace vitrine::lesson;
  const nn::Model model = nn::load_model();
  const sae::Sae dictionary = sae::load(nn::find_model("") / "sae/blocks.4.hook_mlp_out");
  const sae::Encoder library(dictionary);
  const auto weight = [&](const char* name) { return dictionary.weights.at(name); };
  const SaeWeights weights{weight("W_enc"), weight("b_enc"), weight("threshold"), weight("b_dec")};
  for (const char* text :
       {"The capital of Texas is", "When Mary and John went to the store, Mary gave a book to"}) {
    section(text);
    const Tensor wrote =
        model.run(text, site::mlp_out(4))[site::mlp_out(4)].select(0, 0);  // [pos, 256]
    const Tensor last = wrote.slice(0, wrote.dim(0) - 1, wrote.dim(0));
    const auto mine = encode(last.to_vector<double>(), weights);
    const auto real = library.encode(last).features.to_vector<double>();
    expect("features", static_cast<double>(mine.size()), near(static_cast<double>(real.size()), 0));
    double differ = 0;
    for (std::size_t j = 0; j < real.size(); ++j)
      differ = std::max(differ, std::abs(mine[j] - real[j]));
    expect("largest difference of a feature", differ, at_most(1e-3));
    const auto on = std::count_if(mine.begin(), mine.end(), [](double f) { return f != 0; });
    expect("features that are on", static_cast<double>(on), between(1, 40));
  }
  say("\nRight.");
}
