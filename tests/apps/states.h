// A small file of prompts with answers, roles and a field to group by.
#pragma once

#include <fmt/format.h>

#include <array>
#include <cmath>
#include <nlohmann/json.hpp>
#include <string>

#include "tensor/files/file.h"
#include "tests/apps/words.h"
#include "tests/tensor/temporary_folder.h"

namespace vitrine::test {

struct StatePrompt {
  const char* name;
  const char* capital;
  const char* coast;
  int end;  // the last position; the last token of the name is before it

  std::string prompt() const { return fmt::format("The capital of {} is", name); }
  std::string answer() const { return fmt::format(" {}", capital); }
  std::string wrong() const { return capital == std::string("Austin") ? " Columbus" : " Austin"; }
};
inline constexpr std::array kStatePrompts = {
    StatePrompt{"Texas", "Austin", "south", 4}, StatePrompt{"California", "Sacramento", "west", 4},
    StatePrompt{"Ohio", "Columbus", "none", 4}, StatePrompt{"New Mexico", "Sacramento", "none", 5}};

// One line for each, with the roles "name" (of New Mexico two tokens) and "of".
inline std::string state_prompts(const TemporaryFolder& folder, bool answers = true) {
  std::string lines;
  for (const StatePrompt& s : kStatePrompts) {
    nlohmann::json line = {{"prompt", s.prompt()},
                           {"coast", s.coast},
                           {"roles", {{"name", fmt::format(" {}", s.name)}, {"of", 2}}}};
    if (answers) {
      line["answer"] = s.answer();
      line["wrong"] = s.wrong();
    }
    lines += line.dump() + "\n";
  }
  write_text(folder / "states.jsonl", lines);
  return folder / "states.jsonl";
}

// The program's result as JSON; it must succeed.
inline nlohmann::json result_of(const Words& words) {
  const Outcome o = vitrine(words + Words{"--format", "json"});
  EXPECT_EQ(o.exit, 0) << o.err;
  return o.exit == 0 ? o.json() : nlohmann::json();
}

// Expects {mean, standard_error, count} of these numbers.
inline void expect_mean(const nlohmann::json& mean, const nlohmann::json& standard_error,
                        const std::vector<double>& values, double tolerance) {
  const auto n = static_cast<double>(values.size());
  double sum = 0, squares = 0;
  for (const double x : values) sum += x;
  for (const double x : values) squares += (x - sum / n) * (x - sum / n);
  EXPECT_NEAR(mean.get<double>(), sum / n, tolerance);
  if (values.size() > 1) {
    EXPECT_NEAR(standard_error.get<double>(), std::sqrt(squares / (n - 1) / n), tolerance);
  } else {
    EXPECT_TRUE(standard_error.is_null());
  }
}

}  // namespace vitrine::test
