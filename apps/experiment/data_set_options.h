// Many prompts from a file, in the place of one: --prompts or --pairs, --each, --group-by.
#pragma once

#include <initializer_list>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "apps/experiment/prompts_file.h"
#include "apps/options/options.h"
#include "interp/data/data_set.h"

namespace vitrine::app {

class DataSetOptions {
 public:
  DataSetOptions() = default;
  DataSetOptions(const DataSetOptions&) = delete;
  DataSetOptions& operator=(const DataSetOptions&) = delete;

  // `pairs`: whether there is --pairs, for verbs that read the corrupt prompts too.
  void add_to(CommandLine& line, bool pairs = false);
  bool given() const { return count(prompts_option_) + count(pairs_option_) > 0; }
  bool pairs() const { return count(pairs_option_) > 0; }
  bool from_stdin() const { return given() && (pairs() ? pairs_ : prompts_) == "-"; }
  bool each() const { return each_; }
  const std::string& group_by() const { return group_by_; }  // "": not asked for

  // After parsing. Throws Error (usage) when both files are given, when a file is given beside one
  // prompt or its answers (--prompt, --clean-tokens, --answer, ...), and when --each or --group-by
  // are given without a file. Reads the file, or stdin for -.
  void require(const CommandLine& line);

  // Those of the file, once. `encoding` says how text becomes tokens. Throws what read_prompts
  // throws (prompts_file.h).
  std::vector<interp::Example> examples(const nn::Model& model, const PromptOptions& encoding,
                                        PromptsNeed need = {});
  // By --group-by; one group of all, called "", without it. Throws what interp::grouped throws.
  std::vector<interp::PromptGroup> groups(std::span<const interp::Example> examples) const {
    return interp::grouped(examples, group_by_);
  }

 private:
  static std::size_t count(const Option* option) { return option == nullptr ? 0 : option->count(); }

  std::string prompts_, pairs_, group_by_;
  bool each_ = false;
  std::optional<JsonLines> lines_;
  const Option* prompts_option_ = nullptr;
  const Option* pairs_option_ = nullptr;
  const Option* each_option_ = nullptr;
  const Option* group_option_ = nullptr;
};

// Positions and roles, "subject,3,5-7,-1". Calls line.fail for an empty one and for one that is there
// twice.
std::vector<interp::Position> parse_positions(const CommandLine& line, std::string_view option,
                                              std::string_view list);

// Calls line.fail, naming the first of these options that was given: beside --prompts it means
// nothing. `why`: "it is about one prompt".
void refuse_beside_prompts(const CommandLine& line, std::initializer_list<std::string_view> options,
                           std::string_view why);

}  // namespace vitrine::app
