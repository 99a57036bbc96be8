// vitrine sae encode: features and reconstructions of activations that are there.
#include <fmt/format.h>

#include "apps/sae_options.h"
#include "apps/verbs.h"
#include "tensor/safetensors.h"

namespace vitrine::app {

void verb_sae_encode(const Arguments& arguments) {
  CommandLine line(
      arguments,
      "The features of activations in a safetensors file, and what the SAE makes of them again.\n"
      "Leading axes are joined: [batch, position, width] gives batch * position rows.\n\n"
      "safetensors: feature_acts [rows, features], reconstruction [rows, width]\n"
      "json: {meta, file, rows, features, l0, explained_variance}\n",
      "vitrine cache --prompt 'The capital of Texas is' --sites blocks.4.hook_mlp_out --out "
      "texas.safetensors && vitrine sae encode --sae blocks.4.hook_mlp_out --activations "
      "texas.safetensors --tensor blocks.4.hook_mlp_out --out codes.safetensors");
  CommonOptions common;
  std::string name, file, tensor;
  line.option("--sae", name, "DIR", "a SAELens folder, or the name of one that came with the model")
      ->required();
  line.option("--activations", file, "FILE", "a safetensors file")->required();
  line.option("--tensor", tensor, "NAME", "of the activations in it")->required();
  common.add_to(line, "the safetensors file to write, all or nothing (required)");
  if (!line.parse()) return;
  if (common.out.empty() || common.out == "-")
    line.fail("features go to a file; give --out FILE.safetensors");
  check_folder_of(common.out);
  const sae::Sae sae = load_sae(name, common.model);
  const Tensor x = SafeTensors::open(file).at(tensor);
  ThreadPool pool(common.threads);
  const sae::Encoder::Encoded coded = sae::Encoder(sae, &pool).encode(x);
  const Json meta = common.meta(line);
  save_safetensors(common.out,
                   {{"feature_acts", coded.features}, {"reconstruction", coded.reconstruction}},
                   as_metadata(meta));
  const std::int64_t rows = coded.features.dim(0);
  double active = 0;
  for (const float f : coded.features.to_vector<float>()) active += f > 0 ? 1 : 0;
  const double l0 = rows > 0 ? active / static_cast<double>(rows) : 0;
  if (common.json()) {
    return write_stdout(to_line({{"meta", meta},
                                 {"file", json_text(common.out)},
                                 {"rows", rows},
                                 {"features", sae.config.d_sae},
                                 {"l0", l0}}));
  }
  write_stdout(fmt::format("{} rows, {:.1f} of {} features active on average, written to {}\n",
                           grouped(rows), l0, grouped(sae.config.d_sae), visible(common.out)));
}

}  // namespace vitrine::app
