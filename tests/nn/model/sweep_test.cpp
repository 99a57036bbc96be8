// Sweeps of GPT-2 against one edited run after the other, over random sites, selections and
// actions.
#include <fmt/format.h>
#include <gmock/gmock.h>

#include <random>
#include <sstream>

#include "nn/families/sites.h"
#include "nn/model/checkpoint.h"
#include "nn/model/model.h"
#include "tensor/files/file.h"
#include "tensor/random.h"
#include "tests/support.h"

namespace vitrine::nn {
namespace {

const Model& tiny(DType dtype) {
  static const Model single = load_gpt2((test::data() / "tiny-gpt2").string());
  static const Model twice =
      load_gpt2((test::data() / "tiny-gpt2").string(), {.dtype = DType::f64});
  return dtype == DType::f64 ? twice : single;
}

using Rng = std::mt19937;
std::int64_t below(Rng& rng, std::int64_t n) {
  return std::uniform_int_distribution<std::int64_t>(0, n - 1)(rng);
}

// Some indices of [0, n), perhaps none (which selects all).
std::vector<std::int64_t> some(Rng& rng, std::int64_t n) {
  std::vector<std::int64_t> out;
  const std::int64_t count = below(rng, 3);
  for (std::int64_t i = 0; i < std::min(count, n); ++i) {
    const std::int64_t x = below(rng, n);
    if (std::find(out.begin(), out.end(), x) == out.end()) out.push_back(x);
  }
  return out;
}

struct Batch {
  std::vector<Tokens> prompts, others;  // others: of the same lengths
};

// What is edited, with values of the other prompts' run.
Edit random_edit(Rng& rng, const std::vector<std::string>& names, const Batch& batch,
                 const Results& other, bool may_project) {
  const Graph graph = tiny(DType::f32).build(batch_size(batch.prompts));
  const SiteEntry& site = graph.site(
      names[static_cast<std::size_t>(below(rng, static_cast<std::int64_t>(names.size())))]);
  Where where;
  for (std::size_t a = 0; a < site.axes.size(); ++a) {
    const std::int64_t size = site.type.shape[static_cast<int>(a)];
    switch (site.axes[a]) {
      case Axis::row:
        where.prompt = some(rng, static_cast<std::int64_t>(batch.prompts.size()));
        where.pos = some(rng, 3);
        break;
      case Axis::head:
        where.head = some(rng, size);
        break;
      case Axis::key:
        if (below(rng, 2) == 0) where.key = some(rng, 3);
        break;
      case Axis::feature:
        if (below(rng, 4) == 0) where.feature = some(rng, size);
        break;
      default:
        break;
    }
  }
  const Site s{site.name};
  const Tensor value = other.raw(site.name);
  const std::int64_t last = value.dim(0) - 1;
  const Tensor direction = value.slice(0, last, last + 1).clone().reshape([&] {
    Shape rest;
    for (int a = 1; a < value.rank(); ++a) rest.push_back(value.dim(a));
    return rest;
  }());
  if (site.name.ends_with("hook_scale")) return replace(s, value, where);  // a divisor
  switch (below(rng, may_project ? 6 : 5)) {
    case 0:
      return zero(s, where);
    case 1:
      return scale(s, 0.5 + static_cast<double>(below(rng, 3)), where);
    case 2:
      return add(s, direction, 0.3, where);
    case 5:
      return project_out(s, direction, where);
    default:
      return replace(s, value, where);
  }
}

const std::vector<std::string>& sites_of(const Batch& batch) {
  static std::vector<std::string> names;
  names.clear();
  for (const std::string& n : tiny(DType::f32).build(batch_size(batch.prompts)).site_names()) {
    // -inf where nothing may be seen: sums with it are NaN, in every run.
    if (n.find("attn_scores") == std::string::npos) names.push_back(n);
  }
  return names;
}

class RandomSweep : public ::testing::TestWithParam<int> {};

TEST_P(RandomSweep, EqualsOneRunAfterTheOther) {
  Rng rng(static_cast<unsigned>(GetParam()));
  // A projection can leave next to nothing of a row, and LayerNorm makes that large again: in f32
  // both ways of computing it are then mostly rounding.
  const DType dtype = GetParam() % 2 == 0 ? DType::f64 : DType::f32;
  const bool may_project = dtype == DType::f64;
  const double tolerance = dtype == DType::f64 ? 1e-11 : 1e-5;
  const Model& model = tiny(dtype);
  Batch batch;
  for (std::int64_t p = 0; p < 1 + below(rng, 3); ++p) {
    Tokens tokens, other;
    for (std::int64_t t = 0; t < 3 + below(rng, 5); ++t) {
      tokens.push_back(static_cast<int>(below(rng, 97)));
      other.push_back(t < 2 ? tokens.back() : static_cast<int>(below(rng, 97)));
    }
    batch.prompts.push_back(tokens);
    batch.others.push_back(other);
  }
  const std::vector<std::string> names = sites_of(batch);
  std::string all;
  for (const std::string& n : names) all += (all.empty() ? "" : ",") + n;
  const nn::Run other = model.run(batch.others, sites(all));

  std::vector<Interventions> worlds;
  for (int w = 0; w < 12; ++w) {
    Interventions what{random_edit(rng, names, batch, other.results, may_project)};
    for (std::int64_t more = below(rng, 3); more > 0; --more)
      what = what.then({random_edit(rng, names, batch, other.results, may_project)});
    worlds.push_back(what);
  }
  const Metric metric = logit_diff(7, 8);
  const std::vector<std::string> outputs = {"logits", metric.name, metric.name + "_per_prompt"};
  SweepOptions options;
  if (GetParam() % 8 < 2) options.memory = 100000;
  if (GetParam() % 8 / 2 == 1) options.by_head = options.by_difference = false;
  if (GetParam() % 8 / 2 == 2) options.by_row = options.by_demand = false;
  const Swept swept = model.sweep(batch.prompts, worlds, metric, outputs, options);
  for (std::size_t w = 0; w < worlds.size(); ++w) {
    const nn::Run run = model.run_edited(
        batch.prompts, worlds[w],
        fetch(value("logits"), value(metric.name), value(metric.name + "_per_prompt")), &metric);
    for (const std::string& o : outputs) {
      const Tensor want = run.results.raw(o);
      const Tensor got = swept[o].select(0, static_cast<std::int64_t>(w));
      double largest = 1;
      for (const double x : run.results.raw("logits").to_vector<double>())
        largest = std::max(largest, std::abs(x));
      EXPECT_LE(max_abs_difference(got, want), tolerance * largest)
          << o << " of world " << w << ":\n"
          << worlds[w].to_text();
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Seeds, RandomSweep, ::testing::Range(0, 120));

// What a sweep reads of the base run is foreseen, so that the base runs once.
TEST(Sweep, RunsTheBaseOnce) {
  const Model& m = tiny(DType::f32);
  const std::vector<Tokens> prompt = {{3, 14, 15, 92, 65, 35}};
  const Metric metric = logit_diff(Answers{7}, Answers{8});
  for (const char* site :
       {"hook_resid_pre", "hook_resid_mid", "hook_resid_post", "hook_attn_out", "hook_mlp_out",
        "hook_z", "hook_q", "hook_k", "hook_v", "hook_pattern"}) {
    const Graph g = m.build(batch_size(prompt));
    const Grid grid = vitrine::grid(g, sites(fmt::format("*.{}", site)), {Axis::pos}, zeros());
    const Swept s = m.sweep(prompt, grid.worlds, metric, {metric.name});
    EXPECT_EQ(s.stats().base_passes, 1) << site;
    EXPECT_EQ(s.stats().passes, 1) << site;
  }
}

// The whole program of a sweep, node by node: two layers, two worlds. autograd/README.md shows
// lines of it.
TEST(Readme, PrintsASweepsProgramAsItIs) {
  Config c;
  c.layers = 2;
  c.heads = 2;
  c.d_model = 8;
  c.d_mlp = 32;
  c.context = 16;
  c.vocabulary = 50;
  Parameters parameters;
  ThreadPool pool(1);
  for (const auto& [name, shape] : parameter_shapes(c)) {
    parameters[name] = Tensor::empty(shape, DType::f32);
    random::fill_normal(pool, random::Key{1}.fold(name), parameters[name], 0, 0.3);
  }
  const std::vector<Tokens> prompt = {{1, 2, 3, 4, 5}};
  const Metric metric = logit_diff(7, 8);
  const Graph g = with_metric(build_model(c, batch_size(prompt)), metric);
  const std::vector<Interventions> worlds = {
      {zero(site::resid_pre(0), {.pos = {2}})},
      {zero(site::resid_pre(1), {.pos = {3}})},
  };
  const Graph program =
      sweep_program(g, batch_feeds(prompt), parameters, worlds, {per_prompt_name(metric)});
  EXPECT_EQ(program.to_text(), read_text(test::data() / "two-layer-sweep.txt"))
      << "if this is right, it is the new tests/data/two-layer-sweep.txt:\n"
      << program.to_text();
  const std::string readme = read_text(test::data() / "../../autograd/README.md");
  const std::size_t begin = readme.find("sweep.table.4  "), end = readme.find("```", begin);
  ASSERT_NE(begin, std::string::npos);
  std::istringstream lines(readme.substr(begin, end - begin));
  for (std::string line; std::getline(lines, line);)
    EXPECT_NE(program.to_text().find(line + "\n"), std::string::npos) << line;
}

}  // namespace
}  // namespace vitrine::nn
