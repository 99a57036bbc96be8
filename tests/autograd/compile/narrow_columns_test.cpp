// Products are computed only for the columns that are read, with the values of the whole product.
#include <gtest/gtest.h>

#include <functional>

#include "autograd/compile/plan.h"
#include "autograd/ops/ops.h"
#include "autograd/transform/gradient.h"
#include "tensor/random.h"

namespace vitrine {
namespace {

constexpr std::int64_t kRows = 6, kInner = 5, kColumns = 80;

struct Inputs {
  Value x, w, transposed, bias;  // [rows, inner], [inner, columns], [columns, inner], [columns]
  Value rows;                    // [4] rows, one of them -1
  Value four, six;               // columns for 4 and 6 rows
};
Feeds feeds() {
  Feeds f{{"x", Tensor::empty({kRows, kInner}, DType::f64)},
          {"w", Tensor::empty({kInner, kColumns}, DType::f64)},
          {"transposed", Tensor::empty({kColumns, kInner}, DType::f64)},
          {"bias", Tensor::empty({kColumns}, DType::f64)}};
  ThreadPool serial(1);
  std::uint64_t key = 0;
  for (auto& [name, tensor] : f) random::fill_normal(serial, random::Key{++key}, tensor);
  f["rows"] = Tensor::of<std::int32_t>({4}, {5, -1, 0, 5});
  f["four"] = Tensor::of<std::int32_t>({4}, {79, 3, 0, 41});
  f["six"] = Tensor::of<std::int32_t>({6}, {79, 3, 0, 41, 3, 7});
  return f;
}

using Emit = std::function<Value(const Inputs&)>;
// y = emit(inputs), and the sum of its squares with gradients.
Graph graph_of(const Emit& emit) {
  Builder b;
  const auto all = feeds();
  const auto input = [&](const char* name) {
    return b.input(name, {all.at(name).dtype(), all.at(name).shape()});
  };
  const Inputs in{input("x"),    input("w"),    input("transposed"), input("bias"),
                  input("rows"), input("four"), input("six")};
  const Value y = emit(in);
  b.output("y", y);
  b.output("energy", sum(square(y)));
  return std::move(b).finish();
}

// The product that the cases look at, as a site, so that fetching it forces the whole of it.
Value product(const Value& y) { return y.builder().site("product", y, {Axis::row, Axis::feature}); }

struct Case {
  const char* name;
  Emit emit;
};
const std::vector<Case> kNarrowed = {
    {"slice", [](const Inputs& i) { return slice(product(matmul(i.x, i.w)), 1, 7, 9); }},
    {"slice_of_transposed",
     [](const Inputs& i) {
       return slice(product(matmul(i.x, transpose(i.transposed))), -1, 79, 80);
     }},
    {"strided_slice_of_linear",
     [](const Inputs& i) { return slice(product(linear(i.x, i.w, i.bias)), 1, 10, 31, 10); }},
    {"two_slices",
     [](const Inputs& i) {
       const Value y = product(matmul(i.x, i.w));
       return slice(y, 1, 3, 4) - slice(y, 1, 5, 6);
     }},
    {"slice_of_selected_rows",
     [](const Inputs& i) {
       return slice(gather_rows(product(linear(i.x, i.w, i.bias)), i.rows), 1, 0, 2);
     }},
    {"pick", [](const Inputs& i) { return pick(product(matmul(i.x, i.w)), i.six); }},
    {"pick_of_transposed",
     [](const Inputs& i) { return pick(product(matmul(i.x, transpose(i.transposed))), i.six); }},
    {"pick_of_linear",
     [](const Inputs& i) { return pick(product(linear(i.x, i.w, i.bias)), i.six); }},
    {"pick_of_selected_rows",
     [](const Inputs& i) { return pick(gather_rows(product(matmul(i.x, i.w)), i.rows), i.four); }},
    {"pick_of_selected_rows_of_linear",
     [](const Inputs& i) {
       return pick(identity(gather_rows(product(linear(i.x, i.w, i.bias)), i.rows)), i.four);
     }},
    {"pick_and_slice_of_rows_of_rows", [](const Inputs& i) {
       const Value y = gather_rows(slice(product(linear(i.x, i.w, i.bias)), 0, 0, 6), i.rows);
       return pick(y, i.four) + reshape(slice(y, 1, 2, 3), {4});
     }}};
// The softcap of logits, as one op and written out, and what else is a function with f(0) = 0.
const std::vector<Case> kFunctions = {
    {"pick_of_softcap",
     [](const Inputs& i) { return pick(softcap(product(matmul(i.x, i.w)), 2), i.six); }},
    {"slice_of_softcap_written_out",
     [](const Inputs& i) {
       return slice(2.0 * tanh(product(matmul(i.x, transpose(i.transposed))) / 2.0), 1, 7, 9);
     }},
    {"pick_of_selected_rows_of_softcap_of_linear",
     [](const Inputs& i) {
       return pick(gather_rows(softcap(product(linear(i.x, i.w, i.bias)), 2), i.rows), i.four);
     }},
    {"pick_of_softcap_of_selected_rows_of_linear",
     [](const Inputs& i) {
       const Value y = gather_rows(product(linear(i.x, i.w, i.bias)), i.rows);
       return pick(softcap(silu(-y) * 0.5, 2), i.four);
     }},
    {"two_picks_of_functions", [](const Inputs& i) {
       const Value y = softcap(product(linear(i.x, i.w, i.bias)), 1.5);
       return pick(y, i.six) - pick(gelu_tanh(y), i.six);
     }}};
const std::vector<Case> kWhole = {
    {"pick_of_a_function_with_f_0_not_0",
     [](const Inputs& i) { return pick(sigmoid(product(matmul(i.x, i.w))), i.six); }},
    {"pick_of_a_product_of_two",
     [](const Inputs& i) {
       const Value y = product(matmul(i.x, i.w));
       return pick(y * y, i.six);
     }},
    {"pick_of_dropout",
     [](const Inputs& i) {
       const Value key = i.x.builder().constant(Tensor::of<std::int64_t>({2}, {5, 6}));
       return pick(dropout(product(matmul(i.x, i.w)), key, 0.5, 0), i.six);
     }},
    {"read_by_something_else",
     [](const Inputs& i) {
       const Value y = product(matmul(i.x, i.w));
       return slice(y, 1, 7, 9) + sum(y);
     }},
    {"selected_rows_read_by_something_else",
     [](const Inputs& i) {
       const Value y = gather_rows(product(matmul(i.x, i.w)), i.rows);
       return pick(y, i.four) + sum(y);
     }},
    {"most_columns", [](const Inputs& i) { return slice(product(matmul(i.x, i.w)), 1, 0, 41); }},
    {"rows_alone", [](const Inputs& i) { return slice(product(matmul(i.x, i.w)), 0, 0, 2); }},
    {"picked_in_log_softmax",
     [](const Inputs& i) { return pick(log_softmax(product(matmul(i.x, i.w))), i.six); }}};

constexpr const char* kSaid = "1 matrix products are computed only for the columns that are read";

std::vector<Case> narrowed() {
  std::vector<Case> all = kNarrowed;
  all.insert(all.end(), kFunctions.begin(), kFunctions.end());
  return all;
}

TEST(NarrowColumns, GivesTheColumnsOfTheWholeProduct) {
  for (const Case& c : narrowed()) {
    const Graph g = graph_of(c.emit);
    const Plan whole = compile(g, fetch(value("y"), Site{"product"})),
               narrow = compile(g, fetch(value("y")));
    EXPECT_EQ(whole.stats().narrowed_columns, 0) << c.name;
    EXPECT_EQ(narrow.stats().narrowed_columns, 1) << c.name;
    EXPECT_NE(narrow.explain().find(kSaid), std::string::npos) << narrow.explain();
    EXPECT_LT(narrow.stats().flops, whole.stats().flops / 4) << c.name;
    const Tensor want = whole.run(feeds(), {}).raw("y"), got = narrow.run(feeds(), {}).raw("y");
    ASSERT_EQ(got.shape(), want.shape()) << c.name;
    EXPECT_GT(max_abs(want), 0.1) << c.name;
    EXPECT_LE(max_abs_difference(got, want), 1e-12) << c.name;
  }
}

TEST(NarrowColumns, LeavesProductsWholeThatAreReadWhole) {
  for (const Case& c : kWhole) {
    const Plan plan = compile(graph_of(c.emit), fetch(value("y")));
    EXPECT_EQ(plan.stats().narrowed_columns, 0) << c.name;
    EXPECT_EQ(plan.explain().find(kSaid), std::string::npos) << c.name;
  }
  const Graph g = graph_of(kNarrowed[0].emit);
  EXPECT_EQ(compile(g, fetch(value("y"), before(Site{"product"}))).stats().narrowed_columns, 0);
}

// What a selection of no row, index -1, gives: exactly zero, without a bias.
TEST(NarrowColumns, ZeroWhereNoRowIsSelected) {
  for (const Case& c : narrowed()) {
    if (std::string_view(c.name).find("selected_rows") == std::string_view::npos) continue;
    const Plan plan = compile(graph_of(c.emit), fetch(value("y")));
    EXPECT_EQ(max_abs(plan.run(feeds(), {}).raw("y").select(0, 1)), 0) << c.name;
  }
}

TEST(NarrowColumns, GradientsAreTheSame) {
  for (const Case& c : kNarrowed) {
    const Graph g = gradient(graph_of(c.emit), "energy", leaves("x,w,transposed,bias"));
    const Fetch wanted = fetch(value("energy"), grad(leaves("*")));
    Fetch with_product = wanted;
    with_product.wants.push_back(as_want(Site{"product"}));
    const Plan narrow = compile(g, wanted), whole = compile(g, with_product);
    EXPECT_EQ(narrow.stats().narrowed_columns, 1) << c.name;
    EXPECT_EQ(whole.stats().narrowed_columns, 0) << c.name;
    const Results got = narrow.run(feeds(), {}), want = whole.run(feeds(), {});
    for (const std::string& name : got.names())
      EXPECT_LE(max_abs_difference(got.raw(name), want.raw(name)), 1e-11) << c.name << ' ' << name;
    EXPECT_GT(max_abs(got.raw("grad(x)")), 0.1) << c.name;
  }
}

// A transposed weight is read where it lies.
TEST(NarrowColumns, NoCopyOfTheWeight) {
  for (const std::size_t i : {1UL, 6UL}) {  // slice, and pick, of a product with a transposed one
    const Plan plan = compile(graph_of(kNarrowed[i].emit), fetch(value("y")));
    EXPECT_LE(plan.stats().intermediate_bytes,
              static_cast<std::int64_t>((2 * kRows * kInner + 2 * kRows) * sizeof(double)))
        << plan.explain();
  }
}

}  // namespace
}  // namespace vitrine
