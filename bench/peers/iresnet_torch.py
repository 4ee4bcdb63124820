"""insightface's iresnet in torch, for what is compared with ours."""
import torch.nn as nn

LAYERS = {18: [2, 2, 2, 2], 34: [3, 4, 6, 3], 50: [3, 4, 14, 3], 100: [3, 13, 30, 3]}


def conv3(inputs, outputs, stride=1):
    return nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)


class Block(nn.Module):
    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.body = nn.Sequential(
            nn.BatchNorm2d(inputs),
            conv3(inputs, outputs),
            nn.BatchNorm2d(outputs),
            nn.PReLU(outputs),
            conv3(outputs, outputs, stride),
            nn.BatchNorm2d(outputs),
        )
        self.shortcut = (
            nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))
            if stride != 1
            else nn.Identity()
        )

    def forward(self, x):
        return self.body(x) + self.shortcut(x)


def iresnet(depth, side=112):
    """Images [N, 3, side, side] → features [N, 512]."""
    layers, inputs = [conv3(3, 64), nn.BatchNorm2d(64), nn.PReLU(64)], 64
    for count, outputs in zip(LAYERS[depth], (64, 128, 256, 512)):
        for i in range(count):
            layers.append(Block(inputs, outputs, 2 if i == 0 else 1))
            inputs = outputs
        side = (side + 1) // 2
    neck = [nn.BatchNorm2d(512), nn.Flatten(), nn.Linear(512 * side * side, 512), nn.BatchNorm1d(512)]
    return nn.Sequential(*layers, *neck).train()
