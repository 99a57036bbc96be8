#include "apps/prompt_sets/slots.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <set>

#include "apps/prompt_sets/template.h"
#include "tensor/error.h"
#include "tensor/files/utf8.h"
#include "tensor/nearest.h"

namespace vitrine::app {
namespace {

std::uint64_t product(std::uint64_t a, std::uint64_t b) {
  std::uint64_t result = 0;
  return __builtin_mul_overflow(a, b, &result) ? UINT64_MAX : result;
}

[[noreturn]] void refuse_slot(std::string_view what, const std::string& why) {
  throw Error(ErrorKind::usage, fmt::format("{}: {}", what, why));
}

}  // namespace

std::uint64_t SlotSource::choices() const {
  if (!different) return rows.size();
  std::uint64_t count = 1;
  for (std::size_t i = 0; i < slots.size(); ++i) count = product(count, rows.size() - i);
  return count;
}

void SlotSource::choose(std::uint64_t choice, SlotValues& values) const {
  if (!different) {
    const auto& row = rows[static_cast<std::size_t>(choice)];
    for (std::size_t s = 0; s < slots.size(); ++s) values[slots[s]] = row[s];
    return;
  }
  std::vector<std::size_t> left(rows.size());  // the rows that are not taken
  for (std::size_t r = 0; r < rows.size(); ++r) left[r] = r;
  for (const std::string& slot : slots) {
    const auto at = static_cast<std::ptrdiff_t>(choice % left.size());
    choice /= left.size();
    values[slot] = rows[left[static_cast<std::size_t>(at)]][0];
    left.erase(left.begin() + at);
  }
}

void SlotChoices::add(SlotSource source, std::string_view what) {
  for (std::size_t s = 0; s < source.slots.size(); ++s) {
    const std::string& slot = source.slots[s];
    const auto end = source.slots.begin() + static_cast<std::ptrdiff_t>(s);
    if (!is_name(slot)) {
      refuse_slot(what, fmt::format("{} is not the name of a slot: letters, digits, _ and -, a "
                                    "letter first",
                                    nn::quote(slot)));
    }
    if (has(slot) || std::find(source.slots.begin(), end, slot) != end)
      refuse_slot(what, fmt::format("the slot {} is there already", slot));
  }
  std::set<std::vector<std::string>> seen;
  for (const auto& row : source.rows) {
    for (std::size_t c = 0; c < row.size(); ++c) {
      if (row[c].empty())
        refuse_slot(what, fmt::format("a value of {} is empty", source.slots.at(c)));
    }
    if (source.different && !seen.insert(row).second)
      refuse_slot(what, fmt::format("the value {} is there twice", nn::quote(row[0])));
  }
  if (source.different && source.rows.size() < source.slots.size()) {
    refuse_slot(what, fmt::format("{} slots need as many different values, but there are {}",
                                  source.slots.size(), source.rows.size()));
  }
  sources_.push_back(std::move(source));
}

void SlotChoices::add_list(const std::string& text) {
  const std::string what = "--slot " + text;
  const std::size_t equals = text.find('=');
  if (equals == std::string::npos)
    refuse_slot(what, "expected NAME=VALUE,VALUE,... or the name of a .csv file");
  SlotSource source;
  source.slots = parse_csv_line(text.substr(0, equals), what);
  source.different = source.slots.size() > 1;
  for (std::string& value : parse_csv_line(text.substr(equals + 1), what))
    source.rows.push_back({std::move(value)});
  if (source.slots.empty() || source.rows.empty())
    refuse_slot(what, "expected NAME=VALUE,VALUE,... with one value at least");
  named_.insert(named_.end(), source.slots.begin(), source.slots.end());
  add(std::move(source), what);
}

void SlotChoices::add_table(CsvTable table, const std::string& what) {
  add({.slots = std::move(table.columns), .rows = std::move(table.rows)}, what);
}

const SlotSource* SlotChoices::find(std::string_view slot) const {
  for (const SlotSource& source : sources_) {
    if (std::find(source.slots.begin(), source.slots.end(), slot) != source.slots.end())
      return &source;
  }
  return nullptr;
}

void SlotChoices::require(std::string_view slot, std::string_view what) const {
  if (has(slot)) return;
  std::vector<std::string> names;
  for (const SlotSource& source : sources_)
    names.insert(names.end(), source.slots.begin(), source.slots.end());
  refuse_slot(what,
              fmt::format("there is no slot {}{}; {}", slot,
                          did_you_mean(nearest(std::string(slot), names)),
                          names.empty() ? "give its values by --slot or --table"
                                        : fmt::format("there are {}", fmt::join(names, ", "))));
}

std::uint64_t SlotChoices::combinations() const {
  std::uint64_t count = 1;
  for (const SlotSource& source : sources_) count = product(count, source.choices());
  return count;
}

SlotValues SlotChoices::combination(std::uint64_t index) const {
  SlotValues values;
  for (const SlotSource& source : sources_) {
    const std::uint64_t count = source.choices();
    source.choose(index % count, values);
    index /= count;
  }
  return values;
}

bool SlotChoices::change(std::span<const std::string> slots, random::Key key, SlotValues& values,
                         const std::function<bool(const SlotValues&)>& fits) const {
  std::uint64_t draw = 0;
  for (const SlotSource& source : sources_) {
    std::vector<std::string> wanted;  // the slots of this source
    for (const std::string& slot : slots)
      if (find(slot) == &source) wanted.push_back(slot);
    if (wanted.empty()) continue;
    std::vector<const std::vector<std::string>*> fit;
    for (const auto& row : source.rows) {
      const auto has_now = [&](const std::string& slot) {
        const auto at = std::find(source.slots.begin(), source.slots.end(), slot);
        return values.at(slot) == row[source.different ? 0 : at - source.slots.begin()];
      };
      const auto& names = source.different ? source.slots : wanted;
      if (std::any_of(names.begin(), names.end(), has_now)) continue;
      if (fits && !source.different) {
        SlotValues changed = values;
        for (std::size_t s = 0; s < source.slots.size(); ++s) changed[source.slots[s]] = row[s];
        if (!fits(changed)) continue;
      }
      fit.push_back(&row);
    }
    if (fit.size() < (source.different ? wanted.size() : 1)) return false;
    const auto take = [&] {
      const auto at = random::below(key, draw++, static_cast<std::int64_t>(fit.size()));
      const auto* row = fit[static_cast<std::size_t>(at)];
      fit.erase(fit.begin() + at);
      return row;
    };
    if (source.different) {
      for (const std::string& slot : wanted) values[slot] = (*take())[0];
    } else {
      const auto& row = *take();
      for (std::size_t s = 0; s < source.slots.size(); ++s) values[source.slots[s]] = row[s];
    }
  }
  return true;
}

}  // namespace vitrine::app
