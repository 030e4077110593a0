"""Models: a generator and a divergence. Name a divergence, and it trains a generator or shapes a latent space.

>>> import numpy as np
>>> import gan_zoo as zoo
>>> data = np.random.default_rng(0).normal(size=(500, 2))
>>> game = zoo.build("generator", like=data, divergence="energy_distance")
>>> history = zoo.train(game, data, steps=20, progress=False)
>>> game.sample(4, seed=0).shape
torch.Size([4, 2])
"""

from estimators.space import Space
from gan_zoo import models
from gan_zoo.build import build, names
from gan_zoo.game import Game
from gan_zoo.history import History
from gan_zoo.laws import Normal, Uniform
from gan_zoo.train import load, resume, train

__all__ = [
    "Game",
    "History",
    "Normal",
    "Space",
    "Uniform",
    "build",
    "load",
    "models",
    "names",
    "resume",
    "train",
]
