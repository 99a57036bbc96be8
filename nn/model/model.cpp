#include "nn/model/model.h"

#include <fmt/format.h>

#include <algorithm>

#include "autograd/compile/fold.h"
#include "autograd/transform/store.h"
#include "nn/model/checkpoint.h"
#include "nn/model/find_model.h"
#include "nn/model/gguf_model.h"
#include "tensor/error.h"
#include "tensor/files/utf8.h"

namespace vitrine::nn {

Tensor Run::last_logits() const {
  const Tensor rows = results.raw("logits");
  const auto count = static_cast<std::int64_t>(prompts.size());
  Tensor last = Tensor::empty({count, rows.dim(1)}, rows.dtype());
  std::int64_t end = 0;
  for (std::int64_t i = 0; i < count; ++i) {
    end += static_cast<std::int64_t>(prompts[static_cast<std::size_t>(i)].size());
    const Tensor row = rows.select(0, end - 1);
    std::copy_n(row.view().data, row.bytes(), last.select(0, i).view().data);
  }
  return last;
}

Model::Model(Config config, Parameters parameters, std::optional<Tokenizer> tokenizer,
             const LoadOptions& options)
    : config_(std::move(config)),
      parameters_(std::move(parameters)),
      tokenizer_(tokenizer ? std::make_shared<const Tokenizer>(*std::move(tokenizer)) : nullptr),
      dtype_(options.dtype),
      gauge_(gauge_of(config_, options.gauge)),
      pool_(std::make_shared<ThreadPool>(options.threads)),
      plans_(std::make_shared<PlanCache>(48, options.memory)),
      graphs_(std::make_shared<Graphs>()) {
  if (gauge_.is_raw()) return;
  const Graph computed = reweight(raw_graph({1, 1, 1}), config_, gauge_);
  parameters_.merge(folded_values(computed, reweighted_names(computed), parameters_, pool_.get()));
}

Model Model::in_gauge(const Gauge& gauge) const {
  if (!transformations_.empty() || !standing_.empty())
    throw Error(ErrorKind::usage,
                "the gauge of a model is chosen before it is edited or an SAE is spliced in: take the "
                "model as it was, change its gauge, then edit it");
  Parameters weights;  // those of the checkpoint
  const Graph plain = raw_graph({1, 1, 1});
  for (const auto& [name, value] : parameters_) {
    if (plain.leaf(name) != kNoNode) weights.emplace(name, value);
  }
  Model model(config_, std::move(weights), std::nullopt,
              {.dtype = dtype_, .threads = 1, .gauge = gauge});
  model.name_ = name_;
  model.tokenizer_ = tokenizer_;
  model.tokenizer_fault_ = tokenizer_fault_;
  model.pool_ = pool_;
  model.plans_ = plans_;
  return model;
}

std::string Model::why_no_tokenizer() const {
  if (tokenizer_) return "";
  if (!tokenizer_fault_.empty())
    return fmt::format("this model's tokenizer cannot be used: {}", tokenizer_fault_);
  return "this model has no tokenizer (tokenizer.json, or vocab.json and merges.txt)";
}

const Tokenizer& Model::tokenizer() const {
  if (tokenizer_) return *tokenizer_;
  throw TokenError(fmt::format("{}: {}; give token ids instead of text",
                               name_.empty() ? "the model" : name_, why_no_tokenizer()));
}

int Model::token(std::string_view text) const {
  const int id = tokenizer().to_single_token(text);
  check_embedded({&id, 1});
  return id;
}

Tokens Model::tokens(const Prompt& prompt) const {
  return prompt.text ? encode_prompt(*prompt.text) : prompt.tokens;
}

Tokens Model::encode_prompt(std::string_view text, Special special) const {
  Tokens tokens = tokenizer().encode_prompt(text, special);
  check_embedded(tokens);
  return tokens;
}

void Model::check_embedded(std::span<const int> tokens) const {
  for (const int id : tokens) {
    if (id >= config_.vocabulary) throw TokenError(why_not_embedded(id));
  }
}

std::string Model::why_not_embedded(int id) const {
  return fmt::format(
      "the token {} (id {}) has no embedding: the tokenizer has {} ids, the model {} (0 to {}); "
      "leave it out of the text, or enlarge the model's vocabulary (in Python: "
      "model.resize_token_embeddings(len(tokenizer)))",
      quote(tokenizer().shown(id)), id, tokenizer().vocabulary_size(), config_.vocabulary,
      config_.vocabulary - 1);
}

Graph Model::raw_graph(const BatchSize& size) const {
  return store_as(build_model(config_, size, dtype_), parameters_);
}
Graph Model::build(const BatchSize& size) const {
  Graph graph = raw_graph(size);
  if (!gauge_.is_raw()) {
    const Graph computed = reweight(graph, config_, gauge_);
    graph = fold(computed, reweighted_names(computed));
  }
  for (const Transformation& t : transformations_) graph = t(graph);
  return standing_.empty() ? graph : intervene(graph, standing_shape(standing_, graph));
}
Graph Model::build(const Uniform& size) const {
  return build({size.batch * size.tokens, size.batch, size.tokens});
}

Feeds Model::feeds(const Graph& graph, const std::vector<Tokens>& prompts) const {
  const Feeds plain = batch_feeds(prompts);
  if (standing_.empty()) return plain;
  return with_interventions(graph, standing_in(standing_, prompts), plain);
}

void Model::transform(Transformation make, const Parameters& more) {
  const Graph before = build(BatchSize{1, 1, 1});
  make(before);  // throws for what does not fit
  transformations_.push_back(std::move(make));
  parameters_.insert(more.begin(), more.end());
  graphs_ = std::make_shared<Graphs>();
}

void Model::stand(std::vector<StandingEdit> edits) {
  check_standing(edits);
  standing_.swap(edits);
  graphs_ = std::make_shared<Graphs>();
  try {
    build(BatchSize{1, 1, 1});
  } catch (...) {
    standing_.swap(edits);
    throw;
  }
}

std::shared_ptr<const Graph> Model::graph_for(const BatchSize& size) const {
  const std::lock_guard lock(graphs_->mutex);
  if (auto known = graphs_->by_size.find(size)) return known;
  return graphs_->by_size.put(size, std::make_shared<const Graph>(build(size)));
}

std::shared_ptr<const Graph> Model::derived(const BatchSize& size, const How& how,
                                            const std::function<Graph(const Graph&)>& make) const {
  const std::pair key(size, how);
  {
    const std::lock_guard lock(graphs_->mutex);
    if (auto known = graphs_->derived.find(key)) return known;
  }
  auto made = std::make_shared<const Graph>(make(*graph_for(size)));
  const std::lock_guard lock(graphs_->mutex);
  return graphs_->derived.put(key, std::move(made));
}

Run Model::run_batch(const std::vector<Tokens>& prompts, const Fetch& wanted) const {
  check_prompts(prompts, config_);
  return run_graph(*graph_for(batch_size(prompts)), prompts, wanted);
}

Run Model::run_graph(const Graph& graph, const std::vector<Tokens>& prompts, const Fetch& wanted,
                     const Feeds& more) const {
  check_prompts(prompts, config_);
  const Plan plan = plans_->get(graph, wanted);
  Feeds fed = feeds(graph, prompts);
  for (const auto& [name, value] : more) fed.insert_or_assign(name, value);
  return {prompts, plan.run(fed, parameters_, {.pool = pool_.get(), .cancel = cancel_})};
}

Run Model::run_edited(const std::vector<Tokens>& prompts, const Interventions& what,
                      const Fetch& wanted, const Metric* metric, const RunOptions& options) const {
  check_prompts(prompts, config_);
  const BatchSize size = batch_size(prompts);
  How how = structure_of(*graph_for(size), what);
  how.insert(how.begin(), "edited");
  Graph graph = *derived(size, how, [&](const Graph& g) { return intervene(g, what); });
  Feeds fed = feeds(graph, prompts);
  if (metric != nullptr) {
    graph = with_metric(graph, *metric);
    for (const auto& [name, value] : metric->feeds) fed.insert_or_assign(name, value);
  }
  const Plan plan = plans_->get(graph, wanted);
  RunOptions with_pool = options;
  with_pool.pool = pool_.get();
  if (with_pool.cancel == nullptr) with_pool.cancel = cancel_;
  return {prompts, plan.run(with_interventions(graph, what, fed), parameters_, with_pool)};
}

Swept Model::sweep(const std::vector<Tokens>& prompts, std::span<const Interventions> worlds,
                   const Metric& metric, const std::vector<std::string>& outputs,
                   const SweepOptions& options) const {
  check_prompts(prompts, config_);
  SweepOptions with_pool = options;
  with_pool.pool = pool_.get();
  with_pool.plans = plans_.get();
  if (with_pool.cancel == nullptr) with_pool.cancel = cancel_;
  const auto graph = graph_for(batch_size(prompts));
  Feeds fed = feeds(*graph, prompts);
  for (const auto& [name, value] : metric.feeds) fed.insert_or_assign(name, value);
  return vitrine::sweep(with_metric(*graph, metric), fed, parameters_, worlds, outputs, with_pool);
}

GridValues Model::sweep(const Prompt& prompt, const SiteSet& sites, const std::vector<Axis>& by,
                        const MakeEdit& edit, const Metric& metric,
                        const SweepOptions& options) const {
  const std::vector<Tokens> prompts = {tokens(prompt)};
  check_prompts(prompts, config_);
  const Grid g = grid(*graph_for(batch_size(prompts)), sites, by, edit);
  return label(g, sweep(prompts, g.worlds, metric, {metric.name}, options)[metric.name]);
}

namespace {

// The folder of the files beside weights: a PyTorch checkpoint may be given by itself.
std::filesystem::path folder_of(const std::filesystem::path& path) {
  return is_gguf(path) || std::filesystem::is_directory(path) ? path : path.parent_path();
}

}  // namespace

Config read_config(const std::filesystem::path& path) {
  return is_gguf(path) ? gguf_config(Gguf::open(path)) : load_config(folder_of(path));
}

Model load_model(std::string_view name, const LoadOptions& options) {
  const auto path = find_model(name);
  if (std::filesystem::is_directory(path)) require_whole_download(path);
  Config config = read_config(path);
  Parameters parameters =
      is_gguf(path) ? gguf_parameters(Gguf::open(path), config, options.dtype, options.weights)
                    : load_checkpoint(path, config, options.dtype, options.weights);
  const auto with_tokenizer = folder_of(path);
  std::optional<Tokenizer> tokenizer;
  std::string fault;
  try {
    if (Tokenizer::exists(with_tokenizer)) tokenizer = Tokenizer::load(with_tokenizer);
  } catch (const Error& error) {
    if (error.kind() != ErrorKind::input) throw;
    fault = error.what();
  }
  Model model(std::move(config), std::move(parameters), std::move(tokenizer), options);
  model.set_name(name.empty() ? "default" : std::string(name));
  model.set_tokenizer_fault(std::move(fault));
  return model;
}

Loss loss(const Model& model, const std::vector<Tokens>& prompts) {
  check_prompts(prompts, model.config());
  const std::int64_t n = next_tokens(prompts);
  if (n == 0)
    throw ContextError(
        "the loss needs a next token to predict: give a prompt of at least two tokens");
  const Graph graph = with_metric(model.build(batch_size(prompts)), next_token_loss(n));
  const Run run = model.run_graph(graph, prompts, fetch(value("loss"), value("loss_per_token")));
  return {run.results.scalar("loss"), run["loss_per_token"]};
}

}  // namespace vitrine::nn
