// Samples of the ops of sparse codes.
#include "tests/autograd/ops/samples.h"

namespace vitrine::test {
namespace {

using In = std::vector<Value>;

struct Rule {
  std::string name;
  ActiveFeatures rule;
};
// The third feature can never be active; the bars are between the scores.
std::vector<Leaf> score_leaves(std::int64_t features) {
  std::vector<bool> dead(static_cast<std::size_t>(features), false);
  for (std::size_t j = 0; j < dead.size(); j += 2) dead[j] = true;
  return {positive("scale", {features}), normal("bar", {features}, 0.1),
          truths("dead", {features}, dead)};
}

// Integers carry no gradient.
Sample without_gradient(Sample sample) {
  sample.stops_gradient = true;
  return sample;
}

void add_active(std::vector<Sample>& out) {
  const std::vector<Rule> rules = {{"all_above", {.capacity = 5}},
                                   {"few_above", {.capacity = 2}},
                                   {"top", {.most = 2, .capacity = 2}},
                                   {"top_and_dead", {.most = 1, .capacity = 1, .dead_capacity = 2}},
                                   {"batch", {.most = 1.5, .whole_batch = true, .capacity = 5}},
                                   {"none", {.most = 0, .capacity = 1}}};
  for (const Rule& r : rules) {
    std::vector<Leaf> leaves = score_leaves(5);
    leaves.insert(leaves.begin(), spaced("h", {4, 5}, -2));
    out.push_back({"active_features", r.name, leaves, [r](Builder&, const In& in) {
                     return active_features(in[0], {in[1], in[2], in[3]}, r.rule);
                   }});
    leaves[0] = normal("x", {4, 3});
    leaves.insert(leaves.begin() + 1, {normal("w", {5, 3}), normal("bias", {5}, 0.1)});
    out.push_back(without_gradient(
        {"linear_active", r.name, leaves, [r](Builder&, const In& in) {
           return linear_active(in[0], in[1], in[2], {in[3], in[4], in[5]}, r.rule);
         }}));
  }
  for (const Viewed& v : views()) {  // every view is [4, 3]
    std::vector<Leaf> leaves = score_leaves(3);
    leaves.insert(leaves.begin(), normal("h", v.leaf));
    out.push_back({"active_features", v.name, leaves, [v](Builder&, const In& in) {
                     return active_features(v.view(in[0]), {in[1], in[2], in[3]}, {.capacity = 3});
                   }});
    leaves = score_leaves(4);
    leaves.insert(leaves.begin(), {normal("x", v.leaf), normal("w", v.leaf), normal("bias", {4})});
    out.push_back(without_gradient({"linear_active", v.name, leaves, [v](Builder&, const In& in) {
                                      return linear_active(v.view(in[0]), v.view(in[1]), in[2],
                                                           {in[3], in[4], in[5]},
                                                           {.most = 2, .capacity = 2});
                                    }}));
  }
}

void add_products(std::vector<Sample>& out) {
  // Four samples of up to three active features of five; the second has none.
  const Leaf index = ints("index", {4, 3}, {0, 2, 4, -1, -1, -1, 2, -1, -1, 1, 2, -1});
  const Leaf x = normal("x", {4, 3}), w = normal("w", {5, 3}), z = normal("z", {4, 3});
  out.push_back({"sparse_linear", "plain", {x, w, index}, [](Builder&, const In& in) {
                   return sparse_linear(in[0], in[1], in[2]);
                 }});
  out.push_back({"sparse_mix", "plain", {z, w, index}, [](Builder&, const In& in) {
                   return sparse_mix(in[0], in[1], in[2]);
                 }});
  out.push_back({"sparse_outer", "plain", {z, x, index}, [](Builder&, const In& in) {
                   return sparse_outer(in[0], in[1], in[2], 5);
                 }});
  const Leaf none = ints("index", {0, 3}, {});
  out.push_back(
      {"sparse_linear", "no_samples", {normal("x", {0, 3}), w, none}, [](Builder&, const In& in) {
         return sparse_linear(in[0], in[1], in[2]);
       }});
  out.push_back(
      {"sparse_mix", "no_samples", {normal("z", {0, 3}), w, none}, [](Builder&, const In& in) {
         return sparse_mix(in[0], in[1], in[2]);
       }});
  out.push_back({"sparse_outer",
                 "no_samples",
                 {normal("z", {0, 3}), normal("x", {0, 3}), none},
                 [](Builder&, const In& in) { return sparse_outer(in[0], in[1], in[2], 5); }});
  for (const Viewed& v : views()) {  // every view is [4, 3]
    const Leaf own = ints("index", {4, 3}, {0, 2, 3, -1, -1, -1, 2, -1, -1, 1, 2, -1});
    out.push_back({"sparse_linear",
                   v.name,
                   {normal("x", v.leaf), normal("w", v.leaf), own},
                   [v](Builder&, const In& in) {
                     return sparse_linear(v.view(in[0]), v.view(in[1]), in[2]);
                   }});
    out.push_back(
        {"sparse_mix",
         v.name,
         {normal("z", v.leaf), normal("w", v.leaf), own},
         [v](Builder&, const In& in) { return sparse_mix(v.view(in[0]), v.view(in[1]), in[2]); }});
    out.push_back({"sparse_outer",
                   v.name,
                   {normal("z", v.leaf), normal("x", v.leaf), own},
                   [v](Builder&, const In& in) {
                     return sparse_outer(v.view(in[0]), v.view(in[1]), in[2], 5);
                   }});
  }
}

void add_top_mask(std::vector<Sample>& out) {
  for (const int k : {0, 1, 2, 9}) {
    out.push_back(
        {"top_mask", "of_" + std::to_string(k), {spaced("x", {3, 4})}, [k](Builder&, const In& in) {
           return top_mask(in[0], k);
         }});
  }
  out.push_back({"top_mask", "rank_3", {spaced("x", {2, 2, 3})}, [](Builder&, const In& in) {
                   return top_mask(in[0], 2);
                 }});
  out.push_back({"top_mask", "transposed", {spaced("x", {3, 4})}, [](Builder&, const In& in) {
                   return top_mask(transpose(in[0]), 2);
                 }});
}

// Rows that are nearly orthogonal to no other, so that no pick is near a tie.
void add_pursuit(std::vector<Sample>& out) {
  const std::vector<std::pair<std::string, PursuitRule>> rules = {
      {"one_step", {.steps = 1}},
      {"steps", {.steps = 4}},
      {"threshold", {.steps = 4, .threshold = 1.2}},
      {"until_a_repeat", {.steps = 6, .stop_at_repeat = true}}};
  for (const auto& [name, rule] : rules) {
    out.push_back(
        {"matching_pursuit",
         name,
         {normal("x", {4, 3}), normal("w", {5, 3}, 0.6)},
         [rule](Builder&, const In& in) { return matching_pursuit(in[0], in[1], rule); }});
  }
  out.push_back(
      {"matching_pursuit",
       "no_samples",
       {normal("x", {0, 3}), normal("w", {5, 3})},
       [](Builder&, const In& in) { return matching_pursuit(in[0], in[1], {.steps = 2}); }});
  for (const Viewed& v : views()) {
    out.push_back({"matching_pursuit",
                   v.name,
                   {normal("x", v.leaf), normal("w", v.leaf, 0.6)},
                   [v](Builder&, const In& in) {
                     return matching_pursuit(v.view(in[0]), v.view(in[1]), {.steps = 3});
                   }});
    const Leaf index = ints("index", {4, 3}, {2, 0, 2, -1, -1, -1, 1, -1, -1, 0, 1, -1});
    out.push_back(
        {"sparse_to_dense", v.name, {normal("z", v.leaf), index}, [v](Builder&, const In& in) {
           return sparse_to_dense(v.view(in[0]), in[1], 5);
         }});
    out.push_back(
        {"sparse_pick", v.name, {normal("x", v.leaf), index}, [v](Builder&, const In& in) {
           return sparse_pick(v.view(in[0]), in[1]);
         }});
    out.push_back({"solve_unit_lower",
                   v.name,
                   {normal("l", {4, 3, 3}), normal("b", v.leaf)},
                   [v](Builder&, const In& in) { return solve_unit_lower(in[0], v.view(in[1])); }});
  }
  for (const bool transposed : {false, true}) {
    const std::string name = transposed ? "upper" : "lower";
    out.push_back({"solve_unit_lower",
                   name,
                   {normal("l", {2, 4, 4}), normal("b", {2, 4})},
                   [transposed](Builder&, const In& in) {
                     return solve_unit_lower(in[0], in[1], transposed);
                   }});
    out.push_back({"solve_unit_lower",
                   name + "_of_a_view",
                   {normal("l", {2, 4, 4}), normal("b", {2, 4})},
                   [transposed](Builder&, const In& in) {
                     return solve_unit_lower(transpose(in[0]), in[1], transposed);
                   }});
  }
}

}  // namespace

std::vector<Sample> sparse_samples() {
  std::vector<Sample> samples;
  add_top_mask(samples);
  add_active(samples);
  add_products(samples);
  add_pursuit(samples);
  return samples;
}

}  // namespace vitrine::test
