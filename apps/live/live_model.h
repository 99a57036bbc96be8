// One model for all tabs of the live page: what a request asks of it, as JSON.
//
// A request is edits of the model's graph, as they are typed for --edit, and what to look at. Runs
// are const: any number of them share the weights, and plans, which the model keeps for the last
// lengths and structures of edits. What differs in its numbers alone (a position, a head, a factor)
// runs an old plan.
#pragma once

#include <atomic>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "apps/experiment/edit_maker.h"
#include "apps/experiment/edit_options.h"
#include "apps/live/numbers_of_run.h"
#include "apps/terminal/output.h"
#include "nn/model/model.h"
#include "tensor/files/json_reader.h"

namespace vitrine::app {

class LiveModel {
 public:
  struct Setup {
    std::vector<SplicedSae> saes;           // that were spliced into the model
    std::vector<std::string> names;         // as they are called after --sae
    std::vector<std::string> options;       // of a command that repeats a run: --model, --gauge
    std::vector<std::string> text_options;  // the same where the prompt is a text: --prepend-bos
    std::function<nn::Tokens(std::string_view)> encode;  // the ids of a prompt
  };
  LiveModel(nn::Model model, Setup setup);
  LiveModel(const LiveModel&) = delete;
  LiveModel& operator=(const LiveModel&) = delete;

  // What the page must know: {name, layers, heads, d_model, vocabulary, tokenizer, sites of SAEs, ...}.
  Json description() const;

  // Runs a prompt under edits, beside the same without them:
  //   {prompt or tokens, edits: ["zero 3.z head=2"], position, top, lens, attention: {layer, head}, features,
  //    watched: [of each SAE [feature]]}
  // gives
  //   {tokens, str_tokens, position, top: [{id, token, logit, prob, clean_logit, clean_prob,
  //    logit_change, prob_change}], clean: [the same, the most probable without edits], kl, lens:
  //   [{stage, id, token, logit, prob}], attention: {layer, head, row, pattern}, features: [{sae, site,
  //    active, strongest: [{feature, activation}], watched}], command: [words], edits: [text]}
  // Throws Error for what is asked wrongly, and InterruptedError once `cancelled` is set.
  Json run(const JsonReader& request, const std::atomic<bool>& cancelled) const;

  // What each layer and position carries of the difference between two prompts: the stream of
  // the prompt is replaced there by that of `second`. {prompt, second, site} gives {why_not, tokens,
  // str_tokens, second_tokens, second_str_tokens} and, where `why_not` is null, {site,
  // layers, answer, wrong, clean, corrupt, values: [layer][position], changes}.
  Json patches(const JsonReader& request, const std::atomic<bool>& cancelled) const;

 private:
  struct Question;
  Question question(const JsonReader& request) const;
  nn::Tokens prompt_in(const JsonReader& request, const char* text, const char* ids) const;
  std::vector<nn::StandingEdit> edits_of(const Question& q) const;
  Results results_of(const Question& q, const Interventions& what, const Fetch& wanted,
                     const std::atomic<bool>& cancelled) const;
  Tensor clean_logits(const Question& q, const std::atomic<bool>& cancelled) const;
  Json candidates(const std::vector<int>& ids, const Distribution& now,
                  const Distribution& clean) const;
  Json lens_json(const Tensor& logits) const;
  Json attention_json(const Question& q, const Results& results) const;
  Json features_json(const Question& q, const Results& results) const;
  Json command(const Question& q) const;
  std::string acts_site(std::size_t sae) const;

  const nn::Model model_;
  const Setup setup_;
  const EditMaker maker_;
  mutable KeptTensors clean_;  // logits without edits, by prompt and position
};

}  // namespace vitrine::app
