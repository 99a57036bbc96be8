#include "autograd/graph/attributes.h"

#include <fmt/format.h>

#include <cmath>
#include <functional>

namespace vitrine {

bool operator==(const ConstantValue& a, const ConstantValue& b) {
  if (a.value.dtype() != b.value.dtype() || !(a.value.shape() == b.value.shape())) return false;
  // The same elements: the same first one, by the same strides. Slices of one tensor, and tensors of one mapped file,
  // share their storage and differ in where they begin.
  if (a.value.view().data == b.value.view().data && a.value.strides() == b.value.strides())
    return true;
  if (a.value.numel() != 1) return false;
  const double x = a.value.item<double>(), y = b.value.item<double>();
  return x == y || (std::isnan(x) && std::isnan(y));
}

namespace {

template <class... F>
struct Overloaded : F... {
  using F::operator()...;
};
template <class... F>
Overloaded(F...) -> Overloaded<F...>;

std::string axes_text(const Axes& axes) {
  std::string text;
  for (const Axis a : axes) text += fmt::format("{}{}", text.empty() ? "" : ", ", name_of(a));
  return text;
}

std::string window_text(std::int64_t window) {
  return window == 0 ? "" : fmt::format(" window={}", window);
}

}  // namespace

std::string to_string(const Attributes& attributes) {
  return std::visit(
      Overloaded{
          [](const NoAttributes&) { return std::string(); },
          [](const LeafName& a) { return fmt::format("\"{}\"", a.name); },
          [](const ConstantValue& a) {
            return a.value.numel() == 1 ? fmt::format("{:g}", a.value.item<double>())
                                        : fmt::format("tensor of {}", to_string(a.value.shape()));
          },
          [](const SiteLabel& a) { return fmt::format("\"{}\" [{}]", a.name, axes_text(a.axes)); },
          [](const AxisList& a) {
            return fmt::format("axes={}{}", to_string(a.axes), a.keepdims ? " keepdims" : "");
          },
          [](const OneAxis& a) { return fmt::format("axis={}", a.axis); },
          [](const TargetShape& a) { return to_string(a.shape); },
          [](const TargetType& a) { return std::string(name_of(a.dtype)); },
          [](const Range& a) {
            const std::string step = a.step == 1 ? "" : fmt::format(":{}", a.step);
            const std::string of = a.size == 0 ? "" : fmt::format(" of {}", a.size);
            return fmt::format("axis={} {}:{}{}{}", a.axis, a.start, a.stop, step, of);
          },
          [](const RowCount& a) {
            return fmt::format("size={}{}", a.rows,
                               a.group == 1 ? "" : fmt::format(" group={}", a.group));
          },
          [](const Visibility& a) {
            return fmt::format("query={} key={} offset={}{}{}", a.query_axis, a.key_axis, a.offset,
                               window_text(a.window), a.zero ? " fill=0" : "");
          },
          [](const ScoreScale& a) { return fmt::format("scale={:g}", a.scale); },
          [](const AttentionRule& a) {
            return fmt::format("scale={:g}{}{}{}", a.scale,
                               a.offset == 0 ? "" : fmt::format(" offset={}", a.offset),
                               window_text(a.window),
                               a.softcap == 0 ? "" : fmt::format(" softcap={:g}", a.softcap));
          },
          [](const NormRule& a) { return fmt::format("eps={:g}", a.eps); },
          [](const AdamWRule& a) {
            return fmt::format("betas={:g}, {:g} eps={:g} decay={:g}", a.beta1, a.beta2, a.eps,
                               a.decay);
          },
          [](const DropoutRule& a) { return fmt::format("rate={:g} stream={}", a.rate, a.stream); },
          [](const ActiveFeatures& a) {
            const std::string most =
                a.most < 0 ? ""
                           : fmt::format("most={:g}{} ", a.most, a.whole_batch ? " a sample" : "");
            return fmt::format(
                "{}capacity={}{}", most, a.capacity,
                a.dead_capacity == 0 ? "" : fmt::format(" dead={}", a.dead_capacity));
          },
          [](const PursuitRule& a) {
            return fmt::format("steps={}{}{}", a.steps,
                               a.threshold > 0 ? fmt::format(" threshold={:g}", a.threshold) : "",
                               a.stop_at_repeat ? " stop=repeat" : "");
          },
          [](const Triangle& a) { return std::string(a.transposed ? "transposed" : ""); },
          [](const HeadsRule& a) {
            return fmt::format(
                "heads={}{}{}{}", a.heads, a.norm == NormKind::rms_norm ? " norm=rms" : "",
                a.biased ? "" : " bias=none", a.detach_scale ? " scale=detached" : "");
          },
          [](const SoftcapRule& a) { return fmt::format("cap={:g}", a.cap); },
          [](const RotaryRule& a) {
            return fmt::format("dimensions={}{}", 2 * a.inverse.size(),
                               a.scale == 1 ? "" : fmt::format(" scale={:g}", a.scale));
          },
      },
      attributes);
}

std::size_t hash_of(const Attributes& attributes) {
  std::size_t h = std::hash<std::string>()(to_string(attributes)) * 31 + attributes.index();
  const auto mix = [&h](double x) {
    h = h * 0x100000001b3ULL ^ std::hash<double>()(x);
  };  // printing rounds these
  std::visit(
      Overloaded{[&](const ConstantValue& a) {
                   if (a.value.numel() == 1) mix(a.value.item<double>());
                 },
                 [&](const ScoreScale& a) { mix(a.scale); },
                 [&](const AttentionRule& a) { mix(a.scale), mix(a.softcap); },
                 [&](const SoftcapRule& a) { mix(a.cap); },
                 [&](const RotaryRule& a) {
                   mix(a.scale);
                   for (const double x : a.inverse) mix(x);
                 },
                 [&](const NormRule& a) { mix(a.eps); }, [&](const HeadsRule& a) { mix(a.eps); },
                 [&](const AdamWRule& a) {
                   for (const double x : {a.beta1, a.beta2, a.eps, a.decay}) mix(x);
                 },
                 [&](const DropoutRule& a) { mix(a.rate); },
                 [&](const ActiveFeatures& a) { mix(a.most); },
                 [&](const PursuitRule& a) { mix(a.threshold); }, [](const auto&) {}},
      attributes);
  return h;
}

}  // namespace vitrine
