// What stands in the slots of a template: lists and tables of values, and their combinations.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "apps/options/csv_file.h"
#include "tensor/random.h"

namespace vitrine::app {

// A value for every slot.
using SlotValues = std::map<std::string, std::string, std::less<>>;

// A list or a table of which one choice is made for each prompt.
struct SlotSource {
  std::vector<std::string> slots;
  // A choice is a row, with a value for each slot. `different`: rows have one value, and a choice
  // is a different row for each slot, in every order.
  std::vector<std::vector<std::string>> rows;
  bool different = false;

  std::uint64_t choices() const;  // UINT64_MAX where there are more
  void choose(std::uint64_t choice, SlotValues& values) const;
};

class SlotChoices {
 public:
  // Throws Error (usage) for a slot that is there already, a value that is empty, and a list that is
  // too short for its slots. `what` names the source.
  void add(SlotSource source, std::string_view what);
  // NAME=V1,V2,...; A,B=V1,V2,...: different values for each of several slots. Cells as in CSV.
  void add_list(const std::string& text);
  // The columns of a table whose rows go together. `what` names the table.
  void add_table(CsvTable table, const std::string& what);

  bool has(std::string_view slot) const { return find(slot) != nullptr; }
  // Throws Error (usage), with the nearest names, for a slot that is not there.
  void require(std::string_view slot, std::string_view what) const;
  // Those of lists, which were made to be used.
  const std::vector<std::string>& named() const { return named_; }

  std::uint64_t combinations() const;  // UINT64_MAX where there are more
  SlotValues combination(std::uint64_t index) const;

  // Puts other values in these slots: those of another row, in which all of them are different; of
  // a list with several slots, values that none of its slots has. Of rows only those are taken after
  // which `fits`, if it is there, holds of all values. False where there are none.
  bool change(std::span<const std::string> slots, random::Key key, SlotValues& values,
              const std::function<bool(const SlotValues&)>& fits = {}) const;
  // Whether their values stand in one row of a table.
  bool together(std::string_view a, std::string_view b) const {
    return find(a) != nullptr && find(a) == find(b) && !find(a)->different;
  }

 private:
  const SlotSource* find(std::string_view slot) const;

  std::vector<SlotSource> sources_;
  std::vector<std::string> named_;
};

}  // namespace vitrine::app
