// Samples of ops that work along the last axis, and of gather and scatter.
#include <limits>

#include "tests/autograd/ops/samples.h"

namespace vitrine::test {
namespace {

using In = std::vector<Value>;
constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr double kEps = 1e-5;

struct Rows {
  std::string name;
  Shape shape;
};
// At least one feature each: LayerNorm needs one.
const std::vector<Rows>& row_shapes() {
  static const std::vector<Rows> kShapes = {
      {"matrix", {3, 5}},       {"vector", {7}},         {"wide", {2, 19}},  {"rank_3", {2, 2, 3}},
      {"rank_4", {2, 1, 2, 4}}, {"one_feature", {3, 1}}, {"no_rows", {0, 4}}};
  return kShapes;
}

void add_softmax(std::vector<Sample>& out) {
  const auto add = [&](const std::string& op, const std::string& name, const Shape& leaf,
                       std::function<Value(const Value&)> f) {
    out.push_back(
        {op, name, {normal("x", leaf)}, [f](Builder&, const In& in) { return f(in[0]); }});
  };
  const std::pair<const char*, Value (*)(const Value&, SourceLine)> ops[] = {
      {"softmax", softmax}, {"log_softmax", log_softmax}};
  for (const auto& [op, f] : ops) {
    const auto apply = [f = f](const Value& x) { return f(x, SourceLine::here()); };
    for (const Rows& r : row_shapes()) add(op, r.name, r.shape, apply);
    add(op, "no_features", {2, 0}, apply);
    add(op, "far_from_zero", {2, 3}, [apply](const Value& x) { return apply(x + 800.0); });
    for (const Viewed& v : views())
      add(op, v.name, v.leaf, [apply, v](const Value& x) { return apply(v.view(x)); });
  }
  add("softmax", "causal", {4, 4}, [](const Value& x) { return softmax(mask(x, 0, 1)); });
  add("softmax", "a_row_sees_nothing", {3, 3},
      [](const Value& x) { return softmax(mask(x, 0, 1, -1)); });
  // log 0 = -inf must not spoil what multiplies it: exp brings it back to 0.
  add("log_softmax", "causal", {4, 4},
      [](const Value& x) { return exp(log_softmax(mask(x, 0, 1))); });
  out.push_back({"softmax",
                 "fed_minus_infinity",
                 {normal("x", {2, 4}),
                  truths("hidden", {2, 4}, {false, true, false, false, true, true, true, true})},
                 [](Builder& b, const In& in) {
                   return softmax(select(in[1], b.scalar(-kInfinity, in[0].dtype()), in[0]));
                 }});

  for (const Rows& r : row_shapes()) {
    out.push_back({"softmax_grad",
                   r.name,
                   {normal("y", r.shape), normal("dy", r.shape)},
                   [](Builder&, const In& in) { return softmax_grad(in[0], in[1]); }});
  }
  for (std::size_t i = 0; i < views().size(); ++i) {
    const Viewed &a = views()[i], &b = views()[(i + 3) % views().size()];
    out.push_back(
        {"softmax_grad",
         a.name,
         {normal("y", a.leaf), normal("dy", b.leaf)},
         [a, b](Builder&, const In& in) { return softmax_grad(a.view(in[0]), b.view(in[1])); }});
  }
  out.push_back(
      {"softmax_grad",
       "causal",
       {normal("x", {4, 4}), normal("dy", {4, 4})},
       [](Builder&, const In& in) { return softmax_grad(softmax(mask(in[0], 0, 1)), in[1]); }});
}

void add_layer_norm(std::vector<Sample>& out) {
  // x (and dy) under every shape and layout; gain and bias from every other entry of a longer
  // vector.
  const auto features = [](const std::string& name, std::int64_t d) {
    return normal(name, {2 * d});
  };
  const auto thin = [](const Value& v) { return slice(v, 0, 1, v.dim(0), 2); };
  const auto norm = [thin](const Value& x, const In& in, std::string_view prefix) {
    return layer_norm(x, thin(in[1]), thin(in[2]), kEps, prefix);
  };
  for (const Rows& r : row_shapes()) {
    const std::int64_t d = r.shape.back();
    out.push_back({"layer_norm",
                   r.name,
                   {normal("x", r.shape), features("gain", d), features("bias", d)},
                   [norm](Builder&, const In& in) { return norm(in[0], in, ""); }});
    out.push_back({"layer_norm",
                   "sites_of_" + r.name,
                   {normal("x", r.shape), features("gain", d), features("bias", d)},
                   [norm](Builder&, const In& in) { return norm(in[0], in, "ln"); }});
    out.push_back({"layer_norm_grad",
                   r.name,
                   {normal("x", r.shape), features("gain", d), normal("dy", r.shape)},
                   [thin](Builder&, const In& in) {
                     return layer_norm_grad(in[0], thin(in[1]), in[2], kEps);
                   }});
    out.push_back(
        {"layer_norm_gain_grad",
         r.name,
         {normal("x", r.shape), normal("dy", r.shape)},
         [](Builder&, const In& in) { return layer_norm_gain_grad(in[0], in[1], kEps); }});
  }
  for (std::size_t i = 0; i < views().size(); ++i) {
    const Viewed &v = views()[i], &w = views()[(i + 3) % views().size()];
    // Rows of equal entries have variance 0: a larger eps keeps their curvature within reach of
    // differences.
    const bool flat = v.name == "repeated_column" || v.name == "repeated_value";
    const double eps = flat ? 0.1 : kEps;
    out.push_back({"layer_norm",
                   v.name,
                   {normal("x", v.leaf), normal("gain", {3}), normal("bias", {3})},
                   [v, eps](Builder&, const In& in) {
                     return layer_norm(v.view(in[0]), in[1], in[2], eps);
                   }});
    out.push_back({"layer_norm_grad",
                   v.name,
                   {normal("x", v.leaf), normal("gain", {3}), normal("dy", w.leaf)},
                   [v, w, eps](Builder&, const In& in) {
                     return layer_norm_grad(v.view(in[0]), in[1], w.view(in[2]), eps);
                   }});
    out.push_back({"layer_norm_gain_grad",
                   v.name,
                   {normal("x", v.leaf), normal("dy", w.leaf)},
                   [v, w, eps](Builder&, const In& in) {
                     return layer_norm_gain_grad(v.view(in[0]), w.view(in[1]), eps);
                   }});
  }
}

void add_rms_norm(std::vector<Sample>& out) {
  for (const Rows& r : row_shapes()) {
    const Shape gain{r.shape.back()};
    for (const char* prefix : {"", "ln"}) {
      out.push_back(
          {"rms_norm",
           (*prefix == 0 ? "" : "sites_of_") + r.name,
           {normal("x", r.shape), normal("gain", gain)},
           [prefix](Builder&, const In& in) { return rms_norm(in[0], in[1], 0.1, prefix); }});
    }
    out.push_back({"rms_norm_grad",
                   r.name,
                   {normal("x", r.shape), normal("gain", gain), normal("dy", r.shape)},
                   [](Builder&, const In& in) { return rms_norm_grad(in[0], in[1], in[2], 0.1); }});
    out.push_back({"rms_norm_gain_grad",
                   r.name,
                   {normal("x", r.shape), normal("dy", r.shape)},
                   [](Builder&, const In& in) { return rms_norm_gain_grad(in[0], in[1], 0.1); }});
  }
  out.push_back(
      {"rms_norm",
       "small_eps",
       {off_zero("x", {3, 5}), normal("gain", {10})},
       [](Builder&, const In& in) { return rms_norm(in[0], slice(in[1], 0, 1, 10, 2), kEps); }});
  for (std::size_t i = 0; i < views().size(); ++i) {
    const Viewed &v = views()[i], &w = views()[(i + 3) % views().size()];
    out.push_back({"rms_norm",
                   v.name,
                   {normal("x", v.leaf), normal("gain", {3})},
                   [v](Builder&, const In& in) { return rms_norm(v.view(in[0]), in[1], 0.1); }});
    out.push_back({"rms_norm_grad",
                   v.name,
                   {normal("x", v.leaf), normal("gain", {3}), normal("dy", w.leaf)},
                   [v, w](Builder&, const In& in) {
                     return rms_norm_grad(v.view(in[0]), in[1], w.view(in[2]), 0.1);
                   }});
    out.push_back({"rms_norm_gain_grad",
                   v.name,
                   {normal("x", v.leaf), normal("dy", w.leaf)},
                   [v, w](Builder&, const In& in) {
                     return rms_norm_gain_grad(v.view(in[0]), w.view(in[1]), 0.1);
                   }});
  }
}

void add_gather(std::vector<Sample>& out) {
  const auto gather = [](Builder&, const In& in) { return gather_rows(in[0], in[1]); };
  const auto add = [&](const std::string& name, const Leaf& table, const Leaf& index) {
    out.push_back({"gather_rows", name, {table, index}, gather});
  };
  add("repeats_and_none", normal("t", {4, 3}), ints("i", {6}, {2, -1, 2, 0, 3, 2}));
  add("longs", normal("t", {4, 3}), longs("i", {3}, {3, -1, 3}));
  add("index_rank_2", normal("t", {3, 2}), ints("i", {2, 2}, {2, 0, -1, 2}));
  add("index_scalar", normal("t", {3, 2}), ints("i", {}, {1}));
  add("index_empty", normal("t", {3, 2}), ints("i", {0}, {}));
  add("table_vector", normal("t", {5}), ints("i", {3}, {4, 4, 0}));
  add("table_rank_3", normal("t", {3, 2, 2}), ints("i", {2}, {2, 2}));
  add("table_empty", normal("t", {0, 2}), ints("i", {2}, {-1, -1}));
  add("width_0", normal("t", {3, 0}), ints("i", {2}, {1, 2}));
  out.push_back({"gather_rows",
                 "strided",
                 {normal("t", {6, 4}), ints("i", {2, 4}, {1, 2, -1, 0, 3, 1, 2, 3})},
                 [](Builder&, const In& in) {
                   return gather_rows(slice(transpose(in[0]), 1, 0, 6, 2),
                                      transpose(slice(in[1], 1, 0, 4, 3)));
                 }});

  const auto gather_from = [&](const std::string& name, const std::vector<Leaf>& leaves) {
    out.push_back({"gather_rows_from", name, leaves, [](Builder&, const In& in) {
                     return gather_rows_from({in.begin() + 1, in.end()}, in[0]);
                   }});
  };
  gather_from("two",
              {ints("i", {6}, {5, -1, 2, 4, 3, 2}), normal("a", {3, 2}), normal("b", {4, 2})});
  gather_from("three_and_none_of_one", {longs("i", {4}, {0, 3, 4, 3}), normal("a", {2, 3}),
                                        normal("b", {1, 3}), normal("c", {2, 3})});
  gather_from("one", {ints("i", {2, 2}, {1, 0, 1, -1}), normal("a", {2, 3, 2})});
  gather_from("empty_between", {ints("i", {3}, {2, 0, 1}), normal("a", {1, 2}), normal("b", {0, 2}),
                                normal("c", {2, 2})});
  gather_from("numbers", {ints("i", {3}, {2, 0, 1}), normal("a", {1}), normal("b", {2})});

  const auto scatter = [&](const std::string& name, const Leaf& x, const Leaf& index,
                           std::int64_t rows) {
    out.push_back({"scatter_add_rows", name, {x, index}, [rows](Builder&, const In& in) {
                     return scatter_add_rows(in[0], in[1], rows);
                   }});
  };
  scatter("repeats_and_none", normal("x", {6, 3}), ints("i", {6}, {2, -1, 2, 0, 3, 2}), 5);
  scatter("longs", normal("x", {3, 2}), longs("i", {3}, {1, 1, -1}), 2);
  scatter("index_rank_2", normal("x", {2, 2, 3}), ints("i", {2, 2}, {2, 0, -1, 2}), 3);
  scatter("index_scalar", normal("x", {2}), ints("i", {}, {1}), 3);
  scatter("into_a_vector", normal("x", {4}), ints("i", {4}, {1, 0, 1, 1}), 2);
  scatter("nothing", normal("x", {0, 2}), ints("i", {0}, {}), 2);
  scatter("into_nothing", normal("x", {2, 2}), ints("i", {2}, {-1, -1}), 0);
  scatter("width_0", normal("x", {2, 0}), ints("i", {2}, {1, 0}), 2);
  out.push_back({"scatter_add_rows",
                 "strided",
                 {normal("x", {2, 6}), ints("i", {5}, {1, 0, 1, 2, -1})},
                 [](Builder&, const In& in) {
                   return scatter_add_rows(slice(transpose(in[0]), 0, 0, 6, 2),
                                           slice(in[1], 0, 0, 5, 2), 3);
                 }});

  const auto pick_from = [&](const std::string& name, const Leaf& x, const Leaf& index) {
    out.push_back(
        {"pick", name, {x, index}, [](Builder&, const In& in) { return pick(in[0], in[1]); }});
  };
  pick_from("matrix", normal("x", {3, 4}), ints("i", {3}, {3, 0, 3}));
  pick_from("longs", normal("x", {2, 3}), longs("i", {2}, {2, 2}));
  pick_from("vector", normal("x", {4}), ints("i", {}, {2}));
  pick_from("rank_3", normal("x", {2, 2, 3}), ints("i", {2, 2}, {0, 2, 1, 1}));
  pick_from("no_rows", normal("x", {0, 3}), ints("i", {0}, {}));
  for (const Viewed& v : views()) {
    out.push_back(
        {"pick",
         v.name,
         {normal("x", v.leaf), ints("i", {7}, {2, 1, 0, 2, 2, 0, 1})},
         [v](Builder&, const In& in) { return pick(v.view(in[0]), slice(in[1], 0, 0, 7, 2)); }});
  }
  out.push_back({"pick",
                 "cross_entropy",
                 {normal("x", {3, 4}), ints("i", {3}, {1, 3, 1})},
                 [](Builder&, const In& in) { return cross_entropy(in[0], in[1]); }});

  const auto unpick_to = [&](const std::string& name, const Leaf& x, const Leaf& index,
                             std::int64_t size) {
    out.push_back({"unpick", name, {x, index}, [size](Builder&, const In& in) {
                     return unpick(in[0], in[1], size);
                   }});
  };
  unpick_to("vector", normal("x", {3}), ints("i", {3}, {3, 0, 3}), 4);
  unpick_to("scalar", normal("x", {}), longs("i", {}, {1}), 2);
  unpick_to("matrix", normal("x", {2, 2}), longs("i", {2, 2}, {0, 2, 1, 1}), 3);
  unpick_to("size_1", normal("x", {3}), ints("i", {3}, {0, 0, 0}), 1);
  unpick_to("no_rows", normal("x", {0}), ints("i", {0}, {}), 3);
  out.push_back({"unpick",
                 "strided",
                 {normal("x", {2, 6}), ints("i", {3, 2}, {1, 0, 1, 2, 0, 2})},
                 [](Builder&, const In& in) {
                   return unpick(slice(in[0], 1, 1, 6, 2), transpose(in[1]), 3);
                 }});
}

}  // namespace

std::vector<Sample> row_samples() {
  std::vector<Sample> out;
  add_softmax(out);
  add_layer_norm(out);
  add_rms_norm(out);
  return out;
}

std::vector<Sample> gather_samples() {
  std::vector<Sample> out;
  add_gather(out);
  return out;
}

}  // namespace vitrine::test
