// Lesson 10. Superposition: more meanings than dimensions, and the sparse autoencoder that takes them apart.
#include "apps/lessons/lesson.h"
#include "nn/families/sites.h"
#include "nn/model/find_model.h"
#include "nn/model/model.h"
#include "sae/folder.h"
#include "sae/training_step.h"
#include "tensor/random.h"

namespace {

using namespace vitrine;
using namespace vitrine::lesson;

constexpr int kWidth = 16, kFeatures = 40, kBatch = 512;
constexpr double kOften = 0.05;  // each feature is on in one sample of twenty

float* row_of(const Tensor& matrix, int row) { return matrix.data<float>() + row * kWidth; }

double cosine(const float* a, const float* b) {
  double ab = 0, aa = 0, bb = 0;
  for (int i = 0; i < kWidth; ++i) ab += a[i] * b[i], aa += a[i] * a[i], bb += b[i] * b[i];
  return ab / std::sqrt(aa * bb + 1e-12);
}

// [snippet truth]
// The truth: a direction of length 1 in 16 dimensions for each of 40 features.
Tensor directions(ThreadPool& pool, random::Key key) {
  const Tensor d = Tensor::empty({kFeatures, kWidth}, DType::f32);
  random::fill_normal(pool, key, d);
  for (int j = 0; j < kFeatures; ++j) {
    float* row = row_of(d, j);
    double squares = 0;
    for (int i = 0; i < kWidth; ++i) squares += row[i] * row[i];
    for (int i = 0; i < kWidth; ++i) row[i] /= static_cast<float>(std::sqrt(squares));
  }
  return d;
}

// Samples: few features are on, each with a size from 0.5 to 1.5, and what is seen is their sum.
Tensor samples(const Tensor& truth, random::Key key) {
  const Tensor x = Tensor::zeros({kBatch, kWidth}, DType::f32);
  for (int n = 0; n < kBatch; ++n) {
    for (int j = 0; j < kFeatures; ++j) {
      const auto draw = static_cast<std::uint64_t>(2 * (n * kFeatures + j));
      if (random::uniform(key, draw) >= kOften) continue;
      const double size = 0.5 + random::uniform(key, draw + 1);
      for (int i = 0; i < kWidth; ++i)
        row_of(x, n)[i] += static_cast<float>(size) * row_of(truth, j)[i];
    }
  }
  return x;
}
// [/snippet truth]

// [snippet match]
// One to one: the best pair of a true and a found direction is taken, then the best of those that are left. The cosine
// of each true feature with its partner.
std::vector<double> matched(const Tensor& truth, const Tensor& found) {
  struct Match {
    double cosine;
    int real, learnt;
  };
  std::vector<Match> all;
  for (int r = 0; r < kFeatures; ++r)
    for (int l = 0; l < found.dim(0); ++l)
      all.push_back({cosine(row_of(truth, r), row_of(found, l)), r, l});
  std::sort(all.begin(), all.end(),
            [](const Match& a, const Match& b) { return a.cosine > b.cosine; });
  std::vector<double> best(kFeatures, -2);  // no cosine yet
  std::vector<bool> taken(static_cast<std::size_t>(found.dim(0)), false);
  for (const Match& m : all) {
    if (best[m.real] > -2 || taken[m.learnt]) continue;
    best[m.real] = m.cosine;
    taken[m.learnt] = true;
  }
  return best;
}
// [/snippet match]

struct Learnt {
  double explained, active, cosine;  // variance explained, features on in a sample, mean cosine
  int found;                         // of the true features
};

Learnt learn(const Tensor& truth, sae::Kind kind, double penalty, ThreadPool& pool) {
  // [snippet train]
  sae::SaeTrainingRules rules;
  rules.kind = kind;         // topk: the k largest features of a sample stay, the others are 0
  rules.k = 2;               // as many as are on in a sample: 40 x 0.05
  rules.sparsity = penalty;  // standard: what a feature costs, by its size
  rules.d_in = kWidth;
  rules.d_sae = 64;  // it is not told that there are 40
  rules.initial_norm = 1;
  rules.batch = kBatch;
  const int steps = 1500;
  rules.schedule = {
      .shape = nn::Schedule::Shape::linear, .peak = 5e-3, .warmup = 0, .steps = steps};

  sae::SaeTrainingStep training(rules, sae::initial_weights(rules, random::Key{2}));
  sae::StepOutcome last;
  for (int step = 0; step < steps; ++step)
    last = training.step({samples(truth, random::Key{3}.fold(static_cast<std::uint64_t>(step)))},
                         pool);
  const Tensor found = training.finished().weights.at("W_dec");  // [64, 16]: a row for each feature
  // [/snippet train]
  Learnt learnt{last.explained_variance, last.l0, 0, 0};
  for (const double c : matched(truth, found)) {
    learnt.cosine += c / kFeatures;
    learnt.found += c > 0.9 ? 1 : 0;
  }
  return learnt;
}

void toy() {
  ThreadPool pool;
  const Tensor truth = directions(pool, random::Key{7}.fold("directions"));
  section("40 features in 16 dimensions");
  double mean = 0;
  for (int a = 0; a < kFeatures; ++a)
    for (int b = 0; b < a; ++b) mean += std::abs(cosine(row_of(truth, a), row_of(truth, b)));
  mean /= kFeatures * (kFeatures - 1) / 2;
  expect("mean |cosine| of two features", mean, between(0.15, 0.25));
  section("Can they be found again? Two autoencoders");
  const Learnt free = learn(truth, sae::Kind::standard, 0.01, pool),
               sparse = learn(truth, sae::Kind::topk, 0, pool);
  const Tensor others = directions(pool, random::Key{8});
  double chance = 0;
  for (const double c : matched(truth, others)) chance += c / kFeatures;
  const auto row = [](const char* name, const Learnt& l) {
    return Row{name, fmt::format("{:.1f}%", 100 * l.explained), fmt::format("{:.1f}", l.active),
               fmt::format("{:.2f}", l.cosine), fmt::format("{} of {}", l.found, kFeatures)};
  };
  table({"", "explained", "on in a sample", "mean cosine", "found"},
        {row("hardly sparse", free),
         row("two features at a time", sparse),
         {"random directions", "", "", fmt::format("{:.2f}", chance), ""}});
  expect("hardly sparse: explained", free.explained, at_least(0.99));
  expect("hardly sparse: found", free.found, at_most(4));
  expect("two at a time: found", sparse.found, between(37, 40));
  expect("two at a time: mean cosine", sparse.cosine, at_least(0.95));
}

void real() {
  section("A real one: what MLP 4 of the default model writes");
  const nn::Model model = nn::load_model();
  // [snippet splice]
  const sae::Sae dictionary = sae::load(nn::find_model("") / "sae/blocks.4.hook_mlp_out");
  nn::Model spliced = model;  // the same model, in whose graphs the SAE is a part
  const Site site = site::mlp_out(4);
  spliced.transform(
      [&](const Graph& graph) {
        return splice(graph, site, sae::codec(dictionary, "sae"), ErrorTerm::keep).graph;
      },
      sae::with_parameters({}, dictionary, "sae"));
  const Site features{"blocks.4.hook_mlp_out.hook_sae_acts_post"};
  // [/snippet splice]
  const char* const prompts[] = {
      "The capital of Texas is",  "The capital of Japan is",
      "Ohio's capital city is",   "The name of the capital of Italy is",
      "She said that he is",      "The old man in the garden is",
      "Austin is the capital of", "When Mary and John went to the store, John gave a book to"};
  std::vector<Row> rows;
  double least_named = 1e9, most_other = 0, differ = 0;
  for (std::size_t i = 0; i < std::size(prompts); ++i) {
    const nn::Run run = spliced.run(prompts[i], features, value("logits"));
    const auto last = run[features]
                          .select(0, 0)
                          .select(0, run[features].dim(1) - 1)
                          .to_vector<double>();  // [2048]
    differ = std::max(differ, max_abs_difference(run.logits(), model.run(prompts[i]).logits()));
    const auto on = std::count_if(last.begin(), last.end(), [](double f) { return f > 0; });
    rows.push_back(
        {prompts[i], fmt::format("{} of {}", on, last.size()), fmt::format("{:.2f}", last[730])});
    if (i < 4) least_named = std::min(least_named, last[730]);
    else most_other = std::max(most_other, last[730]);
  }
  table({"prompt", "features on at its end", "feature 730"}, rows);
  expect("spliced, the model's logits change by at most", differ, at_most(1e-4));
  expect("feature 730 where a capital comes next: least", least_named, at_least(3));
  expect("where none does: most", most_other, at_most(0));
  // [snippet ablate]
  const Metric over = nn::logit_diff(model.token(" Austin"), model.token(" Texas"));
  const auto measured = [&](const Interventions& edits) {
    const std::vector<nn::Tokens> prompt = {model.tokens(prompts[0])};
    return spliced.run_edited(prompt, edits, fetch(value(over)), &over)
        .results.scalar("logit_diff");
  };
  const double change = measured({zero(features, {.feature = {730}})}) - measured({});
  // [/snippet ablate]
  expect("without it, logit of \" Austin\" less that of \" Texas\" changes by", change,
         between(-2.2, -1.5));
}

}  // namespace

int main() {
  toy();
  real();
}
