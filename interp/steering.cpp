#include "interp/steering.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "nn/model/weights.h"
#include "tensor/error.h"
#include "tensor/files/npy.h"
#include "tensor/files/safetensors.h"

namespace vitrine::interp {
namespace {

// What a site holds for one token: its type without the rows.
Type for_one_token(const nn::Model& model, const Site& site) {
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
  for (int a = 1; a < entry.type.shape.size(); ++a) rest.push_back(entry.type.shape[a]);
  return {entry.type.dtype, rest};
}

// What the site holds for each token of a prompt, f64, one after the other.
struct Activations {
  std::vector<double> numbers;
  std::size_t tokens, width;
  double at(std::size_t token, std::size_t i) const { return numbers[token * width + i]; }
};
Activations activations(const nn::Model& model, const Site& site, const nn::Tokens& prompt) {
  const Tensor x = model.run(nn::Prompt(prompt), site)[site];  // [1, position, ...]
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
Tensor fitted(const nn::Model& model, const Site& site, const Tensor& given,
              std::string_view from) {
  const Type type = for_one_token(model, site);
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
                 const nn::Prompt& minus, Positions positions) {
  const Type type = for_one_token(model, site);
  const nn::Tokens a = model.tokens(plus), b = model.tokens(minus);
  for (const auto& [name, tokens] : {std::pair{"plus", &a}, std::pair{"minus", &b}}) {
    if (!tokens->empty()) continue;
    throw ContextError(fmt::format(
        "the {} prompt is empty, so the model has no activation for it; it needs at least one "
        "token",
        name));
  }
  std::vector<double> difference = reduced(activations(model, site, a), positions);
  const std::vector<double> other = reduced(activations(model, site, b), positions);
  for (std::size_t i = 0; i < difference.size(); ++i) difference[i] -= other[i];
  return Tensor::of(type.shape, difference).to(type.dtype);
}

Tensor direction_toward(const nn::Model& model, const Site& site, int token) {
  const nn::Config& c = model.config();
  if (token < 0 || token >= c.vocabulary) {
    throw TokenError(
        fmt::format("there is no token {}; this model knows ids 0 to {}", token, c.vocabulary - 1));
  }
  const Tensor w_u = nn::weights(model, "unembed.W_U").at("unembed.W_U");  // [d, v]
  return fitted(model, site, w_u.select(1, token).clone(),
                fmt::format("the unembedding vector of token {}", token));
}

Tensor direction_from(const nn::Model& model, const Site& site, const std::filesystem::path& file,
                      std::string_view tensor) {
  const std::string from =
      tensor.empty() ? file.string() : fmt::format("{}, tensor {}", file.string(), tensor);
  return fitted(model, site, read(file, tensor), from);
}

double norm(const Tensor& direction) {
  const auto x = direction.to_vector<double>();
  return std::sqrt(std::inner_product(x.begin(), x.end(), x.begin(), 0.0));
}

Norms norms(const nn::Model& model, const Site& site, const nn::Prompt& prompt) {
  for_one_token(model, site);  // throws for a site that does not go by tokens
  const Activations a = activations(model, site, model.tokens(prompt));
  std::vector<double> each;
  for (std::size_t t = 0; t < a.tokens; ++t) {
    double squares = 0;
    for (std::size_t i = 0; i < a.width; ++i) squares += a.at(t, i) * a.at(t, i);
    each.push_back(std::sqrt(squares));
  }
  const auto [least, most] = std::minmax_element(each.begin(), each.end());
  return {std::accumulate(each.begin(), each.end(), 0.0) / static_cast<double>(a.tokens), *least,
          *most, each.back()};
}

// ---- many prompts -------------------------------------------------------------------------------
namespace {

// The logits after each prompt's position, [prompts, vocabulary].
Tensor logits_asked(const nn::Model& model, std::span<const Asked> asked) {
  const std::vector<nn::Tokens> prompts = prompts_to_run(model, asked);
  Builder b(model.build(nn::batch_size(prompts)));
  b.output("steering.logits", nn::last_logits(b));
  return model
      .run_graph(std::move(b).finish(), prompts, fetch(value("steering.logits")),
                 rows_asked(model, asked))
      .results.raw("steering.logits");
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
               const std::atomic<bool>* cancel) {
  check_asked(model, asked, measure != Measure::kl);
  const Tensor fits = fitted(model, site, direction, "the direction");
  const std::vector<nn::Tokens> prompts = prompts_to_run(model, asked);
  const std::int64_t rows = std::ssize(factors), columns = std::ssize(asked);
  Tensor table = Tensor::empty({rows, columns}, DType::f64);
  std::vector<Interventions> worlds;
  for (const double factor : factors) worlds.push_back({add(site, fits, factor)});
  for (const auto& [begin, end] : batches(prompts, limits_of_logits(model))) {
    const std::vector<nn::Tokens> some(prompts.begin() + static_cast<std::ptrdiff_t>(begin),
                                       prompts.begin() + static_cast<std::ptrdiff_t>(end));
    const auto now = asked.subspan(begin, end - begin);
    Metric metric = metric_of(model, now, measure);
    metric.feeds.merge(rows_asked(model, now));
    const std::string each = nn::per_prompt_name(metric);
    const auto values = model.sweep(some, worlds, metric, {each}, {.cancel = cancel})[each]
                            .to_vector<double>();  // [factors, prompts]
    for (std::int64_t f = 0; f < rows; ++f)
      std::copy_n(values.begin() + f * std::ssize(some), std::ssize(some),
                  table.data<double>() + f * columns + static_cast<std::int64_t>(begin));
  }
  return table;
}

}  // namespace vitrine::interp
