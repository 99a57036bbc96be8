// Data sets of prompts: what an experiment is run over, and the statistics of what it gives.
//
//   std::vector<Example> data(1);                          // a file's, say
//   data[0] = {.prompt = {290, 271, 266, 1615, 267}, .roles = {{"subject", {3, 4}}}};
//   data[0].at(parse_position("subject"));                 // 3: its last token
//   const double found[] = {7.3, 6.9, 8.1};                // of each prompt
//   Statistic s = statistic(found);                        // mean, standard error, count
//
// A position is told by its number, from the end (-1), or by a role: prompts of different shapes
// line up by what their tokens are for.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "nn/model/batch.h"

namespace vitrine::interp {

// A position of a prompt: a number (negative ones count from the end), or the name of a role.
struct Position {
  std::int64_t index = -1;
  std::string role;  // empty: by number
  std::string text() const;
  friend bool operator==(const Position&, const Position&) = default;
};
// "3", "-1", or any other word, which is a role.
Position parse_position(std::string_view text);

struct Span {  // positions [begin, end)
  std::int64_t begin = 0, end = 0;
  friend bool operator==(const Span&, const Span&) = default;
};

// One prompt, or a pair of prompts, and what is asked of it.
struct Example {
  nn::Tokens prompt;   // of a pair, the clean one
  nn::Tokens corrupt;  // as long as the prompt; empty where there is none
  // The right and the wrong answers, each of one or more tokens; there may be none.
  std::vector<nn::Tokens> answers, wrongs;
  std::map<std::string, Span, std::less<>> roles;
  // What else the file says of it: texts and numbers as they are written, to group by, and lists of
  // single tokens, which metrics name as @name.
  std::map<std::string, std::string, std::less<>> fields;
  std::map<std::string, std::vector<int>, std::less<>> tokens;
  int line = 0;  // of the file, from 1; 0: of no file

  // The positions that are meant; of a number one. Throws ContextError, naming the line, for a
  // position that the prompt does not have, and for a role that the example does not define.
  Span span(const Position& position) const;
  std::int64_t at(const Position& position) const;  // the last of them
  // All that are meant by any of these, each once, increasing. Throws the same.
  std::vector<std::int64_t> all_at(std::span<const Position> positions) const;
};

std::vector<nn::Tokens> prompts_of(std::span<const Example> examples);  // the clean ones, of pairs

// The examples that have the same text in a field, in the order in which texts first occur. Without
// a field one group of all, named "". Throws Error (input), naming the line, for an example without
// the field.
struct PromptGroup {
  std::string name;
  std::vector<std::size_t> members;
};
std::vector<PromptGroup> grouped(std::span<const Example> examples, std::string_view field = "");
PromptGroup all_prompts(std::size_t count);  // 0 to count - 1, named "all"

// Mean and standard error, s / sqrt(n) with s the sample's standard deviation: NaN for fewer than two
// numbers. Numbers that are NaN do not count.
struct Statistic {
  double mean = 0, standard_error = 0;
  std::int64_t count = 0;
};
Statistic statistic(std::span<const double> values);

// The same of each element over several tensors of one shape.
struct Statistics {
  Tensor mean, standard_error, count;        // f64, of the shape
  Statistic at(std::int64_t element) const;  // in row-major order
};
Statistics statistics(std::span<const Tensor> values);

}  // namespace vitrine::interp
