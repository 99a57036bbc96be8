#include "apps/reports/heads_report.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "apps/experiment/answer_options.h"
#include "apps/reports/neurons_report.h"
#include "apps/reports/patch_report.h"

namespace vitrine::app {
namespace {

using interp::all_heads;
using interp::Head;
using interp::InductionStudy;
using interp::of_head;

std::string with_error(double value, double error, int digits) {
  return std::isnan(error) ? fmt::format("{:+.{}f}", value, digits)
                           : fmt::format("{:+.{}f} ± {:.{}f}", value, digits, error, digits);
}

// A fraction from 0 to 1 that stands out when it is large.
std::string score(double x, double threshold, const Style& style) {
  const std::string text = fmt::format("{:.2f}", x);
  return x >= threshold ? style.strong(text) : text;
}

// What an induction head lacks when it attends and is not called one.
std::string lacking(const interp::Verdict& v) {
  if (!v.attends || v.is_induction_head()) return "";
  std::string text = "attends";
  if (!v.copies) text += ", does not copy";
  if (!v.needed) text += ", is not needed";
  return text;
}

std::string heads_of(const std::vector<Head>& heads) {
  std::string text;
  for (const Head& h : heads) text += (text.empty() ? "" : " and ") + to_string(h);
  return text;
}

// ---- composition --------------------------------------------------------------------------------
struct Composed {
  Head early;
  double q = 0, k = 0, v = 0;
  double largest() const { return std::max({q, k, v}); }
};
// The earlier heads that a head reads most, by the largest of the three.
std::vector<Composed> composed(const HeadsReport& r, const Head& late) {
  std::vector<Composed> all;
  for (const Head& h : all_heads(r.model.config())) {
    if (h.layer >= late.layer) continue;
    const auto of = [&](const Tensor& t) {
      return t.at<double>({h.layer, h.head, late.layer, late.head});
    };
    all.push_back({h, of(r.composition.q), of(r.composition.k), of(r.composition.v)});
  }
  std::stable_sort(all.begin(), all.end(),
                   [](const Composed& a, const Composed& b) { return a.largest() > b.largest(); });
  all.resize(std::min(all.size(), static_cast<std::size_t>(r.top)));
  return all;
}

// ---- for people: all heads ----------------------------------------------------------------------
std::string table_of_heads(const HeadsReport& r, const Style& style) {
  const InductionStudy& s = r.study;
  const double threshold = s.criteria.attends;
  using Align = Table::Align;
  Table table({{"head", Align::left},
               {"previous", Align::right},
               {"duplicate", Align::right},
               {"induction", Align::right},
               {"copies", Align::right},
               {"ablated", Align::right},
               {"called", Align::left}});
  for (const Head& h : all_heads(r.model.config())) {
    const std::string name = called(s, h), lacks = lacking(s.verdict(h));
    table.row({to_string(h), score(of_head(s.scores.previous, h), threshold, style),
               score(of_head(s.scores.duplicate, h), threshold, style),
               score(of_head(s.scores.induction, h), threshold, style),
               with_error(of_head(s.swaps.mean, h), of_head(s.swaps.standard_error, h), 2),
               with_error(of_head(s.ablations.change.mean, h),
                          of_head(s.ablations.change.standard_error, h), 3),
               name.empty()    ? lacks
               : lacks.empty() ? name
                               : name + " (" + lacks + ")"});
  }
  return table.text(style);
}

std::string table_of_paths(const HeadsReport& r, const Style& style) {
  if (r.paths.empty()) return "";
  using Align = Table::Align;
  Table table({{"ablated", Align::left},
               {"induction score of", Align::left},
               {"before", Align::right},
               {"after", Align::right},
               {"by its query alone", Align::right},
               {"by its keys alone", Align::right}});
  for (const interp::PathEffect& p : r.paths) {
    table.row({heads_of(p.ablated), to_string(p.to), fmt::format("{:.2f}", p.unedited),
               fmt::format("{:.2f}", p.everywhere), fmt::format("{:.2f}", p.by_query),
               fmt::format("{:.2f}", p.by_keys)});
  }
  return "\n" + style.bold("What their attention depends on") +
         "\nheads named for what they attend to are replaced by their mean, first for everything "
         "that\nfollows, then only in what the induction head's query (Q composition) or its keys "
         "(K\ncomposition) are made of\n" +
         table.text(style);
}

std::string moved_text(const HeadsReport& r, const Style& style) {
  if (!r.moved) return "";
  using Align = Table::Align;
  const auto reach = (r.moved->moved.dim(1) - 1) / 2;
  Table table({{"head", Align::left},
               {"at the place", Align::right},
               {"moved", Align::right},
               {"one further", Align::right},
               {"moved", Align::right}});
  const auto later = r.study.induction_heads();
  for (std::int64_t i = 0; i < std::ssize(later); ++i) {
    const auto of = [&](const Tensor& t, std::int64_t offset) {
      return fmt::format("{:.2f}", t.at<double>({i, reach + offset}));
    };
    table.row({to_string(later[static_cast<std::size_t>(i)]), of(r.moved->unedited, 0),
               of(r.moved->moved, 0), of(r.moved->unedited, 1), of(r.moved->moved, 1)});
  }
  return "\n" + style.bold("Do they find their place by position?") +
         fmt::format(
             "\nwhat {} say of each position is changed to that of the one after it; a head "
             "that looks up\nthe position looks one further\n",
             heads_of(r.moved_heads)) +
         table.text(style);
}

std::string composition_text(const HeadsReport& r, const Style& style) {
  std::string text;
  const auto call = [&](const Head& h) {
    const std::string name = called(r.study, h);
    return name.empty() ? to_string(h) : to_string(h) + " (" + name + ")";
  };
  for (const Head& late : r.study.induction_heads()) {
    using Align = Table::Align;
    Table table({{"earlier head", Align::left},
                 {"Q", Align::right},
                 {"K", Align::right},
                 {"V", Align::right}});
    for (const Composed& c : composed(r, late)) {
      const auto over = [&](double x) { return fmt::format("{:+.3f}", x - r.baseline.mean); };
      table.row({call(c.early), over(c.q), over(c.k), over(c.v)});
    }
    text += "\n" + style.bold("Composition with " + to_string(late)) +
            fmt::format(", above that of random matrices ({:.3f} ± {:.3f})\n", r.baseline.mean,
                        r.baseline.deviation) +
            table.text(style);
  }
  return text;
}

}  // namespace

std::string called(const InductionStudy& study, const Head& head) {
  std::string name;
  const auto add = [&](const char* what) {
    name += (name.empty() ? "" : ", ") + std::string(what);
  };
  if (study.verdict(head).is_induction_head()) add("induction");
  if (of_head(study.scores.previous, head) >= study.criteria.attends) add("previous-token");
  if (of_head(study.scores.duplicate, head) >= study.criteria.attends) add("duplicate-token");
  return name;
}

std::string HeadsReport::text(const Style& style) const {
  const InductionStudy& s = study;
  const auto half = prompts[0].size() / 2;
  std::string text = fmt::format(
      "{} of twice {} random tokens; said again, a token costs {:.2f} nats (by chance {:.2f})\n",
      prompts.size() == 1 ? "1 sequence" : fmt::format("{} sequences", prompts.size()), half,
      s.ablations.loss, std::log(model.config().vocabulary));
  text += gauge_text(model, true);
  text += fmt::format(
      "previous, duplicate, induction: the mean weight on the token before, on earlier ones that\n"
      "are the same, and on the one after these; {:.2f} or more is named\n"
      "copies: given another token's value, the prediction follows it (change of its logit less "
      "the\nother's; heads that do not attend so: median {:+.2f})\n"
      "ablated: nats that a token said again costs more, the head's output being its mean "
      "(median\nof the others {:+.3f})\n\n",
      s.criteria.attends, s.swap_control, s.ablation_control);
  text += table_of_heads(*this, style);
  const auto heads = s.induction_heads();
  if (heads.empty()) {
    text += fmt::format(
        "\nNo head is called an induction head: none attends ({:.2f}), copies and is needed, the "
        "last two by\nmore than {} standard errors and than the median of the others.\n",
        s.criteria.attends, s.criteria.errors);
  }
  text += table_of_paths(*this, style) + moved_text(*this, style) + composition_text(*this, style);
  return text;
}

// ---- for programs: all heads --------------------------------------------------------------------
namespace {

Json number(double x) { return std::isnan(x) ? Json() : Json(x); }  // no error of a single number
Json head_json(const Head& h) { return {{"layer", h.layer}, {"head", h.head}}; }
Json heads_json(const std::vector<Head>& heads) {
  Json list = Json::list();
  for (const Head& h : heads) list.push_back(head_json(h));
  return list;
}

}  // namespace

Json HeadsReport::json() const {
  const InductionStudy& s = study;
  Json json = {
      {"sequences", prompts.size()},
      {"half", prompts[0].size() / 2},
      {"loss", s.ablations.loss},
      {"criteria", {{"attends", s.criteria.attends}, {"errors", s.criteria.errors}}},
      {"controls", {{"copies", s.swap_control}, {"ablated", s.ablation_control}}},
      {"chance", {{"top", in_context.chance}, {"rank", 0.5}, {"count", in_context.count}}}};
  json["heads"] = Json::list();
  for (const Head& h : all_heads(model.config())) {
    const interp::Verdict v = s.verdict(h);
    Json head = head_json(h);
    head["previous"] = of_head(s.scores.previous, h);
    head["duplicate"] = of_head(s.scores.duplicate, h);
    head["induction"] = of_head(s.scores.induction, h);
    head["copies"] = {{"change", of_head(s.swaps.mean, h)},
                      {"standard_error", number(of_head(s.swaps.standard_error, h))},
                      {"context_top", of_head(in_context.top, h)},
                      {"context_rank", of_head(in_context.rank, h)},
                      {"weights_top", of_head(of_weights.top, h)},
                      {"weights_rank", of_head(of_weights.rank, h)}};
    head["ablated"] = {{"change", of_head(s.ablations.change.mean, h)},
                       {"standard_error", number(of_head(s.ablations.change.standard_error, h))}};
    head["verdict"] = {{"attends", v.attends}, {"copies", v.copies}, {"needed", v.needed}};
    head["called"] = called(s, h);
    json["heads"].push_back(std::move(head));
  }
  json["paths"] = Json::list();
  for (const interp::PathEffect& p : paths) {
    json["paths"].push_back({{"ablated", heads_json(p.ablated)},
                             {"to", head_json(p.to)},
                             {"before", p.unedited},
                             {"after", p.everywhere},
                             {"by_query", p.by_query},
                             {"by_keys", p.by_keys}});
  }
  json["moved"] = moved ? Json{{"heads", heads_json(moved_heads)},
                               {"unedited", nested(moved->unedited)},
                               {"moved", nested(moved->moved)}}
                        : Json();
  json["composition"] = {{"baseline", {{"mean", baseline.mean}, {"deviation", baseline.deviation}}},
                         {"with", Json::list()}};
  for (const Head& late : s.induction_heads()) {
    Json of = {{"to", head_json(late)}, {"from", Json::list()}};
    for (const Composed& c : composed(*this, late)) {
      Json from = head_json(c.early);
      from["q"] = c.q, from["k"] = c.k, from["v"] = c.v;
      of["from"].push_back(std::move(from));
    }
    json["composition"]["with"].push_back(std::move(of));
  }
  return json;
}

NamedTensors HeadsReport::tensors() const {
  NamedTensors tensors;
  const auto put = [&](const char* name, const Tensor& t) {
    tensors.emplace_back(name, t.to(DType::f32));
  };
  put("previous", study.scores.previous);
  put("duplicate", study.scores.duplicate);
  put("induction", study.scores.induction);
  put("composition_q", composition.q);
  put("composition_k", composition.k);
  put("composition_v", composition.v);
  put("copying/swap", study.swaps.mean);
  put("copying/swap_standard_error", study.swaps.standard_error);
  put("ablation/change", study.ablations.change.mean);
  put("ablation/standard_error", study.ablations.change.standard_error);
  return tensors;
}

// ---- one head -----------------------------------------------------------------------------------
namespace {

std::string valued_list(const nn::Model& model, const std::vector<interp::TokenValue>& tokens) {
  std::string text;
  for (const interp::TokenValue& t : tokens) {
    text += fmt::format("{}{} {:+.2f}", text.empty() ? "" : ", ",
                        token_label(tokenizer_of(model), t.id), t.value);
  }
  return text;
}

std::string on_prompt_text(const HeadExplanation& e, const Style& style) {
  const interp::HeadOnPrompt& h = *e.on_prompt;
  const auto token = [&](std::int64_t p) {
    return token_label(tokenizer_of(e.model), (*e.prompt)[static_cast<std::size_t>(p)]);
  };
  using Align = Table::Align;
  Table table({{"from", Align::right},
               {"token", Align::left},
               {"weight", Align::right},
               {"length", Align::right},
               {"raises most", Align::left}});
  for (const interp::HeadSource& s : h.sources) {
    table.row({fmt::format("{}", s.position), token(s.position),
               fmt::format("{:.1f}%", 100 * s.weight), fmt::format("{:.2f}", s.length),
               valued_list(e.model, s.raised)});
  }
  return style.bold(fmt::format("At position {}, {}", h.position, token(h.position))) +
         "\nwhat it attends to, and what it writes from there (logits, the final norm's scale "
         "held)\n" +
         table.text(style) +
         fmt::format("in all, of length {:.2f}: raises {}\n", h.length,
                     valued_list(e.model, h.raised)) +
         fmt::format("lowers {}\n", valued_list(e.model, h.lowered)) +
         "what its query looks for among all tokens, by their embeddings (attention scores, above "
         "the mean)\n" +
         fmt::format("most {}\nleast {}\n\n", valued_list(e.model, h.looks_for),
                     valued_list(e.model, h.avoids));
}

std::string directions_text(const HeadExplanation& e,
                            const std::vector<interp::HeadDirection>& directions, const char* verb,
                            const Style& style) {
  using Align = Table::Align;
  Table table({{"", Align::right},
               {"value", Align::right},
               {"share", Align::right},
               {"a token like", Align::left},
               {verb, Align::left}});
  for (std::size_t i = 0; i < directions.size(); ++i) {
    const interp::HeadDirection& d = directions[i];
    table.row({fmt::format("{}", i + 1), fmt::format("{:.2f}", d.value),
               fmt::format("{:.0f}%", 100 * d.share), token_list(e.model, d.in_high),
               token_list(e.model, d.out_high)});
    table.row({"", "", "", token_list(e.model, d.in_low), token_list(e.model, d.out_low)});
  }
  return table.text(style);
}

Json directions_json(const HeadExplanation& e,
                     const std::vector<interp::HeadDirection>& directions) {
  Json list = Json::list();
  for (const interp::HeadDirection& d : directions) {
    list.push_back({{"value", d.value},
                    {"share", d.share},
                    {"in_high", tokens_json(e.model, d.in_high)},
                    {"out_high", tokens_json(e.model, d.out_high)},
                    {"in_low", tokens_json(e.model, d.in_low)},
                    {"out_low", tokens_json(e.model, d.out_low)}});
  }
  return list;
}

}  // namespace

std::string HeadExplanation::text(const Style& style) const {
  std::string text =
      style.bold("head " + to_string(weights.head)) + "\n" + gauge_text(model, true) + "\n";
  if (on_prompt != nullptr) text += on_prompt_text(*this, style);
  text += style.bold("From the weights alone") +
          "\nthe strongest singular directions, both ends of each, tokens read by their embeddings "
          "without\nposition: in the layers after the first a head sees more than that\n\n";
  text +=
      "what it attends to (W_Q W_K^T)\n" + directions_text(*this, weights.qk, "looks for", style);
  return text + "\nwhat it writes (W_V W_O)\n" +
         directions_text(*this, weights.ov, "is written as", style);
}

Json HeadExplanation::json() const {
  Json json = head_json(weights.head);
  json["prompt"] = Json();
  if (on_prompt != nullptr) {
    const interp::HeadOnPrompt& h = *on_prompt;
    const nn::Tokenizer* t = tokenizer_of(model);
    Json sources = Json::list();
    for (const interp::HeadSource& s : h.sources) {
      sources.push_back({{"pos", s.position},
                         {"weight", s.weight},
                         {"length", s.length},
                         {"raised", tokens_json(model, s.raised)}});
    }
    json["prompt"] = {{"tokens", *prompt},
                      {"str_tokens", t == nullptr ? Json() : Json(t->shown_tokens(*prompt))},
                      {"position", h.position},
                      {"sources", sources},
                      {"length", h.length},
                      {"raised", tokens_json(model, h.raised)},
                      {"lowered", tokens_json(model, h.lowered)},
                      {"looks_for", tokens_json(model, h.looks_for)},
                      {"avoids", tokens_json(model, h.avoids)}};
  }
  json["weights"] = {{"qk", directions_json(*this, weights.qk)},
                     {"ov", directions_json(*this, weights.ov)}};
  return json;
}

}  // namespace vitrine::app
