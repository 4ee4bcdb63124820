extern "C" __attribute__((visibility("default"))) int fm_cuda_plugin_version() { return 0; }
