// Lesson 8. Patching: put a value of one run into another and see what follows; hundreds of times for the price of a few.
#include <chrono>

#include "apps/lessons/lesson.h"
#include "nn/families/sites.h"
#include "nn/model/model.h"

namespace {

using namespace vitrine;
using namespace vitrine::lesson;

// [snippet pair]
// Two prompts that differ in one token, and a number that tells their answers apart.
struct Pair {
  nn::Model model = nn::load_model();
  nn::Tokens clean = model.tokens("The capital of Texas is");
  nn::Tokens corrupt = model.tokens("The capital of California is");
  Metric metric = nn::logit_diff(model.token(" Austin"), model.token(" Sacramento"));
  int layers = model.config().layers, positions = static_cast<int>(clean.size());
};
// [/snippet pair]

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

double metric_of(const nn::Run& run) { return run.results.scalar("logit_diff"); }

// The metric of the corrupt prompt with these edits.
double patched(const Pair& p, const Interventions& edits) {
  return metric_of(p.model.run_edited({p.corrupt}, edits, fetch(value(p.metric)), &p.metric));
}

// One edited run for each layer and each position.
std::vector<Interventions> all_worlds(const Pair& p, const nn::Run& clean) {
  // [snippet worlds]
  std::vector<Interventions> worlds;
  for (int layer = 0; layer < p.layers; ++layer) {
    const Site site = site::resid_pre(layer);
    for (int pos = 0; pos < p.positions; ++pos)
      worlds.push_back({replace(site, clean[site], {.pos = {pos}}, "clean")});
  }
  // [/snippet worlds]
  return worlds;
}

// The changes of the metric, a row for each layer.
void print_changes(const Pair& p, const Swept& sweep, double base) {
  const auto after = sweep["logit_diff"].to_vector<double>();
  Row titles = {"before layer"};
  for (const int token : p.corrupt)
    titles.push_back("\"" + p.model.tokenizer().shown(token) + "\"");
  std::vector<Row> rows;
  for (std::size_t w = 0; w < after.size(); ++w) {
    const auto layer = w / static_cast<std::size_t>(p.positions);
    if (rows.size() == layer) rows.push_back({fmt::format("{}", layer)});
    rows[layer].push_back(sweep.has_effect(w) ? fmt::format("{:+.2f}", after[w] - base) : "·");
  }
  table(titles, rows);
}

// What is computed for the world that patches before layer 1 at position 2: a line for each layer, the last one on top.
void draw_cone(const Pair& p) {
  const int edited_layer = 1, edited_pos = 2;
  int computed = 0;
  for (int layer = p.layers - 1; layer >= 0; --layer) {
    std::string line = fmt::format("  layer {}  ", layer);
    for (int pos = 0; pos < p.positions; ++pos) {
      const bool reached = layer >= edited_layer && pos >= edited_pos;
      computed += reached ? 1 : 0;
      line += reached ? " █" : " ·";
    }
    say("{}", line);
  }
  say("");
  expect("places in the model", p.layers * p.positions, near(30, 0));
  expect("places that this edit can reach", computed, near(15, 0));
}

void count_work(const Pair& p, const std::vector<Interventions>& worlds) {
  section("Where the work goes: cones, switched on one after the other");
  // [snippet switches]
  struct Setting {
    const char* name;
    SweepOptions options;
  };
  const Setting settings[] = {
      {"only layers behind the edit",
       {.by_row = false, .by_head = false, .by_difference = false, .by_demand = false}},
      {"only positions it reaches",
       {.by_row = true, .by_head = true, .by_difference = false, .by_demand = false}},
      {"only what the metric reads", {.by_difference = false, .by_demand = true}},
      {"not where nothing differs", {}}};
  const Tensor values = p.model.sweep({p.corrupt}, worlds, p.metric, {"logit_diff"})["logit_diff"];
  std::vector<Row> rows;
  std::vector<double> less;
  double differ = 0;
  for (const Setting& s : settings) {
    const Swept swept = p.model.sweep({p.corrupt}, worlds, p.metric, {"logit_diff"}, s.options);
    const SweepStats& stats = swept.stats();
    const double alone = stats.base_runs * static_cast<double>(stats.base_flops);
    less.push_back(alone / static_cast<double>(stats.flops));
    differ = std::max(differ, max_abs_difference(swept["logit_diff"], values));
    rows.push_back({s.name, fmt::format("{:.0f}", static_cast<double>(stats.flops) / 1e6),
                    fmt::format("{:.1f}", less.back()),
                    fmt::format("{}", stats.worlds - stats.without_effect)});
  }
  // [/snippet switches]
  table({"computed", "MFLOP", "times less", "worlds run"}, rows);
  expect("none of it changes a value: largest difference", differ, at_most(1e-4));
  expect("times less work by layers", less[0], between(1.5, 3));
  expect("by layers and positions", less[1], between(3, 5));
  expect("with all four", less[3], between(15, 20));
}

}  // namespace

int main() {
  const Pair p;
  section("Two runs");
  // [snippet record]
  const nn::Run clean = p.model.run_edited(
      {p.clean}, {}, fetch(sites("blocks.*.hook_resid_pre"), value(p.metric)), &p.metric);
  const double base = patched(p, {});  // no edit at all
  // [/snippet record]
  say("logit of \" Austin\" less that of \" Sacramento\":\n");
  expect("clean: Texas", metric_of(clean), near(12.075, 0.01));
  expect("corrupt: California", base, near(-13.475, 0.01));

  section("One patch");
  // [snippet one]
  const Site site = site::resid_pre(1);  // the state before layer 1
  const double one = patched(p, {replace(site, clean[site], {.pos = {3}}, "clean")});
  // [/snippet one]
  say("The state of \" California\" before layer 1 is replaced by that of \" Texas\":\n");
  expect("the patched run", one, near(12.07, 0.05));

  section("All of them: layers times positions");
  const std::vector<Interventions> worlds = all_worlds(p, clean);
  // [snippet sweep]
  const Swept swept = p.model.sweep({p.corrupt}, worlds, p.metric, {"logit_diff"});
  // [/snippet sweep]
  print_changes(p, swept, base);
  const Tensor values = swept["logit_diff"];  // [worlds]
  const auto at = [&](int layer, int pos) {
    return values.at<float>({layer * p.positions + pos}) - base;
  };
  expect("layer 1, at the state's name", at(1, 3), near(25.55, 0.05));
  expect("layer 2, at the state's name", at(2, 3), near(1.0, 0.1));
  expect("layer 2, at the last token", at(2, 4), near(24.44, 0.05));

  section("The same, one run after the other");
  // [snippet race]
  double largest = 0, alone = 1e9, together = 1e9;
  for (int again = 0; again < 3; ++again) {  // the best of three: other programs run, too
    auto start = std::chrono::steady_clock::now();
    for (std::size_t w = 0; w < worlds.size(); ++w) {
      const double own = patched(p, worlds[w]);
      largest = std::max(largest, std::abs(own - values.at<float>({static_cast<int>(w)})));
    }
    alone = std::min(alone, seconds_since(start));
    start = std::chrono::steady_clock::now();
    p.model.sweep({p.corrupt}, worlds, p.metric, {"logit_diff"});
    together = std::min(together, seconds_since(start));
  }
  // [/snippet race]
  bars({{"one by one, ms", 1e3 * alone}, {"one sweep, ms", 1e3 * together}});
  expect("the sweep takes this share of the time", together / alone, at_most(0.7));
  expect("largest difference of a value", largest, at_most(1e-4));

  section("What an edit can reach");
  draw_cone(p);
  count_work(p, worlds);
  section("The sweep's own account");
  fmt::print("{}", swept.explain());
  expect("forward passes for 30 worlds", swept.stats().passes, near(1, 0));
}
