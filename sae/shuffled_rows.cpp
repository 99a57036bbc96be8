#include "sae/shuffled_rows.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <numeric>

#include "tensor/dtype.h"
#include "tensor/error.h"
#include "tensor/random.h"

namespace vitrine::sae {

// A file of the buffer's size, mapped; gone at the end, whatever happens.
struct ShuffledRows::Memory {
  std::byte* data = nullptr;
  std::size_t bytes = 0;
  Memory(const std::filesystem::path& file, std::size_t size) : bytes(size) {
    const int descriptor = ::open(file.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC,
                                  0600);  // never a file that is there
    const auto fail = [&](const char* what) {
      const std::string why = std::strerror(errno);
      if (descriptor >= 0) ::close(descriptor);
      throw SaveError(
          fmt::format("{}: a buffer of {} bytes cannot be {}: {}", file.string(), size, what, why));
    };
    if (descriptor < 0 && errno == EEXIST) {
      throw FileError(
          fmt::format("{}: there is a file of this name already, and the buffer takes the place of "
                      "none; name one "
                      "that is not there",
                      file.string()));
    }
    if (descriptor < 0) fail("made");
    if (const int error = ::posix_fallocate(descriptor, 0, static_cast<off_t>(size)); error != 0) {
      errno = error;
      ::unlink(file.c_str());
      fail("reserved");
    }
    void* at = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED, descriptor, 0);
    ::unlink(file.c_str());
    if (at == MAP_FAILED) fail("mapped");
    ::close(descriptor);
    data = static_cast<std::byte*>(at);
  }
  ~Memory() { ::munmap(data, bytes); }
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;
};

namespace {
template <class T>
void widen(const T* from, float* to, std::int64_t n) {
  for (std::int64_t i = 0; i < n; ++i) to[i] = to_float(from[i]);
}
}  // namespace

ShuffledRows::ShuffledRows(ActivationSource& source, const BufferSpec& spec)
    : source_(source), spec_(spec) {
  const auto usage = [](const std::string& what) { throw Error(ErrorKind::usage, what); };
  if (spec.rows < 1) usage(fmt::format("a buffer of {} rows: choose 1 or more", spec.rows));
  if (spec.dtype != DType::f32 && spec.dtype != DType::f16 && spec.dtype != DType::bf16)
    usage(fmt::format("a buffer of {}: choose f32, f16 or bf16", name_of(spec.dtype)));
  if (source.rows() > 0) spec_.rows = std::min(spec_.rows, source.rows());
  std::int64_t width = 0;
  for (const ActivationSource::Column& c : source.columns()) width += c.width;
  if (!spec.file.empty()) {
    memory_ = std::make_unique<Memory>(
        spec.file, static_cast<std::size_t>(spec_.rows * width * size_of(spec.dtype)));
  }
  const std::byte* at = memory_ ? memory_->data : nullptr;
  for (const ActivationSource::Column& c : source.columns()) {
    const Shape shape{spec_.rows, c.width};
    columns_.push_back(memory_ ? Tensor::wrap(nullptr, at, shape, spec.dtype)
                               : Tensor::empty(shape, spec.dtype));
    if (memory_) at += columns_.back().bytes();
  }
}
ShuffledRows::~ShuffledRows() = default;

void ShuffledRows::seek(const BufferPlace& place) {
  const auto& [source, skip, fill, row] = place;
  if (source.epoch < 0 || source.item < 0 || source.item >= source_.items() || skip < 0 ||
      fill < 0 || row < 0 || row > spec_.rows) {
    throw CheckpointError(
        fmt::format("the checkpoint stands at item {} of epoch {} of its source, which has {}, and "
                    "at row {} of a buffer of {}: "
                    "there is no such place",
                    source.item, source.epoch, source_.items(), row, spec_.rows));
  }
  if (!(place.source == place_.source && place.skip == place_.skip && place.fill == place_.fill))
    filled_ = false;
  place_ = place;
}

void ShuffledRows::fill() {
  SourcePlace at = place_.source;
  std::int64_t have = 0, skip = place_.skip;
  while (have < spec_.rows) {
    const SourcePlace from = at;
    const std::vector<Tensor> read = source_.read(at);
    if (skip >= read[0].dim(0))
      throw CheckpointError(fmt::format(
          "the checkpoint has read {} rows of {}: there is no such place", skip, read[0].dim(0)));
    const std::int64_t rows = read[0].dim(0), take = std::min(rows - skip, spec_.rows - have);
    for (std::size_t c = 0; c < read.size(); ++c) {
      const Tensor part = read[c].slice(0, skip, skip + take).to(spec_.dtype).contiguous();
      std::copy_n(part.view().data, part.bytes(),
                  columns_[c].view().data + have * columns_[c].dim(1) * size_of(spec_.dtype));
    }
    have += take;
    next_.source = skip + take < rows ? from : at;
    next_.skip = skip + take < rows ? skip + take : 0;
    skip = 0;
  }
  next_.fill = place_.fill + 1;
  next_.row = 0;
  order_.resize(static_cast<std::size_t>(spec_.rows));
  std::iota(order_.begin(), order_.end(), std::int64_t{0});
  random::shuffle(
      random::Key{spec_.seed}.fold("rows").fold(static_cast<std::uint64_t>(place_.fill)), order_);
  filled_ = true;
}

std::vector<Tensor> ShuffledRows::next(std::int64_t rows) {
  std::vector<Tensor> out;
  for (const Tensor& c : columns_) out.push_back(Tensor::empty({rows, c.dim(1)}, DType::f32));
  for (std::int64_t done = 0; done < rows;) {
    if (filled_ && place_.row == spec_.rows) {
      place_ = next_;
      filled_ = false;
    }
    if (!filled_) fill();
    const std::int64_t take = std::min(rows - done, spec_.rows - place_.row);
    for (std::size_t c = 0; c < out.size(); ++c) {
      const std::int64_t width = columns_[c].dim(1), bytes = width * size_of(spec_.dtype);
      for (std::int64_t i = 0; i < take; ++i) {
        const std::byte* from =
            columns_[c].view().data + order_[static_cast<std::size_t>(place_.row + i)] * bytes;
        float* to = out[c].data<float>() + (done + i) * width;
        if (spec_.dtype == DType::f32) std::memcpy(to, from, static_cast<std::size_t>(bytes));
        else if (spec_.dtype == DType::f16) widen(reinterpret_cast<const Half*>(from), to, width);
        else widen(reinterpret_cast<const BFloat16*>(from), to, width);
      }
    }
    done += take;
    place_.row += take;
  }
  return out;
}

std::vector<Tensor> ShuffledRows::sample(std::int64_t rows) {
  if (!filled_) fill();
  std::vector<Tensor> out;
  for (const Tensor& c : columns_)
    out.push_back(c.slice(0, 0, std::min(rows, spec_.rows)).to(DType::f32).contiguous());
  return out;
}

}  // namespace vitrine::sae
