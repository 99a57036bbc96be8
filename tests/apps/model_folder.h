// A GPT-2 folder that a test can spoil.
#pragma once

#include <fmt/format.h>

#include <nlohmann/json.hpp>
#include <string>

#include "nn/model/checkpoint.h"
#include "nn/families/config.h"
#include "tensor/files/file.h"
#include "tensor/files/safetensors.h"
#include "tests/tensor/temporary_folder.h"

namespace vitrine::test {

class ModelFolder {
 public:
  explicit ModelFolder(int layers = 2, int context = 16) {
    config = {{"model_type", "gpt2"}, {"n_layer", layers},      {"n_head", 2},
              {"n_embd", 8},          {"n_positions", context}, {"vocab_size", 11}};
    save_config();
    const nn::Config parsed = nn::load_config(path());
    for (const auto& [name, shape] : nn::parameter_shapes(parsed)) {
      const double value = name.ends_with("weight") && shape.size() == 1 ? 1 : 0.1;  // gains are 1
      tensors.emplace_back(name, Tensor::full(shape, DType::f32, value));
    }
    // Rows of wte that are alike would make every token equally probable.
    float* wte = tensors[0].second.data<float>();
    for (int i = 0; i < 11 * 8; ++i) wte[i] = static_cast<float>(i % 7 - 3) * 0.2f;
    save_tensors();
  }

  std::string path() const { return folder_.path(); }
  std::string file(const std::string& name) const { return folder_ / name; }
  void save_config() const { write_text(file("config.json"), config.dump()); }
  void save_tensors() const { save_safetensors(file("model.safetensors"), tensors); }
  Tensor& tensor(std::string_view name) {
    for (auto& [known, tensor] : tensors) {
      if (known == name) return tensor;
    }
    throw std::runtime_error("no such tensor");
  }
  void remove_tensor(std::string_view name) {
    std::erase_if(tensors, [&](const auto& entry) { return entry.first == name; });
  }

  nlohmann::json config;
  NamedTensors tensors;

 private:
  test::TemporaryFolder folder_;
};

}  // namespace vitrine::test
