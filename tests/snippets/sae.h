// What the examples of sae/ assume.
#include "nn/families/sites.h"
#include "nn/model/model.h"
#include "nn/model/stream_edges.h"
#include "sae/folder.h"
#include "sae/sae.h"
#include "sae/trainer.h"
#include "sae/graphs/attribution_graph.h"
#include "sae/graphs/node_names.h"
#include "tensor/files/file.h"

namespace vitrine::sae {

extern const nn::Model m, model;
extern const Sae sae, early, late, sae0, sae2, transcoder1, transcoder4;
extern const TranscoderSet set;
extern const AttributionGraph g;

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
