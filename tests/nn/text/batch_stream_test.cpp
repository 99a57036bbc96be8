// Tests nn/text/batch_stream.h: what the rows are, in which order, and that none is lost.
#include "nn/text/batch_stream.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <set>

#include "nn/model/model.h"
#include "tests/nn/training/small_training.h"
#include "tests/tensor/expect_error.h"

namespace vitrine::nn {
namespace {

constexpr int kEnd = 0, kContext = 16;

// Documents of which every token has an id of its own: document d is 100 d + 1, 100 d + 2, ...
std::vector<std::vector<int>> documents(const std::vector<int>& lengths, int first = 0) {
  std::vector<std::vector<int>> all;
  for (std::size_t d = 0; d < lengths.size(); ++d) {
    auto& document = all.emplace_back();
    for (int i = 1; i <= lengths[d]; ++i)
      document.push_back((first + static_cast<int>(d)) * 100 + i);
  }
  return all;
}
const std::vector<int> kLengths = {1, 5, 16, 17, 40, 2, 33, 15};  // 129 tokens

StreamRules rules(std::int64_t rows, double begun = 0.5, std::uint64_t seed = 3) {
  return {rows, kContext, kEnd, begun, random::Key{seed}};
}
BatchStream stream_of(const std::vector<int>& lengths, const StreamRules& rules) {
  return BatchStream({{text_of(documents(lengths)), 1}}, rules);
}

// A batch as its tables say it.
struct Row {
  int token, sequence, position, next;
  friend bool operator==(const Row&, const Row&) = default;
};
std::vector<Row> rows_of(const TrainingBatch& batch) {
  const auto list = [&](const char* name) { return batch.feeds.at(name).to_vector<int>(); };
  const auto token = list("tokens"), sequence = list("rows.sequence"),
             position = list("rows.position"), row = list("next.row"), next = list("next.token");
  std::vector<Row> rows;
  for (std::size_t i = 0; i < token.size(); ++i) {
    EXPECT_EQ(row[i], static_cast<int>(i)) << "every row predicts";
    rows.push_back({token[i], sequence[i], position[i], next[i]});
  }
  return rows;
}

// What follows a token in `lengths` documents.
int after(int token, const std::vector<int>& lengths) {
  return token % 100 == lengths[static_cast<std::size_t>(token / 100)] ? kEnd : token + 1;
}

using Predictions = std::vector<std::pair<int, int>>;  // token, next
Predictions predictions(BatchStream& stream, std::int64_t rows) {
  Predictions all;
  while (std::ssize(all) < rows) {
    for (const Row& r : rows_of(stream.next())) all.emplace_back(r.token, r.next);
  }
  all.resize(static_cast<std::size_t>(rows));
  return all;
}

TEST(BatchStream, EveryRowPredictsWhatFollowsInItsDocument) {
  for (const std::int64_t size : {1, 7, 32, 300}) {
    BatchStream stream = stream_of(kLengths, rules(size));
    for (int i = 0; i < 40; ++i) {
      const TrainingBatch batch = stream.next();
      EXPECT_EQ(batch.size.rows, size);
      EXPECT_EQ(batch.size.positions, kContext);
      EXPECT_EQ(batch.predicted, size);
      const std::vector<Row> all = rows_of(batch);
      ASSERT_EQ(std::ssize(all), size);
      const Row* before = nullptr;
      for (const Row& r : all) {
        if (r.token == kEnd) {
          EXPECT_EQ(r.next % 100, 1) << "end-of-text is followed by the beginning of a document";
        } else {
          EXPECT_EQ(r.next, after(r.token, kLengths));
        }
        const bool begins = before == nullptr || r.sequence != before->sequence;
        EXPECT_EQ(r.sequence, before == nullptr ? 0 : before->sequence + (begins ? 1 : 0));
        EXPECT_EQ(r.position, begins ? 0 : before->position + 1);
        EXPECT_LT(r.position, kContext);
        if (!begins) {
          EXPECT_EQ(r.token, before->next) << "a sequence is a part of one document";
        }
        before = &r;
      }

      // keys [sequence, position]: the row that stands there, or -1.
      ASSERT_LT(all.back().sequence, batch.size.sequences);
      std::vector<int> keys(static_cast<std::size_t>(batch.size.sequences * kContext), -1);
      for (std::size_t r = 0; r < all.size(); ++r)
        keys[static_cast<std::size_t>(all[r].sequence * kContext + all[r].position)] =
            static_cast<int>(r);
      EXPECT_EQ(batch.feeds.at("rows.keys").to_vector<int>(), keys);
    }
  }
}

// With `begun` 0 or 1 the rows of an epoch are known, and a batch can be one epoch.
TEST(BatchStream, AnEpochHasEveryTokenOnce) {
  const auto tokens = static_cast<std::int64_t>(129), count = std::ssize(kLengths);
  for (const bool begun : {false, true}) {
    const std::int64_t epoch = tokens + (begun ? count : 0);
    Predictions expected;
    for (std::size_t d = 0; d < kLengths.size(); ++d) {
      const int first = static_cast<int>(d) * 100 + 1;
      if (begun) expected.emplace_back(kEnd, first);
      for (int i = 0; i < kLengths[d]; ++i)
        expected.emplace_back(first + i, after(first + i, kLengths));
    }
    std::sort(expected.begin(), expected.end());

    BatchStream stream = stream_of(kLengths, rules(epoch, begun ? 1 : 0));
    Predictions all;
    std::set<Predictions> orders;
    std::set<int> positions;  // of a token in the middle of a long document
    for (int e = 0; e < 20; ++e) {
      EXPECT_EQ(stream.positions()[0], (SourcePosition{e, 0, 0, e * epoch}));
      Predictions one;
      for (const Row& r : rows_of(stream.next())) {
        one.emplace_back(r.token, r.next);
        if (r.token == 430) positions.insert(r.position);
      }
      all.insert(all.end(), one.begin(), one.end());
      orders.insert(one);
      std::sort(one.begin(), one.end());
      EXPECT_EQ(one, expected) << "epoch " << e;
    }
    EXPECT_EQ(orders.size(), 20u) << "every epoch has an order of its own";
    EXPECT_GE(positions.size(), 8u) << "and cuts documents at other places";

    // The size of the batches decides where rows stand, not which come next.
    BatchStream small = stream_of(kLengths, rules(7, begun ? 1 : 0));
    EXPECT_EQ(predictions(small, std::ssize(all)), all);
  }
}

// Then the last token of a document is only predicted, and a document of one token is nothing.
TEST(BatchStream, WithoutAnEndOfText) {
  StreamRules without = rules(0, 1);
  without.end_of_text = std::nullopt;
  Predictions expected;
  for (std::size_t d = 0; d < kLengths.size(); ++d) {
    const int first = static_cast<int>(d) * 100 + 1;
    for (int i = 0; i + 1 < kLengths[d]; ++i) expected.emplace_back(first + i, first + i + 1);
  }
  std::sort(expected.begin(), expected.end());
  without.rows = std::ssize(expected);
  BatchStream stream = stream_of(kLengths, without);
  for (int e = 0; e < 5; ++e) {
    EXPECT_EQ(stream.positions()[0], (SourcePosition{e, 0, 0, e * without.rows}));
    Predictions one = predictions(stream, without.rows);
    std::sort(one.begin(), one.end());
    EXPECT_EQ(one, expected) << "epoch " << e;
  }
  stream.seek(stream.positions());
  EXPECT_ERROR(FileError,
               "source 0 has nothing to predict: each of its documents is a single token",
               stream_of({1, 1}, without));
}

TEST(BatchStream, AShareOfDocumentsBeginsWithEndOfText) {
  const std::vector<int> lengths(300, 3);
  BatchStream stream = stream_of(lengths, rules(1, 0.25));
  std::map<int, int> targets;
  int begun = 0;
  std::set<int> first;  // documents that begin with end-of-text in the first epoch
  while (stream.positions()[0].epoch == 0) {
    const Row r = rows_of(stream.next())[0];
    ++targets[r.next];
    if (r.token == kEnd) ++begun, first.insert(r.next);
  }
  EXPECT_NEAR(begun, 75, 30);
  EXPECT_EQ(targets[kEnd], 300);
  for (int d = 0; d < 300; ++d) {
    EXPECT_EQ(targets[d * 100 + 1], first.contains(d * 100 + 1) ? 1 : 0);
    EXPECT_EQ(targets[d * 100 + 2], 1);
    EXPECT_EQ(targets[d * 100 + 3], 1);
  }
  std::set<int> second;
  while (stream.positions()[0].epoch == 1) {
    const Row r = rows_of(stream.next())[0];
    if (r.token == kEnd) second.insert(r.next);
  }
  EXPECT_NE(first, second);
}

// Attention does not cross from one document into another: each sequence alone gives the same.
TEST(BatchStream, APackedBatchIsItsSequencesAlone) {
  const Config config = small_config(900);
  const Model model(config, lively_weights(config, 1, DType::f64), std::nullopt,
                    {.dtype = DType::f64, .threads = 1});
  BatchStream stream = stream_of(kLengths, rules(64));
  for (int i = 0; i < 3; ++i) {
    const TrainingBatch batch = stream.next();
    const Graph graph = with_metric(model.build(batch.size), training_loss(batch.predicted));
    const Results r = compile(graph, fetch(value("loss"), value("loss_per_token")))
                          .run(batch.feeds, model.parameters());
    const auto losses = r["loss_per_token"].to_vector<double>();

    const std::vector<Row> all = rows_of(batch);
    double sum = 0;
    for (std::size_t begin = 0, end; begin < all.size(); begin = end) {
      Tokens sequence;
      for (end = begin; end < all.size() && all[end].sequence == all[begin].sequence; ++end)
        sequence.push_back(all[end].token);
      const auto logits = model.run(sequence).logits().to_vector<double>();
      for (std::size_t row = begin; row < end; ++row) {
        const double* z = logits.data() + (row - begin) * 900;
        double total = 0;
        for (int v = 0; v < 900; ++v) total += std::exp(z[v]);
        const double loss = std::log(total) - z[all[row].next];
        EXPECT_NEAR(losses[row], loss, 1e-9);
        sum += loss;
      }
    }
    EXPECT_NEAR(r.scalar("loss"), sum / 64, 1e-9);
  }
}

TEST(BatchStream, SourcesGiveTheirShareAtAnyTime) {
  const std::vector<double> weights = {1, 2.5, 0.5};
  std::vector<Source> sources;
  for (int s = 0; s < 3; ++s)
    sources.push_back({text_of(documents(kLengths, 10 * s)), weights[static_cast<std::size_t>(s)]});
  sources[2].text = text_of(documents({3}, 20));  // read again and again
  BatchStream stream(std::move(sources), rules(50, 0));
  double served[3] = {0, 0, 0}, total = 0;
  for (int i = 0; i < 100; ++i) {
    for (const Row& r : rows_of(stream.next())) {
      ++served[r.token / 1000];
      ++total;
    }
    for (std::size_t s = 0; s < 3; ++s) {
      EXPECT_NEAR(served[s], total * weights[s] / 4, 2 * kContext);
      EXPECT_EQ(static_cast<double>(stream.positions()[s].served), served[s]);
    }
  }
  EXPECT_GT(stream.positions()[2].epoch, 100);
}

std::vector<Source> two_sources() {
  std::vector<Source> sources;
  sources.push_back({text_of(documents(kLengths)), 2});
  sources.push_back({text_of(documents({20, 1}, 10)), 1});
  return sources;
}

TEST(BatchStream, TheSeedDecides) {
  BatchStream a(two_sources(), rules(20)), b(two_sources(), rules(20)),
      other(two_sources(), rules(20, 0.5, 4));
  int different = 0;
  for (int i = 0; i < 50; ++i) {
    const auto batch = rows_of(a.next());
    EXPECT_EQ(batch, rows_of(b.next()));
    if (batch != rows_of(other.next())) ++different;
  }
  EXPECT_GE(different, 49);
}

TEST(BatchStream, GoesOnFromAnyPosition) {
  BatchStream stream(two_sources(), rules(20));
  std::vector<std::vector<SourcePosition>> positions;
  std::vector<std::vector<Row>> batches;
  for (int i = 0; i < 60; ++i) {
    positions.push_back(stream.positions());
    batches.push_back(rows_of(stream.next()));
  }
  EXPECT_GT(stream.positions()[0].epoch, 2);
  BatchStream again(two_sources(), rules(20));
  for (std::size_t i : {59u, 0u, 1u, 2u, 3u, 17u, 40u, 41u, 42u, 43u, 44u}) {
    again.seek(positions[i]);
    EXPECT_EQ(again.positions(), positions[i]);
    for (std::size_t j = i; j < std::min<std::size_t>(i + 9, 60); ++j)
      EXPECT_EQ(rows_of(again.next()), batches[j]) << "from " << i;
  }
}

TEST(BatchStream, RefusesWrongPositionsAndStaysWhereItIs) {
  BatchStream stream(two_sources(), rules(20));
  for (int i = 0; i < 5; ++i) stream.next();
  const auto here = stream.positions();
  EXPECT_ERROR(CheckpointError, "stands in 1 sources of text, not 2", stream.seek({here[0]}));
  const std::vector<SourcePosition> wrong = {{-1, 0, 0, 0}, {0, -1, 0, 0}, {0, 1000, 0, 0},
                                             {0, 0, -1, 0}, {0, 0, 16, 0}, {0, 0, 0, -1}};
  for (const SourcePosition& p : wrong) {
    EXPECT_ERROR(CheckpointError, "of source 1, which has no such place", stream.seek({{}, p}));
    EXPECT_EQ(stream.positions(), here);
  }
  for (const SourcePosition& p :
       std::vector<SourcePosition>{{0, 0, 1, 0}, {0, 0, 0, 1}, {0, 0, 0, 1000}, {1, 0, 0, 1}}) {
    EXPECT_ERROR(CheckpointError, "rows, which it has not at row", stream.seek({{}, p}));
    EXPECT_EQ(stream.positions(), here);
  }
  BatchStream twin(two_sources(), rules(20));
  for (int i = 0; i < 5; ++i) twin.next();
  EXPECT_EQ(rows_of(stream.next()), rows_of(twin.next()));
}

TEST(BatchStream, RefusesWhatCannotBe) {
  const auto one = [](double weight) {
    return std::vector<Source>{{text_of(documents({3})), weight}};
  };
  EXPECT_ERROR(FileError, "there is no text to train on", BatchStream({}, rules(20)));
  std::vector<Source> sources = one(1);
  sources.push_back({text_of({}), 1});
  EXPECT_ERROR(FileError, "source 1 has no text", BatchStream(sources, rules(20)));
  for (const double weight : {0.0, -1.0, std::numeric_limits<double>::quiet_NaN(),
                              std::numeric_limits<double>::infinity()}) {
    EXPECT_ERROR(Error, "it must be a positive number", BatchStream(one(weight), rules(20)));
  }
  EXPECT_ERROR(Error, "at least 1 row", BatchStream(one(1), rules(0)));
  StreamRules no_context = rules(20);
  no_context.context = 0;
  EXPECT_ERROR(Error, "context of at least 1", BatchStream(one(1), no_context));
}

TEST(TrainingBatch, OfPrompts) {
  const std::vector<Tokens> prompts = {{1, 2, 3}, {4}, {5, 6}};
  const TrainingBatch batch = training_batch(prompts);
  EXPECT_EQ(batch.size, batch_size(prompts));
  EXPECT_EQ(batch.predicted, 3);
  EXPECT_EQ(batch.feeds.at("next.token").to_vector<int>(), (std::vector<int>{2, 3, 6}));
}

}  // namespace
}  // namespace vitrine::nn
