// The contexts of neurons beside a plain loop that runs one line after the other.
#include "interp/contexts.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <gmock/gmock.h>

#include <algorithm>
#include <atomic>
#include <random>

#include "nn/families/sites.h"
#include "nn/text/context_windows.h"
#include "tensor/files/file.h"
#include "tests/support.h"
#include "tests/tensor/expect_error.h"
#include "tests/tensor/temporary_folder.h"

namespace vitrine::interp {
namespace {

using nn::Peak;
using test::TemporaryFolder;

// 3 layers of 192 neurons, 97 ids, a context of 32, no tokenizer.
nn::Model tiny(int threads = 2) {
  return nn::load_gpt2((test::data() / "tiny-gpt2").string(), {.threads = threads});
}

// Lines of 1 to 80 ids, some longer than the context; a blank line and an empty one between them.
std::vector<nn::Tokens> random_lines(int count) {
  std::minstd_rand draw(5);
  std::vector<nn::Tokens> lines;
  for (int i = 0; i < count; ++i) {
    nn::Tokens line(1 + draw() % (i % 10 == 3 ? 80 : 30));
    for (int& id : line) id = static_cast<int>(draw() % 97);
    lines.push_back(line);
  }
  return lines;
}
std::string as_jsonl(const std::vector<nn::Tokens>& lines) {
  std::string text = "\n{\"tokens\": []}\n";  // so the first line is the third
  for (const nn::Tokens& line : lines)
    text += fmt::format("{{\"tokens\": [{}]}}\n", fmt::join(line, ", "));
  return text;
}
constexpr std::int64_t kFirstLine = 3;

class ContextsOfTiny : public ::testing::Test {
 protected:
  ContextsOfTiny() { write_text(file_, as_jsonl(lines_)); }
  const std::vector<nn::Tokens> lines_ = random_lines(60);
  const TemporaryFolder folder_;
  const std::filesystem::path file_ = folder_ / "lines.jsonl";
};

// One run for each piece of each line, everything kept, sorted at the end.
std::vector<std::vector<Peak>> naive(const nn::Model& model, const std::vector<nn::Tokens>& lines,
                                     int kept, std::optional<int> bos = {}) {
  const std::int64_t neurons = std::int64_t{model.config().layers} * model.config().d_mlp;
  std::vector<std::vector<Peak>> all(static_cast<std::size_t>(neurons));
  const std::int64_t before = bos ? 1 : 0, longest = model.config().context - before;
  for (std::size_t l = 0; l < lines.size(); ++l) {
    const auto size = static_cast<std::int64_t>(lines[l].size());
    std::vector<Peak> best(all.size(), {.activation = -INFINITY});
    for (std::int64_t first = 0; first < size; first += longest) {
      const std::int64_t count = std::min(longest, size - first);
      nn::Tokens piece;
      if (bos) piece.push_back(*bos);
      piece.insert(piece.end(), lines[l].begin() + first, lines[l].begin() + first + count);
      const nn::Run run =
          model.run(nn::Prompt(piece), value("logits"), sites("blocks.*.mlp.hook_post"));
      const Tensor logits = run.logits().select(0, 0);
      for (int layer = 0; layer < model.config().layers; ++layer) {
        const Tensor post = run[site::mlp_post(layer)].select(0, 0);
        for (std::int64_t i = 0; i < model.config().d_mlp; ++i) {
          Peak& b = best[static_cast<std::size_t>(layer * model.config().d_mlp + i)];
          for (std::int64_t p = before; p < before + count; ++p) {
            const float x = post.at<float>({p, i});
            if (x <= b.activation) continue;
            const auto row = logits.select(0, p).to_vector<float>();
            const auto top = std::max_element(row.begin(), row.end()) - row.begin();
            b = {x, static_cast<std::int32_t>(first + p - before),
                 kFirstLine + static_cast<std::int64_t>(l), static_cast<std::int32_t>(top)};
          }
        }
      }
    }
    for (std::size_t n = 0; n < all.size(); ++n) all[n].push_back(best[n]);
  }
  for (auto& peaks : all) {
    std::stable_sort(peaks.begin(), peaks.end(),
                     [](const Peak& a, const Peak& b) { return a.activation > b.activation; });
    peaks.resize(std::min(peaks.size(), static_cast<std::size_t>(kept)));
  }
  return all;
}

// Equal to the bit; with a tolerance, activations rank by rank, and the same places where
// neighbouring ranks are further apart than that.
void expect_same(const Contexts& found, const std::vector<std::vector<Peak>>& want,
                 double tolerance) {
  ASSERT_EQ(found.neurons(), static_cast<std::int64_t>(want.size()));
  std::int64_t compared = 0;
  for (std::int64_t n = 0; n < found.neurons(); ++n) {
    const auto mine = found.peaks.of(n);
    const std::vector<Peak>& theirs = want[static_cast<std::size_t>(n)];
    ASSERT_EQ(mine.size(), theirs.size());
    for (std::size_t k = 0; k < mine.size(); ++k) {
      ASSERT_NEAR(mine[k].activation, theirs[k].activation, tolerance) << n << ", rank " << k;
      const auto close = [&](std::size_t a) {
        return a >= theirs.size() ||
               std::abs(theirs[a].activation - theirs[k].activation) <= 4 * tolerance;
      };
      // The last one kept may be as strong as one that was not.
      const bool decided =
          tolerance == 0 || (k + 1 < theirs.size() && !close(k + 1) && (k == 0 || !close(k - 1)));
      if (!decided) continue;
      ++compared;
      ASSERT_EQ(mine[k].line, theirs[k].line) << n << ", rank " << k;
      ASSERT_EQ(mine[k].position, theirs[k].position) << n << ", rank " << k;
      ASSERT_EQ(mine[k].predicted, theirs[k].predicted) << n << ", rank " << k;
    }
  }
  EXPECT_GT(compared, found.neurons() * 4);
}

void expect_equal(const Contexts& a, const Contexts& b) {
  ASSERT_EQ(a.neurons(), b.neurons());
  EXPECT_EQ(a.lines, b.lines);
  EXPECT_EQ(a.tokens, b.tokens);
  EXPECT_EQ(a.long_lines, b.long_lines);
  EXPECT_EQ(a.sums, b.sums);
  EXPECT_EQ(a.positives, b.positives);
  for (std::int64_t n = 0; n < a.neurons(); ++n) {
    const auto x = a.peaks.of(n), y = b.peaks.of(n);
    ASSERT_EQ(x.size(), y.size());
    for (std::size_t k = 0; k < x.size(); ++k) {
      ASSERT_EQ(x[k].activation, y[k].activation) << n << ", rank " << k;
      ASSERT_EQ(x[k].line, y[k].line);
      ASSERT_EQ(x[k].position, y[k].position);
      ASSERT_EQ(x[k].predicted, y[k].predicted);
    }
  }
}

// Batches of one line each are the very runs of the loop.
TEST_F(ContextsOfTiny, EqualsOneRunALine) {
  const nn::Model model = tiny();
  const Contexts found = collect_contexts(model, file_, {.contexts = 6, .rows = 1});
  expect_same(found, naive(model, lines_, 6), 0);
  EXPECT_EQ(found.lines, 60);
  std::int64_t tokens = 0, cut = 0;
  for (const auto& line : lines_) tokens += std::ssize(line), cut += line.size() > 32 ? 1 : 0;
  EXPECT_EQ(found.tokens, tokens);
  EXPECT_GT(cut, 0);
  EXPECT_EQ(found.long_lines, cut);
}

TEST_F(ContextsOfTiny, PackedLinesGiveTheSame) {
  const nn::Model model = tiny();
  for (const std::int64_t rows : {100, 1024}) {
    expect_same(collect_contexts(model, file_, {.contexts = 6, .rows = rows}),
                naive(model, lines_, 6), 1e-5);
  }
}

TEST_F(ContextsOfTiny, WithATokenBeforeEveryPiece) {
  const nn::Model model = tiny();
  expect_same(collect_contexts(model, file_, {.contexts = 5, .bos = 9, .rows = 1}),
              naive(model, lines_, 5, 9), 0);
}

TEST_F(ContextsOfTiny, MeansAreThoseOfAllTokens) {
  const nn::Model model = tiny();
  const Contexts found = collect_contexts(model, file_);
  double sum = 0;
  std::int64_t positive = 0, tokens = 0;
  const NeuronId id{1, 77};
  for (const nn::Tokens& line : lines_) {
    for (std::size_t first = 0; first < line.size(); first += 32) {
      const nn::Tokens piece(
          line.begin() + static_cast<std::ptrdiff_t>(first),
          line.begin() + static_cast<std::ptrdiff_t>(std::min(line.size(), first + 32)));
      const nn::Run run = model.run(nn::Prompt(piece), site::mlp_post(1));
      for (const float x : run[site::mlp_post(1)].select(2, 77).to_vector<float>()) {
        sum += x;
        positive += x > 0 ? 1 : 0;
        ++tokens;
      }
    }
  }
  const std::int64_t row = found.row(id);
  EXPECT_EQ(found.id(row).layer, 1);
  EXPECT_EQ(found.id(row).index, 77);
  EXPECT_NEAR(found.mean(row), sum / static_cast<double>(tokens), 1e-5);
  EXPECT_NEAR(found.active(row), static_cast<double>(positive) / static_cast<double>(tokens), 2e-3);
  EXPECT_GT(found.active(row), 0);
}

TEST_F(ContextsOfTiny, ThreadsChangeNothing) {
  expect_equal(collect_contexts(tiny(1), file_, {.rows = 64}),
               collect_contexts(tiny(2), file_, {.rows = 64}));
}

// Stopped at every tenth line, each time by another model object on other threads.
TEST_F(ContextsOfTiny, StoppedAndResumedEqualsUninterrupted) {
  const Contexts whole = collect_contexts(tiny(1), file_, {.rows = 48});
  const std::filesystem::path checkpoint = folder_ / "checkpoint.safetensors";
  int stops = 0;
  for (;; ++stops) {
    ASSERT_LT(stops, 100);
    std::atomic<bool> cancel = false;
    int lines = 0;
    ContextsSpec spec{.rows = 48, .checkpoint = checkpoint, .save_every = 0, .cancel = &cancel};
    spec.progress = [&](std::int64_t bytes, std::int64_t total) {
      EXPECT_LE(bytes, total);
      if (++lines == 10) cancel = true;
    };
    try {
      const Contexts found = collect_contexts(tiny(1 + stops % 2), file_, spec);
      expect_equal(found, whole);
      EXPECT_GT(found.resumed, 0);
      break;
    } catch (const InterruptedError&) {
    }
  }
  EXPECT_GE(stops, 4);
  // It is complete now: nothing is run any more.
  const Contexts again = collect_contexts(tiny(), file_, {.rows = 48, .checkpoint = checkpoint});
  expect_equal(again, whole);
  EXPECT_EQ(again.resumed, 60);
}

TEST_F(ContextsOfTiny, ACheckpointOfSomethingElseIsRefused) {
  const std::filesystem::path checkpoint = folder_ / "checkpoint.safetensors";
  const nn::Model model = tiny();
  collect_contexts(model, file_, {.checkpoint = checkpoint});
  const std::string before = read_text(checkpoint);
  const auto refused = [&](const nn::Model& m, ContextsSpec spec) {
    spec.checkpoint = checkpoint;
    return test::message_of<FileError>([&] { collect_contexts(m, file_, spec); });
  };
  using ::testing::HasSubstr;
  EXPECT_THAT(refused(model, {.contexts = 3}),
              HasSubstr("the checkpoint is of another number of contexts a neuron (10, not 3); "
                        "repeat the command that made it, or give the checkpoint another name"));
  EXPECT_THAT(refused(model, {.bos = 5}), HasSubstr("another token, or none, put before"));
  EXPECT_THAT(refused(model, {.rows = 5}), HasSubstr("batches of another size"));
  EXPECT_THAT(refused(nn::load_gpt2((test::data() / "tiny-gpt2").string(),
                                    {.gauge = nn::Gauge::processed()}),
                      {}),
              HasSubstr("another model, or the same in another gauge"));
  write_text(file_, as_jsonl(lines_) + "{\"tokens\": [1]}\n");
  EXPECT_THAT(refused(model, {}), HasSubstr("another text, or the file was changed"));
  write_text(file_, as_jsonl(lines_));
  EXPECT_TRUE(read_text(checkpoint) == before);
  save_safetensors(checkpoint, {{"x", Tensor::of({1}, {1.F})}});
  EXPECT_THAT(refused(model, {}), HasSubstr("this is no checkpoint of neuron contexts"));
  write_text(checkpoint, before.substr(0, before.size() / 2));
  EXPECT_THAT(refused(model, {}), HasSubstr("checkpoint.safetensors"));
}

TEST_F(ContextsOfTiny, WindowsAreReadAgain) {
  const nn::Model model = tiny();
  const Contexts found = collect_contexts(model, file_, {.contexts = 8});
  const auto peaks = found.peaks.of(found.row({2, 5}));
  const auto windows = windows_around(model, file_, false, peaks, 3);
  ASSERT_EQ(windows.size(), 8U);
  for (std::size_t k = 0; k < peaks.size(); ++k) {
    const nn::Tokens& line = lines_[static_cast<std::size_t>(peaks[k].line - kFirstLine)];
    const auto at = static_cast<std::size_t>(peaks[k].position);
    EXPECT_EQ(windows[k].token(), line[at]);
    EXPECT_EQ(windows[k].peak, static_cast<int>(std::min<std::size_t>(3, at)));
    const std::size_t begin = at - std::min<std::size_t>(3, at),
                      end = std::min(line.size(), at + 4);
    EXPECT_EQ(windows[k].tokens, nn::Tokens(line.begin() + static_cast<std::ptrdiff_t>(begin),
                                            line.begin() + static_cast<std::ptrdiff_t>(end)));
    EXPECT_EQ(windows[k].from_start, begin == 0);
    EXPECT_EQ(windows[k].to_end, end == line.size());
  }
  const nn::Variety v = variety(peaks, windows);
  EXPECT_GE(v.tokens, 1);
  EXPECT_LE(v.tokens, 8);
  const Peak beyond{.position = 500, .line = 4}, absent{.line = 1000};
  EXPECT_ERROR(FileError, "it was changed in between",
               windows_around(model, file_, false, {&beyond, 1}, 3));
  EXPECT_ERROR(FileError, "line 1000", windows_around(model, file_, false, {&absent, 1}, 3));
}

TEST_F(ContextsOfTiny, MistakesAreExplained) {
  const nn::Model model = tiny();
  const auto of = [&](const std::string& name, const std::string& text) {
    write_text(folder_ / name, text);
    return collect_contexts(model, folder_ / name);
  };
  EXPECT_ERROR(FileError, "empty.jsonl: there is no text in it", of("empty.jsonl", ""));
  EXPECT_ERROR(FileError, "blank.txt: there is no text in it", of("blank.txt", " \n\n\t\n"));
  EXPECT_ERROR(TokenError, "text.txt, line 2: this is text, and the model has no tokenizer",
               of("text.txt", "\nwords\n"));
  EXPECT_ERROR(TokenError, "ids.jsonl, line 1: there is no token 97; this model knows ids 0 to 96",
               of("ids.jsonl", "{\"tokens\": [96, 97]}\n"));
  EXPECT_ERROR(FileError, "none.txt", collect_contexts(model, folder_ / "none.txt"));
  EXPECT_ERROR(Error, "0 contexts a neuron: choose 1 to 10000",
               collect_contexts(model, file_, {.contexts = 0}));
  EXPECT_ERROR(TokenError, "there is no token 97 to begin lines with",
               collect_contexts(model, file_, {.bos = 97}));
  EXPECT_ERROR(SaveError, "none",
               collect_contexts(model, file_, {.checkpoint = folder_ / "none/c"}));
}

}  // namespace
}  // namespace vitrine::interp
