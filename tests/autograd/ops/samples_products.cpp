// Samples of matrix products and of the projections of a transformer.
#include <fmt/format.h>

#include "autograd/ops/op_table.h"
#include "tests/autograd/ops/samples.h"

namespace vitrine::test {
namespace {

using In = std::vector<Value>;
constexpr double kEps = 1e-5;

void add_matmul(std::vector<Sample>& out) {
  const auto emit = [](Builder&, const In& in) { return matmul(in[0], in[1]); };
  const std::tuple<const char*, Shape, Shape> cases[] = {
      {"matrix", {3, 4}, {4, 2}},
      {"one_row", {1, 4}, {4, 3}},
      {"one_column", {3, 4}, {4, 1}},
      {"one_inner", {3, 1}, {1, 2}},
      {"wide", {2, 9}, {9, 3}},
      {"batch", {2, 2, 3}, {2, 3, 2}},
      {"batch_left_only", {2, 2, 3}, {3, 2}},
      {"batch_right_only", {2, 3}, {2, 3, 2}},
      {"batch_outer", {2, 1, 2, 3}, {3, 3, 1}},
      {"batch_of_one", {1, 2, 3}, {2, 3, 2}},
      {"no_rows", {0, 3}, {3, 2}},
      {"no_columns", {2, 3}, {3, 0}},
      {"no_inner", {2, 0}, {0, 3}},
      {"no_batch", {0, 2, 3}, {3, 2}},
  };
  for (const auto& [name, a, b] : cases)
    out.push_back({"matmul", name, {normal("a", a), normal("b", b)}, emit});
  for (std::size_t i = 0; i < views().size(); ++i) {
    const Viewed &a = views()[i], &b = views()[(i + 3) % views().size()];
    out.push_back({"matmul",
                   a.name + "_with_" + b.name,
                   {normal("a", a.leaf), normal("b", b.leaf)},
                   [a, b](Builder&, const In& in) {
                     return matmul(transpose(a.view(in[0])), b.view(in[1]));
                   }});
  }
  out.push_back({"matmul",
                 "heads_by_permutation",
                 {normal("q", {3, 2, 2}), normal("k", {3, 2, 2})},
                 [](Builder&, const In& in) {
                   return matmul(permute(in[0], {1, 0, 2}), permute(in[1], {1, 2, 0}));
                 }});
  out.push_back({"matmul",
                 "causal",
                 {normal("q", {1, 2, 3, 2}), normal("k", {1, 2, 3, 2}), normal("v", {1, 2, 3, 2})},
                 [](Builder&, const In& in) {
                   const Value scores = mask(matmul(in[0], transpose(in[1])), -2, -1);
                   return matmul(softmax(scores), in[2]);
                 }});
  out.push_back(
      {"matmul",
       "causal_cached",
       {normal("s", {2, 4}), normal("v", {2, 4, 3})},
       [](Builder&, const In& in) { return matmul(softmax(mask(in[0], 0, 1, 2)), in[1]); }});
}

void add_linear(std::vector<Sample>& out) {
  const auto emit = [](Builder&, const In& in) { return linear(in[0], in[1], in[2]); };
  const std::tuple<const char*, Shape, std::int64_t> cases[] = {
      {"matrix", {3, 4}, 2},      {"vector", {4}, 3},
      {"rank_3", {2, 2, 3}, 2},   {"rank_4", {2, 1, 2, 2}, 3},
      {"one_row", {1, 5}, 2},     {"one_output", {3, 4}, 1},
      {"no_rows", {0, 3}, 2},     {"no_rows_rank_3", {2, 0, 3}, 2},
      {"no_features", {3, 0}, 2}, {"no_outputs", {3, 2}, 0}};
  for (const auto& [name, x, n] : cases) {
    out.push_back(
        {"linear", name, {normal("x", x), normal("w", {x.back(), n}), normal("bias", {n})}, emit});
  }
  for (const Viewed& v : views()) {
    out.push_back({"linear",
                   v.name,
                   {normal("x", v.leaf), normal("w", {2, 3}), normal("bias", {4})},
                   [v](Builder&, const In& in) {
                     return linear(v.view(in[0]), transpose(in[1]), slice(in[2], 0, 1, 4, 2));
                   }});
    // The layouts as weights.
    out.push_back({"linear",
                   "by_" + v.name,
                   {normal("x", {2, 4}), normal("w", v.leaf), normal("bias", {1})},
                   [v](Builder&, const In& in) {
                     return linear(in[0], v.view(in[1]), broadcast_to(in[2], {3}));
                   }});
  }
  out.push_back({"linear",
                 "permuted_rank_3",
                 {normal("x", {3, 2, 2}), normal("w", {3, 2}), normal("bias", {2})},
                 [](Builder&, const In& in) {
                   return linear(permute(in[0], {2, 1, 0}), in[1], in[2]);
                 }});
}

void add_linear_then(std::vector<Sample>& out) {
  for (const char* op : {"linear_gelu_tanh", "linear_relu"}) {
    const auto emit = [op](Builder& b, const In& in) {
      return b.emit(*find_op(op), {in[0], in[1], in[2]}, NoAttributes{}, SourceLine::here());
    };
    const std::tuple<const char*, Shape, std::int64_t> cases[] = {{"plain", {4, 3}, 5},
                                                                  {"rank_3", {2, 3, 4}, 2},
                                                                  {"no_rows", {0, 3}, 2},
                                                                  {"no_features", {3, 0}, 2}};
    for (const auto& [name, x, n] : cases) {
      out.push_back(
          {op, name, {normal("x", x), normal("w", {x.back(), n}), normal("bias", {n})}, emit});
    }
    out.push_back({op,
                   "permuted",
                   {normal("x", {3, 2, 2}), normal("w", {3, 2}), normal("bias", {2})},
                   [emit](Builder& b, const In& in) {
                     return emit(b, {permute(in[0], {2, 1, 0}), in[1], in[2]});
                   }});
  }
}

// Leaves of heads_in: x [rows, d], gain, bias of the norm, w [d, heads * e], bias of the
// projection.
std::vector<Leaf> heads_leaves(std::int64_t rows, std::int64_t d, std::int64_t columns) {
  return {normal("x", {rows, d}), normal("gain", {d}), normal("norm_bias", {d}),
          normal("w", {d, columns}), normal("bias", {columns})};
}

// With and without the optional inputs.
void add_heads_of_rms_norm(std::vector<Sample>& out) {
  for (const bool biased : {false, true}) {
    const std::string suffix = biased ? "_biased" : "";
    const std::vector<Leaf> leaves = {normal("x", {3, 4}), normal("gain", {4}), normal("w", {4, 4}),
                                      normal("bias", {4})};
    const auto add = [&](const std::string& name, const std::vector<Leaf>& more,
                         const std::function<NormedInput(const In&)>& input) {
      std::vector<Leaf> all = leaves;
      if (!biased) all.pop_back();
      all.insert(all.end(), more.begin(), more.end());
      const auto n = static_cast<std::ptrdiff_t>(biased ? 4 : 3);
      out.push_back({"heads_in", name + suffix, all, [=](Builder&, const In& in) {
                       In given(in.begin() + n, in.end());
                       given.insert(given.begin(), {in[0], in[1]});
                       return heads_in(input(given), in[2], biased ? in[3] : Value(), 2, "q_input");
                     }});
    };
    constexpr NormKind kRms = NormKind::rms_norm;
    add("rms", {}, [=](const In& in) {
      return NormedInput{
          rms_norm(in[0], in[1], kEps), in[0], in[1], Value(), kEps, Value(), false, kRms};
    });
    add("rms_scale_given", {normal("normed", {3, 4}), positive("scale", {3, 1})},
        [=](const In& in) {
          return NormedInput{in[2], in[0], in[1], Value(), kEps, in[3], false, kRms};
        });
    add("rms_scale_detached", {normal("normed", {3, 4})}, [=](const In& in) {
      return NormedInput{in[2], in[0], in[1], Value(), kEps, Value(), true, kRms};
    });
    if (biased) continue;
    add("layer_norm_without_bias", {normal("norm_bias", {4}), positive("scale", {3, 1})},
        [=](const In& in) {
          return NormedInput{
              layer_norm(in[0], in[1], in[2], kEps), in[0], in[1], in[2], kEps, in[3]};
        });
  }
}

void add_heads(std::vector<Sample>& out) {
  const auto normed_heads = [&](const std::string& name, std::int64_t rows, std::int64_t d,
                                int heads, std::int64_t e, const std::string& site) {
    out.push_back(
        {"heads_in", name, heads_leaves(rows, d, heads * e), [heads, site](Builder&, const In& in) {
           const Value normed = layer_norm(in[0], in[1], in[2], kEps);
           return heads_in({normed, in[0], in[1], in[2], kEps}, in[3], in[4], heads, site);
         }});
  };
  normed_heads("two", 3, 4, 2, 3, "");
  normed_heads("with_site", 3, 4, 2, 2, "q_input");
  normed_heads("one", 2, 3, 1, 2, "q_input");
  normed_heads("one_row", 1, 3, 3, 1, "q_input");
  normed_heads("no_rows", 0, 3, 2, 2, "q_input");
  normed_heads("no_width", 2, 3, 2, 0, "q_input");
  out.push_back({"heads_in",
                 "normed_apart",
                 {normal("x", {3, 4}), normal("gain", {4}), normal("norm_bias", {4}),
                  normal("w", {4, 4}), normal("bias", {4}), normal("normed", {3, 4})},
                 [](Builder&, const In& in) {
                   return heads_in({in[5], in[0], in[1], in[2], kEps}, in[3], in[4], 2, "q_input");
                 }});
  out.push_back(
      {"heads_in",
       "scale_given",
       {normal("x", {3, 4}), normal("gain", {4}), normal("norm_bias", {4}), normal("w", {4, 4}),
        normal("bias", {4}), normal("normed", {3, 4}), positive("scale", {3, 1})},
       [](Builder&, const In& in) {
         return heads_in({in[5], in[0], in[1], in[2], kEps, in[6]}, in[3], in[4], 2, "q_input");
       }});
  out.push_back({"heads_in",
                 "scale_detached",
                 {normal("x", {3, 4}), normal("gain", {4}), normal("norm_bias", {4}),
                  normal("w", {4, 4}), normal("bias", {4}), normal("normed", {3, 4})},
                 [](Builder&, const In& in) {
                   return heads_in({in[5], in[0], in[1], in[2], kEps, Value(), true}, in[3], in[4],
                                   2, "q_input");
                 }});
  for (const Viewed& v : views()) {
    out.push_back({"heads_in",
                   v.name,
                   {normal("x", v.leaf), normal("gain", {3}), normal("norm_bias", {3}),
                    normal("w", {4, 3}), normal("bias", {8})},
                   [v](Builder&, const In& in) {
                     const Value x = v.view(in[0]);
                     return heads_in({x * 1.5, x, in[1], in[2], 0.1}, transpose(in[3]),
                                     slice(in[4], 0, 0, 8, 2), 2, "q_input");
                   }});
  }

  add_heads_of_rms_norm(out);

  const auto add_out = [&](const std::string& name, const Shape& z, std::int64_t d,
                           const std::string& site) {
    out.push_back(
        {"heads_out",
         name,
         {normal("z", z), normal("w", {z[1] * z[2], d}), normal("bias", {d})},
         [site](Builder&, const In& in) { return heads_out(in[0], in[1], in[2], site); }});
  };
  add_out("two", {3, 2, 2}, 3, "");
  add_out("with_site", {3, 2, 3}, 4, "result");
  add_out("one", {2, 1, 3}, 2, "result");
  add_out("one_row", {1, 3, 2}, 2, "result");
  add_out("no_rows", {0, 2, 2}, 3, "result");
  add_out("no_width", {2, 2, 0}, 3, "result");
  add_out("no_outputs", {2, 2, 2}, 0, "result");
  for (const Shape& z : {Shape{3, 2, 3}, Shape{0, 2, 2}, Shape{2, 2, 0}}) {
    out.push_back(
        {"heads_out",
         fmt::format("no_bias_{}_{}", z[0], z[2]),
         {normal("z", z), normal("w", {z[1] * z[2], 4})},
         [](Builder&, const In& in) { return heads_out(in[0], in[1], Value(), "result"); }});
  }
  out.push_back({"heads_out",
                 "permuted",
                 {normal("z", {2, 3, 2}), normal("w", {3, 4}), normal("bias", {6})},
                 [](Builder&, const In& in) {
                   return heads_out(permute(in[0], {1, 2, 0}), transpose(in[1]),
                                    slice(in[2], 0, 0, 6, 2), "result");
                 }});
  out.push_back(
      {"heads_out",
       "sliced",
       {normal("z", {2, 4, 3}), normal("w", {6, 3}), normal("bias", {3})},
       [](Builder&, const In& in) { return heads_out(slice(in[0], 1, 0, 4, 2), in[1], in[2]); }});
}

}  // namespace

std::vector<Sample> product_samples() {
  std::vector<Sample> out;
  add_matmul(out);
  add_linear(out);
  add_linear_then(out);
  add_heads(out);
  return out;
}

}  // namespace vitrine::test
