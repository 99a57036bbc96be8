// What the examples of sae/ assume.
#include "nn/model/model.h"
#include "nn/model/stream_edges.h"
#include "nn/families/sites.h"
#include "sae/folder.h"
#include "sae/sae.h"
#include "sae/trainer.h"

namespace vitrine::sae {

extern const nn::Model m, model;
extern const Sae sae, early, late;
extern const nn::Tokens prompt;
extern const SaeTrainingRules rules;
extern const TrainSettings settings;
extern const TextSourceSpec spec;
extern const std::filesystem::path folder;
extern const Tensor batch;
extern const Feeds feeds;
extern const random::Key key;
extern ThreadPool pool;

}  // namespace vitrine::sae
