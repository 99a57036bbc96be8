#include "interp/induction_heads.h"

#include <algorithm>
#include <cmath>

#include "autograd/transform/recorded.h"
#include "nn/families/sites.h"

namespace vitrine::interp {
namespace {

// Each head's output is its mean over all positions and prompts of `run`.
Interventions ablation(std::span<const Head> heads, const Results& run) {
  std::vector<Edit> edits;
  for (const Head& h : heads)
    edits.push_back(mean(site::z(h.layer), run, {.head = {h.head}}, "the unedited run"));
  return Interventions(std::move(edits));
}

// The log probability of the second half after its first token; besides, every head's scores.
Metric second_half(const nn::Config& config, const std::vector<nn::Tokens>& prompts) {
  std::vector<nn::Tokens> begun, rest;
  for (const nn::Tokens& p : prompts) {
    const auto second = p.begin() + std::ssize(p) / 2 + 1;
    begun.emplace_back(p.begin(), second);
    rest.emplace_back(second, p.end());
  }
  Metric metric = nn::log_probability(begun, rest);
  const Metric scores = head_score_metric(config, prompts);
  metric.feeds.insert(scores.feeds.begin(), scores.feeds.end());
  metric.emit = [log_probability = metric.emit, scores = scores.emit](Builder& b) {
    scores(b);
    return log_probability(b);
  };
  return metric;
}

double median(std::vector<double> x) {
  if (x.empty()) return 0;
  const auto middle = x.begin() + std::ssize(x) / 2;
  std::nth_element(x.begin(), middle, x.end());
  if (x.size() % 2 == 1) return *middle;
  return (*middle + *std::max_element(x.begin(), middle)) / 2;
}

}  // namespace

// ---- mean ablation of every head ----------------------------------------------------------------
HeadAblations ablate_heads(const nn::Model& model, const std::vector<nn::Tokens>& prompts,
                           const SweepOptions& options) {
  const nn::Config& config = model.config();
  const Metric metric = second_half(config, prompts);
  const Results clean = model.run(prompts, sites("blocks.*.attn.hook_z")).results;
  std::vector<Interventions> worlds;
  for (const Head& h : all_heads(config)) worlds.push_back(ablation({&h, 1}, clean));
  const std::string each = nn::per_prompt_name(metric);
  const Swept swept = model.sweep(prompts, worlds, metric, {each, kHeadScores}, options);

  const auto count = std::ssize(prompts);
  const std::int64_t half = std::ssize(prompts[0]) / 2;
  const auto predicted = static_cast<double>(half - 1);
  const auto base = swept.base(each).to_vector<double>();
  auto change = swept[each].to_vector<double>();  // [worlds, prompts]
  for (std::size_t i = 0; i < change.size(); ++i)
    change[i] = (base[i % base.size()] - change[i]) / predicted;
  HeadAblations a;
  for (const double x : base) a.loss -= x / (predicted * static_cast<double>(count));
  a.change = over_prompts(Tensor::of({config.layers, config.heads, count}, change));
  a.induction = swept[kHeadScores]  // [worlds, layer, 3, head]
                    .select(2, 2)
                    .reshape({config.layers, config.heads, config.layers, config.heads})
                    .to(DType::f64);
  return a;
}

// ---- the verdict --------------------------------------------------------------------------------
Verdict judge(double induction, const Measured& copying, const Measured& ablation,
              const Criteria& criteria) {
  const auto shown = [&](const Measured& m) {
    return m.value > criteria.errors * m.standard_error && m.value > std::max(0.0, m.control);
  };
  return {induction >= criteria.attends, shown(copying), shown(ablation)};
}

Verdict InductionStudy::verdict(const Head& head) const {
  const auto measured = [&](const HeadEffects& e, double control) {
    return Measured{of_head(e.mean, head), of_head(e.standard_error, head), control};
  };
  return judge(of_head(scores.induction, head), measured(swaps, swap_control),
               measured(ablations.change, ablation_control), criteria);
}

std::vector<Head> InductionStudy::induction_heads() const {
  std::vector<Head> found;
  for (int l = 0; l < scores.induction.dim(0); ++l) {
    for (int h = 0; h < scores.induction.dim(1); ++h)
      if (verdict({l, h}).is_induction_head()) found.push_back({l, h});
  }
  return found;
}

InductionStudy study_induction(const nn::Model& model, const std::vector<nn::Tokens>& prompts,
                               random::Key key, const Criteria& criteria,
                               const SweepOptions& options) {
  InductionStudy study;
  study.criteria = criteria;
  study.scores = head_scores(model, prompts);
  study.swaps = value_swaps(model, prompts, key, options);
  study.ablations = ablate_heads(model, prompts, options);
  std::vector<double> swaps, ablations;
  for (const Head& h : all_heads(model.config())) {
    if (of_head(study.scores.induction, h) >= criteria.attends) continue;
    swaps.push_back(of_head(study.swaps.mean, h));
    ablations.push_back(of_head(study.ablations.change.mean, h));
  }
  study.swap_control = median(std::move(swaps));
  study.ablation_control = median(std::move(ablations));
  return study;
}

// ---- what an induction head's attention depends on ----------------------------------------------
std::vector<PathEffect> paths_to(const nn::Model& model, const std::vector<nn::Tokens>& prompts,
                                 std::span<const std::vector<Head>> groups,
                                 std::span<const Head> later, const SweepOptions& options) {
  const Metric metric = head_score_metric(model.config(), prompts);
  const Results clean = model.run(prompts, sites("blocks.*.attn.hook_z")).results;
  std::vector<PathEffect> effects;
  std::vector<Interventions> worlds;  // three for each effect
  for (const std::vector<Head>& group : groups) {
    const int last = std::max_element(group.begin(), group.end())->layer;
    const Interventions ablated = ablation(group, clean);
    Results edited;  // the queries and keys that are left
    for (const Head& h : later) {
      if (h.layer <= last) continue;
      if (edited.names().empty()) {
        edited =
            model
                .run_edited(prompts, ablated,
                            fetch(sites("blocks.*.attn.hook_q"), sites("blocks.*.attn.hook_k")))
                .results;
      }
      effects.push_back({group, h});
      worlds.push_back(ablated);
      // Keys that heads share are changed for all of them; the score is this head's alone.
      const Site query = site::q(h.layer), key = site::k(h.layer);
      worlds.push_back({replace(query, edited[query], {.head = {h.head}}, "the ablated run")});
      worlds.push_back({replace(key, edited[key], {.head = {model.config().key_head(h.head)}},
                                "the ablated run")});
    }
  }
  if (worlds.empty()) return effects;
  const Swept swept = model.sweep(prompts, worlds, metric, {kHeadScores}, options);
  const Tensor base = swept.base(kHeadScores).to(DType::f64),  // [layer, 3, head]
      scores = swept[kHeadScores].to(DType::f64);
  for (std::size_t i = 0; i < effects.size(); ++i) {
    PathEffect& e = effects[i];
    const auto score = [&](std::size_t world) {
      return scores.at<double>(
          {static_cast<std::int64_t>(3 * i + world), e.to.layer, 2, e.to.head});
    };
    e.unedited = base.at<double>({e.to.layer, 2, e.to.head});
    e.everywhere = score(0), e.by_query = score(1), e.by_keys = score(2);
  }
  return effects;
}

}  // namespace vitrine::interp
