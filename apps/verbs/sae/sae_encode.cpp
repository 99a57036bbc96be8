// vitrine sae encode: features and reconstructions of activations that are there.
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "apps/experiment/edit_options.h"
#include "apps/options/sae_options.h"
#include "apps/terminal/interrupt.h"
#include "apps/terminal/progress.h"
#include "apps/verbs/verbs.h"
#include "tensor/error.h"
#include "tensor/files/file.h"
#include "tensor/files/safetensors.h"
#include "tensor/files/safetensors_stream.h"
#include "tensor/nearest.h"

namespace vitrine::app {
namespace {

namespace fs = std::filesystem;
constexpr std::int64_t kTogether = 8192;  // rows that are in memory at a time

// Bytes that are needed again when all of them are known, in a file without a name beside the
// output; it is gone at the end, however that comes.
class Scratch {
 public:
  explicit Scratch(const fs::path& output) : output_(output.string()) {
    std::error_code error;
    const bool beside = !fs::exists(output, error) || fs::is_regular_file(output, error);
    const fs::path folder = beside ? output.parent_path() : fs::temp_directory_path(error);
    std::string name = ((folder.empty() ? fs::path(".") : folder) / ".vitrine-XXXXXX").string();
    descriptor_ = ::mkstemp(name.data());
    if (descriptor_ < 0) fail(errno);
    ::unlink(name.c_str());
  }
  ~Scratch() { ::close(descriptor_); }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;

  void add(std::span<const std::byte> bytes) {
    if (const int error = write_fully(descriptor_, bytes); error != 0) fail(error);
  }
  void copy_to(const Sink& sink) {
    std::vector<std::byte> piece(1 << 20);
    ::off_t at = 0;
    for (;;) {
      const ::ssize_t n = ::pread(descriptor_, piece.data(), piece.size(), at);
      if (n < 0 && errno == EINTR) continue;
      if (n < 0) fail(errno);
      if (n == 0) return;
      sink(std::span(piece).first(static_cast<std::size_t>(n)));
      at += n;
    }
  }

 private:
  [[noreturn]] void fail(int error) const {
    throw SaveError(fmt::format("cannot write '{}': the scratch file beside it: {}", output_,
                                std::strerror(error)));
  }
  int descriptor_ = -1;
  std::string output_;
};

std::span<const std::byte> bytes_of(const Tensor& t) {
  return {t.view().data, static_cast<std::size_t>(t.bytes())};
}

Tensor activations(const std::string& file, const std::string& tensor) {
  const SafeTensors tensors = SafeTensors::open(file);
  if (tensors.contains(tensor)) return tensors.at(tensor);
  constexpr std::size_t kShown = 20;
  std::vector<std::string> names = tensors.names();
  const std::string near = did_you_mean(nearest(tensor, names, 1));
  const std::size_t more = names.size() > kShown ? names.size() - kShown : 0;
  names.resize(names.size() - more);
  throw FileError(fmt::format("{}: there is no tensor '{}'{}; there are {}{}", file, tensor, near,
                              fmt::join(names, ", "),
                              more > 0 ? fmt::format(" and {} more", more) : ""));
}

// The rows of a tensor through an SAE, some at a time.
class Encoding {
 public:
  Encoding(const sae::Sae& sae, const Tensor& x, ThreadPool& pool, const fs::path& out, bool quiet)
      : sae_(sae),
        encoder_(sae, &pool),
        x_(x),
        out_(out),
        progress_("encoding", "rows", quiet),
        reconstruction_(out) {}

  std::int64_t rows() const { return x_.dim(0); }
  double l0() const {
    return static_cast<double>(active_) / static_cast<double>(std::max<std::int64_t>(1, rows()));
  }

  void dense(const std::map<std::string, std::string>& metadata) {
    stream_safetensors(out_,
                       {{"feature_acts",
                         DType::f32,
                         {rows(), sae_.config.d_sae},
                         [&](const Sink& sink) {
                           run([&](const Tensor& f) {
                             count(f);
                             sink(bytes_of(f));
                           });
                         }},
                        reconstructed()},
                       metadata);
  }

  // How many are active is known at the end: they wait in scratch files.
  void sparse(const std::map<std::string, std::string>& metadata) {
    Scratch indices(out_), values(out_);
    std::vector<std::int64_t> pointers = {0};
    std::vector<std::int32_t> index;
    std::vector<float> value;
    run([&](const Tensor& f) {
      index.clear();
      value.clear();
      const std::int64_t width = f.dim(1);
      for (std::int64_t i = 0; i < f.dim(0); ++i) {
        const float* row = f.data<float>() + i * width;
        for (std::int64_t j = 0; j < width; ++j) {
          if (row[j] == 0) continue;
          index.push_back(static_cast<std::int32_t>(j));
          value.push_back(row[j]);
        }
        pointers.push_back(active_ + std::ssize(index));
      }
      active_ += std::ssize(index);
      indices.add(std::as_bytes(std::span(index)));
      values.add(std::as_bytes(std::span(value)));
    });
    const auto from = [](Scratch& scratch) {
      return [&scratch](const Sink& sink) { scratch.copy_to(sink); };
    };
    stream_safetensors(out_,
                       {{"feature_acts.row_pointers",
                         DType::i64,
                         {rows() + 1},
                         [&](const Sink& sink) { sink(std::as_bytes(std::span(pointers))); }},
                        {"feature_acts.indices", DType::i32, {active_}, from(indices)},
                        {"feature_acts.values", DType::f32, {active_}, from(values)},
                        reconstructed()},
                       metadata);
  }

 private:
  StreamedTensor reconstructed() {
    return {"reconstruction", DType::f32, {rows(), sae_.config.d_out}, [&](const Sink& sink) {
              reconstruction_.copy_to(sink);
            }};
  }

  void count(const Tensor& features) {
    const float* f = features.data<float>();
    active_ += std::count_if(f, f + features.numel(), [](float v) { return v != 0; });
  }

  template <class Take>
  void run(const Take& take) {
    for (std::int64_t begin = 0; begin < rows(); begin += kTogether) {
      interruptible_.check();
      const std::int64_t end = std::min(rows(), begin + kTogether);
      const auto coded = encoder_.encode(x_.slice(0, begin, end), begin);
      take(coded.features);
      reconstruction_.add(bytes_of(coded.reconstruction));
      progress_.update(static_cast<double>(end), static_cast<double>(rows()));
    }
  }

  const sae::Sae& sae_;
  sae::Encoder encoder_;
  Tensor x_;
  fs::path out_;
  Progress progress_;
  Interruptible interruptible_;
  Scratch reconstruction_;
  std::int64_t active_ = 0;
};

}  // namespace

void verb_sae_encode(const Arguments& arguments) {
  CommandLine line(
      arguments,
      "The features of activations in a safetensors file, and what the SAE makes of them again.\n"
      "Leading axes are joined: [batch, position, width] gives batch * position rows. Rows are "
      "read\n"
      "and written some at a time, so there may be more of them than memory has room for.\n\n"
      "safetensors: feature_acts [rows, features], reconstruction [rows, width]. With --sparse, "
      "in\n"
      "place of feature_acts what is not 0, as scipy's csr_matrix((values, indices, "
      "row_pointers),\n"
      "shape=(rows, features)) takes it: feature_acts.values and .indices [active], and\n"
      ".row_pointers [rows + 1]; those of row i are row_pointers[i] to row_pointers[i + 1]\n"
      "json: {meta, file, rows, features, l0}\n",
      "vitrine cache --prompt 'The capital of Texas is' --sites blocks.4.hook_mlp_out --out "
      "texas.safetensors && vitrine sae encode --sae blocks.4.hook_mlp_out --activations "
      "texas.safetensors --tensor blocks.4.hook_mlp_out --out codes.safetensors");
  CommonOptions common;
  EditOptions edits;
  std::string name, file, tensor;
  bool sparse = false;
  line.option("--sae", name, "DIR", "a SAELens folder, or the name of one that came with the model")
      ->required();
  line.option("--activations", file, "FILE", "a safetensors file")->required();
  line.option("--tensor", tensor, "NAME", "of the activations in it")->required();
  line.flag("--sparse", sparse, "write only the features that are not 0, by row");
  edits.add_to(line, common, false);
  common.add_to(line, "the safetensors file to write, all or nothing (required)",
                CommonOptions::Out::tensors);
  if (!line.parse()) return;
  if (common.out.empty() || common.out == "-")
    line.fail("features go to a file; give --out FILE.safetensors");
  if (common.out.ends_with(".npz")) {
    line.fail(
        "--out: features are written some at a time, which an .npz file has no way for; give "
        "--out FILE.safetensors");
  }
  check_folder_of(common.out);
  const sae::Sae sae = load_sae(name, common.model);
  ThreadPool pool(common.threads);
  Tensor x = activations(file, tensor);
  try {
    x = sae::Encoder(sae, &pool).rows_of(x);
  } catch (const ShapeError& error) {  // the file is another SAE's
    throw FileError(fmt::format("{}: '{}': {}", file, tensor, error.what()));
  }
  Encoding encoding(sae, x, pool, common.out, common.quiet);
  const Json meta = common.meta(line);
  if (sparse) encoding.sparse(as_metadata(meta));
  else encoding.dense(as_metadata(meta));
  if (common.json()) {
    return write_stdout(to_line({{"meta", meta},
                                 {"file", json_text(common.out)},
                                 {"rows", encoding.rows()},
                                 {"features", sae.config.d_sae},
                                 {"l0", encoding.l0()}}));
  }
  write_stdout(fmt::format("{} rows, {:.1f} of {} features active on average, written to {}\n",
                           grouped(encoding.rows()), encoding.l0(), grouped(sae.config.d_sae),
                           visible(common.out)));
}

}  // namespace vitrine::app
