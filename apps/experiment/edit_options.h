// --edit, --edits and --sae: what is changed in a model before anything is asked of it.
//
//   --edit 'zero 3.z head=0,2'                           two heads of layer 3 write nothing
//   --edit 'mean mlp_out from=prompts.jsonl'             every MLP writes its mean over the file
//   --edit 'scale blocks.2.hook_mlp_out factor=0.5 pos=-1'
//   --sae blocks.4.hook_mlp_out --edit 'set hook_sae_acts_post feature=12 to=3'
#pragma once

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "apps/experiment/edit_maker.h"
#include "apps/options/options.h"

namespace vitrine::sae {
struct Sae;
}

namespace vitrine::app {

// An SAE that was spliced into a model, and its name among the model's parameters.
struct SplicedSae {
  std::shared_ptr<const sae::Sae> sae;
  std::string name;
};
// Splices them in at their sites, with their errors kept; a name is a folder, or one that came with
// the model. Throws what load_sae and require_fits throw.
std::vector<SplicedSae> splice_saes(nn::Model& model, const std::vector<std::string>& names,
                                    const CommonOptions& common);

class EditOptions {
 public:
  // The edits are made when `common` loads the model, and stand in its meta and heading. `splices`:
  // with --sae, for verbs that have no such option of their own.
  void add_to(CommandLine& line, CommonOptions& common, bool splices = true);
  // The SAEs that were spliced in when the model was loaded.
  const std::vector<SplicedSae>& spliced() const { return spliced_; }
  // Roles of these prompts may be named as positions. Before the first run.
  void know(std::span<const interp::Example> examples);

 private:
  // Throws Error (usage or input), naming the edit, for what is not understood or does not fit.
  void apply(nn::Model& model, const CommonOptions& common) const;

  std::vector<std::string> edits_, saes_;
  mutable std::vector<SplicedSae> spliced_;
  std::string file_;
  std::shared_ptr<KnownPrompts> known_ = std::make_shared<KnownPrompts>();
};

}  // namespace vitrine::app
