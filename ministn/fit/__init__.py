"""For networks of your own, on your own images: train, predict, save, load.

arguments.py   what images and labels may be
fitting.py     fit: the trainer's loop, with validation, from where the last call ended
predicting.py  predict: some images at a time
saved.py       save, load: a whole network in one file
step.py        one step at a time, for a loop of your own
"""

from ministn.fit.fitting import Fitted, fit
from ministn.fit.predicting import predict
from ministn.fit.saved import load, save
from ministn.fit.step import train_on_batch
from ministn.training.protocol import Training

__all__ = ["Fitted", "Training", "fit", "load", "predict", "save", "train_on_batch"]
