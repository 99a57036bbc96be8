#include "nn/model/model.h"

#include <unistd.h>

#include <fstream>

#include "autograd/transform/gradient.h"
#include "nn/families/sites.h"
#include "tensor/files/file.h"
#include "tests/support.h"
#include "tests/tensor/expect_error.h"

namespace vitrine::nn {
namespace {

TEST(Model, KnowsCapitals) {
  const Model m = load_gpt2();
  const auto answer = [&](const char* prompt) {
    const Tensor logits = m.run(prompt).logits().select(0, 0);
    const auto last = logits.select(0, logits.dim(0) - 1).to_vector<float>();
    return m.tokenizer().token_bytes(
        static_cast<int>(std::max_element(last.begin(), last.end()) - last.begin()));
  };
  EXPECT_EQ(answer("The capital of Texas is"), " Austin");
  EXPECT_EQ(answer("The capital of California is"), " Sacramento");
  EXPECT_EQ(answer("When Mary and John went to the store, John gave a book to"), " Mary");
}

TEST(Model, EverySiteExists) {
  const Model m = load_gpt2((test::data() / "tiny-gpt2").string());
  const Graph g = m.build({.batch = 2, .tokens = 3});
  std::vector<std::string> want = {"hook_embed", "hook_pos_embed"};
  for (int l = 0; l < m.config().layers; ++l) {
    for (const Site& s : {site::resid_pre(l),   site::ln1_scale(l), site::ln1_normalized(l),
                          site::q_input(l),     site::q(l),         site::k_input(l),
                          site::k(l),           site::v_input(l),   site::v(l),
                          site::attn_scores(l), site::pattern(l),   site::z(l),
                          site::result(l),      site::attn_out(l),  site::resid_mid(l),
                          site::mlp_in(l),      site::ln2_scale(l), site::ln2_normalized(l),
                          site::mlp_pre(l),     site::mlp_post(l),  site::mlp_out(l),
                          site::resid_post(l)}) {
      want.push_back(s.name);
    }
  }
  for (const Site& s :
       {site::final_scale(), site::final_normalized(), site::unembed_in(), site::unembed_out()})
    want.push_back(s.name);
  EXPECT_EQ(g.site_names(), want);  // in the order of the model
}

TEST(Model, UnknownSitesGetTheNearestNames) {
  const Model m = load_gpt2((test::data() / "tiny-gpt2").string());
  EXPECT_ERROR(SiteError,
               "there is no site 'blocks.1.attn.pattern' (did you mean blocks.1.attn.hook_pattern",
               m.run(Tokens{1}, sites("blocks.1.attn.pattern")));
  EXPECT_ERROR(SiteError, "there is no site 'blocks.7.hook_resid_pre'",
               m.run(Tokens{1}, site::resid_pre(7)));
  EXPECT_ERROR(SiteError, "no site matches '*.hook_patern'",
               m.run(Tokens{1}, sites("*.hook_patern")));
}

TEST(Model, WithoutATokenizerTextIsAnError) {
  const Model m = load_gpt2((test::data() / "tiny-gpt2").string());
  EXPECT_FALSE(m.has_tokenizer());
  EXPECT_ERROR(
      TokenError,
      "this model has no tokenizer (tokenizer.json, or vocab.json and merges.txt); give token ids",
      m.run("text"));
}

TEST(Model, ATokenIsOneToken) {
  const Model m = load_gpt2();
  EXPECT_EQ(m.tokenizer().token_bytes(m.token(" Austin")), " Austin");
  EXPECT_ERROR(TokenError, " Austin", m.token("Austin"));
}

TEST(Model, PlansAreReused) {
  const Model m = load_gpt2((test::data() / "tiny-gpt2").string());
  m.run(Tokens{1, 2, 3});
  m.run(Tokens{4, 5, 6});
  EXPECT_EQ(m.plans().size(), 1u);
  EXPECT_EQ(m.plans().hits(), 1);
  m.run(Tokens{4, 5});
  m.run(Tokens{4, 5}, site::z(0));
  EXPECT_EQ(m.plans().size(), 3u);
}

TEST(Model, TokensMayBeWrittenInBraces) {
  const Model m = load_gpt2((test::data() / "tiny-gpt2").string());
  const Tokens prompt = {1, 2, 3};
  EXPECT_EQ(m.run({1, 2, 3}).prompts, std::vector<Tokens>{prompt});
  EXPECT_EQ(m.run({prompt}).prompts, std::vector<Tokens>{prompt});
  EXPECT_EQ(m.run({{1, 2, 3}}).prompts, std::vector<Tokens>{prompt});
  EXPECT_EQ(m.run({{1}, {2}}, site::z(0)).prompts, (std::vector<Tokens>{{1}, {2}}));
  EXPECT_EQ(m.run({1, 2, 3}, site::z(0))[site::z(0)].dim(1), 3);
}

TEST(Model, DerivedGraphsAreKnownByAllThatMadeThem) {
  const Model m = load_gpt2((test::data() / "tiny-gpt2").string());
  const BatchSize size = batch_size({{1, 2}});
  int made = 0;
  const auto make = [&](const Graph& g) {
    ++made;
    return g;
  };
  const auto first = m.derived(size, {"a, b", "c"}, make);
  EXPECT_NE(m.derived(size, {"a", "b, c"}, make), first);
  EXPECT_EQ(made, 2);
  EXPECT_EQ(m.derived(size, {"a, b", "c"}, make), first);
  // The one that was not used for longest goes.
  for (int i = 0; i < 15; ++i) {
    m.derived(size, {std::to_string(i)}, make);
    EXPECT_EQ(m.derived(size, {"a, b", "c"}, make), first);
  }
  EXPECT_EQ(made, 17);
  m.derived(size, {"a", "b, c"}, make);
  EXPECT_EQ(made, 18);
}

// The pages that this process has in memory.
std::int64_t resident_bytes() {
  std::ifstream file("/proc/self/statm");
  std::int64_t all = 0, resident = 0;
  file >> all >> resident;
  return resident * sysconf(_SC_PAGESIZE);
}

// Whatever is seen, what stays is what the largest few shapes need.
TEST(Model, MemoryStaysFlatOverAThousandShapes) {
  const Model m = load_gpt2();
  const int context = m.config().context;
  const auto run = [&](int i) {  // all lengths, in no order; every third is a batch
    const int length = 1 + i * 89 % (context - 6), more = i % 3 == 2 ? 1 + i % 5 : 0;
    std::vector<Tokens> prompts = {Tokens(static_cast<std::size_t>(length), 7)};
    for (int p = 0; p < more; ++p)
      prompts.emplace_back(static_cast<std::size_t>(1 + (i + p) % 20), 9);
    m.run(prompts);
  };
  for (int i = 0; i < 50; ++i) run(i);
  const std::int64_t before = resident_bytes();
  for (int i = 50; i < 350; ++i) run(i);
  EXPECT_LT(resident_bytes() - before, std::int64_t{64} << 20);
}

TEST(Model, PlansAndIdleMemoryKeepToTheirBudget) {
  constexpr std::int64_t kBudget = 4 << 20;
  const Model m = load_gpt2((test::data() / "tiny-gpt2").string(), {.memory = kBudget});
  for (int length = 1; length <= 30; ++length) {
    m.run(Tokens(static_cast<std::size_t>(length), 1));
    EXPECT_LE(m.plans().bytes(), kBudget);
  }
}

TEST(Model, TheSameRunGivesTheSameBitsWithAnyThreads) {
  const std::string folder = (test::data() / "tiny-gpt2").string();
  const Model one = load_gpt2(folder, {.threads = 1}), three = load_gpt2(folder, {.threads = 3});
  const Tokens prompt = {1, 5, 9, 22, 96, 3};
  const Graph g = gradient(one.build({.batch = 1, .tokens = 6}), next_token_loss(5), leaves("*"));
  const auto a = one.run_graph(g, {prompt}, fetch(value("logits"), grad(leaves("*"))));
  const auto b = three.run_graph(g, {prompt}, fetch(value("logits"), grad(leaves("*"))));
  for (const std::string& name : a.results.names())
    EXPECT_EQ(max_abs_difference(a.results.raw(name), b.results.raw(name)), 0) << name;
}

TEST(Model, DoublePrecisionAgrees) {
  const std::string folder = (test::data() / "tiny-gpt2").string();
  const Model f32 = load_gpt2(folder), f64 = load_gpt2(folder, {.dtype = DType::f64});
  const Tokens prompt = {1, 5, 9, 22, 96, 3};
  const Tensor a = f32.run(prompt).logits(), b = f64.run(prompt).logits();
  EXPECT_EQ(b.dtype(), DType::f64);
  test::expect_close(a.to(DType::f64), b, 2e-6, "logits");
}

// The printed graph in autograd/README.md is the graph.
TEST(Readme, PrintsTheGraphAsItIs) {
  Config c;
  c.layers = 1;
  c.heads = 2;
  c.d_model = 8;
  c.d_mlp = 32;
  c.context = 16;
  c.vocabulary = 50;
  const Graph g = build_model(c, {5, 1, 5});
  const std::string readme = read_text(test::data() / "../../autograd/README.md");
  EXPECT_NE(readme.find("```\n" + g.to_text() + "```\n"), std::string::npos) << g.to_text();
}

// The first lines that a user writes.
TEST(Snippets, RunAndLook) {
  auto m = nn::load_gpt2();
  nn::Run r = m.run("The capital of Texas is", sites("*.attn.hook_pattern"));
  const Tensor pattern = r[site::pattern(2)];  // [1, head, query, key]
  EXPECT_EQ(to_string(pattern.shape()), "[1, 4, 5, 5]");
  for (std::int64_t q = 0; q < 5; ++q) {
    double total = 0;
    for (const double x : pattern.select(0, 0).select(0, 3).select(0, q).to_vector<double>())
      total += x;
    EXPECT_NEAR(total, 1, 1e-6);
  }
  auto d = nn::logit_diff(m.token(" Austin"), m.token(" Sacramento"));
  EXPECT_EQ(d.name, "logit_diff");
}

TEST(Snippets, DefineTransformCompileRun) {
  const auto gpt2 = nn::load_gpt2();
  const auto prompt = gpt2.tokens("The capital of Texas is");
  Graph model = gpt2.build({.batch = 1, .tokens = 5});
  const auto metric = nn::logit_diff(gpt2.token(" Austin"), gpt2.token(" Sacramento"));
  Graph with_g = gradient(model, metric, sites("blocks.*.attn.hook_z"));
  Plan plan = compile(with_g, fetch(value(metric), grad(sites("blocks.*.attn.hook_z"))));
  EXPECT_NE(plan.explain().find("removed"), std::string::npos);
  Results r = plan.run(nn::batch_feeds({prompt}), gpt2.parameters());
  EXPECT_GT(r.scalar("logit_diff"), 0);
  EXPECT_EQ(to_string(r.grad(site::z(5)).shape()), "[1, 5, 4, 64]");
  // Only what the metric depends on: in the last layer nothing but the last row matters.
  const Tensor last_layer = r.grad(site::z(5)).select(0, 0);
  EXPECT_EQ(max_abs(last_layer.slice(0, 0, 4)), 0);
  EXPECT_GT(max_abs(last_layer.select(0, 4)), 0);
}

TEST(Snippets, Sweep) {
  auto m = nn::load_gpt2();
  nn::Run clean = m.run("The capital of Texas is", sites("blocks.*.hook_resid_pre"));
  auto d = nn::logit_diff(m.token(" Austin"), m.token(" Sacramento"));
  auto s = m.sweep("The capital of California is", sites("blocks.*.hook_resid_pre"), {Axis::pos},
                   from(clean.results, "clean"), d);
  EXPECT_EQ(s.axes, (std::vector<std::string>{"site", "pos"}));
  EXPECT_EQ(s.sites[2], site::resid_pre(2).name);
  const std::vector<Tokens> corrupt = {m.tokens("The capital of California is")};
  const Edit one = replace(site::resid_pre(2), clean.results.raw(site::resid_pre(2).name),
                           {.pos = {3}}, "clean");
  EXPECT_NEAR(s.at({{"site", 2}, {"pos", 3}}),
              m.run_edited(corrupt, {one}, fetch(value(d)), &d).results.scalar(d.name), 1e-4);
  EXPECT_NE(s.table().find("blocks.2.hook_resid_pre"), std::string::npos) << s.table();
}

}  // namespace
}  // namespace vitrine::nn
