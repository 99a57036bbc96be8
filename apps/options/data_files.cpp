#include "apps/options/data_files.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <optional>
#include <string_view>
#include <system_error>

namespace vitrine::app {
namespace {

bool exists(std::string_view file) {
  std::error_code ignored;
  return std::filesystem::exists(file, ignored);
}

std::optional<double> number(std::string_view text) {
  double value = 0;
  const auto [stop, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || stop != text.data() + text.size()) return std::nullopt;
  return value;
}

}  // namespace

void DataOptions::add_to(CommandLine& line, const std::string& weight_doc) {
  line.option("--data", given_, "FILE[:WEIGHT],...",
              "what to train on, repeatable: .jsonl files with one {\"text\": \"...\"} a\n"
              "line, any others as plain text of any bytes.\n" +
                  weight_doc);
  add_split_to(line);
}

void DataOptions::add_split_to(CommandLine& line) {
  line.option("--split", split_, "none|blank-line|line",
              "where plain text is cut into separate texts (default: none)")
      ->one_of({"none", "blank-line", "line"});
}

std::vector<DataFile> DataOptions::files(const CommandLine& line, double least, double most) const {
  std::vector<DataFile> files;
  const auto add = [&](std::string_view item) {
    if (item.empty()) line.fail("--data has an empty file name; give FILE or FILE,FILE");
    DataFile file{std::string(item)};
    const std::size_t colon = item.rfind(':');
    if (colon != item.npos && colon > 0 && !exists(item)) {
      if (const auto weight = number(item.substr(colon + 1))) {
        if (!(*weight >= least && *weight <= most)) {
          line.fail(fmt::format("the weight in --data {} must be a number from {} to {:.0f}", item,
                                least, most));
        }
        file = {std::string(item.substr(0, colon)), *weight};
      }
    }
    files.push_back(file);
  };
  for (const std::string& value : given_) {
    if (exists(value)) {
      add(value);
      continue;
    }
    for (std::size_t begin = 0; begin <= value.size();) {
      const std::size_t end = std::min(value.find(',', begin), value.size());
      add(std::string_view(value).substr(begin, end - begin));
      begin = end + 1;
    }
  }
  if (files.empty()) line.fail("there is no text to train on; give --data FILE");
  return files;
}

nn::Split DataOptions::split() const {
  if (split_ == "line") return nn::Split::line;
  return split_ == "blank-line" ? nn::Split::blank_line : nn::Split::whole_file;
}

}  // namespace vitrine::app
