#include "nn/model/checkpoint.h"

#include <cmath>
#include <limits>

#include "nn/model/model.h"
#include "tensor/files/file.h"
#include "tensor/random.h"
#include "tests/support.h"
#include "tests/tensor/expect_error.h"
#include "tests/tensor/temporary_folder.h"
#include "tests/tensor/torch/torch_writer.h"

namespace vitrine::nn {
namespace {

using vitrine::test::TemporaryFolder;

constexpr const char* kConfig =
    R"({"model_type": "gpt2", "n_layer": 2, "n_head": 2, "n_embd": 8, "vocab_size": 11, "n_positions": 6)";

NamedTensors weights(const Config& config, DType dtype = DType::f32,
                     const std::string& prefix = "transformer.") {
  NamedTensors tensors;
  ThreadPool pool(1);
  for (const auto& [name, shape] : parameter_shapes(config)) {
    Tensor t = Tensor::empty(shape, DType::f32);
    random::fill_normal(pool, random::Key{2}.fold(name), t);
    tensors.emplace_back(name == "lm_head.weight" ? name : prefix + name, t.to(dtype));
  }
  return tensors;
}

// A model folder that a test can spoil.
struct Checkpoint {
  TemporaryFolder folder;
  NamedTensors tensors;

  explicit Checkpoint(const std::string& more = "", DType dtype = DType::f32) {
    write_text(folder / "config.json", kConfig + more + "}");
    tensors = weights(config(), dtype);
  }
  Config config() const { return load_config(folder.path()); }
  void save() const { save_safetensors(folder / "model.safetensors", tensors); }
  Parameters load() const { return load_checkpoint(folder.path(), config()); }
  Tensor& tensor(const std::string& name) {
    for (auto& [known, t] : tensors) {
      if (known == "transformer." + name) return t;
    }
    throw std::out_of_range(name);
  }
  void remove(const std::string& name) {
    std::erase_if(tensors, [&](const auto& t) { return t.first.ends_with(name); });
  }
};

TEST(Checkpoint, ReadsNamesWithAndWithoutPrefix) {
  Checkpoint c;
  c.save();
  const Parameters with = c.load();
  c.tensors = weights(c.config(), DType::f32, "");
  c.save();
  const Parameters without = c.load();
  ASSERT_EQ(with.size(), parameter_shapes(c.config()).size());
  for (const auto& [name, t] : with) EXPECT_EQ(max_abs_difference(t, without.at(name)), 0) << name;
}

TEST(Checkpoint, ReadsHalfPrecision) {
  Checkpoint exact;
  exact.save();
  const Parameters want = exact.load();
  for (const auto& [dtype, error] : {std::pair{DType::f16, 1e-3}, {DType::bf16, 1e-2}}) {
    Checkpoint c("", dtype);
    c.save();
    for (const auto& [name, t] : c.load()) {
      EXPECT_EQ(t.dtype(), DType::f32);
      EXPECT_LE(max_abs_difference(t, want.at(name)), error * max_abs(want.at(name))) << name;
    }
  }
}

TEST(Checkpoint, ReadsShards) {
  Checkpoint c;
  c.save();
  const Parameters want = c.load();
  std::filesystem::remove(c.folder / "model.safetensors");
  NamedTensors first, second;
  std::string map;
  for (std::size_t i = 0; i < c.tensors.size(); ++i) {
    (i % 2 == 0 ? first : second).push_back(c.tensors[i]);
    map += fmt::format("{}\"{}\": \"part-{}.safetensors\"", i == 0 ? "" : ", ", c.tensors[i].first,
                       i % 2);
  }
  save_safetensors(c.folder / "part-0.safetensors", first);
  save_safetensors(c.folder / "part-1.safetensors", second);
  const auto index = c.folder / "model.safetensors.index.json";
  write_text(index, fmt::format("{{\"metadata\": {{}}, \"weight_map\": {{{}}}}}", map));
  for (const auto& [name, t] : c.load()) EXPECT_EQ(max_abs_difference(t, want.at(name)), 0) << name;

  std::filesystem::remove(c.folder / "part-1.safetensors");
  EXPECT_ERROR(FileError, "part-1.safetensors", c.load());
  write_text(
      index,
      R"({"weight_map": {"transformer.wte.weight": "part-0.safetensors", "x": "part-0.safetensors"}})");
  EXPECT_ERROR(CheckpointError, "tensor 'x' is not in part-0.safetensors", c.load());
  write_text(index, R"({"weight_map": {"x": "../part-0.safetensors"}})");
  EXPECT_ERROR(FileError, "shards must lie in the same folder", c.load());
  write_text(index, R"({"weight_map": {"x": 3}})");
  EXPECT_ERROR(FileError, "weight_map.x: expected a text, found 3", c.load());
  write_text(index, R"({"weights": 1})");
  EXPECT_ERROR(FileError, "weight_map", c.load());
  write_text(index, "{");
  EXPECT_ERROR(FileError, "not valid JSON", c.load());
}

// The tensors as torch.save writes them, each in a storage of its own.
std::string torch_bytes(const NamedTensors& tensors) {
  namespace py = test::py;
  test::TorchWriter w;
  std::vector<std::pair<std::string, std::string>> entries;
  for (const auto& [name, t] : tensors) {
    const std::string key = std::to_string(entries.size());
    w.storages.emplace_back(key, std::string(reinterpret_cast<const char*>(t.view().data),
                                             static_cast<std::size_t>(t.bytes())));
    entries.emplace_back(
        name, py::tensor(py::storage("FloatStorage", key, t.numel()), 0,
                         std::vector<std::int64_t>(t.shape().begin(), t.shape().end()),
                         std::vector<std::int64_t>(t.strides().begin(), t.strides().end())));
  }
  w.object = py::dict(entries);
  return w.bytes();
}

TEST(Checkpoint, ReadsPyTorchsFiles) {
  Checkpoint c;
  c.save();
  const Parameters want = c.load();
  const auto expect_same = [&] {
    const Parameters found = c.load();
    EXPECT_EQ(found.size(), want.size());
    for (const auto& [name, t] : found) EXPECT_EQ(max_abs_difference(t, want.at(name)), 0) << name;
  };
  write_text(c.folder / "pytorch_model.bin", "what is beside model.safetensors is not looked at");
  expect_same();
  std::filesystem::remove(c.folder / "model.safetensors");
  write_text(c.folder / "pytorch_model.bin", torch_bytes(c.tensors));
  expect_same();

  std::filesystem::remove(c.folder / "pytorch_model.bin");
  NamedTensors first(c.tensors.begin(), c.tensors.begin() + 5),
      second(c.tensors.begin() + 5, c.tensors.end());
  std::string map;
  for (std::size_t i = 0; i < c.tensors.size(); ++i)
    map += fmt::format("{}\"{}\": \"part-{}.bin\"", i == 0 ? "" : ", ", c.tensors[i].first,
                       i < 5 ? 1 : 2);
  write_text(c.folder / "part-1.bin", torch_bytes(first));
  write_text(c.folder / "part-2.bin", torch_bytes(second));
  write_text(c.folder / "pytorch_model.bin.index.json", "{\"weight_map\": {" + map + "}}");
  expect_same();
  write_text(c.folder / "part-2.bin", torch_bytes(c.tensors));
  EXPECT_ERROR(CheckpointError, "is also in", c.load());
}

TEST(Checkpoint, IgnoresOldMasks) {
  Checkpoint c;
  c.tensors.emplace_back("transformer.h.0.attn.bias", Tensor::zeros({1, 1, 6, 6}, DType::boolean));
  c.tensors.emplace_back("transformer.h.1.attn.masked_bias", Tensor::zeros({}, DType::f32));
  c.save();
  EXPECT_NO_THROW(c.load());
}

TEST(Checkpoint, TiedAndUntiedUnembedding) {
  Checkpoint c;
  c.tensors.emplace_back("lm_head.weight", c.tensor("wte.weight"));
  c.save();
  EXPECT_NO_THROW(c.load());
  c.tensors.back().second = Tensor::zeros({11, 8}, DType::f32);
  c.save();
  EXPECT_ERROR(CheckpointError, "lm_head.weight differs from wte.weight, but config.json ties them",
               c.load());

  Checkpoint untied(R"(, "tie_word_embeddings": false)");
  untied.save();
  EXPECT_EQ(to_string(untied.load().at("lm_head.weight").shape()), "[11, 8]");
  untied.remove("lm_head.weight");
  untied.save();
  EXPECT_ERROR(CheckpointError, "tensor 'lm_head.weight' is missing", untied.load());
}

TEST(Checkpoint, NamesTheFirstFaultAndCountsTheRest) {
  Checkpoint c;
  c.remove("h.1.ln_1.weight");
  c.save();
  EXPECT_ERROR(CheckpointError,
               "tensor 'h.1.ln_1.weight' is missing; config.json asks for 2 layers of width 8",
               c.load());
  c.remove("h.1.mlp.c_fc.bias");
  c.save();
  EXPECT_ERROR(CheckpointError, "tensor 'h.1.ln_1.weight' is missing, and 1 more is like it",
               c.load());

  Checkpoint shapes;
  shapes.tensor("wpe.weight") = Tensor::zeros({7, 8}, DType::f32);
  shapes.tensor("ln_f.bias") = Tensor::zeros({9}, DType::f32);
  shapes.tensor("ln_f.weight") = Tensor::zeros({9}, DType::f32);
  shapes.save();
  EXPECT_ERROR(
      CheckpointError,
      "tensor 'wpe.weight' is f32[7, 8], expected floats of shape [6, 8], and 2 more are like it",
      shapes.load());

  Checkpoint integers;
  integers.tensor("ln_f.bias") = Tensor::zeros({8}, DType::i64);
  integers.save();
  EXPECT_ERROR(CheckpointError, "'ln_f.bias' is i64[8], expected floats", integers.load());

  Checkpoint deeper;
  deeper.tensors.emplace_back("transformer.h.2.ln_1.weight", Tensor::zeros({8}, DType::f32));
  deeper.save();
  EXPECT_ERROR(CheckpointError, "tensor 'h.2.ln_1.weight' has no place in this model",
               deeper.load());
}

TEST(Checkpoint, SaysWhatIsMissing) {
  Checkpoint c;
  EXPECT_ERROR(FileError, "there is no model.safetensors", c.load());
  write_text(c.folder / "pytorch_model.bin", "x");
  EXPECT_ERROR(FileError, "pytorch_model.bin' is not a valid PyTorch checkpoint", c.load());
  c.tensors.emplace_back("wte.weight", c.tensor("wte.weight"));
  c.save();
  EXPECT_ERROR(CheckpointError, "tensor 'wte.weight' is also in", c.load());
}

TEST(Checkpoint, NaNInAWeightIsNamed) {
  Checkpoint c;
  c.tensor("h.1.mlp.c_fc.weight").data<float>()[3] = std::nanf("");
  c.save();
  EXPECT_ERROR(NumericError, "the parameter 'h.1.mlp.c_fc.weight' holds NaN",
               load_gpt2(c.folder.path().string()));
  c.tensor("h.1.mlp.c_fc.weight").data<float>()[3] = -std::numeric_limits<float>::infinity();
  c.save();
  EXPECT_ERROR(NumericError, "the parameter 'h.1.mlp.c_fc.weight' holds an infinity",
               load_gpt2(c.folder.path().string()));
}

TEST(Checkpoint, TiedWeightsMayBeUnderEitherName) {
  Checkpoint c;
  c.save();
  const Parameters before = c.load();
  for (auto& [name, tensor] : c.tensors) {
    if (name == "transformer.wte.weight") name = "lm_head.weight";
  }
  c.save();
  const Parameters after = c.load();
  ASSERT_EQ(before.size(), after.size());
  for (const auto& [name, tensor] : before)
    EXPECT_EQ(max_abs_difference(tensor, after.at(name)), 0) << name;
}

TEST(Checkpoint, HeadsBesideTheLanguageModelsArePassedOver) {
  Checkpoint c;
  c.tensors.emplace_back("v_head.summary.weight", Tensor::zeros({1, 8}, DType::f32));
  c.tensors.emplace_back("score.weight", Tensor::zeros({2, 8}, DType::f32));
  c.save();
  EXPECT_EQ(c.load().size(), parameter_shapes(c.config()).size());
  for (const char* name : {"transformer.v_head.weight", "lm_head.bias", "h.7.ln_1.weight"}) {
    Checkpoint more;
    more.tensors.emplace_back(name, Tensor::zeros({8}, DType::f32));
    more.save();
    EXPECT_ERROR(CheckpointError, "has no place in this model", more.load());
  }
}

TEST(Checkpoint, NamesWhatPeopleHaveInstead) {
  Checkpoint compiled;
  for (auto& [name, tensor] : compiled.tensors) name = "_orig_mod." + name;
  compiled.save();
  EXPECT_ERROR(CheckpointError, "begin with '_orig_mod.'", compiled.load());
  Checkpoint wrapped;
  for (auto& [name, tensor] : wrapped.tensors) name = "module." + name;
  wrapped.save();
  EXPECT_ERROR(CheckpointError,
               "'wte.weight' is missing, and 27 more are like it; there is a "
               "'module.transformer.wte.weight': save the model itself",
               wrapped.load());
  Checkpoint adapter;
  adapter.save();
  write_text(adapter.folder / "adapter_config.json", "{}");
  EXPECT_ERROR(FileError, "adapter_config.json says that an adapter changes these weights",
               adapter.load());
  Checkpoint pointer;
  write_text(pointer.folder / "model.safetensors",
             "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n");
  EXPECT_ERROR(FileError, "it is a git-lfs pointer", pointer.load());
  Checkpoint shards;
  write_text(shards.folder / "pytorch_model.bin.index.json", "{}");
  EXPECT_ERROR(FileError, "weight_map", shards.load());
  Checkpoint layers;
  layers.save();
  Config config = layers.config();
  config.layers = 1 << 30;
  EXPECT_ERROR(CheckpointError, "asks for 1073741824 layers, but there are only 28 tensors",
               load_checkpoint(layers.folder.path(), config));
}

TEST(Checkpoint, OverflowIsNamedWhereItArises) {
  Checkpoint c;
  Tensor& w = c.tensor("h.1.mlp.c_proj.weight");
  for (std::int64_t i = 0; i < w.numel(); ++i) w.data<float>()[i] = i % 2 == 0 ? 3e38f : -3e38f;
  c.tensor("h.1.mlp.c_fc.weight") = Tensor::full({8, 32}, DType::f32, 1e30);
  c.save();
  const Model model = load_gpt2(c.folder.path().string());
  EXPECT_ERROR(NumericError,
               "NaN first appeared in op 'layer_norm' at 'unembed.hook_in' (built at gpt2.cpp:",
               model.run(Tokens{1, 2}));
  EXPECT_ERROR(NumericError, "blocks.1.hook_resid_post f32[2, 8], which holds infinities",
               model.run(Tokens{1, 2}));
}

// ---- writing ------------------------------------------------------------------------------------
TEST(SaveCheckpoint, ComesBack) {
  for (const bool tied : {true, false}) {
    for (const DType stored : {DType::f32, DType::f16, DType::bf16}) {
      const Checkpoint c(tied ? "" : R"(, "tie_word_embeddings": false)");
      Parameters parameters;
      for (const auto& [name, tensor] : c.tensors)
        parameters[name.starts_with("lm_head.") ? name : name.substr(12)] = tensor;
      const Config config = c.config();
      const TemporaryFolder folder;
      save_checkpoint(folder.path(), config, parameters, stored);
      EXPECT_EQ(load_config(folder.path()), config);
      const Parameters got = load_checkpoint(folder.path(), config);
      ASSERT_EQ(got.size(), parameters.size());
      for (const auto& [name, tensor] : parameters)
        EXPECT_EQ(max_abs_difference(got.at(name), tensor.to(stored)), 0) << name;

      // HuggingFace's names.
      const SafeTensors file = SafeTensors::open(folder / "model.safetensors");
      EXPECT_EQ(file.metadata().at("format"), "pt");
      EXPECT_EQ(file.at("transformer.h.0.ln_1.weight").dtype(), stored);
      EXPECT_EQ(file.contains("lm_head.weight"), !tied);
    }
  }
}

// Weights of a training step are views into its state.
TEST(SaveCheckpoint, WritesViews) {
  const Checkpoint c;
  Parameters parameters;
  for (const auto& [name, tensor] : c.tensors) parameters[name.substr(12)] = tensor;
  Parameters views;
  for (const auto& [name, tensor] : parameters) {
    if (tensor.rank() != 2) views[name] = tensor;
    else views[name] = tensor.transpose(0, 1).contiguous().transpose(0, 1);
  }
  const TemporaryFolder folder;
  save_checkpoint(folder.path(), c.config(), views);
  for (const auto& [name, tensor] : load_checkpoint(folder.path(), c.config()))
    EXPECT_EQ(max_abs_difference(tensor, parameters.at(name)), 0) << name;
}

TEST(SaveCheckpoint, SaysWhenItCannotWrite) {
  const Checkpoint c;
  Parameters parameters;
  for (const auto& [name, tensor] : c.tensors) parameters[name.substr(12)] = tensor;
  EXPECT_ERROR(SaveError, "nowhere", save_checkpoint(c.folder / "nowhere", c.config(), parameters));
}

}  // namespace
}  // namespace vitrine::nn
