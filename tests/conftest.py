"""One thread for every test: the networks here are too small to share out."""

import torch

torch.set_num_threads(1)
