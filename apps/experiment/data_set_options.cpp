#include "apps/experiment/data_set_options.h"

#include <fmt/format.h>

#include <algorithm>

#include "tensor/error.h"

namespace vitrine::app {

void DataSetOptions::add_to(CommandLine& line, bool pairs) {
  line.heading("Many prompts");
  prompts_option_ = line.option(
      "--prompts", prompts_, "FILE",
      "instead of one prompt: many, one {\"prompt\": ..., \"answer\": ...,\n"
      "\"wrong\": ...} a line (- reads stdin); or by ids: prompt_tokens ([1, 2, 3]),\n"
      "answer_token, wrong_token (4). \"roles\": {\"subject\": \" Texas\"} names positions;\n"
      "other fields are kept, to group by");
  if (pairs) {
    pairs_option_ = line.option(
        "--pairs", pairs_, "FILE",
        "the same with \"clean\" and \"corrupt\" prompts (clean_tokens, corrupt_tokens)");
  } else {
    line.without("--pairs",
                 "nothing is compared with corrupt prompts here; give the file to --prompts, "
                 "which runs the clean prompts of pairs");
  }
  each_option_ = line.flag("--each", each_, "also each prompt (JSON has them always)");
  group_option_ = line.option("--group-by", group_by_, "FIELD",
                              "means for each text or number that this field of the file has");
  line.heading("Options");
}

void DataSetOptions::require(const CommandLine& line) {
  if (prompts_option_->count() > 0 && pairs()) line.fail("give --prompts or --pairs, not both");
  if (!given()) {
    const char* files = pairs_option_ == nullptr ? "--prompts FILE" : "--prompts or --pairs FILE";
    if (each_option_->count() > 0)
      line.fail(fmt::format("--each is about the prompts of a file; give {}", files));
    if (group_option_->count() > 0)
      line.fail(fmt::format("--group-by is about the prompts of a file; give {}", files));
    return;
  }
  const char* file = pairs() ? "--pairs" : "--prompts";
  for (const char* one :
       {"--prompt", "--tokens", "--clean", "--clean-tokens", "--corrupt", "--corrupt-tokens",
        "--answer", "--answer-token", "--wrong", "--wrong-token"}) {
    if (line.was_given(one)) {
      line.fail(fmt::format("give {} or {}, not both: the file has prompts and answers of its own",
                            file, one));
    }
  }
  lines_.emplace(pairs() ? pairs_ : prompts_);
}

std::vector<interp::Example> DataSetOptions::examples(const nn::Model& model,
                                                      const PromptOptions& encoding,
                                                      PromptsNeed need) {
  if (pairs()) need.corrupt = true;
  return read_prompts(*lines_, model, encoding, need);
}

std::vector<interp::Position> parse_positions(const CommandLine& line, std::string_view option,
                                              std::string_view list) {
  std::vector<interp::Position> positions;
  for (const std::string& text : written_out(items_of(list))) {
    if (text.empty())
      line.fail(fmt::format("{}: there is an empty position in '{}'", option, list));
    const interp::Position position = interp::parse_position(text);
    if (std::find(positions.begin(), positions.end(), position) != positions.end())
      line.fail(fmt::format("{}: {} is there twice in '{}'", option, text, list));
    positions.push_back(position);
  }
  return positions;
}

void refuse_beside_prompts(const CommandLine& line, std::initializer_list<std::string_view> options,
                           std::string_view why) {
  for (const std::string_view option : options) {
    if (line.was_given(std::string(option)))
      line.fail(fmt::format("{} does not go with --prompts: {}; leave it out", option, why));
  }
}

}  // namespace vitrine::app
