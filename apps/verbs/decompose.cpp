// vitrine decompose: which parts of the model wrote a logit?
#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "apps/experiment/answer_options.h"
#include "apps/experiment/edit_options.h"
#include "apps/reports/data_set_report.h"
#include "apps/reports/patch_report.h"
#include "apps/reports/profile_report.h"
#include "apps/reports/stream_report.h"
#include "apps/verbs/verbs.h"
#include "interp/decomposition.h"
#include "tensor/error.h"

namespace vitrine::app {
namespace {

using interp::Part;

struct Options {
  CommonOptions common;
  EditOptions edits;
  AnswerOptions answer;
  int top = 10, layer = -1;
  bool stream = false;
};

struct Report {
  const nn::Model& model;
  const Question& question;
  const interp::Decomposition& decomposition;
  const std::vector<interp::NeuronShare>& neurons;
};

// A share of the whole as a bar to the right or the left.
std::string share_bar(double share, double largest, const Style& style) {
  constexpr int kWidth = 20;
  if (largest == 0) return "";
  const std::string drawn = bar(std::abs(share) / largest, kWidth);
  return share < 0 ? style.warning(drawn) : style.bar(drawn);
}

std::vector<Part> by_size(std::vector<Part> parts) {
  std::stable_sort(parts.begin(), parts.end(), [](const Part& a, const Part& b) {
    return std::abs(a.value) > std::abs(b.value);
  });
  return parts;
}

std::string parts_table(const Report& r, int top, const Style& style) {
  const auto parts = by_size(r.decomposition.parts);
  using Align = Table::Align;
  Table table({{"part", Align::left}, {"share", Align::right}, {"", Align::left}});
  const auto shown = std::min(parts.size(), static_cast<std::size_t>(top));
  double rest = 0;
  for (std::size_t i = 0; i < parts.size(); ++i) {
    if (i >= shown) rest += parts[i].value;
    else
      table.row({parts[i].name(), fmt::format("{:+.3f}", parts[i].value),
                 share_bar(parts[i].value, std::abs(parts[0].value), style)});
  }
  if (shown < parts.size())
    table.row({fmt::format("{} others", parts.size() - shown), fmt::format("{:+.3f}", rest), ""});
  return table.text(style);
}

std::string layers_table(const Report& r, const Style& style) {
  const int layers = r.model.config().layers;
  const Tensor sums = interp::by_layer(r.decomposition, layers);
  using Align = Table::Align;
  Table table({{"layer", Align::right},
               {"attention", Align::right},
               {"MLP", Align::right},
               {"sum so far", Align::right}});
  double sum = 0;
  for (const Part& p : r.decomposition.parts) {
    if (p.layer < 0) sum += p.value;
  }
  table.row({"-", "", "", fmt::format("{:.3f}", sum)});
  for (int l = 0; l < layers; ++l) {
    const double attention = sums.at<double>({l, 0}), mlp = sums.at<double>({l, 1});
    sum += attention + mlp;
    for (const Part& p : r.decomposition.parts) {
      if (p.kind == Part::Kind::edit && p.layer == l) sum += p.value;
    }
    table.row({fmt::format("{}", l), fmt::format("{:+.3f}", attention), fmt::format("{:+.3f}", mlp),
               fmt::format("{:.3f}", sum)});
  }
  const bool edited = std::any_of(r.decomposition.parts.begin(), r.decomposition.parts.end(),
                                  [](const Part& p) { return p.kind == Part::Kind::edit; });
  return table.text(style) +
         "the first line is what no layer wrote: embed, pos_embed and the last biases\n" +
         (edited ? "sums so far have what the edits added\n" : "");
}

std::string neurons_table(const Report& r, const Style& style) {
  if (r.neurons.empty()) return "";
  using Align = Table::Align;
  Table table({{"neuron", Align::left}, {"share", Align::right}, {"", Align::left}});
  for (const interp::NeuronShare& n : r.neurons) {
    table.row({fmt::format("L{}N{}", n.layer, n.neuron), fmt::format("{:+.3f}", n.value),
               share_bar(n.value, std::abs(r.neurons[0].value), style)});
  }
  return "\n" + style.dim("neurons: parts of the MLPs") + "\n" + table.text(style);
}

std::string text(const Report& r, int top, const Style& style) {
  const interp::Decomposition& d = r.decomposition;
  std::string text =
      fmt::format("`{}` → logit {}: {:.3f}\n", style.bold(r.question.prompt_text(r.model)),
                  style.strong(r.question.answer_text(r.model)), d.logit);
  text += gauge_text(r.model, true);
  text += fmt::format("the final norm's scale is held at {:.4f}\n\n", d.scale);
  text += parts_table(r, top, style);
  text += fmt::format("sum {:.3f}, residual {:+.1e} ({} 1e-5 of the sum of |shares|, {:.3f})\n\n",
                      d.total(), d.residual(), d.closes() ? "within" : "MORE THAN", d.magnitude());
  return text + layers_table(r, style) + neurons_table(r, style);
}

const char* kind_name(Part::Kind kind) {
  switch (kind) {
    case Part::Kind::embed:
      return "embed";
    case Part::Kind::pos_embed:
      return "pos_embed";
    case Part::Kind::head:
      return "head";
    case Part::Kind::mlp:
      return "mlp";
    case Part::Kind::edit:
      return "edit";
    default:
      return "bias";
  }
}

Json json(const Report& r) {
  const interp::Decomposition& d = r.decomposition;
  Json json = r.question.json(r.model);
  json["logit"] = d.logit;
  json["sum"] = d.total();
  json["residual"] = d.residual();
  json["magnitude"] = d.magnitude();
  json["closes"] = d.closes();
  json["scale"] = d.scale;
  json["components"] = Json::list();
  for (const Part& p : d.parts) {
    json["components"].push_back({{"name", p.name()},
                                  {"value", p.value},
                                  {"kind", kind_name(p.kind)},
                                  {"layer", p.layer < 0 ? Json() : Json(p.layer)},
                                  {"head", p.kind == Part::Kind::head ? Json(p.index) : Json()}});
  }
  json["layers"] = Json::list();
  const Tensor sums = interp::by_layer(d, r.model.config().layers);
  for (int l = 0; l < r.model.config().layers; ++l) {
    json["layers"].push_back({{"layer", l},
                              {"attention", sums.at<double>({l, 0})},
                              {"mlp", sums.at<double>({l, 1})},
                              {"mlp_b_out", d.mlp_biases.at<double>({l})}});
  }
  json["neurons"] = Json::list();
  for (const interp::NeuronShare& n : r.neurons)
    json["neurons"].push_back({{"layer", n.layer}, {"neuron", n.neuron}, {"value", n.value}});
  return json;
}

NamedTensors tensors(const interp::Decomposition& d) {
  std::vector<double> shares;
  for (const Part& p : d.parts) shares.push_back(p.value);
  return {{"share", Tensor::of({std::ssize(shares)}, shares).to(DType::f32)},
          {"neurons", d.neurons.to(DType::f32)},
          {"mlp_b_out", d.mlp_biases.to(DType::f32)}};
}

// ---- the page -----------------------------------------------------------------------------------
// Of each layer's MLP the strongest neurons, and the sum of all others: {inside: [{neurons:
// [[neuron, share]], count, others}]}.
Json inside_mlps(const interp::Decomposition& d, int listed) {
  Json layers = Json::list();
  for (std::int64_t l = 0; l < d.neurons.dim(0); ++l) {
    Json neurons = Json::list();
    double others = 0;
    for (const double share : d.neurons.select(0, l).to_vector<double>()) others += share;
    for (const interp::NeuronShare& n : interp::top_neurons(d, listed, static_cast<int>(l))) {
      neurons.push_back(Json::list({n.neuron, n.value}));
      others -= n.value;
    }
    layers.push_back({{"neurons", neurons}, {"count", d.neurons.dim(1)}, {"others", others}});
  }
  return {{"inside", layers}};
}

// ---- many prompts -------------------------------------------------------------------------------
// Throws NumericError for the first prompt whose shares do not add up.
void check_closes(const std::vector<interp::Decomposition>& all, const AskedPrompts& many) {
  for (std::size_t i = 0; i < all.size(); ++i) {
    if (all[i].closes()) continue;
    throw NumericError(fmt::format(
        "line {}: the shares do not add up: the logit is {}, their sum {}; the residual {:.1e} is "
        "more than 1e-5 of the sum of |shares|, {}",
        many.examples[i].line, all[i].logit, all[i].total(), all[i].residual(),
        all[i].magnitude()));
  }
}

void decompose_prompts(const CommandLine& line, Options& options) {
  const CommonOptions& common = options.common;
  const nn::Model model = common.load();
  const AskedPrompts many = options.answer.asked(model, options.edits);
  const auto all = interp::decompose(model, many.asked);
  check_closes(all, many);
  const auto profile = [&](const char* axis) {
    return ProfileReport{.model = model,
                         .examples = many.examples,
                         .groups = many.groups,
                         .field = options.answer.data().group_by(),
                         .axis = axis,
                         .columns = {}};
  };
  ProfileReport parts = profile("component"), layers = profile("layer");
  parts.columns = {{"share", {}}};
  parts.top = options.top;
  parts.each = options.answer.data().each();
  parts.question = "answer";
  parts.questions = answers_text(model, many.asked);
  parts.heading = fmt::format("shares of the logit of each one's answer{} after position {}\n",
                              any_wrong(many.asked) ? " less that of the wrong one" : "",
                              options.answer.position().text()) +
                  gauge_text(model, true);
  layers.columns = {{"attention", {}}, {"mlp", {}}};
  for (const Part& p : all[0].parts) parts.labels.push_back(p.name());
  for (int l = 0; l < model.config().layers; ++l) layers.labels.push_back(fmt::format("{}", l));
  std::vector<double> logits;
  for (const interp::Decomposition& d : all) {
    std::vector<double> shares;
    for (const Part& p : d.parts) shares.push_back(p.value);
    parts.columns[0].each.push_back(Tensor::of({std::ssize(shares)}, shares));
    const Tensor sums = interp::by_layer(d, model.config().layers);
    for (int c = 0; c < 2; ++c)
      layers.columns[static_cast<std::size_t>(c)].each.push_back(sums.select(1, c).contiguous());
    logits.push_back(d.logit);
  }
  const interp::Statistic logit = interp::statistic(logits);
  parts.heading += fmt::format("their mean: {}\n", mean_text(logit));
  AxisNames axes = parts.axis_names();
  for (const auto& [name, values] : layers.tensors())
    axes.of[name] = values.rank() == 1 ? std::vector<std::string>{"layer"}
                                       : std::vector<std::string>{"prompt", "layer"};
  write_presentation(common, common.meta(line),
                     {.text = [&](const Style& style,
                                  int) { return parts.text(style) + "\n" + layers.tables(style); },
                      .json =
                          [&] {
                            Json json = {{"logit", statistic_json(logit)}};
                            json.update(parts.json());
                            json["layers"] = layers.json();
                            return json;
                          },
                      .tensors =
                          [&] {
                            NamedTensors tensors = parts.tensors();
                            for (auto& t : layers.tensors()) tensors.push_back(std::move(t));
                            return tensors;
                          },
                      .axes = axes});
}

}  // namespace

void verb_decompose(const Arguments& arguments) {
  CommandLine line(
      arguments,
      "Direct logit attribution: the logit as a sum of what the embedding, every head, every\n"
      "MLP, its neurons and the biases wrote into the residual stream, with the scale of the\n"
      "final norm held. With --stream also how much each part writes at the position,\n"
      "and which later heads and MLPs read it there.\n\n"
      "json: {meta, tokens, str_tokens, position, answer: {id, token}, wrong, logit, sum,\n"
      "residual, magnitude, closes, scale, components: [{name, value, kind, layer, head}],\n"
      "layers: [{layer, attention, mlp, mlp_b_out}], neurons: [{layer, neuron, value}],\n"
      "stream, file}; the components add up to the logit, neurons are parts of mlp components;\n"
      "stream is null, or {writers: [{name, length}], lengths, readers, share}: share[writer]\n"
      "[reader] is null where the reader comes first.\n"
      "With --prompts: {meta, logit: {mean, standard_error, count}, components: [NAME], all:\n"
      "{prompts, share: {mean, standard_error, count}}, group_by, groups: [{name, ...}], prompts:\n"
      "[{line, tokens, str_tokens, share}], layers: the same of attention and mlp, file}.\n"
      "Exit code 4 when the shares do not add up.\n",
      "vitrine decompose --prompt 'The capital of Texas is' --answer ' Austin' --wrong ' "
      "Sacramento'");
  Options options;
  CommonOptions& common = options.common;
  constexpr int kMost = 1'000'000;
  options.answer.add_to(line);
  line.number("--top", options.top, "K", "how many parts and neurons are listed (default: 10)", 1,
              kMost);
  auto* layer = line.number("--layer", options.layer, "L", "neurons of this layer alone", 0, kMost);
  line.flag("--stream", options.stream, "who writes to the stream here, and who reads it");
  options.edits.add_to(line, common);
  common.add_page_to(line);
  common.add_to(
      line,
      "write the result to FILE, all or nothing, and not to stdout; FILE.json is JSON;\n"
      "besides what goes to stdout, FILE.csv has the components, FILE.safetensors or .npz\n"
      "the tensors share [component], neurons [layer, neuron], mlp_b_out [layer]; with\n"
      "--prompts share, attention, mlp, as means, NAME/standard_error, NAME/count, NAME/each",
      CommonOptions::Out::text_or_tensors);
  if (!line.parse()) return;
  options.answer.require(line);
  if (options.answer.many()) {
    if (options.stream || layer->count() > 0)
      line.fail("--stream and --layer are about one prompt; leave them out with --prompts");
    if (!common.html.empty()) line.fail("--html is about one prompt; give --prompt TEXT");
    return decompose_prompts(line, options);
  }

  const nn::Model model = common.load();
  if (layer->count() > 0 && options.layer >= model.config().layers) {
    line.fail(fmt::format("--layer {}: this model has layers 0 to {}", options.layer,
                          model.config().layers - 1));
  }
  const Question q = options.answer.question(model);
  const interp::Decomposition d = interp::decompose(
      model, q.prompt, {.answer = q.answer, .wrong = q.wrong, .position = q.position});
  const auto neurons = interp::top_neurons(
      d, options.top, layer->count() > 0 ? std::optional(options.layer) : std::nullopt);
  const Report report{model, q, d, neurons};
  std::optional<interp::StreamUse> use;
  if (options.stream) use = interp::stream_use(model, q.prompt, q.position);

  write_presentation(common, common.meta(line),
                     {.text =
                          [&](const Style& style, int) {
                            const std::string parts = text(report, options.top, style);
                            return use ? parts + "\n" + stream_text(*use, style) : parts;
                          },
                      .json =
                          [&] {
                            Json found = json(report);
                            found["stream"] = use ? stream_json(*use) : Json();
                            return found;
                          },
                      .tensors = [&] { return tensors(d); },
                      .axes = {.of = {{"share", {"component"}},
                                      {"neurons", {"layer", "neuron"}},
                                      {"mlp_b_out", {"layer"}}}},
                      .rows = "components",
                      .page = "decompose",
                      .page_data = [&] { return inside_mlps(d, options.top); }});
  if (!d.closes()) {
    throw NumericError(fmt::format(
        "the shares do not add up: the logit is {}, their sum {}; the residual {:.1e} is more than "
        "1e-5 of the sum of |shares|, {}",
        d.logit, d.total(), d.residual(), d.magnitude()));
  }
}

}  // namespace vitrine::app
