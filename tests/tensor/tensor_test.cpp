#include "tensor/tensor.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "tests/tensor/expect_error.h"

namespace vitrine {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

Tensor six() { return Tensor::of({2, 3}, {1.f, 2.f, 3.f, 4.f, 5.f, 6.f}); }

TEST(Tensor, TheExampleOfTheHeader) {
  const Tensor x = six();
  const Tensor t = x.permute({1, 0});
  EXPECT_EQ(t.shape(), (Shape{3, 2}));
  EXPECT_EQ(t.at<float>({2, 1}), 6);
  EXPECT_FALSE(t.is_contiguous());
  EXPECT_TRUE(t.shares_storage_with(x));
  EXPECT_EQ(t.contiguous().to_vector<float>(), (std::vector<float>{1, 4, 2, 5, 3, 6}));
  EXPECT_FALSE(t.contiguous().shares_storage_with(x));
  EXPECT_TRUE(x.contiguous().shares_storage_with(x));
}

TEST(Tensor, FreshStorageIsAlignedAndFilled) {
  for (const DType t :
       {DType::f32, DType::f64, DType::f16, DType::bf16, DType::i32, DType::i64, DType::boolean}) {
    const Tensor zeros = Tensor::zeros({3, 5}, t);
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(zeros.view().data) % 64, 0u);
    EXPECT_EQ(zeros.bytes(), 15 * size_of(t));
    EXPECT_EQ(zeros.to_vector<double>(), std::vector<double>(15, 0.0));
    EXPECT_EQ(Tensor::full({2, 2}, t, 1).to_vector<double>(), std::vector<double>(4, 1.0));
  }
  EXPECT_EQ(Tensor::full({1}, DType::i32, -7.9).item<std::int64_t>(), -7);
}

TEST(Tensor, EmptyAndScalar) {
  const Tensor none = Tensor::empty({0, 3}, DType::f32);
  EXPECT_TRUE(none.defined());
  EXPECT_NE(none.view().data, nullptr);
  EXPECT_EQ(none.numel(), 0);
  EXPECT_EQ(none.to_vector<float>().size(), 0u);
  EXPECT_EQ(none.transpose(0, 1).contiguous().shape(), (Shape{3, 0}));
  EXPECT_EQ(none.to(DType::f64).shape(), (Shape{0, 3}));
  EXPECT_EQ(none.reshape({5, 0}).shape(), (Shape{5, 0}));
  const Tensor one = Tensor::scalar(2.5);
  EXPECT_EQ(one.rank(), 0);
  EXPECT_EQ(one.at<double>({}), 2.5);
  EXPECT_EQ(one.item<float>(), 2.5f);
  EXPECT_EQ(one.clone().item<double>(), 2.5);
  EXPECT_EQ(one.to(DType::f16).item<float>(), 2.5f);
  EXPECT_EQ(one.broadcast_to({2, 2}).contiguous().to_vector<double>(),
            (std::vector<double>(4, 2.5)));
}

TEST(Tensor, OfChecksTheCount) {
  EXPECT_ERROR(ShapeError, "5 values were given for a tensor f32[2, 3], which has 6",
               Tensor::of<float>({2, 3}, {1, 2, 3, 4, 5}));
  EXPECT_ERROR(ShapeError, "negative size", Tensor::of<float>({-1}, {1}));
  EXPECT_EQ(Tensor::of<bool>({3}, {true, false, true}).to_vector<std::int32_t>(),
            (std::vector<std::int32_t>{1, 0, 1}));
}

TEST(Tensor, RefusesSizesBeyondMemory) {
  EXPECT_ERROR(ShapeError, "more elements than",
               Tensor::empty({std::int64_t{1} << 40, std::int64_t{1} << 40}, DType::f32));
  EXPECT_ERROR(ShapeError, "more bytes than", Tensor::empty({std::int64_t{1} << 61}, DType::f64));
  EXPECT_ERROR(ShapeError, "shape [-1] has a negative size", Tensor::empty({-1}, DType::f32));
}

TEST(Tensor, ReportsThatMemoryIsOut) {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  GTEST_SKIP() << "sanitizers stop the program at allocations of this size";
#endif
  EXPECT_ERROR(Error, "out of memory: a tensor f32[1152921504606846976]",
               Tensor::empty({std::int64_t{1} << 60}, DType::f32));
}

TEST(Tensor, DataChecksTheDtype) {
  EXPECT_ERROR(ShapeError, "holds f32 but was read as f64", six().data<double>());
  EXPECT_ERROR(ShapeError, "holds f32 but was read as bool", six().at<bool>({0, 0}));
  EXPECT_ERROR(ShapeError, "index [2, 0] is out of range for shape [2, 3]",
               six().at<float>({2, 0}));
  EXPECT_ERROR(ShapeError, "index [0, -1]", six().at<float>({0, -1}));
  EXPECT_ERROR(ShapeError, "index [0]", six().at<float>({0}));
  EXPECT_ERROR(ShapeError, "one element, and this one is f32[2, 3]", six().item<float>());
  EXPECT_EQ(six().slice(0, 1, 2).data<float>()[0], 4);
}

TEST(Tensor, UndefinedIsRefusedEverywhere) {
  const Tensor none;
  EXPECT_FALSE(none.defined());
  EXPECT_ERROR(ShapeError, "undefined", none.view());
  EXPECT_ERROR(ShapeError, "undefined", none.data<float>());
  EXPECT_ERROR(ShapeError, "undefined", none.item<float>());
  EXPECT_ERROR(ShapeError, "undefined", none.to(DType::f64));
  EXPECT_ERROR(ShapeError, "undefined", none.contiguous());
  EXPECT_ERROR(ShapeError, "undefined", none.clone());
  EXPECT_ERROR(ShapeError, "undefined", none.reshape({1}));
  EXPECT_EQ(none.to_string(), "undefined tensor");
}

TEST(Tensor, ViewsSeeTheSameElements) {
  const Tensor x = six();
  EXPECT_EQ(x.slice(1, 0, 3, 2).to_vector<float>(), (std::vector<float>{1, 3, 4, 6}));
  EXPECT_EQ(x.slice(1, 1, 3).transpose(0, 1).to_vector<float>(), (std::vector<float>{2, 5, 3, 6}));
  EXPECT_EQ(x.select(0, 1).to_vector<float>(), (std::vector<float>{4, 5, 6}));
  EXPECT_EQ(x.select(-1, 1).to_vector<float>(), (std::vector<float>{2, 5}));
  EXPECT_EQ(x.transpose(-1, 0).shape(), (Shape{3, 2}));
  EXPECT_EQ(x.select(0, 1).broadcast_to({2, 3}).to_vector<float>(),
            (std::vector<float>{4, 5, 6, 4, 5, 6}));
  EXPECT_EQ(x.unsqueeze(0).shape(), (Shape{1, 2, 3}));
  EXPECT_EQ(x.unsqueeze(-1).shape(), (Shape{2, 3, 1}));
  EXPECT_EQ(x.unsqueeze(1).shape(), (Shape{2, 1, 3}));
  EXPECT_TRUE(x.unsqueeze(1).is_contiguous());
  EXPECT_ERROR(ShapeError, "axis 4 is out of range", x.unsqueeze(4));
  EXPECT_ERROR(ShapeError, "cannot select 3 on axis 1 of shape [2, 3]", x.select(1, 3));
  EXPECT_ERROR(ShapeError, "cannot select -1", x.select(1, -1));
  EXPECT_EQ(x.dim(-1), 3);
  EXPECT_ERROR(ShapeError, "axis 2", x.dim(2));

  x.slice(0, 1, 2).select(1, 0).data<float>()[0] = 40;  // a view writes through
  EXPECT_EQ(x.at<float>({1, 0}), 40);
  EXPECT_EQ(x.with_layout({{2}, {-1}, 5}).to_vector<float>(), (std::vector<float>{6, 5}));
}

TEST(Tensor, ReshapeCopiesOnlyWhenItMust) {
  const Tensor x = six();
  EXPECT_TRUE(x.reshape({3, -1}).shares_storage_with(x));
  EXPECT_EQ(x.reshape({3, -1}).shape(), (Shape{3, 2}));
  EXPECT_EQ(x.reshape({-1}).shape(), (Shape{6}));
  const Tensor turned = x.transpose(0, 1).reshape({6});
  EXPECT_FALSE(turned.shares_storage_with(x));
  EXPECT_EQ(turned.to_vector<float>(), (std::vector<float>{1, 4, 2, 5, 3, 6}));
  EXPECT_TRUE(x.transpose(0, 1).reshape({3, 2, 1}).shares_storage_with(x));
  EXPECT_ERROR(ShapeError, "at most one size may be -1", x.reshape({-1, -1}));
  EXPECT_ERROR(ShapeError, "no size in place of -1 fits", x.reshape({4, -1}));
  EXPECT_ERROR(ShapeError, "no size in place of -1 fits", x.reshape({0, -1}));
  EXPECT_ERROR(ShapeError, "cannot reshape [2, 3] (6 elements) to [7]", x.reshape({7}));
  EXPECT_ERROR(ShapeError, "negative", x.reshape({-2, -3}));
}

TEST(Tensor, CopiesAreIndependent) {
  const Tensor x = six();
  const Tensor copy = x.clone();
  copy.data<float>()[0] = 100;
  EXPECT_EQ(x.at<float>({0, 0}), 1);
  EXPECT_TRUE(x.to(DType::f32).shares_storage_with(x));
  EXPECT_FALSE(x.to(DType::f64).shares_storage_with(x));
  EXPECT_EQ(x.transpose(0, 1).to(DType::i64).to_vector<std::int64_t>(),
            (std::vector<std::int64_t>{1, 4, 2, 5, 3, 6}));
}

TEST(Tensor, WrapKeepsTheOwner) {
  auto owner = std::make_shared<std::vector<double>>(4, 2.0);
  const std::weak_ptr<std::vector<double>> watch = owner;
  Tensor first =
      Tensor::wrap(owner, reinterpret_cast<const std::byte*>(owner->data()), {2}, DType::f64);
  Tensor second =
      Tensor::wrap(owner, reinterpret_cast<const std::byte*>(owner->data() + 2), {2}, DType::f64);
  const auto* bytes = reinterpret_cast<const std::byte*>(owner->data());
  EXPECT_ERROR(ShapeError, "must be aligned to 8 bytes",
               Tensor::wrap(owner, bytes + 4, {1}, DType::f64));
  owner.reset();
  EXPECT_FALSE(first.shares_storage_with(second)) << "two parts of one file are two storages";
  EXPECT_EQ(first.to_vector<double>(), (std::vector<double>{2, 2}));
  first = Tensor();
  EXPECT_FALSE(watch.expired());
  EXPECT_EQ(second.to_vector<double>(), (std::vector<double>{2, 2}));
  second = Tensor();
  EXPECT_TRUE(watch.expired());
}

TEST(Tensor, WrapOfNothing) {
  EXPECT_TRUE(Tensor::wrap(nullptr, nullptr, {0}, DType::f32).defined());
  EXPECT_ERROR(ShapeError, "null pointer", Tensor::wrap(nullptr, nullptr, {1}, DType::f32));
}

TEST(Tensor, AsText) {
  EXPECT_EQ(six().to_string(), "f32[2, 3] [[1, 2, 3], [4, 5, 6]]");
  EXPECT_EQ(six().transpose(0, 1).to_string(), "f32[3, 2] [[1, 4], [2, 5], [3, 6]]");
  EXPECT_EQ(Tensor::scalar(0.1f).to_string(), "f32[] 0.1");
  EXPECT_EQ(Tensor::of<bool>({2}, {true, false}).to_string(), "bool[2] [true, false]");
  EXPECT_EQ(Tensor::zeros({2, 0}, DType::i64).to_string(), "i64[2, 0] []");
  EXPECT_EQ(Tensor::of<double>({2}, {kInfinity, -0.5}).to(DType::f16).to_string(),
            "f16[2] [inf, -0.5]");
  std::vector<std::int32_t> many(100);
  for (std::size_t i = 0; i < 100; ++i) many[i] = static_cast<std::int32_t>(i);
  EXPECT_EQ(Tensor::of<std::int32_t>({100}, many).to_string(),
            "i32[100] [0, 1, 2, ..., 97, 98, 99]");
  EXPECT_EQ(Tensor::zeros({8}, DType::i32).to_string(), "i32[8] [0, 0, 0, 0, 0, 0, 0, 0]");
}

TEST(Tensor, Differences) {
  EXPECT_EQ(max_abs_difference(six(), six().clone()), 0);
  EXPECT_EQ(max_abs_difference(six(), Tensor::full({2, 3}, DType::f64, 2)), 4);
  const auto pair = [](double a, double b) {
    return max_abs_difference(Tensor::scalar(a), Tensor::scalar(b));
  };
  EXPECT_EQ(pair(kInfinity, kInfinity), 0);
  EXPECT_EQ(pair(kInfinity, -kInfinity), kInfinity);
  EXPECT_EQ(pair(kNaN, 1), kInfinity);
  EXPECT_EQ(pair(1, kNaN), kInfinity);
  EXPECT_EQ(pair(kNaN, kNaN), kInfinity);
  EXPECT_ERROR(ShapeError, "cannot compare shapes [2, 3] and [3, 2]",
               max_abs_difference(six(), six().transpose(0, 1)));

  EXPECT_EQ(max_abs(Tensor::of<double>({3}, {-3, kInfinity, 2})), 3);
  EXPECT_EQ(max_abs(Tensor::zeros({0}, DType::f32)), 0);
  EXPECT_FALSE(has_nan(six()));
  EXPECT_TRUE(has_nan(Tensor::of<double>({2, 2}, {1, 2, 3, kNaN})));
  EXPECT_TRUE(has_nan(Tensor::of<double>({2}, {1, kNaN}).to(DType::bf16)));
  EXPECT_FALSE(has_nan(Tensor::of<double>({2, 2}, {1, 2, 3, kNaN}).slice(1, 0, 1)))
      << "the view leaves it out";
  EXPECT_FALSE(has_nan(Tensor::zeros({2}, DType::i32)));
}

}  // namespace
}  // namespace vitrine
