// SAELens's folders and other libraries' files, there and back, and what is wrong with them.
#include "sae/folder.h"

#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <regex>

#include "sae/other_libraries.h"
#include "tensor/error.h"
#include "tensor/files/file.h"
#include "tensor/files/safetensors.h"
#include "tests/sae/small_sae.h"
#include "tests/support.h"
#include "tests/tensor/expect_error.h"

namespace vitrine::test {
namespace {

namespace fs = std::filesystem;
using sae::SaeArchitecture;

class SaeFolder : public ::testing::Test {
 protected:
  void SetUp() override {
    const auto* info = ::testing::UnitTest::GetInstance()->current_test_info();
    folder_ = fs::path(::testing::TempDir()) / (std::string("sae_folder_") + info->name());
    fs::remove_all(folder_);
    fs::create_directories(folder_);
  }
  void TearDown() override { fs::remove_all(folder_); }

  // A folder that is fine, with `from` in its cfg.json replaced by `to`.
  void write_edited(const std::string& from, const std::string& to) const {
    sae::save(small_sae({.architecture = SaeArchitecture::topk, .k = 3}), folder_);
    std::string text = read_text(folder_ / "cfg.json");
    const auto at = text.find(from);
    ASSERT_NE(at, std::string::npos) << text;
    write_text(folder_ / "cfg.json", text.replace(at, from.size(), to));
  }
  template <class E>
  void expect_said(const std::string& part) const {
    const std::string said = message_of<E>([&] { sae::load(folder_); });
    EXPECT_NE(said.find(part), std::string::npos) << said;
    EXPECT_NE(said.find(folder_.string()), std::string::npos) << said;
  }
  fs::path folder_;
};

void expect_same(const sae::Sae& a, const sae::Sae& b) {
  const Tensor x = draw("there and back", {6, a.config.d_in});
  expect_close(sae::Encoder(a).encode(x).features, sae::Encoder(b).encode(x).features, 1e-6, "f");
  expect_close(sae::Encoder(a).encode(x).reconstruction, sae::Encoder(b).encode(x).reconstruction,
               1e-6, "y");
}

TEST_F(SaeFolder, ComesBackAsItWasWritten) {
  sae::SaeConfig c{.architecture = SaeArchitecture::jumprelu,
                   .normalise = sae::Normalisation::layer_norm};
  c.hook_name = "blocks.2.hook_mlp_out";
  c.model_name = "a model";
  c.prepend_bos = true;
  c.context_size = 64;
  sae::Sae s = small_sae(c);
  s.sparsity = draw("sparsity", {20});
  sae::save(s, folder_);
  const sae::Sae back = sae::load(folder_);
  EXPECT_EQ(back.config.hook_name, c.hook_name);
  EXPECT_EQ(back.config.model_name, c.model_name);
  EXPECT_EQ(back.config.prepend_bos, c.prepend_bos);
  EXPECT_EQ(back.config.context_size, 64);
  EXPECT_EQ(back.config.normalise, c.normalise);
  EXPECT_EQ(max_abs_difference(*back.sparsity, *s.sparsity), 0);
  for (const auto& [name, tensor] : s.weights)
    EXPECT_EQ(max_abs_difference(tensor, back.weights.at(name)), 0) << name;
  expect_same(s, back);
}

TEST_F(SaeFolder, KeepsMetadataThatItDoesNotKnow) {
  write_edited("\"metadata\": {", "\"metadata\": {\"dataset_path\": \"a corpus\", ");
  const sae::Sae s = sae::load(folder_);
  sae::save(s, folder_ / "again");
  EXPECT_NE(read_text(folder_ / "again" / "cfg.json").find("\"a corpus\""), std::string::npos);
}

TEST_F(SaeFolder, AnSaeOfOneHeadKeepsItsHead) {
  write_edited("\"metadata\": {", "\"metadata\": {\"hook_head_index\": 2, ");
  const sae::Sae s = sae::load(folder_);
  EXPECT_EQ(s.config.head, 2);
  sae::save(s, folder_ / "again");
  EXPECT_EQ(sae::load(folder_ / "again").config.head, 2);
}

// A sparsity of the SAE that was there before is not that of the new one.
TEST_F(SaeFolder, ASparsityThatIsNotKnownIsNotLeftThere) {
  sae::Sae s = small_sae({});
  s.sparsity = draw("sparsity", {20});
  sae::save(s, folder_);
  EXPECT_TRUE(sae::load(folder_).sparsity);
  s.sparsity.reset();
  sae::save(s, folder_);
  EXPECT_FALSE(sae::load(folder_).sparsity);
}

TEST_F(SaeFolder, TranscodersKeepTheirKind) {
  const sae::Sae s = small_sae({.transcoder = true, .skip = true});
  sae::save(s, folder_);
  EXPECT_NE(read_text(folder_ / "cfg.json").find("\"skip_transcoder\""), std::string::npos);
  expect_same(s, sae::load(folder_));
}

TEST_F(SaeFolder, ReadsTheOlderFormat) {
  write_edited("\"sae_lens_version\": \"6.54.12\"", "\"sae_lens_version\": \"5.1.0\"");
  std::string text = read_text(folder_ / "cfg.json");
  text =
      std::regex_replace(text, std::regex("\"architecture\": \"topk\""),
                         "\"activation_fn_str\": \"topk\", \"activation_fn_kwargs\": {\"k\": 3}, "
                         "\"hook_point\": \"blocks.1.attn.hook_z\", \"lr\": 0.1");
  write_text(folder_ / "cfg.json", text);
  const sae::SaeConfig c = sae::load(folder_).config;
  EXPECT_EQ(c.architecture, SaeArchitecture::topk);
  EXPECT_EQ(c.k, 3);
  EXPECT_EQ(c.hook_name, "blocks.1.attn.hook_z");
  EXPECT_EQ(c.prepend_bos, true);
}

// ---- what is wrong ------------------------------------------------------------------------------
TEST_F(SaeFolder, AnUnknownArchitectureIsNamedWithTheNearest) {
  write_edited("\"topk\"", "\"top\"");
  expect_said<ConfigError>(
      "architecture: expected standard, topk, jumprelu, gated, matching_pursuit, transcoder, "
      "skip_transcoder, jumprelu_transcoder or jumprelu_skip_transcoder, found \"top\" (did you "
      "mean topk?)");
}
TEST_F(SaeFolder, SettingsThatAreNotSupportedAreRejectedByName) {
  write_edited("\"normalize_activations\": \"none\"",
               "\"normalize_activations\": \"covariance_whitening\"");
  expect_said<ConfigError>(
      "normalize_activations: expected none, expected_average_only_in, layer_norm or "
      "constant_norm_rescale, found \"covariance_whitening\"; whitening is not supported");
  write_edited("\"device\"", "\"something_else\": 1, \"device\"");
  expect_said<ConfigError>(
      "something_else: this field is not known, so it cannot be honoured; remove it if what the "
      "SAE computes does not depend on it");
  write_edited("\"device\"", "\"d_out\": 13, \"device\"");
  expect_said<ConfigError>("d_out: expected 12, found 13; an SAE gives back its 12 inputs");
  write_edited("\"topk\"", "\"standard\"");
  expect_said<ConfigError>(
      "k: expected no such field, found 3; it belongs to topk, and this is a standard SAE");
  for (const char* name : {"temporal", "abstopk"}) {
    write_edited("\"topk\"", std::string("\"") + name + "\"");
    expect_said<ConfigError>(std::string("found \"") + name + "\"; it is not supported");
  }
  write_edited("\"device\"", "\"max_iterations\": 3, \"device\"");
  expect_said<ConfigError>(
      "max_iterations: expected no such field, found 3; it belongs to matching_pursuit, and this "
      "is "
      "a topk SAE");
  write_edited("\"topk\"", "\"batchtopk\"");
  expect_said<ConfigError>(
      "architecture: expected an architecture of inference, found \"batchtopk\"; this is a "
      "checkpoint of a training");
  write_edited("\"metadata\": {", "\"metadata\": {\"hook_head_index\": -1, ");
  expect_said<ConfigError>(
      "metadata.hook_head_index: expected the number of a head, from 0, found -1");
  write_edited("\"metadata\": {", "\"metadata\": {\"hook_head_index_out\": 1, ");
  expect_said<ConfigError>("metadata.hook_head_index_out: expected null, found 1");
  sae::save(small_sae({.transcoder = true}), folder_);
  std::string text = read_text(folder_ / "cfg.json");
  text = std::regex_replace(text, std::regex("\"apply_b_dec_to_input\": false"),
                            "\"apply_b_dec_to_input\": true");
  write_text(folder_ / "cfg.json", text);
  expect_said<ConfigError>(
      "apply_b_dec_to_input: expected false, found true; b_dec of a transcoder");
}
// How it was trained does not change what it computes.
TEST_F(SaeFolder, SettingsOfTrainingArePassedOver) {
  for (const char* setting :
       {"\"jumprelu_ste_to_input\": true", "\"jumprelu_sparsity_loss_mode\": \"quadratic\"",
        "\"target_l0\": 20", "\"l1_coefficient\": 3", "\"aux_loss_coefficient\": 0.5",
        "\"use_sparse_activations\": true"}) {
    write_edited("\"device\"", std::string(setting) + ", \"device\"");
    EXPECT_EQ(sae::load(folder_).config.k, 3) << setting;
  }
}
TEST_F(SaeFolder, FilesThatAreMissingAreNamed) {
  expect_said<FileError>("there is no cfg.json in it");
  sae::save(small_sae({}), folder_);
  fs::remove(folder_ / "sae_weights.safetensors");
  expect_said<FileError>("sae_weights.safetensors");
}
TEST_F(SaeFolder, WeightsThatDoNotFitAreNamed) {
  const sae::Sae s = small_sae({});
  sae::save(s, folder_);
  const fs::path file = folder_ / "sae_weights.safetensors";
  const auto& w = s.weights;
  save_safetensors(file, {{"W_enc", w.at("W_enc")}, {"W_dec", w.at("W_dec")}});
  expect_said<CheckpointError>("'b_enc' [20] is missing (and 1 more)");
  save_safetensors(file, {{"W_enc", w.at("W_enc")},
                          {"W_dec", w.at("W_dec")},
                          {"b_enc", draw("b", {19})},
                          {"b_dec", w.at("b_dec")}});
  expect_said<CheckpointError>("'b_enc' is [19] where the configuration needs [20]");
  save_safetensors(file, {{"W_enc", w.at("W_enc")},
                          {"W_dec", w.at("W_dec")},
                          {"b_enc", w.at("b_enc")},
                          {"b_dec", w.at("b_dec")},
                          {"threshold", draw("t", {20})}});
  expect_said<CheckpointError>("'threshold' is a weight that a standard SAE does not have");
  const Tensor nan = w.at("b_dec").clone();
  nan.data<float>()[4] = std::nanf("");
  save_safetensors(file, {{"W_enc", w.at("W_enc")},
                          {"W_dec", w.at("W_dec")},
                          {"b_enc", w.at("b_enc")},
                          {"b_dec", nan}});
  expect_said<NumericError>("element 4 of 'b_dec' is nan");
}

// ---- other libraries ----------------------------------------------------------------------------
TEST_F(SaeFolder, ReadsOtherLibrariesByTheirNames) {
  const sae::Sae s = small_sae({});
  const auto t = [&](const char* name) { return s.weights.at(name).transpose(0, 1).contiguous(); };
  const auto w = [&](const char* name) { return s.weights.at(name); };
  save_safetensors(folder_ / "learned.safetensors", {{"encoder.weight", t("W_enc")},
                                                     {"encoder.bias", w("b_enc")},
                                                     {"decoder.weight", t("W_dec")},
                                                     {"bias", w("b_dec")}});
  save_safetensors(folder_ / "openai.safetensors", {{"encoder.weight", t("W_enc")},
                                                    {"latent_bias", w("b_enc")},
                                                    {"decoder.weight", t("W_dec")},
                                                    {"pre_bias", w("b_dec")}});
  save_safetensors(folder_ / "sae.safetensors", {{"encoder.weight", t("W_enc")},
                                                 {"encoder.bias", w("b_enc")},
                                                 {"W_dec", w("W_dec")},
                                                 {"b_dec", w("b_dec")}});
  expect_same(sae::import_weights(folder_ / "learned.safetensors", 0), s);
  expect_same(sae::import_weights(folder_ / "openai.safetensors", 0), s);
  // A folder with sae.safetensors. What is kept of sparsify's features must be said.
  EXPECT_ERROR(ConfigError, "keeps its k largest features, and there is no cfg.json beside it",
               sae::import_weights(folder_, 0));
  sae::Sae top = s;
  top.config.architecture = SaeArchitecture::topk;
  top.config.k = 3;
  expect_same(sae::import_weights(folder_, 3), top);
}
TEST_F(SaeFolder, NeverReadsAPickle) {
  std::ofstream(folder_ / "ae.pt") << "x";
  const std::string said =
      message_of<FileError>([&] { sae::import_weights(folder_ / "ae.pt", 0); });
  EXPECT_NE(said.find("pickled files can run code"), std::string::npos) << said;
}
TEST_F(SaeFolder, AFileOfNoKnownLibraryIsNamedWithItsTensors) {
  save_safetensors(folder_ / "x.safetensors", {{"foo", draw("foo", {2})}});
  const std::string said =
      message_of<CheckpointError>([&] { sae::import_weights(folder_ / "x.safetensors", 0); });
  EXPECT_NE(said.find("(foo) are those of no library that is known"), std::string::npos) << said;
}

// ---- folding ------------------------------------------------------------------------------------
TEST(SaeFolding, DecoderNormsMoveIntoTheEncoder) {
  for (const SaeArchitecture a :
       {SaeArchitecture::standard, SaeArchitecture::jumprelu, SaeArchitecture::gated}) {
    const sae::Sae s = small_sae({.architecture = a}), folded = sae::fold_decoder_norm(s);
    const Tensor x = draw("x", {6, 12});
    const auto before = sae::Encoder(s).encode(x), after = sae::Encoder(folded).encode(x);
    expect_close(after.reconstruction, before.reconstruction, 1e-5, "reconstruction");
    for (std::int64_t j = 0; j < 20; ++j) {
      double norm = 0;
      for (std::int64_t i = 0; i < 12; ++i)
        norm += std::pow(
            s.weights.at("W_dec").at<float>({static_cast<int>(j), static_cast<int>(i)}), 2);
      for (int i = 0; i < 6; ++i) {
        const int column = static_cast<int>(j);
        EXPECT_NEAR(after.features.at<float>({i, column}),
                    before.features.at<float>({i, column}) * std::sqrt(norm), 1e-5);
      }
    }
  }
}

// Which features are the largest would change.
TEST(SaeFolding, NotWhereItChangesTheRanking) {
  sae::SaeConfig c{.architecture = SaeArchitecture::topk};
  c.k = 3;
  EXPECT_THROW(sae::fold_decoder_norm(small_sae(c)), ConfigError);
  c.rescale_by_decoder_norm = true;
  EXPECT_NO_THROW(sae::fold_decoder_norm(small_sae(c)));
}

TEST(SaeFolding, AScaleOfTheActivationsGoesIntoTheWeights) {
  const sae::Sae s = small_sae({}), folded = sae::fold_scale(s, 2.5);
  const Tensor x = draw("x", {6, 12}), scaled = x.clone();
  for (std::int64_t i = 0; i < scaled.numel(); ++i) scaled.data<float>()[i] *= 2.5F;
  const auto of_scaled = sae::Encoder(s).encode(scaled), of_plain = sae::Encoder(folded).encode(x);
  expect_close(of_plain.features, of_scaled.features, 1e-5, "features");
  const Tensor back = of_scaled.reconstruction;
  for (std::int64_t i = 0; i < back.numel(); ++i) back.data<float>()[i] /= 2.5F;
  expect_close(of_plain.reconstruction, back, 1e-5, "reconstruction");
}

}  // namespace
}  // namespace vitrine::test
