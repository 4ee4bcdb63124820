// A cuDNN 9 that lacks what is called.
#include "stub.h"

FM_STUB size_t cudnnGetVersion() { return 91002; }
FM_STUB size_t cudnnGetCudartVersion() { return 13000; }
