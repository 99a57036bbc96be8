// The axes of a result's tensors, by name.
#pragma once

#include <map>
#include <string>
#include <vector>

namespace vitrine::app {

// What the axes of tensors mean: in CSV, and to a host.
struct AxisNames {
  // By tensor, {"layer", "pos"}; "" is for those that are not named and have as many axes.
  std::map<std::string, std::vector<std::string>, std::less<>> of{};
  // What stands for 0, 1, ... along an axis, or along that of one tensor ("sweep:layer"): the
  // layers, where not all of them are there.
  std::map<std::string, std::vector<std::string>, std::less<>> places{};
  // Another column beside that of an axis: the tokens of "pos".
  struct Labels {
    std::string column;
    std::vector<std::string> texts;
  };
  std::map<std::string, Labels, std::less<>> labels{};
};

}  // namespace vitrine::app
