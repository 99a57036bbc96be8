// Who writes to the residual stream, and who reads it, against plain loops over recorded sites.
#include "interp/stream.h"

#include <algorithm>
#include <cmath>

#include "nn/families/sites.h"
#include "nn/model/weights.h"
#include "tensor/error.h"
#include "tests/support.h"

namespace vitrine::interp {
namespace {

const nn::Tokens kPrompt = {3, 17, 80, 5, 44, 9};

nn::Model tiny() {
  return nn::load_gpt2((test::data() / "tiny-gpt2").string(), {.dtype = DType::f64});
}
std::int64_t index_of(const std::vector<std::string>& names, const std::string& name) {
  const auto it = std::find(names.begin(), names.end(), name);
  EXPECT_NE(it, names.end()) << name;
  return it - names.begin();
}

TEST(StreamUse, SharesOfAReaderAddUpToOne) {
  const nn::Model m = tiny();
  const StreamUse use = stream_use(m, kPrompt, 4);
  // 2 embeddings, and 4 heads, a bias and an MLP in each of 3 layers; q, k and v of 4 heads and an
  // MLP read.
  ASSERT_EQ(use.writers.size(), 2u + 3 * 6);
  ASSERT_EQ(use.readers.size(), 3u * 13);
  for (std::int64_t r = 0; r < std::ssize(use.readers); ++r) {
    double sum = 0;
    for (std::int64_t w = 0; w < std::ssize(use.writers); ++w) {
      if (!use.valid.at<bool>({w, r})) {
        EXPECT_EQ(use.share.at<double>({w, r}), 0);
      }
      sum += use.share.at<double>({w, r});
    }
    EXPECT_NEAR(sum, 1, 1e-9) << use.readers[static_cast<std::size_t>(r)];
  }
}

TEST(StreamUse, OnlyWhatComesBeforeIsRead) {
  const StreamUse use = stream_use(tiny(), kPrompt);
  const auto valid = [&](const char* writer, const char* reader) {
    return use.valid.at<bool>({index_of(use.writers, writer), index_of(use.readers, reader)});
  };
  EXPECT_TRUE(valid("embed", "L0H0.q"));
  EXPECT_FALSE(valid("L0H1", "L0H1.v"));
  EXPECT_TRUE(valid("L0H1", "0_mlp"));
  EXPECT_FALSE(valid("0_mlp_out", "0_mlp"));
  EXPECT_TRUE(valid("0_mlp_out", "L1H3.k"));
  EXPECT_TRUE(valid("1_attn_b_O", "1_mlp"));
  EXPECT_FALSE(valid("2_mlp_out", "L2H0.q"));
}

TEST(StreamUse, EqualsAPlainLoop) {
  const nn::Model m = tiny();
  constexpr std::int64_t kRow = 3;
  const StreamUse use = stream_use(m, kPrompt, kRow);
  const nn::Run run = m.run(kPrompt, sites("*"));
  const auto weights = nn::weights(m);
  const std::int64_t d = m.config().d_model;

  const auto row = [&](const Site& site) {
    return run[site].select(0, 0).select(0, kRow).to_vector<double>();
  };
  // The writers before layer 1's MLP, by hand.
  std::map<std::string, std::vector<double>> written = {{"embed", row(site::embed())},
                                                        {"pos_embed", row(site::pos_embed())}};
  for (int l = 0; l < 2; ++l) {
    const auto result = row(site::result(l));
    for (int h = 0; h < 4; ++h)
      written[fmt::format("L{}H{}", l, h)] = {result.begin() + h * d, result.begin() + (h + 1) * d};
    written[fmt::format("{}_attn_b_O", l)] =
        weights.at(fmt::format("blocks.{}.attn.b_O", l)).to_vector<double>();
    if (l == 0) written["0_mlp_out"] = row(site::mlp_out(0));
  }
  const auto gain = weights.at("blocks.1.ln2.w").to_vector<double>();
  const double scale = row(site::ln2_scale(1))[0];
  const Tensor w_in = weights.at("blocks.1.mlp.W_in");
  const auto read = [&](const std::vector<double>& x) {
    double mean = 0;
    for (const double v : x) mean += v / static_cast<double>(d);
    std::vector<double> out(static_cast<std::size_t>(w_in.dim(1)), 0.0);
    for (std::int64_t i = 0; i < d; ++i) {
      const auto k = static_cast<std::size_t>(i);
      for (std::int64_t n = 0; n < w_in.dim(1); ++n)
        out[static_cast<std::size_t>(n)] +=
            (x[k] - mean) / scale * gain[k] * w_in.at<double>({i, n});
    }
    return out;
  };
  std::vector<double> whole(static_cast<std::size_t>(w_in.dim(1)), 0.0);
  for (const auto& [name, x] : written) {
    const auto r = read(x);
    for (std::size_t i = 0; i < r.size(); ++i) whole[i] += r[i];
  }
  const auto dot = [](const std::vector<double>& a, const std::vector<double>& b) {
    double sum = 0;
    for (std::size_t i = 0; i < a.size(); ++i) sum += a[i] * b[i];
    return sum;
  };
  // All that is read is what the neurons see, without their biases.
  auto pre = row(site::mlp_pre(1));
  const auto bias = weights.at("blocks.1.mlp.b_in").to_vector<double>(),
             shift = weights.at("blocks.1.ln2.b").to_vector<double>();
  for (std::size_t n = 0; n < pre.size(); ++n) {
    pre[n] -= bias[n];
    for (std::size_t i = 0; i < shift.size(); ++i)
      pre[n] -=
          shift[i] * w_in.at<double>({static_cast<std::int64_t>(i), static_cast<std::int64_t>(n)});
    EXPECT_NEAR(whole[n], pre[n], 1e-9 * std::max(1.0, std::abs(pre[n])));
  }
  const std::int64_t reader = index_of(use.readers, "1_mlp");
  for (const auto& [name, x] : written) {
    const std::int64_t w = index_of(use.writers, name);
    EXPECT_NEAR(use.share.at<double>({w, reader}), dot(read(x), whole) / dot(whole, whole), 1e-9)
        << name;
    EXPECT_NEAR(use.written.at<double>({w}), std::sqrt(dot(x, x)), 1e-9) << name;
  }
  const auto end = row(site::resid_post(2));
  EXPECT_NEAR(use.stream.at<double>({3}), std::sqrt(dot(end, end)), 1e-9);
}

TEST(StreamUse, PositionsOutsideThePrompt) {
  EXPECT_THROW(stream_use(tiny(), kPrompt, 6), ContextError);
  EXPECT_THROW(stream_use(tiny(), kPrompt, -1), ContextError);
}

}  // namespace
}  // namespace vitrine::interp
