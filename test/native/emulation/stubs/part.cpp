// A library that another one opens by itself: that it was loaded is all.
#include "stub.h"

FM_STUB_LIBRARY(FM_STUB_NAME)
