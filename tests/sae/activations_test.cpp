// Rows from a model and from files, and their order.
#include "sae/activations.h"

#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <set>

#include "sae/shuffled_rows.h"
#include "tensor/error.h"
#include "tensor/files/safetensors.h"
#include "tests/sae/small_sae.h"
#include "tests/support.h"
#include "tests/tensor/expect_error.h"
#include "tests/tensor/temporary_folder.h"

namespace vitrine::test {
namespace {

nn::Model tiny() { return nn::load_gpt2((data() / "tiny-gpt2").string(), {.threads = 2}); }

// Lines of ids for the tiny model (97 ids, a context of 32); line i has i + 2 tokens.
std::filesystem::path write_lines(const TemporaryFolder& folder, int count) {
  const auto file = folder.path() / "text.jsonl";
  std::ofstream out(file);
  for (int i = 0; i < count; ++i) {
    out << "{\"tokens\": [";
    for (int t = 0; t < i + 2; ++t) out << (t > 0 ? "," : "") << (7 * i + 3 * t) % 97;
    out << "]}\n";
  }
  return file;
}

std::vector<float> key_of_row(const Tensor& rows, std::int64_t i) {
  return rows.select(0, i).to_vector<float>();
}

TEST(TextActivations, AreTheModelsAtEveryToken) {
  const nn::Model m = tiny();
  const TemporaryFolder folder;
  const auto file = write_lines(folder, 40);  // the last ones are longer than the context
  const std::vector<std::string> names = {"blocks.0.hook_mlp_out", "blocks.1.attn.hook_z"};
  sae::TextSourceSpec spec{.files = {file}, .sites = names, .in_order = true};
  const auto source = sae::text_source(m, spec);
  EXPECT_EQ(source->columns()[0].width, m.config().d_model);
  EXPECT_EQ(source->columns()[1].width, m.config().d_model);
  std::vector<Tensor> got[2];
  sae::SourcePlace place;
  std::int64_t rows = 0;
  while (place.epoch == 0) {
    const auto read = source->read(place);
    rows += read[0].dim(0);
    got[0].push_back(read[0]);
    got[1].push_back(read[1]);
  }
  EXPECT_EQ(rows, source->rows());
  // Beside runs of one piece at a time.
  std::size_t batch = 0;
  std::int64_t at = 0;
  for (int i = 0; i < 40; ++i) {
    nn::Tokens all;
    for (int t = 0; t < i + 2; ++t) all.push_back((7 * i + 3 * t) % 97);
    for (std::size_t begin = 0; begin < all.size(); begin += 32) {
      const nn::Tokens piece(
          all.begin() + static_cast<std::ptrdiff_t>(begin),
          all.begin() + static_cast<std::ptrdiff_t>(std::min(all.size(), begin + 32)));
      const nn::Run r = m.run(piece, sites(names[0] + "," + names[1]));
      for (std::int64_t t = 0; t < std::ssize(piece); ++t) {
        if (at == got[0][batch].dim(0)) ++batch, at = 0;
        for (int c = 0; c < 2; ++c) {
          const Tensor want = r.results.raw(names[static_cast<std::size_t>(c)])
                                  .reshape({std::ssize(piece), m.config().d_model})
                                  .select(0, t);
          expect_close(got[c][batch].select(0, at), want, 1e-5, names[static_cast<std::size_t>(c)]);
        }
        ++at;
      }
    }
  }
}

TEST(TextActivations, LeavesOutTheTokenBeforeAndExcludedOnes) {
  const nn::Model m = tiny();
  const TemporaryFolder folder;
  const auto file = write_lines(folder, 10);
  sae::TextSourceSpec spec{.files = {file}, .sites = {"blocks.0.hook_mlp_out"}};
  const std::int64_t all = sae::text_source(m, spec)->rows();
  spec.bos = 1;
  EXPECT_EQ(sae::text_source(m, spec)->rows(), all);
  spec.excluded = {0, 3, 6};
  std::int64_t fewer = 0;
  for (int i = 0; i < 10; ++i) {
    for (int t = 0; t < i + 2; ++t) {
      const int id = (7 * i + 3 * t) % 97;
      fewer += id == 0 || id == 3 || id == 6 ? 0 : 1;
    }
  }
  EXPECT_LT(fewer, all);
  const auto source = sae::text_source(m, spec);
  EXPECT_EQ(source->rows(), fewer);
  sae::SourcePlace place;
  std::int64_t rows = 0;
  while (place.epoch == 0) rows += source->read(place)[0].dim(0);
  EXPECT_EQ(rows, fewer);
}

TEST(TextActivations, WhatCannotBeReadIsNamed) {
  const nn::Model m = tiny();
  const TemporaryFolder folder;
  const auto empty = folder.path() / "empty.jsonl";
  std::ofstream(empty) << "\n\n";
  EXPECT_NE(message_of<FileError>([&] {
              sae::text_source(m, {.files = {empty}, .sites = {"blocks.0.hook_mlp_out"}});
            }).find("empty.jsonl: there is no token in it"),
            std::string::npos);
  const auto file = write_lines(folder, 3);
  EXPECT_NE(message_of<SiteError>([&] {
              sae::text_source(m, {.files = {file}, .sites = {"blocks.0.attn.hook_pattern"}});
            }).find("does not have a vector for each token"),
            std::string::npos);
  EXPECT_NE(message_of<ContextError>([&] {
              sae::text_source(m, {.files = {file}, .sites = {"hook_embed"}, .context = 33});
            }).find("choose 1 to 32"),
            std::string::npos);
}

TEST(FileActivations, AreTheRowsOfAllShards) {
  const TemporaryFolder folder;
  const Tensor a = draw("a", {2, 5, 4}), b = draw("b", {3, 4});
  save_safetensors(folder.path() / "s1.safetensors", {{"x", a}});
  save_safetensors(folder.path() / "s2.safetensors", {{"x", b.to(DType::bf16)}});
  const auto source = sae::file_source({(folder.path() / "s*.safetensors").string()}, {"x"});
  EXPECT_EQ(source->rows(), 13);
  sae::SourcePlace place;
  EXPECT_EQ(max_abs_difference(source->read(place)[0], a.reshape({10, 4})), 0);
  EXPECT_EQ(max_abs_difference(source->read(place)[0], b.to(DType::bf16).to(DType::f32)), 0);
  EXPECT_EQ(place, (sae::SourcePlace{1, 0}));
}

TEST(FileActivations, WhatIsWrongIsNamed) {
  const TemporaryFolder folder;
  const auto at = [&](const char* name) { return (folder.path() / name).string(); };
  save_safetensors(at("a.safetensors"), {{"x", draw("a", {3, 4})}});
  save_safetensors(at("b.safetensors"), {{"x", draw("b", {3, 5})}});
  EXPECT_NE(message_of<ShapeError>([&] {
              sae::file_source({at("*.safetensors")}, {"x"});
            }).find("b.safetensors: 'x' has rows of width 5, those before had 4"),
            std::string::npos);
  EXPECT_NE(
      message_of<FileError>([&] { sae::file_source({at("a.safetensors")}, {"y"}); }).find("y"),
      std::string::npos);
  EXPECT_NE(message_of<FileError>([&] {
              sae::file_source({at("none*.safetensors")}, {"x"});
            }).find("no file matches"),
            std::string::npos);
  const Tensor nan = draw("n", {3, 4});
  nan.data<float>()[6] = INFINITY;
  save_safetensors(at("c.safetensors"), {{"x", nan}});
  const auto source = sae::file_source({at("c.safetensors")}, {"x"});
  sae::SourcePlace place;
  EXPECT_NE(message_of<NumericError>([&] {
              source->read(place);
            }).find("c.safetensors: row 1 of 'x': the activation has inf at place 2"),
            std::string::npos);
}

// ---- order --------------------------------------------------------------------------------------
class ShuffledRowsTest : public ::testing::TestWithParam<bool> {};
INSTANTIATE_TEST_SUITE_P(Where, ShuffledRowsTest, ::testing::Bool(),
                         [](const auto& tested) { return tested.param ? "mapped" : "memory"; });

TEST_P(ShuffledRowsTest, GivesEachRowOnceInAnotherOrder) {
  const TemporaryFolder folder;
  const Tensor x = draw("x", {50, 3});
  save_safetensors(folder.path() / "x.safetensors", {{"x", x}});
  const auto source = sae::file_source({(folder.path() / "x.safetensors").string()}, {"x"});
  sae::BufferSpec spec{.rows = 20};
  if (GetParam()) spec.file = folder.path() / "buffer";
  sae::ShuffledRows rows(*source, spec);
  std::vector<std::vector<float>> got;
  for (int i = 0; i < 10; ++i) {
    const Tensor batch = rows.next(6)[0];
    for (std::int64_t r = 0; r < 6; ++r) got.push_back(key_of_row(batch, r));
  }
  // Three buffers of 20: rows 0-19, 20-39, and 40-49 with the first ten again.
  std::vector<std::vector<float>> in_order;
  for (int i = 0; i < 60; ++i) in_order.push_back(key_of_row(x, i % 50));
  EXPECT_NE(got, in_order);
  for (int b = 0; b < 3; ++b) {
    const std::multiset<std::vector<float>> a(got.begin() + 20 * b, got.begin() + 20 * (b + 1)),
        want(in_order.begin() + 20 * b, in_order.begin() + 20 * (b + 1));
    EXPECT_EQ(a, want) << b;
  }
}

TEST_P(ShuffledRowsTest, GoesOnWhereItWas) {
  const TemporaryFolder folder;
  save_safetensors(folder.path() / "x.safetensors", {{"x", draw("x", {50, 3})}});
  const auto source = sae::file_source({(folder.path() / "x.safetensors").string()}, {"x"});
  sae::BufferSpec spec{.rows = 20, .dtype = DType::f16, .seed = 3};
  if (GetParam()) spec.file = folder.path() / "buffer";
  sae::ShuffledRows rows(*source, spec);
  for (int i = 0; i < 9; ++i) {
    const sae::BufferPlace place = rows.place();
    const Tensor batch = rows.next(7)[0];
    sae::BufferSpec other = spec;
    if (GetParam()) other.file = folder.path() / "other";
    sae::ShuffledRows again(*source, other);
    again.seek(place);
    EXPECT_EQ(max_abs_difference(batch, again.next(7)[0]), 0) << i;
  }
}

}  // namespace
}  // namespace vitrine::test
