"""A margin head's whole step in PyTorch, in the ways that people have, as JSON lines; bench/gpu/run.sh compares with it.

    python3 torch_head.py MODE [--device cuda|cpu] [--steps S] [--rounds R] [N,D,C …]

    check      each way that is available here, against float64, on small shapes
    ceilings   a large bfloat16 product and a large copy: what the device can do
    gemm3      the three products X·Wᵀ, G·W and Gᵀ·X alone, bfloat16
    eager      ArcFace as insightface writes it: [N, C] logits, bfloat16 autocast, SGD with momentum on float32 weights
    compile    the same under torch.compile
    chunked    plain torch that never holds the logits: chunks of classes, twice, and the update of each chunk
    triton     kernels of our own that recompute the logits as Cut Cross-Entropy does (arXiv:2411.09009)
    filtered   the same, which like it leaves out tiles whose softmax is below 2^-12 everywhere: not exact

Exits 77, with a sentence, where a mode needs what is not here.
"""
import argparse
import inspect
import json
import math
import sys
import time

import torch
import torch.nn.functional as F

SCALE, MARGIN = 64.0, 0.5
SGD = {'lr': 1e-3, 'momentum': 0.9, 'weight_decay': 5e-4}
BATCHES = 4
FILTER = 2.0**-12
UNAVAILABLE = 77


class Unavailable(Exception):
    pass


def say(**row):
    print(json.dumps(row), flush=True)


# --- the loss ---------------------------------------------------------------------------------------------------------


def phi_of(target):
    """cos(θ + m), differentiable."""
    target = target.clamp(-1 + 1e-7, 1 - 1e-7)
    return target * math.cos(MARGIN) - torch.sqrt(1 - target * target) * math.sin(MARGIN)


def phi_and_slope(target):
    target = target.clamp(-1 + 1e-7, 1 - 1e-7)
    sine = torch.sqrt(1 - target * target)
    return (
        target * math.cos(MARGIN) - sine * math.sin(MARGIN),
        math.cos(MARGIN) + target / sine * math.sin(MARGIN),
    )


def materialized_loss(x, w, y, low=True):
    with torch.autocast(x.device.type, torch.bfloat16, enabled=low):
        cosines = F.linear(F.normalize(x), F.normalize(w))
    if low:
        cosines = cosines.float()
    cosines = cosines.clamp(-1, 1)
    target = cosines.gather(1, y[:, None])
    return F.cross_entropy(cosines.scatter(1, y[:, None], phi_of(target)) * SCALE, y)


# --- ways: step() updates w in place and returns the loss; gradients() is for the check -------------------------------


class Autograd:
    """A loss that autograd differentiates, and torch's own SGD."""

    def __init__(self, w, loss):
        self.w, self.loss = torch.nn.Parameter(w), loss
        options = dict(SGD)
        if w.is_cuda and 'fused' in inspect.signature(torch.optim.SGD).parameters:
            options['fused'] = True
        self.sgd = torch.optim.SGD([self.w], **options)

    def gradients(self, x, y):
        x = x.clone().requires_grad_(True)
        loss = self.loss(x, self.w, y)
        loss.backward()
        return loss.detach(), x.grad, self.w.grad

    def step(self, x, y):
        self.sgd.zero_grad(set_to_none=True)
        loss, dx, _ = self.gradients(x, y)
        self.sgd.step()
        return loss, dx


class Chunked:
    """Softmax sums in a first pass over chunks of classes, gradients and the update in a second."""

    CLASSES = 1 << 16

    def __init__(self, w):
        self.w, self.velocity = w, torch.zeros_like(w)

    def chunks(self):
        for first in range(0, len(self.w), self.CLASSES):
            w = self.w[first : first + self.CLASSES]
            norm = w.norm(dim=1, keepdim=True).clamp_min(1e-12)
            yield first, w, (w / norm).bfloat16(), norm

    def logits(self, unit, wn, y, first):
        """[N, chunk] float32, the targets at −∞."""
        z = torch.mm(unit, wn.t()).float().mul_(SCALE)
        column = y - first
        inside = ((column >= 0) & (column < len(wn))).nonzero()[:, 0]
        z[inside, column[inside]] = -math.inf
        return z

    def backward(self, x, y, update):
        norm = x.norm(dim=1, keepdim=True).clamp_min(1e-12)
        xn = x / norm
        unit = xn.bfloat16()
        target = (xn * F.normalize(self.w[y])).sum(1)
        phi, slope = phi_and_slope(target)
        lse = SCALE * phi
        for first, _, wn, _ in self.chunks():
            lse = torch.logaddexp(lse, self.logits(unit, wn, y, first).logsumexp(1))
        loss = (lse - SCALE * phi).mean()
        of_target = ((SCALE * phi - lse).exp() - 1) * slope * (SCALE / len(x))
        dxn = of_target[:, None] * F.normalize(self.w[y])
        for first, w, wn, w_norm in self.chunks():
            g = self.logits(unit, wn, y, first).sub_(lse[:, None]).exp_().mul_(SCALE / len(x)).bfloat16()
            dxn += torch.mm(g, wn).float()
            dwn = torch.mm(g.t(), unit).float()
            column = y - first
            inside = ((column >= 0) & (column < len(w))).nonzero()[:, 0]
            dwn.index_add_(0, column[inside], of_target[inside, None] * xn[inside])
            wn = w / w_norm
            update(first, w, (dwn - wn * (wn * dwn).sum(1, keepdim=True)) / w_norm)
        return loss, (dxn - xn * (xn * dxn).sum(1, keepdim=True)) / norm

    @torch.no_grad()
    def gradients(self, x, y):
        dw = torch.zeros_like(self.w)

        def keep(first, w, gradient):
            dw[first : first + len(w)] = gradient

        loss, dx = self.backward(x, y, keep)
        return loss, dx, dw

    @torch.no_grad()
    def step(self, x, y):
        def update(first, w, gradient):
            velocity = self.velocity[first : first + len(w)]
            velocity.mul_(SGD['momentum']).add_(gradient).add_(w, alpha=SGD['weight_decay'])
            w.sub_(velocity, alpha=SGD['lr'])

        return self.backward(x, y, update)


def compiled_loss():
    if not hasattr(torch, 'compile'):
        raise Unavailable(f'torch {torch.__version__} has no torch.compile')
    return torch.compile(materialized_loss)


def triton_loss(skip):
    try:
        from triton_head import recomputed_loss
    except ImportError as error:
        raise Unavailable(f'triton cannot be imported ({error})') from error

    def loss(x, w, y):
        return recomputed_loss(F.normalize(x), F.normalize(w), y, phi_and_slope, SCALE, skip)

    return loss


ways = {
    'eager': lambda w: Autograd(w, materialized_loss),
    'compile': lambda w: Autograd(w, compiled_loss()),
    'chunked': Chunked,
    'triton': lambda w: Autograd(w, triton_loss(0.0)),
    'filtered': lambda w: Autograd(w, triton_loss(FILTER)),
}


# --- time ---------------------------------------------------------------------------------------------------------------


def timed(device, rounds, steps, f):
    """Milliseconds of each call, by events and with one wait a round, so that calls follow each other."""
    f(0)
    f(1)
    out = []
    for _ in range(rounds):
        if device == 'cuda':
            marks = [torch.cuda.Event(enable_timing=True) for _ in range(steps + 1)]
            torch.cuda.synchronize()
            marks[0].record()
            for i in range(steps):
                f(i)
                marks[i + 1].record()
            torch.cuda.synchronize()
            out.append([a.elapsed_time(b) for a, b in zip(marks, marks[1:])])
        else:
            times = []
            for i in range(steps):
                began = time.perf_counter()
                f(i)
                times.append(1e3 * (time.perf_counter() - began))
            out.append(times)
    return out


def median(values):
    return sorted(values)[len(values) // 2]


def summary(times):
    flat = [ms for one in times for ms in one]
    return {
        'ms': median(flat),
        'min': min(flat),
        'max': max(flat),
        'roundMs': [median(one) for one in times],
        'steps': len(flat),
    }


def row(peer, N, D, C, times, **more):
    about = summary(times)
    say(
        bench='gpu-head',
        peer=peer,
        precision='bfloat16',
        N=N,
        D=D,
        C=C,
        K=1,
        **about,
        tflops=6 * N * C * D / about['ms'] / 1e9,
        version=f'torch {torch.__version__}',
        **more,
    )


def batches(device, N, D, C):
    return [
        (torch.randn(N, D, device=device), torch.randint(0, C, (N,), device=device)) for _ in range(BATCHES)
    ]


def time_way(mode, options):
    for N, D, C in options.shapes:
        w = torch.randn(C, D, device=options.device) * 0.01
        data = batches(options.device, N, D, C)
        way = ways[mode](w)
        if options.device == 'cuda':
            torch.cuda.synchronize()
            torch.cuda.reset_peak_memory_stats()
        held = 8 * C * D + sum(x.nbytes + y.nbytes for x, y in data) if options.device == 'cuda' else 0
        times = timed(options.device, options.rounds, options.steps, lambda i: way.step(*data[i % BATCHES]))
        more = {}
        if options.device == 'cuda':
            more['extraMiB'] = (torch.cuda.max_memory_allocated() - held) / 2**20
        row(f'torch {mode}', N, D, C, times, **more)
        del w, data, way
        if options.device == 'cuda':
            torch.cuda.empty_cache()


def gemm3(options):
    for N, D, C in options.shapes:
        # two copies where they fit the caches, of every operand
        sets = 1 if 2 * C * (N + 2 * D) > 1 << 28 else 4
        make = lambda *shape: torch.randn(*shape, device=options.device, dtype=torch.bfloat16)
        x, w, g = ([make(*s) for _ in range(sets)] for s in ((N, D), (C, D), (N, C)))

        def products(i):
            i %= sets
            torch.mm(x[i], w[i].t())
            torch.mm(g[i], w[i])
            torch.mm(g[i].t(), x[i])

        row('cuBLAS gemm3', N, D, C, timed(options.device, options.rounds, options.steps, products))
        del x, w, g
        if options.device == 'cuda':
            torch.cuda.empty_cache()


def ceilings(options):
    cuda = options.device == 'cuda'
    side = 8192 if cuda else 128
    a, b = ([torch.randn(side, side, device=options.device).bfloat16() for _ in range(3)] for _ in range(2))
    times = timed(options.device, options.rounds, options.steps, lambda i: torch.mm(a[i % 3], b[i % 3]))
    about = summary(times)
    say(bench='gpu-ceiling', what=f'matmul {side} bfloat16', **about, tflops=2 * side**3 / about['ms'] / 1e9)
    del a, b
    size = 2 << 30 if cuda else 1 << 22
    source = torch.randint(0, 255, (size,), dtype=torch.uint8, device=options.device)
    to = torch.empty_like(source)
    about = summary(timed(options.device, options.rounds, options.steps, lambda i: to.copy_(source)))
    say(bench='gpu-ceiling', what=f'copy {size >> 20} MiB', **about, tbps=2 * size / about['ms'] / 1e9)


# --- correctness ----------------------------------------------------------------------------------------------------------


def check(options):
    """Each way's loss and gradients against float64; a way may lose three times what the eager bfloat16 one loses."""
    torch.manual_seed(1)
    failed = passed = skipped = 0
    for N, D, C in ((96, 64, 700), (130, 128, 257)):
        x, w = torch.randn(N, D, device=options.device), torch.randn(C, D, device=options.device) * 0.01
        x += 40 * w[torch.arange(N, device=options.device) % C]  # some learned
        y = torch.arange(N, device=options.device) % C
        exact = [t.double().requires_grad_(True) for t in (x, w)]
        loss = materialized_loss(*exact, y, low=False)
        loss.backward()
        wanted = [loss.detach(), exact[0].grad, exact[1].grad]

        def errors(got):
            return [float((a.double() - b).norm() / b.norm()) for a, b in zip(got, wanted)]

        allowed = [max(3 * e, 1e-3) for e in errors(ways['eager'](w.clone()).gradients(x, y))]
        for mode in ways:
            if mode == 'filtered':
                continue  # is not meant to be exact
            try:
                got = errors(ways[mode](w.clone()).gradients(x, y))
            except Unavailable as error:
                print(f'not available: torch {mode}: {error}')
                skipped += 1
                continue
            ok = all(a <= b for a, b in zip(got, allowed))
            passed, failed = passed + ok, failed + (not ok)
            print(
                f'{"ok" if ok else "FAILED"}: torch {mode} N={N} D={D} C={C}: loss, dX, dW off by '
                + ', '.join(f'{a:.1e} (at most {b:.1e})' for a, b in zip(got, allowed))
            )
    print(f'{passed} passed, {failed} failed, {skipped} skipped')
    sys.exit(1 if failed or not passed else 0)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument('mode', choices=['check', 'ceilings', 'gemm3', *ways])
    parser.add_argument('--device', default='cuda')
    parser.add_argument('--steps', type=int, default=10)
    parser.add_argument('--rounds', type=int, default=2)
    parser.add_argument('shapes', nargs='*', type=lambda text: tuple(map(int, text.split(','))))
    options = parser.parse_intermixed_args()
    try:
        if options.device == 'cuda' and not torch.cuda.is_available():
            raise Unavailable(f'torch {torch.__version__} sees no CUDA device')
        if options.mode == 'check':
            check(options)
        elif options.mode == 'ceilings':
            ceilings(options)
        elif options.mode == 'gemm3':
            gemm3(options)
        else:
            time_way(options.mode, options)
    except Unavailable as error:
        print(f'not available: {error}')
        sys.exit(UNAVAILABLE)


if __name__ == '__main__':
    main()
