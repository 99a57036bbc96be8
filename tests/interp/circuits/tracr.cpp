#include "tests/interp/circuits/tracr.h"

#include <cmath>

#include "autograd/ops/ops.h"
#include "tensor/files/file.h"
#include "tensor/files/json_value.h"

namespace vitrine::test {
namespace {

const Axes kStream = {Axis::row, Axis::feature};
const Axes kHeads = {Axis::row, Axis::head, Axis::feature};

class TracrBuilder {
 public:
  TracrBuilder(const TracrModel& model, std::int64_t sequences, std::int64_t length)
      : m_(model), sequences_(sequences), length_(length), rows_(sequences * length) {}

  Graph build() {
    const Type index{DType::i32, {rows_}};
    const RowValues table{b_.input("rows.sequence", index), b_.input("rows.position", index),
                          b_.input("rows.keys", {DType::i32, {sequences_, length_}})};
    b_.rows(table.sequence, table.position, table.keys);
    const Value tokens = gather_rows(weight("embed.W_E"), b_.input("tokens", index));
    const Value places = gather_rows(weight("pos_embed.W_pos"), table.position);
    Value x = b_.site("embed", b_.site("token_embed", tokens, kStream) + places, kStream);
    for (std::int64_t l = 0; l < m_.layers; ++l) x = mlp(l, attend(l, x, table));
    x = b_.site("end", x, kStream);
    const Value out = matmul(x, weight("unembed.W_U"));
    const Value by_sequence = reshape(out, {sequences_, length_, m_.outputs});
    b_.output("answers", slice(by_sequence, 1, 1, length_));
    const Value weights = b_.input("weights", {DType::f32, {rows_, m_.outputs}});
    b_.output("score", sum(reshape(out * weights, {sequences_, length_ * m_.outputs}), {1}));
    return std::move(b_).finish();
  }

 private:
  Value weight(const std::string& name) {
    const Tensor& t = m_.parameters.at(name);
    return b_.parameter(name, {t.dtype(), t.shape()});
  }
  // [heads, ..., a] x [heads, a, c], rows first: [rows, heads, c].
  static Value by_head(const Value& x, const Value& w) {
    return permute(matmul(permute(x, {1, 0, 2}), w), {1, 0, 2});
  }

  Value attend(std::int64_t l, const Value& x, const RowValues& table) {
    const std::string part = fmt::format("blocks.{}.attn.", l), site = fmt::format("{}.", l);
    const Value copies = broadcast_to(reshape(x, {rows_, 1, m_.d}), {rows_, m_.heads, m_.d});
    const auto project = [&](const char* lower, const char* upper) {
      const Value read = b_.site(site + lower + "_in", copies, kHeads);
      return by_head(read, weight(part + "W_" + upper)) + weight(part + "b_" + upper);
    };
    const Value q = project("q", "Q"), k = project("k", "K"), v = project("v", "V");
    AttentionOptions how;
    how.scale = 1 / std::sqrt(static_cast<double>(q.dim(2)));
    how.offset = m_.causal ? 0 : length_;
    const Value z = attention(q, k, v, table, how);
    const Value wrote = b_.site(site + "head_out", by_head(z, weight(part + "W_O")), kHeads);
    return x + sum(wrote, {1}) + weight(part + "b_O");
  }

  Value mlp(std::int64_t l, const Value& x) {
    const std::string part = fmt::format("blocks.{}.mlp.", l), site = fmt::format("{}.", l);
    const Value read = b_.site(site + "mlp_in", x, kStream);
    const Value post = relu(linear(read, weight(part + "W_in"), weight(part + "b_in")));
    const Value out = linear(post, weight(part + "W_out"), weight(part + "b_out"));
    return x + b_.site(site + "mlp_out", out, kStream);
  }

  const TracrModel& m_;
  std::int64_t sequences_, length_, rows_;
  Builder b_;
};

EdgeSenders written_at(std::vector<std::string> names, const std::string& site) {
  return {std::move(names), [site](Builder& b) { return b.at(Site{site}); }};
}

}  // namespace

TracrModel::TracrModel(const std::string& program)
    : name(program), golden(SafeTensors::open(data() / "tracr" / program / "golden.safetensors")) {
  const auto folder = data() / "tracr" / program;
  const JsonValue config = JsonValue::parse(read_text(folder / "config.json"), "config.json");
  const auto size = [&](const char* field) {
    return static_cast<std::int64_t>(config.find(field)->number().value());
  };
  layers = size("n_layers");
  heads = size("n_heads");
  d = size("d_model");
  causal = *config.find("causal")->boolean();
  categorical = *config.find("output")->text() == "categorical";
  const SafeTensors file = SafeTensors::open(folder / "model.safetensors");
  for (const std::string& n : file.names()) parameters[n] = file.at(n);
  outputs = parameters.at("unembed.W_U").dim(1);
}

Graph TracrModel::graph(std::int64_t sequences, std::int64_t length) const {
  return TracrBuilder(*this, sequences, length).build();
}

EdgeSet TracrModel::edges() const {
  EdgeSet edges;
  edges.senders.push_back(written_at({"input"}, "embed"));
  std::size_t before = 1;  // senders
  const auto h = static_cast<std::size_t>(heads);
  for (std::int64_t l = 0; l < layers; ++l, before += h + 1) {
    std::vector<std::string> names;
    std::vector<std::vector<std::size_t>> own;
    for (std::size_t i = 0; i < h; ++i) {
      names.push_back(fmt::format("a{}.h{}", l, i));
      own.push_back({before + i});
    }
    for (const char* part : {"q", "k", "v"}) {
      std::vector<std::string> readers;
      for (const std::string& n : names) readers.push_back(fmt::format("{}<{}>", n, part));
      edges.receivers.push_back({readers, Site{fmt::format("{}.{}_in", l, part)}, before, own});
    }
    const std::string mlp = fmt::format("m{}", l);
    edges.receivers.push_back(
        {{mlp}, Site{fmt::format("{}.mlp_in", l)}, before + h, {{before + h}}});
    edges.senders.push_back(written_at(names, fmt::format("{}.head_out", l)));
    edges.senders.push_back(written_at({mlp}, fmt::format("{}.mlp_out", l)));
  }
  edges.receivers.push_back({{"logits"}, Site{"end"}, before, {{}}});
  return edges;
}

Feeds TracrModel::feeds(const Tensor& tokens, const Tensor& weights) const {
  const std::int64_t sequences = tokens.dim(0), length = tokens.dim(1), rows = sequences * length;
  std::vector<std::int32_t> sequence, position, keys;
  for (std::int64_t r = 0; r < rows; ++r) {
    sequence.push_back(static_cast<std::int32_t>(r / length));
    position.push_back(static_cast<std::int32_t>(r % length));
    keys.push_back(static_cast<std::int32_t>(r));
  }
  return {{"rows.sequence", Tensor::of({rows}, sequence)},
          {"rows.position", Tensor::of({rows}, position)},
          {"rows.keys", Tensor::of({sequences, length}, keys)},
          {"tokens", tokens.to(DType::i32).reshape({rows})},
          {"weights", weights}};
}

Tensor TracrModel::weights(const Tensor& values) const {
  const std::int64_t length = values.dim(1), rows = values.dim(0) * length;
  const auto x = values.to_vector<float>();
  std::vector<float> w(x.size(), 1);
  for (std::int64_t r = 0; r < rows; ++r) {
    const auto from = r * outputs, to = from + outputs;
    if (categorical) {
      std::fill(w.begin() + from, w.begin() + to, -1 / static_cast<float>(outputs - 1));
      *(w.begin() + (std::max_element(x.begin() + from, x.begin() + to) - x.begin())) = 1;
    }
    if (r % length == 0) std::fill(w.begin() + from, w.begin() + to, 0.F);
  }
  return Tensor::of({rows, outputs}, w);
}

Tensor rolled(const Tensor& t, std::int64_t by) {
  const std::int64_t n = t.dim(0);
  return stacked({t.slice(0, n - by, n), t.slice(0, 0, n - by)});
}

Tensor stacked(const std::vector<Tensor>& parts) {
  std::vector<float> values;
  Shape shape = parts.at(0).shape();
  shape[0] = 0;
  for (const Tensor& p : parts) {
    const auto x = p.to_vector<float>();
    values.insert(values.end(), x.begin(), x.end());
    shape[0] += p.dim(0);
  }
  return Tensor::of(shape, values).to(parts[0].dtype());
}

}  // namespace vitrine::test
