// Lesson 6. A model from nothing: train until induction appears, and take it away again.
#include "apps/lessons/lesson.h"
#include "interp/head_scores.h"
#include "nn/families/sites.h"
#include "nn/training/initial_weights.h"
#include "nn/training/schedule.h"
#include "nn/training/training_step.h"

namespace {

using namespace vitrine;
using namespace vitrine::lesson;

// [snippet model]
// Two layers of two heads, and no MLPs to speak of: nothing but attention.
nn::Config small_model() {
  nn::Config c;
  c.layers = 2, c.heads = 2, c.d_model = 64, c.d_mlp = 1;
  c.vocabulary = 24, c.context = 32;
  return c;
}

Parameters random_weights(const nn::Config& c, ThreadPool& pool) {
  Parameters weights = nn::initial_weights(c, random::Key{1}, pool, 0.1);
  for (auto& [name, tensor] : weights)  // MLPs that are 0 stay 0: no gradient reaches them
    if (name.find("mlp") != std::string::npos) tensor = Tensor::zeros(tensor.shape(), DType::f32);
  return weights;
}
// [/snippet model]

// [snippet text]
constexpr int kUsed = 8;  // tokens that a text uses, of 24

// Eight tokens of the 24, drawn anew for each text.
nn::Tokens alphabet(random::Key key) {
  nn::Tokens tokens;
  for (int id = 0; id < 24; ++id) tokens.push_back(id);
  random::shuffle(key.fold("alphabet"), tokens);
  tokens.resize(kUsed);
  return tokens;
}

// A text: 32 tokens. Each token has one that follows it, drawn anew for each text, which comes next
// seven times of ten. Which one it is can only be found in the text itself.
nn::Tokens text(random::Key key) {
  const nn::Tokens tokens = alphabet(key);
  const auto draw = [&](const char* what, int i) {
    return static_cast<std::size_t>(
        random::below(key.fold(what), static_cast<std::uint64_t>(i), kUsed));
  };
  std::size_t at = draw("first", 0);
  nn::Tokens said;
  for (int i = 0; i < 32; ++i) {
    said.push_back(tokens[at]);
    const bool follows = random::uniform(key.fold("follows"), static_cast<std::uint64_t>(i)) < 0.7;
    at = follows ? draw("after", static_cast<int>(at)) : draw("anew", i);
  }
  return said;
}
// [/snippet text]

// [snippet exam]
// The exam: eight different tokens, said twice. In the second half every next token is known, for
// whoever looks up what came after this one the first time.
std::vector<nn::Tokens> exam() {
  std::vector<nn::Tokens> prompts;
  for (std::uint64_t i = 0; i < 32; ++i) {
    nn::Tokens tokens = alphabet(random::Key{1000}.fold(i));
    tokens.insert(tokens.end(), tokens.begin(), tokens.begin() + kUsed);
    prompts.push_back(tokens);
  }
  return prompts;
}

// How much each query of the second half looks at the token after its earlier self: query q, key
// q - 8 + 1. pattern [prompt, head, query, key].
double induction_score(const Tensor& pattern, int head) {
  double sum = 0;
  int count = 0;
  for (int prompt = 0; prompt < pattern.dim(0); ++prompt)
    for (int q = kUsed; q < 2 * kUsed; ++q, ++count)
      sum += pattern.at<float>({prompt, head, q, q - kUsed + 1});
  return sum / count;
}
// [/snippet exam]

struct Seen {
  double loss = 0, induction = 0,
         previous = 0;  // of the texts; the best head of layer 1, of layer 0
  int induction_head = 0, previous_head = 0;
};

Seen look(const nn::Model& m) {
  Seen seen;
  const nn::Run run = m.run(exam(), site::pattern(1));
  const Tensor previous = interp::head_scores(m, exam()).previous;  // [layer, head]
  for (int head = 0; head < 2; ++head) {
    const double score = induction_score(run[site::pattern(1)], head);
    if (score > seen.induction) seen.induction = score, seen.induction_head = head;
    const double before = previous.at<double>({0, head});
    if (before > seen.previous) seen.previous = before, seen.previous_head = head;
  }
  return seen;
}

// [snippet train]
// Trains for `steps` steps, and looks every hundred of them.
std::vector<Seen> train(nn::TrainingStep& training, const nn::Config& c, int steps,
                        ThreadPool& pool) {
  const nn::Schedule schedule{nn::Schedule::Shape::constant, 0.003, 50, steps};
  std::vector<Seen> seen;
  double loss = 0;
  for (int step = 0; step < steps; ++step) {
    std::vector<nn::Tokens> batch;
    for (std::uint64_t i = 0; i < 64; ++i)
      batch.push_back(text(random::Key{99}.fold(static_cast<std::uint64_t>(step)).fold(i)));
    loss += training.step({nn::training_batch(batch)}, pool, schedule.rate(step)).loss;
    if (step % 100 == 99) {
      seen.push_back(look(nn::Model(c, training.parameters(), {})));
      seen.back().loss = loss / 100;
      loss = 0;
    }
  }
  return seen;
}
// [/snippet train]

void take_away(const nn::Model& m, const Seen& last) {
  section("Take the first head away, and the second finds nothing");
  // [snippet ablate]
  const Interventions silence = {zero(site::z(0), {.head = {last.previous_head}})};
  const nn::Run without = m.run_edited(exam(), silence, fetch(site::pattern(1)));
  const double left = induction_score(without[site::pattern(1)], last.induction_head);
  // [/snippet ablate]
  bars({{"as trained", last.induction},
        {fmt::format("without head 0.{}", last.previous_head), left}});
  expect("induction score without it", left, at_most(0.3));
}

}  // namespace

int main() {
  ThreadPool pool(2);
  const nn::Config c = small_model();
  nn::TrainingStep training(c, random_weights(c, pool), {.adamw = {.beta2 = 0.99}});

  section("Before: random weights");
  const Seen before = look(nn::Model(c, training.parameters(), {}));
  say("  a text    {}", fmt::join(text(random::Key{99}), " "));
  say("  an exam   {}\n", fmt::join(exam()[0], " "));
  expect("induction score of the best head", before.induction, at_most(0.15));

  section("A thousand steps: the loss");
  const std::vector<Seen> seen = train(training, c, 1000, pool);
  std::vector<std::pair<std::string, double>> losses;
  std::vector<Row> rows;
  for (std::size_t i = 0; i < seen.size(); ++i) {
    losses.emplace_back(fmt::format("step {}", 100 * (i + 1)), seen[i].loss);
    rows.push_back({losses.back().first, fmt::format("{:.2f}", seen[i].previous),
                    fmt::format("{:.2f}", seen[i].induction)});
  }
  bars(losses, 1.8);
  const double plateau = losses[2].second - losses[4].second;  // from step 300 to 500
  const double fall = losses[4].second - losses[9].second;     // from step 500 to 1000
  expect("the loss falls from step 300 to 500 by", plateau, between(-0.02, 0.1));
  expect("and from step 500 to 1000 by", fall, at_least(0.2));

  section("What happened inside");
  table({"", "layer 0 looks at the token before", "layer 1: induction"}, rows);
  const Seen& last = seen.back();
  expect("induction score of the best head", last.induction, at_least(0.4));
  expect("of layer 0, previous-token score", last.previous, at_least(0.5));

  section("How the trained heads look at an exam");
  const nn::Model m(c, training.parameters(), {});
  const nn::Tokens prompt = exam()[0];
  const nn::Run run = m.run(prompt, sites("blocks.*.attn.hook_pattern"));
  Row names;
  for (const int id : prompt) names.push_back(fmt::to_string(id));
  say("  head 0.{}", last.previous_head);
  picture(names, names, run[site::pattern(0)].select(0, 0).select(0, last.previous_head));
  say("\n  head 1.{}", last.induction_head);
  picture(names, names, run[site::pattern(1)].select(0, 0).select(0, last.induction_head));

  take_away(m, last);
}
