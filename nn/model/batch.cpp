#include "nn/model/batch.h"

#include <fmt/format.h>

#include <algorithm>

#include "tensor/error.h"

namespace vitrine::nn {

BatchSize batch_size(const std::vector<Tokens>& prompts) {
  BatchSize size{0, static_cast<std::int64_t>(prompts.size()), 0};
  for (const Tokens& t : prompts) {
    size.rows += static_cast<std::int64_t>(t.size());
    size.positions = std::max(size.positions, static_cast<std::int64_t>(t.size()));
  }
  return size;
}

std::int64_t next_tokens(const std::vector<Tokens>& prompts) {
  const BatchSize size = batch_size(prompts);
  return size.rows - size.sequences;
}

Feeds batch_feeds(const std::vector<Tokens>& prompts) {
  const BatchSize size = batch_size(prompts);
  std::vector<std::int32_t> tokens, sequence, position, last, next_row, next_token;
  std::vector<std::int32_t> keys(static_cast<std::size_t>(size.sequences * size.positions), -1);
  for (std::size_t s = 0; s < prompts.size(); ++s) {
    for (std::size_t p = 0; p < prompts[s].size(); ++p) {
      const auto row = static_cast<std::int32_t>(tokens.size());
      keys[s * static_cast<std::size_t>(size.positions) + p] = row;
      tokens.push_back(prompts[s][p]);
      sequence.push_back(static_cast<std::int32_t>(s));
      position.push_back(static_cast<std::int32_t>(p));
      if (p + 1 < prompts[s].size()) {
        next_row.push_back(row);
        next_token.push_back(prompts[s][p + 1]);
      }
    }
    last.push_back(static_cast<std::int32_t>(tokens.size()) - 1);
  }
  const auto n = static_cast<std::int64_t>(next_row.size());
  return {{"tokens", Tensor::of({size.rows}, tokens)},
          {"rows.sequence", Tensor::of({size.rows}, sequence)},
          {"rows.position", Tensor::of({size.rows}, position)},
          {"rows.keys", Tensor::of({size.sequences, size.positions}, keys)},
          {"rows.last", Tensor::of({size.sequences}, last)},
          {"next.row", Tensor::of({n}, next_row)},
          {"next.token", Tensor::of({n}, next_token)}};
}

void check_prompts(const std::vector<Tokens>& prompts, const Config& config) {
  if (prompts.empty()) throw ContextError("there is no prompt; give at least one");
  for (std::size_t i = 0; i < prompts.size(); ++i) {
    const Tokens& t = prompts[i];
    const std::string which = prompts.size() == 1 ? "the prompt" : fmt::format("prompt {}", i);
    if (t.empty())
      throw ContextError(fmt::format("{} is empty; it needs at least one token", which));
    if (static_cast<std::int64_t>(t.size()) > config.context) {
      throw ContextError(fmt::format(
          "{} has {} tokens, but this model's context is {}; shorten it by {}", which, t.size(),
          config.context, static_cast<std::int64_t>(t.size()) - config.context));
    }
    for (std::size_t p = 0; p < t.size(); ++p) {
      if (t[p] >= 0 && t[p] < config.vocabulary) continue;
      throw TokenError(
          fmt::format("{} has token id {} at position {}; this model knows ids 0 to {}", which,
                      t[p], p, config.vocabulary - 1));
    }
  }
}

}  // namespace vitrine::nn
