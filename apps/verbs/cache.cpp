// vitrine cache: runs a prompt and saves the activations of any sites.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "apps/experiment/edit_options.h"
#include "apps/options/options.h"
#include "apps/options/site_names.h"
#include "apps/terminal/run.h"
#include "apps/verbs/verbs.h"
#include "tensor/error.h"
#include "tensor/files/safetensors.h"

namespace vitrine::app {
namespace {

// The prompt as TransformerLens has it: i64 [1, position].
Tensor as_tensor(const nn::Tokens& tokens) {
  return Tensor::of({1, static_cast<std::int64_t>(tokens.size())},
                    std::vector<std::int64_t>(tokens.begin(), tokens.end()));
}

// The patterns, with those of single heads or without.
SiteSet patterns_of(const std::vector<SitePattern>& wanted, bool heads) {
  std::vector<std::string> patterns;
  for (const SitePattern& site : wanted) {
    if (heads || !site.head) patterns.push_back(site.patterns);
  }
  return {fmt::format("{}", fmt::join(patterns, ","))};
}

// The axis of heads. Throws Error (usage), naming the site, where there is none, or no such head.
int head_axis(const SiteEntry& site, int head) {
  const auto at = std::find(site.axes.begin(), site.axes.end(), Axis::head);
  if (at == site.axes.end())
    throw Error(
        ErrorKind::usage,
        fmt::format("--sites: {} has no heads, so there is no head {} of it", site.name, head));
  const auto axis = static_cast<int>(at - site.axes.begin());
  const std::int64_t heads = site.type.shape[axis];
  if (head < heads) return axis;
  throw Error(ErrorKind::usage, fmt::format("--sites: {} has no head {}; there are 0 to {}",
                                            site.name, head, heads - 1));
}

// A head's part of a site's value, without the axis of heads: [batch, position, ...] of z.
Tensor of_head(const SiteEntry& site, const Tensor& value, int head) {
  // Rows are unpacked into prompts and positions; those of patterns come behind the heads.
  const bool pattern = std::find(site.axes.begin(), site.axes.end(), Axis::key) != site.axes.end();
  const int axis = head_axis(site, head) + (site.axes[0] == Axis::row && !pattern ? 1 : 0);
  return value.select(axis, head).contiguous();
}

// Everything that was asked for, in the order of the model; then single heads.
NamedTensors collect(const Graph& graph, const std::vector<SitePattern>& wanted,
                     const Results& results, const nn::Tokens& tokens) {
  NamedTensors tensors = {{"tokens", as_tensor(tokens)}};
  const std::vector<std::string> names = graph.site_names();
  if (const SiteSet whole = patterns_of(wanted, false); !whole.patterns.empty()) {
    for (const std::string& name : select_sites(whole, names))
      tensors.emplace_back(name, results[name]);
  }
  for (const SitePattern& site : wanted) {
    if (!site.head) continue;
    for (const std::string& name : select_sites({site.patterns}, names))
      tensors.emplace_back(name_of_head(name, *site.head),
                           of_head(graph.site(name), results[name], *site.head));
  }
  tensors.emplace_back("logits", results["logits"]);
  return tensors;
}

std::string table(const NamedTensors& tensors, const std::string& file, const Style& style) {
  using Align = Table::Align;
  Table table({{"name", Align::left},
               {"shape", Align::left},
               {"type", Align::left},
               {"size", Align::right}});
  std::int64_t total = 0;
  for (const auto& [name, tensor] : tensors) {
    table.row({name, to_string(tensor.shape()), std::string(name_of(tensor.dtype())),
               byte_size(tensor.bytes())});
    total += tensor.bytes();
  }
  return table.text(style) + fmt::format("\n{} tensors, {}, written to {}\n", tensors.size(),
                                         byte_size(total), style.bold(file));
}

Json listing(const NamedTensors& tensors) {
  Json list = Json::list();
  for (const auto& [name, tensor] : tensors) {
    list.push_back(
        {{"name", name},
         {"shape", std::vector<std::int64_t>(tensor.shape().begin(), tensor.shape().end())},
         {"dtype", name_of(tensor.dtype())},
         {"bytes", tensor.bytes()}});
  }
  return list;
}

}  // namespace

void verb_cache(const Arguments& arguments) {
  CommandLine line(
      arguments,
      "Runs one prompt and saves the activations of sites, under TransformerLens's\n"
      "names and in its shapes (batch axis included), with tokens [1, position] and\n"
      "logits, as a safetensors or npz file. Prints what was saved.\n\n"
      "json: {meta, file, tensors: [{name, shape, dtype, bytes}]}\n",
      "vitrine cache --prompt 'The capital of Texas is' --sites '*.hook_pattern,*.hook_resid_post' "
      "--out texas.safetensors");
  CommonOptions common;
  EditOptions edits;
  PromptOptions prompt;
  std::string wanted = "*";
  prompt.add_to(line);
  line.option(
      "--sites", wanted, "GLOB,...",
      "which sites: z (in all layers), 2.z, blocks.2.attn.hook_z; 2.4.z, of head 4 alone,\n"
      "is saved as blocks.2.4.attn.hook_z; * stands for any characters (default: '*', all;\n"
      "'vitrine info --sites' lists them)");
  edits.add_to(line, common);
  common.add_to(line, "the .safetensors or .npz file to write, all or nothing (required)",
                CommonOptions::Out::tensors);
  if (!line.parse()) return;
  if (common.out.empty() || common.out == "-") {
    line.fail("activations go to a file; give --out FILE.safetensors");
  }
  prompt.require(line);

  const Interruptible interruptible;
  const nn::Model model = common.load();
  const nn::Tokens tokens = prompt.tokens(model);
  const Graph graph = model.build(nn::BatchSize{1, 1, 1});
  const std::vector<SitePattern> sites = site_patterns(wanted, graph.site_names());
  for (const SitePattern& site : sites) {
    if (!site.head) continue;
    for (const std::string& name : select_sites({site.patterns}, graph.site_names()))
      head_axis(graph.site(name), *site.head);  // throws before anything is run
  }
  const Results results = run_model(model, tokens, fetch(patterns_of(sites, true), value("logits")),
                                    interruptible, common.quiet);
  const NamedTensors tensors = collect(graph, sites, results, tokens);

  const Json meta = common.meta(line);
  interruptible.check();
  save_tensors(common.out, tensors, meta);
  write_stdout(common.json() ? to_line({{"meta", meta},
                                        {"file", json_text(common.out)},
                                        {"tensors", listing(tensors)}})
                             : table(tensors, common.out, style_for(common.color, "")));
}

}  // namespace vitrine::app
