// vitrine cache: runs a prompt and saves the activations of any sites.
#include <fmt/format.h>

#include "apps/experiment/edit_options.h"
#include "apps/options/options.h"
#include "apps/options/site_names.h"
#include "apps/terminal/run.h"
#include "apps/verbs/verbs.h"
#include "tensor/files/safetensors.h"

namespace vitrine::app {
namespace {

// The prompt as TransformerLens has it: i64 [1, position].
Tensor as_tensor(const nn::Tokens& tokens) {
  return Tensor::of({1, static_cast<std::int64_t>(tokens.size())},
                    std::vector<std::int64_t>(tokens.begin(), tokens.end()));
}

// Everything that was asked for, in the order of the model.
NamedTensors collect(const Graph& graph, const SiteSet& wanted, const Results& results,
                     const nn::Tokens& tokens) {
  NamedTensors tensors = {{"tokens", as_tensor(tokens)}};
  for (const std::string& name : select_sites(wanted, graph.site_names())) {
    tensors.emplace_back(name, results[name]);
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
  SiteSet wanted{"*"};
  prompt.add_to(line);
  line.option("--sites", wanted.patterns, "GLOB,...",
              "which sites: z (in all layers), 2.z, blocks.2.attn.hook_z; * stands for any\n"
              "characters (default: '*', all;\n"
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
  wanted.patterns =
      full_patterns(wanted.patterns, model.build(nn::BatchSize{1, 1, 1}).site_names());
  const Results results =
      run_model(model, tokens, fetch(wanted, value("logits")), interruptible, common.quiet);
  const NamedTensors tensors =
      collect(model.build(nn::BatchSize{1, 1, 1}), wanted, results, tokens);

  const Json meta = common.meta(line);
  interruptible.check();
  save_tensors(common.out, tensors, meta);
  write_stdout(common.json() ? to_line({{"meta", meta},
                                        {"file", json_text(common.out)},
                                        {"tensors", listing(tensors)}})
                             : table(tensors, common.out, style_for(common.color, "")));
}

}  // namespace vitrine::app
