"""Images a second of iresnet with a margin head in torch: channels-last, bfloat16 autocast, SGD; a JSON line.

    python3 torch_backbone.py [--device cuda|cpu] [--compile] [--depth 50] [--batch 256] [--classes 1000000] [--steps 10] [--rounds 2]

The head is torch_head.py's `eager`, as insightface writes it.  Pictures come from the device's memory, several batches
in turn.
"""
import argparse
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / 'peers'))

import torch
from iresnet_torch import iresnet
from torch_head import BATCHES, SGD, UNAVAILABLE, materialized_loss, say, summary, timed


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument('--device', default='cuda')
    parser.add_argument('--compile', action='store_true')
    for name, default in (('depth', 50), ('batch', 256), ('classes', 1_000_000), ('steps', 10), ('rounds', 2), ('side', 112)):
        parser.add_argument(f'--{name}', type=int, default=default)
    o = parser.parse_args()
    cuda = o.device == 'cuda'
    if cuda and not torch.cuda.is_available():
        print(f'not available: torch {torch.__version__} sees no CUDA device')
        sys.exit(UNAVAILABLE)
    if o.compile and not hasattr(torch, 'compile'):
        print(f'not available: torch {torch.__version__} has no torch.compile')
        sys.exit(UNAVAILABLE)
    torch.backends.cudnn.benchmark = True
    net = iresnet(o.depth, o.side).to(o.device, memory_format=torch.channels_last)
    forward = torch.compile(net) if o.compile else net
    w = torch.nn.Parameter(torch.randn(o.classes, 512, device=o.device) * 0.01)
    sgd = torch.optim.SGD([*net.parameters(), w], **SGD, **({'fused': True} if cuda else {}))
    pixels = [torch.randint(0, 256, (o.batch, 3, o.side, o.side), dtype=torch.uint8, device=o.device) for _ in range(BATCHES)]
    labels = [torch.randint(0, o.classes, (o.batch,), device=o.device) for _ in range(BATCHES)]

    def step(i):
        x = pixels[i % BATCHES].to(torch.float32, memory_format=torch.channels_last).div_(127.5).sub_(1)
        with torch.autocast(o.device, torch.bfloat16):
            features = forward(x)
        sgd.zero_grad(set_to_none=True)
        materialized_loss(features.float(), w, labels[i % BATCHES]).backward()
        sgd.step()

    about = summary(timed(o.device, o.rounds, o.steps, step))
    say(
        bench='gpu-backbone',
        peer='torch compile' if o.compile else 'torch eager',
        net=f'iresnet{o.depth}',
        precision='bfloat16',
        N=o.batch,
        C=o.classes,
        **about,
        imagesPerSecond=1000 * o.batch / about['ms'],
        version=f'torch {torch.__version__}, cuDNN {torch.backends.cudnn.version()}',
    )


if __name__ == '__main__':
    main()
