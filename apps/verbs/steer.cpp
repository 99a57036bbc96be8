// vitrine steer: continues a prompt with a direction added, beside the plain text.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <optional>

#include "apps/experiment/data_set_options.h"
#include "apps/experiment/edit_options.h"
#include "apps/experiment/metric_options.h"
#include "apps/options/continuation.h"
#include "apps/reports/data_set_report.h"
#include "apps/reports/profile_report.h"
#include "apps/terminal/progress.h"
#include "apps/verbs/verbs.h"
#include "interp/steering.h"
#include "tensor/error.h"

namespace vitrine::app {
namespace {

// ---- the direction ------------------------------------------------------------------------------
struct SteeringDirection {
  Tensor tensor;
  std::string text;  // what people call it
  Json json;         // {source, plus, minus, positions, file, tensor, token}
};

// Where the direction comes from: two prompts, a file, or a token.
class DirectionOptions {
 public:
  explicit DirectionOptions(const PromptOptions& prompt)
      : prompt_(prompt), plus_("plus", &prompt), minus_("minus", &prompt) {}
  DirectionOptions(const DirectionOptions&) = delete;
  DirectionOptions& operator=(const DirectionOptions&) = delete;

  void add_to(CommandLine& line) {
    const std::string heading = "Direction";
    plus_.add_to(line, heading, "the direction is what the model holds after this text ...");
    minus_.add_to(line, heading, "... less what it holds after this one");
    line.heading(heading);
    positions_option_ = line.option("--positions", positions_, "last|mean",
                                    "compare the last tokens of the two, or the means over\n"
                                    "all (default: last)")
                            ->one_of({"last", "mean"});
    file_option_ = line.option("--direction", file_, "FILE",
                               "or: read the direction from a .safetensors or .npy file");
    tensor_option_ = line.option("--tensor", tensor_, "NAME",
                                 "which tensor of the file (default: the only one)");
    toward_.add_to(line, "or: the unembedding vector of this token");
    line.heading("Options");
  }

  // Throws Error (usage) unless there is one source, all of it.
  void require(const CommandLine& line, bool stdin_is_taken) {
    const bool prompts = plus_.given() || minus_.given(), file = file_option_->count() > 0;
    const int sources = int{prompts} + int{file} + int{toward_.given()};
    if (sources == 0) {
      line.fail(
          "there is no direction; give --plus TEXT and --minus TEXT, --direction FILE, or "
          "--toward TOKEN");
    }
    if (sources > 1)
      line.fail("give one direction: --plus and --minus, or --direction, or --toward");
    if (positions_option_->count() > 0 && !prompts)
      line.fail("--positions is about the prompts of --plus and --minus");
    if (tensor_option_->count() > 0 && !file)
      line.fail("--tensor names a tensor of a file; give --direction FILE too");
    if (toward_.given()) toward_.require(line);
    if (!prompts) return;
    for (const auto& [there, absent] : {std::pair{"plus", &minus_}, std::pair{"minus", &plus_}}) {
      if (absent->given()) continue;
      const char* name = absent == &minus_ ? "minus" : "plus";
      line.fail(
          fmt::format("--{0} without --{1}: the direction is the difference of two prompts; "
                      "give --{1} too, the opposite of --{0}, or the same without what "
                      "matters",
                      there, name));
    }
    if (int{stdin_is_taken} + int{plus_.from_stdin()} + int{minus_.from_stdin()} > 1)
      line.fail("only one of the prompts can come from stdin");
    plus_.require(line);
    minus_.require(line);
  }

  // Throws what the directions of interp/steering.h throw, TokenError for text without a tokenizer,
  // and Error (input) for a direction that is zero.
  SteeringDirection make(const nn::Model& model, const Site& site, std::optional<int> head) const {
    if (!model.has_tokenizer() && (plus_.by_text() || minus_.by_text() || toward_.by_text())) {
      throw TokenError(model.why_no_tokenizer() +
                       "; give ids: --plus-tokens and --minus-tokens, or --toward-token");
    }
    SteeringDirection d;
    d.json = {{"source", nullptr}, {"plus", nullptr},   {"minus", nullptr}, {"positions", nullptr},
              {"file", nullptr},   {"tensor", nullptr}, {"token", nullptr}};
    if (toward_.given()) {
      const int id = toward_.id(model);
      d.tensor = interp::direction_toward(model, site, id, head);
      d.text = fmt::format("the unembedding vector of {}", token_label(tokenizer_of(model), id));
      d.json["source"] = "token";
      d.json["token"] = id;
    } else if (file_option_->count() > 0) {
      d.tensor = interp::direction_from(model, site, file_, tensor_, head);
      d.text = tensor_.empty() ? visible(file_)
                               : fmt::format("{} of {}", visible(tensor_), visible(file_));
      d.json["source"] = "file";
      d.json["file"] = json_text(file_);
      if (!tensor_.empty()) d.json["tensor"] = json_text(tensor_);
    } else {
      make_of_prompts(model, site, head, d);
    }
    if (interp::norm(d.tensor) > 0) return d;
    throw Error(ErrorKind::input,
                fmt::format("the direction at {} is zero everywhere: {}", site.name,
                            file_option_->count() > 0
                                ? "the file holds nothing else"
                                : "both prompts have the same activation there; take a later "
                                  "site, other prompts, or --positions mean"));
  }

 private:
  void make_of_prompts(const nn::Model& model, const Site& site, std::optional<int> head,
                       SteeringDirection& d) const {
    const bool mean = positions_ == "mean";
    const nn::Tokens plus = plus_.tokens(model), minus = minus_.tokens(model);
    d.tensor = interp::direction(model, site, plus, minus,
                                 mean ? interp::Positions::mean : interp::Positions::last, head);
    const auto shown = [&](const nn::Tokens& tokens) {
      constexpr int kWidest = 44;
      return shortened(tokenizer_of(model) != nullptr
                           ? nn::quote(model.tokenizer().shown_text(tokens))
                           : fmt::format("[{}]", fmt::join(tokens, " ")),
                       kWidest);
    };
    d.text = fmt::format("{} - {}, {}", shown(plus), shown(minus),
                         mean ? "mean over positions" : "last position");
    d.json["source"] = "prompts";
    d.json["plus"] = plus;
    d.json["minus"] = minus;
    d.json["positions"] = positions_;
  }

  const PromptOptions& prompt_;
  PromptOptions plus_, minus_;
  TokenOptions toward_{"toward"};
  std::string positions_ = "last", file_, tensor_;
  const Option* positions_option_ = nullptr;
  const Option* file_option_ = nullptr;
  const Option* tensor_option_ = nullptr;
};

// ---- what was written ---------------------------------------------------------------------------
struct Text {
  double scale = 0;  // as asked for
  double norm = 0;   // of what was added at each token
  Continuation continuation;
  std::vector<nn::Candidate> top;  // for the first token
};

struct Report {
  const nn::Model& model;
  const nn::Tokens& prompt;
  const Site& site;
  std::optional<int> head;  // which is steered alone
  const SteeringDirection& direction;
  bool normalize;
  interp::Norms norms;  // of what is there when nothing is added
  Text plain;
  std::vector<Text> steered;
};

std::string as_text(const Report& r, const nn::Tokens& tokens) {
  const nn::Tokenizer* tokenizer = tokenizer_of(r.model);
  return tokenizer != nullptr ? nn::replace_invalid_utf8(tokenizer->shown_text(tokens))
                              : fmt::format("{}", fmt::join(tokens, " "));
}

// The prompt and what comes after it. A character may have its bytes on both sides.
std::string whole_text(const Report& r, const Text& t, const Style& style) {
  const std::string prompt = as_text(r, r.prompt);
  nn::Tokens tokens = r.prompt;
  tokens.insert(tokens.end(), t.continuation.tokens.begin(), t.continuation.tokens.end());
  const std::string whole = as_text(r, tokens);
  if (!whole.starts_with(prompt)) return whole + "\n";
  return style.dim(prompt) + whole.substr(prompt.size()) + "\n";
}

// `where`: " at every token"; `over`: whose norms they are.
std::string introduction(const Site& site, std::optional<int> head, const std::string& where,
                         bool normalize, const SteeringDirection& direction, const interp::Norms& n,
                         const std::string& over, const Style& style) {
  return fmt::format(
      "steering {}{}{}; scale 1 is {}\n"
      "direction: {}\n"
      "norms: the direction {:.2f}; what is there, over {}: mean {:.2f}, least {:.2f}, most "
      "{:.2f}, last {:.2f}\n\n",
      head ? fmt::format("head {} of ", *head) : "", style.bold(site.name), where,
      normalize ? "as long as what is there on average" : "the direction as it is", direction.text,
      interp::norm(direction.tensor), over, n.mean, n.least, n.most, n.last);
}

// One row for each text: the most probable first tokens.
std::string first_tokens(const Report& r, const Style& style) {
  using Align = Table::Align;
  std::vector<Table::Column> columns = {{"next token", Align::left}};
  for (std::size_t i = 0; i < r.plain.top.size(); ++i) {
    columns.push_back({fmt::format("{}", i + 1), Align::left});
    columns.push_back({"", Align::right});
  }
  Table table(columns);
  const auto row = [&](const std::string& name, const Text& t) {
    std::vector<std::string> cells = {name};
    for (std::size_t i = 0; i < t.top.size(); ++i) {
      const std::string label = token_label(tokenizer_of(r.model), t.top[i].id);
      cells.push_back(i == 0 ? style.strong(label) : label);
      cells.push_back(percent(t.top[i].probability));
    }
    table.row(std::move(cells));
  };
  row("plain", r.plain);
  for (const Text& t : r.steered) row(fmt::format("scale {:g}", t.scale), t);
  return table.text(style);
}

std::string as_table(const Report& r, const Style& style) {
  const std::size_t count = r.prompt.size();
  std::string text = introduction(
      r.site, r.head, " at every token of prompt and text", r.normalize, r.direction, r.norms,
      fmt::format("the prompt's {} token{}", count, count == 1 ? "" : "s"), style);
  text += style.bold("plain") + "\n" + whole_text(r, r.plain, style) + "\n";
  for (const Text& t : r.steered) {
    text += style.bold(fmt::format("scale {:g}", t.scale)) +
            style.dim(fmt::format("  adds {:.2f}, {:.2f} of the mean norm", t.norm,
                                  t.norm / r.norms.mean)) +
            "\n" + whole_text(r, t, style) + "\n";
  }
  return text + first_tokens(r, style);
}

Json norms_json(const SteeringDirection& direction, const interp::Norms& n) {
  return {{"direction", interp::norm(direction.tensor)},
          {"site", {{"mean", n.mean}, {"least", n.least}, {"most", n.most}, {"last", n.last}}}};
}

Json as_json(const Report& r) {
  const auto entry = [&](const Text& t) {
    return Json{{"tokens", t.continuation.tokens},
                {"text", t.continuation.text(r.model)},
                {"stopped", t.continuation.stopped()},
                {"top", candidates_json(tokenizer_of(r.model), t.top)}};
  };
  Json json = {{"site", r.site.name},       {"direction", r.direction.json},
               {"normalize", r.normalize},  {"norms", norms_json(r.direction, r.norms)},
               {"prompt_tokens", r.prompt}, {"plain", entry(r.plain)},
               {"steered", Json::list()}};
  if (r.head) json["head"] = *r.head;
  for (const Text& t : r.steered) {
    Json steered = {{"scale", t.scale}, {"norm", t.norm}};
    steered.update(entry(t));
    json["steered"].push_back(steered);
  }
  return json;
}

// ---- the work -----------------------------------------------------------------------------------
struct Options {
  CommonOptions common;
  EditOptions edits;
  PromptOptions prompt;
  DataSetOptions data;
  MetricOptions metric;
  DirectionOptions direction{prompt};
  SiteOptions site{"resid_post"};
  SamplingOptions sampling;
  std::vector<double> scales = {1};
  bool normalize = false;
  int top = 5;
  std::string pos;
  std::vector<interp::Position> positions;  // of prompts of a file; none: all
};

// How much of the direction a scale is.
double factor_of(double scale, bool normalize, double there, double length) {
  return normalize ? scale * there / length : scale;
}

void write_texts(Report& r, const Options& options, const Interruptible& interruptible) {
  const auto texts = static_cast<double>(1 + r.steered.size());
  const double count = options.sampling.count(r.model, r.prompt);
  const double length = interp::norm(r.direction.tensor);
  Progress progress("writing", "tokens", options.common.quiet);
  double done = 0;
  const auto write = [&](Text& t, const Interventions& what) {
    const Tensor logits = nn::next_logits(r.model, r.prompt, what);
    t.top = nn::top_tokens({logits.data<float>(), static_cast<std::size_t>(logits.numel())},
                           options.top);
    double written = 0;
    t.continuation = continue_prompt(
        r.model, r.prompt, options.sampling, options.common.seed, interruptible,
        [&](int) { progress.update(done + ++written, texts * count); }, what);
    interruptible.check();
    done += count;
  };
  Where where;
  if (r.head) where.head = {*r.head};
  write(r.plain, {});
  for (Text& t : r.steered) {
    const double factor = factor_of(t.scale, r.normalize, r.norms.mean, length);
    t.norm = std::abs(factor) * length;
    write(t, {add(r.site, r.direction.tensor, factor, where)});
  }
}

// ---- many prompts -------------------------------------------------------------------------------
// The metric, and its change from the plain run, for each scale.
void steer_prompts(const CommandLine& line, Options& o) {
  const Interruptible interruptible;
  const nn::Model model = o.common.load();
  const Site site = o.site.site(model);
  const std::optional<int> head = o.site.head();
  const interp::MetricSpec metric = o.metric.spec();
  const auto examples = o.data.examples(model, o.prompt, needs_of({metric}));
  o.edits.know(examples);
  const auto groups = o.data.groups(examples);
  const std::vector<nn::Tokens> prompts = interp::prompts_of(examples);
  const SteeringDirection direction = o.direction.make(model, site, head);
  const interp::Norms norms = interp::norms(model, site, prompts, head);
  const double length = interp::norm(direction.tensor);

  std::vector<double> scales = {0}, factors;  // with nothing added, the run is the plain one
  scales.insert(scales.end(), o.scales.begin(), o.scales.end());
  for (const double s : scales) factors.push_back(factor_of(s, o.normalize, norms.mean, length));
  const Tensor values = interp::steered(model, examples, site, direction.tensor, factors, metric,
                                        &interruptible.requested(), head,
                                        o.positions);  // [scale, prompt]
  ProfileReport report{.model = model,
                       .examples = examples,
                       .groups = groups,
                       .field = o.data.group_by(),
                       .axis = "scale",
                       .columns = {{"value", {}}, {"change", {}}},
                       .each = o.data.each(),
                       .heading = ""};
  report.columns[0].title = metric.name;
  report.columns[1].title = "change from plain";
  Json added = Json::list();
  for (std::size_t f = 0; f < factors.size(); ++f) {
    report.labels.push_back(f == 0 ? "plain" : fmt::format("{:g}", scales[f]));
    added.push_back(std::abs(factors[f]) * length);
  }
  for (std::int64_t i = 0; i < std::ssize(examples); ++i) {
    const Tensor of_prompt = values.select(1, i).contiguous(), change = of_prompt.clone();
    for (std::int64_t f = 0; f < change.numel(); ++f)
      change.data<double>()[f] -= of_prompt.at<double>({0});
    report.columns[0].each.push_back(of_prompt);
    report.columns[1].each.push_back(change);
  }
  const std::string at = o.positions.empty() ? " at every token" : at_positions_text(o.positions);
  Json about = {{"site", site.name},        {"direction", direction.json},
                {"normalize", o.normalize}, {"norms", norms_json(direction, norms)},
                {"metric", metric.name},    {"pos", positions_json(o.positions)}};
  if (head) about["head"] = *head;
  write_presentation(o.common, o.common.meta(line),
                     {.text =
                          [&](const Style& style, int) {
                            return introduction(site, head, at, o.normalize, direction, norms,
                                                "all tokens of the prompts", style) +
                                   report.text(style);
                          },
                      .json =
                          [&] {
                            Json json = about;
                            json.update(report.json());
                            json["scales"] = scales;
                            json["norms_added"] = added;
                            return json;
                          },
                      .tensors = [&] { return report.tensors(); },
                      .metadata = {{"site", site.name}, {"metric", metric.name}},
                      .axes = report.axis_names()});
}

}  // namespace

void verb_steer(const Arguments& arguments) {
  CommandLine line(
      arguments,
      "Continues a prompt with a direction added at a site, at every token of prompt and\n"
      "text, beside the plain text. The direction is the difference of two prompts, comes\n"
      "from a file, or is a token's unembedding vector. Of many prompts nothing is continued:\n"
      "a metric is measured at each scale, beside the plain run.\n\n"
      "json: {meta, site, direction: {source, plus, minus, positions, file, tensor, token},\n"
      "normalize, norms: {direction, site: {mean, least, most, last}}, prompt_tokens,\n"
      "plain: {tokens, text, stopped, top: [{id, token, logit, prob}]},\n"
      "steered: [{scale, norm, tokens, text, stopped, top}]}; of one head also head. With "
      "--prompts: {meta, site,\n"
      "direction, normalize, norms, metric, pos, scales, norms_added, all: {prompts, value: "
      "{mean,\n"
      "standard_error, count}, change}, group_by, groups: [{name, ...}], prompts: [{line, tokens,\n"
      "str_tokens, value, change}], file}: each of these numbers is a list, one for each scale,\n"
      "first 0, the plain run; change is from it\n",
      "vitrine steer --prompt 'The capital of Texas is' --plus 'The capital of California is' "
      "--minus 'The capital of Texas is' --scale 0.5 --scale 1 --max-tokens 12");
  Options options;
  options.prompt.add_to(line);
  options.data.add_to(line);
  line.heading("Many prompts");
  line.option(
      "--pos", options.pos, "P,...|ROLE,...",
      "of --prompts: adds only at these positions: numbers, from the end (-1), or roles of\n"
      "the file, all their tokens (default: at every token); norms stay those of all");
  options.metric.add_to(line);
  options.direction.add_to(line);
  options.site.add_to(line,
                      "where it is added: a name in full, or that of a site in a layer, such\n"
                      "as resid_pre, mlp_out or z (default: resid_post); 2.4.z: head 4 alone");
  options.site.allow_head();
  line.numbers("--scale", options.scales, "X",
               "how much of it; several, repeated or X,Y,Z, are shown one after the other\n"
               "(default: 1)",
               Reals{-1e9, 1e9});
  line.flag("--normalize", options.normalize,
            "scale 1 is as long as what is there: the mean norm over the tokens of the prompt,\n"
            "or of all prompts");
  constexpr int kMost = 1'000'000;
  line.number("--top", options.top, "K", "how many candidates for the first token (default: 5)", 1,
              kMost);
  options.sampling.add_to(line);
  options.edits.add_to(line, options.common);
  options.common.add_to(
      line,
      "write the result to FILE, all or nothing, and not to stdout; FILE.json is JSON; with\n"
      "--prompts FILE.safetensors, .npz or .csv: the tensors value, change [scale], each with\n"
      "standard_error, count and each [prompt, scale], besides what goes to stdout",
      CommonOptions::Out::text_or_tensors);
  if (!line.parse()) return;
  options.data.require(line);
  options.metric.require();
  options.sampling.settle();
  options.direction.require(
      line, options.data.given() ? options.data.from_stdin() : options.prompt.from_stdin());
  if (options.data.given()) {
    refuse_beside_prompts(line, {"--max-tokens", "--temperature", "--top-k", "--top-p", "--top"},
                          "no text is continued there, a metric is measured");
    if (!options.pos.empty()) options.positions = parse_positions(line, "--pos", options.pos);
    return steer_prompts(line, options);
  }
  if (!options.pos.empty())
    line.fail(
        "--pos is about the prompts of a file, of which a metric is measured; give --prompts FILE. "
        "A text that is continued is steered at every token");
  if (options.metric.given())
    line.fail("--metric is about the prompts of a file; give --prompts FILE");
  if (is_data_file(options.common.out))
    line.fail("texts are no tensors; give --out another name, or --prompts FILE");
  options.prompt.require(line);

  const Interruptible interruptible;
  const nn::Model model = options.common.load();
  const Site site = options.site.site(model);
  const std::optional<int> head = options.site.head();
  const nn::Tokens prompt = options.prompt.tokens(model);
  const interp::Norms norms = interp::norms(model, site, prompt, head);
  const SteeringDirection direction = options.direction.make(model, site, head);
  Report report{model, prompt, site, head, direction, options.normalize, norms, {}, {}};
  for (const double scale : options.scales) report.steered.push_back({.scale = scale});
  write_texts(report, options, interruptible);

  write_presentation(options.common, options.common.meta(line),
                     {.text = [&](const Style& style, int) { return as_table(report, style); },
                      .json = [&] { return as_json(report); }});
}

}  // namespace vitrine::app
