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
      "cflags_cc!": ["-fno-exceptions", "-fno-rtti", "-std=gnu++17", "-std=gnu++20"],
      "cflags_cc": [
        "-std=c++20", "-fexceptions", "-frtti", "-O3", "-ffp-contract=fast", "-fno-math-errno", "-fvisibility=hidden",
        "-Wall", "-Wextra", "-Wno-unused-parameter", "-Wno-psabi"
      ],
      "ldflags": ["-Wl,-z,nodelete"],
      "libraries": ["-ldl", "-lpthread"]
    }
  ]
}
