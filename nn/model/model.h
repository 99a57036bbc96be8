// A loaded model: configuration, weights, tokenizer, and the plans that were compiled for it.
//
//   auto m = nn::load_model();        // the default model; or a folder, or "gpt2"
//   nn::Run r = m.run("The capital of Texas is", sites("*.attn.hook_pattern"));
//   r[site::pattern(2)];              // Tensor [1, head, query, key]
#pragma once

#include <atomic>
#include <concepts>
#include <cstdint>
#include <functional>
#include <initializer_list>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "autograd/compile/plan_cache.h"
#include "autograd/sweep/grid.h"
#include "autograd/sweep/sweep.h"
#include "autograd/transform/intervention.h"
#include "nn/model/batch.h"
#include "nn/model/checkpoint.h"
#include "nn/model/graph_cache.h"
#include "nn/model/metrics.h"
#include "nn/model/reweight.h"
#include "nn/model/standing_edits.h"
#include "nn/tokenizer/tokenizer.h"

namespace vitrine::nn {

// The result of a run: its prompts and the fetched values.
struct Run {
  std::vector<Tokens> prompts;
  Results results;

  Tensor operator[](const Site& site) const { return results[site]; }
  Tensor operator[](std::string_view name) const { return results[name]; }
  Tensor logits() const { return results["logits"]; }  // [batch, position, vocabulary]
  Tensor last_logits() const;  // [batch, vocabulary], after the last token of each prompt
};

struct LoadOptions {
  DType dtype = DType::f32;  // f64 for checks
  // Matrices that the file has in f16, bf16 or blocks stay mapped from it, and products widen them
  // as they read; or they become dtype, which training needs.
  Weights weights = Weights::stored;
  int threads = 0;   // 0: one per core
  Gauge gauge = {};  // raw: the weights of the checkpoint
  // Bytes that compiled plans, and memory kept for the next run, may take; 0: a quarter of the
  // machine's memory. What a run needs while it runs, and results that are held, do not count.
  std::int64_t memory = 0;
};

struct Prompt {                                   // text, or token ids
  Prompt(std::string_view t) : text(t) {}         // NOLINT(google-explicit-constructor)
  Prompt(const char* t) : text(t) {}              // NOLINT(google-explicit-constructor)
  Prompt(const std::string& t) : text(t) {}       // NOLINT(google-explicit-constructor)
  Prompt(Tokens ids) : tokens(std::move(ids)) {}  // NOLINT(google-explicit-constructor)
  std::optional<std::string> text;
  Tokens tokens;
};

class Model {
 public:
  Model(Config config, Parameters parameters, std::optional<Tokenizer> tokenizer,
        const LoadOptions& options = {});
  // A copy costs nothing: it shares the weights, the tokenizer, the threads and the compiled plans. What is
  // transformed, stands or is cancelled in one is not so in the other.
  Model(const Model&) = default;
  Model(Model&&) = default;
  Model& operator=(const Model&) = default;
  Model& operator=(Model&&) = default;

  const Config& config() const { return config_; }
  // The weights of the checkpoint, and those of the gauge, which its graphs read in their place.
  const Parameters& parameters() const { return parameters_; }
  const Gauge& gauge() const { return gauge_; }
  // The same model in another gauge. Throws Error (usage) for one that was transformed or has standing edits: these come
  // after the gauge.
  Model in_gauge(const Gauge& gauge) const;
  DType dtype() const { return dtype_; }             // of activations: what it computes in
  const std::string& name() const { return name_; }  // the folder it came from
  void set_name(std::string name) { name_ = std::move(name); }

  bool has_tokenizer() const { return tokenizer_ != nullptr; }
  const Tokenizer& tokenizer() const;  // throws TokenError, saying why, when there is none
  // Says why there is no tokenizer: missing files, or what is wrong with them. "" when there is
  // one.
  std::string why_no_tokenizer() const;
  // In the place of none, or of one that cannot be used.
  void set_tokenizer(Tokenizer tokenizer) {
    tokenizer_ = std::make_shared<const Tokenizer>(std::move(tokenizer));
    tokenizer_fault_.clear();
  }
  void set_tokenizer_fault(std::string fault) { tokenizer_fault_ = std::move(fault); }
  // Whether there are files of a tokenizer that cannot be used.
  bool has_tokenizer_fault() const { return !tokenizer_fault_.empty(); }

  // Tokenize: the single token of a text, and the ids of a prompt, which begins with
  // Tokenizer::first(). Throw TokenError when there is no tokenizer, and for a token of it that the
  // model has no embedding for.
  int token(std::string_view text) const;
  Tokens tokens(const Prompt& prompt) const;
  Tokens encode_prompt(std::string_view text, Special special = Special::as_text) const;
  void check_embedded(std::span<const int> tokens) const;
  std::string why_not_embedded(int id) const;  // of an id that the tokenizer alone knows

  // ---- what holds in every run from now on --------------------------------------------------
  // Transforms every graph of this model: a splice, say. `more` are parameters that it adds.
  using Transformation = std::function<Graph(const Graph&)>;
  void transform(Transformation make, const Parameters& more = {});
  // Makes edits in every run (model/standing_edits.h), after all transformations. Throws GraphError for one that
  // cannot stand, and what intervene throws.
  void stand(std::vector<StandingEdit> edits);
  const std::vector<StandingEdit>& standing() const { return standing_; }
  // Every run from now on looks at it between its steps, and throws InterruptedError when it is set; a run or a sweep
  // that is given one of its own looks at that. null: none.
  void cancel_by(const std::atomic<bool>* cancel) { cancel_ = cancel; }

  // Builds the graph for `batch` prompts of `tokens` tokens each, in this model's gauge, with its transformations
  // and the inputs of its standing edits.
  struct Uniform {
    std::int64_t batch = 1, tokens = 1;
  };
  Graph build(const Uniform& size) const;
  Graph build(const BatchSize& size) const;
  // The feeds of such a graph, transformed further or not, for prompts of its size: batch_feeds and those of the
  // standing edits.
  Feeds feeds(const Graph& graph, const std::vector<Tokens>& prompts) const;

  // Caches a transformed graph: `make` is applied once to the graph of this size, under the key
  // `how`. Everything that changes the graph belongs in `how`, each thing as a text of its own.
  using How = std::vector<std::string>;
  std::shared_ptr<const Graph> derived(const BatchSize& size, const How& how,
                                       const std::function<Graph(const Graph&)>& make) const;

  // Runs prompts through the model and returns the fetched values, the logits when nothing is asked
  // for. Throws ContextError, TokenError, SiteError, and NumericError when a result holds NaN.
  template <class... W>
  Run run(const Prompt& prompt, const W&... wants) const {
    return run_batch({tokens(prompt)}, wanted(wants...));
  }
  template <class... W>
  Run run(const std::vector<Tokens>& prompts, const W&... wants) const {
    return run_batch(prompts, wanted(wants...));
  }
  // The same in braces: run({1, 2, 3}) is one prompt, run({{1, 2}, {3}}) a batch of two.
  template <std::same_as<int> Token, class... W>
  Run run(std::initializer_list<Token> tokens, const W&... wants) const {
    return run_batch({Tokens(tokens)}, wanted(wants...));
  }
  template <class... W>
  Run run(std::initializer_list<Tokens> prompts, const W&... wants) const {
    return run_batch(prompts, wanted(wants...));
  }
  Run run_batch(const std::vector<Tokens>& prompts, const Fetch& wanted) const;
  // The same over a transformed graph, which must have been built for prompts of this size.
  // `more` are feeds besides the prompts: those of a metric, say. They may replace the prompts' own:
  // rows.last, where another position than the last is asked about.
  Run run_graph(const Graph& graph, const std::vector<Tokens>& prompts, const Fetch& wanted,
                const Feeds& more = {}) const;

  // Runs the prompts under interventions; `metric`, if given, is emitted on the edited graph.
  Run run_edited(const std::vector<Tokens>& prompts, const Interventions& what, const Fetch& wanted,
                 const Metric* metric = nullptr, const RunOptions& options = {}) const;

  // Sweeps: one edited run of the prompts for each of `worlds`, compiled into one program.
  // `outputs` are those that the metric emits ("logit_diff", "logit_diff_per_prompt"). The pool and
  // the cache of plans are this model's.
  Swept sweep(const std::vector<Tokens>& prompts, std::span<const Interventions> worlds,
              const Metric& metric, const std::vector<std::string>& outputs,
              const SweepOptions& options = {}) const;

  // Sweeps the metric of a prompt over one edit for each of these sites and each place along their
  // axes:
  //   m.sweep(corrupt, sites("blocks.*.hook_resid_pre"), {Axis::pos}, from(clean.results), metric);
  GridValues sweep(const Prompt& prompt, const SiteSet& sites, const std::vector<Axis>& by,
                   const MakeEdit& edit, const Metric& metric,
                   const SweepOptions& options = {}) const;

  ThreadPool& pool() const { return *pool_; }
  PlanCache& plans() const { return *plans_; }

 private:
  template <class... W>
  static Fetch wanted(const W&... wants) {
    if constexpr (sizeof...(W) == 0) return fetch(value("logits"));
    else return fetch(wants...);
  }
  std::shared_ptr<const Graph> graph_for(const BatchSize& size) const;

  struct Graphs {
    std::mutex mutex;
    GraphCache<BatchSize> by_size{48};
    GraphCache<std::pair<BatchSize, How>> derived{16};
  };

  Graph raw_graph(const BatchSize& size) const;  // without the gauge

  std::string name_;
  Config config_;
  Parameters parameters_;
  std::shared_ptr<const Tokenizer> tokenizer_;  // null: none
  std::string tokenizer_fault_;
  DType dtype_;
  Gauge gauge_;
  std::vector<Transformation> transformations_;
  std::vector<StandingEdit> standing_;
  const std::atomic<bool>* cancel_ = nullptr;
  std::shared_ptr<ThreadPool> pool_;
  std::shared_ptr<PlanCache> plans_;
  std::shared_ptr<Graphs> graphs_;  // of models that transform alike
};

// The configuration of the model at a path that find_model gave.
Config read_config(const std::filesystem::path& path);

// Loads a model of any family (families/architecture.h) from a HuggingFace folder; "" is the default
// model, "gpt2" the published one in the local cache (see model/find_model.h). Models without
// tokenizer files, or with some that cannot be used, work by token ids.
Model load_model(std::string_view name = "", const LoadOptions& options = {});
// The same, by the name of the first family.
inline Model load_gpt2(std::string_view name = "", const LoadOptions& options = {}) {
  return load_model(name, options);
}

// Computes the next-token cross-entropy in nats: the mean over all prompts, and per token [n] in
// the order of the prompts.
struct Loss {
  double mean;
  Tensor per_token;
};
Loss loss(const Model& model, const std::vector<Tokens>& prompts);

}  // namespace vitrine::nn
