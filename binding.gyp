# The plain build: the CPU addon with a C++ compiler alone, from the same folders that CMakeLists.txt globs.
{
  "targets": [
    {
      "target_name": "flashmargin",
      "sources": [
        "<!@(node -p \"['native/common','native/cpu','src'].flatMap(d=>require('fs').readdirSync(d).filter(f=>f.endsWith('.cpp')).map(f=>d+'/'+f)).join(' ')\")",
        "native/cuda/no_cuda.cpp"
      ],
      "include_dirs": ["<!(node -p \"require('node-addon-api').include_dir\")"],
      "defines": ["NAPI_VERSION=8", "NODE_ADDON_API_DISABLE_DEPRECATED", "NODE_API_SWALLOW_UNTHROWABLE_EXCEPTIONS"],
      # Word for word CMake's, in its order, and none of node-gyp's own, of which 64 bits need none: so a compiler cache
      # has the objects of native/ for both builds.
      "defines!": ["_FILE_OFFSET_BITS=64", "_LARGEFILE_SOURCE"],
      "cflags/": [["exclude", "."]],
      "cflags_cc/": [["exclude", "^-(fno-exceptions|fno-rtti|fno-strict-aliasing|std=gnu.*)$"]],
      "cflags_cc": [
        "-O3", "-DNDEBUG", "-fPIC", "-fvisibility=hidden", "-Wall", "-Wextra", "-Wno-unused-parameter", "-Wno-psabi",
        "-O3", "-ffp-contract=fast", "-fno-math-errno", "-std=c++20"
      ],
      "ldflags": ["-Wl,-z,nodelete"],
      "libraries": ["-ldl", "-lpthread"]
    }
  ]
}
