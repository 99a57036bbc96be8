// Makes standing edits for a model of edits as they are typed.
//
//   EditMaker maker(model);
//   model.stand(maker.make(parse_edit("zero 3.z head=0,2")));
#pragma once

#include <cstdint>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "apps/experiment/edit_text.h"
#include "interp/data/data_set.h"
#include "nn/model/model.h"

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

// Tensors that runs of the model gave, by what was asked: the last few of them. Safe from many
// threads.
class KeptTensors {
 public:
  Tensor get(const std::string& key, const std::function<Tensor()>& make);

 private:
  static constexpr std::size_t kMost = 64;
  static constexpr std::int64_t kMostBytes = std::int64_t{64} << 20;
  std::mutex mutex_;
  std::list<std::pair<std::string, Tensor>> kept_;  // most recently used first
  std::int64_t bytes_ = 0;
};

struct EditSettings {
  std::uint64_t seed = 0;                     // of what is resampled
  std::shared_ptr<const KnownPrompts> known;  // none: positions are numbers
  // The ids of a prompt; none: as the model encodes prompts.
  std::function<nn::Tokens(std::string_view)> encode;
};

// Safe from many threads, of a model that nobody changes meanwhile.
class EditMaker {
 public:
  explicit EditMaker(const nn::Model& model, EditSettings settings = {});

  // One for each site that is meant. Throws Error (usage) for a part that the site does not have,
  // SiteError, and what reading the edit's source throws.
  std::vector<nn::StandingEdit> make(const EditText& text) const;
  // Narrows an edit to positions of the prompts, and to keys.
  void place(nn::StandingEdit& e, const std::vector<interp::Position>& positions,
             const std::vector<interp::Position>& keys = {}) const;

 private:
  using PromptList = std::vector<nn::Tokens>;
  nn::StandingEdit of_action(const EditText& text, const Site& site) const;
  nn::StandingEdit patched(const EditText& text, const Site& site) const;
  nn::StandingEdit resampled(const Site& site, const std::string& from) const;
  Tensor mean_values(const EditText& text, const Site& site) const;
  Tensor direction(const EditText& text, const Site& site) const;
  nn::Tokens encoded(std::string_view text) const;
  std::shared_ptr<const PromptList> prompts(const std::string& file) const;
  Results recorded(const std::vector<nn::Tokens>& prompts, const Site& site) const;

  const nn::Model& model_;
  EditSettings settings_;
  Graph graph_;
  std::vector<std::string> names_;
  mutable KeptTensors kept_;
  mutable std::mutex mutex_;
  mutable std::map<std::string, std::shared_ptr<const PromptList>> prompts_;  // by file
};

}  // namespace vitrine::app
