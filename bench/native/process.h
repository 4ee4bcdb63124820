// What the kernel says of this process.
#pragma once
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace bench {

// A field of /proc/self/status in MiB, such as "VmRSS:".
inline double status_mebibytes(const char* field) {
  char line[256];
  double kib = 0;
  FILE* file = std::fopen("/proc/self/status", "r");
  while (file && std::fgets(line, sizeof line, file))
    if (!std::strncmp(line, field, std::strlen(field))) kib = std::atof(line + std::strlen(field) + 1);
  if (file) std::fclose(file);
  return kib / 1024;
}

}  // namespace bench
