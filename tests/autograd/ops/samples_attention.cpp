// Samples of masks and of attention over row tables.
#include <fmt/format.h>

#include <cmath>

#include "autograd/ops/op_table.h"
#include "tests/autograd/ops/samples.h"

namespace vitrine::test {
namespace {

using In = std::vector<Value>;
constexpr double kScale = 0.6;
constexpr std::int64_t kHeads = 2, kWidth = 2, kValueWidth = 3;

// A row table, and how many key rows it speaks of.
struct Table {
  std::string name;
  std::int64_t key_rows;
  std::vector<std::int32_t> sequence, position;
  Shape keys_shape;
  std::vector<std::int32_t> keys;

  std::int64_t rows() const { return static_cast<std::int64_t>(sequence.size()); }
  std::vector<Leaf> leaves() const {
    return {ints("sequence", {rows()}, sequence), ints("position", {rows()}, position),
            ints("keys", keys_shape, keys)};
  }
};

const std::vector<Table>& row_tables() {
  static const std::vector<Table> kTables = {
      {"one_sequence", 3, {0, 0, 0}, {0, 1, 2}, {1, 3}, {0, 1, 2}},
      {"ragged", 5, {0, 0, 0, 1, 1}, {0, 1, 2, 0, 1}, {2, 3}, {0, 1, 2, 3, 4, -1}},
      {"cached", 5, {0, 0}, {2, 3}, {1, 4}, {0, 1, 2, 4}},  // key row 3 is nobody's
      {"shuffled", 5, {1, 0, 0, 1}, {0, 2, 0, 1}, {2, 3}, {2, 0, 4, 3, 1, -1}},
      {"worlds", 4, {1, 0}, {2, 2}, {2, 3}, {0, 1, 2, 0, 1, 3}},  // two worlds share their first
                                                                  // rows
      {"a_hole", 2, {0, 0}, {1, 2}, {1, 3}, {0, -1, 1}},
      {"sees_nothing", 2, {1, 0}, {0, 1}, {2, 2}, {0, 1, -1, -1}},
      {"shared", 3, {0, 1, 1}, {1, 1, 2}, {2, 3}, {0, 1, -1, 0, 1, 2}},  // as many rows as keys
      {"no_rows", 2, {}, {}, {1, 2}, {0, 1}},
      {"no_keys", 0, {0}, {0}, {1, 1}, {-1}},
      {"no_positions", 2, {0, 0}, {0, 1}, {1, 0}, {}},
  };
  return kTables;
}

using Tensors = std::vector<Leaf>;
Tensors with_tables(Tensors leaves, const Table& t) {
  for (Leaf& leaf : t.leaves()) leaves.push_back(std::move(leaf));
  return leaves;
}
RowValues last_three(const In& in) {
  return {in[in.size() - 3], in[in.size() - 2], in[in.size() - 1]};
}

Leaf queries(const Table& t) { return normal("q", {t.rows(), kHeads, kWidth}); }
Leaf keys(const Table& t) { return normal("k", {t.key_rows, kHeads, kWidth}); }
Leaf values(const Table& t) { return normal("v", {t.key_rows, kHeads, kValueWidth}); }
Leaf pattern(const Table& t) { return normal("p", {t.rows(), kHeads, t.keys_shape[1]}); }
Leaf grads(const Table& t) { return normal("dz", {t.rows(), kHeads, kValueWidth}); }

void add_attention(std::vector<Sample>& out) {
  for (const Table& t : row_tables()) {
    const std::int64_t key_rows = t.key_rows;
    out.push_back({"attention_scores", t.name, with_tables({queries(t), keys(t)}, t),
                   [](Builder&, const In& in) {
                     return exp(
                         attention_scores(in[0], in[1], last_three(in), kScale));  // exp(-inf) = 0
                   }});
    out.push_back(
        {"attention_outer", t.name, with_tables({queries(t), keys(t)}, t),
         [](Builder&, const In& in) { return attention_outer(in[0], in[1], last_three(in)); }});
    out.push_back(
        {"attention_mix", t.name, with_tables({pattern(t), values(t)}, t),
         [](Builder&, const In& in) { return attention_mix(in[0], in[1], last_three(in)); }});
    out.push_back({"attention_mix", "causal_" + t.name, with_tables({pattern(t), values(t)}, t),
                   [](Builder&, const In& in) {
                     const RowValues rows = last_three(in);
                     return attention_mix(softmax(mask(in[0], rows.position, 0, 2)), in[1], rows);
                   }});
    out.push_back({"attention_mix_transposed", t.name, with_tables({pattern(t), grads(t)}, t),
                   [key_rows](Builder&, const In& in) {
                     return attention_mix_transposed(in[0], in[1], last_three(in), key_rows);
                   }});
    out.push_back({"attention_mix_transposed", "causal_" + t.name,
                   with_tables({pattern(t), grads(t)}, t), [key_rows](Builder&, const In& in) {
                     const RowValues rows = last_three(in);
                     return attention_mix_transposed(softmax(mask(in[0], rows.position, 0, 2, 1)),
                                                     in[1], rows, key_rows);
                   }});
    const auto emit_grad = [](Builder& b, const In& in, std::int64_t offset) {
      return b.emit(*find_op("attention_grad"), in, AttentionRule{kScale, offset, ""},
                    SourceLine::here());
    };
    for (const std::int64_t offset : {0, -1, 1}) {
      if (t.rows() != t.key_rows) break;
      const Shape each{t.rows(), kHeads, kWidth};
      out.push_back(
          {"attention_grad", fmt::format("{}_offset_{}", t.name, offset),
           with_tables(
               {normal("q", each), normal("k", each), normal("v", each), normal("dz", each)}, t),
           [=](Builder& b, const In& in) { return emit_grad(b, in, offset); }});
    }
    for (const std::int64_t offset : {0, -1, 1}) {
      const std::string suffix = offset == 0 ? "" : offset < 0 ? "_strictly_before" : "_one_ahead";
      const std::string prefix = offset == 0 ? "attn" : "";
      out.push_back({"attention", t.name + suffix, with_tables({queries(t), keys(t), values(t)}, t),
                     [offset, prefix](Builder&, const In& in) {
                       return attention(in[0], in[1], in[2], last_three(in), kScale, prefix,
                                        offset);
                     }});
    }
  }
  // Strided everything: q from every other row, k with its axes permuted, v broadcast over heads,
  // tables sliced.
  const Tensors strided = {normal("q", {6, 2, 2}),
                           normal("k", {2, 2, 4}),
                           normal("v", {4, 1, 2}),
                           ints("sequence", {6}, {0, 9, 0, 9, 0, 9}),
                           ints("position", {5}, {3, 9, 1, 9, 2}),
                           ints("keys", {4, 1}, {2, 0, 1, 3})};
  const auto q_of = [](const In& in) { return slice(in[0], 0, 1, 6, 2); };
  const auto k_of = [](const In& in) { return permute(in[1], {2, 0, 1}); };
  const auto v_of = [](const In& in) { return broadcast_to(in[2], {4, 2, 2}); };
  const auto tables_of = [](const In& in) {
    return RowValues{slice(in[3], 0, 0, 6, 2), slice(in[4], 0, 0, 5, 2), transpose(in[5])};
  };
  out.push_back({"attention", "strided", strided, [=](Builder&, const In& in) {
                   return attention(q_of(in), k_of(in), v_of(in), tables_of(in), kScale, "attn");
                 }});
  out.push_back({"attention_scores", "strided", strided, [=](Builder&, const In& in) {
                   return attention_scores(q_of(in), k_of(in), tables_of(in), kScale);
                 }});
  out.push_back({"attention_outer", "strided", strided, [=](Builder&, const In& in) {
                   return attention_outer(q_of(in), k_of(in), tables_of(in));
                 }});
  const Tensors tables(strided.begin() + 3, strided.end());  // the strided tables alone
  const auto with_strided_tables = [&](Tensors leaves) {
    leaves.insert(leaves.end(), tables.begin(), tables.end());
    return leaves;
  };
  const auto sliced_tables = [](const In& in) {
    const RowValues t = last_three(in);
    return RowValues{slice(t.sequence, 0, 0, 6, 2), slice(t.position, 0, 0, 5, 2),
                     transpose(t.keys)};
  };
  out.push_back({"attention_mix", "strided",
                 with_strided_tables({normal("p", {4, 2, 3}), normal("v", {4, 2, 4})}),
                 [=](Builder&, const In& in) {
                   return attention_mix(permute(in[0], {2, 1, 0}), slice(in[1], 2, 0, 4, 3),
                                        sliced_tables(in));
                 }});
  out.push_back({"attention_mix_transposed", "strided",
                 with_strided_tables({normal("p", {4, 2, 3}), normal("dz", {2, 3, 2})}),
                 [=](Builder&, const In& in) {
                   return attention_mix_transposed(permute(in[0], {2, 1, 0}),
                                                   permute(in[1], {1, 2, 0}), sliced_tables(in), 4);
                 }});
  out.push_back(
      {"attention_grad", "strided",
       with_strided_tables({normal("q", {3, 2, 2}), normal("k", {2, 2, 3}), normal("v", {3, 1, 2}),
                            normal("dz", {6, 2, 2})}),
       [=](Builder& b, const In& in) {
         const RowValues t = last_three(in);
         const RowValues rows{slice(t.sequence, 0, 0, 6, 2), slice(t.position, 0, 0, 5, 2),
                              slice(transpose(t.keys), 1, 0, 3)};
         return b.emit(*find_op("attention_grad"),
                       {in[0], permute(in[1], {2, 0, 1}), broadcast_to(in[2], {3, 2, 2}),
                        slice(in[3], 0, 1, 6, 2), rows.sequence, rows.position, rows.keys},
                       AttentionRule{kScale, 0, ""}, SourceLine::here());
       }});
  out.push_back(
      {"attention", "no_heads",
       with_tables({normal("q", {3, 0, 2}), normal("k", {3, 0, 2}), normal("v", {3, 0, 2})},
                   row_tables()[0]),
       [](Builder&, const In& in) {
         return attention(in[0], in[1], in[2], last_three(in), kScale);
       }});
  out.push_back(
      {"attention", "no_width",
       with_tables({normal("q", {3, 1, 0}), normal("k", {3, 1, 0}), normal("v", {3, 1, 2})},
                   row_tables()[0]),
       [](Builder&, const In& in) {
         return attention(in[0], in[1], in[2], last_three(in), kScale);
       }});
}

// Four heads that share two key heads, windows and softcaps: each alone, and all together.
void add_grouped_attention(std::vector<Sample>& out) {
  constexpr std::int64_t kGrouped = 4;
  const AttentionOptions rules[] = {{.scale = kScale},
                                    {.scale = kScale, .window = 1},
                                    {.scale = kScale, .offset = 1, .window = 2},
                                    {.scale = kScale, .softcap = 0.8},
                                    {.scale = kScale, .offset = -1, .window = 3, .softcap = 0.8}};
  for (const Table& t : row_tables()) {
    const std::int64_t key_rows = t.key_rows;
    const Leaf q = normal("q", {t.rows(), kGrouped, kWidth}),
               p = normal("p", {t.rows(), kGrouped, t.keys_shape[1]}),
               dz = normal("dz", {t.rows(), kGrouped, kValueWidth});
    out.push_back({"attention_scores", "grouped_" + t.name, with_tables({q, keys(t)}, t),
                   [](Builder&, const In& in) {
                     return exp(attention_scores(in[0], in[1], last_three(in), kScale));
                   }});
    out.push_back(
        {"attention_outer", "grouped_" + t.name, with_tables({q, keys(t)}, t),
         [](Builder&, const In& in) { return attention_outer(in[0], in[1], last_three(in)); }});
    out.push_back({"attention_mix", "grouped_" + t.name, with_tables({p, values(t)}, t),
                   [](Builder&, const In& in) {
                     const RowValues rows = last_three(in);
                     const Value seen = mask(in[0], rows.position, Visibility{0, 2, 0, false, 2});
                     return attention_mix(softmax(seen), in[1], rows);
                   }});
    out.push_back({"attention_mix_transposed", "grouped_" + t.name, with_tables({p, dz}, t),
                   [key_rows](Builder&, const In& in) {
                     const RowValues rows = last_three(in);
                     const Value seen = mask(in[0], rows.position, Visibility{0, 2, 0, false, 2});
                     return attention_mix_transposed(softmax(seen), in[1], rows, key_rows, 2);
                   }});
    for (const AttentionOptions& rule : rules) {
      const std::string name =
          fmt::format("{}_window_{}_cap_{}", t.name, rule.window, rule.softcap);
      out.push_back({"attention", "grouped_" + name, with_tables({q, keys(t), values(t)}, t),
                     [rule](Builder&, const In& in) {
                       return attention(in[0], in[1], in[2], last_three(in), rule, "attn");
                     }});
      out.push_back({"attention", name, with_tables({queries(t), keys(t), values(t)}, t),
                     [rule](Builder&, const In& in) {
                       return attention(in[0], in[1], in[2], last_three(in), rule);
                     }});
      if (t.rows() != t.key_rows) continue;
      for (const std::int64_t heads : {kHeads, kGrouped}) {
        const Shape each{t.rows(), heads, kWidth}, key{t.rows(), kHeads, kWidth};
        out.push_back(
            {"attention_grad", fmt::format("{}_of_{}_heads", name, heads),
             with_tables(
                 {normal("q", each), normal("k", key), normal("v", key), normal("dz", each)}, t),
             [rule](Builder& b, const In& in) {
               return b.emit(*find_op("attention_grad"), in,
                             AttentionRule{rule.scale, rule.offset, "", rule.window, rule.softcap},
                             SourceLine::here());
             }});
      }
    }
  }
}

void add_rotary(std::vector<Sample>& out) {
  const auto add = [&](const std::string& name, const Shape& shape, const RotaryRule& rule,
                       const std::vector<std::int32_t>& position) {
    out.push_back({"rotary",
                   name,
                   {normal("x", shape), ints("position", {shape[0]}, position)},
                   [rule](Builder&, const In& in) { return rotary(in[0], in[1], rule); }});
  };
  std::vector<double> many;
  for (int i = 0; i < 19; ++i) many.push_back(std::pow(100.0, -i / 19.0));
  add("whole", {3, 2, 4}, {.inverse = {1, 0.1}}, {0, 1, 7});
  add("part", {3, 2, 5}, {.inverse = {0.5}}, {4, 2, 4});
  add("scaled", {3, 2, 5}, {.inverse = {0.5, 0.3}, .scale = 1.3}, {4, 2, 4});
  add("nothing", {2, 1, 3}, {}, {4, 2});
  add("many", {3, 2, 41}, {.inverse = many}, {0, 900, 31});
  add("no_rows", {0, 2, 4}, {.inverse = {1}}, {});
  add("no_heads", {2, 0, 4}, {.inverse = {1}}, {1, 2});
  out.push_back({"rotary",
                 "strided",
                 {normal("x", {4, 3, 2}), ints("position", {5}, {1, 9, 0, 9, 2})},
                 [](Builder&, const In& in) {
                   return rotary(permute(in[0], {1, 2, 0}), slice(in[1], 0, 0, 5, 2),
                                 RotaryRule{.inverse = {1, 0.2}});
                 }});
  out.push_back(
      {"rotary",
       "one_head_for_all",
       {normal("x", {3, 1, 4}), ints("position", {3}, {1, 5, 2})},
       [](Builder&, const In& in) {
         return rotary(broadcast_to(in[0], {3, 2, 4}), in[1], RotaryRule{.inverse = {1, 0.2}});
       }});
}

void add_mask(std::vector<Sample>& out) {
  // exp after it: -inf becomes 0, and the metric stays finite.
  const auto add = [&](const std::string& name, const Shape& shape, int query, int key,
                       std::int64_t offset) {
    out.push_back({"mask", name, {normal("x", shape)}, [=](Builder&, const In& in) {
                     return exp(mask(in[0], query, key, offset));
                   }});
    out.push_back({"mask", "zeros_" + name, {normal("x", shape)}, [=](Builder& b, const In& in) {
                     Visibility rule{normalise_axis(query, in[0].rank()),
                                     normalise_axis(key, in[0].rank()), offset};
                     rule.zero = true;
                     return b.emit(*find_op("mask"), {in[0]}, rule, SourceLine::here());
                   }});
  };
  add("square", {4, 4}, 0, 1, 0);
  add("offset", {3, 5}, 0, 1, 2);
  add("strictly_before", {3, 3}, -2, -1, -1);
  add("sees_nothing", {2, 2}, 0, 1, -5);
  add("sees_all", {2, 2}, 0, 1, 5);
  add("keys_first", {3, 4}, 1, 0, 0);
  add("heads", {1, 2, 3, 3}, -2, -1, 0);
  add("axes_apart", {3, 2, 3}, 0, 2, 0);
  add("no_queries", {0, 3}, 0, 1, 0);
  add("no_keys", {3, 0}, 0, 1, 0);
  for (const Viewed& v : views()) {
    out.push_back({"mask", v.name, {normal("x", v.leaf)}, [v](Builder&, const In& in) {
                     return exp(mask(v.view(in[0]), 0, 1));
                   }});
  }
  const auto by_table = [&](const std::string& name, const Shape& shape, const Leaf& position,
                            int query, int key, std::int64_t offset) {
    out.push_back({"mask", name, {normal("x", shape), position}, [=](Builder&, const In& in) {
                     return exp(mask(in[0], in[1], query, key, offset));
                   }});
  };
  for (const std::int64_t window : {1, 2, 5}) {
    for (const bool zero : {false, true}) {
      const Visibility rule{0, 2, 0, zero, window};
      const std::string name = fmt::format("window_{}{}", window, zero ? "_zeros" : "");
      out.push_back({"mask", name, {normal("x", {4, 2, 4})}, [rule](Builder&, const In& in) {
                       const Value y = mask(in[0], Value(), rule);
                       return rule.zero ? y : exp(y);
                     }});
      out.push_back({"mask",
                     name + "_table",
                     {normal("x", {4, 2, 4}), ints("position", {4}, {2, 0, 3, 7})},
                     [rule](Builder&, const In& in) {
                       const Value y = mask(in[0], in[1], rule);
                       return rule.zero ? y : exp(y);
                     }});
    }
  }
  by_table("table", {4, 2, 3}, ints("position", {4}, {2, 0, 1, 7}), 0, 2, 0);
  by_table("table_offset", {3, 2, 3}, ints("position", {3}, {2, 0, 1}), 0, -1, -1);
  by_table("table_last_axis", {3, 4}, ints("position", {4}, {0, 2, 1, 0}), -1, 0, 0);
  out.push_back({"mask",
                 "table_strided",
                 {normal("x", {3, 2, 3}), ints("position", {5}, {1, 9, 0, 9, 2})},
                 [](Builder&, const In& in) {
                   return exp(mask(permute(in[0], {2, 1, 0}), slice(in[1], 0, 0, 5, 2), 0, 2));
                 }});
}

}  // namespace

std::vector<Sample> attention_samples() {
  std::vector<Sample> out;
  add_mask(out);
  add_attention(out);
  add_grouped_attention(out);
  add_rotary(out);
  return out;
}

}  // namespace vitrine::test
