#include <cmath>
#include <limits>

#include "kernel_check.h"

namespace vitrine {
namespace {

using kernels::Reduce;
using test::describe;
using test::expect_close;
using test::in_layouts;
using test::on_all_pools;
using test::random_tensor;
using test::sample_shapes;

constexpr double kInf = std::numeric_limits<double>::infinity();

Shape reduced_shape(const Shape& shape, const Dims& axes) {
  Shape out = shape;
  for (const std::int64_t axis : axes) out[static_cast<int>(axis)] = 1;
  return out;
}

// Every element is added to the output that its kept indices name.
std::vector<double> twin(Reduce op, const Tensor& x, const Dims& axes) {
  const Shape out_shape = reduced_shape(x.shape(), axes);
  const Strides to = contiguous_strides(out_shape);
  std::vector<long double> out(static_cast<std::size_t>(numel(out_shape)),
                               op == Reduce::sum ? 0.0L : -kInf);
  const std::vector<double> values = x.to_vector<double>();
  for (std::size_t i = 0; i < values.size(); ++i) {
    auto rest = static_cast<std::int64_t>(i);
    std::int64_t at = 0;
    for (int axis = x.rank() - 1; axis >= 0; --axis) {
      const std::int64_t index = rest % x.shape()[axis];
      rest /= x.shape()[axis];
      if (out_shape[axis] != 1) at += index * to[axis];
    }
    long double& acc = out[static_cast<std::size_t>(at)];
    if (op == Reduce::sum) {
      acc += values[i];
    } else if (std::isnan(values[i]) || values[i] > acc) {
      acc = std::isnan(acc) ? acc : values[i];
    }
  }
  return {out.begin(), out.end()};
}

Tensor run(ThreadPool& pool, Reduce op, const Tensor& x, const Dims& axes) {
  Tensor out = Tensor::full(reduced_shape(x.shape(), axes), x.dtype(), 99);
  kernels::reduce(pool, op, x.view(), axes, out.view());
  return out;
}

void check(Reduce op, const Tensor& x, const Dims& axes) {
  const Tensor out = on_all_pools([&](ThreadPool& pool) { return run(pool, op, x, axes); });
  // One rounding to f32, and those of a sum of n terms of size up to 2 in f64.
  const auto n = static_cast<double>(x.numel());
  const bool single = x.dtype() == DType::f32;
  expect_close(out, twin(op, x, axes), single ? 6e-8 : 1e-15, op == Reduce::max ? 0 : n * 2e-15,
               describe(x) + " over " + to_string(axes));
}

TEST(KernelsReduce, EverySetOfAxes) {
  for (const DType dtype : {DType::f32, DType::f64}) {
    for (const Shape& shape : sample_shapes()) {
      for (const Tensor& x : in_layouts(shape, dtype, 51)) {
        for (int set = 0; set < 1 << shape.size(); ++set) {
          Dims axes;
          for (int axis = 0; axis < shape.size(); ++axis) {
            if (set >> axis & 1) axes.push_back(axis);
          }
          check(Reduce::sum, x, axes);
          check(Reduce::max, x, axes);
        }
      }
    }
  }
}

TEST(KernelsReduce, ManyRowsAndColumns) {
  for (const DType dtype : {DType::f32, DType::f64}) {
    const Tensor x = random_tensor({1100, 3, 530}, dtype, 61);
    for (const Dims& axes : {Dims{0}, Dims{1}, Dims{2}, Dims{0, 1}, Dims{0, 2}, Dims{0, 1, 2}}) {
      check(Reduce::sum, x, axes);
      check(Reduce::max, x, axes);
      check(Reduce::sum, x.permute({2, 0, 1}), axes);
      check(Reduce::max, x.slice(2, 3, 530, 2), axes);
    }
  }
}

TEST(KernelsReduce, SumsOfManyFloatsKeepTheSmallOnes) {
  ThreadPool pool(2);
  const std::int64_t n = 1 << 22;
  Tensor x = Tensor::full({n}, DType::f32, 1e-3);
  x.data<float>()[0] = 1e5f;
  const double want = 1e5 + static_cast<double>(n - 1) * static_cast<double>(1e-3f);
  EXPECT_NEAR(run(pool, Reduce::sum, x, {0}).item<double>(), want, 1e-7 * want);
  const Tensor columns = x.reshape({n, 1}).broadcast_to({n, 4});
  for (const double sum : run(pool, Reduce::sum, columns, {0}).to_vector<double>())
    EXPECT_NEAR(sum, want, 1e-7 * want);
}

TEST(KernelsReduce, NothingAndNan) {
  ThreadPool pool(2);
  for (const DType dtype : {DType::f32, DType::f64}) {
    const Tensor empty = Tensor::zeros({3, 0}, dtype);
    EXPECT_EQ(run(pool, Reduce::sum, empty, {1}).to_vector<double>(),
              (std::vector<double>{0, 0, 0}));
    EXPECT_EQ(run(pool, Reduce::max, empty, {1}).to_vector<double>(),
              (std::vector<double>{-kInf, -kInf, -kInf}));
    EXPECT_EQ(run(pool, Reduce::sum, empty, {0}).numel(), 0);
    // A NaN anywhere in a row or column shows, whatever its lane.
    for (const std::int64_t at : {0, 5, 16, 31, 38}) {
      Tensor x = random_tensor({3, 39}, DType::f64, 9).to(dtype).clone();
      Tensor nan = Tensor::full({}, dtype, NAN);
      kernels::copy(pool, nan.view(), x.select(0, 1).select(0, at).view());
      EXPECT_TRUE(std::isnan(run(pool, Reduce::max, x, {1}).to_vector<double>()[1]));
      EXPECT_FALSE(std::isnan(run(pool, Reduce::max, x, {1}).to_vector<double>()[0]));
      EXPECT_TRUE(std::isnan(
          run(pool, Reduce::max, x, {0}).to_vector<double>()[static_cast<std::size_t>(at)]));
      EXPECT_TRUE(std::isnan(run(pool, Reduce::sum, x, {0, 1}).item<double>()));
    }
  }
}

}  // namespace
}  // namespace vitrine
