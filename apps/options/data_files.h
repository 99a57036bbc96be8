// --data FILE[:WEIGHT][,...]: the training texts.
#pragma once

#include <string>
#include <vector>

#include "apps/options/command_line.h"
#include "nn/text/documents.h"

namespace vitrine::app {

struct DataFile {
  std::string path;
  double weight = 1;
};

// --data, as often as it is given, and --split.
class DataOptions {
 public:
  // `weight_doc` says what a WEIGHT does.
  void add_to(CommandLine& line, const std::string& weight_doc);
  void add_split_to(CommandLine& line);  // --split alone
  // Throws Error (usage) when there is no file, or a weight outside `least` to `most`. Where a file
  // with the name as it stands exists, commas and colons belong to the name.
  std::vector<DataFile> files(const CommandLine& line, double least, double most) const;
  nn::Split split() const;

 private:
  std::vector<std::string> given_;
  std::string split_ = "none";
};

}  // namespace vitrine::app
