#include <fmt/format.h>

#include <algorithm>

#include "interp/induction_heads.h"
#include "nn/families/sites.h"
#include "nn/model/weights.h"
#include "tensor/error.h"

namespace vitrine::interp {
namespace {

// W_pos[p + shift] - W_pos[p] for p < length, [1, length, 1, d].
Tensor steps(const Tensor& w_pos, std::int64_t length, int shift) {
  const std::int64_t context = w_pos.dim(0), d = w_pos.dim(1);
  const auto w = w_pos.to_vector<double>();
  std::vector<double> step;
  for (std::int64_t p = 0; p < length; ++p) {
    const std::int64_t other = std::clamp(p + shift, std::int64_t{0}, context - 1);
    for (std::int64_t i = 0; i < d; ++i)
      step.push_back(w[static_cast<std::size_t>(other * d + i)] -
                     w[static_cast<std::size_t>(p * d + i)]);
  }
  return Tensor::of({1, length, 1, d}, step).to(w_pos.dtype());
}

// Mean pattern[q, q - T + 1 + o] over prompts and the second half, [later, offsets].
Tensor profiles(const Results& run, std::span<const Head> later, int reach) {
  std::vector<double> all;
  for (const Head& h : later) {
    const Tensor pattern = run[site::pattern(h.layer)].select(1, h.head);  // [batch, query, key]
    const std::int64_t prompts = pattern.dim(0), length = pattern.dim(1), half = length / 2;
    const auto p = pattern.to_vector<double>();
    for (int o = -reach; o <= reach; ++o) {
      double total = 0;
      for (std::int64_t i = 0; i < prompts; ++i) {
        for (std::int64_t q = half; q < length; ++q) {
          const std::int64_t k = q - half + 1 + o;
          if (k >= 0 && k <= q) total += p[static_cast<std::size_t>((i * length + q) * length + k)];
        }
      }
      all.push_back(total / static_cast<double>(prompts * half));
    }
  }
  return Tensor::of({std::ssize(later), 2 * reach + 1}, all);
}

}  // namespace

MovedPositions move_positions(const nn::Model& model, const std::vector<nn::Tokens>& prompts,
                              std::span<const Head> moved, std::span<const Head> later, int shift,
                              int reach) {
  check_repeated(prompts);
  if (model.config().rope) {
    throw Error(
        ErrorKind::usage,
        "positions of a rotary model are not added to the stream: there is nothing to move");
  }
  Where heads;
  for (const Head& h : moved) {
    if (h.layer != 0) {
      throw Error(
          ErrorKind::usage,
          fmt::format("positions are moved for heads of layer 0 alone, not {}: after it the "
                      "stream is no longer the sum of a token and a position",
                      to_string(h)));
    }
    heads.head.push_back(h.head);
  }
  const Tensor w_pos = nn::weights(model, "pos_embed.W_pos").at("pos_embed.W_pos");
  const Edit edit = add(site::v_input(0), steps(w_pos, std::ssize(prompts[0]), shift), 1, heads,
                        fmt::format("positions {} further", shift));
  const Fetch patterns = fetch(sites("blocks.*.attn.hook_pattern"));
  return {profiles(model.run_batch(prompts, patterns).results, later, reach),
          profiles(model.run_edited(prompts, {edit}, patterns).results, later, reach)};
}

}  // namespace vitrine::interp
