#include "tensor/random.h"

#include <fmt/format.h>

#include <cmath>
#include <numbers>
#include <utility>

#include "tensor/error.h"

namespace vitrine::random {
namespace {

// Counter words 2 and 3 keep the uses of one key apart.
enum Purpose : std::uint32_t { kDraw = 0, kFoldNumber = 1, kFoldName = 2 };

std::array<std::uint32_t, 4> block(Key key, std::uint64_t counter, Purpose purpose) {
  return philox4x32(
      {static_cast<std::uint32_t>(key.value), static_cast<std::uint32_t>(key.value >> 32)},
      {static_cast<std::uint32_t>(counter), static_cast<std::uint32_t>(counter >> 32), purpose, 0});
}

std::uint64_t join(std::uint32_t low, std::uint32_t high) {
  return low | static_cast<std::uint64_t>(high) << 32;
}

// The top 53 bits as a number in [0, 1).
double unit(std::uint64_t bits) { return static_cast<double>(bits >> 11) * 0x1p-53; }

// One block gives two 64-bit numbers, hence draws 2 * counter and 2 * counter + 1.
std::pair<std::uint64_t, std::uint64_t> bit_pair(Key key, std::uint64_t counter) {
  const auto words = block(key, counter, kDraw);
  return {join(words[0], words[1]), join(words[2], words[3])};
}

// Box and Muller 1958: with u, v uniform, sqrt(-2 log u) times the cosine and the sine of 2 pi v
// are independent normals.
std::pair<double, double> normal_pair(Key key, std::uint64_t counter) {
  const auto [first, second] = bit_pair(key, counter);
  const double u = 1 - unit(first);  // in (0, 1], so the logarithm is finite
  const double radius = std::sqrt(-2 * std::log(u));
  const double angle = 2 * std::numbers::pi * unit(second);
  return {radius * std::cos(angle), radius * std::sin(angle)};
}

// Element i of `out` is finish(draw i), where draws come in pairs.
template <class T, class Draw, class Finish>
void fill_pairs(ThreadPool& pool, const Tensor& out, Draw draw, Finish finish) {
  T* data = out.data<T>();
  const std::int64_t n = out.numel();
  constexpr std::int64_t kGrain = 2048;  // pairs: tens of microseconds
  pool.parallel_for(n / 2 + n % 2, kGrain, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) {
      const auto [first, second] = draw(static_cast<std::uint64_t>(i));
      data[2 * i] = finish(first);
      if (2 * i + 1 < n) data[2 * i + 1] = finish(second);
    }
  });
}

void check_fillable(const Tensor& out) {
  if (!out.defined() || !is_compute_float(out.dtype()) || !out.is_contiguous()) {
    throw ShapeError(
        fmt::format("random numbers need a contiguous f32 or f64 tensor to fill, not {}{}{}",
                    out.defined() && !out.is_contiguous() ? "a non-contiguous " : "",
                    name_of(out.dtype()), to_string(out.shape())));
  }
}

}  // namespace

// Salmon et al. 2011, section 3: each round multiplies two words by constants, and mixes the high
// halves of the products with the other two words and the key, which advances by the golden ratio
// and sqrt 3 - 1.
std::array<std::uint32_t, 4> philox4x32(std::array<std::uint32_t, 2> key,
                                        std::array<std::uint32_t, 4> counter) {
  constexpr int kRounds = 10;
  for (int round = 0; round < kRounds; ++round) {
    const std::uint64_t a = std::uint64_t{0xD2511F53} * counter[0];
    const std::uint64_t b = std::uint64_t{0xCD9E8D57} * counter[2];
    counter = {
        static_cast<std::uint32_t>(b >> 32) ^ counter[1] ^ key[0], static_cast<std::uint32_t>(b),
        static_cast<std::uint32_t>(a >> 32) ^ counter[3] ^ key[1], static_cast<std::uint32_t>(a)};
    key[0] += 0x9E3779B9;
    key[1] += 0xBB67AE85;
  }
  return counter;
}

std::array<std::uint32_t, 4> philox(Key key, std::uint64_t counter) {
  return block(key, counter, kDraw);
}

Key Key::fold(std::uint64_t data) const {
  const auto words = block(*this, data, kFoldNumber);
  return {join(words[0], words[1])};
}

Key Key::fold(std::string_view name) const {
  std::uint64_t hash = 0xcbf29ce484222325;  // FNV-1a, 64 bits
  for (const char c : name) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3;
  const auto words = block(*this, hash, kFoldName);
  return {join(words[0], words[1])};
}

std::uint64_t bits(Key key, std::uint64_t index) {
  const auto [first, second] = bit_pair(key, index / 2);
  return index % 2 == 0 ? first : second;
}

double uniform(Key key, std::uint64_t index) { return unit(bits(key, index)); }

double normal(Key key, std::uint64_t index) {
  const auto [first, second] = normal_pair(key, index / 2);
  return index % 2 == 0 ? first : second;
}

std::int64_t below(Key key, std::uint64_t index, std::int64_t n) {
  if (n < 1) throw ShapeError(fmt::format("cannot draw a number below {}: expected 1 or more", n));
  // The high half of bits * n: Lemire 2019, without the rejection that would use a varying number
  // of draws.
  __extension__ using Wide = unsigned __int128;
  return static_cast<std::int64_t>((static_cast<Wide>(bits(key, index)) * static_cast<Wide>(n)) >>
                                   64);
}

void fill_uniform(ThreadPool& pool, Key key, const Tensor& out, double low, double high) {
  check_fillable(out);
  const auto fill = [&]<class T>(T) {
    const T top = std::nextafter(static_cast<T>(high), static_cast<T>(low));
    const auto draw = [&](std::uint64_t counter) { return bit_pair(key, counter); };
    fill_pairs<T>(pool, out, draw, [&](std::uint64_t x) {
      const T value = static_cast<T>(low + (high - low) * unit(x));
      return value == static_cast<T>(high)
                 ? top
                 : value;  // rounding may reach the end that is not included
    });
  };
  out.dtype() == DType::f32 ? fill(float{}) : fill(double{});
}

void fill_normal(ThreadPool& pool, Key key, const Tensor& out, double mean, double stddev) {
  check_fillable(out);
  const auto fill = [&]<class T>(T) {
    const auto draw = [&](std::uint64_t counter) { return normal_pair(key, counter); };
    fill_pairs<T>(pool, out, draw, [&](double x) { return static_cast<T>(mean + stddev * x); });
  };
  out.dtype() == DType::f32 ? fill(float{}) : fill(double{});
}

}  // namespace vitrine::random
