#include "kernel_check.h"
#include "tests/tensor/expect_error.h"

namespace vitrine {
namespace {

using test::describe;
using test::expect_close;
using test::in_layouts;
using test::on_all_pools;
using test::random_indices;
using test::random_tensor;

constexpr DType kFloats[] = {DType::f32, DType::f64};
using Values = std::vector<double>;

Shape joined(const Shape& a, const Shape& b, int from) {
  Shape out = a;
  for (int axis = from; axis < b.size(); ++axis) out.push_back(b[axis]);
  return out;
}

TEST(KernelsGather, RowsOfATable) {
  for (const DType dtype : {DType::f32, DType::f64, DType::i32, DType::f16, DType::boolean}) {
    const DType made = is_compute_float(dtype) ? dtype : DType::f32;
    for (const Shape& shape : {Shape{9}, Shape{9, 1}, Shape{9, 33}, Shape{9, 3, 5}, Shape{9, 0}}) {
      for (const Tensor& plain : in_layouts(shape, made, 131)) {
        const Tensor table = dtype == made ? plain : plain.to(dtype);
        for (const DType index_type : {DType::i32, DType::i64}) {
          const Tensor index = random_indices({50, 7}, index_type, 3, -1, 9).permute({1, 0});
          const Tensor out = on_all_pools([&](ThreadPool& pool) {
            Tensor result = Tensor::full(joined(index.shape(), shape, 1), dtype, 9);
            kernels::gather_rows(pool, table.view(), index.view(), result.view());
            return result;
          });
          const auto rows = index.to_vector<std::int64_t>();
          const Values from = table.to_vector<double>();
          const auto width = static_cast<std::int64_t>(from.size()) / 9;
          Values want;
          for (const std::int64_t row : rows) {
            for (std::int64_t c = 0; c < width; ++c) {
              want.push_back(row < 0 ? 0 : from[static_cast<std::size_t>(row * width + c)]);
            }
          }
          ASSERT_EQ(out.to_vector<double>(), want) << describe(table);
        }
      }
    }
  }
}

TEST(KernelsGather, ScatterAddIsItsTranspose) {
  for (const DType dtype : kFloats) {
    for (const Shape& rest : {Shape{}, Shape{1}, Shape{33}, Shape{3, 100}, Shape{0}}) {
      for (const Tensor& x : in_layouts(joined({60, 5}, rest, 0), dtype, 141)) {
        const Tensor index = random_indices({60, 5}, DType::i32, 5, -1, 8);
        const Tensor out = on_all_pools([&](ThreadPool& pool) {
          Tensor result = Tensor::full(joined({8}, rest, 0), dtype, 9);
          kernels::scatter_add_rows(pool, x.view(), index.view(), result.view());
          return result;
        });
        const auto rows = index.to_vector<std::int64_t>();
        const Values from = x.to_vector<double>();
        const auto width = numel(rest);
        Values want(static_cast<std::size_t>(8 * width), 0.0);
        for (std::size_t i = 0; i < rows.size(); ++i) {
          for (std::int64_t c = 0; c < width && rows[i] >= 0; ++c) {
            want[static_cast<std::size_t>(rows[i] * width + c)] +=
                from[i * static_cast<std::size_t>(width) + static_cast<std::size_t>(c)];
          }
        }
        expect_close(out, want, 0, dtype == DType::f32 ? 2e-5 : 1e-13, describe(x));
      }
    }
  }
}

TEST(KernelsGather, PickAndUnpick) {
  for (const DType dtype : kFloats) {
    for (const Tensor& x : in_layouts({7, 300, 11}, dtype, 151)) {
      const Tensor index = random_indices({300, 7}, DType::i64, 6, 0, 11).permute({1, 0});
      const Tensor picked = on_all_pools([&](ThreadPool& pool) {
        Tensor result = Tensor::empty({7, 300}, dtype);
        kernels::pick(pool, x.view(), index.view(), result.view());
        return result;
      });
      const auto chosen = index.to_vector<std::int64_t>();
      const Values from = x.to_vector<double>();
      Values want;
      for (std::size_t i = 0; i < chosen.size(); ++i)
        want.push_back(from[i * 11 + static_cast<std::size_t>(chosen[i])]);
      ASSERT_EQ(picked.to_vector<double>(), want) << describe(x);

      const Tensor unpicked = on_all_pools([&](ThreadPool& pool) {
        Tensor result = Tensor::full({7, 300, 11}, dtype, 9);
        kernels::unpick(pool, picked.permute({1, 0}).clone().permute({1, 0}).view(), index.view(),
                        result.view());
        return result;
      });
      Values spread(from.size(), 0.0);
      for (std::size_t i = 0; i < chosen.size(); ++i)
        spread[i * 11 + static_cast<std::size_t>(chosen[i])] = want[i];
      ASSERT_EQ(unpicked.to_vector<double>(), spread) << describe(x);
    }
  }
}

TEST(KernelsGather, RefusesBadIndices) {
  ThreadPool pool(2);
  const Tensor table = Tensor::zeros({5, 2}, DType::f32);
  Tensor out = Tensor::zeros({3, 2}, DType::f32), one = Tensor::zeros({5}, DType::f32);
  const auto bad = [](std::int64_t index) { return Tensor::of<std::int64_t>({3}, {0, index, 1}); };
  EXPECT_ERROR(GraphError, "index 5 at position 1 of [3] is out of range; expected 0 to 4",
               kernels::gather_rows(pool, table.view(), bad(5).view(), out.view()));
  EXPECT_ERROR(GraphError, "index -2 at position 1",
               kernels::gather_rows(pool, table.view(), bad(-2).view(), out.view()));
  EXPECT_ERROR(GraphError, "scatter_add_rows: index 7",
               kernels::scatter_add_rows(pool, out.view(), bad(7).view(), table.view()));
  const Tensor minus = Tensor::of<std::int32_t>({5}, {0, 0, 0, 0, -1});
  EXPECT_ERROR(GraphError, "pick: index -1 at position 4",
               kernels::pick(pool, table.view(), minus.view(), one.view()));
  EXPECT_ERROR(GraphError, "unpick: index -1",
               kernels::unpick(pool, one.view(), minus.view(), table.view()));
  EXPECT_ERROR(
      GraphError, "indices are i32 or i64, not f32",
      kernels::gather_rows(pool, table.view(), Tensor::zeros({3}, DType::f32).view(), out.view()));
}

}  // namespace
}  // namespace vitrine
