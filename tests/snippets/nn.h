// What the examples of nn/ assume.
#include "autograd/edges/edge_set.h"
#include "autograd/ops/ops.h"
#include "nn/families/architecture.h"
#include "nn/model/model.h"
#include "nn/families/sites.h"
#include "nn/tokenizer/word_counts.h"
#include "nn/training/training_settings.h"

namespace vitrine::nn {

extern const Model m, model;
extern const Config config;
extern const BatchSize size;
extern const Interventions edits;
extern const Prompt corrupt;
extern const Run clean;
extern const Metric metric;
extern const Tokenizer tokenizer;
extern const TrainingSettings settings;
extern const std::vector<Tokens> prompts;
extern const TrainingBatch batch;
extern const std::filesystem::path folder;
extern const std::string text;
extern WordCounts counts;
extern const std::int64_t seed, step;
extern const int austin, paris, sacramento, rome;
extern Feeds feeds;
extern ThreadPool pool;

}  // namespace vitrine::nn
