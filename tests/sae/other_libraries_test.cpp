// SAEs of sparsify and dictionary_learning: each computes what its library does, or is refused by
// name.
#include "sae/other_libraries.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>

#include "sae/folder.h"
#include "tensor/error.h"
#include "tensor/files/file.h"
#include "tensor/files/safetensors.h"
#include "tests/sae/small_sae.h"
#include "tests/support.h"
#include "tests/tensor/expect_error.h"
#include "tests/tensor/temporary_folder.h"

namespace vitrine::test {
namespace {

using nlohmann::json;
using sae::SaeArchitecture;
using ::testing::AllOf;
using ::testing::HasSubstr;

// Tensors of an SAE of 12 inputs and 20 features, in PyTorch's layout.
class OtherLibraries : public ::testing::Test {
 protected:
  static Tensor encoder() { return draw("encoder", {20, 12}); }
  static Tensor decoder() { return draw("decoder", {20, 12}); }
  static Tensor b_enc() { return draw("b_enc", {20}); }
  static Tensor b_dec() { return draw("b_dec", {12}); }
  static Tensor columns(const Tensor& t) { return t.transpose(0, 1).contiguous(); }
  static NamedTensors of_sparsify() {
    return {{"encoder.weight", encoder()},
            {"encoder.bias", b_enc()},
            {"W_dec", decoder()},
            {"b_dec", b_dec()}};
  }
  static NamedTensors of_top_k() {
    return {{"encoder.weight", encoder()},          {"encoder.bias", b_enc()},
            {"decoder.weight", columns(decoder())}, {"b_dec", b_dec()},
            {"k", Tensor::scalar<std::int32_t>(5)}, {"threshold", Tensor::scalar<float>(0.3F)}};
  }

  void write(const char* name, const NamedTensors& tensors) const {
    save_safetensors(folder_ / name, tensors);
  }
  void config(const json& trainer) const {
    write_text(folder_ / "config.json", json{{"trainer", trainer}}.dump());
  }
  sae::Sae read(std::int64_t k = 0) const { return sae::import_weights(folder_.path(), k); }

  // h = (x - taken) E^T + b_enc, f = chosen of it, x' = f D + b_dec: written out.
  void expect_codes(const sae::Sae& s, bool takes_b_dec,
                    const std::function<void(std::vector<double>& h)>& choose) const {
    const Tensor x = draw("x", {7, 12}, 2.0);
    const auto got = sae::Encoder(s).encode(x);
    const auto number = [](const Tensor& t, int i, int j) { return double{t.at<float>({i, j})}; };
    for (int i = 0; i < 7; ++i) {
      std::vector<double> h;
      for (int j = 0; j < 20; ++j) {
        double sum = b_enc().at<float>({j});
        for (int c = 0; c < 12; ++c)
          sum += (number(x, i, c) - (takes_b_dec ? b_dec().at<float>({c}) : 0.0F)) *
                 number(encoder(), j, c);
        h.push_back(sum);
      }
      choose(h);
      for (int j = 0; j < 20; ++j)
        EXPECT_NEAR(got.features.at<float>({i, j}), h[static_cast<std::size_t>(j)], 1e-4) << i << j;
      for (int c = 0; c < 12; ++c) {
        double sum = b_dec().at<float>({c});
        for (int j = 0; j < 20; ++j)
          sum += h[static_cast<std::size_t>(j)] * number(decoder(), j, c);
        EXPECT_NEAR(got.reconstruction.at<float>({i, c}), sum, 1e-3);
      }
    }
  }
  static std::function<void(std::vector<double>&)> largest(std::size_t k) {
    return [k](std::vector<double>& h) {
      std::vector<double> sorted = h;
      std::ranges::sort(sorted, std::greater<>());
      for (double& v : h) v = v >= sorted[k - 1] ? std::max(v, 0.0) : 0;
    };
  }
  static std::function<void(std::vector<double>&)> above(double threshold) {
    return [threshold](std::vector<double>& h) {
      for (double& v : h) v = v > threshold ? std::max(v, 0.0) : 0;
    };
  }
  TemporaryFolder folder_;
};

// ---- sparsify -----------------------------------------------------------------------------------
json sparsify_config() {
  return {{"activation", "topk"},
          {"expansion_factor", 32},
          {"normalize_decoder", true},
          {"num_latents", 20},
          {"k", 4},
          {"multi_topk", false},
          {"d_in", 12},
          {"skip_connection", false},
          {"transcode", false}};
}

TEST_F(OtherLibraries, SparsifyKeepsTheKLargest) {
  write("sae.safetensors", of_sparsify());
  write_text(folder_ / "cfg.json", sparsify_config().dump());
  EXPECT_FALSE(sae::is_saelens_folder(folder_.path()));
  for (const auto& given : {folder_.path(), folder_ / "sae.safetensors"}) {
    const sae::Sae s = sae::import_weights(given, 0);
    EXPECT_EQ(s.config.architecture, SaeArchitecture::topk);
    EXPECT_EQ(s.config.k, 4);
    expect_codes(s, true, largest(4));
  }
  EXPECT_EQ(read(4).config.k, 4);
  EXPECT_ERROR(ConfigError, "k: expected 5, found 4; that is not k 5", read(5));
  // Without num_latents they are a multiple of the inputs.
  json config = sparsify_config();
  config.erase("num_latents");
  write_text(folder_ / "cfg.json", config.dump());
  EXPECT_ERROR(ConfigError,
               "expansion_factor: expected 20 / 12, found 32; the encoder gives 20 features",
               read());
  EXPECT_ERROR(sae::OtherLibraryError,
               "this is a folder of sparsify, not of SAELens; import_weights",
               sae::load(folder_.path()));
}

TEST_F(OtherLibraries, ATranscoderOfSparsifyTakesNothingFromItsInput) {
  write("sae.safetensors", of_sparsify());
  json config = sparsify_config();
  config["transcode"] = true;
  write_text(folder_ / "cfg.json", config.dump());
  const sae::Sae s = read();
  EXPECT_TRUE(s.config.transcoder);
  expect_codes(s, false, largest(4));
  // SAELens reads what is written as a topk that does the same; here it stays a transcoder.
  sae::save(s, folder_ / "out");
  const json written = json::parse(read_text(folder_ / "out" / "cfg.json"));
  EXPECT_EQ(written["architecture"], "topk");
  EXPECT_EQ(written["apply_b_dec_to_input"], false);
  const sae::Sae back = sae::load(folder_ / "out");
  EXPECT_TRUE(back.config.transcoder);
  expect_codes(back, false, largest(4));
}

TEST_F(OtherLibraries, SettingsOfSparsifyThatAreNotSupportedAreRefusedByName) {
  const auto said = [&](const char* field, const json& value) {
    write("sae.safetensors", of_sparsify());
    json config = sparsify_config();
    config[field] = value;
    write_text(folder_ / "cfg.json", config.dump());
    return message_of<ConfigError>([&] { read(); });
  };
  EXPECT_THAT(said("signed", true), HasSubstr("signed: expected false, found true; features"));
  EXPECT_THAT(said("activation", "groupmax"),
              HasSubstr("activation: expected topk, found \"groupmax\""));
  EXPECT_THAT(said("skip_connection", true),
              HasSubstr("skip_connection: expected false, found true"));
  EXPECT_THAT(said("embed_skip", true), HasSubstr("embed_skip: expected false, found true"));
  EXPECT_THAT(said("num_latents", 21), HasSubstr("num_latents: expected 20, found 21; the number "
                                                 "of features that the encoder gives is 20"));
  EXPECT_THAT(said("d_in", 13), HasSubstr("d_in: expected 12, found 13; the encoder reads 12"));
  EXPECT_THAT(said("k", "four"),
              HasSubstr("k: expected a whole number from 1 to 1000000000, found \"four\""));
  EXPECT_THAT(said("k", 21), HasSubstr("k is 21, but there are 20 features"));
  EXPECT_THAT(said("n_targets", 3),
              HasSubstr("n_targets: this field is not known, so it cannot be honoured"));
  NamedTensors skip = of_sparsify();
  skip.emplace_back("W_skip", draw("skip", {12, 12}));
  write("sae.safetensors", skip);
  write_text(folder_ / "cfg.json", sparsify_config().dump());
  EXPECT_ERROR(ConfigError, "'W_skip', a skip connection, is not supported", read());
}

// ---- dictionary_learning ------------------------------------------------------------------------
TEST_F(OtherLibraries, TopKAndBatchTopKAreToldApartByConfigJson) {
  write("ae.safetensors", of_top_k());
  EXPECT_THAT(message_of<ConfigError>([&] { read(); }),
              AllOf(HasSubstr("AutoEncoderTopK and BatchTopKSAE have the same tensors"),
                    HasSubstr("config.json"), HasSubstr("or give k if it is the first")));
  // By the name under which the caller's user knows k.
  EXPECT_THAT(message_of<ConfigError>(
                  [&] { sae::import_weights(folder_ / "ae.safetensors", 0, "--features-kept"); }),
              HasSubstr("or give --features-kept if it is the first"));
  expect_codes(read(5), true, largest(5));
  EXPECT_ERROR(ConfigError, "k 4: the k of", read(4));

  config({{"dict_class", "BatchTopKSAE"}, {"k", 5}, {"activation_dim", 12}, {"dict_size", 20}});
  for (const std::int64_t k : {0, 5}) {
    const sae::Sae s = read(k);
    EXPECT_EQ(s.config.architecture, SaeArchitecture::jumprelu);
    expect_codes(s, true, above(0.3F));
  }
  config({{"dict_class", "AutoEncoderTopK"}, {"lm_name", "gpt2"}});
  expect_codes(read(), true, largest(5));
  EXPECT_EQ(read().config.model_name, "gpt2");

  config({{"dict_class", "AutoEncoderTopK"}, {"k", 6}});
  EXPECT_ERROR(ConfigError, "'k' is 5, but config.json says 6", read());
  config({{"dict_class", "AutoEncoderTopK"}, {"dict_size", 21}});
  EXPECT_ERROR(ConfigError, "trainer.dict_size: expected 20, found 21; the encoder's is 20",
               read());
  config({{"dict_class", "GatedAutoEncoder"}});
  EXPECT_ERROR(ConfigError, "trainer.dict_class is 'GatedAutoEncoder', but the tensors of", read());
  config({{"dict_class", "CrossCoder"}});
  EXPECT_ERROR(ConfigError, "trainer.dict_class is 'CrossCoder', but", read());

  // Older files of AutoEncoderTopK have no threshold.
  NamedTensors older = of_top_k();
  older.pop_back();
  write("ae.safetensors", older);
  std::filesystem::remove(folder_ / "config.json");
  expect_codes(read(), true, largest(5));
}

TEST_F(OtherLibraries, MatryoshkaHasOneThreshold) {
  write("ae.safetensors", {{"W_enc", columns(encoder())},
                           {"b_enc", b_enc()},
                           {"W_dec", decoder()},
                           {"b_dec", b_dec()},
                           {"k", Tensor::scalar<std::int32_t>(5)},
                           {"threshold", Tensor::scalar<float>(0.3F)},
                           {"group_sizes", Tensor::of<std::int64_t>({2}, {8, 12})}});
  expect_codes(read(), true, above(0.3F));
  config({{"dict_class", "MatryoshkaBatchTopKSAE"}});
  expect_codes(read(5), true, above(0.3F));
}

TEST_F(OtherLibraries, JumpReluTakesNothingFromItsInput) {
  write("ae.safetensors", {{"W_enc", columns(encoder())},
                           {"b_enc", b_enc()},
                           {"W_dec", decoder()},
                           {"b_dec", b_dec()},
                           {"threshold", Tensor::full({20}, DType::f32, 0.25)}});
  const sae::Sae s = read();
  EXPECT_EQ(s.config.architecture, SaeArchitecture::jumprelu);
  EXPECT_FALSE(s.config.apply_b_dec_to_input);
  expect_codes(s, false, above(0.25));
  EXPECT_ERROR(ConfigError, "JumpReluAutoEncoder, whose features are not chosen by a k", read(5));
}

TEST_F(OtherLibraries, TheNewerStandardTakesNothingFromItsInput) {
  write("model.safetensors", {{"encoder.weight", encoder()},
                              {"encoder.bias", b_enc()},
                              {"decoder.weight", columns(decoder())},
                              {"decoder.bias", b_dec()}});
  const sae::Sae s = read();
  EXPECT_EQ(s.config.architecture, SaeArchitecture::standard);
  EXPECT_FALSE(s.config.apply_b_dec_to_input);
  expect_codes(s, false, above(0));
  config({{"dict_class", "AutoEncoderNew"}});
  EXPECT_ERROR(ConfigError, "AutoEncoderNew, whose features are not chosen by a k", read(5));
}

TEST_F(OtherLibraries, GatedHasItsOwnNames) {
  const sae::Sae want = small_sae({.architecture = SaeArchitecture::gated});
  const auto w = [&](const char* name) { return want.weights.at(name); };
  write("ae.safetensors", {{"encoder.weight", columns(w("W_enc"))},
                           {"decoder.weight", columns(w("W_dec"))},
                           {"decoder_bias", w("b_dec")},
                           {"gate_bias", w("b_gate")},
                           {"mag_bias", w("b_mag")},
                           {"r_mag", w("r_mag")}});
  const Tensor x = draw("x", {7, 12});
  const auto a = sae::Encoder(read()).encode(x), b = sae::Encoder(want).encode(x);
  expect_close(a.features, b.features, 1e-6, "features");
  expect_close(a.reconstruction, b.reconstruction, 1e-6, "reconstruction");
}

// ---- what is wrong ------------------------------------------------------------------------------
TEST_F(OtherLibraries, WhatIsNotKnownIsNamed) {
  NamedTensors tensors = of_sparsify();
  tensors.emplace_back("post_scale", draw("s", {20}));
  write("sae.safetensors", tensors);
  EXPECT_ERROR(CheckpointError,
               "it is read as an SAE of sparsify, which has no tensor 'post_scale'", read(3));
  NamedTensors saelens = {
      {"W_enc", columns(encoder())}, {"b_enc", b_enc()}, {"W_dec", decoder()}, {"b_dec", b_dec()}};
  write("sae.safetensors", saelens);
  EXPECT_ERROR(CheckpointError, "those of SAELens, whose cfg.json says how they are used", read());
}

TEST_F(OtherLibraries, AFolderWithoutOneReadableFileSaysWhatItHas) {
  EXPECT_ERROR(FileError, "there is no safetensors file of an SAE in it", read());
  std::ofstream(folder_ / "ae.pt") << "x";
  EXPECT_THAT(message_of<FileError>([&] { read(); }),
              AllOf(HasSubstr("ae.pt: pickled files can run code"), HasSubstr("save_file")));
  write("one.safetensors", of_sparsify());
  EXPECT_EQ(read(3).config.k, 3);  // the only one
  write("two.safetensors", of_sparsify());
  EXPECT_ERROR(FileError, "more than one safetensors file in it; name one of one.safetensors, two",
               read(3));
}

}  // namespace
}  // namespace vitrine::test
