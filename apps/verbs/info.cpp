// vitrine info: what a model is made of, and what running it costs.
#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "apps/drawings/model_drawing.h"
#include "apps/options/options.h"
#include "apps/verbs/verbs.h"
#include "nn/model/checkpoint.h"
#include "tensor/error.h"
#include "tensor/machine/machine.h"

namespace vitrine::app {
namespace {

// ---- the parts ----------------------------------------------------------------------------------

std::vector<std::int64_t> as_list(const Shape& shape) { return {shape.begin(), shape.end()}; }

Json config_fields(const nn::Config& c) {
  Json json = {{"layers", c.layers},
               {"heads", c.heads},
               {"d_model", c.d_model},
               {"d_head", c.d_head()},
               {"d_mlp", c.d_mlp},
               {"context", c.context},
               {"vocabulary", c.vocabulary},
               {"activation", nn::name_of(c.activation)},
               {nn::architecture(c).centred ? "layer_norm_eps" : "rms_norm_eps", c.norm_eps},
               {"scale_attention", c.scale_attention},
               {"scale_by_layer", c.scale_by_layer},
               {"tied", c.tied},
               {"model_type", c.model_type},
               {"key_value_heads", c.key_heads()}};
  if (c.rope) json["rope_theta"] = c.rope->base;
  if (!c.windows.empty()) json["windows"] = c.windows;
  json["bos"] = c.bos ? Json(*c.bos) : Json();
  json["eos"] = c.eos ? Json(*c.eos) : Json();
  if (!c.more_ends.empty()) json["more_ends"] = c.more_ends;
  return json;
}

std::int64_t parameter_bytes(const nn::Model& model) {
  std::int64_t bytes = 0;
  for (const auto& [name, tensor] : model.parameters()) bytes += tensor.bytes();
  return bytes;
}

// ---- as JSON ------------------------------------------------------------------------------------
Json as_json(const nn::Model& model, const Graph& graph, const Plan::Stats& stats,
             std::int64_t length) {
  Json json = {{"config", config_fields(model.config())}};
  Json tensors = Json::list();
  for (const auto& [name, shape] : nn::parameter_shapes(model.config())) {
    tensors.push_back({{"name", name}, {"shape", as_list(shape)}});
  }
  json["parameters"] = {{"count", model.config().parameter_count()},
                        {"bytes", parameter_bytes(model)},
                        {"tensors", tensors}};
  json["tokenizer"] =
      model.has_tokenizer() ? Json{{"tokens", model.tokenizer().vocabulary_size()},
                                   {"added_tokens", model.tokenizer().added_tokens().size()}}
      : model.has_tokenizer_fault()
          ? Json{{"unusable", json_text(with_option_names(model.why_no_tokenizer()))}}
          : Json();
  json["sites"] = Json::list();
  for (const SiteEntry& site : graph.sites()) {
    json["sites"].push_back({{"name", site.name}, {"shape", as_list(fetched_shape(site, length))}});
  }
  json["forward"] = {{"tokens", length},
                     {"flops", stats.flops},
                     {"steps", stats.steps},
                     {"parameter_bytes", stats.parameter_bytes},
                     {"intermediate_bytes", stats.intermediate_bytes},
                     {"arena_bytes", stats.arena_bytes},
                     {"result_bytes", stats.result_bytes}};
  const Machine machine = describe_machine(model.pool());
  json["machine"] = {{"processor", machine.processor.name},
                     {"features", machine.processor.features},
                     {"threads", machine.threads},
                     {"simd_target", machine.simd_target}};
  return json;
}

// ---- as a table ---------------------------------------------------------------------------------
std::string section(const std::string& title,
                    const std::vector<std::pair<std::string, std::string>>& lines,
                    const Style& style) {
  Table table({{}, {}});
  for (const auto& [name, entry] : lines) table.row({"  " + name, entry});
  return style.bold(title) + "\n" + table.text(style) + "\n";
}

std::string flops_text(std::int64_t flops) {
  const auto amount = static_cast<double>(flops);
  return flops < 1'000'000'000 ? fmt::format("{:.1f} MFLOP", amount / 1e6)
                               : fmt::format("{:.2f} GFLOP", amount / 1e9);
}

// Every block has the same sites, so one line stands for all of them: blocks.L.hook_resid_pre.
std::string sites_section(const Graph& graph, int layers, std::int64_t length, const Style& style) {
  Table table({{}, {}});
  std::set<std::string> seen;
  for (const SiteEntry& site : graph.sites()) {
    std::string name = site.name;
    constexpr std::string_view kBlocks = "blocks.";
    if (name.starts_with(kBlocks)) name = "blocks.L" + name.substr(name.find('.', kBlocks.size()));
    const std::string shape = to_string(fetched_shape(site, length));
    if (seen.insert(name + shape).second) table.row({"  " + name, shape});
  }
  const std::string title =
      fmt::format("sites: {}, shapes for {} tokens; L is 0{}", graph.sites().size(), length,
                  layers > 1 ? fmt::format(" to {}", layers - 1) : "");
  return style.bold(title) + "\n" + table.text(style);
}

std::string positions_text(const nn::Config& c) {
  if (!c.rope) return "learnt vectors";
  std::string text = fmt::format("rotary, base {}", c.rope->base);
  if (c.rope->width != c.d_head())
    text += fmt::format(", {} of a head's dimensions", c.rope->width);
  std::set<int> windows;
  for (const int w : c.windows) windows.insert(w);
  windows.erase(0);
  const auto slide = std::count_if(c.windows.begin(), c.windows.end(), [](int w) { return w > 0; });
  if (!windows.empty())
    text += fmt::format("; {} layers see {} tokens", slide, fmt::join(windows, ", "));
  return text;
}

std::string as_table(const nn::Model& model, const Graph& graph, const Plan::Stats& stats,
                     std::int64_t length, const std::string& name, const Style& style) {
  const nn::Config& c = model.config();
  const Machine machine = describe_machine(model.pool());
  const std::string tokenizer =
      model.has_tokenizer()
          ? fmt::format("{} tokens, {} of them added", grouped(model.tokenizer().vocabulary_size()),
                        model.tokenizer().added_tokens().size())
      : model.has_tokenizer_fault() ? "cannot be used: give token ids (--tokens)"
                                    : "none: give token ids (--tokens)";
  std::string scale = c.query_scalar > 0  ? fmt::format("1/sqrt({})", c.query_scalar)
                      : c.scale_attention ? "1/sqrt(head width)"
                                          : "1";
  if (c.scale_by_layer) scale += " / (layer + 1)";

  std::string heads = fmt::format("{} of width {}", c.heads, c.d_head());
  if (c.key_heads() != c.heads) heads += fmt::format(", on {} key/value heads", c.key_heads());
  std::string text =
      section(fmt::format("{}: a {}", name,
                          c.model_type == "gpt2" ? "GPT-2" : "model of type " + c.model_type),
              {{"layers", fmt::format("{}", c.layers)},
               {"heads", heads},
               {"positions", positions_text(c)},
               {"residual stream", fmt::format("{} wide (d_model)", c.d_model)},
               {"MLP", fmt::format("{} neurons, {}", c.d_mlp, nn::name_of(c.activation))},
               {"context", fmt::format("{} tokens", c.context)},
               {"vocabulary", grouped(c.vocabulary)},
               {"tokenizer", tokenizer},
               {"unembedding", c.tied ? "tied to the embedding" : "of its own"},
               {"attention scale", scale},
               {nn::architecture(c).centred ? "LayerNorm eps" : "RMSNorm eps",
                fmt::format("{:.6g}", c.norm_eps)},
               {"parameters", fmt::format("{} ({} in memory)", grouped(c.parameter_count()),
                                          byte_size(parameter_bytes(model)))}},
              style);
  text += section(fmt::format("a forward pass of {} tokens", length),
                  {{"work", flops_text(stats.flops)},
                   {"steps", fmt::format("{}", stats.steps)},
                   {"working memory",
                    fmt::format("{} ({} if nothing were reused)", byte_size(stats.arena_bytes),
                                byte_size(stats.intermediate_bytes))},
                   {"logits", byte_size(stats.result_bytes)}},
                  style);
  text += section("this machine",
                  {{"processor", fmt::format("{} {}", machine.processor.name,
                                             fmt::join(machine.processor.features, " "))},
                   {"threads", fmt::format("{}", machine.threads)},
                   {"products", fmt::format("own kernels, {}", machine.simd_target)}},
                  style);
  return text + sites_section(graph, c.layers, length, style);
}

}  // namespace

void verb_info(const Arguments& arguments) {
  CommandLine line(arguments,
                   "A model's configuration, parameters and sites, what a forward pass costs in\n"
                   "memory and FLOPs, and what this machine runs it on.\n\n"
                   "json: {meta, config, parameters, tokenizer, sites: [{name, shape}], forward,\n"
                   "machine}; with --sites {meta, sites: [NAME]}\n",
                   "vitrine info --length 20");
  CommonOptions common;
  std::int64_t length = 10;
  bool site_names = false;
  std::string graph_format;
  const auto* given_length =
      line.number("--length", length, "N",
                  "shapes and costs for a prompt of N tokens (default: 10, or the context\n"
                  "where that is less)",
                  std::int64_t{1}, std::int64_t{INT32_MAX});
  Option* names = line.flag("--sites", site_names, "only the names of all sites, one a line");
  line.option("--graph", graph_format, "text|dot",
              "only the model's graph: one line a node, or for Graphviz\n"
              "(vitrine info --graph dot | dot -Tsvg > model.svg)")
      ->one_of({"text", "dot"})
      ->excludes(names);
  common.add_page_to(line);
  common.add_to(line, "write the result to FILE, all or nothing, and not to stdout");
  if (!line.parse()) return;
  common.settle_out(line, CommonOptions::Out::text, graph_format == "dot" ? ".dot" : "");
  if (!common.html.empty() && (site_names || !graph_format.empty()))
    line.fail("--html is a page of everything; --sites and --graph are texts of one thing each");
  if (!graph_format.empty() && common.json())
    line.fail("--graph is text, and has no JSON; --format json is about the rest");

  const nn::Model model = common.load();
  if (given_length->count() == 0) length = std::min<std::int64_t>(length, model.config().context);
  if (length > model.config().context) {
    throw ContextError(fmt::format("--length {}: this model's context is {} tokens", length,
                                   model.config().context));
  }
  const Graph graph = model.build(nn::Model::Uniform{.batch = 1, .tokens = length});
  if (graph_format == "text") return write_result(common.out, graph.to_text());
  if (graph_format == "dot") return write_result(common.out, graph.to_dot());
  if (site_names && common.json()) {
    return write_result(common.out,
                        to_line({{"meta", common.meta(line)}, {"sites", graph.site_names()}}));
  }
  if (site_names) {
    std::string text;
    for (const SiteEntry& site : graph.sites()) text += site.name + "\n";
    return write_result(common.out, text);
  }
  const Plan plan = compile(graph, fetch(value("logits")));
  write_presentation(common, common.meta(line),
                     {.text =
                          [&](const Style& style, int) {
                            return as_table(model, graph, plan.stats(), length, common.model_name(),
                                            style);
                          },
                      .json = [&] { return as_json(model, graph, plan.stats(), length); },
                      .page = "info",
                      .page_data =
                          [&] {
                            Json page = drawing_json(graph, length);
                            page["parts"] = parts_json(model, graph);
                            return page;
                          }});
}

}  // namespace vitrine::app
