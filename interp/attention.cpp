#include "interp/attention.h"

#include <fmt/format.h>

#include <algorithm>

#include "autograd/ops/ops.h"
#include "interp/data/asked.h"
#include "nn/families/sites.h"
#include "tensor/error.h"

namespace vitrine::interp {
namespace {

std::string weights_name(int layer) { return fmt::format("attention.{}", layer); }

std::vector<int> layers_attended(const nn::Model& model, const AttentionSpec& spec) {
  const int count = model.config().layers;
  std::vector<int> layers = spec.layers;
  if (layers.empty()) {
    for (int l = 0; l < count; ++l) layers.push_back(l);
  }
  for (const int l : layers) {
    if (l >= 0 && l < count) continue;
    throw Error(ErrorKind::usage,
                fmt::format("there is no layer {}; this model has layers 0 to {}", l, count - 1));
  }
  return layers;
}

// Which rows are looked from, [n * from], and which keys are looked at, [n, to, keys]: 1 or 0.
Feeds tables_of(std::span<const Example> examples, const AttentionSpec& spec, std::int64_t keys) {
  const auto n = std::ssize(examples), to = std::ssize(spec.to);
  std::vector<std::int32_t> rows;
  const Tensor at = Tensor::zeros({n, to, keys}, DType::f32);
  std::int64_t first = 0;
  for (std::int64_t i = 0; i < n; ++i) {
    const Example& e = examples[static_cast<std::size_t>(i)];
    for (const Position& p : spec.from) rows.push_back(static_cast<std::int32_t>(first + e.at(p)));
    for (std::int64_t t = 0; t < to; ++t) {
      const Span span = e.span(spec.to[static_cast<std::size_t>(t)]);
      for (std::int64_t k = span.begin; k < span.end; ++k)
        at.data<float>()[(i * to + t) * keys + k] = 1;
    }
    first += std::ssize(e.prompt);
  }
  return {{"attention.row", Tensor::of({std::ssize(rows)}, rows)}, {"attention.keys", at}};
}

// The weights of some examples, one output [n, head, from, to] for each layer.
nn::Run run_attention(const nn::Model& model, std::span<const Example> examples,
                      const std::vector<nn::Tokens>& prompts, const AttentionSpec& spec,
                      const std::vector<int>& layers) {
  const auto n = std::ssize(examples), from = std::ssize(spec.from), to = std::ssize(spec.to);
  const std::int64_t heads = model.config().heads;
  const nn::BatchSize size = nn::batch_size(prompts);
  const Feeds feeds = tables_of(examples, spec, size.positions);
  Builder b(model.build(size));
  const Value row = b.input("attention.row", {DType::i32, {n * from}}),
              at = b.input("attention.keys", {DType::f32, {n, to, size.positions}});
  Fetch wanted;
  for (const int l : layers) {
    const Value pattern = gather_rows(b.at(site::pattern(l)), row);  // [n from, head, keys]
    const Value of_prompt = reshape(pattern, {n, from * heads, size.positions});
    const Value sums = matmul(of_prompt, transpose(cast(at, pattern.dtype())));  // [.., .., to]
    b.output(weights_name(l), permute(reshape(sums, {n, from, heads, to}), {0, 2, 1, 3}));
    wanted.wants.push_back(value(weights_name(l)));
  }
  return model.run_graph(std::move(b).finish(), prompts, wanted, feeds);
}

}  // namespace

std::vector<Tensor> attention_between(const nn::Model& model, std::span<const Example> examples,
                                      const AttentionSpec& spec) {
  const std::vector<int> layers = layers_attended(model, spec);
  if (spec.from.empty() || spec.to.empty()) {
    throw Error(ErrorKind::usage,
                "attention goes from positions to positions; name at least one of each");
  }
  const std::vector<nn::Tokens> prompts = prompts_of(examples);
  nn::check_prompts(prompts, model.config());
  const std::int64_t heads = model.config().heads;
  const Shape of_layer{heads, std::ssize(spec.from), std::ssize(spec.to)};
  std::vector<Tensor> all;
  for (const auto& [begin, end] : batches(prompts)) {
    const std::vector<nn::Tokens> some = part_of(prompts, begin, end);
    const nn::Run run =
        run_attention(model, examples.subspan(begin, end - begin), some, spec, layers);
    for (std::size_t i = begin; i < end; ++i)
      all.push_back(
          Tensor::empty({std::ssize(layers), heads, of_layer[1], of_layer[2]}, DType::f64));
    for (std::size_t l = 0; l < layers.size(); ++l) {
      const auto x = run.results.raw(weights_name(layers[l])).to_vector<double>();
      const std::int64_t each = numel(of_layer);
      for (std::size_t i = begin; i < end; ++i)
        std::copy_n(x.begin() + static_cast<std::int64_t>(i - begin) * each, each,
                    all[i].data<double>() + static_cast<std::int64_t>(l) * each);
    }
  }
  return all;
}

}  // namespace vitrine::interp
