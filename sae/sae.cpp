#include "sae/sae.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <memory>

#include "autograd/ops/ops.h"
#include "tensor/error.h"

namespace vitrine::sae {

std::string_view name_of(SaeArchitecture a) {
  constexpr std::string_view kNames[] = {"standard", "topk", "jumprelu", "gated",
                                         "matching_pursuit"};
  return kNames[static_cast<int>(a)];
}
std::string_view name_of(Normalisation n) {
  constexpr std::string_view kNames[] = {"none", "expected_average_only_in", "layer_norm",
                                         "constant_norm_rescale"};
  return kNames[static_cast<int>(n)];
}

std::vector<std::pair<std::string, Shape>> weight_shapes(const SaeConfig& c) {
  if (c.architecture == SaeArchitecture::matching_pursuit)
    return {{"W_dec", {c.d_sae, c.d_out}}, {"b_dec", {c.d_out}}};
  std::vector<std::pair<std::string, Shape>> shapes = {{"W_enc", {c.d_in, c.d_sae}}};
  if (c.architecture == SaeArchitecture::gated) {
    for (const char* name : {"b_gate", "b_mag", "r_mag"}) shapes.push_back({name, {c.d_sae}});
  } else {
    shapes.push_back({"b_enc", {c.d_sae}});
  }
  if (c.architecture == SaeArchitecture::jumprelu) shapes.push_back({"threshold", {c.d_sae}});
  shapes.push_back({"W_dec", {c.d_sae, c.d_out}});
  shapes.push_back({"b_dec", {c.d_out}});
  if (c.skip) shapes.push_back({"W_skip", {c.d_out, c.d_in}});
  return shapes;
}

PursuitRule pursuit_rule(const PursuitConfig& c, std::int64_t d_in) {
  return {.steps = c.max_iterations.value_or(d_in),
          .threshold = c.residual_threshold,
          .stop_at_repeat = c.stop_on_duplicate_support};
}

const std::string& trained_site(const Sae& sae) {
  if (!sae.config.hook_name.empty()) return sae.config.hook_name;
  throw ConfigError(fmt::format(
      "{}: its cfg.json does not say the site (metadata.hook_name) that it is of", sae.name));
}

void check_weights(const SaeConfig& config, const Parameters& weights, const std::string& where) {
  std::vector<std::string> wrong;
  Parameters left = weights;
  for (const auto& [name, shape] : weight_shapes(config)) {
    const auto it = left.find(name);
    if (it == left.end()) {
      wrong.push_back(fmt::format("'{}' {} is missing", name, to_string(shape)));
    } else if (!(it->second.shape() == shape)) {
      wrong.push_back(fmt::format("'{}' is {} where the configuration needs {}", name,
                                  to_string(it->second.shape()), to_string(shape)));
    }
    if (it != left.end()) left.erase(it);
  }
  for (const auto& [name, tensor] : left)
    wrong.push_back(fmt::format("'{}' is a weight that a {} SAE does not have", name,
                                name_of(config.architecture)));
  if (!wrong.empty()) {
    const std::string more =
        wrong.size() == 1 ? "" : fmt::format(" (and {} more)", wrong.size() - 1);
    throw CheckpointError(fmt::format("{}: {}{}", where, wrong[0], more));
  }
  for (const auto& [name, tensor] : weights) {
    const Tensor flat = tensor.contiguous();
    const float* data = flat.data<float>();
    for (std::int64_t i = 0; i < flat.numel(); ++i) {
      if (std::isfinite(data[i])) continue;
      throw NumericError(fmt::format("{}: element {} of '{}' is {}", where, i, name, data[i]));
    }
  }
}

// ---- nodes --------------------------------------------------------------------------------------
Value Nodes::weight(Builder& b, const char* weight) const {
  for (const auto& [name, shape] : weight_shapes(config_)) {
    if (name == weight) return b.parameter(fmt::format("{}.{}", name_, name), {DType::f32, shape});
  }
  throw GraphError(fmt::format("a {} SAE has no {}", name_of(config_.architecture), weight));
}

namespace {

// [.., head, e] as [.., head * e], if its last axes, but not the first, are `width` together; else
// as it is.
Value joined(const Value& x, std::int64_t width) {
  Shape shape;
  std::int64_t last = 1;
  int axis = x.rank();
  while (axis > 1 && last < width) last *= x.dim(--axis);
  if (last != width || axis + 1 >= x.rank()) return x;
  for (int a = 0; a < axis; ++a) shape.push_back(x.dim(a));
  shape.push_back(last);
  return reshape(x, shape);
}

}  // namespace

Value safe_sqrt(const Value& squares) {
  return sqrt(maximum(squares, squares.builder().scalar(1e-30, squares.dtype())));
}

Value what_is_read(const SaeConfig& c, const std::string& name, const Value& site) {
  const std::string at = c.hook_name.empty() ? "" : " (it was trained at " + c.hook_name + ")";
  if (c.head) {
    if (site.rank() < 2 || site.dim(-1) != c.d_in || *c.head >= site.dim(-2)) {
      throw ShapeError(fmt::format(
          "the SAE '{}' reads head {} of values [.., head, {}]{}, not {}; its cfg.json says so by "
          "hook_head_index",
          name, *c.head, c.d_in, at, to_string(site.shape())));
    }
    const int axis = site.rank() - 2;
    Shape shape;
    for (int a = 0; a < site.rank(); ++a) {
      if (a != axis) shape.push_back(site.dim(a));
    }
    return reshape(slice(site, axis, *c.head, *c.head + 1), shape);
  }
  Value x = joined(site, c.d_in);
  if (x.rank() == 0 || x.dim(-1) != c.d_in) {
    throw ShapeError(fmt::format("the SAE '{}' reads values of width {}{}, not {}", name, c.d_in,
                                 at, to_string(site.shape())));
  }
  return x;
}

Value written_back(const SaeConfig& c, const Value& site, const Value& y) {
  if (!c.head) {
    const bool joined = !(y.shape() == site.shape()) && numel(y.shape()) == numel(site.shape());
    return joined ? reshape(y, site.shape()) : y;
  }
  const int axis = site.rank() - 2;
  Shape one = site.shape();
  one[axis] = 1;
  std::vector<Value> parts;
  if (*c.head > 0) parts.push_back(slice(site, axis, 0, *c.head));
  parts.push_back(reshape(y, one));
  if (*c.head + 1 < site.dim(axis)) parts.push_back(slice(site, axis, *c.head + 1, site.dim(axis)));
  return parts.size() == 1 ? parts[0] : concat(parts, axis);
}

void check_site(const Sae& sae, const Graph& graph, const std::string& name) {
  const SiteEntry& site = graph.site(name);
  const auto head = std::find(site.axes.begin(), site.axes.end(), Axis::head);
  if (sae.config.head || head == site.axes.end()) return;
  const Shape& shape = site.type.shape;
  if (shape.back() != sae.config.d_in) return;
  throw ConfigError(fmt::format(
      "{}: it reads {} numbers, as many as one head has at '{}' {}, and its cfg.json does not say "
      "which head (hook_head_index)",
      sae.name, sae.config.d_in, name, to_string(shape)));
}

Value Nodes::pre(const Value& given) {
  Builder& b = given.builder();
  site_ = given;
  Value x = x_ = what_is_read(config_, name_, given);
  const auto width = static_cast<double>(config_.d_in);
  if (config_.normalise == Normalisation::layer_norm) {
    mean_ = mean(x, {x.rank() - 1}, true);
    x = x - mean_;
    scale_ = safe_sqrt(sum(square(x), {x.rank() - 1}, true) / (width - 1));  // as torch's std
    x = x / (scale_ + 1e-5);
  } else if (config_.normalise == Normalisation::constant_norm_rescale) {
    scale_ = safe_sqrt(sum(square(x), {x.rank() - 1}, true)) / std::sqrt(width);
    x = x / scale_;
  }
  if (config_.apply_b_dec_to_input && !config_.transcoder) x = x - weight(b, "b_dec");
  if (!has_pre_activations(config_)) return x;
  Value w = weight(b, "W_enc");
  if (config_.architecture != SaeArchitecture::gated) return linear(x, w, weight(b, "b_enc"));
  return linear(x, w * exp(weight(b, "r_mag")), weight(b, "b_mag"));
}

namespace {
// To divide by; and as they are, so that a row of zeros ranks by 0.
Value divisors(const Value& w_dec) { return safe_sqrt(sum(square(w_dec), {1})); }
Value norms(const Value& w_dec) {
  const Value zero = w_dec.builder().scalar(0, w_dec.dtype());
  return select(less(zero, sum(square(w_dec), {1})), divisors(w_dec), zero);
}

Value pursued(const Value& x, const Value& w, const PursuitRule& rule) {
  Shape shape = x.shape();
  const Value rows = reshape(x, {numel(shape) / shape.back(), shape.back()});
  const Value index = matching_pursuit(detach(rows), detach(w), rule);
  shape[shape.size() - 1] = w.dim(0);
  return reshape(sparse_to_dense(pursuit_codes(rows, w, index), index, w.dim(0)), shape);
}
}  // namespace

Value Nodes::features(const Value& h) const {
  Builder& b = h.builder();
  const Value zero = b.scalar(0, h.dtype());
  switch (config_.architecture) {
    case SaeArchitecture::standard:
      return relu(h);
    case SaeArchitecture::topk: {
      const Value score = config_.rescale_by_decoder_norm ? h * norms(weight(b, "W_dec")) : h;
      return select(top_mask(score, config_.k), relu(score), zero);
    }
    case SaeArchitecture::jumprelu:
      return select(less(weight(b, "threshold"), h), relu(h), zero);
    case SaeArchitecture::gated: {
      // h = x W e^r + b_mag, so the gate's x W + b_gate is (h - b_mag) e^-r + b_gate.
      const Value gate =
          (h - weight(b, "b_mag")) * exp(neg(weight(b, "r_mag"))) + weight(b, "b_gate");
      return select(less(zero, gate), relu(h), zero);
    }
    case SaeArchitecture::matching_pursuit:
      return pursued(h, weight(b, "W_dec"), pursuit_rule(config_.pursuit, config_.d_in));
  }
  throw GraphError("an unknown architecture");
}

Value Nodes::decode(const Value& given) const {
  Builder& b = given.builder();
  const Value w = weight(b, "W_dec");
  const Value f = config_.architecture == SaeArchitecture::topk && config_.rescale_by_decoder_norm
                      ? given / divisors(w)
                      : given;
  // Tied weights: b_dec is given back where it was taken away.
  const bool biased = has_pre_activations(config_) || config_.apply_b_dec_to_input;
  Value y = biased ? linear(f, w, weight(b, "b_dec")) : matmul(f, w);
  if (config_.skip) y = y + matmul(x_, transpose(weight(b, "W_skip")));
  if (config_.transcoder) return y;
  if (config_.normalise == Normalisation::layer_norm) y = y * scale_ + mean_;
  if (config_.normalise == Normalisation::constant_norm_rescale) y = y * scale_;
  return written_back(config_, site_, y);
}

Codec codec(const Sae& sae, const std::string& name) {
  if (sae.config.transcoder) {
    throw ConfigError(
        fmt::format("{}: a transcoder reads one site and gives another, so it cannot be spliced "
                    "into one",
                    sae.name));
  }
  const auto nodes = std::make_shared<Nodes>(sae.config, name);
  if (!has_pre_activations(sae.config)) {
    return {.pre = {},
            .encode = [nodes](const Value& x) { return nodes->features(nodes->pre(x)); },
            .decode = [nodes](const Value& f) { return nodes->decode(f); }};
  }
  return {.pre = [nodes](const Value& x) { return nodes->pre(x); },
          .encode = [nodes](const Value& h) { return nodes->features(h); },
          .decode = [nodes](const Value& f) { return nodes->decode(f); }};
}

Parameters with_parameters(Parameters parameters, const Sae& sae, const std::string& name) {
  for (const auto& [weight, tensor] : sae.weights)
    parameters.insert_or_assign(fmt::format("{}.{}", name, weight), tensor);
  return parameters;
}

// ---- activations that are there -----------------------------------------------------------------
namespace {
constexpr std::int64_t kRows = 1024;  // encoded together
}

Encoder::Encoder(const Sae& sae, ThreadPool* pool)
    : sae_(sae), pool_(pool), parameters_(with_parameters({}, sae, "sae")) {}

Plan Encoder::plan(std::int64_t rows) const {
  const auto [it, is_new] = plans_.try_emplace(rows);
  if (is_new) {
    Builder b;
    SaeConfig flat = sae_.config;
    flat.head.reset();  // it was chosen already where activations are a matrix
    Nodes nodes(flat, "sae");
    const Value f = nodes.features(nodes.pre(b.input("x", {DType::f32, {rows, sae_.config.d_in}})));
    b.output("features", f);
    b.output("reconstruction", nodes.decode(f));
    it->second = compile(std::move(b).finish(), fetch(value("features"), value("reconstruction")));
  }
  return it->second;
}

Tensor Encoder::rows_of(const Tensor& given) const {
  const SaeConfig& c = sae_.config;
  // Of an SAE of one head, more axes could be heads: which rows are meant is not known.
  const bool fits = given.rank() >= 1 && given.numel() % std::max<std::int64_t>(1, c.d_in) == 0 &&
                    (given.dim(-1) == c.d_in ? !c.head || given.rank() <= 2
                                             : given.rank() >= (c.join_heads ? 2 : 3) &&
                                                   given.dim(-1) * given.dim(-2) == c.d_in);
  if (!fits) {
    throw ShapeError(fmt::format(
        "{}: this SAE reads activations of width {}{}, but these are {}", sae_.name, c.d_in,
        c.head                ? fmt::format(" (rows of head {} of {})", *c.head, c.hook_name)
        : c.hook_name.empty() ? ""
                              : fmt::format(" (of {})", c.hook_name),
        to_string(given.shape())));
  }
  return given.reshape({given.numel() / c.d_in, c.d_in});
}

Encoder::Encoded Encoder::encode(const Tensor& given, std::int64_t first) const {
  const SaeConfig& c = sae_.config;
  const Tensor x = rows_of(given).to(DType::f32).contiguous();
  const std::int64_t n = x.dim(0);
  Encoded out{Tensor::empty({n, c.d_sae}, DType::f32), Tensor::empty({n, c.d_out}, DType::f32)};
  const float* data = x.data<float>();
  for (std::int64_t i = 0; i < x.numel(); ++i) {
    if (std::isfinite(data[i])) continue;
    throw NumericError(fmt::format("row {} of the activations has {} at place {}",
                                   first + i / c.d_in, data[i], i % c.d_in));
  }
  for (std::int64_t begin = 0; begin < n; begin += kRows) {
    const std::int64_t rows = std::min(kRows, n - begin);
    const Results r =
        plan(rows).run({{"x", x.slice(0, begin, begin + rows)}}, parameters_, {.pool = pool_});
    const auto put = [&](const char* name, const Tensor& to) {
      const Tensor from = r.raw(name).contiguous();
      std::copy_n(from.view().data, from.bytes(), to.slice(0, begin, begin + rows).view().data);
    };
    put("features", out.features);
    put("reconstruction", out.reconstruction);
  }
  return out;
}

}  // namespace vitrine::sae
