#include "autograd/graph/reach.h"

#include <fmt/format.h>

namespace vitrine {

Link same_axis(int in_axis, int out_axis) { return {.in_axis = in_axis, .out_axis = out_axis}; }

bool Link::holds(std::int64_t i, std::int64_t o) const {
  switch (relation) {
    case Relation::same:
      return i == o * step + offset;
    case Relation::placed:
      return o == i * step + offset;
    case Relation::at_most:
      return i <= o + offset;
    case Relation::at_least:
      return i >= o + offset;
    case Relation::in_block:
      return i / step == o;
    case Relation::out_block:
      return i == o / step;
  }
  return true;
}

namespace {

std::string coordinate(char side, int axis, Coordinate c) {
  constexpr std::string_view suffix[] = {"", ".sequence", ".position"};
  return fmt::format("{}{}{}", side, axis, suffix[static_cast<int>(c)]);
}

std::string affine(const std::string& of, std::int64_t step, std::int64_t offset) {
  std::string text = step == 1 ? of : fmt::format("{}*{}", of, step);
  if (offset > 0) text += fmt::format("+{}", offset);
  if (offset < 0) text += fmt::format("{}", offset);
  return text;
}

std::string to_string(const Link& l) {
  const std::string i = coordinate('i', l.in_axis, l.in), o = coordinate('o', l.out_axis, l.out);
  switch (l.relation) {
    case Relation::same:
      return i + "=" + affine(o, l.step, l.offset);
    case Relation::placed:
      return o + "=" + affine(i, l.step, l.offset);
    case Relation::at_most:
      return i + "<=" + affine(o, 1, l.offset);
    case Relation::at_least:
      return i + ">=" + affine(o, 1, l.offset);
    case Relation::in_block:
      return fmt::format("{}/{}={}", i, l.step, o);
    case Relation::out_block:
      return fmt::format("{}={}/{}", i, o, l.step);
  }
  return "";
}

}  // namespace

std::string to_string(const Reach& reach) {
  std::string text;
  for (const InputReach& r : reach) {
    if (!text.empty()) text += "; ";
    if (!r.reaches) {
      text += "none";
    } else if (r.links.empty()) {
      text += "all";
    } else {
      for (std::size_t i = 0; i < r.links.size(); ++i)
        text += (i == 0 ? "" : " ") + to_string(r.links[i]);
    }
  }
  return text;
}

}  // namespace vitrine
