// Reports of reads and writes of the residual stream: for people and for programs.
#pragma once

#include <string>

#include "apps/terminal/output.h"
#include "interp/stream.h"

namespace vitrine::app {

std::string stream_text(const interp::StreamUse& use, const Style& style);
// {writers: [{name, length}], lengths, readers, share}
Json stream_json(const interp::StreamUse& use);

}  // namespace vitrine::app
