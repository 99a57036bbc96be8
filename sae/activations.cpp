#include "sae/activations.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <functional>

#include "autograd/compile/plan.h"
#include "nn/model/fingerprint.h"
#include "sae/text_batches.h"
#include "tensor/error.h"
#include "tensor/files/safetensors.h"

namespace vitrine::sae {
namespace {

namespace fs = std::filesystem;

void check_finite(const Tensor& rows, const std::function<std::string(std::int64_t)>& where) {
  const float* data = rows.data<float>();
  for (std::int64_t i = 0; i < rows.numel(); ++i) {
    if (std::isfinite(data[i])) continue;
    const std::int64_t width = rows.dim(1);
    throw NumericError(
        fmt::format("{}: the activation has {} at place {}", where(i / width), data[i], i % width));
  }
}

// ---- a model over texts -------------------------------------------------------------------------
class TextActivations : public ActivationSource {
 public:
  TextActivations(const nn::Model& model, const TextSourceSpec& spec)
      : model_(model), batches_(model, spec) {
    const Graph graph = model.build(nn::Model::Uniform{1, 1});
    for (const std::string& name : spec.sites) {
      const SiteEntry& site = graph.site(name);
      if (site.axes.empty() || site.axes[0] != Axis::row ||
          std::find(site.axes.begin(), site.axes.end(), Axis::key) != site.axes.end()) {
        throw SiteError(
            fmt::format("'{}' does not have a vector for each token; an SAE reads sites such as "
                        "blocks.1.hook_mlp_out, blocks.1.hook_resid_post or blocks.1.attn.hook_z",
                        name));
      }
      columns_.push_back({name, numel(site.type.shape)});
      wanted_.wants.push_back(as_want(Site{name}));
    }
  }

  std::optional<Texts> texts() override { return Texts{&model_, &batches_}; }
  const std::vector<Column>& columns() const override { return columns_; }
  std::int64_t rows() const override { return batches_.rows(); }
  std::int64_t items() const override { return batches_.pieces(); }

  std::vector<Tensor> read(SourcePlace& place) override {
    const TextBatch batch = batches_.next(place);
    const Graph graph = model_.build(nn::batch_size(batch.prompts));
    const Plan plan = compile(graph, wanted_);
    const Results r = plan.run(model_.feeds(graph, batch.prompts), model_.parameters(),
                               {.pool = &model_.pool(), .find_nan = false});
    std::vector<std::size_t> piece_of;  // each row that counts
    std::size_t row = 0;
    for (std::size_t i = 0; i < batch.prompts.size(); ++i) {
      for (std::size_t t = 0; t < batch.prompts[i].size(); ++t) {
        if (batch.counts[row++]) piece_of.push_back(batch.pieces[i]);
      }
    }
    std::vector<Tensor> out;
    for (const Column& c : columns_) {
      const Tensor all = r.raw(c.name).to(DType::f32).contiguous();
      Tensor rows =
          Tensor::empty({static_cast<std::int64_t>(piece_of.size()), c.width}, DType::f32);
      const float* from = all.data<float>();
      float* to = rows.data<float>();
      for (const bool counts : batch.counts) {
        if (counts) to = std::copy_n(from, c.width, to);
        from += c.width;
      }
      check_finite(rows, [&](std::int64_t i) {
        return fmt::format("{}: {}", batches_.name_of(piece_of[static_cast<std::size_t>(i)]),
                           c.name);
      });
      out.push_back(std::move(rows));
    }
    return out;
  }

  std::string fingerprint() const override {
    nn::Hash hash;
    hash.add(nn::fingerprint(model_));
    hash.add(batches_.fingerprint());
    for (const Column& c : columns_) hash.add(c.name);
    return hash.text();
  }

 private:
  const nn::Model& model_;
  TextBatches batches_;
  std::vector<Column> columns_;
  Fetch wanted_;
};

// ---- rows in files ------------------------------------------------------------------------------
class FileActivations : public ActivationSource {
 public:
  FileActivations(const std::vector<std::string>& patterns, const std::vector<std::string>& tensors,
                  const FileLayout& layout)
      : layout_(layout) {
    for (const std::string& pattern : patterns) {
      for (const fs::path& file : files_of(pattern)) open(file, tensors);
    }
    if (rows() == 0)
      throw FileError(fmt::format("{}: there are no rows in '{}'", fmt::join(patterns, ", "),
                                  fmt::join(tensors, "', '")));
  }

  const std::vector<Column>& columns() const override { return columns_; }
  std::int64_t items() const override { return rows(); }
  std::int64_t rows() const override { return ends_.empty() ? 0 : ends_.back(); }

  std::vector<Tensor> read(SourcePlace& place) override {
    constexpr std::int64_t kTogether = 8192;
    const auto shard = static_cast<std::size_t>(
        std::upper_bound(ends_.begin(), ends_.end(), place.item) - ends_.begin());
    const std::int64_t first = shard == 0 ? 0 : ends_[shard - 1];
    const std::int64_t begin = place.item - first,
                       end = std::min(ends_[shard] - first, begin + kTogether);
    std::vector<Tensor> out;
    for (std::size_t c = 0; c < columns_.size(); ++c) {
      const Tensor rows = shards_[shard][c].slice(0, begin, end).to(DType::f32).contiguous();
      check_finite(rows, [&](std::int64_t row) {
        return fmt::format("{}: row {} of '{}'", names_[shard], begin + row, columns_[c].name);
      });
      out.push_back(rows);
    }
    place.item = first + end;
    if (place.item == rows()) place = {place.epoch + 1, 0};
    return out;
  }

  // Of names and sizes, and of the first and last rows: files may be large.
  std::string fingerprint() const override {
    nn::Hash hash;
    for (std::size_t s = 0; s < shards_.size(); ++s) {
      for (const Tensor& t : shards_[s]) {
        hash.add(to_string(t.shape()));
        for (const std::int64_t row : {std::int64_t{0}, t.dim(0) - 1}) {
          const Tensor one = t.slice(0, row, row + 1).contiguous();
          hash.add(
              std::span<const std::byte>(one.view().data, static_cast<std::size_t>(one.bytes())));
        }
      }
    }
    return hash.text();
  }

 private:
  void open(const fs::path& path, const std::vector<std::string>& tensors) {
    const SafeTensors file = SafeTensors::open(path);
    std::vector<Tensor> shard;
    for (std::size_t c = 0; c < tensors.size(); ++c) {
      const Tensor t = file.at(tensors[c]);
      if (t.rank() < 2 || !(t.dtype() == DType::f32 || t.dtype() == DType::f16 ||
                            t.dtype() == DType::bf16 || t.dtype() == DType::f64)) {
        throw FileError(fmt::format("{}: '{}' is {}{}; activations are floats [rows, width]",
                                    path.string(), tensors[c], name_of(t.dtype()),
                                    to_string(t.shape())));
      }
      if (layout_.matrices && t.rank() != 2) {
        throw FileError(
            fmt::format("{}: '{}' is {}, and which of its rows are meant is not known: "
                        "[rows, width] is read here, of one head",
                        path.string(), tensors[c], to_string(t.shape())));
      }
      std::int64_t width = t.dim(-1);
      if (c < layout_.widths.size() && t.rank() >= 3 && width * t.dim(-2) == layout_.widths[c])
        width = layout_.widths[c];
      if (columns_.size() <= c) columns_.push_back({tensors[c], width});
      if (width != columns_[c].width) {
        throw ShapeError(fmt::format("{}: '{}' has rows of width {}, those before had {}",
                                     path.string(), tensors[c], width, columns_[c].width));
      }
      shard.push_back(t.reshape({width == 0 ? 0 : t.numel() / width, width}));
      if (shard[c].dim(0) != shard[0].dim(0)) {
        throw ShapeError(
            fmt::format("{}: '{}' has {} rows, '{}' {}; they must be of the same tokens",
                        path.string(), tensors[c], shard[c].dim(0), tensors[0], shard[0].dim(0)));
      }
    }
    if (shard[0].dim(0) == 0) return;
    ends_.push_back(rows() + shard[0].dim(0));
    shards_.push_back(std::move(shard));
    names_.push_back(path.string());
  }

  FileLayout layout_;
  std::vector<Column> columns_;
  std::vector<std::vector<Tensor>> shards_;
  std::vector<std::string> names_;
  std::vector<std::int64_t> ends_;  // rows up to the end of each shard
};

}  // namespace

std::unique_ptr<ActivationSource> text_source(const nn::Model& model, const TextSourceSpec& spec) {
  return std::make_unique<TextActivations>(model, spec);
}
std::unique_ptr<ActivationSource> file_source(const std::vector<std::string>& patterns,
                                              const std::vector<std::string>& tensors,
                                              const FileLayout& layout) {
  return std::make_unique<FileActivations>(patterns, tensors, layout);
}

std::vector<fs::path> files_of(const std::string& pattern) {
  const fs::path path(pattern);
  const std::string last = path.filename().string();
  if (last.find('*') == std::string::npos) return {path};
  const fs::path folder = path.parent_path().empty() ? fs::path(".") : path.parent_path();
  std::vector<fs::path> found;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(folder, error)) {
    if (entry.is_regular_file() && matches(last, entry.path().filename().string()))
      found.push_back(entry.path());
  }
  std::sort(found.begin(), found.end());
  if (found.empty()) throw FileError(fmt::format("{}: no file matches", pattern));
  return found;
}

}  // namespace vitrine::sae
