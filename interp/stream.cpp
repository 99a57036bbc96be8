#include "interp/stream.h"

#include <fmt/format.h>

#include "autograd/ops/ops.h"
#include "interp/decomposition.h"
#include "interp/lens.h"
#include "nn/families/sites.h"
#include "nn/model/weights.h"

namespace vitrine::interp {
namespace {

class Emitting {
 public:
  Emitting(Builder& b, const nn::Config& config)
      : b_(b), c_(config), w_(nn::weights_of(b, config)) {}

  void run() {
    row_ = b_.input("stream.row", {DType::i32, {1}});
    write(Part{Part::Kind::embed}.name(), at_row(b_.at(site::embed())));
    if (w_.w_pos.defined())
      write(Part{Part::Kind::pos_embed}.name(), at_row(b_.at(site::pos_embed())));
    lengths_.push_back(length(at_row(b_.at(site::resid_pre(0)))));
    for (int l = 0; l < c_.layers; ++l) {
      const nn::LayerWeights& w = w_.layers[static_cast<std::size_t>(l)];
      const Value ln1 = normed(site::ln1_scale(l), w.ln1);  // [writers, d]
      read_heads(l, "q", ln1, w.w_q);
      read_heads(l, "k", ln1, w.w_k);
      read_heads(l, "v", ln1, w.w_v);
      write_heads(l, w);
      const Value ln2 = normed(site::ln2_scale(l), w.ln2);
      read_mlp(fmt::format("{}_mlp", l), ln2, w.w_in);
      if (w.w_gate.defined()) read_mlp(fmt::format("{}_mlp.gate", l), ln2, w.w_gate);
      write(Part{Part::Kind::mlp, l}.name(), at_row(b_.at(site::mlp_out(l))));
      lengths_.push_back(length(at_row(b_.at(site::resid_post(l)))));
    }
    const auto count = static_cast<std::int64_t>(writers.size());
    for (Value& v : shares_) {  // later writers have no part
      if (v.dim(0) == count) continue;
      const Value none = broadcast_to(b_.scalar(0, v.dtype()), Shape{count - v.dim(0), v.dim(1)});
      v = concat({v, none}, 0);
    }
    b_.output("stream.share", concat(shares_, 1));
    b_.output("stream.written", length(concat(written_, 0)));
    b_.output("stream.length", concat(lengths_, 0));
  }

  std::vector<std::string> writers, readers;
  std::vector<std::int64_t> before;  // by reader: how many writers come before it

 private:
  Value at_row(const Value& x) { return gather_rows(x, row_); }
  static Value length(const Value& x) { return sqrt(sum(square(x), {1})); }

  void write(const std::string& name, const Value& x) {  // [1, d]
    writers.push_back(name);
    written_.push_back(x);
  }
  void write_heads(int l, const nn::LayerWeights& w) {
    const std::int64_t h = c_.heads, e = c_.d_head();
    const Value z = reshape(at_row(b_.at(site::z(l))), {h, 1, e});
    Value each = reshape(matmul(z, reshape(w.w_o, {h, e, c_.d_model})), {h, c_.d_model});
    Value bias = reshape(w.b_o, {1, c_.d_model});
    if (w.ln1_post.defined()) {  // a norm between attention and the stream
      const Value scale = at_row(b_.at(site::ln1_post_scale(l)));
      each = nn::normed(each, w.ln1_post, scale);
      bias = nn::normed(bias, w.ln1_post, scale);
    }
    for (int i = 0; i < c_.heads; ++i)
      write(Part{Part::Kind::head, l, i}.name(), slice(each, 0, i, i + 1));
    write(Part{Part::Kind::attn_bias, l}.name(), bias);
  }

  // All that was written so far, each through this norm with the scale of the whole.
  Value normed(const Site& scale, const nn::NormWeights& norm) {
    return nn::normed(concat(written_, 0), norm, at_row(b_.at(scale)));
  }
  // each [writers, heads, e]: what every head reads of every writer.
  void shares(const Value& each) {
    const Value whole = sum(each, {0}, true);
    const Value size = sum(square(whole), {2});                        // [1, heads]
    const Value floor = b_.scalar(1e-30, each.dtype());                // who reads nothing
    shares_.push_back(sum(each * whole, {2}) / maximum(size, floor));  // [writers, heads]
  }
  void read_heads(int l, const char* what, const Value& x, const Value& w) {
    const std::int64_t n = x.dim(0);
    const std::int64_t heads = w.dim(1) / c_.d_head();  // fewer of keys and values in some families
    shares(reshape(matmul(x, w), {n, heads, c_.d_head()}));
    for (int i = 0; i < heads; ++i) {
      readers.push_back(fmt::format("L{}H{}.{}", l, i, what));
      before.push_back(n);
    }
  }
  void read_mlp(const std::string& name, const Value& x, const Value& w) {
    const std::int64_t n = x.dim(0);
    shares(reshape(matmul(x, w), {n, 1, w.dim(1)}));
    readers.push_back(name);
    before.push_back(n);
  }

  Builder& b_;
  const nn::Config& c_;
  nn::WeightValues w_;
  Value row_;
  std::vector<Value> written_, shares_, lengths_;
};

}  // namespace

StreamUse stream_use(const nn::Model& model, const nn::Tokens& prompt,
                     std::optional<std::int64_t> position) {
  nn::check_prompts({prompt}, model.config());
  const std::int64_t row = position.value_or(std::ssize(prompt) - 1);
  check_position(prompt, row);
  Builder b(model.build(nn::Model::Uniform{1, std::ssize(prompt)}));
  Emitting emitting(b, model.config());
  emitting.run();
  const Fetch wanted =
      fetch(value("stream.share"), value("stream.written"), value("stream.length"));
  const Feeds feeds = {
      {"stream.row", Tensor::of({1}, std::vector<std::int32_t>{static_cast<std::int32_t>(row)})}};
  const nn::Run run = model.run_graph(std::move(b).finish(), {prompt}, wanted, feeds);

  StreamUse use;
  use.writers = emitting.writers;
  use.readers = emitting.readers;
  use.written = run.results.raw("stream.written").to(DType::f64);
  use.stream = run.results.raw("stream.length").to(DType::f64);
  use.share = run.results.raw("stream.share").to(DType::f64);
  use.valid = Tensor::zeros(use.share.shape(), DType::boolean);
  const auto columns = std::ssize(use.readers);
  for (std::int64_t r = 0; r < columns; ++r) {
    for (std::int64_t w = 0; w < emitting.before[static_cast<std::size_t>(r)]; ++w)
      use.valid.data<bool>()[w * columns + r] = true;
  }
  return use;
}

}  // namespace vitrine::interp
