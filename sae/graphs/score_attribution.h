// Why a head looks where it looks: its attention score as a sum over pairs of what the query reads and what the key reads
// ("QK attributions", Kamath et al. 2025, "Tracing attention computation through feature interactions").
//
//   ScoreAttribution s = attribute_score(m, set, g, {.layer = 1, .head = 2, .query = 4, .key = 3});
//   s.query[0], s.key[2], s.at(0, 2);      // a part of each stream, and what the pair adds to the score
//
// The score before the softmax is q . k times the head's scale. With the scales of the norm before attention (and of the norms of
// queries and keys, where a family has them) those of the run, q is a sum over the parts of the stream at the query position
// and k over those at the key position: what features and errors of earlier layers, the token, its position, and earlier
// heads wrote there, and biases. So the score is the sum over all pairs, each turned by its position where the family has
// rotary ones. What is the same for all keys, such as the key's bias, moves no attention.
#pragma once

#include <cstdint>
#include <vector>

#include "sae/graphs/attribution_graph.h"

namespace vitrine::sae {

// A weight of an attention pattern.
struct AttentionPlace {
  int layer = 0, head = 0;
  std::int64_t query = 0, key = 0;  // positions
  friend bool operator==(const AttentionPlace&, const AttentionPlace&) = default;
};

// What wrote to the stream at a position.
struct StreamPart {
  enum class Kind {
    feature,
    error,
    token,
    position,  // its embedding
    head,      // what a head of an earlier layer wrote
    skip,      // of a transcoder
    bias,      // b_O, b_dec, and those of the norm and of the projection
    rest       // parts that are not shown by themselves, together
  };
  Kind kind = Kind::bias;
  int layer = -1;             // of a feature, an error, a head or a skip
  std::int64_t number = -1;   // the feature's in its layer; the head's; the token's
  std::int64_t node = -1;     // of the graph, where it is one
  std::int64_t together = 1;  // of the rest: how many
};
std::string_view name_of(StreamPart::Kind kind);

struct ScoreAttribution {
  AttentionPlace place;
  double score = 0;    // the model's own: hook_attn_scores
  double pattern = 0;  // the weight that softmax makes of it
  std::vector<StreamPart> query, key;
  Tensor pairs;  // f64 [query parts, key parts]

  double at(std::size_t i, std::size_t j) const;
  double of_query(std::size_t i) const;  // summed over the keys' parts
  double of_key(std::size_t j) const;
  double magnitude() const;  // sum |pairs|
  double closure() const;    // |sum of pairs - score|
};

struct ScoreSpec {
  // At most so many parts of each side by themselves: those that move the score most, as queries and keys are. The others are one.
  std::int64_t parts = 400;
};

// Throws Error (usage) for a head that is not there, a position that is not there, and a key that the query does not see; ConfigError for
// a model that caps its scores.
ScoreAttribution attribute_score(const nn::Model& model, const TranscoderSet& set,
                                 const AttributionGraph& graph, const AttentionPlace& place,
                                 const ScoreSpec& spec = {});

}  // namespace vitrine::sae
