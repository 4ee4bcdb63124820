// The driver, which is asked for the thread's context.
#include "stub.h"

FM_STUB_LIBRARY("driver")

// Which context a thread is told that it has.
static thread_local void* context = nullptr;
FM_STUB void fm_stub_context(void* current) { context = current; }

FM_STUB int cuCtxGetCurrent(void** current) {
  *current = context;
  return stub::entered(__func__, 3);  // not initialized
}
