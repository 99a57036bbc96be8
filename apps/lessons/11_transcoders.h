// A small transcoder for every MLP of the default model, trained in a few seconds on prompts of one kind. Lesson 11 uses
// them; real ones are trained for hours, on all kinds of text.
#pragma once

#include "nn/families/sites.h"
#include "nn/model/model.h"
#include "sae/training_step.h"
#include "sae/transcoder_set.h"
#include "tensor/random.h"

namespace vitrine::lesson {

// What an MLP reads and writes at all tokens of some prompts: [rows, d] each.
struct MlpRows {
  Tensor in, out;
};
inline MlpRows rows_of_mlp(const nn::Run& run, int layer) {
  return {run.results.raw(site::ln2_normalized(layer).name).contiguous(),
          run.results.raw(site::mlp_out(layer).name).contiguous()};
}

// A batch of rows drawn at random.
inline sae::Batch drawn(const MlpRows& rows, std::int64_t count, random::Key key) {
  const std::int64_t d = rows.in.dim(1);
  const sae::Batch batch{Tensor::empty({count, d}, DType::f32),
                         Tensor::empty({count, d}, DType::f32)};
  for (std::int64_t i = 0; i < count; ++i) {
    const std::int64_t row = random::below(key, static_cast<std::uint64_t>(i), rows.in.dim(0));
    std::copy_n(rows.in.data<float>() + row * d, d, batch.x.data<float>() + i * d);
    std::copy_n(rows.out.data<float>() + row * d, d, batch.y.data<float>() + i * d);
  }
  return batch;
}

inline Tensor mean_of_rows(const Tensor& rows) {
  const Tensor mean = Tensor::zeros({rows.dim(1)}, DType::f32);
  for (std::int64_t i = 0; i < rows.numel(); ++i)
    mean.data<float>()[i % rows.dim(1)] += rows.data<float>()[i] / static_cast<float>(rows.dim(0));
  return mean;
}

// [snippet transcoder]
// h = W_enc x + b_enc, of which about 12 of 256 stay; out = features W_dec + b_dec. x is what the MLP reads, and the target
// is what it writes.
inline sae::Sae train_transcoder(const MlpRows& rows, int layer, ThreadPool& pool) {
  sae::SaeTrainingRules rules;
  rules.kind = sae::Kind::batchtopk;  // the 12 x 256 largest of a batch stay
  rules.k = 12;
  rules.transcoder = true;
  rules.apply_b_dec_to_input = false;
  rules.rescale_by_decoder_norm = false;
  rules.d_in = rules.d_out = rows.in.dim(1);
  rules.d_sae = 256;
  rules.batch = 256;
  const int steps = 300;
  rules.schedule = {
      .shape = nn::Schedule::Shape::linear, .peak = 5e-3, .warmup = 0, .steps = steps};

  const random::Key key = random::Key{7}.fold(static_cast<std::uint64_t>(layer));
  sae::SaeTrainingStep training(rules, sae::initial_weights(rules, key, {mean_of_rows(rows.out)}));
  for (int step = 0; step < steps; ++step)
    training.step(drawn(rows, rules.batch, key.fold(static_cast<std::uint64_t>(step))), pool);
  sae::Sae transcoder = training.finished();
  transcoder.config.hook_name = site::ln2_normalized(layer).name;
  transcoder.config.hook_name_out = site::mlp_out(layer).name;
  return transcoder;
}
// [/snippet transcoder]

// One for each layer, trained on all tokens of these prompts.
inline sae::TranscoderSet train_transcoders(const nn::Model& model,
                                            const std::vector<nn::Tokens>& prompts) {
  const nn::Run run =
      model.run(prompts, sites("blocks.*.ln2.hook_normalized,blocks.*.hook_mlp_out"));
  std::vector<sae::Sae> layers;
  for (int layer = 0; layer < model.config().layers; ++layer)
    layers.push_back(train_transcoder(rows_of_mlp(run, layer), layer, model.pool()));
  return sae::transcoder_set(std::move(layers));
}

}  // namespace vitrine::lesson
