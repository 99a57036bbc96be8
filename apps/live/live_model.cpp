#include "apps/live/live_model.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <optional>

#include "apps/experiment/edit_text.h"
#include "apps/live/numbers_of_run.h"
#include "apps/options/options.h"
#include "apps/pages/page.h"
#include "interp/patching.h"
#include "nn/families/sites.h"
#include "sae/sae.h"
#include "tensor/error.h"

namespace vitrine::app {
namespace {

constexpr std::int64_t kMostTokens = 512;  // of a prompt: a page shows no more
constexpr std::size_t kMostEdits = 512;
constexpr std::size_t kMostMapped = 64;    // tokens of prompts whose every position is patched
constexpr std::int64_t kMostPattern = 96;  // tokens of which a whole pattern is sent

}  // namespace

// ---- the question -------------------------------------------------------------------------------
struct LiveModel::Question {
  std::optional<std::string> prompt;  // its text, if it was given as one
  nn::Tokens tokens;
  std::int64_t position = 0;
  int top = 10, features = 0;
  std::vector<std::vector<std::int64_t>> watched;  // of each SAE, features besides the strongest
  bool lens = false;
  std::optional<int> layer;  // whose attention is asked for
  int head = 0;
  std::vector<std::string> edits;
};

LiveModel::LiveModel(nn::Model model, Setup setup)
    : model_(std::move(model)),
      setup_(std::move(setup)),
      maker_(model_, {.encode = setup_.encode}) {}

std::string LiveModel::acts_site(std::size_t sae) const {
  return sae::trained_site(*setup_.saes[sae].sae) + ".hook_sae_acts_post";
}

Json LiveModel::description() const {
  const nn::Config& c = model_.config();
  Json saes = Json::list();
  for (std::size_t i = 0; i < setup_.saes.size(); ++i) {
    saes.push_back({{"name", json_text(setup_.names[i])},
                    {"site", acts_site(i)},
                    {"features", setup_.saes[i].sae->config.d_sae}});
  }
  return {{"name", json_text(model_.name())},
          {"layers", c.layers},
          {"heads", c.heads},
          {"vocabulary", c.vocabulary},
          {"tokenizer", model_.has_tokenizer()},
          {"most_tokens", std::min<std::int64_t>(kMostTokens, c.context)},
          {"saes", saes}};
}

nn::Tokens LiveModel::prompt_in(const JsonReader& request, const char* text,
                                const char* ids) const {
  nn::Tokens tokens;
  const bool given = request.has(text);
  if (given == request.has(ids)) request.fail(fmt::format("give {} or {}", text, ids));
  if (given) {
    if (!model_.has_tokenizer())
      throw TokenError(model_.why_no_tokenizer() + "; give token ids instead of text: 1,2,3");
    tokens = setup_.encode(request.at(text).text());
  } else {
    for (const std::int64_t id : request.at(ids).wholes(0, INT32_MAX))
      tokens.push_back(static_cast<int>(id));
  }
  if (tokens.empty()) throw ContextError("the prompt is empty; it needs at least one token");
  const auto most = std::min<std::int64_t>(kMostTokens, model_.config().context);
  if (std::ssize(tokens) > most)
    throw ContextError(
        fmt::format("the prompt has {} tokens; this page takes at most {}", tokens.size(), most));
  nn::check_prompts({tokens}, model_.config());
  return tokens;
}

LiveModel::Question LiveModel::question(const JsonReader& request) const {
  request.only({"tab", "turn", "prompt", "tokens", "edits", "position", "top", "features",
                "watched", "lens", "attention"});
  Question q;
  q.tokens = prompt_in(request, "prompt", "tokens");
  if (request.has("prompt")) q.prompt = request.at("prompt").text();
  const std::int64_t n = std::ssize(q.tokens);
  q.position = request.at("position").whole_or(-1, -n, n - 1);
  if (q.position < 0) q.position += n;
  q.top = static_cast<int>(request.at("top").whole_or(10, 1, 100));
  q.features = static_cast<int>(request.at("features").whole_or(0, 0, 200));
  q.watched.resize(setup_.saes.size());
  if (request.has("watched")) {
    const auto lists = request.at("watched").list(std::ssize(setup_.saes));
    for (std::size_t i = 0; i < lists.size(); ++i)
      q.watched[i] = lists[i].wholes(0, setup_.saes[i].sae->config.d_sae - 1);
  }
  q.lens = request.at("lens").flag_or(false);
  const nn::Config& c = model_.config();
  if (const JsonReader attention = request.at("attention"); attention.given()) {
    attention.only({"layer", "head"});
    q.layer = static_cast<int>(attention.at("layer").whole(0, c.layers - 1));
    q.head = static_cast<int>(attention.at("head").whole(0, c.heads - 1));
  }
  if (request.has("edits")) {
    for (const JsonReader& edit : request.at("edits").list()) q.edits.push_back(edit.text());
    if (q.edits.size() > kMostEdits)
      request.at("edits").reject(fmt::format("at most {} edits", kMostEdits));
  }
  return q;
}

// ---- a run --------------------------------------------------------------------------------------
namespace {

// The edits of a page read no files: what is in them is not the page's to see.
EditText edit_of_page(const std::string& text) {
  EditText edit = parse_edit(text);
  if (!edit.from.empty() && edit.action != EditText::Action::patch)
    throw Error(ErrorKind::usage,
                fmt::format("the edit '{}': an edit of the page reads no files; give a text: "
                            "over='TEXT', toward=' TOKEN', or plus='TEXT' minus='TEXT'",
                            text));
  return edit;
}

}  // namespace

std::vector<nn::StandingEdit> LiveModel::edits_of(const Question& q) const {
  std::vector<nn::StandingEdit> edits;
  int stage = 0;
  for (const std::string& text : q.edits) {
    const EditText parsed = edit_of_page(text);
    if (parsed.later && !edits.empty()) ++stage;
    try {
      for (nn::StandingEdit& e : maker_.make(parsed)) {
        e.stage = stage;
        edits.push_back(std::move(e));
      }
    } catch (const Error& error) {
      if (error.kind() == ErrorKind::interrupted) throw;
      throw Error(error.kind(), fmt::format("the edit '{}': {}", text, error.what()));
    }
  }
  return edits;
}

Results LiveModel::results_of(const Question& q, const Interventions& what, const Fetch& wanted,
                              const std::atomic<bool>& cancelled) const {
  const Metric outputs = live_outputs(model_.config(), q.position, q.lens);
  return model_.run_edited({q.tokens}, what, wanted, &outputs, {.cancel = &cancelled}).results;
}

Tensor LiveModel::clean_logits(const Question& q, const std::atomic<bool>& cancelled) const {
  return clean_.get(fmt::format("{} at {}", fmt::join(q.tokens, " "), q.position), [&] {
    Question plain = q;
    plain.lens = false;
    return results_of(plain, {}, fetch(value(kLiveLogits)), cancelled).raw(kLiveLogits);
  });
}

Json LiveModel::run(const JsonReader& request, const std::atomic<bool>& cancelled) const {
  const Question q = question(request);
  const std::vector<nn::StandingEdit> edits = edits_of(q);
  const Tensor clean_row = clean_logits(q, cancelled);
  Fetch wanted = fetch(value(kLiveLogits));
  if (q.lens) wanted.wants.push_back(value(kLiveLens));
  if (q.layer) wanted.wants.push_back(as_want(site::pattern(*q.layer)));
  if (q.features > 0) {
    for (std::size_t i = 0; i < setup_.saes.size(); ++i)
      wanted.wants.push_back(before(Site{acts_site(i)}));
  }
  const bool plain = edits.empty() && wanted.wants.size() == 1;
  const Results results =
      plain ? Results()
            : results_of(q, nn::standing_in(edits, {q.tokens}).named("edit"), wanted, cancelled);
  const Distribution clean(clean_row), now = plain ? clean : Distribution(results.raw(kLiveLogits));

  const nn::Tokenizer* t = tokenizer_of(model_);
  Json json = {{"tokens", q.tokens},
               {"str_tokens", t == nullptr ? Json() : Json(t->shown_tokens(q.tokens))},
               {"position", q.position},
               {"top", candidates(now.highest(q.top), now, clean)},
               {"clean", candidates(clean.highest(q.top), now, clean)},
               {"kl", rounded_for_page(clean.divergence_to(now))}};
  json["lens"] = q.lens ? lens_json(results.raw(kLiveLens)) : Json();
  json["attention"] = q.layer ? attention_json(q, results) : Json();
  json["features"] = q.features > 0 ? features_json(q, results) : Json();
  json["command"] = command(q);
  json["edits"] = Json::list();
  for (const nn::StandingEdit& e : edits) json["edits"].push_back(json_text(e.to_text()));
  return json;
}

Json LiveModel::candidates(const std::vector<int>& ids, const Distribution& now,
                           const Distribution& clean) const {
  Json list = Json::list();
  for (const int id : ids) {
    Json one = token_json(model_, id);
    one["logit"] = rounded_for_page(now.logit(id));
    one["prob"] = rounded_for_page(now.probability(id));
    one["clean_logit"] = rounded_for_page(clean.logit(id));
    one["clean_prob"] = rounded_for_page(clean.probability(id));
    one["logit_change"] = rounded_for_page(now.logit(id) - clean.logit(id));
    one["prob_change"] = rounded_for_page(now.probability(id) - clean.probability(id));
    list.push_back(std::move(one));
  }
  return list;
}

Json LiveModel::lens_json(const Tensor& logits) const {
  Json stages = Json::list();
  for (std::int64_t s = 0; s < logits.dim(0); ++s) {
    const Distribution at(logits.slice(0, s, s + 1));
    constexpr int kShown = 3;
    Json top = Json::list();
    for (const int id : at.highest(kShown)) {
      Json one = token_json(model_, id);
      one["logit"] = rounded_for_page(at.logit(id));
      one["prob"] = rounded_for_page(at.probability(id));
      top.push_back(std::move(one));
    }
    stages.push_back(
        {{"stage", s == 0 ? "embedding" : fmt::format("layer {}", s - 1)}, {"top", top}});
  }
  return stages;
}

Json LiveModel::attention_json(const Question& q, const Results& results) const {
  const Tensor pattern =
      results[site::pattern(*q.layer)].select(0, 0).select(0, q.head);  // [query, key]
  Json json = {{"layer", *q.layer}, {"head", q.head}};
  json["row"] = for_page(pattern.select(0, q.position).contiguous(), 4);
  json["pattern"] = pattern.dim(0) > kMostPattern ? Json() : for_page(pattern.contiguous(), 4);
  return json;
}

Json LiveModel::features_json(const Question& q, const Results& results) const {
  Json list = Json::list();
  for (std::size_t i = 0; i < setup_.saes.size(); ++i) {
    const std::string site = acts_site(i);
    const Tensor at = results.raw(before_name(site)).select(0, q.position).contiguous();
    const auto acts = at.to_vector<double>();  // [feature], or [head, feature] one after the other
    std::vector<int> active;
    for (std::size_t f = 0; f < acts.size(); ++f)
      if (acts[f] > 0) active.push_back(static_cast<int>(f));
    std::stable_sort(active.begin(), active.end(), [&](int a, int b) {
      return acts[static_cast<std::size_t>(a)] > acts[static_cast<std::size_t>(b)];
    });
    const auto shown = [&](std::int64_t f) {
      return Json{{"feature", f},
                  {"activation", rounded_for_page(acts[static_cast<std::size_t>(f)])}};
    };
    Json strongest = Json::list(), watched = Json::list();
    for (std::size_t k = 0; k < active.size() && static_cast<int>(k) < q.features; ++k)
      strongest.push_back(shown(active[k]));
    for (const std::int64_t f : q.watched[i]) watched.push_back(shown(f));
    list.push_back({{"sae", json_text(setup_.names[i])},
                    {"site", site},
                    {"active", active.size()},
                    {"strongest", strongest},
                    {"watched", watched}});
  }
  return list;
}

// ---- the command that repeats it ------------------------------------------------------------------
// `predict` looks at the last position: of another one, the prompt up to it, with the edits that it has.
Json LiveModel::command(const Question& q) const {
  std::vector<std::string> words = {"vitrine", "predict"};
  words.insert(words.end(), setup_.options.begin(), setup_.options.end());
  const bool whole = q.position + 1 == std::ssize(q.tokens);
  if (whole && q.prompt && *q.prompt != "-") {
    words.insert(words.end(), {"--prompt", *q.prompt});
    words.insert(words.end(), setup_.text_options.begin(), setup_.text_options.end());
  } else {
    words.insert(
        words.end(),
        {"--tokens",
         fmt::format("{}", fmt::join(q.tokens.begin(), q.tokens.begin() + q.position + 1, ","))});
  }
  std::vector<std::string> edits;
  bool of_sae = false;
  for (const std::string& text : q.edits) {
    const EditText edit = parse_edit(text);
    const bool later =
        !edit.positions.empty() &&
        std::all_of(edit.positions.begin(), edit.positions.end(),
                    [&](const auto& p) { return p.role.empty() && p.index > q.position; });
    if (later) continue;
    of_sae = of_sae || edit.site.find("hook_sae_") != edit.site.npos;
    edits.insert(edits.end(), {"--edit", text});
  }
  for (const std::string& name : setup_.names)
    if (of_sae) words.insert(words.end(), {"--sae", name});
  words.insert(words.end(), edits.begin(), edits.end());
  Json json = Json::list();
  for (const std::string& word : words) json.push_back(json_text(word));
  return json;
}

// ---- patches --------------------------------------------------------------------------------------
namespace {

// Null where two prompts of so many tokens can be mapped.
Json why_no_map(std::size_t tokens, std::size_t second) {
  if (tokens != second)
    return fmt::format("they do not line up: the prompt has {} tokens, the second {}", tokens,
                       second);
  if (tokens > kMostMapped)
    return fmt::format("a map is drawn of prompts of at most {} tokens; these have {}", kMostMapped,
                       tokens);
  return {};
}

}  // namespace

Json LiveModel::patches(const JsonReader& request, const std::atomic<bool>& cancelled) const {
  request.only({"tab", "turn", "prompt", "tokens", "second", "second_tokens", "site"});
  Question clean, corrupt;
  clean.tokens = prompt_in(request, "prompt", "tokens");
  corrupt.tokens = prompt_in(request, "second", "second_tokens");
  clean.position = std::ssize(clean.tokens) - 1;
  corrupt.position = std::ssize(corrupt.tokens) - 1;
  const nn::Tokenizer* t = tokenizer_of(model_);
  const auto shown = [&](const nn::Tokens& tokens) {
    return t == nullptr ? Json() : Json(t->shown_tokens(tokens));
  };
  Json json = {{"why_not", why_no_map(clean.tokens.size(), corrupt.tokens.size())},
               {"tokens", clean.tokens},
               {"str_tokens", shown(clean.tokens)},
               {"second_tokens", corrupt.tokens},
               {"second_str_tokens", shown(corrupt.tokens)}};
  if (!json["why_not"].is_null()) return json;
  constexpr std::string_view kSites[] = {"resid_pre", "attn_out", "mlp_out"};
  const std::string site = request.at("site").text_or("resid_pre");
  if (std::find(std::begin(kSites), std::end(kSites), site) == std::end(kSites))
    request.at("site").reject(alternatives(kSites));

  // The two most probable next tokens decide between the prompts, or the second of one.
  const std::vector<int> answers = Distribution(clean_logits(clean, cancelled)).highest(1);
  const std::vector<int> others = Distribution(clean_logits(corrupt, cancelled)).highest(2);
  const int wrong = others[0] != answers[0] || others.size() == 1 ? others[0] : others[1];
  interp::SweepSpec spec;
  spec.site = site;
  spec.direction = interp::Direction::noise;
  spec.memory = std::int64_t{128} << 20;
  spec.cancel = &cancelled;
  const interp::PatchSweep sweep =
      interp::patch_sweep(model_, {clean.tokens, corrupt.tokens, answers[0], wrong}, spec);
  Tensor changes = sweep.values.to(DType::f64).clone();
  for (std::int64_t i = 0; i < changes.numel(); ++i) changes.data<double>()[i] -= sweep.clean;

  json["site"] = site;
  json["layers"] = sweep.layers;
  json["answer"] = token_json(model_, answers[0]);
  json["wrong"] = token_json(model_, wrong);
  json["clean"] = rounded_for_page(sweep.clean);
  json["corrupt"] = rounded_for_page(sweep.corrupt);
  json["values"] = for_page(sweep.values, 4);
  json["changes"] = for_page(changes, 4);
  return json;
}

}  // namespace vitrine::app
