// A claim in a process of its own, for what is known or taken once a process.
#pragma once
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <exception>
#include <functional>
#include <string>

namespace fm {

// Whether it held there; what it throws is printed.
inline bool in_a_process(const std::string& what, const std::function<bool()>& claim) {
  std::fflush(stdout);
  const pid_t child = fork();
  if (child == 0) {
    bool ok = false;
    try {
      ok = claim();
    } catch (const std::exception& error) {
      std::printf("%s: %s\n", what.c_str(), error.what());
    }
    std::fflush(stdout);
    _exit(ok ? 0 : 1);
  }
  int status = 0;
  waitpid(child, &status, 0);
  return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

}  // namespace fm
