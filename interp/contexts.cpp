#include "interp/contexts.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <limits>
#include <utility>

#include "autograd/ops/ops.h"
#include "interp/contexts_checkpoint.h"
#include "nn/families/sites.h"
#include "nn/model/weights.h"
#include "nn/text/corpus_lines.h"
#include "tensor/error.h"

namespace vitrine::interp {
namespace {

// Tokens of a line that are run as one sequence.
struct Piece {
  std::int64_t line = 0, first = 0;  // the line's number, and the position of the first token
  std::int64_t row = 0, rows = 0;    // where they are in the batch; without the token before them
};

// ---- the tokens that a model predicts -----------------------------------------------------------
// argmax of the logits, for a few rows at a time: the unembedding is a third of a small model's
// work, and only rows with a new peak need it. Always the same number of rows, so that there is one
// plan.
class Predictor {
 public:
  explicit Predictor(const nn::Model& model) : model_(model) {
    Builder b(model.build(nn::Model::Uniform{1, 1}));
    const nn::WeightValues w = nn::weights_of(b, model.config());
    const Value x = b.input("final", {w.w_u.dtype(), {kRows, model.config().d_model}});
    const Value logits = nn::unembedded(w, x);  // [kRows, vocabulary]
    b.output("predicted", argmax(logits));
    b.output("largest", max(logits, {1}));
    plan_ = compile(std::move(b).finish(), fetch(value("predicted"), value("largest")));
  }

  // `final` is unembed.hook_in of a batch, [rows, d_model]. Fills in predicted[row] for `rows`.
  void predict(const Tensor& final, const std::vector<std::int64_t>& rows,
               std::vector<std::int32_t>& predicted) const {
    for (std::size_t begin = 0; begin < rows.size(); begin += kRows) {
      const std::size_t count = std::min<std::size_t>(kRows, rows.size() - begin);
      Tensor x = Tensor::zeros({kRows, final.dim(1)}, final.dtype());
      for (std::size_t i = 0; i < count; ++i) {
        const Tensor row = final.select(0, rows[begin + i]);
        std::copy_n(row.view().data, row.bytes(),
                    x.select(0, static_cast<std::int64_t>(i)).view().data);
      }
      const Results r = plan_.run({{"final", x}}, model_.parameters(), {.pool = &model_.pool()});
      const auto ids = r.raw("predicted").to_vector<std::int32_t>();
      if (!all_finite(r.raw("largest")))
        throw NumericError("a logit is infinite: numbers of the model have become too large");
      for (std::size_t i = 0; i < count; ++i)
        predicted[static_cast<std::size_t>(rows[begin + i])] = ids[i];
    }
  }

 private:
  static constexpr std::int64_t kRows = 128;
  const nn::Model& model_;
  Plan plan_;
};

// ---- what a batch adds --------------------------------------------------------------------------
// One layer's activations of a block of neurons. For each piece the largest one and its row are
// found first, a loop without branches that compilers turn into vector instructions; few of these
// are above a threshold.
constexpr std::int64_t kBlock = 128;

struct BlockOfPiece {
  float largest[kBlock], sum[kBlock];
  std::int32_t at[kBlock], positive[kBlock];
};

// post: the first of `rows` rows of `width` neurons, whose distance is `stride`.
void scan_block(const float* post, std::int64_t rows, std::int64_t stride, std::int64_t width,
                BlockOfPiece& out) {
  std::fill_n(out.largest, kBlock, -std::numeric_limits<float>::infinity());
  std::fill_n(out.sum, kBlock, 0.0F);
  std::fill_n(out.at, kBlock, 0);
  std::fill_n(out.positive, kBlock, 0);
  for (std::int64_t r = 0; r < rows; ++r) {
    const float* x = post + r * stride;
    const auto row = static_cast<std::int32_t>(r);
    for (std::int64_t i = 0; i < width; ++i) {
      const bool larger = x[i] > out.largest[i];
      out.largest[i] = larger ? x[i] : out.largest[i];
      out.at[i] = larger ? row : out.at[i];
      out.sum[i] += x[i];
      out.positive[i] += x[i] > 0 ? 1 : 0;
    }
  }
}

// ---- the pass -----------------------------------------------------------------------------------
class Pass {
 public:
  Pass(const nn::Model& model, const std::filesystem::path& file, const ContextsSpec& spec)
      : model_(model),
        file_(file),
        spec_(spec),
        // Made before the file is read for long: a checkpoint of something else is told at once.
        checkpoint_(model, file, spec),
        predictor_(model),
        found_(model.config().layers, model.config().d_mlp, spec.contexts),
        fresh_(static_cast<std::size_t>(found_.neurons()), 0) {
    wanted_.wants.push_back(as_want(site::unembed_in()));
    for (int l = 0; l < found_.layers; ++l) wanted_.wants.push_back(as_want(site::mlp_post(l)));
  }

  Contexts run() {
    checkpoint_.load(found_, place_);
    found_.resumed = found_.lines;
    try {
      nn::for_each_line(model_, file_, spec_.special, place_.line, [&](const nn::CorpusLine& line) {
        check_cancelled();
        add(line);
        if (spec_.progress) spec_.progress(line.end, line.total);
      });
      run_batch();
    } catch (const InterruptedError&) {
      checkpoint_.save(found_, place_);  // of whole batches, so that going on gives the same ones
      throw;
    }
    if (found_.tokens == 0) {
      throw FileError(fmt::format(
          "{}: there is no text in it: every line is blank; give a file with a text a line",
          file_.string()));
    }
    checkpoint_.save(found_, place_);
    return std::move(found_);
  }

 private:
  void check_cancelled() const {
    if (spec_.cancel != nullptr && *spec_.cancel) throw InterruptedError("interrupted");
  }

  void add(const nn::CorpusLine& line) {
    const auto size = static_cast<std::int64_t>(line.tokens.size());
    const std::int64_t before = spec_.bos ? 1 : 0, longest = model_.config().context - before;
    // Of the line at which an earlier pass stopped, some pieces may be done.
    std::int64_t first = line.number == place_.line ? place_.position : 0;
    for (; first < size; first += longest) {
      const std::int64_t count = std::min(longest, size - first);
      if (rows_ > 0 && rows_ + before + count > spec_.rows) run_batch();
      const auto begin = line.tokens.begin() + first;
      nn::Tokens tokens(begin, begin + count);
      if (spec_.bos) tokens.insert(tokens.begin(), *spec_.bos);
      pieces_.push_back({line.number, first, rows_ + before, count});
      rows_ += before + count;
      prompts_.push_back(std::move(tokens));
      if (first == 0) ++new_lines_;
      if (first == 0 && size > longest) ++new_long_lines_;
    }
  }

  void run_batch() {
    if (pieces_.empty()) return;
    const Graph graph = model_.build(nn::batch_size(prompts_));
    const Plan plan = compile(graph, wanted_);
    const Results r = plan.run(model_.feeds(graph, prompts_), model_.parameters(),
                               {.pool = &model_.pool(), .cancel = spec_.cancel});
    for (int l = 0; l < found_.layers; ++l) {
      add_layer(l, r.raw(site::mlp_post(l).name).to(DType::f32).contiguous());
      check_sums(l);
    }
    predict(r.raw(site::unembed_in().name).contiguous());
    for (const Piece& p : pieces_) found_.tokens += p.rows;
    found_.lines += std::exchange(new_lines_, 0);
    found_.long_lines += std::exchange(new_long_lines_, 0);
    place_ = {pieces_.back().line, pieces_.back().first + pieces_.back().rows};
    pieces_.clear();
    prompts_.clear();
    rows_ = 0;
    checkpoint_.save_if_due(found_, place_);
  }

  void add_layer(int layer, const Tensor& post) {  // [rows, d_mlp]
    const std::int64_t per_layer = found_.per_layer, blocks = (per_layer + kBlock - 1) / kBlock;
    const float* data = post.data<float>();
    model_.pool().parallel_for(blocks, 1, [&](std::int64_t begin, std::int64_t end) {
      BlockOfPiece block;
      for (std::int64_t n = begin * kBlock; n < std::min(end * kBlock, per_layer); n += kBlock) {
        const std::int64_t width = std::min(kBlock, per_layer - n);
        for (const Piece& piece : pieces_) {
          scan_block(data + piece.row * per_layer + n, piece.rows, per_layer, width, block);
          merge(block, piece, layer * per_layer + n, width);
        }
      }
    });
  }

  // A neuron that was infinite once has no mean, and peaks that say nothing.
  void check_sums(int layer) const {
    for (std::int64_t n = 0; n < found_.per_layer; ++n) {
      const double sum = found_.sums[static_cast<std::size_t>(layer * found_.per_layer + n)];
      if (std::isfinite(sum)) continue;
      throw NumericError(
          fmt::format("{}, lines {} to {}: an activation of neuron {} of layer {} is infinite: "
                      "numbers of the model have become too large",
                      file_.string(), pieces_.front().line, pieces_.back().line, n, layer));
    }
  }

  // Neurons of different blocks share nothing, so this may happen on several threads.
  void merge(const BlockOfPiece& block, const Piece& piece, std::int64_t first_neuron,
             std::int64_t width) {
    for (std::int64_t i = 0; i < width; ++i) {
      const std::int64_t neuron = first_neuron + i;
      const auto n = static_cast<std::size_t>(neuron);
      found_.sums[n] += block.sum[i];
      found_.positives[n] += block.positive[i];
      if (block.largest[i] <= found_.peaks.threshold(neuron)) continue;
      const auto position = static_cast<std::int32_t>(piece.first + block.at[i]);
      if (found_.peaks.offer(neuron, {block.largest[i], position, piece.line})) fresh_[n] = 1;
    }
  }

  // The row of a peak that this batch has made.
  std::int64_t row_of(const nn::Peak& peak) const {
    const auto after = std::upper_bound(
        pieces_.begin(), pieces_.end(), peak, [](const nn::Peak& p, const Piece& piece) {
          return std::pair(p.line, std::int64_t{p.position}) < std::pair(piece.line, piece.first);
        });
    const Piece& piece = *(after - 1);
    return piece.row + peak.position - piece.first;
  }

  void predict(const Tensor& final) {
    std::vector<std::pair<nn::Peak*, std::int64_t>> open;  // peaks, and their rows
    std::vector<std::uint8_t> needed(static_cast<std::size_t>(rows_), 0);
    for (std::int64_t neuron = 0; neuron < found_.neurons(); ++neuron) {
      if (std::exchange(fresh_[static_cast<std::size_t>(neuron)], 0) == 0) continue;
      for (nn::Peak& peak : found_.peaks.of(neuron)) {
        if (peak.predicted != nn::Peak::kNotPredicted) continue;
        open.emplace_back(&peak, row_of(peak));
        needed[static_cast<std::size_t>(open.back().second)] = 1;
      }
    }
    std::vector<std::int64_t> rows;
    for (std::int64_t row = 0; row < rows_; ++row) {
      if (needed[static_cast<std::size_t>(row)] != 0) rows.push_back(row);
    }
    std::vector<std::int32_t> predicted(needed.size(), nn::Peak::kNotPredicted);
    predictor_.predict(final, rows, predicted);
    for (const auto& [peak, row] : open) peak->predicted = predicted[static_cast<std::size_t>(row)];
  }

  const nn::Model& model_;
  const std::filesystem::path& file_;
  const ContextsSpec& spec_;
  ContextsCheckpoint checkpoint_;
  Predictor predictor_;
  Fetch wanted_;
  Contexts found_;
  CorpusPlace place_;  // up to which batches have been run
  // The batch that is being filled.
  std::vector<Piece> pieces_;
  std::vector<nn::Tokens> prompts_;
  std::int64_t rows_ = 0, new_lines_ = 0, new_long_lines_ = 0;
  std::vector<std::uint8_t> fresh_;  // neurons with peaks of which the prediction is not known yet
};

}  // namespace

Contexts::Contexts(int layer_count, int neurons_per_layer, int contexts)
    : layers(layer_count),
      per_layer(neurons_per_layer),
      peaks(static_cast<std::int64_t>(layers) * per_layer, contexts),
      sums(static_cast<std::size_t>(neurons()), 0),
      positives(static_cast<std::size_t>(neurons()), 0) {}

double Contexts::mean(std::int64_t row) const {
  return sums[static_cast<std::size_t>(row)] / static_cast<double>(tokens);
}
double Contexts::active(std::int64_t row) const {
  return static_cast<double>(positives[static_cast<std::size_t>(row)]) /
         static_cast<double>(tokens);
}

Contexts collect_contexts(const nn::Model& model, const std::filesystem::path& file,
                          const ContextsSpec& spec) {
  constexpr int kMostContexts = 10'000;
  const auto usage = [](const std::string& what) { throw Error(ErrorKind::usage, what); };
  if (spec.contexts < 1 || spec.contexts > kMostContexts)
    usage(fmt::format("{} contexts a neuron: choose 1 to {}", spec.contexts, kMostContexts));
  if (spec.rows < 1) usage(fmt::format("batches of {} rows: choose 1 or more", spec.rows));
  if (spec.bos && (*spec.bos < 0 || *spec.bos >= model.config().vocabulary)) {
    throw TokenError(
        fmt::format("there is no token {} to begin lines with; this model knows ids 0 "
                    "to {}",
                    *spec.bos, model.config().vocabulary - 1));
  }
  if (spec.bos && model.config().context < 2)
    usage("this model's context has room for one token, and the one put before lines takes it");
  return Pass(model, file, spec).run();
}

}  // namespace vitrine::interp
