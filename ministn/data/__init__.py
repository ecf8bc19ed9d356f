"""The data sets: digits among clutter or distorted, kept as uint8, and where each digit is."""

from ministn.data.addition import Addition
from ministn.data.batch import as_batch, labels_for_gpu, take_batch
from ministn.data.cluttered import CLUTTERED, Cluttered
from ministn.data.colocalisation import Crops, OneDigit, Pairs
from ministn.data.cropped import CroppedToDigit
from ministn.data.cub import Cub
from ministn.data.dataset import (
    Data,
    DataSet,
    Digits,
    Form,
    Fresh,
    Map,
    PartSplit,
    PosedSplit,
    Split,
)
from ministn.data.distorted import Distorted
from ministn.data.extruded import Extruded
from ministn.data.pictures import resized
from ministn.data.plankton import Plankton
from ministn.data.sequences import Sequences
from ministn.data.svhn import Svhn

__all__ = [
    "CLUTTERED",
    "Addition",
    "Cluttered",
    "CroppedToDigit",
    "Crops",
    "Cub",
    "Data",
    "DataSet",
    "Digits",
    "Distorted",
    "Extruded",
    "Form",
    "Fresh",
    "Map",
    "OneDigit",
    "Pairs",
    "PartSplit",
    "Plankton",
    "PosedSplit",
    "Sequences",
    "Split",
    "Svhn",
    "as_batch",
    "labels_for_gpu",
    "resized",
    "take_batch",
]
