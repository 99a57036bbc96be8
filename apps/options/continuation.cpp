#include "apps/options/continuation.h"

#include <algorithm>
#include <optional>

namespace vitrine::app {

void SamplingOptions::add_to(CommandLine& line) {
  constexpr int kMost = 1'000'000;
  count_ = line.number("--max-tokens", max_tokens_, "N",
                       "how many new tokens at most (default: 40, or what the\n"
                       "context has room for)",
                       1, kMost);
  temperature_ = line.real("--temperature", sampling_.temperature, "T",
                           "0 takes the most probable token, 1 draws from the\n"
                           "model's probabilities, more is wilder (default: 0;\n"
                           "1 with --top-k or --top-p)",
                           {.least = 0, .most = 1e6});
  top_k_ = line.number("--top-k", sampling_.top_k, "K",
                       "draw from the K most probable tokens (default: 0, all)", 0, kMost);
  top_p_ = line.real("--top-p", sampling_.top_p, "P",
                     "draw from the fewest tokens whose probabilities reach P\n(default: 1, all)",
                     {.least = 0, .most = 1, .above = true});
}

void SamplingOptions::settle() {
  if (temperature_->count() == 0 && top_k_->count() + top_p_->count() > 0)
    sampling_.temperature = 1;
  nn::check_sampling(sampling_);
}

int SamplingOptions::count(const nn::Model& model, const nn::Tokens& prompt) const {
  if (count_->count() > 0) return max_tokens_;
  const auto room = nn::most_new_tokens(model.config(), std::ssize(prompt));
  return static_cast<int>(std::clamp<std::int64_t>(room, 1, max_tokens_));
}

Json Continuation::text(const nn::Model& model) const {
  return model.has_tokenizer() ? Json(json_text(model.tokenizer().shown_text(tokens))) : Json();
}

Continuation continue_prompt(const nn::Model& model, const nn::Tokens& prompt,
                             const SamplingOptions& options, std::uint64_t seed,
                             const Interruptible& interruptible,
                             const std::function<void(int id)>& on_token,
                             const Interventions& what) {
  const nn::Config& config = model.config();
  std::optional<int> end;  // of a model that does not say
  if (!config.eos && model.has_tokenizer()) end = model.tokenizer().end_of_text();
  Continuation out;
  nn::generate(
      model, prompt, options.count(model, prompt), options.sampling(),
      random::Key{seed}.fold("generate"),
      [&](int id) {
        if (interruptible.requested()) return false;
        out.ended = end == id || config.ends_text(id);
        if (out.ended) return false;
        out.tokens.push_back(id);
        on_token(id);
        return true;
      },
      what);
  return out;
}

Json candidates_json(const nn::Tokenizer* tokenizer, const std::vector<nn::Candidate>& candidates) {
  Json list = Json::list();
  for (const nn::Candidate& c : candidates) {
    const Json token = tokenizer == nullptr ? Json() : Json(json_text(tokenizer->shown(c.id)));
    list.push_back({{"id", c.id}, {"token", token}, {"logit", c.logit}, {"prob", c.probability}});
  }
  return list;
}

}  // namespace vitrine::app
