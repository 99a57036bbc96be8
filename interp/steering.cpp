#include "interp/steering.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "interp/data/asked.h"
#include "interp/data/measure.h"
#include "nn/model/weights.h"
#include "tensor/error.h"
#include "tensor/files/npy.h"
#include "tensor/files/safetensors.h"

namespace vitrine::interp {
namespace {

// What a site, or a head of it, holds for one token: its type without the rows.
Type for_one_token(const nn::Model& model, const Site& site, std::optional<int> head) {
  const Graph graph = model.build(nn::BatchSize{1, 1, 1});
  const SiteEntry& entry = graph.site(site.name);
  const bool has_rows = !entry.axes.empty() && entry.axes[0] == Axis::row;
  const auto pairs = [](Axis a) { return a == Axis::key || a == Axis::query; };
  if (!has_rows || std::any_of(entry.axes.begin(), entry.axes.end(), pairs)) {
    std::vector<std::string_view> names;
    for (const Axis a : entry.axes) names.push_back(name_of(a));
    throw Error(ErrorKind::input,
                fmt::format("{} has the axes [{}]: it holds nothing for one token on its own, so "
                            "there is no direction in it; choose a site such as "
                            "blocks.0.hook_resid_post",
                            site.name, fmt::join(names, ", ")));
  }
  Shape rest;
  for (int a = 1; a < entry.type.shape.size(); ++a) {
    if (!head || entry.axes[static_cast<std::size_t>(a)] != Axis::head)
      rest.push_back(entry.type.shape[a]);
  }
  if (!head) return {entry.type.dtype, rest};
  if (entry.axes.size() < 2 || entry.axes[1] != Axis::head)
    throw Error(ErrorKind::input, fmt::format("{} has no heads, so there is no direction of head "
                                              "{} in it",
                                              site.name, *head));
  if (*head < 0 || *head >= entry.type.shape[1])
    throw Error(ErrorKind::input, fmt::format("{} has no head {}; there are 0 to {}", site.name,
                                              *head, entry.type.shape[1] - 1));
  return {entry.type.dtype, rest};
}

// What the site holds for each token of a prompt, f64, one after the other.
struct Activations {
  std::vector<double> numbers;
  std::size_t tokens, width;
  double at(std::size_t token, std::size_t i) const { return numbers[token * width + i]; }
};
Activations activations(const nn::Model& model, const Site& site, const nn::Tokens& prompt,
                        std::optional<int> head) {
  Tensor x = model.run(nn::Prompt(prompt), site)[site];  // [1, position, ...]
  if (head) x = x.select(2, *head).contiguous();
  return {x.to_vector<double>(), prompt.size(),
          static_cast<std::size_t>(x.numel()) / prompt.size()};
}

std::vector<double> reduced(const Activations& a, Positions positions) {
  std::vector<double> out(a.width, 0);
  const std::size_t first = positions == Positions::last ? a.tokens - 1 : 0;
  for (std::size_t t = first; t < a.tokens; ++t) {
    for (std::size_t i = 0; i < a.width; ++i)
      out[i] += a.at(t, i) / static_cast<double>(a.tokens - first);
  }
  return out;
}

// The shape without axes of size 1.
std::vector<std::int64_t> counted(const Shape& shape) {
  std::vector<std::int64_t> axes;
  std::copy_if(shape.begin(), shape.end(), std::back_inserter(axes),
               [](std::int64_t size) { return size != 1; });
  return axes;
}

// `given`, called `from`, in the shape and type of the site.
Tensor fitted(const nn::Model& model, const Site& site, const Tensor& given, std::string_view from,
              std::optional<int> head) {
  const Type type = for_one_token(model, site, head);
  const auto axes = counted(given.shape());
  const bool flat = axes.size() <= 1 && given.numel() == numel(type.shape);
  if (!flat && axes != counted(type.shape)) {
    throw Error(ErrorKind::input,
                fmt::format("{} is {}, but a direction at {} has {} numbers, {}: take one of "
                            "that width, or a site of the direction's",
                            from, to_string(given.shape()), site.name, numel(type.shape),
                            to_string(type.shape)));
  }
  const Tensor direction = given.to(type.dtype).contiguous().reshape(type.shape);
  const auto numbers = direction.to_vector<double>();
  const auto bad =
      std::find_if_not(numbers.begin(), numbers.end(), [](double x) { return std::isfinite(x); });
  if (bad != numbers.end()) {
    throw Error(ErrorKind::input,
                fmt::format("{}: number {} is {}; a direction's numbers must be finite", from,
                            bad - numbers.begin(), *bad));
  }
  return direction;
}

Tensor read(const std::filesystem::path& file, std::string_view tensor) {
  const std::string extension = file.extension().string();
  if (extension == ".npy") {
    if (tensor.empty()) return load_npy(file);
    throw FileError(
        fmt::format("{}: a .npy file holds one array, which has no name; leave out '{}'",
                    file.string(), tensor));
  }
  if (extension != ".safetensors") {
    throw FileError(
        fmt::format("{}: a direction is read from a .safetensors or .npy file", file.string()));
  }
  const SafeTensors tensors = SafeTensors::open(file);
  if (!tensor.empty()) return tensors.at(tensor);
  const auto& names = tensors.names();
  if (names.size() == 1) return tensors.at(names[0]);
  constexpr std::size_t kShown = 8;
  const std::vector<std::string> shown(
      names.begin(), names.begin() + static_cast<std::ptrdiff_t>(std::min(kShown, names.size())));
  throw FileError(fmt::format("{} holds {} tensors; say which one is the direction: {}{}",
                              file.string(), names.size(), fmt::join(shown, ", "),
                              names.size() > kShown ? ", ..." : ""));
}

}  // namespace

std::string_view name_of(Positions p) { return p == Positions::last ? "last" : "mean"; }

Tensor direction(const nn::Model& model, const Site& site, const nn::Prompt& plus,
                 const nn::Prompt& minus, Positions positions, std::optional<int> head) {
  const Type type = for_one_token(model, site, head);
  const nn::Tokens a = model.tokens(plus), b = model.tokens(minus);
  for (const auto& [name, tokens] : {std::pair{"plus", &a}, std::pair{"minus", &b}}) {
    if (!tokens->empty()) continue;
    throw ContextError(fmt::format(
        "the {} prompt is empty, so the model has no activation for it; it needs at least one "
        "token",
        name));
  }
  std::vector<double> difference = reduced(activations(model, site, a, head), positions);
  const std::vector<double> other = reduced(activations(model, site, b, head), positions);
  for (std::size_t i = 0; i < difference.size(); ++i) difference[i] -= other[i];
  return Tensor::of(type.shape, difference).to(type.dtype);
}

Tensor direction_toward(const nn::Model& model, const Site& site, int token,
                        std::optional<int> head) {
  const nn::Config& c = model.config();
  if (token < 0 || token >= c.vocabulary) {
    throw TokenError(
        fmt::format("there is no token {}; this model knows ids 0 to {}", token, c.vocabulary - 1));
  }
  const Tensor w_u = nn::weights(model, "unembed.W_U").at("unembed.W_U");  // [d, v]
  return fitted(model, site, w_u.select(1, token).clone(),
                fmt::format("the unembedding vector of token {}", token), head);
}

Tensor direction_from(const nn::Model& model, const Site& site, const std::filesystem::path& file,
                      std::string_view tensor, std::optional<int> head) {
  const std::string from =
      tensor.empty() ? file.string() : fmt::format("{}, tensor {}", file.string(), tensor);
  return fitted(model, site, read(file, tensor), from, head);
}

double norm(const Tensor& direction) {
  const auto x = direction.to_vector<double>();
  return std::sqrt(std::inner_product(x.begin(), x.end(), x.begin(), 0.0));
}

Norms norms(const nn::Model& model, const Site& site, const nn::Prompt& prompt,
            std::optional<int> head) {
  const nn::Tokens tokens = model.tokens(prompt);
  return norms(model, site, std::span(&tokens, 1), head);
}

// ---- many prompts -------------------------------------------------------------------------------
Norms norms(const nn::Model& model, const Site& site, std::span<const nn::Tokens> prompts,
            std::optional<int> head) {
  for_one_token(model, site, head);  // throws for a site that does not go by tokens
  nn::check_prompts({prompts.begin(), prompts.end()}, model.config());
  double sum = 0, sum_of_last = 0;
  std::int64_t count = 0;
  Norms found{0, std::numeric_limits<double>::infinity(), 0, 0};
  for (const auto& [begin, end] : batches(prompts)) {
    const std::vector<nn::Tokens> some = part_of(prompts, begin, end);
    const nn::Run run = model.run_graph(model.build(nn::batch_size(some)), some, fetch(site));
    Tensor values = run.results.raw(site.name);  // [row, ...]
    if (head) values = values.select(1, *head).contiguous();
    const auto x = values.to_vector<double>();
    std::size_t rows = 0, row = 0;
    for (const nn::Tokens& p : some) rows += p.size();
    const std::size_t width = x.size() / rows;
    for (const nn::Tokens& p : some) {
      for (std::size_t t = 0; t < p.size(); ++t, ++row) {
        const double* at = x.data() + row * width;
        const double length = std::sqrt(std::inner_product(at, at + width, at, 0.0));
        found.least = std::min(found.least, length);
        found.most = std::max(found.most, length);
        sum += length;
        ++count;
        if (t + 1 == p.size()) sum_of_last += length;
      }
    }
  }
  found.mean = sum / static_cast<double>(count);
  found.last = sum_of_last / static_cast<double>(prompts.size());
  return found;
}

namespace {

// The metrics, [factor, prompt], of runs with factor * direction added where `places` says, of the
// prompts [begin, end), given the head. `metric_of_some` gives their metric.
template <class MetricOf, class Places>
Tensor steered_prompts(const nn::Model& model, const std::vector<nn::Tokens>& prompts,
                       const Site& site, const Tensor& direction, std::span<const double> factors,
                       const BatchLimits& limits, const MetricOf& metric_of_some,
                       const Places& places, const std::atomic<bool>* cancel,
                       std::optional<int> head) {
  const Tensor fits = fitted(model, site, direction, "the direction", head);
  Where where;
  if (head) where.head = {*head};
  const std::int64_t rows = std::ssize(factors), columns = std::ssize(prompts);
  Tensor table = Tensor::empty({rows, columns}, DType::f64);
  for (const auto& [begin, end] : batches(prompts, limits)) {
    const std::vector<nn::Tokens> some = part_of(prompts, begin, end);
    const Metric metric = metric_of_some(begin, end);
    const std::string each = nn::per_prompt_name(metric);
    std::vector<Interventions> worlds;
    for (const double factor : factors) {
      Edit e = add(site, fits, factor);
      e.where = places(where, begin, end);
      worlds.push_back({std::move(e)});
    }
    const auto values = model.sweep(some, worlds, metric, {each}, {.cancel = cancel})[each]
                            .template to_vector<double>();  // [factors, prompts]
    for (std::int64_t f = 0; f < rows; ++f)
      std::copy_n(values.begin() + f * std::ssize(some), std::ssize(some),
                  table.data<double>() + f * columns + static_cast<std::int64_t>(begin));
  }
  return table;
}

}  // namespace

Metric metric_of(const nn::Model& model, std::span<const Asked> asked, Measure measure) {
  std::vector<int> answers;
  for (const Asked& a : asked) answers.push_back(a.answer.value_or(-1));
  switch (measure) {
    case Measure::prob:
      return nn::probability(answers);
    case Measure::log_prob:
      return nn::log_probability(answers);
    case Measure::kl:
      return nn::kl_to(logits_asked(model, asked));
    case Measure::logit_diff:
      break;
  }
  return answer_logit(asked);
}

Tensor steered(const nn::Model& model, std::span<const Asked> asked, const Site& site,
               const Tensor& direction, std::span<const double> factors, Measure measure,
               const std::atomic<bool>* cancel, std::optional<int> head) {
  check_asked(model, asked, measure != Measure::kl);
  return steered_prompts(
      model, prompts_to_run(model, asked), site, direction, factors, limits_of_logits(model),
      [&](std::size_t begin, std::size_t end) {
        const auto some = asked.subspan(begin, end - begin);
        Metric metric = metric_of(model, some, measure);
        metric.feeds.merge(rows_asked(model, some));
        return metric;
      },
      [](const Where& where, std::size_t, std::size_t) { return std::vector{where}; }, cancel,
      head);
}

Tensor steered(const nn::Model& model, std::span<const Example> examples, const Site& site,
               const Tensor& direction, std::span<const double> factors, const MetricSpec& metric,
               const std::atomic<bool>* cancel, std::optional<int> head,
               std::span<const Position> positions) {
  const std::vector<nn::Tokens> prompts = prompts_to_run(examples, metric);
  nn::check_prompts(prompts, model.config());
  BatchLimits limits = limits_of_logits(model);
  // These read the logits after every token.
  if (metric.contains(MetricNode::Kind::loss) || reads_long_answers(examples, metric))
    limits.rows = std::min(limits.rows, limits.prompts);
  return steered_prompts(
      model, prompts, site, direction, factors, limits,
      [&](std::size_t begin, std::size_t end) {
        return metric_of(model, examples.subspan(begin, end - begin), metric);
      },
      [&](const Where& where, std::size_t begin, std::size_t end) {
        if (positions.empty()) return std::vector{where};
        return at_positions({&where, 1}, examples.subspan(begin, end - begin), positions);
      },
      cancel, head);
}

Tensor steered_logits(const nn::Model& model, const nn::Tokens& prompt, const Site& site,
                      const Tensor& vectors, const std::atomic<bool>* cancel) {
  nn::check_prompts({prompt}, model.config());
  const std::string output = "steered_logits";
  const Metric logits{"steered_logits_mean", [&](Builder& b) {
                        const Value last = nn::last_logits(b);  // [1, vocabulary]
                        b.output(output, last);
                        return mean(last);
                      }};
  Tensor all = Tensor::empty({vectors.dim(0), model.config().vocabulary}, DType::f32);
  constexpr std::int64_t kTogether = 256;  // worlds
  for (std::int64_t begin = 0; begin < vectors.dim(0); begin += kTogether) {
    const std::int64_t end = std::min(vectors.dim(0), begin + kTogether);
    std::vector<Interventions> worlds;
    for (std::int64_t i = begin; i < end; ++i) {
      const Tensor fits = fitted(model, site, vectors.select(0, i).clone(), "the vector", {});
      worlds.push_back({add(site, fits)});
    }
    const Tensor some = model.sweep({prompt}, worlds, logits, {output}, {.cancel = cancel})[output]
                            .to(DType::f32)
                            .contiguous();
    std::copy_n(some.data<float>(), some.numel(), all.data<float>() + begin * all.dim(1));
  }
  return all;
}

}  // namespace vitrine::interp
