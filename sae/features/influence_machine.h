// The model with SAEs and transcoders spliced in as sources and others' features computed as targets: what influence.h
// runs.
#pragma once

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "autograd/ops/ops.h"
#include "autograd/transform/expand.h"
#include "autograd/transform/gradient.h"
#include "autograd/transform/intervention.h"
#include "sae/dependence.h"
#include "sae/features/influence.h"
#include "tensor/error.h"

namespace vitrine::sae {

// The site that an SAE reads.
inline const std::string& site_of(const Sae& sae, const char* which) {
  if (sae.config.hook_name.empty())
    throw ConfigError(fmt::format(
        "{}: the {} SAE's cfg.json does not say the site (metadata.hook_name) that it is of",
        sae.name, which));
  return sae.config.hook_name;
}
// The site that it is spliced into: a transcoder's is what it gives.
inline const std::string& spliced_site(const Sae& sae) {
  const std::string& from = site_of(sae, "source");
  if (!sae.config.transcoder) return from;
  if (sae.config.hook_name_out.empty())
    throw ConfigError(
        fmt::format("{}: the transcoder's cfg.json does not say the site (metadata.hook_name_out) "
                    "that it gives",
                    sae.name));
  return sae.config.hook_name_out;
}

// A transcoder as a codec of the site that it gives: its features are of another site, which comes before.
inline Codec transcoder_codec(const Sae& sae, const std::string& name) {
  const auto nodes = std::make_shared<Nodes>(sae.config, name);
  const std::string from = sae.config.hook_name;
  return {.pre = [nodes, from](const Value& x) { return nodes->pre(x.builder().at(Site{from})); },
          .encode = [nodes](const Value& pre) { return nodes->features(pre); },
          .decode = [nodes](const Value& features) { return nodes->decode(features); }};
}

// The model with the sources spliced in and the targets' features computed, and runs of it, of some
// prompts together.
class InfluenceMachine {
 public:
  InfluenceMachine(const nn::Model& model, std::span<const Sae> sources,
                   std::span<const Sae> targets, const std::vector<nn::Tokens>& prompts,
                   const Policies& policies)
      : model_(model), parameters_(model.parameters()), rows_(nn::batch_size(prompts).rows) {
    nn::check_prompts(prompts, model.config());
    if (sources.empty() || targets.empty())
      throw Error(ErrorKind::usage, "influence is from at least one SAE to at least one other");
    const Graph plain = model.build(nn::batch_size(prompts));
    const Graph linear = linearise(plain, policies);
    feeds_ = model.feeds(plain, prompts);
    if (policies.norm == Policy::hold || policies.attention == Policy::hold ||
        policies.activation == Policy::hold) {
      const Plan record = compile(plain, fetch(held_sites(linear)));
      feeds_ = with_held(linear, run(record), feeds_);
    }
    graph_ = linear;
    for (std::size_t i = 0; i < sources.size(); ++i) add_source(sources[i], i, plain);
    for (std::size_t j = 0; j < targets.size(); ++j)
      add_target(targets[j], j, plain, std::ssize(prompts));
    find_upstream(sources, targets);
  }

  // Of each source and each target: [positions, ...].
  struct Clean {
    std::vector<Tensor> acts, error, pre, features;
  };
  Clean clean() {
    Fetch wanted;
    for (std::size_t i = 0; i < acts_.size(); ++i) {
      wanted.wants.push_back(as_want(acts_[i]));
      wanted.wants.push_back(as_want(error_[i]));
    }
    for (std::size_t j = 0; j < widths_.size(); ++j) {
      wanted.wants.push_back(value(of_target(j, "pre")));
      wanted.wants.push_back(value(of_target(j, "features")));
    }
    const Results r = run(compile(graph_, wanted));
    Clean all;
    for (std::size_t i = 0; i < acts_.size(); ++i) {
      all.acts.push_back(r.raw(acts_[i].name).contiguous());
      all.error.push_back(r.raw(error_[i].name).contiguous());
    }
    for (std::size_t j = 0; j < widths_.size(); ++j) {
      all.pre.push_back(r.raw(of_target(j, "pre")).contiguous());
      all.features.push_back(r.raw(of_target(j, "features")).contiguous());
    }
    return all;
  }

  // Of each source; undefined where it does not come before the target.
  struct Slopes {
    std::vector<Tensor> acts, error;
  };
  Slopes slopes(const FeatureAt& target) {
    set({static_cast<std::int32_t>(target.position)}, target.feature);
    return slopes_of(target.sae, true);
  }
  // Of one feature at a row of each prompt, or none, the slopes of the sources' features alone.
  Slopes slopes(const std::vector<std::int32_t>& rows, std::size_t sae, std::int64_t feature) {
    set(rows, feature);
    return slopes_of(sae, false);
  }

  double after(const FeatureAt& target, const std::vector<FeatureAt>& zeroed) {
    set({static_cast<std::int32_t>(target.position)}, target.feature);
    const std::string one = of_target(target.sae, "one");
    if (zeroed.empty()) return run(compile(graph_, fetch(value(one)))).scalar(one);
    std::map<std::size_t, std::map<std::int64_t, std::vector<std::int64_t>>> by_place;
    for (const FeatureAt& f : zeroed) by_place[f.sae][f.position].push_back(f.feature);
    std::vector<Edit> edits;
    for (const auto& [sae, by_position] : by_place) {
      edits.push_back(zero(acts_.at(sae)));
      for (const auto& [position, features] : by_position)
        edits.back().where.push_back({.pos = {position}, .feature = features});
    }
    const Interventions what(std::move(edits));
    const Graph edited = intervene(graph_, what);
    return run(compile(edited, fetch(value(one))), with_interventions(edited, what, feeds_))
        .scalar(one);
  }

  std::int64_t rows() const { return rows_; }

 private:
  static std::string of_target(std::size_t j, const char* what) {
    return fmt::format("target.{}.{}", j, what);
  }

  void add_source(const Sae& sae, std::size_t i, const Graph& plain) {
    const std::string name = fmt::format("source.{}", i), &to = spliced_site(sae);
    parameters_ = with_parameters(std::move(parameters_), sae, name);
    check_site(sae, plain, sae.config.hook_name);
    if (graph_.find_site(Site{to + ".hook_sae_acts_post"}.name) != nullptr)
      throw Error(ErrorKind::usage,
                  fmt::format("two sources are of '{}'; a site has one at a time", to));
    const Spliced spliced = splice(
        graph_, Site{to}, sae.config.transcoder ? transcoder_codec(sae, name) : codec(sae, name),
        ErrorTerm::keep);
    acts_.push_back(spliced.acts);
    error_.push_back(*spliced.error);
    graph_ = spliced.graph;
  }

  void add_target(const Sae& sae, std::size_t j, const Graph& plain, std::int64_t prompts) {
    const std::string name = fmt::format("target.{}", j), &from = site_of(sae, "target");
    parameters_ = with_parameters(std::move(parameters_), sae, name);
    check_site(sae, plain, from);
    Builder b(expand_sites(graph_, {from}));
    Nodes nodes(sae.config, name);
    const Value pre = nodes.pre(b.at(Site{from}));
    b.output(of_target(j, "pre"), pre);
    b.output(of_target(j, "features"), nodes.features(pre));
    // One row of each prompt at most: -1 stands for none, and counts for 0.
    const Value row = b.input("target.row", {DType::i32, {prompts}}),
                feature = b.input("target.feature", {DType::i32, {prompts}});
    b.output(of_target(j, "one"), sum(pick(gather_rows(pre, row), feature)));
    graph_ = std::move(b).finish();
    widths_.push_back(sae.config.d_sae);
  }

  // Which sources come before each target.
  void find_upstream(std::span<const Sae> sources, std::span<const Sae> targets) {
    for (std::size_t j = 0; j < targets.size(); ++j) {
      upstream_.emplace_back();
      for (std::size_t i = 0; i < sources.size(); ++i) {
        // Of several, one that is of the target's own site is no cause of it.
        const bool own =
            sources.size() > 1 && spliced_site(sources[i]) == targets[j].config.hook_name;
        if (!own &&
            depends_on(graph_, graph_.output(of_target(j, "pre")), graph_.site(acts_[i].name).node))
          upstream_[j].push_back(i);
      }
      if (!upstream_[j].empty()) continue;
      if (sources.size() > 1)
        throw Error(ErrorKind::usage,
                    fmt::format("nothing at '{}' depends on any source: a target must come after "
                                "one of them",
                                targets[j].config.hook_name));
      throw Error(ErrorKind::usage,
                  fmt::format("nothing at '{}' depends on '{}': the target SAE must come after the "
                              "source; exchange the two",
                              targets[j].config.hook_name, spliced_site(sources[0])));
    }
  }

  Slopes slopes_of(std::size_t target, bool with_errors) {
    auto& plan = plans_[{target, with_errors}];
    if (!plan) {
      std::string names;
      Fetch wanted;
      for (const std::size_t i : upstream_[target]) {
        names += (names.empty() ? "" : ",") + acts_[i].name;
        wanted.wants.push_back(grad(acts_[i]));
        if (!with_errors) continue;
        names += "," + error_[i].name;
        wanted.wants.push_back(grad(error_[i]));
      }
      plan = compile(gradient(graph_, of_target(target, "one"), sites(names)), wanted);
    }
    const Results r = run(*plan);
    Slopes found{std::vector<Tensor>(acts_.size()), std::vector<Tensor>(acts_.size())};
    for (const std::size_t i : upstream_[target]) {
      found.acts[i] = r.raw(grad_name(acts_[i].name)).contiguous();
      if (with_errors) found.error[i] = r.raw(grad_name(error_[i].name)).contiguous();
    }
    return found;
  }

  void set(const std::vector<std::int32_t>& rows, std::int64_t feature) {
    const auto n = std::ssize(rows);
    feeds_["target.row"] = Tensor::of({n}, rows);
    feeds_["target.feature"] = Tensor::full({n}, DType::i32, static_cast<double>(feature));
  }
  Results run(const Plan& plan) { return run(plan, feeds_); }
  Results run(const Plan& plan, const Feeds& feeds) {
    return plan.run(feeds, parameters_, {.pool = &model_.pool()});
  }

  const nn::Model& model_;
  Parameters parameters_;
  std::int64_t rows_;
  Graph graph_;
  Feeds feeds_;
  std::vector<Site> acts_, error_;    // of sources
  std::vector<std::int64_t> widths_;  // of targets
  std::vector<std::vector<std::size_t>> upstream_;
  std::map<std::pair<std::size_t, bool>, std::optional<Plan>> plans_;
};

// ---- what both parts of influence.h need ----------------------------------------------------------------
inline std::vector<bool> chosen(const std::vector<std::int64_t>& given, std::int64_t all,
                                const char* what) {
  std::vector<bool> yes(static_cast<std::size_t>(all), given.empty());
  for (const std::int64_t i : given) {
    if (i < 0 || i >= all)
      throw Error(ErrorKind::usage,
                  fmt::format("there is no {} {}; there are 0 to {}", what, i, all - 1));
    yes[static_cast<std::size_t>(i)] = true;
  }
  return yes;
}

inline double at(const Tensor& t, std::int64_t row, std::int64_t column) {
  return t.data<float>()[row * t.dim(1) + column];
}

template <class T, class Key>
void keep_strongest(std::vector<T>& all, int count, const Key& key) {
  std::stable_sort(all.begin(), all.end(), [&](const T& a, const T& b) { return key(a) > key(b); });
  if (std::ssize(all) > count) all.resize(static_cast<std::size_t>(count));
}
}  // namespace vitrine::sae
