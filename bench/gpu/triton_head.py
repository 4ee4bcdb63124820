"""A softmax loss over cosines that recomputes logits instead of storing them, in Triton: three sweeps over the classes.

The idea is Cut Cross-Entropy's (arXiv:2411.09009); the kernels are our own, and differ from it: a program owns the rows
whose gradient it adds up, so that there are no locks and no atomics, at the price of computing the logits a third time.
TRITON_INTERPRET=1 runs them on a CPU.
"""
import math

import torch
import triton
import triton.language as tl

LOG2E = 1.4426950408889634


# Rows that a program's run of the other operand is a multiple of, whatever its tiles are.
RUN = 256


def tiles_of(name, *choices):
    return [triton.Config({name: size}, num_warps=8, num_stages=stages) for size, stages in choices]


@triton.autotune(tiles_of('BN', (128, 3), (256, 3), (128, 4)), key=['D'])
@triton.jit
def sums_kernel(
    X, W, Y, LARGEST, SUM, N, C, run, scale_log2, D: tl.constexpr, BM: tl.constexpr, BD: tl.constexpr, BN: tl.constexpr
):
    """Σ exp of a block of rows over a run of classes, without the targets: the largest exponent and the sum to it."""
    rows = tl.program_id(0) * BM + tl.arange(0, BM)
    target = tl.load(Y + rows, mask=rows < N, other=-1).to(tl.int32)
    largest = tl.full((BM,), -1e30, tl.float32)
    total = tl.zeros((BM,), tl.float32)
    columns = tl.arange(0, BD)
    x_at = tl.arange(0, BM)[:, None] * D + columns[None, :]
    w_at = tl.arange(0, BN)[:, None] * D + columns[None, :]
    X += tl.program_id(0) * BM * D
    for t in range(run // BN):
        first = tl.program_id(1) * run + t * BN
        classes = first + tl.arange(0, BN)
        w_row = W + first.to(tl.int64) * D
        z = tl.zeros((BM, BN), tl.float32)
        for d in range(0, D, BD):
            x = tl.load(X + d + x_at, mask=rows[:, None] < N, other=0.0)
            w = tl.load(w_row + d + w_at, mask=classes[:, None] < C, other=0.0)
            z = tl.dot(x, tl.trans(w), z)
        away = (classes[None, :] >= C) | (classes[None, :] == target[:, None])
        z = tl.where(away, -1e30, z * scale_log2)
        higher = tl.maximum(largest, tl.max(z, 1))
        total = total * tl.exp2(largest - higher) + tl.sum(tl.where(away, 0.0, tl.exp2(z - higher[:, None])), 1)
        largest = higher
    at = tl.program_id(1) * N + rows
    tl.store(LARGEST + at, largest, mask=rows < N)
    tl.store(SUM + at, total, mask=rows < N)


@triton.autotune(tiles_of('BB', (64, 2), (32, 2), (32, 3)), key=['D', 'A_IS_FEATURES'])
@triton.jit
def gradient_kernel(
    A, B, Y, LSE2, OUT, rows_a, rows_b, run, scale_log2, factor, skip, D: tl.constexpr, BA: tl.constexpr,
    A_IS_FEATURES: tl.constexpr, BB: tl.constexpr
):
    """OUT = Σ over b of p·factor·b for a block of A's rows; one of A and B holds the features, the other the classes."""
    a_first = tl.program_id(0) * BA
    a_rows = a_first + tl.arange(0, BA)
    columns = tl.arange(0, D)
    a_at = tl.arange(0, BA)[:, None] * D + columns[None, :]
    b_at = tl.arange(0, BB)[:, None] * D + columns[None, :]
    a = tl.load(A + a_first.to(tl.int64) * D + a_at, mask=a_rows[:, None] < rows_a, other=0.0)
    sums = tl.zeros((BA, D), tl.float32)
    for t in range(run // BB):
        b_first = tl.program_id(1) * run + t * BB
        b_rows = b_first + tl.arange(0, BB)
        b = tl.load(B + b_first.to(tl.int64) * D + b_at, mask=b_rows[:, None] < rows_b, other=0.0)
        z = tl.dot(a, tl.trans(b)) * scale_log2
        away = (a_rows[:, None] >= rows_a) | (b_rows[None, :] >= rows_b)
        if A_IS_FEATURES:
            lse = tl.load(LSE2 + a_rows, mask=a_rows < rows_a, other=0.0)[:, None]
            target = tl.load(Y + a_rows, mask=a_rows < rows_a, other=-1).to(tl.int32)[:, None]
            away = away | (b_rows[None, :] == target)
        else:
            lse = tl.load(LSE2 + b_rows, mask=b_rows < rows_b, other=0.0)[None, :]
            target = tl.load(Y + b_rows, mask=b_rows < rows_b, other=-1).to(tl.int32)[None, :]
            away = away | (a_rows[:, None] == target)
        p = tl.where(away, 0.0, tl.exp2(z - lse))
        if tl.max(tl.max(p, 1), 0) >= skip:
            sums = tl.dot((p * factor).to(a.dtype), b, sums)
    OUT += (tl.program_id(1).to(tl.int64) * rows_a + a_first) * D
    tl.store(OUT + a_at, sums.to(OUT.dtype.element_ty), mask=a_rows[:, None] < rows_a)


def blocks(rows, size):
    return (rows + size - 1) // size


def runs_of(rows, programs, device):
    """How many runs, and rows in each: so that programs outnumber multiprocessors by some."""
    processors = torch.cuda.get_device_properties(device).multi_processor_count if device.type == 'cuda' else 2
    count = max(1, min(blocks(rows, RUN), 2 * processors // programs))
    run = RUN * blocks(rows, RUN * count)
    return blocks(rows, run), run


def gradient_of(a, b, y, lse2, out_dtype, scale, skip, a_is_features):
    BA = 64
    programs = blocks(len(a), BA)
    runs, run = runs_of(len(b), programs, a.device) if a_is_features else (1, RUN * blocks(len(b), RUN))
    out = torch.empty(runs, *a.shape, dtype=out_dtype, device=a.device)
    gradient_kernel[(programs, runs)](
        a, b, y, lse2, out, len(a), len(b), run, scale * LOG2E, scale / len(y), skip, D=a.shape[1], BA=BA,
        A_IS_FEATURES=a_is_features
    )
    return out.sum(0) if runs > 1 else out[0]


class Recomputed(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, w, y, phi_and_slope, scale, skip):
        unit, centers = x.bfloat16(), w.bfloat16()
        phi, slope = phi_and_slope((x * w[y]).sum(1))
        BM = 128
        programs = blocks(len(x), BM)
        runs, run = runs_of(len(w), programs, x.device)
        largest = torch.empty(runs, len(x), device=x.device)
        total = torch.empty_like(largest)
        sums_kernel[(programs, runs)](
            unit, centers, y, largest, total, len(x), len(w), run, scale * LOG2E, D=x.shape[1], BM=BM, BD=64
        )
        negatives = torch.logsumexp(largest * math.log(2) + total.log(), 0)
        lse = torch.logaddexp(negatives, scale * phi)
        of_target = ((scale * phi - lse).exp() - 1) * slope * (scale / len(x))
        ctx.save_for_backward(x, unit, centers, y, lse, of_target)
        ctx.scale, ctx.skip = scale, skip
        return (lse - scale * phi).mean()

    @staticmethod
    def backward(ctx, d_loss):
        x, unit, centers, y, lse, of_target = ctx.saved_tensors
        lse2 = lse * LOG2E
        dx = gradient_of(unit, centers, y, lse2, torch.float32, ctx.scale, ctx.skip, True)
        dw = gradient_of(centers, unit, y, lse2, torch.bfloat16, ctx.scale, ctx.skip, False)
        dx += of_target[:, None] * centers[y].float()
        dw.index_add_(0, y, (of_target[:, None] * x).to(dw.dtype))
        return d_loss * dx, d_loss * dw.to(x.dtype), None, None, None, None


def recomputed_loss(x, w, y, phi_and_slope, scale, skip):
    """Mean loss of unit rows x [N, D] and w [C, D], D a power of two; phi_and_slope is the margin of a target's cosine."""
    return Recomputed.apply(x, w, y, phi_and_slope, scale, skip)
