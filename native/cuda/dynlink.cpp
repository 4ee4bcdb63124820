#include "dynlink.h"

#include <dlfcn.h>
#include <glob.h>
#include <link.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <utility>
#include <vector>

namespace fm {
namespace {

struct Wanted {
  const char* variable;            // of the environment
  std::vector<std::string> files;  // in order of preference
  // Patterns.  What a library from a wheel opens by itself is found by the loader only where it has been loaded before:
  // from the neighbouring wheels before the library, from its own folder after it.
  std::vector<std::string> neighbours, siblings;
};

std::string environment(const char* variable) {
  const char* value = std::getenv(variable);
  return value ? value : "";
}

std::vector<std::string> files_like(const std::string& pattern) {
  std::vector<std::string> files;
  glob_t found;
  if (glob(pattern.c_str(), 0, nullptr, &found) == 0) files.assign(found.gl_pathv, found.gl_pathv + found.gl_pathc);
  globfree(&found);
  return files;
}

bool is_folder(const std::string& path) {
  struct stat about;
  return stat(path.c_str(), &about) == 0 && S_ISDIR(about.st_mode);
}

std::string folder_of(const std::string& path) {
  const size_t slash = path.rfind('/');
  return slash == std::string::npos ? "." : path.substr(0, slash);
}

std::string name_of(const std::string& path) {
  const size_t slash = path.rfind('/');
  return slash == std::string::npos ? path : path.substr(slash + 1);
}

std::string path_of(void* handle, const std::string& otherwise) {
  link_map* map = nullptr;
  return dlinfo(handle, RTLD_DI_LINKMAP, &map) == 0 && map->l_name[0] ? map->l_name : otherwise;
}

std::string joined(const std::vector<std::string>& parts, const char* between) {
  std::string text;
  for (const std::string& part : parts) text += (text.empty() ? "" : between) + part;
  return text;
}

std::vector<std::string> toolkit_folders() {
  std::vector<std::string> folders;
  for (const char* variable : {"CUDA_HOME", "CUDA_PATH"})
    if (const std::string root = environment(variable); !root.empty())
      for (const char* folder : {"/lib64", "/lib"}) folders.push_back(root + folder);
  if (const std::string root = environment("CONDA_PREFIX"); !root.empty()) folders.push_back(root + "/lib");
  return folders;
}

std::vector<std::string> python_sites() {
  std::vector<std::string> sites;
  if (const std::string site = environment("FLASHMARGIN_PYTHON_SITE"); !site.empty()) sites.push_back(site);
  for (const char* variable : {"VIRTUAL_ENV", "CONDA_PREFIX"})
    if (const std::string root = environment(variable); !root.empty())
      for (const std::string& site : files_like(root + "/lib/python3*/site-packages")) sites.push_back(site);
  return sites;
}

// Looks in one place after the other; accept(handle, version) says why a library does not fit, or nothing.
template <class Accept>
class Search {
 public:
  Search(const Wanted& wanted, Accept accept) : wanted_(wanted), accept_(accept) {}

  FoundLibrary run() {
    if (std::string chosen = environment(wanted_.variable); !chosen.empty()) {
      while (chosen.size() > 1 && chosen.back() == '/') chosen.pop_back();
      const bool there = access(chosen.c_str(), R_OK) == 0;
      if (there && (is_folder(chosen) ? in_folder(chosen) : open(chosen))) return found_;
      found_.reason = std::string(wanted_.variable) + " names " + chosen + ", ";
      if (!there) found_.reason += "which cannot be read";
      else if (refusals_.empty()) found_.reason += "which has no " + joined(wanted_.files, " or ");
      else found_.reason += "but " + joined(refusals_, "; ");
      return found_;
    }
    for (const std::string& file : wanted_.files)
      if (open(file, RTLD_NOLOAD)) return found_;
    for (const std::string& file : wanted_.files)
      if (open(file)) return found_;
    std::vector<std::string> places{"the loader's folders"};
    for (const std::string& folder : toolkit_folders()) {
      if (in_folder(folder)) return found_;
      places.push_back(folder);
    }
    for (const std::string& site : python_sites()) {
      for (const std::string& folder : files_like(site + "/nvidia/*/lib"))
        if (in_folder(folder)) return found_;
      places.push_back(site + "/nvidia");
    }
    found_.reason = refusals_.empty() ? "no " + joined(wanted_.files, " or ") + " in " + joined(places, ", ")
                                      : joined(refusals_, "; ");
    found_.reason += std::string("; set ") + wanted_.variable + " to its file or folder";
    return found_;
  }

 private:
  bool in_folder(const std::string& folder) {
    for (const std::string& file : wanted_.files)
      if (access((folder + '/' + file).c_str(), R_OK) == 0 && open(folder + '/' + file)) return true;
    return false;
  }

  // file: a path, or the bare name that the loader looks for.
  bool open(const std::string& file, int flags = 0) {
    const bool chosen = file.find('/') != std::string::npos;
    const std::string wheels = folder_of(folder_of(folder_of(file)));
    if (chosen && name_of(wheels) == "nvidia")
      for (const std::string& pattern : wanted_.neighbours)
        for (const std::string& neighbour : files_like(wheels + "/*/lib/" + pattern))
          dlopen(neighbour.c_str(), RTLD_NOW | RTLD_LOCAL);
    void* handle = dlopen(file.c_str(), RTLD_NOW | RTLD_LOCAL | flags);
    if (!handle) {
      // That the file itself is missing is no news; that one which it needs is missing is.
      const char* error = dlerror();
      const std::string text = error ? error : "";
      if (!text.empty() && (chosen || text.compare(0, file.size(), file) != 0))
        refuse("opening " + file + " failed: " + text);
      return false;
    }
    const std::string path = path_of(handle, file), refusal = accept_(handle, found_.version);
    if (!refusal.empty()) {
      refuse(path + ' ' + refusal);
      found_.version.clear();
      dlclose(handle);
      return false;
    }
    if (chosen)
      for (const std::string& pattern : wanted_.siblings)
        for (const std::string& sibling : files_like(folder_of(file) + '/' + pattern))
          dlopen(sibling.c_str(), RTLD_NOW | RTLD_LOCAL);
    found_.path = path;
    return true;
  }

  // One that is refused in the process is met again by the loader.
  void refuse(const std::string& why) {
    if (refusals_.empty() || refusals_.back() != why) refusals_.push_back(why);
  }

  const Wanted& wanted_;
  Accept accept_;
  FoundLibrary found_;
  std::vector<std::string> refusals_;
};

template <class F>
bool look_up(void* handle, const char* name, F& function) {
  function = reinterpret_cast<F>(dlsym(handle, name));
  return function != nullptr;
}

std::string version_text(size_t major, size_t minor, size_t patch) {
  return std::to_string(major) + '.' + std::to_string(minor) + '.' + std::to_string(patch);
}

std::string missing(const char* function) { return std::string("has no function ") + function; }

#define FM_RESOLVE(result, name, parameters) \
  if (!look_up(handle, #name, call.name)) return missing(#name);

// Whether a library that was built for CUDA `version` (13000 is 13.0) can work here.  Streams and memory are the driver's,
// so its CUDA need not be this library's; but the driver must know it.
std::string refusal_of_cuda(size_t version) {
  const size_t major = version / 1000;
  if (major != 12 && major != 13) return "is for CUDA " + std::to_string(major) + ", expected 12 or 13";
  int driver = 0;
  if (cudaDriverGetVersion(&driver) == cudaSuccess && driver > 0 && size_t(driver) / 1000 < major)
    return "is for CUDA " + std::to_string(major) + ", and the driver knows CUDA " + std::to_string(driver / 1000) +
           '.' + std::to_string(driver % 1000 / 10) + ": install a newer driver, or the library for CUDA " +
           std::to_string(driver / 1000);
  return "";
}

LinkedLibrary<cublaslt::Functions> find_cublaslt() {
  // The runtime's own first.
  const int own = CUDART_VERSION / 1000, other = own == 13 ? 12 : 13;
  const auto name = [](int major) { return "libcublasLt.so." + std::to_string(major); };
  const Wanted wanted{"FLASHMARGIN_CUBLASLT_PATH", {name(own), name(other)}, {}, {}};
  LinkedLibrary<cublaslt::Functions> library;
  auto& call = library.call;
  static_cast<FoundLibrary&>(library) = Search(wanted, [&](void* handle, std::string& version) -> std::string {
                                          if (!look_up(handle, "cublasLtGetVersion", call.cublasLtGetVersion))
                                            return missing("cublasLtGetVersion");
                                          const size_t number = call.cublasLtGetVersion(), major = number / 10000;
                                          version = version_text(major, number / 100 % 100, number % 100);
                                          if (major != 12 && major != 13)
                                            return "has version " + version + ", expected 12 or 13";
                                          FM_CUBLASLT_FUNCTIONS(FM_RESOLVE)
                                          return refusal_of_cuda(call.cublasLtGetCudartVersion());
                                        }).run();
  return library;
}

LinkedLibrary<cudnn::Functions> find_cudnn() {
  const Wanted wanted{
      "FLASHMARGIN_CUDNN_PATH", {"libcudnn.so.9"}, {"libcublasLt.so.1[23]", "libnvrtc.so.1[23]"}, {"libcudnn_*.so.9"}};
  LinkedLibrary<cudnn::Functions> library;
  auto& call = library.call;
  static_cast<FoundLibrary&>(library) =
      Search(wanted, [&](void* handle, std::string& version) -> std::string {
        if (!look_up(handle, "cudnnGetVersion", call.cudnnGetVersion)) return missing("cudnnGetVersion");
        const size_t number = call.cudnnGetVersion();
        // 8.9.7 is 8907, 9.1.0 is 90100.
        version = number < 10000 ? version_text(number / 1000, number / 100 % 10, number % 100)
                                 : version_text(number / 10000, number / 100 % 100, number % 100);
        if (number / 10000 != 9) return "has version " + version + ", expected 9";
        FM_CUDNN_FUNCTIONS(FM_RESOLVE)
        return refusal_of_cuda(call.cudnnGetCudartVersion());
      }).run();
  return library;
}

LinkedLibrary<nccl::Functions> find_nccl() {
  const Wanted wanted{"FLASHMARGIN_NCCL_PATH", {"libnccl.so.2"}, {}, {}};
  LinkedLibrary<nccl::Functions> library;
  auto& call = library.call;
  static_cast<FoundLibrary&>(library) =
      Search(wanted, [&](void* handle, std::string& version) -> std::string {
        FM_NCCL_FUNCTIONS(FM_RESOLVE)
        int number = 0;
        if (call.ncclGetVersion(&number) != nccl::kSuccess) return "does not tell its version (ncclGetVersion failed)";
        // 2.8.4 is 2804, 2.9.6 is 20906.
        version = number < 10000
                      ? version_text(size_t(number) / 1000, size_t(number) / 100 % 10, size_t(number) % 100)
                      : version_text(size_t(number) / 10000, size_t(number) / 100 % 100, size_t(number) % 100);
        if (version.compare(0, 2, "2.") != 0) return "has version " + version + ", expected 2";
        return "";
      }).run();
  return library;
}

#undef FM_RESOLVE

}  // namespace

const Libraries& libraries() {
  // cuBLASLt first: cuDNN uses it too, and takes the one that is there.
  static const auto* found = new Libraries{find_cublaslt(), find_cudnn(), find_nccl()};
  return *found;
}

}  // namespace fm
