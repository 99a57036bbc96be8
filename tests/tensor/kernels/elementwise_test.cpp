#include <cmath>
#include <functional>
#include <limits>

#include "kernel_check.h"
#include "tensor/error.h"

namespace vitrine {
namespace {

using kernels::Binary;
using kernels::Compare;
using kernels::Logic;
using kernels::Unary;
using test::describe;
using test::expect_close;
using test::in_layouts;
using test::on_all_pools;
using test::random_indices;
using test::random_tensor;
using test::sample_shapes;

constexpr double kInf = std::numeric_limits<double>::infinity();
constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
constexpr DType kFloats[] = {DType::f32, DType::f64};

// The scalar twins, in long double: their own rounding does not matter even where x f(x) nearly
// cancels.
using Real = long double;

Real sigmoid(Real x) { return 1 / (1 + std::exp(-x)); }
Real gelu_argument(Real x) {
  return std::sqrt(2 / 3.14159265358979323846264338L) * (x + 0.044715L * x * x * x);
}
Real normal_cdf(Real x) { return std::erfc(-x / std::sqrt(Real(2))) / 2; }

Real twin(Unary op, Real x) {
  const bool far = std::abs(x) > 100;  // there gelu is 0 or x, and 0 * inf must not make a NaN
  switch (op) {
    case Unary::neg:
      return -x;
    case Unary::abs:
      return std::abs(x);
    case Unary::sign:
      return std::isnan(x) ? x : (x > 0) - (x < 0);
    case Unary::square:
      return x * x;
    case Unary::sqrt:
      return std::sqrt(x);
    case Unary::rsqrt:
      return 1 / std::sqrt(x);
    case Unary::reciprocal:
      return 1 / x;
    case Unary::exp:
      return std::exp(x);
    case Unary::log:
      return std::log(x);
    case Unary::sin:
      return std::sin(x);
    case Unary::cos:
      return std::cos(x);
    case Unary::tanh:
      return std::tanh(x);
    case Unary::erf:
      return std::erf(x);
    case Unary::sigmoid:
      return sigmoid(x);
    case Unary::relu:
      return std::isnan(x) || x > 0 ? x : 0;
    case Unary::silu:
      return x < -2000 ? 0 : x * sigmoid(x);
    case Unary::gelu_tanh:
      if (far) return x > 0 ? x : 0;
      return x / 2 * (1 + std::tanh(gelu_argument(x)));
    case Unary::gelu_erf:
      if (far) return x > 0 ? x : 0;
      return x * normal_cdf(x);
    case Unary::gelu_tanh_slope: {
      if (far) return x > 0;
      const Real t = std::tanh(gelu_argument(x));
      const Real inner = std::sqrt(2 / 3.14159265358979323846264338L) * (1 + 3 * 0.044715L * x * x);
      return (1 + t) / 2 + x / 2 * (1 - t * t) * inner;
    }
    case Unary::gelu_erf_slope:
      if (far) return x > 0;
      return normal_cdf(x) +
             x * std::exp(-x * x / 2) / std::sqrt(2 * 3.14159265358979323846264338L);
  }
  return 0;
}

std::vector<Unary> all_unary() {
  std::vector<Unary> ops;
  for (int i = 0; i <= static_cast<int>(Unary::silu); ++i) ops.push_back(static_cast<Unary>(i));
  return ops;
}

// The value that an element of type T would hold.
double rounded(Real x, DType dtype) {
  return dtype == DType::f32 ? static_cast<float>(x) : static_cast<double>(x);
}

Tensor run_unary(ThreadPool& pool, Unary op, const Tensor& x) {
  Tensor out = Tensor::full(x.shape(), x.dtype(), 99);
  kernels::unary(pool, op, x.view(), out.view());
  return out;
}

void check_unary(Unary op, const Tensor& x, double relative, double absolute) {
  const Tensor out = on_all_pools([&](ThreadPool& pool) { return run_unary(pool, op, x); });
  std::vector<double> want;
  for (const double v : x.to_vector<double>()) want.push_back(rounded(twin(op, v), x.dtype()));
  expect_close(out, want, relative, absolute,
               "unary " + std::to_string(static_cast<int>(op)) + " on " + describe(x));
}

// Where f32 results near a zero of the function are cancelled from parts of size 1, or where e^-2u
// carries the rounding of u, the error is bounded absolutely.
double absolute_bound(Unary op, DType dtype) {
  switch (op) {
    case Unary::gelu_tanh:
    case Unary::gelu_tanh_slope:
      return dtype == DType::f32 ? 2.5e-7 : 1e-14;
    case Unary::gelu_erf_slope:
      return dtype == DType::f32 ? 1e-7 : 1e-14;
    case Unary::silu:  // 100 times a subnormal sigmoid
      return dtype == DType::f32 ? 2e-43 : 1e-300;
    default:
      return dtype == DType::f32 ? 2e-45 : 1e-300;
  }
}

TEST(KernelsUnary, EveryLayoutAndShape) {
  for (const DType dtype : kFloats) {
    for (const Shape& shape : sample_shapes()) {
      for (const Tensor& x : in_layouts(shape, dtype, 11)) {
        for (const Unary op : all_unary()) {
          check_unary(op, x, dtype == DType::f32 ? 5e-7 : 1e-13, absolute_bound(op, dtype));
        }
      }
    }
  }
}

TEST(KernelsUnary, AccurateOverTheWholeRange) {
  for (const DType dtype : kFloats) {
    std::vector<double> values;
    const random::Key key{5};
    for (std::uint64_t i = 0; i < 20000; ++i) {
      values.push_back(240 * random::uniform(key, i) - 120);  // where exp goes from 0 to infinity
      values.push_back(12 * random::uniform(key, 100000 + i) - 6);
      const double exponent =
          80 * random::uniform(key, 200000 + i) - 45;  // down to subnormals, up to 1e35
      values.push_back((i % 2 ? 1 : -1) * std::pow(10.0, exponent));
    }
    const auto count = static_cast<std::int64_t>(values.size());
    const Tensor x = Tensor::of<double>({count}, values).to(dtype);
    for (const Unary op : all_unary()) {
      const bool gelu = op == Unary::gelu_tanh || op == Unary::gelu_erf;
      // In f64 the tails of gelu (below 1e-14) are e^-u with u up to 700, which carries the
      // rounding of u.
      check_unary(op, x, dtype == DType::f32 ? 5e-7 : 1e-13,
                  gelu ? (dtype == DType::f32 ? 2.5e-7 : 1e-14) : absolute_bound(op, dtype));
    }
  }
}

TEST(KernelsUnary, Edges) {
  const std::vector<double> edges{0.0,   -0.0,  kInf,    -kInf, kNan, 1e-45, -1e-45,
                                  3e38,  -3e38, 88.7228, 88.73, -104, -1000, 1e20,
                                  -1e20, 30,    -30,     1,     -1};
  for (const DType dtype : kFloats) {
    const Tensor x = Tensor::of<double>({static_cast<std::int64_t>(edges.size())}, edges).to(dtype);
    for (const Unary op : all_unary())
      check_unary(op, x, dtype == DType::f32 ? 5e-7 : 1e-13, absolute_bound(op, dtype));
  }
  ThreadPool pool(1);
  for (const DType dtype : kFloats) {
    const auto at = [&](Unary op, double v) {
      return run_unary(pool, op, Tensor::full({1}, dtype, v)).item<double>();
    };
    EXPECT_EQ(at(Unary::exp, -1000), 0);
    EXPECT_EQ(at(Unary::exp, 1000), kInf);
    EXPECT_EQ(at(Unary::log, 0), -kInf);
    EXPECT_TRUE(std::isnan(at(Unary::log, -1)));
    EXPECT_EQ(at(Unary::tanh, 50), 1);
    EXPECT_EQ(at(Unary::tanh, -50), -1);
    EXPECT_EQ(at(Unary::gelu_tanh, -kInf), 0);
    EXPECT_EQ(at(Unary::gelu_erf, -kInf), 0);
    EXPECT_EQ(at(Unary::silu, -kInf), 0);
    EXPECT_EQ(at(Unary::silu, kInf), kInf);
    EXPECT_EQ(at(Unary::gelu_tanh, -1e4), 0);
    EXPECT_EQ(at(Unary::gelu_tanh, 1e4), rounded(1e4, dtype));
    EXPECT_EQ(at(Unary::gelu_tanh_slope, kInf), 1);
    EXPECT_EQ(at(Unary::gelu_tanh_slope, -kInf), 0);
    EXPECT_EQ(at(Unary::relu, -3), 0);
    EXPECT_TRUE(std::isnan(at(Unary::relu, kNan)));
  }
}

TEST(KernelsSoftcap, BoundsAndKeepsMinusInfinity) {
  for (const DType dtype : kFloats) {
    for (const Shape& shape : sample_shapes()) {
      for (const Tensor& x : in_layouts(shape, dtype, 33)) {
        const Tensor y = on_all_pools([&](ThreadPool& pool) {
          Tensor out = Tensor::full(shape, dtype, 99);
          kernels::softcap(pool, 1.5, x.view(), out.view());
          return out;
        });
        std::vector<double> want;
        for (const double v : x.to_vector<double>()) want.push_back(1.5 * std::tanh(v / 1.5));
        expect_close(y, want, dtype == DType::f32 ? 5e-7 : 1e-14, 1e-45, describe(x));
      }
    }
    ThreadPool pool(1);
    const Tensor x = Tensor::of<double>({5}, {-kInf, kInf, kNan, 1e30, -1e30}).to(dtype), y = x;
    kernels::softcap(pool, 50, x.view(), y.view());
    const std::vector<double> got = y.to_vector<double>();
    EXPECT_EQ(got[0], -kInf);
    EXPECT_EQ(got[1], 50);
    EXPECT_TRUE(std::isnan(got[2]));
    EXPECT_EQ(got[3], 50);
    EXPECT_EQ(got[4], -50);
  }
}

TEST(KernelsUnary, MayOverwriteItsInput) {
  ThreadPool pool(2);
  const Tensor x = random_tensor({20011}, DType::f32, 3);
  const Tensor want = run_unary(pool, Unary::exp, x);
  const Tensor inplace = x.clone();
  kernels::unary(pool, Unary::exp, inplace.view(), inplace.view());
  EXPECT_EQ(want.to_vector<float>(), inplace.to_vector<float>());
}

TEST(KernelsUnary, RefusesIntegers) {
  ThreadPool pool(1);
  const Tensor x = Tensor::zeros({2}, DType::i32);
  EXPECT_THROW(kernels::unary(pool, Unary::neg, x.view(), x.view()), GraphError);
}

Real twin(Binary op, Real a, Real b) {
  const bool nan = std::isnan(a) || std::isnan(b);
  switch (op) {
    case Binary::add:
      return a + b;
    case Binary::sub:
      return a - b;
    case Binary::mul:
      return a * b;
    case Binary::div:
      return a / b;
    case Binary::maximum:
      return nan ? kNan : std::max(a, b);
    case Binary::minimum:
      return nan ? kNan : std::min(a, b);
  }
  return 0;
}

void check_binary(Binary op, const Tensor& a, const Tensor& b) {
  const Tensor out = on_all_pools([&](ThreadPool& pool) {
    Tensor result = Tensor::full(a.shape(), a.dtype(), 99);
    kernels::binary(pool, op, a.view(), b.view(), result.view());
    return result;
  });
  const auto x = a.to_vector<double>(), y = b.to_vector<double>();
  std::vector<double> want;
  for (std::size_t i = 0; i < x.size(); ++i)
    want.push_back(rounded(twin(op, x[i], y[i]), a.dtype()));
  expect_close(out, want, a.dtype() == DType::f32 ? 1.2e-7 : 1e-15, 0,
               describe(a) + " with " + describe(b));
}

TEST(KernelsBinary, EveryPairOfLayouts) {
  for (const DType dtype : kFloats) {
    for (const Shape& shape : sample_shapes()) {
      for (const Tensor& a : in_layouts(shape, dtype, 21)) {
        for (const Tensor& b : in_layouts(shape, dtype, 31)) {
          for (const Binary op : {Binary::add, Binary::sub, Binary::mul, Binary::div,
                                  Binary::maximum, Binary::minimum}) {
            check_binary(op, a, b);
          }
        }
      }
    }
  }
}

TEST(KernelsBinary, NanAndInfinities) {
  const std::vector<double> edges{0, -0.0, 1, -1, kInf, -kInf, kNan};
  const auto n = static_cast<std::int64_t>(edges.size());
  for (const DType dtype : kFloats) {
    const Tensor x = Tensor::of<double>({n}, edges).to(dtype);
    const Tensor a = x.unsqueeze(1).broadcast_to({n, n}), b = x.unsqueeze(0).broadcast_to({n, n});
    for (const Binary op :
         {Binary::add, Binary::sub, Binary::mul, Binary::div, Binary::maximum, Binary::minimum}) {
      check_binary(op, a, b);
    }
  }
}

template <class T>
void check_compare(const Tensor& a, const Tensor& b) {
  const auto x = a.to_vector<T>(), y = b.to_vector<T>();
  for (const Compare op : {Compare::equal, Compare::less, Compare::less_equal}) {
    const Tensor out = on_all_pools([&](ThreadPool& pool) {
      Tensor result = Tensor::empty(a.shape(), DType::boolean);
      kernels::compare(pool, op, a.view(), b.view(), result.view());
      return result;
    });
    const auto got = out.to_vector<bool>();
    for (std::size_t i = 0; i < got.size(); ++i) {
      const bool want = op == Compare::equal  ? x[i] == y[i]
                        : op == Compare::less ? x[i] < y[i]
                                              : x[i] <= y[i];
      ASSERT_EQ(got[i], want) << describe(a) << " element " << i;
    }
  }
}

TEST(KernelsCompare, EveryDtype) {
  const Shape shape{5, 4001};
  check_compare<float>(random_indices(shape, DType::f32, 1, 0, 4),
                       random_indices(shape, DType::f32, 2, 0, 4));
  check_compare<double>(random_indices({4001, 5}, DType::f64, 1, 0, 4).permute({1, 0}),
                        random_indices({4001}, DType::f64, 2, 0, 4).broadcast_to(shape));
  check_compare<std::int32_t>(random_indices(shape, DType::i32, 1, -3, 3),
                              random_indices(shape, DType::i32, 2, -3, 3));
  check_compare<std::int64_t>(random_indices(shape, DType::i64, 1, -3, 3),
                              random_indices(shape, DType::i64, 2, -3, 3));
  check_compare<bool>(random_indices(shape, DType::boolean, 1, 0, 2),
                      random_indices(shape, DType::boolean, 2, 0, 2));
  check_compare<float>(Tensor::of<float>({3}, {NAN, NAN, 1}),
                       Tensor::of<float>({3}, {NAN, 1, NAN}));
}

TEST(KernelsLogic, TruthTables) {
  const Tensor a = random_indices({3, 7001}, DType::boolean, 1, 0, 2);
  const Tensor b = random_indices({7001, 3}, DType::boolean, 2, 0, 2).permute({1, 0});
  const auto x = a.to_vector<bool>(), y = b.to_vector<bool>();
  for (const Logic op : {Logic::and_, Logic::or_, Logic::not_}) {
    const auto got =
        on_all_pools([&](ThreadPool& pool) {
          Tensor out = Tensor::empty(a.shape(), DType::boolean);
          kernels::logic(pool, op, a.view(), op == Logic::not_ ? View{} : b.view(), out.view());
          return out;
        }).to_vector<bool>();
    for (std::size_t i = 0; i < got.size(); ++i) {
      ASSERT_EQ(got[i], op == Logic::and_ ? x[i] && y[i] : op == Logic::or_ ? x[i] || y[i] : !x[i]);
    }
  }
}

TEST(KernelsSelect, AnyDtypeAndNothingLeaks) {
  ThreadPool pool(2);
  for (const DType dtype :
       {DType::f32, DType::f64, DType::f16, DType::bf16, DType::i32, DType::i64, DType::boolean}) {
    const Shape shape{6, 3001};
    const Tensor mask = random_indices({3001}, DType::boolean, 1, 0, 2).broadcast_to(shape);
    const Tensor a = random_indices(shape, dtype, 2, 0, 100);
    const Tensor b = random_indices({3001, 6}, dtype, 3, 0, 100).permute({1, 0});
    Tensor out = Tensor::empty(shape, dtype);
    kernels::select(pool, mask.view(), a.view(), b.view(), out.view());
    const auto m = mask.to_vector<bool>();
    const auto x = a.to_vector<double>(), y = b.to_vector<double>(), got = out.to_vector<double>();
    for (std::size_t i = 0; i < got.size(); ++i)
      ASSERT_EQ(got[i], m[i] ? x[i] : y[i]) << name_of(dtype);
  }
  Tensor out = Tensor::empty({2}, DType::f32);
  kernels::select(pool, Tensor::of<bool>({2}, {true, false}).view(),
                  Tensor::of<float>({2}, {1, NAN}).view(),
                  Tensor::of<float>({2}, {INFINITY, 2}).view(), out.view());
  EXPECT_EQ(out.to_vector<float>(), (std::vector<float>{1, 2}));
}

TEST(KernelsCopy, BetweenAnyTwoDtypes) {
  const DType all[] = {DType::f32, DType::f64, DType::f16,    DType::bf16,
                       DType::i32, DType::i64, DType::boolean};
  for (const DType from : all) {
    for (const DType to : all) {
      const Tensor x = random_indices({37, 1201}, from, 7, 0, 100).permute({1, 0});
      const Tensor out = on_all_pools([&](ThreadPool& pool) {
        Tensor result = Tensor::empty(x.shape(), to);
        kernels::copy(pool, x.view(), result.view());
        return result;
      });
      const auto source = x.to_vector<double>(), got = out.to_vector<double>();
      for (std::size_t i = 0; i < got.size(); ++i) {
        ASSERT_EQ(got[i], to == DType::boolean ? source[i] != 0 : source[i])
            << name_of(from) << " to " << name_of(to);
      }
    }
  }
  ThreadPool pool(1);
  Tensor truncated = Tensor::empty({4}, DType::i32);
  kernels::copy(pool, Tensor::of<double>({4}, {1.9, -1.9, 0.5, 7}).view(), truncated.view());
  EXPECT_EQ(truncated.to_vector<std::int32_t>(), (std::vector<std::int32_t>{1, -1, 0, 7}));
}

TEST(KernelsCopy, EveryLayout) {
  for (const Shape& shape : sample_shapes()) {
    for (const Tensor& x : in_layouts(shape, DType::f32, 3)) {
      ThreadPool pool(2);
      Tensor out = Tensor::empty(shape, DType::f32);
      kernels::copy(pool, x.view(), out.view());
      ASSERT_EQ(out.to_vector<float>(), x.to_vector<float>()) << describe(x);
    }
  }
}

TEST(KernelsFill, EveryDtype) {
  ThreadPool pool(3);
  for (const DType dtype :
       {DType::f32, DType::f64, DType::f16, DType::bf16, DType::i32, DType::i64, DType::boolean}) {
    Tensor out = Tensor::zeros({40001}, dtype);
    kernels::fill(pool, 1, out.view());
    for (const double v : out.to_vector<double>()) ASSERT_EQ(v, 1);
  }
}

}  // namespace
}  // namespace vitrine
