// --edit, --edits and --sae: what is changed in a model before anything is asked of it.
//
//   --edit 'zero 3.z head=0,2'                           two heads of layer 3 write nothing
//   --edit 'mean mlp_out from=prompts.jsonl'             every MLP writes its mean over the file
//   --edit 'scale blocks.2.hook_mlp_out factor=0.5 pos=-1'
//   --sae blocks.4.hook_mlp_out --edit 'set hook_sae_acts_post feature=12 to=3'
#pragma once

#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "apps/options/options.h"
#include "interp/data/data_set.h"

namespace vitrine::sae {
struct Sae;
}

namespace vitrine::app {

// What the edits know of the prompts of a data set: where their roles are. Prompts may be followed
// by an answer.
class KnownPrompts {
 public:
  void add(const interp::Example& example);
  // The positions of a prompt that are meant. Throws ContextError for one that it does not have.
  std::vector<std::int64_t> positions(const std::vector<interp::Position>& asked,
                                      const nn::Tokens& prompt) const;

 private:
  std::map<nn::Tokens, interp::Example> examples_;  // by prompt, clean or corrupt
};

class EditOptions {
 public:
  // The edits are made when `common` loads the model, and stand in its meta and heading. `splices`:
  // with --sae, for verbs that have no such option of their own.
  void add_to(CommandLine& line, CommonOptions& common, bool splices = true);
  // The SAEs that were spliced in when the model was loaded, and their names among its parameters.
  struct SplicedSae {
    std::shared_ptr<const sae::Sae> sae;
    std::string name;
  };
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
