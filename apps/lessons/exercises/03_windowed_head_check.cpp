// The check of exercise 3: against plain loops.
#include "apps/lessons/exercises/03_windowed_head.h"
#include "apps/lessons/lesson.h"
#include "autograd/compile/plan.h"
#include "autograd/ops/ops.h"
#include "tensor/random.h"

namespace {

using namespace vitrine;
using namespace vitrine::lesson;

constexpr std::int64_t kRows = 8, kWidth = 4;

Tensor random_rows(const char* name) {
  ThreadPool pool(1);
  const Tensor t = Tensor::empty({kRows, kWidth}, DType::f32);
  random::fill_normal(pool, random::Key{3}.fold(name), t);
  return t;
}

// The pattern by loops: e to the score of each key that is seen, over their sum.
Tensor wanted_pattern(const Tensor& q, const Tensor& k, std::int64_t window) {
  const Tensor pattern = Tensor::zeros({kRows, kRows}, DType::f32);
  for (std::int64_t query = 0; query < kRows; ++query) {
    std::vector<double> e(kRows, 0);
    double sum = 0;
    for (std::int64_t key = std::max<std::int64_t>(0, query - window + 1); key <= query; ++key) {
      double dot = 0;
      for (std::int64_t i = 0; i < kWidth; ++i)
        dot += q.at<float>({query, i}) * k.at<float>({key, i});
      sum += e[static_cast<std::size_t>(key)] = std::exp(dot / std::sqrt(kWidth));
    }
    for (std::int64_t key = 0; key < kRows; ++key)
      pattern.data<float>()[query * kRows + key] =
          static_cast<float>(e[static_cast<std::size_t>(key)] / sum);
  }
  return pattern;
}

}  // namespace

int main() {
  const Tensor q = random_rows("q"), k = random_rows("k"), v = random_rows("v");
  Row places;
  for (std::int64_t i = 0; i < kRows; ++i) places.push_back(fmt::to_string(i));
  for (const std::int64_t window : {1, 3, 8}) {
    section(fmt::format("A window of {}", window));
    Builder b;
    const auto input = [&](const char* name) {
      return b.input(name, {DType::f32, {kRows, kWidth}});
    };
    const exercise::WindowedHead head =
        exercise::windowed_head(input("q"), input("k"), input("v"), window);
    b.output("pattern", head.pattern);
    b.output("z", head.z);
    const Results r = compile(std::move(b).finish(), fetch(value("pattern"), value("z")))
                          .run({{"q", q}, {"k", k}, {"v", v}}, {});
    picture(places, places, r["pattern"]);
    double ahead = 0, sum = 0;
    for (int query = 0; query < kRows; ++query)
      for (int key = 0; key < kRows; ++key) {
        const double weight = r["pattern"].at<float>({query, key});
        (key > query ? ahead : sum) += weight;
      }
    expect("weight that lies in the future", ahead, near(0, 0));
    expect("weight on the past, of 8 queries", sum, near(8, 1e-5));
    expect("the pattern differs from that of plain loops by",
           max_abs_difference(r["pattern"], wanted_pattern(q, k, window)), at_most(1e-6));
    if (window == 1)
      expect("with a window of 1, z and v differ by", max_abs_difference(r["z"], v), near(0, 1e-6));
  }
  say("\nSo a layer sees 8 tokens back or 4096; stacked layers see further than one.");
}
