#include "report.h"

namespace fm {
namespace {

constexpr int kThreads = 256;

// One block.
__global__ void check_labels_of_rows(Labels labels, int64_t N, Refusals refused, double* labelled) {
  double count = 0;
  for (int64_t i = threadIdx.x; i < N; i += kThreads) {
    if (labels.refuses(i)) refused.note(i);
    count += labels.of(i) >= 0;
  }
  count = row_reduce<kThreads>(count, Sum{});
  if (threadIdx.x == 0) *labelled = count;
}

// One block.
__global__ void add_up_rows(const double* of_row, int64_t N, double* sum) {
  double total = 0;
  for (int64_t i = threadIdx.x; i < N; i += kThreads) total += of_row[i];
  total = row_reduce<kThreads>(total, Sum{});
  if (threadIdx.x == 0) *sum = total;
}

}  // namespace

Report::Report(CudaBackend& gpu) : gpu_(gpu), scratch_(gpu.allocator()), on_device_(scratch_.take<ReportData>(1)) {
  FM_CUDA(cudaMemsetAsync(on_device_, 0xff, sizeof(ReportData), gpu_.stream()));
}

Refusals Report::check(std::function<void(int64_t row)> say) {
  FM_CHECK(range, checks_.size() < ReportData::kChecks, "expected at most ", ReportData::kChecks, " checks a call");
  checks_.push_back(std::move(say));
  return {&on_device_->lowest[checks_.size() - 1]};
}

Labels Report::labels(const Tensor& labels, int64_t classes) {
  const Labels all{labels.data<int32_t>(), classes, &on_device_->labelled};
  const Refusals refused =
      check([this, all, classes](int64_t row) { fail_label(read(all.at + row, 1)[0], classes, row); });
  launch(gpu_.stream(), 1, kThreads, check_labels_of_rows, all, labels.dim(0), refused, &on_device_->labelled);
  return all;
}

void Report::add_up(int which, const double* of_row, int64_t N) {
  launch(gpu_.stream(), 1, kThreads, add_up_rows, of_row, N, &on_device_->sums[which]);
}

ReportData Report::finish() {
  ReportData report;
  gpu_.read(&report, on_device_, sizeof report);
  for (size_t i = 0; i < checks_.size(); i++)
    if (report.lowest[i] != ~0ull) checks_[i](int64_t(report.lowest[i]));
  return report;
}

}  // namespace fm
