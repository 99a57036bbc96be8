// Tests nn/training/schedule.h against values worked out by hand.
#include "nn/training/schedule.h"

#include <gtest/gtest.h>

namespace vitrine::nn {
namespace {

using Shape = Schedule::Shape;

TEST(Schedule, Cosine) {
  const Schedule s{Shape::cosine, 2.0, 4, 12, 0.1};
  EXPECT_DOUBLE_EQ(s.rate(0), 0.5);
  EXPECT_DOUBLE_EQ(s.rate(1), 1.0);
  EXPECT_DOUBLE_EQ(s.rate(2), 1.5);
  EXPECT_DOUBLE_EQ(s.rate(3), 2.0);
  EXPECT_DOUBLE_EQ(s.rate(7), 2 * (0.1 + 0.9 / 2));                         // half-way
  EXPECT_DOUBLE_EQ(s.rate(5), 2 * (0.1 + 0.9 * (1 + std::sqrt(0.5)) / 2));  // a quarter
  EXPECT_DOUBLE_EQ(s.rate(11), 0.2);
  EXPECT_DOUBLE_EQ(s.rate(12), 0.2);
  EXPECT_DOUBLE_EQ(s.rate(1000), 0.2);
}

TEST(Schedule, Linear) {
  const Schedule s{Shape::linear, 1.0, 1, 11, 0.5};
  for (int step = 0; step <= 10; ++step) EXPECT_NEAR(s.rate(step), 1 - 0.05 * step, 1e-15) << step;
  EXPECT_DOUBLE_EQ(s.rate(11), 0.5);
}

TEST(Schedule, Constant) {
  const Schedule s{Shape::constant, 3.0, 2, 5, 0.5};
  EXPECT_DOUBLE_EQ(s.rate(0), 1.5);
  for (int step = 1; step <= 6; ++step) EXPECT_DOUBLE_EQ(s.rate(step), 3.0) << step;
}

TEST(Schedule, WithoutWarmup) {
  const Schedule s{Shape::linear, 1.0, 0, 5, 0};
  for (int step = 0; step < 5; ++step) EXPECT_DOUBLE_EQ(s.rate(step), 1 - step / 4.0) << step;
}

TEST(Schedule, OnlyWarmup) {
  for (const Shape shape : {Shape::cosine, Shape::linear, Shape::constant}) {
    const Schedule s{shape, 1.0, 4, 4, 0.1};
    for (int step = 0; step < 4; ++step) EXPECT_DOUBLE_EQ(s.rate(step), (step + 1) / 4.0) << step;
  }
}

TEST(Schedule, OneStep) {
  EXPECT_DOUBLE_EQ((Schedule{Shape::cosine, 2.0, 1, 1, 0.1}.rate(0)), 2.0);
  EXPECT_DOUBLE_EQ((Schedule{Shape::cosine, 2.0, 0, 1, 0.1}.rate(0)), 0.2);
  EXPECT_DOUBLE_EQ((Schedule{Shape::constant, 2.0, 0, 1, 0.1}.rate(0)), 2.0);
}

TEST(Schedule, NeverRisesAfterTheWarmup) {
  for (const Shape shape : {Shape::cosine, Shape::linear, Shape::constant}) {
    const Schedule s{shape, 1.0, 10, 100, 0.05};
    for (int step = 1; step < 10; ++step) EXPECT_GT(s.rate(step), s.rate(step - 1));
    for (int step = 10; step < 110; ++step) EXPECT_LE(s.rate(step), s.rate(step - 1));
  }
}

}  // namespace
}  // namespace vitrine::nn
