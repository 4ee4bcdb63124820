"""An ArcFace head in torch as insightface writes it, with SGD and momentum; answers the commands of bench/data.mjs.

python3 head_torch.py N D C threads [K] [bfloat16]     K sub-centers a class; bfloat16: autocast of the linear layer
"""
import json
import sys

import numpy as np
import torch
import torch.nn.functional as F
import time

N, D, C, threads = map(int, sys.argv[1:5])
K = int(sys.argv[5]) if len(sys.argv) > 5 else 1
low = 'bfloat16' in sys.argv[6:]
torch.set_num_threads(threads)
SCALE, MARGIN = 64.0, 0.5


def values(start, count):
    x = np.arange(start, start + count, dtype=np.uint64).astype(np.uint32)
    x *= np.uint32(0x9E3779B1)
    x ^= x >> np.uint32(15)
    x *= np.uint32(0x85EBCA77)
    x ^= x >> np.uint32(13)
    return (x * 2.0**-31 - 1).astype(np.float32)


def weights(start, count):
    return (0.01 * values(start, count).astype(np.float64)).astype(np.float32)


W = torch.empty(C * K, D)
flat = W.view(-1)
BLOCK = 1 << 22
for start in range(0, flat.numel(), BLOCK):
    count = min(BLOCK, flat.numel() - start)
    flat[start : start + count] = torch.from_numpy(weights(start, count))
W.requires_grad_(True)
X = torch.from_numpy(values(0xABCDEF01, N * D)).view(N, D).requires_grad_(True)
Y = torch.tensor([(i * 7919 + 13) % C for i in range(N)])
rows = torch.arange(N)
sgd = torch.optim.SGD([W], lr=1e-3, momentum=0.9, weight_decay=5e-4)
sgd.state[W]['momentum_buffer'] = torch.zeros_like(W, requires_grad=False).fill_(0)


def step(lr):
    for group in sgd.param_groups:
        group['lr'] = lr
    sgd.zero_grad(set_to_none=True)
    X.grad = None
    with torch.cpu.amp.autocast(enabled=low, dtype=torch.bfloat16):
        logits = F.linear(F.normalize(X), F.normalize(W))
    logits = logits.float()
    if K > 1:
        logits = logits.view(N, C, K).max(2)[0]
    logits = logits.clamp(-1, 1)
    target = logits[rows, Y].clamp(-1 + 1e-6, 1 - 1e-6)
    phi = logits.clone()
    phi[rows, Y] = torch.cos(torch.acos(target) + MARGIN)
    loss = F.cross_entropy(phi * SCALE, Y)
    loss.backward()
    sgd.step()
    return float(loss)


def check():
    loss = step(1e-3)
    label = int(Y[0])
    moved = W.detach()[label * K, :16].double() - torch.from_numpy(weights(label * K * D, 16)).double()
    return {'loss': loss, 'dFeatures': X.grad[0, :16].tolist(), 'moved': moved.tolist()}


def status(field):
    for line in open('/proc/self/status'):
        if line.startswith(field + ':'):
            return int(line.split()[1]) / 1024


def forget_peak():
    try:
        with open('/proc/self/clear_refs', 'w') as file:
            file.write('5')
    except OSError:
        pass


def say(answer):
    print(json.dumps(answer), flush=True)


forget_peak()
before = status('VmRSS')
say({'ready': True})
for line in sys.stdin:
    command, *numbers = line.split()
    if command == 'check':
        say(check())
    elif command == 'time':
        steps, warm = map(int, numbers)
        for _ in range(warm):
            step(1e-6)
        ms = []
        for _ in range(steps):
            began = time.perf_counter()
            step(1e-6)
            ms.append((time.perf_counter() - began) * 1e3)
        say({'ms': ms})
    elif command == 'memory':
        say({'extraMiB': status('VmHWM') - before})
