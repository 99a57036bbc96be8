// Sweeps of random graphs of all kinds of ops, with sites of any shape, and random edits of them.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include "autograd/ops/ops.h"
#include "autograd/transform/gradient.h"
#include "tensor/error.h"
#include "tests/autograd/ops/samples.h"
#include "tests/autograd/sweep/check.h"

namespace vitrine::test {
namespace {

// Draws ops and what they are done to; those that do not fit are drawn again.
class Drawing {
 public:
  explicit Drawing(Rng& rng) : rng_(rng) {
    for (const Shape& shape : {Shape{3, 4}, Shape{2, 3, 4}, Shape{4}, Shape{1, 4}})
      add(fed(fmt::format("x{}", feeds_), shape), true);
    for (const Shape& shape : {Shape{4, 4}, Shape{4}, Shape{3, 1}})
      add(weight(shape), below(2) == 0);
    for (int i = 0; i < 14; ++i) step();
  }

  Made finish() {
    m_.outputs = {"last", "some", "total"};
    b_.output("last", values_.back());
    b_.output("some", any());
    Value total = b_.scalar(0, DType::f64);
    for (int i = 0; i < 4; ++i) total = total + mean(square(any()));
    b_.output("total", total);
    m_.graph = std::move(b_).finish();
    return std::move(m_);
  }

 private:
  std::int64_t below(std::int64_t n) { return test::below(rng_, n); }
  Value any() { return values_[static_cast<std::size_t>(below(std::ssize(values_)))]; }
  Value fed(const std::string& name, const Shape& shape) {
    ++feeds_;
    m_.feeds[name] = normal(name, shape).value;
    return b_.input(name, {DType::f64, shape});
  }
  Value weight(const Shape& shape) {
    const std::string name = fmt::format("w{}", m_.parameters.size());
    m_.parameters[name] = normal(name, shape, 0.5).value;
    return b_.parameter(name, {DType::f64, shape});
  }
  // In [least, n).
  Value known_index(const Shape& shape, std::int64_t n, std::int64_t least = 0) {
    std::vector<std::int32_t> index;
    for (std::int64_t i = 0; i < numel(shape); ++i)
      index.push_back(static_cast<std::int32_t>(least + below(n - least)));
    return b_.constant(Tensor::of<std::int32_t>(shape, index));
  }
  int axis(const Value& x) {
    if (x.rank() == 0) throw ShapeError("a scalar has no axes");
    return static_cast<int>(below(x.rank()));
  }
  Dims some_axes(const Value& x) {
    Dims axes;
    for (int a = 0; a < x.rank(); ++a) {
      if (below(2) == 0) axes.push_back(a);
    }
    if (axes.size() == 0 && x.rank() > 0) axes.push_back(axis(x));
    return axes;
  }
  Dims order(int rank) {
    std::vector<std::int64_t> axes;
    for (int a = 0; a < rank; ++a) axes.push_back(a);
    std::shuffle(axes.begin(), axes.end(), rng_);
    Dims out;
    for (const std::int64_t a : axes) out.push_back(a);
    return out;
  }

  void add(const Value& x, bool named) {
    if (numel(x.shape()) == 0 || numel(x.shape()) > 400) return;
    constexpr Axis kinds[] = {Axis::batch, Axis::pos,     Axis::head,
                              Axis::key,   Axis::feature, Axis::other};
    Axes axes;
    for (int a = 0; a < x.rank(); ++a) axes.push_back(kinds[below(6)]);
    values_.push_back(named ? b_.site(fmt::format("v{}", values_.size()), x, axes) : x);
  }

  void step() {
    for (int tries = 0; tries < 40; ++tries) {
      try {
        Value y = drawn();
        if (below(4) == 0) y = tanh(y);
        add(y, below(2) == 0);
        return;
      } catch (const Error&) {  // it does not fit
      }
    }
  }

  Value drawn() {
    const Value x = any(), y = any();
    switch (below(30)) {
      case 0:
        return sin(x);
      case 1:
        return x + y;
      case 2:
        return x * sigmoid(y);
      case 3:
        return maximum(x, y);
      case 4:
        return select(less(x, y), x * 0.5, y);
      case 5:
        return permute(x, order(x.rank()));
      case 6:
        return reshaped(x);
      case 7: {
        Shape shape = x.shape();
        for (int a = 0; a < x.rank(); ++a) {
          if (shape[a] == 1) shape[a] = 1 + below(3);
        }
        if (below(2) == 0) shape.insert(0, 1 + below(3));
        return broadcast_to(x, shape);
      }
      case 8: {
        const int a = axis(x);
        const std::int64_t from = below(x.dim(a)), to = from + 1 + below(x.dim(a) - from);
        return slice(x, a, from, to, 1 + below(2));
      }
      case 9:
        return unslice(x, axis(x), below(2), 1 + below(2), x.dim(axis(x)) + 5);
      case 10:
        return concat({x, tanh(x)}, axis(x));
      case 11:
        return concat({x, y, x}, axis(x));
      case 12:
        return sum(x, some_axes(x), below(2) == 0);
      case 13:
        return max(x, some_axes(x), below(2) == 0);
      case 14:
        return softmax(x);
      case 15:
        return log_softmax(x * 0.5);
      case 16:
        return normed(x, y);
      case 17:
        return matmul(x, y);
      case 18:
        return matmul(x, transpose(y));
      case 19:
        return linear(x, y, any());
      case 20:
        return gather_rows(x, known_index(below(2) == 0 ? Shape{3} : Shape{3, 2}, x.dim(0), -1));
      case 21:
        if (y.dim(-1) > x.dim(0)) throw ShapeError("an index may be outside");
        return gather_rows(x, argmax(y));
      case 22:
        return scatter_add_rows(x, known_index({x.dim(0)}, 3, -1), 3);
      case 23:
        return pick(x, argmax(x));
      case 24:
        return unpick(x, known_index(x.shape(), 3), 3);
      case 25:
        return write_rows(x, slice(x, 0, 0, 1) * 2, known_index({1}, x.dim(0)));
      case 26: {
        const int q = axis(x), k = axis(x);
        return softmax(mask(x, q, k, below(2)));
      }
      case 27:
        return sum_to(x, y.shape());
      case 28:
        return sum_squares(x);
      default:
        return cross_entropy(x, known_index({x.dim(0)}, x.dim(1)));
    }
  }

  // Two neighbouring axes made one, one made two, or an axis of size 1 more.
  Value reshaped(const Value& x) {
    Shape shape = x.shape();
    const int a = axis(x);
    switch (below(3)) {
      case 0:
        shape.insert(static_cast<int>(below(x.rank() + 1)), 1);
        break;
      case 1:
        if (a + 1 < x.rank()) {
          shape[a] *= shape[a + 1];
          shape.erase(a + 1);
        }
        break;
      default:
        if (shape[a] % 2 == 0) {
          shape[a] /= 2;
          shape.insert(a + 1, 2);
        }
    }
    return reshape(x, shape);
  }
  // With a gain of its own, or one that edits can change; with sites inside.
  Value normed(const Value& x, const Value& gain) {
    if (x.dim(-1) < 2) throw ShapeError("one feature has no variance");
    const bool own = gain.shape() == Shape{x.dim(-1)};
    return layer_norm(x, own ? gain : weight({x.dim(-1)}), weight({x.dim(-1)}), 0.1,
                      below(2) == 0 ? fmt::format("ln{}", values_.size()) : "");
  }

  Rng& rng_;
  Made m_;
  Builder b_;
  std::vector<Value> values_;
  int feeds_ = 0;
};

// A value that broadcasts to the shape in one of the ways there are.
Tensor some_value(Rng& rng, const std::string& name, const Shape& site, bool has_axes) {
  Shape shape;
  const auto skip = static_cast<int>(below(rng, site.size() + (has_axes ? 0 : 1)));
  for (int a = skip; a < site.size(); ++a) shape.push_back(below(rng, 3) == 0 ? 1 : site[a]);
  return normal(name, shape).value;
}

Edit random_edit(Rng& rng, const Graph& g) {
  const SiteEntry& s = g.sites()[static_cast<std::size_t>(below(rng, std::ssize(g.sites())))];
  Where where;
  for (std::size_t a = 0; a < s.axes.size(); ++a) {
    for (const auto& [axis, list] :
         {std::pair{Axis::batch, &where.prompt}, std::pair{Axis::pos, &where.pos},
          std::pair{Axis::head, &where.head}, std::pair{Axis::key, &where.key},
          std::pair{Axis::feature, &where.feature}}) {
      if (s.axes[a] != axis) continue;
      std::vector<std::int64_t> chosen = some(rng, s.type.shape[static_cast<int>(a)]);
      if (list->empty() || chosen.size() < list->size()) *list = chosen;
    }
  }
  // An axis that is there twice takes what is inside both.
  for (std::size_t a = 0; a < s.axes.size(); ++a) {
    for (auto* list : {&where.prompt, &where.pos, &where.head, &where.key, &where.feature}) {
      const bool twice = std::count(s.axes.begin(), s.axes.end(), s.axes[a]) > 1;
      if (twice) list->clear();
    }
  }
  const Site site{s.name};
  const std::string name = fmt::format("value {}", below(rng, 3));
  const bool scalar = s.type.shape.size() == 0;
  if (s.name.ends_with("hook_scale")) return scale(site, 1.5, where);
  switch (scalar ? below(rng, 4) : below(rng, 7)) {
    case 0:
      return zero(site, where);
    case 1:
      return scale(site, 0.3, where);
    case 2:
      return detach(site, where);
    case 4:
      return add(site, some_value(rng, name, s.type.shape, true), 0.5, where);
    case 5:
      return project_out(site, some_value(rng, name, s.type.shape, true), where);
    default:
      return replace(site, some_value(rng, name, s.type.shape, false), where);
  }
}

class RandomGraph : public ::testing::TestWithParam<int> {};
INSTANTIATE_TEST_SUITE_P(Seeds, RandomGraph, ::testing::Range(0, 300));

TEST_P(RandomGraph, EqualsOneRunAfterTheOther) {
  Rng rng(static_cast<unsigned>(GetParam()));
  Made m = Drawing(rng).finish();
  if (GetParam() % 2 == 0) {
    const std::string of = m.graph.sites()[0].name;
    m.graph = gradient(m.graph, "total", sites(of));
    m.outputs.push_back(grad_name(of));
  }
  std::vector<Interventions> worlds;
  for (int w = 0; w < 8; ++w) {
    Interventions what;
    for (std::int64_t stages = below(rng, 5); stages > 0; --stages)
      what = what.then({random_edit(rng, m.graph)});
    worlds.push_back(std::move(what));
  }
  expect_equal_to_one_by_one(m, worlds, options_of(GetParam()), 1e-9);
}

}  // namespace
}  // namespace vitrine::test
