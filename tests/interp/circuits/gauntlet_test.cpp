// The gauntlet: every way of finding edges, on models whose circuits are known. Prints for each
// model and method the AUROC over edges with its 95% interval, and the processor time, and fails where an
// AUROC is lower than it was when this was written.
#include <cmath>
#include <cstdio>
#include <ctime>
#include <numeric>
#include <random>

#include "interp/circuits/edge_auroc.h"
#include "interp/circuits/graph_edges.h"
#include "interp/induction_heads.h"
#include "nn/families/sites.h"
#include "tests/interp/circuits/pairs_graph.h"
#include "tests/interp/circuits/tracr.h"

namespace vitrine::interp {
namespace {

constexpr std::int64_t kPartners[] = {1, 5, 17, 31};

// ---- methods ----------------------------------------------------------------------------------------
// One ablation of one model: the runs whose edges are scored, and what edges carry.
struct Ablation {
  std::string way;  // resample, mean, zero
  const GraphEdges* runs;
  Tensor other;
  Feeds other_feeds;       // of resample
  Site path;               // where EAP-IG's runs differ
  Tensor start;            // of the path
  CircuitMetric distance;  // of circuits' outputs from the model's, for ACDC
};

struct Method {
  std::string name;
  std::function<Tensor(const Ablation&)> scores;  // [senders, receivers]
};

// An edge's score is the largest threshold at which ACDC keeps it, of eleven up to the distance of the
// empty circuit.
Tensor acdc_thresholds(const Ablation& a) {
  const EdgeGrid& grid = a.runs->grid();
  Tensor scores = Tensor::zeros({std::ssize(grid.senders), std::ssize(grid.receivers)}, DType::f64);
  const EdgeMask none(grid);
  const double most = a.distance(std::span(&none, 1))[0];
  for (int step = 0; step <= 10; ++step) {
    const double threshold = most * std::pow(10, -5 + 0.5 * step);
    const PrunedByRuns found = acdc(grid, a.distance, threshold, {.ahead = 1});
    for (const StreamEdge& e : pruned(grid, found.circuit).edges())
      scores.data<double>()[e.sender * grid.receivers.size() + e.receiver] = threshold;
  }
  return scores;
}

std::vector<Method> methods(const std::string& way) {
  std::vector<Method> all = {
      {"exact", [](const Ablation& a) { return a.runs->exact(a.other).mean_absolute(); }},
      {"EAP", [](const Ablation& a) { return a.runs->eap(a.other).mean_absolute(); }},
      {"EAP-IG, 5 left",
       [](const Ablation& a) {
         return a.runs->eap_ig(a.other, a.path, a.start, PathRule::left, 5).mean_absolute();
       }},
      {"EAP-IG, 16 midpoints", [](const Ablation& a) {
         return a.runs->eap_ig(a.other, a.path, a.start, PathRule::midpoint, 16).mean_absolute();
       }}};
  if (way == "resample") {
    all.push_back({"clean-corrupted", [](const Ablation& a) {
                     return a.runs->clean_corrupted(a.other, a.other_feeds).mean_absolute();
                   }});
  }
  all.push_back({"ACDC, 11 thresholds", acdc_thresholds});
  return all;
}

struct Result {
  std::string model, way, method;
  EdgeAuroc own;      // against the edges that matter under this ablation
  EdgeAuroc program;  // against all edges of the algorithm
  double milliseconds;
};

Result measure_method(const std::string& model, const Ablation& a, const Method& method,
                      const EdgeMask& own, const EdgeMask& program) {
  const std::clock_t begin = std::clock();  // of the processor: others may be at work
  const Tensor scores = method.scores(a);
  const double took = 1000.0 * static_cast<double>(std::clock() - begin) / CLOCKS_PER_SEC;
  const EdgeGrid& grid = a.runs->grid();
  return {
      model, a.way, method.name, edge_auroc(grid, scores, own), edge_auroc(grid, scores, program),
      took};
}

void print(const Result& r) {
  const auto one = [](const EdgeAuroc& a) {
    return fmt::format("{:.2f} [{:.2f}, {:.2f}]", a.auroc, a.low, a.high);
  };
  fmt::print("{:<13} {:<9} {:<21} {:>20} {:>20} {:>8.1f} ms\n", r.model, r.way, r.method,
             one(r.own), one(r.program), r.milliseconds);
  std::fflush(stdout);
}

// Every method that there is for this ablation, held to what it reached before: `floors`, in the
// order of methods().
void run_gauntlet(const std::string& model, const Ablation& a, const EdgeMask& own,
                  const EdgeMask& program, const std::vector<double>& floors) {
  const std::vector<Method> all = methods(a.way);
  ASSERT_EQ(floors.size(), all.size());
  for (std::size_t i = 0; i < all.size(); ++i) {
    const Result r = measure_method(model, a, all[i], own, program);
    print(r);
    EXPECT_GE(r.own.auroc, floors[i]) << model << ", " << a.way << ": " << r.method;
  }
}

// ---- compiled programs ------------------------------------------------------------------------------
// Mean |output - model's output| of circuits.
CircuitMetric distance_of(const GraphEdges& answers, const Tensor& other) {
  return [&answers, other](std::span<const EdgeMask> circuits) {
    const auto full = answers.output().to_vector<double>();
    std::vector<double> distances;
    for (const EdgeMask& c : circuits) {
      const auto out = answers.kept(c, other).to_vector<double>();
      double sum = 0;
      for (std::size_t i = 0; i < out.size(); ++i) sum += std::abs(out[i] - full[i]);
      distances.push_back(sum / static_cast<double>(out.size()));
    }
    return distances;
  };
}

// A little below what each method reached: exact, EAP, EAP-IG at 5 left points and at 16 midpoints,
// clean-corrupted (resampling alone), ACDC.
const std::map<std::string, std::map<std::string, std::vector<double>>> kFloors = {
    {"frac_prevs",
     {{"resample", {.98, .98, .98, .98, .98, .98}},
      {"mean", {.98, .98, .98, .98, .98}},
      {"zero", {.98, .75, .98, .98, .98}}}},
    {"reverse",
     {{"resample", {.98, .98, .98, .98, .98, .98}},
      {"mean", {.98, .98, .98, .98, .98}},
      {"zero", {.98, .9, .9, .9, .98}}}},
    {"hist",
     {{"resample", {.98, .6, .6, .8, .6, .98}},
      {"mean", {.98, .6, .6, .6, .98}},
      {"zero", {.98, .6, .98, .98, .98}}}},
    {"sort",
     {{"resample", {.98, .68, .98, .98, .68, .98}},
      {"mean", {.98, .68, .98, .98, .98}},
      {"zero", {.98, .68, .68, .95, .98}}}},
    {"pair_balance",
     {{"resample", {.98, .98, .98, .98, .98, .98}},
      {"mean", {.98, .98, .98, .98, .98}},
      {"zero", {.98, .75, .98, .98, .98}}}}};

class TracrGauntlet : public testing::TestWithParam<std::string> {
 protected:
  TracrGauntlet() : tracr(GetParam()) {}

  // For resampling each example with each of its partners, for the others each example once.
  void run(const std::string& way) {
    const Tensor tokens = tracr.golden.at("tokens");
    const std::size_t copies = way == "resample" ? std::size(kPartners) : 1;
    const Tensor all = test::stacked(std::vector<Tensor>(copies, tokens)),
                 output = test::stacked(std::vector<Tensor>(copies, tracr.golden.at("output")));
    const Tensor weights = tracr.weights(output);
    const Feeds feeds = tracr.feeds(all, weights);
    const Graph graph = tracr.graph(all.dim(0), all.dim(1));
    const GraphEdges score(graph, tracr.edges(), tracr.parameters, feeds, "score", {.pool = &pool}),
        answers(graph, tracr.edges(), tracr.parameters, feeds, "answers", {.pool = &pool});

    Ablation a{way, &score, {}, {}, Site{"embed"}, {}, {}};
    if (way == "mean") a.other = score.mean_senders();
    if (way == "zero") a.other = score.zero_senders();
    if (way == "resample") {
      std::vector<Tensor> partners;
      for (const std::int64_t by : kPartners) partners.push_back(test::rolled(tokens, by));
      a.other_feeds = tracr.feeds(test::stacked(partners), weights);
      a.other = score.senders(a.other_feeds);
    }
    a.start = a.other.select(1, 0).clone();  // what `input` gives instead
    a.distance = distance_of(answers, a.other);
    const auto golden = [&](const std::string& name) {
      return mask_of(score.grid(), tracr.golden.at(name).to(DType::f64));
    };
    run_gauntlet(GetParam(), a, golden("edges/" + way), golden("program/edges"),
                 kFloors.at(GetParam()).at(way));
  }

  ThreadPool pool{2};
  test::TracrModel tracr;
};
INSTANTIATE_TEST_SUITE_P(Programs, TracrGauntlet, testing::ValuesIn(test::kTracrPrograms),
                         [](const auto& program) { return program.param; });

TEST_P(TracrGauntlet, Resampling) { run("resample"); }
TEST_P(TracrGauntlet, Means) { run("mean"); }
TEST_P(TracrGauntlet, Zeros) { run("zero"); }

// ---- a trained model --------------------------------------------------------------------------------
// An attention-only model of two layers, trained on texts in which a token is often followed by what
// followed it before (tests/data/induction). The edges of its algorithm are those of induction (Elhage
// et al. 2021; Olsson et al. 2022) between the heads that are found without looking at edges: by
// attention patterns, mean ablation of heads, and swapped values.
struct InductionCircuit {
  std::vector<Head> previous, induction;

  EdgeMask edges(const EdgeGrid& grid) const {
    EdgeMask known(grid);
    const auto add = [&](const std::string& u, const std::string& v) {
      known.set(grid.sender(u), grid.receiver(v));
    };
    for (const Head& i : induction) {
      const std::string later = name(i);
      add("input", later + "<q>");  // the token now
      add("input", later + "<v>");  // what is copied
      add(later, "logits");
      for (const Head& p : previous) {
        add("input", name(p) + "<v>");  // the token before
        add(name(p), later + "<k>");
      }
    }
    return known;
  }
  static std::string name(const Head& h) { return fmt::format("a{}.h{}", h.layer, h.head); }
};

class InductionGauntlet : public testing::Test {
 protected:
  InductionGauntlet() : m(nn::load_gpt2((test::data() / "induction").string())) {
    prompts = repeated_tokens(m.config(), random::Key{5}, 16, 9);
    study = study_induction(m, prompts, random::Key{6}, kCriteria);
    for (const Head& h : all_heads(m.config())) {
      if (of_head(study.scores.previous, h) >= kCriteria.attends) circuit.previous.push_back(h);
    }
    // Of four heads no control is left: the others are the previous-token head, which is needed
    // itself, and one more.
    for (const Head& h : all_heads(m.config())) {
      const auto measured = [&](const HeadEffects& e) {
        return Measured{of_head(e.mean, h), of_head(e.standard_error, h), 0};
      };
      if (judge(of_head(study.scores.induction, h), measured(study.swaps),
                measured(study.ablations.change), kCriteria)
              .is_induction_head())
        circuit.induction.push_back(h);
    }
  }
  // Two heads share the work, and each spreads its attention; an even one would give 0.07.
  static constexpr Criteria kCriteria{.attends = .25};

  // Twelve tokens: eight different ones in a random order, and the first four again. The corrupt prompt does
  // the same with other tokens.
  std::vector<Pair> pairs() const {
    constexpr std::size_t kBlock = 8, kAgain = 4;
    constexpr int kPairs = 64;
    std::mt19937_64 random(8);
    std::vector<int> tokens(static_cast<std::size_t>(m.config().vocabulary));
    std::iota(tokens.begin(), tokens.end(), 0);
    std::vector<Pair> all;
    for (int i = 0; i < kPairs; ++i) {
      for (std::size_t j = tokens.size(); j-- > 1;)
        std::swap(tokens[j], tokens[random() % (j + 1)]);
      const auto prompt = [&](std::size_t from) {
        nn::Tokens p;
        for (std::size_t j = 0; j < kBlock + kAgain; ++j) p.push_back(tokens[from + j % kBlock]);
        return p;
      };
      all.push_back({prompt(0), prompt(kBlock), tokens[kAgain], tokens[kBlock + kAgain]});
    }
    return all;
  }

  ThreadPool pool{2};
  nn::Model m;
  std::vector<nn::Tokens> prompts;
  InductionStudy study;
  InductionCircuit circuit;
};

TEST_F(InductionGauntlet, TheHeadsAreKnownWithoutEdges) {
  for (const Head& h : all_heads(m.config())) {
    fmt::print("head {}: previous {:.2f}, induction {:.2f}, loss {:+.2f} when mean-ablated\n",
               to_string(h), of_head(study.scores.previous, h), of_head(study.scores.induction, h),
               of_head(study.ablations.change.mean, h));
  }
  EXPECT_EQ(circuit.previous, (std::vector<Head>{{0, 1}}));
  EXPECT_EQ(circuit.induction, (std::vector<Head>{{1, 0}, {1, 1}}));
  // K composition: without the previous-token head's output among its keys the attention is gone;
  // the query does not need it.
  const std::vector<std::vector<Head>> groups = {circuit.previous};
  for (const PathEffect& p : paths_to(m, prompts, groups, circuit.induction)) {
    EXPECT_LT(p.by_keys, .1);
    EXPECT_GT(p.by_query, .9 * p.unedited);
  }
}

const std::map<std::string, std::vector<double>> kInductionFloors = {
    {"resample", {.98, .92, .93, .93, .91, .97}}, {"mean", {.98, .89, .95, .97, .96}}};

TEST_F(InductionGauntlet, EveryMethod) {
  const test_support::PairsGraph g(m, pairs());
  const GraphEdges runs = g.runs(m, {.pool = &pool});
  const EdgeMask known = circuit.edges(runs.grid());
  // It alone, with all other edges resampled, does most of what the model does.
  const Tensor other = runs.senders(g.other_feeds);
  EXPECT_GT(runs.judge(known, other).faithfulness, .8);
  for (const std::string way : {"resample", "mean"}) {
    Ablation a{way, &runs, {}, {}, site::resid_pre(0), {}, {}};
    a.other_feeds = g.other_feeds;
    a.other = way == "mean" ? runs.mean_senders() : other;
    a.start = a.other.select(1, 0).clone();
    a.distance = distance_of(runs, a.other);
    run_gauntlet("induction", a, known, known, kInductionFloors.at(way));
  }
}

// An attention-only model of one layer, trained on three random tokens again and again
// (tests/data/delay): what comes next stands two before the last. Its algorithm is one head that looks
// there and hands on what it finds. Where it looks is a matter of positions, which are the same in
// every text, so that of the head's three inputs its values alone carry what differs.
class DelayGauntlet : public testing::Test {
 protected:
  DelayGauntlet() : m(nn::load_gpt2((test::data() / "delay").string())) {}

  // How much each head looks at the token two before the last one, there and three before it, where the
  // same one stands; the mean over the prompts.
  std::vector<double> look_two_back(const std::vector<Pair>& pairs) const {
    std::vector<double> looks(static_cast<std::size_t>(m.config().heads), 0);
    for (const Pair& p : pairs) {
      const Tensor pattern = m.run({p.clean}, site::pattern(0))[site::pattern(0)];
      const std::int64_t last = std::ssize(p.clean) - 1;
      for (std::size_t h = 0; h < looks.size(); ++h) {
        for (std::int64_t key = last - 2; key >= 0; key -= 3)
          looks[h] += pattern.at<float>({0, static_cast<std::int64_t>(h), last, key}) /
                      static_cast<double>(pairs.size());
      }
    }
    return looks;
  }

  std::vector<Pair> pairs() const {
    constexpr std::size_t kTokens = 8;
    std::mt19937_64 random(11);
    std::vector<int> tokens(static_cast<std::size_t>(m.config().vocabulary));
    std::iota(tokens.begin(), tokens.end(), 0);
    std::vector<Pair> all;
    for (int i = 0; i < 64; ++i) {
      for (std::size_t j = tokens.size(); j-- > 1;)
        std::swap(tokens[j], tokens[random() % (j + 1)]);
      const auto prompt = [&](std::size_t from) {
        nn::Tokens p;
        for (std::size_t j = 0; j < kTokens; ++j) p.push_back(tokens[from + j % 3]);
        return p;
      };
      all.push_back({prompt(0), prompt(3), tokens[kTokens % 3], tokens[3 + kTokens % 3]});
    }
    return all;
  }

  ThreadPool pool{2};
  nn::Model m;
};

const std::map<std::string, std::vector<double>> kDelayFloors = {
    {"resample", {.98, .98, .98, .98, .98, .98}}, {"mean", {.98, .79, .88, .88, .98}}};

TEST_F(DelayGauntlet, EveryMethod) {
  const std::vector<Pair> all = pairs();
  const std::vector<double> looks = look_two_back(all);
  fmt::print("two back from the last token look head 0 {:.2f}, head 1 {:.2f}\n", looks[0],
             looks[1]);
  EXPECT_LT(looks[0], .5);
  EXPECT_GT(looks[1], .95);
  const test_support::PairsGraph g(m, all);
  const GraphEdges runs = g.runs(m, {.pool = &pool});
  EdgeMask known(runs.grid());
  known.set(runs.grid().sender("input"), runs.grid().receiver("a0.h1<v>"));
  known.set(runs.grid().sender("a0.h1"), runs.grid().receiver("logits"));
  const Tensor other = runs.senders(g.other_feeds);
  const double faithful = runs.judge(known, other).faithfulness;
  fmt::print("these two edges alone: {:.2f} faithful\n", faithful);
  EXPECT_GT(faithful, .8);
  for (const std::string way : {"resample", "mean"}) {
    Ablation a{way, &runs, {}, {}, site::resid_pre(0), {}, {}};
    a.other_feeds = g.other_feeds;
    a.other = way == "mean" ? runs.mean_senders() : other;
    a.start = a.other.select(1, 0).clone();
    a.distance = distance_of(runs, a.other);
    run_gauntlet("delay", a, known, known, kDelayFloors.at(way));
  }
}

}  // namespace
}  // namespace vitrine::interp
