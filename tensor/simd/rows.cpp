// Row functions over contiguous spans: sums, softmax, LayerNorm. Every sum accumulates in f64
// lanes.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "tensor/simd/rows.cpp"
// After HWY_TARGET_INCLUDE.
#include "hwy/foreach_target.h"
// After foreach_target.h.
#include <cmath>

#include "hwy/highway.h"
#include "tensor/simd/math-inl.h"
#include "tensor/simd/simd.h"

HWY_BEFORE_NAMESPACE();
namespace vitrine::simd {
namespace HWY_NAMESPACE {

// Rows are read in steps of one vector of f64: f32 elements fill half a vector (or less) and are
// widened. What cannot be filled by a whole vector at the end of a row is done by the same
// arithmetic one element at a time.
using Wide = Tag<double>;
using WideV = V<Wide>;

HWY_INLINE std::int64_t Step() { return static_cast<std::int64_t>(hn::Lanes(Wide())); }
HWY_INLINE WideV LoadWide(const float* x) {
  return hn::PromoteTo(Wide(), hn::LoadU(hn::Rebind<float, Wide>(), x));
}
HWY_INLINE WideV LoadWide(const double* x) { return hn::LoadU(Wide(), x); }
HWY_INLINE void StoreNarrow(WideV v, float* out) {
  const hn::Rebind<float, Wide> d;
  hn::StoreU(hn::DemoteTo(d, v), d, out);
}
HWY_INLINE void StoreNarrow(WideV v, double* out) { hn::StoreU(v, Wide(), out); }

HWY_INLINE double SumLanes(WideV v) { return hn::GetLane(hn::SumOfLanes(Wide(), v)); }

template <class T>
double Sum(const T* x, std::int64_t d) {
  const std::int64_t step = Step();
  WideV s0 = hn::Zero(Wide()), s1 = s0, s2 = s0, s3 = s0;
  std::int64_t i = 0;
  for (; i + 4 * step <= d; i += 4 * step) {
    s0 = hn::Add(s0, LoadWide(x + i));
    s1 = hn::Add(s1, LoadWide(x + i + step));
    s2 = hn::Add(s2, LoadWide(x + i + 2 * step));
    s3 = hn::Add(s3, LoadWide(x + i + 3 * step));
  }
  for (; i + step <= d; i += step) s0 = hn::Add(s0, LoadWide(x + i));
  double sum = SumLanes(hn::Add(hn::Add(s0, s1), hn::Add(s2, s3)));
  for (; i < d; ++i) sum += static_cast<double>(x[i]);
  return sum;
}

template <class T>
T Max(const T* x, std::int64_t d) {
  constexpr T kLowest = -std::numeric_limits<T>::infinity();
  const Tag<T> tag;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(tag));
  auto top = hn::Set(tag, kLowest);
  std::int64_t i = 0;
  for (; i + lanes <= d; i += lanes) top = MaxOrNan(tag, top, hn::LoadU(tag, x + i));
  // Across the lanes by hand: MaxOfLanes says nothing about NaN.
  HWY_ALIGN T lane[HWY_MAX_BYTES / sizeof(T)];
  hn::Store(top, tag, lane);
  T max = kLowest;
  for (std::int64_t j = 0; j < lanes; ++j) max = max != max || max > lane[j] ? max : lane[j];
  for (; i < d; ++i) max = max != max || max > x[i] ? max : x[i];
  return max;
}

template <class T>
void AddTo(const T* x, double* acc, std::int64_t d) {
  const std::int64_t step = Step();
  std::int64_t i = 0;
  for (; i + step <= d; i += step) {
    hn::StoreU(hn::Add(hn::LoadU(Wide(), acc + i), LoadWide(x + i)), Wide(), acc + i);
  }
  for (; i < d; ++i) acc[i] += static_cast<double>(x[i]);
}

template <class T>
void MaxTo(const T* x, double* acc, std::int64_t d) {
  const std::int64_t step = Step();
  std::int64_t i = 0;
  for (; i + step <= d; i += step) {
    hn::StoreU(MaxOrNan(Wide(), hn::LoadU(Wide(), acc + i), LoadWide(x + i)), Wide(), acc + i);
  }
  for (; i < d; ++i) {
    const auto value = static_cast<double>(x[i]);
    acc[i] = acc[i] != acc[i] || acc[i] > value ? acc[i] : value;
  }
}

template <class T>
void Add(const T* x, T* out, std::int64_t d) {
  const Tag<T> tag;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(tag));
  std::int64_t i = 0;
  for (; i + lanes <= d; i += lanes) {
    hn::StoreU(hn::Add(hn::LoadU(tag, out + i), hn::LoadU(tag, x + i)), tag, out + i);
  }
  for (; i < d; ++i) out[i] += x[i];
}

// ---- softmax ------------------------------------------------------------------------------------
// sum_i exp(x[i] - max), which are also written to `out` if kStore. The tail is padded with max.
template <bool kStore, class T>
HWY_INLINE double ExpSum(const T* x, T max, T* out, std::int64_t d) {
  const Tag<T> tag;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(tag));
  const auto top = hn::Set(tag, max);
  HWY_ALIGN T buffer[HWY_MAX_BYTES / sizeof(T)];
  WideV sum = hn::Zero(Wide());
  std::int64_t i = 0;
  for (; i + lanes <= d; i += lanes) {
    const auto e = ExpFull(tag, hn::Sub(hn::LoadU(tag, x + i), top));
    if constexpr (kStore) hn::StoreU(e, tag, out + i);
    hn::Store(e, tag, buffer);
    for (std::int64_t j = 0; j < lanes; j += Step()) sum = hn::Add(sum, LoadWide(buffer + j));
  }
  double total = SumLanes(sum);
  if (i < d) {
    hn::Store(top, tag, buffer);
    for (std::int64_t j = i; j < d; ++j) buffer[j - i] = x[j];
    hn::Store(ExpFull(tag, hn::Sub(hn::Load(tag, buffer), top)), tag, buffer);
    for (std::int64_t j = i; j < d; ++j) {
      if constexpr (kStore) out[j] = buffer[j - i];
      total += static_cast<double>(buffer[j - i]);
    }
  }
  return total;
}

template <class T>
void Scale(T* x, T factor, std::int64_t d) {
  const Tag<T> tag;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(tag));
  std::int64_t i = 0;
  for (; i + lanes <= d; i += lanes) {
    hn::StoreU(hn::Mul(hn::LoadU(tag, x + i), hn::Set(tag, factor)), tag, x + i);
  }
  for (; i < d; ++i) x[i] *= factor;
}

template <class T>
void Softmax(const T* x, T* out, std::int64_t d) {
  const T max = Max(x, d);
  if (max == -std::numeric_limits<T>::infinity()) {  // nothing to attend to: zeros
    for (std::int64_t i = 0; i < d; ++i) out[i] = 0;
    return;
  }
  const double sum = ExpSum<true>(x, max, out, d);
  Scale(out, static_cast<T>(1 / sum), d);
}

template <class T>
void LogSoftmax(const T* x, T* out, std::int64_t d) {
  const T max = Max(x, d);
  if (max == -std::numeric_limits<T>::infinity()) {
    for (std::int64_t i = 0; i < d; ++i) out[i] = x[i];
    return;
  }
  const auto log_sum = static_cast<T>(std::log(ExpSum<false>(x, max, static_cast<T*>(nullptr), d)));
  const Tag<T> tag;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(tag));
  std::int64_t i = 0;
  for (; i + lanes <= d; i += lanes) {
    const auto shifted = hn::Sub(hn::LoadU(tag, x + i), hn::Set(tag, max));
    hn::StoreU(hn::Sub(shifted, hn::Set(tag, log_sum)), tag, out + i);
  }
  for (; i < d; ++i) out[i] = x[i] - max - log_sum;
}

// dx = y * (dy - sum(y * dy))
template <class T>
void SoftmaxGrad(const T* y, const T* dy, T* dx, std::int64_t d) {
  const std::int64_t step = Step();
  WideV s0 = hn::Zero(Wide()), s1 = s0;
  std::int64_t i = 0;
  for (; i + 2 * step <= d; i += 2 * step) {
    s0 = hn::MulAdd(LoadWide(y + i), LoadWide(dy + i), s0);
    s1 = hn::MulAdd(LoadWide(y + i + step), LoadWide(dy + i + step), s1);
  }
  double dot = SumLanes(hn::Add(s0, s1));
  for (; i < d; ++i) dot += static_cast<double>(y[i]) * static_cast<double>(dy[i]);

  const Tag<T> tag;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(tag));
  const T shift = static_cast<T>(dot);
  for (i = 0; i + lanes <= d; i += lanes) {
    const auto centred = hn::Sub(hn::LoadU(tag, dy + i), hn::Set(tag, shift));
    hn::StoreU(hn::Mul(hn::LoadU(tag, y + i), centred), tag, dx + i);
  }
  for (; i < d; ++i) dx[i] = y[i] * (dy[i] - shift);
}

// ---- LayerNorm ----------------------------------------------------------------------------------
struct Moments {
  double mean, inverse_std;
};

// Two passes, so that a large mean does not cancel the variance away.
template <class T>
HWY_INLINE Moments MomentsOf(const T* x, double eps, std::int64_t d) {
  const std::int64_t step = Step();
  const double mean = Sum(x, d) / static_cast<double>(d);
  const WideV centre = hn::Set(Wide(), mean);
  WideV s0 = hn::Zero(Wide()), s1 = s0;
  std::int64_t i = 0;
  for (; i + 2 * step <= d; i += 2 * step) {
    const WideV a = hn::Sub(LoadWide(x + i), centre), b = hn::Sub(LoadWide(x + i + step), centre);
    s0 = hn::MulAdd(a, a, s0);
    s1 = hn::MulAdd(b, b, s1);
  }
  double sum = SumLanes(hn::Add(s0, s1));
  for (; i < d; ++i) {
    const double centred = static_cast<double>(x[i]) - mean;
    sum += centred * centred;
  }
  return {mean, 1 / std::sqrt(sum / static_cast<double>(d) + eps)};
}

template <class T>
void LayerNorm(const T* x, const T* gain, const T* bias, double eps, T* out, std::int64_t d) {
  const Moments m = MomentsOf(x, eps, d);
  const std::int64_t step = Step();
  const WideV mean = hn::Set(Wide(), m.mean), inverse = hn::Set(Wide(), m.inverse_std);
  std::int64_t i = 0;
  for (; i + step <= d; i += step) {
    const WideV normalised = hn::Mul(hn::Sub(LoadWide(x + i), mean), inverse);
    StoreNarrow(hn::MulAdd(normalised, LoadWide(gain + i), LoadWide(bias + i)), out + i);
  }
  for (; i < d; ++i) {
    const double normalised = (static_cast<double>(x[i]) - m.mean) * m.inverse_std;
    out[i] =
        static_cast<T>(normalised * static_cast<double>(gain[i]) + static_cast<double>(bias[i]));
  }
}

// With n = normalised x and g = dy * gain: dx = (g - mean(g) - n mean(g n)) / std.
template <class T>
void LayerNormGrad(const T* x, const T* gain, const T* dy, double eps, T* dx, std::int64_t d) {
  const Moments m = MomentsOf(x, eps, d);
  const std::int64_t step = Step();
  const WideV mean = hn::Set(Wide(), m.mean), inverse = hn::Set(Wide(), m.inverse_std);
  WideV sum_g = hn::Zero(Wide()), sum_gn = sum_g;
  std::int64_t i = 0;
  for (; i + step <= d; i += step) {
    const WideV g = hn::Mul(LoadWide(dy + i), LoadWide(gain + i));
    sum_g = hn::Add(sum_g, g);
    sum_gn = hn::MulAdd(g, hn::Mul(hn::Sub(LoadWide(x + i), mean), inverse), sum_gn);
  }
  double mean_g = SumLanes(sum_g), mean_gn = SumLanes(sum_gn);
  for (; i < d; ++i) {
    const double g = static_cast<double>(dy[i]) * static_cast<double>(gain[i]);
    mean_g += g;
    mean_gn += g * (static_cast<double>(x[i]) - m.mean) * m.inverse_std;
  }
  mean_g /= static_cast<double>(d);
  mean_gn /= static_cast<double>(d);
  for (i = 0; i + step <= d; i += step) {
    const WideV g = hn::Mul(LoadWide(dy + i), LoadWide(gain + i));
    const WideV n = hn::Mul(hn::Sub(LoadWide(x + i), mean), inverse);
    const WideV centred = hn::Sub(g, hn::Set(Wide(), mean_g));
    StoreNarrow(hn::Mul(hn::NegMulAdd(n, hn::Set(Wide(), mean_gn), centred), inverse), dx + i);
  }
  for (; i < d; ++i) {
    const double g = static_cast<double>(dy[i]) * static_cast<double>(gain[i]);
    const double n = (static_cast<double>(x[i]) - m.mean) * m.inverse_std;
    dx[i] = static_cast<T>((g - mean_g - n * mean_gn) * m.inverse_std);
  }
}

template <class T>
void LayerNormGainGrad(const T* x, const T* dy, double eps, double* acc, std::int64_t d) {
  const Moments m = MomentsOf(x, eps, d);
  const std::int64_t step = Step();
  const WideV mean = hn::Set(Wide(), m.mean), inverse = hn::Set(Wide(), m.inverse_std);
  std::int64_t i = 0;
  for (; i + step <= d; i += step) {
    const WideV n = hn::Mul(hn::Sub(LoadWide(x + i), mean), inverse);
    hn::StoreU(hn::MulAdd(LoadWide(dy + i), n, hn::LoadU(Wide(), acc + i)), Wide(), acc + i);
  }
  for (; i < d; ++i) {
    acc[i] += static_cast<double>(dy[i]) * ((static_cast<double>(x[i]) - m.mean) * m.inverse_std);
  }
}

// ---- RMSNorm ------------------------------------------------------------------------------------
template <class T>
HWY_INLINE double InverseRms(const T* x, double eps, std::int64_t d) {
  const std::int64_t step = Step();
  WideV s0 = hn::Zero(Wide()), s1 = s0;
  std::int64_t i = 0;
  for (; i + 2 * step <= d; i += 2 * step) {
    const WideV a = LoadWide(x + i), b = LoadWide(x + i + step);
    s0 = hn::MulAdd(a, a, s0);
    s1 = hn::MulAdd(b, b, s1);
  }
  double sum = SumLanes(hn::Add(s0, s1));
  for (; i < d; ++i) sum += static_cast<double>(x[i]) * static_cast<double>(x[i]);
  return 1 / std::sqrt(sum / static_cast<double>(d) + eps);
}

template <class T>
void RmsNorm(const T* x, const T* gain, double eps, T* out, std::int64_t d) {
  const double inverse = InverseRms(x, eps, d);
  const std::int64_t step = Step();
  std::int64_t i = 0;
  for (; i + step <= d; i += step) {
    const WideV n = hn::Mul(LoadWide(x + i), hn::Set(Wide(), inverse));
    StoreNarrow(hn::Mul(n, LoadWide(gain + i)), out + i);
  }
  for (; i < d; ++i)
    out[i] = static_cast<T>(static_cast<double>(x[i]) * inverse * static_cast<double>(gain[i]));
}

// With n = x / rms and g = dy * gain: dx = (g - n mean(g n)) / rms.
template <class T>
void RmsNormGrad(const T* x, const T* gain, const T* dy, double eps, T* dx, std::int64_t d) {
  const double inverse = InverseRms(x, eps, d);
  const std::int64_t step = Step();
  WideV sum = hn::Zero(Wide());
  std::int64_t i = 0;
  for (; i + step <= d; i += step)
    sum = hn::MulAdd(hn::Mul(LoadWide(dy + i), LoadWide(gain + i)), LoadWide(x + i), sum);
  double dot = SumLanes(sum);
  for (; i < d; ++i)
    dot += static_cast<double>(dy[i]) * static_cast<double>(gain[i]) * static_cast<double>(x[i]);
  const double along = dot * inverse * inverse / static_cast<double>(d);  // mean(g n) / rms
  for (i = 0; i + step <= d; i += step) {
    const WideV g = hn::Mul(LoadWide(dy + i), LoadWide(gain + i));
    const WideV across = hn::NegMulAdd(LoadWide(x + i), hn::Set(Wide(), along), g);
    StoreNarrow(hn::Mul(across, hn::Set(Wide(), inverse)), dx + i);
  }
  for (; i < d; ++i) {
    const double g = static_cast<double>(dy[i]) * static_cast<double>(gain[i]);
    dx[i] = static_cast<T>((g - static_cast<double>(x[i]) * along) * inverse);
  }
}

template <class T>
void RmsNormGainGrad(const T* x, const T* dy, double eps, double* acc, std::int64_t d) {
  const double inverse = InverseRms(x, eps, d);
  const std::int64_t step = Step();
  std::int64_t i = 0;
  for (; i + step <= d; i += step) {
    const WideV n = hn::Mul(LoadWide(x + i), hn::Set(Wide(), inverse));
    hn::StoreU(hn::MulAdd(LoadWide(dy + i), n, hn::LoadU(Wide(), acc + i)), Wide(), acc + i);
  }
  for (; i < d; ++i) acc[i] += static_cast<double>(dy[i]) * (static_cast<double>(x[i]) * inverse);
}

template <class T>
const Rows<T>* RowTable() {
  static constexpr Rows<T> table{Sum<T>,       Max<T>,           AddTo<T>,
                                 MaxTo<T>,     Add<T>,           Scale<T>,
                                 Softmax<T>,   LogSoftmax<T>,    SoftmaxGrad<T>,
                                 LayerNorm<T>, LayerNormGrad<T>, LayerNormGainGrad<T>,
                                 RmsNorm<T>,   RmsNormGrad<T>,   RmsNormGainGrad<T>};
  return &table;
}
const Rows<float>* RowsF32() { return RowTable<float>(); }
const Rows<double>* RowsF64() { return RowTable<double>(); }

// NOLINTNEXTLINE(google-readability-namespace-comments)
}  // namespace HWY_NAMESPACE
}  // namespace vitrine::simd
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace vitrine::simd {

HWY_EXPORT(RowsF32);
HWY_EXPORT(RowsF64);

template <>
const Rows<float>& rows<float>() {
  return *HWY_DYNAMIC_DISPATCH(RowsF32)();
}
template <>
const Rows<double>& rows<double>() {
  return *HWY_DYNAMIC_DISPATCH(RowsF64)();
}

}  // namespace vitrine::simd
#endif  // HWY_ONCE
