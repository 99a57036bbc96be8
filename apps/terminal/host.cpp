#include "apps/terminal/host.h"

namespace vitrine::app {
namespace {

// Of a thread, so that two of them may run verbs on two models.
thread_local Host* current = nullptr;

}  // namespace

Host* host() { return current; }

HostScope::HostScope(Host& host) : outer_(current) { current = &host; }
HostScope::~HostScope() { current = outer_; }

}  // namespace vitrine::app
