// What the steps of the tour share: a model, a fact that it may know, and a way of asking it. Whatever a step says it has
// read from the JSON of a verb, and the command for that stands with it: the tour can do nothing that its reader cannot.
#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "tensor/files/json_reader.h"

namespace vitrine::app {

// "The capital of France is" -> " Paris", and what it would be of another subject.
struct KnownFact {
  std::string clean, corrupt;  // prompts of as many tokens
  std::string answer, wrong;   // after the clean one, after the corrupt one
};

// Something that the tour says of a model, with numbers, and whether they bear it out.
struct Claim {
  std::string text;
  bool holds = false;
};

struct TourStep {
  std::string heading;
  std::vector<std::string> told;      // why one looks, and what there is to see
  std::vector<std::string> commands;  // that give the same numbers
  std::vector<Claim> claims;
  JsonValue picture;  // for the page: {kind, ...}, null without one
};

class Guide {
 public:
  // `model` as --model has it, "" for the one that ships. Files are made in `folder`. `threads` as --threads.
  Guide(std::string model, KnownFact fact, std::filesystem::path folder, int threads);

  const KnownFact& fact() const { return fact_; }
  const std::filesystem::path& folder() const { return folder_; }
  std::string file(std::string_view name) const { return (folder_ / name).string(); }

  // What `vitrine WORDS` answers about the model; its command becomes one of the step. A check that fails (doctor's) is an
  // answer, too. Throws what the verb throws.
  // With `kept`, the answer is left in that file, which the command says, too.
  JsonReader ask(TourStep& step, const std::vector<std::string>& words,
                 const std::string& kept = {});
  // The same without being told: numbers on the way to what is told.
  JsonReader ask_aside(const std::vector<std::string>& words);
  // Writes a file with a verb that has no JSON (prompts); returns its path.
  std::string make(TourStep& step, const std::vector<std::string>& words, std::string_view name);

  // A number that a later step compares with.
  void note(const std::string& name, double value) { noted_[name] = value; }
  double noted(const std::string& name, double otherwise = 0) const {
    const auto found = noted_.find(name);
    return found == noted_.end() ? otherwise : found->second;
  }

  // The folders of the SAEs that the model has, by layer; none where it has none.
  void add_sae(const std::string& folder);  // or its name, as --sae has it
  struct Sae {
    std::string folder, site;
    int layer = 0;
  };
  const std::vector<Sae>& saes() const { return saes_; }
  int layers() const { return layers_; }
  int heads() const { return heads_; }
  // The layer whose neurons and features are looked at: that of the last SAE, else the middle one.
  int middle_layer() const;

 private:
  JsonReader answer(const std::vector<std::string>& words, const std::string& out);
  std::vector<std::string> with_model(const std::vector<std::string>& words) const;

  std::string model_;
  KnownFact fact_;
  std::filesystem::path folder_;
  int threads_ = 0;
  int layers_ = 0, heads_ = 0;
  std::vector<Sae> saes_;
  std::map<std::string, double> noted_;
};

// ---- words for numbers --------------------------------------------------------------------------
std::string quoted_token(std::string_view token);  // " Paris"
// The items of a list that have the largest values, at most `most` of them.
std::vector<std::size_t> largest(const std::vector<double>& values, std::size_t most);
std::vector<double> numbers(const JsonReader& list);
double mean_of(const std::vector<double>& values);

}  // namespace vitrine::app
